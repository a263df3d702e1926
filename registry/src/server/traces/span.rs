//! One span, as OTLP's JSON writes it: identifiers in hexadecimal digits, 64-bit numbers as text.

use super::Context;
use crate::{limits, server::event::Handled};
use serde_json::{Value, json};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// SPAN_KIND_SERVER of the protocol.
const SERVER: u8 = 2;
/// STATUS_CODE_ERROR of the protocol.
const ERROR: u8 = 2;

/// A request that was answered.
pub(in crate::server) struct Span(Value);

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What comes from outside, cut where it is long.
fn text(key: &str, value: &str) -> Value {
    let value: String = value.chars().take(limits::SPAN_CHARACTERS).collect();
    json!({ "key": key, "value": { "stringValue": value } })
}

fn number(key: &str, value: u64) -> Value {
    json!({ "key": key, "value": { "intValue": value.to_string() } })
}

fn nanoseconds(time: SystemTime) -> String {
    time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_nanos().to_string()
}

impl Span {
    /// What is told of a request, with the names of OpenTelemetry's semantic conventions for HTTP.
    pub(in crate::server) fn new(context: Context, class: &str, handled: &Handled<'_>) -> Span {
        let Handled { began, method, path, repository, user, client, status, elapsed, .. } = *handled;
        let method: String = method.chars().take(limits::METHOD_CHARACTERS).collect();
        let mut attributes = vec![
            text("http.request.method", &method),
            text("http.route", class),
            text("url.path", path),
            number("http.response.status_code", status.into()),
            number("http.request.body.size", handled.received),
            number("http.response.body.size", handled.sent),
        ];
        attributes.extend(repository.map(|name| text("slipway.repository", name)));
        attributes.extend(user.map(|name| text("enduser.id", name)));
        attributes.extend(client.map(|address| text("client.address", &address.to_string())));
        let mut span = json!({
            "traceId": hex(&context.trace),
            "spanId": hex(&context.span),
            "name": format!("{method} {class}"),
            "kind": SERVER,
            "startTimeUnixNano": nanoseconds(began),
            "endTimeUnixNano": nanoseconds(began + elapsed),
            "attributes": attributes,
        });
        if let Some(parent) = context.parent {
            span["parentSpanId"] = json!(hex(&parent));
        }
        if status >= 500 || !handled.complete {
            span["status"] = json!({ "code": ERROR });
        }
        Span(span)
    }
}

/// The body of one post.
pub(super) fn body(service: &str, spans: Vec<Span>) -> Value {
    let spans: Vec<Value> = spans.into_iter().map(|span| span.0).collect();
    let scope = json!({ "name": "slipway", "version": env!("CARGO_PKG_VERSION") });
    let resource = json!({ "attributes": [text("service.name", service), text("service.version", env!("CARGO_PKG_VERSION"))] });
    json!({ "resourceSpans": [{ "resource": resource, "scopeSpans": [{ "scope": scope, "spans": spans }] }] })
}
