//! Where a build's results come from and go to: `--cache-from` and `--cache-to`, in buildx' words.

use super::{options::Options, size};
use crate::{error::Failure, request::build::Compression};
use slipway_oci::{Digest, Reference, store::CacheAbout};
use std::{collections::BTreeMap, path::PathBuf};

/// A place that keeps results.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// An artifact in a registry; to read from, also an image that has one attached.
    Registry(Reference),
    /// An OCI layout in a folder, and the tag in it.
    Local(PathBuf, String),
    /// Attached to the image that is pushed.
    Inline,
}

/// One `--cache-from`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct From {
    /// Where.
    pub(crate) place: Place,
    /// The manifest, where it is said.
    pub(crate) digest: Option<Digest>,
    /// Whether caches of RUN are taken from there too.
    pub(crate) mounts: bool,
}

/// One `--cache-to`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct To {
    /// Where.
    pub(crate) place: Place,
    /// All results of the build, not only those of the image's own layers.
    pub(crate) all: bool,
    /// What layers are compressed with, where that is said.
    pub(crate) compression: Option<Compression>,
    /// Whether a failure is a warning.
    pub(crate) ignore_error: bool,
    /// Which caches of RUN go with the results, if any do.
    pub(crate) mounts: Option<Mounts>,
}

/// Which caches of RUN are carried, and how much of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mounts {
    /// Those with these ids; empty: any.
    pub(crate) only: Vec<String>,
    /// Those of this namespace (`BUILDKIT_CACHE_MOUNT_NS`).
    pub(crate) scope: Option<String>,
    /// Most bytes of all of them together, unpacked.
    pub(crate) most_bytes: u64,
}

/// What is carried of caches unless something else is said, in bytes.
pub(crate) const MOUNTS_BYTES: u64 = 2 << 30;

impl Mounts {
    /// Whether a cache is among them.
    pub(crate) fn takes(&self, about: &CacheAbout) -> bool {
        (self.only.is_empty() || self.only.contains(&about.id))
            && self.scope.as_ref().is_none_or(|scope| *scope == about.scope)
    }
}

/// The build argument that asks docker for a cache with the image.
pub(crate) const INLINE_ARGUMENT: &str = "BUILDKIT_INLINE_CACHE";

const SHAPES: &str =
    "there are type=registry,ref=NAME, type=local,dest=FOLDER (src=FOLDER to read) and type=inline";

/// Reads the values of `--cache-from`. Several in a row without a type are several registries' names, as buildx takes them.
///
/// # Errors
/// When one is not of the form.
pub(crate) fn from(given: &[String]) -> Result<Vec<From>, Failure> {
    given.iter().filter(|text| !text.is_empty()).map(|text| one_from(text)).collect()
}

/// Reads the values of `--cache-to`.
///
/// # Errors
/// When one is not of the form, or asks for what cannot be.
pub(crate) fn to(given: &[String], build_arguments: &BTreeMap<String, String>) -> Result<Vec<To>, Failure> {
    let given = given.iter().filter(|text| !text.is_empty());
    let mut all: Vec<To> = given.map(|text| one_to(text)).collect::<Result<_, _>>()?;
    let inline =
        build_arguments.get(INLINE_ARGUMENT).is_some_and(|value| matches!(value.as_str(), "1" | "true"));
    if inline && !all.iter().any(|to| to.place == Place::Inline) {
        all.push(To {
            place: Place::Inline,
            all: false,
            compression: None,
            ignore_error: false,
            mounts: None,
        });
    }
    Ok(all)
}

/// The options of one cache; a name alone is one in a registry.
fn read(flag: &'static str, text: &str) -> Result<Options, Failure> {
    Options::read(flag, text, "registry", |word| (!word.contains('=')).then_some("ref"))
}

fn unknown_kind(options: &Options) -> Failure {
    options.failure(&format!("no cache is kept as type={}", options.kind)).with_hint(SHAPES)
}

/// What layers are compressed with. The level is the compressor's own; all forms are deterministic, so there is one.
fn compression(options: &mut Options) -> Result<Option<Compression>, Failure> {
    let compression = match options.take("compression").as_deref() {
        None => None,
        Some("zstd") => Some(Compression::Zstd),
        Some("gzip") => Some(Compression::Gzip),
        Some("uncompressed") => Some(Compression::Uncompressed),
        Some(other) => {
            let words = format!("compression is zstd, gzip or uncompressed, not `{other}`");
            return Err(options.failure(&words));
        }
    };
    // without it a layer keeps the form that it has; with a compression that is said every layer gets it here
    options.switch("force-compression")?;
    if options.take("compression-level").is_some() {
        return Err(
            options.failure("there is one level, so that the same layer is the same blob: leave it out")
        );
    }
    Ok(compression)
}

