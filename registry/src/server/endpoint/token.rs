//! `/token`: tokens for whoever is who they say (distribution's token specification, and its OAuth2 form).
//!
//! A token is made for whatever part of the request the rules allow; asking for more is no failure. Who is not logged in gets
//! one too, for what anyone may do: clients ask for it before they pull.

use super::device::{self, GRANT};
use crate::limits;
use crate::server::{
    access::{Access, Principal, Scope, Use, sign},
    body::{self, Incoming},
    call::{Call, Shared, blocking},
    devices::NotYet,
    entry::{Login, basic, claims, job, log_in},
    error::{ApiError, Wanted},
    reply,
    storage::{StorageError, now_seconds},
};
use axum::{
    http::{HeaderValue, header},
    response::Response,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use std::sync::Arc;

/// What is asked for, in either form.
struct Request {
    scopes: Vec<Scope>,
    /// Whether a refresh token is wanted.
    offline: bool,
}

impl Request {
    /// Refused where it is for another registry: before anything that is shown with it is looked at, and used up.
    fn new<'a>(
        access: &Access,
        service: Option<&str>,
        scopes: impl Iterator<Item = &'a str>,
        offline: bool,
    ) -> Result<Request, ApiError> {
        if service.is_some_and(|service| service != access.service()) {
            return Err(ApiError::TokenRequest("`service` is not this registry"));
        }
        // several in one parameter are separated by spaces
        let texts: Vec<&str> =
            scopes.flat_map(|text| text.split(' ')).filter(|text| !text.is_empty()).collect();
        if texts.len() > limits::SCOPES {
            return Err(ApiError::TokenRequest("too many scopes for one token"));
        }
        let scopes = texts.into_iter().filter_map(Scope::parse).collect();
        Ok(Request { scopes, offline })
    }
}

/// The form with a query and Basic credentials.
pub(in crate::server) async fn get(call: Call) -> Result<Response, ApiError> {
    let access = enabled(&call)?;
    let offline = call.query.get("offline_token") == Some("true");
    let request = Request::new(&access, call.query.get("service"), call.query.all("scope"), offline)?;
    let mut shown = call.headers.get_all(header::AUTHORIZATION).iter();
    let principal = match (shown.next(), shown.next()) {
        (None, _) => Principal::anonymous(),
        (Some(one), None) => {
            let text = one.to_str().ok().filter(|text| text.len() <= limits::AUTHORIZATION_BYTES);
            let pair = text.and_then(|text| text.split_once(' '));
            let pair = pair.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("basic"));
            let pair = pair.and_then(|(_, value)| basic(value));
            let (name, password) = pair.ok_or_else(|| refused(&access))?;
            admitted(&access, log_in(&call.shared, &access, call.visitor.address(), &name, &password).await?)?
        }
        _ => return Err(refused(&access)),
    };
    answer(&call.shared, &access, &principal, &request, &[]).await
}

/// The types of token that a job trades in (RFC 8693, section 3).
const TRADED: [&str; 2] =
    ["urn:ietf:params:oauth:token-type:id_token", "urn:ietf:params:oauth:token-type:jwt"];

