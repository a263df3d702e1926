//! How numbers, times and names are written, and what keeps texts of others harmless.

use crate::server::storage::written;
use maud::{Markup, html};
use slipway_oci::{Digest, spec::rfc3339};
use std::{borrow::Cow, fmt::Write};

/// Most characters of one text of others that a page shows.
const TEXT_CHARACTERS: usize = 4000;

/// A size: `1.5 MB`.
pub(super) fn size(bytes: u64) -> String {
    let (mut value, mut unit) = (bytes as f64, "B");
    for next in ["kB", "MB", "GB", "TB", "PB"] {
        if value < 999.5 {
            break;
        }
        (value, unit) = (value / 1000.0, next);
    }
    match unit {
        "B" => format!("{bytes} B"),
        _ if value < 9.95 => format!("{value:.1} {unit}"),
        _ => format!("{value:.0} {unit}"),
    }
}

/// A size in the units of a quota: `1.5 GiB`.
pub(super) fn size_of(bytes: u64, most: u64) -> String {
    let text = written(bytes, most);
    let unit = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    format!("{} {}", &text[..unit], &text[unit..])
}

/// A number with its digits in groups.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push('\u{2009}');
        }
        text.push(digit);
    }
    text
}

/// A number of things.
pub(super) fn things(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}

/// How long ago: `3 days ago`.
pub(super) fn ago(now: i64, at: i64) -> String {
    let seconds = now.saturating_sub(at);
    let (number, unit) = match seconds {
        ..0 => return "in the future".to_owned(),
        0..60 => return "just now".to_owned(),
        60..3600 => (seconds / 60, "minute"),
        3600..86_400 => (seconds / 3600, "hour"),
        86_400..2_592_000 => (seconds / 86_400, "day"),
        2_592_000..31_536_000 => (seconds / 2_592_000, "month"),
        _ => (seconds / 31_536_000, "year"),
    };
    format!("{number} {unit}{} ago", if number == 1 { "" } else { "s" })
}

/// A moment.
pub(super) fn moment(at: i64) -> String {
    rfc3339::format(at).replace('T', " ").replace('Z', " UTC")
}

/// An age with the moment behind it.
pub(super) fn age(now: i64, at: i64) -> Markup {
    html! { time datetime=(rfc3339::format(at)) title=(moment(at)) { (ago(now, at)) } }
}

/// The first digits of a digest.
pub(super) fn short(digest: &Digest) -> String {
    let text = digest.to_string();
    text.split_once(':').map_or("", |(_, hex)| hex).chars().take(12).collect()
}

/// A digest in short, whole behind it, and to copy.
pub(super) fn digest(digest: &Digest) -> Markup {
    html! { code.digest title=(digest) { (short(digest)) } (copy(&digest.to_string(), "digest")) }
}

/// A button that copies a text; the script shows it.
pub(super) fn copy(text: &str, what: &str) -> Markup {
    html! { button.copy type="button" data-copy=(text) aria-label={ "Copy " (what) } hidden { "Copy" } }
}

/// A text of others that is not too long.
pub(super) fn text(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(TEXT_CHARACTERS) {
        None => Cow::Borrowed(text),
        Some((end, _)) => {
            Cow::Owned(format!("{} … ({} more)", &text[..end], size((text.len() - end) as u64)))
        }
    }
}

/// A file's name or path: what is no text, or would end a line, is written as its bytes are in Rust.
pub(super) fn path(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\n' => text.push_str("\\n"),
                '\t' => text.push_str("\\t"),
                c => text.push(c),
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

/// Whether a character could make a reader see something else than what is there: controls, marks that turn the direction of
/// text around ("Trojan Source", CVE-2021-42574), and what cannot be seen at all.
fn deceives(c: char) -> bool {
    matches!(c,
        '\0'..='\u{8}' | '\u{b}'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}'
        | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}' | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0000}'..='\u{e0fff}')
}

/// The document with such characters written as their numbers. It is asked for whole pages, so that no place can be forgotten; a
/// page's own words have none of them.
pub(super) fn harmless(document: String) -> String {
    if !document.chars().any(deceives) {
        return document;
    }
    let mut text = String::with_capacity(document.len() + 64);
    for c in document.chars() {
        if deceives(c) {
            let _ = write!(text, "⟨U+{:04X}⟩", u32::from(c));
        } else {
            text.push(c);
        }
    }
    text
}

/// A link of others: to where it says, if that is the web, in its own words.
pub(super) fn value(value: &str) -> Markup {
    let web = value.starts_with("https://") || value.starts_with("http://");
    let plain = value.len() <= 2000
        && value.chars().all(|c| c.is_ascii_graphic() && !matches!(c, '"' | '<' | '>' | '\\' | '`'));
    html! {
        @if web && plain { a href=(value) rel="noopener noreferrer nofollow" { (value) } }
        @else { (text(value)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_people() {
        for (bytes, expected) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (9_949, "9.9 kB"),
            (9_960, "10 kB"),
            (999_499, "999 kB"),
            (999_500, "1.0 MB"),
            (1_500_000_000, "1.5 GB"),
            (u64::MAX, "18447 PB"),
        ] {
            assert_eq!(size(bytes), expected);
        }
        assert_eq!(count(1_234_567), "1\u{2009}234\u{2009}567");
        assert_eq!((count(0).as_str(), count(100).as_str()), ("0", "100"));
        for (seconds, expected) in [
            (-1, "in the future"),
            (59, "just now"),
            (60, "1 minute ago"),
            (7200, "2 hours ago"),
            (86_400, "1 day ago"),
            (400 * 86_400, "1 year ago"),
        ] {
            assert_eq!(ago(1_000_000_000, 1_000_000_000 - seconds), expected);
        }
        assert_eq!(ago(i64::MAX, i64::MIN), "292471208677 years ago");
    }

    #[test]
    fn what_deceives_is_shown_as_its_number() {
        for (from, to) in [
            ("plain é 日本 😀\n\ttext", "plain é 日本 😀\n\ttext"),
            ("a\u{202e}gnp.exe", "a⟨U+202E⟩gnp.exe"),
            ("\u{1b}[2J\0", "⟨U+001B⟩[2J⟨U+0000⟩"),
            ("\u{2066}x\u{2069}\u{200b}\u{feff}", "⟨U+2066⟩x⟨U+2069⟩⟨U+200B⟩⟨U+FEFF⟩"),
            ("\r\n\u{85}\u{2028}", "⟨U+000D⟩\n⟨U+0085⟩⟨U+2028⟩"),
            ("\u{e0041}", "⟨U+E0041⟩"),
        ] {
            assert_eq!(harmless(from.to_owned()), to);
        }
        assert_eq!(path(b"a\xff\nb\t\xc3\xa9"), "a\\xff\\nb\\té");
        assert!(text(&"é".repeat(10_000)).chars().count() < 4100);
    }

    #[test]
    fn links_lead_to_the_web_or_nowhere() {
        for (text, linked) in [
            ("https://example.org/a?b#c", true),
            ("http://example.org", true),
            ("javascript:alert(1)", false),
            ("JavaScript:alert(1)", false),
            (" https://example.org", false),
            ("data:text/html,<script>", false),
            ("//example.org", false),
            ("https://a\" onclick=\"x", false),
            ("https://a/\u{202e}b", false),
            ("ftp://example.org", false),
            ("see https://example.org", false),
        ] {
            let markup = value(text).into_string();
            assert_eq!(markup.contains("<a "), linked, "{text}: {markup}");
            assert!(!linked || markup.contains("rel=\"noopener noreferrer nofollow\""));
        }
    }
}
