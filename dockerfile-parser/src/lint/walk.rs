//! The walk through every stage, instruction by instruction, with the environment that BuildKit would have there.

mod metadata;
mod transfer;

use super::environment::{Environment, Mode, Origin, Value, suggestion};
use super::fix::Edit;
use super::limits::MAX_INHERITED;
use super::reporter::Reporter;
use super::stages::{Base, Graph, expansion_error};
use super::view::{StageView, Unit, View};
use super::{LintOptions, codes, rules, run, secrets};
use crate::ignore::IgnoreFile;
use crate::mount::RunMount;
use crate::{ArgDeclaration, Diagnostic, Instruction, KeyValue, Node, Run, Span};

pub(super) fn check(view: &View<'_>, graph: &Graph, options: &LintOptions, reporter: &mut Reporter<'_>) {
    let mut environments: Vec<Environment> = Vec::new();
    let mut inherited_size = 0;
    let ignore = options.ignore_file.as_deref().and_then(|text| IgnoreFile::parse(text).ok());
    for stage in &view.stages {
        let environment = match &graph.bases[stage.index] {
            Base::Stage(_) if inherited_size > MAX_INHERITED => Environment::new(Origin::Unknown),
            Base::Stage(base) => {
                inherited_size += environments[*base].size();
                let mut inherited = environments[*base].clone();
                triggers(&view.stages[*base], &mut inherited);
                inherited
            }
            Base::Scratch => Environment::new(Origin::Scratch),
            Base::Image(Some(name)) => Environment::new(Origin::of_image(name)),
            Base::Image(None) => Environment::new(Origin::Unknown),
        };
        let ships = ships(graph, stage.index);
        let counts = graph.counts[stage.index];
        let last = [None; 3];
        let ignore = ignore.as_ref();
        let mut walk =
            Walk { view, graph, options, ignore, stage, reporter, environment, counts, ships, last };
        stage.units.iter().for_each(|unit| walk.unit(*unit));
        walk.finish();
        environments.push(walk.environment);
    }
}

/// What the triggers of a base stage set in a stage built from it; their values are not followed.
fn triggers(base: &StageView<'_>, environment: &mut Environment) {
    for unit in &base.units {
        let Some(Instruction::Onbuild(onbuild)) = unit.instruction else { continue };
        let Some(instruction) = &onbuild.instruction else { continue };
        match instruction.as_ref() {
            Instruction::Env(pairs) => pairs.iter().for_each(|pair| environment.set(&pair.key, None)),
            Instruction::Arg(arguments) => {
                arguments.iter().for_each(|argument| environment.declare(&argument.name));
            }
            Instruction::Shell(words) => environment.shell = Some(words.clone()),
            Instruction::User(_) => environment.user_set = true,
            _ => {}
        }
    }
}

/// Whether the stage's layers are part of the image: it is the target, or below it.
fn ships(graph: &Graph, index: usize) -> bool {
    let mut at = graph.target;
    loop {
        if at == index {
            return true;
        }
        match graph.bases.get(at) {
            Some(Base::Stage(base)) if *base < at => at = *base,
            _ => return false,
        }
    }
}

struct Walk<'w, 'a, 'r> {
    view: &'w View<'a>,
    graph: &'w Graph,
    options: &'w LintOptions,
    ignore: Option<&'w IgnoreFile>,
    stage: &'w StageView<'a>,
    reporter: &'w mut Reporter<'r>,
    environment: Environment,
    /// Whether errors here fail the build.
    counts: bool,
    /// Whether what the stage writes is in the image.
    ships: bool,
    /// The last CMD, ENTRYPOINT and HEALTHCHECK.
    last: [Option<&'a Node>; 3],
}

impl<'a> Walk<'_, 'a, '_> {
    fn unit(&mut self, unit: Unit<'a>) {
        let node = unit.node;
        let Some(instruction) = unit.instruction else { return };
        match instruction {
            Instruction::Add(transfer) => self.transfer(node, transfer, true),
            Instruction::Copy(transfer) => self.transfer(node, transfer, false),
            Instruction::Arg(declarations) => self.arg(node, declarations),
            Instruction::Env(pairs) => self.env(node, pairs),
            Instruction::Label(pairs) => self.label(node, pairs),
            Instruction::Cmd(command) => {
                self.once(node, 0);
                self.json_recommended(node, command);
            }
            Instruction::Entrypoint(command) => {
                self.once(node, 1);
                self.json_recommended(node, command);
            }
            Instruction::Healthcheck(_) => self.once(node, 2),
            Instruction::Expose(ports) => self.expose(node, ports),
            Instruction::Run(run) => self.run(node, run),
            Instruction::Shell(words) => self.environment.shell = Some(words.clone()),
            Instruction::Stopsignal(signal) => self.stopsignal(node, signal),
            Instruction::User(user) => {
                self.environment.user_set = true;
                // a variable that holds nothing names nobody
                self.word(node, user);
            }
            Instruction::Volume(paths) => {
                paths.iter().for_each(|path| self.not_empty(node, path, "VOLUME"));
            }
            Instruction::Workdir(path) => self.workdir(node, path),
            Instruction::Maintainer(_) | Instruction::Onbuild(_) => {}
        }
        self.tokens(node);
    }

