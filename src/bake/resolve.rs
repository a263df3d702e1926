//! From a definition to a plan: which targets, with what, in which order.

use super::{
    BakeError, DEFAULT,
    attributes::{Target, kind_of},
    definition::{Attributes, Definition},
    evaluate::{Local, Scope, Source, text_of},
    variables::{self, Variable},
};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// Most targets that matrices make.
const TARGETS: usize = 2000;
/// Before the name of a target that is a context.
const TARGET: &str = "target:";

/// What is to be built.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    /// Targets by name; one that is another one's context comes before it.
    pub(crate) targets: Vec<(String, Target)>,
    /// Groups that were meant, and what they stand for.
    groups: BTreeMap<String, Vec<String>>,
    /// The variables, for who asks.
    pub(crate) variables: Vec<Variable>,
    /// All targets and groups that there are.
    pub(crate) known: Vec<(String, Option<String>)>,
}

impl Plan {
    /// As `--print` shows it.
    pub(crate) fn shown(&self) -> Value {
        let groups: Map<String, Value> = self
            .groups
            .iter()
            .map(|(name, targets)| (name.clone(), serde_json::json!({ "targets": targets })))
            .collect();
        let sorted: BTreeMap<&String, Value> =
            self.targets.iter().map(|(name, target)| (name, target.shown())).collect();
        let targets: Map<String, Value> =
            sorted.into_iter().map(|(name, value)| (name.clone(), value)).collect();
        serde_json::json!({ "group": groups, "target": targets })
    }

    /// The targets that are contexts of another: name of the context, and of the target.
    pub(crate) fn contexts(target: &Target) -> Vec<(String, String)> {
        let own = target.map("contexts").into_iter();
        own.filter_map(|(name, source)| Some((name.to_owned(), source.strip_prefix(TARGET)?.to_owned())))
            .collect()
    }
}

/// What the caller says beside the files.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked {
    /// Targets and groups.
    pub(crate) names: Vec<String>,
    /// `--set`.
    pub(crate) set: Vec<String>,
    /// `--var`.
    pub(crate) variables: BTreeMap<String, String>,
}

/// A target before what it inherits is there.
struct Block<'a> {
    attributes: Vec<&'a Attributes>,
    local: Local,
}

/// Works out what is asked for.
///
/// # Errors
/// When a name stands for nothing, an expression has no value, or something refers to itself.
pub(crate) fn plan(
    definition: &Definition,
    asked: &Asked,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<Plan, BakeError> {
    let scope = variables::scope(definition, &asked.variables, environment)?;
    let mut resolver =
        Resolver { scope, blocks: BTreeMap::new(), groups: BTreeMap::new(), set: overrides(asked)? };
    resolver.expand(definition)?;
    let mut plan = Plan { variables: variables::list(definition, &resolver.scope)?, ..Plan::default() };
    for name in &definition.order {
        let description = definition.targets[name].iter().rev().find_map(|block| block.get("description"));
        let description =
            description.map(|source| resolver.scope.source(source, &Local::new())).transpose()?;
        plan.known.push((name.clone(), description.and_then(|text| text_of(&text).ok())));
    }
    plan.known.extend(definition.groups.keys().map(|name| (name.clone(), None)));
    let names = if asked.names.is_empty() { vec![DEFAULT.to_owned()] } else { asked.names.clone() };
    let top = match names.as_slice() {
        [one] if one == DEFAULT && resolver.groups.contains_key(DEFAULT) => resolver.groups[DEFAULT].clone(),
        names => names.to_vec(),
    };
    let (mut open, mut wanted) = (BTreeSet::new(), Vec::new());
    for name in &top {
        resolver.members(name, &mut open, &mut plan.groups, &mut wanted)?;
    }
    plan.groups.insert(DEFAULT.to_owned(), top);
    for name in wanted {
        resolver.place(&name, &mut BTreeSet::new(), &mut plan.targets)?;
    }
    for over in &resolver.set {
        if !plan.targets.iter().any(|(name, _)| over.is_for(name)) {
            return Err(BakeError::Expression(format!("--set: no target is called `{}`", over.pattern)));
        }
    }
    Ok(plan)
}

struct Resolver<'a> {
    scope: Scope,
    blocks: BTreeMap<String, Block<'a>>,
    groups: BTreeMap<String, Vec<String>>,
    set: Vec<Override>,
}

