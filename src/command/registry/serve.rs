//! `slipway serve`.

use super::journal;
use crate::{
    error::Failure,
    request,
    settings::{self, Settings},
    signals,
};
use slipway_registry::client::Proxies;
use slipway_registry::server::{
    self, Control, Hooks, Mirrors, Place, ServerConfig, Shutdown, Tls, Traces, access::Access,
};
use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::PathBuf,
    sync::{Arc, mpsc},
    time::Duration,
};

/// Serve a registry.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// A file of settings, slipway.toml; a flag takes the place of its key
    #[arg(long, value_name = "FILE", env = settings::VARIABLE)]
    config: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
}

/// How often files are looked at; what changes them seldom waits for it.
const LOOK: Duration = Duration::from_secs(2);

/// Carries the command out.
pub(crate) fn run(global: &crate::app::Global, arguments: &Arguments) -> Result<u8, Failure> {
    let file = settings::named(arguments.config.as_deref());
    let settings = arguments.settings.clone().with_file(file.as_deref())?;
    let access = settings.access()?;
    let config = configured(global, &settings, Arc::clone(&access))?;
    let served = match &config.engines {
        Some(engines) => format!("`{}` and `{:?}`", engines.database, engines.bucket),
        None => format!("`{}`", config.storage.display()),
    };
    let shutdown = Shutdown::new();
    let stop = shutdown.clone();
    let (tell, told) = mpsc::channel();
    // where there is nothing to read again, it is the terminal's end
    let reads = file.is_some() || !settings.files().is_empty();
    signals::on(&signals::ENDING, move |signal| match signal {
        signals::HANGUP if reads => drop(tell.send(())),
        _ => stop.trigger(),
    })?;
    let source = Source { file, flags: arguments.settings.clone() };
    let ready = |places: &[Place], control: Control| {
        announce(places, &served, &access, settings.url.is_some());
        for place in control.outside_places() {
            crate::show::note(format_args!("showing numbers and health on {place}"));
        }
        if reads {
            std::thread::spawn(move || watch(&source, settings, &control, &told));
        }
    };
    server::serve(config, ready, &shutdown).map_err(|error| Failure::of(&error))?;
    Ok(0)
}

fn configured(
    global: &crate::app::Global,
    settings: &Settings,
    access: Arc<Access>,
) -> Result<ServerConfig, Failure> {
    let storage = match &settings.storage {
        Some(folder) => folder.clone(),
        None => crate::app::own_folder(global)?.join("registry"),
    };
    let mut config = ServerConfig::new(storage);
    let variable = |name: &str| std::env::var(name).ok();
    let mut listen = request::serve::passed(std::process::id(), &variable)
        .map_err(|error| Failure::new(format!("cannot take the sockets of LISTEN_FDS: {error}")))?;
    listen.extend(settings.listen.iter().cloned());
    if !listen.is_empty() {
        config.listen = listen;
    }
    config.engines = settings.engines(|| crate::registries::authorities(global).map_err(Failure::new))?;
    config.policy = settings.policy();
    config.drain = settings.drain.unwrap_or(config.drain);
    config.access = access;
    config.mirrors = settings.mirrors()?;
    config.tls = settings.tls()?;
    config.acme = settings.acme(|| crate::registries::authorities(global).map_err(Failure::new))?;
    config.metrics_listen = settings.metrics_listen.clone();
    config.hooks = Hooks {
        hooks: settings.webhooks.clone(),
        authorities: crate::registries::authorities(global).map_err(Failure::new)?,
        proxies: Proxies::from_environment(|name| std::env::var(name).ok()),
        ..Hooks::default()
    };
    config.traces = Traces {
        setting: settings.traces.clone(),
        authorities: crate::registries::authorities(global).map_err(Failure::new)?,
        proxies: Proxies::from_environment(|name| std::env::var(name).ok()),
    };
    config.observer = Some(journal::observer(settings)?);
    Ok(config)
}

fn announce(places: &[Place], served: &str, access: &Access, proxied: bool) {
    for place in places {
        crate::show::note(format_args!("serving {served} on {place}"));
        for words in warnings(place, access, proxied) {
            crate::show::note(format_args!("warning: {words}"));
        }
    }
}

