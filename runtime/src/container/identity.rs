//! `--user` and `USER`: from `name[:group]` and the image's own files to numbers.
//!
//! Docker's rules (moby/sys `user.GetExecUser`): a name must be in the file; a number need not be, and then brings
//! group 0 and no home; without an explicit group the user's supplementary groups apply, and the primary one is always
//! among them (containerd `ensureAdditionalGids`, which BuildKit's executor/oci/user.go has too). Stricter than docker where
//! its looseness was an attack (CVE-2026-30892: `+0`, ` 5`, `4294967296`): a number is digits that fit 32 bits.
//! The files are the image's, hence hostile: lines that do not parse are passed over, and the count of groups is bounded.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// The most supplementary groups that the kernel takes (`NGROUPS_MAX`, linux/limits.h).
const MAX_GROUPS: usize = 65_536;

/// The ids that a process runs with.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Identity {
    /// The user id.
    pub uid: u32,
    /// The group id.
    pub gid: u32,
    /// The supplementary group ids.
    pub groups: Vec<u32>,
}

/// An identity, and what else the image's `/etc/passwd` says about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The ids.
    pub identity: Identity,
    /// The home folder, for `HOME`; `/` where the file does not tell.
    pub home: PathBuf,
    /// The user's name, if it has one.
    pub name: Option<OsString>,
}

/// Why a `--user` has no identity.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum IdentityError {
    /// A user name that `/etc/passwd` lacks.
    #[error("no user `{0}` in the image's /etc/passwd")]
    UnknownUser(String),
    /// A group name that `/etc/group` lacks.
    #[error("no group `{0}` in the image's /etc/group")]
    UnknownGroup(String),
    /// A number that is not an id.
    #[error("`{0}` is not a user or group id (0 to 4294967294)")]
    BadId(String),
    /// A text such as `a:b:c`.
    #[error("`{0}` is not of the form user, uid, user:group or uid:gid")]
    BadForm(String),
}

struct User<'a> {
    name: &'a [u8],
    uid: u32,
    gid: u32,
    home: &'a [u8],
}

struct Group<'a> {
    name: &'a [u8],
    gid: u32,
    members: &'a [u8],
}

/// Finds the identity for `user[:group]` in the contents of the image's passwd(5) and group(5) files.
///
/// An empty `text` means user 0, and so does what is missing before or behind a colon (BuildKit: `:g`, `u:`, `:`).
/// `root` is 0 whatever the files say nothing about. Missing files are empty contents.
pub fn resolve(text: &str, passwd: &[u8], group: &[u8]) -> Result<Resolved, IdentityError> {
    let bad_form = || IdentityError::BadForm(text.to_owned());
    let (user_text, group_text) = match text.split_once(':') {
        None => (text, None),
        Some((_, group)) if group.contains(':') => return Err(bad_form()),
        Some((user, "")) => (user, Some("0")),
        Some((user, group)) => (user, Some(group)),
    };
    let user_text = if user_text.is_empty() { "0" } else { user_text };
    let found = users(passwd).find(|user| user.name == user_text.as_bytes());
    // A user may be named `1000`; the name wins over the number, as in docker.
    let (uid, entry) = match found {
        Some(user) => (user.uid, Some(user)),
        None => match number(user_text)? {
            Some(uid) => (uid, users(passwd).find(|user| user.uid == uid)),
            None if user_text == "root" => (0, None),
            None => return Err(IdentityError::UnknownUser(user_text.to_owned())),
        },
    };
    let (gid, supplementary) = match group_text {
        Some(text) => (group_id(text, group)?, Vec::new()),
        None => {
            let gid = entry.as_ref().map_or(0, |user| user.gid);
            (gid, entry.as_ref().map_or_else(Vec::new, |user| memberships(user.name, group)))
        }
    };
    // the primary group is one of them: who gave up the primary one has not left the group (GHSA-4wjj-jwc9-2x96)
    let mut groups = supplementary;
    if !groups.contains(&gid) {
        groups.insert(0, gid);
    }
    let home = entry.as_ref().map(|user| user.home).filter(|home| home.starts_with(b"/")).unwrap_or(b"/");
    Ok(Resolved {
        identity: Identity { uid, gid, groups },
        home: PathBuf::from(OsString::from_vec(home.to_vec())),
        name: entry.map(|user| OsString::from_vec(user.name.to_vec())),
    })
}