fn one_from(text: &str) -> Result<From, Failure> {
    let mut options = read("--cache-from", text)?;
    let mut digest = None;
    let place = match options.kind.as_str() {
        "registry" => Place::Registry(options.reference()?),
        "local" => {
            let folder = options.needed("src", "a folder that `--cache-to type=local,dest=FOLDER` wrote")?;
            if let Some(text) = options.take("digest") {
                digest = Some(text.parse().map_err(|error| options.wrong("digest", &text, &error))?);
            }
            Place::Local(folder.into(), options.tag()?)
        }
        "inline" => {
            return Err(options.failure("an inline cache is read from its image: type=registry,ref=IMAGE"));
        }
        _ => return Err(unknown_kind(&options)),
    };
    let mounts = options.switch("mounts")?.unwrap_or(true);
    options.end(SHAPES)?;
    Ok(From { place, digest, mounts })
}

fn one_to(text: &str) -> Result<To, Failure> {
    let mut options = read("--cache-to", text)?;
    let place = match options.kind.as_str() {
        "registry" => Place::Registry(options.reference()?),
        "local" => {
            let folder = options.needed("dest", "a folder, which is made where it is missing")?;
            Place::Local(folder.into(), options.tag()?)
        }
        "inline" => Place::Inline,
        _ => return Err(unknown_kind(&options)),
    };
    let all = match options.take("mode").as_deref() {
        None | Some("min") => false,
        Some("max") if place == Place::Inline => {
            return Err(
                options.failure("an inline cache has what made the image's own layers: it has no mode=max")
            );
        }
        Some("max") => true,
        Some(other) => return Err(options.failure(&format!("mode is min or max, not `{other}`"))),
    };
    let compression = compression(&mut options)?;
    for (name, needed) in [("image-manifest", true), ("oci-mediatypes", true)] {
        if options.switch(name)?.is_some_and(|value| value != needed) {
            return Err(options.failure(&format!(
                "the cache is an OCI image manifest, which every registry takes: leave `{name}` out"
            )));
        }
    }
    let ignore_error = options.switch("ignore-error")?.unwrap_or(false);
    let mounts = mounts(&mut options, &place)?;
    options.end(SHAPES)?;
    Ok(To { place, all, compression, ignore_error, mounts })
}

