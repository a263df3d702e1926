//! `slipway build`.

mod again;
mod attest;
mod context;
mod exports;
mod lint;
mod pipeline;
mod request;
mod results;
mod several;
mod shown;
mod watch;

use super::{
    builds::trace::Trace,
    debug::{self, Shell},
};
use crate::{
    app::{App, Global},
    cache::{Built, Caches},
    command::dockerfile,
    error::{self, Failure},
    images::Images,
    leave,
    progress::{self, Ending, Style},
    request::{
        attest::Attestations,
        build::{Compression, Network, Permission, Timestamps},
    },
    show, signals,
};
use again::Purpose;
pub(super) use again::{again, look};
use context::Context;
pub(crate) use exports::Results;
use exports::{Exports, Made};
pub(crate) use request::Parsed;
use results::Files;
use several::Lines;
use slipway_builder::{BuildError, BuildOutput, BuildRequest, Cancel, Debugger, Environment, NamedContext};
use slipway_oci::{Digest, Platform, Reference};
use slipway_runtime::levels::Isolation;
use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// The value of `--format`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum ManifestFormat {
    /// The image specification's
    #[default]
    Oci,
    /// Docker's, for old pullers
    Docker,
}

/// Build an image from a Dockerfile.
#[derive(Clone, clap::Args)]
pub(crate) struct Arguments {
    /// Name of the image; may be repeated
    #[arg(short, long = "tag", value_name = "NAME[:TAG]")]
    tags: Vec<Reference>,
    /// The recipe [default: CONTEXT/Dockerfile]; `-` reads it from standard input
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Value of an ARG; without a value it is taken from the environment
    #[arg(long = "build-arg", value_name = "NAME[=VALUE]")]
    build_args: Vec<String>,
    /// The stage to build; of several, repeated, each may be given its image's name
    #[arg(long = "target", value_name = "STAGE[=NAME[:TAG]]")]
    targets: Vec<String>,
    /// Pass over cached results
    #[arg(long)]
    no_cache: bool,
    /// Pass over cached results of these stages
    #[arg(long, value_name = "STAGE", value_delimiter = ',')]
    no_cache_filter: Vec<String>,
    /// Open a shell in the state of a step that fails
    #[arg(long)]
    debug: bool,
    /// Say of each step that runs what differs from the nearest earlier result
    #[arg(long)]
    explain: bool,
    /// Ask the registry even for base images that the store has
    #[arg(long)]
    pull: bool,
    /// Send the image to its registry afterwards
    #[arg(long)]
    push: bool,
    /// Put the image into the store, beside other results
    #[arg(long)]
    load: bool,
    /// What is made of the result: type=image|registry|docker|oci|tar|local[,dest=PATH][,NAME=VALUE], a folder for its files, or `-`
    /// for a tar of them; may be repeated [default: an image in the store]
    #[arg(short, long = "output", value_name = "RESULT")]
    outputs: Vec<String>,
    /// How progress is shown
    #[arg(long, value_enum, default_value_t, env = "SLIPWAY_PROGRESS")]
    progress: Style,
    /// Print only the image's id
    #[arg(short, long)]
    quiet: bool,
    /// What the image runs on; of several an index is made
    #[arg(long = "platform", value_name = "OS/ARCH", value_delimiter = ',')]
    platforms: Vec<Platform>,
    /// An annotation for the image; of manifest, index, manifest-descriptor or index-descriptor
    #[arg(long = "annotation", value_name = "[TYPE:]NAME=VALUE")]
    annotations: Vec<String>,
    /// What is said of the image beside it: type=provenance[,mode=min|max] or type=sbom[,format=spdx|cyclonedx]; may be repeated
    #[arg(long, value_name = "ATTESTATION")]
    attest: Vec<String>,
    /// Say where the image comes from, in SLSA's words: true, false or mode=max
    #[arg(long, value_name = "PROVENANCE")]
    provenance: Option<String>,
    /// List the packages in the image: true, false or format=cyclonedx
    #[arg(long, value_name = "SBOM")]
    sbom: Option<String>,
    /// A label for the image
    #[arg(long = "label", value_name = "NAME=VALUE")]
    labels: Vec<String>,
    /// A context that recipes name: a folder, docker-image://IMAGE, oci-layout://FOLDER[:TAG] or a git URL
    #[arg(long = "build-context", value_name = "NAME=SOURCE")]
    build_contexts: Vec<String>,
    /// A secret for RUN --mount=type=secret: id=NAME[,src=FILE|env=VARIABLE]
    #[arg(long = "secret", value_name = "SPEC")]
    secrets: Vec<String>,
    /// An agent for RUN --mount=type=ssh: default or ID=SOCKET
    #[arg(long = "ssh", value_name = "SPEC")]
    ssh: Vec<String>,
    /// Network of RUN steps
    #[arg(long, value_enum, default_value_t)]
    network: Network,
    /// An entry for /etc/hosts of RUN steps
    #[arg(long = "add-host", value_name = "NAME:ADDRESS")]
    hosts: Vec<String>,
    /// Allow what recipes may ask for: network.host, security.insecure, device
    #[arg(long, value_enum, value_name = "PERMISSION", value_delimiter = ',')]
    allow: Vec<Permission>,
    /// A folder with CDI specifications for RUN --device [default: /etc/cdi and /var/run/cdi]
    #[arg(long = "cdi-spec-dir", value_name = "FOLDER")]
    cdi_folders: Vec<PathBuf>,
    /// Compression of new layers
    #[arg(long, value_enum, default_value_t, env = "SLIPWAY_COMPRESSION")]
    compression: Compression,
    /// Level of the compression
    #[arg(long, value_name = "NUMBER")]
    compression_level: Option<i32>,
    /// Compress layers of base images too
    #[arg(long)]
    force_compression: bool,
    /// Make one layer of the image's own
    #[arg(long)]
    squash: bool,
    /// Make one layer of all, the base's too
    #[arg(long)]
    squash_all: bool,
    /// Words in which the image's manifest is written
    #[arg(long, value_enum, default_value_t)]
    format: ManifestFormat,
    /// Where results of other machines are looked for: a name in a registry, type=registry,ref=NAME or type=local,src=FOLDER;
    /// several are asked in turn
    #[arg(long, value_name = "PLACE")]
    cache_from: Vec<String>,
    /// Where this build's results go: type=registry,ref=NAME[,mode=max], type=local,dest=FOLDER or type=inline
    #[arg(long, value_name = "PLACE")]
    cache_to: Vec<String>,
    /// How many stages are made at a time; 0 has no bound
    #[arg(long, env = "SLIPWAY_JOBS", value_name = "NUMBER", default_value_t = 0)]
    jobs: usize,
    /// Clamp times in the image to the build's epoch, or keep them
    #[arg(long, value_enum, default_value_t)]
    timestamps: Timestamps,
    /// The build's epoch in seconds since 1970, or `context` for its commit's [default: the context's, else the base's]
    #[arg(long, env = "SOURCE_DATE_EPOCH", value_name = "SECONDS|context")]
    source_date_epoch: Option<String>,
    /// Build again whenever something changes that the build could see
    #[arg(long)]
    watch: bool,
    /// Write what was done when, as a trace for Perfetto or chrome://tracing
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Check the recipe and build nothing
    #[arg(long)]
    check: bool,
    /// Write the image's id to a file
    #[arg(long, value_name = "FILE")]
    iidfile: Option<PathBuf>,
    /// Write the build's results as JSON to a file
    #[arg(long, value_name = "FILE")]
    metadata_file: Option<PathBuf>,
    /// Write the image's digest to a file
    #[arg(long, value_name = "FILE")]
    digest_file: Option<PathBuf>,
    /// Write NAME@DIGEST to a file, a line a name
    #[arg(long, value_name = "FILE")]
    image_name_with_digest_file: Option<PathBuf>,
    /// Write NAME:TAG@DIGEST to a file, a line a name
    #[arg(long, value_name = "FILE")]
    image_name_tag_with_digest_file: Option<PathBuf>,
    /// How steps are kept apart: chroot works without namespaces, and holds no hostile recipe
    #[arg(long, env = "SLIPWAY_ISOLATION", value_enum, value_name = "HOW", default_value_t)]
    isolation: Kept,
    /// A folder, an archive, a git URL, a URL of an archive, or `-` for a tar or recipe on standard input
    #[arg(value_name = "CONTEXT")]
    context: String,
    /// The recipe itself, where a bake file has it
    #[arg(skip)]
    pub(crate) inline: Option<String>,
}

