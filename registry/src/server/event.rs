//! What the operator may want to know, as typed events.

use super::storage::{Collected, Damage};
use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

/// Receives [`Event`]s, from many threads at once.
pub type Observer = Arc<dyn Fn(&Event<'_>) + Send + Sync>;

/// Something that the operator may want to know.
#[derive(Debug)]
pub enum Event<'a> {
    /// A request was answered, to the end of its reply or until its peer went away.
    Request(Handled<'a>),
    /// Something was changed.
    Change(Change<'a>),
    /// A notice to a webhook is given up.
    NoticeDropped(Dropped<'a>),
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
    /// Something that is stored is not what it was.
    Damaged(&'a Damage),
    /// A pass of the collection took something away.
    Collected(&'a Collected),
    /// The server has a new certificate.
    Certificate {
        /// For these names.
        names: &'a [String],
        /// Until then, in seconds since 1970.
        ends: i64,
    },
    /// A sweep removed unfinished uploads.
    Swept {
        /// How many.
        uploads: usize,
    },
}

/// A notice that its receiver did not take for too long.
#[derive(Clone, Copy, Debug)]
pub struct Dropped<'a> {
    /// The hook.
    pub hook: &'a str,
    /// How often it was sent.
    pub attempts: u32,
    /// Why it was not taken the last time.
    pub why: &'a str,
}

/// A request that was answered.
#[derive(Clone, Copy, Debug)]
pub struct Handled<'a> {
    /// When its head was there.
    pub began: SystemTime,
    /// The request's method.
    pub method: &'a str,
    /// The request's path, as sent.
    pub path: &'a str,
    /// The repository that it is about.
    pub repository: Option<&'a str>,
    /// Who sent it, if they are logged in.
    pub user: Option<&'a str>,
    /// Where it came from; a socket in the file system has no address.
    pub client: Option<IpAddr>,
    /// What it says that it is.
    pub agent: Option<&'a str>,
    /// The reply's status code; 499 where the peer went away before there was one.
    pub status: u16,
    /// Time to the end of the reply.
    pub elapsed: Duration,
    /// Bytes of the request's body that were read.
    pub received: u64,
    /// Bytes of the reply's body that the peer took.
    pub sent: u64,
    /// Whether that is all of it.
    pub complete: bool,
}

/// What was changed, and by whom.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    /// When.
    pub time: SystemTime,
    /// In one word: `push`, `delete`, `blob-push`, `blob-mount`, `blob-delete`, `expire`.
    pub action: &'static str,
    /// Where.
    pub repository: &'a str,
    /// Tags that were moved or deleted.
    pub tags: &'a [String],
    /// What was pushed or deleted, if the request or its answer says.
    pub digest: Option<&'a str>,
    /// Who did it, if they are logged in.
    pub user: Option<&'a str>,
    /// Where it came from.
    pub client: Option<IpAddr>,
    /// What it says that it is.
    pub agent: Option<&'a str>,
}

/// Methods that some endpoint takes; others are one.
pub(super) fn method(text: &str) -> &'static str {
    ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"].into_iter().find(|one| *one == text).unwrap_or("other")
}
