//! The functions that a template may call.

use super::{bad, shown, truth};
use crate::error::Failure;
use serde_json::Value;

/// What stands behind a name.
type Function = fn(&[Value]) -> Option<Result<Value, Failure>>;

/// Every function by its name: docker's own, and those of Go's text/template that people use.
const FUNCTIONS: [(&str, Function); 16] = [
    ("json", |arguments| Some(Ok(serde_json::to_string(arguments.first()?).ok()?.into()))),
    ("len", |arguments| length(arguments.first()?).map(|length| Ok(length.into()))),
    ("index", |arguments| {
        let (value, keys) = arguments.split_first()?;
        let mut value = value.clone();
        for key in keys {
            match element(&value, key) {
                Ok(next) => value = next?,
                Err(failure) => return Some(Err(failure)),
            }
        }
        Some(Ok(value))
    }),
    ("join", |arguments| join(arguments).map(Ok)),
    ("split", |arguments| {
        let [text, separator, ..] = arguments else { return None };
        Some(Ok(shown(text).split(&shown(separator)).map(Value::from).collect()))
    }),
    ("upper", |arguments| Some(Ok(shown(arguments.first()?).to_uppercase().into()))),
    ("lower", |arguments| Some(Ok(shown(arguments.first()?).to_lowercase().into()))),
    ("title", |arguments| Some(Ok(title(&shown(arguments.first()?)).into()))),
    ("println", |arguments| {
        let words: Vec<String> = arguments.iter().map(shown).collect();
        Some(Ok(format!("{}\n", words.join(" ")).into()))
    }),
    ("print", |arguments| Some(Ok(arguments.iter().map(shown).collect::<String>().into()))),
    ("printf", |arguments| {
        let (format, values) = arguments.split_first()?;
        formatted(&shown(format), values).map(|text| Ok(text.into()))
    }),
    ("eq", |arguments| {
        let [value, others @ ..] = arguments else { return None };
        (!others.is_empty()).then(|| Ok(others.contains(value).into()))
    }),
    ("ne", |arguments| {
        let [value, other] = arguments else { return None };
        Some(Ok((value != other).into()))
    }),
    ("not", |arguments| Some(Ok((!truth(arguments.first()?)).into()))),
    ("and", |arguments| arguments.iter().find(|value| !truth(value)).or(arguments.last()).cloned().map(Ok)),
    ("or", |arguments| arguments.iter().find(|value| truth(value)).or(arguments.last()).cloned().map(Ok)),
];

pub(super) fn is_function(name: &str) -> bool {
    FUNCTIONS.iter().any(|(known, _)| *known == name)
}

/// What the function makes of its arguments; those that it cannot take are an error that names it.
pub(super) fn call(name: &str, arguments: &[Value]) -> Result<Value, Failure> {
    let function = FUNCTIONS.iter().find(|(known, _)| *known == name).map(|(_, function)| function);
    function
        .and_then(|function| function(arguments))
        .unwrap_or_else(|| Err(bad(format!("`{name}` has the wrong arguments"))))
}

fn length(value: &Value) -> Option<usize> {
    match value {
        Value::Array(items) => Some(items.len()),
        Value::Object(fields) => Some(fields.len()),
        Value::String(text) => Some(text.len()),
        Value::Null => Some(0),
        Value::Bool(_) | Value::Number(_) => None,
    }
}

/// One step of `index`; `None` where the value has no elements or the key is of the wrong kind.
fn element(value: &Value, key: &Value) -> Result<Option<Value>, Failure> {
    Ok(match (value, key) {
        (Value::Array(items), Value::Number(at)) => {
            let Some(at) = at.as_u64().and_then(|at| usize::try_from(at).ok()) else { return Ok(None) };
            Some(items.get(at).cloned().ok_or_else(|| bad(format!("there is no item {at}")))?)
        }
        (Value::Object(fields), Value::String(key)) => Some(fields.get(key).cloned().unwrap_or(Value::Null)),
        (Value::Null, _) => Some(Value::Null),
        _ => None,
    })
}

fn join(arguments: &[Value]) -> Option<Value> {
    match arguments {
        [Value::Array(items), separator] => {
            Some(items.iter().map(shown).collect::<Vec<_>>().join(&shown(separator)).into())
        }
        [Value::Null, _] => Some("".into()),
        _ => None,
    }
}

fn title(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

/// Go's `%s`, `%v`, `%d`, `%q` and `%%`; `None` for other verbs and where values are missing.
fn formatted(format: &str, values: &[Value]) -> Option<String> {
    let mut output = String::new();
    let mut values = values.iter().map(shown);
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        match c {
            '%' => match chars.next()? {
                '%' => output.push('%'),
                's' | 'v' | 'd' => output.push_str(&values.next()?),
                'q' => output.push_str(&format!("{:?}", values.next()?)),
                _ => return None,
            },
            c => output.push(c),
        }
    }
    Some(output)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_function_takes_any_number_of_arguments_without_a_panic() {
        let values =
            [Value::Null, 1.into(), "%s%".into(), serde_json::json!([1]), serde_json::json!({"a": 1})];
        for (name, _) in FUNCTIONS {
            for count in 0..4 {
                for value in &values {
                    // wrong arguments are an error; that it comes back at all is what is asked here
                    let _ = call(name, &vec![value.clone(); count]);
                }
            }
            assert!(is_function(name));
        }
        assert!(call("printf", &[]).is_err() && call("index", &[1.into(), 2.into()]).is_err());
    }
}
