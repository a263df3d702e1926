//! What goes wrong between a mirror and its upstream.

use super::storage::StorageError;
use crate::{client::ClientError, limits};
use std::{sync::Arc, time::Duration};

/// Why something does not come from upstream; told to all who wait for it.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum Trouble {
    #[error("the upstream does not have it")]
    Absent,
    #[error("the upstream refuses it: {why}")]
    Refused { why: Arc<str> },
    #[error("the upstream takes no more requests for {} seconds", pause.as_secs().max(1))]
    Often { pause: Duration },
    #[error("the upstream does not answer: {why}")]
    Away { why: Arc<str>, pause: Duration },
    #[error("the upstream sent something else than it should: {why}")]
    Wrong { why: Arc<str> },
    #[error("too much is being fetched")]
    Busy,
    #[error(transparent)]
    Storage(Arc<StorageError>),
    /// What only this server's own failing explains.
    #[error("{0}")]
    Own(Arc<str>),
}

impl Trouble {
    /// Whether it lies with the upstream and may be over tomorrow: what is stored is served meanwhile.
    pub(super) fn passes(&self) -> bool {
        !matches!(self, Trouble::Absent | Trouble::Refused { .. })
    }

    /// What clients are told: nothing of how the upstream is reached.
    pub(super) fn told(&self) -> &'static str {
        match self {
            Trouble::Absent => "the upstream of this mirror does not have it",
            Trouble::Refused { .. } => "the upstream of this mirror refuses it",
            Trouble::Often { .. } => "the upstream of this mirror takes no more requests for now",
            Trouble::Away { .. } => "the upstream of this mirror does not answer",
            Trouble::Wrong { .. } => "the upstream of this mirror sent something else than it should",
            Trouble::Busy => "this mirror is fetching too much: ask again",
            Trouble::Storage(error) if error.is_full() => "the registry's disk is full",
            Trouble::Storage(_) | Trouble::Own(_) => "the registry failed",
        }
    }

    /// Whether the upstream answered.
    pub(super) fn is_answer(&self) -> bool {
        matches!(self, Trouble::Absent | Trouble::Refused { .. } | Trouble::Wrong { .. })
    }

    pub(super) fn slow() -> Trouble {
        Trouble::Away { why: "it takes too long".into(), pause: limits::MIRROR_PAUSE }
    }
}

impl From<ClientError> for Trouble {
    fn from(error: ClientError) -> Trouble {
        let why = Arc::from(slipway_oci::error::chain(&error));
        match &error {
            ClientError::NotFound { .. } => Trouble::Absent,
            ClientError::Status { status: 429, .. } => {
                Trouble::Often { pause: error.retry_after().unwrap_or(limits::MIRROR_PAUSE_OFTEN) }
            }
            ClientError::Status { status: 408 | 500..=599, .. } => {
                Trouble::Away { why, pause: error.retry_after().unwrap_or(limits::MIRROR_PAUSE) }
            }
            ClientError::Connect { .. }
            | ClientError::Lookup { .. }
            | ClientError::Handshake { .. }
            | ClientError::Untrusted { .. }
            | ClientError::Interrupted { .. }
            | ClientError::TokenExpired { .. } => Trouble::Away { why, pause: limits::MIRROR_PAUSE },
            ClientError::Denied { .. }
            | ClientError::ForeignRealm { .. }
            | ClientError::Beyond { .. }
            | ClientError::Downgrade { .. } => Trouble::Refused { why },
            ClientError::Credential(_)
            | ClientError::Tls(_)
            | ClientError::Task(_)
            | ClientError::NoAuthorities => Trouble::Own(why),
            _ => Trouble::Wrong { why },
        }
    }
}

impl From<StorageError> for Trouble {
    fn from(error: StorageError) -> Trouble {
        Trouble::Storage(Arc::new(error))
    }
}
