//! `slipway promote`.

use super::copy::scratch;
use crate::{
    app::{App, Global},
    error::Failure,
    exchange::{self, Bundle, Origin},
    progress::Choice,
    remote::{self, Remote},
    show,
};
use serde_json::json;
use slipway_oci::{Digest, Reference};
use slipway_registry::client::{ClientError, Condition};

/// Let a tag stand for what another one stands for, by digest, unless somebody else moved it meanwhile.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// What the tag has to stand for now [default: what it stands for when the command begins]
    #[arg(long, value_name = "DIGEST")]
    if_match: Option<Digest>,
    /// What is attached goes along: signatures, SBOMs, attestations
    #[arg(long)]
    referrers: bool,
    /// Write JSON: what it stands for, and stood for before
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    shown: Choice,
    /// What is promoted
    #[arg(value_name = "FROM")]
    from: Reference,
    /// The tag that is to stand for it, in the same registry or another
    #[arg(value_name = "TO")]
    to: Reference,
}

/// Carries the command out.
pub(crate) fn run(global: &Global, arguments: &Arguments) -> Result<u8, Failure> {
    remote::exact(&arguments.from, "promote")?;
    if arguments.to.tag().is_none() || arguments.to.digest().is_some() {
        return Err(Failure::usage(format!("`{}` names no tag to promote to", arguments.to)));
    }
    let app = App::open(global)?;
    let remote = Remote::open(global)?;
    let show = arguments.shown.show();
    let (from, to) = (remote.meant(&arguments.from), remote.meant(&arguments.to));
    let before = now(&remote, &to)?;
    if let Some(expected) = arguments.if_match.as_ref().filter(|expected| before.as_ref() != Some(*expected))
    {
        let found = before.map_or_else(|| "is not there".to_owned(), |digest| format!("stands for {digest}"));
        return Err(Failure::new(format!(
            "`{}` {found}, and not for {expected}: nothing was changed",
            to.familiar()
        )));
    }
    let top = remote.resolve(&from, None)?;
    if before.as_ref() != Some(&top.digest) {
        let scratch = scratch(&app)?;
        let origin = Origin::Registry(&remote, from);
        let bundle = Bundle::gather(&origin, &top, None, arguments.referrers)?;
        let condition = before.clone().map_or(Condition::Absent, Condition::Is);
        let blobs = scratch.blobs();
        exchange::to_registry(&remote, &origin, &bundle, &to, Some(&condition), blobs, &*show)?;
        let found = now(&remote, &to)?;
        if found.as_ref() != Some(&top.digest) {
            let words = format!("`{}` was moved by somebody else: it is not {}", to.familiar(), top.digest);
            return Err(Failure::new(words));
        }
    }
    if arguments.json {
        let tag = to.familiar();
        show::say(json!({ "tag": tag, "digest": top.digest, "before": before }))?;
    } else {
        show::say(format!("{} is {}", to.familiar(), top.digest))?;
    }
    Ok(0)
}

/// What a tag stands for, if it is there.
fn now(remote: &Remote, tag: &Reference) -> Result<Option<Digest>, Failure> {
    match remote.client.resolve(tag) {
        Ok(descriptor) => Ok(Some(descriptor.digest)),
        Err(ClientError::NotFound { .. }) => Ok(None),
        Err(error) => Err(Failure::of(&error)),
    }
}
