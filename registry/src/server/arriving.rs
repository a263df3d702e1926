//! A request's body as the connection sees it: whether the peer is what is waited for, and what becomes of a body that its
//! endpoint did not want.

use super::{
    connection::{Connection, Waiting},
    throttle::Meter,
};
use crate::limits;
use axum::{
    body::{Body, Bytes, HttpBody},
    http::{HeaderMap, Version, header},
};
use http_body::{Frame, SizeHint};
use std::{
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

/// A body that tells its connection while the peer keeps it waiting.
///
/// A request that is refused before its body was read would end in a reset: the kernel sends one when a socket with unread
/// bytes is closed, and the peer loses the reply that says why. So the rest is read and thrown away for a while after the
/// reply (RFC 9112, section 9.6).
pub(super) struct Arriving {
    body: Option<Body>,
    connection: Arc<Connection>,
    waiting: Option<Waiting>,
    meter: Option<Arc<Meter>>,
    /// Whether the rest has to be read for the reply to arrive.
    lingers: bool,
    received: Arc<AtomicU64>,
}

impl Arriving {
    pub(super) fn wrap(
        body: Body,
        connection: Arc<Connection>,
        version: Version,
        headers: &HeaderMap,
        meter: Option<Arc<Meter>>,
        received: Arc<AtomicU64>,
    ) -> Body {
        if body.is_end_stream() {
            return body;
        }
        // streams of HTTP/2 end by themselves; who expects to be told to go on sends nothing unasked
        let lingers = version < Version::HTTP_2 && !headers.contains_key(header::EXPECT);
        Body::new(Arriving { body: Some(body), connection, waiting: None, meter, lingers, received })
    }
}

impl HttpBody for Arriving {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let frame = Pin::new(body).poll_frame(context);
        match &frame {
            Poll::Pending if self.waiting.is_none() => self.waiting = Some(self.connection.wait()),
            Poll::Pending => {}
            Poll::Ready(Some(Ok(frame))) => {
                self.waiting = None;
                if let (Some(meter), Some(data)) = (&self.meter, frame.data_ref()) {
                    meter.count(data.len());
                }
                let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
                self.received.fetch_add(bytes, Ordering::Relaxed);
            }
            Poll::Ready(Some(Err(_)) | None) => (self.waiting, self.body) = (None, None),
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for Arriving {
    fn drop(&mut self) {
        let rest = self.body.take().filter(|body| self.lingers && !body.is_end_stream());
        if let Some(rest) = rest
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(tokio::time::timeout(limits::LINGER_TIME, discard(rest)));
        }
    }
}

async fn discard(mut body: Body) {
    let mut discarded = 0;
    while discarded < limits::LINGER_BYTES
        && let Some(Ok(frame)) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await
    {
        discarded += frame.data_ref().map_or(0, |data| data.len() as u64);
    }
}
