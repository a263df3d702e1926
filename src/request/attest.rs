//! What is said of an image beside it: `--attest`, `--provenance` and `--sbom`, in buildx' words.

use super::options::Options;
use crate::error::Failure;
use slipway_builder::attest::Mode;

/// What is to be said of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Attestations {
    /// Where it comes from.
    pub(crate) provenance: Option<Provenance>,
    /// What is in it.
    pub(crate) packages: Option<Format>,
}

/// How its origin is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Provenance {
    /// How much is told.
    pub(crate) mode: Mode,
    /// Who built.
    pub(crate) builder_id: Option<String>,
    /// Whether the caller says that the same comes out each time.
    pub(crate) reproducible: bool,
}

/// In which words a list of packages is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// SPDX 2.3, as JSON
    #[default]
    #[value(alias = "spdx-json")]
    Spdx,
    /// CycloneDX 1.6, as JSON
    #[value(alias = "cyclonedx-json")]
    Cyclonedx,
}

impl Attestations {
    /// Whether nothing is.
    pub(crate) fn is_empty(&self) -> bool {
        self.provenance.is_none() && self.packages.is_none()
    }

    /// Reads the flags; a later one goes over an earlier one of its kind, and what is for one kind alone over `--attest`.
    ///
    /// # Errors
    /// When one says what there is not.
    pub(crate) fn of_flags(
        attest: &[String],
        provenance: Option<&str>,
        packages: Option<&str>,
    ) -> Result<Attestations, Failure> {
        let mut all = Attestations::default();
        for text in attest {
            all.add(Options::read("--attest", text, "", |_| None)?)?;
        }
        for (flag, kind, given) in [("--provenance", "provenance", provenance), ("--sbom", "sbom", packages)]
        {
            let text = match given {
                None | Some("") => continue,
                Some("true" | "1" | "t" | "TRUE" | "True") => "disabled=false",
                Some("false" | "0" | "f" | "FALSE" | "False") => "disabled=true",
                Some(text) => text,
            };
            all.add(Options::read(flag, text, kind, |_| None)?)?;
        }
        Ok(all)
    }

    fn add(&mut self, mut options: Options) -> Result<(), Failure> {
        let is_off = options.switch("disabled")?.unwrap_or(false);
        match options.kind.as_str() {
            "provenance" => {
                let read = provenance(&mut options)?;
                self.provenance = (!is_off).then_some(read);
            }
            "sbom" => {
                let read = packages(&mut options)?;
                self.packages = (!is_off).then_some(read);
            }
            "" => return Err(options.failure("it has no type=").with_hint("type=provenance or type=sbom")),
            other => {
                let words = format!("there is no attestation of type `{other}`");
                return Err(options.failure(&words).with_hint("type=provenance or type=sbom"));
            }
        }
        Ok(())
    }
}

fn provenance(options: &mut Options) -> Result<Provenance, Failure> {
    let mode = match options.take("mode").as_deref() {
        None | Some("min") => Mode::Min,
        Some("max") => Mode::Max,
        Some(other) => return Err(options.failure(&format!("mode is min or max, not `{other}`"))),
    };
    match options.take("version").as_deref() {
        None | Some("v1") => {}
        Some(other) => {
            let words = format!("provenance is written in version v1 of SLSA's words, not `{other}`");
            return Err(options.failure(&words).with_hint("leave version out, or give version=v1"));
        }
    }
    let builder_id = options.take("builder-id");
    let reproducible = options.switch("reproducible")?.unwrap_or(false);
    // where else BuildKit would put it
    options.switch("inline-only")?;
    options.take("filename");
    options.end("it has mode, builder-id, reproducible, version and disabled")?;
    Ok(Provenance { mode, builder_id, reproducible })
}

fn packages(options: &mut Options) -> Result<Format, Failure> {
    if let Some(image) = options.take("generator") {
        let words = format!("packages are found by slipway itself, not by `{image}`");
        return Err(options.failure(&words).with_hint(
            "leave generator out; what another scanner wrote is attached by `slipway artifact attach`",
        ));
    }
    let format = match options.take("format").as_deref() {
        None | Some("spdx" | "spdx-json") => Format::Spdx,
        Some("cyclonedx" | "cyclonedx-json") => Format::Cyclonedx,
        Some(other) => return Err(options.failure(&format!("format is spdx or cyclonedx, not `{other}`"))),
    };
    options.end("it has format and disabled")?;
    Ok(format)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(attest: &[&str], provenance: Option<&str>, sbom: Option<&str>) -> Result<Attestations, String> {
        let attest: Vec<String> = attest.iter().map(|text| (*text).to_owned()).collect();
        Attestations::of_flags(&attest, provenance, sbom).map_err(|failure| failure.words())
    }

    #[test]
    fn flags_say_what_is_made() {
        let min = Provenance::default();
        let max = Provenance { mode: Mode::Max, ..Provenance::default() };
        let named = Provenance { builder_id: Some("https://a/b".to_owned()), ..Provenance::default() };
        for (attest, provenance, sbom, origin, packages) in [
            (&[][..], None, None, None, None),
            (&[], Some("true"), None, Some(min.clone()), None),
            (&[], Some("mode=max"), Some("true"), Some(max.clone()), Some(Format::Spdx)),
            (&[], Some("false"), Some("false"), None, None),
            (&[], None, Some("format=cyclonedx"), None, Some(Format::Cyclonedx)),
            (&["type=provenance,mode=max", "type=sbom"], None, None, Some(max.clone()), Some(Format::Spdx)),
            (&["type=provenance,disabled=true"], None, None, None, None),
            (&["type=provenance,mode=max"], Some("false"), None, None, None),
            (&["type=provenance", "type=provenance,mode=max"], None, None, Some(max), None),
            (
                &["type=provenance,mode=min,inline-only=true,builder-id=https://a/b"],
                None,
                None,
                Some(named),
                None,
            ),
        ] {
            let wanted = Attestations { provenance: origin, packages };
            assert_eq!(read(attest, provenance, sbom), Ok(wanted), "{attest:?} {provenance:?} {sbom:?}");
        }
    }

    #[test]
    fn what_there_is_not_is_said() {
        for (attest, provenance, sbom, words) in [
            (&["mode=max"][..], None, None, "no type="),
            (&["type=other"], None, None, "no attestation of type `other`"),
            (&[], Some("max"), None, "not NAME=VALUE"),
            (&[], Some("mode=all"), None, "min or max"),
            (&[], Some("version=v0.2"), None, "version v1"),
            (&[], Some("colour=red"), None, "has no `colour`"),
            (&[], None, Some("generator=image"), "by slipway itself"),
            (&[], None, Some("format=xml"), "spdx or cyclonedx"),
        ] {
            let failure = read(attest, provenance, sbom).expect_err(words);
            assert!(failure.contains(words), "{failure}");
        }
    }
}
