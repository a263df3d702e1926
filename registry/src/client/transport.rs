//! Requests: which scheme a registry speaks, redirects, and authentication by challenge.

use super::{
    ClientConfig, TokenService,
    auth::{Scope, Tokens},
    body,
    bounds::Bounds,
    credential::Credentials,
    dns,
    error::ClientError,
    proxy::{self, Proxies},
    trust::Trust,
    warning::Warnings,
};
use crate::{limits, protocol};
use reqwest::{
    Method, Response, StatusCode, Url,
    header::{self, HeaderMap, HeaderValue},
};
use std::{
    collections::HashMap,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, Once},
};
use tokio::sync::OnceCell;

/// How a host is spoken to. Each kind has its own connections, made when first used: certificate authorities are read
/// only where https is really spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// Plain http to this machine, never through a proxy.
    Loopback,
    /// Plain http to a host that the user called insecure.
    Plain,
    /// https with verified certificates.
    Secure,
    /// https without verification, to a host that the user called insecure, or to this machine.
    Unverified,
}

/// A registry's address.
#[derive(Clone, Debug)]
pub(super) struct Endpoint {
    /// As references and credentials name it.
    pub(super) registry: String,
    /// `scheme://host:port/`.
    pub(super) base: Url,
    kind: Kind,
}

impl Endpoint {
    /// Host and port, for people.
    pub(super) fn host(&self) -> String {
        self.registry.clone()
    }

    /// The registry of an address that somebody wrote down with its scheme.
    pub(super) fn named(base: Url) -> Endpoint {
        let kind = match base.scheme() {
            "http" if is_loopback(base.host_str().unwrap_or_default()) => Kind::Loopback,
            "http" => Kind::Plain,
            _ => Kind::Secure,
        };
        Endpoint { registry: body::host_of(&base), base, kind }
    }

    /// The address of something in a repository.
    pub(super) fn url(&self, repository: &str, rest: &str) -> Url {
        let mut url = self.base.clone();
        // both parts are made of checked names, tags and digests
        url.set_path(&format!("/v2/{repository}/{rest}"));
        url
    }

    /// How to speak to an address that this registry named.
    pub(super) fn kind_for(&self, url: &Url) -> Kind {
        match (url.origin() == self.base.origin(), url.scheme()) {
            (true, _) => self.kind,
            (false, "http") if is_loopback(url.host_str().unwrap_or_default()) => Kind::Loopback,
            (false, "http") => Kind::Plain,
            (false, _) => Kind::Secure,
        }
    }
}

/// What a request carries.
pub(super) enum Payload {
    /// Nothing.
    None,
    /// Bytes that can be sent again.
    Bytes(Vec<u8>),
    /// A stream, which can be sent once.
    Once(reqwest::Body),
}

/// One request, before redirects and challenges.
pub(super) struct Ask<'a> {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) payload: Payload,
    pub(super) scope: &'a Scope,
}

type Endpoints = HashMap<(String, bool), Arc<OnceCell<Endpoint>>>;

/// What connections have in common: their kind, the host's folder of certificates where it has one, and whether inner addresses are
/// none.
type Line = (Kind, Option<PathBuf>, bool);

/// Everything that requests share.
pub(super) struct Transport {
    clients: Mutex<HashMap<Line, reqwest::Client>>,
    /// Where the one registry that is asked, with this origin, may lead; anywhere that a person's client may go where there are none.
    bounds: Option<(Url, Bounds)>,
    /// By registry and whether it may be insecure; a cell each: whoever asks for one waits for nobody who asks for another.
    endpoints: Mutex<Endpoints>,
    pub(super) tokens: Tokens,
    pub(super) credentials: Option<Credentials>,
    pub(super) token_services: Vec<TokenService>,
    insecure: Vec<String>,
    trust: Trust,
    proxies: Proxies,
    warnings: Warnings,
    user_agent: String,
    resolver: dns::Resolver,
}

