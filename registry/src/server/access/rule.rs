//! Rules: who may do what where. Read in order; the first that speaks of the caller, the repository and the action decides, and
//! what none speaks of is refused.

use super::{
    oidc::Job,
    pattern::{PatternError, RepositoryPattern},
};
use std::{collections::BTreeMap, fmt, str::FromStr, sync::Arc};

/// What may be done to a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Reads. Carries [`Action::Catalog`].
    Pull,
    /// Adds content and new tags.
    Push,
    /// Points tags that exist at something else.
    Overwrite,
    /// Takes content and tags away.
    Delete,
    /// Sees the repository in the catalog.
    Catalog,
}

impl Action {
    /// All of them.
    pub const ALL: [Action; 5] =
        [Action::Pull, Action::Push, Action::Overwrite, Action::Delete, Action::Catalog];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Action::Pull => "pull",
            Action::Push => "push",
            Action::Overwrite => "overwrite",
            Action::Delete => "delete",
            Action::Catalog => "catalog",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Action {
    type Err = String;

    fn from_str(text: &str) -> Result<Action, String> {
        Action::ALL.into_iter().find(|action| action.name() == text).ok_or_else(|| {
            format!("`{text}` is no action: there are pull, push, overwrite, delete and catalog")
        })
    }
}

/// A set of actions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Actions(u8);

impl Actions {
    /// Every action.
    pub fn all() -> Actions {
        Action::ALL.into_iter().collect()
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether `action` is among them.
    pub fn has(self, action: Action) -> bool {
        self.0 & 1 << action as u8 != 0
    }

    /// Whether they speak of `action`: who speaks of pulling speaks of being seen.
    fn cover(self, action: Action) -> bool {
        self.has(action) || action == Action::Catalog && self.has(Action::Pull)
    }
}

impl FromIterator<Action> for Actions {
    fn from_iter<I: IntoIterator<Item = Action>>(actions: I) -> Actions {
        Actions(actions.into_iter().fold(0, |bits, action| bits | 1 << action as u8))
    }
}

impl fmt::Display for Actions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Actions::all() {
            return f.write_str("all");
        }
        let names: Vec<&str> =
            Action::ALL.into_iter().filter(|action| self.has(*action)).map(Action::name).collect();
        f.write_str(&names.join(", "))
    }
}

/// Whom a rule speaks of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// Everybody, logged in or not.
    Anyone,
    /// Everybody who is logged in with a name of their own; jobs are not.
    Users,
    /// One, by name.
    Name(String),
    /// The members of a group.
    Group(String),
    /// The jobs that an issuer of identity tokens vouches for.
    Issuer(String),
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Who::Anyone => f.write_str("anyone"),
            Who::Users => f.write_str("users"),
            Who::Name(name) if matches!(name.as_str(), "anyone" | "users") => write!(f, "user:{name}"),
            Who::Name(name) => f.write_str(name),
            Who::Group(group) => write!(f, "@{group}"),
            Who::Issuer(issuer) => write!(f, "issuer:{issuer}"),
        }
    }
}

impl FromStr for Who {
    type Err = String;

    fn from_str(text: &str) -> Result<Who, String> {
        let name = |text: &str| {
            let error = || {
                format!("`{text}` is no name of a user: it is `anyone`, `users`, NAME, @GROUP or issuer:NAME")
            };
            if is_name(text) { Ok(text.to_owned()) } else { Err(error()) }
        };
        match text {
            "anyone" => Ok(Who::Anyone),
            "users" => Ok(Who::Users),
            _ => match (text.strip_prefix('@'), text.strip_prefix("user:")) {
                (Some(group), _) => Ok(Who::Group(name(group)?)),
                (_, Some(own)) => Ok(Who::Name(name(own)?)),
                _ => match text.strip_prefix("issuer:") {
                    Some(issuer) => Ok(Who::Issuer(name(issuer)?)),
                    None => Ok(Who::Name(name(text)?)),
                },
            },
        }
    }
}

/// Longest name of a user, in bytes.
const NAME_BYTES: usize = 255;

