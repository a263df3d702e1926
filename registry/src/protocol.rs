//! Words of the distribution protocol that server and client both say (distribution specification 1.1).

/// The version header that docker looks for before it speaks to a registry.
pub const API_VERSION_HEADER: &str = "docker-distribution-api-version";
/// Its only value.
pub const API_VERSION: &str = "registry/2.0";
/// Digest of the content in a reply.
pub const CONTENT_DIGEST_HEADER: &str = "docker-content-digest";
/// Id of an upload session.
pub const UPLOAD_UUID_HEADER: &str = "docker-upload-uuid";
/// The subject that a manifest was registered under.
pub const SUBJECT_HEADER: &str = "oci-subject";
/// The tags that a manifest was pushed under by `?tag=`.
pub const TAG_HEADER: &str = "oci-tag";
/// Which filters a referrers reply went through.
pub const FILTERS_APPLIED_HEADER: &str = "oci-filters-applied";
/// The registry that a mirror answered for (distribution specification, "Registry Proxying").
pub const NAMESPACE_HEADER: &str = "oci-namespace";
/// The least size of a chunk that a registry takes.
pub const CHUNK_MIN_LENGTH_HEADER: &str = "oci-chunk-min-length";
/// The trace that a request belongs to (W3C Trace Context, section 3.2).
pub const TRACE_PARENT_HEADER: &str = "traceparent";
/// Media type of bytes without a better name.
pub const OCTET_STREAM: &str = "application/octet-stream";

/// An error code of the specification's table, plus `UNKNOWN`, which registries use for their own failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorCode {
    /// The blob is not in the repository.
    BlobUnknown,
    /// The upload cannot go on this way.
    BlobUploadInvalid,
    /// No such upload session.
    BlobUploadUnknown,
    /// The digest is malformed, or not that of the content.
    DigestInvalid,
    /// The manifest refers to content that is not there.
    ManifestBlobUnknown,
    /// The manifest is malformed.
    ManifestInvalid,
    /// No such manifest.
    ManifestUnknown,
    /// The repository name breaks the grammar.
    NameInvalid,
    /// No such repository.
    NameUnknown,
    /// The length is not what was announced.
    SizeInvalid,
    /// Credentials are needed.
    Unauthorized,
    /// Credentials do not suffice.
    Denied,
    /// The operation is not supported.
    Unsupported,
    /// Slow down.
    TooManyRequests,
    /// The registry failed.
    Unknown,
}

impl ErrorCode {
    /// The code as it is written on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            ErrorCode::BlobUnknown => "BLOB_UNKNOWN",
            ErrorCode::BlobUploadInvalid => "BLOB_UPLOAD_INVALID",
            ErrorCode::BlobUploadUnknown => "BLOB_UPLOAD_UNKNOWN",
            ErrorCode::DigestInvalid => "DIGEST_INVALID",
            ErrorCode::ManifestBlobUnknown => "MANIFEST_BLOB_UNKNOWN",
            ErrorCode::ManifestInvalid => "MANIFEST_INVALID",
            ErrorCode::ManifestUnknown => "MANIFEST_UNKNOWN",
            ErrorCode::NameInvalid => "NAME_INVALID",
            ErrorCode::NameUnknown => "NAME_UNKNOWN",
            ErrorCode::SizeInvalid => "SIZE_INVALID",
            ErrorCode::Unauthorized => "UNAUTHORIZED",
            ErrorCode::Denied => "DENIED",
            ErrorCode::Unsupported => "UNSUPPORTED",
            ErrorCode::TooManyRequests => "TOOMANYREQUESTS",
            ErrorCode::Unknown => "UNKNOWN",
        }
    }
}
