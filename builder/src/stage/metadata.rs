//! Instructions that only write the configuration.

use super::{StageState, environment::put_env};
use crate::StepError;
use crate::ValueError;
use slipway_dockerfile::{CommandLine, Expander, Healthcheck, Instruction, KeyValue, Onbuild};
use slipway_oci::spec;
use std::{collections::BTreeMap, time::Duration};

/// The shell of shell forms where SHELL says nothing.
const DEFAULT_SHELL: [&str; 2] = ["/bin/sh", "-c"];

impl StageState<'_, '_> {
    /// The words that a command line runs as.
    pub(super) fn command_words(&self, line: &CommandLine) -> Vec<String> {
        match line {
            CommandLine::Exec(words) => words.clone(),
            CommandLine::Shell(text) => {
                let mut words = self.shell_words();
                words.push(text.clone());
                words
            }
        }
    }

    pub(super) fn shell_words(&self) -> Vec<String> {
        let default = || DEFAULT_SHELL.iter().map(|word| (*word).to_owned()).collect();
        self.config.config.shell.clone().unwrap_or_else(default)
    }

    pub(super) fn cmd(&mut self, line: &CommandLine) {
        let words = self.command_words(line);
        self.note(format!("CMD {}", json(&words)), true);
        self.config.config.args_escaped = true;
        self.config.config.cmd = Some(words);
        self.has_command = true;
    }

    pub(super) fn entrypoint(&mut self, line: &CommandLine) {
        let words = self.command_words(line);
        self.note(format!("ENTRYPOINT {}", json(&words)), true);
        self.config.config.entrypoint = Some(words);
        if !self.has_command {
            self.config.config.cmd = None;
        }
    }

    pub(super) fn label(&mut self, pairs: &[KeyValue]) -> Result<(), StepError> {
        let mut words = Vec::new();
        for pair in pairs {
            let (key, value) = (self.expand(&pair.key)?, self.expand(&pair.value)?);
            if key.is_empty() {
                return Err(ValueError::Empty("LABEL names").into());
            }
            words.push(format!("{key}={value}"));
            self.config.config.labels.get_or_insert_default().insert(key, value);
        }
        self.note(format!("LABEL {}", words.join(" ")), true);
        Ok(())
    }

    pub(super) fn expose(&mut self, ports: &[String]) -> Result<(), StepError> {
        let mut all = Vec::new();
        for text in ports {
            for word in self.expand_split(text)? {
                all.extend(parse_ports(&word)?);
            }
        }
        all.sort();
        let exposed = self.config.config.exposed_ports.get_or_insert_default();
        for port in &all {
            exposed.insert(port.clone(), serde_json::json!({}));
        }
        self.note(format!("EXPOSE {}", all.join(" ")), true);
        Ok(())
    }

