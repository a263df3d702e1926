//! Who is at the door: what the `Authorization` header shows, checked by what [`Access`] knows and what the server keeps.

mod session;

pub(super) use session::{enter_page, form_token, is_form_token, session_token};

use super::{
    access::{Access, Caller, Claims, Demand, Origin, Outcome, Principal, Use, Visitor, parse},
    call::{Shared, blocking},
    error::ApiError,
    event::Event,
    storage::now_seconds,
};
use crate::limits;
use axum::http::{HeaderMap, header};
use base64::{Engine, engine::general_purpose::STANDARD};
use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

/// What came of a look at a credential.
pub(super) enum Login {
    /// Somebody.
    Caller(Arc<Caller>),
    /// Nobody.
    Refused,
}

/// Finds out who sends a request. What is shown and wrong is refused, even where nobody would have had to show anything:
/// whoever shows a password wants to know whether it is right.
pub(super) async fn enter(
    shared: &Arc<Shared>,
    origin: Origin,
    headers: &HeaderMap,
    demand: &Demand<'_>,
) -> Result<Visitor, ApiError> {
    let access = shared.access.current();
    let anonymous = Caller::new(Principal::anonymous());
    let mut shown = headers.get_all(header::AUTHORIZATION).iter();
    // the token endpoint looks for itself
    let nothing = !access.has_users() || *demand == Demand::Nothing;
    let (caller, error) = match (shown.next(), shown.next()) {
        _ if nothing => (Login::Caller(anonymous), None),
        // what is shown in words counts more than a certificate, which many show unasked
        (None, _) => match origin.user.as_deref().filter(|_| access.certificates) {
            Some(user) => (Login::Caller(Caller::new(Principal::named(user))), None),
            None => (Login::Caller(anonymous), None),
        },
        (Some(one), None) => {
            let bytes = one.as_bytes();
            let bearer = bytes.get(..7).is_some_and(|word| word.eq_ignore_ascii_case(b"bearer "));
            (identify(shared, &access, origin.address, bytes).await?, bearer.then_some("invalid_token"))
        }
        // which of the two?
        (Some(_), Some(_)) => (Login::Refused, None),
    };
    match caller {
        Login::Caller(caller) => Ok(Visitor::new(access, caller, origin)),
        Login::Refused => {
            let challenge = access.challenge(&origin, demand, error);
            Err(ApiError::Unauthorized { challenge, wrong: true, wanted: demand.wanted() })
        }
    }
}

async fn identify(
    shared: &Arc<Shared>,
    access: &Arc<Access>,
    address: Option<IpAddr>,
    shown: &[u8],
) -> Result<Login, ApiError> {
    if shown.len() > limits::AUTHORIZATION_BYTES {
        return Ok(Login::Refused);
    }
    let Ok(text) = std::str::from_utf8(shown) else { return Ok(Login::Refused) };
    // RFC 9110, section 11.1: the scheme's case does not count
    match text.split_once(' ') {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("basic") => match basic(rest) {
            Some((name, password)) => log_in(shared, access, address, &name, &password).await,
            None => Ok(Login::Refused),
        },
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("bearer") => {
            bearer(shared, access, rest.trim()).await
        }
        _ => Ok(Login::Refused),
    }
}

/// Name and password of a Basic header's value (RFC 7617).
pub(super) fn basic(value: &str) -> Option<(String, String)> {
    let text = String::from_utf8(STANDARD.decode(value.trim()).ok()?).ok()?;
    let (name, password) = text.split_once(':')?;
    Some((name.to_owned(), password.to_owned()))
}

/// Checks a name with a password, or with a token of the configuration. A job shows its identity token, under whatever name.
pub(super) async fn log_in(
    shared: &Arc<Shared>,
    access: &Arc<Access>,
    address: Option<IpAddr>,
    name: &str,
    password: &str,
) -> Result<Login, ApiError> {
    // how podman and skopeo show that they have nothing to show, where they were asked for a password
    if name.is_empty() && password.is_empty() {
        return Ok(Login::Caller(Caller::new(Principal::anonymous())));
    }
    if access.tokens.get(name).is_some_and(|hash| hash.is_of(password, now_seconds())) {
        return Ok(Login::Caller(Caller::new(Principal::named(name))));
    }
    if access.issuers.may_know(password) {
        return Ok(job(shared, access, password).await);
    }
    if name.is_empty() || password.is_empty() {
        return Ok(Login::Refused);
    }
    let mark = access.seen.mark(format!("basic {name}:{password}").as_bytes());
    let known = |found: Option<Arc<Caller>>| found.map_or(Login::Refused, Login::Caller);
    if let Some(found) = access.seen.find(&mark) {
        return Ok(known(found));
    }
    let limits = shared.policy.current().limits;
    let mut attempt = shared.throttle.attempt(&limits, address, name)?;
    if access.htpasswd.names().next().is_none() {
        access.seen.keep(mark, None, Instant::now() + limits::REFUSAL_SEEN);
        return Ok(Login::Refused);
    }
    let Ok(_waiting) = Arc::clone(&access.waiting).try_acquire_owned() else {
        return Err(ApiError::PasswordsBusy);
    };
    let turn = Arc::clone(&access.hashing).acquire_owned().await.expect("the semaphore is never closed");
    // parallel requests of one client wait for the first of them, which counts for all
    if let Some(found) = access.seen.find(&mark) {
        attempt.give_back();
        return Ok(known(found));
    }
    let (htpasswd, user, secret) = (Arc::clone(&access.htpasswd), name.to_owned(), password.to_owned());
    let right = tokio::task::spawn_blocking(move || {
        let right = htpasswd.check(&user, &secret);
        // held until the work is done, whether or not the client still waits
        drop(turn);
        right
    })
    .await?;
    if right {
        attempt.was_right();
    }
    let caller = right.then(|| Caller::new(Principal::named(name)));
    let time = if right { limits::PASSWORD_SEEN } else { limits::REFUSAL_SEEN };
    access.seen.keep(mark, caller.clone(), Instant::now() + time);
    Ok(known(caller))
}