impl Arguments {
    /// The stage that is built; the last one of the recipe where none is said.
    fn target(&self) -> Option<String> {
        self.targets.first().filter(|stage| !stage.is_empty()).cloned()
    }
}

/// How steps are kept apart from the machine; buildah's words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kept {
    /// The strongest sandbox that this machine allows
    #[default]
    #[value(alias = "oci", alias = "rootless")]
    Default,
    /// A copied root that is entered by chroot
    Chroot,
}

impl From<Kept> for Isolation {
    fn from(kept: Kept) -> Isolation {
        match kept {
            Kept::Default => Isolation::Strongest,
            Kept::Chroot => Isolation::Chroot,
        }
    }
}

/// Carries the command out.
pub(crate) fn run(global: &Global, arguments: Arguments) -> Result<u8, Failure> {
    if arguments.watch {
        return watch::run(&arguments, crate::app::store_folder(global.root.as_deref())?);
    }
    let shell = if arguments.debug { Shell::on_failure() } else { None };
    build(global, arguments, Purpose { shell: shell.as_ref(), ..Purpose::default() })
}

fn build(global: &Global, arguments: Arguments, purpose: Purpose<'_>) -> Result<u8, Failure> {
    let mut arguments = match several::lines(arguments)? {
        Lines::One(arguments) => *arguments,
        Lines::Several(several) => return several.build(global, purpose),
    };
    let opened = purpose.folder.map(|folder| debug::open_in(global, folder)).transpose()?;
    let mut parsed = Parsed::of(&arguments)?;
    if purpose.folder.is_some() {
        again::keep_alone(&mut arguments, &mut parsed);
    }
    parsed.check_agents()?;
    let app = opened.map_or_else(|| App::open_for_builds(global, arguments.isolation.into()), Ok)?;
    let style = debug::style(arguments.progress, arguments.quiet, purpose.shell.is_some());
    let progress = progress::of(style);
    let desk = Desk { purpose, ..Desk::new(&app, global, style, &*progress) };
    let job = match desk.prepare(None, &arguments, parsed)? {
        Prepared::Checked(status) => return Ok(status),
        Prepared::Job(job) => *job,
    };
    let cancel = Cancel::new()?;
    let over = listen(&cancel, app.store.root())?;
    desk.build(job, &cancel, &|ending| {
        progress.end(ending);
        over.store(ending == Ending::Finished, Ordering::Release);
    })?;
    app.store.maintain()?;
    Ok(0)
}

