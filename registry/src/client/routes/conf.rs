//! podman's `registries.conf`, versions 1 and 2 (containers-registries.conf(5)), as data.

use super::{Mirror, Pulls, Route};
use serde::Deserialize;
use std::collections::BTreeMap;

/// One file, or several of them together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegistriesConf {
    /// Registries in which a name without one is looked for; `None` where no file says.
    pub search: Option<Vec<String>>,
    /// Rules for names.
    pub routes: Vec<Route>,
    /// What names without a registry stand for; an empty one takes a former file's away.
    pub aliases: BTreeMap<String, String>,
}

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum RegistriesConfError {
    /// No TOML, or values of other kinds.
    #[error("line {line}: {message}")]
    Toml {
        /// Where, from 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// A registry without a name.
    #[error("a `[[registry]]` has neither `prefix` nor `location`")]
    Nameless,
    /// A prefix of several hosts cannot be replaced as a whole.
    #[error("`{0}`: a prefix with `*` is `*.DOMAIN`, and has no `location`")]
    Wildcard(String),
    /// Something else than `host[:port][/path]`.
    #[error("`{0}` is not HOST[:PORT][/PATH], without `https://`")]
    Location(String),
    /// A word that is none of those known.
    #[error("`pull-from-mirror` is `{0}`, and not `all`, `digest-only` or `tag-only`")]
    Pulls(String),
    /// Two settings for one thing.
    #[error("`{0}` has `mirror-by-digest-only`, and a mirror of it `pull-from-mirror`: keep one")]
    Twice(String),
    /// An alias without a registry.
    #[error("the alias `{name}` leads to `{target}`, which names no registry")]
    Alias {
        /// The alias.
        name: String,
        /// What it stands for.
        target: String,
    },
}

#[derive(Deserialize)]
#[serde(default, rename_all = "kebab-case")]
#[derive(Default)]
struct File {
    unqualified_search_registries: Option<Vec<String>>,
    registry: Vec<Registry>,
    aliases: BTreeMap<String, String>,
    registries: Option<First>,
}

/// Version 1.
#[derive(Deserialize, Default)]
#[serde(default)]
struct First {
    search: List,
    insecure: List,
    block: List,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct List {
    registries: Vec<String>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "kebab-case")]
struct Registry {
    prefix: String,
    location: String,
    insecure: bool,
    blocked: bool,
    mirror: Vec<MirrorEntry>,
    mirror_by_digest_only: bool,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "kebab-case")]
struct MirrorEntry {
    location: String,
    insecure: bool,
    pull_from_mirror: String,
}

impl RegistriesConf {
    /// Reads a file's text.
    pub fn parse(text: &str) -> Result<RegistriesConf, RegistriesConfError> {
        let file: File = toml::from_str(text).map_err(|error| {
            let start = error.span().map_or(0, |span| span.start);
            let line = text.get(..start).unwrap_or_default().matches('\n').count() + 1;
            RegistriesConfError::Toml { line, message: error.message().replace('\n', ", ") }
        })?;
        let mut conf = RegistriesConf {
            search: file.unqualified_search_registries,
            routes: file.registry.into_iter().map(route).collect::<Result<_, _>>()?,
            aliases: file.aliases,
        };
        for (name, target) in &conf.aliases {
            let host = target.split('/').next().unwrap_or_default();
            let names_registry = host.contains(['.', ':']) || host == "localhost";
            if !(target.is_empty() || names_registry && target.contains('/')) {
                let (name, target) = (name.clone(), target.clone());
                return Err(RegistriesConfError::Alias { name, target });
            }
        }
        if let Some(first) = file.registries {
            conf.first(first)?;
        }
        if let Some(search) = &mut conf.search {
            *search = search.iter().map(|host| location(host)).collect::<Result<_, _>>()?;
        }
        Ok(conf)
    }

    fn first(&mut self, first: First) -> Result<(), RegistriesConfError> {
        if !first.search.registries.is_empty() && self.search.is_none() {
            self.search = Some(first.search.registries);
        }
        let plain = |prefix: &String| Registry { prefix: prefix.clone(), ..Registry::default() };
        for prefix in &first.insecure.registries {
            self.routes.push(route(Registry { insecure: true, ..plain(prefix) })?);
        }
        for prefix in &first.block.registries {
            self.routes.push(route(Registry { blocked: true, ..plain(prefix) })?);
        }
        Ok(())
    }

    /// Adds what a later file says, which counts where both say something.
    #[must_use]
    pub fn with(mut self, later: RegistriesConf) -> RegistriesConf {
        let is_said = |route: &Route| later.routes.iter().any(|other| other.prefix == route.prefix);
        self.routes.retain(|route| !is_said(route));
        self.routes.extend(later.routes);
        self.aliases.extend(later.aliases);
        self.search = later.search.or(self.search);
        self
    }
}

fn route(registry: Registry) -> Result<Route, RegistriesConfError> {
    let named = if registry.prefix.is_empty() { &registry.location } else { &registry.prefix };
    if named.is_empty() {
        return Err(RegistriesConfError::Nameless);
    }
    let wildcard = named.starts_with('*');
    let domain = named.strip_prefix("*.").unwrap_or(named);
    if wildcard && (!registry.location.is_empty() || domain == named || domain.contains(['*', '/'])) {
        return Err(RegistriesConfError::Wildcard(named.clone()));
    }
    let prefix = if wildcard { format!("*.{}", location(domain)?) } else { location(named)? };
    let place = (!registry.location.is_empty()).then(|| location(&registry.location)).transpose()?;
    let mirrors = registry.mirror.iter().map(|entry| {
        let pulls = match (entry.pull_from_mirror.as_str(), registry.mirror_by_digest_only) {
            ("", false) | ("all", false) => Pulls::All,
            ("", true) | ("digest-only", false) => Pulls::DigestOnly,
            ("tag-only", false) => Pulls::TagOnly,
            ("all" | "digest-only" | "tag-only", true) => {
                return Err(RegistriesConfError::Twice(prefix.clone()));
            }
            (other, _) => return Err(RegistriesConfError::Pulls(other.to_owned())),
        };
        Ok(Mirror { location: location(&entry.location)?, insecure: entry.insecure, pulls })
    });
    let mirrors = mirrors.collect::<Result<_, _>>()?;
    Ok(Route { location: place, insecure: registry.insecure, blocked: registry.blocked, mirrors, prefix })
}

