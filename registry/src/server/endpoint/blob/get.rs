//! `GET` and `HEAD /v2/N/blobs/D`: a blob or parts of it.

use crate::server::{
    call::{Call, Shared},
    error::ApiError,
    range::{self, Part, Window},
    reply,
    send::{self, Content, Kept, Segment},
    storage::StorageError,
};
use crate::{limits, protocol};
use axum::{
    body::{Body, Bytes},
    http::{Method, StatusCode, header},
    response::Response,
};
use slipway_oci::Digest;
use std::sync::Arc;

/// What one trip to the blocking threads found out.
struct Opened {
    size: u64,
    window: Window,
    content: Option<(Content, Kept)>,
    /// All of a small blob.
    bytes: Option<Vec<u8>>,
    /// Where the client fetches it.
    link: Option<String>,
}

pub(in crate::server) async fn get(call: Call, name: String, digest: &str) -> Result<Response, ApiError> {
    let digest: Digest = digest.parse()?;
    let head = call.method == Method::HEAD;
    let unchanged = reply::not_modified(&call.headers, &digest);
    // HEAD tells the length that the whole has, and what is unchanged is no matter of ranges (RFC 9110, sections 13.2.2 and 14.2)
    let range = range::asked(&call.headers, &digest).filter(|_| !head && !unchanged).map(str::to_owned);
    let (shared, wanted, read) = (Arc::clone(&call.shared), digest.clone(), !head && !unchanged);
    let client = call.client;
    let look = move || {
        let size = shared.storage.blob_size(&name, &wanted)?;
        let link =
            if read && shared.redirect.means(client, size) { shared.storage.link(&wanted)? } else { None };
        // what somebody else sends is not opened here
        open(&shared, &wanted, size, range.as_deref(), read && link.is_none())
            .map(|opened| Opened { link, ..opened })
    };
    let mut opened = call.shared.quick.look(look).await?;
    if let Some(link) = opened.link.take() {
        return Ok(lead(&digest, &link));
    }
    let content = opened.content.take();
    let body = content
        .map(|(content, kept)| send::body(Arc::clone(&call.shared), content, kept, call.outbox.clone()));
    let body = opened.bytes.take().map(Body::from).or(body);
    respond(&digest, &opened, body, unchanged)
}

fn open(
    shared: &Shared,
    digest: &Digest,
    size: u64,
    range: Option<&str>,
    read: bool,
) -> Result<Opened, StorageError> {
    let window = range::window(range, size);
    let Some(segments) = segments(digest, &window, size).filter(|_| read) else {
        return Ok(Opened { size, window, content: None, bytes: None, link: None });
    };
    // read at once, not in a trip of its own
    if matches!(window, Window::Whole) && size <= limits::PIECE_SMALL_BYTES as u64 {
        let bytes = Some(shared.storage.blob_bytes(digest, size)?);
        return Ok(Opened { size, window, content: None, bytes, link: None });
    }
    let content = Content { digest: digest.clone(), size, segments };
    let kept = send::open_early(&shared.storage, Arc::clone(&shared.early), &content)?;
    Ok(Opened { size, window, content: Some((content, kept)), bytes: None, link: None })
}

/// Sends a client to where it fetches the blob: with the same ranges, for as long as the address lives.
fn lead(digest: &Digest, link: &str) -> Response {
    let mut response = reply::empty(StatusCode::TEMPORARY_REDIRECT);
    reply::set_validators(&mut response, digest);
    reply::set(&mut response, header::LOCATION, link);
    // whoever kept it would open the blob to others, and in vain later
    reply::set(&mut response, header::CACHE_CONTROL, "no-store");
    reply::set(&mut response, header::CONTENT_LENGTH, "0");
    response
}

/// What the body is made of; `None` where there is none.
fn segments(digest: &Digest, window: &Window, size: u64) -> Option<Vec<Segment>> {
    let bare = |offset, end| vec![Segment { head: Bytes::new(), offset, end }];
    match window {
        Window::Whole => Some(bare(0, size)),
        Window::Part(part) => Some(bare(part.first, part.last + 1)),
        Window::Parts(parts) => {
            let headed = |part: &Part| Segment {
                head: range::part_head(&range::boundary(digest), *part, size).into(),
                offset: part.first,
                end: part.last + 1,
            };
            let end = Segment { head: range::parts_end(&range::boundary(digest)).into(), offset: 0, end: 0 };
            Some(parts.iter().map(headed).chain([end]).collect())
        }
        Window::Unsatisfiable => None,
    }
}

fn respond(
    digest: &Digest,
    opened: &Opened,
    content: Option<Body>,
    unchanged: bool,
) -> Result<Response, ApiError> {
    let Opened { size, window, .. } = opened;
    let size = *size;
    let (status, length) = match window {
        Window::Unsatisfiable => return Err(ApiError::Unsatisfiable { size }),
        _ if unchanged => (StatusCode::NOT_MODIFIED, None),
        Window::Whole => (StatusCode::OK, Some(size)),
        Window::Part(part) => (StatusCode::PARTIAL_CONTENT, Some(part.length())),
        Window::Parts(parts) => (StatusCode::PARTIAL_CONTENT, Some(range::multipart_bytes(parts, size))),
    };
    let mut response = reply::empty(status);
    reply::set_validators(&mut response, digest);
    reply::set(&mut response, header::ACCEPT_RANGES, "bytes");
    reply::set(&mut response, header::CACHE_CONTROL, reply::IMMUTABLE);
    match window {
        Window::Parts(_) => {
            let kind = format!("multipart/byteranges; boundary={}", range::boundary(digest));
            reply::set(&mut response, header::CONTENT_TYPE, &kind);
        }
        _ => reply::set(&mut response, header::CONTENT_TYPE, protocol::OCTET_STREAM),
    }
    if let Some(length) = length {
        reply::set(&mut response, header::CONTENT_LENGTH, &length.to_string());
    }
    if let Window::Part(Part { first, last }) = window {
        reply::set(&mut response, header::CONTENT_RANGE, &format!("bytes {first}-{last}/{size}"));
    }
    if let Some(content) = content {
        *response.body_mut() = content;
    }
    Ok(response)
}
