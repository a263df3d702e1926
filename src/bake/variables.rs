//! Variables: defaults, what the caller says instead, types, rules.

use super::{
    BakeError,
    definition::{Definition, VariableBlock},
    evaluate::{Local, Scope, Source, text_of, truth_of},
    functions,
};
use serde_json::Value;
use std::collections::BTreeMap;

/// A variable as `--list variables` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Variable {
    /// Its name.
    pub(crate) name: String,
    /// Its type, where it says one.
    pub(crate) kind: Option<String>,
    /// Its value.
    pub(crate) value: Value,
    /// What it is for.
    pub(crate) description: Option<String>,
}

/// The names of all files and what they stand for: `given` (`--var`) goes before the environment, that before a default.
///
/// # Errors
/// When a value is not of its type, or keeps not a rule.
pub(super) fn scope(
    definition: &Definition,
    given: &BTreeMap<String, String>,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<Scope, BakeError> {
    let mut scope = Scope::default();
    scope.functions.clone_from(&definition.functions);
    scope.variables.extend(definition.globals.clone());
    // what buildx says of the machine
    let host = slipway_oci::Platform::host().to_string();
    scope.variables.insert("BAKE_LOCAL_PLATFORM".to_owned(), Source::Known(host.into()));
    scope.variables.insert("BAKE_CMD_CONTEXT".to_owned(), Source::Known(Value::from("cwd://")));
    let globals: Vec<String> = definition.globals.keys().cloned().collect();
    for (name, block) in &definition.variables {
        let default = block.default.clone().unwrap_or(Source::Known(Value::Null));
        scope.variables.insert(name.clone(), default);
    }
    let names = definition.variables.keys().chain(&globals);
    let mut said = BTreeMap::new();
    for name in names {
        if let Some(text) = given.get(name).cloned().or_else(|| environment(name)) {
            said.insert(name.clone(), text);
        }
    }
    for (name, text) in said {
        let block = definition.variables.get(&name);
        let kind = match block.and_then(|block| block.kind.clone()) {
            Some(kind) => kind,
            // a default says the type where nothing else does
            None => scope.variable(&name).map(|value| kind_of(&value)).unwrap_or_default(),
        };
        let value = parsed(&text, &kind).map_err(|error| error.at(format!("variable `{name}`")))?;
        scope.set(&name, value);
    }
    for (name, block) in &definition.variables {
        check(&scope, name, block).map_err(|error| error.at(format!("variable `{name}`")))?;
    }
    Ok(scope)
}

/// The variables with their values.
pub(super) fn list(definition: &Definition, scope: &Scope) -> Result<Vec<Variable>, BakeError> {
    let one = |(name, block): (&String, &VariableBlock)| {
        Ok(Variable {
            name: name.clone(),
            kind: block.kind.clone(),
            value: scope.variable(name)?,
            description: block.description.clone(),
        })
    };
    definition.variables.iter().map(one).collect()
}

fn kind_of(value: &Value) -> String {
    match value {
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::Array(_) => "list(string)",
        Value::Object(_) => "map(string)",
        Value::Null | Value::String(_) => "string",
    }
    .to_owned()
}

/// A caller's text as a value of a type: lists as JSON, or with commas.
fn parsed(text: &str, kind: &str) -> Result<Value, BakeError> {
    let wrong = || BakeError::Expression(format!("`{text}` is not of the type {kind}"));
    let (outer, inner) =
        kind.split_once('(').map_or((kind, "string"), |(outer, inner)| (outer, inner.trim_end_matches(')')));
    match outer.trim() {
        "" | "string" | "any" => Ok(Value::String(text.to_owned())),
        "bool" => truth_of(&Value::String(text.to_ascii_lowercase())).map(Value::Bool).map_err(|_| wrong()),
        "number" => {
            functions::float(&Value::String(text.to_owned())).and_then(functions::number).map_err(|_| wrong())
        }
        "list" | "set" | "tuple" => {
            if text.trim_start().starts_with('[') {
                return serde_json::from_str(text).map_err(|_| wrong());
            }
            let fields = crate::request::options::fields(text).into_iter().filter(|field| !field.is_empty());
            let inner = if outer == "tuple" { "string" } else { inner };
            fields.map(|field| parsed(&field, inner)).collect::<Result<Vec<_>, _>>().map(Value::Array)
        }
        "map" | "object" => match serde_json::from_str(text) {
            Ok(Value::Object(map)) => Ok(Value::Object(map)),
            _ => Err(wrong()),
        },
        _ => Err(BakeError::Expression(format!("there is no type `{kind}`"))),
    }
}

fn is_of(value: &Value, kind: &str) -> bool {
    let outer = kind.split('(').next().unwrap_or(kind).trim();
    match (outer, value) {
        (_, Value::Null) | ("any", _) => true,
        ("string", value) => text_of(value).is_ok(),
        ("bool", value) => truth_of(value).is_ok(),
        ("number", value) => functions::float(value).is_ok(),
        ("list" | "set" | "tuple", value) => value.is_array(),
        ("map" | "object", value) => value.is_object(),
        _ => false,
    }
}

fn check(scope: &Scope, name: &str, block: &VariableBlock) -> Result<(), BakeError> {
    let value = scope.variable(name)?;
    if let Some(kind) = &block.kind
        && !is_of(&value, kind)
    {
        let words = format!("its value is {}, and its type {kind}", functions::kind(&value));
        return Err(BakeError::Expression(words));
    }
    for rule in &block.rules {
        if !truth_of(&scope.source(&rule.condition, &Local::new())?)? {
            let message =
                rule.message.as_ref().map(|message| scope.source(message, &Local::new())).transpose()?;
            let words = message.as_ref().and_then(|message| text_of(message).ok());
            let words = words.unwrap_or_else(|| "its value keeps not its rule".to_owned());
            return Err(BakeError::Expression(words));
        }
    }
    Ok(())
}
