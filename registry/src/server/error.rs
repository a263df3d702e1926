//! The one place where errors become status codes and the specification's error bodies.

use super::{
    devices::NotYet,
    reply,
    storage::{Measure, Scope, StorageError},
    trouble::Trouble,
};
use crate::{
    limits,
    protocol::{
        self,
        ErrorCode::{self, *},
    },
};
use axum::{
    body::Body,
    http::{HeaderName, HeaderValue, Method, StatusCode, header},
    response::Response,
};
use slipway_oci::{Digest, digest::DigestError, spec::ManifestError};

/// What was asked for and is not given: repository and action, where it is about one.
#[derive(Debug, Default)]
pub(super) struct Wanted(pub(super) Option<(String, &'static str)>);

impl Wanted {
    /// distribution's form of it. docker tries a refusal without any detail again for a minute: its own words with no
    /// detail become another type of error there (distribution's `errcode.Errors`).
    fn detail(&self) -> serde_json::Value {
        let one = |(name, action): &(String, &str)| serde_json::json!({ "Type": "repository", "Class": "", "Name": name, "Action": action });
        self.0.iter().map(one).collect::<Vec<_>>().into()
    }
}

/// Why a request is not answered with success.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApiError {
    #[error("no such endpoint")]
    PathUnknown,
    #[error("the query string has more than {} bytes", limits::QUERY_BYTES)]
    QueryLong,
    #[error(
        "a request names the host that it is for, once, in `Host`: a name or an address, with a port or without"
    )]
    Host,
    #[error("this endpoint does not take {0}")]
    Method(Method, &'static str),
    #[error("this registry is read-only")]
    ReadOnly,
    /// `wrong`: something was shown, and it is not right.
    #[error("{}", if *wrong { "the name, password or token is wrong" } else { "authentication required" })]
    Unauthorized { challenge: String, wrong: bool, wanted: Wanted },
    // the same words whether the repository is there or not
    #[error("requested access to the resource is denied")]
    Denied { challenge: Option<String>, wanted: Wanted },
    #[error("too many passwords are being checked: ask again")]
    PasswordsBusy,
    #[error("too many requests: ask again in {} seconds", seconds(*retry))]
    Often { retry: std::time::Duration },
    #[error("{0}")]
    TokenRequest(&'static str),
    /// A device that is not let in, or not yet.
    #[error("{}", not_yet(*.0).1)]
    Device(NotYet),
    #[error("`{0}` is not a repository name")]
    NameInvalid(String),
    #[error(transparent)]
    Digest(#[from] DigestError),
    #[error("the `digest` parameter is missing")]
    DigestMissing,
    #[error("`{0}` is neither a tag nor a digest")]
    TagInvalid(String),
    #[error("`{0}` is not a number of entries")]
    PageNumber(String),
    #[error("digest algorithm `{0}` is not supported: use sha256 or sha512")]
    Algorithm(String),
    #[error(
        "the content has {size} bytes, and none of them lies in the range: a range is `bytes=FIRST-LAST`, both counted from 0"
    )]
    Unsatisfiable { size: u64 },
    #[error("`{0}` is not a range of the form `first-last`")]
    ContentRange(String),
    #[error("the chunk starts at byte {first}, the upload has {length}: continue there")]
    ChunkOrder { first: u64, length: u64, location: String },
    #[error("the body has {actual} bytes where its headers say {expected}")]
    ChunkLength { expected: u64, actual: u64 },
    #[error("the manifest has more than {} bytes", slipway_oci::limits::MANIFEST_BYTES)]
    ManifestLarge,
    #[error("the blob has more than the {most} bytes that this registry takes")]
    BlobLarge { most: u64 },
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error("the manifest has digest `{actual}`, not `{expected}`")]
    ManifestDigest { expected: Digest, actual: Digest },
    #[error("a manifest has to be pushed with its media type as `Content-Type`")]
    ManifestTypeMissing,
    #[error("`{0}` cannot be stored as a manifest: push an OCI or docker schema 2 image or index")]
    ManifestType(String),
    #[error("the size of `{0}` in the manifest is beyond all bounds")]
    ManifestSize(Digest),
    #[error("`{0}` is no list of digests in quotes, nor `*`")]
    Precondition(String),
    #[error("`tag` parameters belong to a push by digest")]
    TagsWithTag,
    #[error("more than {} tags in one push", limits::TAGS_PER_PUSH)]
    TagsMany,
    #[error("the request's body broke off")]
    Body(#[source] axum::Error),
    #[error("the request's body did not arrive in time")]
    BodyPause,
    #[error("the registry has no memory left for this reply: ask again")]
    Busy,
    #[error(transparent)]
    Mirror(Trouble),
    #[error("`{0}` is another registry's, of which this one is a mirror: push it there")]
    Mirrored(String),
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error("a task of the registry failed")]
    Task(#[from] tokio::task::JoinError),
}