    /// An error counts only in a stage that is built.
    fn error(&mut self, diagnostic: Diagnostic) {
        if self.counts {
            self.reporter.error(diagnostic);
        }
    }

    /// Expands a word of an instruction; what is wrong is reported.
    fn word(&mut self, node: &Node, text: &str) -> Option<Value> {
        self.expand(node, text, Mode::Word(self.view.escape))
    }

    fn expand(&mut self, node: &Node, text: &str, mode: Mode) -> Option<Value> {
        match self.environment.expand(text, mode) {
            Ok(value) => {
                self.undefined(node, &value.unset);
                Some(value)
            }
            Err(Some(error)) => {
                let diagnostic = expansion_error(self.view, node, text, Some(error));
                self.error(diagnostic);
                None
            }
            Err(None) => None,
        }
    }

    /// Rule UndefinedVar.
    fn undefined(&mut self, node: &Node, unset: &[String]) {
        for name in unset {
            let is_platform = !self.graph.globals.is_declared(name) && self.graph.globals.get(name).is_some();
            let later = self.declared_later(node, name);
            let declared = self.environment.is_declared(name);
            if declared || !(self.environment.is_suspicious(name) || is_platform || later) {
                continue;
            }
            let near = suggestion(name, self.environment.names());
            let mut message = format!("Usage of undefined variable '${name}'");
            if let Some(near) = near {
                message.push_str(&format!(" (did you mean ${near}?)"));
            }
            let is_global = self.graph.globals.is_declared(name) || self.graph.globals.get(name).is_some();
            let hint = match near {
                _ if is_global => format!("declare it in this stage too: `ARG {name}`"),
                _ if later => format!("move `ARG {name}` in front of this line"),
                Some(near) => format!("did you mean `${near}`?"),
                None => format!("declare it before: `ARG {name}` or `ENV {name}=…`"),
            };
            let span = self.view.variable(node, name);
            self.reporter.warn(node, &rules::UNDEFINED_VAR, span, message).hint(hint);
        }
    }

    /// Whether an ARG further down in the stage declares `name`.
    fn declared_later(&self, node: &Node, name: &str) -> bool {
        self.stage.units.iter().filter(|unit| unit.node.span.start > node.span.start).any(|unit| {
            let Some(Instruction::Arg(declarations)) = unit.instruction else { return false };
            declarations.iter().any(|declaration| declaration.name == name)
        })
    }

    fn arg(&mut self, node: &Node, declarations: &[ArgDeclaration]) {
        for declaration in declarations {
            let name = &declaration.name;
            self.secret_name(node, "ARG", name);
            let given = self.options.build_args.get(name).cloned();
            let value = match (given, &declaration.default) {
                (Some(given), _) => Some(Some(given)),
                (None, Some(default)) => {
                    let value = self.word(node, default);
                    Some(value.filter(|value| value.is_known).map(|value| value.text))
                }
                (None, None) => self.graph.globals.get(name).cloned(),
            };
            self.environment.declare(name);
            if let Some(value) = value {
                self.environment.set(name, value);
            }
        }
    }

    fn env(&mut self, node: &Node, pairs: &[KeyValue]) {
        // The environment is frozen while one instruction is expanded.
        let mut found = Vec::new();
        for (index, pair) in pairs.iter().enumerate() {
            self.legacy(node, index);
            let key = self.word(node, &pair.key);
            let value = self.word(node, &pair.value);
            let Some(key) = key.filter(|key| key.is_known) else { continue };
            if key.text.is_empty() {
                let message = format!("the name `{}` is empty once it is expanded", pair.key);
                self.error(Diagnostic::error(codes::EMPTY_VALUE, node.keyword_span, message));
                continue;
            }
            self.secret_name(node, "ENV", &key.text);
            found.push((key.text, value.filter(|value| value.is_known).map(|value| value.text)));
        }
        for (key, value) in found {
            self.environment.set(&key, value);
        }
    }

    fn label(&mut self, node: &Node, pairs: &[KeyValue]) {
        for (index, pair) in pairs.iter().enumerate() {
            self.legacy(node, index);
            self.word(node, &pair.key);
            self.word(node, &pair.value);
        }
    }

