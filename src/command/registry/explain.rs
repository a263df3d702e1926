//! `slipway registry explain`.

use crate::{
    error::Failure,
    settings::{self, Settings},
    show,
};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use slipway_oci::reference::is_repository_name;
use slipway_registry::server::access::{Action, Principal, is_name};
use std::path::PathBuf;

/// Show whether a user may do something, and which rule says so.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The configuration [default: slipway.toml]
    #[arg(long, value_name = "FILE", env = settings::VARIABLE)]
    config: Option<PathBuf>,
    /// The user; `anyone` for who is not logged in
    #[arg(value_name = "USER", value_parser = user)]
    user: Principal,
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

fn user(text: &str) -> Result<Principal, String> {
    match text {
        "anyone" => Ok(Principal::anonymous()),
        _ if is_name(text) => Ok(Principal::named(text)),
        _ => Err("it is no name of a user".to_owned()),
    }
}

fn repository(text: &str) -> Result<String, String> {
    if is_repository_name(text) {
        Ok(text.to_owned())
    } else {
        Err("it is no name of a repository".to_owned())
    }
}

/// Carries the command out. Status 1 says that it is not allowed.
pub(crate) fn run(arguments: &Arguments) -> Result<u8, Failure> {
    let path = settings::named(arguments.config.as_deref()).unwrap_or_else(|| PathBuf::from("slipway.toml"));
    let access = Settings::default().with_file(Some(&path))?.access()?;
    let Arguments { user, action, repository, .. } = arguments;
    let decision = access.decide(user, *action, repository);
    let may = if decision.allowed { "may" } else { "may not" };
    let who = user.name.as_deref().unwrap_or("who is not logged in");
    let why = match decision.rule {
        Some(rule) => format!("{}: {rule}", rule.place),
        None => "no rule speaks of it".to_owned(),
    };
    show::say(format!("{who} {may} {action} in {repository}\n  {why}"))?;
    if let Some(name) = user.name.as_deref().filter(|name| !access.knows(name)) {
        show::note(format_args!(
            "warning: there is no user `{name}`: neither the htpasswd file nor `tokens` has one"
        ));
    }
    Ok(u8::from(!decision.allowed))
}
