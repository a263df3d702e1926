//! Version 1: a hierarchy for each controller (Documentation/admin-guide/cgroup-v1/).

use std::fs;
use std::path::Path;

use rustix::fs::OFlags;

use super::mountinfo::MountEntry;
use super::placement::{PARENT, failed, hierarchies, make_parent, open, write_all};
use super::{Group, Limit, delegation};
use crate::error::Error;

/// The hierarchy that has a controller.
pub(super) fn hierarchy(controller: &str) -> Option<&'static MountEntry> {
    hierarchies().v1.iter().find(|entry| entry.options.iter().any(|option| option == controller))
}

/// Makes the group there and writes the limit.
pub(super) fn apply(
    group: &mut Group,
    hierarchy: &MountEntry,
    limit: &Limit<'_>,
    name: &str,
) -> Result<(), Error> {
    delegation::check(limit.controller, &hierarchy.target, 1)?;
    let parent = hierarchy.target.join(PARENT);
    let folder = parent.join(name);
    make_parent(&parent)?;
    let is_new = group.make(&folder)?;
    if limit.controller == "cpuset" {
        fill_cpuset(&hierarchy.target, &parent)?;
        fill_cpuset(&parent, &folder)?;
    }
    limit.write(&folder, &limit.v1)?;
    if is_new {
        group.v1.push(open(&folder.join("cgroup.procs"), OFlags::WRONLY)?);
    }
    Ok(())
}

/// A cpuset group is unusable until both its lists are filled (cgroup-v1/cpusets.rst): take them from the parent.
fn fill_cpuset(from: &Path, to: &Path) -> Result<(), Error> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let text = |path: &Path| fs::read_to_string(path).map_err(|source| failed(path, source));
        if text(&to.join(file))?.trim().is_empty() {
            write_all(to, &[(file, text(&from.join(file))?.trim().to_owned())])?;
        }
    }
    Ok(())
}
