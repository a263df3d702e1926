//! Keys in another case: Go's `encoding/json` takes `Manifests` for `manifests`, so that its tools see another document
//! than we do (the confusion of CVE-2021-41190 by another way). And lists of an object's values, in the order in which this
//! program happens to have its fields, which serde takes for the object and nobody else does. Such documents are refused.

use super::ManifestError;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::{cell::RefCell, fmt};

/// What an object is, by its place.
#[derive(Clone, Copy)]
enum Kind {
    Document,
    Descriptor,
    Platform,
}

impl Kind {
    fn keys(self) -> &'static [&'static str] {
        match self {
            Kind::Document => &[
                "schemaVersion",
                "mediaType",
                "artifactType",
                "config",
                "layers",
                "manifests",
                "subject",
                "annotations",
                "fsLayers",
                "history",
                "signatures",
            ],
            Kind::Descriptor => {
                &["mediaType", "artifactType", "digest", "size", "urls", "annotations", "data", "platform"]
            }
            Kind::Platform => &["architecture", "os", "os.version", "os.features", "variant"],
        }
    }

    /// What lies under a key, and whether it is a list of such.
    fn inner(self, key: &str) -> Option<(Kind, bool)> {
        match (self, key) {
            (Kind::Document, "config" | "subject") => Some((Kind::Descriptor, false)),
            (Kind::Document, "layers" | "manifests") => Some((Kind::Descriptor, true)),
            (Kind::Descriptor, "platform") => Some((Kind::Platform, false)),
            _ => None,
        }
    }
}

/// Refuses a document with a key that differs from a known one in case alone, or with a list in an object's place.
pub(super) fn check(bytes: &[u8]) -> Result<(), ManifestError> {
    let found = RefCell::new(None);
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let walked = Walk { kind: Kind::Document, list: false, found: &found }.deserialize(&mut reader);
    match found.into_inner() {
        Some((key, known)) => Err(ManifestError::KeyCase(key, known)),
        None => Ok(walked?),
    }
}

/// Go folds by Unicode's simple rule: `K` of Kelvin is a k, and the long s an s.
fn folded(key: &str) -> String {
    key.chars()
        .map(|letter| match letter {
            '\u{212a}' => 'k',
            '\u{17f}' => 's',
            other => other.to_ascii_lowercase(),
        })
        .collect()
}

#[derive(Clone, Copy)]
struct Walk<'a> {
    kind: Kind,
    list: bool,
    found: &'a RefCell<Option<(String, &'static str)>>,
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a manifest")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            let known = self.kind.keys().iter().find(|known| known.to_ascii_lowercase() == folded(&key));
            if let Some(known) = known.filter(|known| **known != key) {
                let shown = key.chars().take(40).collect();
                self.found.borrow_mut().get_or_insert((shown, *known));
            }
            match self.kind.inner(&key) {
                Some((kind, list)) => map.next_value_seed(Walk { kind, list, ..self })?,
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        if !self.list {
            return Err(serde::de::Error::custom("a list stands where an object belongs"));
        }
        while list.next_element_seed(Walk { list: false, ..self })?.is_some() {}
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_in_another_case() {
        for text in [
            r#"{"config":{},"Manifests":[]}"#,
            r#"{"MANIFESTS":null}"#,
            r#"{"layer\u017f":[]}"#,
            r#"{"layers":[{"digest":"a","Digest":"b"}]}"#,
            r#"{"config":{"\u0053ize":1}}"#,
            r#"{"subject":{"MediaType":"x"}}"#,
            r#"{"manifests":[{"platform":{"OS":"linux"}}]}"#,
            r#"{"fslayers":[]}"#,
        ] {
            assert!(matches!(check(text.as_bytes()), Err(ManifestError::KeyCase(..))), "{text}");
        }
        for text in [
            r#"{"config":{"digest":"a","x":{"Digest":1}},"Unknown":[],"annotations":{"Size":"1","Layers":"x"}}"#,
            r#"{"layers":null,"manifests":[null,1,"x",true,-1,1.5,{}],"x":[[]],"annotations":[]}"#,
            "null",
        ] {
            check(text.as_bytes()).expect(text);
        }
    }

    #[test]
    fn lists_in_the_place_of_objects() {
        for text in [
            "[]",
            r#"[2,"application/vnd.oci.image.manifest.v1+json",{},[]]"#,
            r#"{"config":["a/b","sha256:00",2]}"#,
            r#"{"subject":[]}"#,
            r#"{"layers":[["a/b","sha256:00",2]]}"#,
            r#"{"manifests":[{"platform":["amd64","linux"]}]}"#,
        ] {
            let error = check(text.as_bytes()).expect_err(text).to_string();
            assert!(error.contains("a list stands where an object belongs"), "{text}: {error}");
        }
    }
}
