//! `slipway check`.

mod explain;

use crate::{app::Global, error::Failure, recipe, request, service::output, show};
use slipway_dockerfile::{
    extension,
    ignore::IgnoreFile,
    lint::{self, LintOptions, LintReport},
};
use slipway_oci::Platform;
use std::path::{Path, PathBuf};

/// How a report is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people
    #[default]
    Text,
    /// For programs
    Json,
    /// SARIF 2.1.0, for code hosts
    Sarif,
}

/// Check a recipe without building it; nothing is fetched.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The recipe [default: CONTEXT/Dockerfile]; `-` reads it from standard input
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// The stage that is to be built: errors of stages that it does not need do not count
    #[arg(long, value_name = "STAGE")]
    target: Option<String>,
    /// Value of an ARG; without a value it is taken from the environment
    #[arg(long = "build-arg", value_name = "NAME[=VALUE]")]
    build_args: Vec<String>,
    /// A context that recipes name; only its name counts here
    #[arg(long = "build-context", value_name = "NAME=SOURCE")]
    build_contexts: Vec<String>,
    /// What the image is to run on
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<Platform>,
    /// How the report is written
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Mend in the file what can be mended mechanically
    #[arg(long)]
    fix: bool,
    /// Print what a rule means, by its code or name, and check nothing
    #[arg(long, value_name = "RULE")]
    explain: Option<String>,
    /// The folder that COPY would take files from, or `-` for a recipe on standard input
    #[arg(value_name = "CONTEXT", default_value = ".")]
    context: PathBuf,
}

/// A recipe as it was found.
struct Recipe {
    text: String,
    name: String,
    /// Its file, unless it came on standard input.
    path: Option<PathBuf>,
}

/// Carries the command out.
pub(crate) fn run(_global: &Global, arguments: &Arguments) -> Result<u8, Failure> {
    if let Some(rule) = &arguments.explain {
        return explain::explain(rule);
    }
    let stdin = |path: &Path| path.as_os_str() == "-";
    if stdin(&arguments.context) && arguments.file.as_deref().is_some_and(|path| !stdin(path)) {
        return Err(Failure::usage("the context is a recipe already: -f has no place"));
    }
    let from_stdin = stdin(&arguments.context) || arguments.file.as_deref().is_some_and(stdin);
    if from_stdin && arguments.fix {
        return Err(Failure::usage("--fix needs a file: standard input cannot be rewritten"));
    }
    let folder = Some(arguments.context.as_path()).filter(|path| !stdin(path));
    if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
        let failure = Failure::usage(format!("the context `{}` is not a folder", folder.display()));
        return Err(match folder.is_file() && arguments.file.is_none() {
            true => failure.with_hint(format!("to check this recipe: slipway check -f {}", folder.display())),
            false => failure.with_hint("a check fetches nothing: give a folder, or a recipe with -f"),
        });
    }
    let mut recipe = if from_stdin { read_stdin()? } else { read_file(arguments)? };
    let options = options(arguments, recipe.path.as_deref(), folder)?;
    if arguments.fix {
        fix(&mut recipe, &options)?;
    }
    // what is wrong without the marker is the check's to report
    if recipe.text.contains(extension::MARKER) {
        recipe::lower(&mut recipe.text, &mut recipe.name, folder)?;
    }
    report(&recipe.text, &recipe.name, &options, arguments.format)
}

/// Checks the text of a recipe, prints the report and answers the exit status. `build --check` ends here too.
pub(crate) fn report(text: &str, name: &str, options: &LintOptions, format: Format) -> Result<u8, Failure> {
    let report: LintReport = lint::check(text, options);
    let written = match format {
        Format::Text => {
            let written = lint::text(&report, text, name, show::result_colours());
            show::say_coloured(written.trim_end())?;
            return Ok(u8::from(report.fails()));
        }
        Format::Json => lint::json(&report, text),
        Format::Sarif => lint::sarif(&report, text, name, env!("CARGO_PKG_VERSION")),
    };
    crate::show::say(written.trim_end())?;
    Ok(u8::from(report.fails()))
}

fn options(
    arguments: &Arguments,
    recipe: Option<&Path>,
    folder: Option<&Path>,
) -> Result<LintOptions, Failure> {
    let name = |text: &String| text.split('=').next().unwrap_or_default().to_owned();
    let host = Platform::host();
    Ok(LintOptions {
        build_args: request::build_arguments(&arguments.build_args, &request::environment),
        target: arguments.target.clone(),
        target_platform: arguments.platform.as_ref().unwrap_or(&host).to_string(),
        build_platform: host.to_string(),
        ignore_file: folder.map(|folder| ignore_file(recipe, folder)).transpose()?.flatten(),
        named_contexts: arguments.build_contexts.iter().map(name).collect(),
        ..LintOptions::default()
    })
}

/// The text of the ignore file that a build would use.
fn ignore_file(recipe: Option<&Path>, folder: &Path) -> Result<Option<String>, Failure> {
    let found = slipway_builder::read_ignore_file(recipe, folder).map_err(|error| Failure::of(&error))?;
    let Some((path, text)) = found else { return Ok(None) };
    // a build would fail over it
    IgnoreFile::parse(&text).map_err(|error| Failure::new(format!("`{}`: {error}", path.display())))?;
    Ok(Some(text))
}

fn read_stdin() -> Result<Recipe, Failure> {
    let name = recipe::STDIN_NAME.to_owned();
    Ok(Recipe { text: recipe::read_from(std::io::stdin(), &name)?, name, path: None })
}

fn read_file(arguments: &Arguments) -> Result<Recipe, Failure> {
    let (path, text) = match &arguments.file {
        Some(path) => (path.clone(), recipe::read_named("--file", path)?),
        None => {
            let path = recipe::find(&arguments.context)?;
            let text = recipe::read(&path)?;
            (path, text)
        }
    };
    Ok(Recipe { text, name: path.display().to_string(), path: Some(path) })
}

/// Rewrites the recipe's file where something can be mended, and says what was.
fn fix(recipe: &mut Recipe, options: &LintOptions) -> Result<(), Failure> {
    let Some(path) = &recipe.path else { return Ok(()) };
    let (text, applied) = lint::fix(&recipe.text, options);
    if applied.is_empty() {
        crate::show::note(format_args!("nothing to mend mechanically in `{}`", recipe.name));
        return Ok(());
    }
    output::write("--fix", path, text.as_bytes())?;
    for fixed in &applied {
        crate::show::note(format_args!(
            "mended {}:{}: {}: {}",
            recipe.name, fixed.line, fixed.rule, fixed.message
        ));
    }
    recipe.text = text;
    Ok(())
}
