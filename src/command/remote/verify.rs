//! `slipway verify`.

use super::sign::key_text;
use crate::{
    app::{App, Global},
    error::Failure,
    remote::Remote,
    show,
    trust::{collect::Signatures, key::PublicKey},
};
use slipway_oci::{Platform, Reference};
use std::path::PathBuf;

/// Check that images in their registry are signed, as cosign does.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// A public key; one of several has to have signed. `env://NAME` takes it from a variable
    #[arg(long = "key", value_name = "FILE", required = true)]
    keys: Vec<PathBuf>,
    /// Of an image for several platforms, the one for this platform
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<Platform>,
    /// Write what the good signatures say, as JSON
    #[arg(long)]
    json: bool,
    /// The images
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<Reference>,
}

/// Carries the command out.
pub(crate) fn run(global: &Global, arguments: &Arguments) -> Result<u8, Failure> {
    let read = |path: &PathBuf| PublicKey::read(&key_text(path)?, &path.display().to_string());
    let keys = arguments.keys.iter().map(read).collect::<Result<Vec<_>, Failure>>();
    let keys = keys.map_err(|failure| failure.about("--key"))?;
    let app = App::open(global)?;
    let remote = Remote::open(global)?;
    for image in &arguments.images {
        let name = remote.meant(&image.clone().or_latest());
        let digest = remote.resolve(&name, arguments.platform.as_ref())?.digest;
        let found = Signatures::in_registry(&remote.client, &app.store, &name, &digest)?;
        let good = found.good(&digest, &keys);
        if good.is_empty() {
            let names: Vec<String> = keys.iter().map(|key| format!("`{}`", key.name)).collect();
            let words = format!(
                "`{}` ({digest}) is not signed by {}: {}",
                name.familiar(),
                names.join(" or "),
                found.looked()
            );
            return Err(Failure::new(words).with_hint("`slipway sign --key KEY IMAGE` signs it"));
        }
        if arguments.json {
            let said = |(signature, ..): &(_, _, _)| {
                let signature: &&crate::trust::collect::Signature = signature;
                serde_json::from_slice::<serde_json::Value>(&signature.bytes).unwrap_or_default()
            };
            show::say(serde_json::Value::from_iter(good.iter().map(said)))?;
        } else {
            show::say(format!("{}@{digest}", name.familiar_name()))?;
        }
    }
    Ok(0)
}
