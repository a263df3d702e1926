//! What `prune` may take, from its flags.

use crate::error::Failure;
use slipway_oci::{spec::rfc3339, store::Prune};

/// What of the store is meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Part {
    /// Images without a name and what builds have kept
    #[default]
    Everything,
    /// Images
    Images,
    /// What builds have kept
    Cache,
}

/// The rules, at the time `now` in seconds since 1970.
///
/// # Errors
/// When a filter is none that is known, or its value no time.
pub(crate) fn rules(
    part: Part,
    all: bool,
    keep_bytes: Option<u64>,
    filters: &[String],
    now: i64,
) -> Result<Prune, Failure> {
    let (mut used_before, mut all) = (None, all);
    for filter in filters {
        let (name, value) = filter.split_once('=').unwrap_or((filter, ""));
        match name {
            "until" | "unused-for" => used_before = Some(time(value, now)?),
            // docker's word for an image without a name; without them alone, all are meant
            "dangling" if matches!(value, "true" | "1") => {}
            "dangling" if matches!(value, "false" | "0") => all = true,
            _ => {
                return Err(Failure::usage(format!("`{filter}` is not a filter of prune"))
                    .with_hint("there is `until=24h`, or a time such as `until=2026-01-31`"));
            }
        }
    }
    let (images, cache) = (part != Part::Cache, part != Part::Images);
    if keep_bytes.is_some() && !cache {
        return Err(Failure::usage("--keep-storage is about what builds keep: it has no meaning for images"));
    }
    Ok(Prune {
        unnamed_images: images,
        named_images: images && all,
        cache,
        shared_cache: cache && all,
        used_before,
        keep_bytes,
    })
}

/// Go's duration before now (`1h30m`), seconds since 1970, a day, or an RFC 3339 time: what docker takes.
fn time(text: &str, now: i64) -> Result<i64, Failure> {
    if let Ok(seconds) = text.parse::<i64>() {
        return Ok(seconds);
    }
    let whole = if text.len() == 10 { format!("{text}T00:00:00Z") } else { text.to_owned() };
    if let Some(seconds) = rfc3339::parse(&whole) {
        return Ok(seconds);
    }
    match slipway_dockerfile::duration::parse(text) {
        Ok(duration) if !duration.is_negative => Ok(now - duration.length.as_secs() as i64),
        _ => Err(Failure::usage(format!("`{text}` is not a time"))
            .with_hint("write how long ago (`24h`, `1h30m`), a day (`2026-01-31`) or an RFC 3339 time")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_become_rules() {
        let now = 1_000_000;
        let rules = |part, all, keep, filters: &[&str]| {
            let filters: Vec<String> = filters.iter().map(ToString::to_string).collect();
            rules(part, all, keep, &filters, now).map_err(|failure| failure.words())
        };
        let usual = Prune { unnamed_images: true, cache: true, ..Prune::default() };
        let images = Prune { unnamed_images: true, ..Prune::default() };
        let cache = Prune { cache: true, ..Prune::default() };
        for (part, all, keep, filters, expected) in [
            (Part::Everything, false, None, &[][..], usual),
            (Part::Everything, true, None, &[], Prune { named_images: true, shared_cache: true, ..usual }),
            (Part::Images, false, None, &[], images),
            (Part::Images, true, None, &[], Prune { named_images: true, ..images }),
            (Part::Cache, false, Some(7), &[], Prune { keep_bytes: Some(7), ..cache }),
            (Part::Cache, true, None, &[], Prune { shared_cache: true, ..cache }),
            (Part::Cache, false, None, &["until=10m"], Prune { used_before: Some(999_400), ..cache }),
            (Part::Cache, false, None, &["until=5"], Prune { used_before: Some(5), ..cache }),
            (
                Part::Cache,
                false,
                None,
                &["unused-for=1970-01-02"],
                Prune { used_before: Some(86_400), ..cache },
            ),
            (
                Part::Cache,
                false,
                None,
                &["until=1970-01-02T00:00:01Z"],
                Prune { used_before: Some(86_401), ..cache },
            ),
        ] {
            assert_eq!(rules(part, all, keep, filters), Ok(expected), "{part:?} {all} {keep:?} {filters:?}");
        }
        assert_eq!(rules(Part::Images, false, None, &["dangling=true"]), Ok(images));
        let named = Prune { named_images: true, ..images };
        assert_eq!(rules(Part::Images, false, None, &["dangling=false"]), Ok(named));
        for filters in ["dangling=maybe", "until=", "until=soon", "until=-5h", "label=x", "until"] {
            assert!(rules(Part::Cache, false, None, &[filters]).is_err(), "{filters}");
        }
        assert!(rules(Part::Images, false, Some(1), &[]).is_err());
    }
}
