//! `slipway registry explain`.

use crate::{
    error::Failure,
    settings::{self, Settings},
    show,
};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use slipway_oci::reference::is_repository_name;
use slipway_registry::server::{
    access::{Action, IdentityClaims, Principal, is_name},
    bounds,
    storage::{Bound, Measure, written},
};
use std::path::PathBuf;

/// Show whether a user may do something, and which rule says so.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The configuration [default: slipway.toml]
    #[arg(long, value_name = "FILE", env = settings::VARIABLE)]
    config: Option<PathBuf>,
    /// A claim of the job's identity token
    #[arg(long = "claim", value_name = "NAME=VALUE", value_parser = claim)]
    claims: Vec<(String, String)>,
    /// The user; `anyone` for who is not logged in, `issuer:NAME` for a job of an issuer
    #[arg(value_name = "USER", value_parser = user)]
    user: User,
    /// What they want to do
    #[arg(value_name = "ACTION", value_parser = actions())]
    action: Action,
    /// The repository
    #[arg(value_name = "REPOSITORY", value_parser = repository)]
    repository: String,
}

fn actions() -> impl TypedValueParser<Value = Action> {
    PossibleValuesParser::new(Action::ALL.map(Action::name)).try_map(|text| text.parse::<Action>())
}

/// Whom it is about.
#[derive(Clone)]
enum User {
    Principal(Principal),
    Job(String),
}

fn user(text: &str) -> Result<User, String> {
    match (text, text.strip_prefix("issuer:")) {
        ("anyone", _) => Ok(User::Principal(Principal::anonymous())),
        (_, Some(issuer)) if is_name(issuer) => Ok(User::Job(issuer.to_owned())),
        _ if is_name(text) => Ok(User::Principal(Principal::named(text))),
        _ => Err("it is no name of a user".to_owned()),
    }
}

fn claim(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("it is NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

fn repository(text: &str) -> Result<String, String> {
    if is_repository_name(text) {
        Ok(text.to_owned())
    } else {
        Err("it is no name of a repository".to_owned())
    }
}

/// What a quota leaves of the right to push.
fn in_words(bound: &Bound) -> String {
    let amount = |(measure, most): (Measure, u64)| match measure {
        Measure::Bytes => written(most, most),
        Measure::Tags => format!("{most} tag{}", if most == 1 { "" } else { "s" }),
    };
    let amounts: Vec<String> = bound.measures().map(amount).collect();
    format!("the quota of {} is {}", bound.scope, amounts.join(", "))
}

/// Carries the command out. Status 1 says that it is not allowed.
pub(crate) fn run(arguments: &Arguments) -> Result<u8, Failure> {
    let path = settings::named(arguments.config.as_deref()).unwrap_or_else(|| PathBuf::from("slipway.toml"));
    let settings = Settings::default().with_file(Some(&path))?;
    let access = settings.access()?;
    let Arguments { user, action, repository, .. } = arguments;
    let (user, who) = match user {
        User::Principal(user) if !arguments.claims.is_empty() => {
            return Err(Failure::usage(format!("--claim is of jobs, `issuer:NAME`, and {user} is none")));
        }
        User::Principal(user) => (user.clone(), user.to_string()),
        User::Job(issuer) => {
            let mut claims = IdentityClaims::default();
            arguments.claims.iter().for_each(|(name, value)| claims.say(name, value));
            match access.supposed_job(issuer, &claims) {
                Ok(job) => (job, format!("a job of issuer {issuer}")),
                Err(why) => {
                    show::say(format!("a job with these claims is let in by no token\n  {why}"))?;
                    return Ok(1);
                }
            }
        }
    };
    let decision = access.decide(&user, *action, repository);
    let may = if decision.allowed { "may" } else { "may not" };
    let why = match decision.rule {
        Some(rule) => format!("{}: {rule}", rule.place),
        None => "no rule speaks of it".to_owned(),
    };
    show::say(format!("{who} {may} {action} in {repository}\n  {why}"))?;
    if decision.allowed && matches!(action, Action::Push | Action::Overwrite) {
        for bound in bounds(&settings.quotas, repository) {
            show::say(format!("  {}", in_words(&bound)))?;
        }
    }
    let name = user.name.as_deref().filter(|_| user.job.is_none());
    if let Some(name) = name.filter(|name| !access.knows(name)) {
        show::note(format_args!(
            "warning: there is no user `{name}`: neither the htpasswd file nor `tokens` has one"
        ));
    }
    Ok(u8::from(!decision.allowed))
}