/// What all builds of one command share.
pub(crate) struct Desk<'a> {
    app: &'a App,
    global: &'a Global,
    style: Style,
    progress: &'a dyn progress::Show,
    numbers: shown::Numbers,
    purpose: Purpose<'a>,
}

/// A build that can begin.
pub(crate) struct Job<'a> {
    /// What it is called among several.
    name: Option<String>,
    images: Images<'a>,
    context: Context,
    warnings: lint::Warnings,
    files: Files,
    exports: Exports,
    from: Vec<crate::request::cache::From>,
    to: Vec<crate::request::cache::To>,
    request: BuildRequest,
    trace: Trace,
    attestations: Attestations,
}

/// What came of looking at a build.
pub(crate) enum Prepared<'a> {
    /// It was checked, and that was all; the exit status.
    Checked(u8),
    /// It can begin.
    Job(Box<Job<'a>>),
}

impl Job<'_> {
    /// Lets a context of the recipe be an image of the store.
    pub(crate) fn link(&mut self, name: &str, image: &Digest) -> Result<(), Failure> {
        let reference: Reference = "slipway.invalid/target".parse()?;
        let image = NamedContext::Image(reference.with_digest(image.clone()));
        self.request.contexts.insert(name.to_owned(), image);
        Ok(())
    }

    fn failed(&self, error: &BuildError, style: Style) -> Failure {
        let (recipe, name) = (&self.context.recipe, &self.context.recipe_name);
        let failure = error::of_build(error, recipe, name, style.keeps_output());
        if style == Style::Github {
            pipeline::failed(error, &failure.words(), name);
            return failure.reworded(progress::ci::no_commands);
        }
        failure
    }
}

