//! What a build's result is made into: `--output`, `--push`, `--load`, in buildx' words.

use super::{
    annotation::Annotations,
    build::Compression,
    options::{Options, fields},
};
use crate::error::Failure;
use slipway_builder::{LayerFormat, LayerShape};
use slipway_oci::{Reference, chunked::Chunking, compression};
use std::path::PathBuf;

/// One result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Output {
    /// What it is.
    pub(crate) kind: Kind,
    /// What its layers are; for files nothing.
    pub(crate) layers: LayerShape,
    /// Annotations of its own.
    pub(crate) annotations: Annotations,
    /// Names of its own, in the place of the build's.
    pub(crate) names: Vec<Reference>,
    /// With docker's media types.
    pub(crate) docker_types: bool,
}

/// What a result is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An image in the store, sent to its registry or not.
    Image {
        /// Whether it is sent.
        push: bool,
        /// Whether it is sent under its digest alone.
        by_digest: bool,
    },
    /// An archive with the image.
    Archive {
        /// Docker's, or an OCI layout.
        docker: bool,
        /// Where; `-` is standard output.
        dest: PathBuf,
    },
    /// An OCI layout in a folder.
    Layout(PathBuf),
    /// Nothing: the build fills its caches.
    Nothing,
    /// The image's files as an archive.
    Tar(PathBuf),
    /// The image's files in a folder.
    Folder {
        /// Where.
        dest: PathBuf,
        /// Whether each platform has a folder in it; unsaid it has where there are several.
        split: Option<bool>,
    },
}

impl Kind {
    /// Whether it is an image, and not its files.
    pub(crate) fn is_image(&self) -> bool {
        !matches!(self, Kind::Nothing | Kind::Tar(_) | Kind::Folder { .. })
    }
}

/// What the flags say of all results.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usual {
    /// `--compression`.
    pub(crate) compression: Compression,
    /// `--compression-level`.
    pub(crate) level: Option<i32>,
    /// `--force-compression`.
    pub(crate) force: bool,
    /// `--push`.
    pub(crate) push: bool,
    /// `--load`.
    pub(crate) load: bool,
    /// `--format docker`.
    pub(crate) docker_types: bool,
}

const SHAPES: &str = "there are type=image, registry, docker, oci, tar, local and cacheonly, or a folder's name, or `-` for a tar on standard output";

/// Reads the values of `--output`.
///
/// # Errors
/// When one is not of the form.
pub(crate) fn outputs(given: &[String], usual: Usual) -> Result<Vec<Output>, Failure> {
    let given = given.iter().filter(|text| !text.is_empty());
    let mut all: Vec<Output> = given.map(|text| one(text, usual)).collect::<Result<_, _>>()?;
    let stores = |output: &Output| matches!(output.kind, Kind::Image { .. });
    if all.is_empty() || (!all.iter().any(stores) && (usual.push || usual.load)) {
        all.push(Output {
            kind: Kind::Image { push: false, by_digest: false },
            layers: shape(usual.compression, usual.level, usual.force)?,
            annotations: Annotations::default(),
            names: Vec::new(),
            docker_types: usual.docker_types,
        });
    }
    if usual.push {
        for output in &mut all {
            if let Kind::Image { push, .. } = &mut output.kind {
                *push = true;
            }
        }
    }
    let streams = all.iter().filter(|output| match &output.kind {
        Kind::Archive { dest, .. } | Kind::Tar(dest) => dest.as_os_str() == "-",
        _ => false,
    });
    if streams.count() > 1 {
        return Err(Failure::usage("--output: only one result can go to standard output"));
    }
    Ok(all)
}

