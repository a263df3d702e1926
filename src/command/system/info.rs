//! `slipway info`.

use crate::{
    app::{App, Global},
    credentials,
    error::Failure,
    registries::{Registries, certificate_folders},
    show::{self, template},
};

/// Show what this machine allows and where things are.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// A template in docker's syntax, or `json`
    #[arg(short, long, value_name = "TEMPLATE")]
    format: Option<String>,
}

/// Carries the command out.
pub(crate) fn run(global: &Global, arguments: &Arguments) -> Result<u8, Failure> {
    let app = App::open(global)?;
    let report = slipway_runtime::host::probe();
    let uname = rustix::system::uname();
    let layers = match app.store.layer_shape() {
        Ok(chosen) => serde_json::json!({ "Shape": chosen.shape.name(), "Reason": chosen.reason }),
        Err(error) => serde_json::json!({ "Shape": null, "Reason": error.to_string() }),
    };
    // where a sandbox's changes would go: no overlay writes into an overlay, NFS or FUSE
    let trial = app.store.temporary_folder("trial")?;
    let takes = slipway_runtime::root::takes_overlays(&trial, app.store.xattrs().is_user());
    std::fs::remove_dir(&trial)?;
    let value = serde_json::json!({
        "Version": env!("CARGO_PKG_VERSION"),
        // docker's keys, for what asks for them
        "ServerVersion": env!("CARGO_PKG_VERSION"),
        "Name": uname.nodename().to_string_lossy(),
        "KernelVersion": report.kernel,
        "OSType": std::env::consts::OS,
        "Architecture": uname.machine().to_string_lossy(),
        "NCPU": std::thread::available_parallelism().map_or(1, usize::from),
        "Driver": "overlayfs",
        "DockerRootDir": app.store.root(),
        "Root": app.store.root(),
        "Sandbox": app.tier.name(),
        "Layers": layers,
        "Changes": if takes { "in the store" } else { "in memory: no overlay can write into the store's file system" },
        "Registries": registries(global)?,
        "Images": app.store.list_images()?.len(),
        "Host": report,
    });
    match arguments.format.as_deref() {
        Some("json") => show::say(value)?,
        Some(format) => show::say(template::render(format, &value)?)?,
        None => show::say(format!("{value:#}"))?,
    }
    Ok(0)
}

/// What decides how registries are spoken to, in the order in which it counts.
fn registries(global: &Global) -> Result<serde_json::Value, Failure> {
    let read = Registries::read(global)?;
    let folders: Vec<_> = certificate_folders().into_iter().filter(|folder| folder.is_dir()).collect();
    let is_set = |name: &&str| {
        [name.to_string(), name.to_ascii_lowercase()].iter().any(|name| std::env::var_os(name).is_some())
    };
    let proxies: Vec<&str> =
        ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"].into_iter().filter(is_set).collect();
    Ok(serde_json::json!({
        "Credentials": credentials::files(global).into_iter().filter(|file| file.exists()).collect::<Vec<_>>(),
        "Proxies": proxies,
        "CertificateFolders": folders,
        "Authorities": global.tls_ca,
        "SSL_CERT_FILE": std::env::var("SSL_CERT_FILE").ok(),
        "SSL_CERT_DIR": std::env::var("SSL_CERT_DIR").ok(),
        "Insecure": read.insecure(),
        "RegistriesConf": read.described(),
    }))
}
