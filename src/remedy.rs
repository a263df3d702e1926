//! Why a command in a container failed, where its last words show that this user's rights are the reason, and the way out.
//!
//! The command says what the kernel answered (`setgroups: Operation not permitted`), and not that the same works as root,
//! with subordinate ids, or with a flag. Only what is certain is said: the words of the failure, at a level that has them.

use slipway_runtime::levels::Tier::{self, Root, SingleId, SubordinateIds};

/// Words of a failure, and what they mean.
struct Sign {
    /// The levels at which they mean it.
    tiers: &'static [Tier],
    /// One of these is in a line, in small letters...
    subject: &'static [&'static str],
    /// ... together with one of these.
    answer: &'static [&'static str],
    remedy: Remedy,
}

#[derive(Clone, Copy)]
enum Remedy {
    /// More ids.
    Ids(&'static str),
    /// What is said.
    Words(&'static str),
}

/// What the C library and common programs call the calls that change ids.
const SWITCHES: &[&str] = &[
    "setgroups",
    "initgroups",
    "setuid",
    "seteuid",
    "setreuid",
    "setresuid",
    "setgid",
    "setegid",
    "setregid",
    "setresgid",
    "set groups",
    "set user id",
    "set group id",
    "set uid",
    "set gid",
    "change user",
    "switch user",
];
const REFUSED: &[&str] = &["not permitted", "invalid argument", "permission denied", "must be superuser"];
const OWNERS: &[&str] =
    &["chown", "chgrp", "changing ownership", "changing group", "change ownership", "lchown"];

/// The first that fits counts.
const SIGNS: [Sign; 6] = [
    Sign {
        tiers: &[SingleId],
        subject: &["e: setgroups", "e: setegid", "e: seteuid", "failed to setgroups"],
        answer: REFUSED,
        remedy: Remedy::Ids(
            "apt fetches as a user of its own, and one id is mapped here: `apt-get -o APT::Sandbox::User=root` does without; \
             for all of it",
        ),
    },
    Sign {
        tiers: &[SingleId],
        subject: SWITCHES,
        answer: REFUSED,
        remedy: Remedy::Ids("one user and group id is mapped here, so nothing becomes another user or group"),
    },
    Sign {
        tiers: &[SingleId],
        subject: OWNERS,
        answer: &["invalid argument"],
        remedy: Remedy::Ids(
            "one id is mapped here, where owners are kept beside files and folders, and of pipes, sockets and devices not \
             at all",
        ),
    },
    Sign {
        tiers: &[SubordinateIds],
        subject: &[
            OWNERS[0],
            OWNERS[1],
            OWNERS[2],
            OWNERS[3],
            OWNERS[4],
            "setuid",
            "setgid",
            "setgroups",
            "setresuid",
        ],
        answer: &["invalid argument"],
        remedy: Remedy::Ids("this user has no such id"),
    },
    Sign {
        tiers: &[SubordinateIds, SingleId],
        subject: &["mknod"],
        answer: REFUSED,
        remedy: Remedy::Words("only root makes device nodes: run slipway as root, or use those in /dev"),
    },
    Sign {
        tiers: &[Root, SubordinateIds, SingleId],
        subject: &["mount:", "mount(", "umount:"],
        answer: REFUSED,
        remedy: Remedy::Words(
            "a step may mount nothing, but with `RUN --security=insecure` and `build --allow security.insecure`",
        ),
    },
];

/// The way out for a command whose output ended with `tail`. `advice` is how this user gets more ids.
pub(crate) fn of(tail: &[u8], tier: Tier, advice: Option<&str>) -> Option<String> {
    let text = String::from_utf8_lossy(tail).to_lowercase();
    let says = |sign: &Sign| {
        let has = |line: &str, words: &[&str]| words.iter().any(|word| line.contains(word));
        sign.tiers.contains(&tier)
            && text.lines().any(|line| has(line, sign.subject) && has(line, sign.answer))
    };
    let found = SIGNS.iter().find(|sign| says(sign))?;
    Some(match (found.remedy, advice) {
        (Remedy::Words(words), _) => words.to_owned(),
        (Remedy::Ids(words), Some(advice)) => format!("{words}: {advice}"),
        (Remedy::Ids(words), None) => words.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_of_rights_have_a_way_out() {
        const ONE: &str = "nothing becomes another user or group";
        let cases: [(Tier, &str, Option<&str>); 24] = [
            (SingleId, "su: cannot set groups: Operation not permitted", Some(ONE)),
            (SingleId, "setpriv: setresuid failed: Invalid argument", Some(ONE)),
            (SingleId, "runuser: cannot set user id: Invalid argument", Some(ONE)),
            (SingleId, "su-exec: setgroups(101): Operation not permitted", Some(ONE)),
            (
                SingleId,
                "error: failed switching to \"redis\": operation not permitted\nsetgid: Invalid argument",
                Some(ONE),
            ),
            (SingleId, "[emerg] initgroups(nginx, 101) failed (1: Operation not permitted)", Some(ONE)),
            (
                SingleId,
                "E: setgroups 65534 failed - setgroups (1: Operation not permitted)",
                Some("APT::Sandbox::User=root"),
            ),
            (
                SingleId,
                "Failed to setgroups - setgroups (1: Operation not permitted)",
                Some("APT::Sandbox::User=root"),
            ),
            (
                SingleId,
                "chown: changing ownership of '/p': Invalid argument",
                Some("of pipes, sockets and devices"),
            ),
            (SingleId, "chgrp: /p: Invalid argument", Some("of pipes, sockets and devices")),
            (SingleId, "mknod: /n: Operation not permitted", Some("only root makes device nodes")),
            (SingleId, "mount: /mnt: permission denied.", Some("--security=insecure")),
            (
                SubordinateIds,
                "chown: changing ownership of '/etc/motd': Invalid argument",
                Some("this user has no such id"),
            ),
            (SubordinateIds, "setpriv: setresuid failed: Invalid argument", Some("this user has no such id")),
            (SubordinateIds, "mknod: /n: Operation not permitted", Some("only root makes device nodes")),
            (SubordinateIds, "mount: permission denied (are you root?)", Some("--security=insecure")),
            (Root, "mount: /mnt: permission denied.", Some("--security=insecure")),
            // what has other reasons
            (Root, "su: cannot set groups: Operation not permitted", None),
            (Root, "chown: invalid user: 'x'", None),
            (SingleId, "chown: invalid user: 'x'", None),
            (SingleId, "setuid: no such program\nls: Operation not permitted", None),
            (SubordinateIds, "su: cannot set groups: Operation not permitted", None),
            (SingleId, "cp: /a: Operation not permitted", None),
            (SingleId, "", None),
        ];
        for (tier, tail, expected) in cases {
            let tail = format!("earlier\n{tail}\n");
            let remedy = of(tail.as_bytes(), tier, Some("do this"));
            match expected {
                None => assert_eq!(remedy, None, "{tail}"),
                Some(words) => {
                    let remedy = remedy.unwrap_or_else(|| panic!("nothing for {tail}"));
                    assert!(remedy.contains(words), "{tail}: {remedy}");
                    let needs_ids =
                        !["only root", "a step may"].iter().any(|start| remedy.starts_with(start));
                    assert_eq!(remedy.ends_with(": do this"), needs_ids, "{remedy}");
                }
            }
        }
    }
}
