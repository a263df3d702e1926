//! Fetching a repository into a folder.
//!
//! What git runs and writes here is decided by nobody but us and the person who builds. The repository that is made has
//! our configuration; of the person's own only what says how servers are reached is kept ([`TRANSPORT`]), so the files
//! are the same on every machine; variables that would point git elsewhere are taken out ([`ENVIRONMENT`]).
//! The files are then moved out of the work tree by descriptors: a subfolder is opened once, links in the repository
//! stay inside it, and what was opened is what is moved.

use super::{
    commit,
    url::GitUrl,
    watch::{self, Stopped},
};
use crate::{error::Failure, show};
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, chmodat, fchmod, openat, renameat, statat};
use slipway_oci::{Root, file, limits};
use std::{
    ffi::CString,
    io,
    os::fd::{AsFd, OwnedFd},
    path::Path,
    process::{Command, Stdio},
};

/// Beginnings of the keys of the person's configuration that are kept: how servers are reached, and what may be read.
const TRANSPORT: [&str; 9] = [
    "credential.",
    "http.",
    "url.",
    "ssh.",
    "protocol.",
    "safe.directory",
    "core.sshcommand",
    "core.gitproxy",
    "core.askpass",
];

/// Beginnings of the `GIT_` variables that are kept, for the same reason. Others, such as `GIT_DIR` in a hook that
/// builds, would have git work on another repository.
const ENVIRONMENT: [&str; 10] = [
    "GIT_SSH",
    "GIT_ASKPASS",
    "GIT_PROXY_COMMAND",
    "GIT_SSL_",
    "GIT_HTTP_",
    "GIT_TRACE",
    "GIT_CURL_VERBOSE",
    "GIT_ALLOW_PROTOCOL",
    "GIT_PROTOCOL",
    "GIT_EXEC_PATH",
];

/// Ways that no submodule is fetched by, whatever the person allows: what the repository names would be a program or a
/// folder of this machine.
const NEVER_BY_SUBMODULES: [&str; 2] = ["ext", "file"];

/// A server that sends nothing for this many seconds is given up, unless the person's configuration says otherwise.
const SILENCE: [(&str, &str); 2] = [("http.lowspeedlimit", "1"), ("http.lowspeedtime", "120")];

/// What our repositories say, over whatever else is configured.
const CONFIGURATION: [(&str, &str); 12] = [
    ("protocol.ext.allow", "never"),
    // a submodule must not name a repository of this machine (BuildKit `gitutil`)
    ("protocol.file.allow", "user"),
    ("core.hooksPath", "/dev/null"),
    ("core.fsmonitor", "false"),
    ("core.attributesFile", "/dev/null"),
    ("core.excludesFile", "/dev/null"),
    ("core.autocrlf", "false"),
    ("core.symlinks", "true"),
    ("advice.detachedHead", "false"),
    // a pack is written as it comes, so that its size shows, and not taken apart in memory
    ("fetch.unpackLimit", "1"),
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
];

/// A commit that was checked out.
pub(crate) struct Checkout {
    /// Its name.
    pub(crate) commit: String,
    /// When it was made, in seconds since 1970.
    pub(crate) time: Option<i64>,
}

/// Checks the repository out into the empty folder `into`.
pub(crate) fn checkout(text: &str, keep_git_dir: bool, into: &Path) -> Result<Checkout, Failure> {
    let url = GitUrl::parse(text)?;
    let keep = keep_git_dir || url.keep_git_dir == Some(true);
    let work = into.with_file_name(format!("{}-git", into.file_name().unwrap_or_default().to_string_lossy()));
    std::fs::create_dir(&work)?;
    let result = fetch(text, &url, &work).and_then(|checkout| {
        take(text, &url, keep, &work, into)?;
        Ok(checkout)
    });
    file::remove_tree(&work)?;
    result
}

