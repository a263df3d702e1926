//! Which user and group ids there are for this process (user_namespaces(7)), and what to do where there are too few.

use std::fs;
use std::sync::OnceLock;

use crate::error::Error;
use crate::levels::{self, Tier};

/// The ids that a namespace has: the first one inside and how many, line by line.
type Map = Vec<(u32, u32)>;

/// Whether both ids are there. Of a map that cannot be read everything is taken to be.
///
/// Call it after [`levels::enter`].
pub fn are_mapped(uid: u32, gid: u32) -> bool {
    static MAPS: OnceLock<[Map; 2]> = OnceLock::new();
    let maps = MAPS.get_or_init(|| {
        ["uid_map", "gid_map"]
            .map(|file| parse(&fs::read_to_string(format!("/proc/self/{file}")).unwrap_or_default()))
    });
    has(&maps[0], uid) && has(&maps[1], gid)
}

/// Refuses ids that are not there. `what` has them.
pub fn check(what: impl FnOnce() -> String, uid: u32, gid: u32) -> Result<(), Error> {
    if are_mapped(uid, gid) { Ok(()) } else { Err(Error::NoSuchId { what: what(), uid, gid }) }
}

fn parse(text: &str) -> Map {
    let line = |line: &str| {
        let mut numbers = line.split_whitespace().map(str::parse);
        let (inside, _, count) = (numbers.next()?.ok()?, numbers.next()?.ok()?, numbers.next()?.ok()?);
        Some((inside, count))
    };
    text.lines().filter_map(line).collect()
}

fn has(map: &Map, id: u32) -> bool {
    map.is_empty() || map.iter().any(|(first, count)| id >= *first && id - first < *count)
}

/// What whoever started this process can do to have more ids; nothing where all are there.
pub fn advice() -> Option<String> {
    match levels::expected() {
        Tier::Root | Tier::Bare => None,
        Tier::SubordinateIds => Some(
            "give this user more subordinate ids in /etc/subuid and /etc/subgid, or run as root".to_owned(),
        ),
        Tier::SingleId => {
            let uid = outside(&fs::read_to_string("/proc/self/uid_map").unwrap_or_default());
            Some(levels::missing_ids(levels::user_name(uid).as_deref(), uid))
        }
    }
}

/// Who this process is outside of its user namespace, by the map of the one id; itself where it is in none.
fn outside(map: &str) -> u32 {
    let words: Vec<u32> = map.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    match words.as_slice() {
        [_, outside, 1] => *outside,
        _ => rustix::process::getuid().as_raw(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_have_their_ids() {
        let subordinate = parse("         0       1000          1\n         1     100000      65535\n");
        for (id, is_there) in [(0, true), (1, true), (65_535, true), (65_536, false), (u32::MAX, false)] {
            assert_eq!(has(&subordinate, id), is_there, "{id}");
        }
        let one = parse("0 54329 1\n");
        assert!(has(&one, 0) && !has(&one, 1) && !has(&one, 54_329));
        let all = parse("0 0 4294967295\n");
        assert!(has(&all, u32::MAX - 1) && !has(&all, u32::MAX));
        assert!(has(&parse("nonsense\n"), 5));
        assert_eq!(outside("0 54329 1\n"), 54_329);
    }
}