async fn bearer(shared: &Arc<Shared>, access: &Arc<Access>, token: &str) -> Result<Login, ApiError> {
    let mark = access.seen.mark(format!("bearer {token}").as_bytes());
    if let Some(Some(caller)) = access.seen.find(&mark) {
        return Ok(Login::Caller(caller));
    }
    let now = now_seconds();
    if let Some((name, _)) = access.tokens.iter().find(|(_, hash)| hash.is_of(token, now)) {
        return Ok(Login::Caller(Caller::new(Principal::named(name))));
    }
    let Some(claims) = claims(shared, access, token, Use::Access, now).await? else {
        let may_know = access.issuers.may_know(token);
        return Ok(if may_know { job(shared, access, token).await } else { Login::Refused });
    };
    let caller = Arc::new(Caller { principal: claims.principal(), scopes: Some(claims.access) });
    let left = u64::try_from(claims.exp.saturating_sub(now)).unwrap_or(0);
    access.seen.keep(mark, Some(Arc::clone(&caller)), Instant::now() + Duration::from_secs(left));
    Ok(Login::Caller(caller))
}

/// Checks a job's identity token.
pub(super) async fn job(shared: &Shared, access: &Access, token: &str) -> Login {
    let mark = access.seen.mark(format!("job {token}").as_bytes());
    if let Some(Some(caller)) = access.seen.find(&mark) {
        return Login::Caller(caller);
    }
    let now = now_seconds();
    match access.issuers.admit(token, now).await {
        Outcome::Foreign => Login::Refused,
        Outcome::Refused { issuer, why, signed, failure } => {
            if let Some(failure) = &failure {
                shared
                    .tell(&Event::Failure { operation: &format!("keys of issuer {issuer}"), error: failure });
            }
            shared.tell(&Event::Refused { issuer: &issuer, why: &why, signed });
            Login::Refused
        }
        Outcome::Job { job, name, expires } => {
            let principal = Principal { name: Some(name), job: Some(Arc::new(job)) };
            let caller = Caller::new(principal);
            let left = Duration::from_secs(u64::try_from(expires.saturating_sub(now)).unwrap_or(0));
            let until = Instant::now() + left.min(limits::PASSWORD_SEEN);
            access.seen.keep(mark, Some(Arc::clone(&caller)), until);
            Login::Caller(caller)
        }
    }
}

/// What a token of this registry says, if it holds: its user is still there, with the same password.
pub(super) async fn claims(
    shared: &Arc<Shared>,
    access: &Arc<Access>,
    token: &str,
    purpose: Use,
    now: i64,
) -> Result<Option<Claims>, ApiError> {
    // those of the web page are no tokens for clients
    if !access.makes_tokens() && matches!(purpose, Use::Access | Use::Refresh) {
        return Ok(None);
    }
    let Ok(parsed) = parse(token) else { return Ok(None) };
    let key = match shared.keys.known(&parsed.key) {
        Some(key) => Some(key),
        None if shared.keys.may_ask(now) => {
            let (shared, id) = (Arc::clone(shared), parsed.key.clone());
            blocking(move || shared.keys.find(&shared.storage, &id, now)).await?
        }
        None => None,
    };
    let Some(key) = key else { return Ok(None) };
    let Ok(claims) = parsed.verify(&key, access.service(), purpose, now) else { return Ok(None) };
    let holds = match claims.sub.as_str() {
        "" => claims.stamp.is_none() && claims.job.is_none(),
        _ => claims.stamp.is_some() && claims.stamp == access.stamp(&claims.principal()),
    };
    let holds = holds && claims.job.as_ref().is_none_or(|job| job.until > now);
    Ok(Some(claims).filter(|_| holds))
}
