//! What a connection may cost: each state has a time, and who makes no progress gives way when places run out.
//!
//! ```text
//! no request yet, or none any more   Budgets::idle
//! a request's head                   Budgets::idle, from the last request's end
//! a request's body                   Budgets::pause between pieces, Budgets::rate_bytes in the mean (`body`, `arriving`)
//! a body that was refused            limits::LINGER_TIME, limits::LINGER_BYTES (`arriving`)
//! a reply that the peer takes        Budgets::pause and Budgets::rate_bytes, piece by piece
//! an endpoint at work                not the peer's fault: no limit here
//! ```
//!
//! hyper asks a reply for its next bytes when the peer took the last ones, so that what is asked for is the measure.

use super::{direct::Outbox, throttle::Meter};
use crate::limits;
use axum::{
    body::{Body, Bytes, HttpBody},
    http::Version,
};
use http_body::{Frame, SizeHint};
use std::{
    collections::BTreeMap,
    net::IpAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, Weak,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// How long a connection may stay in a state, and how many there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budgets {
    /// Without a complete request.
    pub idle: Duration,
    /// Without progress of a body, in either direction.
    pub pause: Duration,
    /// Bytes a second that a peer sends or takes in the mean, beyond one pause.
    pub rate_bytes: u64,
    /// Without progress, while others wait for a place.
    pub shed: Duration,
    /// Open connections.
    pub connections: usize,
}

impl Default for Budgets {
    fn default() -> Budgets {
        Budgets {
            idle: limits::HEADER_TIME,
            pause: limits::BODY_PAUSE,
            rate_bytes: limits::PEER_RATE_BYTES,
            shed: limits::SHED_TIME,
            connections: limits::CONNECTIONS,
        }
    }
}

impl Budgets {
    /// How long a peer may take for `bytes`.
    pub(super) fn time_for(&self, bytes: u64) -> Duration {
        self.pause + Duration::from_millis(bytes.saturating_mul(1000) / self.rate_bytes.max(1))
    }
}

/// One connection.
pub(super) struct Connection {
    budgets: Budgets,
    /// Over TLS.
    secure: bool,
    /// Where it comes from, as that is counted; sockets in the file system come from nowhere.
    address: Option<IpAddr>,
    /// The user that the client's certificate names.
    user: OnceLock<String>,
    /// Where it comes from.
    peer: OnceLock<IpAddr>,
    /// Where ranges of files are put that the kernel sends.
    outbox: OnceLock<Arc<Outbox>>,
    state: Mutex<State>,
    shed: Notify,
}

struct State {
    /// Requests whose reply is not complete.
    active: usize,
    /// The last begin or end of a request.
    touched: Instant,
    next: u64,
    /// Replies that the peer is taking.
    replies: BTreeMap<u64, Progress>,
    /// Since when pieces of bodies are waited for.
    waits: BTreeMap<u64, Instant>,
}

#[derive(Clone, Copy)]
struct Progress {
    taken: Instant,
    /// What was handed over last and may still be on its way.
    bytes: u64,
}

impl State {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

impl Connection {
    fn new(budgets: Budgets, secure: bool, address: Option<IpAddr>) -> Connection {
        let state = State {
            active: 0,
            touched: Instant::now(),
            next: 0,
            replies: BTreeMap::new(),
            waits: BTreeMap::new(),
        };
        Connection {
            budgets,
            secure,
            address,
            user: OnceLock::new(),
            peer: OnceLock::new(),
            outbox: OnceLock::new(),
            state: Mutex::new(state),
            shed: Notify::new(),
        }
    }

    /// The user that the client's certificate names.
    pub(super) fn user(&self) -> Option<&str> {
        self.user.get().map(String::as_str)
    }

    /// The client's certificate was verified and names somebody.
    pub(super) fn is_of(&self, user: String) {
        // a connection shakes hands once
        let _ = self.user.set(user);
    }

    /// Where it comes from, as that is counted.
    pub(super) fn address(&self) -> Option<IpAddr> {
        self.address
    }

    /// Where it comes from; sockets in the file system have no address.
    pub(super) fn peer(&self) -> Option<IpAddr> {
        self.peer.get().copied()
    }

    /// It comes from there.
    pub(super) fn is_from(&self, peer: IpAddr) {
        // a connection has one other end
        let _ = self.peer.set(peer.to_canonical());
    }

    /// Its stream sends what is put there.
    pub(super) fn sends(&self, outbox: Arc<Outbox>) {
        // a connection has one stream
        let _ = self.outbox.set(outbox);
    }

    /// Where ranges of files are put that the kernel sends, for a request of this version.
    pub(super) fn outbox(&self, version: Version) -> Option<Arc<Outbox>> {
        let is_plain = matches!(version, Version::HTTP_10 | Version::HTTP_11);
        self.outbox.get().filter(|_| is_plain).cloned()
    }

    /// Whether it is over TLS.
    pub(super) fn is_secure(&self) -> bool {
        self.secure
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic happens while the state is held")
    }

    /// A request begins; it ends when the answer is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> Active {
        let mut state = self.state();
        state.active += 1;
        state.touched = Instant::now();
        Active(Arc::clone(self))
    }

