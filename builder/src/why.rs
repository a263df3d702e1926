//! Why a step was carried out: what differs from the nearest earlier result.
//!
//! **Nearest.** Of the builds before it that are kept: a step with the same key, whose result is gone then; else one of the same
//! instruction in the same stage of the same recipe (its name and context); else the one at the same place there, whose
//! instruction was another; else the same instruction anywhere. Of several the one with the fewest differences, of these the
//! last. Steps of a build that carried nothing out are not kept, and were the same as those of an earlier one.
//!
//! **What differs** is told of the descriptions that keys are digests of, of the lists of what COPY selected, and, where what
//! a step stands on differs, of the first step before it whose layer does.

use crate::{
    StepDescription,
    history::{BuildRecord, History, StepOutcome, StepRecord},
    limits,
};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

/// The reason of steps for which the cache was not asked.
pub(crate) const PASSED_OVER: &str = "the cache was passed over";

/// Why a step was carried out.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Why {
    /// The step's number in its build, from 1.
    pub step: usize,
    /// With what it is compared.
    pub earlier: Option<Earlier>,
    /// What differs; never empty.
    pub causes: Vec<Cause>,
}

/// An earlier result.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Earlier {
    /// The build's id.
    pub build: String,
    /// When that began, in milliseconds since 1970.
    pub began_ms: u64,
    /// The step's number in it, from 1.
    pub step: usize,
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Cause {
    /// Of what kind, in a word or two: `file`, `mode`, `owner`, `variable`, `argument`, `base`, `step`, `instruction`, `mount`, `lost`,
    /// `new`, `no cache`, or the name of what else the description says.
    pub kind: String,
    /// Which: a path, a name, a step.
    pub what: String,
    /// What it was.
    pub old: Option<String>,
    /// What it is.
    pub new: Option<String>,
}

impl Cause {
    fn new(kind: &str, what: impl Into<String>, old: Option<String>, new: Option<String>) -> Cause {
        let (old, new) = (old.map(|text| cut(&text)), new.map(|text| cut(&text)));
        Cause { kind: kind.to_owned(), what: cut(&what.into()), old, new }
    }

    fn word(kind: &str, what: impl Into<String>) -> Cause {
        Cause::new(kind, what, None, None)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind.as_str() {
            // sentences
            "new" | "lost" | "no cache" | "step" | "unknown" => formatter.write_str(&self.what),
            kind if self.what.is_empty() => write!(formatter, "{kind}"),
            kind => write!(formatter, "{kind} {}", self.what),
        }?;
        match (self.old.as_deref().map(short), self.new.as_deref().map(short)) {
            (Some(old), Some(new)) => write!(formatter, ": {old} -> {new}"),
            (None, Some(new)) => write!(formatter, ": not there -> {new}"),
            (Some(old), None) => write!(formatter, ": {old} -> not there"),
            (None, None) => Ok(()),
        }
    }
}

/// Why `step` of `build` was carried out; `earlier` are the builds before it, the last one first.
pub fn why(history: &History, earlier: &[BuildRecord], build: &BuildRecord, step: &StepRecord) -> Why {
    let only = |cause| Why { step: step.number, earlier: None, causes: vec![cause] };
    if build.no_cache || step.reason == PASSED_OVER {
        return only(Cause::word("no cache", "the cache was passed over, as was asked for"));
    }
    let Some(description) = &step.description else {
        return only(Cause::word("unknown", "what decides its result is too long to be kept"));
    };
    let seeking = Seeking { history, earlier, build, step, description };
    seeking
        .nearest()
        .unwrap_or_else(|| only(Cause::word("new", "no earlier build that is kept had this step")))
}

struct Seeking<'a> {
    history: &'a History,
    earlier: &'a [BuildRecord],
    build: &'a BuildRecord,
    step: &'a StepRecord,
    description: &'a StepDescription,
}

/// How near an earlier step is, the nearest first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Nearness {
    Key,
    Instruction,
    Place,
    Text,
}

