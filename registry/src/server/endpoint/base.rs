//! `GET /v2/`: whether this is a registry.

use crate::server::reply;
use axum::response::Response;

pub(in crate::server) fn get() -> Response {
    reply::json("application/json", "{}".to_owned())
}
