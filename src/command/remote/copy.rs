//! `slipway copy`.

use crate::{
    app::{App, Global},
    error::Failure,
    exchange::{self, Bundle, Origin, Place},
    progress::Choice,
    remote::Remote,
    service::{input, output::Output},
    show,
};
use serde_json::json;
use slipway_oci::{Platform, layout, store::Store};
use std::path::{Path, PathBuf};

/// Copy an image or artifact between registries, OCI layouts and archives, byte for byte.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Of an image for several platforms, copy the one for this platform alone
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<Platform>,
    /// Copy what is attached to it too: signatures, SBOMs, attestations
    #[arg(long)]
    referrers: bool,
    /// Write JSON: digest, and what was sent, mounted and there
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    shown: Choice,
    /// What: NAME[:TAG] of a registry, oci:FOLDER[:TAG], oci-archive:FILE[:TAG] or docker-archive:FILE[:NAME]
    #[arg(value_name = "FROM")]
    from: Place,
    /// Where to, in the same words
    #[arg(value_name = "TO")]
    to: Place,
}

/// Carries the command out.
pub(crate) fn run(global: &Global, arguments: &Arguments) -> Result<u8, Failure> {
    let app = App::open(global)?;
    let remote = Remote::open(global)?;
    let show = arguments.shown.show();
    let scratch = scratch(&app)?;
    // what cannot be written is found before anything is fetched
    let archive = match &arguments.to {
        Place::Archive(path, _) | Place::DockerArchive(path, _) => Some(Output::prepare("TO", path)?),
        _ => None,
    };
    let (origin, top) = open(&remote, &scratch, &arguments.from)?;
    let bundle = Bundle::gather(&origin, &top, arguments.platform.as_ref(), arguments.referrers)?;
    let digest = bundle.top.descriptor.digest.clone();
    let mut sent = None;
    match (&arguments.to, archive) {
        (Place::Registry(target), _) => {
            let target = remote.meant(target);
            let blobs = scratch.blobs();
            sent = Some(exchange::to_registry(&remote, &origin, &bundle, &target, None, blobs, &*show)?);
        }
        (Place::Layout(folder, name), _) => {
            exchange::to_layout(&origin, &bundle, folder, name.as_deref(), &*show)?;
        }
        (Place::Archive(_, name), Some(mut output)) => {
            exchange::to_archive(&origin, &bundle, &scratch, name.as_deref(), &mut output, &*show)?;
            output.finish()?;
        }
        (Place::DockerArchive(_, name), Some(mut output)) => {
            exchange::to_docker_archive(&origin, &bundle, &scratch, name.as_deref(), &mut output, &*show)?;
            output.finish()?;
        }
        (_, None) => unreachable!("an archive was opened"),
    }
    if arguments.json {
        show::say(json!({
            "from": arguments.from.to_string(),
            "to": arguments.to.to_string(),
            "digest": digest,
            "manifests": bundle.others.len() + 1,
            "blobs": sent,
        }))?;
    } else {
        show::say(&digest)?;
    }
    Ok(0)
}

/// A store of its own for what passes through, which goes with this.
pub(crate) struct Scratch {
    store: Store,
    folder: PathBuf,
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // swept later where it cannot be removed now
        let _ = slipway_oci::file::remove_tree(&self.folder);
    }
}

impl std::ops::Deref for Scratch {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.store
    }
}

pub(crate) fn scratch(app: &App) -> Result<Scratch, Failure> {
    let folder = app.store.temporary_folder("copy")?;
    let store = Store::open(&folder.join("store"), app.store.xattrs())?;
    Ok(Scratch { store, folder })
}

/// Opens what is copied: its manifest is looked up, and of archives and layouts all is read and verified.
fn open<'a>(
    remote: &'a Remote,
    scratch: &'a Store,
    from: &Place,
) -> Result<(Origin<'a>, slipway_oci::Descriptor), Failure> {
    let (entries, name) = match from {
        Place::Registry(reference) => {
            let reference = remote.meant(reference);
            let top = remote.resolve(&reference, None)?;
            return Ok((Origin::Registry(remote, reference), top));
        }
        Place::Layout(folder, name) => (layout::take_folder(scratch, folder)?, name),
        Place::Archive(path, name) | Place::DockerArchive(path, name) => (take(scratch, path)?, name),
    };
    let origin = Origin::Local(scratch, entries);
    let top = origin.entry(name.as_deref(), &from.to_string())?;
    Ok((origin, top))
}

fn take(scratch: &Store, path: &Path) -> Result<Vec<slipway_oci::Descriptor>, Failure> {
    let file = input::open("FROM", path)?;
    Ok(layout::take_archive(scratch, file)?)
}
