//! Clients behind proxies: whose word about them is taken, and which of it.
//!
//! A proxy adds what it saw at the right end of `X-Forwarded-For`, or of `Forwarded` (RFC 7239); everything further left is
//! whatever it was sent. So the list is read from its right end for as long as those who wrote it are trusted, beginning
//! with the peer of the connection: the first address that is not a trusted proxy's is the client's. What is no address ends it
//! at the proxy that wrote it down. Where both headers are there and disagree, one of them is the client's own
//! invention, and the peer's address counts.

use super::{access::Origin, connection::Connection, throttle};
use crate::limits;
use axum::http::{HeaderMap, request::Parts, uri::Authority};
use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

/// Whose word is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trusted {
    /// An address, or all that begin with so many of its bits.
    Network(IpAddr, u8),
    /// Whoever reaches a socket in the file system.
    File,
}

/// What a network looks like.
const EXPECTED: &str = "an address, `192.0.2.7`, a network, `10.0.0.0/8`, or `unix`";

impl FromStr for Trusted {
    type Err = String;

    fn from_str(text: &str) -> Result<Trusted, String> {
        if text == "unix" {
            return Ok(Trusted::File);
        }
        let wrong = || format!("`{text}` is not {EXPECTED}");
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let most = width(address);
        let bits = match bits {
            None => most,
            Some(bits) if bits.bytes().all(|byte| byte.is_ascii_digit()) => {
                bits.parse().ok().filter(|bits| *bits <= most).ok_or_else(wrong)?
            }
            Some(_) => return Err(wrong()),
        };
        // all of IPv4 in the form of IPv6 is everybody as well
        let is_all = bits == 0 || (bits == 96 && address.is_ipv6() && address.to_canonical().is_ipv4());
        match bits {
            _ if is_all => {
                Err(format!("`{text}` is everybody, who could say to be anybody then: name your proxies"))
            }
            bits if number(address) & !mask(bits, most) != 0 => {
                Err(format!("`{text}` has bits beyond its first {bits}: which network is it?"))
            }
            bits => Ok(Trusted::Network(address, bits)),
        }
    }
}

impl fmt::Display for Trusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trusted::Network(address, bits) => write!(f, "{address}/{bits}"),
            Trusted::File => f.write_str("unix"),
        }
    }
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// The first `bits` of `width`.
fn mask(bits: u8, width: u8) -> u128 {
    let all = u128::MAX >> (128 - u32::from(width));
    all & !all.checked_shr(bits.into()).unwrap_or(0)
}

impl Trusted {
    /// Whether it means who is at this address; nowhere is the file system.
    pub(super) fn means(&self, peer: Option<IpAddr>) -> bool {
        match (self, peer) {
            (Trusted::File, None) => true,
            (Trusted::Network(own, bits), Some(peer)) => {
                let (own, peer) = (own.to_canonical(), peer.to_canonical());
                // a network of IPv4 in the form of IPv6 has 96 bits before it
                let bits = if own.is_ipv4() && *bits > 32 { bits - 96 } else { *bits };
                let mask = mask(bits, width(own));
                own.is_ipv4() == peer.is_ipv4() && number(own) & mask == number(peer) & mask
            }
            _ => false,
        }
    }
}

/// What trusted proxies say of a request.
#[derive(Debug, Default, PartialEq, Eq)]
struct Told {
    client: Option<IpAddr>,
    secure: bool,
    host: Option<String>,
}

/// One entry of `Forwarded`, or of `X-Forwarded-For`.
#[derive(Debug, Default)]
struct Hop {
    /// None where it is no address.
    address: Option<IpAddr>,
    proto: Option<String>,
    host: Option<String>,
}

/// How a request came here, and from which address: by what the connection says, and by the word of those who are trusted.
pub(super) fn origin(trusted: &[Trusted], connection: &Connection, head: &Parts) -> (Origin, Option<IpAddr>) {
    let authority = head.uri.authority().map(Authority::as_str);
    let mut origin = Origin::new(connection.is_secure(), authority, &head.headers);
    origin.user = connection.user().map(str::to_owned);
    origin.address = connection.address();
    if trusted.is_empty() {
        return (origin, connection.peer());
    }
    // where it is said whom to believe, others are not believed anything
    origin.secure = connection.is_secure();
    let Some(told) = told(trusted, connection.peer(), &head.headers) else {
        return (origin, connection.peer());
    };
    origin.secure |= told.secure;
    origin.address = told.client.map(throttle::counted);
    if let Some(host) = told.host {
        origin.host = Origin::new(origin.secure, Some(&host), &HeaderMap::new()).host.or(origin.host);
    }
    (origin, told.client)
}

