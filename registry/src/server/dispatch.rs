//! From a request to its endpoint, and the headers that every reply carries.

use super::{
    access::{self, Demand, Origin, Visitor},
    arriving::Arriving,
    call::{Call, Shared},
    connection::{self, Connection},
    endpoint::{base, blob, catalog, manifest, referrers, tags, token, upload},
    error::ApiError,
    event::Event,
    query::Query,
    route::{self, Route},
    throttle::{Meter, Whose},
};
use crate::protocol;
use axum::{
    Extension, Router,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, header, uri::Authority},
    response::Response,
};
use std::{sync::Arc, time::Instant};

/// The whole server. Names contain slashes, so paths are split by [`route`] rather than by axum's router.
pub(super) fn router(shared: Arc<Shared>) -> Router {
    Router::new().fallback(answer).with_state(shared)
}

async fn answer(
    State(shared): State<Arc<Shared>>,
    Extension(connection): Extension<Arc<Connection>>,
    request: Request,
) -> Response {
    let started = Instant::now();
    let active = connection.begin();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let mut known = Known::default();
    let mut response = match dispatch(Arc::clone(&shared), connection, request, &mut known).await {
        Ok(response) => response,
        Err(error) => {
            if error.is_failure() {
                shared.tell(&Event::Failure { operation: &format!("{method} {path}"), error: &error });
            }
            error.into_response()
        }
    };
    let headers = response.headers_mut();
    for warning in known.warnings {
        // made of checked words
        headers.extend(HeaderValue::from_str(&warning).ok().map(|value| (header::WARNING, value)));
    }
    headers.insert(protocol::API_VERSION_HEADER, HeaderValue::from_static(protocol::API_VERSION));
    // manifests and blobs are whatever somebody pushed: no browser may take them for a page
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let (status, elapsed) = (response.status().as_u16(), started.elapsed());
    shared.tell(&Event::Request {
        method: method.as_str(),
        path: &path,
        user: known.user.as_deref(),
        status,
        elapsed,
    });
    response.map(|body| connection::watch(active, body, known.meter))
}

/// What is found out about a request on its way.
#[derive(Default)]
struct Known {
    user: Option<String>,
    /// What whoever may ask is told beside the answer.
    warnings: Vec<String>,
    meter: Option<Arc<Meter>>,
}

async fn dispatch(
    shared: Arc<Shared>,
    connection: Arc<Connection>,
    request: Request,
    known: &mut Known,
) -> Result<Response, ApiError> {
    let (head, body) = request.into_parts();
    let (secure, certified) = (connection.is_secure(), connection.user().map(str::to_owned));
    let address = connection.address();
    let limits = shared.policy.current().limits;
    known.meter = Meter::new(&shared, limits, address);
    let body = Arriving::wrap(body, connection, head.version, &head.headers, known.meter.clone());
    let route = route::parse(head.uri.path())?;
    let query = Query::parse(head.uri.query())?;
    let mut origin = Origin::new(secure, head.uri.authority().map(Authority::as_str), &head.headers);
    (origin.user, origin.address) = (certified, address);
    if let Some(address) = address {
        shared.throttle.request(Whose::Address(address), &limits.address)?;
    }
    let visitor = admit(&shared, origin, &route, &head.method, &head.headers).await?;
    known.user.clone_from(visitor.name());
    if let (Some(meter), Some(user)) = (&known.meter, visitor.name()) {
        meter.is_of(user);
    }
    let user = visitor.name().as_deref().map(Whose::User);
    if let Some(user) = user {
        shared.throttle.request(user, &limits.user)?;
    }
    if matches!(route, Route::Uploads { .. }) {
        address.map_or(Ok(()), |one| shared.throttle.upload(Whose::Address(one), &limits.address))?;
        user.map_or(Ok(()), |user| shared.throttle.upload(user, &limits.user))?;
    }
    if let Some(name) = route.repository() {
        known.warnings = shared.policy.current().warnings(name);
    }
    let call = Call { shared, visitor, method: head.method, headers: head.headers, query, body };
    reach(route, call).await
}

/// Finds out who asks, and refuses what they may not do: before anything of an endpoint runs.
async fn admit(
    shared: &Arc<Shared>,
    origin: Origin,
    route: &Route,
    method: &Method,
    headers: &HeaderMap,
) -> Result<Visitor, ApiError> {
    // a method that no endpoint takes is refused by name, to whoever would be let in
    let demand = access::demand(route, method).unwrap_or(Demand::Entry);
    let visitor = access::enter(shared, origin, headers, &demand).await?;
    visitor.demand(&demand)?;
    if shared.policy.current().read_only && access::changes(route, method) {
        return Err(ApiError::ReadOnly);
    }
    Ok(visitor)
}

async fn reach(route: Route, call: Call) -> Result<Response, ApiError> {
    let method = call.method.clone();
    let refuse = |allowed| Err(ApiError::Method(method.clone(), allowed));
    match (route, method.as_str()) {
        (Route::Base, "GET" | "HEAD") => Ok(base::get()),
        (Route::Base, _) => refuse("GET, HEAD"),
        (Route::Token, "GET" | "HEAD") => token::get(call).await,
        (Route::Token, "POST") => token::post(call).await,
        (Route::Token, _) => refuse("GET, HEAD, POST"),
        (Route::Catalog, "GET" | "HEAD") => catalog::get(call).await,
        (Route::Catalog, _) => refuse("GET, HEAD"),
        (Route::Blob { name, digest }, "GET" | "HEAD") => blob::get::get(call, name, &digest).await,
        (Route::Blob { name, digest }, "DELETE") => blob::delete::delete(call, name, &digest).await,
        (Route::Blob { .. }, _) => refuse("GET, HEAD, DELETE"),
        (Route::Uploads { name }, "POST") => upload::start::post(call, name).await,
        (Route::Uploads { .. }, _) => refuse("POST"),
        (Route::Upload { name, id }, "GET" | "HEAD") => upload::status::get(call, name, &id).await,
        (Route::Upload { name, id }, "PATCH") => upload::chunk::patch(call, name, &id).await,
        (Route::Upload { name, id }, "PUT") => upload::finish::put(call, name, &id).await,
        (Route::Upload { name, id }, "DELETE") => upload::cancel::delete(call, name, &id).await,
        (Route::Upload { .. }, _) => refuse("GET, HEAD, PATCH, PUT, DELETE"),
        (Route::Manifest { name, reference }, "GET" | "HEAD") => {
            manifest::get::get(call, name, &reference).await
        }
        (Route::Manifest { name, reference }, "PUT") => manifest::put::put(call, name, &reference).await,
        (Route::Manifest { name, reference }, "DELETE") => {
            manifest::delete::delete(call, name, &reference).await
        }
        (Route::Manifest { .. }, _) => refuse("GET, HEAD, PUT, DELETE"),
        (Route::Tags { name }, "GET" | "HEAD") => tags::get(call, name).await,
        (Route::Tags { .. }, _) => refuse("GET, HEAD"),
        (Route::Referrers { name, digest }, "GET" | "HEAD") => referrers::get(call, name, &digest).await,
        (Route::Referrers { .. }, _) => refuse("GET, HEAD"),
    }
}
