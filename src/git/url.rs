//! Git URLs as docker's tools write them.

use crate::error::Failure;

/// A git URL taken apart (BuildKit `gitutil`): `#ref:subdir`, or query keys.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct GitUrl {
    pub(super) remote: String,
    pub(super) reference: Option<String>,
    pub(super) subfolder: Option<String>,
    pub(super) keep_git_dir: Option<bool>,
    pub(super) submodules: bool,
    pub(super) checksum: Option<String>,
}

impl GitUrl {
    /// Takes `text` apart.
    pub(super) fn parse(text: &str) -> Result<GitUrl, Failure> {
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
