//! Jobs of CI systems, by the identity tokens that these make for them: no secret is stored anywhere.
//!
//! ```text
//! token -> token::parse -> issuers of its `iss`, as the configuration has them, to the byte
//!       -> source: the issuer's keys, kept; asked for again where a key's id is not known, seldom
//!       -> token::verify: signature, times -> audience and claims of each issuer -> Job
//! ```
//! GitHub, GitLab and Kubernetes (service accounts' projected tokens) make tokens of OpenID Connect's form. Several entries of
//! the configuration may have one URL: a job is of all of them whose audience and claims it has, and rules speak of the names.

mod claim;
mod fetch;
mod issuer;
mod jwk;
mod source;
mod token;

pub use claim::{ClaimPattern, Claims as IdentityClaims};
pub use fetch::FetchError;
pub use issuer::{Issuer, KeySource};
pub use jwk::KeySetError;
pub use token::TokenError;

pub(super) use claim::is_claim;

use super::AccessError;
use crate::{
    client::{Authorities, ClientError, Proxies},
    limits,
};
use serde::{Deserialize, Serialize};
use slipway_oci::reference::is_repository_name;
use source::Source;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use token::Verified;

/// An issuer with its name and what its files hold.
#[derive(Clone, Debug)]
pub struct NamedIssuer {
    /// What rules call it.
    pub name: String,
    /// The configuration's words.
    pub issuer: Issuer,
    /// The keys' file, where [`KeySource::File`] names one.
    pub keys: Option<Vec<u8>>,
    /// The authorities' file.
    pub authorities: Option<Authorities>,
}

/// A job that an issuer vouches for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Job {
    /// The names of the issuers that it is of.
    pub issuers: BTreeSet<String>,
    /// Those claims that rules use as variables, as parts of repositories' names.
    pub claims: BTreeMap<String, String>,
    /// When what it may do ends, in seconds since 1970.
    pub until: i64,
}

/// Why keys of an issuer cannot be used from the start.
#[derive(Debug, thiserror::Error)]
pub enum IssuerError {
    /// A file that is no set of keys.
    #[error("the keys' file of issuer `{name}` cannot be used: {source}")]
    Keys {
        /// The issuer.
        name: String,
        /// Why.
        source: KeySetError,
    },
    /// No TLS.
    #[error("issuer `{name}` cannot be asked")]
    Client {
        /// The issuer.
        name: String,
        /// Why.
        source: ClientError,
    },
}

struct Entry {
    name: String,
    issuer: Issuer,
    source: Arc<Source>,
}

/// What became of a token.
pub(in crate::server) enum Outcome {
    /// A job, its name, and when the token ends.
    Job { job: Job, name: String, expires: i64 },
    /// A token of no issuer that is configured.
    Foreign,
    /// Refused; `signed`: by the issuer's own word, so that it is worth a line for the operator.
    Refused { issuer: String, why: TokenError, signed: bool, failure: Option<FetchError> },
}

/// All issuers of a configuration.
#[derive(Default)]
pub(in crate::server) struct Issuers {
    entries: Vec<Entry>,
    /// The claims that rules use as variables.
    wanted: BTreeSet<String>,
}

