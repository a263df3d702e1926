//! ADD and COPY.

use super::Judge;
use super::flags::Given;
use crate::chmod::Chmod;
use crate::diagnostic::code;
use crate::parse::{Opening, heredoc_opening};
use crate::{Diagnostic, Heredoc, Node, Source, Transfer, Word};

impl Judge {
    pub(super) fn add(&mut self, node: &Node, heredocs: &[Heredoc]) -> Option<Transfer> {
        let (flags, transfer) = self.transfer(node, heredocs)?;
        Some(Transfer {
            checksum: flags.value("checksum"),
            keep_git_dir: flags.boolean("keep-git-dir"),
            unpack: flags.boolean("unpack"),
            ..transfer
        })
    }

    pub(super) fn copy(&mut self, node: &Node, heredocs: &[Heredoc]) -> Option<Transfer> {
        let (flags, transfer) = self.transfer(node, heredocs)?;
        if let Some((from, span)) = flags.located("from") {
            self.refuse_variable("`--from`", from, span);
        }
        Some(Transfer {
            from: flags.value("from"),
            parents: flags.boolean("parents").unwrap_or(false),
            ..transfer
        })
    }

    /// What both have: sources, destination, owner and mode.
    fn transfer(&mut self, node: &Node, heredocs: &[Heredoc]) -> Option<(Given, Transfer)> {
        let flags = self.flags(node);
        let name = node.keyword.to_uppercase();
        let (destination, sources) = match node.args.split_last() {
            Some((destination, sources)) if !sources.is_empty() => (destination, sources),
            _ => {
                let span = node.args.first().map_or(node.keyword_span, |word| word.span);
                self.report(
                    Diagnostic::error(
                        code::MISSING_ARGUMENTS,
                        span,
                        format!("{name} needs a source and a destination"),
                    )
                    .with_expected(format!("`{name} SOURCE… DESTINATION`")),
                );
                return None;
            }
        };
        if !node.json && heredoc_opening(&destination.text).is_some() {
            self.report(
                Diagnostic::error(
                    code::HEREDOC_DESTINATION,
                    destination.span,
                    "a heredoc cannot be the destination",
                )
                .with_hint(format!("put the file's path after it: `{name} {} /path`", destination.text)),
            );
            return None;
        }
        self.check_mode(&flags);
        let sources = self.sources(node, sources, heredocs)?;
        let transfer = Transfer {
            sources,
            destination: destination.text.clone(),
            chown: flags.value("chown"),
            chmod: flags.value("chmod"),
            link: flags.boolean("link").unwrap_or(false),
            exclude: flags.values("exclude"),
            ..Transfer::default()
        };
        Some((flags, transfer))
    }

    /// A mode without variables can be judged now.
    fn check_mode(&mut self, flags: &Given) {
        let Some((mode, span)) = flags.located("chmod") else { return };
        if mode.contains(['$', '\'', '"', '\\', self.escape]) {
            return;
        }
        if let Err(error) = Chmod::parse(mode) {
            self.report(
                Diagnostic::error(code::BAD_FLAG_VALUE, span, error.to_string())
                    .with_expected("octal digits up to 7777, or symbols such as `u=rwX,go=rX`"),
            );
        }
    }

    fn sources(&mut self, node: &Node, words: &[Word], heredocs: &[Heredoc]) -> Option<Vec<Source>> {
        let mut sources = Vec::with_capacity(words.len());
        let mut words = words.iter().peekable();
        while let Some(word) = words.next() {
            let mut opening = heredoc_opening(&word.text).filter(|_| !node.json);
            // `<< EOF`: the delimiter has become a word of its own.
            if opening.is_none()
                && let Some(next) = words.peek()
                && let Some(joined) = spaced_opening(word, next, heredocs).filter(|_| !node.json)
            {
                words.next();
                opening = Some(joined);
            }
            let Some(opening) = opening else {
                sources.push(Source::Path(word.text.clone()));
                continue;
            };
            // Of two heredocs with one name the later gives the content, as BuildKit looks them up.
            let Some(found) = heredocs.iter().rfind(|heredoc| heredoc.name == opening.name) else {
                self.error(code::LOST_HEREDOC, word.span, format!("heredoc `{}` has no body", opening.name));
                return None;
            };
            sources.push(Source::Heredoc(stripped(found)));
        }
        Some(sources)
    }
}

/// The heredoc that `<<` and the delimiter after a space announce, if parsing found one of that name.
fn spaced_opening(word: &Word, next: &Word, heredocs: &[Heredoc]) -> Option<Opening> {
    let operator = word.text.trim_start_matches(|ch: char| ch.is_ascii_digit());
    let joined = heredoc_opening(&format!("{}{}", word.text, next.text))
        .filter(|_| matches!(operator, "<<" | "<<-"))?;
    heredocs.iter().any(|heredoc| heredoc.name == joined.name).then_some(joined)
}

/// The heredoc with `<<-` applied.
pub(super) fn stripped(heredoc: &Heredoc) -> Heredoc {
    Heredoc { content: heredoc.body().into_owned(), ..heredoc.clone() }
}
