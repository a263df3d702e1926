//! One issuer as the configuration has it: `URL audience=TEXT [claim:NAME=PATTERN]... [jwks=URL|FILE] [ca=FILE]`.

use super::claim::{ClaimPattern, Claims, is_claim};
use reqwest::Url;
use std::{fmt, path::PathBuf, str::FromStr};

/// Where an issuer's keys are.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum KeySource {
    /// Where its discovery document says, on its own origin (OpenID Connect Discovery 1.0, section 4).
    Discovered,
    /// At another address.
    At(String),
    /// In a file: for issuers that are not reached from here.
    File(PathBuf),
}

/// An issuer of identity tokens, for one audience, and what its tokens have to claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issuer {
    /// Its URL, as tokens have it to the byte.
    pub url: String,
    /// Whom its tokens have to be for.
    pub audience: String,
    /// What they have to claim.
    pub claims: Vec<(String, ClaimPattern)>,
    /// Where its keys are.
    pub keys: KeySource,
    /// A file of authorities to trust in place of the system's.
    pub authorities: Option<PathBuf>,
}

impl Issuer {
    /// The first claim that it asks for and that is not there.
    pub(super) fn missing(&self, claims: &Claims) -> Option<&(String, ClaimPattern)> {
        self.claims.iter().find(|(name, pattern)| !claims.all(name).iter().any(|one| pattern.matches(one)))
    }
}

/// An address that keys may come from: https, or http of this machine.
pub(super) fn address(text: &str) -> Result<Url, String> {
    let wrong = || format!("`{text}` is no address of an issuer: https://HOST[:PORT][/PATH]");
    let url = Url::parse(text).map_err(|_| wrong())?;
    let host = url.host_str().unwrap_or_default();
    let safe = url.scheme() == "https" || url.scheme() == "http" && crate::client::is_loopback(host);
    let bare = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
    let fits = text.len() <= 1024 && text.bytes().all(|byte| byte.is_ascii_graphic());
    if safe && bare && fits && !host.is_empty() { Ok(url) } else { Err(wrong()) }
}

impl FromStr for Issuer {
    type Err = String;

    fn from_str(text: &str) -> Result<Issuer, String> {
        let mut words = text.split_ascii_whitespace();
        let url = words.next().ok_or("an issuer begins with its URL")?;
        if address(url)?.query().is_some() {
            return Err(format!("`{url}` is no issuer: its URL has no query"));
        }
        let (mut audience, mut keys, mut authorities, mut claims) = (None, None, None, Vec::new());
        for word in words {
            let form = || format!("`{word}` is none of audience=, claim:NAME=, jwks= and ca=");
            let (name, value) = word.split_once('=').ok_or_else(form)?;
            let again = || format!("`{name}=` is there twice");
            if value.is_empty() {
                return Err(format!("`{name}=` says nothing"));
            }
            match (name, name.strip_prefix("claim:")) {
                (_, Some(claim)) if is_claim(claim) => {
                    let wrong = |words| format!("`{value}` is no pattern of a claim: {words}");
                    claims.push((claim.to_owned(), value.parse::<ClaimPattern>().map_err(wrong)?));
                }
                ("audience", _) => audience.replace(value.to_owned()).map_or(Ok(()), |_| Err(again()))?,
                ("jwks", _) => keys.replace(source(value)?).map_or(Ok(()), |_| Err(again()))?,
                ("ca", _) => {
                    authorities.replace(PathBuf::from(value)).map_or(Ok(()), |_| Err(again()))?;
                }
                _ => return Err(form()),
            }
        }
        let audience = audience.ok_or("an issuer needs `audience=`: whom its tokens are made for")?;
        let keys = keys.unwrap_or(KeySource::Discovered);
        Ok(Issuer { url: url.to_owned(), audience, claims, keys, authorities })
    }
}

fn source(text: &str) -> Result<KeySource, String> {
    if text.contains("://") {
        return address(text).map(|_| KeySource::At(text.to_owned()));
    }
    Ok(KeySource::File(text.into()))
}

impl fmt::Display for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} audience={}", self.url, self.audience)?;
        self.claims.iter().try_for_each(|(name, pattern)| write!(f, " claim:{name}={pattern}"))?;
        match &self.keys {
            KeySource::Discovered => {}
            KeySource::At(url) => write!(f, " jwks={url}")?,
            KeySource::File(path) => write!(f, " jwks={}", path.display())?,
        }
        self.authorities.iter().try_for_each(|path| write!(f, " ca={}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn issuers_are_written_in_words() {
        for text in [
            "https://token.actions.githubusercontent.com audience=r.example claim:repository_owner=acme",
            "https://gitlab.example audience=r claim:project_path=acme/* claim:ref_protected=true",
            "https://kubernetes.default.svc audience=r claim:kubernetes.io/namespace=ci jwks=keys.json",
            "https://k8s.example:6443 audience=r jwks=https://10.0.0.1:6443/openid/v1/jwks ca=ca.pem",
            "http://127.0.0.1:80/x audience=r",
        ] {
            let issuer: Issuer = text.parse().expect(text);
            assert_eq!(issuer.to_string(), text);
        }
        for (text, word) in [
            ("", "its URL"),
            ("github audience=r", "no address"),
            ("https:// audience=r", "no address"),
            ("http://issuer.example audience=r", "no address"),
            ("ftp://issuer.example audience=r", "no address"),
            ("file:///etc/passwd audience=r", "no address"),
            ("https://u:p@issuer.example audience=r", "no address"),
            ("https://issuer.example/#a audience=r", "no address"),
            ("https://issuer.example/?a=b audience=r", "no query"),
            ("https://issuer.example", "needs `audience=`"),
            ("https://issuer.example audience=", "says nothing"),
            ("https://issuer.example audience=a audience=b", "twice"),
            ("https://issuer.example audience=a jwks=http://evil.example/k", "no address"),
            ("https://issuer.example audience=a sub=x", "none of"),
            ("https://issuer.example audience=a claim:=x", "none of"),
            ("https://issuer.example audience=a claim:a=***", "no pattern"),
            ("https://issuer.example audience=a alone", "none of"),
        ] {
            let error = text.parse::<Issuer>().expect_err(text);
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
