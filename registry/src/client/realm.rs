//! Which token services may see a registry's credentials.
//!
//! A registry names its token service in its own answer, so whoever can shape one answer could name a service of his
//! own (CVE-2026-33540). Credentials go only, and over https only where the registry itself is spoken to over https,
//! to
//!
//! 1. the registry's own host (ghcr.io, quay.io, Harbor, Azure, Google, most others);
//! 2. a host that the person confirmed for this registry (`--token-service REGISTRY=HOST`);
//! 3. a neighbour of the same owner: a host in the same domain as the registry's (`auth.docker.io` beside
//!    `registry-1.docker.io`, `gitlab.example.com` beside `registry.example.com`) or one that the registry's name lies
//!    within (`gitlab.com` for `registry.gitlab.com`), as long as both are in one *registrable* domain.
//!
//! What is registrable is said by Mozilla's public suffix list (the `psl` crate), as browsers ask it for cookies:
//! nobody counts labels here, for `me.uk`, `github.io` and `s3.dualstack.eu-west-1.amazonaws.com` cannot be told
//! from `example.uk` by their look. Single labels and addresses have no neighbours.

use super::TokenService;
use reqwest::Url;
use std::net::IpAddr;

/// Domains whose names belong to strangers and that the public suffix list does not have (October 2026): registries
/// with a name a customer, and names that stand for addresses.
const UNLISTED: [&str; 11] = [
    "azurecr.io",
    "azurecr.cn",
    "azurecr.us",
    "googleusercontent.com",
    "jfrog.io",
    "koyeb.app",
    "nip.io",
    "ocir.io",
    "sslip.io",
    "traefik.me",
    "xip.io",
];

/// Whether the credentials of `registry` may go to `realm`. `plain` says that the registry itself is spoken to over
/// plain http; `confirmed` is what the person said.
pub(super) fn may_receive_credentials(
    registry: &Url,
    realm: &Url,
    plain: bool,
    confirmed: &[TokenService],
) -> bool {
    let (Some(home), Some(service)) = (host(registry), host(realm)) else { return false };
    let named = |known: &TokenService| {
        (known.registry == home || known.registry == with_port(&home, registry))
            && (known.service == service || known.service == with_port(&service, realm))
    };
    let known = home == service || confirmed.iter().any(named);
    match realm.scheme() {
        "https" => known || neighbours(&home, &service),
        "http" => plain && known,
        _ => false,
    }
}

/// Whether a realm may be asked without credentials.
pub(super) fn may_be_asked(registry: &Url, realm: &Url, plain: bool, confirmed: &[TokenService]) -> bool {
    realm.scheme() == "https" && realm.host_str().is_some()
        || may_receive_credentials(registry, realm, plain, confirmed)
}

/// A host's name in one spelling: `url` has made it lower case and ASCII; a dot at the end is the root's.
fn host(url: &Url) -> Option<String> {
    let host = url.host_str()?;
    let host = host.strip_suffix('.').unwrap_or(host);
    (!host.is_empty()).then(|| host.to_ascii_lowercase())
}

fn with_port(host: &str, url: &Url) -> String {
    format!("{host}:{}", url.port_or_known_default().unwrap_or_default())
}

/// Whether two names are of one owner and close to each other.
fn neighbours(home: &str, service: &str) -> bool {
    let (Some(domain), Some(other)) = (registrable(home), registrable(service)) else { return false };
    let folder = home.split_once('.').map_or("", |(_, rest)| rest);
    domain == other && (is_within(home, service) || is_within(service, folder))
}

/// Whether a name is a domain or lies in it.
fn is_within(name: &str, domain: &str) -> bool {
    name == domain || name.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'))
}

