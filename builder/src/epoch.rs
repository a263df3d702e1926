//! The build's one time.
//!
//! **Which.** `SOURCE_DATE_EPOCH`, else the commit time of the context's git HEAD, else the base image's creation
//! time, else 0. It is the image's `created`, the history's times, and what RUN steps see as `SOURCE_DATE_EPOCH`.
//!
//! **In layers.** File times are clamped to it where it was given in so many words. Where it is only the commit's
//! time, they are clamped to the base image's creation time (0 where that is later than the epoch): both are "no later
//! than the epoch", but the second does not change with every commit, so a step whose inputs are the same keeps its
//! cached layer *and* a build from an empty cache gives the same digest.
//!
//! **In keys.** The clamp always; the epoch itself only where it was given, because then RUN is meant to see it.
//! Files of the context get the clamp itself as their time: a checkout's times say when it was checked out, and a key
//! that leaves times out must lead to bytes that do not depend on them.

use slipway_oci::layer::Clamp;

/// Where the epoch comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Epoch {
    /// `SOURCE_DATE_EPOCH` or its flag, in seconds since 1970.
    Given(i64),
    /// The commit time of the context's HEAD, in seconds since 1970.
    Commit(i64),
    /// The base image decides.
    Base,
    /// `--timestamps=keep`: times are left as they are; the image is created at this time.
    Keep(i64),
}

/// The epoch of a stage, once its base is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StageEpoch {
    /// The image's time, in seconds since 1970.
    pub(crate) created: i64,
    /// What happens to file times.
    pub(crate) clamp: Clamp,
    /// Whether RUN steps' keys hold `created`.
    pub(crate) keyed: bool,
    /// Whether RUN steps see `SOURCE_DATE_EPOCH`.
    pub(crate) exported: bool,
}

/// The argument that gives a build its epoch (reproducible-builds.org, "SOURCE_DATE_EPOCH specification").
pub(crate) const ARGUMENT: &str = "SOURCE_DATE_EPOCH";

/// A value of `SOURCE_DATE_EPOCH` that gives no time.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum EpochError {
    /// Neither a number nor a known word.
    #[error("SOURCE_DATE_EPOCH must be a number of seconds since 1970 or `context`, not `{0}`")]
    Form(String),
    /// `context` where the context has no commit.
    #[error("SOURCE_DATE_EPOCH is `context`, but the context is in no git repository")]
    NoCommit,
}

impl Epoch {
    /// The epoch once the recipe's global `ARG SOURCE_DATE_EPOCH=value` is known. What the caller gave counts more.
    pub(crate) fn or_declared(self, value: Option<&str>) -> Result<Epoch, EpochError> {
        let Some(value) = value.filter(|value| !value.is_empty()) else { return Ok(self) };
        match (value.parse::<i64>(), self) {
            (Ok(seconds), Epoch::Commit(_) | Epoch::Base) if seconds >= 0 => Ok(Epoch::Given(seconds)),
            (Ok(seconds), _) if seconds >= 0 => Ok(self),
            (_, Epoch::Commit(time)) if value == "context" => Ok(Epoch::Given(time)),
            (_, Epoch::Base) if value == "context" => Err(EpochError::NoCommit),
            _ if value == "context" => Ok(self),
            _ => Err(EpochError::Form(value.to_owned())),
        }
    }

    /// The epoch of a stage whose base image was created at `base`.
    pub(crate) fn for_stage(self, base: Option<i64>) -> StageEpoch {
        let base = base.filter(|time| *time >= 0);
        let (created, clamp, keyed) = match self {
            Epoch::Given(time) => (time, Clamp::Latest(time), true),
            Epoch::Commit(time) => {
                (time, Clamp::Latest(base.filter(|base| *base <= time).unwrap_or(0)), false)
            }
            Epoch::Base => (base.unwrap_or(0), Clamp::Latest(base.unwrap_or(0)), false),
            Epoch::Keep(now) => (now, Clamp::Keep, false),
        };
        StageEpoch { created, clamp, keyed, exported: !matches!(self, Epoch::Keep(_)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_clamp_is_later_than_the_epoch() {
        for epoch in [Epoch::Given(5), Epoch::Commit(5), Epoch::Base] {
            for base in [None, Some(3), Some(5), Some(9), Some(-1)] {
                let stage = epoch.for_stage(base);
                let Clamp::Latest(latest) = stage.clamp else { panic!("clamped") };
                assert!(latest <= stage.created, "{epoch:?} {base:?}");
            }
        }
    }

    #[test]
    fn a_declared_epoch_counts_where_the_caller_gave_none() {
        let form = |text: &str| Err(EpochError::Form(text.to_owned()));
        for (epoch, declared, counts) in [
            (Epoch::Base, None, Ok(Epoch::Base)),
            (Epoch::Base, Some(""), Ok(Epoch::Base)),
            (Epoch::Base, Some("7"), Ok(Epoch::Given(7))),
            (Epoch::Commit(5), Some("0"), Ok(Epoch::Given(0))),
            (Epoch::Given(5), Some("7"), Ok(Epoch::Given(5))),
            (Epoch::Keep(5), Some("7"), Ok(Epoch::Keep(5))),
            (Epoch::Commit(5), Some("context"), Ok(Epoch::Given(5))),
            (Epoch::Given(5), Some("context"), Ok(Epoch::Given(5))),
            (Epoch::Base, Some("context"), Err(EpochError::NoCommit)),
            (Epoch::Base, Some("-1"), form("-1")),
            (Epoch::Given(5), Some("today"), form("today")),
            (Epoch::Base, Some("1.5"), form("1.5")),
        ] {
            assert_eq!(epoch.or_declared(declared), counts, "{epoch:?} {declared:?}");
        }
    }

    #[test]
    fn a_new_commit_does_not_move_the_clamp() {
        assert_eq!(Epoch::Commit(50).for_stage(Some(9)).clamp, Epoch::Commit(60).for_stage(Some(9)).clamp);
    }
}
