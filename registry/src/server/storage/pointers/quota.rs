//! How much a repository, or a namespace of them, may have.
//!
//! Bytes are exact: of content that a scope has several times, in several of its repositories, as a blob and as a manifest,
//! one counts. A manifest counts until it is deleted. A blob counts from its push on, until no manifest outside the trash
//! needs it any more that did; pushed, mounted, or named by a manifest again, it counts again. So what is deleted frees its
//! share at once, whatever the trash and the collection still keep of it, and what comes back is asked like a push.
//!
//! The numbers are the engine's to keep, in the transactions that change them, for every repository and every namespace of
//! at most [`limits::NAMESPACE_DEPTH`] components, whether a quota is set for it or not: settings change while a server
//! runs, and commands beside it know other ones.

use super::StorageError;
use crate::limits;
use std::fmt;

/// What a quota is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// One repository.
    Repository(String),
    /// All repositories below a name, which is no longer than the namespaces that are counted; all of them where it is
    /// empty. A repository of that very name is not below it.
    Namespace(String),
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scope::Repository(name) => write!(f, "repository `{name}`"),
            Scope::Namespace(name) if name.is_empty() => f.write_str("the registry"),
            Scope::Namespace(name) => write!(f, "namespace `{name}`"),
        }
    }
}

/// Which kind of scopes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kin {
    /// Repositories.
    Repositories,
    /// Namespaces that something was pushed into.
    Namespaces,
}

/// The namespaces that a repository lies in and that are counted, the widest first; that of everything apart.
pub fn namespaces(repository: &str) -> impl Iterator<Item = &str> {
    repository.match_indices('/').map(|(end, _)| &repository[..end]).take(limits::NAMESPACE_DEPTH)
}

/// How much a scope has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// Bytes of different contents.
    pub bytes: u64,
    /// Tags.
    pub tags: u64,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Bytes of different contents.
    Bytes,
    /// Tags.
    Tags,
}

impl Used {
    /// How much it is by a measure.
    pub fn of(&self, measure: Measure) -> u64 {
        match measure {
            Measure::Bytes => self.bytes,
            Measure::Tags => self.tags,
        }
    }
}

/// How much a scope may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    /// What it is about.
    pub scope: Scope,
    /// Most bytes.
    pub bytes: Option<u64>,
    /// Most tags.
    pub tags: Option<u64>,
}

impl Bound {
    /// What is bounded, with its most.
    pub fn measures(&self) -> impl Iterator<Item = (Measure, u64)> {
        let both = [(Measure::Bytes, self.bytes), (Measure::Tags, self.tags)];
        both.into_iter().filter_map(|(measure, most)| Some((measure, most?)))
    }

    /// Refuses what made it more than it may be. What has grown over its quota otherwise (a smaller one was set, a folder
    /// was adopted) may shrink and change, only not grow.
    pub fn check(&self, before: Used, after: Used) -> Result<(), StorageError> {
        for (measure, most) in self.measures() {
            let (used, now) = (before.of(measure), after.of(measure));
            if now > used && now > most {
                let over = OverQuota { scope: self.scope.clone(), measure, most, used, more: now - used };
                return Err(StorageError::OverQuota(Box::new(over)));
            }
        }
        Ok(())
    }
}

/// What does not fit into a quota.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OverQuota {
    /// Whose quota it is.
    pub scope: Scope,
    /// What would be too much.
    pub measure: Measure,
    /// The quota.
    pub most: u64,
    /// What is used of it.
    pub used: u64,
    /// What was to be added.
    pub more: u64,
}

impl fmt::Display for OverQuota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let OverQuota { scope, measure, most, used, more } = self;
        let word = |count: u64| match measure {
            Measure::Bytes => exactly(count, *most),
            Measure::Tags if count == 1 => "1 tag".to_owned(),
            Measure::Tags => format!("{count} tags"),
        };
        let (most, used, more) = (word(*most), word(*used), word(*more));
        write!(
            f,
            "the quota of {scope} is {most}: {used} of it are used, and this would add {more}; delete there what is not needed, or ask for a larger quota"
        )
    }
}

