//! Lists of a mirror: upstream's, as it has them at the moment; what is stored here where it does not answer.

use super::{At, Trouble, manifest::stale};
use crate::protocol;
use crate::server::{
    call::Call,
    endpoint::{
        referrers::{self, Entry},
        tags,
    },
    error::ApiError,
    event::Event,
    query::next_link,
    reply, send,
};
use axum::{http::header, response::Response};
use slipway_oci::{Digest, spec::media_type};

/// Where a list came from: upstream, or here and why.
fn reported<T>(call: &Call, at: &At, asked: Result<T, Trouble>) -> Result<Result<T, Trouble>, ApiError> {
    match asked {
        Ok(list) => Ok(Ok(list)),
        Err(trouble) if trouble.passes() => {
            let operation = format!("ask for a list of `{}`", at.local);
            call.shared.tell(&Event::Failure { operation: &operation, error: &trouble });
            Ok(Err(trouble))
        }
        Err(trouble) => Err(at.list_error(trouble)),
    }
}

/// `GET /v2/N/tags/list`. Pages are upstream's.
pub(in crate::server) async fn tags(call: Call, at: At) -> Result<Response, ApiError> {
    call.query.page()?;
    let query: Vec<(String, String)> = call.query.pairs().filter(|(name, _)| name != "ns").cloned().collect();
    let source = &at.source;
    let asked = async {
        let _turn = source.turn(&call.shared.fetches).await?;
        at.ask(("list tags", ""), async |upstream| upstream.tags(&at.remote, &query).await).await
    };
    let asked = asked.await;
    let page = match reported(&call, &at, asked)? {
        Ok(page) => page,
        Err(trouble) => {
            let mut response =
                tags::get(call, at.local).await.map_err(|_| ApiError::Mirror(trouble.clone()))?;
            reply::set(&mut response, header::WARNING, &stale(&trouble));
            return Ok(response);
        }
    };
    let body = serde_json::json!({ "name": at.asked, "tags": page.tags }).to_string();
    let mut response = send::json(&call.shared, "application/json", body).await?;
    if let Some(next) = page.next {
        let next: Vec<(&str, &str)> =
            next.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        reply::set(&mut response, header::LINK, &next_link(&format!("/v2/{}/tags/list", at.local), &next));
    }
    Ok(response)
}

/// `GET /v2/N/referrers/D`.
pub(in crate::server) async fn referrers(call: Call, at: At, digest: &str) -> Result<Response, ApiError> {
    let subject: Digest = digest.parse()?;
    let kind = referrers::filter(&call.query);
    let source = &at.source;
    let asked = async {
        let _turn = source.turn(&call.shared.fetches).await?;
        let what = ("list referrers", digest);
        let kind = kind.as_deref();
        at.ask(what, async |upstream| upstream.referrers(&at.remote, &subject, kind).await).await
    };
    let asked = asked.await;
    let found = match reported(&call, &at, asked)? {
        Ok(found) => found,
        Err(trouble) => {
            let mut response = referrers::get(call, at.local, digest).await?;
            reply::set(&mut response, header::WARNING, &stale(&trouble));
            return Ok(response);
        }
    };
    let meant = found.into_iter().filter(|one| kind.is_none() || one.artifact_type == kind);
    let body = referrers::index(meant.map(Entry::from).collect());
    let mut response = send::json(&call.shared, media_type::OCI_INDEX, body).await?;
    if kind.is_some() {
        reply::set(&mut response, protocol::FILTERS_APPLIED_HEADER, "artifactType");
    }
    Ok(response)
}
