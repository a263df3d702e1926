//! INCLUDE: the text of other files in its place.

use super::map::{LineOrigin, Lowered};
use super::{
    BAD_FRAGMENT, BAD_INCLUDE, IN_TRIGGER, Loader, MAX_INCLUDE_DEPTH, MAX_INCLUDES, MAX_LOWERED_BYTES,
    TOO_MUCH, UNREADABLE, is_foreign, is_keyword, is_marker,
};
use crate::diagnostic::code;
use crate::parse::parse_trigger;
use crate::{Comment, Diagnostic, Dockerfile, Node, Span, parse};

/// What stands in the marker's place, so that the file's comments keep their lines.
const LOWERED_NOTE: &str = "# lowered from a recipe with slipway extensions";

/// The recipe with every INCLUDE carried out.
pub(super) fn expand(
    source: &str,
    file: &Dockerfile,
    loader: Loader<'_>,
) -> Result<Lowered, Vec<Diagnostic>> {
    let mut includer = Includer {
        loader,
        escape: file.directives.escape,
        count: 0,
        stack: Vec::new(),
        out: Lowered::default(),
    };
    includer.file(source, file, None).map_err(|found| vec![*found])?;
    Ok(includer.out)
}

/// Boxed because diagnostics are large and errors rare.
type Outcome<T> = Result<T, Box<Diagnostic>>;

struct Includer<'l> {
    loader: Loader<'l>,
    escape: char,
    count: usize,
    /// The paths that are being included, outermost first.
    stack: Vec<String>,
    out: Lowered,
}

impl Includer<'_> {
    /// Takes over a file line by line; `outer` is the recipe's INCLUDE that leads here.
    fn file(&mut self, source: &str, file: &Dockerfile, outer: Option<Span>) -> Outcome<()> {
        let mut nodes = file.nodes.iter().filter(|node| node.keyword == "include").peekable();
        let mut comments = file.comments.iter().peekable();
        let first = file.nodes.first().map_or(u32::MAX, |node| node.start_line);
        let mut skip_to = 0;
        for (number, text) in (1..).zip(source.split_inclusive('\n')) {
            while comments.next_if(|comment| comment.span.line < number).is_some() {}
            if let Some(node) = nodes.next_if(|node| node.start_line == number) {
                self.include(node, outer)?;
                skip_to = node.end_line;
            }
            if number <= skip_to {
                continue;
            }
            let comment = comments.peek().filter(|comment| comment.span.line == number);
            if outer.is_some() && comment.is_some_and(|comment| number < first && is_directive(comment)) {
                continue;
            }
            if comment.is_some_and(|comment| number < first && is_marker(&comment.text)) {
                let end = if text.ends_with("\r\n") { "\r\n" } else { "\n" };
                self.push(&format!("{LOWERED_NOTE}{end}"), number, outer, false)?;
                continue;
            }
            let text = if outer.is_some() { text.strip_prefix('\u{feff}').unwrap_or(text) } else { text };
            self.push(text, number, outer, true)?;
        }
        Ok(())
    }

    fn push(&mut self, text: &str, line: u32, include: Option<Span>, is_verbatim: bool) -> Outcome<()> {
        if self.out.text.len() + text.len() >= MAX_LOWERED_BYTES {
            let message =
                format!("the recipe with its included files is longer than {MAX_LOWERED_BYTES} bytes");
            return Err(Box::new(Diagnostic::error(TOO_MUCH, include.unwrap_or_default(), message)));
        }
        // Whatever comes after must not continue the last line of a file.
        let end = if text.ends_with('\n') { "" } else { "\n" };
        let origin = LineOrigin { path: self.stack.last().cloned(), line, include, is_verbatim };
        self.out.push(&format!("{text}{end}"), origin);
        Ok(())
    }

    fn include(&mut self, node: &Node, outer: Option<Span>) -> Outcome<()> {
        let place = outer.unwrap_or(node.span);
        let path = path_of(node).map_err(|problem| self.error(BAD_INCLUDE, place, node, &problem))?;
        if self.stack.contains(&path) {
            let circle = format!("`{path}` includes itself, through {}", self.stack.join(" and "));
            return Err(self.error(TOO_MUCH, place, node, &circle));
        }
        self.count += 1;
        if self.stack.len() == MAX_INCLUDE_DEPTH {
            return Err(self.error(
                TOO_MUCH,
                place,
                node,
                &format!("INCLUDE is nested deeper than {MAX_INCLUDE_DEPTH} levels"),
            ));
        }
        if self.count > MAX_INCLUDES {
            return Err(self.error(
                TOO_MUCH,
                place,
                node,
                &format!("more than {MAX_INCLUDES} files are included"),
            ));
        }
        let text = (self.loader)(&path).map_err(|problem| {
            self.error(UNREADABLE, place, node, &format!("cannot include `{path}`: {problem}"))
        })?;
        let fragment = self.fragment(&path, &text, place)?;
        self.stack.push(path);
        self.file(&text, &fragment, Some(place))?;
        self.stack.pop();
        Ok(())
    }

    fn error(&self, code: &'static str, place: Span, node: &Node, problem: &str) -> Box<Diagnostic> {
        let message = match self.stack.last() {
            Some(path) => format!("`{path}` line {}: {problem}", node.start_line),
            None => problem.to_owned(),
        };
        Box::new(Diagnostic::error(code, place, message))
    }

    /// Judges a file to be included: a piece of a recipe that is whole in itself and has the same escape character.
    fn fragment(&self, path: &str, text: &str, place: Span) -> Outcome<Dockerfile> {
        let refuse = |line: u32, problem: &str| {
            Err(Box::new(Diagnostic::error(BAD_FRAGMENT, place, format!("`{path}` line {line}: {problem}"))))
        };
        if let Some(directive) = parse(text).file.directives.escape_directive
            && directive.value != self.escape.to_string()
        {
            let problem =
                format!("its escape character differs from the recipe's, which is `{}`", self.escape);
            return refuse(directive.span.line, &problem);
        }
        let parsed = parse_trigger(text, self.escape);
        let wrong = |found: &&Diagnostic| is_foreign(found, text) && found.code != code::EMPTY_FILE;
        if let Some(found) = parsed.diagnostics.iter().find(wrong) {
            let mut diagnostic = Diagnostic::error(
                BAD_FRAGMENT,
                place,
                format!("`{path}` line {}: {}", found.span.line, found.message),
            );
            diagnostic.hint.clone_from(&found.hint);
            return Err(Box::new(diagnostic));
        }
        // A continuation on the last line would swallow what follows the INCLUDE.
        if let Some(last) = parsed.file.nodes.last()
            && last.heredocs.is_empty()
            && parse_trigger(&format!("{}\nFROM x\n", text.trim_end_matches(['\r', '\n'])), self.escape)
                .file
                .nodes
                .len()
                == parsed.file.nodes.len()
        {
            return refuse(last.end_line, "its last instruction is not finished: it ends in a continuation");
        }
        Ok(parsed.file)
    }
}

