//! One mirror as the configuration has it: `URL [prefix=NAME] [ns=HOST]... [host=HOST]... [fresh=[TAGS=]TIME]...
//! [user=NAME password=TEXT|password-file=FILE|password-env=VARIABLE] [token=HOST]... [redirect=HOST]... [ca=FILE]`.

use crate::{
    client::{Bounds, Whither},
    limits,
    server::access::TagPattern,
};
use reqwest::Url;
use slipway_oci::reference::{DEFAULT_REGISTRY, is_repository_name};
use std::{fmt, path::PathBuf, str::FromStr, time::Duration};

/// Where a password is.
#[derive(Clone, PartialEq, Eq)]
pub enum PasswordSource {
    /// Here.
    Text(String),
    /// In a file, whose last line break is none of it.
    File(PathBuf),
    /// In an environment variable.
    Variable(String),
}

impl fmt::Debug for PasswordSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PasswordSource::Text(_) => f.write_str("Text(…)"),
            PasswordSource::File(path) => write!(f, "File({})", path.display()),
            PasswordSource::Variable(name) => write!(f, "Variable({name})"),
        }
    }
}

/// How long tags are believed before their upstream is asked again.
#[derive(Clone, Debug)]
pub(super) struct Fresh {
    /// Which ones; all where none are named.
    pub(super) tags: Option<TagPattern>,
    pub(super) time: Duration,
}

/// An upstream, and which requests are for it.
#[derive(Clone, Debug)]
pub struct MirrorSetting {
    /// `scheme://host[:port]/`.
    pub(super) base: Url,
    /// What stands before every repository's name there; empty or with a slash at its end.
    pub(super) below: String,
    /// What its repositories begin with here, without the slash; `mirror/NAME` where none is given.
    pub(super) prefix: Option<String>,
    /// What `?ns=` calls it.
    pub(super) namespaces: Vec<String>,
    /// Hosts as which clients reach this server when they mean it; `*` for whatever nobody else has.
    pub(super) hosts: Vec<String>,
    pub(super) fresh: Vec<Fresh>,
    /// Who logs in there.
    pub user: Option<String>,
    /// With what.
    pub password: Option<PasswordSource>,
    /// A file of authorities to trust beside the system's.
    pub authorities: Option<PathBuf>,
    pub(super) bounds: Bounds,
    /// The words as they were written.
    text: String,
}

impl MirrorSetting {
    /// How long a tag is believed.
    pub(super) fn fresh_for(&self, repository: &str, tag: &str) -> Duration {
        let meant = |one: &&Fresh| one.tags.as_ref().is_none_or(|tags| tags.matches(repository, tag));
        self.fresh.iter().find(meant).map_or(limits::MIRROR_FRESH, |one| one.time)
    }

    /// Whether `?ns=` means it.
    pub(super) fn has_namespace(&self, namespace: &HostName) -> bool {
        self.namespaces.iter().any(|own| HostName::of(own) == *namespace)
    }

    /// Whether a client that reaches this server as `host` means it.
    pub(super) fn has_host(&self, host: &HostName) -> bool {
        self.hosts.iter().any(|own| own != "*" && HostName::of(own) == *host)
    }

    /// Whether it is for whatever no other is for.
    pub(super) fn has_every_host(&self) -> bool {
        self.hosts.iter().any(|own| own == "*")
    }

    fn word(&mut self, word: &str) -> Result<(), String> {
        let form = || {
            format!(
                "`{word}` is none of prefix=, ns=, host=, fresh=, user=, password=, password-file=, password-env=, token=, redirect= and ca="
            )
        };
        let (name, value) = word.split_once('=').ok_or_else(form)?;
        if value.is_empty() {
            return Err(format!("`{name}=` says nothing"));
        }
        let again = || format!("`{name}=` is there twice");
        let once = |taken: bool| if taken { Err(again()) } else { Ok(()) };
        match name {
            "prefix" => {
                once(self.prefix.is_some())?;
                if !is_repository_name(value) {
                    return Err(format!("`{value}` is no beginning of repositories' names"));
                }
                self.prefix = Some(value.to_owned());
            }
            "ns" => self.namespaces.push(host_of(value)?),
            "host" if value == "*" => self.hosts.push(value.to_owned()),
            "host" => self.hosts.push(host_of(value)?),
            "fresh" => self.fresh.push(fresh(value)?),
            "user" => {
                once(self.user.is_some())?;
                self.user = Some(value.to_owned());
            }
            "password" | "password-file" | "password-env" => {
                if self.password.is_some() {
                    return Err("there are two passwords".to_owned());
                }
                self.password = Some(match name {
                    "password" => PasswordSource::Text(value.to_owned()),
                    "password-file" => PasswordSource::File(value.into()),
                    _ => PasswordSource::Variable(value.to_owned()),
                });
            }
            "token" => match value.parse()? {
                host @ Whither::Host(..) => self.bounds.token_services.push(host),
                _ => return Err(format!("`{value}` is no host: credentials go to hosts that are named")),
            },
            "redirect" => self.bounds.redirects.push(value.parse()?),
            "ca" => {
                once(self.authorities.is_some())?;
                self.authorities = Some(value.into());
            }
            _ => return Err(form()),
        }
        Ok(())
    }

