//! What is asked of git: a context's commit time, and checkouts.
//!
//! The `git` program serves: it knows the user's credentials, proxies, submodules and partial clones as no library does.

use crate::error::Failure;
use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// The commit time of the HEAD of the repository that `folder` is in, in seconds since 1970; `None` where it is in none.
///
/// Times of commits that were asked for are remembered in `cache`: starting git costs more than a cached build.
pub(crate) fn commit_time(folder: &Path, cache: &Path) -> Option<i64> {
    let repository = folder.ancestors().find(|folder| folder.join(".git").exists())?;
    let head = head_commit(&repository.join(".git"));
    let remembered = head.as_ref().map(|head| cache.join(format!("commit-{head}")));
    if let Some(text) = remembered.as_ref().and_then(|path| std::fs::read_to_string(path).ok())
        && let Ok(time) = text.trim().parse()
    {
        return Some(time);
    }
    let output = Command::new("git")
        .arg("-C")
        .arg(repository)
        // the time is all that is asked: the owner of the folder gains nothing, and hooks do not run
        .args(["-c", "safe.directory=*", "-c", "core.fsmonitor=false", "log", "-1", "--format=%ct"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    let time = match output {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).trim().parse().ok(),
        Ok(_) => None,
        Err(_) => {
            eprintln!(
                "warning: the context is in a git repository but `git` is not installed: its commit time is not used"
            );
            None
        }
    };
    if let (Some(path), Some(time)) = (remembered, time) {
        // only a cache
        let _ = std::fs::write(path, i64::to_string(&time));
    }
    time
}

/// The commit that HEAD names, read from the repository's files; `None` where git itself must be asked.
fn head_commit(git: &Path) -> Option<String> {
    let is_commit =
        |text: &str| matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let head = std::fs::read_to_string(git.join("HEAD")).ok()?;
    let head = head.trim();
    let Some(name) = head.strip_prefix("ref: ") else { return is_commit(head).then(|| head.to_owned()) };
    if !name.starts_with("refs/") || name.contains("..") {
        return None;
    }
    if let Ok(loose) = std::fs::read_to_string(git.join(name)) {
        return is_commit(loose.trim()).then(|| loose.trim().to_owned());
    }
    let packed = std::fs::read_to_string(git.join("packed-refs")).ok()?;
    let line = packed.lines().find_map(|line| line.strip_suffix(name)?.strip_suffix(' '));
    line.filter(|commit| is_commit(commit)).map(str::to_owned)
}

/// A git URL taken apart (BuildKit `gitutil`): `#ref:subdir`, or query keys.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct GitUrl {
    remote: String,
    reference: Option<String>,
    subfolder: Option<String>,
    keep_git_dir: Option<bool>,
    submodules: bool,
    checksum: Option<String>,
}

impl GitUrl {
    /// Takes `text` apart.
    pub(crate) fn parse(text: &str) -> Result<GitUrl, Failure> {
        let (rest, fragment) =
            text.split_once('#').map_or((text, None), |(rest, fragment)| (rest, Some(fragment)));
        let (remote, query) =
            rest.split_once('?').map_or((rest, None), |(remote, query)| (remote, Some(query)));
        let mut url = GitUrl { remote: remote.to_owned(), submodules: true, ..GitUrl::default() };
        if let Some(fragment) = fragment {
            let (reference, folder) = fragment.split_once(':').unwrap_or((fragment, ""));
            url.reference = Some(reference.to_owned()).filter(|text| !text.is_empty());
            url.subfolder = Some(folder.to_owned()).filter(|text| !text.is_empty());
        }
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let flag = || matches!(value, "" | "1" | "true");
            match key {
                "ref" | "tag" | "branch" => url.reference = Some(value.to_owned()),
                "subdir" => url.subfolder = Some(value.to_owned()),
                "checksum" | "commit" => url.checksum = Some(value.to_owned()),
                "keep-git-dir" => url.keep_git_dir = Some(flag()),
                "submodules" => url.submodules = flag(),
                "mtime" | "fetch-by-commit" => {}
                _ => return Err(Failure::new(format!("`{key}` in `{text}` is not a key of git URLs"))),
            }
        }
        // a remote or reference that begins with a dash would be an option to git
        if url.remote.starts_with('-') || url.reference.as_deref().is_some_and(|text| text.starts_with('-')) {
            return Err(Failure::new(format!("`{text}` is not a git URL")));
        }
        Ok(url)
    }
}