impl Seeking<'_> {
    fn nearness(&self, build: &BuildRecord, step: &StepRecord) -> Option<Nearness> {
        let ended = matches!(step.outcome, Some(StepOutcome::Done | StepOutcome::Cached));
        if !ended || step.description.is_none() {
            return None;
        }
        if step.key == self.step.key {
            return Some(Nearness::Key);
        }
        let same_stage = is_same_recipe(build, self.build) && step.stage == self.step.stage;
        let same_text = step.text == self.step.text;
        match (same_stage, same_text, step.place == self.step.place) {
            (true, true, _) => Some(Nearness::Instruction),
            (true, false, true) if word_of(&step.text) == word_of(&self.step.text) => Some(Nearness::Place),
            (false, true, _) => Some(Nearness::Text),
            _ => None,
        }
    }

    fn nearest(&self) -> Option<Why> {
        let all = || {
            let steps =
                self.earlier.iter().flat_map(|build| build.steps.iter().map(move |step| (build, step)));
            steps.filter_map(|(build, step)| Some((self.nearness(build, step)?, build, step)))
        };
        let nearest = all().map(|(nearness, ..)| nearness).min()?;
        let candidates = all().filter(|(nearness, ..)| *nearness == nearest).take(limits::WHY_CANDIDATES);
        let compared = candidates.map(|(_, build, step)| Why {
            step: self.step.number,
            earlier: Some(Earlier { build: build.id.clone(), began_ms: build.began_ms, step: step.number }),
            causes: self.causes(build, step),
        });
        // the first of several with as few is the last in time
        compared.min_by_key(|why| why.causes.len())
    }

    fn causes(&self, build: &BuildRecord, step: &StepRecord) -> Vec<Cause> {
        if step.key == self.step.key {
            return vec![Cause::word("lost", "its earlier result is not in the store any more")];
        }
        let Some(description) = &step.description else { return Vec::new() };
        let fields = |description: &StepDescription| match serde_json::to_value(description) {
            Ok(Value::Object(fields)) => fields,
            _ => serde_json::Map::new(),
        };
        let (old, new) = (fields(description), fields(self.description));
        let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
        let mut causes = Vec::new();
        for name in names {
            let (was, is) = (old.get(name).unwrap_or(&Value::Null), new.get(name).unwrap_or(&Value::Null));
            if was != is {
                self.field(name, was, is, (build, step), &mut causes);
            }
        }
        if causes.is_empty() {
            causes.push(Cause::word("unknown", "nothing that is kept of it differs"));
        }
        causes
    }

    fn field(
        &self,
        name: &str,
        was: &Value,
        is: &Value,
        (build, step): (&BuildRecord, &StepRecord),
        causes: &mut Vec<Cause>,
    ) {
        let (old, new) = (shown(was), shown(is));
        match name {
            "version" => causes.push(Cause::new("version", "of what slipway makes of steps", old, new)),
            "operation" => causes.push(Cause::new("instruction", "", old, new)),
            "beneath" => causes.push(
                self.stage_differs(build, &self.step.stage, self.step.place, 0)
                    .unwrap_or_else(|| Cause::new("layers beneath", "", old, new)),
            ),
            "argv" | "paths" | "destination" if step.text != self.step.text => {
                let cause =
                    Cause::new("instruction", "", Some(step.text.clone()), Some(self.step.text.clone()));
                if !causes.contains(&cause) {
                    causes.push(cause);
                }
            }
            "env" => self.variables(build, was, is, causes),
            "mounts" => mounts(was, is, causes),
            "selection" => self.files((build, step), was, is, causes),
            "from" => {
                let stage = from_of(&self.step.text);
                let differs = stage.and_then(|stage| self.stage_differs(build, stage, usize::MAX, 0));
                let what = stage.map_or_else(String::new, |stage| format!("`{stage}`"));
                causes.push(differs.unwrap_or_else(|| Cause::new("files of", what, old, new)));
            }
            "inline" => {
                let names = |value: &Value| -> BTreeMap<String, String> {
                    let text = |one: &Value, key: &str| one[key].as_str().unwrap_or_default().to_owned();
                    let all = value.as_array().into_iter().flatten();
                    all.map(|one| (text(one, "name"), text(one, "content"))).collect()
                };
                pairs("file in the recipe", &names(was), &names(is), causes);
            }
            other => causes.push(Cause::new(&other.replace('_', " "), "", old, new)),
        }
    }

    fn variables(&self, build: &BuildRecord, was: &Value, is: &Value, causes: &mut Vec<Cause>) {
        let split = |value: &Value| -> BTreeMap<String, String> {
            let all = value.as_array().into_iter().flatten().filter_map(Value::as_str);
            let pair = |text: &str| {
                let (name, value) = text.split_once('=').unwrap_or((text, ""));
                (name.to_owned(), format!("`{value}`"))
            };
            all.map(pair).collect()
        };
        let mut found = Vec::new();
        pairs("variable", &split(was), &split(is), &mut found);
        for cause in &mut found {
            if self.build.arguments.contains(&cause.what) || build.arguments.contains(&cause.what) {
                "argument".clone_into(&mut cause.kind);
            }
        }
        if found.is_empty() {
            found.push(Cause::word("order of variables", ""));
        }
        causes.extend(found);
    }

    fn files(
        &self,
        (build, step): (&BuildRecord, &StepRecord),
        was: &Value,
        is: &Value,
        causes: &mut Vec<Cause>,
    ) {
        let new = self.history.listing(self.build, self.step).filter(|_| self.step.has_files);
        let old = self.listing_of((build, step), was);
        let (Some(old), Some(new)) = (old, new) else {
            causes.push(Cause::new("selected files", "", shown(was), shown(is)));
            return;
        };
        let (old, new) = (Selected::of(&old), Selected::of(&new));
        let paths: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
        let mut found: Vec<Cause> = paths
            .into_iter()
            .filter_map(|path| Selected::difference(path, old.get(path), new.get(path)))
            .collect();
        let count = found.len();
        if count == 0 {
            causes.push(Cause::word("selected files", "in names of sources, attributes or times"));
        } else if count > limits::WHY_FILES {
            found.truncate(limits::WHY_FILES);
            found.push(Cause::word("files", format!("and {} more", count - limits::WHY_FILES)));
        }
        causes.extend(found);
    }

    /// What an earlier step selected: a step that took it from the cache has no list, but the one that made it has.
    fn listing_of(&self, (build, step): (&BuildRecord, &StepRecord), selection: &Value) -> Option<Vec<u8>> {
        if step.has_files {
            return self.history.listing(build, step);
        }
        let same = |step: &&StepRecord| {
            let json = step.description.as_ref().and_then(|found| serde_json::to_value(found).ok());
            step.has_files && json.is_some_and(|json| json["selection"] == *selection)
        };
        self.earlier.iter().find_map(|build| {
            build.steps.iter().filter(same).find_map(|step| self.history.listing(build, step))
        })
    }

    /// The first thing before `place` that makes a stage's layers differ from those of an earlier build.
    fn stage_differs(&self, earlier: &BuildRecord, stage: &str, place: usize, depth: usize) -> Option<Cause> {
        if !is_same_recipe(earlier, self.build) || depth > limits::WHY_DEPTH {
            return None;
        }
        let steps = self.build.steps.iter().filter(|step| step.stage == stage && step.place < place);
        for step in steps {
            let was = earlier.steps.iter().find(|other| other.stage == stage && other.place == step.place);
            let name =
                format!("#{} [{} {}/{}] {}", step.number, step.stage, step.place, step.total, step.text);
            let Some(was) = was else {
                return Some(Cause::word("step", format!("{name} was not there")));
            };
            match (&was.base, &step.base) {
                (Some(was), Some(is)) if was.chain != is.chain => {
                    let other = self.build.steps.iter().any(|step| step.stage == is.name);
                    let deeper = other.then(|| self.stage_differs(earlier, &is.name, usize::MAX, depth + 1));
                    return Some(deeper.flatten().unwrap_or_else(|| {
                        let old = if was.name == is.name {
                            was.chain.clone()
                        } else {
                            format!("{} {}", was.name, was.chain)
                        };
                        Cause::new("base", is.name.clone(), Some(old), Some(is.chain.clone()))
                    }));
                }
                _ => {}
            }
            let diff_id = |step: &StepRecord| step.layer.as_ref().map(|layer| layer.diff_id.clone());
            if diff_id(was) != diff_id(step) {
                let how = if step.ran { "came out otherwise" } else { "has another result" };
                return Some(Cause::word("step", format!("{name} {how}")));
            }
        }
        None
    }
}

