//! Who may do what: asked once for every request, between [`super::route`] and its endpoint, and inside the transaction where
//! it hangs on what is there.
//!
//! `demand` turns a request into what it needs. `server::entry` finds out who asks: nobody, a user with a password (`htpasswd`), a
//! token of the configuration (`secret`), a job with an identity token of its CI system (`oidc`), or a token that this registry
//! made (`jwt`, `keys`). The [`Rules`] decide. A token that
//! was made here can only take away: the rules of today are asked at every request, whatever it was made for.
//!
//! What a caller may not read answers the same whether it is there or not. 401 with a challenge says that somebody who logs in
//! may be allowed, 403 that this user is not.

mod challenge;
mod demand;
mod htpasswd;
mod jwt;
mod keys;
mod oidc;
mod pattern;
mod rule;
mod scope;
mod secret;
mod seen;
mod visitor;

pub use htpasswd::{Htpasswd, HtpasswdError, HtpasswdMistake, line as htpasswd_line};
pub use oidc::{
    ClaimPattern, FetchError, IdentityClaims, Issuer, IssuerError, Job, KeySetError, KeySource, NamedIssuer,
    TokenError,
};
pub use pattern::{PatternError, RepositoryPattern, TagPattern};
pub use rule::{Action, Actions, Decision, Mode, Principal, Rule, Rules, Who, is_name};
pub use secret::{SecretHash, new_secret};

pub(super) use challenge::Origin;
pub(super) use demand::{Demand, changes, demand};
pub(super) use jwt::{Claims, Use, parse, sign};
pub(super) use keys::Keys;
pub(super) use oidc::Outcome;
pub(super) use scope::Scope;
pub(super) use visitor::{Caller, Visitor};

use super::storage::now_seconds;
use crate::client::Proxies;
use oidc::Issuers;
use seen::Seen;
use std::{collections::BTreeMap, sync::Arc};
use tokio::sync::Semaphore;

/// What the configuration says.
#[derive(Debug, Default)]
pub struct AccessConfig {
    /// The usual case that holds after the rules; `None` for the rules alone, or [`Mode::Open`] where there are neither rules
    /// nor users, and [`Mode::Private`] where there are users alone.
    pub mode: Option<Mode>,
    /// Users with passwords.
    pub htpasswd: Option<Htpasswd>,
    /// Tokens by name.
    pub tokens: BTreeMap<String, SecretHash>,
    /// Rules in their order.
    pub rules: Vec<Rule>,
    /// Members by group.
    pub groups: BTreeMap<String, Vec<String>>,
    /// Tags that never change once they are there.
    pub immutable_tags: Vec<TagPattern>,
    /// Issuers of identity tokens, for jobs.
    pub issuers: Vec<NamedIssuer>,
    /// Proxies that lead to them.
    pub proxies: Proxies,
    /// Whether clients' certificates name users.
    pub certificates: bool,
    /// Where clients reach the registry, `https://HOST[:PORT]`, where its own sockets do not say.
    pub url: Option<String>,
    /// Whether tokens are made; otherwise clients send names and passwords with every request.
    pub token_endpoint: bool,
}

/// What cannot hold together.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// A name for two.
    #[error(
        "`{0}` is the name of a token and of a user in the htpasswd file: they would be one for every rule"
    )]
    Twice(String),
    /// Private for nobody.
    #[error(
        "`access = \"private\"` lets users in, and there are none: name an `htpasswd` file, `tokens` or `tls-client-ca`, or `rules` for the jobs of `issuers`"
    )]
    Nobody,
    /// A group that is not there.
    #[error("{place}: there is no group `{group}`")]
    Group {
        /// The rule.
        place: String,
        /// The group.
        group: String,
    },
    /// An issuer that is not there.
    #[error("{place}: there is no issuer `{issuer}`")]
    Unissued {
        /// The rule.
        place: String,
        /// The issuer.
        issuer: String,
    },
    /// An issuer for two.
    #[error("there are two issuers `{0}`")]
    IssuerTwice(String),
    /// An issuer that cannot be used.
    #[error(transparent)]
    Issuer(#[from] IssuerError),
    /// No randomness.
    #[error("the system has no random numbers")]
    Random,
}

