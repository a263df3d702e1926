//! Byte ranges: `Range` of reads (RFC 9110, section 14) and `Content-Range` of upload chunks (the distribution
//! specification's own form, without a unit).

use super::error::ApiError;
use crate::{limits, protocol};
use axum::http::{HeaderMap, HeaderValue, header};
use slipway_oci::Digest;

/// Bytes of the content, first and last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) first: u64,
    pub(super) last: u64,
}

impl Part {
    pub(super) fn length(self) -> u64 {
        self.last - self.first + 1
    }
}

/// What a reader gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Window {
    /// Everything, with status 200.
    Whole,
    /// These bytes, with status 206.
    Part(Part),
    /// Two or more parts that do not overlap, as they were asked for, with status 206 and `multipart/byteranges`.
    Parts(Vec<Part>),
    /// Nothing of it exists: 416.
    Unsatisfiable,
}

/// The `Range` header of a read, where it counts: not one of two, of which nobody knows which is meant, and none that was asked of
/// another version of the content (`If-Range`: RFC 9110, section 13.1.5).
pub(super) fn asked<'a>(headers: &'a HeaderMap, digest: &Digest) -> Option<&'a str> {
    let same = |tag: &HeaderValue| tag.to_str().is_ok_and(|tag| tag == format!("\"{digest}\""));
    let mut given = headers.get_all(header::RANGE).iter();
    let only = given.next().filter(|_| given.next().is_none())?;
    headers.get(header::IF_RANGE).is_none_or(same).then(|| only.to_str().ok()).flatten()
}

/// Reads a `Range` header for content of `size` bytes. What is no range gets the whole, and so do ranges that overlap, that are
/// too many, or that come to no less than the whole with what stands between them: one request never yields more than the
/// content. (RFC 9110, sections 14.2 and 15.3.7.2. Parts are neither joined nor sorted: clients of zstd:chunked layers, such as
/// podman's, count them and do not look at what each says it is.)
pub(super) fn window(header: Option<&str>, size: u64) -> Window {
    let (unit, list) = header.and_then(|header| header.trim().split_once('=')).unwrap_or_default();
    // names of units are the same in any case (RFC 9110, section 14.1)
    if !unit.eq_ignore_ascii_case("bytes") {
        return Window::Whole;
    }
    // empty elements of a list do not count (RFC 9110, section 5.6.1)
    let asked: Vec<&str> = list.split(',').map(str::trim).filter(|one| !one.is_empty()).collect();
    if asked.is_empty() || asked.len() > limits::RANGES {
        return Window::Whole;
    }
    let Some(parts) = asked.into_iter().map(|one| part(one, size)).collect::<Option<Vec<_>>>() else {
        return Window::Whole;
    };
    // what does not exist is left out where something else does
    let parts: Vec<Part> = parts.into_iter().flatten().collect();
    match parts.as_slice() {
        [] => Window::Unsatisfiable,
        [one] => Window::Part(*one),
        _ if overlap(&parts) => Window::Whole,
        _ if multipart_bytes(&parts, size) >= size => Window::Whole,
        _ => Window::Parts(parts),
    }
}

/// One range: `None` for what is none, `Some(None)` for one of which nothing exists.
fn part(text: &str, size: u64) -> Option<Option<Part>> {
    let (first, last) = text.split_once('-')?;
    let (first, last) = (first.trim(), last.trim());
    match (number(first), number(last)) {
        // the last so many bytes
        (None, Some(count)) if first.is_empty() => {
            let count = count.min(size);
            Some((count > 0).then(|| Part { first: size - count, last: size - 1 }))
        }
        (Some(first), None) if last.is_empty() => {
            Some((first < size).then(|| Part { first, last: size - 1 }))
        }
        // a reversed one may be refused or ignored (RFC 9110, section 14.2); the conformance programme wants it refused
        (Some(first), Some(last)) => {
            Some((first < size && first <= last).then(|| Part { first, last: last.min(size - 1) }))
        }
        _ => None,
    }
}

fn overlap(parts: &[Part]) -> bool {
    let mut sorted = parts.to_vec();
    sorted.sort_unstable_by_key(|part| part.first);
    sorted.windows(2).any(|pair| pair[0].last >= pair[1].first)
}

/// What separates the parts of a blob: its own digest, which nobody can write into what it is the digest of. RFC 2046, section
/// 5.1.1, has at most 70 characters.
pub(super) fn boundary(digest: &Digest) -> String {
    let mut hex = digest.hex();
    hex.truncate(BOUNDARY_CHARACTERS);
    hex
}

const BOUNDARY_CHARACTERS: usize = 64;

/// What stands before a part (RFC 9110, section 14.6).
pub(super) fn part_head(boundary: &str, part: Part, size: u64) -> String {
    let Part { first, last } = part;
    let kind = protocol::OCTET_STREAM;
    format!("\r\n--{boundary}\r\nContent-Type: {kind}\r\nContent-Range: bytes {first}-{last}/{size}\r\n\r\n")
}

/// What stands after the last part.
pub(super) fn parts_end(boundary: &str) -> String {
    format!("\r\n--{boundary}--\r\n")
}

