//! Instructions that only write the configuration, in a build and as the changes of `import`.

use super::{
    StageState,
    environment::{Words, put_env},
};
use crate::{StepError, ValueError};
use slipway_dockerfile::{CommandLine, Expander, Healthcheck, Instruction, KeyValue, Located};
use slipway_oci::spec::{self, ImageConfig};
use std::time::Duration;

/// The shell of shell forms where SHELL says nothing.
const DEFAULT_SHELL: [&str; 2] = ["/bin/sh", "-c"];

/// A change of a configuration that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// An instruction that is none of a finished image's configuration.
    #[error(
        "`{keyword}` is no change of a configuration: only CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, \
         STOPSIGNAL, USER, VOLUME and WORKDIR are"
    )]
    Instruction {
        /// Its keyword, in upper case.
        keyword: String,
    },
    /// A value that a recipe could not have either.
    #[error("`{change}`")]
    Value {
        /// The change as it was given.
        change: String,
        /// What is wrong with it.
        source: StepError,
    },
}

impl StageState<'_, '_> {
    /// The words that a command line runs as.
    pub(super) fn command_words(&self, line: &CommandLine) -> Vec<String> {
        command_words(&self.config, line)
    }

    pub(super) fn shell_words(&self) -> Vec<String> {
        shell_words(&self.config)
    }

    /// Carries out an instruction of the configuration.
    pub(super) fn configure(&mut self, instruction: &Instruction) -> Result<(), StepError> {
        let words = Words { expander: &self.expander, variables: &self.variables };
        let written = write(&mut self.config, &mut self.has_command, &words, instruction)?;
        for (name, value) in &written.variables {
            put_env(&mut self.variables, name, value);
        }
        self.note(written.note, true);
        Ok(())
    }
}

/// What [`write`] did.
struct Written {
    /// For the image's history.
    note: String,
    /// Variables that were set.
    variables: Vec<(String, String)>,
}

/// Makes changes to the configuration of an image, each a line of a recipe, as `import --change` does.
///
/// # Errors
/// Where an instruction is no configuration or its value is wrong.
pub fn apply_changes(config: &mut ImageConfig, changes: &[Located]) -> Result<(), ChangeError> {
    let mut has_command = false;
    for change in changes {
        let text = change.origin.original.trim();
        let keyword = text.split_whitespace().next().unwrap_or_default().to_uppercase();
        let refused = match &change.instruction {
            Instruction::Run(_) | Instruction::Copy(_) | Instruction::Add(_) | Instruction::Arg(_) => true,
            // they mean something for later instructions of a recipe alone, or nothing any more
            Instruction::Shell(_) | Instruction::Maintainer(_) => true,
            _ => false,
        };
        if refused {
            return Err(ChangeError::Instruction { keyword });
        }
        let variables = config.config.env.clone();
        let words = Words { expander: &Expander::new('\\'), variables: &variables };
        let written = match &change.instruction {
            Instruction::Workdir(path) => {
                let working_dir = config.config.working_dir.clone().unwrap_or_default();
                words.expand(path).map(|path| {
                    config.config.working_dir = Some(super::workdir::written(&working_dir, &path));
                })
            }
            other => write(config, &mut has_command, &words, other).map(drop),
        };
        written.map_err(|source| ChangeError::Value { change: text.to_owned(), source })?;
    }
    Ok(())
}

/// Writes what an instruction says into the configuration: the one place that knows what each means there.
fn write(
    config: &mut ImageConfig,
    has_command: &mut bool,
    words: &Words<'_>,
    instruction: &Instruction,
) -> Result<Written, StepError> {
    let mut variables = Vec::new();
    let note = match instruction {
        Instruction::Cmd(line) => {
            let command = command_words(config, line);
            let note = format!("CMD {}", json(&command));
            config.config.args_escaped = true;
            config.config.cmd = Some(command);
            *has_command = true;
            note
        }
        Instruction::Entrypoint(line) => {
            let command = command_words(config, line);
            let note = format!("ENTRYPOINT {}", json(&command));
            config.config.entrypoint = Some(command);
            if !*has_command {
                config.config.cmd = None;
            }
            note
        }
        Instruction::Env(pairs) => {
            variables = env(config, words, pairs)?;
            let shown: Vec<String> =
                variables.iter().map(|(name, value)| format!("{name}={value}")).collect();
            format!("ENV {}", shown.join(" "))
        }
        Instruction::Label(pairs) => label(config, words, pairs)?,
        Instruction::Expose(ports) => expose(config, words, ports)?,
        Instruction::Healthcheck(check) => healthcheck(config, check),
        Instruction::Maintainer(name) => {
            config.author = Some(name.clone());
            format!("MAINTAINER {name}")
        }
        Instruction::Onbuild(trigger) => {
            config.config.on_build.push(trigger.text.clone());
            format!("ONBUILD {}", trigger.text)
        }
        Instruction::Shell(words) => {
            config.config.shell = Some(words.clone());
            format!("SHELL {}", json(words))
        }
        Instruction::Stopsignal(text) => stopsignal(config, words, text)?,
        Instruction::User(text) => {
            let user = words.expand(text)?;
            if user.is_empty() && !text.contains('$') {
                return Err(ValueError::Empty("USER").into());
            }
            // a variable that holds nothing leaves nobody named: root again (BuildKit)
            config.config.user = Some(user.clone()).filter(|user| !user.is_empty());
            format!("USER {user}")
        }
        Instruction::Volume(paths) => volume(config, words, paths)?,
        Instruction::Run(_)
        | Instruction::Copy(_)
        | Instruction::Add(_)
        | Instruction::Arg(_)
        | Instruction::Workdir(_) => unreachable!("no instruction of the configuration alone"),
    };
    Ok(Written { note, variables })
}

