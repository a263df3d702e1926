//! Variables in `COPY --from`: a stage of its own for every such image, since FROM expands variables.

use super::BAD_FROM;
use super::rewrite::Edit;
use crate::expand::Expander;
use crate::{Diagnostic, Dockerfile, Keyword, Node, Word};

/// A stage that stands for the image of a `--from` with variables.
pub(super) struct Alias {
    /// What was written.
    pub(super) value: String,
    /// The stage's name.
    pub(super) name: String,
    /// The line of the first COPY that needs it.
    pub(super) line: u32,
    /// The line it is written before.
    before: u32,
    /// The number of the stage it is written before.
    stage: usize,
}

/// The alias stages of a recipe.
pub(super) struct Aliases {
    escape: char,
    taken: Vec<String>,
    found: Vec<Alias>,
}

/// What FROM can use without a declaration.
const PLATFORM_ARGS: [&str; 11] = [
    "TARGETPLATFORM",
    "TARGETOS",
    "TARGETARCH",
    "TARGETVARIANT",
    "TARGETOSVERSION",
    "BUILDPLATFORM",
    "BUILDOS",
    "BUILDARCH",
    "BUILDVARIANT",
    "BUILDOSVERSION",
    "TARGETSTAGE",
];

fn from_flag(node: &Node) -> Option<(&Word, &str)> {
    node.flags.iter().find_map(|flag| Some((flag, flag.text.strip_prefix("--from=")?)))
}

fn name_of(word: &Word) -> &str {
    word.text.split('=').next().unwrap_or_default()
}

impl Aliases {
    pub(super) fn of(file: &Dockerfile) -> Self {
        let names =
            file.nodes.iter().filter(|node| node.keyword == "from").filter_map(|node| node.args.get(2));
        let taken = names.map(|name| name.text.to_lowercase()).collect();
        Self { escape: file.directives.escape, taken, found: Vec::new() }
    }

    /// The aliases written before line `number`.
    pub(super) fn before(&self, number: u32) -> impl Iterator<Item = &Alias> {
        self.found.iter().filter(move |alias| alias.before == number)
    }

    /// The edit of the COPY that is node `at`; none unless its `--from` has variables.
    pub(super) fn copy(&mut self, file: &Dockerfile, at: usize) -> Result<Option<Edit>, Diagnostic> {
        let node = &file.nodes[at];
        let Some((flag, value)) = from_flag(node).filter(|(_, value)| value.contains('$')) else {
            return Ok(None);
        };
        let Some(stage_at) = file.nodes[..at].iter().rposition(|node| node.keyword == "from") else {
            return Ok(None);
        };
        self.judge(file, stage_at, at, flag, value)?;
        let alias = self.alias(file, stage_at, value, node.start_line);
        Ok(Some((flag.span.start..flag.span.end, format!("--from={alias}"))))
    }

    /// Every variable must mean in the alias's FROM what it means in the COPY.
    fn judge(
        &self,
        file: &Dockerfile,
        stage_at: usize,
        at: usize,
        flag: &Word,
        value: &str,
    ) -> Result<(), Diagnostic> {
        let refuse = |message: String| Diagnostic::error(BAD_FROM, flag.span, message);
        let expansion = Expander::new(self.escape).expand(value, &|_| Some("x".to_owned()));
        let expansion = expansion.map_err(|problem| refuse(format!("`--from={value}`: {problem}")))?;
        if value.contains(char::is_whitespace) {
            return Err(refuse(format!("`--from={value}` holds white space, which FROM cannot")));
        }
        let first = file.nodes.iter().position(|node| node.keyword == "from").unwrap_or(0);
        let globals = &file.nodes[..first];
        for name in expansion.used {
            let is_global = PLATFORM_ARGS.contains(&name.as_str())
                || globals.iter().flat_map(|node| &node.args).any(|word| name_of(word) == name);
            if !is_global {
                return Err(refuse(format!("`{name}` in `--from` is no global argument"))
                    .with_hint(format!("declare `ARG {name}` before the first FROM; the image is found before the stage begins")));
            }
            if let Some(setter) = file.nodes[stage_at..at].iter().find(|node| sets(node, &name)) {
                return Err(refuse(format!("`{name}` in `--from` gets another value in this stage"))
                    .with_note(
                        "it is set here, but the image is found before the stage begins",
                        Some(setter.span),
                    ));
            }
        }
        Ok(())
    }

    fn alias(&mut self, file: &Dockerfile, stage_at: usize, value: &str, line: u32) -> String {
        if let Some(known) = self.found.iter().find(|alias| alias.value == value) {
            return known.name.clone();
        }
        let name = (self.found.len() + 1..).map(|number| format!("slipway-from-{number}"));
        let name = name.into_iter().find(|name| !self.taken.contains(name)).unwrap_or_default();
        // Before the comments above the FROM, which may hold its `check=`; at the very top directives must stay first.
        let before = match stage_at.checked_sub(1) {
            Some(previous) => file.nodes[previous].end_line + 1,
            None => file.nodes[stage_at].start_line,
        };
        let stage = file.nodes[..stage_at].iter().filter(|node| node.keyword == "from").count();
        self.taken.push(name.clone());
        self.found.push(Alias { value: value.to_owned(), name: name.clone(), line, before, stage });
        name
    }

    /// Alias stages move the numbers of later stages: the edits that keep `--from=1` and `from=1` pointing where they did.
    pub(super) fn renumber(&self, file: &Dockerfile, text: &str) -> Vec<Edit> {
        let moved = |number: &str| -> Option<String> {
            let number: usize = number.parse().ok()?;
            let by = self.found.iter().filter(|alias| alias.stage <= number).count();
            (by > 0).then(|| (number + by).to_string())
        };
        let mut edits = Vec::new();
        for node in &file.nodes {
            for flag in &node.flags {
                let value = match Keyword::from_word(&node.keyword) {
                    Some(Keyword::Copy) => flag.text.strip_prefix("--from="),
                    Some(Keyword::Run) => flag.text.strip_prefix("--mount=").and_then(mount_from),
                    _ => None,
                };
                let Some(with) = value.and_then(moved) else { continue };
                let from = format!("from={}", value.unwrap_or_default());
                let written = &text[flag.span.start..flag.span.end];
                if let Some(at) = written.find(&from) {
                    let start = flag.span.start + at;
                    edits.push((start..start + from.len(), format!("from={with}")));
                }
            }
        }
        edits
    }
}

/// The value of `from` in a mount, when it is written plainly.
fn mount_from(mount: &str) -> Option<&str> {
    mount.split(',').find_map(|field| field.trim_matches('"').strip_prefix("from="))
}

/// Whether an instruction gives a variable a value of its own.
fn sets(node: &Node, name: &str) -> bool {
    match node.keyword.as_str() {
        "arg" => node.args.iter().any(|word| word.text.contains('=') && name_of(word) == name),
        "env" => node.pairs.iter().any(|pair| pair.key == name),
        _ => false,
    }
}
