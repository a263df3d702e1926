//! Which proxy an address is asked through: Go's rules, for those are what docker and podman follow on a machine
//! (`golang.org/x/net/http/httpproxy`, `config.go`).

use super::transport::is_loopback;
use reqwest::Url;
use std::net::IpAddr;

/// Proxies and their exceptions.
#[derive(Clone, Debug, Default)]
pub struct Proxies {
    http: Option<Url>,
    https: Option<Url>,
    /// What `NO_PROXY` names.
    exceptions: Vec<Exception>,
}

/// One entry of `NO_PROXY`.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Exception {
    Everything,
    Network(IpAddr, u8),
    Address(IpAddr, Option<u16>),
    /// A domain without its leading dot, whether it means itself too, and a port.
    Domain(String, bool, Option<u16>),
}

impl Proxies {
    /// What the environment says, in both cases of letters, the upper one first. `variable` reads one.
    ///
    /// `HTTP_PROXY` does not count in a CGI program, where a request's header `Proxy` sets it (CVE-2016-5386).
    /// `ALL_PROXY` stands for what is not set, as curl has it.
    pub fn from_environment(variable: impl Fn(&str) -> Option<String>) -> Proxies {
        let either = |name: &str| {
            let set = |name: &str| variable(name).filter(|value| !value.is_empty());
            set(name).or_else(|| set(&name.to_ascii_lowercase()))
        };
        let cgi = variable("REQUEST_METHOD").is_some();
        let all = either("ALL_PROXY");
        let http = if cgi { None } else { either("HTTP_PROXY") };
        let exceptions = either("NO_PROXY").unwrap_or_default();
        Proxies {
            http: http.or_else(|| all.clone()).as_deref().and_then(address),
            https: either("HTTPS_PROXY").or(all).as_deref().and_then(address),
            exceptions: exceptions.split([',', ' ']).filter_map(exception).collect(),
        }
    }

    /// The proxy for an address.
    pub fn of(&self, url: &Url) -> Option<Url> {
        let proxy = if url.scheme() == "https" { self.https.as_ref() } else { self.http.as_ref() }?;
        let host = url.host_str()?.trim_end_matches('.').to_ascii_lowercase();
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let port = url.port_or_known_default();
        if is_loopback(bare) || self.exceptions.iter().any(|exception| exception.covers(bare, port)) {
            return None;
        }
        Some(proxy.clone())
    }
}

impl Exception {
    fn covers(&self, host: &str, port: Option<u16>) -> bool {
        let literal = host.parse::<IpAddr>().ok();
        let at = |own: &Option<u16>| own.is_none() || *own == port;
        match self {
            Exception::Everything => true,
            Exception::Network(network, length) => literal.is_some_and(|ip| within(ip, *network, *length)),
            Exception::Address(address, own) => literal == Some(*address) && at(own),
            Exception::Domain(domain, itself, own) => {
                let below = host.strip_suffix(domain.as_str());
                at(own) && below.is_some_and(|rest| rest.ends_with('.') || rest.is_empty() && *itself)
            }
        }
    }
}

fn exception(entry: &str) -> Option<Exception> {
    let entry = entry.trim().to_ascii_lowercase();
    if entry == "*" {
        return Some(Exception::Everything);
    }
    if let Some((network, length)) = entry.split_once('/') {
        let (network, length) = (network.parse::<IpAddr>().ok()?, length.parse::<u8>().ok()?);
        let most = if network.is_ipv4() { 32 } else { 128 };
        return (length <= most).then_some(Exception::Network(network, length));
    }
    if let Ok(address) = entry.trim_start_matches('[').trim_end_matches(']').parse() {
        return Some(Exception::Address(address, None));
    }
    let (host, port) = match entry.rsplit_once(':') {
        Some((host, port)) => (host, Some(port.parse().ok()?)),
        None => (entry.as_str(), None),
    };
    if let Ok(address) = host.trim_start_matches('[').trim_end_matches(']').parse() {
        return Some(Exception::Address(address, port));
    }
    let below = host.strip_prefix("*.").or_else(|| host.strip_prefix('.'));
    let domain = below.unwrap_or(host).to_owned();
    (!domain.is_empty()).then_some(Exception::Domain(domain, below.is_none(), port))
}

/// Whether an address is in a network, written `ADDRESS/LENGTH`.
pub(super) fn is_in(network: &str, address: IpAddr) -> bool {
    matches!(exception(network), Some(Exception::Network(network, length)) if within(address, network, length))
}

fn within(ip: IpAddr, network: IpAddr, length: u8) -> bool {
    let bits = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => (u128::from(ip.to_bits()) << 96, 32),
        IpAddr::V6(ip) => (ip.to_bits(), 128),
    };
    let ((ip, kind), (network, other)) = (bits(ip), bits(network));
    let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
    kind == other && ip & mask == network & mask
}