impl<'a> Resolver<'a> {
    /// Matrices become targets, and a group of their own name.
    fn expand(&mut self, definition: &'a Definition) -> Result<(), BakeError> {
        for (name, blocks) in &definition.groups {
            let last = blocks.iter().rev().find_map(|block| block.get("targets"));
            let targets = match last {
                Some(source) => {
                    self.texts(source, &Local::new()).map_err(|error| error.at(format!("group `{name}`")))?
                }
                None => Vec::new(),
            };
            self.groups.insert(name.clone(), targets);
        }
        for name in &definition.order {
            let attributes: Vec<&Attributes> = definition.targets[name].iter().collect();
            let matrix = attributes.iter().rev().find_map(|block| block.get("matrix"));
            let Some(matrix) = matrix else {
                self.blocks.insert(name.clone(), Block { attributes, local: Local::new() });
                continue;
            };
            let at = |error: BakeError| error.at(format!("matrix of target `{name}`"));
            let rows = self.rows(matrix).map_err(at)?;
            let naming = attributes.iter().rev().find_map(|block| block.get("name"));
            let Some(naming) = naming else {
                return Err(at(BakeError::Expression(
                    "it needs `name`, which tells its targets apart".to_owned(),
                )));
            };
            let mut members = Vec::new();
            for local in rows {
                let own = text_of(&self.scope.source(naming, &local).map_err(at)?).map_err(at)?;
                if definition.targets.contains_key(&own) || members.contains(&own) {
                    return Err(at(BakeError::Expression(format!("two targets are called `{own}`"))));
                }
                members.push(own.clone());
                self.blocks.insert(own, Block { attributes: attributes.clone(), local });
                if self.blocks.len() > TARGETS {
                    return Err(at(BakeError::Expression(format!("there are more than {TARGETS} targets"))));
                }
            }
            self.groups.insert(name.clone(), members);
        }
        Ok(())
    }

    /// Each way to take one of every list: the first name turns slowest.
    fn rows(&self, matrix: &Source) -> Result<Vec<Local>, BakeError> {
        let Value::Object(lists) = self.scope.source(matrix, &Local::new())? else {
            return Err(BakeError::Expression("it is no object of lists".to_owned()));
        };
        let sorted: BTreeMap<String, Value> = lists.into_iter().collect();
        let mut rows = vec![Local::new()];
        for (name, list) in sorted {
            let Value::Array(items) = list else {
                return Err(BakeError::Expression(format!("`{name}` is no list")));
            };
            if rows.len().saturating_mul(items.len()) > TARGETS {
                return Err(BakeError::Expression(format!("there are more than {TARGETS} targets")));
            }
            let with = |row: &Local| {
                let one = |item: &Value| {
                    let mut row = row.clone();
                    row.insert(name.clone(), item.clone());
                    row
                };
                items.iter().map(one).collect::<Vec<_>>()
            };
            rows = rows.iter().flat_map(with).collect();
        }
        Ok(rows)
    }

    fn texts(&self, source: &Source, local: &Local) -> Result<Vec<String>, BakeError> {
        match self.scope.source(source, local)? {
            Value::Array(items) => items.iter().map(text_of).collect(),
            Value::Null => Ok(Vec::new()),
            one => Ok(vec![text_of(&one)?]),
        }
    }

    /// The targets that a name stands for.
    fn members(
        &self,
        name: &str,
        open: &mut BTreeSet<String>,
        groups: &mut BTreeMap<String, Vec<String>>,
        wanted: &mut Vec<String>,
    ) -> Result<(), BakeError> {
        // a target goes before a group of its name
        if self.blocks.contains_key(name) {
            if !wanted.iter().any(|known| known == name) {
                wanted.push(name.to_owned());
            }
            return Ok(());
        }
        let Some(members) = self.groups.get(name) else { return Err(self.unknown(name)) };
        if !open.insert(name.to_owned()) {
            return Err(BakeError::Circle(format!("the group `{name}`")));
        }
        groups.insert(name.to_owned(), members.clone());
        for member in members {
            self.members(member, open, groups, wanted)?;
        }
        open.remove(name);
        Ok(())
    }

    fn unknown(&self, name: &str) -> BakeError {
        let known = self.groups.keys().chain(self.blocks.keys()).cloned().collect();
        BakeError::NoTarget { name: name.to_owned(), known }
    }

    /// Puts a target into the plan, after those that are its contexts.
    fn place(
        &self,
        name: &str,
        open: &mut BTreeSet<String>,
        into: &mut Vec<(String, Target)>,
    ) -> Result<(), BakeError> {
        if into.iter().any(|(known, _)| known == name) {
            return Ok(());
        }
        if !open.insert(name.to_owned()) {
            return Err(BakeError::Circle(format!("the target `{name}`")));
        }
        let mut target = self.target(name, &mut BTreeSet::new())?;
        for over in self.set.iter().filter(|over| over.is_for(name)) {
            over.apply(&mut target).map_err(|error| error.at(format!("--set `{}`", over.text)))?;
        }
        for (_, other) in Plan::contexts(&target) {
            if !self.blocks.contains_key(&other) {
                return Err(self.unknown(&other).at(format!("contexts of target `{name}`")));
            }
            self.place(&other, open, into)?;
        }
        open.remove(name);
        into.push((name.to_owned(), target));
        Ok(())
    }

