//! `WWW-Authenticate`: what a client is asked for, and where it gets tokens.

use super::{Access, Demand};
use axum::http::{HeaderMap, header};

/// How the client reached the registry.
#[derive(Clone, Debug, Default)]
pub(in crate::server) struct Origin {
    /// Over TLS, here or at a proxy in front.
    pub(in crate::server) secure: bool,
    /// What it calls the registry.
    pub(in crate::server) host: Option<String>,
    /// Whom its certificate names.
    pub(in crate::server) user: Option<String>,
    /// Where it comes from, as that is counted.
    pub(in crate::server) address: Option<std::net::IpAddr>,
}

impl Origin {
    pub(in crate::server) fn new(secure: bool, authority: Option<&str>, headers: &HeaderMap) -> Origin {
        let text = |name| headers.get(name).and_then(|value: &axum::http::HeaderValue| value.to_str().ok());
        // what a proxy says can make the answer stricter, never weaker; hosts it names are not believed
        let proxied = text(header::HeaderName::from_static("x-forwarded-proto"))
            .is_some_and(|proto| proto.eq_ignore_ascii_case("https"));
        let host = authority.or_else(|| text(header::HOST));
        // it is repeated within a quoted string
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']');
        let host = host.filter(|host| (1..=255).contains(&host.len()) && host.chars().all(plain));
        Origin { secure: secure || proxied, host: host.map(str::to_owned), user: None, address: None }
    }
}

impl Access {
    /// Where the client reaches the registry: `https://HOST[:PORT]`.
    pub(in crate::server) fn home(&self, origin: &Origin) -> Option<String> {
        match (&self.url, &origin.host) {
            (Some(url), _) => Some(url.trim_end_matches('/').to_owned()),
            (None, Some(host)) => Some(format!("{}://{host}", if origin.secure { "https" } else { "http" })),
            (None, None) => None,
        }
    }

    /// Whether the configuration says that clients come by TLS.
    pub(in crate::server) fn is_reached_by_tls(&self) -> bool {
        self.url.as_deref().is_some_and(|url| url.starts_with("https://"))
    }

    /// The audience of tokens: what clients are told to ask tokens for.
    pub(in crate::server) fn service(&self) -> &str {
        let url = self.url.as_deref().and_then(|url| url.split_once("://"));
        url.map_or("slipway", |(_, host)| host.trim_end_matches('/'))
    }

    /// What is asked for. `error` is RFC 6750's code.
    pub(in crate::server) fn challenge(
        &self,
        origin: &Origin,
        demand: &Demand<'_>,
        error: Option<&str>,
    ) -> String {
        let home = self.home(origin);
        let Some(home) = home.filter(|_| self.token_endpoint) else {
            return format!("Basic realm=\"{}\", charset=\"UTF-8\"", self.service());
        };
        let mut text = format!("Bearer realm=\"{home}/token\",service=\"{}\"", self.service());
        match demand {
            Demand::In(name, action) => {
                let actions = match action.name() {
                    "push" | "overwrite" => "pull,push",
                    other => other,
                };
                text.push_str(&format!(",scope=\"repository:{name}:{actions}\""));
            }
            Demand::Mount(name, from) => {
                text.push_str(&format!(",scope=\"repository:{name}:pull,push repository:{from}:pull\""));
            }
            Demand::Catalog => text.push_str(",scope=\"registry:catalog:*\""),
            Demand::Entry | Demand::Nothing => {}
        }
        if let Some(error) = error {
            text.push_str(&format!(",error=\"{error}\""));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::super::{AccessConfig, Action, SecretHash};
    use super::*;

    fn access(url: Option<&str>, token_endpoint: bool) -> Access {
        let tokens = [("ci".to_owned(), SecretHash::of("x"))].into();
        let url = url.map(str::to_owned);
        Access::new(AccessConfig { tokens, url, token_endpoint, ..AccessConfig::default() }).expect("access")
    }

    #[test]
    fn clients_are_sent_to_where_they_came() {
        let demand = Demand::In("a/b", Action::Push);
        let host = |host: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, host.parse().expect("a header"));
            headers
        };
        for (access, origin, expected) in [
            (
                access(None, true),
                Origin::new(false, None, &host("r:5000")),
                "Bearer realm=\"http://r:5000/token\",service=\"slipway\",scope=\"repository:a/b:pull,push\"",
            ),
            (
                access(None, true),
                Origin::new(true, Some("r"), &HeaderMap::new()),
                "Bearer realm=\"https://r/token\",service=\"slipway\",scope=\"repository:a/b:pull,push\"",
            ),
            (
                access(Some("https://r.example/"), true),
                Origin::new(false, None, &host("inner:5000")),
                "Bearer realm=\"https://r.example/token\",service=\"r.example\",scope=\"repository:a/b:pull,push\"",
            ),
            (
                access(None, false),
                Origin::new(true, Some("r"), &HeaderMap::new()),
                "Basic realm=\"slipway\", charset=\"UTF-8\"",
            ),
            // no host that could end the quoted string
            (
                access(None, true),
                Origin::new(true, Some("r\",x=\"y"), &HeaderMap::new()),
                "Basic realm=\"slipway\", charset=\"UTF-8\"",
            ),
        ] {
            assert_eq!(access.challenge(&origin, &demand, None), expected);
        }
        let mut proxied = host("r");
        proxied.insert("x-forwarded-proto", "https".parse().expect("a header"));
        proxied.insert("x-forwarded-host", "evil".parse().expect("a header"));
        let origin = Origin::new(false, None, &proxied);
        let text = access(None, true).challenge(&origin, &Demand::Entry, Some("invalid_token"));
        assert_eq!(text, "Bearer realm=\"https://r/token\",service=\"slipway\",error=\"invalid_token\"");
    }
}
