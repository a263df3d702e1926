//! `GET /v2/N/tags/list`: the tags, sorted by byte, in pages.

use crate::server::{
    call::{Call, blocking},
    error::ApiError,
    query::next_link,
    reply, send,
};
use axum::{http::header, response::Response};

pub(in crate::server) async fn get(call: Call, name: String) -> Result<Response, ApiError> {
    let count = call.query.page()?;
    // need not be a tag that exists
    let last = call.query.get("last").unwrap_or_default().to_owned();
    let (storage, repository) = (call.shared.storage.clone(), name.clone());
    // one more than shown tells whether there is a next page
    let mut tags = blocking(move || storage.tags(&repository, &last, count as u64 + 1)).await?;
    let more = tags.len() > count;
    tags.truncate(count);
    let body = serde_json::json!({ "name": name, "tags": tags }).to_string();
    let mut response = send::json(&call.shared, "application/json", body).await?;
    if let Some(last) = tags.last().filter(|_| more) {
        let link = next_link(&format!("/v2/{name}/tags/list"), &[("n", &count.to_string()), ("last", last)]);
        reply::set(&mut response, header::LINK, &link);
    }
    Ok(response)
}
