//! What `prune` may take, from its flags.

use super::records::Filter;
use crate::error::Failure;
use slipway_oci::{
    spec::rfc3339,
    store::{Prune, RecordKind},
};

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

/// What the flags of prune ask for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked<'a> {
    pub(crate) part: Part,
    pub(crate) all: bool,
    pub(crate) keep_bytes: Option<u64>,
    /// In docker's syntax of durations: what was used since is kept.
    pub(crate) keep_duration: Option<&'a str>,
    pub(crate) filters: &'a [String],
}

/// The rules, at the time `now` in seconds since 1970.
///
/// # Errors
/// When a filter is none that is known, or its value no time, or the flags say nothing together.
pub(crate) fn rules(asked: &Asked<'_>, now: i64) -> Result<Prune, Failure> {
    let filter = Filter::parse(asked.filters, now)?;
    if filter.looks() {
        return Err(Failure::usage("`inuse`, `shared` and `private` are filters of `slipway du`")
            .with_hint("what is in use always stays; what images need goes with `--all`"));
    }
    // docker's word for an image without a name; without them alone, all are meant
    let all = asked.all || filter.dangling == Some(false);
    let (images, cache) = (asked.part != Part::Cache, asked.part != Part::Images);
    if asked.keep_bytes.is_some() && !cache {
        return Err(Failure::usage("--keep-storage is about what builds keep: it has no meaning for images"));
    }
    let kept = asked.keep_duration.map(|text| time(text, now)).transpose()?;
    let used_before = match (kept, filter.used_before) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    };
    // an id is of one thing, and of what builds have kept
    let images = images && filter.only.is_empty() && filter.takes_kind(RecordKind::Image, true);
    // costly to have again: only who means them, by kind, age or bound, lets them go
    let meant = all || asked.keep_bytes.is_some() || used_before.is_some() || !filter.only.is_empty();
    let kept = |kind, usual| cache && filter.takes_kind(kind, usual);
    let rules = Prune {
        unnamed_images: images,
        named_images: images && all,
        cache: kept(RecordKind::Step, true),
        shared_cache: kept(RecordKind::Step, true) && all,
        mounts: kept(RecordKind::Cache, meant),
        contexts: kept(RecordKind::Context, meant),
        used_before,
        keep_bytes: asked.keep_bytes,
        only: filter.only,
    };
    Ok(rules)
}

/// Go's duration before now (`1h30m`), seconds since 1970, a day, or an RFC 3339 time: what docker takes.
pub(super) fn time(text: &str, now: i64) -> Result<i64, Failure> {
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
        let rules = |part, all, keep_bytes, filters: &[&str]| {
            let filters: Vec<String> = filters.iter().map(ToString::to_string).collect();
            let asked = Asked { part, all, keep_bytes, filters: &filters, ..Asked::default() };
            rules(&asked, now).map_err(|failure| failure.words())
        };
        let usual = Prune { unnamed_images: true, cache: true, ..Prune::default() };
        let images = Prune { unnamed_images: true, ..Prune::default() };
        let cache = Prune { cache: true, ..Prune::default() };
        let kept = Prune { mounts: true, contexts: true, ..cache.clone() };
        let none = Prune::default;
        let all =
            Prune { named_images: true, shared_cache: true, mounts: true, contexts: true, ..usual.clone() };
        for (part, every, keep, filters, expected) in [
            (Part::Everything, false, None, &[][..], usual.clone()),
            (Part::Everything, true, None, &[], all),
            (Part::Images, false, None, &[], images.clone()),
            (Part::Images, true, None, &[], Prune { named_images: true, ..images.clone() }),
            (Part::Cache, false, None, &[], cache.clone()),
            (Part::Cache, false, Some(7), &[], Prune { keep_bytes: Some(7), ..kept.clone() }),
            (Part::Cache, true, None, &[], Prune { shared_cache: true, ..kept.clone() }),
            (Part::Cache, false, None, &["until=10m"], Prune { used_before: Some(999_400), ..kept.clone() }),
            (Part::Cache, false, None, &["until=5"], Prune { used_before: Some(5), ..kept.clone() }),
            (
                Part::Cache,
                false,
                None,
                &["unused-for=1970-01-02"],
                Prune { used_before: Some(86_400), ..kept.clone() },
            ),
            (
                Part::Cache,
                false,
                None,
                &["until=1970-01-02T00:00:01Z"],
                Prune { used_before: Some(86_401), ..kept.clone() },
            ),
            (Part::Everything, false, None, &["type=exec.cachemount"], Prune { mounts: true, ..none() }),
            (
                Part::Everything,
                false,
                None,
                &["type=step", "type=context"],
                Prune { contexts: true, ..cache.clone() },
            ),
            (Part::Everything, false, None, &["type=frontend"], none()),
            (Part::Cache, false, None, &["type=image"], none()),
            (Part::Everything, false, None, &["id=x"], Prune { only: vec!["x".to_owned()], ..kept.clone() }),
        ] {
            assert_eq!(
                rules(part, every, keep, filters),
                Ok(expected),
                "{part:?} {every} {keep:?} {filters:?}"
            );
        }
        assert_eq!(rules(Part::Images, false, None, &["dangling=true"]), Ok(images.clone()));
        let named = Prune { named_images: true, ..images };
        assert_eq!(rules(Part::Images, false, None, &["dangling=false"]), Ok(named));
        for filters in ["dangling=maybe", "until=", "until=soon", "until=-5h", "label=x", "until", "inuse"] {
            assert!(rules(Part::Cache, false, None, &[filters]).is_err(), "{filters}");
        }
        assert!(rules(Part::Images, false, Some(1), &[]).is_err());
    }

    #[test]
    fn what_is_kept_for_a_time_and_what_is_older_than_another_meet() {
        let filters = ["until=10m".to_owned()];
        let asked = Asked { keep_duration: Some("72h"), filters: &filters, ..Asked::default() };
        assert_eq!(
            rules(&asked, 1_000_000).ok().and_then(|rules| rules.used_before),
            Some(1_000_000 - 72 * 3600)
        );
        let asked = Asked { keep_duration: Some("1m"), filters: &filters, ..Asked::default() };
        assert_eq!(rules(&asked, 1_000_000).ok().and_then(|rules| rules.used_before), Some(1_000_000 - 600));
        for text in ["", "soon", "-1h"] {
            assert!(rules(&Asked { keep_duration: Some(text), ..Asked::default() }, 5).is_err(), "{text}");
        }
    }
}