impl<'a> Desk<'a> {
    pub(crate) fn new(
        app: &'a App,
        global: &'a Global,
        style: Style,
        progress: &'a dyn progress::Show,
    ) -> Desk<'a> {
        Desk { app, global, style, progress, numbers: shown::Numbers::default(), purpose: Purpose::default() }
    }

    /// Reads all that a build needs: what may wait, for a pipe or a person, is waited for here.
    pub(crate) fn prepare(
        &self,
        name: Option<String>,
        arguments: &Arguments,
        mut parsed: Parsed,
    ) -> Result<Prepared<'a>, Failure> {
        for (name, value) in self.global.proxies() {
            parsed.build_args.entry(name).or_insert(value);
        }
        let images = Images::new(&self.app.store, self.global)?.shown(self.progress);
        let recipe = match &arguments.inline {
            Some(text) => context::Given::Text(text),
            None => arguments.file.as_deref().map_or(context::Given::Nothing, context::Given::File),
        };
        let context = Context::prepare(&self.app.store, &images, &arguments.context, recipe)?;
        let options = lint::options(arguments, &parsed, &context);
        if arguments.check {
            let (text, name) = (&context.recipe, &context.recipe_name);
            let status = dockerfile::check::report(text, name, &options, dockerfile::check::Format::Text)?;
            return Ok(Prepared::Checked(status));
        }
        self.purpose.check(&context)?;
        let warnings = lint::Warnings::of(&context, &options, self.style);
        warnings.fail()?;
        let files = Files::prepare(arguments)?;
        let exports = Exports::prepare(&parsed, &arguments.tags)?;
        let (from, to) = (std::mem::take(&mut parsed.from), std::mem::take(&mut parsed.to));
        let attestations = std::mem::take(&mut parsed.attestations);
        let trace = Trace::prepare(arguments.trace.as_deref(), attestations.provenance.is_some())?;
        let mut request = request::request(arguments, parsed, &context)?;
        (request.is_forgotten, request.advice) = (self.purpose.folder.is_some(), warnings.advice());
        let job =
            Job { name, images, context, warnings, files, exports, from, to, request, trace, attestations };
        Ok(Prepared::Job(Box::new(job)))
    }

    /// Builds, then names the results, sends them where they go, and says what came of them. `ended` hears that nothing more is
    /// built.
    pub(crate) fn build(
        &self,
        job: Job<'_>,
        cancel: &Cancel,
        ended: &dyn Fn(Ending),
    ) -> Result<(Results, serde_json::Value), Failure> {
        let (began, clock) = (std::time::Instant::now(), attest::now());
        let caches = Caches::new(&job.images, &job.from, job.to.clone(), job.exports.platforms());
        let built = self.build_all(&job, &caches, cancel);
        job.trace.write()?;
        ended(if built.is_ok() { Ending::Finished } else { Ending::Failed });
        job.warnings.show();
        let page = |ended: Result<&Results, &str>| {
            let (steps, took) = (&*self.progress.told(), began.elapsed());
            pipeline::Page { recipe: &job.context.recipe_name, steps, ended, took }.append();
        };
        let built = match built {
            Ok(_) if cancel.is_cancelled() => Err(BuildError::Cancelled),
            built => built,
        };
        let (outputs, made) = built.map_err(|error| {
            let failure = job.failed(&error, self.style);
            page(Err(&failure.words()));
            failure
        })?;
        say_unused(&outputs);
        self.purpose.tell(&outputs);
        let ended_at = attest::now();
        let said = attest::Said { job: &job, outputs: &outputs, made: &made, times: (clock, ended_at) };
        let attached = said.attach(self.app)?;
        let results = job.exports.finish(self.app, &job.images, &made, &attached)?;
        caches.write(&job.images, &Built { outputs: &outputs, pushed: &results.pushed })?;
        let metadata = results::metadata(&results, &outputs, &attached);
        job.files.write(&results, &metadata)?;
        let report = results::Report { name: job.name.as_deref(), took: began.elapsed(), style: self.style };
        report.say(&results, &outputs)?;
        page(Ok(&results));
        Ok((results, metadata))
    }

    /// Builds for each platform, one after the other: most of what they have in common is known by then.
    fn build_all(
        &self,
        job: &Job<'_>,
        caches: &Caches<'_>,
        cancel: &Cancel,
    ) -> Result<(Vec<BuildOutput>, Vec<Made>), BuildError> {
        let platforms = job.exports.platforms();
        let (mut outputs, mut made) = (Vec::new(), Vec::new());
        for platform in platforms {
            let platform_name = (platforms.len() > 1).then(|| platform.to_string());
            let name: Vec<String> = job.name.clone().into_iter().chain(platform_name).collect();
            let named = shown::Named::new(self.progress, &self.numbers, name.join(" "));
            let environment = Environment {
                cache_sources: &caches.sources(platform),
                cache_sinks: &caches.sinks(),
                store: &self.app.store,
                images: &job.images,
                progress: if name.is_empty() { self.progress } else { &named },
                cancel,
                single_id: self.app.single_id(),
                bare: self.app.is_bare(),
                debugger: self.purpose.shell.map(|shell| shell as &dyn Debugger),
                record: job.trace.slot(),
            };
            let request = BuildRequest { platform: platform.clone(), ..job.request.clone() };
            let exporter = job.exports.of_platform(platform);
            let built = slipway_builder::build(&request, &environment, &exporter);
            job.trace.take();
            outputs.push(built?);
            made.push(exporter.made());
        }
        Ok((outputs, made))
    }
}

