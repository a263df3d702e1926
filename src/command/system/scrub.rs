//! `slipway scrub`.

use crate::{
    app::{App, Global},
    error::Failure,
    progress::{self, Choice},
    show,
};
use serde_json::json;
use slipway_oci::store::{Damage, Outcome, Scrub, Scrubbed};

/// Read everything in the store again, and say what is damaged or missing; other commands may run meanwhile.
///
/// Status 1 says that something is wrong, and not mended.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Take away what is damaged: what a layer is run from is made again of its blob when it is wanted, a blob has to be pulled or built
    /// again. Nothing goes that another command is using
    #[arg(long)]
    repair: bool,
    /// Write JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    shown: Choice,
}

/// What is read is one thing to whoever watches.
const NAME: &str = "store";

/// Carries the command out.
pub(crate) fn run(global: &Global, arguments: &Arguments) -> Result<u8, Failure> {
    let app = App::open(global)?;
    let shown = arguments.shown.show();
    let mut found = Vec::new();
    let scrubbed = progress::reading(&*shown, NAME, |progress| {
        let mut scrub = Scrub { repair: arguments.repair, found: &mut |damage| found.push(damage), progress };
        app.store.scrub(&mut scrub)
    })?;
    if arguments.json {
        show::say(as_json(scrubbed, &found))?;
    } else {
        for damage in &found {
            show::say(in_words(damage))?;
        }
        show::say(summary(scrubbed, &found))?;
    }
    Ok(u8::from(found.iter().any(|damage| damage.outcome != Outcome::Gone)))
}

fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Left => "left",
        Outcome::InUse => "in use",
        Outcome::Alone => "alone",
        Outcome::Gone => "gone",
        Outcome::Missing => "missing",
    }
}

fn in_words(damage: &Damage) -> String {
    let Damage { part, digest, fault, images, outcome } = damage;
    let digest = digest.as_ref().map_or_else(String::new, |digest| format!(" {digest}"));
    let of = if images.is_empty() { String::new() } else { format!(" of {}", images.join(", ")) };
    let then = match outcome {
        Outcome::Left => "",
        Outcome::InUse => "; another command is using it: try again when that is done",
        Outcome::Alone => {
            "; there is nothing to make it of, so it was left: pull or build the image again, then scrub once more"
        }
        Outcome::Gone => "; it went, and is made again when it is wanted",
        Outcome::Missing => "; pull or build the image again",
    };
    format!("{}{digest}{of}: {fault}{then}", part.name())
}

fn summary(scrubbed: Scrubbed, found: &[Damage]) -> String {
    let Scrubbed { blobs, layers, bytes } = scrubbed;
    let read = format!("{blobs} blobs, {layers} layers, {}", show::human(bytes));
    let mended = found.iter().filter(|damage| damage.outcome == Outcome::Gone).count();
    match (found.len(), mended) {
        (0, _) => format!("{read}: all right"),
        (wrong, 0) => format!("{read}: {wrong} wrong"),
        (wrong, mended) => format!("{read}: {wrong} wrong, {mended} of them mended"),
    }
}

fn as_json(scrubbed: Scrubbed, found: &[Damage]) -> serde_json::Value {
    let damage = |damage: &Damage| {
        json!({
            "part": damage.part.name(),
            "digest": damage.digest.as_ref().map(ToString::to_string),
            "why": damage.fault,
            "images": damage.images,
            "outcome": word(damage.outcome),
        })
    };
    json!({
        "blobs": scrubbed.blobs,
        "layers": scrubbed.layers,
        "bytes": scrubbed.bytes,
        "wrong": found.iter().map(damage).collect::<Vec<_>>(),
    })
}