    pub(super) fn healthcheck(&mut self, check: &Healthcheck) {
        let mut result = spec::Healthcheck::default();
        match check {
            Healthcheck::None => result.test = vec!["NONE".to_owned()],
            Healthcheck::Command { command, interval, timeout, start_period, start_interval, retries } => {
                result.test = match command {
                    CommandLine::Exec(words) => [&["CMD".to_owned()], words.as_slice()].concat(),
                    CommandLine::Shell(text) => vec!["CMD-SHELL".to_owned(), text.clone()],
                };
                let nanoseconds = |time: &Option<Duration>| {
                    time.filter(|time| !time.is_zero())
                        .map(|time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
                };
                result.interval = nanoseconds(interval);
                result.timeout = nanoseconds(timeout);
                result.start_period = nanoseconds(start_period);
                result.start_interval = nanoseconds(start_interval);
                result.retries = retries.filter(|retries| *retries > 0);
            }
        }
        self.note(format!("HEALTHCHECK {}", json(&result.test)), true);
        self.config.config.healthcheck = Some(result);
    }

    pub(super) fn maintainer(&mut self, name: &str) {
        self.config.author = Some(name.to_owned());
        self.note(format!("MAINTAINER {name}"), true);
    }

    pub(super) fn onbuild(&mut self, trigger: &Onbuild) {
        self.config.config.on_build.push(trigger.text.clone());
        self.note(format!("ONBUILD {}", trigger.text), true);
    }

    pub(super) fn shell(&mut self, words: &[String]) {
        self.note(format!("SHELL {}", json(words)), true);
        self.config.config.shell = Some(words.to_vec());
    }

    pub(super) fn stopsignal(&mut self, text: &str) -> Result<(), StepError> {
        let signal = self.expand(text)?;
        if slipway_runtime::container::stop::parse_signal(&signal).is_none() {
            return Err(ValueError::form(
                signal,
                "a signal",
                "use a name such as SIGTERM or a number from 1 to 64",
            )
            .into());
        }
        self.note(format!("STOPSIGNAL {signal}"), true);
        self.config.config.stop_signal = Some(signal);
        Ok(())
    }

    pub(super) fn user(&mut self, text: &str) -> Result<(), StepError> {
        let user = self.expand(text)?;
        if user.is_empty() {
            return Err(ValueError::Empty("USER").into());
        }
        self.note(format!("USER {user}"), true);
        self.config.config.user = Some(user);
        Ok(())
    }

    pub(super) fn volume(&mut self, paths: &[String]) -> Result<(), StepError> {
        let mut all = Vec::new();
        for path in paths {
            let path = self.expand(path)?;
            if path.is_empty() {
                return Err(ValueError::Empty("VOLUME paths").into());
            }
            self.config
                .config
                .volumes
                .get_or_insert_with(BTreeMap::new)
                .insert(path.clone(), serde_json::json!({}));
            all.push(path);
        }
        self.note(format!("VOLUME [{}]", all.join(" ")), true);
        Ok(())
    }
}

/// Applies configuration instructions outside a build, as `import --change` does.
///
/// # Errors
/// In words, where an instruction is no configuration or its value is wrong.
pub fn apply_changes(config: &mut spec::ImageConfig, changes: &[Instruction]) -> Result<(), String> {
    let words = |line: &CommandLine| match line {
        CommandLine::Exec(words) => words.clone(),
        CommandLine::Shell(text) => {
            DEFAULT_SHELL.iter().map(|word| (*word).to_owned()).chain([text.clone()]).collect()
        }
    };
    for change in changes {
        let env = config.config.env.clone();
        let lookup = |name: &str| {
            env.iter().find_map(|entry| entry.strip_prefix(name)?.strip_prefix('=').map(str::to_owned))
        };
        let expander = Expander::new('\\');
        let expand =
            |text: &str| expander.expand(text, &lookup).map(|e| e.value).map_err(|error| error.to_string());
        let target = &mut config.config;
        match change {
            Instruction::Cmd(line) => target.cmd = Some(words(line)),
            Instruction::Entrypoint(line) => target.entrypoint = Some(words(line)),
            Instruction::Env(pairs) => {
                for pair in pairs {
                    put_env(&mut target.env, &expand(&pair.key)?, &expand(&pair.value)?);
                }
            }
            Instruction::Label(pairs) => {
                for pair in pairs {
                    target.labels.get_or_insert_default().insert(expand(&pair.key)?, expand(&pair.value)?);
                }
            }
            Instruction::Expose(ports) => {
                for port in ports {
                    for port in parse_ports(&expand(port)?).map_err(|error| error.to_string())? {
                        target.exposed_ports.get_or_insert_default().insert(port, serde_json::json!({}));
                    }
                }
            }
            Instruction::Volume(paths) => {
                for path in paths {
                    target.volumes.get_or_insert_default().insert(expand(path)?, serde_json::json!({}));
                }
            }
            Instruction::Stopsignal(signal) => target.stop_signal = Some(expand(signal)?),
            Instruction::User(user) => target.user = Some(expand(user)?),
            Instruction::Workdir(path) => target.working_dir = Some(expand(path)?),
            _ => {
                return Err("only CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, USER, VOLUME and WORKDIR"
                    .to_owned());
            }
        }
    }
    Ok(())
}

fn json<T: serde::Serialize + ?Sized>(value: &T) -> String {
    serde_json::to_string(value).expect("lists of strings are JSON")
}

/// `8080`, `8000-8010/udp`, also docker's `ip:host:container` forms, of which the container's part counts.
fn parse_ports(word: &str) -> Result<Vec<String>, StepError> {
    let bad = || ValueError::form(word, "a port", "expected `port[-last][/tcp|udp|sctp]`, 0 to 65535").into();
    let (range, protocol) = word.split_once('/').unwrap_or((word, "tcp"));
    let protocol = protocol.to_lowercase();
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(bad());
    }
    let range = range.rsplit(':').next().unwrap_or(range);
    let number = |text: &str| match text.bytes().all(|byte| byte.is_ascii_digit()) {
        true => text.parse::<u16>().map_err(|_| bad()),
        false => Err(bad()),
    };
    let (first, last) = match range.split_once('-') {
        Some((first, last)) => (number(first)?, number(last)?),
        None => (number(range)?, number(range)?),
    };
    if range.is_empty() || last < first {
        return Err(bad());
    }
    Ok((first..=last).map(|port| format!("{port}/{protocol}")).collect())
}

#[cfg(test)]
mod tests {
    use super::parse_ports;

    #[test]
    fn ports() {
        for (word, ports) in [
            ("80", &["80/tcp"][..]),
            ("53/UDP", &["53/udp"]),
            ("7000-7001/sctp", &["7000/sctp", "7001/sctp"]),
            ("127.0.0.1:80:8080", &["8080/tcp"]),
        ] {
            assert_eq!(parse_ports(word).expect(word), ports);
        }
        for word in ["", "65536", "-1", "80/", "80/xyz", "9-8", "a"] {
            assert!(parse_ports(word).is_err(), "{word}");
        }
    }
}
