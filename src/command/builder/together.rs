//! Several builds of one command: in rounds, side by side, and the first failure is that of all.

use super::build::{Desk, Job};
use crate::error::Failure;
use slipway_builder::Cancel;
use slipway_oci::Digest;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

/// A target that is not built yet.
pub(super) struct Waiting<'a> {
    pub(super) name: String,
    /// Contexts of its recipe that are targets, and which.
    pub(super) needs: Vec<(String, String)>,
    pub(super) job: Job<'a>,
}

/// Builds all of them, in rounds: those at once whose contexts are there. Steps that are equal are carried out once, for whoever
/// comes second waits for the step's turn in the store. The first failure ends the others.
pub(super) fn build_all(
    desk: &Desk<'_>,
    jobs: Vec<Waiting<'_>>,
    cancel: &Cancel,
    over: &AtomicBool,
) -> Result<BTreeMap<String, serde_json::Value>, Failure> {
    let (done, first) =
        (Mutex::new(BTreeMap::<String, (Digest, serde_json::Value)>::new()), Mutex::new(None));
    let locked = || done.lock().unwrap_or_else(PoisonError::into_inner);
    let mut waiting = jobs;
    while !waiting.is_empty() && !cancel.is_cancelled() {
        let known: BTreeSet<String> = locked().keys().cloned().collect();
        let (ready, later): (Vec<_>, Vec<_>) =
            waiting.into_iter().partition(|one| one.needs.iter().all(|(_, target)| known.contains(target)));
        waiting = later;
        if ready.is_empty() {
            // one that is only checked makes no image
            let name = waiting.first().map_or("", |one| one.name.as_str());
            let words = format!("target `{name}`: a context of it is a target that makes no image");
            return Err(Failure::usage(words).with_hint("it has `call = \"check\"`: leave that out"));
        }
        std::thread::scope(|scope| {
            for Waiting { name, needs, mut job } in ready {
                let (done, first) = (&done, &first);
                scope.spawn(move || {
                    let images: Vec<(String, Option<Digest>)> = {
                        let done = done.lock().unwrap_or_else(PoisonError::into_inner);
                        let digest = |target: &String| done.get(target).map(|(digest, _)| digest.clone());
                        needs.iter().map(|(context, target)| (context.clone(), digest(target))).collect()
                    };
                    let linked = images.iter().try_for_each(|(context, digest)| match digest {
                        Some(digest) => job.link(context, digest),
                        None => Ok(()),
                    });
                    match linked.and_then(|()| desk.build(job, cancel, &|_| {})) {
                        Ok((results, metadata)) => {
                            let built = (results.digest().clone(), metadata);
                            done.lock().unwrap_or_else(PoisonError::into_inner).insert(name, built);
                        }
                        Err(failure) => {
                            let mut first = first.lock().unwrap_or_else(PoisonError::into_inner);
                            // the others say that they were interrupted
                            first.get_or_insert_with(|| failure.about(format!("target `{name}`")));
                            cancel.cancel();
                        }
                    }
                });
            }
        });
    }
    if let Some(failure) = first.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(failure);
    }
    if cancel.is_cancelled() {
        return Err(Failure::new("the build was interrupted").with_status(130));
    }
    over.store(true, Ordering::Release);
    let done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(done.into_iter().map(|(name, (_, metadata))| (name, metadata)).collect())
}
