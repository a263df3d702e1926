//! What the operator may want to know, as typed events.

use std::{sync::Arc, time::Duration};

/// Receives [`Event`]s, from many threads at once.
pub type Observer = Arc<dyn Fn(&Event<'_>) + Send + Sync>;

/// Something that the operator may want to know.
#[derive(Debug)]
pub enum Event<'a> {
    /// A request was answered (its body may still be on the way).
    Request {
        /// The request's method.
        method: &'a str,
        /// The request's path, as sent.
        path: &'a str,
        /// Who sent it, if they are logged in.
        user: Option<&'a str>,
        /// The reply's status code.
        status: u16,
        /// Time from head to reply.
        elapsed: Duration,
    },
    /// The registry itself failed at something.
    Failure {
        /// At what.
        operation: &'a str,
        /// Why, with sources.
        error: &'a (dyn std::error::Error + 'static),
    },
    /// A job's identity token was refused.
    Refused {
        /// The issuer that it says it is of, by the configuration's name.
        issuer: &'a str,
        /// Why.
        why: &'a (dyn std::error::Error + 'static),
        /// Whether the issuer signed it: then somebody has set something up wrongly.
        signed: bool,
    },
    /// A sweep removed unfinished uploads.
    Swept {
        /// How many.
        uploads: usize,
    },
}