/// The length of the whole body of a reply in parts.
pub(super) fn multipart_bytes(parts: &[Part], size: u64) -> u64 {
    // every boundary is as long
    let boundary = "0".repeat(BOUNDARY_CHARACTERS);
    let one = |part: &Part| part_head(&boundary, *part, size).len() as u64 + part.length();
    parts.iter().map(one).sum::<u64>() + parts_end(&boundary).len() as u64
}

/// Digits only; more than fit count as very many.
fn number(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(text.parse().unwrap_or(u64::MAX))
}

/// Where a chunk belongs.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Chunk {
    /// Offset of its first byte.
    pub(super) first: u64,
    /// Its length in bytes.
    pub(super) length: u64,
}

/// Where a chunk with these headers belongs; `None` where they do not say. What cannot be read is refused: a place that was
/// overlooked would be the wrong one.
pub(super) fn placed(headers: &HeaderMap) -> Result<Option<Chunk>, ApiError> {
    let mut given = headers.get_all(header::CONTENT_RANGE).iter();
    match (given.next(), given.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => chunk(&String::from_utf8_lossy(value.as_bytes())).map(Some),
        (Some(_), Some(_)) => Err(ApiError::ContentRange("two headers".to_owned())),
    }
}

/// Reads the `Content-Range` of a chunk: `first-last`, also with the unit and total that RFC 9110 asks for.
fn chunk(header: &str) -> Result<Chunk, ApiError> {
    let refuse = || ApiError::ContentRange(header.chars().take(80).collect());
    let text = header.trim_ascii();
    let text = text.strip_prefix("bytes ").or_else(|| text.strip_prefix("bytes=")).unwrap_or(text);
    let (text, total) = text.split_once('/').map_or((text, None), |(range, total)| (range, Some(total)));
    let (first, last) = text.split_once('-').ok_or_else(refuse)?;
    let digits = |text: &str| {
        text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u64>().ok()).flatten()
    };
    let (first, last) = (digits(first).ok_or_else(refuse)?, digits(last).ok_or_else(refuse)?);
    let length = last.checked_sub(first).and_then(|length| length.checked_add(1)).ok_or_else(refuse)?;
    // RFC 9110, section 14.4: a total that is not more than the last byte's place makes the whole invalid
    let fits = |total: &str| total == "*" || digits(total).is_some_and(|total| total > last);
    if total.is_some_and(|total| !fits(total)) {
        return Err(refuse());
    }
    Ok(Chunk { first, length })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows() {
        let part = |first, last| Window::Part(Part { first, last });
        for (header, size, expected) in [
            (None, 10, Window::Whole),
            (Some("bytes=0-0"), 10, part(0, 0)),
            (Some("bytes=2-"), 10, part(2, 9)),
            (Some("bytes=-3"), 10, part(7, 9)),
            (Some("bytes=-30"), 10, part(0, 9)),
            (Some("bytes=5-99999999999999999999999"), 10, part(5, 9)),
            (Some("bytes=10-"), 10, Window::Unsatisfiable),
            (Some("bytes=500-0"), 1000, Window::Unsatisfiable),
            (Some("bytes=-0"), 10, Window::Unsatisfiable),
            (Some("bytes=0-"), 0, Window::Unsatisfiable),
            (Some("bytes=0-1,3-4"), 10, Window::Whole),
            (Some("bytes=0-1,"), 10, part(0, 1)),
            (Some("bytes=,"), 10, Window::Whole),
            (Some("bytes=0-1,100-"), 10, part(0, 1)),
            (Some("bytes=100-,50-60"), 10, Window::Unsatisfiable),
            (Some("lines=0-1"), 10, Window::Whole),
            (Some("bytes=a-b"), 10, Window::Whole),
            (Some("bytes=--1"), 10, Window::Whole),
            (Some("bytes=-"), 10, Window::Whole),
            (Some("Bytes=2-3"), 10, part(2, 3)),
            (Some(" BYTES=2-3 "), 10, part(2, 3)),
            (Some("bytes =2-3"), 10, Window::Whole),
            (Some("bytes:2-3"), 10, Window::Whole),
            (Some("bytes"), 10, Window::Whole),
            (Some("=2-3"), 10, Window::Whole),
            (Some(""), 10, Window::Whole),
            // what is reversed is refused, alone, and left out where something else is asked for
            (Some("bytes=1-0"), 10, Window::Unsatisfiable),
            (Some("bytes=1-0,9-8"), 10, Window::Unsatisfiable),
            (Some("bytes=1-0,3-4"), 10, part(3, 4)),
            // what is no range makes the whole header none
            (Some("bytes=+1-2"), 10, Window::Whole),
            (Some("bytes=1--2"), 10, Window::Whole),
            (Some("bytes=1-2-3"), 10, Window::Whole),
            (Some("bytes=0x1-2"), 10, Window::Whole),
            (Some("bytes=1.0-2"), 10, Window::Whole),
            (Some("bytes=1-2;3-4"), 10, Window::Whole),
            (Some("bytes=1 - 2"), 10, part(1, 2)),
            (Some("bytes=\u{661}-2"), 10, Window::Whole),
            (Some("bytes=99999999999999999999999-"), 10, Window::Unsatisfiable),
            (Some("bytes=-99999999999999999999999"), 10, part(0, 9)),
            (Some("bytes=18446744073709551615-18446744073709551615"), 10, Window::Unsatisfiable),
        ] {
            assert_eq!(window(header, size), expected, "{header:?}");
        }
    }

    #[test]
    fn several_ranges() {
        let parts = |all: &[(u64, u64)]| {
            Window::Parts(all.iter().map(|(first, last)| Part { first: *first, last: *last }).collect())
        };
        let many = |count: usize| {
            let all: Vec<String> = (0..count).map(|at| format!("{}-{}", at * 10, at * 10)).collect();
            format!("bytes={}", all.join(","))
        };
        for (header, expected) in [
            ("bytes=0-1,3-4".to_owned(), parts(&[(0, 1), (3, 4)])),
            ("bytes=0-1, 3-4".to_owned(), parts(&[(0, 1), (3, 4)])),
            // as asked for, neither sorted nor joined
            ("bytes=30-40,0-1,2-3".to_owned(), parts(&[(30, 40), (0, 1), (2, 3)])),
            ("bytes=-5,0-0".to_owned(), parts(&[(999_995, 999_999), (0, 0)])),
            ("bytes=0-1,5-4,7-7,2000000-".to_owned(), parts(&[(0, 1), (7, 7)])),
            ("bytes=0-5,5-9".to_owned(), Window::Whole),
            ("bytes=0-,0-".to_owned(), Window::Whole),
            ("bytes=0-0,0-0,0-0".to_owned(), Window::Whole),
            ("bytes=0-1,x".to_owned(), Window::Whole),
            ("bytes=0-499999,500000-999999".to_owned(), Window::Whole),
            ("bytes=0-999900,999950-".to_owned(), Window::Whole),
            (many(limits::RANGES + 1), Window::Whole),
        ] {
            assert_eq!(window(Some(&header), 1_000_000), expected, "{header}");
        }
        let most = window(Some(&many(limits::RANGES)), 1_000_000);
        assert!(matches!(most, Window::Parts(parts) if parts.len() == limits::RANGES));
        // the heads of many tiny parts would be more than the content
        assert_eq!(window(Some(&many(limits::RANGES)), 20_000), Window::Whole);
    }

    proptest::proptest! {
        #[test]
        fn a_window_lies_within_the_content(header in "(bytes=)?[-0-9, ax]{0,24}", size in 0..1000_u64) {
            match window(Some(&header), size) {
                Window::Part(Part { first, last }) => assert!(first <= last && last < size),
                Window::Parts(parts) => {
                    assert!(parts.iter().all(|part| part.first <= part.last && part.last < size));
                    assert!(multipart_bytes(&parts, size) < size);
                }
                Window::Whole | Window::Unsatisfiable => {}
            }
            let _ = chunk(&header);
        }

        #[test]
        fn lists_never_yield_more_than_the_content(
            ranges in proptest::collection::vec((0..5000_u64, 0..300_u64), 1..40),
            size in 1..5000_u64,
        ) {
            let all: Vec<String> =
                ranges.iter().map(|(first, more)| format!("{first}-{}", first + more)).collect();
            if let Window::Parts(parts) = window(Some(&format!("bytes={}", all.join(","))), size) {
                assert!(parts.len() > 1 && multipart_bytes(&parts, size) < size);
                assert!(!overlap(&parts));
            }
        }
    }

    #[test]
    fn chunks() {
        for (header, first, length) in [
            ("0-0", 0, 1),
            ("5-9", 5, 5),
            ("bytes 5-9/10", 5, 5),
            ("bytes 5-9/*", 5, 5),
            ("5-9/1000", 5, 5),
            ("bytes=0-3", 0, 4),
            ("0-18446744073709551614", 0, u64::MAX),
        ] {
            assert_eq!(chunk(header).ok(), Some(Chunk { first, length }), "{header}");
        }
        for header in [
            "",
            "5",
            "9-5",
            "-5",
            "5-",
            "a-b",
            "0-18446744073709551615",
            "0-99999999999999999999",
            "+1-2",
            "5-9/9",
            "5-9/",
            "5-9/x",
            "5-9/-1",
            "5-9/10/10",
            "5-9,10-11",
            "\u{ff15}-\u{ff15}",
            "bytes 5-9/ 10",
        ] {
            assert!(chunk(header).is_err(), "{header}");
        }
        let of = |values: &[&[u8]]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::CONTENT_RANGE, HeaderValue::from_bytes(value).expect("a value"));
            }
            placed(&headers)
        };
        assert_eq!(of(&[]).expect("nothing"), None);
        assert_eq!(of(&[b"5-9"]).expect("a place"), Some(Chunk { first: 5, length: 5 }));
        for values in [&[&b"\xef\xbc\x95-\xef\xbc\x95"[..]][..], &[b"5-9\xff"], &[b"5-9", b"5-9"], &[b""]] {
            assert!(of(values).is_err(), "{values:?}");
        }
    }
}