/// User and group of files for `user[:group]`, as --chown and WORKDIR mean it: a number is that id whatever the files say and,
/// alone, the group's too; what is missing beside a colon is 0, and so is `root` (BuildKit llb/fileop.go `WithUser`,
/// file/user_linux.go `readUser`). A name that the files lack is an error here, where BuildKit takes it for root.
pub fn owner(text: &str, passwd: &[u8], group: &[u8]) -> Result<(u32, u32), IdentityError> {
    let (user_text, group_text) = match text.split_once(':') {
        Some((_, group)) if group.contains(':') => return Err(IdentityError::BadForm(text.to_owned())),
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    let (uid, gid) = match user_text {
        "" | "root" => (0, 0),
        name => match number(name)? {
            Some(id) => (id, id),
            None => {
                let found = users(passwd).find(|user| user.name == name.as_bytes());
                let found = found.ok_or_else(|| IdentityError::UnknownUser(name.to_owned()))?;
                (found.uid, found.gid)
            }
        },
    };
    let gid = match group_text {
        None => gid,
        Some("" | "root") => 0,
        Some(name) => match number(name)? {
            Some(id) => id,
            None => group_id(name, group)?,
        },
    };
    Ok((uid, gid))
}

/// The group id for `name` or a number, for `--group-add` and `COPY --chown`.
pub fn group_id(text: &str, group: &[u8]) -> Result<u32, IdentityError> {
    if let Some(found) = groups(group).find(|entry| entry.name == text.as_bytes()) {
        return Ok(found.gid);
    }
    if text == "root" {
        return Ok(0);
    }
    number(text)?.ok_or_else(|| IdentityError::UnknownGroup(text.to_owned()))
}

/// A number if the text is one: `None` for what can only be a name, an error for what looks like a number and is none.
fn number(text: &str) -> Result<Option<u32>, IdentityError> {
    let looks_numeric = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'+' | b'-' | b' ' | b'\t');
    if !text.bytes().all(looks_numeric) || text.bytes().all(|byte| byte == b'-') {
        return Ok(None);
    }
    strict(text.as_bytes()).map(Some).ok_or_else(|| IdentityError::BadId(text.to_owned()))
}

/// Digits that are an id; 2^32-1 is "no change" to the kernel and so none.
fn strict(text: &[u8]) -> Option<u32> {
    if text.is_empty() || text.len() > 10 || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok().filter(|id| *id != u32::MAX)
}

fn lines(file: &[u8]) -> impl Iterator<Item = &[u8]> {
    file.split(|byte| *byte == b'\n').filter(|line| !line.is_empty() && line[0] != b'#')
}

/// passwd(5): name:password:uid:gid:comment:home:shell.
fn users(passwd: &[u8]) -> impl Iterator<Item = User<'_>> {
    lines(passwd).filter_map(|line| {
        let mut fields = line.split(|byte| *byte == b':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let uid = strict(fields.nth(1)?)?;
        let gid = strict(fields.next()?)?;
        let home = fields.nth(1).unwrap_or(b"");
        Some(User { name, uid, gid, home })
    })
}

/// group(5): name:password:gid:members.
fn groups(group: &[u8]) -> impl Iterator<Item = Group<'_>> {
    lines(group).filter_map(|line| {
        let mut fields = line.split(|byte| *byte == b':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let gid = strict(fields.nth(1)?)?;
        Some(Group { name, gid, members: fields.next().unwrap_or(b"") })
    })
}

