//! Somebody at the door, and what they may do.

use super::{Access, Action, Demand, Origin, Principal, scope::Scope};
use crate::server::error::ApiError;
use std::sync::Arc;

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::server) struct Caller {
    pub(in crate::server) principal: Principal,
    /// What the token that was shown is for; `None` for who showed none.
    pub(in crate::server) scopes: Option<Vec<Scope>>,
}

impl Caller {
    pub(in crate::server) fn new(principal: Principal) -> Arc<Caller> {
        Arc::new(Caller { principal, scopes: None })
    }
}

/// A caller before the rules of one moment: a request is judged by one configuration from its beginning to its end.
#[derive(Clone)]
pub(in crate::server) struct Visitor {
    access: Arc<Access>,
    caller: Arc<Caller>,
    origin: Origin,
}

impl Visitor {
    pub(in crate::server) fn new(access: Arc<Access>, caller: Arc<Caller>, origin: Origin) -> Visitor {
        Visitor { access, caller, origin }
    }

    /// Whether the caller may do it, of the repository's state apart.
    pub(in crate::server) fn may(&self, action: Action, repository: &str) -> bool {
        if self.access.is_open {
            return true;
        }
        self.judged(action, repository) == (true, true)
    }

    /// Whether the caller sees the repository in the catalog.
    pub(in crate::server) fn sees(&self, repository: &str) -> bool {
        self.access.is_open || self.access.decide(&self.caller.principal, Action::Catalog, repository).allowed
    }

    /// Whether the caller sees everything, so that nothing has to be left out.
    pub(in crate::server) fn sees_all(&self) -> bool {
        self.access.is_open
    }

    /// Whether a tag never changes once it is there.
    pub(in crate::server) fn is_immutable(&self, repository: &str, tag: &str) -> bool {
        self.access.is_immutable(repository, tag)
    }

    /// Whether the caller is a job of a CI system.
    pub(in crate::server) fn is_job(&self) -> bool {
        self.caller.principal.job.is_some()
    }

    /// The caller's name.
    pub(in crate::server) fn name(&self) -> &Option<String> {
        &self.caller.principal.name
    }

    /// Where the caller comes from, as that is counted.
    pub(in crate::server) fn address(&self) -> Option<std::net::IpAddr> {
        self.origin.address
    }

    /// Where it reaches the registry.
    pub(in crate::server) fn home(&self) -> Option<String> {
        self.access.home(&self.origin)
    }

    /// The rules by which it is judged.
    pub(in crate::server) fn access(&self) -> &Arc<Access> {
        &self.access
    }

    /// Refuses what is not allowed.
    pub(in crate::server) fn demand(&self, demand: &Demand<'_>) -> Result<(), ApiError> {
        if self.access.is_open && !self.access.has_users {
            return Ok(());
        }
        let caller = &self.caller.principal;
        let (allowed, scoped) = match demand {
            Demand::Nothing => (true, true),
            Demand::Entry => {
                // docker takes an answer without a challenge for a login that worked, whatever the password; so who
                // shows nothing is let in only where nobody could
                let shown =
                    self.caller.scopes.is_some() && self.access.rules.anywhere(caller, Action::Catalog);
                (caller.name.is_some() || shown || !self.access.has_users, true)
            }
            Demand::Catalog => {
                let scoped =
                    self.caller.scopes.as_ref().is_none_or(|all| all.iter().any(Scope::covers_catalog));
                (self.access.rules.anywhere(caller, Action::Catalog), scoped)
            }
            Demand::In(name, action) => self.judged(*action, name),
            // a token that could have more is asked for again, as by distribution; what may not be read at all is not
            // there, which the endpoint finds
            Demand::Mount(name, from) => {
                let (allowed, scoped) = self.judged(Action::Push, name);
                (allowed, scoped && self.judged(Action::Pull, from) != (true, false))
            }
        };
        match (allowed, caller.name.is_some()) {
            (true, _) if scoped => Ok(()),
            (true, _) => Err(self.unauthorized(demand, Some("insufficient_scope"))),
            (false, false) if self.access.has_users => Err(self.unauthorized(demand, None)),
            // RFC 6750, section 3.1; docker sees it on HEAD, where there is no body, and does not try for a minute
            (false, _) => Err(ApiError::Denied {
                wanted: demand.wanted(),
                challenge: self
                    .caller
                    .scopes
                    .is_some()
                    .then(|| self.access.challenge(&self.origin, demand, Some("insufficient_scope"))),
            }),
        }
    }

    /// Whether the rules allow it, and whether the caller's token covers it.
    fn judged(&self, action: Action, repository: &str) -> (bool, bool) {
        let scopes = self.caller.scopes.as_ref();
        let scoped = scopes.is_none_or(|all| all.iter().any(|scope| scope.covers(action, repository)));
        (self.access.decide(&self.caller.principal, action, repository).allowed, scoped)
    }

    fn unauthorized(&self, demand: &Demand<'_>, error: Option<&str>) -> ApiError {
        ApiError::Unauthorized {
            challenge: self.access.challenge(&self.origin, demand, error),
            wrong: false,
            wanted: demand.wanted(),
        }
    }
}