/// A proxy's address; one without a scheme is spoken to in plain http.
fn address(text: &str) -> Option<Url> {
    let schemes = ["http", "https"];
    let whole = Url::parse(text).ok().filter(|url| schemes.contains(&url.scheme()) && url.has_host());
    whole.or_else(|| Url::parse(&format!("http://{text}")).ok().filter(Url::has_host))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(variables: &[(&str, &str)]) -> Proxies {
        let read =
            |name: &str| variables.iter().find(|(own, _)| *own == name).map(|(_, value)| (*value).to_owned());
        Proxies::from_environment(read)
    }

    fn of(proxies: &Proxies, url: &str) -> Option<String> {
        proxies.of(&Url::parse(url).expect("address")).map(|url| url.to_string())
    }

    #[test]
    fn exceptions_are_go_s() {
        for (no, direct, proxied) in [
            // nothing has to say that this machine is near
            (
                "",
                vec![
                    "https://localhost:5000",
                    "https://127.0.0.1",
                    "https://127.9.9.9:1",
                    "https://[::1]:5000",
                ],
                vec!["https://r.test"],
            ),
            ("*", vec!["https://r.test", "https://10.0.0.1"], vec![]),
            (
                "r.test",
                vec!["https://r.test", "https://a.r.test:5000", "https://R.TEST", "https://r.test."],
                vec!["https://xr.test", "https://r.test.org"],
            ),
            (".r.test", vec!["https://a.r.test"], vec!["https://r.test", "https://xr.test"]),
            ("*.r.test", vec!["https://a.b.r.test"], vec!["https://r.test"]),
            (
                "r.test:5000",
                vec!["https://r.test:5000", "https://a.r.test:5000"],
                vec!["https://r.test", "https://r.test:5001"],
            ),
            ("r.test:443", vec!["https://r.test"], vec!["https://r.test:444"]),
            (
                "10.0.0.0/8",
                vec!["https://10.1.2.3", "https://10.255.0.1:5000"],
                vec!["https://11.0.0.1", "https://ten.test"],
            ),
            ("10.0.0.7", vec!["https://10.0.0.7:5000"], vec!["https://10.0.0.70"]),
            ("10.0.0.7:80", vec![], vec!["https://10.0.0.7"]),
            ("fd00::/8", vec!["https://[fd12::1]:5000"], vec!["https://[fe80::1]", "https://10.0.0.1"]),
            ("[fd00::1]:5000", vec!["https://[fd00::1]:5000"], vec!["https://[fd00::1]"]),
            ("0.0.0.0/0", vec!["https://9.9.9.9"], vec!["https://[fd00::1]", "https://r.test"]),
            (" a.test , ,B.test", vec!["https://a.test", "https://b.test"], vec!["https://c.test"]),
            ("10.0.0.0/99,r.test:x,:80,/", vec![], vec!["https://10.0.0.1", "https://r.test"]),
        ] {
            let rules = proxies(&[("HTTPS_PROXY", "http://p.test:3128"), ("no_proxy", no)]);
            for url in direct {
                assert_eq!(of(&rules, url), None, "{no}: {url}");
            }
            for url in proxied {
                assert_eq!(of(&rules, url).as_deref(), Some("http://p.test:3128/"), "{no}: {url}");
            }
        }
    }

    #[test]
    fn proxies_are_named_in_both_cases_of_letters() {
        for (variables, https, http) in [
            (vec![], None, None),
            (vec![("https_proxy", "http://a:1")], Some("http://a:1/"), None),
            (vec![("HTTPS_PROXY", "http://b:1"), ("https_proxy", "http://a:1")], Some("http://b:1/"), None),
            (vec![("HTTPS_PROXY", ""), ("https_proxy", "http://a:1")], Some("http://a:1/"), None),
            (vec![("http_proxy", "proxy.test:3128")], None, Some("http://proxy.test:3128/")),
            (vec![("HTTP_PROXY", "u:p@proxy.test:3128")], None, Some("http://u:p@proxy.test:3128/")),
            (
                vec![("ALL_PROXY", "http://a:1"), ("http_proxy", "http://b:1")],
                Some("http://a:1/"),
                Some("http://b:1/"),
            ),
            (vec![("HTTP_PROXY", "http://evil:1"), ("REQUEST_METHOD", "GET")], None, None),
        ] {
            let rules = proxies(&variables);
            assert_eq!(of(&rules, "https://r.test").as_deref(), https, "{variables:?}");
            assert_eq!(of(&rules, "http://r.test").as_deref(), http, "{variables:?}");
        }
    }
}
