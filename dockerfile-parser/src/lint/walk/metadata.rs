//! Instructions that only write the configuration: CMD, ENTRYPOINT, EXPOSE, STOPSIGNAL, USER, VOLUME, WORKDIR.

use super::Walk;
use crate::expand::Expander;
use crate::glob::clean;
use crate::lint::environment::Origin;
use crate::lint::fix::Edit;
use crate::lint::{codes, rules, stages};
use crate::{CommandLine, Diagnostic, Node};

/// Signal names that STOPSIGNAL takes, without `SIG` (signal(7); moby `signal.SignalMap`).
const SIGNALS: &str = "ABRT ALRM BUS CHLD CLD CONT FPE HUP ILL INT IO IOT KILL PIPE POLL PROF PWR QUIT SEGV STKFLT \
    STOP SYS TERM TRAP TSTP TTIN TTOU URG USR1 USR2 VTALRM WINCH XCPU XFSZ";

/// First words that only a shell knows.
const SHELL_WORDS: [&str; 18] = [
    "cd", "source", "set", "export", "ulimit", "umask", "eval", "alias", "if", "for", "while", "case",
    "until", "trap", "exit", "test", "read", "unset",
];

impl Walk<'_, '_, '_> {
    /// Rule JSONArgsRecommended, about CMD and ENTRYPOINT; a SHELL of one's own is taken as intent.
    pub(super) fn json_recommended(&mut self, node: &Node, command: &CommandLine) {
        let CommandLine::Shell(text) = command else { return };
        if self.environment.shell.as_ref().is_some_and(|shell| !shell.is_empty()) {
            return;
        }
        let name = self.view.keyword(node);
        let message = format!(
            "JSON arguments recommended for {name} to prevent unintended behavior related to OS signals"
        );
        let span = self.view.first_line(node);
        let json = json_form(text);
        let hint = match &json {
            Some(json) => format!("write `{name} {json}`"),
            None => "write the command as a JSON array, or begin it with `exec`, so that it gets signals"
                .to_owned(),
        };
        let edit = json
            .zip(node.args.first())
            .map(|(json, word)| vec![Edit::replace(word.span.start, word.span.end, json)]);
        self.reporter.warn(node, &rules::JSON_ARGS_RECOMMENDED, span, message).hint(hint).fix_all(edit);
    }

    /// EXPOSE: rules ExposeProtoCasing and ExposeInvalidFormat, and whether it is a port at all.
    pub(super) fn expose(&mut self, node: &Node, ports: &[String]) {
        for written in ports {
            // BuildKit does not report undefined variables here.
            let value = match self.environment.expand(written, super::Mode::Word(self.view.escape)) {
                Ok(value) => value,
                Err(None) => continue,
                Err(error) => {
                    let diagnostic = stages::expansion_error(self.view, node, written, error);
                    self.error(diagnostic);
                    continue;
                }
            };
            if !value.is_known {
                continue;
            }
            let escape = self.view.escape;
            let environment = &self.environment;
            let lookup = |name: &str| environment.get(name).cloned().flatten();
            let words = Expander::new(escape).split(written, &lookup).map(|(words, _)| words);
            for word in words.unwrap_or_default() {
                self.port(node, written, &word);
            }
        }
    }

    fn port(&mut self, node: &Node, written: &str, word: &str) {
        let place =
            node.args.iter().find(|arg| arg.text == written).map_or(node.keyword_span, |arg| arg.span);
        let fixable = written == word && self.view.text(place) == word;
        let edit = |text: String| fixable.then(|| vec![Edit::replace(place.start, place.end, text)]);
        let parts: Vec<&str> = word.split(':').collect();
        let container = parts.last().copied().unwrap_or_default();
        let (range, protocol) = container.split_once('/').unwrap_or((container, ""));
        let lower = protocol.to_lowercase();
        let known = matches!(lower.as_str(), "" | "tcp" | "udp" | "sctp");
        let host = parts.len().checked_sub(2).map_or("", |at| parts[at]);
        if known && range_of(range).is_some() {
            if protocol != lower {
                let message = format!("Defined protocol '{word}' in EXPOSE instruction should be lowercase");
                self.reporter
                    .warn(node, &rules::EXPOSE_PROTO_CASING, place, message)
                    .hint(format!("write `{}`", word.to_lowercase()))
                    .fix_all(edit(word.to_lowercase()));
            }
            if parts.len() > 2 || !host.is_empty() {
                let message = format!(
                    "EXPOSE instruction should not define an IP address or host-port mapping, found '{word}'"
                );
                self.reporter
                    .warn(node, &rules::EXPOSE_INVALID_FORMAT, place, message)
                    .hint(format!("write `{container}`; hosts and their ports are chosen with `run -p`"))
                    .fix_all(edit(container.to_owned()));
            }
        }
        if !known || range_of(range).is_none() || (!host.is_empty() && range_of(host).is_none()) {
            let message = format!("`{word}` is not a port");
            self.error(
                Diagnostic::error(codes::BAD_PORT, place, message)
                    .with_expected("`port[-last][/tcp|udp|sctp]`, ports from 0 to 65535"),
            );
        }
    }

    pub(super) fn stopsignal(&mut self, node: &Node, written: &str) {
        let Some(value) = self.word(node, written).filter(|value| value.is_known) else { return };
        let upper = value.text.to_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        let number = value.text.parse::<u32>().is_ok_and(|number| (1..=64).contains(&number));
        let real_time = name.starts_with("RTMIN") || name.starts_with("RTMAX");
        if !number && !real_time && !SIGNALS.split_whitespace().any(|known| known == name) {
            let span = node.args.first().map_or(node.keyword_span, |word| word.span);
            let near = crate::nearest(name, SIGNALS.split_whitespace()).map(|near| format!("SIG{near}"));
            let mut diagnostic =
                Diagnostic::error(codes::BAD_SIGNAL, span, format!("`{}` is not a signal", value.text))
                    .with_expected("a name such as SIGTERM, or a number from 1 to 64");
            if let Some(near) = near {
                diagnostic = diagnostic.with_hint(format!("did you mean `{near}`?"));
            }
            self.error(diagnostic);
        }
    }

    /// VOLUME: the value, which must not be empty.
    pub(super) fn not_empty(&mut self, node: &Node, written: &str, name: &str) {
        let Some(value) = self.word(node, written).filter(|value| value.is_known) else { return };
        if value.text.is_empty() {
            let span = node.args.first().map_or(node.keyword_span, |word| word.span);
            let message = format!("{name} is empty once `{written}` is expanded");
            self.error(Diagnostic::error(codes::EMPTY_VALUE, span, message));
        }
    }

    /// WORKDIR, with rule WorkdirRelativePath about the first one.
    pub(super) fn workdir(&mut self, node: &Node, written: &str) {
        let value = self.word(node, written);
        let before_set = std::mem::replace(&mut self.environment.workdir_set, true);
        let Some(value) = value.filter(|value| value.is_known) else {
            self.environment.workdir = None;
            return;
        };
        let path = value.text;
        let drive = path.as_bytes().get(1) == Some(&b':') || path.starts_with('\\');
        let is_windows = self.options.target_platform.starts_with("windows") || self.view.escape == '`';
        let is_absolute = path.starts_with('/') || (is_windows && drive);
        if !before_set && !is_absolute {
            let message =
                format!("Relative workdir {path:?} can have unexpected results if the base image changes");
            let span = node.args.first().map_or(node.keyword_span, |word| word.span);
            let from_scratch = self.environment.origin == Origin::Scratch;
            let edit = Edit::insert(span.start, "/");
            let plain = from_scratch && path == written && self.view.text(span) == path && !path.is_empty();
            self.reporter
                .warn(node, &rules::WORKDIR_RELATIVE_PATH, span, message)
                .hint("begin the path with a slash")
                .fix_all(plain.then(|| vec![edit]));
        }
        self.environment.workdir = match (&self.environment.workdir, is_absolute) {
            (_, true) => Some(clean(&path)),
            (Some(before), false) => Some(clean(&format!("{before}/{path}"))),
            (None, false) => None,
        };
    }
}

/// First and last port of `80` or `80-90`.
fn range_of(text: &str) -> Option<(u16, u16)> {
    let number = |text: &str| {
        Some(text)
            .filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()))?
            .parse()
            .ok()
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last): (u16, u16) = (number(first)?, number(last)?);
    (first <= last).then_some((first, last))
}

/// The JSON form of a command of plain words, which means the same without a shell.
fn json_form(text: &str) -> Option<String> {
    let plain = |ch: char| ch.is_ascii_alphanumeric() || " _./:=@%+,-".contains(ch);
    if text.is_empty() || !text.chars().all(plain) {
        return None;
    }
    let mut words: Vec<&str> = text.split_whitespace().collect();
    if words.first() == Some(&"exec") {
        words.remove(0);
    }
    let first = words.first()?;
    // `A=b program` and what only a shell knows need the shell.
    if first.contains('=')
        || *first == "."
        || *first == ":"
        || SHELL_WORDS.contains(first)
        || first.starts_with('-')
    {
        return None;
    }
    let quoted: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
    Some(format!("[{}]", quoted.join(", ")))
}
