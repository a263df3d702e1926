//! The tokens that this registry makes and checks itself: JWS in compact form (RFC 7515), one algorithm, few fields.
//!
//! A key is only ever found by its name in our own ring. A header that names another algorithm, brings a key along (`jwk`,
//! CVE-2025-24976), says where one is (`jku`, `x5u`), or has any field beside `alg`, `typ` and `kid` is refused before
//! anything is verified; claims are read only after the signature was found right.

use super::{Principal, keys::Key, oidc::Job, scope::Scope};
use crate::limits;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::signature::{ED25519, KeyPair, UnparsedPublicKey};
use serde::{Deserialize, Serialize};

/// What a token is for. One kind is never taken for the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::server) enum Use {
    /// Requests to the registry.
    Access,
    /// New tokens.
    Refresh,
    /// The web page, by somebody's browser.
    Session,
    /// One of the web page's forms.
    Form,
}

/// What a token says (RFC 7519; distribution's token specification, "JSON Web Token Claim Set").
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::server) struct Claims {
    pub(in crate::server) iss: String,
    /// The user; empty for who is not logged in.
    pub(in crate::server) sub: String,
    pub(in crate::server) aud: String,
    pub(in crate::server) exp: i64,
    pub(in crate::server) nbf: i64,
    pub(in crate::server) iat: i64,
    pub(in crate::server) jti: String,
    #[serde(rename = "use")]
    pub(in crate::server) purpose: Use,
    /// What stood for the user's password when it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::server) stamp: Option<String>,
    /// What is known of a job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::server) job: Option<Job>,
    pub(in crate::server) access: Vec<Scope>,
}

impl Claims {
    /// Whom it is for.
    pub(in crate::server) fn principal(&self) -> Principal {
        let name = Some(self.sub.clone()).filter(|name| !name.is_empty());
        Principal { name, job: self.job.clone().map(std::sync::Arc::new) }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    alg: String,
    typ: String,
    kid: String,
}

/// Why a token is refused. For logs of tests; callers are told nothing of it.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(in crate::server) enum JwtError {
    #[error("it is too long")]
    Long,
    #[error("it is not three parts in base64url")]
    Form,
    #[error("its header is not of this registry's tokens")]
    Header,
    #[error("it is signed with another key")]
    Key,
    #[error("its signature is wrong")]
    Signature,
    #[error("its claims are not of this registry's tokens")]
    Claims,
    #[error("it is for somebody or something else")]
    Audience,
    #[error("it is not valid now")]
    Time,
}

/// Signs.
pub(in crate::server) fn sign(claims: &Claims, key: &Key) -> String {
    let header = Header { alg: "EdDSA".to_owned(), typ: "JWT".to_owned(), kid: key.id.clone() };
    let part = |value: serde_json::Result<Vec<u8>>| {
        URL_SAFE_NO_PAD.encode(value.expect("plain structures have no failing serialisers"))
    };
    let signed = format!("{}.{}", part(serde_json::to_vec(&header)), part(serde_json::to_vec(claims)));
    let signature = URL_SAFE_NO_PAD.encode(key.pair.sign(signed.as_bytes()));
    format!("{signed}.{signature}")
}

/// A token whose header is in order.
pub(in crate::server) struct Unverified<'a> {
    /// The name of the key that it says it is signed with.
    pub(in crate::server) key: String,
    signed: &'a str,
    claims: &'a str,
    signature: Vec<u8>,
}

/// Takes a token apart.
pub(in crate::server) fn parse(token: &str) -> Result<Unverified<'_>, JwtError> {
    if token.len() > limits::TOKEN_BYTES {
        return Err(JwtError::Long);
    }
    // no split into as many parts as somebody writes dots (CVE-2025-30204)
    let (signed, signature) = token.rsplit_once('.').ok_or(JwtError::Form)?;
    let (header, claims) = signed.split_once('.').ok_or(JwtError::Form)?;
    if claims.contains('.') {
        return Err(JwtError::Form);
    }
    let header = URL_SAFE_NO_PAD.decode(header).map_err(|_| JwtError::Form)?;
    let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| JwtError::Form)?;
    // serde would take a list for a structure as well
    let header = header.starts_with(b"{").then_some(header).ok_or(JwtError::Header)?;
    let header: Header = serde_json::from_slice(&header).map_err(|_| JwtError::Header)?;
    if header.alg != "EdDSA" || header.typ != "JWT" {
        return Err(JwtError::Header);
    }
    Ok(Unverified { key: header.kid, signed, claims, signature })
}

