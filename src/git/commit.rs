//! Which commit a repository is at, and when it was made, read from the repository's files.
//!
//! The format is gitrepository-layout(5): `HEAD` names a commit or a reference; a reference is a file of its own or a
//! line of `packed-refs`; a worktree's `.git` is a file that names its folder, whose `commondir` names the repository.
//! Objects are sha1 or sha256; the length of a name tells which. Every read is of a regular file, through a [`Root`],
//! with a cap; nothing that the repository's configuration says is looked at.

use super::object::Objects;
use slipway_oci::Root;
use std::{
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
};

/// Largest `HEAD`, loose reference, `.git` file or `commondir`, in bytes.
const SMALL_BYTES: u64 = 64 << 10;
/// Most of `packed-refs` that is read, in bytes: a million references.
const PACKED_REFS_BYTES: u64 = 128 << 20;
/// Longest chain of references that name references (git's `SYMREF_MAXDEPTH`).
const SYMBOLIC_DEPTH: usize = 5;

/// A repository's folders inside `root`.
pub(super) struct Repository<'a> {
    root: &'a Root,
    /// What `.git` is or names: HEAD is here.
    own: PathBuf,
    /// Where references and objects are; another folder for worktrees only.
    common: PathBuf,
}

/// The commit time of the HEAD of the repository that the caller's `folder` is in, in seconds since 1970; `None` where
/// it is in none.
pub(crate) fn time_at(folder: &Path) -> Option<i64> {
    let folder = folder.canonicalize().ok()?;
    let host = Root::open(Path::new("/")).ok()?;
    let top = folder.ancestors().find(|folder| folder.join(".git").exists())?;
    let repository = Repository::find(&host, top, true).ok()?;
    warned(repository.time(), top)
}

/// The commit time of the repository whose top is `folder`, a context that came from elsewhere: neither the folders
/// above it nor what a `.git` file in it names belong to it.
pub(crate) fn time_in(folder: &Path) -> Option<i64> {
    let root = Root::open(folder).ok()?;
    let repository = Repository::find(&root, Path::new(""), false).ok()?;
    warned(repository.time(), folder)
}

/// The commit that the repository that the caller's `folder` is in is at; `None` where it is in none, or cannot be read.
pub(crate) fn head_at(folder: &Path) -> Option<String> {
    let folder = folder.canonicalize().ok()?;
    let host = Root::open(Path::new("/")).ok()?;
    let top = folder.ancestors().find(|folder| folder.join(".git").exists())?;
    Repository::find(&host, top, true).ok()?.head().ok()
}

/// The same of the repository whose top is `folder`, a context that came from elsewhere.
pub(crate) fn head_in(folder: &Path) -> Option<String> {
    let root = Root::open(folder).ok()?;
    Repository::find(&root, Path::new(""), false).ok()?.head().ok()
}

fn warned(time: io::Result<i64>, folder: &Path) -> Option<i64> {
    let missing = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    match time {
        Ok(time) => Some(time),
        // a repository without a commit
        Err(error) if missing(&error) => None,
        Err(error) => {
            crate::show::note(format_args!(
                "warning: the commit of the repository in `{}` cannot be read, so its time is not used: {error}",
                folder.display()
            ));
            None
        }
    }
}