/// A number of bytes in the units in which a quota of `most` was most likely set, as settings write them: `10GiB`, `1.5GB`.
pub fn written(bytes: u64, most: u64) -> String {
    let reduced = |base: u64| {
        let mut number = most;
        while number > 0 && number.is_multiple_of(base) {
            number /= base;
        }
        number
    };
    let (base, units): (u64, [&str; 6]) = match reduced(1024) <= reduced(1000) {
        true => (1024, ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"]),
        false => (1000, ["kB", "MB", "GB", "TB", "PB", "EB"]),
    };
    let (mut whole, mut size, mut unit, mut exact) = (bytes, bytes as f64, "B", true);
    for next in units {
        // what was set as 1500MiB is no 1.46GiB
        if size < base as f64 || (bytes == most && !whole.is_multiple_of(base)) {
            break;
        }
        exact &= whole.is_multiple_of(base);
        (whole, size, unit) = (whole / base, size / base as f64, next);
    }
    if exact {
        return format!("{whole}{unit}");
    }
    let number = format!("{size:.2}");
    format!("{}{unit}", number.trim_end_matches('0').trim_end_matches('.'))
}

/// The same, with all its digits where those are rounded.
fn exactly(bytes: u64, most: u64) -> String {
    let text = written(bytes, most);
    let whole = text.strip_suffix('B').is_some_and(|number| number.parse() == Ok(bytes));
    if whole || bytes == most { text } else { format!("{text} ({bytes} bytes)") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_are_what_lies_above_a_name() {
        let of = |name: &'static str| namespaces(name).collect::<Vec<_>>();
        assert_eq!(of("app"), [""; 0]);
        assert_eq!(of("team/app"), ["team"]);
        assert_eq!(of("a/b/c/d/e/f/g"), ["a", "a/b", "a/b/c", "a/b/c/d"], "no deeper");
    }

    #[test]
    fn growth_alone_is_refused() {
        let bound = Bound { scope: Scope::Namespace("team".to_owned()), bytes: Some(100), tags: Some(2) };
        let used = |bytes, tags| Used { bytes, tags };
        for (before, after, fits) in [
            (used(0, 0), used(100, 2), true),
            (used(0, 0), used(101, 0), false),
            (used(0, 2), used(0, 3), false),
            (used(500, 9), used(500, 9), true),
            (used(500, 9), used(499, 9), true),
            (used(500, 9), used(501, 9), false),
            (used(500, 2), used(400, 3), false),
        ] {
            assert_eq!(bound.check(before, after).is_ok(), fits, "{before:?} {after:?}");
        }
        let words = bound.check(used(40, 0), used(120, 0)).expect_err("too much").to_string();
        assert!(
            words.starts_with(
                "the quota of namespace `team` is 100B: 40B of it are used, and this would add 80B; "
            ),
            "{words}"
        );
        let words = bound.check(used(0, 2), used(0, 3)).expect_err("too many").to_string();
        assert!(words.contains("is 2 tags: 2 tags of it are used, and this would add 1 tag;"), "{words}");
    }

    #[test]
    fn amounts_are_written_as_they_were_set() {
        for (bytes, most, words) in [
            (0, 0, "0B"),
            (0, 1 << 20, "0B"),
            (1 << 20, 1 << 20, "1MiB"),
            (10 << 30, 10 << 30, "10GiB"),
            (1500 << 20, 1500 << 20, "1500MiB"),
            (1000, 1000, "1kB"),
            (1_500_000, 1_500_000, "1500kB"),
            (10_000_000_000, 10_000_000_000, "10GB"),
            (1023, 1023, "1023B"),
            (1001, 1001, "1001B"),
            // what is used of it, in the same units
            (500, 1 << 20, "500B"),
            (1500, 1 << 20, "1.46KiB"),
            (1500, 10_000_000, "1.5kB"),
            (3 << 30, 1 << 40, "3GiB"),
            (999_999, 1_000_000, "1000kB"),
            (2_000_000, 1_000_000, "2MB"),
            (u64::MAX, u64::MAX, "18446744073709551615B"),
            (u64::MAX, 1 << 40, "16EiB"),
        ] {
            assert_eq!(written(bytes, most), words, "{bytes} of {most}");
        }
        assert_eq!(exactly(40, 1 << 20), "40B");
        assert_eq!(exactly(1 << 20, 1 << 20), "1MiB");
        assert_eq!(exactly(1500, 1 << 20), "1.46KiB (1500 bytes)");
    }
}
