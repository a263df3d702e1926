//! The distribution protocol: the registry server with its storage, and the client that pushes and pulls.
//!
//! Two halves that share nothing but the protocol's words ([`protocol`]) and the caps ([`limits`]):
//!
//! - [`server`]: axum over a folder and SQLite. Content first, pointer last; a `kill -9` at any point leaves only
//!   garbage that a sweep finds.
//! - [`client`]: a synchronous facade over reqwest. Every byte is verified while it streams.
//!
//! tokio lives in this crate alone; both halves build their own runtime, so callers stay synchronous.
//!
//! ```no_run
//! use slipway_registry::server::{self, ServerConfig, Shutdown};
//! let config = ServerConfig::new("/var/lib/registry".into());
//! server::serve(config, |places, _| println!("{places:?}"), &Shutdown::new())?;
//! # Ok::<(), server::ServeError>(())
//! ```
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::too_many_lines))] // tables of cases are as long as they are

pub mod client;
pub mod limits;
pub mod protocol;
pub mod server;
