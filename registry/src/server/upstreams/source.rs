//! One upstream as it is asked: by how many at a time, and not at all while it is away or has had enough.

use super::{flights::Flights, setting::MirrorSetting};
use crate::{
    client::{ClientError, Upstream},
    limits,
    server::{
        descriptors::Fetches,
        storage::{ManifestRecord, Reader},
        trouble::Trouble,
    },
};
use axum::body::Bytes;
use slipway_oci::Digest;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// How far a fetch is.
#[derive(Clone, Debug, Default)]
pub(in crate::server) struct Progress {
    /// Bytes that are in the file.
    pub(in crate::server) written: u64,
    /// How it ended.
    pub(in crate::server) end: Option<Result<(), Trouble>>,
}

/// A fetch whose bytes are coming.
#[derive(Clone)]
pub(in crate::server) struct Fetch {
    pub(in crate::server) reader: Arc<dyn Reader>,
    /// Where upstream says it.
    pub(in crate::server) size_bytes: Option<u64>,
    pub(in crate::server) progress: watch::Receiver<Progress>,
}

/// What became of a wish for a blob.
#[derive(Clone)]
pub(in crate::server) enum Begun {
    /// It is stored.
    Stored,
    Going(Fetch),
}

/// A manifest that is not kept.
pub(in crate::server) struct Passing {
    pub(in crate::server) record: ManifestRecord,
    pub(in crate::server) bytes: Bytes,
}

/// Leave to ask, while it is held.
pub(in crate::server) struct Turn {
    _own: OwnedSemaphorePermit,
    _all: OwnedSemaphorePermit,
}

/// Until when nothing is asked, and why.
struct Closed {
    until: Instant,
    why: Trouble,
}

#[derive(Default)]
struct Health {
    closed: Option<Closed>,
    /// Failures in a row.
    failures: u32,
}

/// One upstream.
pub(in crate::server) struct Source {
    pub(in crate::server) name: String,
    pub(super) setting: MirrorSetting,
    pub(in crate::server) upstream: Upstream,
    health: Mutex<Health>,
    /// Turns for what is answered at once, and for blobs, which take their time.
    answers: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    /// When tags were last found to be what they are upstream.
    checked: Mutex<HashMap<(String, String), Instant>>,
    /// What it brings is here then, or handed on where there is no room for it.
    pub(in crate::server) manifests: Flights<(String, String), Option<Arc<Passing>>>,
    pub(in crate::server) blobs: Flights<(String, Digest), Begun>,
}

impl Source {
    pub(in crate::server) fn new(name: String, setting: MirrorSetting, upstream: Upstream) -> Source {
        Source {
            name,
            setting,
            upstream,
            health: Mutex::default(),
            answers: Arc::new(Semaphore::new(limits::MIRROR_REQUESTS)),
            streams: Arc::new(Semaphore::new(limits::MIRROR_REQUESTS)),
            checked: Mutex::default(),
            manifests: Flights::default(),
            blobs: Flights::default(),
        }
    }

    /// A turn to ask, unless nothing is asked at present: among those for this upstream, and among those for all.
    pub(in crate::server) async fn turn(&self, all: &Fetches) -> Result<Turn, Trouble> {
        self.turn_of(&self.answers, &all.answers).await
    }

    /// A turn to fetch a blob.
    pub(in crate::server) async fn stream_turn(&self, all: &Fetches) -> Result<Turn, Trouble> {
        self.turn_of(&self.streams, &all.streams).await
    }

    async fn turn_of(&self, own: &Arc<Semaphore>, all: &Arc<Semaphore>) -> Result<Turn, Trouble> {
        self.open()?;
        // one's own first: an upstream that is slow keeps none of the others' turns for those who wait for it
        let both = async {
            let own = Arc::clone(own).acquire_owned().await;
            (own, Arc::clone(all).acquire_owned().await)
        };
        let both = tokio::time::timeout(limits::MIRROR_TURN_TIME, both).await.map_err(|_| Trouble::Busy)?;
        // it may have closed while others were asking
        self.open()?;
        let given = |one: Result<_, _>| one.expect("the semaphore is never closed");
        Ok(Turn { _own: given(both.0), _all: given(both.1) })
    }

    fn open(&self) -> Result<(), Trouble> {
        let mut health = self.health.lock().expect("no panic happens while its health is held");
        let now = Instant::now();
        let Some(closed) = health.closed.as_ref().filter(|closed| closed.until > now) else {
            health.closed = None;
            return Ok(());
        };
        let pause = closed.until - now;
        Err(match closed.why.clone() {
            Trouble::Away { why, .. } => Trouble::Away { why, pause },
            _ => Trouble::Often { pause },
        })
    }

    /// Waits for an answer, no longer than a client waits, and learns from it.
    pub(in crate::server) async fn ask<T>(
        &self,
        answer: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, Trouble> {
        let answered = match tokio::time::timeout(limits::MIRROR_ANSWER_TIME, answer).await {
            Ok(answered) => answered.map_err(Trouble::from),
            Err(_) => Err(Trouble::slow()),
        };
        self.learn(answered.as_ref().err());
        answered
    }

    /// What an answer says about the upstream as a whole.
    fn learn(&self, trouble: Option<&Trouble>) {
        let mut health = self.health.lock().expect("no panic happens while its health is held");
        let pause = match trouble {
            Some(Trouble::Often { pause }) => (*pause).max(Duration::from_secs(1)),
            Some(Trouble::Away { pause, .. }) => {
                health.failures = health.failures.saturating_add(1);
                // one may be about one thing alone
                let Some(more) = health.failures.checked_sub(2) else { return };
                let doubled = pause.saturating_mul(1 << more.min(16));
                doubled.min(limits::MIRROR_PAUSE_MOST).max(*pause)
            }
            Some(trouble) if !trouble.is_answer() => return,
            _ => {
                *health = Health::default();
                return;
            }
        };
        let (until, why) = (Instant::now() + pause, trouble.expect("it was just looked at").clone());
        if health.closed.as_ref().is_none_or(|closed| closed.until < until) {
            health.closed = Some(Closed { until, why });
        }
    }

    /// How long a tag is believed.
    pub(in crate::server) fn fresh_for(&self, repository: &str, tag: &str) -> Duration {
        self.setting.fresh_for(repository, tag)
    }

    /// Whether a tag needs not be asked for.
    pub(in crate::server) fn is_fresh(&self, repository: &str, tag: &str) -> bool {
        let time = self.fresh_for(repository, tag);
        let checked = self.checked.lock().expect("no panic happens while the times are held");
        let key = (repository.to_owned(), tag.to_owned());
        // what is good for ever needs not have been seen by this process
        time == Duration::MAX || checked.get(&key).is_some_and(|at| at.elapsed() < time)
    }

    /// A tag was found to be what it is upstream, so long ago.
    pub(in crate::server) fn check(&self, repository: &str, tag: &str, age: Duration) {
        let mut checked = self.checked.lock().expect("no panic happens while the times are held");
        if checked.len() >= limits::MIRROR_TAGS {
            // the older half; a tag that is forgotten is asked for
            let mut times: Vec<Instant> = checked.values().copied().collect();
            let half = times.len() / 2;
            let (_, middle, _) = times.select_nth_unstable(half);
            let middle = *middle;
            checked.retain(|_, at| *at > middle);
        }
        if let Some(at) = Instant::now().checked_sub(age) {
            checked.insert((repository.to_owned(), tag.to_owned()), at);
        }
    }
}