fn registrable(host: &str) -> Option<&str> {
    if host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() {
        return None;
    }
    let domain = psl::domain_str(host)?;
    (!UNLISTED.contains(&domain)).then_some(domain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(registry: &str, realm: &str) -> bool {
        let url = |text: &str| Url::parse(text).expect("address");
        let (registry, realm) = (url(registry), url(realm));
        may_receive_credentials(&registry, &realm, registry.scheme() == "http", &[])
    }

    #[test]
    fn credentials_reach_the_services_of_real_registries() {
        for (registry, realm) in [
            ("https://registry-1.docker.io/", "https://auth.docker.io/token"),
            ("https://ghcr.io/", "https://ghcr.io/token"),
            ("https://quay.io/", "https://quay.io/v2/auth"),
            ("https://registry.gitlab.com/", "https://gitlab.com/jwt/auth"),
            ("https://registry.example.com/", "https://gitlab.example.com/jwt/auth"),
            ("https://registry.corp.lan:5050/", "https://gitlab.corp.lan/jwt/auth"),
            ("https://registry.example.co.uk/", "https://gitlab.example.co.uk/jwt/auth"),
            ("https://registry.digitalocean.com/", "https://api.digitalocean.com/v2/registry/auth"),
            ("https://registry.suse.com/", "https://scc.suse.com/api/registry/authorize"),
            (
                "https://registry.cn-hangzhou.aliyuncs.com/",
                "https://dockerauth.cn-hangzhou.aliyuncs.com/auth",
            ),
            ("https://a.azurecr.io/", "https://a.azurecr.io/oauth2/token"),
            ("https://europe-docker.pkg.dev/", "https://europe-docker.pkg.dev/v2/token"),
            ("https://harbor.example.com/", "https://harbor.example.com/service/token"),
            ("https://r.example.com/", "https://r.example.com:8443/token"),
            ("https://R.example.com/", "https://r.EXAMPLE.com/token"),
            ("https://r.example.com./", "https://r.example.com/token"),
            ("https://registry/", "https://registry:8443/token"),
            ("http://127.0.0.1:5000/", "http://127.0.0.1:5001/token"),
            ("http://127.0.0.1:5000/", "https://127.0.0.1:5001/token"),
            ("https://[2001:db8::1]/", "https://[2001:db8::1]:5001/token"),
        ] {
            assert!(allowed(registry, realm), "{registry} {realm}");
        }
    }

    #[test]
    fn credentials_reach_nobody_else() {
        for (registry, realm) in [
            // another owner under a suffix that no count of labels finds
            ("https://reg.me.uk/", "https://evil.me.uk/token"),
            ("https://reg.uk.com/", "https://evil.uk.com/token"),
            ("https://reg.co.uk/", "https://evil.co.uk/token"),
            ("https://reg.com.br/", "https://evil.com.br/token"),
            ("https://reg.k12.ca.us/", "https://evil.k12.ca.us/token"),
            ("https://reg.city.kawasaki.jp/", "https://evil.kawasaki.jp/token"),
            ("https://a.b.ck/", "https://c.b.ck/token"),
            ("https://reg.eu.org/", "https://evil.eu.org/token"),
            ("https://reg.github.io/", "https://evil.github.io/token"),
            ("https://reg.fly.dev/", "https://evil.fly.dev/token"),
            ("https://reg.duckdns.org/", "https://evil.duckdns.org/token"),
            ("https://reg.a.run.app/", "https://evil.a.run.app/token"),
            ("https://bucket.s3.amazonaws.com/", "https://evil.s3.amazonaws.com/token"),
            ("https://1.dkr.ecr.eu-west-1.amazonaws.com/", "https://ec2-6-6-6-6.compute.amazonaws.com/t"),
            ("https://a.azurecr.io/", "https://b.azurecr.io/token"),
            ("https://reg.10.0.0.1.nip.io/", "https://evil.6.6.6.6.nip.io/token"),
            // the suffix itself
            ("https://reg.co.uk/", "https://co.uk/token"),
            ("https://co.uk/", "https://reg.co.uk/token"),
            ("https://github.io/", "https://evil.github.io/token"),
            // one owner, but another corner of a large house
            ("https://registry.cn-hangzhou.aliyuncs.com/", "https://evil.oss-cn-beijing.aliyuncs.com/t"),
            ("https://registry.eu.example.com/", "https://students.us.example.com/token"),
            // names that only look alike
            ("https://r.example.com/", "https://evil.com/token"),
            ("https://r.example.com/", "https://r.example.com.evil.com/token"),
            ("https://r.example.com/", "https://r.example.com@evil.com/token"),
            ("https://r.example.com/", "https://evil.com#r.example.com"),
            ("https://r.example.com/", "https://notexample.com/token"),
            ("https://r.example.com/", "https://r.example.com.:443@evil.com/"),
            ("https://bücher.example.com/", "https://bucher.example.net/token"),
            // addresses and single labels have no neighbours
            ("https://10.0.0.1/", "https://10.0.0.2/token"),
            ("https://10.0.0.1/", "https://1.0.0.1/token"),
            ("https://[2001:db8::1]/", "https://[2001:db8::2]/token"),
            ("https://registry/", "https://auth/token"),
            ("https://registry.lan/", "https://auth.lan/token"),
            ("http://127.0.0.1:5000/", "http://localhost:5001/token"),
            // never from https to less, and nothing that is no web address
            ("https://r.example.com/", "http://r.example.com/token"),
            ("http://r.example.com/", "http://auth.example.com/token"),
            ("https://r.example.com/", "file:///etc/passwd"),
            ("https://r.example.com/", "ftp://r.example.com/"),
        ] {
            assert!(!allowed(registry, realm), "{registry} {realm}");
        }
    }

    #[test]
    fn a_person_may_confirm_a_service_for_one_registry() {
        let url = |text: &str| Url::parse(text).expect("address");
        let confirmed = ["reg.example:5000=auth.test".parse().expect("pair")];
        let ask = |registry: &str, realm: &str| {
            may_receive_credentials(&url(registry), &url(realm), false, &confirmed)
        };
        assert!(ask("https://reg.example:5000/", "https://auth.test/token"));
        for (registry, realm) in [
            ("https://reg.example:5001/", "https://auth.test/token"),
            ("https://other.example:5000/", "https://auth.test/token"),
            ("https://reg.example:5000/", "https://x.auth.test/token"),
            ("https://reg.example:5000/", "http://auth.test/token"),
        ] {
            assert!(!ask(registry, realm), "{registry} {realm}");
        }
        for wrong in ["", "a", "=b", "a=", "a=b=c", "https://a=b", "a=b/c"] {
            assert!(wrong.parse::<TokenService>().is_err(), "{wrong}");
        }
    }
}
