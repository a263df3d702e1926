//! `GET /v2/_catalog`: the repositories. Reserved by the specification, used by mirrors, scanners and web pages.

use crate::limits;
use crate::server::{
    access::Visitor,
    call::{Call, Shared, blocking},
    error::ApiError,
    query::next_link,
    reply, send,
};
use axum::{http::header, response::Response};

/// Names that the caller sees after `last`, at most `count`. Of what lies between them nothing is told, in the link neither.
async fn visible(
    shared: &Shared,
    visitor: &Visitor,
    mut last: String,
    count: usize,
) -> Result<Vec<String>, ApiError> {
    let all = visitor.sees_all();
    // the whole page at once where nothing is left out, else in pieces
    let piece = if all { count } else { count.max(limits::PAGE_ENTRIES_DEFAULT) } as u64;
    let mut names = Vec::new();
    loop {
        let storage = shared.storage.clone();
        let after = last.clone();
        let found = blocking(move || storage.repositories(&after, piece)).await?;
        let end = (found.len() as u64) < piece;
        if let Some(name) = found.last() {
            last.clone_from(name);
        }
        let seen = found.into_iter().filter(|name| all || visitor.sees(name));
        names.extend(seen.take(count - names.len()));
        if end || names.len() == count {
            return Ok(names);
        }
    }
}

pub(in crate::server) async fn get(call: Call) -> Result<Response, ApiError> {
    let count = call.query.page()?;
    let last = call.query.get("last").unwrap_or_default().to_owned();
    // one more than shown tells whether there is a next page
    let mut names = visible(&call.shared, &call.visitor, last, count + 1).await?;
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