impl From<ApiError> for Trouble {
    fn from(error: ApiError) -> Trouble {
        match error {
            ApiError::Storage(error) => error.into(),
            ApiError::Mirror(trouble) => trouble,
            other => Trouble::Own(other.to_string().into()),
        }
    }
}

impl ApiError {
    /// Status and code. Nothing else in the crate decides either for a failure.
    fn meaning(&self) -> (StatusCode, ErrorCode) {
        use StatusCode as S;
        match self {
            ApiError::PathUnknown => (S::NOT_FOUND, Unsupported),
            ApiError::QueryLong | ApiError::TagsMany => (S::URI_TOO_LONG, Unsupported),
            ApiError::Method(..) => (S::METHOD_NOT_ALLOWED, Unsupported),
            // distribution's answer in its read-only mode
            ApiError::ReadOnly => (S::METHOD_NOT_ALLOWED, Unsupported),
            ApiError::Unauthorized { .. } => (S::UNAUTHORIZED, Unauthorized),
            ApiError::Denied { .. } => (S::FORBIDDEN, Denied),
            ApiError::PasswordsBusy | ApiError::Often { .. } => (S::TOO_MANY_REQUESTS, TooManyRequests),
            ApiError::TokenRequest(_) => (S::BAD_REQUEST, Unsupported),
            // RFC 6749, section 5.2
            ApiError::Device(_) => (S::BAD_REQUEST, Unauthorized),
            ApiError::NameInvalid(_) => (S::BAD_REQUEST, NameInvalid),
            ApiError::Digest(_) | ApiError::DigestMissing => (S::BAD_REQUEST, DigestInvalid),
            ApiError::TagInvalid(_) => (S::BAD_REQUEST, ManifestInvalid),
            ApiError::PageNumber(_)
            | ApiError::Algorithm(_)
            | ApiError::TagsWithTag
            | ApiError::Host
            | ApiError::Precondition(_) => (S::BAD_REQUEST, Unsupported),
            ApiError::Unsatisfiable { .. } => (S::RANGE_NOT_SATISFIABLE, SizeInvalid),
            ApiError::ContentRange(_) => (S::BAD_REQUEST, BlobUploadInvalid),
            ApiError::ChunkOrder { .. } => (S::RANGE_NOT_SATISFIABLE, BlobUploadInvalid),
            ApiError::ChunkLength { .. } => (S::BAD_REQUEST, SizeInvalid),
            ApiError::BlobLarge { .. } => (S::PAYLOAD_TOO_LARGE, SizeInvalid),
            ApiError::ManifestLarge => (S::PAYLOAD_TOO_LARGE, ManifestInvalid),
            ApiError::Manifest(_)
            | ApiError::ManifestTypeMissing
            | ApiError::ManifestType(_)
            | ApiError::ManifestSize(_) => (S::BAD_REQUEST, ManifestInvalid),
            ApiError::ManifestDigest { .. } => (S::BAD_REQUEST, DigestInvalid),
            ApiError::Body(_) => (S::BAD_REQUEST, BlobUploadInvalid),
            ApiError::BodyPause => (S::REQUEST_TIMEOUT, BlobUploadInvalid),
            ApiError::Busy => (S::SERVICE_UNAVAILABLE, TooManyRequests),
            ApiError::Storage(error) => storage_meaning(error),
            ApiError::Mirror(trouble) => trouble_meaning(trouble),
            ApiError::Mirrored(_) => (S::METHOD_NOT_ALLOWED, Unsupported),
            ApiError::Task(_) => (S::INTERNAL_SERVER_ERROR, Unknown),
        }
    }

    /// Whether the registry itself is at fault.
    pub(super) fn is_failure(&self) -> bool {
        // what is being moved is as it should be
        !matches!(self, ApiError::Storage(StorageError::Moving)) && self.meaning().0.is_server_error()
    }