impl Unverified<'_> {
    /// Verifies the signature, and then what is claimed.
    pub(in crate::server) fn verify(
        &self,
        key: &Key,
        service: &str,
        purpose: Use,
        now: i64,
    ) -> Result<Claims, JwtError> {
        if key.id != self.key {
            return Err(JwtError::Key);
        }
        let public = UnparsedPublicKey::new(&ED25519, key.pair.public_key().as_ref());
        public.verify(self.signed.as_bytes(), &self.signature).map_err(|_| JwtError::Signature)?;
        let claims = URL_SAFE_NO_PAD.decode(self.claims).map_err(|_| JwtError::Form)?;
        let claims: Claims = serde_json::from_slice(&claims).map_err(|_| JwtError::Claims)?;
        if claims.iss != service || claims.aud != service || claims.purpose != purpose {
            return Err(JwtError::Audience);
        }
        let skew = limits::CLOCK_SKEW_SECONDS;
        if claims.exp.saturating_add(skew) <= now || claims.nbf.saturating_sub(skew) > now {
            return Err(JwtError::Time);
        }
        Ok(claims)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn key(seed: u8) -> Key {
        Key::new(format!("key-{seed}"), &[seed; 32], NOW).expect("a key")
    }

    fn claims() -> Claims {
        Claims {
            iss: "slipway".into(),
            sub: "ann".into(),
            aud: "slipway".into(),
            exp: NOW + 300,
            nbf: NOW,
            iat: NOW,
            jti: "1".into(),
            purpose: Use::Access,
            stamp: Some("s".into()),
            job: None,
            access: vec![Scope::parse("repository:a:pull").expect("a scope")],
        }
    }

    fn check(token: &str) -> Result<Claims, JwtError> {
        parse(token)?.verify(&key(1), "slipway", Use::Access, NOW)
    }

    fn encoded(text: &str) -> String {
        URL_SAFE_NO_PAD.encode(text)
    }

    /// A token with this header and these claims, signed as it should be.
    fn forged(header: &str, claims: &str, signer: &Key) -> String {
        let signed = format!("{}.{}", encoded(header), encoded(claims));
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signer.pair.sign(signed.as_bytes())))
    }

    #[test]
    fn what_was_signed_is_read() {
        assert_eq!(check(&sign(&claims(), &key(1))), Ok(claims()));
    }

    #[test]
    fn every_attack_is_refused() {
        let text = serde_json::to_string(&claims()).expect("JSON");
        let header = r#"{"alg":"EdDSA","typ":"JWT","kid":"key-1"}"#;
        let good = forged(header, &text, &key(1));
        assert_eq!(check(&good), Ok(claims()));
        let (head, signature) = good.rsplit_once('.').expect("parts");
        let with = |change: &dyn Fn(&mut Claims)| {
            let mut changed = claims();
            change(&mut changed);
            sign(&changed, &key(1))
        };
        let headers = [
            r#"{"alg":"none","typ":"JWT","kid":"key-1"}"#,
            r#"{"alg":"None","typ":"JWT","kid":"key-1"}"#,
            r#"{"alg":"HS256","typ":"JWT","kid":"key-1"}"#,
            r#"{"alg":"ES256","typ":"JWT","kid":"key-1"}"#,
            r#"{"alg":"eddsa","typ":"JWT","kid":"key-1"}"#,
            r#"{"alg":"EdDSA","typ":"JOSE","kid":"key-1"}"#,
            r#"{"alg":"EdDSA","typ":"JWT"}"#,
            r#"{"typ":"JWT","kid":"key-1"}"#,
            r#"{"alg":"EdDSA","typ":"JWT","kid":"key-1","jwk":{"kty":"OKP","crv":"Ed25519","x":"AA"}}"#,
            r#"{"alg":"EdDSA","typ":"JWT","kid":"key-1","jku":"https://evil.example/keys"}"#,
            r#"{"alg":"EdDSA","typ":"JWT","kid":"key-1","x5u":"https://evil.example/c"}"#,
            r#"{"alg":"EdDSA","typ":"JWT","kid":"key-1","x5c":["AA"]}"#,
            r#"{"alg":"EdDSA","typ":"JWT","kid":"key-1","crit":["exp"]}"#,
            r#"{"alg":"EdDSA","typ":"JWT","kid":"key-1","alg":"none"}"#,
            r#"{"alg":["EdDSA"],"typ":"JWT","kid":"key-1"}"#,
            r#"["EdDSA","JWT","key-1"]"#,
            "null",
            "",
        ];
        let mut cases: Vec<(String, JwtError)> =
            headers.iter().map(|header| (forged(header, &text, &key(1)), JwtError::Header)).collect();
        cases.extend([
            (forged(r#"{"alg":"EdDSA","typ":"JWT","kid":"key-2"}"#, &text, &key(2)), JwtError::Key),
            (forged(header, &text, &key(2)), JwtError::Signature),
            (format!("{head}."), JwtError::Signature),
            (format!("{head}.{}", encoded("x")), JwtError::Signature),
            (format!("{head}.{signature}="), JwtError::Form),
            (format!("{head}.{signature}."), JwtError::Form),
            (format!(".{good}"), JwtError::Form),
            (good.replacen('.', "", 1), JwtError::Form),
            (head.to_owned(), JwtError::Form),
            (".".repeat(5000), JwtError::Form),
            ("a".repeat(1 << 20), JwtError::Long),
            (String::new(), JwtError::Form),
            ("..".to_owned(), JwtError::Header),
            (forged(header, "{}", &key(1)), JwtError::Claims),
            (forged(header, &text.replace("\"sub\"", "\"admin\":true,\"sub\""), &key(1)), JwtError::Claims),
            (forged(header, &text.replace("\"ann\"", "[\"ann\"]"), &key(1)), JwtError::Claims),
            (forged(header, &text.replace("access\":[", "access\":[7,"), &key(1)), JwtError::Claims),
            (with(&|claims| claims.aud = "other".into()), JwtError::Audience),
            (with(&|claims| claims.iss = "other".into()), JwtError::Audience),
            (with(&|claims| claims.purpose = Use::Refresh), JwtError::Audience),
            (with(&|claims| claims.exp = NOW - 61), JwtError::Time),
            (with(&|claims| claims.exp = i64::MIN), JwtError::Time),
            (with(&|claims| claims.nbf = NOW + 61), JwtError::Time),
            (with(&|claims| claims.nbf = i64::MAX), JwtError::Time),
        ]);
        // the claims of one token under the signature of another
        let other = with(&|claims| claims.sub = "bob".into());
        cases
            .push((format!("{}.{signature}", other.rsplit_once('.').expect("parts").0), JwtError::Signature));
        for (token, expected) in cases {
            let shown: String = token.chars().take(120).collect();
            assert_eq!(check(&token), Err(expected), "{shown}");
        }
        // clocks that differ a little
        for change in
            [|claims: &mut Claims| claims.exp = NOW - 30, |claims: &mut Claims| claims.nbf = NOW + 30]
        {
            assert!(check(&with(&change)).is_ok());
        }
    }

    proptest::proptest! {
        /// One changed byte anywhere, and it is no token any more.
        #[test]
        fn every_byte_counts(at in 0_usize..500, byte in 33_u8..127) {
            let good = sign(&claims(), &key(1));
            let at = at % good.len();
            let mut changed = good.clone().into_bytes();
            changed[at] = byte;
            let changed = String::from_utf8(changed).expect("ASCII");
            if changed != good {
                assert!(check(&changed).is_err(), "{changed}");
            }
        }
    }
}
