//! A request to the end of its reply: then it is counted and told.

use super::{
    call::Shared,
    event::{self, Event, Handled},
    metrics::Answered,
    traces::{Context, Trace},
};
use axum::{
    body::{Body, Bytes, HttpBody},
    http::Method,
};
use http_body::{Frame, SizeHint};
use std::{
    net::IpAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{self, Poll, ready},
    time::{Instant, SystemTime},
};

/// What is known of a request, told when this is dropped.
pub(super) struct Followed {
    pub(super) shared: Arc<Shared>,
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) class: &'static str,
    pub(super) repository: Option<String>,
    pub(super) user: Option<String>,
    pub(super) client: Option<IpAddr>,
    pub(super) agent: Option<String>,
    pub(super) began: SystemTime,
    pub(super) started: Instant,
    pub(super) status: u16,
    pub(super) received: Arc<AtomicU64>,
    /// The trace that it belongs to, where it belongs to any.
    pub(super) context: Option<Context>,
    sent: u64,
    /// What the reply's head promised.
    promised: u64,
}

impl Followed {
    pub(super) fn new(shared: Arc<Shared>, method: Method, path: String) -> Followed {
        shared.metrics.active.fetch_add(1, Ordering::Relaxed);
        Followed {
            shared,
            method,
            path,
            class: "other",
            repository: None,
            user: None,
            client: None,
            agent: None,
            began: SystemTime::now(),
            started: Instant::now(),
            status: 0,
            received: Arc::default(),
            context: None,
            sent: 0,
            promised: 0,
        }
    }

    /// The trace that it belongs to, for what is asked of others on its behalf.
    pub(super) fn trace(&self) -> Option<Trace> {
        let tracer = self.shared.traces.as_ref()?;
        Some(Trace::new(Arc::clone(tracer), self.context.clone()?))
    }

    /// Follows the body of a reply whose head promises so many bytes.
    pub(super) fn follow(mut self, body: Body, promised: Option<u64>) -> Body {
        if body.is_end_stream() || self.method == Method::HEAD {
            return body;
        }
        self.promised = promised.or(body.size_hint().exact()).unwrap_or(0);
        Body::new(Going { body, followed: self })
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.shared.metrics.active.fetch_sub(1, Ordering::Relaxed);
        let (took, received) = (self.started.elapsed(), self.received.load(Ordering::Relaxed));
        // a request that was given up before its reply began has no status: nginx's number for it
        let status = if self.status == 0 { 499 } else { self.status };
        let method = event::method(self.method.as_str());
        let answered = Answered { class: self.class, method, status, took, sent: self.sent, received };
        self.shared.metrics.count(&answered);
        let handled = Handled {
            began: self.began,
            method: self.method.as_str(),
            path: &self.path,
            repository: self.repository.as_deref(),
            user: self.user.as_deref(),
            client: self.client,
            agent: self.agent.as_deref(),
            status,
            elapsed: took,
            received,
            sent: self.sent,
            complete: self.sent >= self.promised && self.status != 0,
        };
        if let Some((tracer, context)) = self.shared.traces.as_ref().zip(self.context.as_ref()) {
            tracer.request(context, self.class, &handled);
        }
        self.shared.tell(&Event::Request(handled));
    }
}

struct Going {
    body: Body,
    followed: Followed,
}

impl HttpBody for Going {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut task::Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if let Some(Ok(frame)) = &frame {
            self.followed.sent += frame.data_ref().map_or(0, |data| data.len() as u64);
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