/// Checks the repository out into the empty folder `into`; answers the commit.
pub(crate) fn checkout(text: &str, keep_git_dir: bool, into: &Path) -> Result<String, Failure> {
    let url = GitUrl::parse(text)?;
    let work = into.with_file_name(format!("{}-git", into.file_name().unwrap_or_default().to_string_lossy()));
    std::fs::create_dir_all(&work)?;
    let git = |arguments: &[&str]| -> Result<String, Failure> {
        let output = Command::new("git")
            .arg("-C")
            .arg(&work)
            .args([
                "-c",
                "protocol.ext.allow=never",
                "-c",
                "core.hooksPath=/dev/null",
                "-c",
                "advice.detachedHead=false",
            ])
            .args(arguments)
            .env("GIT_TERMINAL_PROMPT", "0")
            .stdin(Stdio::null())
            .output()
            .map_err(|error| Failure::new(format!("cannot start `git`: {error}")).with_hint("install git"))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
        }
        let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(Failure::new(format!("git could not fetch `{}`: {words}", url.remote)))
    };
    git(&["init", "-q"])?;
    let wanted = url.reference.as_deref().or(url.checksum.as_deref()).unwrap_or("HEAD");
    let shallow = git(&["fetch", "-q", "--depth", "1", "--", &url.remote, wanted]);
    if shallow.is_err() {
        // a server may refuse a commit by its number, or the name may be short: fetch everything and look
        let branches = "+refs/heads/*:refs/remotes/origin/*";
        git(&["fetch", "-q", "--tags", "--", &url.remote, branches, "+HEAD:refs/remotes/origin/HEAD"])?;
        let found = [wanted.to_owned(), format!("origin/{wanted}")]
            .into_iter()
            .find_map(|name| git(&["rev-parse", "--verify", "-q", &format!("{name}^{{commit}}")]).ok());
        let commit = found.ok_or_else(|| {
            Failure::new(format!("`{}` has no branch, tag or commit `{wanted}`", url.remote))
        })?;
        git(&["checkout", "-q", &commit])?;
    } else {
        git(&["checkout", "-q", "FETCH_HEAD"])?;
    }
    let commit = git(&["rev-parse", "HEAD"])?;
    if let Some(checksum) = url.checksum.as_deref().filter(|checksum| !commit.starts_with(*checksum)) {
        return Err(Failure::new(format!("`{text}` is at commit `{commit}`, not at `{checksum}`")));
    }
    if url.submodules && work.join(".gitmodules").exists() {
        git(&["submodule", "update", "-q", "--init", "--recursive", "--depth", "1"])?;
    }
    if !(keep_git_dir || url.keep_git_dir == Some(true)) {
        slipway_oci::file::remove_tree(&work.join(".git"))?;
    }
    let source = match &url.subfolder {
        None => work.clone(),
        Some(folder) => {
            let root = slipway_oci::Root::open(&work)?;
            root.open_folder(Path::new(folder))
                .map_err(|error| Failure::new(format!("`{text}` has no folder `{folder}`: {error}")))?;
            let path: PathBuf = Path::new(folder)
                .components()
                .filter(|c| matches!(c, std::path::Component::Normal(_)))
                .collect();
            work.join(path)
        }
    };
    std::fs::remove_dir(into)?;
    std::fs::rename(&source, into)?;
    if url.subfolder.is_some() {
        slipway_oci::file::remove_tree(&work)?;
    }
    Ok(commit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let url = GitUrl::parse("https://h/r.git#v1:sub/folder").expect("url");
        assert_eq!(
            (url.remote.as_str(), url.reference.as_deref(), url.subfolder.as_deref()),
            ("https://h/r.git", Some("v1"), Some("sub/folder"))
        );
        let url = GitUrl::parse("git@h:r.git?ref=main&subdir=x&keep-git-dir=1&submodules=false&commit=ab")
            .expect("url");
        assert_eq!(url.keep_git_dir, Some(true));
        assert!(!url.submodules);
        assert!(GitUrl::parse("https://h/r.git?colour=red").is_err());
        assert!(GitUrl::parse("--upload-pack=x").is_err());
        assert!(GitUrl::parse("https://h/r.git#--exec=x").is_err());
    }
}
