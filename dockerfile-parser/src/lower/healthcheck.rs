//! HEALTHCHECK.

use super::Judge;
use super::flags::Given;
use crate::diagnostic::code;
use crate::duration;
use crate::{CommandLine, Diagnostic, Healthcheck, Node};
use std::time::Duration;

/// The shortest time the Engine accepts, zero aside.
const SHORTEST: Duration = Duration::from_millis(1);

impl Judge {
    pub(super) fn healthcheck(&mut self, node: &Node) -> Option<Healthcheck> {
        let Some((kind, rest)) = node.args.split_first() else {
            self.missing_arguments(node, "`HEALTHCHECK CMD command` or `HEALTHCHECK NONE`");
            return None;
        };
        match kind.text.as_str() {
            "NONE" => {
                if let Some(extra) = rest.first() {
                    let message = "HEALTHCHECK NONE takes no arguments";
                    self.error(code::TOO_MANY_ARGUMENTS, extra.span, message);
                    return None;
                }
                // Flags beside NONE are not looked at by BuildKit either.
                Some(Healthcheck::None)
            }
            "CMD" => self.health_command(node),
            other => {
                // The tree has the word in upper case; people should see it as they wrote it.
                let mut words = node.original.split_whitespace();
                let written = words.find(|word| word.to_uppercase() == other).unwrap_or(other);
                let message = format!("unknown HEALTHCHECK type `{written}`");
                self.report(
                    Diagnostic::error(code::HEALTHCHECK_TYPE, kind.span, message)
                        .with_hint(format!("to run a command, write `HEALTHCHECK CMD {written} …`"))
                        .with_expected("`CMD` or `NONE`"),
                );
                None
            }
        }
    }

    fn health_command(&mut self, node: &Node) -> Option<Healthcheck> {
        let flags = self.flags(node);
        let mut words = node.args.iter().skip(1).map(|word| word.text.clone()).peekable();
        if words.peek().is_none() {
            self.missing_arguments(node, "a command after `HEALTHCHECK CMD`");
            return None;
        }
        let command = if node.json {
            CommandLine::Exec(words.collect())
        } else {
            CommandLine::Shell(words.next().unwrap_or_default())
        };
        Some(Healthcheck::Command {
            command,
            interval: self.time(&flags, "interval"),
            timeout: self.time(&flags, "timeout"),
            start_period: self.time(&flags, "start-period"),
            start_interval: self.time(&flags, "start-interval"),
            retries: self.retries(&flags),
        })
    }

    fn time(&mut self, flags: &Given, name: &str) -> Option<Duration> {
        let (value, span) = flags.located(name)?;
        let problem = match duration::parse(value) {
            Ok(time) if time.is_negative => format!("`--{name}` is negative"),
            Ok(time) if !time.length.is_zero() && time.length < SHORTEST => {
                format!("`--{name}` is shorter than 1ms")
            }
            Ok(time) => return Some(time.length),
            Err(error) => format!("invalid value `{value}` for `--{name}`: {error}"),
        };
        self.report(
            Diagnostic::error(code::BAD_DURATION, span, problem)
                .with_expected("a duration such as `30s`, `1m30s` or `500ms`"),
        );
        None
    }

    fn retries(&mut self, flags: &Given) -> Option<u32> {
        let (value, span) = flags.located("retries")?;
        let digits = value.strip_prefix('+').unwrap_or(value);
        match digits.parse::<u32>().ok().filter(|retries| i32::try_from(*retries).is_ok()) {
            Some(retries) if !digits.starts_with('+') => Some(retries),
            _ => {
                self.report(
                    Diagnostic::error(
                        code::BAD_FLAG_VALUE,
                        span,
                        format!("invalid value `{value}` for `--retries`"),
                    )
                    .with_expected("a whole number, zero or more"),
                );
                None
            }
        }
    }
}
