//! Words about an image that is not there: what is near it in the store, how its name was understood, whose platform
//! it has.

use crate::error::Failure;
use slipway_oci::{
    Platform, Reference,
    store::{Store, StoreError},
};
use slipway_registry::client::ClientError;

/// Most names that a hint lists.
const NAMES: usize = 5;

/// What a caller may have meant by a name that the store lacks, as a hint.
pub(crate) fn hint(store: &Store, text: &str) -> Option<String> {
    let images = store.list_images().ok()?;
    let names: Vec<String> =
        images.iter().filter_map(|image| Some(image.name.as_ref()?.familiar())).collect();
    meant(text, &names)
}

fn meant(text: &str, names: &[String]) -> Option<String> {
    let reference = text.parse::<Reference>().ok();
    let wanted = reference.map_or_else(|| text.to_owned(), |reference| reference.or_latest().familiar());
    let repository = |name: &str| name.parse::<Reference>().map(|reference| reference.name()).ok();
    let own = repository(&wanted);
    let tags: Vec<&str> = names
        .iter()
        .map(String::as_str)
        .filter(|name| own.is_some() && repository(name) == own && *name != wanted)
        .take(NAMES)
        .collect();
    if !tags.is_empty() {
        return Some(format!("the store has `{}`", tags.join("`, `")));
    }
    // a registry's name in front, or none, is the usual slip
    let last = |name: &str| name.rsplit('/').next().unwrap_or_default().to_owned();
    let same = names.iter().find(|name| **name != wanted && last(name) == last(&wanted));
    let near = same.map(String::as_str).or_else(|| {
        // tags would drown the difference of two short names
        let bare = |name: &str| name.parse::<Reference>().ok().map(|reference| reference.familiar_name());
        let repositories: Vec<(String, &str)> =
            names.iter().filter_map(|name| Some((bare(name)?, name.as_str()))).collect();
        let near =
            slipway_dockerfile::nearest(&bare(&wanted)?, repositories.iter().map(|(bare, _)| bare.as_str()))?;
        let own = repositories.iter().find(|(bare, name)| bare == near && *name != wanted);
        own.map(|(_, name)| *name)
    });
    near.map(|near| format!("did you mean `{near}`, which is in the store?"))
}

/// An image that the store lacks; `meant` is what the name stands for on this machine, if anything.
pub(crate) fn missing(store: &Store, text: &str, meant: &[Reference]) -> Failure {
    let failure = match understood(text, meant) {
        Some(words) => Failure::new(format!("{words}, which is not in the store"))
            .with_hint(format!("`slipway images` lists what is there, `slipway pull {text}` fetches it")),
        None => Failure::of(&StoreError::NoImage(text.to_owned())),
    };
    match hint(store, text) {
        Some(near) => failure.with_hint(near),
        None => failure,
    }
}

/// What a short name was understood as, where it can be nothing else: digits may be an id.
fn understood(text: &str, meant: &[Reference]) -> Option<String> {
    let id = text.strip_prefix("sha256:").unwrap_or(text);
    let (short, first) = (text.parse::<Reference>().ok()?, meant.first()?);
    if !short.is_short() || id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    if meant == [short.or_latest()] {
        return Some(format!("`{text}` means `{first}`"));
    }
    let names: Vec<String> = meant.iter().map(|name| format!("`{name}`")).collect();
    Some(format!("`{text}` means {} here (registries.conf)", names.join(" or ")))
}

/// A failure to find an image in its registry. A name without a registry says what it was understood as.
pub(crate) fn unfound(store: &Store, reference: &Reference, error: &ClientError) -> Failure {
    let failure = Failure::of(error);
    if !is_away(error) {
        return failure;
    }
    let failure = match is_hub(reference) {
        true => failure.about(format!("`{}` means `{reference}` of Docker Hub", reference.familiar())),
        false => failure,
    };
    // it was asked for because what is here is for another platform
    if let Ok(Some(target)) = store.find_reference(reference)
        && let Ok(image) = store.read_image(&target)
    {
        let (name, platform) = (reference.familiar(), image.config.platform);
        return failure
            .with_hint(format!("the store's `{name}` is for {platform}: --platform {platform} takes it"));
    }
    match hint(store, &reference.familiar()) {
        Some(near) => failure.with_hint(near),
        None => failure,
    }
}

