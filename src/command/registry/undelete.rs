//! `slipway registry undelete`.

use super::{
    named::{self, Named},
    place::Place,
};
use crate::{app::Global, error::Failure, show};
use slipway_registry::server::storage::{ManifestKey, Revived};

/// Bring a deleted tag or manifest back out of the trash, with all that it needs.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    place: Place,
    /// Give the manifest this tag, which nothing else may have
    #[arg(long, value_name = "TAG", value_parser = named::tag)]
    tag: Option<String>,
    /// What was deleted: REPOSITORY:TAG or REPOSITORY@DIGEST
    #[arg(value_name = "NAME", value_parser = named::named)]
    name: Named,
}

/// Carries the command out. Status 1 says that something that it needs is gone for good.
pub(crate) fn run(global: &Global, arguments: &Arguments) -> Result<u8, Failure> {
    let (storage, _) = arguments.place.open(global)?;
    let Named { repository, key } = &arguments.name;
    let author = named::author("undelete");
    let revived = match key {
        ManifestKey::Digest(digest) => storage.revive(repository, digest, &author),
        ManifestKey::Tag(tag) => storage.revive_tag(repository, tag, &author),
    };
    let Revived { digest, back, missing, mut tags } = revived.map_err(|error| Failure::of(&error))?;
    if let Some(tag) = &arguments.tag {
        storage.add_tag(repository, tag, &digest, &author).map_err(|error| Failure::of(&error))?;
        tags.push(tag.clone());
    }
    show::say(in_words(&format!("{repository}@{digest}"), back.len(), &tags))?;
    for lacks in &missing {
        show::note(format_args!("warning: it needs {lacks}, which is gone for good; a push brings it back"));
    }
    Ok(u8::from(!missing.is_empty()))
}

/// What came back of `name`: `count` things out of the trash, itself the first of them, and `tags`.
fn in_words(name: &str, count: usize, tags: &[String]) -> String {
    let tags = match tags {
        [] => String::new(),
        [tag] => format!("the tag {tag}"),
        tags => format!("the tags {}", tags.join(", ")),
    };
    match (count.checked_sub(1), tags.is_empty()) {
        (None, true) => format!("{name} was there all the time"),
        (None, false) => format!("{name} has {tags} again"),
        (Some(0), true) => format!("{name} is back"),
        (Some(0), false) => format!("{name} is back, with {tags}"),
        (Some(others), true) => format!("{name} is back, and {others} more that it needs"),
        (Some(others), false) => format!("{name} is back, with {tags}, and {others} more that it needs"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_back_is_said() {
        let tags = ["1".to_owned(), "2".to_owned()];
        for (count, tags, words) in [
            (0, &tags[..0], "r was there all the time"),
            (0, &tags[..1], "r has the tag 1 again"),
            (1, &tags[..0], "r is back"),
            (1, &tags[..], "r is back, with the tags 1, 2"),
            (4, &tags[..0], "r is back, and 3 more that it needs"),
            (4, &tags[..1], "r is back, with the tag 1, and 3 more that it needs"),
        ] {
            assert_eq!(in_words("r", count, tags), words);
        }
    }
}
