//! FROM lines, and how stages fit together.

use super::environment::{Environment, Mode, Origin, suggestion};
use super::fix::Edit;
use super::reference::{ImageName, PlatformName};
use super::reporter::Reporter;
use super::rules;
use super::view::{StageView, View};
use super::{LintOptions, codes};
use crate::mount::RunMount;
use crate::{Diagnostic, Instruction, Node, Span, Stage};

/// What a stage is built from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Base {
    Stage(usize),
    Scratch,
    /// An image or named context; nothing when the name could not be made out.
    Image(Option<String>),
}

/// The stages, and what each begins with.
pub(super) struct Graph {
    pub(super) bases: Vec<Base>,
    /// Values of arguments that stages may redeclare.
    pub(super) globals: Environment,
    /// Stages that the target needs; all when no target was asked for.
    pub(super) counts: Vec<bool>,
    /// The stage that the image is made of.
    pub(super) target: usize,
}

pub(super) fn check(view: &View<'_>, options: &LintOptions, reporter: &mut Reporter<'_>) -> Graph {
    let target = target(view, options, reporter);
    let stage_name = view.stages[target].stage.and_then(|stage| stage.name.clone());
    let predefined = predefined(options, stage_name.filter(|_| options.target.is_some()));
    let defaults = arguments(view, predefined.clone(), None, &mut |_| {});
    let globals = arguments(view, predefined, Some(options), &mut |error| reporter.error(error));
    let mut graph = Graph { bases: Vec::new(), globals, counts: Vec::new(), target };
    for stage in &view.stages {
        default_base(view, stage, &defaults, options, reporter);
        let base = base(view, &graph, stage, options, reporter);
        platform(view, &graph, stage, reporter);
        graph.bases.push(base);
    }
    let needs = needs(view, &graph, options, reporter);
    graph.counts = vec![options.target.is_none(); view.stages.len()];
    let mut pending = vec![target];
    while let Some(index) = pending.pop() {
        if options.target.is_some() && !std::mem::replace(&mut graph.counts[index], true) {
            pending.extend(&needs[index]);
        }
    }
    graph
}

/// The stage that is built: the one asked for, else the last.
fn target(view: &View<'_>, options: &LintOptions, reporter: &mut Reporter<'_>) -> usize {
    let last = view.stages.len() - 1;
    let Some(wanted) = options.target.as_deref().filter(|target| !target.is_empty()) else { return last };
    let name = |stage: &StageView<'_>| stage.stage.and_then(|stage| stage.name.clone());
    let found = view.stages.iter().rev().find(|stage| name(stage) == Some(wanted.to_lowercase()));
    if let Some(stage) = found {
        return stage.index;
    }
    let names: Vec<String> = view.stages.iter().filter_map(name).collect();
    let mut diagnostic = Diagnostic::error(
        codes::UNKNOWN_TARGET,
        view.stages[0].node.keyword_span,
        format!("target stage `{wanted}` could not be found"),
    )
    .with_nearest(wanted, names.iter().map(String::as_str));
    if names.is_empty() {
        diagnostic = diagnostic.with_hint("no stage has a name: add `AS name` to a FROM");
    } else {
        diagnostic = diagnostic.with_expected(format!("one of {}", names.join(", ")));
    }
    reporter.error(diagnostic);
    last
}

/// The arguments that every build has.
fn predefined(options: &LintOptions, target: Option<String>) -> Environment {
    let mut values = Environment::new(Origin::Scratch);
    values.remove_path();
    for (prefix, text) in [("TARGET", &options.target_platform), ("BUILD", &options.build_platform)] {
        let parsed = PlatformName::parse(text);
        let part =
            |pick: fn(&PlatformName) -> &String| parsed.as_ref().map(pick).cloned().unwrap_or_default();
        values.set(&format!("{prefix}PLATFORM"), Some(text.clone()));
        values.set(&format!("{prefix}OS"), Some(part(|parsed| &parsed.os)));
        values.set(&format!("{prefix}OSVERSION"), Some(String::new()));
        values.set(&format!("{prefix}ARCH"), Some(part(|parsed| &parsed.architecture)));
        values.set(&format!("{prefix}VARIANT"), Some(part(|parsed| &parsed.variant)));
    }
    values.set("TARGETSTAGE", Some(target.unwrap_or_else(|| "default".to_owned())));
    for name in values.names().map(str::to_owned).collect::<Vec<_>>() {
        if let Some(given) = options.build_args.get(&name) {
            values.set(&name, Some(given.clone()));
        }
    }
    values
}

