//! Sends spans to their collector, some at a time.

use super::{Span, TraceSetting, Tracer, Traces, span::body};
use crate::{
    client::{ClientError, beside, retry_after},
    limits,
    server::event::{Event, Observer},
};
use axum::body::Bytes;
use reqwest::{Response, StatusCode, header};
use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};
use tokio::sync::{mpsc, watch};

/// What reaches the collector.
pub(in crate::server) struct Sender {
    http: reqwest::Client,
    setting: TraceSetting,
    spans: mpsc::Receiver<Span>,
    tracer: Arc<Tracer>,
    /// When a failure was told of last.
    told: Option<Instant>,
}

/// Returns when the server ends.
async fn over(stop: &mut watch::Receiver<bool>) {
    // a sender that is gone has ended too
    drop(stop.wait_for(|stop| *stop).await);
}

impl Sender {
    /// A sender and what gives it spans; `None` where nothing is traced.
    pub(in crate::server) fn new(traces: &Traces) -> Result<Option<Sender>, ClientError> {
        let Some(setting) = traces.setting.clone() else { return Ok(None) };
        let plain = setting.url.scheme() == "http";
        let http = beside(traces.authorities.as_ref(), &traces.proxies, plain, limits::TRACES_TIME)?;
        let (tracer, spans) = Tracer::new(setting.sample);
        Ok(Some(Sender { http, setting, spans, tracer: Arc::new(tracer), told: None }))
    }

    /// What gives it spans.
    pub(in crate::server) fn tracer(&self) -> Arc<Tracer> {
        Arc::clone(&self.tracer)
    }

    /// Sends until the server ends, and then what is there.
    pub(in crate::server) async fn run(mut self, report: Observer, mut stop: watch::Receiver<bool>) {
        loop {
            let mut spans = Vec::new();
            tokio::select! {
                count = self.spans.recv_many(&mut spans, limits::SPANS_AT_ONCE) => if count == 0 { return },
                () = over(&mut stop) => {
                    self.spans.close();
                    while self.spans.recv_many(&mut spans, limits::SPANS_AT_ONCE).await > 0 {
                        self.send(std::mem::take(&mut spans), &report, &mut stop).await;
                    }
                    return;
                }
            }
            // others come along
            let gathering = async {
                while spans.len() < limits::SPANS_AT_ONCE {
                    let room = limits::SPANS_AT_ONCE - spans.len();
                    if self.spans.recv_many(&mut spans, room).await == 0 {
                        return;
                    }
                }
            };
            tokio::select! {
                _ = tokio::time::timeout(limits::TRACES_PAUSE, gathering) => {}
                () = over(&mut stop) => {}
            }
            self.send(spans, &report, &mut stop).await;
        }
    }

    async fn send(&mut self, spans: Vec<Span>, report: &Observer, stop: &mut watch::Receiver<bool>) {
        let count = spans.len();
        let bytes = Bytes::from(body(&self.setting.service, spans).to_string());
        let taken = match self.deliver(bytes, stop).await {
            Ok(()) => count,
            Err(error) => {
                let taken = count - error.lost(count);
                self.tracer.lost(count - taken);
                if self.told.is_none_or(|told| told.elapsed() > limits::TRACES_TOLD) {
                    self.told = Some(Instant::now());
                    report(&Event::Failure { operation: "send traces", error: &error });
                }
                taken
            }
        };
        self.tracer.sent.fetch_add(taken as u64, Ordering::Relaxed);
    }

    /// Posts until it is taken, or refused for good, or often enough ("OTLP/HTTP throttling" and "failures"). Those that come
    /// meanwhile wait, as many as there is room for.
    async fn deliver(&self, bytes: Bytes, stop: &mut watch::Receiver<bool>) -> Result<(), Failed> {
        let mut pause = limits::TRACES_PAUSE;
        for _ in 1..limits::TRACES_TRIES {
            let Err(failed) = self.post(bytes.clone()).await else { return Ok(()) };
            let Some(wanted) = failed.may_pass() else { return Err(failed) };
            // each server at another time: a collector that comes back is not run over
            let part = f64::from(rand_byte()) / 256.0;
            let own = pause.mul_f64(1.0 + part / 2.0);
            tokio::select! {
                () = tokio::time::sleep(wanted.unwrap_or(own)) => {}
                // the last try is now
                () = over(stop) => break,
            }
            pause *= 2;
        }
        self.post(bytes).await
    }