fn shell_words(config: &ImageConfig) -> Vec<String> {
    let default = || DEFAULT_SHELL.iter().map(|word| (*word).to_owned()).collect();
    config.config.shell.clone().unwrap_or_else(default)
}

fn command_words(config: &ImageConfig, line: &CommandLine) -> Vec<String> {
    match line {
        CommandLine::Exec(words) => words.clone(),
        CommandLine::Shell(text) => {
            let mut words = shell_words(config);
            words.push(text.clone());
            words
        }
    }
}

fn env(
    config: &mut ImageConfig,
    words: &Words<'_>,
    pairs: &[KeyValue],
) -> Result<Vec<(String, String)>, StepError> {
    // the environment is frozen while one instruction is expanded
    let mut expanded = Vec::new();
    for pair in pairs {
        expanded.push((words.expand(&pair.key)?, words.expand(&pair.value)?));
    }
    if expanded.iter().any(|(name, _)| name.is_empty()) {
        return Err(ValueError::Empty("ENV names").into());
    }
    for (name, value) in &expanded {
        put_env(&mut config.config.env, name, value);
    }
    Ok(expanded)
}

fn label(config: &mut ImageConfig, words: &Words<'_>, pairs: &[KeyValue]) -> Result<String, StepError> {
    let mut shown = Vec::new();
    for pair in pairs {
        // a name that expands to nothing is taken, as BuildKit takes it
        let (key, value) = (words.expand(&pair.key)?, words.expand(&pair.value)?);
        shown.push(format!("{key}={value}"));
        config.config.labels.get_or_insert_default().insert(key, value);
    }
    Ok(format!("LABEL {}", shown.join(" ")))
}

fn expose(config: &mut ImageConfig, words: &Words<'_>, ports: &[String]) -> Result<String, StepError> {
    let mut all = Vec::new();
    for text in ports {
        for word in words.expand_split(text)? {
            all.extend(parse_ports(&word)?);
        }
    }
    all.sort();
    let exposed = config.config.exposed_ports.get_or_insert_default();
    for port in &all {
        exposed.insert(port.clone(), serde_json::json!({}));
    }
    Ok(format!("EXPOSE {}", all.join(" ")))
}

fn healthcheck(config: &mut ImageConfig, check: &Healthcheck) -> String {
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
    let note = format!("HEALTHCHECK {}", json(&result.test));
    config.config.healthcheck = Some(result);
    note
}

fn stopsignal(config: &mut ImageConfig, words: &Words<'_>, text: &str) -> Result<String, StepError> {
    let signal = words.expand(text)?;
    // BuildKit takes every number but 0: another kernel may have that signal
    let is_number = signal.parse::<u32>().is_ok_and(|number| number > 0);
    if !is_number && slipway_runtime::container::stop::parse_signal(&signal).is_none() {
        let expected = "use a name such as SIGTERM or a number from 1 on";
        return Err(ValueError::form(signal, "a signal", expected).into());
    }
    config.config.stop_signal = Some(signal.clone());
    Ok(format!("STOPSIGNAL {signal}"))
}

fn volume(config: &mut ImageConfig, words: &Words<'_>, paths: &[String]) -> Result<String, StepError> {
    let mut all = Vec::new();
    for path in paths {
        let path = words.expand(path)?;
        if path.is_empty() {
            return Err(ValueError::Empty("VOLUME paths").into());
        }
        config.config.volumes.get_or_insert_default().insert(path.clone(), serde_json::json!({}));
        all.push(path);
    }
    Ok(format!("VOLUME [{}]", all.join(" ")))
}

fn json<T: serde::Serialize + ?Sized>(value: &T) -> String {
    serde_json::to_string(value).expect("lists of strings are JSON")
}

/// `8080`, `8000-8010/udp`, also docker's `ip:host:container` forms, of which the container's part counts.
fn parse_ports(word: &str) -> Result<Vec<String>, StepError> {
    let bad = || ValueError::form(word, "a port", "expected `port[-last][/tcp|udp|sctp]`, 0 to 65535").into();
    let (range, protocol) = word.split_once('/').unwrap_or((word, "tcp"));
    // go-connections `SplitProtoPort`: nothing after the slash is TCP too
    let protocol = if protocol.is_empty() { "tcp".to_owned() } else { protocol.to_lowercase() };
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
            ("80/", &["80/tcp"]),
            ("80-81/", &["80/tcp", "81/tcp"]),
            ("53/UDP", &["53/udp"]),
            ("7000-7001/sctp", &["7000/sctp", "7001/sctp"]),
            ("127.0.0.1:80:8080", &["8080/tcp"]),
        ] {
            assert_eq!(parse_ports(word).expect(word), ports);
        }
        for word in ["", "65536", "-1", "/", "/tcp", "80//", "80/xyz", "80/tcp/", "9-8", "a"] {
            assert!(parse_ports(word).is_err(), "{word}");
        }
    }
}
