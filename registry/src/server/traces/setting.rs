//! Where traces go, as the configuration has it: `URL [sample=SHARE] [service=NAME] [header=NAME:VALUE]...`.

use axum::http::{HeaderName, HeaderValue};
use reqwest::Url;
use std::{fmt, str::FromStr};

/// A collector of traces.
#[derive(Clone, PartialEq)]
pub struct TraceSetting {
    /// Where spans are posted.
    pub url: Url,
    /// The share of requests that are followed, of those that say nothing about it themselves.
    pub sample: f64,
    /// What the registry is called there.
    pub service: String,
    /// Sent with each post.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

impl fmt::Debug for TraceSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // headers are where the secrets are
        write!(f, "TraceSetting({})", self.url.host_str().unwrap_or_default())
    }
}

impl FromStr for TraceSetting {
    type Err = String;

    fn from_str(text: &str) -> Result<TraceSetting, String> {
        let mut words = text.split_ascii_whitespace();
        let address = words.next().ok_or("traces go to an address: `http://127.0.0.1:4318`")?;
        let parsed = Url::parse(address).ok();
        let fits = |url: &Url| matches!(url.scheme(), "http" | "https") && url.has_host();
        let mut url =
            parsed.filter(fits).ok_or_else(|| format!("`{address}` is no http or https address"))?;
        if url.path() == "/" {
            // "OTLP/HTTP request": the base address of a collector, to which the signal's path is added
            url.set_path("/v1/traces");
        }
        let mut setting =
            TraceSetting { url, sample: 1.0, service: "slipway".to_owned(), headers: Vec::new() };
        for word in words {
            match word.split_once('=') {
                Some(("sample", share)) => {
                    let wrong = || format!("`{share}` is no share: a number from 0 to 1");
                    let share: f64 = share.parse().map_err(|_| wrong())?;
                    setting.sample = if (0.0..=1.0).contains(&share) { share } else { return Err(wrong()) };
                }
                Some(("service", name)) if !name.is_empty() => setting.service = name.to_owned(),
                Some(("header", header)) => setting.headers.push(self::header(header)?),
                _ => {
                    return Err(format!(
                        "`{word}` says nothing about traces: there are `sample=SHARE`, `service=NAME` and `header=NAME:VALUE`"
                    ));
                }
            }
        }
        Ok(setting)
    }
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    // the value is not repeated: it may be a secret
    let wrong = || "a header is `header=NAME:VALUE`".to_owned();
    let (name, value) = text.split_once(':').ok_or_else(wrong)?;
    let name: HeaderName = name.parse().map_err(|_| wrong())?;
    let mut value: HeaderValue = value.parse().map_err(|_| wrong())?;
    value.set_sensitive(true);
    Ok((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn collectors_are_addresses_with_words() {
        let setting = |text: &str| text.parse::<TraceSetting>();
        let plain = setting("http://127.0.0.1:4318").expect("an address");
        assert_eq!((plain.url.as_str(), plain.sample), ("http://127.0.0.1:4318/v1/traces", 1.0));
        let all =
            setting("https://c.example/otlp/x sample=0.25 service=hub header=api-key:s3cret").expect("all");
        assert_eq!(
            (all.url.as_str(), all.sample, all.service.as_str()),
            ("https://c.example/otlp/x", 0.25, "hub")
        );
        assert_eq!(all.headers, [(HeaderName::from_static("api-key"), HeaderValue::from_static("s3cret"))]);
        assert!(!format!("{all:?} {:?}", all.headers).contains("s3cret"));
        for text in [
            "",
            "127.0.0.1:4318",
            "ftp://c",
            "http://c sample=2",
            "http://c sample=x",
            "http://c sample=NaN",
            "http://c service=",
            "http://c header=a",
            "http://c header=a b:c",
            "http://c other",
        ] {
            setting(text).expect_err(text);
        }
        assert!(!setting("http://c header=\u{e9}:s3cret").expect_err("no name").contains("s3cret"));
    }
}
