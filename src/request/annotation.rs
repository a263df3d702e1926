//! Annotations and what they are of: `--annotation [TYPE[PLATFORM]:]KEY=VALUE` and `annotation[-TYPE][PLATFORM].KEY=VALUE` of
//! an output.

use super::options::Options;
use crate::error::Failure;
use slipway_oci::Platform;
use std::collections::BTreeMap;

/// What an annotation is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    /// An image's manifest.
    Manifest,
    /// What names the manifest, in an index or a layout.
    ManifestDescriptor,
    /// The index of images for several platforms.
    Index,
    /// What names the index, in a layout.
    IndexDescriptor,
}

/// The names of what annotations are of.
const LEVELS: [(&str, Level); 4] = [
    ("manifest", Level::Manifest),
    ("manifest-descriptor", Level::ManifestDescriptor),
    ("index", Level::Index),
    ("index-descriptor", Level::IndexDescriptor),
];

#[derive(Clone, Debug, PartialEq, Eq)]
struct Annotation {
    level: Level,
    /// Of the image for one platform alone.
    platform: Option<Platform>,
    key: String,
    value: String,
}

/// The annotations of a result.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Annotations(Vec<Annotation>);

impl Annotations {
    /// Reads the values of `--annotation`.
    ///
    /// # Errors
    /// When one is not of the form.
    pub(crate) fn of_flags(given: &[String]) -> Result<Annotations, Failure> {
        let mut all = Annotations::default();
        for text in given.iter().filter(|text| !text.is_empty()) {
            let wrong = |words: &str| Failure::usage(format!("--annotation `{text}`: {words}"));
            let Some((key, value)) = text.split_once('=') else {
                return Err(wrong("it is not KEY=VALUE"));
            };
            // a colon may be part of a key: what stands before it must be a list of levels
            let levels = key.split_once(':').and_then(|(levels, key)| {
                let levels = levels.split(',').map(level).collect::<Option<Vec<_>>>()?;
                Some((levels, key))
            });
            let (levels, key) = levels.unwrap_or_else(|| (vec![(Level::Manifest, "")], key));
            for (level, platform) in levels {
                all.add(level, platform, key, value).map_err(|words| wrong(&words))?;
            }
        }
        Ok(all)
    }

    /// Takes those of an output.
    ///
    /// # Errors
    /// When one is not of the form.
    pub(super) fn of_options(options: &mut Options) -> Result<Annotations, Failure> {
        let mut all = Annotations::default();
        for (rest, value) in options.take_beginning("annotation") {
            let given = format!("annotation{rest}");
            let wrong = |words: &str| options.failure(&format!("`{given}`: {words}"));
            // the platform may have dots of its own
            let from = rest.find(']').unwrap_or(0);
            let Some(dot) = rest[from..].find('.').map(|dot| dot + from) else {
                return Err(wrong("it is annotation[-TYPE].KEY"));
            };
            let (name, key) = (&rest[..dot], &rest[dot + 1..]);
            let name = name.strip_prefix('-').map_or_else(|| format!("manifest{name}"), str::to_owned);
            let Some((level, platform)) = level(&name) else {
                return Err(wrong("it is of manifest, manifest-descriptor, index or index-descriptor"));
            };
            all.add(level, platform, key, &value).map_err(|words| wrong(&words))?;
        }
        Ok(all)
    }

    fn add(&mut self, level: Level, platform: &str, key: &str, value: &str) -> Result<(), String> {
        if key.is_empty() {
            return Err("there is no key".to_owned());
        }
        let platform = match platform {
            "" => None,
            text => Some(text.parse().map_err(|error| format!("{error}"))?),
        };
        if platform.is_some() && matches!(level, Level::Index | Level::IndexDescriptor) {
            return Err("an index is of no platform".to_owned());
        }
        let (key, value) = (key.to_owned(), value.to_owned());
        self.0.push(Annotation { level, platform, key, value });
        Ok(())
    }

