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
}

pub(in crate::server) async fn get(call: Call, name: String, digest: &str) -> Result<Response, ApiError> {
    let digest: Digest = digest.parse()?;
    let head = call.method == Method::HEAD;
    let unchanged = reply::not_modified(&call.headers, &digest);
    // HEAD tells the length that the whole has, and what is unchanged is no matter of ranges (RFC 9110, sections 13.2.2 and 14.2)
    let range = range::asked(&call.headers, &digest).filter(|_| !head && !unchanged).map(str::to_owned);
    let (shared, wanted, read) = (Arc::clone(&call.shared), digest.clone(), !head && !unchanged);
    let mut opened =
        call.shared.quick.look(move || open(&shared, &name, &wanted, range.as_deref(), read)).await?;
    let content = opened.content.take();
    let body = content
        .map(|(content, kept)| send::body(Arc::clone(&call.shared), content, kept, call.outbox.clone()));
    let body = opened.bytes.take().map(Body::from).or(body);
    respond(&digest, &opened, body, unchanged)
}

fn open(
    shared: &Shared,
    name: &str,
    digest: &Digest,
    range: Option<&str>,
    read: bool,
) -> Result<Opened, StorageError> {
    let size = shared.storage.blob_size(name, digest)?;
    let window = range::window(range, size);
    let Some(segments) = segments(digest, &window, size).filter(|_| read) else {
        return Ok(Opened { size, window, content: None, bytes: None });
    };
    // read at once, not in a trip of its own
    if matches!(window, Window::Whole) && size <= limits::PIECE_SMALL_BYTES as u64 {
        let bytes = Some(shared.storage.blob_bytes(digest, size)?);
        return Ok(Opened { size, window, content: None, bytes });
    }
    let content = Content { digest: digest.clone(), size, segments };
    let kept = send::open_early(&shared.storage, Arc::clone(&shared.early), &content)?;
    Ok(Opened { size, window, content: Some((content, kept)), bytes: None })
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
