//! `slipway delete`.

use crate::{
    app::Global,
    error::Failure,
    remote::{self, Remote},
    show,
};
use serde_json::json;
use slipway_oci::Reference;
use slipway_registry::client::ClientError;

/// Delete tags or manifests in a registry.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Write a JSON object a deletion
    #[arg(long)]
    json: bool,
    /// What to delete: NAME:TAG takes the tag alone away, NAME@DIGEST the manifest with every tag on it
    #[arg(required = true, value_name = "REFERENCE")]
    references: Vec<Reference>,
}

/// Carries the command out.
pub(crate) fn run(global: &Global, arguments: &Arguments) -> Result<u8, Failure> {
    // nothing is deleted where something of the line is wrong
    arguments.references.iter().try_for_each(|reference| remote::exact(reference, "delete"))?;
    let remote = Remote::open(global)?;
    for reference in &arguments.references {
        let reference = remote.meant(reference);
        // what is gone is known by what it was
        let digest = remote.resolve(&reference, None)?.digest;
        let target = match reference.digest() {
            Some(digest) => remote::by_digest(&reference, digest),
            None => reference.clone(),
        };
        remote.client.delete_manifest(&target).map_err(|error| refused(&reference, &error))?;
        let name = reference.familiar_name();
        match reference.tag().filter(|_| reference.digest().is_none()) {
            _ if arguments.json => show::say(json!({
                "name": reference.name(),
                "tag": reference.tag().filter(|_| reference.digest().is_none()),
                "digest": digest,
            }))?,
            Some(tag) => show::say(format!("deleted the tag `{name}:{tag}`; {digest} stays"))?,
            None => show::say(format!("deleted {name}@{digest} with every tag on it"))?,
        }
    }
    Ok(0)
}

/// A registry that deletes nothing, or no tags: distribution before its third version does not know them.
fn refused(reference: &Reference, error: &ClientError) -> Failure {
    let failure = Failure::of(error);
    let ClientError::Status { status: 400 | 404 | 405 | 501, .. } = error else { return failure };
    match reference.tag().filter(|_| reference.digest().is_none()) {
        Some(_) => failure.with_hint(format!(
            "some registries delete by digest alone, with every tag on it; `slipway digest {}` shows the digest",
            reference.familiar()
        )),
        None => failure.with_hint("the registry may not allow deletes"),
    }
}