/// What is believed of a request of `peer`; nothing of one that is not trusted.
fn told(trusted: &[Trusted], peer: Option<IpAddr>, headers: &HeaderMap) -> Option<Told> {
    let is_trusted = |peer| trusted.iter().any(|one| one.means(peer));
    if !is_trusted(peer) {
        return None;
    }
    let client = |hops: Vec<Hop>| {
        let mut last = (peer, None);
        for hop in hops {
            // what is no address was written by the one before, of whom nobody knows for whom it speaks
            let Some(address) = hop.address else { break };
            last = (Some(address), Some(hop));
            if !is_trusted(Some(address)) {
                break;
            }
        }
        last
    };
    let lists = |name: &'static str| values(headers, name);
    let (plain, structured) = (lists("x-forwarded-for"), lists("forwarded"));
    let by_plain = plain.as_ref().map(|text| client(hops(text.split(','), simple)).0);
    let (by_structured, hop) = match &structured {
        Some(text) => {
            let (address, hop) = client(hops(elements(text).into_iter(), element));
            (Some(address), hop.unwrap_or_default())
        }
        None => (None, Hop::default()),
    };
    let client = match (by_plain, by_structured) {
        (Some(one), Some(other)) if one != other => peer,
        (Some(one), _) | (None, Some(one)) => one,
        (None, None) => peer,
    };
    let said = |name, by_hop: Option<String>| match (last(headers, name), by_hop) {
        (Some(one), Some(other)) if !one.eq_ignore_ascii_case(&other) => None,
        (one, other) => one.or(other),
    };
    let secure =
        said("x-forwarded-proto", hop.proto).is_some_and(|proto| proto.eq_ignore_ascii_case("https"));
    Some(Told { client, secure, host: said("x-forwarded-host", hop.host) })
}

/// All of a header that is a list, as one text; what is no text is no address either.
fn values(headers: &HeaderMap, name: &str) -> Option<String> {
    let all: Vec<&str> = headers.get_all(name).iter().map(|value| value.to_str().unwrap_or("?")).collect();
    (!all.is_empty()).then(|| all.join(","))
}

/// The last entry of a header, which the nearest proxy wrote.
fn last(headers: &HeaderMap, name: &str) -> Option<String> {
    let all = values(headers, name)?;
    let last = all.rsplit(',').next().unwrap_or_default().trim().to_owned();
    (!last.is_empty()).then_some(last)
}

/// The entries of a list, the last one first, no more than are looked at.
fn hops<'a>(entries: impl DoubleEndedIterator<Item = &'a str>, read: fn(&str) -> Hop) -> Vec<Hop> {
    entries.rev().take(limits::PROXIES).map(read).collect()
}

/// The elements of `Forwarded`; of one whose quotes are not those of whole values, a single one that says nothing. A client
/// that leaves a quote open would have what the proxy writes behind it taken for its own value, and its own address believed.
fn elements(text: &str) -> Vec<&str> {
    if are_quotes_whole(text) { split(text, ',') } else { vec![""] }
}

/// Whether each quoted string is the whole value of a parameter. Where one is left open, a proxy's own quotes would end it
/// and begin another: at least one of them then stands where none may.
fn are_quotes_whole(text: &str) -> bool {
    let (mut quoted, mut escaped, mut before) = (false, false, ' ');
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' if quoted => {
                quoted = false;
                let rest = text[at + 1..].trim_start_matches([' ', '\t']);
                if !rest.is_empty() && !rest.starts_with([',', ';']) {
                    return false;
                }
            }
            '"' if before == '=' => quoted = true,
            '"' => return false,
            _ => {}
        }
        if !matches!(c, ' ' | '\t') {
            before = c;
        }
    }
    !quoted
}

fn simple(text: &str) -> Hop {
    Hop { address: address(text.trim()), ..Hop::default() }
}

/// `for=192.0.2.7;proto=https;host=r.example` (RFC 7239, section 4).
fn element(text: &str) -> Hop {
    let mut hop = Hop::default();
    let mut seen = Vec::new();
    for pair in split(text, ';') {
        let Some((name, value)) = pair.split_once('=') else { return Hop::default() };
        let (name, value) = (name.trim().to_ascii_lowercase(), unquoted(value.trim()));
        if seen.contains(&name) {
            return Hop::default();
        }
        match name.as_str() {
            "for" => hop.address = address(&value),
            "proto" => hop.proto = Some(value),
            "host" => hop.host = Some(value),
            _ => {}
        }
        seen.push(name);
    }
    hop
}

