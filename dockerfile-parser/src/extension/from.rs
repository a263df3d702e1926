//! Variables in `COPY --from`: a stage of its own for every such image, since FROM expands variables.

use super::BAD_FROM;
use super::rewrite::Edit;
use crate::expand::Expander;
use crate::{Diagnostic, Dockerfile, Keyword, Node, Span, Word};
use std::collections::{HashMap, HashSet};

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
///
/// Nodes must be passed in order; what it knows is about the stage of the node passed last.
pub(super) struct Aliases {
    escape: char,
    /// Names that stages have.
    taken: HashSet<String>,
    found: Vec<Alias>,
    /// The arguments declared before the first FROM.
    globals: HashSet<String>,
    /// The FROM of the stage.
    stage_at: Option<usize>,
    /// How many stages there are before it.
    stage: usize,
    /// What ARG and ENV set in the stage so far, and where.
    set_here: HashMap<String, Span>,
}

/// Most alias stages of one recipe.
const MAX_ALIASES: usize = 100;

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
        let globals = file.nodes.iter().take_while(|node| node.keyword != "from");
        let globals = globals.flat_map(|node| &node.args).map(|word| name_of(word).to_owned()).collect();
        let (escape, found, set_here) = (file.directives.escape, Vec::new(), HashMap::new());
        Self { escape, taken, found, globals, stage_at: None, stage: 0, set_here }
    }

    /// Takes note of node `at`.
    pub(super) fn pass(&mut self, at: usize, node: &Node) {
        match node.keyword.as_str() {
            "from" => {
                self.stage += usize::from(self.stage_at.is_some());
                self.stage_at = Some(at);
                self.set_here.clear();
            }
            "arg" if self.stage_at.is_some() => {
                let with_value = node.args.iter().filter(|word| word.text.contains('='));
                self.set_here.extend(with_value.map(|word| (name_of(word).to_owned(), node.span)));
            }
            "env" => self.set_here.extend(node.pairs.iter().map(|pair| (pair.key.clone(), node.span))),
            _ => {}
        }
    }

    /// The aliases written before line `number`.
    pub(super) fn before(&self, number: u32) -> impl Iterator<Item = &Alias> {
        self.found.iter().filter(move |alias| alias.before == number)
    }

    /// The edit of a COPY; none unless its `--from` has variables.
    pub(super) fn copy(&mut self, file: &Dockerfile, node: &Node) -> Result<Option<Edit>, Diagnostic> {
        let flag = from_flag(node).filter(|(_, value)| value.contains('$'));
        let (Some((flag, value)), Some(stage_at)) = (flag, self.stage_at) else { return Ok(None) };
        self.judge(flag, value)?;
        let alias = self.alias(file, stage_at, value, node.start_line);
        let alias = alias.ok_or_else(|| {
            let message = format!("more than {MAX_ALIASES} different images are named with variables");
            Diagnostic::error(BAD_FROM, flag.span, message)
        })?;
        Ok(Some((flag.span.start..flag.span.end, format!("--from={alias}"))))
    }

    /// Every variable must mean in the alias's FROM what it means in the COPY.
    fn judge(&self, flag: &Word, value: &str) -> Result<(), Diagnostic> {
        let refuse = |message: String| Diagnostic::error(BAD_FROM, flag.span, message);
        let expansion = Expander::new(self.escape).expand(value, &|_| Some("x".to_owned()));
        let expansion = expansion.map_err(|problem| refuse(format!("`--from={value}`: {problem}")))?;
        if value.contains(char::is_whitespace) {
            return Err(refuse(format!("`--from={value}` holds white space, which FROM cannot")));
        }
        for name in expansion.used {
            if !PLATFORM_ARGS.contains(&name.as_str()) && !self.globals.contains(&name) {
                return Err(refuse(format!("`{name}` in `--from` is no global argument")).with_hint(format!(
                    "declare `ARG {name}` before the first FROM; the image is found before the stage begins"
                )));
            }
            if let Some(setter) = self.set_here.get(&name) {
                return Err(refuse(format!("`{name}` in `--from` gets another value in this stage"))
                    .with_note(
                        "it is set here, but the image is found before the stage begins",
                        Some(*setter),
                    ));
            }
        }
        Ok(())
    }

    /// The name of the stage for `value`; nothing when there are too many.
    fn alias(&mut self, file: &Dockerfile, stage_at: usize, value: &str, line: u32) -> Option<String> {
        if let Some(known) = self.found.iter().find(|alias| alias.value == value) {
            return Some(known.name.clone());
        }
        if self.found.len() == MAX_ALIASES {
            return None;
        }
        let mut names = (self.found.len() + 1..).map(|number| format!("slipway-from-{number}"));
        let name = names.find(|name| !self.taken.contains(name))?;
        // Before the comments above the FROM, which may hold its `check=`; at the very top directives must stay first.
        let before = match stage_at.checked_sub(1) {
            Some(previous) => file.nodes[previous].end_line + 1,
            None => file.nodes[stage_at].start_line,
        };
        self.taken.insert(name.clone());
        let alias = Alias { value: value.to_owned(), name: name.clone(), line, before, stage: self.stage };
        self.found.push(alias);
        Some(name)
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
