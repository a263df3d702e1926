//! `slipway build`.

mod context;
mod lint;

use crate::{
    app::{App, Global},
    cache::{Built, Caches},
    command::dockerfile,
    error::{self, Failure},
    images::Images,
    leave,
    progress::{self, Style},
    request::{
        self,
        build::{Compression, GivenEpoch, Network, Permission, Timestamps},
    },
    service::{input, output::Output},
    show, signals,
};
use context::Context;
use slipway_builder::{
    BuildError, BuildRequest, Cancel, Environment, ImageExporter, NamedContext, SecretSource, epoch::Epoch,
};
use slipway_oci::{Platform, Reference, limits};
use std::{
    collections::BTreeMap,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

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
    /// How progress is shown
    #[arg(long, value_enum, default_value_t, env = "SLIPWAY_PROGRESS")]
    progress: Style,
    /// Print only the image's id
    #[arg(short, long)]
    quiet: bool,
    /// What the image runs on
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<Platform>,
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
    /// A folder, a git URL, a URL of an archive, or `-` for a tar or recipe on standard input
    #[arg(value_name = "CONTEXT")]
    context: String,
}

/// Carries the command out.
pub(crate) fn run(global: &Global, arguments: Arguments) -> Result<u8, Failure> {
    if arguments.push && arguments.tags.is_empty() {
        return Err(Failure::usage("--push needs a name: add -t NAME"));
    }
    let mut parsed = parse(&arguments)?;
    let from = request::cache::from(&arguments.cache_from)?;
    let to = request::cache::to(&arguments.cache_to, &parsed.build_args)?;
    for (name, value) in global.proxies() {
        parsed.build_args.entry(name).or_insert(value);
    }
    parsed.ssh.values().try_for_each(|socket| check_agent(socket))?;
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
    let warnings = lint::Warnings::of(&context.recipe, &options, style);
    warnings.fail()?;
    let outputs = Outputs::prepare(&arguments)?;
    let request = request(&arguments, parsed, &context)?;
    let cancel = Cancel::new()?;
    let over = listen(&cancel, app.store.root())?;
    let caches = Caches::new(&images, from, to, &request.platform);
    let environment = Environment {
        cache_sources: &caches.sources(),
        cache_sinks: &caches.sinks(),
        store: &app.store,
        images: &images,
        progress: &*progress,
        cancel: &cancel,
        single_id: app.single_id(),
    };
    let exporter = ImageExporter {
        names: arguments.tags.iter().cloned().map(Reference::or_latest).collect(),
        compression: request.compression,
    };
    let began = std::time::Instant::now();
    let built = slipway_builder::build(&request, &environment, &exporter);
    let ended = progress::ended(&*progress, built);
    warnings.show();
    let output = ended.map_err(|failure| {
        error::of_build(failure, &request.recipe, &request.recipe_name, style.keeps_output())
    })?;
    say_unused(&output);
    over.store(true, Ordering::Release);
    if cancel.is_cancelled() {
        return Err(error::of_build(BuildError::Cancelled, &request.recipe, &request.recipe_name, true));
    }
    if arguments.push {
        for name in &exporter.names {
            images.push(name, &output.image.manifest.digest, None)?;
        }
    }
    let pushed = if arguments.push { exporter.names.as_slice() } else { &[] };
    caches.write(&images, &Built { output: &output, pushed })?;
    let names: Vec<String> = exporter.names.iter().map(Reference::familiar).collect();
    outputs.write(&names, &output)?;
    report(&names, &output, began.elapsed(), style)?;
    app.store.maintain()?;
    Ok(0)
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

fn say_unused(output: &slipway_builder::BuildOutput) {
    // a proxy is for whatever asks for something, and nothing may
    let is_ours = |name: &str| request::proxies::is_one(name) || name == request::cache::INLINE_ARGUMENT;
    for name in output.unused_arguments.iter().filter(|name| !is_ours(name)) {
        crate::show::note(format_args!("warning: build argument `{name}` is not used by the recipe"));
    }
}

/// Files that the build's results go to.
struct Outputs {
    id: Option<Output>,
    metadata: Option<Output>,
}

impl Outputs {
    /// Opens them: a name that cannot be written is found before the build.
    fn prepare(arguments: &Arguments) -> Result<Outputs, Failure> {
        let open =
            |flag, path: &Option<PathBuf>| path.as_ref().map(|path| Output::prepare(flag, path)).transpose();
        Ok(Outputs {
            id: open("--iidfile", &arguments.iidfile)?,
            metadata: open("--metadata-file", &arguments.metadata_file)?,
        })
    }

    fn write(self, names: &[String], output: &slipway_builder::BuildOutput) -> Result<(), Failure> {
        let id = output.image.config.to_string();
        if let Some(file) = self.id {
            file.finish_with(id.as_bytes())?;
        }
        if let Some(file) = self.metadata {
            let metadata = serde_json::json!({
                "containerimage.config.digest": id,
                "containerimage.digest": output.image.manifest.digest,
                "containerimage.descriptor": output.image.manifest,
                "image.name": names.join(","),
                "slipway.steps.cached": output.cached_steps,
                "slipway.steps.executed": output.executed_steps,
            });
            file.finish_with(format!("{metadata:#}\n").as_bytes())?;
        }
        Ok(())
    }
}

fn report(
    names: &[String],
    output: &slipway_builder::BuildOutput,
    took: std::time::Duration,
    style: Style,
) -> Result<(), Failure> {
    let id = output.image.config.to_string();
    if style == Style::Quiet {
        return show::say(id);
    }
    if style == Style::Json {
        let built = serde_json::json!({
            "event": "built", "id": id, "digest": output.image.manifest.digest, "names": names,
            "cached": output.cached_steps, "executed": output.executed_steps,
            "milliseconds": took.as_secs_f64() * 1000.0,
        });
        crate::show::note(built);
        return Ok(());
    }
    let named = if names.is_empty() { String::new() } else { format!(" as {}", names.join(", ")) };
    crate::show::note(format_args!(
        "built {}{named} in {:.2}s: {} steps done, {} cached; digest {}",
        output.image.config.short(),
        took.as_secs_f64(),
        output.executed_steps,
        output.cached_steps,
        output.image.manifest.digest
    ));
    Ok(())
}

/// Flags that need checking before anything is opened.
struct Parsed {
    build_args: BTreeMap<String, String>,
    labels: BTreeMap<String, String>,
    contexts: BTreeMap<String, NamedContext>,
    ssh: BTreeMap<String, PathBuf>,
    hosts: Vec<(String, String)>,
    epoch: Option<GivenEpoch>,
}

fn parse(arguments: &Arguments) -> Result<Parsed, Failure> {
    let build_args = request::build_arguments(&arguments.build_args, &request::environment);
    let epoch = request::build::epoch(&build_args, arguments.source_date_epoch.as_deref())?;
    let contexts = request::build::contexts(&arguments.build_contexts)?
        .into_iter()
        .map(|(name, source)| Ok((name.to_owned(), context::named(source)?)))
        .collect::<Result<_, Failure>>()?;
    Ok(Parsed {
        build_args,
        labels: request::labels(&arguments.labels),
        contexts,
        ssh: request::build::agents(&arguments.ssh, &request::environment)?,
        hosts: request::hosts(&arguments.hosts)?,
        epoch,
    })
}

/// An agent that is not there is found before the build.
fn check_agent(socket: &Path) -> Result<(), Failure> {
    use std::os::unix::fs::FileTypeExt;
    let wrong = |why: String| {
        Failure::new(format!("--ssh: cannot use `{}`: {why}", socket.display()))
            .with_hint("it is the socket of an agent that has the keys: `ssh-agent`, then `ssh-add KEY`")
    };
    match std::fs::metadata(socket) {
        Ok(found) if found.file_type().is_socket() => Ok(()),
        Ok(_) => Err(wrong("it is no socket".to_owned())),
        Err(error) => Err(wrong(error.to_string())),
    }
}

fn secrets(specs: &[String]) -> Result<BTreeMap<String, SecretSource>, Failure> {
    let mut secrets = BTreeMap::new();
    for spec in specs {
        let (mut id, mut source) = (None, None);
        for pair in spec.split(',') {
            match pair.split_once('=') {
                Some(("id", value)) => id = Some(value.to_owned()),
                Some(("src" | "source", value)) => source = Some(from_file(Path::new(value))?),
                Some(("env", name)) => source = Some(from_environment(name)?),
                Some(("type", "file" | "env")) => {}
                _ => return Err(Failure::usage(format!("--secret: `{pair}` is not id=, src= or env="))),
            }
        }
        let id = id.ok_or_else(|| Failure::usage(format!("--secret: `{spec}` has no id=")))?;
        let source = match source {
            Some(source) => source,
            // as docker: a variable of that name, else a file
            None if std::env::var_os(&id).is_some() => from_environment(&id)?,
            None => from_file(Path::new(&id)).map_err(|failure| {
                failure.with_hint(format!("there is no variable `{id}` either; say where it is: id={id},src=FILE or id={id},env=NAME"))
            })?,
        };
        secrets.insert(id, source);
    }
    Ok(secrets)
}

/// Read at once: a pipe is read only once, and a file that is not there is found before the build.
fn from_file(path: &Path) -> Result<SecretSource, Failure> {
    Ok(SecretSource::Value(input::read("--secret", path, limits::SECRET_BYTES)?))
}

fn from_environment(name: &str) -> Result<SecretSource, Failure> {
    use std::os::unix::ffi::OsStringExt;
    let value = std::env::var_os(name)
        .ok_or_else(|| Failure::new(format!("--secret: the variable `{name}` is not set")))?;
    Ok(SecretSource::Value(value.into_vec()))
}

fn request(arguments: &Arguments, parsed: Parsed, context: &Context) -> Result<BuildRequest, Failure> {
    let now = || {
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |t| t.as_secs() as i64)
    };
    let commit = || context.commit_time();
    let given = match parsed.epoch {
        Some(GivenEpoch::Seconds(seconds)) => Some(seconds),
        Some(GivenEpoch::Context) => Some(commit().ok_or_else(|| {
            Failure::new("SOURCE_DATE_EPOCH is `context`, but the context is in no git repository")
                .with_hint("give the seconds since 1970, or leave it out")
        })?),
        None => None,
    };
    let epoch = match (arguments.timestamps == Timestamps::Keep, given) {
        (true, epoch) => Epoch::Keep(epoch.unwrap_or_else(now)),
        (false, Some(epoch)) => Epoch::Given(epoch),
        (false, None) => commit().map_or(Epoch::Base, Epoch::Commit),
    };
    Ok(BuildRequest {
        recipe_name: context.recipe_name.clone(),
        recipe: context.recipe.clone(),
        context: context.folder.clone(),
        context_name: context.name.clone(),
        ignore: context.ignore.clone(),
        contexts: parsed.contexts,
        build_args: parsed.build_args,
        target: arguments.target.clone(),
        platform: arguments.platform.clone().unwrap_or_else(Platform::host),
        no_cache: arguments.no_cache,
        no_cache_stages: arguments.no_cache_filter.clone(),
        explain: arguments.explain,
        refresh: arguments.pull,
        labels: parsed.labels,
        compression: arguments.compression.into(),
        jobs: NonZeroUsize::new(arguments.jobs),
        epoch,
        network: arguments.network.into(),
        allow_host_network: arguments.allow.contains(&Permission::NetworkHost),
        allow_insecure: arguments.allow.contains(&Permission::SecurityInsecure),
        allow_devices: arguments.allow.contains(&Permission::Device),
        device_folders: match arguments.cdi_folders.as_slice() {
            [] => ["/etc/cdi", "/var/run/cdi"].map(PathBuf::from).to_vec(),
            given => given.to_vec(),
        },
        secrets: secrets(&arguments.secrets)?,
        ssh: parsed.ssh,
        hosts: parsed.hosts,
    })
}
