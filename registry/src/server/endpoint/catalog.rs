//! `GET /v2/_catalog`: the repositories. Reserved by the specification, used by mirrors, scanners and web pages.

use crate::server::{
    call::{Call, blocking},
    error::ApiError,
    query::next_link,
    reply, send,
};
use axum::{http::header, response::Response};

pub(in crate::server) async fn get(call: Call) -> Result<Response, ApiError> {
    let count = call.query.page()?;
    let last = call.query.get("last").unwrap_or_default().to_owned();
    let storage = call.shared.storage.clone();
    // one more than shown tells whether there is a next page
    let mut names = blocking(move || storage.repositories(&last, count as u64 + 1)).await?;
    let more = names.len() > count;
    names.truncate(count);
    let mut response = {
        let body = serde_json::json!({ "repositories": names }).to_string();
        send::json(&call.shared, "application/json", body).await?
    };
    if let Some(last) = names.last().filter(|_| more) {
        let link = next_link("/v2/_catalog", &[("n", &count.to_string()), ("last", last)]);
        reply::set(&mut response, header::LINK, &link);
    }
    Ok(response)
}
