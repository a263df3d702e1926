//! One span, as OTLP's JSON writes it: identifiers in hexadecimal digits, enumerations as numbers, 64-bit numbers as text.

use super::{Context, context::digits};
use crate::{
    limits,
    server::event::{self, Handled},
};
use serde_json::{Value, json};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// SPAN_KIND_SERVER of the protocol.
const SERVER: u8 = 2;
/// SPAN_KIND_CLIENT of the protocol.
pub(super) const CLIENT: u8 = 3;
/// STATUS_CODE_ERROR of the protocol.
const ERROR: u8 = 2;
/// SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK of the protocol: what the next one says is known.
const TELLS_REMOTE: u32 = 0x100;
/// SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK of the protocol: the parent is of another process.
const REMOTE: u32 = 0x200;

/// Something that took its time.
pub(in crate::server) struct Span(Value);

/// What comes from outside, cut where it is long.
pub(super) fn text(key: &str, value: &str) -> Value {
    let value: String = value.chars().take(limits::SPAN_CHARACTERS).collect();
    json!({ "key": key, "value": { "stringValue": value } })
}

pub(super) fn number(key: &str, value: u64) -> Value {
    json!({ "key": key, "value": { "intValue": value.to_string() } })
}

fn nanoseconds(time: SystemTime) -> String {
    time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_nanos().to_string()
}

/// What is told of any span.
pub(super) struct Told {
    pub(super) name: String,
    pub(super) kind: u8,
    pub(super) began: SystemTime,
    pub(super) elapsed: Duration,
    pub(super) attributes: Vec<Value>,
    /// Why it failed, if it did; empty where there are no words for it.
    pub(super) failure: Option<&'static str>,
}

impl Span {
    /// One of any kind.
    pub(super) fn of(context: &Context, told: Told) -> Span {
        let Told { name, kind, began, elapsed, attributes, failure } = told;
        let remote = if kind == SERVER && context.parent.is_some() { REMOTE } else { 0 };
        let mut span = json!({
            "traceId": digits(&context.trace),
            "spanId": digits(&context.span),
            "flags": u32::from(context.flags) | TELLS_REMOTE | remote,
            "name": name,
            "kind": kind,
            "startTimeUnixNano": nanoseconds(began),
            "endTimeUnixNano": nanoseconds(began + elapsed),
            "attributes": attributes,
        });
        if let Some(parent) = context.parent {
            span["parentSpanId"] = json!(digits(&parent));
        }
        if let Some(state) = &context.state {
            span["traceState"] = json!(**state);
        }
        match failure {
            Some("") => span["status"] = json!({ "code": ERROR }),
            Some(why) => span["status"] = json!({ "code": ERROR, "message": why }),
            None => {}
        }
        Span(span)
    }

    /// What is told of a request, with the names of OpenTelemetry's semantic conventions for HTTP.
    pub(in crate::server) fn new(context: &Context, class: &str, handled: &Handled<'_>) -> Span {
        let Handled { began, path, repository, user, client, status, elapsed, .. } = *handled;
        // a name of a few: what others there are is up to clients
        let method = event::method(handled.method);
        let (method, name) = if method == "other" {
            ("_OTHER", format!("HTTP {class}"))
        } else {
            (method, format!("{method} {class}"))
        };
        let mut attributes = vec![
            text("http.request.method", method),
            text("http.route", class),
            text("url.path", path),
            number("http.response.status_code", status.into()),
            number("http.request.body.size", handled.received),
            number("http.response.body.size", handled.sent),
        ];
        if method == "_OTHER" {
            attributes.push(text("http.request.method_original", handled.method));
        }
        if status >= 500 {
            attributes.push(text("error.type", &status.to_string()));
        }
        attributes.extend(repository.map(|name| text("slipway.repository", name)));
        attributes.extend(user.map(|name| text("enduser.id", name)));
        attributes.extend(client.map(|address| text("client.address", &address.to_string())));
        attributes.extend(handled.agent.map(|agent| text("user_agent.original", agent)));
        let failure = (status >= 500 || !handled.complete).then_some("");
        Span::of(context, Told { name, kind: SERVER, began, elapsed, attributes, failure })
    }
}

/// The body of one post.
pub(super) fn body(service: &str, spans: Vec<Span>) -> Value {
    let spans: Vec<Value> = spans.into_iter().map(|span| span.0).collect();
    let scope = json!({ "name": "slipway", "version": env!("CARGO_PKG_VERSION") });
    let resource = json!({ "attributes": [text("service.name", service), text("service.version", env!("CARGO_PKG_VERSION"))] });
    json!({ "resourceSpans": [{ "resource": resource, "scopeSpans": [{ "scope": scope, "spans": spans }] }] })
}
