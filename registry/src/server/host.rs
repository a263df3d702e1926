//! Which host a request names: one, and one that may be one. Realms of tokens, addresses of uploads and the choice of a mirror hang
//! on it, and a proxy in front that goes by another of two is led around its own rules.

use super::error::ApiError;
use axum::http::{HeaderValue, Version, header, request::Parts, uri::Authority};

/// Refuses what RFC 9112, section 3.2, and RFC 9113, section 8.3.1, have refused: none, two, what is no host, and another one than
/// the request's own address has.
pub(super) fn check(head: &Parts) -> Result<(), ApiError> {
    let mut named = head.headers.get_all(header::HOST).iter();
    let first = named.next();
    let fits = match (head.version, first) {
        _ if named.next().is_some() => false,
        (Version::HTTP_11, None) => false,
        (_, None) => true,
        (Version::HTTP_2, Some(host)) => {
            let same =
                |authority: &Authority| authority.as_str().as_bytes().eq_ignore_ascii_case(host.as_bytes());
            is_host(host) && head.uri.authority().is_none_or(same)
        }
        (_, Some(host)) => is_host(host),
    };
    if fits { Ok(()) } else { Err(ApiError::Host) }
}

/// A name or address, with a port or without; or nothing, where there is none (RFC 9110, section 7.2).
fn is_host(host: &HeaderValue) -> bool {
    let authority = host.to_str().ok().and_then(|text| text.parse::<Authority>().ok());
    host.is_empty() || authority.is_some_and(|authority| !authority.as_str().contains('@'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::Request;

    fn fits(version: Version, uri: &str, hosts: &[&[u8]]) -> bool {
        let mut request = Request::builder().version(version).uri(uri);
        for host in hosts {
            request = request.header(header::HOST, HeaderValue::from_bytes(host).expect("a value"));
        }
        check(&request.body(()).expect("a request").into_parts().0).is_ok()
    }

    #[test]
    fn one_host_is_named() {
        for host in
            [&b"r.example"[..], b"r.example:5000", b"127.0.0.1:5000", b"[::1]:5000", b"my_registry", b""]
        {
            assert!(fits(Version::HTTP_11, "/v2/", &[host]), "{host:?}");
        }
        for host in [
            &b"a b"[..],
            b"a/b",
            b"user@r.example",
            b"r.example:5000:1",
            b"r\xffexample",
            b"r.example, other",
            b"[::1",
        ] {
            assert!(!fits(Version::HTTP_11, "/v2/", &[host]), "{host:?}");
        }
        assert!(!fits(Version::HTTP_11, "/v2/", &[]) && fits(Version::HTTP_10, "/v2/", &[]));
        assert!(
            !fits(Version::HTTP_11, "/v2/", &[b"a", b"a"]) && !fits(Version::HTTP_10, "/v2/", &[b"a", b"b"])
        );
        // the request's own address counts, and is no other one over HTTP/2
        assert!(fits(Version::HTTP_11, "http://a/v2/", &[b"b"]));
        assert!(fits(Version::HTTP_2, "http://a/v2/", &[]) && fits(Version::HTTP_2, "http://a/v2/", &[b"A"]));
        assert!(!fits(Version::HTTP_2, "http://a/v2/", &[b"b"]));
    }
}
