//! What can go wrong between this machine and a registry.

use super::{credential::CredentialError, dns, trust::is_authority};
use rustls::CertificateError;
use slipway_oci::{Digest, blobs::BlobError, spec::ManifestError, unpacking::TooMuch};
use std::{error::Error, io, path::PathBuf, time::Duration};

/// A failure of the client.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// An image of more bytes than are taken ([`slipway_oci::unpacking`]).
    #[error("the image is too large: its blobs have {bytes} bytes")]
    TooMuch {
        /// What its descriptors say.
        bytes: u64,
        /// The cap.
        source: TooMuch,
    },
    /// No answer at all.
    #[error("cannot reach `{host}`: {why}")]
    Connect {
        /// Host and port.
        host: String,
        /// Why not: the last cause, for those before it say no more than this.
        why: String,
    },
    /// The host's name leads nowhere.
    #[error("cannot find `{host}`: {why}")]
    Lookup {
        /// Host and port.
        host: String,
        /// What the resolver says.
        why: String,
    },
    /// No TLS is spoken there, or none that is understood.
    #[error("`{host}` does not speak TLS: {why}")]
    Handshake {
        /// Host and port.
        host: String,
        /// What rustls says.
        why: String,
    },
    /// Somebody else answers, or the certificate is out of order.
    #[error("the certificate of `{host}` is not trusted: {why}")]
    Untrusted {
        /// Host and port.
        host: String,
        /// Whether it would be trusted if one more authority were; else the certificate itself is out of order.
        issuer: bool,
        /// Why not.
        why: String,
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
    /// A name that this machine's settings forbid.
    #[error("`{name}` is not asked for: `registries.conf` blocks `{prefix}`")]
    Blocked {
        /// The name.
        name: String,
        /// The rule's prefix.
        prefix: String,
    },
    /// The registry has no such thing, or does not show it.
    #[error("`{what}` is not in the registry")]
    NotFound {
        /// What was asked for.
        what: String,
    },
    /// A tag stands for something else than the caller thinks.
    #[error("`{what}` was moved by somebody else: it is not what it was found to be")]
    Changed {
        /// The tag.
        what: String,
    },
    /// A layer that lives elsewhere.
    #[error("the registry does not have the layer `{digest}`, which lives elsewhere: {url}")]
    Foreign {
        /// The layer.
        digest: Digest,
        /// Where it lives.
        url: String,
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
    /// A login that does not open the registry.
    #[error("`{host}` refuses the login: {message}")]
    LoginRefused {
        /// Host and port.
        host: String,
        /// What the registry says.
        message: String,
    },
    /// It lets no devices in.
    #[error("`{host}` offers no login by a code that is typed elsewhere")]
    NoDevices {
        /// Host and port.
        host: String,
    },
    /// A login by a code that came to nothing.
    #[error("`{host}` lets this device not in: {message}")]
    DeviceRefused {
        /// Host and port.
        host: String,
        /// Why, in the registry's words or this program's.
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
    /// An address that the settings do not name.
    #[error("`{host}` leads to `{target}`, which its settings do not name")]
    Beyond {
        /// Host and port of the registry.
        host: String,
        /// Where it led.
        target: String,
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
    #[error("cannot set up connections")]
    Tls(#[source] reqwest::Error),
    /// No certificate authority is known at all.
    #[error("there are no certificate authorities to check the registry's certificate with")]
    NoAuthorities,
    /// Settings of TLS that contradict each other, such as a key that is not the certificate's.
    #[error("cannot set up TLS")]
    TlsSettings(#[source] rustls::Error),
    /// The file of extra certificate authorities cannot be used.
    #[error("cannot use the certificates of `{path}`")]
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
        if source.is_builder() {
            return ClientError::Request { host, source };
        }
        if let Some(error) = cause::<dns::LookupError>(&source) {
            return match error {
                // the resolver has its own patience; what was no answer may be one later
                dns::LookupError::Unanswered(_) => ClientError::Connect { host, why: error.to_string() },
                _ => ClientError::Lookup { host, why: error.to_string() },
            };
        }
        match cause::<rustls::Error>(&source) {
            Some(rustls::Error::InvalidCertificate(error)) => {
                let issuer = matches!(error, CertificateError::UnknownIssuer) || is_authority(error);
                return ClientError::Untrusted { host, issuer, why: certificate_words(error) };
            }
            Some(rustls::Error::InvalidMessage(_)) if source.is_connect() => {
                return ClientError::Handshake { host, why: "it answers with something else".into() };
            }
            Some(error @ rustls::Error::AlertReceived(_)) if source.is_connect() => {
                return ClientError::Handshake { host, why: format!("it refuses: {error}") };
            }
            _ => {}
        }
        match source.is_connect() {
            true => ClientError::Connect { host, why: connect_words(last_cause(&source)) },
            false => ClientError::Interrupted { host, source: Some(source) },
        }
    }

    /// Whether trying again may help.
    pub fn is_transient(&self) -> bool {
        match self {
            ClientError::Connect { .. }
            | ClientError::Interrupted { .. }
            | ClientError::TokenExpired { .. } => true,
            // 409: a cut-off request still holds the upload session; what is deleted is needed, and stays so
            ClientError::Status { status: 409, method, .. } => method != "DELETE",
            ClientError::Status { status, .. } => {
                matches!(status, 408 | 416 | 429 | 500 | 502 | 503 | 504)
            }
            _ => false,
        }
    }

    /// How long the registry asked to wait.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            ClientError::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// The status with which the registry refused, if it did.
    pub fn status(&self) -> Option<u16> {
        match self {
            ClientError::Status { status, .. } => Some(*status),
            _ => None,
        }
    }
}

/// A cause of a kind, however deep. An I/O error hides what it wraps from `source`.
fn cause<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if let Some(found) = error.downcast_ref::<E>() {
            return Some(found);
        }
        if let Some(found) = wrapped.and_then(|inner| cause::<E>(inner)) {
            return Some(found);
        }
        next = error.source();
    }
    None
}

fn last_cause(error: &(dyn Error + 'static)) -> String {
    let mut last = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    last.to_string()
}

/// Why there is no connection. hyper-util keeps the type of its tunnel's failures to itself.
fn connect_words(cause: String) -> String {
    match cause.strip_prefix("tunnel error: ") {
        Some(why) => format!("the proxy does not lead there ({why}); NO_PROXY names hosts that need none"),
        None => cause,
    }
}

/// What is wrong with a certificate, in words of people.
fn certificate_words(error: &CertificateError) -> String {
    match error {
        CertificateError::UnknownIssuer => "its issuer is unknown".into(),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "it has expired".into(),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "it is not valid yet".into()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "it is for another name".into()
        }
        error if is_authority(error) => "it is an authority's, and not trusted itself".into(),
        CertificateError::Revoked => "it was revoked".into(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_mended_by_repeating_is_not_repeated() {
        let host = || "h".to_owned();
        let why = || "w".to_owned();
        let answer = |method: &str, status| ClientError::Status {
            host: host(),
            method: method.into(),
            path: "/".into(),
            status,
            message: String::new(),
            retry_after: None,
        };
        let status = |status| answer("GET", status);
        for (error, again) in [
            (answer("DELETE", 409), false),
            (answer("PATCH", 409), true),
            (ClientError::Lookup { host: host(), why: why() }, false),
            (ClientError::Untrusted { host: host(), issuer: true, why: why() }, false),
            (ClientError::Handshake { host: host(), why: why() }, false),
            (ClientError::NotFound { what: why() }, false),
            (status(400), false),
            (status(401), false),
            (status(403), false),
            (status(429), true),
            (status(503), true),
            (ClientError::Connect { host: host(), why: why() }, true),
            (ClientError::Interrupted { host: host(), source: None }, true),
        ] {
            assert_eq!(error.is_transient(), again, "{error}");
        }
    }

    #[test]
    fn causes_are_found_within_io_errors() {
        let inner = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let outer = io::Error::other(io::Error::new(io::ErrorKind::InvalidData, inner));
        assert!(matches!(cause::<rustls::Error>(&outer), Some(rustls::Error::InvalidCertificate(_))));
        assert!(cause::<dns::LookupError>(&outer).is_none());
    }
}
