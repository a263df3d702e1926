//! One blob on its way from upstream into the storage, once for all who want it.
//!
//! A task of its own writes what comes into a staged file and says how far it is. Whoever wants the bytes reads the file (`body`):
//! nobody waits for a slow peer, nobody's leaving ends it, and no bytes wait in memory. Its end is said only once the digest was
//! verified and the blob is stored; until then the last byte is kept from everybody, so that wrong bytes never look whole.

use super::{
    At, Trouble,
    errand::{self, Mine, Sent},
};
use crate::{
    client::Part,
    limits,
    server::{
        call::Shared,
        event::Event,
        memory::Held,
        storage::{Storage, StorageError, Upload},
        traces::Asking,
        upstreams::{Begun, Fetch, Progress, Source, Turn},
    },
};
use axum::{body::Bytes, http::HeaderValue};
use slipway_oci::Digest;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

/// Starts a fetch, or joins the one that is under way.
pub(super) async fn begin(shared: &Arc<Shared>, at: &At, digest: &Digest) -> Result<Begun, Trouble> {
    let key = (at.local.clone(), digest.clone());
    let (shared, own, digest) = (Arc::clone(shared), at.clone(), digest.clone());
    at.source
        .blobs
        .join(key, move |flight| {
            drop(tokio::spawn(async move {
                let mut coming = Coming { shared, at: own, digest, tell: None, asked: 0, asking: None };
                let told = coming.begin().await;
                let begun = match &told {
                    Ok(Some((fetch, ..))) => Ok(Begun::Going(fetch.clone())),
                    Ok(None) => Ok(Begun::Stored),
                    Err(trouble) => Err(trouble.clone()),
                };
                flight.tell(begun);
                let ended = match told {
                    Ok(Some((_, part, upload, turn))) => {
                        let ended = coming.store(part, upload).await;
                        let (turn, mine) = turn;
                        drop(turn);
                        // only now does another replica look for it, or ask; of one that failed nothing is remembered
                        mine.end(ended.is_ok()).await;
                        ended
                    }
                    Ok(None) => Ok(()),
                    Err(trouble) => Err(trouble),
                };
                coming.end(ended);
                // who comes after this finds it stored
                drop(flight);
            }));
        })
        .await
}

type Started = (Fetch, Part, Upload, (Turn, Mine));

/// An upload with all that a reply brought; or why not all, and the upload where it is still there.
type Taken = Result<Upload, (Option<Upload>, Trouble)>;

struct Coming {
    shared: Arc<Shared>,
    at: At,
    digest: Digest,
    tell: Option<watch::Sender<Progress>>,
    /// Requests that were sent for it.
    asked: u32,
    /// What traces are told, from the first of them on.
    asking: Option<Asking>,
}

impl Coming {
    fn source(&self) -> &Source {
        &self.at.source
    }

    /// Asks upstream and makes the file; `None` where the blob came in since it was looked for.
    async fn begin(&mut self) -> Result<Option<Started>, Trouble> {
        let (storage, local, digest) =
            (Arc::clone(&self.shared.storage), self.at.local.clone(), self.digest.clone());
        let (there, elsewhere) = run(move || {
            let there = storage.blob_size(&local, &digest).is_ok();
            Ok((there, !there && !storage.holders(&digest, "", 1)?.is_empty()))
        })
        .await?;
        if there {
            return Ok(None);
        }
        let what = format!("blob {} {}", self.at.local, self.digest);
        let (local, digest) = (self.at.local.clone(), self.digest.clone());
        let is_here = move |storage: &Storage| Ok(storage.blob_size(&local, &digest).is_ok());
        let Sent::Mine(mine) = errand::bring(&self.shared, &what, is_here).await? else { return Ok(None) };
        let turn = self.source().stream_turn(&self.shared.fetches).await?;
        if elsewhere && self.mount().await? {
            return Ok(None);
        }
        let part = self.ask(0).await?;
        // the last byte is kept back until all are verified, and here there is none
        if part.size_bytes == Some(0) && Digest::of(self.digest.algorithm(), b"") != self.digest {
            return Err(Trouble::Wrong { why: "nothing at all".into() });
        }
        let most = self.most(part.size_bytes);
        if part.size_bytes.is_some_and(|size| size > most) {
            return Err(Trouble::Wrong { why: format!("a blob of more than {most} bytes").into() });
        }
        let (storage, local, algorithm) =
            (Arc::clone(&self.shared.storage), self.at.local.clone(), self.digest.algorithm());
        let (upload, reader) = run(move || {
            let mut upload = storage.stage(&local, algorithm)?;
            let reader = upload.follow()?;
            Ok((upload, reader))
        })
        .await?;
        let (tell, progress) = watch::channel(Progress::default());
        self.tell = Some(tell);
        Ok(Some((Fetch { reader, size_bytes: part.size_bytes, progress }, part, upload, (turn, mine))))
    }