/// Who may do what, as one configuration says. Another one takes its place as a whole.
pub struct Access {
    rules: Rules,
    pub(super) htpasswd: Arc<Htpasswd>,
    pub(super) tokens: BTreeMap<String, SecretHash>,
    immutable_tags: Vec<TagPattern>,
    url: Option<String>,
    token_endpoint: bool,
    pub(super) issuers: Issuers,
    /// Whether clients' certificates name users.
    pub(super) certificates: bool,
    /// Whether anybody can log in.
    has_users: bool,
    /// Whether anyone may do everything.
    is_open: bool,
    pub(super) seen: Seen,
    /// Passwords that are checked at a time.
    pub(super) hashing: Arc<Semaphore>,
    /// Passwords that wait or are checked.
    pub(super) waiting: Arc<Semaphore>,
}

impl Access {
    /// Anyone may do everything.
    pub fn open() -> Access {
        Access::new(AccessConfig::default()).expect("an empty configuration holds together")
    }

    /// Puts a configuration together.
    pub fn new(mut config: AccessConfig) -> Result<Access, AccessError> {
        let htpasswd = config.htpasswd.take().unwrap_or_default();
        if let Some(name) = htpasswd.names().find(|name| config.tokens.contains_key(*name)) {
            return Err(AccessError::Twice(name.to_owned()));
        }
        let secrets = htpasswd.names().next().is_some() || !config.tokens.is_empty();
        let has_users = secrets || config.certificates || !config.issuers.is_empty();
        if config.mode == Some(Mode::Private) && !has_users && config.rules.is_empty() {
            return Err(AccessError::Nobody);
        }
        check_names(&config)?;
        let patterns = config.rules.iter().flat_map(|rule| &rule.repositories);
        let wanted = patterns.flat_map(RepositoryPattern::claims).map(str::to_owned).collect();
        let issuers = Issuers::new(config.issuers, wanted, &config.proxies)?;
        let mode = config.mode.or(match (config.rules.is_empty(), has_users) {
            (true, false) => Some(Mode::Open),
            // who names users wants to know who comes
            (true, true) => Some(Mode::Private),
            (false, _) => None,
        });
        let mut rules = config.rules;
        let is_open = rules.is_empty() && mode == Some(Mode::Open);
        rules.extend(mode.into_iter().flat_map(Mode::rules));
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Ok(Access {
            rules: Rules { rules, groups: config.groups },
            htpasswd: Arc::new(htpasswd),
            tokens: config.tokens,
            immutable_tags: config.immutable_tags,
            url: config.url,
            token_endpoint: config.token_endpoint && (secrets || !issuers.is_empty()),
            issuers,
            certificates: config.certificates,
            has_users,
            is_open,
            seen: Seen::new().ok_or(AccessError::Random)?,
            hashing: Arc::new(Semaphore::new((threads / 2).max(1))),
            waiting: Arc::new(Semaphore::new(crate::limits::PASSWORDS_WAITING)),
        })
    }

