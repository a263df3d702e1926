//! `slipway serve`.

use crate::{error::Failure, request, signals};
use slipway_registry::server::{self, Event, Listen, Place, ServerConfig, Shutdown};
use std::{path::PathBuf, sync::Arc};

/// Serve a registry.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Where to listen, several times for several places: ADDRESS:PORT, localhost:PORT, :PORT for every address, PORT for
    /// this machine, unix:PATH; port 0 takes a free one [default: the sockets that systemd passes, else 127.0.0.1:5000]
    #[arg(
        long,
        value_name = "PLACE",
        env = "SLIPWAY_LISTEN",
        value_delimiter = ',',
        value_parser = request::serve::listen
    )]
    listen: Vec<Listen>,
    /// Folder of the registry's content [default: registry, in the folder of the local store]
    #[arg(long, value_name = "DIR", env = "SLIPWAY_STORAGE")]
    storage: Option<PathBuf>,
    /// Refuse pushes and deletes
    #[arg(long, env = "SLIPWAY_READ_ONLY")]
    read_only: bool,
    /// Take indexes whose manifests are not all pushed (mirrors of a few platforms)
    #[arg(long, env = "SLIPWAY_SPARSE")]
    sparse: bool,
    /// Write a line a request to standard error
    #[arg(long)]
    access_log: bool,
}

/// Carries the command out.
pub(crate) fn run(global: &crate::app::Global, arguments: &Arguments) -> Result<u8, Failure> {
    let storage = match &arguments.storage {
        Some(folder) => folder.clone(),
        None => crate::app::own_folder(global)?.join("registry"),
    };
    let mut config = ServerConfig::new(storage.clone());
    let variable = |name: &str| std::env::var(name).ok();
    let mut listen = request::serve::passed(std::process::id(), &variable)
        .map_err(|error| Failure::new(format!("cannot take the sockets of LISTEN_FDS: {error}")))?;
    listen.extend(arguments.listen.iter().cloned());
    if !listen.is_empty() {
        config.listen = listen;
    }
    config.read_only = arguments.read_only;
    config.sparse = arguments.sparse;
    let access_log = arguments.access_log;
    config.observer = Some(Arc::new(move |event: &Event<'_>| match event {
        Event::Request { method, path, status, elapsed } if access_log => {
            crate::show::note(format_args!(
                "{method} {path} {status} {:.1}ms",
                elapsed.as_secs_f64() * 1000.0
            ));
        }
        Event::Failure { operation, error } => {
            crate::show::note(format_args!("error: {operation}: {}", crate::error::chain(*error)))
        }
        _ => {}
    }));
    let shutdown = Shutdown::new();
    let stop = shutdown.clone();
    signals::on(&signals::ENDING, move |_| stop.trigger())?;
    server::serve(
        config,
        |places| {
            for place in places {
                crate::show::note(format_args!("serving `{}` on {place}", storage.display()));
                if let Place::Address(address) = place
                    && !address.ip().is_loopback()
                {
                    crate::show::note(format_args!(
                        "warning: anyone who reaches {address} may read and write: there is no authentication yet"
                    ));
                }
            }
        },
        &shutdown,
    )
    .map_err(|error| Failure::of(&error))?;
    Ok(0)
}