    /// What is known of Docker Hub, whose parts have names of their own.
    fn complete(&mut self) {
        if self.base.host_str() == Some(DEFAULT_REGISTRY) {
            let named = self.base.set_host(Some(HUB));
            debug_assert!(named.is_ok(), "it is a host's name");
        }
        if self.is_hub() {
            self.namespaces.push(DEFAULT_REGISTRY.to_owned());
            let known = |text: &str| text.parse::<Whither>().expect("a host");
            self.bounds.token_services.push(known("auth.docker.io"));
            self.bounds.redirects.push(known("*.docker.com"));
            self.bounds.redirects.push(known("*.r2.cloudflarestorage.com"));
        }
        let own = self.base.port().map_or_else(
            || self.base.host_str().unwrap_or_default().to_owned(),
            |port| format!("{}:{port}", self.base.host_str().unwrap_or_default()),
        );
        if !self.namespaces.contains(&own) {
            self.namespaces.push(own);
        }
    }

    fn is_hub(&self) -> bool {
        self.base.host_str() == Some(HUB)
    }

    /// A repository's name as its users mean it: Docker Hub's own ones have a folder that nobody writes.
    pub(super) fn whole(&self, name: &str) -> String {
        if self.is_hub() && !name.contains('/') { format!("library/{name}") } else { name.to_owned() }
    }
}

/// A host in one spelling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HostName(String);

impl HostName {
    pub(super) fn of(text: &str) -> HostName {
        HostName(text.trim_end_matches('.').to_ascii_lowercase())
    }
}

/// Docker Hub's registry.
const HUB: &str = "registry-1.docker.io";

fn host_of(text: &str) -> Result<String, String> {
    match text.parse()? {
        host @ Whither::Host(..) => Ok(host.to_string()),
        _ => Err(format!("`{text}` is no host")),
    }
}

/// `TIME`, or `TAGS=TIME`.
fn fresh(text: &str) -> Result<Fresh, String> {
    let (tags, time) = match text.rsplit_once('=') {
        Some((tags, time)) => (Some(tags), time),
        None => (None, text),
    };
    let wrong = || format!("`{time}` is no time: `30s`, `5m`, `24h`, `7d`, `0s`, `forever`");
    let time = match time {
        "forever" => Duration::MAX,
        "0s" | "0" => Duration::ZERO,
        time => crate::server::pace::time_of(time).ok_or_else(wrong)?,
    };
    let pattern = |text: &str| {
        text.parse::<TagPattern>().map_err(|error| format!("`{text}` is no pattern of tags: {error}"))
    };
    Ok(Fresh { tags: tags.map(pattern).transpose()?, time })
}

/// The address of an upstream: https, or http where somebody writes that.
fn address(text: &str) -> Result<Url, String> {
    let wrong = || format!("`{text}` is no upstream: https://HOST[:PORT][/PATH]");
    let url = Url::parse(text).map_err(|_| wrong())?;
    let bare = url.username().is_empty() && url.password().is_none();
    let plain = url.fragment().is_none() && url.query().is_none();
    let fits = text.len() <= 1024 && text.bytes().all(|byte| byte.is_ascii_graphic());
    let known =
        matches!(url.scheme(), "https" | "http") && url.host_str().is_some_and(|host| !host.is_empty());
    if known && bare && plain && fits { Ok(url) } else { Err(wrong()) }
}

impl FromStr for MirrorSetting {
    type Err = String;

