//! Quotas as they are set: sentences, and what follows from them for a repository.
//!
//! `10GiB, 100 tags in each team/**` is of every repository that the pattern means, each by itself; `200GiB in all of team`
//! is of everything below `team/` together, `in all of users/*` the same of each namespace that the pattern means, and
//! `1TiB in all` of the whole registry. Of several sentences about one scope the least counts.

use super::{
    access::RepositoryPattern,
    bytes,
    storage::{Bound, Kin, Measure, Scope, Storage, StorageError, Used, namespaces},
};
use crate::limits;
use std::{fmt, str::FromStr};

/// One sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quota {
    text: String,
    whose: Whose,
    bytes: Option<u64>,
    tags: Option<u64>,
}

/// What has what a sentence says.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Whose {
    /// Each of these repositories.
    Each(RepositoryPattern),
    /// Each of these namespaces.
    AllOf(RepositoryPattern),
    /// Everything.
    All,
}

/// What a sentence looks like.
const EXPECTED: &str =
    "`10GiB, 100 tags in each team/**`, `200GiB in all of team`, `50GiB in all of users/*` or `1TiB in all`";

impl FromStr for Quota {
    type Err = String;

    fn from_str(text: &str) -> Result<Quota, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let wrong = || format!("`{text}` is not like {EXPECTED}");
        let (amounts, whose) = match words.as_slice() {
            [amounts @ .., "in", "each", pattern] => (amounts, Whose::Each(pattern_of(pattern)?)),
            [amounts @ .., "in", "all", "of", pattern] => (amounts, Whose::AllOf(namespace(pattern)?)),
            [amounts @ .., "in", "all"] => (amounts, Whose::All),
            _ => return Err(wrong()),
        };
        let mut quota = Quota { text: words.join(" "), whose, bytes: None, tags: None };
        for amount in amounts.join(" ").split(',').map(str::trim) {
            let (measure, count) = amount_of(amount).ok_or_else(|| {
                format!("`{amount}` is no amount, `10GiB` or `100 tags`: a quota is like {EXPECTED}")
            })?;
            let place = match measure {
                Measure::Bytes => &mut quota.bytes,
                Measure::Tags => &mut quota.tags,
            };
            if place.replace(count).is_some() {
                return Err(format!("`{amount}`: there is another amount of its kind before it"));
            }
        }
        Ok(quota)
    }
}

impl fmt::Display for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn amount_of(text: &str) -> Option<(Measure, u64)> {
    match text.strip_suffix("tags").or_else(|| text.strip_suffix("tag")) {
        Some(number) => Some((Measure::Tags, number.trim().parse().ok()?)),
        // SQLite counts in signed 63 bits
        None => Some((Measure::Bytes, bytes(text).filter(|bytes| *bytes <= i64::MAX as u64)?)),
    }
}

fn pattern_of(text: &str) -> Result<RepositoryPattern, String> {
    if text.contains('$') {
        return Err(format!("`{text}` has a variable, and a quota is the same for everybody: `users/*`"));
    }
    text.parse().map_err(|error| format!("`{text}` is no pattern of repositories: {error}"))
}

fn namespace(text: &str) -> Result<RepositoryPattern, String> {
    let trimmed = text.strip_suffix("/**").or_else(|| text.strip_suffix('/')).unwrap_or(text);
    let pattern = pattern_of(trimmed)?;
    let most = limits::NAMESPACE_DEPTH;
    if trimmed.split('/').any(|component| component == "**") {
        return Err(format!(
            "`{text}` means namespaces of any depth: say which, `team` or `users/*`, or `in all`"
        ));
    }
    if trimmed.split('/').count() > most {
        return Err(format!("`{text}` lies too deep: namespaces of at most {most} components are counted"));
    }
    Ok(pattern)
}

impl Quota {
    /// The sentence, with single spaces.
    pub fn text(&self) -> &str {
        &self.text
    }

    fn is_about(&self, scope: &Scope) -> bool {
        match (&self.whose, scope) {
            (Whose::Each(pattern), Scope::Repository(name)) => pattern.means(name),
            (Whose::All, Scope::Namespace(name)) => name.is_empty(),
            (Whose::AllOf(pattern), Scope::Namespace(name)) => !name.is_empty() && pattern.means(name),
            _ => false,
        }
    }