/// Whether a text can name a user, a group or a token: visible ASCII without what separates names elsewhere (RFC 7617 has no
/// colon in a user's name; a log has no other line in it).
pub fn is_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b':' | b',' | b';' | b'"' | b'\'');
    (1..=NAME_BYTES).contains(&text.len()) && text.bytes().all(allowed) && !text.starts_with('@')
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Where it stands, for [`Rules::decide`]'s answer.
    pub place: String,
    /// Where it holds.
    pub repositories: Vec<RepositoryPattern>,
    /// For whom.
    pub who: Vec<Who>,
    /// What it allows.
    pub allow: Actions,
    /// What it refuses.
    pub deny: Actions,
}

/// `WHO may [not] ACTIONS in REPOSITORIES`, each a list with commas: `@ops, ann may push, overwrite in team/**`; `all` for every
/// action.
impl FromStr for Rule {
    type Err = String;

    fn from_str(text: &str) -> Result<Rule, String> {
        let form = || "a rule is `WHO may [not] ACTIONS in REPOSITORIES`, for example `users may pull, push in team/**`";
        let (who, rest) = text.split_once(" may ").ok_or_else(form)?;
        let (actions, repositories) = rest.split_once(" in ").ok_or_else(form)?;
        let actions = actions.trim();
        let (denies, actions) = match actions.strip_prefix("not ") {
            Some(rest) => (true, rest),
            None => (false, actions),
        };
        let actions = match actions.trim() {
            "all" => Actions::all(),
            list => items(list).map(str::parse::<Action>).collect::<Result<Actions, _>>()?,
        };
        let nothing = Actions::default();
        let pattern = |text: &str| {
            let wrong = |error: PatternError| format!("`{text}` is no pattern of repositories: {error}");
            text.parse::<RepositoryPattern>().map_err(wrong)
        };
        Ok(Rule {
            place: String::new(),
            who: items(who).map(str::parse::<Who>).collect::<Result<_, _>>()?,
            allow: if denies { nothing } else { actions },
            deny: if denies { actions } else { nothing },
            repositories: items(repositories).map(pattern).collect::<Result<_, _>>()?,
        })
    }
}

fn items(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim)
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |words: Vec<String>| words.join(", ");
        let who = list(self.who.iter().map(Who::to_string).collect());
        let parts = [("may", self.allow), ("may not", self.deny)];
        let parts = parts.iter().filter(|(_, actions)| !actions.is_empty());
        let parts: Vec<String> = parts.map(|(may, actions)| format!("{may} {actions}")).collect();
        let repositories = list(self.repositories.iter().map(RepositoryPattern::to_string).collect());
        write!(f, "{who} {} in {repositories}", parts.join(", "))
    }
}

/// Who asks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Principal {
    /// The name; `None` for who is not logged in. A job's is its issuer's with its subject, `github:repo:acme/app:...`: no
    /// user's has a colon.
    pub name: Option<String>,
    /// Of a job.
    pub job: Option<Arc<Job>>,
}

impl Principal {
    /// Who is not logged in.
    pub fn anonymous() -> Principal {
        Principal::default()
    }

    /// Who is logged in under this name.
    pub fn named(name: &str) -> Principal {
        Principal { name: Some(name.to_owned()), job: None }
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name.as_deref().unwrap_or("who is not logged in"))
    }
}

/// What is decided, and by which rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision<'a> {
    /// Whether it is allowed.
    pub allowed: bool,
    /// The rule; `None` where none speaks of it.
    pub rule: Option<&'a Rule>,
}

/// All rules, and the groups that they name.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// In the order in which they are read.
    pub rules: Vec<Rule>,
    /// Members by group.
    pub groups: BTreeMap<String, Vec<String>>,
}

