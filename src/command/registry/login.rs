//! `slipway login`.

use crate::{app::Global, credentials, error::Failure, registries::Registries, service::password, show};
use slipway_registry::client::{Client, ClientError, Credential, DevicePrompt, Kept, keep_credential};
use std::{io::IsTerminal, sync::Arc};

/// Log in to a registry.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The user
    #[arg(short, long, value_name = "USER")]
    username: Option<String>,
    /// The password; others on this machine can see it in the list of processes
    #[arg(short, long, value_name = "PASSWORD")]
    password: Option<String>,
    /// Take the password from standard input
    #[arg(long)]
    password_stdin: bool,
    /// Log in by a code that you type in a browser, where the registry offers that
    #[arg(long, conflicts_with_all = ["username", "password", "password_stdin"])]
    device: bool,
    /// The registry [default: Docker Hub]
    #[arg(value_name = "REGISTRY")]
    registry: Option<String>,
}

/// Carries the command out. A credential is kept only after it opened the registry.
pub(crate) fn run(global: &Global, arguments: &Arguments) -> Result<u8, Failure> {
    let host = credentials::host(arguments.registry.as_deref())?;
    if arguments.device {
        return device(global, &host);
    }
    let flags = given(arguments)?;
    if let (None, None) = (&arguments.username, &flags)
        && let Some(known) = known(global, &host)?
    {
        show::note("Authenticating with existing credentials...");
        match open(global, &host, &known)? {
            Ok(_) => {
                show::say("Login Succeeded")?;
                return Ok(0);
            }
            // a terminal can be asked for better ones
            Err(ClientError::LoginRefused { .. }) if std::io::stdin().is_terminal() => {
                show::note("Login did not succeed, error: the credentials that are kept are refused");
            }
            Err(error) => return Err(Failure::of(&error)),
        }
    }
    let credential = ask(arguments, flags)?;
    let better = open(global, &host, &credential)?.map_err(|error| Failure::of(&error))?;
    keep(global, &host, &better.unwrap_or(credential))
}

/// Logs in by a code that is typed elsewhere.
fn device(global: &Global, host: &str) -> Result<u8, Failure> {
    let config = Registries::read(global)?.client_config(global).map_err(Failure::new)?;
    let client = Client::new(config).map_err(|error| Failure::of(&error))?;
    let prompt = |shown: &DevicePrompt| {
        let page = shown.page_with_code.as_ref().unwrap_or(&shown.page);
        let minutes = shown.life.as_secs() / 60;
        show::note(format_args!(
            "Open {page} in a browser, and see that it asks for the code {}.\nWaiting for up to {minutes} minutes...",
            shown.code
        ));
    };
    let credential = client.device_log_in(host, &prompt).map_err(|error| Failure::of(&error))?;
    // what is kept has to open it
    let better = open(global, host, &credential)?.map_err(|error| Failure::of(&error))?;
    keep(global, host, &better.unwrap_or(credential))
}

/// Keeps what opened a registry.
fn keep(global: &Global, host: &str, credential: &Credential) -> Result<u8, Failure> {
    let path = credentials::place(global)?;
    let kept = keep_credential(&path, host, credential).map_err(|error| Failure::of(&error))?;
    if let Kept::File(path) = kept {
        show::note(format_args!(
            "WARNING! Your credentials are stored unencrypted in '{}'.\nConfigure a credential helper to remove this warning.",
            path.display()
        ));
    }
    show::say("Login Succeeded")?;
    Ok(0)
}

/// The password that the line or standard input gives.
fn given(arguments: &Arguments) -> Result<Option<String>, Failure> {
    match (&arguments.password, arguments.password_stdin) {
        (Some(_), true) => Err(Failure::usage("--password and --password-stdin are mutually exclusive")),
        (None, true) if arguments.username.is_none() => {
            Err(Failure::usage("Must provide --username with --password-stdin"))
        }
        (None, true) => {
            let password = password::from_stdin()?;
            if password.is_empty() { Err(Failure::new("password is empty")) } else { Ok(Some(password)) }
        }
        (Some(password), false) => {
            show::note("WARNING! Using --password via the CLI is insecure. Use --password-stdin.");
            Ok(Some(password.clone()))
        }
        (None, false) => Ok(None),
    }
}

/// What the line lacks is asked for at the terminal.
fn ask(arguments: &Arguments, password: Option<String>) -> Result<Credential, Failure> {
    if (password.is_none() || arguments.username.is_none()) && !std::io::stdin().is_terminal() {
        return Err(Failure::new("Cannot perform an interactive login from a non TTY device")
            .with_hint("`--username` and `--password-stdin` need no terminal"));
    }
    let username = match &arguments.username {
        Some(username) => username.clone(),
        None => password::ask_shown("Username: ")?,
    };
    if username.is_empty() || username.contains(':') {
        return Err(Failure::new("username is empty or has a `:`, which separates it from the password"));
    }
    let password = match password {
        Some(password) => password,
        None => password::ask("Password: ")?,
    };
    if password.is_empty() {
        return Err(Failure::new("password is empty"));
    }
    Ok(Credential::Basic { username, password })
}

fn known(global: &Global, host: &str) -> Result<Option<Credential>, Failure> {
    let read = credentials::read(global).map_err(Failure::new)?;
    read(host, "").map_err(|error| Failure::of(&error))
}

/// Whether a credential opens a registry.
fn open(
    global: &Global,
    host: &str,
    credential: &Credential,
) -> Result<Result<Option<Credential>, ClientError>, Failure> {
    let (own, credential) = (host.to_owned(), credential.clone());
    let mut config = Registries::read(global)?.client_config(global).map_err(Failure::new)?;
    config.credentials = Some(Arc::new(move |host, _| Ok((host == own).then(|| credential.clone()))));
    let client = Client::new(config).map_err(|error| Failure::of(&error))?;
    Ok(client.log_in(host))
}
