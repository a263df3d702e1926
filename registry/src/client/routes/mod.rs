//! Where a name's content is really asked for: other places, mirrors, and what is blocked.
//!
//! The rules are those of podman's `registries.conf` ([`RegistriesConf`], containers-registries.conf(5)) and of the mirrors of
//! docker's `daemon.json`. Pure data: nothing here reads a file or asks anybody.
//!
//! A place is never told a credential but its own: every candidate is an endpoint under its own host's name.

mod conf;

pub use conf::{RegistriesConf, RegistriesConfError};

use slipway_oci::{Reference, reference::DEFAULT_REGISTRY};

/// What holds for the names below a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// `host[:port][/path]`, or `*.domain` for all hosts below a domain.
    pub prefix: String,
    /// What the prefix is replaced with; `None` leaves names as they are.
    pub location: Option<String>,
    /// Whether a bad certificate, or none, is taken from it.
    pub insecure: bool,
    /// Whether nothing may be asked there.
    pub blocked: bool,
    /// Asked first, in this order.
    pub mirrors: Vec<Mirror>,
}

/// Another place for the same content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// What the prefix is replaced with.
    pub location: String,
    /// Whether a bad certificate, or none, is taken from it.
    pub insecure: bool,
    /// Which names it is asked for.
    pub pulls: Pulls,
}

/// Which names a mirror is asked for (`pull-from-mirror`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Pulls {
    /// All.
    #[default]
    All,
    /// Those with a digest, whose content nobody can replace.
    DigestOnly,
    /// Those with a tag.
    TagOnly,
}

/// All rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routes {
    /// The longest prefix counts.
    pub routes: Vec<Route>,
    /// Mirrors of Docker Hub, asked after those of a route.
    pub hub_mirrors: Vec<Mirror>,
}

/// A place to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The name there.
    pub(super) reference: Reference,
    pub(super) insecure: bool,
    /// Whether others follow that have the same.
    pub(super) is_mirror: bool,
}

impl Place {
    /// The same place for another name of the same repository.
    pub(super) fn with(&self, reference: &Reference) -> Option<Place> {
        Some(Place { reference: moved(reference, &self.reference.name())?, ..self.clone() })
    }
}

/// The part of a name (`host/repository`) that a prefix covers, in bytes.
fn covered(name: &str, prefix: &str) -> Option<usize> {
    let ends = |end: usize| name.as_bytes().get(end).is_none_or(|byte| matches!(byte, b'/' | b':' | b'@'));
    if let Some(domain) = prefix.strip_prefix('*') {
        let host = name.split('/').next().unwrap_or(name);
        let end = host.find(domain)? + domain.len();
        return ends(end).then_some(end);
    }
    (name.starts_with(prefix) && ends(prefix.len())).then_some(prefix.len())
}

impl Routes {
    /// The rule for a name, and how much of it the prefix covers.
    fn of(&self, name: &str) -> Option<(&Route, usize)> {
        let matching = self.routes.iter().filter_map(|route| Some((route, covered(name, &route.prefix)?)));
        matching.max_by_key(|(route, _)| route.prefix.len())
    }

    /// The prefix that blocks a name.
    pub(super) fn blocked(&self, reference: &Reference) -> Option<&str> {
        let (route, _) = self.of(&reference.name())?;
        route.blocked.then_some(&route.prefix)
    }

    /// The name itself, as it is pushed to: neither mirrors nor other places count (containers-registries.conf(5)).
    pub(super) fn own(&self, reference: &Reference) -> Place {
        let insecure = self.of(&reference.name()).is_some_and(|(route, _)| route.insecure);
        Place { reference: reference.clone(), insecure, is_mirror: false }
    }

    /// Where a name is pulled from, in this order. What would not be a name is passed over.
    pub(super) fn places(&self, reference: &Reference) -> Vec<Place> {
        let name = reference.name();
        let (route, length) = match self.of(&name) {
            Some((route, length)) => (Some(route), length),
            None => (None, DEFAULT_REGISTRY.len()),
        };
        let there =
            |location: &str, length: usize| moved(reference, &format!("{location}{}", &name[length..]));
        let mut places = Vec::new();
        let hub = reference.registry() == DEFAULT_REGISTRY;
        let hub_mirrors =
            self.hub_mirrors.iter().filter(|_| hub).map(|mirror| (mirror, DEFAULT_REGISTRY.len()));
        let mirrors = route.map_or(&[][..], |route| &route.mirrors).iter().map(|mirror| (mirror, length));
        for (mirror, length) in mirrors.chain(hub_mirrors) {
            let is_asked = match mirror.pulls {
                Pulls::All => true,
                Pulls::DigestOnly => reference.digest().is_some(),
                Pulls::TagOnly => reference.digest().is_none(),
            };
            if let Some(reference) = there(&mirror.location, length).filter(|_| is_asked) {
                places.push(Place { reference, insecure: mirror.insecure, is_mirror: true });
            }
        }
        let location = route.and_then(|route| route.location.as_deref());
        let own = location.and_then(|location| there(location, length)).unwrap_or_else(|| reference.clone());
        places.push(Place {
            reference: own,
            insecure: route.is_some_and(|route| route.insecure),
            is_mirror: false,
        });
        places
    }
}

