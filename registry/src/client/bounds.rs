//! What a registry may lead the client to, where somebody else than the client's user decides what is asked for: a mirror asks its
//! upstreams for whatever its own clients name (CVE-2026-2376: a mirror's redirects are a way into the house).
//!
//! Only what the settings name is spoken to: the registry itself, token services and hosts of redirects by name. A pattern of
//! hosts (`*.example.com`, `*`) means public addresses alone: a name under it that stands for an inner address is no way in.

use super::error::ClientError;
use reqwest::Url;
use std::{fmt, net::IpAddr, str::FromStr};

/// Hosts that may be led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Whither {
    /// Any host with a public address.
    Anywhere,
    /// Hosts within a domain.
    Below(String),
    /// One host, at its scheme's port where none is named.
    Host(String, Option<u16>),
}

impl Whither {
    fn means(&self, url: &Url) -> bool {
        let Some(host) = host(url) else { return false };
        match self {
            Whither::Anywhere => true,
            Whither::Below(domain) => host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.')),
            Whither::Host(name, port) => {
                let standard = if url.scheme() == "http" { 80 } else { 443 };
                host == *name && url.port_or_known_default() == Some(port.unwrap_or(standard))
            }
        }
    }
}

/// `*`, `*.DOMAIN` or `HOST[:PORT]`.
impl FromStr for Whither {
    type Err = String;

    fn from_str(text: &str) -> Result<Whither, String> {
        let wrong = || format!("`{text}` is no host: HOST[:PORT], `*.DOMAIN`, or `*` for every public one");
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        let name = |text: &str| !text.is_empty() && !text.starts_with('.') && text.chars().all(plain);
        if text == "*" {
            return Ok(Whither::Anywhere);
        }
        if let Some(domain) = text.strip_prefix("*.") {
            return if name(domain) { Ok(Whither::Below(domain.to_ascii_lowercase())) } else { Err(wrong()) };
        }
        // an address in brackets, or a name; the scheme only lets it be taken apart
        let url = Url::parse(&format!("x://{text}")).map_err(|_| wrong())?;
        let own = url.host_str().unwrap_or_default();
        let literal = own.strip_prefix('[').and_then(|own| own.strip_suffix(']'));
        let fits = literal.map_or_else(|| name(own), |own| own.parse::<IpAddr>().is_ok());
        let rest = url.path().is_empty() && url.query().is_none() && url.fragment().is_none();
        if !fits || !rest || !url.username().is_empty() || url.password().is_some() {
            return Err(wrong());
        }
        Ok(Whither::Host(own.to_ascii_lowercase(), url.port()))
    }
}

impl fmt::Display for Whither {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Whither::Anywhere => f.write_str("*"),
            Whither::Below(domain) => write!(f, "*.{domain}"),
            Whither::Host(host, None) => f.write_str(host),
            Whither::Host(host, Some(port)) => write!(f, "{host}:{port}"),
        }
    }
}

/// Where one registry may lead.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bounds {
    /// Token services beside the registry's own origin.
    pub(crate) token_services: Vec<Whither>,
    /// Hosts that its redirects may lead to.
    pub(crate) redirects: Vec<Whither>,
}

impl Bounds {
    /// Refuses a redirect that leads elsewhere.
    pub(super) fn check_redirect(&self, registry: &Url, target: &Url) -> Result<(), ClientError> {
        let own = registry.origin() == target.origin();
        let meant = || self.redirects.iter().any(|one| one.means(target));
        if own || (meant() && (self.is_named(registry, target) || !is_inner_literal(target))) {
            return Ok(());
        }
        Err(ClientError::Beyond { host: super::body::host_of(registry), target: shown(target) })
    }

    /// Whether a token service is one that the settings name.
    pub(super) fn is_service(&self, registry: &Url, realm: &Url) -> bool {
        let scheme = realm.scheme() == "https" || realm.scheme() == registry.scheme();
        scheme
            && (registry.origin() == realm.origin() || self.token_services.iter().any(|one| one.means(realm)))
    }

    /// Whether the settings name this very host: then it may have an inner address.
    pub(super) fn is_named(&self, registry: &Url, url: &Url) -> bool {
        let named = |one: &Whither| matches!(one, Whither::Host(..)) && one.means(url);
        registry.origin() == url.origin() || self.token_services.iter().chain(&self.redirects).any(named)
    }
}

fn shown(url: &Url) -> String {
    format!("{}://{}", url.scheme(), super::body::host_of(url)).chars().take(300).collect()
}

fn host(url: &Url) -> Option<String> {
    let host = url.host_str()?;
    Some(host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase())
}

fn is_inner_literal(url: &Url) -> bool {
    let host = host(url).unwrap_or_default();
    let literal = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    literal.map_or_else(|_| super::dns::is_localhost(&host), is_inner)
}

