//! What this server asks another for while it answers a request: a span within the request's, of which the other one is told by
//! `traceparent`, and by that alone. Whatever else the client says of its trace (`tracestate`, `baggage`) is for this server.

use super::{
    Context, Span, Tracer,
    span::{CLIENT, Told, number, text},
};
use axum::http::HeaderValue;
use std::{
    sync::Arc,
    time::{Instant, SystemTime},
};

/// The trace of a request, for what is asked on its behalf.
#[derive(Clone)]
pub(in crate::server) struct Trace {
    tracer: Arc<Tracer>,
    context: Context,
}

/// Something that another server was asked for, and is not yet through.
pub(in crate::server) struct Asking {
    trace: Option<Trace>,
    header: Option<HeaderValue>,
    name: &'static str,
    attributes: Vec<serde_json::Value>,
    began: SystemTime,
    started: Instant,
}

impl Trace {
    /// What goes on within a request.
    pub(in crate::server) fn new(tracer: Arc<Tracer>, context: Context) -> Trace {
        Trace { tracer, context }
    }
}

impl Asking {
    /// Begins to ask whoever has this name or address and port; `about` are attributes by their names, where there is anything to say.
    pub(in crate::server) fn begin(
        trace: Option<&Trace>,
        name: &'static str,
        (host, port): (&str, u16),
        about: &[(&str, &str)],
    ) -> Asking {
        let trace = trace.and_then(|trace| {
            let context = trace.context.within()?;
            Some(Trace { tracer: Arc::clone(&trace.tracer), context })
        });
        let mut attributes = vec![text("server.address", host), number("server.port", port.into())];
        let said = about.iter().filter(|(_, value)| !value.is_empty());
        attributes.extend(said.map(|(key, value)| text(key, value)));
        Asking {
            header: trace.as_ref().map(|trace| trace.context.header()),
            attributes,
            trace,
            name,
            began: SystemTime::now(),
            started: Instant::now(),
        }
    }

    /// The `traceparent` of its requests.
    pub(in crate::server) fn header(&self) -> Option<&HeaderValue> {
        self.header.as_ref()
    }

    /// It is through: well, or with this failure.
    pub(in crate::server) fn end(self, failure: Option<&'static str>) {
        let Asking { trace, name, attributes, began, started, .. } = self;
        let Some(Trace { tracer, context }) = trace.filter(|trace| trace.context.is_followed()) else {
            return;
        };
        let elapsed = started.elapsed();
        let told = Told { name: name.to_owned(), kind: CLIENT, began, elapsed, attributes, failure };
        tracer.record(Span::of(&context, told));
    }
}