impl<'a> Repository<'a> {
    /// The repository of the work tree `top`. With `elsewhere` a `.git` file may name a folder anywhere in the root.
    pub(super) fn find(root: &'a Root, top: &Path, elsewhere: bool) -> io::Result<Repository<'a>> {
        let mut own = top.join(".git");
        if elsewhere && let Ok(text) = root.read(&own, SMALL_BYTES) {
            let text = String::from_utf8(text).map_err(io::Error::other)?;
            let named = text.trim_end().strip_prefix("gitdir: ");
            own = top.join(named.ok_or_else(|| damaged("a `.git` file that names no folder"))?);
        }
        root.open_folder(&own)?;
        let common = match root.read(&own.join("commondir"), SMALL_BYTES) {
            Ok(text) if elsewhere => own.join(String::from_utf8_lossy(&text).trim_end()),
            _ => own.clone(),
        };
        Ok(Repository { root, own, common })
    }

    /// When HEAD's commit was made, in seconds since 1970.
    pub(super) fn time(&self) -> io::Result<i64> {
        let id = self.head()?;
        let commit = Objects::open(self.root, &self.common.join("objects"))?.commit(&id)?;
        commit_time(&commit).ok_or_else(|| damaged("a commit without a time"))
    }

    /// The commit that HEAD names.
    fn head(&self) -> io::Result<String> {
        let mut text = self.small(&self.own.join("HEAD"))?;
        for _ in 0..SYMBOLIC_DEPTH {
            let Some(name) = text.strip_prefix("ref: ").map(str::trim) else {
                return is_id(&text).then_some(text).ok_or_else(|| damaged("a reference to no commit"));
            };
            if name == "refs/heads/.invalid" {
                return Err(io::Error::other("its references are in the reftable format"));
            }
            if !name.starts_with("refs/") || name.split('/').any(|part| matches!(part, "" | "." | "..")) {
                return Err(damaged("a reference with a name that none may have"));
            }
            text = self.reference(name)?;
        }
        Err(damaged("references that name references without end"))
    }

    fn reference(&self, name: &str) -> io::Result<String> {
        for folder in [&self.own, &self.common] {
            match self.small(&folder.join(name)) {
                Err(error) if is_missing(&error) => {}
                other => return other,
            }
        }
        let packed = self.root.open_regular(&self.common.join("packed-refs"))?;
        for line in BufReader::new(packed.take(PACKED_REFS_BYTES)).split(b'\n') {
            // `<commit> <name>`; comments begin with `#`, what a tag stands for with `^`
            let line = line?;
            if let Some(id) = line.strip_suffix(name.as_bytes()).and_then(|rest| rest.strip_suffix(b" ")) {
                return String::from_utf8(id.to_vec()).map_err(|_| damaged("a packed reference"));
            }
        }
        Err(io::ErrorKind::NotFound.into())
    }

    fn small(&self, path: &Path) -> io::Result<String> {
        let bytes = self.root.read(path, SMALL_BYTES)?;
        String::from_utf8(bytes).map(|text| text.trim_end().to_owned()).map_err(|_| damaged("a reference"))
    }
}

/// The time in a commit's `committer NAME <MAIL> SECONDS ZONE` (git-commit(1) "DATE FORMATS", internal format).
pub(super) fn commit_time(commit: &[u8]) -> Option<i64> {
    let headers = commit.split(|byte| *byte == b'\n').take_while(|line| !line.is_empty());
    let line = headers.filter_map(|line| line.strip_prefix(b"committer ")).next()?;
    let after = &line[line.iter().rposition(|byte| *byte == b'>')? + 1..];
    let text = std::str::from_utf8(after).ok()?;
    text.split_whitespace().next()?.parse().ok().filter(|time| *time >= 0)
}

fn is_id(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

pub(super) fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("it holds {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn times_of_commits() {
        let commit = |rest: &str| format!("tree 0\nauthor A <a@b> 5 +0000\n{rest}\n\nwords\n");
        for (text, time) in [
            (commit("committer A B <a@b> 1500000000 +0200"), Some(1_500_000_000)),
            (commit("committer  <> 7 -0000"), Some(7)),
            (commit("committer A <a> b> 7 -0000"), Some(7)),
            (commit("committer A <a@b> -7 +0000"), None),
            (commit("committer A <a@b> x"), None),
            (commit("committer A <a@b>"), None),
            ("tree 0\n\ncommitter A <a@b> 7 +0000\n".to_owned(), None),
            (String::new(), None),
        ] {
            assert_eq!(commit_time(text.as_bytes()), time, "{text:?}");
        }
    }

    /// What HEAD and references may be in a folder that somebody else made.
    #[test]
    #[allow(clippy::type_complexity)] // a table
    fn heads_that_lead_astray() {
        let outside = tempfile::tempdir().expect("folder");
        let id = "0123456789012345678901234567890123456789";
        std::fs::write(outside.path().join("secret"), id).expect("write");
        let git = outside.path().join("top/.git");
        let root_path = outside.path().join("top");
        let set = |make: &dyn Fn(&Path)| {
            std::fs::remove_dir_all(&root_path).ok();
            std::fs::create_dir_all(git.join("refs/heads")).expect("folders");
            make(&git.join("HEAD"));
            let root = Root::open(&root_path).expect("root");
            Repository::find(&root, Path::new(""), false).and_then(|found| found.head())
        };
        let write = |text: &'static str| move |head: &Path| std::fs::write(head, text).expect("write");
        assert_eq!(set(&write(id)).expect("detached"), id);
        let cases: [(&str, &dyn Fn(&Path)); 9] = [
            ("outside by the name", &write("ref: refs/../../../secret\n")),
            ("outside the references", &write("ref: config\n")),
            ("without end", &|head| {
                std::fs::write(head, "ref: refs/heads/a\n").expect("write");
                std::fs::write(git.join("refs/heads/a"), "ref: refs/heads/a\n").expect("write");
            }),
            ("a link to the host", &|head| {
                symlink(outside.path().join("secret"), head).expect("link");
            }),
            ("a link up", &|head| symlink("../../secret", head).expect("link")),
            ("a reference that is a link to the host", &|head| {
                std::fs::write(head, "ref: refs/heads/a\n").expect("write");
                symlink(outside.path().join("secret"), git.join("refs/heads/a")).expect("link");
            }),
            ("a folder", &|head| std::fs::create_dir(head).expect("folder")),
            ("a pipe", &|head| {
                let mode = rustix::fs::Mode::from_raw_mode(0o600);
                rustix::fs::mknodat(rustix::fs::CWD, head, rustix::fs::FileType::Fifo, mode, 0)
                    .expect("pipe");
            }),
            ("no text", &|head| std::fs::write(head, [0xff; 40]).expect("write")),
        ];
        for (name, make) in cases {
            assert!(set(make).is_err(), "{name}");
        }
    }
}
