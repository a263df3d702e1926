//! COPY and ADD.

use super::{Mode, Walk};
use crate::chmod::Chmod;
use crate::glob::clean;
use crate::lint::fix::Edit;
use crate::lint::{codes, rules, secrets};
use crate::{Diagnostic, Node, Source, Span, Transfer};

/// Endings of files that ADD unpacks, or may.
const ARCHIVES: [&str; 12] = [
    ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tbz", ".tar.xz", ".txz", ".tar.zst", ".gz", ".xz",
    ".bz2",
];

impl Walk<'_, '_, '_> {
    pub(super) fn transfer(&mut self, node: &Node, transfer: &Transfer, is_add: bool) {
        for text in [&transfer.chown, &transfer.checksum].into_iter().flatten() {
            self.word(node, text);
        }
        self.mode(node, transfer);
        let mut sources = Vec::new();
        for source in &transfer.sources {
            match source {
                Source::Path(path) => {
                    let value = self.word(node, path).filter(|value| value.is_known);
                    sources.push((path, value.map(|value| value.text)));
                }
                Source::Heredoc(heredoc) if heredoc.expand => {
                    self.expand(node, &heredoc.content, Mode::Body);
                }
                Source::Heredoc(_) => {}
            }
        }
        for (written, value) in &sources {
            let Some(path) = value else { continue };
            let span = node
                .args
                .iter()
                .find(|word| word.text == **written)
                .map_or(node.keyword_span, |word| word.span);
            self.remote(node, path, span, is_add);
            if transfer.from.is_none() && !is_remote(path) {
                self.ignored(node, path, span, is_add);
            }
            self.secret_file(node, path, span);
        }
        self.checksum(node, transfer);
        if is_add {
            self.add_instead_of_copy(node, transfer, &sources);
        }
        self.destination(node, transfer, &sources);
    }

    fn mode(&mut self, node: &Node, transfer: &Transfer) {
        let Some(written) = &transfer.chmod else { return };
        let Some(value) = self.word(node, written).filter(|value| value.is_known) else { return };
        // Modes without variables have been judged already.
        if let Err(error) = Chmod::parse(&value.text)
            && written.contains('$')
            && !value.text.is_empty()
        {
            let span = node.flags.iter().find(|flag| flag.text.starts_with("--chmod"));
            let span = span.map_or(node.keyword_span, |flag| flag.span);
            self.error(Diagnostic::error(codes::BAD_TRANSFER, span, error.to_string()));
        }
    }

    /// COPY fetches nothing.
    fn remote(&mut self, _node: &Node, path: &str, span: Span, is_add: bool) {
        if is_add || !is_remote(path) {
            return;
        }
        let what = if is_git(path) { "a git ref" } else { "a URL" };
        self.error(
            Diagnostic::error(codes::BAD_TRANSFER, span, format!("source can't be {what} for COPY"))
                .with_hint("use ADD"),
        );
    }

    fn checksum(&mut self, node: &Node, transfer: &Transfer) {
        if transfer.checksum.is_none() {
            return;
        }
        let span = node.flags.iter().find(|flag| flag.text.starts_with("--checksum"));
        let span = span.map_or(node.keyword_span, |flag| flag.span);
        let message = match transfer.sources.as_slice() {
            [Source::Path(path)] if path.contains('$') || is_remote(path) => return,
            [_] => "checksum requires HTTP(S) or Git sources",
            _ => "checksum can't be specified for multiple sources",
        };
        self.error(Diagnostic::error(codes::BAD_TRANSFER, span, message));
    }

    /// Rule CopyIgnoredFile.
    fn ignored(&mut self, node: &Node, path: &str, span: Span, is_add: bool) {
        let (Some(text), Some(ignore)) = (&self.options.ignore_file, self.ignore) else { return };
        let path = clean(path);
        let is_ignored = if path == "." || path == "/" {
            // The root is ignored only by a pattern for everything, and when nothing is brought back.
            let mut lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
            let all = lines.clone().any(|line| matches!(line.trim_start_matches('/'), "*" | "**" | "**/*"));
            all && !lines.any(|line| line.starts_with('!'))
        } else {
            ignore.matches(&path, false) && !ignore.may_reinclude_below(&path)
        };
        if is_ignored {
            let command = if is_add { "Add" } else { "Copy" };
            let message = format!("Attempting to {command} file {path:?} that is excluded by .dockerignore");
            self.reporter.warn(node, &rules::COPY_IGNORED_FILE, span, message).hint(format!(
                "bring it back with a line `!{}` in the ignore file",
                path.trim_start_matches('/')
            ));
        }
    }

    /// Rule SecretFileCopied.
    fn secret_file(&mut self, node: &Node, path: &str, span: Span) {
        if secrets::is_secret_file(path) {
            let message = format!("`{path}` holds secrets as a rule, and becomes part of a layer");
            self.reporter
                .warn(node, &rules::SECRET_FILE_COPIED, span, message)
                .hint("give it to the RUN that needs it: `RUN --mount=type=secret,id=…,target=…`");
        }
    }

    /// Rule AddInsteadOfCopy.
    fn add_instead_of_copy(
        &mut self,
        node: &Node,
        transfer: &Transfer,
        sources: &[(&String, Option<String>)],
    ) {
        let special =
            transfer.checksum.is_some() || transfer.unpack.is_some() || transfer.keep_git_dir.is_some();
        let is_plain = |path: &String| {
            let base = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
            // A pattern may match an archive, and a variable may be anything.
            !is_remote(path)
                && !path.contains(['*', '?', '[', '$'])
                && !ARCHIVES.iter().any(|ending| base.to_lowercase().ends_with(ending))
        };
        let plain = sources
            .iter()
            .all(|(written, value)| !written.contains('$') && value.as_ref().is_some_and(is_plain));
        if special || !plain {
            return;
        }
        let upper = self.view.keyword(node).starts_with('A');
        let word = if upper { "COPY" } else { "copy" };
        let span = node.keyword_span;
        let whole = self.view.keyword(node).len() == 3;
        self.reporter
            .warn(node, &rules::ADD_INSTEAD_OF_COPY, span, "ADD does nothing here that COPY does not")
            .hint("use COPY: it never fetches and never unpacks")
            .fix_all(whole.then(|| vec![Edit::replace(span.start, span.end, word)]));
    }

    /// Remembers where the files went.
    fn destination(&mut self, node: &Node, transfer: &Transfer, sources: &[(&String, Option<String>)]) {
        let lock = ["package-lock.json", "npm-shrinkwrap.json"];
        let has_lock = sources.iter().any(|(written, _)| lock.iter().any(|name| written.ends_with(name)));
        self.environment.npm_lock |= has_lock;
        let Some(value) = self.word(node, &transfer.destination).filter(|value| value.is_known) else {
            return;
        };
        let path = match &self.environment.workdir {
            _ if value.text.starts_with('/') => clean(&value.text),
            Some(base) => clean(&format!("{base}/{}", value.text)),
            None => return,
        };
        self.environment.copied.push(path.clone());
        // A file copied into a folder has the folder's path and its own name.
        if value.text.ends_with('/') || sources.len() > 1 {
            for (_, source) in sources {
                let base = source.as_deref().map(clean).unwrap_or_default();
                if let Some(base) = base.rsplit('/').next().filter(|base| !base.is_empty() && *base != ".") {
                    self.environment.copied.push(clean(&format!("{path}/{base}")));
                }
            }
        }
    }
}

/// Whether a source is fetched and not found in the context.
fn is_remote(path: &str) -> bool {
    path.starts_with("http://") || path.starts_with("https://") || is_git(path)
}

fn is_git(path: &str) -> bool {
    let http = path.starts_with("http://") || path.starts_with("https://");
    let bare = path.split(['#', '?']).next().unwrap_or(path);
    path.starts_with("git://")
        || path.starts_with("ssh://")
        || (path.starts_with("git@") && path.contains(':'))
        || (http && bare.ends_with(".git"))
}
