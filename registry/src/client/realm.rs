//! Which token services may see a registry's credentials.
//!
//! A registry names its token service in its own answer, so whoever can shape one answer could name a service of his
//! own (CVE-2026-33540). Credentials go only to the registry's own host, or to a host of the same registrable domain
//! over https (`registry-1.docker.io` names `auth.docker.io`). Anything else is refused when there are credentials and
//! asked without any when there are none.
//!
//! The registrable domain is the last two labels of a name; three where the last two are a country's general domain
//! (`co.uk`). Domains under which strangers get names are not shared at all.

use reqwest::Url;
use std::net::IpAddr;

/// Domains whose names belong to different owners.
const SHARED: [&str; 20] = [
    "amazonaws.com",
    "azurecr.io",
    "azurewebsites.net",
    "cloudapp.net",
    "cloudfront.net",
    "duckdns.org",
    "fly.dev",
    "github.io",
    "gitlab.io",
    "googleusercontent.com",
    "herokuapp.com",
    "netlify.app",
    "ngrok.io",
    "ngrok-free.app",
    "nip.io",
    "pages.dev",
    "run.app",
    "sslip.io",
    "vercel.app",
    "workers.dev",
];

/// Second-level labels under which countries register names.
const GENERAL: [&str; 10] = ["ac", "co", "com", "edu", "gov", "ne", "net", "or", "org", "go"];

/// Whether the credentials of `registry` may go to `realm`. `plain` says that the registry itself is spoken to over
/// plain http.
pub(super) fn may_receive_credentials(registry: &Url, realm: &Url, plain: bool) -> bool {
    let (Some(home), Some(service)) = (registry.host_str(), realm.host_str()) else { return false };
    let same_host = home.eq_ignore_ascii_case(service);
    match realm.scheme() {
        "https" => same_host || same_owner(home, service),
        "http" => plain && same_host,
        _ => false,
    }
}

/// Whether a realm may be asked without credentials.
pub(super) fn may_be_asked(registry: &Url, realm: &Url, plain: bool) -> bool {
    realm.scheme() == "https" && realm.host_str().is_some() || may_receive_credentials(registry, realm, plain)
}

fn same_owner(a: &str, b: &str) -> bool {
    matches!((registrable(a), registrable(b)), (Some(a), Some(b)) if a == b)
}

fn registrable(host: &str) -> Option<String> {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    if host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() {
        return None;
    }
    let labels: Vec<&str> = host.split('.').collect();
    let general = labels.len() >= 2
        && labels[labels.len() - 1].len() == 2
        && GENERAL.contains(&labels[labels.len() - 2]);
    let count = if general { 3 } else { 2 };
    let from = labels.len().checked_sub(count)?;
    let domain = labels[from..].join(".");
    (!SHARED.contains(&domain.as_str())).then_some(domain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_stay_with_the_owner() {
        for (registry, realm, plain, expected) in [
            ("https://registry-1.docker.io/", "https://auth.docker.io/token", false, true),
            ("https://ghcr.io/", "https://ghcr.io/token", false, true),
            ("https://registry.gitlab.com/", "https://gitlab.com/jwt/auth", false, true),
            ("https://r.example.com/", "https://r.example.com:8443/token", false, true),
            ("https://r.example.com/", "http://r.example.com/token", false, false),
            ("https://r.example.com/", "https://evil.com/token", false, false),
            ("https://r.example.com/", "https://r.example.com.evil.com/token", false, false),
            ("https://r.example.com/", "https://r.example.com@evil.com/token", false, false),
            ("https://a.co.uk/", "https://b.co.uk/token", false, false),
            ("https://a.azurecr.io/", "https://b.azurecr.io/token", false, false),
            ("https://a.azurecr.io/", "https://a.azurecr.io/oauth2/token", false, true),
            ("https://10.0.0.1/", "https://10.0.0.2/token", false, false),
            ("https://10.0.0.1/", "https://1.0.0.1/token", false, false),
            ("http://127.0.0.1:5000/", "http://127.0.0.1:5001/token", true, true),
            ("http://127.0.0.1:5000/", "http://localhost:5001/token", true, false),
            ("https://com/", "https://com/token", false, true),
            ("https://registry/", "https://auth/token", false, false),
            ("https://r.example.com/", "file:///etc/passwd", false, false),
        ] {
            let url = |text: &str| Url::parse(text).expect("address");
            assert_eq!(
                may_receive_credentials(&url(registry), &url(realm), plain),
                expected,
                "{registry} {realm}"
            );
        }
    }
}