    /// Rule LegacyKeyValueFormat.
    fn legacy(&mut self, node: &Node, index: usize) {
        let Some(pair) = node.pairs.get(index).filter(|pair| pair.separator.is_empty()) else { return };
        let name = self.view.keyword(node);
        let message =
            format!("\"{name} key=value\" should be used instead of legacy \"{name} key value\" format");
        let written = self.view.text(pair.span);
        let plain = !pair.value.contains(['"', '\'', '\\', self.view.escape])
            && !written.contains(['\n', '\r'])
            && !pair.key.contains('=');
        let quote = if pair.value.contains(char::is_whitespace) { "\"" } else { "" };
        let right = format!("{}={quote}{}{quote}", pair.key, pair.value);
        let edit = Edit::replace(pair.span.start, pair.span.end, right.clone());
        self.reporter
            .warn(node, &rules::LEGACY_KEY_VALUE_FORMAT, pair.span, message)
            .hint(if plain {
                format!("write `{name} {right}`")
            } else {
                "put `=` between key and value".to_owned()
            })
            .fix_all(plain.then(|| vec![edit]));
    }

    /// Rule SecretsUsedInArgOrEnv.
    fn secret_name(&mut self, node: &Node, instruction: &str, name: &str) {
        if secrets::is_secret_name(name) {
            let message =
                format!("Do not use ARG or ENV instructions for sensitive data ({instruction} {name:?})");
            let span = super::stages::part(self.view, node, name);
            self.reporter
                .warn(node, &rules::SECRETS_USED_IN_ARG_OR_ENV, span, message)
                .hint("give it to the RUN that needs it: `RUN --mount=type=secret,id=…`");
        }
    }

    fn run(&mut self, node: &Node, run: &Run) {
        for mount in run.mounts.iter().filter(|mount| mount.contains('$')) {
            let (mut unset, mut uncertain) = (Vec::new(), false);
            let environment = &self.environment;
            let mode = Mode::Word(self.view.escape);
            let mut expand = |text: &str| match environment.expand(text, mode) {
                Ok(value) => {
                    uncertain |= !value.is_known;
                    unset.extend(value.unset);
                    Ok(value.text)
                }
                Err(Some(error)) => Err(error),
                Err(None) => {
                    uncertain = true;
                    Ok(text.to_owned())
                }
            };
            let parsed = RunMount::parse(mount, &mut expand);
            self.undefined(node, &unset);
            if let Err(error) = parsed.map_err(|error| error.to_string())
                && !uncertain
            {
                let span = node.flags.iter().find(|flag| flag.text.ends_with(mount.as_str()));
                let span = span.map_or(node.keyword_span, |flag| flag.span);
                self.error(Diagnostic::error(crate::diagnostic::code::BAD_MOUNT, span, error));
            }
        }
        let ships = self.ships;
        run::check(&run::Step { view: self.view, node, run, ships }, &mut self.environment, self.reporter);
    }

    /// Rule SecretInLayer, about texts that are secrets themselves.
    fn tokens(&mut self, node: &Node) {
        if let Some((range, what)) = secrets::find_token(self.view.text(node.span)) {
            let start = node.span.start + range.start;
            let span = self.view.index.span(start, node.span.start + range.end);
            self.reporter
                .warn(node, &rules::SECRET_IN_LAYER, span, format!("a {what} is written into the image"))
                .hint("revoke it, and give the new one to the RUN that needs it: `RUN --mount=type=secret,id=…`");
        }
    }

    /// Rule MultipleInstructionsDisallowed: the one that has no effect is reported.
    fn once(&mut self, node: &'a Node, which: usize) {
        if let Some(before) = self.last[which].replace(node) {
            let name = self.view.keyword(node);
            let message = format!(
                "Multiple {name} instructions should not be used in the same stage because only the last one will be used"
            );
            let span = self.view.first_line(before);
            self.reporter
                .warn(before, &rules::MULTIPLE_INSTRUCTIONS_DISALLOWED, span, message)
                .hint(format!("the one on line {} is used; remove this one", node.start_line));
        }
    }

    /// Rule NoUser, about the image that is built.
    fn finish(&mut self) {
        if self.stage.index == self.graph.target && !self.environment.user_set && self.stage.stage.is_some() {
            let span: Span = self.view.first_line(self.stage.node);
            self.reporter
                .warn(
                    self.stage.node,
                    &rules::NO_USER,
                    span,
                    "the image runs as the user of its base, mostly root",
                )
                .hint("end the stage with `USER` and a name or number");
        }
    }
}
