//! Text of others, fit for a terminal.
//!
//! What a registry answers, an image is called, a label says or a step prints was written by somebody else, and a
//! terminal obeys what it is shown: escape sequences move the cursor, change its title and paste into the clipboard,
//! bidirectional controls turn `rm -rf` round, invisible characters hide what a name really is. So:
//!
//! - escape sequences (ECMA-48: CSI, OSC and the other strings, in both their spellings) are left out;
//! - other controls, bidirectional controls and invisible characters are shown as JSON would write them (`\u202e`), so
//!   that JSON on a terminal stays JSON with the same meaning;
//! - line ends and tabs stay.
//!
//! [`super::note`] and [`super::say`] apply it; nothing else in this crate writes to a terminal.

use std::borrow::Cow;
use unicode_width::UnicodeWidthChar;

/// Text without anything that a terminal would obey.
pub(crate) fn plain(text: &str) -> Cow<'_, str> {
    clean(text, false)
}

/// The same, but colours stay, and end with the text.
pub(crate) fn coloured(text: &str) -> Cow<'_, str> {
    clean(text, true)
}

/// The same on one line.
pub(crate) fn line(text: &str) -> String {
    plain(text)
        .split(['\n', '\t'])
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

/// Lines as a terminal shows them in the end: a carriage return or a backspace goes back, as progress bars do, and what
/// comes then stands over what was there. Colours stay.
pub(crate) fn settled(text: &str) -> Cow<'_, str> {
    // the end of a line as other systems write it is no way back
    let goes_back = |line: &str| line.trim_end_matches(['\r', '\n']).contains(['\r', '\x08']);
    if !text.split_inclusive('\n').any(|line| goes_back(line) || line.ends_with('\r')) {
        return Cow::Borrowed(text);
    }
    text.split_inclusive('\n').map(settled_line).collect::<String>().into()
}

/// Furthest to the right that a line is followed.
const COLUMNS: usize = 4096;

/// A line without its end, cell by cell.
fn settled_line(text: &str) -> String {
    let end = if text.ends_with('\n') { "\n" } else { "" };
    let mut rest = text.trim_end_matches(['\r', '\n']);
    let (mut cells, mut at, mut before) = (Vec::<String>::new(), 0, String::new());
    while let Some(c) = rest.chars().next() {
        let length = match sequence(rest) {
            Some(length) => {
                let own = &rest[..length];
                match is_colour(own) {
                    true => before.push_str(own),
                    false => moves(own, &mut cells, &mut at),
                }
                length
            }
            None => {
                match c {
                    '\r' => at = 0,
                    '\x08' => at = at.saturating_sub(1),
                    // what takes no cell belongs to the one before
                    c if at > 0 && c.width() == Some(0) && at <= cells.len() => cells[at - 1].push(c),
                    c => {
                        if cells.len() <= at {
                            cells.resize(at + 1, " ".to_owned());
                        }
                        cells[at] = std::mem::take(&mut before) + c.encode_utf8(&mut [0; 4]);
                        at += 1;
                    }
                }
                c.len_utf8()
            }
        };
        rest = &rest[length..];
    }
    cells.concat() + &before + end
}

/// What a control sequence does on its line (ECMA-48: CUF, CUB, CHA, EL); whatever else it does is left out.
fn moves(sequence: &str, cells: &mut Vec<String>, at: &mut usize) {
    let Some((number, kind)) =
        sequence.strip_prefix("\x1b[").and_then(|body| body.split_at_checked(body.len() - 1))
    else {
        return;
    };
    let count = number.parse::<usize>().unwrap_or(1).clamp(1, COLUMNS);
    match (kind, number) {
        ("C", _) => *at = (*at + count).min(COLUMNS),
        ("D", _) => *at = at.saturating_sub(count),
        ("G", _) => *at = count - 1,
        ("K", "" | "0") => cells.truncate(*at),
        ("K", "1") => cells.iter_mut().take(*at + 1).for_each(|cell| " ".clone_into(cell)),
        ("K", "2") => cells.clear(),
        _ => {}
    }
}

