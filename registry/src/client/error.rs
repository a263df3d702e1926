//! What can go wrong between this machine and a registry.

use super::credential::CredentialError;
use slipway_oci::{Digest, blobs::BlobError, spec::ManifestError};
use std::{io, path::PathBuf, time::Duration};

/// A failure of the client.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No answer at all.
    #[error("cannot reach `{host}`")]
    Connect {
        /// Host and port.
        host: String,
        /// Why not.
        source: reqwest::Error,
    },
    /// Somebody else answers, or the certificate is out of order.
    #[error("the certificate of `{host}` is not trusted")]
    Untrusted {
        /// Host and port.
        host: String,
        /// Why not.
        source: reqwest::Error,
    },
    /// A request that cannot be made.
    #[error("cannot ask `{host}` that")]
    Request {
        /// Host and port.
        host: String,
        /// Why not.
        source: reqwest::Error,
    },
    /// The answer broke off.
    #[error("the connection to `{host}` broke off")]
    Interrupted {
        /// Host and port.
        host: String,
        /// Why, where that is known.
        source: Option<reqwest::Error>,
    },
    /// An answer that is neither success nor something expected.
    #[error("`{host}` answered {method} `{path}` with {status}{}{message}", if message.is_empty() { "" } else { ": " })]
    Status {
        /// Host and port.
        host: String,
        /// The request's method.
        method: String,
        /// The request's path.
        path: String,
        /// The reply's status code.
        status: u16,
        /// Code and message of the reply's body, as they came.
        message: String,
        /// How long the registry asks to wait.
        retry_after: Option<Duration>,
    },
    /// The registry has no such thing, or does not show it.
    #[error("`{what}` is not in the registry")]
    NotFound {
        /// What was asked for.
        what: String,
    },
    /// Credentials are missing or wrong.
    #[error("`{host}` refuses access to `{repository}`{}: {message}", if *credentials { " with the credentials given" } else { " without credentials" })]
    Denied {
        /// Host and port.
        host: String,
        /// The repository.
        repository: String,
        /// Whether credentials were sent.
        credentials: bool,
        /// What the registry says.
        message: String,
    },
    /// The token ran out while a body was on its way; the next attempt has a new one.
    #[error("the token of `{host}` ran out")]
    TokenExpired {
        /// Host and port.
        host: String,
    },
    /// The registry wants its credentials sent to somebody else (CVE-2026-33540).
    #[error(
        "`{host}` names the token service `{realm}`, which does not belong to it: no credentials are sent there"
    )]
    ForeignRealm {
        /// Host and port of the registry.
        host: String,
        /// The token service named.
        realm: String,
    },
    /// The answer breaks the protocol.
    #[error("`{host}` answered {method} with something that is not the protocol: {what}")]
    Protocol {
        /// Host and port.
        host: String,
        /// The request's method.
        method: String,
        /// What was wrong.
        what: &'static str,
    },
    /// Redirects without end.
    #[error("`{url}` redirects more than {} times", crate::limits::REDIRECTS)]
    Redirects {
        /// Where it began.
        url: String,
    },
    /// A redirect from https to http.
    #[error("`{url}` leads from https to http")]
    Downgrade {
        /// Where it led.
        url: String,
    },
    /// Neither http nor https.
    #[error("`{url}` is not an http or https address")]
    Address {
        /// The address.
        url: String,
    },
    /// More bytes than are taken.
    #[error("`{what}` has more than the {most_bytes} bytes that are taken")]
    Large {
        /// What was fetched.
        what: String,
        /// The cap in bytes.
        most_bytes: u64,
    },
    /// Other bytes than asked for.
    #[error("`{host}` sent content with digest `{actual}` instead of `{expected}`")]
    Digest {
        /// Host and port.
        host: String,
        /// What was asked for.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
    /// More or fewer bytes than the descriptor says.
    #[error("`{host}` has {actual} bytes for `{digest}` where its descriptor says {expected}")]
    Size {
        /// Host and port.
        host: String,
        /// Which content.
        digest: Digest,
        /// What the descriptor says, in bytes.
        expected: u64,
        /// What came, in bytes; the least that it has where it was not read to its end.
        actual: u64,
    },
    /// A manifest that is none.
    #[error("`{host}` sent a manifest that cannot be taken")]
    Manifest {
        /// Host and port.
        host: String,
        /// Why not.
        source: ManifestError,
    },
    /// The local blobs failed.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// A local blob cannot be read for pushing.
    #[error("cannot read `{digest}` for pushing")]
    Source {
        /// Which one.
        digest: Digest,
        /// Why not.
        source: io::Error,
    },
    /// Credentials cannot be had.
    #[error(transparent)]
    Credential(#[from] CredentialError),
    /// TLS cannot be set up.
    #[error(
        "cannot set up TLS: certificate authorities are needed for https (`ca-certificates`, or SSL_CERT_FILE)"
    )]
    Tls(#[source] reqwest::Error),
    /// The file of extra certificate authorities cannot be used.
    #[error("cannot read certificate authorities from `{path}`")]
    Authorities {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Threads cannot be started.
    #[error("cannot start the client's threads")]
    Runtime(#[source] io::Error),
    /// A task died.
    #[error("a task of the client failed")]
    Task(#[from] tokio::task::JoinError),
}

impl ClientError {
    /// Sorts a failure to get any answer.
    pub(super) fn unanswered(host: String, source: reqwest::Error) -> ClientError {
        match () {
            () if source.is_builder() => ClientError::Request { host, source },
            () if concerns_certificate(&source) => ClientError::Untrusted { host, source },
            () if source.is_connect() => ClientError::Connect { host, source },
            () => ClientError::Interrupted { host, source: Some(source) },
        }
    }

    /// Whether trying again may help.
    pub fn is_transient(&self) -> bool {
        match self {
            ClientError::Connect { .. }
            | ClientError::Interrupted { .. }
            | ClientError::TokenExpired { .. } => true,
            // 409: a cut-off request still holds the upload session
            ClientError::Status { status, .. } => {
                matches!(status, 408 | 409 | 416 | 429 | 500 | 502 | 503 | 504)
            }
            _ => false,
        }
    }

    /// How long the registry asked to wait.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            ClientError::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    pub(super) fn status(&self) -> Option<u16> {
        match self {
            ClientError::Status { status, .. } => Some(*status),
            _ => None,
        }
    }
}

/// Whether rustls refused the peer's certificate; trying again would not help.
fn concerns_certificate(error: &reqwest::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        // an I/O error hides what it wraps from `source`
        let wrapped = cause.downcast_ref::<io::Error>().and_then(|error| error.get_ref());
        let tls = wrapped.and_then(|inner| inner.downcast_ref::<rustls::Error>());
        if matches!(tls, Some(rustls::Error::InvalidCertificate(_))) {
            return true;
        }
        source = cause.source();
    }
    false
}
