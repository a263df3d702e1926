//! What pages look like: a stylesheet, a script and a sign, in the binary, under names that change with them.

use super::reply;
use crate::server::error::ApiError;
use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::Response,
};
use slipway_oci::Digest;
use std::sync::LazyLock;

/// A file that comes with the binary.
pub(super) struct Asset {
    /// Where it is.
    pub(super) path: String,
    kind: &'static str,
    text: &'static str,
}

impl Asset {
    fn new(name: &str, kind: &'static str, text: &'static str) -> Asset {
        let digest = Digest::sha256(text.as_bytes()).to_string();
        let (stem, ending) = name.split_once('.').expect("a name with an ending");
        let path = format!("/assets/{stem}-{}.{ending}", &digest[7..19]);
        Asset { path, kind, text }
    }
}

pub(super) static STYLE: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("style.css", "text/css; charset=utf-8", include_str!("look/style.css")));
pub(super) static SCRIPT: LazyLock<Asset> = LazyLock::new(|| {
    Asset::new("script.js", "text/javascript; charset=utf-8", include_str!("look/script.js"))
});
pub(super) static ICON: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("icon.svg", "image/svg+xml", include_str!("look/icon.svg")));

/// Answers with one of them.
pub(super) fn get(name: &str, head: bool) -> Result<Response, ApiError> {
    let all = [&*STYLE, &*SCRIPT, &*ICON];
    let asset = all.into_iter().find(|asset| asset.path.strip_prefix("/assets/") == Some(name));
    let asset = asset.ok_or(ApiError::PathUnknown)?;
    let mut response = reply::empty(StatusCode::OK);
    reply::set(&mut response, header::CONTENT_TYPE, asset.kind);
    reply::set(&mut response, header::CONTENT_LENGTH, &asset.text.len().to_string());
    // another text has another name
    let forever = HeaderValue::from_static("public, max-age=31536000, immutable");
    response.headers_mut().insert(header::CACHE_CONTROL, forever);
    if !head {
        *response.body_mut() = Body::from(asset.text);
    }
    Ok(response)
}
