//! What stands around every page, and the headers that keep a page to itself.

use super::{asset, reply, route, visit::Visit, words};
use crate::server::error::ApiError;
use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::Response,
};
use maud::{DOCTYPE, Markup, html};

/// What a page may load and be loaded by: its own stylesheet, script and sign, nothing that is written into it, nobody's frame. A
/// blob of this origin is no script: it is sent as bytes, with `nosniff`.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; form-action 'self'; \
    base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

/// A page's place and content.
pub(super) struct Frame {
    pub(super) title: String,
    /// Where it lies: words and links from the top down; the last is the page itself.
    pub(super) trail: Vec<(String, String)>,
    pub(super) body: Markup,
}

impl Frame {
    /// A page of a repository.
    pub(super) fn within(name: &str, more: &[(&str, String)], body: Markup) -> Frame {
        let mut trail = vec![(name.to_owned(), route::tags(name))];
        trail.extend(more.iter().map(|(words, link)| ((*words).to_owned(), link.clone())));
        let title = trail.iter().rev().map(|(words, _)| words.as_str()).collect::<Vec<_>>().join(" · ");
        Frame { title, trail, body }
    }
}

/// The page for a visitor.
pub(super) fn show(visit: &Visit, frame: Frame) -> Response {
    let account = html! {
        @if let Some(name) = visit.visitor.name() {
            span.who title="Logged in" { (name) }
            @if visit.session {
                form method="post" action="/logout" {
                    (visit.token())
                    button.quiet type="submit" { "Log out" }
                }
            }
        } @else if visit.visitor.access().has_users() && !visit.is_at_login() {
            a.button href=(route::with_query("/login", &[("next", &visit.here())])) { "Log in" }
        }
    };
    let head = visit.is_head();
    html(StatusCode::OK, document(&frame, &account), head)
}

fn document(frame: &Frame, account: &Markup) -> Markup {
    let last = frame.trail.len().saturating_sub(1);
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="robots" content="noindex";
                title { (frame.title) " · Slipway" }
                link rel="icon" type="image/svg+xml" href=(asset::ICON.path);
                link rel="stylesheet" href=(asset::STYLE.path);
                script src=(asset::SCRIPT.path) defer {}
            }
            body {
                a.skip href="#main" { "Skip to the content" }
                header.top {
                    a.brand href="/" { img src=(asset::ICON.path) alt="" width="28" height="28"; span { "Slipway" } }
                    nav aria-label="Registry" {
                        a href="/" { "Repositories" }
                        a href="/usage" { "Usage" }
                    }
                    div.account { (account) }
                }
                main id="main" {
                    @if !frame.trail.is_empty() {
                        nav.trail aria-label="Where this is" {
                            ol {
                                li { a href="/" { "Repositories" } }
                                @for (at, (words, link)) in frame.trail.iter().enumerate() {
                                    li {
                                        @if at == last { span aria-current="page" { (words) } }
                                        @else { a href=(link) { (words) } }
                                    }
                                }
                            }
                        }
                    }
                    (frame.body)
                }
                footer.bottom { "Served by Slipway " (env!("CARGO_PKG_VERSION")) }
            }
        }
    }
}

/// A page for whoever asks, about what went wrong. What is not there and what may not be seen read the same.
pub(in crate::server) fn failed(error: ApiError, head: bool) -> Response {
    let words = error.to_string();
    let plain = error.into_response();
    let status = plain.status();
    let (title, words) = match status {
        StatusCode::NOT_FOUND | StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED => {
            ("Nothing here", "There is no such page, or you may not see it.".to_owned())
        }
        StatusCode::TOO_MANY_REQUESTS => ("Slow down", words),
        status if status.is_server_error() => {
            ("Something failed", "The registry could not do that. Try again.".to_owned())
        }
        _ => ("That did not work", words),
    };
    // whether it is there is not told to who may not see it
    let status = if status == StatusCode::FORBIDDEN { StatusCode::NOT_FOUND } else { status };
    let body = html! {
        section.lone { h1 { (title) } p { (words) } p { a href="/" { "To the repositories" } } }
    };
    let frame = Frame { title: title.to_owned(), trail: Vec::new(), body };
    let mut response = html(status, document(&frame, &html! {}), head);
    for name in [header::RETRY_AFTER, header::ALLOW] {
        if let Some(value) = plain.headers().get(&name) {
            response.headers_mut().insert(name, value.clone());
        }
    }
    if status == StatusCode::UNAUTHORIZED {
        let basic = HeaderValue::from_static("Basic realm=\"slipway\", charset=\"UTF-8\"");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, basic);
    }
    response
}

/// A reply that is a page.
pub(super) fn html(status: StatusCode, document: Markup, head: bool) -> Response {
    let text = words::harmless(document.into_string());
    let mut response = reply::empty(status);
    reply::set(&mut response, header::CONTENT_TYPE, "text/html; charset=utf-8");
    reply::set(&mut response, header::CONTENT_LENGTH, &text.len().to_string());
    if !head {
        *response.body_mut() = Body::from(text);
    }
    response
}

/// A reply that leads to another page of this registry.
pub(super) fn lead(place: &str) -> Response {
    let mut response = reply::empty(StatusCode::SEE_OTHER);
    reply::set(&mut response, header::LOCATION, place);
    response
}

/// The headers of every reply of this part, whatever it is.
pub(in crate::server) fn guard(headers: &mut HeaderMap) {
    for (name, value) in [
        ("content-security-policy", POLICY),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        // not `no-referrer`: browsers would send forms without their origin
        ("referrer-policy", "same-origin"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
    ] {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    // what one may see is for nobody else
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
}
