//! The web page's visitors: who logged in there, and what shows that a form is one of ours.
//!
//! A session is a token of the kind that clients get ([`Claims`](crate::server::access::Claims)), for another use, so that it ends with the user and the
//! password as those do. It opens the page alone: no request of the protocol reads a cookie.

use super::{claims, enter};
use crate::{
    limits,
    server::{
        access::{Access, Caller, Demand, Origin, Principal, Use, Visitor, sign},
        call::{Shared, blocking},
        error::ApiError,
        storage::{StorageError, now_seconds},
    },
};
use axum::http::{HeaderMap, header};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use std::sync::Arc;

/// As [`enter`], with the sessions that a browser shows where there is no `Authorization`. Answers whether one of them counted.
pub(in crate::server) async fn enter_page(
    shared: &Arc<Shared>,
    origin: Origin,
    headers: &HeaderMap,
    sessions: &[&str],
    demand: &Demand<'_>,
) -> Result<(Visitor, bool), ApiError> {
    let access = shared.access.current();
    if access.has_users() && !headers.contains_key(header::AUTHORIZATION) {
        for token in sessions {
            let found = claims(shared, &access, token, Use::Session, now_seconds()).await?;
            if let Some(found) = found.filter(|found| !found.sub.is_empty()) {
                let caller = Caller::new(found.principal());
                return Ok((Visitor::new(access, caller, origin), true));
            }
        }
    }
    Ok((enter(shared, origin, headers, demand).await?, false))
}

/// A session of somebody who logged in, and for how many seconds it holds.
pub(in crate::server) async fn session_token(
    shared: &Arc<Shared>,
    access: &Access,
    principal: &Principal,
) -> Result<(String, i64), ApiError> {
    // what a job keeps opens nothing longer than what it showed first
    let left = principal.job.as_ref().map_or(i64::MAX, |job| job.until.saturating_sub(now_seconds()));
    let life = limits::SESSION_LIFE_SECONDS.min(left);
    let mut bytes = [0; 12];
    getrandom::fill(&mut bytes).map_err(StorageError::from)?;
    let id = URL_SAFE_NO_PAD.encode(bytes);
    Ok((signed(shared, access, principal, Use::Session, id, life).await?, life))
}

/// What a form of the page brings along, which another site cannot know.
pub(in crate::server) async fn form_token(
    shared: &Arc<Shared>,
    visitor: &Visitor,
) -> Result<String, ApiError> {
    let id = form_id(visitor);
    let nobody = Principal::anonymous();
    signed(shared, visitor.access(), &nobody, Use::Form, id, limits::SESSION_LIFE_SECONDS).await
}

/// Whether a form brings what this visitor's page had.
pub(in crate::server) async fn is_form_token(
    shared: &Arc<Shared>,
    visitor: &Visitor,
    token: &str,
) -> Result<bool, ApiError> {
    let found = claims(shared, visitor.access(), token, Use::Form, now_seconds()).await?;
    Ok(found.is_some_and(|found| found.jti == form_id(visitor)))
}

/// A form belongs to whom it was made for.
fn form_id(visitor: &Visitor) -> String {
    format!("form {}", visitor.name().as_deref().unwrap_or_default())
}

async fn signed(
    shared: &Arc<Shared>,
    access: &Access,
    principal: &Principal,
    purpose: Use,
    id: String,
    life: i64,
) -> Result<String, ApiError> {
    let now = now_seconds();
    let owner = Arc::clone(shared);
    let key = blocking(move || owner.keys.current(&owner.storage, now)).await?;
    Ok(sign(&access.claims(principal, purpose, id, now, life), &key))
}
