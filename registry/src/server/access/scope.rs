//! What tokens are asked for and made for: `repository:NAME:pull,push` and `registry:catalog:*` (distribution's token
//! specification, "Requesting a Token" and "Token Scope Documentation").

use super::{Access, Action, Principal};
use serde::{Deserialize, Serialize};
use slipway_oci::reference::is_repository_name;

/// One entry of a token's `access`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::server) struct Scope {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) actions: Vec<String>,
}

/// The actions that tokens speak of; `overwrite` hangs on what is there and goes with `push`.
const ACTIONS: [Action; 3] = [Action::Pull, Action::Push, Action::Delete];

impl Scope {
    /// Reads what a client asks for; what is not understood is not asked for.
    pub(in crate::server) fn parse(text: &str) -> Option<Scope> {
        let (kind, rest) = text.split_once(':')?;
        let (name, actions) = rest.rsplit_once(':')?;
        // a class, `repository(plugin)`, says nothing about rights
        let kind = kind.split_once('(').map_or(kind, |(kind, _)| kind);
        let known = match kind {
            "repository" => is_repository_name(name),
            "registry" => name == "catalog",
            _ => false,
        };
        let actions = actions.split(',').map(str::to_owned).collect();
        known.then(|| Scope { kind: kind.to_owned(), name: name.to_owned(), actions })
    }

    /// The part of it that the rules allow; `None` for nothing.
    pub(in crate::server) fn granted(&self, access: &Access, caller: &Principal) -> Option<Scope> {
        let asked = |name: &str| self.actions.iter().any(|action| action == name || action == "*");
        let actions: Vec<String> = match self.kind.as_str() {
            "registry" => {
                let sees = asked("*") && access.rules.anywhere(caller, Action::Catalog);
                sees.then(|| "*".to_owned()).into_iter().collect()
            }
            _ => {
                let allowed = |action: &Action| access.decide(caller, *action, &self.name).allowed;
                let actions = ACTIONS.into_iter().filter(|action| asked(action.name())).filter(allowed);
                actions.map(|action| action.name().to_owned()).collect()
            }
        };
        (!actions.is_empty()).then(|| Scope { actions, ..self.clone() })
    }

    /// Whether it covers an action in a repository.
    pub(super) fn covers(&self, action: Action, repository: &str) -> bool {
        let name = if action == Action::Overwrite { Action::Push } else { action }.name();
        self.kind == "repository" && self.name == repository && self.actions.iter().any(|own| own == name)
    }

    /// Whether it covers the catalog.
    pub(super) fn covers_catalog(&self) -> bool {
        self.kind == "registry" && self.name == "catalog" && self.actions.iter().any(|own| own == "*")
    }
}

impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}:{}", self.kind, self.name, self.actions.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_in_every_form() {
        for (text, expected) in [
            ("repository:a/b:pull,push", Some("repository:a/b:pull,push")),
            ("repository:a:*", Some("repository:a:*")),
            ("repository(plugin):a:pull", Some("repository:a:pull")),
            ("registry:catalog:*", Some("registry:catalog:*")),
            ("repository:a:", Some("repository:a:")),
            ("registry:other:*", None),
            ("repository:h:5000/a:pull", None),
            ("repository:A:pull", None),
            ("repository:../a:pull", None),
            ("repository::pull", None),
            ("repository:a", None),
            ("repository", None),
            ("", None),
            ("user:a:pull", None),
        ] {
            assert_eq!(Scope::parse(text).map(|scope| scope.to_string()).as_deref(), expected, "{text}");
        }
    }
}
