//! Authentication by challenge: Basic, and tokens from the service that the registry names.
//!
//! Challenges are parsed by `http-auth` (as `oci-distribution` does), tokens with `oci-distribution`'s
//! [`RegistryToken`]. The exchange itself is our own: `oci-distribution` sends credentials to whatever realm the reply
//! names, has no refresh tokens, no mount scopes, and reads replies without a cap.

use super::{
    body,
    credential::Credential,
    error::ClientError,
    realm,
    transport::{Endpoint, Transport},
};
use crate::limits;
use base64::{Engine, engine::general_purpose::STANDARD};
use oci_distribution::token_cache::RegistryToken;
use reqwest::{Url, header::HeaderValue};
use serde::Deserialize;
use std::{
    collections::HashMap,
    sync::Mutex,
    time::{Duration, Instant},
};

/// What a request wants to do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Scope {
    pub(super) repository: String,
    pub(super) action: Action,
    /// Another repository to mount blobs from, which must be readable with the same token.
    pub(super) mount_from: Option<String>,
}

/// How far access goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Action {
    Pull,
    Push,
    Delete,
}

impl Scope {
    pub(super) fn new(repository: &str, action: Action) -> Scope {
        Scope { repository: repository.to_owned(), action, mount_from: None }
    }

    fn written(&self) -> Vec<String> {
        // a login is for no repository
        if self.repository.is_empty() {
            return Vec::new();
        }
        let actions = match self.action {
            Action::Pull => "pull",
            Action::Push => "pull,push",
            Action::Delete => "pull,push,delete",
        };
        let mut scopes = vec![format!("repository:{}:{actions}", self.repository)];
        scopes.extend(self.mount_from.as_ref().map(|from| format!("repository:{from}:pull")));
        scopes
    }
}

/// What was learnt, by registry and scope.
#[derive(Default)]
pub(super) struct Tokens {
    known: Mutex<HashMap<(String, Scope), Token>>,
    /// What a login was given to keep, by registry.
    refresh: Mutex<HashMap<String, String>>,
    /// One exchange at a time: parallel transfers that meet the same challenge share its answer.
    exchange: tokio::sync::Mutex<()>,
}

#[derive(Clone)]
struct Token {
    header: HeaderValue,
    expires: Option<Instant>,
}

#[derive(Deserialize)]
struct TokenReply {
    #[serde(flatten)]
    token: RegistryToken,
    expires_in: Option<u64>,
    refresh_token: Option<String>,
}

impl Tokens {
    /// The header to send, if one is known and not about to expire.
    pub(super) fn header(&self, registry: &str, scope: &Scope) -> Option<HeaderValue> {
        let known = self.known.lock().expect("no panic happens while the tokens are held");
        let token = known.get(&(registry.to_owned(), scope.clone()))?;
        token.expires.is_none_or(|expires| expires > Instant::now()).then(|| token.header.clone())
    }

    /// What a login was given to keep in the password's place.
    pub(super) fn refresh(&self, registry: &str) -> Option<String> {
        self.refresh.lock().expect("no panic happens while the tokens are held").get(registry).cloned()
    }

    fn keep(&self, registry: &str, scope: &Scope, token: Token) {
        let mut known = self.known.lock().expect("no panic happens while the tokens are held");
        if known.len() >= limits::TOKENS_KEPT {
            // a mirror asks for whatever its clients name
            let now = Instant::now();
            known.retain(|_, token| token.expires.is_none_or(|expires| expires > now));
            if known.len() >= limits::TOKENS_KEPT {
                known.clear();
            }
        }
        known.insert((registry.to_owned(), scope.clone()), token);
    }
}

