//! From a request to its endpoint, and the headers that every reply carries.

use super::{
    access::{self, Demand, Origin, Visitor},
    arriving::Arriving,
    call::{Call, Shared, blocking},
    change::Changed,
    connection::{self, Connection},
    endpoint::{base, blob, catalog, device, manifest, referrers, tags, token, upload},
    entry,
    error::ApiError,
    event::Event,
    follow::Followed,
    forwarded, host, mirror,
    outside::{self, Seen},
    policy,
    query::Query,
    quota,
    route::{self, Route},
    throttle::{Meter, Whose},
    upstreams::At,
    web,
};
use crate::{limits, protocol};
use axum::{
    Extension, Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, header, request::Parts},
    response::Response,
};
use std::{net::IpAddr, sync::Arc};

/// The whole server. Names contain slashes, so paths are split by [`route`] rather than by axum's router.
pub(super) fn router(shared: Arc<Shared>) -> Router {
    Router::new().fallback(answer).with_state(shared)
}

async fn answer(
    State(shared): State<Arc<Shared>>,
    Extension(connection): Extension<Arc<Connection>>,
    request: Request,
) -> Response {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    let work = handle(shared, connection, request);
    if reads {
        return work.await;
    }
    // a client that hangs up must not keep what it changed from being told of
    tokio::spawn(work).await.unwrap_or_else(|error| ApiError::from(error).into_response())
}

async fn handle(shared: Arc<Shared>, connection: Arc<Connection>, request: Request) -> Response {
    let active = connection.begin();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let mut followed = Followed::new(Arc::clone(&shared), method, path);
    let agent = request.headers().get(header::USER_AGENT).and_then(|value| value.to_str().ok());
    followed.agent = agent.map(|text| text.chars().take(limits::AGENT_CHARACTERS).collect());
    followed.context = shared.traces.as_ref().and_then(|tracer| tracer.begin(request.headers()));
    let mut known = Known::default();
    let (head, body) = request.into_parts();
    let (origin, client) = forwarded::origin(&shared.policy.current().trusted_proxies, &connection, &head);
    followed.client = client;
    let came = Came { connection, origin, head, body };
    let answered = dispatch(Arc::clone(&shared), came, &mut followed, &mut known).await;
    let mut response = answered.unwrap_or_else(|error| {
        if error.is_failure() {
            shared.metrics.fail();
            let operation = format!("{} {}", followed.method, followed.path);
            shared.tell(&Event::Failure { operation: &operation, error: &error });
        }
        if known.page { web::failed(error, followed.method == Method::HEAD) } else { error.into_response() }
    });
    if let Some(changed) = known.change.and_then(|change| change.done(&response, known.mounts)) {
        if changed.action != "pull" {
            shared.tell(&Event::Change(changed.told(&followed)));
        }
        notify(&shared, &changed, &followed, known.home).await;
    }
    let headers = response.headers_mut();
    if known.page {
        web::guard(headers);
    }
    for warning in known.warnings {
        // made of checked words
        headers.extend(HeaderValue::from_str(&warning).ok().map(|value| (header::WARNING, value)));
    }
    if let Some(namespace) = known.namespace {
        // it is one of the configuration's
        headers.extend(
            HeaderValue::from_str(&namespace)
                .ok()
                .map(|value| (HeaderName::from_static(protocol::NAMESPACE_HEADER), value)),
        );
    }
    headers.insert(protocol::API_VERSION_HEADER, HeaderValue::from_static(protocol::API_VERSION));
    // manifests and blobs are whatever somebody pushed: no browser may take them for a page
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    followed.status = response.status().as_u16();
    let length = response.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    let promised = length.and_then(|text| text.parse().ok());
    response.map(|body| connection::watch(active, followed.follow(body, promised), known.meter))
}

/// A request, and how it came.
struct Came {
    connection: Arc<Connection>,
    origin: Origin,
    head: Parts,
    body: Body,
}

/// What is found out about a request on its way.
#[derive(Default)]
struct Known {
    /// What whoever may ask is told beside the answer.
    warnings: Vec<String>,
    meter: Option<Arc<Meter>>,
    /// What it changes if it succeeds.
    change: Option<Changed>,
    /// Whether it asks for a mount.
    mounts: bool,
    /// Whether it is answered by the web page.
    page: bool,
    /// Where the client reaches the registry.
    home: Option<String>,
    /// What it calls the upstream of a mirror.
    namespace: Option<String>,
}

