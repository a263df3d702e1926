//! Logging in and out.

use super::{
    frame::{self, Frame},
    reply, route,
    visit::{Visit, cookie_name},
};
use crate::server::{
    entry::{Login, log_in, session_token},
    error::ApiError,
};
use axum::{
    http::{StatusCode, header},
    response::Response,
};
use maud::html;

/// The form.
pub(super) fn get(visit: &Visit) -> Result<Response, ApiError> {
    if !visit.visitor.access().has_users() {
        return Ok(frame::lead("/"));
    }
    Ok(form(visit, visit.asked("next"), "", None))
}

fn form(visit: &Visit, next: &str, name: &str, wrong: Option<&str>) -> Response {
    let body = html! {
        section.lone.login {
            h1 { "Log in" }
            @if let Some(wrong) = wrong { p.alert role="alert" { (wrong) } }
            form method="post" action="/login" {
                (visit.token())
                input type="hidden" name="next" value=(route::onward(next));
                label for="name" { "Name" }
                input id="name" name="name" value=(name) autocomplete="username" autocapitalize="none" spellcheck="false" required
                    autofocus;
                label for="password" { "Password or token" }
                input id="password" name="password" type="password" autocomplete="current-password" required;
                button.primary type="submit" { "Log in" }
            }
        }
    };
    let mut response = frame::show(visit, Frame { title: "Log in".to_owned(), trail: Vec::new(), body });
    if wrong.is_some() {
        *response.status_mut() = StatusCode::FORBIDDEN;
    }
    response
}

/// Checks what was typed, by the rules of every other login.
pub(super) async fn post(visit: &Visit) -> Result<Response, ApiError> {
    let access = visit.visitor.access();
    let (name, password, next) = (visit.field("name"), visit.field("password"), visit.field("next"));
    let found = match log_in(&visit.shared, access, visit.visitor.address(), name, password).await {
        Ok(Login::Caller(caller)) if caller.principal.name.is_some() => caller,
        Ok(_) => return Ok(form(visit, next, name, Some("The name, password or token is wrong."))),
        Err(error) => return Err(error),
    };
    let (token, life) = session_token(&visit.shared, access, &found.principal).await?;
    let mut response = frame::lead(&route::onward(next));
    set_cookie(&mut response, visit.secure, &token, life);
    Ok(response)
}

/// Ends a session.
pub(super) fn leave(visit: &Visit) -> Response {
    let mut response = frame::lead("/");
    set_cookie(&mut response, visit.secure, "", 0);
    response
}

fn set_cookie(response: &mut Response, secure: bool, value: &str, life: i64) {
    let flag = if secure { "; Secure" } else { "" };
    let name = cookie_name(secure);
    let cookie = format!("{name}={value}; Path=/; Max-Age={life}; HttpOnly; SameSite=Strict{flag}");
    reply::set(response, header::SET_COOKIE, &cookie);
}