    /// Decides about a caller by name, as [`Rules::decide`] does.
    pub fn decide(&self, caller: &Principal, action: Action, repository: &str) -> Decision<'_> {
        self.rules.decide(caller, action, repository)
    }

    /// Whether anyone who reaches the registry may change something.
    pub fn lets_anyone_write(&self) -> bool {
        let anonymous = Principal::anonymous();
        [Action::Push, Action::Overwrite, Action::Delete]
            .into_iter()
            .any(|action| self.rules.anywhere(&anonymous, action))
    }

    /// Whether anyone may do everything.
    pub fn is_open(&self) -> bool {
        self.is_open && !self.has_users
    }

    /// Whether anybody can log in.
    pub fn has_users(&self) -> bool {
        self.has_users
    }

    /// Whether people can log in, not jobs alone.
    pub(super) fn has_accounts(&self) -> bool {
        self.certificates || !self.tokens.is_empty() || self.htpasswd.names().next().is_some()
    }

    /// Whether there is somebody of this name, as far as can be known: certificates name whom they like.
    pub fn knows(&self, name: &str) -> bool {
        self.certificates || self.tokens.contains_key(name) || self.htpasswd.stamp(name).is_some()
    }

    /// The configured tokens that are over.
    pub fn expired_tokens(&self) -> impl Iterator<Item = &str> {
        let now = now_seconds();
        self.tokens.iter().filter(move |(_, token)| token.is_over(now)).map(|(name, _)| name.as_str())
    }

    /// Whether tokens are made.
    pub(super) fn makes_tokens(&self) -> bool {
        self.token_endpoint
    }

    /// Whether a tag never changes once it is there.
    pub fn is_immutable(&self, repository: &str, tag: &str) -> bool {
        self.immutable_tags.iter().any(|pattern| pattern.matches(repository, tag))
    }

    /// How many passwords were hashed.
    #[cfg(test)]
    pub(super) fn hashed(&self) -> u64 {
        self.htpasswd.computed()
    }

    /// Somebody who would be a job of an issuer with these claims; else what they lack.
    pub fn supposed_job(&self, issuer: &str, claims: &IdentityClaims) -> Result<Principal, String> {
        if !self.issuers.has(issuer) {
            return Err(format!("there is no issuer `{issuer}`"));
        }
        let job = Some(Arc::new(self.issuers.supposed(issuer, claims)?));
        Ok(Principal { name: Some(format!("{issuer}:")), job })
    }

    /// The number of rules, users, tokens, groups and issuers.
    pub fn counts(&self) -> [(&'static str, usize); 5] {
        [
            ("rules", self.rules.rules.len()),
            ("users", self.htpasswd.names().count()),
            ("tokens", self.tokens.len()),
            ("groups", self.rules.groups.len()),
            ("issuers", self.issuers.count()),
        ]
    }

    /// What a token of this registry says of `principal`: for `purpose` and so many seconds from `now`, by the name `id`.
    pub(super) fn claims(
        &self,
        principal: &Principal,
        purpose: Use,
        id: String,
        now: i64,
        life: i64,
    ) -> Claims {
        Claims {
            iss: self.service().to_owned(),
            sub: principal.name.clone().unwrap_or_default(),
            aud: self.service().to_owned(),
            exp: now + life,
            nbf: now,
            iat: now,
            jti: id,
            purpose,
            stamp: self.stamp(principal),
            job: principal.job.as_deref().cloned(),
            access: Vec::new(),
        }
    }

    /// What a token stands on: it holds as long as the password and the configured token of its user, or the issuers of its
    /// job, are the same.
    pub(super) fn stamp(&self, principal: &Principal) -> Option<String> {
        let text = match (&principal.job, &principal.name) {
            (Some(job), _) => self.issuers.stamp(job),
            (None, Some(name)) => self.stamp_of(name),
            (None, None) => None,
        }?;
        let digest = ring::digest::digest(&ring::digest::SHA256, format!("slipway stamp {text}").as_bytes());
        use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
        Some(URL_SAFE_NO_PAD.encode(&digest.as_ref()[..12]))
    }

    fn stamp_of(&self, name: &str) -> Option<String> {
        let password = self.htpasswd.stamp(name).map(str::to_owned);
        // a token that is over is none, and what was made with it ends too
        let token = self.tokens.get(name).filter(|token| !token.is_over(now_seconds()));
        let token = token.map(SecretHash::to_string);
        // of who has both, either may have been shown: a change of either ends what was made with it
        [password, token].into_iter().flatten().reduce(|password, token| password + " " + &token)
    }
}

/// Whether every group and issuer that rules name is there, once.
fn check_names(config: &AccessConfig) -> Result<(), AccessError> {
    let issued = |name: &String| config.issuers.iter().any(|issuer| issuer.name == *name);
    for (at, issuer) in config.issuers.iter().enumerate() {
        if config.issuers[..at].iter().any(|other| other.name == issuer.name) {
            return Err(AccessError::IssuerTwice(issuer.name.clone()));
        }
    }
    for rule in &config.rules {
        for who in &rule.who {
            let place = || rule.place.clone();
            match who {
                Who::Group(group) if !config.groups.contains_key(group) => {
                    return Err(AccessError::Group { place: place(), group: group.clone() });
                }
                Who::Issuer(issuer) if !issued(issuer) => {
                    return Err(AccessError::Unissued { place: place(), issuer: issuer.clone() });
                }
                _ => {}
            }
        }
    }
    Ok(())
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.counts()).finish()
    }
}
