//! `POST /token/device`: codes for a device without a browser (RFC 8628, section 3.1), and `/.well-known/oauth-authorization-server`,
//! by which clients find out that there are some (RFC 8414).

use crate::limits;
use crate::server::{
    body::{self, Incoming},
    call::{Call, blocking},
    devices::{Device, NoCode},
    error::ApiError,
    reply,
};
use axum::{
    http::{HeaderValue, header},
    response::Response,
};
use std::sync::Arc;

/// The grant type that a device asks for its token with.
pub(super) const GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";

/// Where clients reach this registry, where devices are let in: by its accounts, at its web page, for its tokens.
pub(super) fn offered(call: &Call) -> Result<String, ApiError> {
    let access = call.visitor.access();
    let offers = access.makes_tokens() && access.has_accounts() && call.shared.policy.current().web;
    call.visitor.home().filter(|_| offers).ok_or(ApiError::PathUnknown)
}

/// What this registry is to clients of OAuth.
pub(in crate::server) fn metadata(call: &Call) -> Result<Response, ApiError> {
    let home = offered(call)?;
    let body = serde_json::json!({
        "issuer": home,
        "token_endpoint": format!("{home}/token"),
        "device_authorization_endpoint": format!("{home}/token/device"),
        "grant_types_supported": ["password", "refresh_token", GRANT],
        "response_types_supported": [],
        "token_endpoint_auth_methods_supported": ["none"],
    });
    Ok(reply::json("application/json", body.to_string()))
}

/// Gives a device its codes.
pub(in crate::server) async fn post(mut call: Call) -> Result<Response, ApiError> {
    let home = offered(&call)?;
    let length = call.content_length();
    let incoming = Incoming::new(&call.shared, std::mem::take(&mut call.body));
    let bytes = body::small(incoming, length, limits::TOKEN_FORM_BYTES).await?;
    let form: Vec<(String, String)> = form_urlencoded::parse(&bytes).into_owned().collect();
    let client = form.iter().find(|(name, _)| name == "client_id").map_or("", |(_, value)| value.as_str());
    if !is_client(client) {
        return Err(ApiError::TokenRequest("`client_id` is the client's name, of visible ASCII"));
    }
    // the address as it is counted: one client has 64 bits of IPv6
    let device = Device { client: client.to_owned(), address: call.visitor.address() };
    let devices = Arc::clone(&call.shared.devices);
    let codes = blocking(move || match devices.begin(device) {
        Ok(codes) => Ok(Some(codes)),
        Err(NoCode::Many) => Ok(None),
        Err(NoCode::Storage(error)) => Err(error),
    });
    let codes = codes.await?.ok_or(ApiError::Often { retry: limits::DEVICE_LIFE / 10 })?;
    let body = serde_json::json!({
        "device_code": codes.device,
        "user_code": codes.user,
        "verification_uri": format!("{home}/device"),
        "verification_uri_complete": format!("{home}/device?user_code={}", codes.user),
        "expires_in": limits::DEVICE_LIFE.as_secs(),
        "interval": limits::DEVICE_INTERVAL.as_secs(),
    });
    let mut response = reply::json("application/json", body.to_string());
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// Whether a text may be shown as a client's name.
pub(super) fn is_client(text: &str) -> bool {
    (1..=limits::CLIENT_ID_BYTES).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}