impl Transport {
    /// Answers a challenge: finds a header that the registry may accept. `refused` is the one it did not.
    pub(super) async fn authenticate(
        &self,
        endpoint: &Endpoint,
        scope: &Scope,
        challenges: &[String],
        refused: Option<&HeaderValue>,
    ) -> Result<(), ClientError> {
        let _one = self.tokens.exchange.lock().await;
        let known = self.tokens.header(&endpoint.registry, scope);
        if known.is_some() && known.as_ref() != refused {
            // somebody else answered the same challenge meanwhile
            return Ok(());
        }
        let credential = self.credential(&endpoint.registry, &scope.repository).await?;
        let denied = |message: &str| ClientError::Denied {
            host: endpoint.host(),
            repository: scope.repository.clone(),
            credentials: credential.is_some(),
            message: message.to_owned(),
        };
        let token = match best_challenge(challenges) {
            Some(Challenge::Bearer { realm, service }) => {
                self.exchange(endpoint, scope, &realm, service.as_deref(), credential.as_ref()).await?
            }
            Some(Challenge::Basic) => match &credential {
                Some(Credential::Basic { username, password }) => {
                    let header =
                        basic(username, password).ok_or_else(|| denied("the password cannot be sent"))?;
                    Token { header, expires: None }
                }
                _ => return Err(denied("it asks for a user name and password: log in first")),
            },
            None => return Err(denied("it asks for no kind of authentication that is known")),
        };
        if Some(&token.header) == refused {
            return Err(denied("they were refused"));
        }
        self.tokens.keep(&endpoint.registry, scope, token);
        Ok(())
    }

    /// Whether there is anything to log in with.
    pub(super) async fn has_credential(&self, registry: &str, repository: &str) -> bool {
        self.credential(registry, repository).await.is_ok_and(|credential| credential.is_some())
    }

    pub(super) async fn credential(
        &self,
        registry: &str,
        repository: &str,
    ) -> Result<Option<Credential>, ClientError> {
        let Some(credentials) = self.credentials.clone() else { return Ok(None) };
        let (registry, repository) = (registry.to_owned(), repository.to_owned());
        // helpers are programs, and a keyring may ask its user
        Ok(tokio::task::spawn_blocking(move || credentials(&registry, &repository)).await??)
    }

    async fn exchange(
        &self,
        endpoint: &Endpoint,
        scope: &Scope,
        realm: &str,
        service: Option<&str>,
        credential: Option<&Credential>,
    ) -> Result<Token, ClientError> {
        let plain = endpoint.base.scheme() == "http";
        let foreign = || ClientError::ForeignRealm { host: endpoint.host(), realm: realm.to_owned() };
        let url = endpoint.base.join(realm).map_err(|_| foreign())?;
        let trusted = realm::may_receive_credentials(&endpoint.base, &url, plain, &self.token_services);
        let allowed = self.is_service(&url).unwrap_or_else(|| {
            (credential.is_none() || trusted)
                && realm::may_be_asked(&endpoint.base, &url, plain, &self.token_services)
        });
        if !allowed {
            return Err(foreign());
        }
        let request = self.token_request(endpoint, scope, url, service, credential)?;
        let host = endpoint.host();
        let response =
            request.send().await.map_err(|source| ClientError::unanswered(host.clone(), source))?;
        // a redirect is not followed: it would carry the decision above to a host that was not checked
        if !response.status().is_success() {
            return Err(token_refused(endpoint, scope, credential.is_some(), response).await);
        }
        let bytes = body::read_capped(&host, response, limits::REPLY_BYTES, "token").await?;
        let wrong =
            |what| ClientError::Protocol { host: host.clone(), method: "a token request".into(), what };
        let reply: TokenReply = serde_json::from_slice(&bytes).map_err(|_| wrong("no token in the reply"))?;
        let mut header =
            HeaderValue::from_str(&reply.token.bearer_token()).map_err(|_| wrong("the token is not text"))?;
        header.set_sensitive(true);
        if let Some(refresh) = reply.refresh_token.filter(|_| scope.repository.is_empty()) {
            let mut kept = self.tokens.refresh.lock().expect("no panic happens while the tokens are held");
            kept.insert(endpoint.registry.clone(), refresh);
        }
        // distribution's token specification: 60 seconds where nothing is said; a tenth is left for the way
        let seconds = reply.expires_in.unwrap_or(60).clamp(60, 24 * 3600);
        Ok(Token { header, expires: Some(Instant::now() + Duration::from_secs(seconds - seconds / 10)) })
    }

