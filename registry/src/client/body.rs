//! Bodies of replies: always with a cap.

use super::error::ClientError;
use crate::limits;
use oci_distribution::errors::{OciEnvelope, OciErrorCode};
use reqwest::{
    Response,
    header::{self, HeaderMap},
};
use std::time::{Duration, SystemTime};

/// Host and port of an address, for people.
pub(super) fn host_of(url: &reqwest::Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// Reads a whole body of at most `most_bytes`, whatever its headers promise.
pub(super) async fn read_capped(
    host: &str,
    mut response: Response,
    most_bytes: u64,
    what: &str,
) -> Result<Vec<u8>, ClientError> {
    let large = || ClientError::Large { what: what.to_owned(), most_bytes };
    if response.content_length().is_some_and(|length| length > most_bytes) {
        return Err(large());
    }
    let mut bytes = Vec::new();
    let broken = |source| ClientError::Interrupted { host: host.to_owned(), source: Some(source) };
    while let Some(piece) = response.chunk().await.map_err(broken)? {
        if (bytes.len() + piece.len()) as u64 > most_bytes {
            return Err(large());
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

/// Turns a reply into the error that it is.
pub(super) async fn status_error(method: &str, response: Response) -> ClientError {
    let url = response.url().clone();
    let (host, status) = (host_of(&url), response.status().as_u16());
    let retry_after = retry_after(response.headers());
    // the status is the news; a body that cannot be read adds nothing
    let bytes = read_capped(&host, response, limits::REPLY_BYTES, "error").await.unwrap_or_default();
    let message = message(&bytes);
    ClientError::Status {
        host,
        method: method.to_owned(),
        path: url.path().to_owned(),
        status,
        message,
        retry_after,
    }
}

/// Codes and messages of the specification's error body, in the registry's own words: whoever shows them cleans them,
/// as every text of others. Nothing for any other body.
fn message(bytes: &[u8]) -> String {
    let Ok(envelope) = serde_json::from_slice::<OciEnvelope>(bytes) else { return String::new() };
    let entries = envelope.errors.iter().take(3).map(|error| {
        let code = match &error.code {
            OciErrorCode::Other(code) => code.clone(),
            // its own spelling is private to serde
            code => serde_json::to_value(code)
                .ok()
                .and_then(|v| v.as_str().map(str::to_owned))
                .unwrap_or_default(),
        };
        if error.message.is_empty() { code } else { format!("{} ({code})", error.message) }
    });
    entries.collect::<Vec<_>>().join("; ").chars().take(limits::MESSAGE_CHARACTERS).collect()
}

/// How long a reply wants its sender to wait (`Retry-After`: RFC 9110, section 10.2.3), never longer than the cap.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?;
    pause(text, SystemTime::now())
}

/// Seconds or a date.
fn pause(text: &str, now: SystemTime) -> Option<Duration> {
    let wait = match text.trim().parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => httpdate::parse_http_date(text.trim()).ok()?.duration_since(now).unwrap_or_default(),
    };
    Some(wait.min(limits::RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_capped() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").expect("date");
        for (text, expected) in [
            ("7", Some(7)),
            ("999999999999", Some(120)),
            ("Sun, 06 Nov 1994 08:49:47 GMT", Some(10)),
            ("Sun, 06 Nov 1994 08:49:07 GMT", Some(0)),
            ("soon", None),
            ("-1", None),
        ] {
            assert_eq!(pause(text, now), expected.map(Duration::from_secs), "{text}");
        }
    }

    #[test]
    fn messages_are_short() {
        let body = br#"{"errors":[{"code":"DENIED","message":"no way"},{"code":"MY_OWN"}]}"#;
        assert_eq!(message(body), "no way (DENIED); MY_OWN");
        assert_eq!(message(b"<html>"), "");
        let long = format!(r#"{{"errors":[{{"code":"DENIED","message":"{}"}}]}}"#, "x".repeat(10_000));
        assert_eq!(message(long.as_bytes()).len(), limits::MESSAGE_CHARACTERS);
    }
}