/// The form of OAuth2: a password, a refresh token or a job's identity token for a token.
pub(in crate::server) async fn post(mut call: Call) -> Result<Response, ApiError> {
    let access = enabled(&call)?;
    let length = call.content_length();
    let incoming = Incoming::new(&call.shared, std::mem::take(&mut call.body));
    let bytes = body::small(incoming, length, limits::TOKEN_FORM_BYTES).await?;
    let form: Vec<(String, String)> = form_urlencoded::parse(&bytes).into_owned().collect();
    let get = |name: &str| form.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value.as_str());
    let scopes = form.iter().filter(|(key, _)| key == "scope").map(|(_, value)| value.as_str());
    let service = Some(get("service")).filter(|service| !service.is_empty());
    let mut request = Request::new(&access, service, scopes, get("access_type") == "offline")?;
    let mut more: &[(&str, &str)] = &[];
    let principal = match get("grant_type") {
        "password" if get("username").is_empty() => return Err(refused(&access)),
        "password" => admitted(
            &access,
            log_in(&call.shared, &access, call.visitor.address(), get("username"), get("password")).await?,
        )?,
        "refresh_token" => {
            let token = get("refresh_token");
            let found = claims(&call.shared, &access, token, Use::Refresh, now_seconds()).await?;
            let found = found.filter(|claims| !claims.sub.is_empty());
            found.ok_or_else(|| refused(&access))?.principal()
        }
        GRANT => {
            device::offered(&call)?;
            let (code, client) = (get("device_code").to_owned(), get("client_id").to_owned());
            // nobody was given a code under such a name
            if !device::is_client(&client) {
                return Err(ApiError::Device(NotYet::Unknown));
            }
            let devices = Arc::clone(&call.shared.devices);
            let asked = blocking(move || devices.ask(&code, &client)).await?;
            let grant = asked.map_err(ApiError::Device)?;
            let principal = Principal::named(&grant.user);
            // they may have gone since they said yes, or have another password
            if access.stamp(&principal).is_none_or(|stamp| stamp != grant.stamp) {
                return Err(ApiError::Device(NotYet::Refused));
            }
            request.offline = true;
            principal
        }
        // RFC 8693, section 2.1, and RFC 7523, section 2.1: with the same meaning
        "urn:ietf:params:oauth:grant-type:token-exchange" => {
            if !TRADED.contains(&get("subject_token_type")) {
                return Err(ApiError::TokenRequest("`subject_token_type` is that of an identity token"));
            }
            more = &[
                ("issued_token_type", "urn:ietf:params:oauth:token-type:access_token"),
                ("token_type", "Bearer"),
            ];
            admitted(&access, job(&call.shared, &access, get("subject_token")).await)?
        }
        "urn:ietf:params:oauth:grant-type:jwt-bearer" => {
            admitted(&access, job(&call.shared, &access, get("assertion")).await)?
        }
        _ => {
            return Err(ApiError::TokenRequest(
                "`grant_type` is `password`, `refresh_token`, a device's, or token exchange for an identity token",
            ));
        }
    };
    answer(&call.shared, &access, &principal, &request, more).await
}

fn enabled(call: &Call) -> Result<Arc<Access>, ApiError> {
    let access = Arc::clone(call.visitor.access());
    if access.makes_tokens() { Ok(access) } else { Err(ApiError::PathUnknown) }
}

fn refused(access: &Access) -> ApiError {
    // a challenge of its own kind: clients that are sent here must not be sent here again
    let challenge = format!("Basic realm=\"{}\", charset=\"UTF-8\"", access.service());
    ApiError::Unauthorized { challenge, wrong: true, wanted: Wanted::default() }
}

fn admitted(access: &Access, login: Login) -> Result<Principal, ApiError> {
    match login {
        Login::Caller(caller) => Ok(caller.principal.clone()),
        Login::Refused => Err(refused(access)),
    }
}

async fn answer(
    shared: &Arc<Shared>,
    access: &Arc<Access>,
    principal: &Principal,
    request: &Request,
    more: &[(&str, &str)],
) -> Result<Response, ApiError> {
    let now = now_seconds();
    let scopes: Vec<Scope> =
        request.scopes.iter().filter_map(|scope| scope.granted(access, principal)).collect();
    let shared = Arc::clone(shared);
    let key = blocking(move || shared.keys.current(&shared.storage, now)).await?;
    // what a job keeps opens nothing longer than what it showed first
    let left = principal.job.as_ref().map_or(i64::MAX, |job| job.until.saturating_sub(now));
    let life = limits::TOKEN_LIFE_SECONDS.min(left);
    let token = |purpose: Use, life: i64, scopes: &[Scope]| {
        let mut claims = access.claims(principal, purpose, random_id()?, now, life);
        claims.access = scopes.to_vec();
        Ok::<String, ApiError>(sign(&claims, &key))
    };
    let own = token(Use::Access, life, &scopes)?;
    let written: Vec<String> = scopes.iter().map(Scope::to_string).collect();
    let mut body = serde_json::json!({
        "token": own,
        "access_token": own,
        "scope": written.join(" "),
        "expires_in": life,
        "issued_at": slipway_oci::spec::rfc3339::format(now),
    });
    for (name, value) in more {
        body[*name] = (*value).into();
    }
    if request.offline && principal.name.is_some() {
        body["refresh_token"] = token(Use::Refresh, limits::REFRESH_LIFE_SECONDS.min(left), &[])?.into();
    }
    let mut response = reply::json("application/json", body.to_string());
    // RFC 6749, section 5.1
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

fn random_id() -> Result<String, ApiError> {
    let mut bytes = [0; 12];
    getrandom::fill(&mut bytes).map_err(StorageError::from)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}