/// Lets signals throw the build's switch, and leave at once when they come again, or when what is answered was set: then it is
/// built.
pub(crate) fn listen(cancel: &Cancel, root: &Path) -> Result<Arc<AtomicBool>, Failure> {
    let (thrown, root) = (cancel.clone(), root.to_owned());
    let over = Arc::new(AtomicBool::new(false));
    let built_already = over.clone();
    signals::on(&signals::ENDING, move |_| {
        // asked twice: the person means now; and a push has nobody who could be told
        if thrown.is_cancelled() || built_already.load(Ordering::Acquire) {
            show::live::abandon(" CANCELED");
            leave::now(&root);
        }
        thrown.cancel();
    })?;
    Ok(over)
}

/// What no build of them has used.
fn say_unused(outputs: &[BuildOutput]) {
    // a proxy is for whatever asks for something, and nothing may
    let is_ours =
        |name: &str| crate::request::proxies::is_one(name) || name == crate::request::cache::INLINE_ARGUMENT;
    let Some((first, others)) = outputs.split_first() else { return };
    let is_unused = |name: &&String| others.iter().all(|output| output.unused_arguments.contains(name));
    for name in first.unused_arguments.iter().filter(is_unused).filter(|name| !is_ours(name)) {
        show::note(format_args!("warning: build argument `{name}` is not used by the recipe"));
    }
}