impl Rules {
    /// Decides.
    pub fn decide(&self, caller: &Principal, action: Action, repository: &str) -> Decision<'_> {
        let speaks = |rule: &&Rule| {
            (rule.allow.cover(action) || rule.deny.cover(action))
                && self.is_meant(rule, caller)
                && rule.repositories.iter().any(|one| one.matches(repository, caller))
        };
        let rule = self.rules.iter().find(speaks);
        // what a rule both allows and refuses it refuses; what it names itself counts more than what that carries
        let allows = |rule: &Rule| match (rule.allow.has(action), rule.deny.has(action)) {
            (_, true) => false,
            (true, _) => true,
            (false, false) => rule.allow.cover(action) && !rule.deny.cover(action),
        };
        Decision { allowed: rule.is_some_and(allows), rule }
    }

    /// Whether there is any repository in which `caller` may do it.
    pub fn anywhere(&self, caller: &Principal, action: Action) -> bool {
        self.rules.iter().any(|rule| rule.allow.cover(action) && self.is_meant(rule, caller))
    }

    fn is_meant(&self, rule: &Rule, caller: &Principal) -> bool {
        let name = caller.name.as_deref();
        rule.who.iter().any(|who| match who {
            Who::Anyone => true,
            Who::Users => name.is_some() && caller.job.is_none(),
            Who::Name(own) => name == Some(own),
            Who::Issuer(own) => caller.job.as_ref().is_some_and(|job| job.issuers.contains(own)),
            Who::Group(group) => {
                let members = self.groups.get(group);
                members.is_some_and(|members| members.iter().any(|member| Some(member.as_str()) == name))
            }
        })
    }
}

/// The usual cases, as rules that come after the caller's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Anyone may do everything.
    Open,
    /// Anyone may pull, users may do everything.
    Public,
    /// Users may do everything, nobody else anything.
    Private,
}

