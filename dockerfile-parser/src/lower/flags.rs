//! Flags: which an instruction has, what values they take.

use super::Judge;
use crate::diagnostic::code;
use crate::{Diagnostic, Keyword, Node, Span, Word};

/// What a flag takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Takes {
    /// Nothing, `true` or `false`.
    Boolean,
    /// A value, once.
    Value,
    /// A value, any number of times.
    Values,
}

type Spec = (&'static str, Takes);

/// The flags of an instruction.
pub(super) const fn of(keyword: Keyword) -> &'static [Spec] {
    use Takes::{Boolean, Value, Values};
    match keyword {
        Keyword::Add => &[
            ("chown", Value),
            ("chmod", Value),
            ("link", Boolean),
            ("keep-git-dir", Boolean),
            ("checksum", Value),
            ("unpack", Boolean),
            ("exclude", Values),
        ],
        Keyword::Copy => &[
            ("from", Value),
            ("chown", Value),
            ("chmod", Value),
            ("link", Boolean),
            ("parents", Boolean),
            ("exclude", Values),
        ],
        Keyword::From => &[("platform", Value)],
        Keyword::Healthcheck => &[
            ("interval", Value),
            ("timeout", Value),
            ("start-period", Value),
            ("start-interval", Value),
            ("retries", Value),
        ],
        Keyword::Run => &[("mount", Values), ("network", Value), ("security", Value), ("device", Values)],
        _ => &[],
    }
}

/// The flags given to one instruction, judged.
#[derive(Debug, Default)]
pub(super) struct Given {
    found: Vec<(&'static str, String, Span)>,
}

impl Given {
    /// The value of a flag and its place.
    pub(super) fn located<'g>(&'g self, name: &str) -> Option<(&'g str, Span)> {
        self.found.iter().find(|found| found.0 == name).map(|(_, value, span)| (value.as_str(), *span))
    }

    /// The value of a flag.
    pub(super) fn value(&self, name: &str) -> Option<String> {
        self.located(name).map(|(value, _)| value.to_owned())
    }

    /// Every value of a flag, with places.
    pub(super) fn all<'g>(&'g self, name: &'g str) -> impl Iterator<Item = (&'g str, Span)> {
        self.found.iter().filter(move |found| found.0 == name).map(|(_, value, span)| (value.as_str(), *span))
    }

    /// Every value of a flag.
    pub(super) fn values(&self, name: &str) -> Vec<String> {
        self.all(name).map(|(value, _)| value.to_owned()).collect()
    }

    /// The value of a boolean flag, if it was given.
    pub(super) fn boolean(&self, name: &str) -> Option<bool> {
        self.located(name).map(|(value, _)| value == "true")
    }
}

