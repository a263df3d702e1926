//! `slipway registry adopt`.

use super::{
    place::{Place, Where},
    verify,
};
use crate::{
    app::Global,
    error::Failure,
    progress::{self, Choice},
    registries, settings, show,
};
use serde_json::json;
use slipway_registry::server::{
    ContentSetting,
    storage::{
        content::BucketConfig,
        keep::{Adopted, Means, Origin, Telling, Unfit, adopt, adopt_into},
    },
};
use std::{
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

/// Take over what docker-registry (distribution) keeps in its folder or bucket: repositories, tags, manifests, blobs. Every byte is
/// digested; what does not fit is said and left. What it is taken from is left as it is, and from a folder into one of the same file
/// system nothing is copied.
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
    /// Its `rootdirectory`, with docker/registry/v2 in it: a folder, or s3://BUCKET[/PREFIX] in the words of --content
    #[arg(value_name = "FROM")]
    from: PathBuf,
}

/// Carries the command out. Status 1 says that something was not taken whole.
pub(crate) fn run(global: &Global, arguments: &Arguments) -> Result<u8, Failure> {
    let (to, _) = arguments.place.find(global)?;
    let bucket = bucket(global, arguments)?;
    let whole = bucket.is_some() || matches!(to, Where::Shared(_));
    if whole && arguments.move_ {
        return Err(Failure::new(
            "`--move` is for folders: what lies in a bucket, or goes into one, is copied",
        ));
    }
    let shared = if whole { Some(to.open_new()?) } else { None };
    let by = match (arguments.copy, arguments.move_) {
        (true, _) => Means::Copies,
        (_, true) => Means::Moves,
        _ => Means::Links,
    };
    let unfit: Mutex<Vec<Unfit>> = Mutex::default();
    let note = |one: &Unfit| unfit.lock().unwrap_or_else(PoisonError::into_inner).push(one.clone());
    let style = arguments.shown.show();
    let adopted = progress::reading(&*style, verify::NAME, |progress| {
        let waiting = |holder: &str| show::note(format_args!("note: {holder} sweeps now: waiting"));
        let telling = Telling { progress, unfit: &note, waiting: &waiting };
        match (&to, &shared) {
            (Where::Folder(to), None) => adopt(&arguments.from, to, by, &telling),
            (_, storage) => {
                let origin = bucket.as_ref().map_or(Origin::Folder(&arguments.from), Origin::Bucket);
                adopt_into(&origin, storage.as_ref().expect("it was opened"), &telling)
            }
        }
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

/// The bucket that it is taken from, where that is one.
fn bucket(global: &Global, arguments: &Arguments) -> Result<Option<BucketConfig>, Failure> {
    let Some(text) = arguments.from.to_str().filter(|text| text.starts_with("s3://")) else {
        return Ok(None);
    };
    let content: ContentSetting = text.parse().map_err(Failure::new)?;
    let system = registries::authorities(global).map_err(Failure::new)?;
    settings::bucket(&content, system.as_ref()).map(Some)
}
