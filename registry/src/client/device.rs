//! A login by a code that is typed elsewhere (RFC 8628), at registries that say that they have it (RFC 8414).
//!
//! What a registry names for that has to be its own: an address of the same scheme, host and port. Nothing that it says makes this
//! wait for longer, or ask more often, than a person would want.

use super::{Inner, body, credential::Credential, error::ClientError, transport::Endpoint};
use crate::limits;
use reqwest::{StatusCode, Url};
use serde::{Deserialize, de::DeserializeOwned};
use std::time::{Duration, Instant};

/// Where metadata of OAuth servers is (RFC 8414, section 3).
const METADATA: &str = "/.well-known/oauth-authorization-server";

/// The grant type that asks for what was allowed.
const GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";

/// What this program calls itself.
const CLIENT: &str = "slipway";

#[derive(Deserialize)]
struct Metadata {
    token_endpoint: String,
    device_authorization_endpoint: Option<String>,
}

#[derive(Deserialize)]
struct Codes {
    device_code: String,
    user_code: String,
    verification_uri: String,
    verification_uri_complete: Option<String>,
    expires_in: u64,
    interval: Option<u64>,
}

#[derive(Deserialize)]
struct Granted {
    refresh_token: Option<String>,
}

#[derive(Deserialize)]
struct Refusal {
    error: Option<String>,
}

/// What a person is shown. All of it is the registry's own words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DevicePrompt {
    /// Where to type the code.
    pub page: String,
    /// The same with the code in it.
    pub page_with_code: Option<String>,
    /// The code.
    pub code: String,
    /// How long it holds.
    pub life: Duration,
}

impl Inner {
    /// Logs in at a registry by a code; `prompt` shows it. Answers what is to be kept.
    pub(super) async fn device_log_in(
        &self,
        registry: &str,
        prompt: &(dyn Fn(&DevicePrompt) + Sync),
    ) -> Result<Credential, ClientError> {
        let endpoint = self.transport.endpoint(registry, false).await?;
        let (begin, token) = self.device_places(&endpoint).await?;
        let bytes = self.device_post(&endpoint, &begin, &[("client_id", CLIENT)]).await?;
        let codes: Codes = read(&endpoint, "no codes for a device in the reply", &bytes)?;
        let shown = shown(&codes);
        let shown = shown.ok_or_else(|| protocol(&endpoint, "a code or an address that cannot be shown"))?;
        let life = shown.life;
        prompt(&shown);
        let (began, least) = (Instant::now(), limits::DEVICE_PAUSE_LEAST.as_secs());
        let most = limits::DEVICE_PAUSE_MOST.as_secs();
        let mut pause = codes.interval.unwrap_or(limits::DEVICE_INTERVAL.as_secs()).clamp(least, most);
        let refused =
            |message: &str| ClientError::DeviceRefused { host: endpoint.host(), message: message.to_owned() };
        loop {
            if began.elapsed() + Duration::from_secs(pause) > life {
                return Err(refused("nobody typed the code in time"));
            }
            tokio::time::sleep(Duration::from_secs(pause)).await;
            let form =
                [("grant_type", GRANT), ("device_code", codes.device_code.as_str()), ("client_id", CLIENT)];
            match self.device_post(&endpoint, &token, &form).await {
                Ok(bytes) => {
                    let granted: Granted = read(&endpoint, "no token in the reply", &bytes)?;
                    let kept = granted.refresh_token.filter(|token| !token.is_empty());
                    let kept = kept.ok_or_else(|| refused("it gives nothing that could be kept"))?;
                    return Ok(Credential::IdentityToken(kept));
                }
                Err(ClientError::DeviceRefused { message, .. }) => match message.as_str() {
                    "authorization_pending" => {}
                    "slow_down" => pause = (pause + 5).min(most),
                    "access_denied" => return Err(refused("it was refused there")),
                    "expired_token" => return Err(refused("nobody typed the code in time")),
                    other => return Err(refused(other)),
                },
                // section 3.5: who is not answered asks less often
                Err(error) if error.is_transient() => pause = (pause * 2).min(most),
                Err(error) => return Err(error),
            }
        }
    }

