//! Functions that bake files have: those of HCL's standard library that buildx offers and that need nothing but their arguments.

use super::{
    BakeError,
    evaluate::{text_of, truth_of},
    lists::of_lists,
};
use serde_json::{Map, Value};
use slipway_oci::Digest;

/// Most items of a list that a function makes.
pub(super) const ITEMS: usize = 100_000;

type Answer = Result<Value, BakeError>;

pub(super) fn failed<T>(words: impl Into<String>) -> Result<T, BakeError> {
    Err(BakeError::Expression(words.into()))
}

/// What a value is, in words.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// A number as whole, where it is.
pub(super) fn number(value: f64) -> Answer {
    if value.fract() == 0.0 && value.abs() < 9e15 {
        return Ok(Value::from(value as i64));
    }
    serde_json::Number::from_f64(value)
        .map_or_else(|| failed("a number is too large, or divided by 0"), |n| Ok(Value::Number(n)))
}

/// A value as a number.
pub(super) fn float(value: &Value) -> Result<f64, BakeError> {
    let found = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    found.map_or_else(|| failed(format!("a number is needed, not {}", kind(value))), Ok)
}

/// Whether two values are the same; 1 and 1.0 are.
pub(super) fn equal(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        _ => left == right,
    }
}

/// An element of a list, or a value of an object.
pub(super) fn element(value: &Value, key: &Value) -> Answer {
    match value {
        Value::Object(map) => {
            let key = text_of(key)?;
            map.get(&key)
                .map_or_else(|| failed(format!("an object has no `{key}`")), |found| Ok(found.clone()))
        }
        Value::Array(items) => {
            let at = float(key)?;
            let found = (at >= 0.0 && at.fract() == 0.0).then(|| items.get(at as usize)).flatten();
            found.map_or_else(|| failed(format!("a list has no element {at}")), |found| Ok(found.clone()))
        }
        other => failed(format!("{} has no parts", kind(other))),
    }
}

/// The arguments of one call.
pub(super) struct Arguments<'a> {
    name: &'a str,
    pub(super) all: &'a [Value],
}

impl Arguments<'_> {
    pub(super) fn at(&self, index: usize) -> Result<&Value, BakeError> {
        self.all
            .get(index)
            .map_or_else(|| failed(format!("`{}` needs {} arguments", self.name, index + 1)), Ok)
    }

    pub(super) fn text(&self, index: usize) -> Result<String, BakeError> {
        text_of(self.at(index)?)
    }

    pub(super) fn float(&self, index: usize) -> Result<f64, BakeError> {
        float(self.at(index)?)
    }

    pub(super) fn list(&self, index: usize) -> Result<&[Value], BakeError> {
        match self.at(index)? {
            Value::Array(items) => Ok(items),
            other => failed(format!("`{}` needs a list, not {}", self.name, kind(other))),
        }
    }

    pub(super) fn object(&self, index: usize) -> Result<&Map<String, Value>, BakeError> {
        match self.at(index)? {
            Value::Object(map) => Ok(map),
            other => failed(format!("`{}` needs an object, not {}", self.name, kind(other))),
        }
    }

    /// All arguments as numbers; a single list stands for its elements.
    fn floats(&self) -> Result<Vec<f64>, BakeError> {
        match self.all {
            [Value::Array(items)] => items.iter().map(float).collect(),
            all => all.iter().map(float).collect(),
        }
    }

    pub(super) fn texts(&self, index: usize) -> Result<Vec<String>, BakeError> {
        self.list(index)?.iter().map(text_of).collect()
    }
}

pub(super) fn texts(texts: impl IntoIterator<Item = impl Into<String>>) -> Value {
    Value::Array(texts.into_iter().map(|text| Value::String(text.into())).collect())
}

/// Calls a function by its name.
pub(super) fn call(name: &str, all: &[Value]) -> Answer {
    let arguments = Arguments { name, all };
    let found = of_text(name, &arguments)?;
    let found = found.map_or_else(|| of_numbers(name, &arguments), |value| Ok(Some(value)))?;
    let found = found.map_or_else(|| of_lists(name, &arguments), |value| Ok(Some(value)))?;
    let found = found.map_or_else(|| of_codes(name, &arguments), |value| Ok(Some(value)))?;
    found.map_or_else(|| failed(format!("there is no function `{name}`")), Ok)
}

