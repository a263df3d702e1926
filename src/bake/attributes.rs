//! What targets say: each attribute's kind, how it is read, how one target's go over another's, how they are shown.

use super::{
    BakeError,
    evaluate::{text_of, truth_of},
    functions,
};
use crate::request::options::fields;
use serde_json::{Map, Value};

/// What an attribute is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A text.
    Text,
    /// True or false.
    Switch,
    /// Texts; a later list takes the place of an earlier one.
    List,
    /// Texts; a later list is added to an earlier one.
    Added,
    /// Texts by name; later names go over earlier ones.
    Map,
    /// `NAME=VALUE,...` or an object each; what a word alone is depends on which.
    Fields(Alone),
    /// The same, added to what is there.
    AddedFields(Alone),
}

/// What a word alone stands for in a list of fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Alone {
    /// A folder, or `-`.
    Output,
    /// A name in a registry.
    Cache,
    /// An agent's id.
    Ssh,
    /// Nothing.
    None,
}

/// All attributes of a target, in the order in which buildx shows them. `matrix`, `name` and `inherits` are gone by then.
pub(super) const ATTRIBUTES: [(&str, Kind); 28] = [
    ("description", Kind::Text),
    ("annotations", Kind::Added),
    ("attest", Kind::AddedFields(Alone::None)),
    ("context", Kind::Text),
    ("contexts", Kind::Map),
    ("dockerfile", Kind::Text),
    ("dockerfile-inline", Kind::Text),
    ("args", Kind::Map),
    ("labels", Kind::Map),
    ("tags", Kind::List),
    ("cache-from", Kind::AddedFields(Alone::Cache)),
    ("cache-to", Kind::Fields(Alone::Cache)),
    ("target", Kind::Text),
    ("secret", Kind::AddedFields(Alone::None)),
    ("ssh", Kind::AddedFields(Alone::Ssh)),
    ("platforms", Kind::List),
    ("output", Kind::Fields(Alone::Output)),
    ("pull", Kind::Switch),
    ("no-cache", Kind::Switch),
    ("network", Kind::Text),
    ("no-cache-filter", Kind::List),
    ("shm-size", Kind::Text),
    ("ulimits", Kind::Added),
    ("call", Kind::Text),
    ("entitlements", Kind::Added),
    ("extra-hosts", Kind::Map),
    ("policy", Kind::AddedFields(Alone::None)),
    ("load", Kind::Switch),
];

/// The kind of an attribute, by its name or another one that it has.
pub(super) fn kind_of(name: &str) -> Option<(&'static str, Kind)> {
    let name = match name {
        "secrets" => "secret",
        "outputs" => "output",
        "platform" => "platforms",
        "annotation" => "annotations",
        "tag" => "tags",
        "label" => "labels",
        "arg" => "args",
        "no-cache-filters" => "no-cache-filter",
        other => other,
    };
    ATTRIBUTES.iter().find(|(known, _)| *known == name).copied()
}

/// A target with its attributes, read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Target {
    values: Map<String, Value>,
}

impl Target {
    /// Sets an attribute from what a file or `--set` says. Nothing (`null`) is as if it were not said.
    pub(super) fn set(&mut self, name: &str, value: Value) -> Result<(), BakeError> {
        let Some((name, kind)) = kind_of(name) else {
            return Err(BakeError::Expression(format!("a target has no attribute `{name}`")));
        };
        let read = match (kind, value) {
            (_, Value::Null) => return Ok(()),
            (Kind::Text, value) => Value::String(text_of(&value)?),
            (Kind::Switch, value) => Value::Bool(truth_of(&value)?),
            (Kind::List | Kind::Added, value) => texts(value)?,
            (Kind::Map, Value::Object(map)) => {
                let mut all = Map::new();
                for (key, value) in map {
                    if !value.is_null() {
                        all.insert(key, Value::String(text_of(&value)?));
                    }
                }
                Value::Object(all)
            }
            (Kind::Map, other) => {
                return Err(BakeError::Expression(format!(
                    "an object is needed, not {}",
                    functions::kind(&other)
                )));
            }
            (Kind::Fields(alone) | Kind::AddedFields(alone), value) => {
                let items = match value {
                    Value::Array(items) => items,
                    one => vec![one],
                };
                let mut all = Vec::new();
                for item in items {
                    all.extend(entry(item, alone)?);
                }
                Value::Array(all)
            }
        };
        self.values.insert(name.to_owned(), read);
        Ok(())
    }

    /// Lets what `over` says go over what this one says.
    pub(super) fn merge(&mut self, over: &Target) {
        for (name, value) in &over.values {
            let kind = kind_of(name).map(|(_, kind)| kind);
            match (kind, self.values.get_mut(name), value) {
                (Some(Kind::Map), Some(Value::Object(own)), Value::Object(new)) => own.extend(new.clone()),
                (Some(Kind::Added | Kind::AddedFields(_)), Some(Value::Array(own)), Value::Array(new)) => {
                    for item in new {
                        if !own.contains(item) {
                            own.push(item.clone());
                        }
                    }
                }
                _ => drop(self.values.insert(name.clone(), value.clone())),
            }
        }
    }

    /// Takes an attribute from another target.
    pub(super) fn replace(&mut self, name: &str, from: Target) {
        if let Some((name, _)) = kind_of(name)
            && let Some(value) = from.values.get(name)
        {
            self.values.insert(name.to_owned(), value.clone());
        }
    }

