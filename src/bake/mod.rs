//! Bake files: many builds described in one place, in buildx' words (`docker-bake.hcl`, `.json`, compose files' `build` sections).
//!
//! ```text
//! files --read--> Definition (blocks by name, expressions as written)        (definition, compose)
//! Definition + environment + --var --> Scope                                  (evaluate, functions)
//! Scope + names + --set --> Plan: targets with their attributes, in order     (resolve, attributes)
//! ```
//!
//! All of it is pure; `command/builder/bake.rs` reads the files and carries the plan out.

mod attributes;
mod compose;
mod definition;
mod evaluate;
mod functions;
mod lists;
mod resolve;
#[cfg(test)]
mod tests;
mod variables;

pub(crate) use attributes::Target;
pub(crate) use definition::Definition;
pub(crate) use resolve::{Asked, Plan, plan};
pub(crate) use variables::Variable;

/// Files that are read where none is named, in this order, each that is there: later ones go before.
pub(crate) const FILES: [&str; 8] = [
    "compose.yaml",
    "compose.yml",
    "docker-compose.yml",
    "docker-compose.yaml",
    "docker-bake.json",
    "docker-bake.hcl",
    "docker-bake.override.json",
    "docker-bake.override.hcl",
];

/// The target or group that is meant where none is named.
pub(crate) const DEFAULT: &str = "default";

/// Why a bake file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BakeError {
    /// It is not of its language.
    #[error("`{file}` cannot be read: {words}")]
    Syntax {
        /// The file.
        file: String,
        /// What is wrong with it, and where.
        words: String,
    },
    /// An expression has no value.
    #[error("{0}")]
    Expression(String),
    /// What it is part of.
    #[error("{place}: {source}")]
    At {
        /// A target's attribute, a variable.
        place: String,
        /// Why.
        source: Box<BakeError>,
    },
    /// There is no target or group of that name.
    #[error("there is no target or group `{name}`")]
    NoTarget {
        /// The name.
        name: String,
        /// Those that there are.
        known: Vec<String>,
    },
    /// What refers to itself.
    #[error("{0} refers to itself")]
    Circle(String),
}

impl BakeError {
    fn at(self, place: impl Into<String>) -> BakeError {
        BakeError::At { place: place.into(), source: Box::new(self) }
    }
}