    /// A target with all that it inherits.
    fn target(&self, name: &str, open: &mut BTreeSet<String>) -> Result<Target, BakeError> {
        let Some(block) = self.blocks.get(name) else { return Err(self.unknown(name)) };
        if !open.insert(name.to_owned()) {
            return Err(BakeError::Circle(format!("the target `{name}`")));
        }
        let mut target = Target::default();
        for attributes in &block.attributes {
            if let Some(parents) = attributes.get("inherits") {
                let at = |error: BakeError| error.at(format!("inherits of target `{name}`"));
                for parent in self.texts(parents, &block.local).map_err(at)? {
                    target.merge(&self.target(&parent, open)?);
                }
            }
        }
        for attributes in &block.attributes {
            let mut own = Target::default();
            for (key, source) in *attributes {
                if ["inherits", "matrix", "name"].contains(&key.as_str()) {
                    continue;
                }
                let value = self.scope.source(source, &block.local);
                let set = value.and_then(|value| own.set(key, value));
                set.map_err(|error| error.at(format!("`{key}` of target `{name}`")))?;
            }
            target.merge(&own);
        }
        open.remove(name);
        Ok(target)
    }
}

/// One `--set`.
struct Override {
    text: String,
    pattern: String,
    /// The attribute, and the name in it.
    path: (String, Option<String>),
    values: Vec<String>,
    /// `+=`.
    adds: bool,
}

/// Reads `TARGET.ATTRIBUTE[.NAME][+]=VALUE`; several of one attribute are several values of it.
fn overrides(asked: &Asked) -> Result<Vec<Override>, BakeError> {
    let mut all: Vec<Override> = Vec::new();
    for text in &asked.set {
        let wrong = || BakeError::Expression(format!("--set: `{text}` is not TARGET.ATTRIBUTE=VALUE"));
        let (left, value) = text.split_once('=').unwrap_or((text, ""));
        let (left, adds) = left.strip_suffix('+').map_or((left, false), |left| (left, true));
        let (pattern, path) = left.split_once('.').ok_or_else(wrong)?;
        let (attribute, name) =
            path.split_once('.').map_or((path, None), |(path, name)| (path, Some(name.to_owned())));
        let known = kind_of(attribute).is_some() || ["push", "load"].contains(&attribute);
        if pattern.is_empty() || !known {
            return Err(BakeError::Expression(format!("--set: a target has no attribute `{attribute}`")));
        }
        let path = (attribute.to_owned(), name);
        match all
            .iter_mut()
            .find(|over| over.pattern == pattern && over.path == path && over.path.1.is_none())
        {
            Some(over) => over.values.push(value.to_owned()),
            None => all.push(Override {
                text: text.clone(),
                pattern: pattern.to_owned(),
                path,
                values: vec![value.to_owned()],
                adds,
            }),
        }
    }
    Ok(all)
}

impl Override {
    fn is_for(&self, name: &str) -> bool {
        matches(self.pattern.as_bytes(), name.as_bytes())
    }

    fn apply(&self, target: &mut Target) -> Result<(), BakeError> {
        let (attribute, name) = (&self.path.0, &self.path.1);
        let mut own = Target::default();
        if let Some(name) = name {
            let value = self.values.last().map_or("", String::as_str);
            own.set(attribute, serde_json::json!({ name: value }))?;
            target.add(attribute, own);
            return Ok(());
        }
        let texts = self.values.iter().map(|value| Value::from(value.as_str())).collect::<Vec<_>>();
        let value = match attribute.as_str() {
            "push" => {
                let output = serde_json::json!([{ "type": "image", "push": self.values[0] }]);
                return target.set("output", output);
            }
            _ => match texts.as_slice() {
                [one] => one.clone(),
                _ => Value::Array(texts),
            },
        };
        own.set(attribute, value)?;
        if self.adds {
            target.add(attribute, own);
        } else {
            target.replace(attribute, own);
        }
        Ok(())
    }
}

/// `*` is any text, also none; `?` one character.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern.split_first(), name.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => {
            matches(rest, name) || name.split_first().is_some_and(|(_, name)| matches(pattern, name))
        }
        (Some((b'?', rest)), Some((_, name))) => matches(rest, name),
        (Some((c, rest)), Some((d, name))) => c == d && matches(rest, name),
        _ => false,
    }
}