    /// Adds to a list or a map.
    pub(super) fn add(&mut self, name: &str, added: Target) {
        let Some((name, _)) = kind_of(name) else { return };
        match (self.values.get_mut(name), added.values.get(name)) {
            (Some(Value::Array(own)), Some(Value::Array(new))) => own.extend(new.clone()),
            (Some(Value::Object(own)), Some(Value::Object(new))) => own.extend(new.clone()),
            (_, Some(new)) => drop(self.values.insert(name.to_owned(), new.clone())),
            (_, None) => {}
        }
    }

    /// A text.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.values.get(name)?.as_str().filter(|text| !text.is_empty())
    }

    /// True or false, where it is said.
    pub(crate) fn switch(&self, name: &str) -> Option<bool> {
        self.values.get(name)?.as_bool()
    }

    /// Texts; fields as `NAME=VALUE,...`.
    pub(crate) fn list(&self, name: &str) -> Vec<String> {
        let Some(Value::Array(items)) = self.values.get(name) else { return Vec::new() };
        items.iter().map(line).collect()
    }

    /// Texts by name.
    pub(crate) fn map(&self, name: &str) -> Vec<(&str, &str)> {
        let Some(Value::Object(map)) = self.values.get(name) else { return Vec::new() };
        map.iter().filter_map(|(key, value)| Some((key.as_str(), value.as_str()?))).collect()
    }

    /// As `--print` shows it.
    pub(crate) fn shown(&self) -> Value {
        let mut shown = Map::new();
        for (name, kind) in ATTRIBUTES {
            let value = match (name, self.values.get(name)) {
                ("context", None) => Value::from("."),
                ("dockerfile", None) => Value::from("Dockerfile"),
                (_, None) => continue,
                (_, Some(Value::Array(items))) if items.is_empty() => continue,
                (_, Some(Value::Object(map))) if map.is_empty() => continue,
                (_, Some(value)) => value.clone(),
            };
            let value = match (kind, value) {
                (Kind::Map, Value::Object(map)) => {
                    let mut pairs: Vec<(String, Value)> = map.into_iter().collect();
                    pairs.sort_by(|a, b| a.0.cmp(&b.0));
                    Value::Object(pairs.into_iter().collect())
                }
                (_, value) => value,
            };
            shown.insert(name.to_owned(), value);
        }
        Value::Object(shown)
    }
}

fn texts(value: Value) -> Result<Value, BakeError> {
    let items = match value {
        Value::Array(items) => items,
        one => vec![one],
    };
    let mut all: Vec<Value> = Vec::new();
    for item in items.iter().filter(|item| !item.is_null()) {
        let text = Value::String(text_of(item)?);
        // a condition that is not met leaves nothing
        if text.as_str() != Some("") && !all.contains(&text) {
            all.push(text);
        }
    }
    Ok(Value::Array(all))
}

/// One entry of a list of fields as an object.
fn entry(value: Value, alone: Alone) -> Result<Option<Value>, BakeError> {
    let text = match value {
        Value::Null => return Ok(None),
        Value::Object(map) => {
            let mut entry = Map::new();
            for (key, value) in map {
                match value {
                    Value::Null => {}
                    // names of an image are one value with commas
                    Value::Array(items) => {
                        let texts = items.iter().map(text_of).collect::<Result<Vec<_>, _>>()?;
                        entry.insert(key, Value::String(texts.join(",")));
                    }
                    value => drop(entry.insert(key, Value::String(text_of(&value)?))),
                }
            }
            return Ok(Some(Value::Object(entry)));
        }
        value => text_of(&value)?,
    };
    if text.is_empty() {
        return Ok(None);
    }
    let pair = |key: &str, value: &str| (key.to_owned(), Value::from(value));
    let parts = fields(&text);
    let entry: Map<String, Value> = match (parts.as_slice(), alone) {
        ([word], Alone::Output) if word == "-" => {
            [pair("type", "tar"), pair("dest", "-")].into_iter().collect()
        }
        ([word], Alone::Output) if !word.contains('=') => {
            [pair("type", "local"), pair("dest", word)].into_iter().collect()
        }
        ([word], Alone::Cache) if !word.contains('=') => {
            [pair("type", "registry"), pair("ref", word)].into_iter().collect()
        }
        ([word], Alone::Ssh) => match word.split_once('=') {
            Some((id, paths)) => [pair("id", id), pair("paths", paths)].into_iter().collect(),
            None => [pair("id", word)].into_iter().collect(),
        },
        (parts, _) => {
            let mut entry = Map::new();
            for part in parts {
                let (key, value) = part.split_once('=').unwrap_or((part, ""));
                entry.insert(key.to_owned(), Value::from(value));
            }
            entry
        }
    };
    Ok(Some(Value::Object(entry)))
}

/// An entry as the flag of a build takes it.
fn line(value: &Value) -> String {
    let Value::Object(entry) = value else { return text_of(value).unwrap_or_default() };
    let quoted = |field: String| match field.contains([',', '"']) {
        true => format!("\"{}\"", field.replace('"', "\"\"")),
        false => field,
    };
    let fields =
        entry.iter().map(|(key, value)| quoted(format!("{key}={}", value.as_str().unwrap_or_default())));
    fields.collect::<Vec<_>>().join(",")
}