/// A failure to send an image, which has to have its registry in its name.
pub(crate) fn unsent(reference: &Reference, error: &ClientError) -> Failure {
    let failure = Failure::of(error);
    if !is_away(error) || !is_hub(reference) {
        return failure;
    }
    let name = reference.familiar();
    let failure = failure.about(format!("`{name}` means `{reference}` of Docker Hub"));
    // who has no account there means another registry
    match error {
        ClientError::Denied { credentials: true, .. } => failure,
        _ => failure.with_hint(format!(
            "name another registry: `slipway push {name} HOST/{name}`; the Hub wants `docker login`"
        )),
    }
}

/// Whether a registry is out of reach, or gives nothing to who asks.
fn is_away(error: &ClientError) -> bool {
    matches!(
        error,
        ClientError::Lookup { .. }
            | ClientError::Connect { .. }
            | ClientError::NotFound { .. }
            | ClientError::Denied { .. }
    )
}

fn is_hub(reference: &Reference) -> bool {
    reference.registry() == slipway_oci::reference::DEFAULT_REGISTRY
}

/// An image for another platform than the one that was asked for: asked for, image and machine each have a name.
pub(crate) fn other_platform(name: &str, image: &Platform, asked: &Platform, machine: &Platform) -> Failure {
    let words = match asked == machine {
        true => format!("`{name}` is for {image}, this machine is {machine}"),
        false => format!("`{name}` is for {image}, {asked} was asked for, and this machine is {machine}"),
    };
    Failure::new(words)
        .with_hint(format!("`slipway pull --platform {asked} {name}` asks its registry for another"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_near_is_named() {
        let names = ["app:1", "app:2", "localhost:5000/team/web:latest", "debian:12"].map(str::to_owned);
        for (text, expected) in [
            ("app", Some("the store has `app:1`, `app:2`")),
            ("app:1", Some("the store has `app:2`")),
            ("debain:12", Some("did you mean `debian:12`, which is in the store?")),
            ("web", Some("did you mean `localhost:5000/team/web:latest`, which is in the store?")),
            ("registry.test/debian:12", Some("did you mean `debian:12`, which is in the store?")),
            ("appp", Some("did you mean `app:1`, which is in the store?")),
            ("debain:13-slim-with-more", Some("did you mean `debian:12`, which is in the store?")),
            ("quite-other", None),
            ("Not A Name", None),
        ] {
            assert_eq!(meant(text, &names).as_deref(), expected, "{text}");
        }
        assert_eq!(meant("app", &[]), None);
    }

    #[test]
    fn three_platforms_have_three_names() {
        let at = |text: &str| text.parse::<Platform>().expect("platform");
        let (amd, arm, risc) = (at("linux/amd64"), at("linux/arm64"), at("linux/riscv64"));
        assert_eq!(
            other_platform("x", &amd, &arm, &amd).words(),
            "`x` is for linux/amd64, linux/arm64 was asked for, and this machine is linux/amd64"
        );
        assert_eq!(
            other_platform("x", &arm, &risc, &amd).words(),
            "`x` is for linux/arm64, linux/riscv64 was asked for, and this machine is linux/amd64"
        );
        assert_eq!(
            other_platform("x", &arm, &amd, &amd).words(),
            "`x` is for linux/arm64, this machine is linux/amd64"
        );
    }

    #[test]
    fn a_name_without_a_registry_says_what_it_was_understood_as() {
        let folder = tempfile::tempdir().expect("folder");
        let store = Store::open(folder.path(), slipway_oci::layer::OverlayXattrs::User).expect("store");
        let lost = |host: &str| ClientError::Lookup { host: host.into(), why: "no such host".into() };
        let words = |name: &str, host: &str| {
            let reference = name.parse::<Reference>().expect("reference").or_latest();
            unfound(&store, &reference, &lost(host)).words()
        };
        assert_eq!(
            words("app", "registry-1.docker.io"),
            "`app:latest` means `docker.io/library/app:latest` of Docker Hub: cannot find `registry-1.docker.io`: \
             no such host"
        );
        assert_eq!(words("r.test/app:1", "r.test"), "cannot find `r.test`: no such host");
    }
}
