//! What registries say beside their answers: `Warning` headers (distribution specification, "Warnings"; RFC 7234, section 5.5).
//!
//! They are for people: shown once each, without what a terminal or a log would obey, and never acted upon.

use crate::limits;
use reqwest::header::{self, HeaderMap};
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

/// Is told who says what; each once, from any thread.
pub type Warned = Arc<dyn Fn(&str, &str) + Send + Sync>;

/// Those that were passed on.
pub(super) struct Warnings {
    told: Option<Warned>,
    seen: Mutex<BTreeSet<(String, String)>>,
}

impl Warnings {
    pub(super) fn new(told: Option<Warned>) -> Warnings {
        Warnings { told, seen: Mutex::default() }
    }

    /// Passes on what a reply of `host` says, if it is new.
    pub(super) fn hear(&self, host: &str, headers: &HeaderMap) {
        let Some(told) = &self.told else { return };
        let mut bytes = 0;
        for value in headers.get_all(header::WARNING) {
            bytes += value.len();
            if bytes > limits::WARNING_BYTES {
                return;
            }
            for words in read(&String::from_utf8_lossy(value.as_bytes())) {
                let mut seen = self.seen.lock().expect("no panic happens while warnings are held");
                let new = seen.len() < limits::WARNINGS && seen.insert((host.to_owned(), words.clone()));
                drop(seen);
                if new {
                    told(host, &words);
                }
            }
        }
    }
}

/// The words of a header's warnings with code 299 and no agent; what is of another form, and what comes after it, is nobody's.
fn read(value: &str) -> Vec<String> {
    let (mut all, mut rest) = (Vec::new(), value);
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let Some(own) = rest.strip_prefix("299 - \"") else { return all };
        let mut characters = own.char_indices();
        let (mut words, mut end) = (String::new(), None);
        while let Some((at, c)) = characters.next() {
            match c {
                '"' => {
                    end = Some(at + 1);
                    break;
                }
                '\\' => words.extend(characters.next().map(|(_, c)| c)),
                c => words.push(c),
            }
        }
        let Some(end) = end else { return all };
        rest = &own[end..];
        // a date, which no registry should send
        if let Some(dated) = rest.trim_start().strip_prefix('"') {
            rest = dated.split_once('"').map_or("", |(_, rest)| rest);
        }
        let words: String = words.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        if !words.trim().is_empty() {
            all.push(words.trim().to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::header::HeaderValue;

    #[test]
    fn warnings_are_read_as_rfc_7234_has_them() {
        for (value, expected) in [
            (r#"299 - "a""#, vec!["a"]),
            (r#"299 - "a \"b\" \\ c""#, vec![r#"a "b" \ c"#]),
            (r#"299 - "a", 299 - "b""#, vec!["a", "b"]),
            (r#"299 - "a, b",299 - "c""#, vec!["a, b", "c"]),
            (r#"299 - "a" "Wed, 21 Oct 2015 07:28:00 GMT", 299 - "b""#, vec!["a", "b"]),
            (r#"299 - "a\tb""#, vec!["atb"]),
            ("299 - \"a\tb\u{1b}[2J\"", vec!["a b [2J"]),
            (r#"199 - "other code""#, vec![]),
            (r#"299 host:80 "an agent""#, vec![]),
            (r#"299 - "no end"#, vec![]),
            (r#"299 - "no end\"#, vec![]),
            (r#"299 - """#, vec![]),
            ("", vec![]),
            ("nonsense", vec![]),
        ] {
            assert_eq!(read(value), expected, "{value}");
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_comes_is_one_line(value in "(299 - \"|[ -~\\x00-\\x1f\\u{80}-\\u{9f}\"\\\\]){0,12}") {
            for words in read(&value) {
                assert!(!words.chars().any(char::is_control) && !words.is_empty());
            }
        }
    }

    #[test]
    fn each_is_told_once_and_not_too_many() {
        let heard: Arc<Mutex<Vec<String>>> = Arc::default();
        let notes = Arc::clone(&heard);
        let told: Warned =
            Arc::new(move |host, words| notes.lock().unwrap().push(format!("{host}: {words}")));
        let warnings = Warnings::new(Some(told));
        let headers = |values: &[String]| {
            let all = values.iter().map(|value| (header::WARNING, HeaderValue::from_str(value).unwrap()));
            let mut headers = HeaderMap::new();
            headers.extend(all);
            headers
        };
        let one = headers(&["299 - \"a\"".to_owned()]);
        warnings.hear("h", &one);
        warnings.hear("h", &one);
        warnings.hear("i", &one);
        assert_eq!(*heard.lock().unwrap(), ["h: a", "i: a"]);
        warnings.hear("j", &headers(&vec![format!("299 - \"{}\"", "x".repeat(3000)); 3]));
        assert_eq!(heard.lock().unwrap().len(), 3, "no more than 4096 bytes of a reply are looked at");
        for at in 0..100 {
            warnings.hear("k", &headers(&[format!("299 - \"{at}\"")]));
        }
        assert_eq!(heard.lock().unwrap().len(), limits::WARNINGS);
    }
}
