//! Which trace a request belongs to (W3C Trace Context, level 2: `traceparent` and `tracestate`), and how another server is told of it.

use super::state;
use axum::http::{HeaderMap, HeaderValue};
use std::sync::Arc;

/// The flag of a trace that is followed.
const SAMPLED: u8 = 1;
/// The flag of a trace whose identifier is random in its last seven bytes.
const RANDOM: u8 = 2;

/// A trace, and one span of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::server) struct Context {
    /// The trace.
    pub(super) trace: [u8; 16],
    /// The request's own span; where the trace is not followed, the one within which it was asked.
    pub(super) span: [u8; 8],
    /// The span within which it was asked.
    pub(super) parent: Option<[u8; 8]>,
    /// The flags that this level knows.
    pub(super) flags: u8,
    /// What other systems noted of the trace.
    pub(super) state: Option<Arc<str>>,
}

/// A `traceparent`.
struct Given {
    trace: [u8; 16],
    parent: [u8; 8],
    flags: u8,
}

/// Fresh ones; without randomness nothing is followed, and nothing else hangs on it.
fn random<const N: usize>() -> Option<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).ok()?;
    Some(bytes)
}

impl Context {
    /// That of a request's headers, or a new one for a share of those that have none. `None` where there is nothing to tell anybody.
    pub(super) fn of(headers: &HeaderMap, sample: f64) -> Option<Context> {
        let mut given = headers.get_all("traceparent").iter();
        // which of two is meant, nobody knows
        let only = given.next().filter(|_| given.next().is_none());
        match only.and_then(|value| parse(value.to_str().ok()?)) {
            // a trace that is not followed is handed on as it came: there is no span of ours in it
            Some(Given { trace, parent, flags }) if flags & SAMPLED == 0 => {
                Some(Context { trace, span: parent, parent: Some(parent), flags, state: None })
            }
            Some(Given { trace, parent, flags }) => {
                let state = state::of(headers).map(Arc::from);
                Some(Context { trace, span: random()?, parent: Some(parent), flags, state })
            }
            None => {
                let trace: [u8; 16] = random()?;
                // the specification asks for randomness in the last bytes first of all
                let (_, chance) = trace.split_at(8);
                let chance = u64::from_be_bytes(chance.try_into().ok()?) as f64 / u64::MAX as f64;
                let context =
                    Context { trace, span: random()?, parent: None, flags: SAMPLED | RANDOM, state: None };
                (sample >= 1.0 || chance < sample).then_some(context)
            }
        }
    }

    /// Whether spans of it are wanted.
    pub(super) fn is_followed(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// A span within this one.
    pub(super) fn within(&self) -> Option<Context> {
        match self.is_followed() {
            true => Some(Context { span: random()?, parent: Some(self.span), ..self.clone() }),
            false => Some(self.clone()),
        }
    }

    /// The `traceparent` of what is asked within this span: of version 0, whatever the client's was.
    pub(super) fn header(&self) -> HeaderValue {
        let text = format!("00-{}-{}-{:02x}", digits(&self.trace), digits(&self.span), self.flags);
        HeaderValue::from_str(&text).expect("hexadecimal digits are ASCII")
    }
}

/// Lower-case hexadecimal digits.
pub(super) fn digits(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn parse(text: &str) -> Option<Given> {
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
    // what flags of later levels mean is not known, so they go no further
    (fits && meant).then_some(Given { trace, parent, flags: flags[0] & (SAMPLED | RANDOM) })
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
        let within = context.within().expect("a span within");
        assert_eq!((within.trace, within.parent), (context.trace, Some(context.span)));
        let header = format!("00-0af7651916cd43dd8448eb211c80319c-{}-01", digits(&within.span));
        assert_eq!(within.header(), header);
    }

    #[test]
    fn one_that_is_not_followed_is_handed_on_as_it_came() {
        let text = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
        let context = of(&[text], 1.0).expect("something to hand on");
        assert!(!context.is_followed());
        assert_eq!(context.header(), text);
        assert_eq!(context.within().expect("the same").header(), text);
    }

    /// What this level does not know stays behind: versions, fields, flags.
    #[test]
    fn later_versions_are_read_as_far_as_they_are_known() {
        for (text, flags) in [
            ("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03-more", "03"),
            ("fe-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-", "01"),
            ("01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-ff", "03"),
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-09", "01"),
        ] {
            let context = of(&[text], 0.0).expect(text);
            let header = context.header();
            let header = header.to_str().expect("text");
            assert!(header.starts_with("00-0af7651916cd43dd8448eb211c80319c-"), "{header}");
            assert!(header.ends_with(&format!("-{flags}")) && header.len() == 55, "{text}: {header}");
        }
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
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0x",
            "0-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01.more",
            "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0",
            "00_0af7651916cd43dd8448eb211c80319c_b7ad6b7169203331_01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01, 00",
            "00-\u{e9}f7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
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
        assert!(of(&[], 1.0).expect("followed").header().to_str().expect("text").ends_with("-03"));
    }
}