    fn token_request(
        &self,
        endpoint: &Endpoint,
        scope: &Scope,
        mut url: Url,
        service: Option<&str>,
        credential: Option<&Credential>,
    ) -> Result<reqwest::RequestBuilder, ClientError> {
        let http = self.http(endpoint.kind_for(&url), &url)?;
        if let Some(Credential::IdentityToken(token)) = credential {
            let scopes = scope.written().join(" ");
            let mut form = vec![("grant_type", "refresh_token"), ("refresh_token", token)];
            if !scopes.is_empty() {
                form.push(("scope", &scopes));
            }
            form.push(("client_id", "slipway"));
            form.extend(service.map(|service| ("service", service)));
            return Ok(http.post(url).form(&form));
        }
        {
            let mut query = url.query_pairs_mut();
            if let Some(service) = service {
                query.append_pair("service", service);
            }
            // a login asks for something to keep; only what ends soon is worth the trade
            let fleeting =
                matches!(credential, Some(Credential::Basic { password, .. }) if is_fleeting(password));
            if scope.repository.is_empty() && fleeting {
                query.append_pair("offline_token", "true").append_pair("client_id", "slipway");
            }
            for scope in scope.written() {
                query.append_pair("scope", &scope);
            }
        }
        let request = http.get(url);
        Ok(match credential {
            Some(Credential::Basic { username, password }) => request.basic_auth(username, Some(password)),
            _ => request,
        })
    }
}

/// Whether a password is a token with an end of its own, a job's identity token: JWS in compact form.
pub(super) fn is_fleeting(password: &str) -> bool {
    password.starts_with("eyJ") && password.bytes().filter(|byte| *byte == b'.').count() == 2
}

async fn token_refused(
    endpoint: &Endpoint,
    scope: &Scope,
    credentials: bool,
    response: reqwest::Response,
) -> ClientError {
    let status = response.status();
    let error = body::status_error("GET", response).await;
    if !matches!(status.as_u16(), 400 | 401 | 403) {
        return error;
    }
    let ClientError::Status { message, .. } = error else { return error };
    let message = if message.is_empty() { format!("its token service answered {status}") } else { message };
    ClientError::Denied { host: endpoint.host(), repository: scope.repository.clone(), credentials, message }
}

#[derive(Debug, PartialEq, Eq)]
enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String> },
}

/// Bearer where it is offered, else Basic. Challenges that do not parse are passed over.
fn best_challenge(headers: &[String]) -> Option<Challenge> {
    let mut best = None;
    for challenge in headers.iter().filter_map(|text| http_auth::parse_challenges(text).ok()).flatten() {
        let parameter = |name: &str| {
            let found = challenge.params.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.to_unescaped())
        };
        if challenge.scheme.eq_ignore_ascii_case("bearer")
            && let Some(realm) = parameter("realm")
        {
            return Some(Challenge::Bearer { realm, service: parameter("service") });
        }
        if challenge.scheme.eq_ignore_ascii_case("basic") {
            best = Some(Challenge::Basic);
        }
    }
    best
}

fn basic(username: &str, password: &str) -> Option<HeaderValue> {
    let encoded = STANDARD.encode(format!("{username}:{password}"));
    let mut header = HeaderValue::from_str(&format!("Basic {encoded}")).ok()?;
    header.set_sensitive(true);
    Some(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_challenge_is_chosen() {
        let bearer = |realm: &str, service: Option<&str>| {
            Some(Challenge::Bearer { realm: realm.into(), service: service.map(str::to_owned) })
        };
        for (headers, expected) in [
            (
                vec![r#"Bearer realm="https://a/t",service="s",scope="x:y:z""#],
                bearer("https://a/t", Some("s")),
            ),
            (vec![r#"Basic realm="r""#, r#"bearer Realm="https://a/t""#], bearer("https://a/t", None)),
            (vec![r#"Basic realm="r""#], Some(Challenge::Basic)),
            (vec!["Bearer service=x"], None),
            (vec!["", "Negotiate", "=,=,\""], None),
        ] {
            let headers: Vec<String> = headers.into_iter().map(str::to_owned).collect();
            assert_eq!(best_challenge(&headers), expected, "{headers:?}");
        }
    }

    #[test]
    fn tokens_of_both_spellings_are_read() {
        for text in [
            r#"{"token":"t","expires_in":90}"#,
            r#"{"access_token":"t"}"#,
            r#"{"token":"t","access_token":"u"}"#,
        ] {
            let reply: TokenReply = serde_json::from_str(text).expect(text);
            assert_eq!(reply.token.token(), "t", "{text}");
        }
    }
}