/// A place's name without the slashes that people leave at its end.
fn location(text: &str) -> Result<String, RegistriesConfError> {
    let bare = text.trim_end_matches('/');
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:/[]".contains(&byte);
    if bare.is_empty() || bare.contains("//") || !bare.bytes().all(is_plain) {
        return Err(RegistriesConfError::Location(text.to_owned()));
    }
    Ok(bare.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = r#"
unqualified-search-registries = ["registry.test", "docker.io/"]
short-name-mode = "enforcing"
credential-helpers = ["containers-auth.json"]

[[registry]]
prefix = "example.test/foo"
location = "internal.test/bar/"
insecure = true

[[registry.mirror]]
location = "mirror-0.test/bar"
[[registry.mirror]]
location = "mirror-1.test"
insecure = true
pull-from-mirror = "digest-only"

[[registry]]
location = "only.test:5000"
mirror-by-digest-only = true
mirror = [{ location = "m.test" }]

[[registry]]
prefix = "*.bad.test"
blocked = true

[aliases]
"app" = "registry.test/team/app"
"gone" = ""
"#;

    #[test]
    fn the_second_version_is_read() {
        let conf = RegistriesConf::parse(WHOLE).expect("read");
        assert_eq!(conf.search, Some(vec!["registry.test".to_owned(), "docker.io".to_owned()]));
        let [first, second, third] = &conf.routes[..] else { panic!("{:?}", conf.routes) };
        assert_eq!(
            (first.prefix.as_str(), first.location.as_deref()),
            ("example.test/foo", Some("internal.test/bar"))
        );
        assert!(first.insecure && !first.blocked);
        let pulls: Vec<Pulls> = first.mirrors.iter().map(|mirror| mirror.pulls).collect();
        assert_eq!(pulls, [Pulls::All, Pulls::DigestOnly]);
        assert!(first.mirrors[1].insecure && !first.mirrors[0].insecure);
        assert_eq!((second.prefix.as_str(), second.mirrors[0].pulls), ("only.test:5000", Pulls::DigestOnly));
        assert!(third.blocked && third.prefix == "*.bad.test" && third.location.is_none());
        assert_eq!(conf.aliases["app"], "registry.test/team/app");
    }

    #[test]
    fn the_first_version_is_read() {
        let text = "[registries.search]\nregistries = ['a.test']\n[registries.insecure]\nregistries = ['b.test']\n\
                    [registries.block]\nregistries = ['c.test']\n";
        let conf = RegistriesConf::parse(text).expect("read");
        assert_eq!(conf.search, Some(vec!["a.test".to_owned()]));
        assert!(conf.routes[0].insecure && conf.routes[1].blocked);
        assert_eq!(RegistriesConf::parse("").expect("empty"), RegistriesConf::default());
    }

    #[test]
    fn later_files_count_where_both_speak() {
        let first = RegistriesConf::parse(WHOLE).expect("read");
        let later = RegistriesConf::parse(
            "[[registry]]\nprefix = 'example.test/foo'\nblocked = true\n[aliases]\napp = ''\nnew = 'n.test/new'\n",
        );
        let both = first.with(later.expect("read"));
        assert_eq!(both.search.as_ref().map(Vec::len), Some(2));
        assert_eq!(both.routes.len(), 3);
        let route = both.routes.iter().find(|route| route.prefix == "example.test/foo").expect("the later");
        assert!(route.blocked && route.mirrors.is_empty());
        assert_eq!((both.aliases["app"].as_str(), both.aliases["new"].as_str()), ("", "n.test/new"));
    }

    #[test]
    fn what_cannot_be_meant_is_named() {
        for (text, words) in [
            ("a = [", "line 1"),
            ("\n\nunqualified-search-registries = 'x'", "line 3"),
            ("[[registry]]\ninsecure = true", "neither `prefix` nor `location`"),
            ("[[registry]]\nlocation = 'https://x.test'", "`https://x.test` is not HOST"),
            ("[[registry]]\nlocation = 'x y'", "`x y`"),
            ("[[registry]]\nprefix = '*.x.test'\nlocation = 'y.test'", "*.DOMAIN"),
            ("[[registry]]\nprefix = '*x.test'", "*.DOMAIN"),
            (
                "[[registry]]\nlocation='x.test'\nmirror=[{location='m.test',pull-from-mirror='never'}]",
                "`never`",
            ),
            (
                "[[registry]]\nlocation='x.test'\nmirror-by-digest-only=true\n\
                 mirror=[{location='m.test',pull-from-mirror='all'}]",
                "keep one",
            ),
            ("[[registry]]\nlocation='x.test'\nmirror=[{}]", "is not HOST"),
            ("[aliases]\na = 'b'", "names no registry"),
            ("[aliases]\na = 'b/c'", "names no registry"),
        ] {
            let error = RegistriesConf::parse(text).expect_err(text).to_string();
            assert!(error.contains(words) && !error.contains('\n'), "{text}: {error}");
        }
    }
}