fn one(text: &str, usual: Usual) -> Result<Output, Failure> {
    let mut options = match fields(text).as_slice() {
        [word] if word == "-" => Options::read("--output", "type=tar,dest=-", "", |_| None)?,
        // podman takes a kind alone
        [word]
            if ["image", "registry", "docker", "oci", "tar", "local", "cacheonly"]
                .contains(&word.as_str()) =>
        {
            Options::read("--output", &format!("type={word}"), "", |_| None)?
        }
        _ => Options::read("--output", text, "local", |word| (!word.contains('=')).then_some("dest"))?,
    };
    let mut docker_types = usual.docker_types;
    let kind = match options.kind.as_str() {
        "image" | "registry" => image(&mut options)?,
        "docker" | "oci" => archive(&mut options)?,
        "tar" => Kind::Tar(options.needed("dest", "a file, or `-` for standard output")?.into()),
        "local" => folder(&mut options)?,
        "cacheonly" => Kind::Nothing,
        other => return Err(options.failure(&format!("there is no type={other}")).with_hint(SHAPES)),
    };
    let (mut layers, mut annotations, mut names) =
        (LayerShape::default(), Annotations::default(), Vec::new());
    if kind.is_image() {
        layers = layers_of(&mut options, usual)?;
        annotations = Annotations::of_options(&mut options)?;
        names = names_of(&mut options)?;
        if let Some(oci) = options.switch("oci-mediatypes")? {
            docker_types = !oci;
        }
        if docker_types && layers.format.compression() == compression::Compression::Zstd {
            layers = docker_layers(&options, usual, layers)?;
        }
    }
    // slipway's times are clamped already, and what only chooses how BuildKit works changes no result
    for passed in ["rewrite-timestamp", "unpack", "store", "attestation-inline", "oci-artifact", "danglings"]
    {
        if options.switch(passed)? == Some(false) && passed == "rewrite-timestamp" {
            return Err(options.failure("times are clamped unless the build has --timestamps=keep"));
        }
    }
    options.take("context");
    options.take("dangling-name-prefix");
    options.end(SHAPES)?;
    Ok(Output { kind, layers, annotations, names, docker_types })
}

fn image(options: &mut Options) -> Result<Kind, Failure> {
    let push = options.switch("push")?.unwrap_or(options.kind == "registry");
    let by_digest = options.switch("push-by-digest")?.unwrap_or(false);
    options.switch("name-canonical")?;
    if options.switch("insecure")? == Some(true) {
        return Err(options.failure("name the registry instead: --insecure-registry HOST[:PORT]"));
    }
    Ok(Kind::Image { push: push || by_digest, by_digest })
}

fn archive(options: &mut Options) -> Result<Kind, Failure> {
    let docker = options.kind == "docker";
    let is_archive = options.switch("tar")?.unwrap_or(true);
    let dest = match options.take("dest") {
        // docker's own store; here it is this one
        None if docker && is_archive => return Ok(Kind::Image { push: false, by_digest: false }),
        None => return Err(options.failure(&format!("type={} needs dest=", options.kind))),
        Some(dest) => PathBuf::from(dest),
    };
    match (docker, is_archive) {
        (_, true) => Ok(Kind::Archive { docker, dest }),
        (false, false) => Ok(Kind::Layout(dest)),
        (true, false) => Err(options.failure("docker's form is an archive: tar=false goes with type=oci")),
    }
}

fn folder(options: &mut Options) -> Result<Kind, Failure> {
    let dest = options.needed("dest", "a folder, which is made where it is missing")?;
    let split = options.switch("platform-split")?;
    match options.take("mode").as_deref() {
        None | Some("copy") => {}
        Some(_) => return Err(options.failure("what is in the folder stays: mode is copy")),
    }
    Ok(Kind::Folder { dest: dest.into(), split })
}

