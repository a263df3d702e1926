//! `slipway bake`.

use super::{
    build::{self, Desk, Parsed, Prepared},
    together::{Waiting, build_all},
};
use crate::{
    app::{App, Global},
    bake::{Asked, BakeError, Definition, FILES, Plan, Target, plan},
    error::Failure,
    progress::{self, Ending, Style},
    request::build::Permission,
    service::{input, output::Output},
    show::{
        self,
        listing::{self, Listing},
    },
};
use clap::ValueEnum;
use slipway_builder::Cancel;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// Most bytes of one file.
const FILE_BYTES: u64 = 8 << 20;

/// What `--list` shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum List {
    /// The targets and groups
    #[value(alias = "type=targets")]
    Targets,
    /// The variables
    #[value(alias = "type=variables")]
    Variables,
}

/// Build the targets of a bake or compose file.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// A file; later ones go over earlier ones [default: compose.yaml, docker-bake.json, docker-bake.hcl and their overrides]; `-`
    /// is standard input
    #[arg(short, long = "file", value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Show what would be built, as JSON, and build nothing
    #[arg(long)]
    print: bool,
    /// List targets or variables
    #[arg(long, value_enum, value_name = "WHAT")]
    list: Option<List>,
    /// Another value for an attribute: TARGET.ATTRIBUTE[.NAME]=VALUE, where TARGET may have `*`
    #[arg(long, value_name = "OVERRIDE")]
    set: Vec<String>,
    /// Another value for a variable of the files
    #[arg(long = "var", value_name = "NAME=VALUE")]
    variables: Vec<String>,
    /// Send each image to its registry: `--set=*.push=true`
    #[arg(long)]
    push: bool,
    /// Put each image into the store, whatever its outputs
    #[arg(long)]
    load: bool,
    /// Pass over cached results
    #[arg(long)]
    no_cache: bool,
    /// Ask the registry even for base images that the store has
    #[arg(long)]
    pull: bool,
    /// Say where the images come from, in SLSA's words: true, false or mode=max
    #[arg(long, value_name = "PROVENANCE")]
    provenance: Option<String>,
    /// List the packages in the images: true, false or format=cyclonedx
    #[arg(long, value_name = "SBOM")]
    sbom: Option<String>,
    /// How steps are kept apart: chroot works without namespaces, and holds no hostile recipe
    #[arg(long, env = "SLIPWAY_ISOLATION", value_enum, value_name = "HOW", default_value_t)]
    isolation: build::Kept,
    /// Check the recipes and build nothing
    #[arg(long)]
    check: bool,
    /// Allow what targets ask for by `entitlements` or `network = "host"`: network.host, security.insecure, device
    #[arg(long, value_name = "PERMISSION", value_delimiter = ',')]
    allow: Vec<String>,
    /// How progress is shown
    #[arg(long, value_enum, default_value_t, env = "SLIPWAY_PROGRESS")]
    progress: Style,
    /// Write the results of all targets as JSON to a file
    #[arg(long, value_name = "FILE")]
    metadata_file: Option<PathBuf>,
    /// Targets and groups [default: default]
    #[arg(value_name = "TARGET")]
    targets: Vec<String>,
}

/// A target's line, read as that of a build is.
#[derive(clap::Parser)]
#[command(no_binary_name = true)]
struct Line {
    #[command(flatten)]
    arguments: build::Arguments,
}

/// Carries the command out.
pub(crate) fn run(global: &Global, arguments: &Arguments) -> Result<u8, Failure> {
    if arguments.print {
        show::say(format!("{:#}", planned(arguments)?.shown()))?;
        return Ok(0);
    }
    if let Some(what) = arguments.list {
        return listed(what, &planned(arguments)?).map(|()| 0);
    }
    // the program may begin again here: standard input, which is read once, is read afterwards
    let app = App::open_for_builds(global, arguments.isolation.into())?;
    let metadata = arguments.metadata_file.as_ref();
    let metadata = metadata.map(|path| Output::prepare("--metadata-file", path)).transpose()?;
    let plan = planned(arguments)?;
    // everything is read before anything is built
    let mut lines = Vec::new();
    for (name, target) in &plan.targets {
        let line = line(arguments, target).map_err(|failure| failure.about(format!("target `{name}`")))?;
        let parsed = Parsed::of(&line).map_err(|failure| failure.about(format!("target `{name}`")))?;
        parsed.check_agents()?;
        lines.push((name, target, line, parsed));
    }
    let progress = progress::of(arguments.progress);
    let desk = Desk::new(&app, global, arguments.progress, &*progress);
    let (mut jobs, mut status) = (Vec::new(), 0);
    for (name, target, line, parsed) in lines {
        match desk.prepare(Some(name.clone()), &line, parsed)? {
            Prepared::Checked(found) => status = status.max(found),
            Prepared::Job(job) => {
                jobs.push(Waiting { name: name.clone(), needs: Plan::contexts(target), job: *job })
            }
        }
    }
    if jobs.is_empty() {
        return Ok(status);
    }
    let cancel = Cancel::new()?;
    let over = build::listen(&cancel, app.store.root())?;
    let built = build_all(&desk, jobs, &cancel, &over);
    progress.end(if built.is_ok() { Ending::Finished } else { Ending::Failed });
    let all = built?;
    if let Some(file) = metadata {
        file.finish_with(format!("{:#}\n", serde_json::Value::Object(all.into_iter().collect())).as_bytes())?;
    }
    app.store.maintain()?;
    Ok(status)
}