    /// Where a registry gives codes, and tokens for them.
    async fn device_places(&self, endpoint: &Endpoint) -> Result<(Url, Url), ClientError> {
        let none = || ClientError::NoDevices { host: endpoint.host() };
        let mut url = endpoint.base.clone();
        url.set_path(METADATA);
        let http = self.transport.http(endpoint.kind_for(&url), &url)?;
        let sent = http.get(url).send().await;
        let response = sent.map_err(|source| ClientError::unanswered(endpoint.host(), source))?;
        match response.status() {
            StatusCode::OK => {}
            // what has no such thing says so in many ways
            status if status.is_client_error() || status.is_redirection() => return Err(none()),
            _ => return Err(body::status_error("GET", response).await),
        }
        let bytes = body::read_capped(&endpoint.host(), response, limits::REPLY_BYTES, "metadata").await?;
        // a page for people, where there is no such thing
        let Ok(found) = serde_json::from_slice::<Metadata>(&bytes) else { return Err(none()) };
        let begin = found.device_authorization_endpoint.ok_or_else(none)?;
        Ok((own(endpoint, &begin)?, own(endpoint, &found.token_endpoint)?))
    }

    /// Sends a form; what OAuth refuses is [`ClientError::DeviceRefused`] with its code.
    async fn device_post(
        &self,
        endpoint: &Endpoint,
        url: &Url,
        form: &[(&str, &str)],
    ) -> Result<Vec<u8>, ClientError> {
        let http = self.transport.http(endpoint.kind_for(url), url)?;
        let sent = http.post(url.clone()).form(form).send().await;
        let response = sent.map_err(|source| ClientError::unanswered(endpoint.host(), source))?;
        let host = endpoint.host();
        match response.status() {
            StatusCode::OK => body::read_capped(&host, response, limits::REPLY_BYTES, "token").await,
            StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED => {
                let bytes = body::read_capped(&host, response, limits::REPLY_BYTES, "refusal").await?;
                let found: Option<Refusal> = serde_json::from_slice(&bytes).ok();
                let message =
                    found.and_then(|found| found.error).unwrap_or_else(|| "for no reason".to_owned());
                Err(ClientError::DeviceRefused { host, message })
            }
            _ => Err(body::status_error("POST", response).await),
        }
    }
}

/// A place that a registry names, if it is its own.
fn own(endpoint: &Endpoint, text: &str) -> Result<Url, ClientError> {
    let foreign = || ClientError::ForeignRealm { host: endpoint.host(), realm: text.to_owned() };
    let url = endpoint.base.join(text).map_err(|_| foreign())?;
    let plain = url.username().is_empty() && url.password().is_none();
    if url.origin() == endpoint.base.origin() && plain { Ok(url) } else { Err(foreign()) }
}

fn read<T: DeserializeOwned>(
    endpoint: &Endpoint,
    what: &'static str,
    bytes: &[u8],
) -> Result<T, ClientError> {
    serde_json::from_slice(bytes).map_err(|_| protocol(endpoint, what))
}

fn protocol(endpoint: &Endpoint, what: &'static str) -> ClientError {
    ClientError::Protocol { host: endpoint.host(), method: "a device's login".into(), what }
}

/// What a person is shown; `None` where it is no address of a page, or no code that could be typed.
fn shown(codes: &Codes) -> Option<DevicePrompt> {
    let page = |text: &str| {
        let url =
            Url::parse(text).ok().filter(|url| text.len() <= limits::DEVICE_PAGE_BYTES && url.has_host())?;
        // it comes out in plain ASCII, whatever is in it
        matches!(url.scheme(), "http" | "https").then(|| url.to_string())
    };
    let code = &codes.user_code;
    let plain = (1..=limits::DEVICE_CODE_BYTES).contains(&code.len())
        && code.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
    let life = Duration::from_secs(codes.expires_in).min(limits::DEVICE_WAIT);
    plain.then_some(DevicePrompt {
        page: page(&codes.verification_uri)?,
        page_with_code: codes.verification_uri_complete.as_deref().and_then(page),
        code: code.clone(),
        life,
    })
}