fn layers_of(options: &mut Options, usual: Usual) -> Result<LayerShape, Failure> {
    let said = options.take("compression");
    let compression = match said.as_deref() {
        None => usual.compression,
        Some(text) => <Compression as clap::ValueEnum>::from_str(text, true).map_err(|_| {
            options.failure(&format!(
                "compression is zstd, gzip, uncompressed, estargz or zstd:chunked, not `{text}`"
            ))
        })?,
    };
    let level = match options.take("compression-level") {
        None if said.is_none() => usual.level,
        None => None,
        Some(text) => Some(text.parse().map_err(|error| options.wrong("level", &text, &error))?),
    };
    let force = options.switch("force-compression")?.unwrap_or(usual.force);
    shape(compression, level, force).map_err(|failure| options.failure(&failure.words()))
}

/// Docker's media types have no zstd: gzip, where nobody has asked for zstd.
fn docker_layers(options: &Options, usual: Usual, layers: LayerShape) -> Result<LayerShape, Failure> {
    if layers.format != LayerFormat::default() || usual.level.is_some() {
        return Err(options.failure("docker's media types have no zstd: give compression=gzip"));
    }
    Ok(LayerShape { format: LayerFormat::Plain(compression::Compression::Gzip), ..layers })
}

fn names_of(options: &mut Options) -> Result<Vec<Reference>, Failure> {
    let Some(text) = options.take("name") else { return Ok(Vec::new()) };
    let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
    names
        .map(|name| {
            let parsed: Result<Reference, _> = name.parse();
            parsed.map(Reference::or_latest).map_err(|error| options.wrong("name", name, &error))
        })
        .collect()
}

/// What layers are to be.
///
/// # Errors
/// When there is no such level.
pub(crate) fn shape(
    compression: Compression,
    level: Option<i32>,
    force: bool,
) -> Result<LayerShape, Failure> {
    let format = match compression {
        Compression::Zstd => LayerFormat::Plain(compression::Compression::Zstd),
        Compression::Gzip => LayerFormat::Plain(compression::Compression::Gzip),
        Compression::Uncompressed => LayerFormat::Plain(compression::Compression::None),
        Compression::Estargz => LayerFormat::Chunked(Chunking::Estargz),
        Compression::ZstdChunked => LayerFormat::Chunked(Chunking::ZstdChunked),
    };
    if let Some(level) = level {
        match format.compression().levels() {
            Some((levels, _)) if levels.contains(&level) => {}
            Some((levels, _)) => {
                let words = format!("levels are {} to {}, not {level}", levels.start(), levels.end());
                return Err(Failure::usage(words));
            }
            None => return Err(Failure::usage("what is not compressed has no level")),
        }
    }
    Ok(LayerShape { format, level, force })
}

#[cfg(test)]
mod tests {
    use super::*;
    use compression::Compression::{Gzip, None as Plain};

    fn of(text: &str) -> Result<Output, String> {
        let mut all = outputs(&[text.to_owned()], Usual::default()).map_err(|failure| failure.words())?;
        assert_eq!(all.len(), 1, "{text}");
        Ok(all.remove(0))
    }