async fn dispatch(
    shared: Arc<Shared>,
    came: Came,
    followed: &mut Followed,
    known: &mut Known,
) -> Result<Response, ApiError> {
    let Came { connection, origin, head, body } = came;
    host::check(&head)?;
    if let Some(seen) = outside::seen(head.uri.path()) {
        followed.class = "outside";
        return match seen {
            Seen::Metrics if !shared.access.current().is_open() => Err(ApiError::PathUnknown),
            _ => outside::show(&shared, seen, &head.method).await,
        };
    }
    let address = origin.address;
    let limits = shared.policy.current().limits;
    known.meter = Meter::new(&shared.throttle, limits, address);
    let (meter, received) = (known.meter.clone(), Arc::clone(&followed.received));
    let outbox = connection.outbox(head.version);
    let body = Arriving::wrap(body, connection, head.version, &head.headers, meter, received);
    if shared.policy.current().web
        && let Some(page) = web::Page::of(head.uri.path())
    {
        (followed.class, known.page) = ("web", true);
        let asked = web::Asked { page, head, body, origin, client: followed.client };
        return web::answer(&shared, asked, followed, &mut known.change).await;
    }
    let route = route::parse(head.uri.path())?;
    followed.class = route.class();
    let query = Query::parse(head.uri.query())?;
    let (route, mut mirrored) = place(&shared, &origin, route, &query)?;
    mirrored.iter_mut().for_each(|at| at.trace = followed.trace());
    known.namespace = query.get("ns").filter(|_| mirrored.is_some()).map(str::to_owned);
    followed.repository = route.repository().map(str::to_owned);
    if let Some(address) = address {
        shared.throttle.request(Whose::Address(address), &limits.address)?;
    }
    let visitor = admit(&shared, origin, (&route, &query), &head.method, &head.headers).await?;
    let pushes = access::changes(&route, &head.method) && head.method != Method::DELETE;
    if let Some(name) = route.repository().filter(|_| mirrored.is_some() && pushes) {
        return Err(ApiError::Mirrored(name.to_owned()));
    }
    followed.user.clone_from(visitor.name());
    if let (Some(meter), Some(user)) = (&known.meter, visitor.name()) {
        meter.is_of(user);
    }
    count(&shared, &route, address, visitor.name().as_deref())?;
    if let Some(name) = route.repository() {
        known.warnings = shared.policy.current().warnings(name);
    }
    known.change = Changed::expected(&route, &head.method);
    known.home = visitor.home();
    known.mounts = query.get("mount").is_some();
    let (method, headers, client) = (head.method, head.headers, followed.client);
    let pushed = route.repository().filter(|_| pushes).map(str::to_owned);
    let call = Call { shared: Arc::clone(&shared), visitor, client, method, headers, query, body, outbox };
    match mirrored {
        Some(at) if matches!(call.method, Method::GET | Method::HEAD) => reach_mirror(route, call, at).await,
        _ => {
            let response = reach(route, call).await?;
            if let Some(name) = pushed {
                warn(&shared, name, &mut known.warnings).await;
            }
            Ok(response)
        }
    }
}

/// Counts a request of somebody who is let in, and refuses one too many.
fn count(
    shared: &Shared,
    route: &Route,
    address: Option<IpAddr>,
    user: Option<&str>,
) -> Result<(), ApiError> {
    let (limits, user) = (shared.policy.current().limits, user.map(Whose::User));
    if let Some(user) = user {
        shared.throttle.request(user, &limits.user)?;
    }
    if matches!(route, Route::Uploads { .. }) {
        address.map_or(Ok(()), |one| shared.throttle.upload(Whose::Address(one), &limits.address))?;
        user.map_or(Ok(()), |user| shared.throttle.upload(user, &limits.user))?;
    }
    Ok(())
}

/// Says what is nearly full of what was pushed into.
async fn warn(shared: &Arc<Shared>, name: String, values: &mut Vec<String>) {
    if shared.policy.current().quotas.is_empty() {
        return;
    }
    let storage = Arc::clone(&shared.storage);
    // the push is done, and its answer is not this look's to take back
    if let Ok(room) = blocking(move || storage.room(&name)).await {
        let words = quota::warnings(&room);
        policy::warn(values, words.iter().map(String::as_str));
    }
}

/// Which repository a request is about, under the name that it has here, and of which other registry it is.
fn place(
    shared: &Shared,
    origin: &Origin,
    route: Route,
    query: &Query,
) -> Result<(Route, Option<At>), ApiError> {
    shared.mirrors.current().place(route, query, origin.host.as_deref())
}

/// Finds out who asks, and refuses what they may not do: before anything of an endpoint runs.
async fn admit(
    shared: &Arc<Shared>,
    origin: Origin,
    (route, query): (&Route, &Query),
    method: &Method,
    headers: &HeaderMap,
) -> Result<Visitor, ApiError> {
    // a method that no endpoint takes is refused by name, to whoever would be let in
    let demand = access::demand(route, query, method).unwrap_or(Demand::Entry);
    let visitor = entry::enter(shared, origin, headers, &demand).await?;
    visitor.demand(&demand)?;
    if shared.policy.current().read_only && access::changes(route, method) {
        return Err(ApiError::ReadOnly);
    }
    Ok(visitor)
}

/// What is read of another registry's.
async fn reach_mirror(route: Route, call: Call, at: At) -> Result<Response, ApiError> {
    match route {
        Route::Blob { digest, .. } => mirror::blob::get(call, at, &digest).await,
        Route::Manifest { reference, .. } => mirror::manifest::get(call, at, &reference).await,
        Route::Tags { .. } => mirror::lists::tags(call, at).await,
        Route::Referrers { digest, .. } => mirror::lists::referrers(call, at, &digest).await,
        other => reach(other, call).await,
    }
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
        (Route::Device, "POST") => device::post(call).await,
        (Route::Device, _) => refuse("POST"),
        (Route::Metadata, "GET" | "HEAD") => device::metadata(&call),
        (Route::Metadata, _) => refuse("GET, HEAD"),
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

/// Puts notices of a change into the queue, before it is answered.
async fn notify(shared: &Arc<Shared>, changed: &Changed, by: &Followed, home: Option<String>) {
    let Some(notices) = shared.notices.clone() else { return };
    let Some(notice) = notices.of(&changed.told(by), by.method.as_str(), home) else { return };
    let shared = Arc::clone(shared);
    let added = tokio::task::spawn_blocking(move || {
        if let Err(error) = notices.add(notice, &shared.storage) {
            shared.tell(&Event::Failure { operation: "queue a notice", error: &error });
            shared.metrics.fail();
        }
    });
    // a panic there was reported by itself
    let _ = added.await;
}