/// What is dangerous about a place that others reach.
fn warnings(place: &Place, access: &Access, proxied: bool) -> Vec<String> {
    let (Place::Address(address) | Place::Secure(address)) = place else { return Vec::new() };
    if address.ip().is_loopback() {
        return Vec::new();
    }
    let mut all = Vec::new();
    if access.lets_anyone_write() {
        all.push(format!(
            "anyone who reaches {address} may write: `access` and `htpasswd` let users alone in"
        ));
    }
    if matches!(place, Place::Address(_)) && access.has_users() && !proxied {
        all.push(format!(
            "passwords travel to {address} as they are: `tls-cert` and `tls-key` protect them, or a proxy, which `url` names"
        ));
    }
    all
}

/// Where settings come from.
struct Source {
    file: Option<PathBuf>,
    flags: Settings,
}

/// What files look like from outside: another inode, time or size is another file.
type Looks = Vec<Option<(u64, u64, i64, i64, u64)>>;

/// What sources say at a time.
type Read = (Settings, Arc<Access>, Arc<Mirrors>, Option<Tls>);

impl Source {
    fn looks(&self, settings: &Settings) -> Looks {
        let looks = |path: &PathBuf| {
            let found = fs::metadata(path).ok()?;
            Some((found.dev(), found.ino(), found.mtime(), found.mtime_nsec(), found.size()))
        };
        self.file.iter().chain(&settings.files()).map(looks).collect()
    }

    fn read(&self) -> Result<Read, Failure> {
        let settings = self.flags.clone().with_file(self.file.as_deref())?;
        let (access, mirrors, tls) = (settings.access()?, settings.mirrors()?, settings.tls()?);
        settings.acme(|| Ok(None))?;
        Ok((settings, access, mirrors, tls))
    }
}

/// Takes settings over that change while the server runs. Those that cannot be used are said, and the former ones stay.
fn watch(source: &Source, mut settings: Settings, control: &Control, told: &mpsc::Receiver<()>) {
    let mut looks = source.looks(&settings);
    loop {
        let asked = match told.recv_timeout(LOOK) {
            Ok(()) => true,
            Err(mpsc::RecvTimeoutError::Timeout) => false,
            // nobody tells any more
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                std::thread::sleep(LOOK);
                false
            }
        };
        let now = source.looks(&settings);
        if !asked && now == looks {
            continue;
        }
        match source.read() {
            Ok((read, access, mirrors, tls)) => {
                control.replace_access(access);
                control.replace_mirrors(mirrors);
                control.replace_policy(read.policy());
                if let Some(tls) = tls {
                    control.replace_tls(tls);
                }
                if read.needs_restart(&settings) {
                    crate::show::note(
                        "warning: where to listen and store, and what is taken, changes with the next start",
                    );
                }
                settings = read;
                crate::show::note("settings were read again");
            }
            Err(failure) => {
                failure.print();
                crate::show::note("warning: the former settings stay in use");
            }
        }
        looks = source.looks(&settings);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_reach_is_warned_of() {
        let private = Settings {
            tokens: vec![("ci".to_owned(), slipway_registry::server::access::SecretHash::of("x"))],
            ..Settings::default()
        };
        let (open, private) =
            (Settings::default().access().expect("open"), private.access().expect("private"));
        let (here, out) = ("127.0.0.1:5000".parse().expect("here"), "192.0.2.1:5000".parse().expect("out"));
        for (place, access, proxied, words) in [
            (Place::Address(here), &open, false, vec![]),
            (Place::Address(here), &private, false, vec![]),
            (Place::File("s".into()), &open, false, vec![]),
            (Place::Address(out), &open, false, vec!["anyone who reaches"]),
            (Place::Secure(out), &open, false, vec!["anyone who reaches"]),
            (Place::Address(out), &private, false, vec!["passwords travel"]),
            (Place::Address(out), &private, true, vec![]),
            (Place::Secure(out), &private, false, vec![]),
        ] {
            let found = warnings(&place, access, proxied);
            assert_eq!(found.len(), words.len(), "{place}: {found:?}");
            assert!(found.iter().zip(&words).all(|(found, words)| found.contains(words)), "{found:?}");
        }
    }
}