static PROVIDER: Once = Once::new();

/// reqwest builds no client before the process has cryptography for TLS, spoken or not.
pub(crate) fn install_provider() {
    PROVIDER.call_once(|| {
        // another part of the process may have installed one; any will do
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}

impl Transport {
    pub(super) fn new(config: &ClientConfig) -> Transport {
        install_provider();
        Transport {
            clients: Mutex::default(),
            bounds: None,
            endpoints: Mutex::default(),
            tokens: Tokens::default(),
            credentials: config.credentials.clone(),
            token_services: config.token_services.clone(),
            insecure: config.insecure.clone(),
            trust: Trust {
                authorities: config.authorities.clone(),
                folders: config.certificate_folders.clone(),
            },
            proxies: config.proxies.clone(),
            warnings: Warnings::new(config.warned.clone()),
            user_agent: config.user_agent.clone(),
            resolver: dns::Resolver::default(),
        }
    }

    /// For one registry, within bounds.
    pub(super) fn within(mut self, registry: &Url, bounds: Bounds) -> Transport {
        self.bounds = Some((registry.clone(), bounds));
        self
    }

    /// Whether a realm may be asked; `None` where a person's client decides.
    pub(super) fn is_service(&self, realm: &Url) -> Option<bool> {
        self.bounds.as_ref().map(|(registry, bounds)| bounds.is_service(registry, realm))
    }

    /// The connections of a kind to the host of an address.
    pub(super) fn http(&self, kind: Kind, url: &Url) -> Result<reqwest::Client, ClientError> {
        let plain = matches!(kind, Kind::Loopback | Kind::Plain);
        // a proxy that the environment names looks names up by itself, and may be near
        let guarded = self.bounds.as_ref().is_some_and(|(registry, bounds)| !bounds.is_named(registry, url))
            && self.proxies.of(url).is_none();
        let key = (kind, if plain { None } else { self.trust.folder(url) }, guarded);
        let mut clients = self.clients.lock().expect("no panic happens while the connections are held");
        if let Some(client) = clients.get(&key) {
            return Ok(client.clone());
        }
        let client = self.build(kind, key.1.as_deref(), guarded)?;
        clients.insert(key, client.clone());
        Ok(client)
    }

    fn build(
        &self,
        kind: Kind,
        folder: Option<&Path>,
        guarded: bool,
    ) -> Result<reqwest::Client, ClientError> {
        let proxies = self.proxies.clone();
        let resolver = if guarded { self.resolver.guarded() } else { self.resolver.clone() };
        let mut builder = reqwest::Client::builder()
            .proxy(reqwest::Proxy::custom(move |url| proxies.of(url)))
            // redirects are followed here, where each target is judged
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .user_agent(&self.user_agent)
            .tcp_nodelay(true)
            .connect_timeout(limits::CONNECT_TIME)
            .read_timeout(limits::REPLY_PAUSE)
            .dns_resolver(std::sync::Arc::new(resolver));
        builder = match kind {
            Kind::Loopback | Kind::Plain => builder.tls_certs_only([]),
            Kind::Unverified => builder.tls_backend_preconfigured(self.trust.tls(folder, false)?),
            Kind::Secure => builder.tls_backend_preconfigured(self.trust.tls(folder, true)?),
        };
        builder.build().map_err(ClientError::Tls)
    }

    /// Finds out how to speak to a registry, once; `insecure` where a rule for the place allows that.
    pub(super) async fn endpoint(&self, registry: &str, insecure: bool) -> Result<Endpoint, ClientError> {
        let cell = {
            let mut endpoints = self.endpoints.lock().expect("no panic happens while the endpoints are held");
            Arc::clone(endpoints.entry((registry.to_owned(), insecure)).or_default())
        };
        cell.get_or_try_init(|| self.find(registry, insecure)).await.cloned()
    }

    /// https, but: this machine is tried with http first (nobody listens in between, and most local registries have no
    /// certificate), and hosts that the user called insecure may have a bad certificate or none, as docker has it.
    async fn find(&self, registry: &str, insecure: bool) -> Result<Endpoint, ClientError> {
        let host = if registry == slipway_oci::reference::DEFAULT_REGISTRY {
            "registry-1.docker.io"
        } else {
            registry
        };
        let at = |kind: Kind| {
            let scheme = if matches!(kind, Kind::Loopback | Kind::Plain) { "http" } else { "https" };
            let address = format!("{scheme}://{host}/");
            let base = Url::parse(&address).map_err(|_| ClientError::Address { url: address })?;
            Ok::<_, ClientError>(Endpoint { registry: registry.to_owned(), base, kind })
        };
        let secure = at(Kind::Secure)?;
        let candidates = if is_loopback(secure.base.host_str().unwrap_or_default()) {
            [Kind::Loopback, Kind::Unverified]
        } else if insecure || self.insecure.iter().any(|entry| names(entry, host)) {
            [Kind::Unverified, Kind::Plain]
        } else {
            return Ok(secure);
        };
        let first = match self.probe(at(candidates[0])?).await {
            Ok(endpoint) => return Ok(endpoint),
            Err(error) => error,
        };
        // where neither answers, the first failure is the one to show
        self.probe(at(candidates[1])?).await.map_err(|_| first)
    }

    /// Asks `/v2/` without credentials. A TLS server answers plain http with 400 or with an alert.
    async fn probe(&self, endpoint: Endpoint) -> Result<Endpoint, ClientError> {
        let mut url = endpoint.base.clone();
        url.set_path("/v2/");
        let sent = self.http(endpoint.kind, &url)?.get(url).send().await;
        let response = sent.map_err(|source| ClientError::unanswered(endpoint.host(), source))?;
        if response.status() == StatusCode::BAD_REQUEST {
            return Err(body::status_error("GET", response).await);
        }
        Ok(endpoint)
    }

    /// Sends a request: answers challenges, follows redirects of requests without a body, and never takes credentials
    /// to another origin.
    pub(super) async fn send(&self, endpoint: &Endpoint, mut ask: Ask<'_>) -> Result<Response, ClientError> {
        let start = ask.url.clone();
        let mut challenged = false;
        for _ in 0..=limits::REDIRECTS {
            let home = ask.url.origin() == endpoint.base.origin();
            let header = self.tokens.header(&endpoint.registry, ask.scope).filter(|_| home);
            let bare = matches!(ask.payload, Payload::None);
            let (response, replayable) = self.send_once(endpoint, &mut ask, header.as_ref()).await?;
            // what a redirect leads to is no registry
            if home {
                self.warnings.hear(&endpoint.registry, response.headers());
            }
            let status = response.status();
            if status == StatusCode::UNAUTHORIZED && home && !challenged {
                challenged = true;
                let challenges = texts(response.headers(), header::WWW_AUTHENTICATE);
                self.authenticate(endpoint, ask.scope, &challenges, header.as_ref()).await?;
                if !replayable {
                    return Err(ClientError::TokenExpired { host: endpoint.host() });
                }
                continue;
            }
            if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
                // a token may be nobody's
                let credentials =
                    header.is_some() && self.has_credential(&endpoint.registry, &ask.scope.repository).await;
                return Err(denied(endpoint, ask.scope, credentials, response).await);
            }
            let Some(target) = redirect_target(&response)? else { return Ok(response) };
            if !bare {
                return Err(body::status_error(ask.method.as_str(), response).await);
            }
            if let Some((registry, bounds)) = &self.bounds {
                bounds.check_redirect(registry, &target)?;
            }
            if target.origin() != endpoint.base.origin() {
                // whom a registry leads to has nothing to do with what its client is about
                ask.headers.remove(protocol::TRACE_PARENT_HEADER);
            }
            ask.url = target;
        }
        Err(ClientError::Redirects { url: start.to_string() })
    }

    /// One request on the wire; tells whether it could be sent again.
    async fn send_once(
        &self,
        endpoint: &Endpoint,
        ask: &mut Ask<'_>,
        authorization: Option<&HeaderValue>,
    ) -> Result<(Response, bool), ClientError> {
        let http = self.http(endpoint.kind_for(&ask.url), &ask.url)?;
        let mut request = http.request(ask.method.clone(), ask.url.clone()).headers(ask.headers.clone());
        if let Some(value) = authorization {
            request = request.header(header::AUTHORIZATION, value.clone());
        }
        let replayable = match std::mem::replace(&mut ask.payload, Payload::None) {
            Payload::None => true,
            Payload::Bytes(bytes) => {
                request = request.body(bytes.clone());
                ask.payload = Payload::Bytes(bytes);
                true
            }
            Payload::Once(stream) => {
                request = request.body(stream);
                false
            }
        };
        let host = body::host_of(&ask.url);
        let response = request.send().await.map_err(|source| ClientError::unanswered(host, source))?;
        Ok((response, replayable))
    }
}

/// Whether an entry of the insecure list (`host`, `host:port` or, as in docker's, a network) names a host.
fn names(entry: &str, host: &str) -> bool {
    let name = host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
    let name = name.map_or(host, |(name, _)| name);
    let literal = name.trim_start_matches('[').trim_end_matches(']').parse();
    entry == host || entry == name || literal.is_ok_and(|address| proxy::is_in(entry, address))
}

/// 127.0.0.0/8, `::1` and `localhost`.
pub(crate) fn is_loopback(host: &str) -> bool {
    let literal = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    literal.map_or_else(|_| dns::is_localhost(host), |address| address.is_loopback())
}

fn texts(headers: &HeaderMap, name: header::HeaderName) -> Vec<String> {
    headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).map(str::to_owned).collect()
}