/// One path that COPY selected.
#[derive(PartialEq, Eq)]
struct Selected {
    kind: String,
    mode: String,
    owner: String,
    content: String,
}

impl Selected {
    fn of(listing: &[u8]) -> BTreeMap<String, Selected> {
        let text = String::from_utf8_lossy(listing);
        let one = |line: &str| {
            let mut parts = line.splitn(5, '\t').map(str::to_owned);
            let (kind, mode) = (parts.next()?, parts.next()?);
            let (owner, content, path) = (parts.next()?, parts.next()?, parts.next()?);
            Some((path, Selected { kind, mode, owner, content }))
        };
        text.lines().filter_map(one).collect()
    }

    fn shown(&self) -> String {
        if self.content.is_empty() { self.kind.clone() } else { self.content.clone() }
    }

    fn difference(path: &str, old: Option<&Selected>, new: Option<&Selected>) -> Option<Cause> {
        let change = |kind, old: &str, new: &str| {
            Some(Cause::new(kind, path, Some(old.to_owned()), Some(new.to_owned())))
        };
        let (old, new) = match (old, new) {
            (Some(old), Some(new)) => (old, new),
            (old, new) => {
                return Some(Cause::new("file", path, old.map(Selected::shown), new.map(Selected::shown)));
            }
        };
        if (&old.kind, &old.content) != (&new.kind, &new.content) {
            return change("file", &old.shown(), &new.shown());
        }
        if old.mode != new.mode {
            return change("mode", &old.mode, &new.mode);
        }
        if old.owner != new.owner { change("owner", &old.owner, &new.owner) } else { None }
    }
}