    /// The reply that says so.
    pub(super) fn into_response(self) -> Response {
        let (status, code) = self.meaning();
        // what failed inside is for the operator's eyes: paths stay here
        let message = match status {
            StatusCode::INSUFFICIENT_STORAGE => "the registry's disk is full".to_owned(),
            _ if let ApiError::Mirror(trouble) = &self => trouble.told().to_owned(),
            _ if let ApiError::Storage(error @ StorageError::Moving) = &self => error.to_string(),
            status if status.is_server_error() => "the registry failed".to_owned(),
            _ => self.to_string(),
        };
        let detail = match &self {
            ApiError::Unauthorized { wanted, .. } | ApiError::Denied { wanted, .. } => wanted.detail(),
            ApiError::Storage(error) => storage_detail(error),
            _ => serde_json::Value::Null,
        };
        let mut body = serde_json::json!({ "errors": [{ "code": code.as_str(), "message": message, "detail": detail }] });
        if let ApiError::Device(why) = &self {
            body["error"] = not_yet(*why).0.into();
        }
        let mut response = Response::new(Body::from(body.to_string()));
        *response.status_mut() = status;
        let mut set = |name: HeaderName, value: &str| {
            if let Ok(value) = HeaderValue::from_str(value) {
                response.headers_mut().insert(name, value);
            }
        };
        set(header::CONTENT_TYPE, "application/json");
        match &self {
            ApiError::Method(_, allowed) => set(header::ALLOW, allowed),
            ApiError::Unauthorized { challenge, .. }
            | ApiError::Denied { challenge: Some(challenge), .. } => set(header::WWW_AUTHENTICATE, challenge),
            ApiError::PasswordsBusy => set(header::RETRY_AFTER, "1"),
            ApiError::Often { retry } => set(header::RETRY_AFTER, &seconds(*retry).to_string()),
            ApiError::Storage(StorageError::Moved { current: Some(current), .. }) => {
                set(header::ETAG, &format!("\"{current}\""));
                set(HeaderName::from_static(protocol::CONTENT_DIGEST_HEADER), &current.to_string());
            }
            ApiError::Busy | ApiError::Mirror(Trouble::Busy) => set(header::RETRY_AFTER, "5"),
            ApiError::Mirror(Trouble::Often { pause } | Trouble::Away { pause, .. }) => {
                set(header::RETRY_AFTER, &seconds(*pause).to_string());
            }
            ApiError::Mirrored(_) => set(header::ALLOW, "GET, HEAD, DELETE"),
            ApiError::Storage(StorageError::SessionsMany) => set(header::RETRY_AFTER, "60"),
            ApiError::Storage(error) if error.is_away() || matches!(error, StorageError::Moving) => {
                set(header::RETRY_AFTER, "5");
            }
            ApiError::Storage(StorageError::Condemned(_)) => set(header::RETRY_AFTER, "2"),
            ApiError::Unsatisfiable { size } => set(header::CONTENT_RANGE, &format!("bytes */{size}")),
            ApiError::ChunkOrder { length, location, .. } => {
                set(header::LOCATION, location);
                set(header::RANGE, &reply::upload_range(*length));
            }
            _ => {}
        }
        response
    }
}

/// What an upstream is to blame for is no failure of this server's, and no news about what is here.
fn trouble_meaning(trouble: &Trouble) -> (StatusCode, ErrorCode) {
    use StatusCode as S;
    match trouble {
        Trouble::Absent => (S::NOT_FOUND, NameUnknown),
        Trouble::Refused { .. } => (S::FORBIDDEN, Denied),
        Trouble::Often { .. } => (S::TOO_MANY_REQUESTS, TooManyRequests),
        Trouble::Away { .. } | Trouble::Busy => (S::SERVICE_UNAVAILABLE, Unknown),
        Trouble::Wrong { .. } => (S::BAD_GATEWAY, Unknown),
        Trouble::Storage(error) if error.is_full() => (S::INSUFFICIENT_STORAGE, Unknown),
        Trouble::Storage(_) | Trouble::Own(_) => (S::INTERNAL_SERVER_ERROR, Unknown),
    }
}

/// OAuth's code for it (RFC 8628, section 3.5), and words.
fn not_yet(why: NotYet) -> (&'static str, &'static str) {
    match why {
        NotYet::Pending => ("authorization_pending", "nobody has let the device in yet: ask again"),
        NotYet::SlowDown => ("slow_down", "nobody has let the device in yet: ask less often"),
        NotYet::Refused => ("access_denied", "the device was refused"),
        NotYet::Expired => ("expired_token", "nobody let the device in in time: begin again"),
        NotYet::Unknown => ("invalid_grant", "the device code is not known: begin again"),
    }
}

/// Whole seconds, at least one (RFC 9110, section 10.2.3).
fn seconds(time: std::time::Duration) -> u64 {
    time.as_millis().div_ceil(1000).max(1).try_into().unwrap_or(u64::MAX)
}