/// The arguments before the first FROM, with the build arguments of `options` if given.
fn arguments(
    view: &View<'_>,
    mut values: Environment,
    options: Option<&LintOptions>,
    report: &mut dyn FnMut(Diagnostic),
) -> Environment {
    for unit in &view.globals {
        let Some(Instruction::Arg(declarations)) = unit.instruction else { continue };
        for declaration in declarations {
            let given = options.and_then(|options| options.build_args.get(&declaration.name)).cloned();
            let value = match (given, &declaration.default) {
                (Some(given), _) => Some(given),
                (None, Some(default)) => match values.expand(default, Mode::Word(view.escape)) {
                    Ok(value) => Some(value.text),
                    Err(error) => {
                        report(expansion_error(view, unit.node, default, error));
                        None
                    }
                },
                (None, None) => None,
            };
            values.declare(&declaration.name);
            if value.is_some() {
                values.set(&declaration.name, value);
            }
        }
    }
    values
}

/// An expansion that fails, as a message.
pub(super) fn expansion_error(
    view: &View<'_>,
    node: &Node,
    text: &str,
    error: Option<crate::ExpandError>,
) -> Diagnostic {
    let reason = error.map(|error| error.to_string()).unwrap_or_default();
    let span = part(view, node, text);
    Diagnostic::error(codes::BAD_EXPANSION, span, format!("cannot expand `{text}`: {reason}"))
}

/// The place of `text` within an instruction's first mention of it, or the instruction's first line.
pub(super) fn part(view: &View<'_>, node: &Node, text: &str) -> Span {
    let whole = view.text(node.span);
    match whole.find(text).filter(|_| !text.is_empty()) {
        Some(at) => view.index.span(node.span.start + at, node.span.start + at + text.len()),
        None => view.first_line(node),
    }
}

/// Rule InvalidDefaultArgInFrom: the base name without any build argument.
fn default_base(
    view: &View<'_>,
    stage: &StageView<'_>,
    defaults: &Environment,
    options: &LintOptions,
    reporter: &mut Reporter<'_>,
) {
    let Some(found) = stage.stage else { return };
    let Ok(value) = defaults.expand(&found.base, Mode::Word(view.escape)) else { return };
    let is_stage = earlier(view, stage.index, &value.text).is_some();
    let is_context = options.named_contexts.contains(&value.text);
    if ImageName::parse(&value.text).is_none() && !is_stage && !is_context {
        let span = part(view, stage.node, &found.base);
        let message =
            format!("Default value for ARG {} results in empty or invalid base image name", found.base);
        reporter
            .warn(stage.node, &rules::INVALID_DEFAULT_ARG_IN_FROM, span, message)
            .hint("give the ARG before FROM a default that makes a valid name");
    }
}

/// The last stage of that name before stage `index`.
fn earlier(view: &View<'_>, index: usize, name: &str) -> Option<usize> {
    let name = name.to_lowercase();
    view.stages[..index]
        .iter()
        .rev()
        .find(|stage| stage.stage.and_then(|stage| stage.name.as_deref()) == Some(name.as_str()))
        .map(|stage| stage.index)
}

/// What a stage is built from; its FROM is judged on the way.
fn base(
    view: &View<'_>,
    graph: &Graph,
    stage: &StageView<'_>,
    options: &LintOptions,
    reporter: &mut Reporter<'_>,
) -> Base {
    let unknown = Base::Image(None);
    let Some(found) = stage.stage else { return unknown };
    let value = match graph.globals.expand(&found.base, Mode::Word(view.escape)) {
        Ok(value) => value,
        Err(error) => {
            reporter.error(expansion_error(view, stage.node, &found.base, error));
            return unknown;
        }
    };
    undeclared(view, graph, stage.node, &value.unset, reporter);
    let name = value.text;
    let span = part(view, stage.node, &found.base);
    if options.named_contexts.contains(&name) {
        return unknown;
    }
    if name.is_empty() {
        let message = format!("base name ({}) should not be blank", found.base);
        reporter.error(
            Diagnostic::error(codes::EMPTY_BASE, span, message)
                .with_hint("give the ARG before FROM a default, or pass it with --build-arg"),
        );
        return unknown;
    }
    if name == "scratch" {
        return Base::Scratch;
    }
    if let Some(index) = earlier(view, stage.index, &name) {
        return Base::Stage(index);
    }
    if ImageName::parse(&name).is_none() {
        let names = view.stages[..stage.index].iter().filter_map(|stage| stage.stage?.name.as_deref());
        reporter.error(
            Diagnostic::error(codes::BAD_IMAGE_NAME, span, format!("`{name}` is not a valid image name"))
                .with_nearest(&name, names)
                .with_expected("`[registry/]name[:tag][@digest]`, the name in lower case"),
        );
        return unknown;
    }
    not_pinned(stage.node, span, &name, reporter);
    Base::Image(Some(name))
}