    fn from_str(text: &str) -> Result<MirrorSetting, String> {
        let mut words = text.split_ascii_whitespace();
        let first = words.next().ok_or("a mirror begins with its upstream's URL")?;
        let mut base = address(first)?;
        let below = base.path().trim_matches('/').to_owned();
        if !below.is_empty() && !is_repository_name(&below) {
            return Err(format!("`{first}` is no upstream: its path is where repositories' names begin"));
        }
        base.set_path("/");
        let mut setting = MirrorSetting {
            base,
            below: if below.is_empty() { below } else { format!("{below}/") },
            prefix: None,
            namespaces: Vec::new(),
            hosts: Vec::new(),
            fresh: Vec::new(),
            user: None,
            password: None,
            authorities: None,
            bounds: Bounds::default(),
            text: text.to_owned(),
        };
        words.try_for_each(|word| setting.word(word))?;
        if setting.user.is_some() != setting.password.is_some() {
            return Err("`user=` and its password belong together".to_owned());
        }
        let here = crate::client::is_loopback(setting.base.host_str().unwrap_or_default());
        if setting.user.is_some() && setting.base.scheme() == "http" && !here {
            return Err(format!("`{first}` would be sent the password in the clear: use https"));
        }
        setting.complete();
        Ok(setting)
    }
}

impl PartialEq for MirrorSetting {
    fn eq(&self, other: &MirrorSetting) -> bool {
        self.text == other.text && self.password == other.password && self.authorities == other.authorities
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirrors_are_written_in_words() {
        let hub: MirrorSetting =
            "https://docker.io fresh=v*=30d fresh=library/**:*-rc*=1m fresh=24h".parse().expect("a mirror");
        assert_eq!(hub.base.as_str(), "https://registry-1.docker.io/");
        assert_eq!(hub.namespaces, ["docker.io", "registry-1.docker.io"]);
        assert_eq!((hub.whole("debian"), hub.whole("a/b")), ("library/debian".to_owned(), "a/b".to_owned()));
        let days = |days: u64| Duration::from_secs(days * 24 * 3600);
        for (tag, time) in [("v1", days(30)), ("1-rc1", Duration::from_secs(60)), ("latest", days(1))] {
            assert_eq!(hub.fresh_for("library/x", tag), time, "{tag}");
        }
        let own: MirrorSetting = "http://127.0.0.1:5000/team prefix=up ns=a.example host=m.example:80 user=u password=p token=127.0.0.1:5001 redirect=*.cdn.example ca=c.pem"
            .parse()
            .expect("a mirror");
        assert_eq!((own.base.as_str(), own.below.as_str()), ("http://127.0.0.1:5000/", "team/"));
        assert_eq!(own.namespaces, ["a.example", "127.0.0.1:5000"]);
        assert_eq!(
            (own.fresh_for("a", "b"), own.whole("debian")),
            (limits::MIRROR_FRESH, "debian".to_owned())
        );
        assert!(!format!("{:?}", own.password).contains('p'), "{:?}", own.password);
    }

    #[test]
    fn mistakes_are_named() {
        for (text, word) in [
            ("", "URL"),
            ("docker.io", "no upstream"),
            ("ftp://a", "no upstream"),
            ("https://", "no upstream"),
            ("https://u:p@a", "no upstream"),
            ("https://a?b=c", "no upstream"),
            ("https://a#b", "no upstream"),
            ("https://a/B", "path"),
            ("https://a alone", "none of"),
            ("https://a color=red", "none of"),
            ("https://a prefix=", "says nothing"),
            ("https://a prefix=A", "no beginning"),
            ("https://a prefix=a/", "no beginning"),
            ("https://a prefix=a prefix=b", "twice"),
            ("https://a ns=*.b", "no host"),
            ("https://a ns=http://b", "no host"),
            ("https://a host=a/b", "no host"),
            ("https://a fresh=soon", "no time"),
            ("https://a fresh=v?=1d", "no pattern"),
            ("https://a user=u", "belong together"),
            ("https://a password=u", "belong together"),
            ("https://a user=u password=p password-env=P", "two passwords"),
            ("http://a user=u password=p", "in the clear"),
            ("https://a token=*", "no host"),
            ("https://a token=*.b", "no host"),
            ("https://a redirect=*b", "no host"),
        ] {
            let error = text.parse::<MirrorSetting>().expect_err(text);
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
