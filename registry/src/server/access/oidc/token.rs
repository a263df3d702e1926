//! Identity tokens: JWS in compact form (RFC 7515), taken apart and verified.
//!
//! A header may say which of the issuer's own keys signed, and by which algorithm. Where it brings a key along or says where
//! one is (`jwk`, `jku`, `x5c`, `x5u`), or has any other field that could matter, the token is refused.

use super::{
    claim::Claims,
    jwk::{Algorithm, KeySet},
};
use crate::limits;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;

/// Why a token is refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TokenError {
    /// Longer than any.
    #[error("it is longer than {} bytes", limits::TOKEN_BYTES)]
    Long,
    /// No JWS.
    #[error("it is no token of three parts in base64url")]
    Form,
    /// A header with something that is not understood.
    #[error("its header is not one of an identity token: `alg` and `kid`, and no key of its own")]
    Header,
    /// An algorithm that is none.
    #[error("its algorithm is none of RS256, RS384, RS512, PS256, ES256, ES384 and EdDSA")]
    Algorithm,
    /// A key that the issuer does not have.
    #[error("the issuer has no key of the id that it names")]
    Key,
    /// Keys that cannot be had.
    #[error("the issuer's keys cannot be had")]
    Keys,
    /// A signature that is not the issuer's.
    #[error("its signature is not the issuer's")]
    Signature,
    /// Claims that are none.
    #[error("its claims are not those of an identity token: `iss`, `sub`, `aud` and `exp`")]
    Claims,
    /// For somebody else.
    #[error("it is for another audience")]
    Audience,
    /// Too late.
    #[error("it is expired")]
    Expired,
    /// Too early.
    #[error("it is not valid yet")]
    Early,
    /// A claim that is not as it has to be.
    #[error("its claim `{0}` is not what the configuration asks for")]
    Claim(String),
}

/// What is allowed in a header; any other field is a reason to refuse.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    alg: String,
    kid: String,
    typ: Option<String>,
    // thumbprints of certificates: said by some, looked at by nobody
    #[serde(rename = "x5t")]
    _x5t: Option<String>,
    #[serde(rename = "x5t#S256")]
    _x5t_s256: Option<String>,
}

/// A token whose header is in order.
#[derive(Debug)]
pub(super) struct Unverified<'a> {
    algorithm: Algorithm,
    /// The id of the key that it says it is signed with.
    pub(super) key: String,
    /// The issuer that it says it is of: worth a look into the configuration, and nothing else.
    pub(super) issuer: String,
    claims: Vec<u8>,
    signed: &'a str,
    signature: Vec<u8>,
}

#[derive(Deserialize)]
struct Issued {
    iss: String,
}

/// Whether a text has the look of a token, and not that of a password: a header in base64 begins so.
pub(super) fn looks_like_one(text: &str) -> bool {
    text.starts_with("eyJ") && text.contains('.')
}

/// Takes a token apart.
pub(super) fn parse(token: &str) -> Result<Unverified<'_>, TokenError> {
    if token.len() > limits::TOKEN_BYTES {
        return Err(TokenError::Long);
    }
    // no split into as many parts as somebody writes dots (CVE-2025-30204)
    let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Form)?;
    let (header, claims) = signed.split_once('.').ok_or(TokenError::Form)?;
    if claims.contains('.') {
        return Err(TokenError::Form);
    }
    let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|_| TokenError::Form);
    let (header, claims, signature) = (decode(header)?, decode(claims)?, decode(signature)?);
    // serde would take a list for a structure as well
    let object = |bytes: &[u8]| bytes.starts_with(b"{");
    if !object(&header) {
        return Err(TokenError::Header);
    }
    let header: Header = serde_json::from_slice(&header).map_err(|_| TokenError::Header)?;
    if header.typ.is_some_and(|typ| !typ.eq_ignore_ascii_case("jwt")) || header.kid.is_empty() {
        return Err(TokenError::Header);
    }
    let algorithm = Algorithm::named(&header.alg).ok_or(TokenError::Algorithm)?;
    let issued = Some(&claims).filter(|claims| object(claims));
    let issued: Option<Issued> = issued.and_then(|claims| serde_json::from_slice(claims).ok());
    let issuer = issued.ok_or(TokenError::Claims)?.iss;
    Ok(Unverified { algorithm, key: header.kid, issuer, claims, signed, signature })
}

/// What a verified token says.
#[derive(Debug)]
pub(super) struct Verified {
    pub(super) subject: String,
    pub(super) expires: i64,
    pub(super) claims: Claims,
}

/// The claims that every token has. One that is not of its type is not passed over.
#[derive(Deserialize)]
struct Registered {
    sub: String,
    exp: f64,
    nbf: Option<f64>,
    iat: Option<f64>,
}

impl Unverified<'_> {
    /// Verifies the signature, and then what every token has to claim.
    pub(super) fn verify(&self, keys: &KeySet, now: i64) -> Result<Verified, TokenError> {
        if !keys.has(&self.key) {
            return Err(TokenError::Key);
        }
        if !keys.verifies(&self.key, self.algorithm, self.signed.as_bytes(), &self.signature) {
            return Err(TokenError::Signature);
        }
        let value: serde_json::Value =
            serde_json::from_slice(&self.claims).map_err(|_| TokenError::Claims)?;
        let claims = Claims::of(&value).ok_or(TokenError::Claims)?;
        let own: Registered = serde_json::from_slice(&self.claims).map_err(|_| TokenError::Claims)?;
        // OpenID Connect Core 1.0, section 2: at most 255 ASCII characters. It becomes a name in logs
        let plain = own.sub.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
        if own.sub.is_empty() || own.sub.len() > 255 || !plain {
            return Err(TokenError::Claims);
        }
        // RFC 7519, section 2: a time may have a fraction; none is later than the year 2^53
        let seconds = |time: f64| time.clamp(-9e15, 9e15) as i64;
        let skew = limits::CLOCK_SKEW_SECONDS;
        if seconds(own.exp).saturating_add(skew) <= now {
            return Err(TokenError::Expired);
        }
        let from = [own.nbf, own.iat].into_iter().flatten().map(seconds).max();
        if from.is_some_and(|from| from.saturating_sub(skew) > now) {
            return Err(TokenError::Early);
        }
        Ok(Verified { subject: own.sub, expires: seconds(own.exp), claims })
    }
}
