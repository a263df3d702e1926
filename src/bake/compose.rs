//! Compose files: a target for each service that has a `build` section (compose-spec `build.md`), and what `x-bake` adds to it.

use super::{
    BakeError, DEFAULT,
    definition::{Attributes, Definition},
    evaluate::Source,
};
use serde_json::{Map, Value};

/// Keys of a build section and the attributes that they are.
const KEYS: [(&str, &str); 16] = [
    ("context", "context"),
    ("dockerfile", "dockerfile"),
    ("dockerfile_inline", "dockerfile-inline"),
    ("target", "target"),
    ("network", "network"),
    ("cache_from", "cache-from"),
    ("cache_to", "cache-to"),
    ("no_cache", "no-cache"),
    ("no_cache_filter", "no-cache-filter"),
    ("pull", "pull"),
    ("platforms", "platforms"),
    ("shm_size", "shm-size"),
    ("entitlements", "entitlements"),
    ("tags", "tags"),
    ("additional_contexts", "contexts"),
    ("ssh", "ssh"),
];

/// Adds what a compose file says.
pub(super) fn add(
    definition: &mut Definition,
    file: &Value,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<(), BakeError> {
    let file = filled(file, environment)?;
    let secrets = file.get("secrets").cloned().unwrap_or_default();
    let Some(Value::Object(services)) = file.get("services") else { return Ok(()) };
    let mut targets = Vec::new();
    for (name, service) in services {
        let Some(build) = service.get("build").filter(|build| !build.is_null()) else { continue };
        // a target's name has no dots
        let target = name.replace('.', "_");
        let attributes = service_attributes(build, service, &secrets, environment)
            .map_err(|error| error.at(format!("service `{name}`")))?;
        definition.add_target(&target, attributes)?;
        targets.push(Value::String(target));
    }
    if !targets.is_empty() {
        let group = definition.groups.entry(DEFAULT.to_owned()).or_default();
        group.push(Attributes::from([("targets".to_owned(), Source::Known(Value::Array(targets)))]));
    }
    Ok(())
}

fn service_attributes(
    build: &Value,
    service: &Value,
    secrets: &Value,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<Attributes, BakeError> {
    let mut all = Map::new();
    if let Value::String(context) = build {
        all.insert("context".to_owned(), context.as_str().into());
    }
    for (key, attribute) in KEYS {
        if let Some(value) = build.get(key) {
            let value = if attribute == "contexts" { Value::Object(pairs(value)) } else { value.clone() };
            all.insert(attribute.to_owned(), value);
        }
    }
    for (key, attribute) in [("args", "args"), ("labels", "labels"), ("extra_hosts", "extra-hosts")] {
        if let Some(value) = build.get(key) {
            let mut named = pairs(value);
            if key == "args" {
                // an argument without a value has the environment's
                for (name, value) in named.iter_mut().filter(|(_, value)| value.is_null()) {
                    *value = environment(name).map_or(Value::Null, Value::from);
                }
            }
            all.insert(attribute.to_owned(), Value::Object(named));
        }
    }
    if let Some(Value::Object(limits)) = build.get("ulimits") {
        let one = |(name, value): (&String, &Value)| match (value.get("soft"), value.get("hard")) {
            (Some(soft), Some(hard)) => format!("{name}={soft}:{hard}").into(),
            _ => Value::String(format!("{name}={value}")),
        };
        all.insert("ulimits".to_owned(), Value::Array(limits.iter().map(one).collect()));
    }
    if let Some(Value::Array(named)) = build.get("secrets") {
        let all_secrets =
            named.iter().map(|secret| secret_of(secret, secrets)).collect::<Result<Vec<_>, _>>()?;
        all.insert("secret".to_owned(), Value::Array(all_secrets));
    }
    if !all.contains_key("tags")
        && let Some(image) = service.get("image").and_then(Value::as_str)
    {
        all.insert("tags".to_owned(), serde_json::json!([image]));
    }
    if let Some(Value::Object(own)) = build.get("x-bake") {
        for (key, value) in own {
            let value = match key.as_str() {
                "args" | "labels" | "contexts" | "extra-hosts" => Value::Object(pairs(value)),
                _ => value.clone(),
            };
            all.insert(key.clone(), value);
        }
    }
    Ok(all.into_iter().map(|(key, value)| (key, Source::Known(value))).collect())
}

/// A secret by its name in the file: `file:` or `environment:` there say where it is.
fn secret_of(named: &Value, secrets: &Value) -> Result<Value, BakeError> {
    let (source, target) = match named {
        Value::String(name) => (name.as_str(), name.as_str()),
        other => {
            let source = other.get("source").and_then(Value::as_str).unwrap_or_default();
            (source, other.get("target").and_then(Value::as_str).unwrap_or(source))
        }
    };
    let defined =
        secrets.get(source).ok_or_else(|| BakeError::Expression(format!("there is no secret `{source}`")))?;
    match (defined.get("file"), defined.get("environment")) {
        (Some(file), _) => Ok(serde_json::json!({ "type": "file", "id": target, "src": file })),
        (None, Some(variable)) => Ok(serde_json::json!({ "type": "env", "id": target, "env": variable })),
        (None, None) => {
            Err(BakeError::Expression(format!("the secret `{source}` has neither a file nor a variable")))
        }
    }
}

/// `NAME: VALUE` or a list of `NAME=VALUE`; a name alone has no value.
fn pairs(value: &Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map.clone(),
        Value::Array(items) => {
            let one = |item: &Value| {
                let text = item.as_str()?;
                let (name, value) = text.split_once('=').or_else(|| text.split_once(':')).unzip();
                Some((name.unwrap_or(text).to_owned(), value.map_or(Value::Null, Value::from)))
            };
            items.iter().filter_map(one).collect()
        }
        _ => Map::new(),
    }
}

/// The file with its variables filled in.
fn filled(value: &Value, environment: &dyn Fn(&str) -> Option<String>) -> Result<Value, BakeError> {
    Ok(match value {
        Value::String(text) => Value::String(fill(text, environment)?),
        Value::Array(items) => {
            Value::Array(items.iter().map(|item| filled(item, environment)).collect::<Result<_, _>>()?)
        }
        Value::Object(map) => {
            let one = |(key, value): (&String, &Value)| Ok((key.clone(), filled(value, environment)?));
            Value::Object(map.iter().map(one).collect::<Result<_, BakeError>>()?)
        }
        other => other.clone(),
    })
}

/// `$NAME`, `${NAME}`, `${NAME:-x}`, `${NAME-x}`, `${NAME:?x}`, `${NAME?x}`, `${NAME:+x}`, `${NAME+x}`, `$$` (compose-spec `interpolation.md`).
fn fill(text: &str, environment: &dyn Fn(&str) -> Option<String>) -> Result<String, BakeError> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let (mut filled, mut rest) = (String::new(), text);
    while let Some(at) = rest.find('$') {
        filled.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            filled.push('$');
            rest = after;
        } else if let Some(inner) = rest.strip_prefix('{') {
            let (mut depth, mut end) = (1, None);
            for (at, c) in inner.char_indices() {
                match c {
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    _ => {}
                }
                if depth == 0 {
                    end = Some(at);
                    break;
                }
            }
            let end = end.ok_or_else(|| BakeError::Expression(format!("`{text}`: a brace is open")))?;
            let (whole, after) = (&inner[..end], &inner[end + 1..]);
            let name_end = whole.find(|c| !is_name(c)).unwrap_or(whole.len());
            let (name, modifier) = whole.split_at(name_end);
            let value = environment(name);
            let (kind, word) = match modifier.strip_prefix(':') {
                Some(rest) => (rest.get(..1).unwrap_or_default(), rest.get(1..).unwrap_or_default()),
                None => (modifier.get(..1).unwrap_or_default(), modifier.get(1..).unwrap_or_default()),
            };
            let value =
                if modifier.starts_with(':') { value.filter(|value| !value.is_empty()) } else { value };
            match (kind, value) {
                ("", value) => filled.push_str(&value.unwrap_or_default()),
                ("-", Some(value)) | ("?", Some(value)) => filled.push_str(&value),
                ("-", None) | ("+", Some(_)) => filled.push_str(&fill(word, environment)?),
                ("+", None) => {}
                ("?", None) => {
                    return Err(BakeError::Expression(format!("the variable `{name}` is needed: {word}")));
                }
                _ => return Err(BakeError::Expression(format!("`${{{whole}}}` is no variable"))),
            }
            rest = after;
        } else {
            let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
            if end == 0 {
                filled.push('$');
            } else {
                filled.push_str(&environment(&rest[..end]).unwrap_or_default());
            }
            rest = &rest[end..];
        }
    }
    filled.push_str(rest);
    Ok(filled)
}