    /// Which scopes it may be about, apart from everything.
    fn kin(&self) -> Option<Kin> {
        match self.whose {
            Whose::Each(_) => Some(Kin::Repositories),
            Whose::AllOf(_) => Some(Kin::Namespaces),
            Whose::All => None,
        }
    }
}

/// What a scope may have; `None` where nothing is said about it.
pub fn bound(quotas: &[Quota], scope: &Scope) -> Option<Bound> {
    let about: Vec<&Quota> = quotas.iter().filter(|quota| quota.is_about(scope)).collect();
    let least = |of: fn(&Quota) -> Option<u64>| about.iter().filter_map(|quota| of(quota)).min();
    let (bytes, tags) = (least(|quota| quota.bytes), least(|quota| quota.tags));
    (!about.is_empty()).then(|| Bound { scope: scope.clone(), bytes, tags })
}

/// What bounds a repository, the widest first.
pub fn bounds(quotas: &[Quota], repository: &str) -> Vec<Bound> {
    if quotas.is_empty() {
        return Vec::new();
    }
    let above = std::iter::once("").chain(namespaces(repository)).map(str::to_owned).map(Scope::Namespace);
    let scopes = above.chain([Scope::Repository(repository.to_owned())]);
    scopes.filter_map(|scope| bound(quotas, &scope)).collect()
}

/// Everything that there is and that a quota is about, with how much of it is used. Looks at every repository.
pub fn filled(quotas: &[Quota], storage: &Storage) -> Result<Vec<(Bound, Used)>, StorageError> {
    let mut found = Vec::new();
    let mut note = |scope: Scope, used: Used| found.extend(bound(quotas, &scope).map(|bound| (bound, used)));
    let all = Scope::Namespace(String::new());
    note(all.clone(), storage.used(&all)?);
    for kin in [Kin::Namespaces, Kin::Repositories] {
        if !quotas.iter().any(|quota| quota.kin() == Some(kin)) {
            continue;
        }
        let mut last = String::new();
        loop {
            let page = storage.all_used(kin, &last, limits::HISTORY_PAGE)?;
            let Some((end, _)) = page.last() else { break };
            last.clone_from(end);
            for (name, used) in page {
                let scope = match kin {
                    Kin::Namespaces => Scope::Namespace(name),
                    Kin::Repositories => Scope::Repository(name),
                };
                note(scope, used);
            }
        }
    }
    Ok(found)
}

/// How full something is, of 1.
pub fn share(used: u64, most: u64) -> f64 {
    if most == 0 { 1.0 } else { used as f64 / most as f64 }
}

/// How full a sentence's scopes are.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Fullness {
    /// The sentence.
    pub(super) quota: String,
    /// How full the fullest of its scopes is, of 1.
    pub(super) fullest: f64,
    /// How many are nearly full.
    pub(super) near: u64,
    /// How many there are.
    pub(super) scopes: u64,
}

/// How full the scopes of each sentence are, by that sentence alone.
pub(super) fn fullness(quotas: &[Quota], storage: &Storage) -> Result<Vec<Fullness>, StorageError> {
    let all = filled(quotas, storage)?;
    let of = |quota: &Quota| {
        let own = std::slice::from_ref(quota);
        let mut fullness = Fullness { quota: quota.to_string(), fullest: 0.0, near: 0, scopes: 0 };
        for (bound, used) in all.iter().filter_map(|(one, used)| Some((bound(own, &one.scope)?, used))) {
            let shares = bound.measures().map(|(measure, most)| share(used.of(measure), most));
            let most = shares.fold(0.0, f64::max);
            fullness.scopes += 1;
            fullness.near += u64::from(most >= NEAR);
            fullness.fullest = fullness.fullest.max(most);
        }
        fullness
    };
    Ok(quotas.iter().map(of).collect())
}

/// From which share on something is nearly full.
pub(super) const NEAR: f64 = 0.9;