impl Mode {
    /// All of them.
    pub const ALL: [Mode; 3] = [Mode::Open, Mode::Public, Mode::Private];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Open => "open",
            Mode::Public => "public",
            Mode::Private => "private",
        }
    }

    /// What it means.
    pub fn rules(self) -> Vec<Rule> {
        let rule = |who, allow| Rule {
            place: format!("access = \"{}\"", self.name()),
            repositories: vec!["**".parse().expect("a pattern")],
            who: vec![who],
            allow,
            deny: Actions::default(),
        };
        match self {
            Mode::Open => vec![rule(Who::Anyone, Actions::all())],
            Mode::Public => {
                vec![
                    rule(Who::Users, Actions::all()),
                    rule(Who::Anyone, [Action::Pull].into_iter().collect()),
                ]
            }
            Mode::Private => vec![rule(Who::Users, Actions::all())],
        }
    }
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Mode, String> {
        Mode::ALL
            .into_iter()
            .find(|mode| mode.name() == text)
            .ok_or_else(|| format!("`{text}` is none of `open`, `public` and `private`"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(text: &str) -> Rule {
        let words: Vec<&str> = text.split(' ').collect();
        let [repositories, who, allow, deny] = words.as_slice() else { panic!("four words: {text}") };
        let actions = |text: &str| {
            text.split(',').filter(|one| *one != "-").map(|one| one.parse().expect("an action")).collect()
        };
        Rule {
            place: text.to_owned(),
            repositories: repositories.split(',').map(|one| one.parse().expect("a pattern")).collect(),
            who: who.split(',').map(|one| one.parse().expect("somebody")).collect(),
            allow: actions(allow),
            deny: actions(deny),
        }
    }

    #[test]
    fn the_first_rule_that_speaks_of_it_decides() {
        let rules = Rules {
            rules: vec![
                rule("secret/** @ops pull -"),
                rule("secret/** anyone - pull,push,catalog"),
                rule("home/${user}/** users pull,push,overwrite,delete -"),
                rule("** ann push -"),
                rule("hidden/** anyone - catalog"),
                rule("shown/** anyone catalog -"),
                rule("** users pull -"),
                rule("public/** anyone pull -"),
            ],
            groups: BTreeMap::from([("ops".to_owned(), vec!["olga".to_owned()])]),
        };
        use Action::*;
        for (who, action, repository, allowed, place) in [
            ("olga", Pull, "secret/a", true, Some(0)),
            ("olga", Catalog, "secret/a", true, Some(0)),
            ("olga", Push, "secret/a", false, Some(1)),
            ("ann", Pull, "secret/a", false, Some(1)),
            ("ann", Push, "secret/a", false, Some(1)),
            ("ann", Overwrite, "secret/a", false, None),
            ("ann", Push, "x", true, Some(3)),
            ("ann", Overwrite, "x", false, None),
            ("ann", Delete, "home/ann/x", true, Some(2)),
            ("bob", Delete, "home/ann/x", false, None),
            ("bob", Pull, "home/ann/x", true, Some(6)),
            ("", Pull, "home/ann/x", false, None),
            ("", Pull, "public/x", true, Some(7)),
            ("", Catalog, "public/x", true, Some(7)),
            ("bob", Pull, "hidden/x", true, Some(6)),
            ("bob", Catalog, "hidden/x", false, Some(4)),
            ("", Catalog, "shown/x", true, Some(5)),
            ("", Pull, "shown/x", false, None),
        ] {
            let name = Some(who.to_owned()).filter(|name| !name.is_empty());
            let caller = Principal { name, job: None };
            let decision = rules.decide(&caller, action, repository);
            let expected = place.map(|place: usize| &rules.rules[place]);
            assert_eq!((decision.allowed, decision.rule), (allowed, expected), "{who} {action} {repository}");
        }
        let anywhere = |name: &str, action| rules.anywhere(&Principal::named(name), action);
        assert!(anywhere("olga", Pull) && anywhere("bob", Push) && anywhere("bob", Catalog));
        assert!(!rules.anywhere(&Principal::anonymous(), Push));
    }

    #[test]
    fn modes_are_rules() {
        use Action::*;
        for (mode, anonymous, user) in [
            (Mode::Open, vec![Pull, Push, Overwrite, Delete, Catalog], Action::ALL.to_vec()),
            (Mode::Public, vec![Pull, Catalog], Action::ALL.to_vec()),
            (Mode::Private, vec![], Action::ALL.to_vec()),
        ] {
            let rules = Rules { rules: mode.rules(), groups: BTreeMap::new() };
            for (caller, expected) in [(Principal::anonymous(), anonymous), (Principal::named("ann"), user)] {
                let allowed: Vec<Action> = Action::ALL
                    .into_iter()
                    .filter(|action| rules.decide(&caller, *action, "a/b").allowed)
                    .collect();
                assert_eq!(allowed, expected, "{mode:?} {caller}");
            }
        }
    }

    #[test]
    fn rules_are_sentences() {
        for text in [
            "users may pull, push in team/**",
            "anyone may not pull, catalog in secret/**, hidden/*",
            "@ops, ann, user:users may all in **",
            "users may pull in u/${user}/**",
        ] {
            assert_eq!(text.parse::<Rule>().expect(text).to_string(), text);
        }
        let loose = "  ann ,@ops may   not delete,push  in  a , b/* ";
        assert_eq!(
            loose.parse::<Rule>().expect(loose).to_string(),
            "ann, @ops may not push, delete in a, b/*"
        );
        for (text, word) in [
            ("", "WHO may"),
            ("ann", "WHO may"),
            ("ann may pull", "WHO may"),
            ("ann pull in a", "WHO may"),
            (" may pull in a", "no name"),
            ("ann, may pull in a", "no name"),
            ("a b may pull in a", "no name"),
            ("ann may in a", "WHO may"),
            ("ann may fetch in a", "`fetch` is no action"),
            ("ann may pull, in a", "`` is no action"),
            ("ann may not in a", "`not` is no action"),
            ("ann may pull in A", "no pattern"),
            ("ann may pull in a,", "no pattern"),
            ("ann may pull in a[bc]", "no pattern"),
        ] {
            let error = text.parse::<Rule>().expect_err(text);
            assert!(error.contains(word), "{text}: {error}");
        }
    }

    #[test]
    fn names_are_visible_and_in_one_piece() {
        for text in ["ann", "a.b@c", "ci-1", "$x", "*", "a/b"] {
            assert!(is_name(text), "{text}");
        }
        let long = "a".repeat(256);
        for text in ["", "a b", "a\nb", "a:b", "ä", "a\u{1b}[1m", "a,b", "a;b", "@a", "\"", &long] {
            assert!(!is_name(text), "{text:?}");
            assert!(text.parse::<Who>().is_err() || text == "@a", "{text:?}");
        }
        for text in ["anyone", "users", "user:users", "ann", "@ops", "issuer:github"] {
            assert_eq!(text.parse::<Who>().expect(text).to_string(), text);
        }
    }
}
