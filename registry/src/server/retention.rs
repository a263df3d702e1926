//! What is kept of tags and untagged manifests: sentences, and what follows from them.
//!
//! `keep 10 newest, pulled within 30d in team/**:ci-*`, `expire after 14d in **:pr-*`, `untagged after 7d in **`. A tag that some
//! `keep` is about stays if any of them keeps it, and goes otherwise; one that only an `expire` is about goes at its age. Others
//! stay, and so do those that never change.

use super::{
    access::{Access, RepositoryPattern, TagPattern},
    life::period,
    storage::{Author, IsImmutable, Keeping, Retired, Storage, StorageError, TagFacts},
};
use crate::limits;
use std::{str::FromStr, sync::Arc, time::Duration};

/// One sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Retention {
    /// These tags stay for one of the reasons, or go.
    Keep(Vec<Reason>, TagPattern),
    /// These tags go so long after their last push.
    Expire(Duration, TagPattern),
    /// Manifests that nothing holds go after so long.
    Untagged(Duration, RepositoryPattern),
}

/// Why a tag stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It is one of so many that were pushed last.
    Newest(usize),
    /// It was pushed within this time.
    Pushed(Duration),
    /// It was pulled or pushed within this time.
    Pulled(Duration),
    /// It is one of those.
    All,
}

/// What a sentence looks like.
const EXPECTED: &str = "`keep 10 newest, pulled within 30d in team/**:ci-*`, `expire after 14d in **:pr-*` or `untagged after 7d in **`";

impl FromStr for Retention {
    type Err = String;

    fn from_str(text: &str) -> Result<Retention, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let wrong = || format!("`{text}` is not like {EXPECTED}");
        let [sentence @ .., "in", pattern] = words.as_slice() else { return Err(wrong()) };
        match sentence {
            ["keep", reasons @ ..] if !reasons.is_empty() => {
                let reasons = reasons.join(" ");
                let reasons = reasons.split(',').map(|one| reason(one.trim())).collect::<Result<_, _>>()?;
                Ok(Retention::Keep(reasons, tags(pattern)?))
            }
            ["expire", "after", time] => Ok(Retention::Expire(age(time)?, tags(pattern)?)),
            ["untagged", "after", time] => {
                let after = period(time)?;
                let least = limits::LOOSE_RENEWED * 2;
                if after < least {
                    let minutes = least.as_secs() / 60;
                    return Err(format!("`{time}` is too short: a push may take `{minutes}m` at least"));
                }
                let mistaken = |error| format!("`{pattern}` is no pattern of repositories: {error}");
                Ok(Retention::Untagged(after, pattern.parse().map_err(mistaken)?))
            }
            _ => Err(wrong()),
        }
    }
}

/// A time that is some.
fn age(text: &str) -> Result<Duration, String> {
    let age = period(text)?;
    if age.is_zero() { Err(format!("`{text}` keeps nothing")) } else { Ok(age) }
}

/// `REPOSITORIES:TAGS`, or every tag of `REPOSITORIES`.
fn tags(text: &str) -> Result<TagPattern, String> {
    let whole = if text.contains(':') { text.to_owned() } else { format!("{text}:*") };
    whole.parse().map_err(|error| format!("`{text}` is no pattern of tags: {error}"))
}

fn reason(text: &str) -> Result<Reason, String> {
    let wrong = || {
        format!(
            "`{text}` is no reason to keep a tag: `10 newest`, `pushed within 14d`, `pulled within 30d`, `all`"
        )
    };
    match text.split_whitespace().collect::<Vec<_>>().as_slice() {
        ["all"] => Ok(Reason::All),
        [number, "newest"] => {
            let number = number.parse().ok().filter(|number| *number > 0).ok_or_else(wrong)?;
            Ok(Reason::Newest(number))
        }
        ["pushed", "within", time] => Ok(Reason::Pushed(age(time)?)),
        ["pulled", "within", time] => Ok(Reason::Pulled(age(time)?)),
        _ => Err(wrong()),
    }
}

impl Reason {
    /// Whether it keeps `one` of `meant`, which are sorted, the one that was pushed last first. What comes from a time to come is young.
    fn keeps(&self, one: &TagFacts, meant: &[&TagFacts], now: i64) -> bool {
        let within = |at: i64, time: &Duration| now.saturating_sub(at) < seconds(*time);
        match self {
            Reason::All => true,
            Reason::Newest(count) => meant.iter().take(*count).any(|newer| newer.tag == one.tag),
            Reason::Pushed(time) => within(one.updated, time),
            Reason::Pulled(time) => within(one.updated.max(one.pulled.unwrap_or(0)), time),
        }
    }
}

fn seconds(time: Duration) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}

/// Takes away what `rules` no longer keep, the tags apart that never change by `access`. [`Storage::retire`] says how, and what
/// `pause` is told and answers.
pub fn retire(
    storage: &Storage,
    (rules, access): (&[Retention], &Arc<Access>),
    author: &Author,
    dry_run: bool,
    pause: &mut dyn FnMut(&Retired) -> bool,
) -> Result<(), StorageError> {
    let immutable = |repository: &str| -> IsImmutable {
        let (access, repository) = (Arc::clone(access), repository.to_owned());
        Arc::new(move |tag| access.is_immutable(&repository, tag))
    };
    let keeping = Keeping {
        expired: &|repository, facts, now| expired(rules, repository, facts, now),
        untagged: &|repository| untagged(rules, repository),
        immutable: &immutable,
        author,
    };
    storage.retire(&keeping, dry_run, pause)
}