/// Rule BaseNotPinned.
pub(super) fn not_pinned(node: &Node, span: Span, name: &str, reporter: &mut Reporter<'_>) {
    let Some(image) = ImageName::parse(name) else { return };
    let message = match (image.tag, image.digest) {
        (_, Some(_)) => return,
        (None, None) => {
            format!("image `{name}` has no tag: what `latest` is today may not be what it is tomorrow")
        }
        (Some("latest"), None) => {
            format!("image `{name}`: what `latest` is today may not be what it is tomorrow")
        }
        _ => return,
    };
    reporter
        .warn(node, &rules::BASE_NOT_PINNED, span, message)
        .hint(format!("name a version, `{}:VERSION`, or a digest, `{}@sha256:…`", image.name, image.name));
}

/// Rule UndefinedArgInFrom.
fn undeclared(view: &View<'_>, graph: &Graph, node: &Node, unset: &[String], reporter: &mut Reporter<'_>) {
    for name in unset {
        if graph.globals.is_declared(name) || graph.globals.get(name).is_some() {
            continue;
        }
        let near = suggestion(name, graph.globals.names());
        let mut message = format!("FROM argument '{name}' is not declared");
        if let Some(near) = near {
            message.push_str(&format!(" (did you mean {near}?)"));
        }
        let hint = match near {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("declare it before the first FROM: `ARG {name}=…`"),
        };
        let span = view.variable(node, name);
        reporter.warn(node, &rules::UNDEFINED_ARG_IN_FROM, span, message).hint(hint);
    }
}

/// `--platform`: rules RedundantTargetPlatform and FromPlatformFlagConstDisallowed, and whether it is one at all.
fn platform(view: &View<'_>, graph: &Graph, stage: &StageView<'_>, reporter: &mut Reporter<'_>) {
    let Some((found, written)) = stage.stage.and_then(|found| Some((found, found.platform.as_ref()?))) else {
        return;
    };
    let flag = stage.node.flags.iter().find(|flag| flag.text.starts_with("--platform"));
    let span = flag.map_or_else(|| view.first_line(stage.node), |flag| flag.span);
    let value = match graph.globals.expand(written, Mode::Word(view.escape)) {
        Ok(value) => value,
        Err(error) => return reporter.error(expansion_error(view, stage.node, written, error)),
    };
    undeclared(view, graph, stage.node, &value.unset, reporter);
    let only_target = value.used.len() == 1 && value.used[0] == "TARGETPLATFORM" && value.unset.is_empty();
    if only_target && graph.globals.get("TARGETPLATFORM") == Some(&Some(value.text.clone())) {
        let message = format!(
            "Setting platform to predefined {written} in FROM is redundant as this is the default behavior"
        );
        let after = view.source().get(span.end..).unwrap_or_default();
        let blanks = after.len() - after.trim_start_matches([' ', '\t']).len();
        reporter
            .warn(stage.node, &rules::REDUNDANT_TARGET_PLATFORM, span, message)
            .hint("remove the flag")
            .fix(Edit::replace(span.start, span.end + blanks, ""));
    }
    let parsed = PlatformName::parse(&value.text);
    if value.used.is_empty()
        && let Some(parsed) = &parsed
    {
        constant_platform(stage.node, found, &value.text, parsed, span, reporter);
    }
    if parsed.is_none() {
        let message = if value.text.is_empty() {
            format!("empty platform value from expression {written}")
        } else {
            format!("`{}` is not a platform", value.text)
        };
        reporter.error(
            Diagnostic::error(codes::BAD_PLATFORM, span, message)
                .with_expected("`os/architecture[/variant]`, such as `linux/arm64`"),
        );
    }
}

/// Rule FromPlatformFlagConstDisallowed.
fn constant_platform(
    node: &Node,
    stage: &Stage,
    text: &str,
    platform: &PlatformName,
    span: Span,
    reporter: &mut Reporter<'_>,
) {
    let name = stage.name.as_deref().unwrap_or_default();
    if name.contains(&platform.os) || name.contains(&platform.architecture) {
        return;
    }
    let message = format!("FROM --platform flag should not use constant value {text:?}");
    reporter
        .warn(node, &rules::FROM_PLATFORM_FLAG_CONST_DISALLOWED, span, message)
        .hint("use $BUILDPLATFORM or another variable, or name the stage after the platform");
}

