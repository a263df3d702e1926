//! `--filter` of commands that choose containers.

use super::kept::Kept;
use crate::{error::Failure, images::Images};
use slipway_runtime::container::{config::Config, state::Status};

/// What a container must have to be listed.
pub(super) enum Filter {
    Id(String),
    Name(String),
    Label(String, Option<String>),
    Status(Status),
    Exited(i32),
    Ancestor(String),
}

impl Filter {
    /// Reads a `--filter`.
    pub(super) fn parse(text: &str) -> Result<Filter, Failure> {
        let bad = |why: &str| Failure::usage(format!("--filter: `{text}`: {why}"));
        let (name, value) = text.split_once('=').ok_or_else(|| bad("expected NAME=VALUE"))?;
        let value = value.to_owned();
        Ok(match name {
            "id" => Filter::Id(value),
            "name" => Filter::Name(value),
            "label" => match value.split_once('=') {
                Some((name, value)) => Filter::Label(name.to_owned(), Some(value.to_owned())),
                None => Filter::Label(value, None),
            },
            "status" => {
                let all = [Status::Created, Status::Running, Status::Restarting, Status::Exited];
                let found = all.into_iter().find(|status| status.word() == value);
                Filter::Status(
                    found.ok_or_else(|| bad("it is none of created, running, restarting, exited"))?,
                )
            }
            "exited" => Filter::Exited(value.parse().map_err(|_| bad("it is no exit status"))?),
            "ancestor" => Filter::Ancestor(value),
            _ => return Err(bad("it is none of id, name, label, status, exited, ancestor")),
        })
    }

    fn takes(&self, kept: &Kept, config: &Config, images: &Images<'_>) -> Result<bool, Failure> {
        let (row, state) = (&kept.row, &kept.state);
        Ok(match self {
            Filter::Id(id) => row.id.starts_with(id.as_str()),
            Filter::Name(part) => row.name.contains(part.trim_start_matches('/')),
            Filter::Label(name, None) => config.labels.contains_key(name),
            Filter::Label(name, Some(value)) => config.labels.get(name) == Some(value),
            Filter::Status(status) => state.status == *status,
            Filter::Exited(code) => state.status == Status::Exited && state.exit_code == *code,
            Filter::Ancestor(image) => {
                config.image == *image || images.local(image)?.is_some_and(|found| found == row.manifest)
            }
        })
    }

    /// Whether it asks for how a container ended, which one that runs has not.
    pub(super) fn is_of_the_ended(&self) -> bool {
        matches!(self, Filter::Status(_) | Filter::Exited(_))
    }

    /// Whether a container has all of it.
    pub(super) fn all_take(
        filters: &[Filter],
        kept: &Kept,
        config: &Config,
        images: &Images<'_>,
    ) -> Result<bool, Failure> {
        filters.iter().try_fold(true, |all, one| Ok(all && one.takes(kept, config, images)?))
    }
}
