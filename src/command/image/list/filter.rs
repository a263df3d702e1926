//! `--filter` of `slipway images`, as docker's: values of one name are alternatives, but for labels, all of which must
//! be there.

use crate::{error::Failure, nearby};
use slipway_dockerfile::glob;
use slipway_oci::{Reference, store::Store};
use std::collections::BTreeMap;

/// What a filter asks about.
pub(super) struct Candidate<'a> {
    pub(super) name: Option<&'a Reference>,
    pub(super) labels: Option<&'a BTreeMap<String, String>>,
    pub(super) created: Option<i64>,
}

/// What `--filter` asks for.
#[derive(Debug, Default)]
pub(super) struct Filters {
    dangling: Option<bool>,
    labels: Vec<(String, Option<String>)>,
    references: Vec<String>,
    before: Option<String>,
    since: Option<String>,
    /// Times of the images that `before` and `since` name.
    created_before: Option<i64>,
    created_since: Option<i64>,
}

impl Filters {
    /// Reads the values of the flag.
    pub(super) fn parse(given: &[String]) -> Result<Filters, Failure> {
        let mut filters = Filters::default();
        for text in given {
            let (name, value) = text
                .split_once('=')
                .ok_or_else(|| Failure::usage(format!("--filter: `{text}` is not of the form NAME=VALUE")))?;
            match name.trim() {
                "dangling" => filters.dangling = Some(boolean(value)?),
                "label" => {
                    let (name, value) = value.split_once('=').map_or((value, None), |(n, v)| (n, Some(v)));
                    filters.labels.push((name.to_owned(), value.map(str::to_owned)));
                }
                "reference" => {
                    glob::matches(value, "")
                        .map_err(|error| Failure::usage(format!("--filter: `{value}`: {error}")))?;
                    filters.references.push(value.to_owned());
                }
                "before" => filters.before = Some(value.to_owned()),
                "since" => filters.since = Some(value.to_owned()),
                other => {
                    return Err(Failure::usage(format!("--filter: there is no filter `{other}`"))
                        .with_hint("there are: dangling, label, reference, before, since"));
                }
            }
        }
        Ok(filters)
    }

    /// Looks the images up that it names.
    pub(super) fn resolved(mut self, store: &Store) -> Result<Filters, Failure> {
        let created = |name: &Option<String>| -> Result<Option<i64>, Failure> {
            let Some(name) = name else { return Ok(None) };
            let digest = store.find_image(name)?.ok_or_else(|| nearby::missing(store, name, &[]))?;
            Ok(Some(store.read_image(&digest)?.config.created_seconds().unwrap_or(0)))
        };
        self.created_before = created(&self.before)?;
        self.created_since = created(&self.since)?;
        Ok(self)
    }

    /// Whether an image is to be listed.
    pub(super) fn take(&self, image: &Candidate<'_>) -> Result<bool, Failure> {
        let created = image.created.unwrap_or(0);
        let labelled = |(name, value): &(String, Option<String>)| {
            image
                .labels
                .and_then(|labels| labels.get(name))
                .is_some_and(|found| value.as_ref().is_none_or(|value| value == found))
        };
        Ok(self.dangling.is_none_or(|dangling| dangling == image.name.is_none())
            && self.labels.iter().all(labelled)
            && self.created_before.is_none_or(|before| created < before)
            && self.created_since.is_none_or(|since| created > since)
            && self.named(image.name)?)
    }

    /// As docker: a pattern matches the name as people write it, with or without its tag.
    fn named(&self, name: Option<&Reference>) -> Result<bool, Failure> {
        let Some(name) = name else { return Ok(self.references.is_empty()) };
        let (whole, bare) = (name.familiar(), name.familiar_name());
        for pattern in &self.references {
            let matches = |text: &str| {
                glob::matches(pattern, text)
                    .map_err(|error| Failure::usage(format!("--filter: `{pattern}`: {error}")))
            };
            if matches(&whole)? || matches(&bare)? {
                return Ok(true);
            }
        }
        Ok(self.references.is_empty())
    }
}

fn boolean(value: &str) -> Result<bool, Failure> {
    match value {
        "1" | "t" | "true" | "True" | "TRUE" => Ok(true),
        "0" | "f" | "false" | "False" | "FALSE" => Ok(false),
        _ => Err(Failure::usage(format!("--filter: `dangling={value}`: it is true or false"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_take_what_docker_s_take() {
        let labels: BTreeMap<String, String> =
            [("a", "1"), ("b.c", "")].map(|(n, v)| (n.into(), v.into())).into();
        let name: Reference = "localhost:5000/team/app:v1".parse().expect("name");
        let short: Reference = "debian:12".parse().expect("name");
        for (given, on_named, on_short, on_none) in [
            (&[][..], true, true, true),
            (&["dangling=true"], false, false, true),
            (&["dangling=0"], true, true, false),
            (&["label=a"], true, true, true),
            (&["label=a=1", "label=b.c"], true, true, true),
            (&["label=a=2"], false, false, false),
            (&["label=a", "label=x"], false, false, false),
            (&["reference=debian"], false, true, false),
            (&["reference=debian:*"], false, true, false),
            (&["reference=deb*:1?"], false, true, false),
            (&["reference=*/*/app"], true, false, false),
            (&["reference=*"], false, true, false),
            (&["reference=nothing", "reference=debian:[0-9]*"], false, true, false),
            (&["reference=debian", "dangling=true"], false, false, false),
        ] {
            let given: Vec<String> = given.iter().map(|text| (*text).to_owned()).collect();
            let filters = Filters::parse(&given).expect("filters");
            let take = |name| {
                filters.take(&Candidate { name, labels: Some(&labels), created: Some(5) }).expect("pattern")
            };
            assert_eq!(
                (take(Some(&name)), take(Some(&short)), take(None)),
                (on_named, on_short, on_none),
                "{given:?}"
            );
        }
        for (created, before, since) in [(4, true, false), (5, false, false), (6, false, true)] {
            let at = |filters: Filters| {
                filters
                    .take(&Candidate { name: None, labels: Some(&labels), created: Some(created) })
                    .expect("take")
            };
            assert_eq!(at(Filters { created_before: Some(5), ..Filters::default() }), before);
            assert_eq!(at(Filters { created_since: Some(5), ..Filters::default() }), since);
        }
        for wrong in ["dangling", "dangling=maybe", "size=5", "reference=[", "=x"] {
            assert!(Filters::parse(&[wrong.to_owned()]).is_err(), "{wrong}");
        }
    }
}