    #[test]
    fn kinds_in_buildx_words() {
        let image = |push, by_digest| Kind::Image { push, by_digest };
        let archive = |docker, dest: &str| Kind::Archive { docker, dest: dest.into() };
        let folder = |dest: &str, split| Kind::Folder { dest: dest.into(), split };
        for (text, kind) in [
            ("out", folder("out", None)),
            ("-", Kind::Tar("-".into())),
            ("type=local,dest=a/b", folder("a/b", None)),
            (r#"type=local,"dest=a,b",platform-split=false"#, folder("a,b", Some(false))),
            ("dest=x", folder("x", None)),
            ("type=tar,dest=-", Kind::Tar("-".into())),
            ("type=oci,dest=x.tar", archive(false, "x.tar")),
            ("type=oci,tar=false,dest=x", Kind::Layout("x".into())),
            ("type=docker,dest=-", archive(true, "-")),
            ("type=docker", image(false, false)),
            ("docker", image(false, false)),
            ("type=image", image(false, false)),
            ("type=image,push=true", image(true, false)),
            ("type=registry", image(true, false)),
            ("type=cacheonly", Kind::Nothing),
            ("TYPE=registry,unpack=true,store=false", image(true, false)),
            ("type=image,push-by-digest=true,name-canonical=true", image(true, true)),
        ] {
            assert_eq!(of(text).expect(text).kind, kind, "{text}");
        }
    }

    #[test]
    fn layers_names_and_annotations_belong_to_a_result() {
        let output = of(r#"type=oci,dest=x,"name=a:1,r.test/b",compression=gzip,compression-level=9,force-compression=true,annotation.Org.Key=v"#).unwrap();
        assert_eq!(
            output.layers,
            LayerShape { format: LayerFormat::Plain(Gzip), level: Some(9), force: true }
        );
        let names: Vec<String> = output.names.iter().map(Reference::familiar).collect();
        assert_eq!(names, ["a:1", "r.test/b:latest"]);
        assert_ne!(output.annotations, Annotations::default());
        let format = |text: &str| of(text).expect(text).layers.format;
        assert_eq!(format("type=image,compression=uncompressed"), LayerFormat::Plain(Plain));
        assert_eq!(
            format("type=image,compression=zstd:chunked"),
            LayerFormat::Chunked(Chunking::ZstdChunked)
        );
        assert_eq!(format("type=image,compression=estargz"), LayerFormat::Chunked(Chunking::Estargz));
        let docker = of("type=image,oci-mediatypes=false").unwrap();
        assert_eq!((docker.docker_types, docker.layers.format), (true, LayerFormat::Plain(Gzip)));
    }

    #[test]
    fn push_and_load_are_results_too() {
        let all = |texts: &[&str], push, load| {
            let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
            let all = outputs(&texts, Usual { push, load, ..Usual::default() }).unwrap();
            all.into_iter().map(|output| output.kind).collect::<Vec<_>>()
        };
        let image = |push| Kind::Image { push, by_digest: false };
        assert_eq!(all(&[], false, false), [image(false)]);
        assert_eq!(all(&[""], true, false), [image(true)]);
        assert_eq!(all(&["type=tar,dest=x"], true, false), [Kind::Tar("x".into()), image(true)]);
        assert_eq!(all(&["type=tar,dest=x"], false, true), [Kind::Tar("x".into()), image(false)]);
        assert_eq!(all(&["type=tar,dest=x"], false, false), [Kind::Tar("x".into())]);
        assert_eq!(all(&["type=image", "type=image,name=b"], true, false), [image(true), image(true)]);
    }

    #[test]
    fn what_cannot_be_is_refused_in_words() {
        for (text, words) in [
            ("type=tar", "needs dest="),
            ("type=local", "needs dest="),
            ("type=oci", "needs dest="),
            ("type=moby", "no type=moby"),
            ("type=docker,tar=false,dest=x", "type=oci"),
            ("type=image,compression=xz", "not `xz`"),
            ("type=image,compression=gzip,compression-level=10", "0 to 9"),
            ("type=image,compression=uncompressed,compression-level=1", "no level"),
            ("type=image,compression-level=x", "is no level"),
            ("type=image,oci-mediatypes=false,compression=estargz,what=1", "no `what`"),
            ("type=image,oci-mediatypes=false,compression=zstd:chunked", "have no zstd"),
            ("type=image,push=perhaps", "true or false"),
            ("type=image,insecure=true", "--insecure-registry"),
            ("type=image,name=A B", "is no name"),
            ("type=image,rewrite-timestamp=false", "--timestamps=keep"),
            ("type=local,dest=x,mode=delete", "mode is copy"),
            ("type=local,dest=x,compression=gzip", "has no `compression`"),
            ("type=tar,dest=x,dest=y", "twice"),
            ("type=image,annotation.=x", "no key"),
        ] {
            let found = of(text).expect_err(text);
            assert!(found.contains(words), "{text}: {found}");
        }
        let both = ["-".to_owned(), "type=oci,dest=-".to_owned()];
        assert!(outputs(&both, Usual::default()).is_err());
    }
}