impl Judge {
    /// Judges the flags of a node. Those that are wrong are reported and left out.
    pub(super) fn flags(&mut self, node: &Node) -> Given {
        let Some(keyword) = Keyword::from_word(&node.keyword) else { return Given::default() };
        let mut given = Given::default();
        for flag in &node.flags {
            let written = flag.text.strip_prefix("--").unwrap_or(&flag.text);
            let (name, value) = match written.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (written, None),
            };
            let Some(&(name, takes)) = of(keyword).iter().find(|spec| spec.0 == name) else {
                self.unknown_flag(keyword, name, flag);
                continue;
            };
            if let Some((_, first)) = given.located(name)
                && takes != Takes::Values
            {
                self.report(
                    Diagnostic::error(
                        code::REPEATED_FLAG,
                        flag.span,
                        format!("flag `--{name}` is given twice"),
                    )
                    .with_note("it is first given here", Some(first)),
                );
                continue;
            }
            if let Some(value) = self.flag_value(name, takes, value, flag.span, node.args.first()) {
                given.found.push((name, value, flag.span));
            }
        }
        given
    }

    fn flag_value(
        &mut self,
        name: &str,
        takes: Takes,
        value: Option<&str>,
        span: Span,
        next: Option<&Word>,
    ) -> Option<String> {
        match (takes, value) {
            (Takes::Boolean, None) => Some("true".to_owned()),
            (Takes::Boolean, Some("")) => {
                self.report(
                    Diagnostic::error(
                        code::FLAG_WITHOUT_VALUE,
                        span,
                        format!("flag `--{name}=` has no value"),
                    )
                    .with_expected(format!("`--{name}`, `--{name}=true` or `--{name}=false`")),
                );
                None
            }
            (Takes::Boolean, Some(value)) => {
                let lower = value.to_lowercase();
                if lower == "true" || lower == "false" {
                    return Some(lower);
                }
                self.report(
                    Diagnostic::error(
                        code::FLAG_NOT_BOOLEAN,
                        span,
                        format!("flag `--{name}` is neither true nor false but `{value}`"),
                    )
                    .with_expected("`true` or `false`"),
                );
                None
            }
            (_, None) => {
                let example = next.map_or("VALUE", |word| word.text.as_str());
                self.report(
                    Diagnostic::error(
                        code::FLAG_WITHOUT_VALUE,
                        span,
                        format!("flag `--{name}` needs a value"),
                    )
                    .with_hint(format!("write `--{name}={example}`")),
                );
                None
            }
            (Takes::Value, Some("")) => {
                // BuildKit takes this as not given, and recipes have it.
                self.report(
                    Diagnostic::warning(
                        code::EMPTY_FLAG_VALUE,
                        span,
                        format!("flag `--{name}=` has an empty value"),
                    )
                    .with_hint("remove the flag; it has no effect"),
                );
                None
            }
            (_, Some(value)) => Some(value.to_owned()),
        }
    }

    fn unknown_flag(&mut self, keyword: Keyword, name: &str, flag: &Word) {
        let own = of(keyword);
        let message = format!("{} has no flag `--{name}`", keyword.name());
        let mut diagnostic = Diagnostic::error(code::UNKNOWN_FLAG, flag.span, message);
        let others = || Keyword::ALL.into_iter().filter(|other| of(*other).iter().any(|spec| spec.0 == name));
        if let Some(near) = crate::nearest(name, own.iter().map(|spec| spec.0)) {
            diagnostic = diagnostic.with_hint(format!("did you mean `--{near}`?"));
        } else if others().next().is_some() {
            let names: Vec<_> = others().map(Keyword::name).collect();
            diagnostic = diagnostic.with_hint(format!("`--{name}` is a flag of {}", names.join(" and ")));
        }
        diagnostic = if own.is_empty() {
            diagnostic.with_expected(format!("no flags: {} has none", keyword.name()))
        } else {
            let names: Vec<_> = own.iter().map(|spec| format!("--{}", spec.0)).collect();
            let lead = if own.len() == 1 { "" } else { "one of " };
            diagnostic.with_expected(format!("{lead}{}", names.join(", ")))
        };
        self.report(diagnostic);
    }

    /// Reports a value that is none of the allowed ones.
    pub(super) fn choice(&mut self, name: &str, value: &str, span: Span, allowed: &[&'static str]) {
        if !allowed.contains(&value) {
            self.report(
                Diagnostic::error(
                    code::BAD_FLAG_VALUE,
                    span,
                    format!("invalid value `{value}` for `--{name}`"),
                )
                .with_nearest(value, allowed.iter().copied())
                .with_expected(format!("one of {}", allowed.join(", "))),
            );
        }
    }

    /// Reports a variable where none is expanded: a dollar followed by anything.
    pub(super) fn refuse_variable(&mut self, what: &str, value: &str, span: Span) {
        if has_variable(value) {
            self.report(
                Diagnostic::error(code::VARIABLE_NOT_ALLOWED, span, format!("{what} cannot hold a variable"))
                    .with_hint(format!(
                        "define a stage before: `FROM {value} AS name`, and use its name here"
                    )),
            );
        }
    }
}

/// Whether a dollar is followed by any character, which is how BuildKit finds variables here.
pub(super) fn has_variable(value: &str) -> bool {
    value.find('$').is_some_and(|at| at + 1 < value.len())
}
