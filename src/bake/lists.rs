//! Functions of bake files that are about lists and objects.

use super::{
    BakeError,
    evaluate::text_of,
    functions::{Arguments, ITEMS, element, equal, failed, kind, texts},
};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

pub(super) fn of_lists(name: &str, given: &Arguments<'_>) -> Result<Option<Value>, BakeError> {
    let list = |items: Vec<Value>| Ok(Some(Value::Array(items)));
    match name {
        "length" => Ok(Some(Value::from(match given.at(0)? {
            Value::Array(items) => items.len(),
            Value::Object(map) => map.len(),
            other => text_of(other)?.chars().count(),
        }))),
        "concat" => {
            let mut all = Vec::new();
            for at in 0..given.all.len() {
                all.extend_from_slice(given.list(at)?);
            }
            list(all)
        }
        "contains" => {
            let wanted = given.at(1)?;
            Ok(Some(given.list(0)?.iter().any(|item| equal(item, wanted)).into()))
        }
        "distinct" | "toset" | "setunion" => {
            let mut all: Vec<Value> = Vec::new();
            for at in 0..given.all.len() {
                for item in given.list(at)? {
                    if !all.contains(item) {
                        all.push(item.clone());
                    }
                }
            }
            list(all)
        }
        "setintersection" | "setsubtract" => {
            let (first, second) = (given.list(0)?, given.list(1)?);
            let keeps = name == "setintersection";
            list(first.iter().filter(|item| second.contains(item) == keeps).cloned().collect())
        }
        "compact" => list(
            given
                .list(0)?
                .iter()
                .filter(|item| !matches!(item, Value::Null) && item.as_str() != Some(""))
                .cloned()
                .collect(),
        ),
        "flatten" => {
            fn into(items: &[Value], depth: usize, all: &mut Vec<Value>) {
                for item in items {
                    match item {
                        Value::Array(inner) if depth < 64 => into(inner, depth + 1, all),
                        other => all.push(other.clone()),
                    }
                }
            }
            let mut all = Vec::new();
            into(given.list(0)?, 0, &mut all);
            list(all)
        }
        "reverse" | "reverselist" => list(given.list(0)?.iter().rev().cloned().collect()),
        "sort" => {
            let mut all = given.texts(0)?;
            all.sort();
            Ok(Some(texts(all)))
        }
        _ => of_places(name, given),
    }
}

/// Functions that ask for places in lists, or put lists together.
fn of_places(name: &str, given: &Arguments<'_>) -> Result<Option<Value>, BakeError> {
    let list = |items: Vec<Value>| Ok(Some(Value::Array(items)));
    match name {
        "slice" => {
            let (all, from, to) = (given.list(0)?, given.float(1)? as usize, given.float(2)? as usize);
            all.get(from..to)
                .map_or_else(|| failed("`slice` reaches beyond its list"), |part| list(part.to_vec()))
        }
        "element" => {
            let all = given.list(0)?;
            match all.len() {
                0 => failed("`element` of an empty list"),
                count => Ok(Some(all[(given.float(1)? as usize) % count].clone())),
            }
        }
        "index" => element(given.at(0)?, given.at(1)?).map(Some),
        "hasindex" => Ok(Some(element(given.at(0)?, given.at(1)?).is_ok().into())),
        "chunklist" => {
            let size = (given.float(1)? as usize).max(1);
            list(given.list(0)?.chunks(size).map(|part| Value::Array(part.to_vec())).collect())
        }
        "coalesce" => {
            let found = given.all.iter().find(|value| !value.is_null() && value.as_str() != Some(""));
            found
                .map_or_else(|| failed("`coalesce` has nothing but nothing"), |value| Ok(Some(value.clone())))
        }
        "coalescelist" => {
            let found =
                given.all.iter().find(|value| value.as_array().is_some_and(|items| !items.is_empty()));
            found.map_or_else(
                || failed("`coalescelist` has empty lists alone"),
                |value| Ok(Some(value.clone())),
            )
        }
        "tolist" => match given.at(0)? {
            Value::Array(items) => list(items.clone()),
            other => failed(format!("{} is no list", kind(other))),
        },
        "setproduct" => {
            let mut rows: Vec<Vec<Value>> = vec![Vec::new()];
            for at in 0..given.all.len() {
                let items = given.list(at)?;
                if rows.len().saturating_mul(items.len()) > ITEMS {
                    return failed("`setproduct` has too many elements");
                }
                let with = |row: &Vec<Value>| {
                    items
                        .iter()
                        .map(move |item| [row.as_slice(), std::slice::from_ref(item)].concat())
                        .collect::<Vec<_>>()
                };
                rows = rows.iter().flat_map(with).collect();
            }
            list(rows.into_iter().map(Value::Array).collect())
        }
        _ => of_objects(name, given),
    }
}

fn of_objects(name: &str, given: &Arguments<'_>) -> Result<Option<Value>, BakeError> {
    let sorted = |map: &Map<String, Value>| map.clone().into_iter().collect::<BTreeMap<String, Value>>();
    match name {
        "keys" => Ok(Some(texts(sorted(given.object(0)?).into_keys()))),
        "values" => Ok(Some(Value::Array(sorted(given.object(0)?).into_values().collect()))),
        "lookup" => {
            let key = given.text(1)?;
            match (given.object(0)?.get(&key), given.all.get(2)) {
                (Some(found), _) | (None, Some(found)) => Ok(Some(found.clone())),
                (None, None) => failed(format!("`lookup`: there is no `{key}`")),
            }
        }
        "merge" => {
            let mut all = Map::new();
            for at in 0..given.all.len() {
                all.extend(given.object(at)?.clone());
            }
            Ok(Some(Value::Object(all)))
        }
        "zipmap" => {
            let (keys, values) = (given.texts(0)?, given.list(1)?);
            if keys.len() != values.len() {
                return failed("`zipmap` needs as many keys as values");
            }
            Ok(Some(Value::Object(keys.into_iter().zip(values.iter().cloned()).collect())))
        }
        "tomap" => given.object(0).map(|map| Some(Value::Object(map.clone()))),
        _ => Ok(None),
    }
}