    /// What another repository here has needs not come again, if upstream says that this one has it too.
    async fn mount(&mut self) -> Result<bool, Trouble> {
        let trace = self.trace();
        let source = self.source();
        source.ask(source.upstream.asked(trace).blob_size(&self.at.remote, &self.digest)).await?;
        let (storage, local, digest) =
            (Arc::clone(&self.shared.storage), self.at.local.clone(), self.digest.clone());
        run(move || match storage.mount(&local, &digest, None) {
            // it comes from upstream then, and is not kept
            Err(StorageError::OverQuota(_)) => Ok(false),
            mounted => mounted,
        })
        .await
    }

    async fn ask(&mut self, start: u64) -> Result<Part, Trouble> {
        self.asked += 1;
        let trace = self.trace();
        let upstream = self.source().upstream.asked(trace);
        self.source().ask(upstream.blob(&self.at.remote, &self.digest, start)).await
    }

    /// The `traceparent` of every request for it: they are one span.
    fn trace(&mut self) -> Option<HeaderValue> {
        let begin = || self.at.asking("fetch blob", &self.digest.to_string());
        self.asking.get_or_insert_with(begin).header().cloned()
    }

    /// Most bytes that are taken.
    fn most(&self, said: Option<u64>) -> u64 {
        let own = self.shared.policy.current().max_blob;
        let unsaid = if said.is_some() { u64::MAX } else { limits::MIRROR_UNSIZED_BYTES };
        own.unwrap_or(u64::MAX).min(unsaid)
    }

    fn say(&self, change: impl FnOnce(&mut Progress)) {
        if let Some(tell) = &self.tell {
            tell.send_modify(change);
        }
    }

    fn end(&mut self, ended: Result<(), Trouble>) {
        if let Some(asking) = self.asking.take() {
            asking.end(ended.as_ref().err().map(Trouble::told));
        }
        if let Err(trouble) = &ended
            && !matches!(trouble, Trouble::Absent)
        {
            let operation = format!("fetch `{}` of `{}`", self.digest, self.at.local);
            self.shared.metrics.fail();
            self.shared.tell(&Event::Failure { operation: &operation, error: trouble });
        }
        self.say(|progress| progress.end = Some(ended));
    }

    /// Takes the bytes to their end, taking up what breaks off, and stores them.
    async fn store(&mut self, part: Part, mut upload: Upload) -> Result<(), Trouble> {
        let (size, most) = (part.size_bytes, self.most(part.size_bytes));
        let mut next = Some(part);
        let upload = loop {
            let before = upload.length();
            let taken = match next.take() {
                Some(part) => self.take(part, upload, size.unwrap_or(most)).await,
                None => match self.ask(before).await {
                    Ok(part) if part.size_bytes.is_some() && part.size_bytes != size => {
                        let why = "a blob of another size than before".into();
                        Err((Some(upload), Trouble::Wrong { why }))
                    }
                    Ok(part) => self.take(part, upload, size.unwrap_or(most)).await,
                    Err(trouble) => Err((Some(upload), trouble)),
                },
            };
            upload = match taken {
                Ok(whole) if size.is_none_or(|size| size == whole.length()) => break whole,
                // shorter than it was said
                Ok(back) => {
                    let why = "it broke off".into();
                    self.pause(Trouble::Away { why, pause: Duration::ZERO }).await?;
                    back
                }
                Err((None, trouble)) => return Err(trouble),
                Err((Some(back), trouble)) => {
                    self.pause(trouble).await?;
                    back
                }
            };
        };
        let digest = self.digest.clone();
        match run(move || upload.finish(&digest)).await {
            Err(Trouble::Storage(error)) if matches!(*error, StorageError::DigestMismatch { .. }) => {
                Err(Trouble::Wrong { why: error.to_string().into() })
            }
            // the digest is right, and whoever waits reads what was received; it is not kept
            Err(Trouble::Storage(error)) if matches!(*error, StorageError::OverQuota(_)) => {
                let operation = format!("keep `{}` of `{}`", self.digest, self.at.local);
                self.shared.tell(&Event::Failure { operation: &operation, error: &error });
                Ok(())
            }
            stored => stored,
        }
    }