/// Reads the files and works out what is asked for.
fn planned(arguments: &Arguments) -> Result<Plan, Failure> {
    let dotenv = dotenv()?;
    let environment = |name: &str| std::env::var(name).ok().or_else(|| dotenv.get(name).cloned());
    let mut files = arguments.files.clone();
    if files.is_empty() {
        files.extend(FILES.iter().map(PathBuf::from).filter(|file| file.is_file()));
    }
    if files.is_empty() {
        let words = "there is no file to bake: none of those that are looked for is here";
        return Err(Failure::usage(words).with_hint(format!("name one with -f, or write {}", FILES[5])));
    }
    let mut definition = Definition::default();
    for file in &files {
        let name = file.strip_prefix("cwd://").unwrap_or(file);
        let bytes = input::read("--file", name, FILE_BYTES)?;
        let shown = name.display().to_string();
        let text = String::from_utf8(bytes).map_err(|_| Failure::new(format!("`{shown}` is not UTF-8")))?;
        definition.add(&shown, &text, &environment).map_err(of_bake)?;
    }
    let mut variables = BTreeMap::new();
    for text in &arguments.variables {
        let pair = text
            .split_once('=')
            .ok_or_else(|| Failure::usage(format!("--var: `{text}` is not NAME=VALUE")))?;
        variables.insert(pair.0.to_owned(), pair.1.to_owned());
    }
    let asked = Asked { names: arguments.targets.clone(), set: arguments.set.clone(), variables };
    plan(&definition, &asked, &environment).map_err(of_bake)
}

/// The words of a bake file's mistake, with what there is where a name is none.
fn of_bake(error: BakeError) -> Failure {
    let failure = Failure::of(&error);
    let mut here = &error;
    while let BakeError::At { source, .. } = here {
        here = source;
    }
    match here {
        BakeError::NoTarget { known, .. } if !known.is_empty() => {
            failure.with_hint(format!("there are: {}", known.join(", ")))
        }
        _ => failure,
    }
}

/// What `.env` of this folder says, as docker compose reads it.
fn dotenv() -> Result<BTreeMap<String, String>, Failure> {
    let path = Path::new(".env");
    if !path.is_file() {
        return Ok(BTreeMap::new());
    }
    let text = String::from_utf8_lossy(&input::read("--file", path, FILE_BYTES)?).into_owned();
    let one = |line: &str| {
        let (name, value) = line.trim().strip_prefix("export ").unwrap_or(line.trim()).split_once('=')?;
        let value = value.trim();
        let quoted = |quote: char| value.strip_prefix(quote)?.strip_suffix(quote);
        let value = quoted('"').or_else(|| quoted('\'')).unwrap_or(value);
        (!name.starts_with('#')).then(|| (name.trim().to_owned(), value.to_owned()))
    };
    Ok(text.lines().filter_map(one).collect())
}

