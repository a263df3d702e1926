//! Version 2: the one hierarchy (Documentation/admin-guide/cgroup-v2.rst).

use std::fs;
use std::path::Path;

use rustix::fs::OFlags;

use super::placement::{PARENT, hierarchies, make_parent, open, write_all};
use super::{Group, Limit};
use crate::error::Error;

/// Makes the group and writes the limit.
pub(super) fn apply(group: &mut Group, limit: &Limit<'_>, name: &str) -> Result<(), Error> {
    let Some(top) = hierarchies().v2.as_deref().filter(|top| offers(top, limit.controller)) else {
        let reason = "this machine's control groups have no such controller for this user";
        return Err(Error::Limit { limit: limit.controller, reason });
    };
    let parent = top.join(PARENT);
    make_parent(&parent)?;
    let enable = [("cgroup.subtree_control", format!("+{}", limit.controller))];
    write_all(top, &enable)?;
    write_all(&parent, &enable)?;
    let folder = parent.join(name);
    if group.make(&folder)? {
        group.v2 = Some(open(&folder, OFlags::RDONLY | OFlags::DIRECTORY)?);
    }
    limit.write(&folder, &limit.v2)
}

/// Whether the hierarchy has a controller to give.
pub(super) fn offers(top: &Path, controller: &str) -> bool {
    let text = fs::read_to_string(top.join("cgroup.controllers")).unwrap_or_default();
    text.split_whitespace().any(|name| name == controller)
}