/// What a client may act upon.
fn storage_detail(error: &StorageError) -> serde_json::Value {
    match error {
        StorageError::BlobNeeded { manifest: by, .. } | StorageError::ManifestNeeded { index: by, .. } => {
            serde_json::json!({ "neededBy": by })
        }
        StorageError::OverQuota(over) => {
            let (name, kind) = match &over.scope {
                Scope::Repository(name) => (name, "repository"),
                Scope::Namespace(name) => (name, "namespace"),
            };
            let measure = match over.measure {
                Measure::Bytes => "bytes",
                Measure::Tags => "tags",
            };
            serde_json::json!({
                "scope": kind, "name": name, "measure": measure,
                "quota": over.most, "used": over.used, "asked": over.more,
            })
        }
        StorageError::Moved { what, current } => serde_json::json!({ "reference": what, "digest": current }),
        _ => serde_json::Value::Null,
    }
}

fn storage_meaning(error: &StorageError) -> (StatusCode, ErrorCode) {
    use StatusCode as S;
    if error.is_full() {
        return (S::INSUFFICIENT_STORAGE, Unknown);
    }
    match error {
        StorageError::RepositoryUnknown(_) => (S::NOT_FOUND, NameUnknown),
        // damaged bytes are as good as none, and a push heals both
        StorageError::ManifestUnknown(_) | StorageError::Rot { .. } => (S::NOT_FOUND, ManifestUnknown),
        StorageError::BlobUnknown(_) => (S::NOT_FOUND, BlobUnknown),
        StorageError::UploadUnknown => (S::NOT_FOUND, BlobUploadUnknown),
        StorageError::UploadBusy => (S::CONFLICT, BlobUploadInvalid),
        StorageError::DigestMismatch { .. } => (S::BAD_REQUEST, DigestInvalid),
        StorageError::ReferenceUnknown(_) => (S::BAD_REQUEST, ManifestBlobUnknown),
        StorageError::ReferenceSize { .. } => (S::BAD_REQUEST, SizeInvalid),
        // the specification's conformance program takes parents away first and does not meet it
        StorageError::BlobNeeded { .. } | StorageError::ManifestNeeded { .. } => (S::CONFLICT, Denied),
        // RFC 9110, section 13.1
        StorageError::Moved { .. } => (S::PRECONDITION_FAILED, Denied),
        StorageError::OtherType { .. } => (S::BAD_REQUEST, ManifestInvalid),
        StorageError::SessionsMany => (S::TOO_MANY_REQUESTS, TooManyRequests),
        StorageError::TagImmutable { .. } | StorageError::TagTaken { .. } => (S::FORBIDDEN, Denied),
        // docker and containers-image try everything again but `DENIED` and its like; Harbor answers the same
        StorageError::OverQuota(_) => (S::FORBIDDEN, Denied),
        StorageError::Stopped
        | StorageError::Skipped
        | StorageError::Condemned(_)
        | StorageError::Away(_)
        | StorageError::Silent
        | StorageError::Slow
        | StorageError::DatabaseName(_)
        | StorageError::Store(_)
        | StorageError::StoreSilent
        | StorageError::Moving
        | StorageError::Crowded => (S::SERVICE_UNAVAILABLE, Unknown),
        StorageError::Newer { .. }
        | StorageError::Older { .. }
        | StorageError::Full
        | StorageError::Database(_)
        | StorageError::Postgres(_)
        | StorageError::StoreClient(_)
        | StorageError::DatabaseTls(_)
        | StorageError::OwnRegistry(_)
        | StorageError::StoreForgets(_)
        | StorageError::Clock { .. }
        | StorageError::Sealed
        | StorageError::Commit(_)
        | StorageError::Blob(_)
        | StorageError::Private(_)
        | StorageError::Io { .. }
        | StorageError::InUse(_)
        | StorageError::NoRegistry(_)
        | StorageError::NoTables(_)
        | StorageError::SamePlace
        | StorageError::SameContent(_)
        | StorageError::BeingFilled(_)
        | StorageError::HasRegistry(_)
        | StorageError::HasMoved(_)
        | StorageError::OtherMove
        | StorageError::HoldLost
        | StorageError::Notices(_)
        | StorageError::NoJournal(_)
        | StorageError::NoBackup(_)
        | StorageError::NoArchive
        | StorageError::NoDistribution(_)
        | StorageError::Within(_)
        | StorageError::Registry(_)
        | StorageError::BackupUnderWay
        | StorageError::SigningKey
        | StorageError::Random(_) => (S::INTERNAL_SERVER_ERROR, Unknown),
    }
}
