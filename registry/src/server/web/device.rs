//! `/device`: somebody who is logged in lets a device act as them (RFC 8628, section 3.3), or refuses it.
//!
//! Whoever follows a link with a code in it has to say yes to what is asked as well as who types one: the link may be another's
//! (section 5.4). What asks is named, by its own words and by its address.

use super::{
    frame::{self, Frame},
    route,
    visit::Visit,
    words,
};
use crate::{
    limits,
    server::{
        access::Principal,
        call::blocking,
        devices::{Device, WrongCode, shown},
        error::ApiError,
        reply,
    },
};
use axum::{
    http::{StatusCode, header},
    response::Response,
};
use maud::{Markup, html};
use std::sync::Arc;

/// Who may let a device in, and what their tokens stand on; somebody else is led to the login. No job may: what it has ends
/// soon, and what a device gets does not. Nor may who has a certificate alone, on which no token can stand.
fn user(visit: &Visit) -> Result<(&str, String), Response> {
    let user = visit.visitor.name().as_deref().filter(|_| !visit.visitor.is_job());
    let stamp = user.and_then(|user| visit.visitor.access().stamp(&Principal::named(user)));
    match user.zip(stamp) {
        Some(found) => Ok(found),
        None => Err(frame::lead(&route::with_query("/login", &[("next", &visit.here())]))),
    }
}

fn offered(visit: &Visit) -> Result<(), ApiError> {
    let access = visit.visitor.access();
    if access.makes_tokens() && access.has_accounts() { Ok(()) } else { Err(ApiError::PathUnknown) }
}

/// The form for the code.
pub(super) fn get(visit: &Visit) -> Result<Response, ApiError> {
    offered(visit)?;
    Ok(match user(visit) {
        Ok(_) => form(visit, visit.asked("user_code"), None),
        Err(lead) => lead,
    })
}

/// Shows what asks for it, or does what was decided.
pub(super) async fn post(visit: &Visit) -> Result<Response, ApiError> {
    offered(visit)?;
    let (user, stamp) = match user(visit) {
        Ok((user, stamp)) => (user.to_owned(), stamp),
        Err(lead) => return Ok(lead),
    };
    let typed = visit.field("code");
    let decided = match visit.field("decision") {
        "" => None,
        "allow" => Some(Some(stamp)),
        "refuse" => Some(None),
        _ => return Err(ApiError::TokenRequest("`decision` is `allow` or `refuse`")),
    };
    let (devices, code, allowed) =
        (Arc::clone(&visit.shared.devices), typed.to_owned(), decided.as_ref().map(Option::is_some));
    let found = blocking(move || match decided {
        None => devices.find(&user, &code),
        Some(stamp) => devices.decide(&user, &code, stamp),
    });
    match found.await? {
        Ok(device) => Ok(match allowed {
            None => confirm(visit, typed, &device),
            Some(true) => {
                done(visit, "It is logged in", "The device acts as you from now on. You can close this page.")
            }
            Some(false) => done(visit, "It was refused", "The device is told so. You can close this page."),
        }),
        Err(WrongCode::Often(retry)) => {
            let seconds = retry.as_secs().max(1);
            let wait = words::things(seconds.div_ceil(60), "minute", "minutes");
            let words = format!("Too many codes were wrong. Try again in {wait}.");
            let mut response = form(visit, typed, Some(&words));
            *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
            reply::set(&mut response, header::RETRY_AFTER, &seconds.to_string());
            Ok(response)
        }
        Err(WrongCode::Unknown) => {
            let life = words::things(limits::DEVICE_LIFE.as_secs() / 60, "minute", "minutes");
            let words = format!(
                "No device waits with this code, or not any more: a code holds for {life}, and once."
            );
            let mut response = form(visit, typed, Some(&words));
            *response.status_mut() = StatusCode::FORBIDDEN;
            Ok(response)
        }
    }
}

fn page(visit: &Visit, title: &str, body: &Markup) -> Response {
    let body = html! { section.lone.login { h1 { (title) } (body) } };
    frame::show(visit, Frame { title: title.to_owned(), trail: Vec::new(), body })
}

fn form(visit: &Visit, code: &str, wrong: Option<&str>) -> Response {
    let body = html! {
        @if let Some(wrong) = wrong { p.alert role="alert" id="wrong" { (wrong) } }
        p { "Type the code that the device shows, if it is yours." }
        form method="post" action="/device" {
            (visit.token())
            label for="code" { "Code" }
            input.code id="code" name="code" value=(code) maxlength="20" autocomplete="off" autocapitalize="characters"
                spellcheck="false" required autofocus aria-invalid=[wrong.map(|_| "true")] aria-describedby=[wrong.map(|_| "wrong")];
            button.primary type="submit" { "Go on" }
        }
    };
    page(visit, "Log a device in", &body)
}

fn confirm(visit: &Visit, code: &str, device: &Device) -> Response {
    let name = visit.visitor.name().as_deref().unwrap_or_default();
    let body = html! {
        p {
            strong { (device.client) }
            @if let Some(address) = device.address { " at " strong { (address) } }
            " wants to act as " strong { (name) } " in this registry, with all that you may do."
        }
        p { "Say yes only if you have just begun this yourself, and your device shows the code " strong.code { (shown(code)) } "." }
        form method="post" action="/device" {
            (visit.token())
            input type="hidden" name="code" value=(code);
            button.primary type="submit" name="decision" value="allow" { "Allow" }
            button type="submit" name="decision" value="refuse" { "Refuse" }
        }
    };
    page(visit, "Log a device in?", &body)
}

fn done(visit: &Visit, title: &str, words: &str) -> Response {
    page(visit, title, &html! { p role="status" { (words) } })
}