    /// These, and those of a result, which go before.
    pub(crate) fn with(&self, own: &Annotations) -> Annotations {
        Annotations(self.0.iter().chain(&own.0).cloned().collect())
    }

    /// Those of one thing, for one platform.
    pub(crate) fn at(&self, level: Level, platform: &Platform) -> BTreeMap<String, String> {
        let is_meant = |annotation: &&Annotation| {
            annotation.level == level
                && annotation.platform.as_ref().is_none_or(|own| own.satisfies(platform))
        };
        let found = self.0.iter().filter(is_meant);
        found.map(|annotation| (annotation.key.clone(), annotation.value.clone())).collect()
    }

    /// Whether there are any of a level.
    pub(crate) fn has(&self, level: Level) -> bool {
        self.0.iter().any(|annotation| annotation.level == level)
    }
}

/// `LEVEL` or `LEVEL[PLATFORM]`; the platform is empty where none is said.
fn level(text: &str) -> Option<(Level, &str)> {
    let (name, platform) = match text.strip_suffix(']') {
        Some(text) => text.split_once('[')?,
        None => (text, ""),
    };
    let (_, level) = LEVELS.iter().find(|(known, _)| *known == name)?;
    Some((*level, platform))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(texts: &[&str]) -> Result<Annotations, String> {
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        Annotations::of_flags(&texts).map_err(|failure| failure.words())
    }

    #[test]
    fn flags_say_what_they_are_of() {
        let arm: Platform = "linux/arm64".parse().unwrap();
        let all = flags(&[
            "a=1",
            "index:b=2=3",
            "manifest,manifest-descriptor:c=4",
            "manifest[linux/arm64]:d=5",
            "index-descriptor:e=",
            "http://x/y=6",
        ])
        .unwrap();
        let at = |level, platform: &Platform| {
            let found = all.at(level, platform).into_iter();
            found.map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>()
        };
        let amd: Platform = "linux/amd64".parse().unwrap();
        assert_eq!(at(Level::Manifest, &amd), ["a=1", "c=4", "http://x/y=6"]);
        assert_eq!(at(Level::Manifest, &arm), ["a=1", "c=4", "d=5", "http://x/y=6"]);
        assert_eq!(at(Level::ManifestDescriptor, &amd), ["c=4"]);
        assert_eq!(at(Level::Index, &amd), ["b=2=3"]);
        assert_eq!(at(Level::IndexDescriptor, &amd), ["e="]);
        assert!(all.has(Level::Index) && !Annotations::default().has(Level::Manifest));
    }

    #[test]
    fn outputs_say_it_in_their_names() {
        let text = "annotation.A.b=1,annotation-index.c=2,annotation[linux/arm/v7].d=3,\
                    annotation-manifest-descriptor[linux/arm/v7].e.f=4,annotation-index-descriptor.g=5";
        let mut options = Options::read("--output", text, "image", |_| None).unwrap_or_else(|_| panic!());
        let all =
            Annotations::of_options(&mut options).unwrap_or_else(|failure| panic!("{}", failure.words()));
        let arm: Platform = "linux/arm/v7".parse().unwrap();
        for (level, pairs) in [
            (Level::Manifest, vec![("A.b", "1"), ("d", "3")]),
            (Level::Index, vec![("c", "2")]),
            (Level::ManifestDescriptor, vec![("e.f", "4")]),
            (Level::IndexDescriptor, vec![("g", "5")]),
        ] {
            let expected = pairs.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned()));
            assert_eq!(all.at(level, &arm), expected.collect(), "{level:?}");
        }
    }

    #[test]
    fn what_is_none_is_refused() {
        for (text, words) in [
            ("a", "not KEY=VALUE"),
            ("=x", "no key"),
            ("index:=x", "no key"),
            ("manifest[what/is/this/one]:a=b", "is not a platform"),
            ("index[linux/amd64]:a=b", "no platform"),
        ] {
            assert!(flags(&[text]).expect_err(text).contains(words), "{text}");
        }
    }
}