fn memberships(name: &[u8], group: &[u8]) -> Vec<u32> {
    let is_member =
        |entry: &Group<'_>| entry.members.split(|byte| *byte == b',').any(|member| member == name);
    let mut ids: Vec<u32> = groups(group).filter(is_member).map(|entry| entry.gid).take(MAX_GROUPS).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &[u8] =
        b"root:x:0:0:root:/root:/bin/sh\nbroken line\napp:x:1000:100:App:/home/app:/bin/sh\n\
        77:x:5:6::/seven:/bin/sh\nbad:x:+1:2::/:\nnohome:x:12:13\n";
    const GROUP: &[u8] =
        b"root:x:0:\nusers:x:100:app\naudio:x:29:x,app\nvideo:x:44:app,y\nbig:x:4294967296:app\n";

    fn ids(text: &str) -> Result<(u32, u32, Vec<u32>), IdentityError> {
        resolve(text, PASSWD, GROUP)
            .map(|found| (found.identity.uid, found.identity.gid, found.identity.groups))
    }

    #[test]
    fn names_and_numbers_follow_dockers_rules() {
        assert_eq!(ids(""), Ok((0, 0, vec![0])));
        assert_eq!(ids("root"), Ok((0, 0, vec![0])));
        assert_eq!(ids("app"), Ok((1000, 100, vec![29, 44, 100])));
        assert_eq!(ids("1000"), Ok((1000, 100, vec![29, 44, 100])));
        assert_eq!(ids("4321"), Ok((4321, 0, vec![0])));
        assert_eq!(ids("app:audio"), Ok((1000, 29, vec![29])));
        assert_eq!(ids("app:7"), Ok((1000, 7, vec![7])));
        assert_eq!(ids("4321:video"), Ok((4321, 44, vec![44])));
        for (text, expected) in
            [(":", (0, 0)), (":7", (0, 7)), ("app:", (1000, 0)), ("4321:", (4321, 0)), (":audio", (0, 29))]
        {
            assert_eq!(ids(text), Ok((expected.0, expected.1, vec![expected.1])), "{text}");
        }
        for text in ["root", "root:root", ":root", "0:root", "root:"] {
            let bare = resolve(text, b"", b"").map(|found| found.identity);
            assert_eq!(bare, Ok(Identity { uid: 0, gid: 0, groups: vec![0] }), "{text}");
        }
        assert_eq!(ids("77"), Ok((5, 6, vec![6])), "a name that is digits wins");
    }

    #[test]
    fn owners_of_files_follow_buildkits_rules() {
        for (text, expected) in [
            ("", (0, 0)),
            (":", (0, 0)),
            ("root", (0, 0)),
            ("root:", (0, 0)),
            (":root", (0, 0)),
            ("app", (1000, 100)),
            ("app:", (1000, 0)),
            ("app:audio", (1000, 29)),
            ("app:7", (1000, 7)),
            (":audio", (0, 29)),
            ("1000", (1000, 1000)),
            ("1000:", (1000, 0)),
            ("77", (77, 77)),
            ("77:44", (77, 44)),
            ("9:video", (9, 44)),
            ("4294967294:2147483648", (4_294_967_294, 2_147_483_648)),
        ] {
            assert_eq!(owner(text, PASSWD, GROUP), Ok(expected), "{text}");
        }
        for text in ["root", "root:root", ":root", "5:root", "5", ":"] {
            assert!(owner(text, b"", b"").is_ok(), "{text}");
        }
        for text in ["nope", "nope:5", "5:nope", "+5", "4294967295", "5:-1", "a:b:c", "::"] {
            assert!(owner(text, PASSWD, GROUP).is_err(), "{text}");
        }
    }

    #[test]
    fn home_and_name_come_from_the_file() {
        let app = resolve("1000", PASSWD, GROUP).unwrap();
        assert_eq!((app.home, app.name), (PathBuf::from("/home/app"), Some("app".into())));
        let stranger = resolve("4321", PASSWD, GROUP).unwrap();
        assert_eq!((stranger.home, stranger.name), (PathBuf::from("/"), None));
        assert_eq!(resolve("nohome", PASSWD, GROUP).unwrap().home, PathBuf::from("/"));
    }

    #[test]
    fn hostile_strings_are_refused() {
        for text in ["+0", " 5", "5 ", "-1", "4294967295", "4294967296", "00000000000", "\t0"] {
            assert_eq!(ids(text), Err(IdentityError::BadId(text.into())), "{text:?}");
            assert_eq!(ids(&format!("app:{text}")), Err(IdentityError::BadId(text.into())), "{text:?}");
        }
        for text in ["a:b:c", "::", "0::", ":0:"] {
            assert_eq!(ids(text), Err(IdentityError::BadForm(text.into())), "{text:?}");
        }
        assert_eq!(ids("nobody"), Err(IdentityError::UnknownUser("nobody".into())));
        assert_eq!(ids("bad"), Err(IdentityError::UnknownUser("bad".into())));
        assert_eq!(ids("0x10"), Err(IdentityError::UnknownUser("0x10".into())));
        assert_eq!(ids("app:nope"), Err(IdentityError::UnknownGroup("nope".into())));
    }
}
