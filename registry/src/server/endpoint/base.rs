//! `GET /v2/`: whether this is a registry.

use super::super::reply;
use axum::response::Response;

pub(in super::super) fn get() -> Response {
    reply::json("application/json", "{}".to_owned())
}