/// The tags of a repository that go. Pure.
pub(super) fn expired(rules: &[Retention], repository: &str, all: &[TagFacts], now: i64) -> Vec<TagFacts> {
    let mut newest: Vec<&TagFacts> = all.iter().collect();
    newest.sort_by(|a, b| b.updated.cmp(&a.updated).then_with(|| a.tag.cmp(&b.tag)));
    let keeps: Vec<(&Vec<Reason>, Vec<&TagFacts>)> = rules
        .iter()
        .filter_map(|rule| match rule {
            Retention::Keep(reasons, pattern) => {
                let meant = newest.iter().filter(|one| pattern.matches(repository, &one.tag));
                Some((reasons, meant.copied().collect()))
            }
            _ => None,
        })
        .collect();
    let goes = |one: &&TagFacts| {
        let mut about =
            keeps.iter().filter(|(_, meant)| meant.iter().any(|own| own.tag == one.tag)).peekable();
        if about.peek().is_some() {
            return !about.any(|(reasons, meant)| reasons.iter().any(|why| why.keeps(one, meant, now)));
        }
        rules.iter().any(|rule| match rule {
            Retention::Expire(after, pattern) => {
                pattern.matches(repository, &one.tag) && now.saturating_sub(one.updated) >= seconds(*after)
            }
            _ => false,
        })
    };
    all.iter().filter(goes).cloned().collect()
}

/// After how long manifests of a repository go that nothing holds: the longest time that is said.
fn untagged(rules: &[Retention], repository: &str) -> Option<Duration> {
    let meant = rules.iter().filter_map(|rule| match rule {
        Retention::Untagged(after, pattern) if pattern.means(repository) => Some(*after),
        _ => None,
    });
    meant.max()
}

#[cfg(test)]
mod tests {
    use super::*;
    use slipway_oci::Digest;

    const DAY: i64 = 86_400;

    /// Tags with the days since they were pushed and pulled.
    fn facts(all: &[(&str, i64, Option<i64>)]) -> Vec<TagFacts> {
        let of = |(tag, pushed, pulled): &(&str, i64, Option<i64>)| TagFacts {
            tag: (*tag).to_owned(),
            digest: Digest::sha256(tag.as_bytes()),
            updated: (1000 - pushed) * DAY,
            pulled: pulled.map(|pulled| (1000 - pulled) * DAY),
            pulls: 0,
        };
        all.iter().map(of).collect()
    }

    #[test]
    fn sentences_say_what_goes() {
        let all = facts(&[
            ("ci-1", 40, Some(2)),
            ("ci-2", 30, None),
            ("ci-3", 20, None),
            ("ci-4", 10, Some(9)),
            ("pr-1", 15, None),
            ("pr-2", 13, None),
            ("pr-future", -100, None),
            ("v1", 400, None),
        ]);
        for (rules, gone) in [
            (&[][..], &[][..]),
            (&["keep 2 newest in a:ci-*"], &["ci-1", "ci-2"]),
            (&["keep 2 newest, pulled within 5d in **:ci-*"], &["ci-2"]),
            (&["keep pushed within 25d in a:ci-*"], &["ci-1", "ci-2"]),
            (&["keep pulled within 25d in a:ci-*"], &["ci-2"]),
            (&["keep 1 newest in a:ci-*", "keep pushed within 35d in a:ci-*"], &["ci-1"]),
            (&["expire after 14d in **:pr-*"], &["pr-1"]),
            (&["expire after 14d in **:pr-*", "keep all in a:pr-1"], &[]),
            (&["expire after 1d in b:*"], &[]),
            (&["keep 9 newest in a"], &[]),
            (&["keep 3 newest in a", "keep all in a:v*"], &["ci-1", "ci-2", "ci-3", "pr-1"]),
            (&["untagged after 7d in **"], &[]),
        ] {
            let rules: Vec<Retention> = rules.iter().map(|rule| rule.parse().expect(rule)).collect();
            let found: Vec<String> =
                expired(&rules, "a", &all, 1000 * DAY).into_iter().map(|one| one.tag).collect();
            assert_eq!(found, gone, "{rules:?}");
        }
    }

    #[test]
    fn what_is_no_sentence_is_said() {
        for (text, words) in [
            ("", "is not like"),
            ("keep in a", "is not like"),
            ("keep 10 newest", "is not like"),
            ("keep 0 newest in a", "no reason to keep"),
            ("keep ten newest in a", "no reason to keep"),
            ("keep 1 newest, in a", "no reason to keep"),
            ("keep pushed within 0 in a", "keeps nothing"),
            ("keep pushed within 3w in a", "is no time"),
            ("expire after 3d in A:x", "no pattern of tags"),
            ("expire 3d in a", "is not like"),
            ("untagged after 5m in a", "too short"),
            ("untagged after 7d in a:b", "no pattern of repositories"),
            ("delete all in a", "is not like"),
        ] {
            let found = text.parse::<Retention>().expect_err(text);
            assert!(found.contains(words), "{text}: {found}");
        }
        let rules: Vec<Retention> = ["untagged after 7d in **", "untagged after 9d in a"]
            .map(|rule| rule.parse().expect(rule))
            .to_vec();
        assert_eq!(untagged(&rules, "a"), Some(Duration::from_secs(9 * 86_400)));
        assert_eq!(untagged(&rules[1..], "b"), None);
    }
}