fn clean(text: &str, colours: bool) -> Cow<'_, str> {
    if !text.chars().any(steers) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let (mut rest, mut coloured) = (text, false);
    while let Some(c) = rest.chars().next() {
        let length = match sequence(rest) {
            Some(length) => {
                if colours && is_colour(&rest[..length]) {
                    out.push_str(&rest[..length]);
                    coloured = true;
                }
                length
            }
            // the end of a line as other systems write it
            None if c == '\r' && rest[1..].starts_with('\n') => 1,
            None if steers(c) => {
                escape(c, &mut out);
                c.len_utf8()
            }
            None => {
                out.push(c);
                c.len_utf8()
            }
        };
        rest = &rest[length..];
    }
    if coloured {
        out.push_str("\x1b[0m");
    }
    Cow::Owned(out)
}

/// Whether a character is not for showing.
fn steers(c: char) -> bool {
    match c {
        '\n' | '\t' => false,
        c if c.is_control() => true,
        // bidirectional marks, embeddings, overrides, isolates (Unicode, UAX #9)
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{206f}' => true,
        // separators that some programs take for line ends
        '\u{2028}' | '\u{2029}' => true,
        // invisible: zero width space, word joiner and operators, byte order mark, annotations, tags
        '\u{200b}' | '\u{2060}'..='\u{2065}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' => true,
        '\u{e0000}'..='\u{e007f}' => true,
        _ => false,
    }
}

fn escape(c: char, out: &mut String) {
    let mut units = [0; 2];
    for unit in c.encode_utf16(&mut units) {
        out.push_str(&format!("\\u{unit:04x}"));
    }
}

/// Length of the escape sequence that a text begins with.
fn sequence(text: &str) -> Option<usize> {
    let mut chars = text.char_indices();
    let (_, first) = chars.next()?;
    let (kind, from) = match first {
        '\x1b' => match chars.next()? {
            (_, kind @ ('[' | ']' | 'P' | 'X' | '^' | '_')) => (kind, 2),
            // intermediates, then a final character
            _ => {
                let end = text[1..].find(|c: char| !matches!(c, ' '..='/'))? + 1;
                return matches!(text[end..].chars().next(), Some('0'..='~')).then_some(end + 1);
            }
        },
        '\u{9b}' => ('[', 2),
        '\u{90}' | '\u{98}' | '\u{9d}'..='\u{9f}' => (']', 2),
        _ => return None,
    };
    let body = &text[from..];
    if kind == '[' {
        let end = body.find(|c: char| !matches!(c, ' '..='?')).map(|end| from + end)?;
        return matches!(text[end..].chars().next(), Some('@'..='~')).then_some(end + 1);
    }
    // a string without an end hides nothing: its beginning alone is shown for what it is
    let end = body.find(['\x07', '\u{9c}', '\x1b', '\n'])?;
    match body[end..].chars().next()? {
        '\x1b' => body[end + 1..].starts_with('\\').then_some(from + end + 2),
        '\n' => None,
        c => Some(from + end + c.len_utf8()),
    }
}

