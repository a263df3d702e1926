//! What other systems noted of a trace (W3C Trace Context, section 3.3, `tracestate`): it is recorded with the span, as it came, and
//! sent nowhere else.

use crate::limits;
use axum::http::HeaderMap;

/// That of a request's headers. None where anything of it is wrong: the specification wants it whole or not at all.
pub(super) fn of(headers: &HeaderMap) -> Option<String> {
    let mut members: Vec<(&str, &str)> = Vec::new();
    // several headers are one list
    for value in headers.get_all("tracestate") {
        for member in value.to_str().ok()?.split(',').map(|member| member.trim_matches([' ', '\t'])) {
            if member.is_empty() {
                continue;
            }
            let (key, value) = member.split_once('=')?;
            let again = members.iter().any(|(other, _)| *other == key);
            if again || !is_key(key) || !is_value(value) || members.len() >= limits::TRACE_STATES {
                return None;
            }
            members.push((key, value));
        }
    }
    let all: Vec<String> = members.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let text = all.join(",");
    (!text.is_empty() && text.len() <= limits::TRACE_STATE_BYTES).then_some(text)
}

fn is_key(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let rest = |byte: u8| plain(byte) || matches!(byte, b'_' | b'-' | b'*' | b'/' | b'@');
    text.bytes().next().is_some_and(plain) && text.bytes().all(rest) && text.len() <= 256
}

fn is_value(text: &str) -> bool {
    let fits = |byte: u8| matches!(byte, b' '..=b'~') && !matches!(byte, b',' | b'=');
    !text.is_empty() && text.bytes().all(fits) && text.len() <= 256
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn of_all(values: &[&str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append("tracestate", HeaderValue::from_str(value).expect("a value"));
        }
        of(&headers)
    }

    #[test]
    fn what_fits_is_one_list() {
        assert_eq!(of_all(&["ot=th:8, a@b=x y\t,", "", "3c=!"]).as_deref(), Some("ot=th:8,a@b=x y,3c=!"));
        let most: Vec<String> = (0..32).map(|at| format!("k{at}=v")).collect();
        assert_eq!(of_all(&[&most.join(",")]), Some(most.join(",")));
    }

    #[test]
    fn what_is_wrong_anywhere_is_left_out_as_a_whole() {
        let many: Vec<String> = (0..33).map(|at| format!("k{at}=v")).collect();
        let long = format!("a={}", "x".repeat(256));
        let lengthy = format!("{long},b={}", "x".repeat(256));
        for text in [
            "",
            " ",
            "a",
            "=b",
            "a=",
            "A=b",
            "a=b,a=c",
            "a=b=c",
            "a b=c",
            "_a=b",
            "a=b;c\u{e9}=d",
            "a=\tb,c",
            &many.join(","),
            &format!("{long}x"),
            &lengthy,
            &"a=b,".repeat(10_000),
        ] {
            assert_eq!(of_all(&[text]), None, "{text}");
        }
        assert_eq!(of_all(&["a=b", "a=c"]), None);
    }
}
