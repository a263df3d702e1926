//! Values of flags that are lists of their own: `type=KIND,NAME=VALUE,...`, in buildx' words.

use crate::error::Failure;
use slipway_oci::Reference;
use std::collections::BTreeMap;

/// `NAME=VALUE,...` of one flag.
pub(super) struct Options {
    flag: &'static str,
    text: String,
    /// What `type=` says.
    pub(super) kind: String,
    values: BTreeMap<String, String>,
}

impl Options {
    /// Reads the list. Without `type=` it is of the `usual` kind; a word alone is the value of the name that `alone` gives for it.
    ///
    /// # Errors
    /// When it is no such list, or has a name twice.
    pub(super) fn read(
        flag: &'static str,
        text: &str,
        usual: &str,
        alone: impl FnOnce(&str) -> Option<&'static str>,
    ) -> Result<Options, Failure> {
        let (text, kind) = (text.to_owned(), usual.to_owned());
        let mut options = Options { flag, text, kind, values: BTreeMap::new() };
        let fields = fields(&options.text);
        if let [word] = fields.as_slice()
            && let Some(name) = alone(word)
        {
            options.values.insert(name.to_owned(), word.clone());
            return Ok(options);
        }
        for field in fields {
            let Some((name, value)) = field.split_once('=') else {
                return Err(options.failure(&format!("`{field}` is not NAME=VALUE")));
            };
            // an annotation's key is its own, with its capitals
            let name = name.trim();
            let name =
                if name.starts_with("annotation") { name.to_owned() } else { name.to_ascii_lowercase() };
            match name.as_str() {
                "type" => value.clone_into(&mut options.kind),
                _ if options.values.insert(name.clone(), value.to_owned()).is_some() => {
                    return Err(options.failure(&format!("`{name}` is said twice")));
                }
                _ => {}
            }
        }
        Ok(options)
    }

    pub(super) fn failure(&self, words: &str) -> Failure {
        Failure::usage(format!("{} `{}`: {words}", self.flag, self.text))
    }

    pub(super) fn wrong(&self, name: &str, value: &str, error: &dyn std::fmt::Display) -> Failure {
        self.failure(&format!("`{value}` is no {name}: {error}"))
    }

    pub(super) fn take(&mut self, name: &str) -> Option<String> {
        self.values.remove(name).filter(|value| !value.is_empty())
    }

    /// Takes what begins so, without the beginning.
    pub(super) fn take_beginning(&mut self, with: &str) -> Vec<(String, String)> {
        let names: Vec<String> = self.values.keys().filter(|name| name.starts_with(with)).cloned().collect();
        let value = |name: String| {
            let value = self.values.remove(&name)?;
            Some((name[with.len()..].to_owned(), value))
        };
        names.into_iter().filter_map(value).collect()
    }

    pub(super) fn needed(&mut self, name: &str, what: &str) -> Result<String, Failure> {
        self.take(name).ok_or_else(|| {
            self.failure(&format!("type={} needs {name}=", self.kind)).with_hint(format!("it is {what}"))
        })
    }

    pub(super) fn reference(&mut self) -> Result<Reference, Failure> {
        let text = self.needed("ref", "a name in a registry: ref=REGISTRY/NAME:TAG")?;
        let parsed: Result<Reference, _> = text.parse();
        parsed.map(Reference::or_latest).map_err(|error| self.wrong("name", &text, &error))
    }

    pub(super) fn tag(&mut self) -> Result<String, Failure> {
        let tag = self.take("tag").unwrap_or_else(|| "latest".to_owned());
        if slipway_oci::reference::is_tag(&tag) {
            Ok(tag)
        } else {
            Err(self.failure(&format!("`{tag}` is no tag")))
        }
    }

    pub(super) fn switch(&mut self, name: &str) -> Result<Option<bool>, Failure> {
        match self.take(name).as_deref() {
            None => Ok(None),
            Some("true" | "1") => Ok(Some(true)),
            Some("false" | "0") => Ok(Some(false)),
            Some(other) => Err(self.failure(&format!("{name} is true or false, not `{other}`"))),
        }
    }

    /// Refuses what nobody took.
    pub(super) fn end(&self, hint: &str) -> Result<(), Failure> {
        match self.values.keys().next() {
            None => Ok(()),
            Some(name) => Err(self.failure(&format!("type={} has no `{name}`", self.kind)).with_hint(hint)),
        }
    }
}

/// The fields of a line of comma-separated values, quotes and all (RFC 4180, as buildx reads it).
pub(crate) fn fields(text: &str) -> Vec<String> {
    let (mut fields, mut field, mut quoted) = (Vec::new(), String::new(), false);
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        match c {
            '"' if quoted && characters.peek() == Some(&'"') => {
                characters.next();
                field.push('"');
            }
            '"' if quoted || field.is_empty() => quoted = !quoted,
            ',' if !quoted => fields.push(std::mem::take(&mut field)),
            c => field.push(c),
        }
    }
    fields.push(field);
    fields
}
