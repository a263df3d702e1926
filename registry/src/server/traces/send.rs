//! Sends spans to their collector, some at a time.

use super::{Span, TraceSetting, Tracer, Traces, span::body};
use crate::{
    client::{ClientError, beside},
    limits,
    server::event::{Event, Observer},
};
use reqwest::{StatusCode, header};
use std::{sync::Arc, sync::atomic::Ordering, time::Instant};
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
                        self.send(std::mem::take(&mut spans), &report).await;
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
            self.send(spans, &report).await;
        }
    }

    async fn send(&mut self, spans: Vec<Span>, report: &Observer) {
        let count = spans.len();
        let bytes = body(&self.setting.service, spans).to_string();
        let mut sent = self.post(bytes.clone()).await;
        // "OTLP/HTTP response": these are for another try; one, because the next spans are waiting
        if matches!(&sent, Err(why) if why.may_pass()) {
            tokio::time::sleep(limits::TRACES_PAUSE).await;
            sent = self.post(bytes).await;
        }
        match sent {
            Ok(()) => drop(self.tracer.sent.fetch_add(count as u64, Ordering::Relaxed)),
            Err(error) => {
                self.tracer.lost(count);
                if self.told.is_none_or(|told| told.elapsed() > limits::TRACES_TOLD) {
                    self.told = Some(Instant::now());
                    report(&Event::Failure { operation: "send traces", error: &error });
                }
            }
        }
    }

    async fn post(&self, bytes: String) -> Result<(), Failed> {
        let mut request =
            self.http.post(self.setting.url.clone()).header(header::CONTENT_TYPE, "application/json");
        for (name, value) in &self.setting.headers {
            request = request.header(name, value);
        }
        let response =
            request.body(bytes).send().await.map_err(|error| Failed::Unanswered(error.without_url()))?;
        // what else it says is not read, however long it is
        match response.status() {
            status if status.is_success() => Ok(()),
            status => Err(Failed::Refused(status)),
        }
    }
}

/// Why spans were not taken.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("the collector does not answer: {0}")]
    Unanswered(reqwest::Error),
    #[error("the collector answers {0}")]
    Refused(StatusCode),
}

impl Failed {
    fn may_pass(&self) -> bool {
        match self {
            Failed::Unanswered(_) => true,
            Failed::Refused(status) => matches!(status.as_u16(), 429 | 502 | 503 | 504),
        }
    }
}