    /// Waits before the next attempt after what may pass; gives back what does not, or what was tried often enough.
    async fn pause(&self, trouble: Trouble) -> Result<(), Trouble> {
        let (Trouble::Away { pause, .. } | Trouble::Often { pause }) = &trouble else { return Err(trouble) };
        if self.asked > limits::MIRROR_RESUMES || *pause > limits::MIRROR_PAUSE_MOST {
            return Err(trouble);
        }
        sleep(*pause).await;
        Ok(())
    }

    /// Writes one reply's bytes behind those that are there.
    async fn take(&self, mut part: Part, mut upload: Upload, most: u64) -> Taken {
        let budgets = self.shared.budgets;
        let (begun, mut received) = (Instant::now(), 0_u64);
        loop {
            // the whole in the mean, and no pause by itself
            let mean = (begun + budgets.time_for(received)).saturating_duration_since(Instant::now());
            let came = timeout(mean.min(budgets.pause), gather(&self.shared, &mut part)).await;
            let (pieces, end, held) = match came {
                Ok(Ok(gathered)) => gathered,
                Ok(Err(error)) => {
                    let why = slipway_oci::error::chain(&error).into();
                    return Err((Some(upload), Trouble::Away { why, pause: Duration::ZERO }));
                }
                Err(_) => return Err((Some(upload), Trouble::slow())),
            };
            let bytes: u64 = pieces.iter().map(|piece| piece.len() as u64).sum();
            received += bytes;
            if upload.length() + bytes > most {
                let why = format!("more than {most} bytes").into();
                return Err((Some(upload), Trouble::Wrong { why }));
            }
            if bytes > 0 {
                let wrote = tokio::task::spawn_blocking(move || {
                    let wrote = pieces.iter().try_for_each(|piece| upload.append(piece));
                    drop((pieces, held));
                    (upload, wrote)
                });
                let (back, wrote) = match wrote.await {
                    Ok(back) => back,
                    // the server ends, or the work died: the upload went with it
                    Err(error) => return Err((None, Trouble::Own(error.to_string().into()))),
                };
                upload = back;
                if let Err(error) = wrote {
                    return Err((Some(upload), error.into()));
                }
                self.say(|progress| progress.written = upload.length());
            }
            if end {
                return Ok(upload);
            }
        }
    }
}

/// What has come by now, at least one piece; whether that is the end; and the room that it takes.
async fn gather(
    shared: &Shared,
    part: &mut Part,
) -> Result<(Vec<Bytes>, bool, Option<Held>), reqwest::Error> {
    let held = shared.memory.large(limits::PIECE_BYTES);
    let most = if held.is_some() { limits::PIECE_BYTES } else { limits::PIECE_SMALL_BYTES };
    let (mut pieces, mut size) = (Vec::new(), 0);
    while size < most {
        let Some(mut piece) =
            (if size == 0 { Some(part.response.chunk().await?) } else { ready(part).transpose()? })
        else {
            return Ok((pieces, false, held));
        };
        let Some(bytes) = &mut piece else { return Ok((pieces, true, held)) };
        // a registry that does not know ranges sends all of it again
        let known = part.skip.min(bytes.len() as u64);
        part.skip -= known;
        let fresh = bytes.split_off(known as usize);
        size += fresh.len().max(1);
        pieces.push(fresh);
    }
    Ok((pieces, false, held))
}

/// The next piece where it is there already.
fn ready(part: &mut Part) -> Option<Result<Option<Bytes>, reqwest::Error>> {
    use futures_util::FutureExt;
    part.response.chunk().now_or_never()
}

async fn run<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StorageError> + Send + 'static,
) -> Result<T, Trouble> {
    crate::server::call::blocking(work).await.map_err(Trouble::from)
}