/// Whether a comment at the top of an included file is a directive: they count for whole recipes only.
fn is_directive(comment: &Comment) -> bool {
    let name = comment.text.split_once('=').map(|(name, _)| name.trim());
    name.is_some_and(|name| ["syntax", "escape"].iter().any(|known| known.eq_ignore_ascii_case(name)))
}

/// The cleaned path of an INCLUDE.
fn path_of(node: &Node) -> Result<String, String> {
    let mut words = node.original.split_whitespace().skip(1);
    let (Some(path), None) = (words.next(), words.next()) else {
        return Err("INCLUDE takes exactly one path".to_owned());
    };
    let path = path.trim_matches('"');
    if path.contains('$') {
        return Err(format!("`{path}` holds a variable, which INCLUDE does not expand"));
    }
    if path.starts_with('/') {
        return Err(format!("`{path}` is not relative to the context"));
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/').filter(|part| !matches!(*part, "" | ".")) {
        if part != ".." {
            parts.push(part);
        } else if parts.pop().is_none() {
            return Err(format!("`{path}` leads out of the context"));
        }
    }
    if parts.is_empty() { Err(format!("`{path}` names no file")) } else { Ok(parts.join("/")) }
}

/// Reports extensions inside ONBUILD: the trigger is carried out by whoever builds on the image, as plain text.
pub(super) fn in_trigger(node: &Node) -> Option<Diagnostic> {
    let child = node.child.as_deref()?;
    let is_extension = is_keyword(&child.keyword) || super::optional::flag(child).is_some();
    is_extension.then(|| {
        Diagnostic::error(IN_TRIGGER, child.span, "extensions cannot stand inside ONBUILD")
            .with_hint("the trigger is kept as text for other builds, which may know nothing of extensions")
    })
}
