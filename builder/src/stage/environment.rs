//! ARG, ENV and the expansion of words.

use super::{StageState, metadata::put_env};
use crate::StepError;
use slipway_dockerfile::{ArgDeclaration, Expansion, KeyValue};

/// Arguments that need no declaration and stay out of keys and history unless they are declared.
const PROXIES: [&str; 5] = ["HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY"];

/// Whether `name` is one of the proxy arguments, in either case.
fn is_proxy(name: &str) -> bool {
    PROXIES.iter().any(|proxy| name == *proxy || name == proxy.to_lowercase())
}

impl StageState<'_, '_> {
    /// The value of a variable: ENV before ARG.
    pub(super) fn variable(&self, name: &str) -> Option<String> {
        let prefix = |entry: &String| {
            entry.strip_prefix(name).and_then(|rest| rest.strip_prefix('=')).map(str::to_owned)
        };
        let env = self.config.config.env.iter().rev().find_map(prefix);
        env.or_else(|| {
            self.arguments.iter().rev().find(|(key, _)| key == name).and_then(|(_, value)| value.clone())
        })
    }

    /// Expands a word of an instruction.
    pub(super) fn expand(&self, text: &str) -> Result<String, StepError> {
        self.expand_word(text).map(|expansion| expansion.value)
    }

    fn expand_word(&self, text: &str) -> Result<Expansion, StepError> {
        let lookup = |name: &str| self.variable(name);
        self.expander
            .expand(text, &lookup)
            .map_err(|source| StepError::Expand { text: text.to_owned(), source })
    }

    /// Expands a word that may stand for several.
    pub(super) fn expand_split(&self, text: &str) -> Result<Vec<String>, StepError> {
        let lookup = |name: &str| self.variable(name);
        let split = self.expander.split(text, &lookup);
        split.map(|(words, _)| words).map_err(|source| StepError::Expand { text: text.to_owned(), source })
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
            self.arguments.retain(|(key, _)| key != name);
            self.arguments.push((name.clone(), value));
        }
        self.note(format!("ARG {}", words.join(" ")), true);
        Ok(())
    }

    pub(super) fn env(&mut self, pairs: &[KeyValue]) -> Result<(), StepError> {
        // the environment is frozen while one instruction is expanded
        let mut expanded = Vec::new();
        for pair in pairs {
            expanded.push((self.expand(&pair.key)?, self.expand(&pair.value)?));
        }
        let mut words = Vec::new();
        for (key, value) in expanded {
            if key.is_empty() {
                return Err(StepError::Value("ENV names must not be empty".to_owned()));
            }
            words.push(format!("{key}={value}"));
            put_env(&mut self.config.config.env, &key, &value);
        }
        self.note(format!("ENV {}", words.join(" ")), true);
        Ok(())
    }

    /// What a RUN step's environment holds of configuration and arguments, and the arguments that influence it.
    pub(super) fn run_environment(&self) -> (Vec<String>, Vec<String>) {
        let mut env = self.config.config.env.clone();
        let mut influences = Vec::new();
        for (name, value) in &self.arguments {
            let Some(value) = value else { continue };
            let taken = env.iter().any(|entry| entry.split_once('=').is_some_and(|(key, _)| key == name));
            if !taken {
                env.push(format!("{name}={value}"));
                influences.push(format!("{name}={value}"));
            }
        }
        influences.sort();
        (env, influences)
    }

    /// Proxy arguments that were given but not declared: the step sees them, its key does not.
    pub(super) fn proxies(&self) -> Vec<String> {
        let given = self.solver.request.build_args.iter().filter(|(name, _)| is_proxy(name));
        let given: Vec<_> = given.filter(|(name, _)| self.variable(name).is_none()).collect();
        given.iter().for_each(|(name, _)| self.solver.used_argument(name));
        given.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
    }
}
