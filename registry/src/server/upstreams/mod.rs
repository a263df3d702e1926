//! Mirrors: repositories whose content is another registry's. Which request is for which upstream, and how each is asked; what is
//! fetched and answered is `mirror`'s.
//!
//! A request is for an upstream by the beginning of its repository's name (`mirror/hub/library/debian`), by `?ns=HOST` as
//! containerd sends it, or by the host as which its client reaches this server, as docker's `registry-mirrors` do. `place` turns all
//! three into one name here, before anybody's rights are looked at: rules are about that name, and what is stored has it.
//!
//! Invariants:
//! - Nothing is dialled that the configuration does not name: `ns` and hosts are looked up in it, never followed; redirects and
//!   token services are held to it (`client::bounds`); credentials go to their upstream and its named token service alone.
//! - Whatever is stored was verified first. Bytes that are sent while they come (`mirror::body`) become whole only then.
//! - One request to upstream for any number of those who want the same (`flights`); none while it is away or has had enough
//!   (`source`), when what is stored is served with a warning.

mod flights;
mod setting;
mod source;

pub use setting::{MirrorSetting, PasswordSource};
pub(super) use source::{Begun, Fetch, Passing, Progress, Source, Turn};

use super::{
    error::ApiError,
    query::Query,
    route::Route,
    storage::StorageError,
    traces::{Asking, Trace},
    trouble::Trouble,
};
use crate::client::{Asked, Authorities, ClientError, Credential, Proxies, Upstream, UpstreamConfig};
use setting::HostName;
use slipway_oci::{Digest, reference::is_repository_name};
use std::sync::Arc;

/// A mirror with what its setting names.
#[derive(Clone, Debug)]
pub struct NamedMirror {
    /// Its name.
    pub name: String,
    /// Its setting.
    pub setting: MirrorSetting,
    /// The password that it names.
    pub password: Option<String>,
    /// The authorities that it names.
    pub authorities: Option<Authorities>,
}

/// Why mirrors do not go together.
#[derive(Debug, thiserror::Error)]
pub enum MirrorError {
    /// A name for two.
    #[error("there are two mirrors `{0}`")]
    Twice(String),
    /// A name that no repository can begin with.
    #[error(
        "`{0}` is no name of a mirror: lower-case letters, digits, `-` and `_`, as in repositories; or give it `prefix=`"
    )]
    Name(String),
    /// Repositories of two.
    #[error(
        "the mirrors `{0}` and `{1}` have repositories in common: `{2}` lies within the prefix of the other"
    )]
    Within(String, String, String),
    /// A host or namespace of two.
    #[error("the mirrors `{0}` and `{1}` are both for `{2}`: say which by `ns=` or `host=` in one of them")]
    Shared(String, String, String),
}

/// Every mirror of a configuration. Another one takes its place as a whole.
#[derive(Default)]
pub struct Mirrors(Vec<Mirror>);

struct Mirror {
    prefix: String,
    source: Arc<Source>,
}

impl std::fmt::Debug for Mirrors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|mirror| &mirror.prefix)).finish()
    }
}

/// Where a request is for.
#[derive(Clone)]
pub(super) struct At {
    pub(super) source: Arc<Source>,
    /// The repository as it was asked for.
    pub(super) asked: String,
    /// Its name here.
    pub(super) local: String,
    /// Its name there.
    pub(super) remote: String,
    /// The trace of who asks first.
    pub(super) trace: Option<Trace>,
}

impl At {
    /// Begins to ask for something, of which the trace will tell: `name` says what, `about` which.
    pub(super) fn asking(&self, name: &'static str, about: &str) -> Asking {
        let Source { name: mirror, upstream, .. } = &*self.source;
        let about = [
            ("slipway.mirror", mirror.as_str()),
            ("slipway.repository", &self.local),
            ("slipway.reference", about),
        ];
        Asking::begin(self.trace.as_ref(), name, upstream.address(), &about)
    }