fn of_text(name: &str, given: &Arguments<'_>) -> Result<Option<Value>, BakeError> {
    let text = |text: String| Ok(Some(Value::String(text)));
    match name {
        "upper" => text(given.text(0)?.to_uppercase()),
        "lower" => text(given.text(0)?.to_lowercase()),
        "title" => {
            let mut start = true;
            let one = |c: char| {
                let first = std::mem::replace(&mut start, c.is_whitespace());
                if first { c.to_uppercase().collect::<String>() } else { c.to_string() }
            };
            text(given.text(0)?.chars().map(one).collect())
        }
        "trimspace" => text(given.text(0)?.trim().to_owned()),
        "chomp" => text(given.text(0)?.trim_end_matches(['\n', '\r']).to_owned()),
        "trim" => {
            let set: Vec<char> = given.text(1)?.chars().collect();
            text(given.text(0)?.trim_matches(&set[..]).to_owned())
        }
        "trimprefix" => {
            let (whole, part) = (given.text(0)?, given.text(1)?);
            text(whole.strip_prefix(&part).unwrap_or(&whole).to_owned())
        }
        "trimsuffix" => {
            let (whole, part) = (given.text(0)?, given.text(1)?);
            text(whole.strip_suffix(&part).unwrap_or(&whole).to_owned())
        }
        "replace" => {
            let (whole, from, to) = (given.text(0)?, given.text(1)?, given.text(2)?);
            text(whole.replace(&from, &to))
        }
        "substr" => substr(given).map(Some),
        "strrev" => text(given.text(0)?.chars().rev().collect()),
        "strlen" => Ok(Some(Value::from(given.text(0)?.chars().count()))),
        "join" => {
            let mut parts = Vec::new();
            for at in 1..given.all.len() {
                parts.extend(given.texts(at)?);
            }
            text(parts.join(&given.text(0)?))
        }
        "split" => {
            let (by, whole) = (given.text(0)?, given.text(1)?);
            Ok(Some(match by.is_empty() {
                true => texts(whole.chars()),
                false => texts(whole.split(&by)),
            }))
        }
        "startswith" => Ok(Some(given.text(0)?.starts_with(&given.text(1)?).into())),
        "endswith" => Ok(Some(given.text(0)?.ends_with(&given.text(1)?).into())),
        "strcontains" => Ok(Some(given.text(0)?.contains(&given.text(1)?).into())),
        "format" => text(format(&given.text(0)?, given.all.get(1..).unwrap_or_default())?),
        "formatlist" => formatlist(given).map(Some),
        "indent" => {
            let blanks = " ".repeat(given.float(0)?.clamp(0.0, 1000.0) as usize);
            text(given.text(1)?.replace('\n', &format!("\n{blanks}")))
        }
        "basename" => text(given.text(0)?.rsplit('/').next().unwrap_or_default().to_owned()),
        "dirname" => text(given.text(0)?.rsplit_once('/').map_or(".", |(folder, _)| folder).to_owned()),
        _ => Ok(None),
    }
}

fn substr(given: &Arguments<'_>) -> Answer {
    let all: Vec<char> = given.text(0)?.chars().collect();
    let (offset, length) = (given.float(1)?, given.float(2)?);
    let from = if offset < 0.0 { all.len().saturating_sub(-offset as usize) } else { offset as usize };
    let from = from.min(all.len());
    let count = if length < 0.0 { all.len() } else { length as usize };
    Ok(Value::String(all[from..].iter().take(count).collect()))
}

/// `%s`, `%d`, `%q`, `%v`, `%t`, `%f`, `%x`, widths and zeros: what Go's verbs do to plain values.
fn format(pattern: &str, values: &[Value]) -> Result<String, BakeError> {
    let (mut text, mut values) = (String::new(), values.iter());
    let mut rest = pattern.chars().peekable();
    while let Some(c) = rest.next() {
        if c != '%' {
            text.push(c);
            continue;
        }
        let mut flags = String::new();
        while let Some(flag) = rest.next_if(|c| c.is_ascii_digit() || matches!(c, '-' | '+' | '.')) {
            flags.push(flag);
        }
        let verb = rest.next();
        if verb == Some('%') {
            text.push('%');
            continue;
        }
        let Some(value) = values.next() else { return failed("`format` has fewer values than verbs") };
        let (width, precision) = flags.split_once('.').unwrap_or((&flags, ""));
        let shown = match verb {
            Some('s') => text_of(value)?,
            Some('v') => text_of(value).unwrap_or_else(|_| value.to_string()),
            Some('q') => Value::String(text_of(value)?).to_string(),
            Some('t') => truth_of(value)?.to_string(),
            Some('d') => format!("{}", float(value)?.trunc()),
            Some('x') => format!("{:x}", float(value)? as i64),
            Some('f') => format!("{:.*}", precision.parse::<usize>().unwrap_or(6).min(30), float(value)?),
            other => return failed(format!("`format` has no verb `%{}`", other.unwrap_or(' '))),
        };
        let left = width.starts_with('-');
        let zeros = width.starts_with('0') && !left;
        let width: usize = width.trim_start_matches(['-', '+']).parse().unwrap_or(0);
        let fill =
            (if zeros { "0" } else { " " }).repeat(width.min(1000).saturating_sub(shown.chars().count()));
        text.push_str(&if left { format!("{shown}{fill}") } else { format!("{fill}{shown}") });
    }
    Ok(text)
}

fn formatlist(given: &Arguments<'_>) -> Answer {
    let pattern = given.text(0)?;
    let values = given.all.get(1..).unwrap_or_default();
    let count = values.iter().filter_map(|value| value.as_array().map(Vec::len)).max().unwrap_or(1);
    let row = |at: usize| {
        let one = |value: &Value| match value {
            Value::Array(items) => items.get(at).cloned(),
            other => Some(other.clone()),
        };
        match values.iter().map(one).collect::<Option<Vec<_>>>() {
            Some(row) => format(&pattern, &row).map(Value::String),
            None => failed("`formatlist` has lists of several lengths"),
        }
    };
    (0..count).map(row).collect::<Result<Vec<_>, _>>().map(Value::Array)
}