/// Addresses that are not the public network's: this machine, its links and neighbours, private networks (RFC 1918, 4193, 6598),
/// multicast, and those that IPv6 wraps (RFC 4291, section 2.5.5; RFC 6052; RFC 3056).
pub(super) fn is_inner(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(own) => {
            let [a, b, c, _] = own.octets();
            own.is_private()
                || own.is_loopback()
                || own.is_link_local()
                || own.is_multicast()
                || a == 0
                || a >= 240
                || a == 100 && (64..128).contains(&b)
                || a == 192 && b == 0 && c == 0
                || a == 198 && (b == 18 || b == 19)
        }
        IpAddr::V6(own) => {
            let parts = own.segments();
            let wrapped =
                |high: u16, low: u16| is_inner(IpAddr::V4((u32::from(high) << 16 | u32::from(low)).into()));
            match parts {
                [0, 0, 0, 0, 0, 0 | 0xffff, high, low] => own.is_loopback() || wrapped(high, low),
                [0x64, 0xff9b, 0, 0, 0, 0, high, low] => wrapped(high, low),
                [0x64, 0xff9b, 1, ..] => true,
                [0x2002, high, low, ..] => wrapped(high, low),
                _ => {
                    own.is_multicast()
                        || own.is_unique_local()
                        || own.is_unicast_link_local()
                        || parts[0] & 0xffc0 == 0xfec0
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).expect(text)
    }

    fn bounds(services: &[&str], redirects: &[&str]) -> Bounds {
        let all = |texts: &[&str]| texts.iter().map(|text| text.parse().expect("a host")).collect();
        Bounds { token_services: all(services), redirects: all(redirects) }
    }

    #[test]
    fn redirects_lead_where_the_settings_say() {
        let home = url("https://r.example/");
        for (redirects, target, allowed) in [
            (&[][..], "https://r.example/elsewhere", true),
            (&[], "https://r.example:8443/x", false),
            (&[], "https://cdn.example/x", false),
            (&["cdn.example"], "https://cdn.example/x", true),
            (&["cdn.example"], "https://CDN.example./x", true),
            (&["cdn.example"], "https://cdn.example:8443/x", false),
            (&["cdn.example"], "https://x.cdn.example/x", false),
            (&["cdn.example:8443"], "https://cdn.example:8443/x", true),
            (&["*.example"], "https://cdn.example/x", true),
            (&["*.example"], "https://a.b.example/x", true),
            (&["*.example"], "https://example/x", false),
            (&["*.example"], "https://evilexample/x", false),
            (&["*"], "https://anything.example/x", true),
            (&["*"], "https://93.184.216.34/x", true),
            // inner ones need to be named as they are
            (&["*"], "https://127.0.0.1/x", false),
            (&["*"], "https://localhost/x", false),
            (&["*"], "https://x.localhost/x", false),
            (&["*"], "https://10.1.2.3/x", false),
            (&["*"], "https://169.254.169.254/latest/meta-data", false),
            (&["*"], "https://[::1]/x", false),
            (&["*"], "https://[fe80::1]/x", false),
            (&["*"], "https://[::ffff:127.0.0.1]/x", false),
            (&["*"], "https://2130706433/x", false),
            (&["*"], "https://0x7f.1/x", false),
            (&["*"], "https://0/x", false),
            (&["10.1.2.3"], "https://10.1.2.3/x", true),
            (&["[fd00::1]:8443"], "https://[fd00::1]:8443/x", true),
            (&["10.1.2.3"], "https://10.1.2.4/x", false),
        ] {
            let found = bounds(&[], redirects).check_redirect(&home, &url(target)).is_ok();
            assert_eq!(found, allowed, "{redirects:?} {target}");
        }
    }

    #[test]
    fn token_services_are_named() {
        for (services, registry, realm, allowed) in [
            (&[][..], "https://r.example/", "https://r.example/token", true),
            (&[], "https://r.example/", "https://r.example:444/token", false),
            // what a person's own client lets pass
            (&[], "https://registry.example.com/", "https://auth.example.com/token", false),
            (&["auth.example.com"], "https://registry.example.com/", "https://auth.example.com/token", true),
            (&["auth.example.com"], "https://registry.example.com/", "http://auth.example.com/token", false),
            (&["auth.example.com"], "https://r.example.com/", "https://evil.example/auth.example.com", false),
            (&["127.0.0.1:5001"], "http://127.0.0.1:5000/", "http://127.0.0.1:5001/token", true),
            (&[], "http://127.0.0.1:5000/", "http://127.0.0.1:5001/token", false),
        ] {
            let found = bounds(services, &[]).is_service(&url(registry), &url(realm));
            assert_eq!(found, allowed, "{services:?} {registry} {realm}");
        }
    }

    #[test]
    fn inner_addresses_are_known_in_every_dress() {
        for text in [
            "127.0.0.1",
            "0.0.0.0",
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "192.0.0.8",
            "198.18.0.1",
            "::",
            "::1",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "64:ff9b::a00:1",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "fe80::1",
            "fec0::1",
            "fd12::1",
            "ff02::1",
        ] {
            assert!(is_inner(text.parse().expect(text)), "{text}");
        }
        for text in [
            "93.184.216.34",
            "172.32.0.1",
            "100.128.0.1",
            "2606:2800:220:1::1",
            "64:ff9b::5db8:d822",
            "2002:5db8:d822::",
        ] {
            assert!(!is_inner(text.parse().expect(text)), "{text}");
        }
    }

    #[test]
    fn hosts_are_written_in_words() {
        for text in [
            "*",
            "*.example.com",
            "cdn.example",
            "cdn.example:8443",
            "10.0.0.1",
            "[fd00::1]:443",
            "localhost:5001",
        ] {
            assert_eq!(text.parse::<Whither>().expect(text).to_string(), text);
        }
        for text in
            ["", "*.", "*.*", "a*", "https://a", "a/b", "a:b", "u@a", "a?b", "a#b", "[::1", ".a", "a b"]
        {
            assert!(text.parse::<Whither>().is_err(), "{text}");
        }
    }
}
