//! `slipway info`.

use crate::{
    app::{App, Global},
    error::Failure,
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
    let value = serde_json::json!({
        "Version": env!("CARGO_PKG_VERSION"),
        "Root": app.store.root(),
        "Sandbox": app.tier.name(),
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
