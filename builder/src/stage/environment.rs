//! ARG, ENV and the expansion of words.

use super::StageState;
use crate::StepError;
use slipway_dockerfile::{ArgDeclaration, Expander};

/// Arguments that need no declaration and stay out of keys and history unless they are declared.
const PROXIES: [&str; 5] = ["HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY"];

/// Whether `name` is one of the proxy arguments, in any case (BuildKit `proxyEnvFromBuildArgs`).
fn is_proxy(name: &str) -> bool {
    PROXIES.iter().any(|proxy| name.eq_ignore_ascii_case(proxy))
}

/// How words of instructions are expanded.
pub(super) struct Words<'a> {
    pub(super) expander: &'a Expander,
    /// As `NAME=value`.
    pub(super) variables: &'a [String],
}

impl Words<'_> {
    fn lookup(&self, name: &str) -> Option<String> {
        self.variables.iter().find_map(|entry| value_of(entry, name)).map(str::to_owned)
    }

    /// Expands a word.
    pub(super) fn expand(&self, text: &str) -> Result<String, StepError> {
        let expansion = self.expander.expand(text, &|name: &str| self.lookup(name));
        expansion
            .map(|expansion| expansion.value)
            .map_err(|source| StepError::Expand { text: text.to_owned(), source })
    }

    /// Expands a word that may stand for several.
    pub(super) fn expand_split(&self, text: &str) -> Result<Vec<String>, StepError> {
        let split = self.expander.split(text, &|name: &str| self.lookup(name));
        split.map(|(words, _)| words).map_err(|source| StepError::Expand { text: text.to_owned(), source })
    }
}

impl StageState<'_, '_> {
    /// The value of a variable: that of the last ENV, or ARG with a value, whichever came later.
    pub(super) fn variable(&self, name: &str) -> Option<String> {
        self.variables.iter().find_map(|entry| value_of(entry, name)).map(str::to_owned)
    }

    /// Puts the configuration's ENV before what the base's arguments left, as every FROM does (BuildKit
    /// `toDispatchState`, "initialize base metadata from image conf").
    pub(super) fn begin_variables(&mut self) {
        for entry in &self.config.config.env {
            let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
            put_env(&mut self.variables, name, value);
        }
    }

    /// Expands a word of an instruction.
    pub(super) fn expand(&self, text: &str) -> Result<String, StepError> {
        Words { expander: &self.expander, variables: &self.variables }.expand(text)
    }

    /// Expands the body of a heredoc.
    pub(super) fn expand_body(&self, text: &str) -> Result<String, StepError> {
        let lookup = |name: &str| self.variable(name);
        // bodies escape with a backslash whatever the recipe's escape character is
        let expander = slipway_dockerfile::Expander::new('\\');
        let expansion = expander.expand_raw(text, &lookup);
        expansion.map(|e| e.value).map_err(|source| StepError::Expand { text: text.to_owned(), source })
    }

    pub(super) fn arg(&mut self, declarations: &[ArgDeclaration]) -> Result<(), StepError> {
        let mut words = Vec::new();
        for declaration in declarations {
            let name = &declaration.name;
            let given = self.solver.request.build_args.get(name).cloned();
            self.solver.used_argument(name);
            let default = declaration.default.as_deref().map(|text| self.expand(text)).transpose()?;
            words.push(default.as_ref().map_or_else(|| name.clone(), |default| format!("{name}={default}")));
            let value = given.or(default).or_else(|| self.solver.graph.globals.get(name).cloned());
            // without a value it says only that a build argument would count here: what is set stays
            if let Some(value) = value {
                put_env(&mut self.variables, name, &value);
                if !self.arguments.contains(name) {
                    self.arguments.push(name.clone());
                }
            }
        }
        self.note(format!("ARG {}", words.join(" ")), true);
        Ok(())
    }

    /// What a RUN step's environment holds of configuration and arguments, and the arguments that influence it.
    pub(super) fn run_environment(&self) -> (Vec<String>, Vec<String>) {
        let value = |name: &String| self.variable(name).map(|value| format!("{name}={value}"));
        let mut influences: Vec<String> = self.arguments.iter().filter_map(value).collect();
        influences.sort();
        (self.variables.clone(), influences)
    }

    /// Proxy arguments that were given: the step sees each in both spellings, its key holds only what is declared.
    pub(super) fn proxies(&self) -> Vec<String> {
        let given = self.solver.request.build_args.iter().filter(|(name, _)| is_proxy(name));
        let mut proxies = Vec::new();
        for (name, value) in given {
            self.solver.used_argument(name);
            // BuildKit `proxyEnvList`: an empty one is none
            if !value.is_empty() {
                put_env(&mut proxies, &name.to_uppercase(), value);
                put_env(&mut proxies, &name.to_lowercase(), value);
            }
        }
        proxies
    }
}

/// The value in `entry` where it is that of `name`.
fn value_of<'e>(entry: &'e str, name: &str) -> Option<&'e str> {
    entry.strip_prefix(name)?.strip_prefix('=')
}

/// Sets a variable in its place, or adds it at the end.
pub(super) fn put_env(env: &mut Vec<String>, name: &str, value: &str) {
    let entry = format!("{name}={value}");
    match env.iter().position(|entry| value_of(entry, name).is_some()) {
        Some(index) => env[index] = entry,
        None => env.push(entry),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_is_set_in_its_place() {
        let mut env = vec!["A=1".to_owned(), "AB=2".to_owned(), "B=".to_owned()];
        put_env(&mut env, "AB", "3=4");
        put_env(&mut env, "B", "x");
        put_env(&mut env, "", "nameless");
        put_env(&mut env, "C", "");
        assert_eq!(env, ["A=1", "AB=3=4", "B=x", "=nameless", "C="]);
    }

    #[test]
    fn proxies_are_known_in_any_case() {
        for (name, is) in [
            ("http_proxy", true),
            ("HTTPS_PROXY", true),
            ("all_proxy", true),
            ("NO_PROXY", true),
            ("ftp_proxy", true),
            ("Http_Proxy", true),
            ("PROXY", false),
            ("http_proxy2", false),
        ] {
            assert_eq!(is_proxy(name), is, "{name}");
        }
    }
}
