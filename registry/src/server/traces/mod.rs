//! Traces of requests, for a collector of OpenTelemetry: a span each, sent in the background in OTLP's JSON form over HTTP
//! (OpenTelemetry protocol 1.x, "OTLP/HTTP").
//!
//! Nothing waits for it: spans lie in a queue that is bounded, and what does not fit or is not taken is counted and gone.

mod asking;
mod context;
mod send;
mod setting;
mod span;
mod state;

pub use setting::TraceSetting;

pub(super) use asking::{Asking, Trace};
pub(super) use context::Context;
pub(super) use send::Sender;
use span::Span;

use crate::{
    client::{Authorities, Proxies},
    limits,
    server::event::Handled,
};
use axum::http::HeaderMap;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::mpsc;

/// Where traces go.
#[derive(Clone, Debug, Default)]
pub struct Traces {
    /// The collector; none where nothing is traced.
    pub setting: Option<TraceSetting>,
    /// Authorities to trust in the place of the system's.
    pub authorities: Option<Authorities>,
    /// Proxies that lead to it.
    pub proxies: Proxies,
}

/// Takes spans in.
pub(super) struct Tracer {
    sample: f64,
    queue: mpsc::Sender<Span>,
    /// Spans that a collector took.
    pub(super) sent: AtomicU64,
    /// Spans that were lost.
    pub(super) dropped: AtomicU64,
}

impl Tracer {
    /// And where they come out.
    pub(super) fn new(sample: f64) -> (Tracer, mpsc::Receiver<Span>) {
        let (queue, spans) = mpsc::channel(limits::SPANS_WAITING);
        (Tracer { sample, queue, sent: AtomicU64::new(0), dropped: AtomicU64::new(0) }, spans)
    }

    /// The trace that a request belongs to; `None` where it belongs to none.
    pub(super) fn begin(&self, headers: &HeaderMap) -> Option<Context> {
        Context::of(headers, self.sample)
    }

    /// Takes a request's in, where its trace is followed.
    pub(super) fn request(&self, context: &Context, class: &str, handled: &Handled<'_>) {
        if context.is_followed() {
            self.record(Span::new(context, class, handled));
        }
    }

    /// Takes one in, or counts it as lost.
    fn record(&self, span: Span) {
        if self.queue.try_send(span).is_err() {
            self.lost(1);
        }
    }

    fn lost(&self, count: usize) {
        self.dropped.fetch_add(count as u64, Ordering::Relaxed);
    }
}
