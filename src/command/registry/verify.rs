//! `slipway registry verify`.

use super::place::{Place, Where};
use crate::{
    app::Global,
    error::Failure,
    progress::{self, Choice},
    show,
};
use serde_json::{Value, json};
use slipway_registry::server::storage::{
    Fault, Used,
    keep::{Finding, Verified, Watching, verify, verify_shared},
};
use std::sync::{Mutex, PoisonError};

/// Read everything that a registry stores, and say what is damaged, missing or needless; it may be served meanwhile.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    place: Place,
    /// Move what is damaged aside: it is answered 404 then, and the next push brings it back
    #[arg(long)]
    quarantine: bool,
    /// Write JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    shown: Choice,
}

/// What is read is one thing to whoever watches.
pub(super) const NAME: &str = "content";

/// Carries the command out. Status 1 says that something is wrong.
pub(crate) fn run(global: &Global, arguments: &Arguments) -> Result<u8, Failure> {
    let (found_at, _) = arguments.place.find(global)?;
    let shared = match &found_at {
        Where::Folder(_) => None,
        Where::Shared(_) => Some(found_at.open()?),
    };
    let shown = arguments.shown.show();
    let found = Mutex::new(Vec::new());
    let verified = progress::reading(&*shown, NAME, |progress| {
        let note = |finding: &Finding| {
            found.lock().unwrap_or_else(PoisonError::into_inner).push(finding.clone());
        };
        let (quarantine, watching) = (arguments.quarantine, Watching { progress, found: &note });
        match (&found_at, &shared) {
            (Where::Folder(folder), _) => verify(folder, quarantine, &watching),
            (Where::Shared(_), shared) => {
                verify_shared(shared.as_ref().expect("it was opened"), quarantine, &watching)
            }
        }
    });
    let verified = verified.map_err(|error| Failure::of(&error))?;
    let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    found.sort_by_key(in_words);
    if arguments.json {
        show::say(as_json(verified, &found))?;
    } else {
        for finding in &found {
            show::say(in_words(finding))?;
        }
        show::say(summary(verified, &found))?;
    }
    Ok(u8::from(found.iter().any(Finding::is_wrong)))
}

fn in_words(finding: &Finding) -> String {
    match finding {
        Finding::Database(words) => format!("database: {words}; `slipway registry reindex` makes it again"),
        Finding::Damaged(damage) => {
            let what = if damage.fault == Fault::Missing { "missing" } else { "damaged" };
            let place = if damage.aside { ", in quarantine now" } else { "" };
            let repositories = damage.repositories.join(", ");
            format!("{what}: {} of {repositories}: {}{place}", damage.digest, damage.fault)
        }
        Finding::Dangling { repository, tag, digest } => {
            format!("dangling: {repository}:{tag} points at {digest}, which is not in its repository")
        }
        Finding::Miscounted { scope, said, counted } => {
            let [said, counted] = [said, counted].map(|used| {
                format!("{} bytes and {} tag{}", used.bytes, used.tags, if used.tags == 1 { "" } else { "s" })
            });
            format!(
                "miscounted: {scope} has {counted}, and its quota is asked for {said}; `slipway registry reindex` counts anew"
            )
        }
        Finding::Incomplete { repository, manifest, needs } => {
            format!("incomplete: {repository}@{manifest} needs {needs}, which its repository lacks")
        }
        Finding::Unreferenced { digest, size_bytes } => {
            format!("unreferenced: {digest} ({}), which a collection takes", show::human(*size_bytes))
        }
        Finding::Foreign { name } => format!("foreign: blobs/{name} is no content"),
    }
}

fn summary(verified: Verified, found: &[Finding]) -> String {
    let wrong = found.iter().filter(|finding| finding.is_wrong()).count();
    let Verified { contents, bytes } = verified;
    let read = format!("{contents} contents, {}", show::human(bytes));
    if wrong == 0 { format!("{read}: all right") } else { format!("{read}: {wrong} wrong") }
}

fn as_json(verified: Verified, found: &[Finding]) -> Value {
    let of = |pick: &dyn Fn(&Finding) -> Option<Value>| found.iter().filter_map(pick).collect::<Vec<_>>();
    let Verified { contents, bytes } = verified;
    json!({
        "contents": contents,
        "bytes": bytes,
        "database": of(&|one| if let Finding::Database(words) = one { Some(json!(words)) } else { None }),
        "damaged": of(&|one| match one {
            Finding::Damaged(damage) => Some(json!({
                "digest": damage.digest.to_string(),
                "size": damage.size_bytes,
                "missing": damage.fault == Fault::Missing,
                "why": damage.fault.to_string(),
                "quarantined": damage.aside,
                "repositories": damage.repositories,
            })),
            _ => None,
        }),
        "dangling": of(&|one| match one {
            Finding::Dangling { repository, tag, digest } => {
                Some(json!({ "repository": repository, "tag": tag, "digest": digest }))
            }
            _ => None,
        }),
        "miscounted": of(&|one| match one {
            Finding::Miscounted { scope, said, counted } => {
                let (kind, name) = super::usage::of_scope(scope);
                let of = |used: &Used| json!({ "bytes": used.bytes, "tags": used.tags });
                Some(json!({ "of": kind, "name": name, "said": of(said), "counted": of(counted) }))
            }
            _ => None,
        }),
        "incomplete": of(&|one| match one {
            Finding::Incomplete { repository, manifest, needs } => {
                Some(json!({ "repository": repository, "manifest": manifest, "needs": needs }))
            }
            _ => None,
        }),
        "unreferenced": of(&|one| match one {
            Finding::Unreferenced { digest, size_bytes } => {
                Some(json!({ "digest": digest.to_string(), "size": size_bytes }))
            }
            _ => None,
        }),
        "foreign": of(&|one| if let Finding::Foreign { name } = one { Some(json!(name)) } else { None }),
    })
}
