//! Byte ranges: `Range` of reads (RFC 9110, section 14) and `Content-Range` of upload chunks (the distribution
//! specification's own form, without a unit).

use super::error::ApiError;

/// What a reader gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Window {
    /// Everything, with status 200.
    Whole,
    /// These bytes, first and last, with status 206.
    Part { first: u64, last: u64 },
    /// Nothing of it exists: 416.
    Unsatisfiable,
}

/// Reads a `Range` header for content of `size` bytes. Other units and several ranges get the whole: one request never
/// yields more than the content.
pub(super) fn window(header: Option<&str>, size: u64) -> Window {
    let Some(list) = header.and_then(|header| header.trim().strip_prefix("bytes=")) else {
        return Window::Whole;
    };
    if list.contains(',') {
        return Window::Whole;
    }
    let Some((first, last)) = list.trim().split_once('-') else { return Window::Whole };
    let (first, last) = (first.trim(), last.trim());
    match (number(first), number(last)) {
        // the last so many bytes
        (None, Some(count)) if first.is_empty() => {
            let count = count.min(size);
            if count == 0 {
                Window::Unsatisfiable
            } else {
                Window::Part { first: size - count, last: size - 1 }
            }
        }
        (Some(first), _) if first >= size => Window::Unsatisfiable,
        (Some(first), None) if last.is_empty() => Window::Part { first, last: size - 1 },
        // the conformance programme wants 416 for a reversed range
        (Some(first), Some(last)) if last < first => Window::Unsatisfiable,
        (Some(first), Some(last)) => Window::Part { first, last: last.min(size - 1) },
        _ => Window::Whole,
    }
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

/// Reads the `Content-Range` of a chunk: `first-last`, also with the unit and total that RFC 9110 asks for.
pub(super) fn chunk(header: &str) -> Result<Chunk, ApiError> {
    let refuse = || ApiError::ContentRange(header.chars().take(80).collect());
    let text = header.trim();
    let text = text.strip_prefix("bytes ").or_else(|| text.strip_prefix("bytes=")).unwrap_or(text);
    let text = text.split_once('/').map_or(text, |(range, _)| range);
    let (first, last) = text.split_once('-').ok_or_else(refuse)?;
    let digits = |text: &str| {
        text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u64>().ok()).flatten()
    };
    let (first, last) = (digits(first).ok_or_else(refuse)?, digits(last).ok_or_else(refuse)?);
    let length = last.checked_sub(first).and_then(|length| length.checked_add(1)).ok_or_else(refuse)?;
    Ok(Chunk { first, length })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows() {
        let part = |first, last| Window::Part { first, last };
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
            (Some("lines=0-1"), 10, Window::Whole),
            (Some("bytes=a-b"), 10, Window::Whole),
            (Some("bytes=--1"), 10, Window::Whole),
            (Some("bytes=-"), 10, Window::Whole),
        ] {
            assert_eq!(window(header, size), expected, "{header:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_window_lies_within_the_content(header in "(bytes=)?[-0-9, ax]{0,24}", size in 0..1000_u64) {
            if let Window::Part { first, last } = window(Some(&header), size) {
                assert!(first <= last && last < size);
            }
            let _ = chunk(&header);
        }
    }

    #[test]
    fn chunks() {
        for (header, first, length) in [
            ("0-0", 0, 1),
            ("5-9", 5, 5),
            ("bytes 5-9/10", 5, 5),
            ("bytes=0-3", 0, 4),
            ("0-18446744073709551614", 0, u64::MAX),
        ] {
            assert_eq!(chunk(header).ok(), Some(Chunk { first, length }), "{header}");
        }
        for header in
            ["", "5", "9-5", "-5", "5-", "a-b", "0-18446744073709551615", "0-99999999999999999999", "+1-2"]
        {
            assert!(chunk(header).is_err(), "{header}");
        }
    }
}
