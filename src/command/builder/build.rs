//! `slipway build`.

mod context;
mod exports;
mod lint;
mod pipeline;
mod request;
mod results;
mod shown;

use crate::{
    app::{App, Global},
    cache::{Built, Caches},
    command::dockerfile,
    error::{self, Failure},
    images::Images,
    leave,
    progress::{self, Style},
    request::build::{Compression, Network, Permission, Timestamps},
    show, signals,
};
use context::Context;
use exports::{Exports, Made, Results};
use request::Parsed;
use results::Files;
use slipway_builder::{BuildError, BuildOutput, BuildRequest, Cancel, Environment};
use slipway_oci::{Platform, Reference};
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
#[derive(clap::Args)]
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
    /// The stage to build
    #[arg(long, value_name = "STAGE")]
    target: Option<String>,
    /// Pass over cached results
    #[arg(long)]
    no_cache: bool,
    /// Pass over cached results of these stages
    #[arg(long, value_name = "STAGE", value_delimiter = ',')]
    no_cache_filter: Vec<String>,
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
    /// A folder, an archive, a git URL, a URL of an archive, or `-` for a tar or recipe on standard input
    #[arg(value_name = "CONTEXT")]
    context: String,
}

/// Carries the command out.
pub(crate) fn run(global: &Global, arguments: Arguments) -> Result<u8, Failure> {
    let mut parsed = Parsed::of(&arguments)?;
    for (name, value) in global.proxies() {
        parsed.build_args.entry(name).or_insert(value);
    }
    parsed.check_agents()?;
    let app = App::open_for_containers(global)?;
    let style = if arguments.quiet { Style::Quiet } else { arguments.progress };
    let progress = progress::of(style);
    let images = Images::new(&app.store, global)?.shown(&*progress);
    let context = Context::prepare(&app.store, &images, &arguments.context, arguments.file.as_deref())?;
    let options = lint::options(&arguments, &parsed, &context);
    if arguments.check {
        let (text, name) = (&context.recipe, &context.recipe_name);
        return dockerfile::check::report(text, name, &options, dockerfile::check::Format::Text);
    }
    let warnings = lint::Warnings::of(&context, &options, style);
    warnings.fail()?;
    let files = Files::prepare(&arguments)?;
    let exports = Exports::prepare(&parsed, &arguments.tags)?;
    let caches = Caches::new(&images, &parsed.from, std::mem::take(&mut parsed.to), &parsed.platforms);
    // what is read for it may wait, and is not waited for once signals throw the switch
    let request = request::request(&arguments, parsed, &context)?;
    let cancel = Cancel::new()?;
    let over = listen(&cancel, app.store.root())?;
    let work = Work { app: &app, context: &context, images: &images, cancel: &cancel };
    let began = std::time::Instant::now();
    let built = work.build_all(&request, &exports, &caches, &*progress);
    let ended = progress::ended(&*progress, built);
    warnings.show();
    let page = |ended: Result<&Results, &str>| {
        let (steps, took) = (&*progress.told(), began.elapsed());
        pipeline::Page { recipe: &context.recipe_name, steps, ended, took }.append();
    };
    let (outputs, made) = ended.map_err(|error| {
        let failure = work.failed(&error, style);
        page(Err(&failure.words()));
        failure
    })?;
    say_unused(&outputs);
    over.store(true, Ordering::Release);
    if cancel.is_cancelled() {
        return Err(work.failed(&BuildError::Cancelled, style));
    }
    let results = exports.finish(&app, &images, &made)?;
    caches.write(&images, &Built { outputs: &outputs, pushed: &results.pushed })?;
    files.write(&results, &outputs)?;
    results::report(&results, &outputs, began.elapsed(), style)?;
    page(Ok(&results));
    app.store.maintain()?;
    Ok(0)
}

/// What all builds of one command share.
struct Work<'a> {
    app: &'a App,
    context: &'a Context,
    images: &'a Images<'a>,
    cancel: &'a Cancel,
}

impl Work<'_> {
    /// Builds for each platform, one after the other: most of what they have in common is known by then.
    fn build_all(
        &self,
        request: &BuildRequest,
        exports: &Exports<'_>,
        caches: &Caches<'_>,
        progress: &dyn progress::Show,
    ) -> Result<(Vec<BuildOutput>, Vec<Made>), BuildError> {
        let (mut outputs, mut made) = (Vec::new(), Vec::new());
        let (numbers, sinks) = (shown::Numbers::default(), caches.sinks());
        let several = exports.platforms().len() > 1;
        for platform in exports.platforms() {
            let named = shown::Named::new(progress, &numbers, several.then(|| platform.to_string()));
            let environment = Environment {
                cache_sources: &caches.sources(platform),
                cache_sinks: &sinks,
                store: &self.app.store,
                images: self.images,
                progress: if several { &named } else { progress },
                cancel: self.cancel,
                single_id: self.app.single_id(),
            };
            let request = BuildRequest { platform: platform.clone(), ..request.clone() };
            let exporter = exports.of_platform(platform);
            outputs.push(slipway_builder::build(&request, &environment, &exporter)?);
            made.push(exporter.made());
        }
        Ok((outputs, made))
    }

    fn failed(&self, error: &BuildError, style: Style) -> Failure {
        let failure =
            error::of_build(error, &self.context.recipe, &self.context.recipe_name, style.keeps_output());
        if style == Style::Github {
            pipeline::failed(error, &failure.words(), &self.context.recipe_name);
        }
        failure
    }
}

/// Lets signals throw the build's switch, and leave at once when they come again, or when what is answered was set: then it is
/// built.
fn listen(cancel: &Cancel, root: &Path) -> Result<Arc<AtomicBool>, Failure> {
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
