//! What is seen from outside beside the protocol: whether the server lives, whether it takes requests, and its numbers.
//!
//! `/healthz` and `/readyz` are answered everywhere and to everybody, for they say nothing else. `/metrics` tells how much there is
//! and how much is done, which a private registry's callers need not know: it is answered on sockets of its own, and on the others
//! only where anyone may do everything.

use super::{
    call::{Shared, blocking},
    error::ApiError,
    metrics::{self, Gauges},
    reply,
    storage::Dependency,
};
use crate::limits;
use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderValue, Method, StatusCode, header},
    response::Response,
};
use std::sync::Arc;

/// Something that is no part of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    Health,
    Ready,
    Metrics,
}

/// What a path asks for.
pub(super) fn seen(path: &str) -> Option<Seen> {
    match path {
        "/healthz" => Some(Seen::Health),
        "/readyz" => Some(Seen::Ready),
        "/metrics" => Some(Seen::Metrics),
        _ => None,
    }
}

/// The sockets of its own.
pub(super) fn router(shared: Arc<Shared>) -> Router {
    Router::new().fallback(answer).with_state(shared)
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let replied = match seen(request.uri().path()) {
        Some(seen) => show(&shared, seen, request.method()).await,
        None => Err(ApiError::PathUnknown),
    };
    replied.unwrap_or_else(ApiError::into_response)
}

/// Answers whoever was let in.
pub(super) async fn show(shared: &Arc<Shared>, seen: Seen, method: &Method) -> Result<Response, ApiError> {
    if !matches!(method.as_str(), "GET" | "HEAD") {
        return Err(ApiError::Method(method.clone(), "GET, HEAD"));
    }
    let (status, kind, text) = match seen {
        Seen::Health => (StatusCode::OK, "text/plain", "ok\n".to_owned()),
        Seen::Ready => match ready(shared).await {
            Ok(text) => (StatusCode::OK, "text/plain", text),
            Err(text) => (StatusCode::SERVICE_UNAVAILABLE, "text/plain", text),
        },
        Seen::Metrics => {
            let asked = Arc::clone(shared);
            let text = blocking(move || {
                Ok(asked.metrics.text(&Gauges {
                    storage: &asked.storage,
                    quotas: &asked.policy.current().quotas,
                    most_connections: asked.budgets.connections,
                    draining: asked.is_draining(),
                    waiting: asked.notices.as_ref().map(|notices| notices.waiting()),
                    tracer: asked.traces.as_deref(),
                }))
            })
            .await?;
            (StatusCode::OK, metrics::CONTENT_TYPE, text)
        }
    };
    let mut response = reply::empty(status);
    reply::set(&mut response, header::CONTENT_TYPE, kind);
    reply::set(&mut response, header::CONTENT_LENGTH, &text.len().to_string());
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if method != Method::HEAD {
        *response.body_mut() = Body::from(text);
    }
    Ok(response)
}

/// Whether requests are taken, and what they need answers.
async fn ready(shared: &Arc<Shared>) -> Result<String, String> {
    if shared.is_draining() {
        return Err("stopping\n".to_owned());
    }
    if !shared.storage.is_shared() {
        let answers = probe(shared, Dependency::Database).await;
        return if answers {
            Ok("ready\n".to_owned())
        } else {
            Err("the storage does not answer\n".to_owned())
        };
    }
    let (database, content) =
        tokio::join!(probe(shared, Dependency::Database), probe(shared, Dependency::Content));
    let word = |answers| if answers { "answers" } else { "does not answer" };
    let all = database && content;
    let head = if all { "ready" } else { "not ready" };
    let text = format!("{head}\ndatabase {}\ncontent {}\n", word(database), word(content));
    if all { Ok(text) } else { Err(text) }
}

/// Whether a dependency answers in time.
async fn probe(shared: &Arc<Shared>, of: Dependency) -> bool {
    let turns = shared.probes.of(of);
    let storage = Arc::clone(&shared.storage);
    let asked = async move {
        let turn = turns.acquire_owned().await.ok()?;
        let answered = blocking(move || {
            let answered = storage.probe(of);
            drop(turn);
            answered
        });
        answered.await.ok()
    };
    matches!(tokio::time::timeout(limits::PROBE_TIME, asked).await, Ok(Some(())))
}
