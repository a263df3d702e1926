//! The caller's mounts (proc_pid_mountinfo(5)), read for the control group hierarchies.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// One line of `/proc/self/mountinfo`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct MountEntry {
    /// Where it is mounted.
    pub(crate) target: PathBuf,
    /// The file system type.
    pub(crate) kind: String,
    /// The superblock's options; for a v1 hierarchy its controllers.
    pub(crate) options: Vec<String>,
}

/// Reads the lines; those that do not parse are passed over.
pub(crate) fn parse(text: &str) -> Vec<MountEntry> {
    text.lines().filter_map(entry).collect()
}

fn entry(line: &str) -> Option<MountEntry> {
    let (front, back) = line.split_once(" - ")?;
    let target = front.split(' ').nth(4)?;
    let mut rest = back.split(' ');
    let kind = rest.next()?.to_owned();
    let options = rest.nth(1)?.split(',').map(str::to_owned).collect();
    Some(MountEntry { target: unescape(target), kind, options })
}

/// Blank, tab, newline and backslash are written as three octal digits.
fn unescape(text: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let octal =
            tail.get(..3).filter(|digits| *first == b'\\' && digits.iter().all(|d| (b'0'..b'8').contains(d)));
        match octal {
            Some(digits) => {
                bytes.push(
                    digits.iter().fold(0u8, |value, digit| value.wrapping_mul(8).wrapping_add(digit - b'0')),
                );
                rest = &tail[3..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_with_their_escapes_and_optional_fields() {
        let text = "36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 shared:2 - cgroup cgroup rw,memory\n\
                    junk\n37 35 0:4 / /sys/fs/cgroup/unified rw - cgroup2 none rw,nsdelegate\n";
        let entries = parse(text);
        assert_eq!(entries.len(), 2);
        assert_eq!(entries[0].target, PathBuf::from("/mnt 2"));
        assert_eq!(entries[0].options, ["rw", "memory"]);
        assert_eq!(entries[1].kind, "cgroup2");
    }
}
