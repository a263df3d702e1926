//! `GET` and `HEAD /v2/N/blobs/D`: a blob or a part of it.

use crate::server::{
    call::{Call, blocking},
    error::ApiError,
    range::{self, Window},
    reply,
    storage::{Storage, StorageError},
};
use crate::{limits, protocol};
use axum::{
    body::{Body, Bytes},
    http::{Method, StatusCode, header},
    response::Response,
};
use slipway_oci::Digest;
use std::{fs::File, io, os::unix::fs::FileExt, sync::Arc};

/// What one trip to the blocking threads found out.
struct Opened {
    size: u64,
    window: Window,
    content: Option<Content>,
}

/// Bytes on their way to a client.
struct Content {
    file: Arc<File>,
    first_piece: Bytes,
    /// What comes after the first piece.
    offset: u64,
    end: u64,
}

pub(in crate::server) async fn get(call: Call, name: String, digest: &str) -> Result<Response, ApiError> {
    let digest: Digest = digest.parse()?;
    let head = call.method == Method::HEAD;
    let unchanged = reply::not_modified(&call.headers, &digest);
    let etag = format!("\"{digest}\"");
    // a range asked of another version gets the whole; and HEAD tells the length that GET would have
    let same = call.header(header::IF_RANGE).is_none_or(|text| text == etag);
    let range = call.header(header::RANGE).filter(|_| same && !head).map(str::to_owned);
    let (storage, wanted) = (call.shared.storage.clone(), digest.clone());
    let opened = blocking(move || {
        let read = !head && !unchanged;
        open(&storage, &name, &wanted, range.as_deref(), read)
    })
    .await?;
    respond(&digest, opened, unchanged)
}

fn open(
    storage: &Storage,
    name: &str,
    digest: &Digest,
    range: Option<&str>,
    read: bool,
) -> Result<Opened, StorageError> {
    let size = storage.blob_size(name, digest)?;
    let window = range::window(range, size);
    let (offset, end) = match window {
        Window::Whole => (0, size),
        Window::Part { first, last } => (first, last + 1),
        Window::Unsatisfiable => return Ok(Opened { size, window, content: None }),
    };
    if !read {
        return Ok(Opened { size, window, content: None });
    }
    let file = Arc::new(storage.open_blob(digest)?);
    let first_piece = read_piece(&file, offset, end).map_err(|source| StorageError::Io {
        operation: "read",
        path: digest.to_string().into(),
        source,
    })?;
    let offset = offset + first_piece.len() as u64;
    Ok(Opened { size, window, content: Some(Content { file, first_piece, offset, end }) })
}

/// A file shorter than its row says is an error, never a shorter answer.
fn read_piece(file: &File, offset: u64, end: u64) -> io::Result<Bytes> {
    let mut buffer = vec![0; (end - offset).min(limits::PIECE_BYTES as u64) as usize];
    file.read_exact_at(&mut buffer, offset)?;
    Ok(buffer.into())
}

fn respond(digest: &Digest, opened: Opened, unchanged: bool) -> Result<Response, ApiError> {
    let Opened { size, window, content } = opened;
    let (status, length) = match window {
        Window::Unsatisfiable => return Err(ApiError::Unsatisfiable { size }),
        _ if unchanged => (StatusCode::NOT_MODIFIED, None),
        Window::Whole => (StatusCode::OK, Some(size)),
        Window::Part { first, last } => (StatusCode::PARTIAL_CONTENT, Some(last - first + 1)),
    };
    let mut response = reply::empty(status);
    reply::set_validators(&mut response, digest);
    reply::set(&mut response, header::ACCEPT_RANGES, "bytes");
    reply::set(&mut response, header::CACHE_CONTROL, reply::IMMUTABLE);
    reply::set(&mut response, header::CONTENT_TYPE, protocol::OCTET_STREAM);
    if let Some(length) = length {
        reply::set(&mut response, header::CONTENT_LENGTH, &length.to_string());
    }
    if let Window::Part { first, last } = window {
        reply::set(&mut response, header::CONTENT_RANGE, &format!("bytes {first}-{last}/{size}"));
    }
    if let Some(content) = content {
        *response.body_mut() = body(content);
    }
    Ok(response)
}

fn body(content: Content) -> Body {
    let Content { file, first_piece, offset, end } = content;
    if offset == end {
        return Body::from(first_piece);
    }
    let rest = futures_util::stream::try_unfold((file, offset), move |(file, offset)| async move {
        if offset == end {
            return Ok::<_, io::Error>(None);
        }
        let reader = Arc::clone(&file);
        let piece = tokio::task::spawn_blocking(move || read_piece(&reader, offset, end)).await??;
        let next = offset + piece.len() as u64;
        Ok(Some((piece, (file, next))))
    });
    let first = futures_util::stream::once(async move { Ok(first_piece) });
    Body::from_stream(futures_util::StreamExt::chain(first, rest))
}