/// For each stage, the stages that it needs; wrong references are reported.
fn needs(
    view: &View<'_>,
    graph: &Graph,
    options: &LintOptions,
    reporter: &mut Reporter<'_>,
) -> Vec<Vec<usize>> {
    let all_clear = view.stages.iter().all(|stage| stage.stage.is_some());
    let mut needs = Vec::new();
    for stage in &view.stages {
        let mut own = Vec::new();
        if let Base::Stage(base) = &graph.bases[stage.index] {
            own.push(*base);
        }
        for unit in &stage.units {
            for (from, span, may_be_number) in sources(unit.node, unit.instruction) {
                if options.named_contexts.contains(&from) {
                    continue;
                }
                match source_stage(view, stage, &from, may_be_number) {
                    Ok(Some(index)) => own.push(index),
                    Ok(None) => image_source(unit.node, span, &from, reporter),
                    // With a FROM that could not be read the numbers are off.
                    Err(diagnostic) if all_clear => reporter.error(Diagnostic { span, ..diagnostic }),
                    Err(_) => {}
                }
            }
        }
        needs.push(own);
    }
    needs
}

/// An image that COPY or a mount takes files from.
fn image_source(node: &Node, span: Span, from: &str, reporter: &mut Reporter<'_>) {
    if from == "scratch" || from.contains('$') {
        return;
    }
    if ImageName::parse(from).is_some() {
        return not_pinned(node, span, from, reporter);
    }
    reporter.error(
        Diagnostic::error(
            codes::BAD_STAGE_REFERENCE,
            span,
            format!("`{from}` is neither a stage nor a valid image name"),
        )
        .with_expected("a stage before this one, or an image"),
    );
}

/// The stages and images that an instruction takes files from, with their places; whether a number is meant as one.
fn sources(node: &Node, instruction: Option<&Instruction>) -> Vec<(String, Span, bool)> {
    let flag = |start: &str, value: &str| {
        let found = node.flags.iter().find(|flag| flag.text.starts_with(start) && flag.text.contains(value));
        found.map_or(node.keyword_span, |flag| flag.part(value).unwrap_or(flag.span))
    };
    match instruction {
        Some(Instruction::Copy(transfer) | Instruction::Add(transfer)) => {
            transfer.from.iter().map(|from| (from.clone(), flag("--from", from), true)).collect()
        }
        Some(Instruction::Run(run)) => {
            let found = run.mounts.iter().filter_map(|mount| RunMount::from_of(mount).ok().flatten());
            found.map(|from| (from.clone(), flag("--mount", &from), true)).collect()
        }
        _ => Vec::new(),
    }
}

/// The stage that `from` means in `stage`; nothing when it is an image.
fn source_stage(
    view: &View<'_>,
    stage: &StageView<'_>,
    from: &str,
    may_be_number: bool,
) -> Result<Option<usize>, Diagnostic> {
    let error = |code, message: String| Diagnostic::error(code, stage.node.keyword_span, message);
    let number = from.parse::<usize>().ok().filter(|_| may_be_number);
    let index = match number {
        Some(number) if number >= view.stages.len() => {
            let last = view.stages.len() - 1;
            return Err(error(codes::BAD_STAGE_REFERENCE, format!("invalid stage index {number}"))
                .with_expected(format!("a stage before this one; the last one is {last}")));
        }
        Some(number) => number,
        None => {
            let name = from.to_lowercase();
            if let Some(index) = earlier(view, stage.index, &name) {
                return Ok(Some(index));
            }
            let later = view.stages[stage.index..]
                .iter()
                .find(|other| other.stage.and_then(|other| other.name.as_deref()) == Some(name.as_str()));
            match later {
                Some(later) => later.index,
                None => return Ok(None),
            }
        }
    };
    if index < stage.index {
        return Ok(Some(index));
    }
    let label = stage.label();
    if index == stage.index {
        return Err(error(codes::CIRCLE, format!("circular dependency detected on stage: {label}"))
            .with_hint("a stage cannot copy from itself; its files are already there"));
    }
    let message =
        format!("cannot copy from stage `{from}`, it needs to be defined before current stage `{label}`");
    Err(error(codes::BAD_STAGE_REFERENCE, message).with_hint("move that stage in front of this one"))
}