    async fn post(&self, bytes: Bytes) -> Result<(), Failed> {
        let mut request =
            self.http.post(self.setting.url.clone()).header(header::CONTENT_TYPE, "application/json");
        for (name, value) in &self.setting.headers {
            request = request.header(name, value);
        }
        let response =
            request.body(bytes).send().await.map_err(|error| Failed::Unanswered(error.without_url()))?;
        let (status, wanted) = (response.status(), retry_after(response.headers()));
        let said = said(response).await;
        if status.is_success() {
            return partly(&said).map_or(Ok(()), Err);
        }
        let why = serde_json::from_slice(&said).map(|Status { message }| words(&message)).unwrap_or_default();
        Err(Failed::Refused { status, wanted, why })
    }
}

/// Between 0 and 255; 0 where there is no randomness.
fn rand_byte() -> u8 {
    let mut byte = [0];
    // what is missing only makes pauses equal
    let _ = getrandom::fill(&mut byte);
    byte[0]
}

/// What a collector says: as much as is read of it. A reply that breaks off, or goes on, has been given all the same.
async fn said(mut response: Response) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Ok(Some(piece)) = response.chunk().await {
        if bytes.len() + piece.len() > limits::TRACES_REPLY_BYTES {
            break;
        }
        bytes.extend_from_slice(&piece);
    }
    bytes
}

/// Why not all were taken ("Partial Success"); a word about what was taken all the same is nothing that was lost.
fn partly(said: &[u8]) -> Option<Failed> {
    let Taken { partial } = serde_json::from_slice(said).ok()?;
    let rejected = match partial.rejected {
        Some(Count::Text(text)) => text.parse().unwrap_or(0),
        Some(Count::Number(count)) => count,
        None => 0,
    };
    let why = words(&partial.message);
    (rejected > 0 || !why.is_empty()).then_some(Failed::Partly { rejected, why })
}

/// A collector's words, for a line of a log.
fn words(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().take(limits::MESSAGE_CHARACTERS).map(plain).collect()
}

/// ExportTraceServiceResponse of the protocol.
#[derive(serde::Deserialize)]
struct Taken {
    #[serde(rename = "partialSuccess")]
    partial: Partial,
}

#[derive(serde::Deserialize)]
struct Partial {
    #[serde(rename = "rejectedSpans")]
    rejected: Option<Count>,
    #[serde(rename = "errorMessage", default)]
    message: String,
}

/// A 64-bit number, which is text in this form, and which not everybody writes so.
#[derive(serde::Deserialize)]
#[serde(untagged)]
enum Count {
    Text(String),
    Number(u64),
}

/// google.rpc.Status, with which failures are explained.
#[derive(serde::Deserialize)]
struct Status {
    message: String,
}

/// Why spans were not taken.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("the collector does not answer: {0}")]
    Unanswered(reqwest::Error),
    #[error("the collector answers {status}{}{why}", between(.why))]
    Refused {
        status: StatusCode,
        /// How long it wants to be left alone.
        wanted: Option<Duration>,
        why: String,
    },
    #[error("the collector does without {rejected} of the spans{}{why}", between(.why))]
    Partly { rejected: u64, why: String },
}

fn between(why: &str) -> &'static str {
    if why.is_empty() { "" } else { ": " }
}

impl Failed {
    /// Whether another try may help, and after which time it is wanted if the collector says.
    fn may_pass(&self) -> Option<Option<Duration>> {
        match self {
            Failed::Unanswered(_) => Some(None),
            // "Failures": these alone
            Failed::Refused { status, wanted, .. } => {
                matches!(status.as_u16(), 429 | 502 | 503 | 504).then_some(*wanted)
            }
            // "the client MUST NOT retry"
            Failed::Partly { .. } => None,
        }
    }

    /// How many of so many spans are lost by it.
    fn lost(&self, count: usize) -> usize {
        match self {
            Failed::Partly { rejected, .. } => {
                usize::try_from(*rejected).map_or(count, |lost| lost.min(count))
            }
            _ => count,
        }
    }
}
