//! What is under the pointer, explained.

use super::{context, docs};
use crate::parse;

/// The text for the place, as Markdown.
pub(super) fn text(source: &str, offset: usize) -> Option<String> {
    let file = parse(source).file;
    if context::in_heredoc(&file, offset) {
        return None;
    }
    let node = context::node_at(&file, offset)?;
    if offset <= node.keyword_span.end {
        let (_, form, words) = docs::instruction(&node.keyword)?;
        return Some(format!("```dockerfile\n{form}\n```\n{words}"));
    }
    if let Some(flag) = node.flags.iter().find(|flag| flag.span.start <= offset && offset <= flag.span.end) {
        let name = flag.text.split('=').next().unwrap_or_default();
        let in_value = offset > flag.span.start + name.len();
        if name == "--mount" && in_value {
            return mount(source, offset);
        }
        let (_, name, words) = docs::flags(&node.keyword).find(|known| known.1 == name)?;
        return Some(format!("`{name}`: {words}"));
    }
    let (word, start) = context::word_at(source, offset, "_");
    let is_variable = source[..start].ends_with('$') || source[..start].ends_with("${");
    let (_, setter) =
        context::variables(&file, offset).filter(|_| is_variable).filter(|(name, _)| *name == word).last()?;
    Some(format!("`{word}` is set on line {}:\n```dockerfile\n{}\n```", setter.start_line, setter.original))
}

fn mount(source: &str, offset: usize) -> Option<String> {
    let (word, start) = context::word_at(source, offset, "");
    if source[..start].ends_with("type=") {
        let (kind, words) = docs::MOUNT_TYPES.iter().find(|known| known.0 == word)?;
        return Some(format!("`type={kind}`: {words}"));
    }
    let (types, key, words) = docs::mount_key(word)?;
    let types = if types.is_empty() { String::new() } else { format!(" ({})", types.replace(' ', ", ")) };
    Some(format!("`{key}`{types}: {words}"))
}
