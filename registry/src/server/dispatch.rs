//! From a request to its endpoint, and the headers that every reply carries.

use super::{
    Event, Shared, endpoint,
    error::ApiError,
    query::Query,
    route::{self, Route},
};
use crate::protocol;
use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, header},
    response::Response,
};
use std::{sync::Arc, time::Instant};

/// One request, taken apart.
pub(super) struct Call {
    pub(super) shared: Arc<Shared>,
    pub(super) method: Method,
    pub(super) headers: HeaderMap,
    pub(super) query: Query,
    pub(super) body: Body,
}

impl Call {
    /// A header's text; one that is no text counts as missing.
    pub(super) fn header(&self, name: HeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The announced length of the body. hyper has refused a wrong one already.
    pub(super) fn content_length(&self) -> Option<u64> {
        self.header(header::CONTENT_LENGTH).and_then(|text| text.parse().ok())
    }
}

/// The whole server. Names contain slashes, so paths are split by [`route`] rather than by axum's router.
pub(super) fn router(shared: Arc<Shared>) -> Router {
    Router::new().fallback(answer).with_state(shared)
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let started = Instant::now();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let mut response = match dispatch(Arc::clone(&shared), request).await {
        Ok(response) => response,
        Err(error) => {
            if error.is_failure() {
                shared.tell(&Event::Failure { operation: &format!("{method} {path}"), error: &error });
            }
            error.into_response()
        }
    };
    let headers = response.headers_mut();
    headers.insert(protocol::API_VERSION_HEADER, HeaderValue::from_static(protocol::API_VERSION));
    // manifests and blobs are whatever somebody pushed: no browser may take them for a page
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let (status, elapsed) = (response.status().as_u16(), started.elapsed());
    shared.tell(&Event::Request { method: method.as_str(), path: &path, status, elapsed });
    response
}

async fn dispatch(shared: Arc<Shared>, request: Request) -> Result<Response, ApiError> {
    let (head, body) = request.into_parts();
    let route = route::parse(head.uri.path())?;
    let query = Query::parse(head.uri.query())?;
    let method = head.method.clone();
    let call = Call { shared, method: head.method, headers: head.headers, query, body };
    let refuse = |allowed| Err(ApiError::Method(method.clone(), allowed));
    match (route, method.as_str()) {
        (Route::Base, "GET" | "HEAD") => Ok(endpoint::base::get()),
        (Route::Base, _) => refuse("GET, HEAD"),
        (Route::Catalog, "GET" | "HEAD") => endpoint::catalog::get(call).await,
        (Route::Catalog, _) => refuse("GET, HEAD"),
        (Route::Blob { name, digest }, "GET" | "HEAD") => endpoint::blob_get::get(call, name, &digest).await,
        (Route::Blob { name, digest }, "DELETE") => endpoint::blob_delete::delete(call, name, &digest).await,
        (Route::Blob { .. }, _) => refuse("GET, HEAD, DELETE"),
        (Route::Uploads { name }, "POST") => endpoint::upload_start::post(call, name).await,
        (Route::Uploads { .. }, _) => refuse("POST"),
        (Route::Upload { name, id }, "GET" | "HEAD") => endpoint::upload_status::get(call, name, &id).await,
        (Route::Upload { name, id }, "PATCH") => endpoint::upload_chunk::patch(call, name, &id).await,
        (Route::Upload { name, id }, "PUT") => endpoint::upload_finish::put(call, name, &id).await,
        (Route::Upload { name, id }, "DELETE") => endpoint::upload_cancel::delete(call, name, &id).await,
        (Route::Upload { .. }, _) => refuse("GET, HEAD, PATCH, PUT, DELETE"),
        (Route::Manifest { name, reference }, "GET" | "HEAD") => {
            endpoint::manifest_get::get(call, name, &reference).await
        }
        (Route::Manifest { name, reference }, "PUT") => {
            endpoint::manifest_put::put(call, name, &reference).await
        }
        (Route::Manifest { name, reference }, "DELETE") => {
            endpoint::manifest_delete::delete(call, name, &reference).await
        }
        (Route::Manifest { .. }, _) => refuse("GET, HEAD, PUT, DELETE"),
        (Route::Tags { name }, "GET" | "HEAD") => endpoint::tags::get(call, name).await,
        (Route::Tags { .. }, _) => refuse("GET, HEAD"),
        (Route::Referrers { name, digest }, "GET" | "HEAD") => {
            endpoint::referrers::get(call, name, &digest).await
        }
        (Route::Referrers { .. }, _) => refuse("GET, HEAD"),
    }
}