/// Whether a sequence does nothing but colour (SGR).
fn is_colour(sequence: &str) -> bool {
    let inner = sequence.strip_prefix("\x1b[").and_then(|rest| rest.strip_suffix('m'));
    inner.is_some_and(|inner| inner.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b';' | b':')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_steers_the_terminal() {
        for (text, expected) in [
            ("all is well: ä, 日本語, 👩‍👩‍👧, نص", "all is well: ä, 日本語, 👩‍👩‍👧, نص"),
            ("two\nlines\tand a tab", "two\nlines\tand a tab"),
            ("windows\r\nline", "windows\nline"),
            ("no \x1b[31mway\x1b[0m", "no way"),
            ("\x1b[2J\x1b[1;1Hhome", "home"),
            ("\x1b[?1049h\x1b[>4;2mx", "x"),
            ("title \x1b]0;owned\x07!", "title !"),
            ("clip \x1b]52;c;cm0gLXJm\x1b\\!", "clip !"),
            ("dcs \x1bP1$r0m\x1b\\!", "dcs !"),
            ("8 bit \u{9b}31mred \u{9d}0;t\u{9c}!", "8 bit red !"),
            ("charset \x1b(0x\x1b#8y\x1bcz", "charset xyz"),
            ("open \x1b]0;hides the rest", "open \\u001b]0;hides the rest"),
            ("open \x1b]0;a\nline\x07", "open \\u001b]0;a\nline\\u0007"),
            ("half \x1b[31", "half \\u001b[31"),
            ("half \x1b[31ü", "half \\u001b[31ü"),
            ("lone \x1b", "lone \\u001b"),
            (
                "bell \x07 back \x08 nul \0 del \x7f nel \u{85}",
                "bell \\u0007 back \\u0008 nul \\u0000 del \\u007f nel \\u0085",
            ),
            ("over\rwrite", "over\\u000dwrite"),
            ("rtl \u{202e}gnp.exe", "rtl \\u202egnp.exe"),
            ("isolate \u{2066}a\u{2069} mark \u{200f}\u{61c}", "isolate \\u2066a\\u2069 mark \\u200f\\u061c"),
            ("hid\u{200b}den\u{feff}\u{e0041}", "hid\\u200bden\\ufeff\\udb40\\udc41"),
            ("\u{2028}\u{2029}", "\\u2028\\u2029"),
        ] {
            assert_eq!(plain(text), expected, "{text:?}");
            assert_eq!(plain(&plain(text)), expected, "twice: {text:?}");
        }
    }

    #[test]
    fn colours_may_stay_and_end() {
        assert_eq!(coloured("\x1b[1;31mred\x1b[2Jx"), "\x1b[1;31mredx\x1b[0m");
        assert_eq!(coloured("\x1b[>4;2mx"), "x");
        assert_eq!(coloured("plain"), "plain");
    }

    #[test]
    fn json_stays_json_with_the_same_meaning() {
        let value = serde_json::json!({"a": "x\u{202e}y\x1b[31m\u{85}\u{e0041}\"\\"});
        let text = value.to_string();
        let shown = plain(&text);
        assert!(!shown.chars().any(steers), "{shown}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).expect("json"), value);
    }

    #[test]
    fn lines_are_shown_as_they_end_up() {
        for (text, expected) in [
            ("10%\r50%\r100%\n", "100%\n"),
            ("a\r\n", "a\r\n"),
            ("a\r\r\n", "a\r\r\n"),
            ("a\rb\r\nc", "b\nc"),
            ("", ""),
            ("x\r", "x"),
            ("plain\nlines\n", "plain\nlines\n"),
            ("\rprogress 1%\rprogress 22%", "progress 22%"),
            // what is shorter leaves the rest, as on a screen
            ("100%\r5", "500%"),
            ("100%\r\x1b[K5", "5"),
            ("100%\x1b[2K\r5", "5"),
            ("abc\x1b[1K\rx", "x  "),
            ("|\x08/\x08-\x08\\\x08|", "|"),
            ("working... \x08\x08\x08 done", "working. done"),
            ("\x08\x08a", "a"),
            ("ab\x1b[5Cx\ry", "yb     x"),
            ("abcdef\x1b[3Dx\ry", "ybcxef"),
            ("abc\x1b[2Gx\ry", "yxc"),
            ("\x1b[32m50%\x1b[0m\r\x1b[32m99%\x1b[0m", "\x1b[0m\x1b[32m99%\x1b[0m"),
            ("日本\r語", "語本"),
            ("e\u{301}x\ra", "ax"),
            ("home\x1b[2J\x1b[H\rx", "xome"),
            ("\x1b[999999999Cx\ry", &*format!("y{}x", " ".repeat(COLUMNS - 1))),
        ] {
            assert_eq!(settled(text), expected, "{text:?}");
        }
        assert_eq!(line("a\n  b\tc\x1b[m"), "a b c");
    }
}
