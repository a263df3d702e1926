//! Version 2: the one hierarchy (Documentation/admin-guide/cgroup-v2.rst).

use std::fs;
use std::path::Path;

use rustix::fs::OFlags;

use super::placement::{PARENT, make_parent, open};
use super::{Group, Limit, delegation};
use crate::error::Error;

/// Makes the group and writes the limit.
pub(super) fn apply(group: &mut Group, limit: &Limit<'_>, name: &str) -> Result<(), Error> {
    let Some(base) = delegation::base().filter(|base| offers(base, limit.controller)) else {
        return Err(delegation::missing(limit.controller));
    };
    delegation::check(limit.controller, base, 2)?;
    apply_in(base, group, limit, name)
}

fn apply_in(base: &Path, group: &mut Group, limit: &Limit<'_>, name: &str) -> Result<(), Error> {
    let parent = base.join(PARENT);
    make_parent(&parent)?;
    delegation::enable(base, limit.controller)?;
    delegation::enable(&parent, limit.controller)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What is written where, in a folder that is no hierarchy.
    #[test]
    fn a_group_gets_its_controller_from_above() {
        let base = tempfile::tempdir().unwrap();
        let mut group = Group { folders: Vec::new(), held: Vec::new(), v2: None, v1: Vec::new() };
        let limit = Limit::new("pids", Vec::new(), vec![("pids.max", "5".to_owned())]);
        apply_in(base.path(), &mut group, &limit, "name").unwrap();
        let read = |path: &str| fs::read_to_string(base.path().join(path)).unwrap();
        assert_eq!(read("cgroup.subtree_control"), "+pids");
        assert_eq!(read("slipway/cgroup.subtree_control"), "+pids");
        assert_eq!(read("slipway/name/pids.max"), "5");
        assert!(group.folder().is_some());
    }
}
