//! `COPY --optional`: sources become patterns, because a pattern that matches nothing is no error.

use super::BAD_OPTIONAL;
use super::rewrite::Edit;
use crate::{Diagnostic, Node, Word};

/// The flag, if the node has it.
pub(super) fn flag(node: &Node) -> Option<&Word> {
    flags(node).next()
}

fn flags(node: &Node) -> impl Iterator<Item = &Word> {
    let is_optional = |flag: &&Word| flag.text == "--optional" || flag.text.starts_with("--optional=");
    node.flags.iter().filter(|_| node.keyword == "copy").filter(is_optional)
}

/// The edits that lower `node`; none when it is an ordinary COPY.
pub(super) fn lower(node: &Node, text: &str, escape: char) -> Result<Vec<Edit>, Diagnostic> {
    let Some(flag) = flag(node) else { return Ok(Vec::new()) };
    if let Some(again) = flags(node).nth(1) {
        return Err(Diagnostic::error(BAD_OPTIONAL, again.span, "flag `--optional` is given twice")
            .with_note("it is first given here", Some(flag.span)));
    }
    let wanted = match flag.text.strip_prefix("--optional=").map(str::to_lowercase).as_deref() {
        None | Some("true") => true,
        Some("false") => false,
        Some(_) => {
            let message = format!("flag `{}` is neither true nor false", flag.text);
            return Err(Diagnostic::error(BAD_OPTIONAL, flag.span, message));
        }
    };
    let blanks = text[flag.span.end..].len() - text[flag.span.end..].trim_start_matches([' ', '\t']).len();
    let mut edits = vec![(flag.span.start..flag.span.end + blanks, String::new())];
    let sources = node.args.split_last().map_or(&[][..], |(_, sources)| sources);
    for source in sources.iter().filter(|_| wanted) {
        let is_heredoc = !node.json && crate::parse::heredoc_opening(&source.text).is_some();
        if is_heredoc || always_exists(&source.text) {
            continue;
        }
        let written = &text[source.span.start..source.span.end];
        let pattern = pattern(&source.text, escape).filter(|_| node.json || written == source.text);
        let Some(pattern) = pattern else {
            let message = format!("`{}` cannot be made optional", source.text);
            return Err(Diagnostic::error(BAD_OPTIONAL, source.span, message)
                .with_note("some letter or digit outside variables is needed to make it a pattern", None));
        };
        let with = if node.json { serde_json::Value::String(pattern).to_string() } else { pattern };
        edits.push((source.span.start..source.span.end, with));
    }
    Ok(edits)
}

/// The context's root: it is there in every build.
fn always_exists(path: &str) -> bool {
    path.split('/').all(|part| matches!(part, "" | "."))
}

/// `path` with one of its characters in brackets, the first one that can be. Builders look for a pattern below the part
/// before its first special character, and that part must exist: the earlier the brackets, the better.
fn pattern(path: &str, escape: char) -> Option<String> {
    let mut depth = 0_usize;
    let mut chars = path.char_indices().peekable();
    while let Some((at, ch)) = chars.next() {
        match ch {
            '$' if chars.peek().is_some_and(|next| next.1 == '{') => depth += 1,
            '$' => while chars.next_if(|next| next.1.is_alphanumeric() || next.1 == '_').is_some() {},
            '}' => depth = depth.saturating_sub(1),
            '\'' | '"' => return None,
            _ if ch == escape || ch == '\\' => drop(chars.next()),
            '*' | '?' | '[' if depth == 0 => return Some(path.to_owned()),
            _ if depth == 0 && ch.is_alphanumeric() => {
                return Some(format!("{}[{ch}]{}", &path[..at], &path[at + ch.len_utf8()..]));
            }
            _ => {}
        }
    }
    None
}