/// A reference's tag and digest under another `host/repository`.
fn moved(reference: &Reference, name: &str) -> Option<Reference> {
    let (host, repository) = name.split_once('/')?;
    Reference::new(host, repository, reference.tag(), reference.digest().cloned()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mirror(location: &str, pulls: Pulls) -> Mirror {
        Mirror { location: location.into(), insecure: false, pulls }
    }

    fn route(prefix: &str, location: Option<&str>, mirrors: Vec<Mirror>) -> Route {
        let location = location.map(str::to_owned);
        Route { prefix: prefix.into(), location, insecure: false, blocked: false, mirrors }
    }

    #[test]
    fn prefixes_cover_whole_parts_of_names() {
        for (name, prefix, expected) in [
            ("a.test/x", "a.test", Some(6)),
            ("a.test:5000/x", "a.test", Some(6)),
            ("a.test:5000/x", "a.test:5000", Some(11)),
            ("a.test:50001/x", "a.test:5000", None),
            ("a.test.evil/x", "a.test", None),
            ("a.test/xy", "a.test/x", None),
            ("a.test/x/y", "a.test/x", Some(8)),
            ("a.test/x", "a.test/x", Some(8)),
            ("b.a.test/x", "*.a.test", Some(8)),
            ("b.a.test:5/x", "*.a.test", Some(8)),
            ("a.test/x", "*.a.test", None),
            ("b.a.test.evil/x", "*.a.test", None),
            ("evil/b.a.test/x", "*.a.test", None),
        ] {
            assert_eq!(covered(name, prefix), expected, "{name} under {prefix}");
        }
    }

    #[test]
    fn places_follow_the_rules_in_order() {
        let mut routes = Routes {
            routes: vec![
                route("a.test", Some("b.test/deep"), vec![mirror("m.test", Pulls::All)]),
                route("a.test/own", None, vec![]),
                route("*.w.test", None, vec![mirror("m.test:5000/w", Pulls::All)]),
                route(
                    "d.test",
                    None,
                    vec![mirror("digest.test", Pulls::DigestOnly), mirror("tag.test", Pulls::TagOnly)],
                ),
                route("docker.io/library", None, vec![mirror("hub.test/l", Pulls::All)]),
            ],
            hub_mirrors: vec![mirror("127.0.0.1:5000", Pulls::All)],
        };
        let digest = format!("sha256:{}", "0".repeat(64));
        for (name, expected) in [
            ("a.test/x:1", vec!["m.test/x:1", "b.test/deep/x:1"]),
            ("a.test/own/x:1", vec!["a.test/own/x:1"]),
            ("q.w.test/x", vec!["m.test:5000/w/x", "q.w.test/x"]),
            ("other.test/x", vec!["other.test/x"]),
            ("d.test/x:1", vec!["tag.test/x:1", "d.test/x:1"]),
            (&format!("d.test/x@{digest}"), vec!["digest.test/x@D", "d.test/x@D"]),
            (
                "debian:12",
                vec![
                    "hub.test/l/debian:12",
                    "127.0.0.1:5000/library/debian:12",
                    "docker.io/library/debian:12",
                ],
            ),
            ("me/app", vec!["127.0.0.1:5000/me/app", "docker.io/me/app"]),
        ] {
            let places = routes.places(&name.parse().expect(name));
            let seen: Vec<String> =
                places.iter().map(|place| place.reference.to_string().replace(&digest, "D")).collect();
            assert_eq!(seen, expected, "{name}");
            let mirrors = places.iter().filter(|place| place.is_mirror).count();
            assert_eq!(mirrors + 1, places.len(), "{name}");
        }
        let own = routes.own(&"a.test/x:1".parse().expect("name"));
        assert_eq!((own.reference.to_string().as_str(), own.insecure), ("a.test/x:1", false));
        routes.routes[1].blocked = true;
        assert_eq!(routes.blocked(&"a.test/own/x".parse().expect("name")), Some("a.test/own"));
        assert_eq!(routes.blocked(&"a.test/x".parse().expect("name")), None);
    }
}