/// Differences of named values.
fn pairs(
    kind: &str,
    old: &BTreeMap<String, String>,
    new: &BTreeMap<String, String>,
    causes: &mut Vec<Cause>,
) {
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    for name in names {
        let (was, is) = (old.get(name).cloned(), new.get(name).cloned());
        if was != is {
            causes.push(Cause::new(kind, name.clone(), was, is));
        }
    }
}

/// Differences of mounts, which are told by their kind and target.
fn mounts(was: &Value, is: &Value, causes: &mut Vec<Cause>) {
    let named = |value: &Value| -> BTreeMap<String, Value> {
        let all = value.as_array().into_iter().flatten();
        let name = |one: &Value| {
            let target = one["target"].as_str().or(one["id"].as_str()).unwrap_or_default();
            format!("{} at {target}", one["type"].as_str().unwrap_or_default())
        };
        all.map(|one| (name(one), one.clone())).collect()
    };
    let (old, new) = (named(was), named(is));
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let before = causes.len();
    for name in names {
        match (old.get(name), new.get(name)) {
            (Some(was), Some(is)) if was == is => {}
            (Some(Value::Object(was)), Some(Value::Object(is))) => {
                for (field, new) in is {
                    let old = was.get(field).unwrap_or(&Value::Null);
                    if old != new {
                        let what = match field.as_str() {
                            "from" => format!("{name}: the files that it shows"),
                            "number" => format!("{name}: its place in the recipe"),
                            other => format!("{name}: {}", other.replace('_', " ")),
                        };
                        causes.push(Cause::new("mount", what, shown(old), shown(new)));
                    }
                }
            }
            (old, _) => {
                let how = if old.is_some() { "is gone" } else { "is new" };
                causes.push(Cause::word("mount", format!("{name} {how}")));
            }
        }
    }
    if causes.len() == before {
        causes.push(Cause::word("order of mounts", ""));
    }
}

/// The beginning of a digest; any other text as it is.
fn short(text: &str) -> &str {
    match text.split_once(':') {
        Some((_, hex)) if hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()) => &hex[..12],
        _ => text,
    }
}

/// Whether two builds are of one recipe.
fn is_same_recipe(one: &BuildRecord, other: &BuildRecord) -> bool {
    one.context == other.context && one.recipe == other.recipe
}

/// The instruction's first word.
fn word_of(text: &str) -> String {
    text.split_whitespace().next().unwrap_or_default().to_ascii_uppercase()
}

/// What `--from=` names in an instruction as written.
fn from_of(text: &str) -> Option<&str> {
    text.split_whitespace().find_map(|word| word.strip_prefix("--from="))
}

/// A value for people.
fn shown(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(limits::WHY_TEXT) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