fn of_numbers(name: &str, given: &Arguments<'_>) -> Result<Option<Value>, BakeError> {
    let one = |with: fn(f64) -> f64| given.float(0).and_then(|value| number(with(value))).map(Some);
    let two = |with: fn(f64, f64) -> f64| number(with(given.float(0)?, given.float(1)?)).map(Some);
    match name {
        "abs" | "absolute" => one(f64::abs),
        "ceil" => one(f64::ceil),
        "floor" => one(f64::floor),
        "int" => one(f64::trunc),
        "negate" => one(|value| -value),
        "signum" => one(|value| if value == 0.0 { 0.0 } else { value.signum() }),
        "add" => two(|a, b| a + b),
        "subtract" => two(|a, b| a - b),
        "multiply" => two(|a, b| a * b),
        "divide" => two(|a, b| a / b),
        "modulo" => two(|a, b| a % b),
        "pow" => two(f64::powf),
        "log" => two(f64::log),
        "min" | "max" => {
            let floats = given.floats()?;
            let best = if name == "min" { f64::min } else { f64::max };
            let found = floats.into_iter().reduce(best);
            found.map_or_else(|| failed(format!("`{name}` needs numbers")), number).map(Some)
        }
        "greaterthan" => Ok(Some((given.float(0)? > given.float(1)?).into())),
        "lessthan" => Ok(Some((given.float(0)? < given.float(1)?).into())),
        "greaterthanorequalto" => Ok(Some((given.float(0)? >= given.float(1)?).into())),
        "lessthanorequalto" => Ok(Some((given.float(0)? <= given.float(1)?).into())),
        "equal" => Ok(Some(equal(given.at(0)?, given.at(1)?).into())),
        "notequal" => Ok(Some((!equal(given.at(0)?, given.at(1)?)).into())),
        "and" => Ok(Some((truth_of(given.at(0)?)? && truth_of(given.at(1)?)?).into())),
        "or" => Ok(Some((truth_of(given.at(0)?)? || truth_of(given.at(1)?)?).into())),
        "not" => Ok(Some((!truth_of(given.at(0)?)?).into())),
        "parseint" => {
            let (text, base) = (given.text(0)?, given.float(1)? as u32);
            let found = (2..=36).contains(&base).then(|| i64::from_str_radix(&text, base).ok()).flatten();
            found.map_or_else(
                || failed(format!("`{text}` is no number of base {base}")),
                |n| Ok(Some(n.into())),
            )
        }
        "tonumber" => number(given.float(0)?).map(Some),
        "tostring" => given.text(0).map(|text| Some(Value::String(text))),
        "tobool" => truth_of(given.at(0)?).map(|value| Some(Value::Bool(value))),
        "range" => range(given).map(Some),
        _ => Ok(None),
    }
}

fn range(given: &Arguments<'_>) -> Answer {
    let (from, to, step) = match given.all.len() {
        1 => (0.0, given.float(0)?, 1.0),
        2 => (given.float(0)?, given.float(1)?, 1.0),
        _ => (given.float(0)?, given.float(1)?, given.float(2)?),
    };
    let step = if given.all.len() < 3 && to < from { -1.0 } else { step };
    if step == 0.0 || ((to - from) / step) > ITEMS as f64 {
        return failed("`range` has no end, or too many elements");
    }
    let count = ((to - from) / step).ceil().max(0.0) as usize;
    (0..count).map(|at| number(from + step * at as f64)).collect::<Result<Vec<_>, _>>().map(Value::Array)
}

fn of_codes(name: &str, given: &Arguments<'_>) -> Result<Option<Value>, BakeError> {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let text = |text: String| Ok(Some(Value::String(text)));
    match name {
        "jsonencode" => text(given.at(0)?.to_string()),
        "jsondecode" => serde_json::from_str(&given.text(0)?)
            .map(Some)
            .map_err(|error| BakeError::Expression(error.to_string())),
        "base64encode" => text(STANDARD.encode(given.text(0)?)),
        "base64decode" => {
            let bytes = STANDARD.decode(given.text(0)?).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            bytes.map_or_else(|| failed("`base64decode`: it is no text in base64"), text)
        }
        "sha256" => text(Digest::sha256(given.text(0)?.as_bytes()).hex()),
        "urlencode" => {
            let one = |byte: u8| match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                    char::from(byte).to_string()
                }
                b' ' => "+".to_owned(),
                byte => format!("%{byte:02X}"),
            };
            text(given.text(0)?.bytes().map(one).collect())
        }
        "csvdecode" => {
            let whole = given.text(0)?;
            let mut rows = whole.lines().map(crate::request::options::fields);
            let head = rows.next().unwrap_or_default();
            let row = |fields: Vec<String>| {
                Value::Object(head.iter().cloned().zip(fields.into_iter().map(Value::String)).collect())
            };
            Ok(Some(Value::Array(rows.map(row).collect())))
        }
        _ => Ok(None),
    }
}
