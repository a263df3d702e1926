//! What of the store's things is meant, from `--filter`: buildx' and docker's filters, and ours.

use super::prune::time;
use crate::error::Failure;
use slipway_oci::store::{Record, RecordKind};

/// Which records are meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Filter {
    /// Of these kinds; empty: of any.
    pub(crate) kinds: Vec<RecordKind>,
    /// That were last used before this, in seconds since 1970.
    pub(crate) used_before: Option<i64>,
    /// Whose id begins so, or whose words are these.
    pub(crate) only: Vec<String>,
    /// Whether a filter named kinds that nothing here is of.
    nothing: bool,
    in_use: Option<bool>,
    shared: Option<bool>,
    /// docker's `dangling`: only images without a name, or all.
    pub(crate) dangling: Option<bool>,
}

impl Filter {
    /// Reads the flags; `now` is in seconds since 1970.
    ///
    /// # Errors
    /// When a filter is none that is known, or its value is none of it.
    pub(crate) fn parse(filters: &[String], now: i64) -> Result<Filter, Failure> {
        let mut filter = Filter::default();
        for text in filters.iter().flat_map(|text| text.split(',')) {
            let (name, value) = text.split_once('=').unwrap_or((text, ""));
            match (name.trim_end_matches('='), value) {
                ("until" | "unused-for", value) => filter.used_before = Some(time(value, now)?),
                ("type", value) => filter.kind(value)?,
                ("id" | "description", value) if !value.is_empty() => filter.only.push(value.to_owned()),
                ("inuse", "" | "true" | "1") => filter.in_use = Some(true),
                ("inuse", "false" | "0") => filter.in_use = Some(false),
                ("shared", "" | "true" | "1") | ("private", "false" | "0") => filter.shared = Some(true),
                ("private", "" | "true" | "1") | ("shared", "false" | "0") => filter.shared = Some(false),
                ("dangling", "true" | "1") => filter.dangling = Some(true),
                ("dangling", "false" | "0") => filter.dangling = Some(false),
                _ => {
                    return Err(Failure::usage(format!("`{text}` is not a filter of what the store has")).with_hint(
                        "there are `until=24h` or a time such as `until=2026-01-31`, `type=cache`, `id=BEGINNING`, `inuse`, `shared`, `private`",
                    ));
                }
            }
        }
        Ok(filter)
    }

    fn kind(&mut self, value: &str) -> Result<(), Failure> {
        let kind = match value {
            // BuildKit's words (`client/diskusage.go`)
            "regular" => RecordKind::Step,
            "exec.cachemount" => RecordKind::Cache,
            "source.local" => RecordKind::Context,
            "internal" | "frontend" | "source.git.checkout" => {
                self.nothing = true;
                return Ok(());
            }
            word => {
                let known = RecordKind::ALL.into_iter().find(|kind| kind.name() == word);
                known.ok_or_else(|| {
                    let words = RecordKind::ALL.map(RecordKind::name).join(", ");
                    Failure::usage(format!("`type={word}`: nothing in the store is of that kind"))
                        .with_hint(format!("there are {words}"))
                })?
            }
        };
        self.kinds.push(kind);
        Ok(())
    }

    /// Whether all is meant.
    pub(crate) fn is_everything(&self) -> bool {
        *self == Filter::default()
    }

    /// Whether the kind is meant; `usual` is the answer where no filter says it.
    pub(crate) fn takes_kind(&self, kind: RecordKind, usual: bool) -> bool {
        match (self.kinds.is_empty(), self.nothing) {
            (true, true) => false,
            (true, false) => usual,
            (false, _) => self.kinds.contains(&kind),
        }
    }

    /// Whether a record is meant.
    pub(crate) fn takes(&self, record: &Record) -> bool {
        self.takes_kind(record.kind, true)
            && self.used_before.is_none_or(|before| record.used.is_some_and(|used| used < before))
            && self.in_use.is_none_or(|wanted| record.in_use == wanted)
            && self.shared.is_none_or(|wanted| (record.shared_bytes > 0) == wanted)
            && record.is_one_of(&self.only)
    }

    /// Whether it says something that is only looked at, not pruned by.
    pub(crate) fn looks(&self) -> bool {
        self.in_use.is_some() || self.shared.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_choose() {
        let record = Record {
            kind: RecordKind::Cache,
            id: "abcdef".to_owned(),
            about: "/root/.cache".to_owned(),
            bytes: 5,
            shared_bytes: 0,
            reclaimable_bytes: 5,
            used: Some(500),
            in_use: false,
        };
        let takes = |texts: &[&str]| {
            let texts: Vec<String> = texts.iter().map(ToString::to_string).collect();
            Filter::parse(&texts, 1000).map(|filter| filter.takes(&record)).map_err(|failure| failure.words())
        };
        for (texts, taken) in [
            (&[][..], true),
            (&["type=cache"], true),
            (&["type=exec.cachemount"], true),
            (&["type==cache"], false),
            (&["type=step", "type=cache"], true),
            (&["type=step"], false),
            (&["type=frontend"], false),
            (&["until=400s"], true),
            (&["until=600s"], false),
            (&["unused-for=501"], true),
            (&["id=abc"], true),
            (&["id=/root/.cache,private"], true),
            (&["id=bc"], false),
            (&["inuse"], false),
            (&["inuse=false"], true),
            (&["shared"], false),
            (&["private=0"], false),
        ] {
            if texts == ["type==cache"] {
                assert!(takes(texts).is_err());
                continue;
            }
            assert_eq!(takes(texts), Ok(taken), "{texts:?}");
        }
        for text in ["label=x", "type=", "type=nothing", "id=", "inuse=maybe", "until=soon", ""] {
            assert!(takes(&[text]).is_err(), "{text}");
        }
    }
}
