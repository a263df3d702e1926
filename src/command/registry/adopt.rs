//! `slipway registry adopt`.

use super::{place::Place, verify};
use crate::{
    app::Global,
    error::Failure,
    progress::{self, Choice},
    show,
};
use serde_json::json;
use slipway_registry::server::storage::keep::{Adopted, Means, Telling, Unfit, adopt};
use std::{
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

/// Take over what docker-registry (distribution) keeps in its folder: repositories, tags, manifests, blobs. Every byte is
/// digested; what does not fit is said and left. The folder is left as it is, and on one file system nothing is copied.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    place: Place,
    /// Copy everything, so that the two share no file
    #[arg(long, conflicts_with = "move_")]
    copy: bool,
    /// Take what is taken over away from the folder, which has to be on the same file system
    #[arg(long = "move", id = "move_")]
    move_: bool,
    /// Write JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    shown: Choice,
    /// The folder: its `rootdirectory`, with docker/registry/v2 in it
    #[arg(value_name = "DIR")]
    from: PathBuf,
}

/// What is done with what replicas share.
const INSTEAD: &str = "`slipway registry adopt` takes it into a folder";

/// Carries the command out. Status 1 says that something was not taken whole.
pub(crate) fn run(global: &Global, arguments: &Arguments) -> Result<u8, Failure> {
    let to = arguments.place.folder(global, INSTEAD)?;
    let by = match (arguments.copy, arguments.move_) {
        (true, _) => Means::Copies,
        (_, true) => Means::Moves,
        _ => Means::Links,
    };
    let unfit: Mutex<Vec<Unfit>> = Mutex::default();
    let note = |one: &Unfit| unfit.lock().unwrap_or_else(PoisonError::into_inner).push(one.clone());
    let style = arguments.shown.show();
    let adopted = progress::reading(&*style, verify::NAME, |progress| {
        adopt(&arguments.from, &to, by, &Telling { progress, unfit: &note })
    });
    let adopted = adopted.map_err(|error| Failure::of(&error))?;
    let mut unfit = unfit.into_inner().unwrap_or_else(PoisonError::into_inner);
    unfit.sort_by(|one, other| one.place.cmp(&other.place));
    for Unfit { place, why } in &unfit {
        show::note(format_args!("warning: {place}: {why}"));
    }
    let Adopted { repositories, tags, manifests, contents, bytes, shared, present } = adopted;
    if arguments.json {
        let unfit: Vec<_> =
            unfit.iter().map(|one| json!({ "place": one.place, "why": one.why.to_string() })).collect();
        show::say(json!({
            "repositories": repositories,
            "tags": tags,
            "manifests": manifests,
            "contents": contents,
            "bytes": bytes,
            "shared": shared,
            "present": present,
            "unfit": unfit,
        }))?;
    } else {
        let size = show::human(bytes);
        show::say(format!(
            "repositories: {repositories}, tags: {tags}, manifests: {manifests}, contents: {contents} ({size}), \
             {present} were there, {shared} share what is stored"
        ))?;
    }
    Ok(u8::from(!unfit.iter().all(|one| one.why.is_harmless())))
}