/// Where a redirect leads; never from https to http.
pub(super) fn redirect_target(response: &Response) -> Result<Option<Url>, ClientError> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let from = response.url();
    let location = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
    let Some(location) = location else { return Ok(None) };
    let target = from
        .join(location)
        .map_err(|_| ClientError::Address { url: location.chars().take(200).collect() })?;
    if !matches!(target.scheme(), "http" | "https") || target.host_str().is_none() {
        return Err(ClientError::Address { url: target.to_string() });
    }
    if from.scheme() == "https" && target.scheme() == "http" {
        return Err(ClientError::Downgrade { url: target.to_string() });
    }
    Ok(Some(target))
}

async fn denied(endpoint: &Endpoint, scope: &Scope, credentials: bool, response: Response) -> ClientError {
    let status = response.status();
    let message = match body::status_error("", response).await {
        ClientError::Status { message, .. } if !message.is_empty() => message,
        _ => status.to_string(),
    };
    ClientError::Denied { host: endpoint.host(), repository: scope.repository.clone(), credentials, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_this_machine_only() {
        for host in ["127.0.0.1", "127.8.9.10", "[::1]", "localhost", "LOCALHOST", "x.localhost"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["127.0.0.1.example", "localhost.example", "10.0.0.1", "[::2]", "", "0.0.0.0"] {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn insecure_entries_name_hosts_or_ports() {
        assert!(names("h", "h") && names("h", "h:5000") && names("h:5000", "h:5000"));
        assert!(names("10.0.0.0/8", "10.1.2.3:5000") && names("10.0.0.0/8", "10.1.2.3"));
        assert!(names("fd00::/8", "[fd00::1]:5000") && names("[fd00::1]", "[fd00::1]:5000"));
        assert!(
            !names("10.0.0.0/8", "11.0.0.1") && !names("10.0.0.0/8", "h") && !names("10.0.0.0/x", "10.0.0.1")
        );
        assert!(!names("h:5000", "h") && !names("h", "hh") && !names("h:1", "h:2"));
    }
}