    /// The peer's next piece of a body is waited for from now on, until the answer is dropped.
    pub(super) fn wait(self: &Arc<Self>) -> Waiting {
        let mut state = self.state();
        let number = state.number();
        state.waits.insert(number, Instant::now());
        Waiting { connection: Arc::clone(self), number }
    }

    /// When it has used its time up, as things stand. `None`: an endpoint is at work.
    fn deadline(&self) -> Option<Instant> {
        let state = self.state();
        if state.active == 0 {
            return Some(state.touched + self.budgets.idle);
        }
        state.replies.values().map(|reply| reply.taken + self.budgets.time_for(reply.bytes)).min()
    }

    /// Returns when the connection has to go.
    pub(super) async fn expired(&self) {
        let most = self.budgets.idle.min(self.budgets.pause);
        let watch = async {
            loop {
                let now = Instant::now();
                let deadline = self.deadline();
                if deadline.is_some_and(|deadline| deadline <= now) {
                    return;
                }
                // what begins meanwhile has at least this time
                let next = deadline.map_or(now + most, |deadline| deadline.min(now + most));
                tokio::time::sleep_until(next.into()).await;
            }
        };
        tokio::select! {
            () = watch => {}
            () = self.shed.notified() => {}
        }
    }

    /// Idle ones first, then by how long they stand still; `None`: busy.
    fn uselessness(&self, now: Instant) -> Option<(bool, Duration)> {
        let state = self.state();
        if state.active == 0 {
            let idle = now.saturating_duration_since(state.touched);
            // its request may be on the way
            return (idle >= limits::FRESH_TIME).then_some((true, idle));
        }
        let since = state.replies.values().map(|reply| reply.taken).chain(state.waits.values().copied());
        let still = now.saturating_duration_since(since.min()?);
        (still >= self.budgets.shed).then_some((false, still))
    }
}

/// A request under way.
pub(super) struct Active(Arc<Connection>);

impl Drop for Active {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.active -= 1;
        state.touched = Instant::now();
    }
}

/// A piece of a request's body that the peer has not sent yet.
pub(super) struct Waiting {
    connection: Arc<Connection>,
    number: u64,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.connection.state().waits.remove(&self.number);
    }
}

/// Watches how the peer takes a reply.
pub(super) fn watch(active: Active, body: Body, meter: Option<Arc<Meter>>) -> Body {
    if body.is_end_stream() {
        return body;
    }
    let mut state = active.0.state();
    let number = state.number();
    state.replies.insert(number, Progress { taken: Instant::now(), bytes: 0 });
    drop(state);
    Body::new(Watched { body, number, active, meter })
}

struct Watched {
    body: Body,
    number: u64,
    active: Active,
    meter: Option<Arc<Meter>>,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if let Some(Ok(frame)) = &frame {
            let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
            if let Some(meter) = &self.meter {
                meter.count(usize::try_from(bytes).unwrap_or(usize::MAX));
            }
            let progress = Progress { taken: Instant::now(), bytes };
            self.active.0.state().replies.insert(self.number, progress);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.active.0.state().replies.remove(&self.number);
    }
}

/// The places for connections.
pub(super) struct Places {
    budgets: Budgets,
    free: Arc<Semaphore>,
    next: AtomicU64,
    taken: Mutex<BTreeMap<u64, Weak<Connection>>>,
}

/// A connection's place, free again when this is dropped.
pub(super) struct Place {
    pub(super) connection: Arc<Connection>,
    number: u64,
    places: Arc<Places>,
    _permit: OwnedSemaphorePermit,
}

impl Places {
    pub(super) fn new(budgets: Budgets) -> Arc<Places> {
        let free = Arc::new(Semaphore::new(budgets.connections));
        Arc::new(Places { budgets, free, next: AtomicU64::new(0), taken: Mutex::default() })
    }

    fn taken(&self) -> MutexGuard<'_, BTreeMap<u64, Weak<Connection>>> {
        self.taken.lock().expect("no panic happens while the places are held")
    }

    /// Takes a place; where none is free, the connection that is of least use loses its own.
    pub(super) async fn take(self: &Arc<Self>, secure: bool, address: Option<IpAddr>) -> Place {
        let permit = loop {
            if let Ok(permit) = Arc::clone(&self.free).try_acquire_owned() {
                break permit;
            }
            self.shed_one();
            let wait = Arc::clone(&self.free).acquire_owned();
            if let Ok(permit) = tokio::time::timeout(limits::SHED_RETRY, wait).await {
                break permit.expect("the semaphore is never closed");
            }
        };
        let connection = Arc::new(Connection::new(self.budgets, secure, address));
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.taken().insert(number, Arc::downgrade(&connection));
        Place { connection, number, places: Arc::clone(self), _permit: permit }
    }

    fn shed_one(&self) {
        let now = Instant::now();
        let taken = self.taken();
        let candidates = taken.values().filter_map(Weak::upgrade);
        let worst =
            candidates.filter_map(|one| Some((one.uselessness(now)?, one))).max_by_key(|(rank, _)| *rank);
        drop(taken);
        if let Some((_, connection)) = worst {
            connection.shed.notify_one();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.taken().remove(&self.number);
    }
}
