//! Plain HTTP both ways: what answers challenges, and what speaks to the authority.

use crate::{limits, server::tls::Certificates};
use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Request, State},
    http::{self, HeaderValue, Method, StatusCode, header},
    response::Response,
};
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use std::{pin::Pin, sync::Arc};

/// Where the authority looks (RFC 8555, section 8.3).
const PLACE: &str = "/.well-known/acme-challenge/";

/// Answers challenges, and nothing else.
pub(in crate::server) fn router(certificates: Arc<Certificates>) -> Router {
    Router::new().fallback(answer).with_state(certificates)
}

async fn answer(State(certificates): State<Arc<Certificates>>, request: Request) -> Response {
    let asked = matches!(*request.method(), Method::GET | Method::HEAD);
    let token = request.uri().path().strip_prefix(PLACE).filter(|_| asked);
    let text = token.and_then(|token| certificates.said(token));
    let mut response = Response::new(Body::from(text.clone().unwrap_or_default()));
    *response.status_mut() = if text.is_some() { StatusCode::OK } else { StatusCode::NOT_FOUND };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Speaks to the authority by the house's own client.
pub(super) struct Http(pub(super) reqwest::Client);

type Sent = Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>>;

fn other(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Other(error.into())
}

impl HttpClient for Http {
    fn request(&self, request: http::Request<BodyWrapper<Bytes>>) -> Sent {
        let client = self.0.clone();
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let body = axum::body::to_bytes(Body::new(body), limits::ACME_BYTES).await.map_err(other)?;
            let request = client.request(head.method, head.uri.to_string()).headers(head.headers).body(body);
            let mut reply = request.send().await.map_err(other)?;
            let mut bytes = Vec::new();
            while let Some(piece) = reply.chunk().await.map_err(other)? {
                if bytes.len() + piece.len() > limits::ACME_BYTES {
                    return Err(other("the authority's answer is too long"));
                }
                bytes.extend_from_slice(&piece);
            }
            let mut response = http::Response::new(());
            *response.status_mut() = reply.status();
            *response.headers_mut() = std::mem::take(reply.headers_mut());
            let (parts, ()) = response.into_parts();
            Ok(BytesResponse { parts, body: Box::new(Bytes::from(bytes)) })
        })
    }
}
