//! From the flags to the builder's request.

use super::super::debug;
use super::{Arguments, Context, ManifestFormat, context};
use crate::{
    error::Failure,
    request::{
        self,
        annotation::{Annotations, Level},
        attest::Attestations,
        build::{GivenEpoch, Permission, Timestamps},
        cache,
        output::{self, Kind, Output, Usual},
    },
    service::input,
};
use slipway_builder::{BuildRequest, LayerFormat, NamedContext, SecretSource, Squash, epoch::Epoch};
use slipway_oci::{Platform, compression::Compression, limits};
use std::{
    collections::BTreeMap,
    num::NonZeroUsize,
    path::{Path, PathBuf},
};

/// Flags that need checking before anything is opened.
pub(crate) struct Parsed {
    pub(super) build_args: BTreeMap<String, String>,
    labels: BTreeMap<String, String>,
    pub(super) contexts: BTreeMap<String, NamedContext>,
    ssh: BTreeMap<String, PathBuf>,
    hosts: Vec<(String, String)>,
    epoch: Option<GivenEpoch>,
    pub(super) from: Vec<cache::From>,
    pub(super) to: Vec<cache::To>,
    pub(super) outputs: Vec<Output>,
    pub(super) annotations: Annotations,
    pub(super) squash: Squash,
    pub(super) attestations: Attestations,
    /// Each once; this machine's where none is said.
    pub(super) platforms: Vec<Platform>,
}

impl Parsed {
    pub(crate) fn of(arguments: &Arguments) -> Result<Parsed, Failure> {
        let build_args = request::build_arguments(&arguments.build_args, &request::environment);
        let epoch = request::build::epoch(&build_args, arguments.source_date_epoch.as_deref())?;
        let contexts = request::build::contexts(&arguments.build_contexts)?
            .into_iter()
            .map(|(name, source)| Ok((name.to_owned(), context::named(source)?)))
            .collect::<Result<_, Failure>>()?;
        let mut platforms: Vec<Platform> = Vec::new();
        for platform in &arguments.platforms {
            if !platforms.contains(platform) {
                platforms.push(platform.clone());
            }
        }
        if platforms.is_empty() {
            platforms.push(Platform::host());
        }
        let outputs = output::outputs(&arguments.outputs, usual(arguments))?;
        let annotations = Annotations::of_flags(&arguments.annotations)?;
        let (provenance, packages) = (arguments.provenance.as_deref(), arguments.sbom.as_deref());
        let attestations = Attestations::of_flags(&arguments.attest, provenance, packages)?;
        let parsed = Parsed {
            labels: request::labels(&arguments.labels),
            contexts,
            ssh: request::build::agents(&arguments.ssh, &request::environment)?,
            hosts: request::hosts(&arguments.hosts)?,
            epoch,
            from: cache::from(&arguments.cache_from)?,
            to: cache::to(&arguments.cache_to, &build_args)?,
            build_args,
            outputs,
            annotations,
            attestations,
            squash: match (arguments.squash, arguments.squash_all) {
                (_, true) => Squash::All,
                (true, false) => Squash::Own,
                (false, false) => Squash::Nothing,
            },
            platforms,
        };
        parsed.check(arguments)?;
        Ok(parsed)
    }

    /// What does not go together.
    fn check(&self, arguments: &Arguments) -> Result<(), Failure> {
        for output in &self.outputs {
            let is_pushed = matches!(output.kind, Kind::Image { push: true, .. });
            if is_pushed && output.names.is_empty() && arguments.tags.is_empty() {
                let flag = if arguments.push { "--push" } else { "--output" };
                return Err(Failure::usage(format!("{flag} needs a name: add -t NAME")));
            }
            let annotations = self.annotations.with(&output.annotations);
            let of_index = [Level::Index, Level::IndexDescriptor].iter().any(|level| annotations.has(*level));
            if of_index && self.platforms.len() < 2 {
                let words = "annotations of an index need one: it is made for several platforms";
                return Err(
                    Failure::usage(words).with_hint("give --platform OS/ARCH,OS/ARCH, or `manifest:`")
                );
            }
            if output.docker_types && annotations != Annotations::default() {
                let words =
                    "docker's manifests have no annotations: leave oci-mediatypes=false and --format out";
                return Err(Failure::usage(words));
            }
        }
        Ok(())
    }

    /// An agent that is not there is found before the build.
    pub(crate) fn check_agents(&self) -> Result<(), Failure> {
        self.ssh.values().try_for_each(|socket| check_agent(socket))
    }
}

fn usual(arguments: &Arguments) -> Usual {
    Usual {
        compression: arguments.compression,
        level: arguments.compression_level,
        force: arguments.force_compression,
        push: arguments.push,
        load: arguments.load,
        docker_types: arguments.format == ManifestFormat::Docker,
    }
}

/// What new layers are compressed with while they are made: as the first image has them, so that nothing is compressed twice.
fn new_layers(outputs: &[Output]) -> Compression {
    let image = outputs.iter().find(|output| output.kind.is_image());
    match image.map(|output| output.layers.format) {
        Some(LayerFormat::Plain(compression)) => compression,
        // chunks are cut of the archive, whatever it comes in
        Some(LayerFormat::Chunked(_)) | None => Compression::default(),
    }
}

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

/// What is to be built, for the first of the platforms.
pub(super) fn request(
    arguments: &Arguments,
    parsed: Parsed,
    context: &Context,
) -> Result<BuildRequest, Failure> {
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
        line: debug::own_line(),
        advice: Vec::new(),
        is_forgotten: false,
        recipe_name: context.recipe_name.clone(),
        recipe: context.recipe.clone(),
        context: context.folder.clone(),
        context_name: context.name.clone(),
        ignore: context.ignore.clone(),
        contexts: parsed.contexts,
        build_args: parsed.build_args,
        target: arguments.target(),
        platform: parsed.platforms[0].clone(),
        no_cache: arguments.no_cache,
        no_cache_stages: arguments.no_cache_filter.clone(),
        explain: arguments.explain,
        refresh: arguments.pull,
        labels: parsed.labels,
        compression: new_layers(&parsed.outputs),
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