/// Gets the commit and its files into `work`.
fn fetch(text: &str, url: &GitUrl, work: &Path) -> Result<Checkout, Failure> {
    let git = Git::new(work, &url.remote)?;
    git.run(&["init", "-q", "--template="])?;
    let wanted = url.reference.as_deref().or(url.checksum.as_deref()).unwrap_or("HEAD");
    if git.run(&["fetch", "-q", "--depth", "1", "--", &url.remote, wanted]).is_ok() {
        git.run(&["checkout", "-q", "FETCH_HEAD"])?;
    } else {
        // a server may refuse a commit by its number, or the name may be short: fetch everything and look
        let branches = "+refs/heads/*:refs/remotes/origin/*";
        let head = "+HEAD:refs/remotes/origin/HEAD";
        git.run(&["fetch", "-q", "--tags", "--", &url.remote, branches, head])?;
        let found = [wanted.to_owned(), format!("origin/{wanted}")]
            .into_iter()
            .find_map(|name| git.run(&["rev-parse", "--verify", "-q", &format!("{name}^{{commit}}")]).ok());
        let commit = found.ok_or_else(|| {
            Failure::new(format!("`{}` has no branch, tag or commit `{wanted}`", url.remote))
        })?;
        git.run(&["checkout", "-q", &commit])?;
    }
    let commit = git.run(&["rev-parse", "HEAD"])?;
    if let Some(checksum) = url.checksum.as_deref().filter(|checksum| !commit.starts_with(*checksum)) {
        return Err(Failure::new(format!("`{text}` is at commit `{commit}`, not at `{checksum}`")));
    }
    let root = Root::open(work)?;
    // as the repository has it: a link of that name is no list of submodules to git either
    if url.submodules && root.metadata(Path::new(".gitmodules")).is_ok() {
        let update = ["submodule", "update", "-q", "--init", "--recursive"];
        // as above: not every server has a part of a history, or that part
        git.run(&[&update[..], &["--depth", "1"]].concat()).or_else(|_| git.run(&update))?;
    }
    let time = commit::commit_time(git.run(&["cat-file", "commit", "HEAD"])?.as_bytes());
    Ok(Checkout { commit, time })
}

/// Moves the files into the folder `into`.
fn take(text: &str, url: &GitUrl, keep: bool, work: &Path, into: &Path) -> Result<(), Failure> {
    if !keep {
        file::remove_tree(&work.join(".git"))?;
    }
    let named = url.subfolder.as_deref().map_or(Path::new("."), Path::new);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let from = Root::open(work)?.open_at(named, flags, Mode::empty()).map_err(|error| {
        Failure::new(format!("`{text}` has no folder `{}`: {error}", named.display())).with_hint(
            "what follows the `:` is a folder of the repository; its links stay inside the repository",
        )
    })?;
    Ok(move_all(&from, into)?)
}