/// Parts of a text between separators that do not stand within quotes.
fn split(text: &str, separator: char) -> Vec<&str> {
    let (mut parts, mut start, mut quoted, mut escaped) = (Vec::new(), 0, false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            c if c == separator && !quoted => {
                parts.push(&text[start..at]);
                start = at + c.len_utf8();
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn unquoted(text: &str) -> String {
    let Some(inner) = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        return text.to_owned();
    };
    let (mut plain, mut escaped) = (String::new(), false);
    for c in inner.chars() {
        if c == '\\' && !escaped {
            escaped = true;
            continue;
        }
        escaped = false;
        plain.push(c);
    }
    plain
}

/// An address as proxies write it: with a port or without, of IPv6 in brackets or not.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let found = match bare {
        Some(inner) => inner.parse().ok().filter(IpAddr::is_ipv6),
        None => text.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|found| found.ip())),
    };
    found.map(|found| found.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trusted(all: &[&str]) -> Vec<Trusted> {
        all.iter().map(|text| text.parse().expect(text)).collect()
    }

    fn headers(all: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in all {
            headers.append(*name, value.parse().expect("a value"));
        }
        headers
    }

    fn client(all: &[(&'static str, &str)]) -> String {
        let trusted = trusted(&["10.0.0.0/8", "fd00::/8", "192.0.2.7"]);
        let peer = "10.1.2.3".parse().ok();
        let told = told(&trusted, peer, &headers(all)).expect("a trusted peer");
        told.client.map_or("nowhere".to_owned(), |client| client.to_string())
    }

    #[test]
    fn the_first_address_that_is_no_proxy_s_counts() {
        const FOR: &str = "x-forwarded-for";
        for (value, expected) in [
            ("198.51.100.9", "198.51.100.9"),
            ("1.1.1.1, 198.51.100.9", "198.51.100.9"),
            ("198.51.100.9, 192.0.2.7", "198.51.100.9"),
            ("1.1.1.1,198.51.100.9 ,\t192.0.2.7, 10.9.9.9", "198.51.100.9"),
            // all of them are proxies: the one that came first
            ("10.4.4.4, 10.5.5.5", "10.4.4.4"),
            ("198.51.100.9:4711", "198.51.100.9"),
            ("[2001:db8::1]:4711", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("2001:db8::1", "2001:db8::1"),
            ("2001:db8::1, fd12::1", "2001:db8::1"),
            ("::ffff:198.51.100.9", "198.51.100.9"),
            ("198.51.100.9, ::ffff:10.0.0.1", "198.51.100.9"),
            // what is no address says nothing, and nothing beyond it is believed
            ("1.1.1.1, unknown", "10.1.2.3"),
            ("1.1.1.1, unknown, 192.0.2.7", "192.0.2.7"),
            ("1.1.1.1,", "10.1.2.3"),
            ("", "10.1.2.3"),
            (",,,", "10.1.2.3"),
            ("256.1.1.1", "10.1.2.3"),
            ("1.1.1.1 2.2.2.2", "10.1.2.3"),
            ("fe80::1%eth0", "10.1.2.3"),
            ("[198.51.100.9]", "10.1.2.3"),
            ("198.51.100.9:99999", "10.1.2.3"),
            ("\"198.51.100.9", "10.1.2.3"),
            ("0x7f.1", "10.1.2.3"),
            // quotes mean nothing here, and hide nobody
            ("\", 198.51.100.9", "198.51.100.9"),
            ("1.1.1.1;a=\", 198.51.100.9, 192.0.2.7", "198.51.100.9"),
        ] {
            assert_eq!(client(&[(FOR, value)]), expected, "{value}");
        }
        assert_eq!(client(&[(FOR, "1.1.1.1"), (FOR, "198.51.100.9")]), "198.51.100.9", "lines are one list");
        assert_eq!(client(&[(FOR, "1.1.1.1, \u{e4}")]), "10.1.2.3");
        let many = ["10.0.0.1"; 100_000].join(",");
        assert_eq!(client(&[(FOR, &format!("1.1.1.1,{many}"))]), "10.0.0.1", "a list has an end");
    }

    #[test]
    fn forwarded_is_read_as_its_standard_has_it() {
        const FORWARDED: &str = "forwarded";
        for (value, expected) in [
            ("for=198.51.100.9", "198.51.100.9"),
            ("For=\"[2001:db8::17]:4711\"", "2001:db8::17"),
            ("for=1.1.1.1, for=198.51.100.9;proto=https;by=10.0.0.1", "198.51.100.9"),
            ("for=198.51.100.9, for=192.0.2.7", "198.51.100.9"),
            ("for=\"198.51.100.9:80\" ; proto = http", "198.51.100.9"),
            // within quotes a comma ends nothing
            ("for=198.51.100.9;host=\"a,for=1.1.1.1\"", "198.51.100.9"),
            ("for=198.51.100.9;host=\"a\\\",for=1.1.1.1\"", "198.51.100.9"),
            // a quote that the client leaves open swallows nothing of what its proxy wrote
            ("for=1.1.1.1;a=\", for=198.51.100.9", "10.1.2.3"),
            ("for=1.1.1.1;a=\", for=198.51.100.9;host=\"r.example\"", "10.1.2.3"),
            ("for=1.1.1.1;a=\", for=\"[2001:db8::1]:80\"", "10.1.2.3"),
            ("for=1.1.1.1;a=\", for=198.51.100.9;host=\"\"", "10.1.2.3"),
            ("for=1.1.1.1;a=\", for=198.51.100.9;host=\"\\\"\"", "10.1.2.3"),
            ("for=1.1.1.1;a=\"\\, for=198.51.100.9", "10.1.2.3"),
            ("for=1.1.1.1;a=b\", for=198.51.100.9;host=\";\"", "10.1.2.3"),
            ("for = \"1.1.1.1\" , for = \"198.51.100.9\" ; by=x", "198.51.100.9"),
            ("for=_hidden", "10.1.2.3"),
            ("for=unknown, for=192.0.2.7", "192.0.2.7"),
            ("for=1.1.1.1;for=2.2.2.2", "10.1.2.3"),
            ("1.1.1.1", "10.1.2.3"),
            ("proto=https", "10.1.2.3"),
        ] {
            assert_eq!(client(&[(FORWARDED, value)]), expected, "{value}");
        }
        let both = |one, other| client(&[("x-forwarded-for", one), (FORWARDED, other)]);
        assert_eq!(both("1.1.1.1", "for=1.1.1.1"), "1.1.1.1");
        assert_eq!(both("1.1.1.1", "for=2.2.2.2"), "10.1.2.3", "one of them is the client's own");
    }

    #[test]
    fn nobody_else_is_believed() {
        let all = headers(&[
            ("x-forwarded-for", "1.1.1.1"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "r.example"),
        ]);
        let list = trusted(&["10.0.0.0/8", "fd00::/8"]);
        for peer in ["11.0.0.1", "9.255.255.255", "127.0.0.1", "::1", "fc00::1", "::ffff:11.0.0.1"] {
            assert_eq!(told(&list, peer.parse().ok(), &all), None, "{peer}");
        }
        assert_eq!(told(&list, None, &all), None);
        let expected =
            Told { client: "1.1.1.1".parse().ok(), secure: true, host: Some("r.example".to_owned()) };
        for peer in ["10.0.0.0", "10.255.255.255", "fdff::1", "::ffff:10.0.0.1"] {
            assert_eq!(told(&list, peer.parse().ok(), &all).as_ref(), Some(&expected), "{peer}");
        }
        assert_eq!(told(&trusted(&["unix"]), None, &all).as_ref(), Some(&expected));
        let by_hop = headers(&[("forwarded", "for=1.1.1.1;proto=https;host=r.example")]);
        assert_eq!(told(&trusted(&["unix"]), None, &by_hop).as_ref(), Some(&expected));
        // the nearest proxy's word, and none where two words are against each other
        let words = headers(&[
            ("x-forwarded-proto", "https, http"),
            ("x-forwarded-host", "evil, r.example"),
            ("forwarded", "for=1.1.1.1;host=other"),
        ]);
        let told = told(&list, "10.0.0.1".parse().ok(), &words).expect("a trusted peer");
        assert_eq!((told.secure, told.host), (false, None));
    }

    #[test]
    fn networks_are_what_they_say() {
        for (text, yes, no) in [
            ("10.0.0.0/8", "10.9.9.9", "11.0.0.0"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.8"),
            ("192.0.2.6/31", "192.0.2.7", "192.0.2.8"),
            ("128.0.0.0/1", "200.0.0.1", "127.0.0.1"),
            ("2001:db8::/32", "2001:db8:1::1", "2001:db9::1"),
            ("::1", "::1", "::2"),
            ("::ffff:10.0.0.0/104", "10.1.1.1", "11.1.1.1"),
        ] {
            let network: Trusted = text.parse().expect(text);
            assert!(network.means(yes.parse().ok()) && !network.means(no.parse().ok()), "{text}");
            assert!(!network.means(None), "{text}");
        }
        for (text, words) in [
            ("", "is not an address"),
            ("10.0.0.0/33", "is not an address"),
            ("10.0.0.0/", "is not an address"),
            ("10.0.0.0/+8", "is not an address"),
            ("10.0.0.0/8/8", "is not an address"),
            ("lb.example", "is not an address"),
            ("10.0.0.1:80", "is not an address"),
            ("10.1.0.0/8", "bits beyond"),
            ("0.0.0.0/0", "everybody"),
            ("::/0", "everybody"),
            ("::ffff:0.0.0.0/96", "everybody"),
        ] {
            let found = text.parse::<Trusted>().expect_err(text);
            assert!(found.contains(words), "{text}: {found}");
        }
    }
}