impl Issuers {
    pub(super) fn new(
        named: Vec<NamedIssuer>,
        wanted: BTreeSet<String>,
        proxies: &Proxies,
    ) -> Result<Issuers, AccessError> {
        let mut entries: Vec<Entry> = Vec::new();
        for one in named {
            let same = entries.iter().find(|own| {
                let (own, other) = (&own.issuer, &one.issuer);
                (&own.url, &own.keys, &own.authorities) == (&other.url, &other.keys, &other.authorities)
            });
            let source = match same {
                Some(same) => Arc::clone(&same.source),
                None => Arc::new(Source::new(&one, proxies)?),
            };
            entries.push(Entry { name: one.name, issuer: one.issuer, source });
        }
        Ok(Issuers { entries, wanted })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn count(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.entries.iter().any(|entry| entry.name == name)
    }

    /// Whether a text is worth a look as a token.
    pub(in crate::server) fn may_know(&self, text: &str) -> bool {
        !self.is_empty() && token::looks_like_one(text)
    }

    /// What a job's tokens of our own stand on: they end when any of its issuers is configured otherwise.
    pub(super) fn stamp(&self, job: &Job) -> Option<String> {
        let mut text = String::from("issuers");
        for name in &job.issuers {
            let entry = self.entries.iter().find(|entry| entry.name == *name)?;
            text.push_str(&format!(" {name}={}", entry.issuer));
        }
        Some(text)
    }

    /// Looks at a token.
    pub(in crate::server) async fn admit(&self, text: &str, now: i64) -> Outcome {
        let Ok(parsed) = token::parse(text) else { return Outcome::Foreign };
        let own: Vec<&Entry> =
            self.entries.iter().filter(|entry| entry.issuer.url == parsed.issuer).collect();
        let mut refused = None;
        for entry in &own {
            let (keys, failure) = entry.source.keys_for(&parsed.key).await;
            match parsed.verify(&keys, now) {
                Ok(verified) => {
                    let of_source = own.iter().filter(|one| Arc::ptr_eq(&one.source, &entry.source));
                    match self.job(of_source.copied(), &verified, now) {
                        Ok((job, name)) => {
                            return Outcome::Job { job, name, expires: verified.expires };
                        }
                        Err((issuer, why)) => {
                            refused = Some(Outcome::Refused { issuer, why, signed: true, failure: None });
                        }
                    }
                }
                Err(why) => {
                    let why = if failure.is_some() { TokenError::Keys } else { why };
                    let issuer = entry.name.clone();
                    refused.get_or_insert(Outcome::Refused { issuer, why, signed: false, failure });
                }
            }
        }
        refused.unwrap_or(Outcome::Foreign)
    }

    /// The job that a verified token is of, by those issuers whose audience and claims it has; else why not.
    fn job<'a>(
        &self,
        entries: impl Iterator<Item = &'a Entry>,
        verified: &Verified,
        now: i64,
    ) -> Result<(Job, String), (String, TokenError)> {
        let (mut issuers, mut refused) = (Vec::new(), None);
        for entry in entries {
            let why = if !verified.claims.all("aud").contains(&entry.issuer.audience) {
                TokenError::Audience
            } else if let Some((name, _)) = entry.issuer.missing(&verified.claims) {
                TokenError::Claim(name.clone())
            } else {
                issuers.push(entry.name.clone());
                continue;
            };
            refused.get_or_insert((entry.name.clone(), why));
        }
        let Some(first) = issuers.first() else {
            return Err(refused.expect("who is of no issuer was refused by each"));
        };
        // no user's name has a colon
        let name = format!("{first}:{}", verified.subject);
        let until = now + limits::JOB_LIFE_SECONDS;
        Ok((self.of(issuers, &verified.claims, until), name))
    }

    fn of(&self, issuers: Vec<String>, claims: &IdentityClaims, until: i64) -> Job {
        let part = |name: &String| {
            // names of repositories are in lower case; those of GitHub's and GitLab's projects mean the same in either
            let text = claims.one(name)?.to_ascii_lowercase();
            is_repository_name(&text).then(|| (name.clone(), text))
        };
        let claims = self.wanted.iter().filter_map(part).collect();
        Job { issuers: issuers.into_iter().collect(), claims, until }
    }

    /// The job that somebody says they would be, for an explanation; else the claim that the issuer misses.
    pub(super) fn supposed(&self, name: &str, claims: &IdentityClaims) -> Result<Job, String> {
        let entry = self.entries.iter().find(|entry| entry.name == name);
        let missing = entry.and_then(|entry| entry.issuer.missing(claims));
        if let Some((claim, pattern)) = missing {
            return Err(format!("issuer `{name}` asks for claim:{claim}={pattern}"));
        }
        let url = entry.map(|entry| entry.issuer.url.as_str());
        let same = self.entries.iter().filter(|one| {
            one.name == name || Some(one.issuer.url.as_str()) == url && one.issuer.missing(claims).is_none()
        });
        let names = same.map(|entry| entry.name.clone()).chain([name.to_owned()]).collect();
        Ok(self.of(names, claims, i64::MAX))
    }
}