fn listed(what: List, plan: &Plan) -> Result<(), Failure> {
    let targets = || {
        let one = |(name, description): &(String, Option<String>)| serde_json::json!({ "Target": name, "Description": description.clone().unwrap_or_default() });
        plan.known.iter().map(one).collect::<Vec<_>>()
    };
    let variables = || {
        let one = |variable: &crate::bake::Variable| {
            let value = match &variable.value {
                serde_json::Value::Null => "<null>".to_owned(),
                serde_json::Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            serde_json::json!({
                "Variable": variable.name, "Type": variable.kind.clone().unwrap_or_default(), "Value": value,
                "Description": variable.description.clone().unwrap_or_default(),
            })
        };
        plan.variables.iter().map(one).collect::<Vec<_>>()
    };
    let (columns, rows): (&[listing::Column], _) = match what {
        List::Targets => (&[("Target", "TARGET"), ("Description", "DESCRIPTION")], targets()),
        List::Variables => (
            &[("Variable", "VARIABLE"), ("Type", "TYPE"), ("Value", "VALUE"), ("Description", "DESCRIPTION")],
            variables(),
        ),
    };
    Listing { columns, more: &[], rows: &rows }.write(None)
}

/// A target as a build's line.
fn line(arguments: &Arguments, target: &Target) -> Result<build::Arguments, Failure> {
    let mut words: Vec<String> = Vec::new();
    let mut push = |flag: &str, value: &str| words.push(format!("--{flag}={value}"));
    let context = target.text("context").unwrap_or(".");
    let is_local = !context.contains("://") && context != "-" && !slipway_builder::is_git_url(context);
    let folder = context.strip_prefix("cwd://").unwrap_or(context);
    let folder = if folder.is_empty() { "." } else { folder };
    if target.text("dockerfile-inline").is_none()
        && let Some(recipe) = target.text("dockerfile")
    {
        match recipe.strip_prefix("cwd://") {
            Some(recipe) => push("file", recipe),
            // a recipe is in its context
            None if is_local || context.starts_with("cwd://") => {
                push("file", &Path::new(folder).join(recipe).display().to_string())
            }
            None => push("file", recipe),
        }
    }
    for (flag, attribute) in [("build-arg", "args"), ("label", "labels"), ("build-context", "contexts")] {
        for (name, value) in target.map(attribute) {
            // those that are targets are linked when they are built
            if !(attribute == "contexts" && value.starts_with("target:")) {
                push(flag, &format!("{name}={value}"));
            }
        }
    }
    for (name, address) in target.map("extra-hosts") {
        push("add-host", &format!("{name}:{address}"));
    }
    for (flag, attribute) in [("target", "target"), ("network", "network")] {
        target.text(attribute).into_iter().for_each(|value| push(flag, value));
    }
    for (flag, attribute) in LISTS {
        target.list(attribute).iter().for_each(|value| push(flag, value));
    }
    allowed(arguments, target)?.iter().for_each(|value| push("allow", value));
    for agent in target.list("ssh") {
        let of = |key: &str| agent.split(',').find_map(|part| part.strip_prefix(key)?.strip_prefix('='));
        let id = of("id").unwrap_or("default");
        push("ssh", &of("paths").map_or_else(|| id.to_owned(), |path| format!("{id}={path}")));
    }
    for (flag, given) in [("provenance", &arguments.provenance), ("sbom", &arguments.sbom)] {
        given.iter().for_each(|value| push(flag, value));
    }
    let switches = [
        ("pull", arguments.pull || target.switch("pull").unwrap_or(false)),
        ("no-cache", arguments.no_cache || target.switch("no-cache").unwrap_or(false)),
        ("push", arguments.push),
        ("load", arguments.load || target.switch("load").unwrap_or(false)),
        ("check", arguments.check || target.text("call") == Some("check")),
    ];
    words.extend(switches.iter().filter(|(_, on)| *on).map(|(flag, _)| format!("--{flag}")));
    refused(target)?;
    words.extend(["--".to_owned(), folder.to_owned()]);
    let read = <Line as clap::Parser>::try_parse_from(&words);
    let mut read = read.map_err(|error| {
        let text = error.to_string();
        Failure::usage(text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned())
    })?;
    read.arguments.inline = target.text("dockerfile-inline").map(str::to_owned);
    Ok(read.arguments)
}

/// Flags of a build and the lists of a target that they take.
const LISTS: [(&str, &str); 9] = [
    ("tag", "tags"),
    ("annotation", "annotations"),
    ("attest", "attest"),
    ("cache-from", "cache-from"),
    ("cache-to", "cache-to"),
    ("secret", "secret"),
    ("platform", "platforms"),
    ("output", "output"),
    ("no-cache-filter", "no-cache-filter"),
];

/// What a target asks for and the caller has allowed. A file may come from anybody: it asks, and the line alone allows.
fn allowed(arguments: &Arguments, target: &Target) -> Result<Vec<String>, Failure> {
    let read = |flag: &str, text: &str| {
        Permission::from_str(text, true).map_err(|_| {
            let words = format!("{flag}: `{text}` is none of network.host, security.insecure, device");
            Failure::usage(words)
        })
    };
    // what else buildx asks about are files and agents, which a target may name
    let is_of_files = |text: &&String| text.starts_with("fs") || text.starts_with("ssh");
    let given = arguments.allow.iter().filter(|text| !is_of_files(text));
    let given = given.map(|text| read("--allow", text)).collect::<Result<Vec<_>, _>>()?;
    let network = (target.text("network") == Some("host")).then(|| "network.host".to_owned());
    let asked: Vec<String> = target.list("entitlements").iter().cloned().chain(network).collect();
    for text in &asked {
        if !given.contains(&read("`entitlements`", text)?) {
            let words = format!("the file asks for `{text}`, which is not allowed");
            return Err(Failure::usage(words)
                .with_hint(format!("if you trust it and its recipes, give --allow {text}")));
        }
    }
    Ok(asked)
}

/// What a target may say and no build here can do.
fn refused(target: &Target) -> Result<(), Failure> {
    for (attribute, words) in [
        ("shm-size", "limits of RUN steps cannot be set"),
        ("ulimits", "limits of RUN steps cannot be set"),
        ("policy", "policies are not read"),
    ] {
        if target.text(attribute).is_some() || !target.list(attribute).is_empty() {
            return Err(Failure::usage(format!("`{attribute}`: {words}")).with_hint("leave it out"));
        }
    }
    match target.text("call") {
        None | Some("build" | "check") => Ok(()),
        Some(other) => {
            Err(Failure::usage(format!("`call`: `{other}` is not made: there are build and check")))
        }
    }
}
