//! `slipway serve`.

use crate::{
    error::Failure,
    request,
    settings::{self, Settings},
    signals,
};
use slipway_registry::server::{
    self, Control, Event, Observer, Place, ServerConfig, Shutdown, Tls, access::Access,
};
use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
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
    let storage = config.storage.clone();
    let shutdown = Shutdown::new();
    let stop = shutdown.clone();
    let (tell, told) = mpsc::channel();
    signals::on(&signals::ENDING, move |signal| match (signal, &file) {
        // a daemon's way to be told of other settings; at a terminal it is the terminal's end
        (signals::HANGUP, Some(_)) => drop(tell.send(())),
        _ => stop.trigger(),
    })?;
    let source =
        Source { file: settings::named(arguments.config.as_deref()), flags: arguments.settings.clone() };
    let ready = |places: &[Place], control: Control| {
        announce(places, &storage, &access);
        std::thread::spawn(move || watch(&source, settings, &control, &told));
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
    config.read_only = settings.read_only;
    config.sparse = settings.sparse;
    config.access = access;
    config.tls = settings.tls()?;
    config.observer = Some(observer(settings.access_log));
    Ok(config)
}

fn observer(access_log: bool) -> Observer {
    Arc::new(move |event: &Event<'_>| match event {
        Event::Request { method, path, user, status, elapsed } if access_log => {
            let user = user.map(|user| format!(" {user}")).unwrap_or_default();
            crate::show::note(format_args!(
                "{method} {path} {status} {:.1}ms{user}",
                elapsed.as_secs_f64() * 1000.0
            ));
        }
        Event::Failure { operation, error } => {
            crate::show::note(format_args!("error: {operation}: {}", crate::error::chain(*error)))
        }
        _ => {}
    })
}

fn announce(places: &[Place], storage: &Path, access: &Access) {
    for place in places {
        crate::show::note(format_args!("serving `{}` on {place}", storage.display()));
        if let Place::Address(address) | Place::Secure(address) = place
            && !address.ip().is_loopback()
            && access.lets_anyone_write()
        {
            crate::show::note(format_args!(
                "warning: anyone who reaches {address} may write: `access` and `htpasswd` let users alone in"
            ));
        }
    }
}

/// Where settings come from.
struct Source {
    file: Option<PathBuf>,
    flags: Settings,
}

/// What files look like from outside: another inode, time or size is another file.
type Looks = Vec<Option<(u64, u64, i64, i64, u64)>>;

impl Source {
    fn looks(&self, settings: &Settings) -> Looks {
        let looks = |path: &PathBuf| {
            let found = fs::metadata(path).ok()?;
            Some((found.dev(), found.ino(), found.mtime(), found.mtime_nsec(), found.size()))
        };
        self.file.iter().chain(&settings.files()).map(looks).collect()
    }

    fn read(&self) -> Result<(Settings, Arc<Access>, Option<Tls>), Failure> {
        let settings = self.flags.clone().with_file(self.file.as_deref())?;
        let (access, tls) = (settings.access()?, settings.tls()?);
        Ok((settings, access, tls))
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
            Ok((read, access, tls)) => {
                control.replace_access(access);
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