/// `mounts=true` and what belongs to it.
fn mounts(options: &mut Options, place: &Place) -> Result<Option<Mounts>, Failure> {
    let wanted = options.switch("mounts")?;
    let only = options.take("mounts-only").map(|ids| ids.split(';').map(str::to_owned).collect::<Vec<_>>());
    let scope = options.take("mounts-scope");
    let most = options.take("mounts-max");
    let given = only.is_some() || scope.is_some() || most.is_some();
    if wanted != Some(true) {
        return match given {
            true => Err(options.failure("mounts-only, mounts-scope and mounts-max need mounts=true")),
            false => Ok(None),
        };
    }
    if *place == Place::Inline {
        return Err(
            options.failure("caches of RUN do not go with an image: type=registry or type=local takes them")
        );
    }
    let most_bytes = match most {
        Some(text) => {
            size::argument(&text).map_err(|words| options.failure(&format!("mounts-max: {words}")))?
        }
        None => MOUNTS_BYTES,
    };
    Ok(Some(Mounts { only: only.unwrap_or_default(), scope, most_bytes }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(text: &str) -> Vec<String> {
        vec![text.to_owned()]
    }

    fn registry(name: &str) -> Place {
        Place::Registry(name.parse::<Reference>().expect("name").or_latest())
    }

    #[test]
    fn sources_in_buildx_words() {
        let digest = format!("sha256:{}", "1".repeat(64));
        for (text, place, with_digest) in [
            ("r.test/app:cache", registry("r.test/app:cache"), false),
            ("r.test/app", registry("r.test/app:latest"), false),
            ("type=registry,ref=r.test/app:cache", registry("r.test/app:cache"), false),
            ("ref=r.test/app:cache", registry("r.test/app:cache"), false),
            ("type=local,src=/c", Place::Local("/c".into(), "latest".into()), false),
            (r#"type=local,"src=a,b",tag=main"#, Place::Local("a,b".into(), "main".into()), false),
            (&format!("type=local,src=/c,digest={digest}"), Place::Local("/c".into(), "latest".into()), true),
        ] {
            let digest = with_digest.then(|| digest.parse().expect("digest"));
            assert_eq!(from(&given(text)).expect(text), [From { place, digest, mounts: true }], "{text}");
        }
        assert_eq!(from(&given("")).expect("an empty variable of a script"), []);
    }

    #[test]
    fn targets_in_buildx_words() {
        let place = || registry("r.test/app:cache");
        let plain = To { place: place(), all: false, compression: None, ignore_error: false, mounts: None };
        let mounts = |only: &[&str], scope: Option<&str>, most_bytes| {
            let only = only.iter().map(ToString::to_string).collect();
            Some(Mounts { only, scope: scope.map(str::to_owned), most_bytes })
        };
        let all = To { all: true, ..plain.clone() };
        for (text, expected) in [
            ("r.test/app:cache", plain.clone()),
            ("type=registry,ref=r.test/app:cache,mode=min", plain.clone()),
            (
                "type=registry,ref=r.test/app:cache,mode=max,image-manifest=true,oci-mediatypes=true",
                all.clone(),
            ),
            (
                "type=registry,ref=r.test/app:cache,mode=max,ignore-error=true,compression=gzip,force-compression=true",
                To { ignore_error: true, compression: Some(Compression::Gzip), ..all.clone() },
            ),
            ("type=local,dest=c,mode=max", To { place: Place::Local("c".into(), "latest".into()), ..all }),
            (
                "type=registry,ref=r.test/app:cache,mounts=true",
                To { mounts: mounts(&[], None, MOUNTS_BYTES), ..plain.clone() },
            ),
            (
                "ref=r.test/app:cache,mounts=true,mounts-only=/root/.cache;cargo,mounts-scope=main,mounts-max=1g",
                To { mounts: mounts(&["/root/.cache", "cargo"], Some("main"), 1 << 30), ..plain.clone() },
            ),
            ("type=inline", To { place: Place::Inline, ..plain }),
        ] {
            assert_eq!(to(&given(text), &BTreeMap::new()).expect(text), [expected], "{text}");
        }
        for (value, count) in [("1", 1), ("0", 0), ("true", 1)] {
            let arguments = BTreeMap::from([(INLINE_ARGUMENT.to_owned(), value.to_owned())]);
            assert_eq!(to(&[], &arguments).expect("read").len(), count, "{value}");
            assert_eq!(to(&given("type=inline"), &arguments).expect("read").len(), 1, "{value}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused_in_words() {
        for (text, words) in [
            ("type=registry", "needs ref="),
            ("type=registry,ref=", "needs ref="),
            ("type=registry,ref=R_Test/App", "is no name"),
            ("type=registry,ref=r.test/a,ref=r.test/b", "twice"),
            ("type=registry,ref=r.test/a,more", "not NAME=VALUE"),
            ("type=registry,ref=r.test/a,what=1", "has no `what`"),
            ("type=registry,ref=r.test/a,mode=most", "min or max"),
            ("type=registry,ref=r.test/a,image-manifest=false", "every registry takes"),
            ("type=registry,ref=r.test/a,oci-mediatypes=false", "every registry takes"),
            ("type=registry,ref=r.test/a,ignore-error=perhaps", "true or false"),
            ("type=registry,ref=r.test/a,compression=xz", "zstd, gzip or uncompressed"),
            ("type=registry,ref=r.test/a,compression-level=3", "one level"),
            ("type=inline,mode=max", "no mode=max"),
            ("type=inline,mounts=true", "do not go with an image"),
            ("type=local,dest=c,mounts-max=1g", "need mounts=true"),
            ("type=local,dest=c,mounts=true,mounts-max=much", "is not a size"),
            ("type=local", "needs dest="),
            ("type=local,dest=c,tag=a/b", "is no tag"),
            ("type=azblob,account_url=x", "type=azblob"),
        ] {
            let found = to(&given(text), &BTreeMap::new()).expect_err(text).words();
            assert!(found.contains(words), "{text}: {found}");
        }
        for (text, words) in [
            ("type=inline", "type=registry,ref=IMAGE"),
            ("type=local", "needs src="),
            ("type=local,src=c,digest=x", "is no digest"),
        ] {
            let found = from(&given(text)).expect_err(text).words();
            assert!(found.contains(words), "{text}: {found}");
        }
    }
}
