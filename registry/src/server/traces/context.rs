//! Which trace a request belongs to (W3C Trace Context, section 3.2, `traceparent`).

use axum::http::HeaderMap;

/// A trace, and one span of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::server) struct Context {
    /// The trace.
    pub(super) trace: [u8; 16],
    /// The request's own span.
    pub(super) span: [u8; 8],
    /// The span within which the client asked.
    pub(super) parent: Option<[u8; 8]>,
}

impl Context {
    /// That of a request's headers, or a new one for a share of those that have none. `None` where it is not followed.
    pub(super) fn of(headers: &HeaderMap, sample: f64) -> Option<Context> {
        let mut random = [0; 24];
        // without it nothing is followed, and nothing else hangs on it
        getrandom::fill(&mut random).ok()?;
        let (trace, span) = random.split_at(16);
        let (trace, span): ([u8; 16], [u8; 8]) = (trace.try_into().ok()?, span.try_into().ok()?);
        let mut given = headers.get_all("traceparent").iter();
        let only = given.next().filter(|_| given.next().is_none());
        match only.and_then(|value| parse(value.to_str().ok()?)) {
            Some((trace, parent, true)) => Some(Context { trace, span, parent: Some(parent) }),
            Some((_, _, false)) => None,
            None => {
                // the specification asks for randomness in the last bytes first of all
                let (_, chance) = trace.split_at(8);
                let chance = u64::from_be_bytes(chance.try_into().ok()?) as f64 / u64::MAX as f64;
                (chance < sample).then_some(Context { trace, span, parent: None })
            }
        }
    }
}

/// Trace, parent, and whether the client follows it.
fn parse(text: &str) -> Option<([u8; 16], [u8; 8], bool)> {
    let mut parts = text.split('-');
    let (version, trace) = (hex::<1>(parts.next()?)?, hex::<16>(parts.next()?)?);
    let (parent, flags) = (hex::<8>(parts.next()?)?, hex::<1>(parts.next()?)?);
    // later versions may have more after it
    let fits = match version[0] {
        0 => parts.next().is_none(),
        0xff => false,
        _ => true,
    };
    let meant = trace != [0; 16] && parent != [0; 8];
    (fits && meant).then_some((trace, parent, flags[0] & 1 == 1))
}

/// So many bytes in lower case.
fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let (text, mut bytes) = (text.as_bytes(), [0; N]);
    if text.len() != N * 2 {
        return None;
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = digit(text[at * 2])? << 4 | digit(text[at * 2 + 1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn of(values: &[&str], sample: f64) -> Option<Context> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append("traceparent", HeaderValue::from_str(value).expect("a value"));
        }
        Context::of(&headers, sample)
    }

    const GIVEN: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_client_s_trace_goes_on() {
        let context = of(&[GIVEN], 0.0).expect("followed, whatever the share");
        assert_eq!((context.trace[0], context.trace[15]), (0x0a, 0x9c));
        assert_eq!(context.parent.map(|parent| parent[7]), Some(0x31));
        assert_ne!(Some(context.span), context.parent);
        assert_eq!(of(&["00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"], 1.0), None);
        assert!(of(&["cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03-more"], 0.0).is_some());
    }

    #[test]
    fn what_is_no_trace_is_not_believed() {
        let long = "0".repeat(10_000);
        for text in [
            "",
            "00",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319-b7ad6b7169203331-01",
            long.as_str(),
        ] {
            assert_eq!(of(&[text], 0.0), None, "{text}");
            assert_eq!(of(&[text], 1.0).expect("a new one").parent, None, "{text}");
        }
        assert_eq!(of(&[GIVEN, GIVEN], 1.0).expect("a new one").parent, None, "which of the two?");
    }

    #[test]
    fn a_share_is_followed() {
        let count = (0..2000).filter(|_| of(&[], 0.25).is_some()).count();
        assert!((380..620).contains(&count), "{count}");
        assert!((0..100).all(|_| of(&[], 0.0).is_none() && of(&[], 1.0).is_some()));
    }
}