/// What whoever pushes is told of what is nearly full (the words of a `Warning` header).
pub(super) fn warnings(room: &[(Bound, Used)]) -> Vec<String> {
    let mut words = Vec::new();
    for (bound, used) in room {
        for (measure, most) in bound.measures() {
            let share = share(used.of(measure), most);
            if share >= NEAR {
                let what = match measure {
                    Measure::Bytes => "bytes",
                    Measure::Tags => "tags",
                };
                let percent = (share * 100.0).floor();
                words.push(format!("{} has used {percent} % of its quota of {what}", bound.scope));
            }
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quotas(all: &[&str]) -> Vec<Quota> {
        all.iter().map(|text| text.parse().expect(text)).collect()
    }

    #[test]
    fn sentences_bound_what_they_are_about() {
        let all = quotas(&[
            "10GiB, 100 tags in each team/**",
            "5GiB in each team/app",
            "200 GiB in all of team",
            "1 tag in all of team/*",
            "1TiB in all",
        ]);
        let of = |name: &str| -> Vec<String> {
            let words = |bound: Bound| format!("{} {:?} {:?}", bound.scope, bound.bytes, bound.tags);
            bounds(&all, name).into_iter().map(words).collect()
        };
        assert_eq!(of("app"), ["the registry Some(1099511627776) None"]);
        assert_eq!(
            of("team/app"),
            [
                "the registry Some(1099511627776) None",
                "namespace `team` Some(214748364800) None",
                "repository `team/app` Some(5368709120) Some(100)",
            ]
        );
        assert_eq!(of("team/x/y")[2], "namespace `team/x` None Some(1)");
        assert_eq!(of("team"), of("app"), "a repository of a namespace's name is not below it");
        assert_eq!(of("teams/app").len(), 1);
        assert!(bounds(&[], "a/b").is_empty());
        for (text, same) in
            [("1GB in all of a/", "1GB in all of a"), ("1GB in all of a/**", "1GB in all of a")]
        {
            assert_eq!(bounds(&quotas(&[text]), "a/b"), bounds(&quotas(&[same]), "a/b"), "{text}");
        }
        assert_eq!(quotas(&["0 in each a"])[0].bytes, Some(0), "nothing may be pushed there");
    }

    #[test]
    fn what_is_no_sentence_is_said() {
        for (text, words) in [
            ("", "is not like"),
            ("10GiB", "is not like"),
            ("10GiB in team", "is not like"),
            ("10GiB in all of", "is not like"),
            ("in each a", "is no amount"),
            (", in each a", "is no amount"),
            ("10 in each a b", "is not like"),
            ("ten tags in each a", "is no amount"),
            ("-1 tags in each a", "is no amount"),
            ("10XB in each a", "is no amount"),
            ("16777216TiB in all", "is no amount"),
            ("18446744073709551615 in all", "is no amount"),
            ("1GB, 2GB in each a", "another amount"),
            ("1 tag, 2 tags in each a", "another amount"),
            ("1GB in each A", "no pattern of repositories"),
            ("1GB in each u/${user}", "a variable"),
            ("1GB in all of **", "any depth"),
            ("1GB in all of a/**/b", "any depth"),
            ("1GB in all of a/b/c/d/e", "too deep"),
            ("1GB in all of /", "no pattern of repositories"),
        ] {
            let found = text.parse::<Quota>().expect_err(text);
            assert!(found.contains(words), "{text}: {found}");
        }
    }

    #[test]
    fn what_is_nearly_full_is_told() {
        let room = |bytes, tags| {
            let all = quotas(&["1000, 10 tags in each a"]);
            let bound = bounds(&all, "a").remove(0);
            warnings(&[(bound, Used { bytes, tags })])
        };
        assert_eq!(room(899, 8), [""; 0]);
        assert_eq!(room(900, 0), ["repository `a` has used 90 % of its quota of bytes"]);
        assert_eq!(room(2000, 10).len(), 2);
        assert_eq!(room(2000, 10)[0], "repository `a` has used 200 % of its quota of bytes");
        assert_eq!(share(0, 0), 1.0);
    }
}