fn move_all(from: &OwnedFd, into: &Path) -> io::Result<()> {
    let target = openat(CWD, into, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    for name in names(from)? {
        renameat(from, &name, &target, &name)?;
    }
    set_modes(&target, 0)
}

fn names(folder: &impl AsFd) -> io::Result<Vec<CString>> {
    let entries = Dir::read_from(folder)?.map(|entry| entry.map(|entry| entry.file_name().to_owned()));
    let entries = entries.collect::<Result<Vec<_>, _>>()?;
    Ok(entries.into_iter().filter(|name| !matches!(name.to_bytes(), b"." | b"..")).collect())
}

/// Gives files the two modes that a commit knows and folders 0755, whatever the caller's umask made of them.
fn set_modes(folder: &OwnedFd, depth: usize) -> io::Result<()> {
    if depth > limits::TREE_DEPTH {
        return Err(io::Error::other("its folders are nested too deeply"));
    }
    let mode = Mode::from_raw_mode;
    fchmod(folder, mode(0o755))?;
    for name in names(folder)? {
        let found = statat(folder, &name, AtFlags::SYMLINK_NOFOLLOW)?;
        match FileType::from_raw_mode(found.st_mode) {
            FileType::Directory => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                set_modes(&openat(folder, &name, flags, Mode::empty())?, depth + 1)?;
            }
            FileType::RegularFile => {
                let is_program = found.st_mode & 0o100 != 0;
                chmodat(folder, &name, mode(if is_program { 0o755 } else { 0o644 }), AtFlags::empty())?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// git, at work on one folder and for one remote.
struct Git<'a> {
    work: &'a Path,
    remote: &'a str,
    /// All the configuration that counts.
    configuration: Vec<(String, String)>,
}

impl<'a> Git<'a> {
    fn new(work: &'a Path, remote: &'a str) -> Result<Git<'a>, Failure> {
        let mut git = Git { work, remote, configuration: Vec::new() };
        git.configuration.extend(SILENCE.map(|(key, value)| (key.to_owned(), value.to_owned())));
        for scope in ["--system", "--global"] {
            git.configuration.extend(own_configuration(scope));
        }
        git.configuration.extend(CONFIGURATION.map(|(key, value)| (key.to_owned(), value.to_owned())));
        Ok(git)
    }

    fn run(&self, arguments: &[&str]) -> Result<String, Failure> {
        let mut command = Command::new("git");
        close(&mut command);
        command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null");
        command.env("GIT_CONFIG_COUNT", self.configuration.len().to_string());
        for (index, (key, value)) in self.configuration.iter().enumerate() {
            command
                .env(format!("GIT_CONFIG_KEY_{index}"), key)
                .env(format!("GIT_CONFIG_VALUE_{index}"), value);
        }
        if let Some(list) = allowed(arguments, std::env::var("GIT_ALLOW_PROTOCOL").ok()) {
            // it counts more than any configuration (git(1), "GIT_ALLOW_PROTOCOL")
            command.env("GIT_ALLOW_PROTOCOL", list);
        }
        command.env("GIT_TERMINAL_PROMPT", "0").arg("-C").arg(self.work).args(arguments);
        let output = watch::run(&mut command, self.work).map_err(|stopped| match stopped {
            Stopped::Failed(error) => {
                Failure::new(format!("cannot start `git`: {error}")).with_hint("install git")
            }
            Stopped::Excess(excess) => {
                let words = format!("`{}` is too large: it makes git write {excess}", self.remote);
                Failure::new(words).with_hint("--max-unpacked SIZE names another cap")
            }
        })?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
        }
        // ssh adds a paragraph to whatever it says
        let words = show::text::line(&String::from_utf8_lossy(&output.stderr));
        Err(Failure::new(format!("git could not fetch `{}`: {words}", self.remote)))
    }
}

/// The person's list of protocols, for submodules without those that these never have.
fn allowed(arguments: &[&str], list: Option<String>) -> Option<String> {
    let list = list?;
    let kept = |name: &&str| arguments.first() != Some(&"submodule") || !NEVER_BY_SUBMODULES.contains(name);
    Some(list.split(':').filter(kept).collect::<Vec<_>>().join(":"))
}

/// Takes out what would point git elsewhere.
fn close(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("GIT_") && !ENVIRONMENT.iter().any(|kept| text.starts_with(kept)) {
            command.env_remove(&name);
        }
    }
}

/// What the person's or the machine's configuration says of [`TRANSPORT`]; nothing where there is none.
fn own_configuration(scope: &str) -> Vec<(String, String)> {
    let mut command = Command::new("git");
    close(&mut command);
    for name in ["GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    // in `/`, so that no repository that the caller stands in has a say
    command.args(["-C", "/", "config", scope, "--includes", "--null", "--list"]);
    let Ok(output) = command.stdin(Stdio::null()).output() else { return Vec::new() };
    let listed = String::from_utf8_lossy(&output.stdout).into_owned();
    let pairs = listed.split('\0').filter_map(|pair| pair.split_once('\n'));
    pairs
        .filter(|(key, _)| TRANSPORT.iter().any(|kept| key.starts_with(kept)))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}