    /// Asks for something, and waits for the answer.
    pub(super) async fn ask<'a, T, F: Future<Output = Result<T, ClientError>>>(
        &'a self,
        (name, about): (&'static str, &str),
        work: impl FnOnce(Asked<'a>) -> F,
    ) -> Result<T, Trouble> {
        let asking = self.asking(name, about);
        let answered = self.source.ask(work(self.source.upstream.asked(asking.header().cloned()))).await;
        asking.end(answered.as_ref().err().map(Trouble::told));
        answered
    }

    /// What the client is told of a blob that does not come.
    pub(super) fn blob_error(&self, trouble: Trouble, digest: &Digest) -> ApiError {
        match trouble {
            Trouble::Absent => StorageError::BlobUnknown(digest.clone()).into(),
            trouble => ApiError::Mirror(trouble),
        }
    }

    pub(super) fn manifest_error(&self, trouble: Trouble, reference: &str) -> ApiError {
        match trouble {
            Trouble::Absent => StorageError::ManifestUnknown(reference.chars().take(200).collect()).into(),
            trouble => ApiError::Mirror(trouble),
        }
    }

    pub(super) fn list_error(&self, trouble: Trouble) -> ApiError {
        match trouble {
            Trouble::Absent => StorageError::RepositoryUnknown(self.asked.clone()).into(),
            trouble => ApiError::Mirror(trouble),
        }
    }
}

impl Mirrors {
    /// Puts mirrors together.
    pub fn new(named: Vec<NamedMirror>, proxies: &Proxies) -> Result<Mirrors, MirrorError> {
        let mut all: Vec<Mirror> = Vec::new();
        for NamedMirror { name, setting, password, authorities } in named {
            let prefix = setting.prefix.clone().unwrap_or_else(|| format!("mirror/{name}"));
            if !is_repository_name(&prefix) {
                return Err(MirrorError::Name(name));
            }
            for other in &all {
                apart(&name, &prefix, &setting, other)?;
            }
            let user = setting.user.clone().zip(password);
            let upstream = Upstream::new(UpstreamConfig {
                base: setting.base.clone(),
                bounds: setting.bounds.clone(),
                credential: user.map(|(username, password)| Credential::Basic { username, password }),
                authorities,
                proxies: proxies.clone(),
            });
            all.push(Mirror { prefix, source: Arc::new(Source::new(name, setting, upstream)) });
        }
        Ok(Mirrors(all))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What a configuration means for a request: its route under the name that its repository has here, and where it comes from.
    pub(super) fn place(
        &self,
        route: Route,
        query: &Query,
        host: Option<&str>,
    ) -> Result<(Route, Option<At>), ApiError> {
        let Some(asked) = route.repository().filter(|_| !self.0.is_empty()).map(str::to_owned) else {
            return Ok((route, None));
        };
        let Some((mirror, rest)) = self.find(&asked, query.get("ns"), host)? else {
            return Ok((route, None));
        };
        let setting = &mirror.source.setting;
        let name = setting.whole(rest);
        let local = format!("{}/{name}", mirror.prefix);
        if !is_repository_name(&local) {
            // too long with what stands before it
            return Err(ApiError::NameInvalid(asked));
        }
        let remote = format!("{}{name}", setting.below);
        let at = At { source: Arc::clone(&mirror.source), asked, local: local.clone(), remote, trace: None };
        Ok((route.renamed(local), Some(at)))
    }

    /// The mirror of a request, and what the repository is called there.
    fn find<'a>(
        &self,
        asked: &'a str,
        namespace: Option<&str>,
        host: Option<&str>,
    ) -> Result<Option<(&Mirror, &'a str)>, ApiError> {
        let host = host.map(HostName::of);
        if let Some(namespace) = namespace {
            let wanted = HostName::of(namespace);
            let named = |mirror: &&Mirror| mirror.source.setting.has_namespace(&wanted);
            return match self.0.iter().find(named) {
                Some(mirror) => Ok(Some((mirror, within(asked, &mirror.prefix).unwrap_or(asked)))),
                // a client that reaches this registry by another name than it calls it
                None if host.as_ref() == Some(&wanted) => Ok(None),
                // whoever asks for another registry's image gets no namesake of it
                None => Err(StorageError::RepositoryUnknown(asked.to_owned()).into()),
            };
        }
        let by_prefix = self.0.iter().find_map(|mirror| Some((mirror, within(asked, &mirror.prefix)?)));
        let by_host = || {
            let host = host.as_ref()?;
            let exact = self.0.iter().find(|mirror| mirror.source.setting.has_host(host));
            exact.or_else(|| self.0.iter().find(|mirror| mirror.source.setting.has_every_host()))
        };
        Ok(by_prefix.or_else(|| by_host().map(|mirror| (mirror, asked))))
    }
}

fn within<'a>(name: &'a str, prefix: &str) -> Option<&'a str> {
    name.strip_prefix(prefix)?.strip_prefix('/')
}

/// Refuses mirrors that one request could mean both of.
fn apart(name: &str, prefix: &str, setting: &MirrorSetting, other: &Mirror) -> Result<(), MirrorError> {
    let own = &other.source;
    if own.name == name {
        return Err(MirrorError::Twice(name.to_owned()));
    }
    for (inner, outer) in [(prefix, other.prefix.as_str()), (other.prefix.as_str(), prefix)] {
        if inner == outer || within(inner, outer).is_some() {
            return Err(MirrorError::Within(own.name.clone(), name.to_owned(), inner.to_owned()));
        }
    }
    let both = |all: &[String], others: &[String]| all.iter().find(|one| others.contains(one)).cloned();
    let shared = both(&setting.namespaces, &own.setting.namespaces)
        .or_else(|| both(&setting.hosts, &own.setting.hosts));
    match shared {
        Some(shared) => Err(MirrorError::Shared(own.name.clone(), name.to_owned(), shared)),
        None => Ok(()),
    }
}
