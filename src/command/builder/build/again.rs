//! Kept builds that are carried out once more: to look into a step, or to see whether the same comes out.

use super::{Arguments, Context, Parsed, build};
use crate::{
    app::Global,
    command::builder::debug::{self, Shell},
    error::Failure,
    request::output::{self, Kind, Usual},
};
use slipway_builder::{
    BuildOutput,
    history::{BuildRecord, StepRecord},
};
use slipway_oci::Digest;
use std::{path::Path, sync::OnceLock};

/// What a kept build is carried out again for.
#[derive(Clone, Copy, Default)]
pub(super) struct Purpose<'a> {
    /// Where its line was given.
    pub(super) folder: Option<&'a Path>,
    /// A step that must still be the one that it was.
    pub(super) step: Option<&'a StepRecord>,
    /// Who looks into steps.
    pub(super) shell: Option<&'a Shell>,
    /// Takes the digest of what was made.
    pub(super) made: Option<&'a OnceLock<Digest>>,
}

impl Purpose<'_> {
    /// Whether the step is still the one that it was.
    ///
    /// # Errors
    /// When it is not.
    pub(super) fn check(&self, context: &Context) -> Result<(), Failure> {
        self.step.map_or(Ok(()), |step| debug::still_is(step, &context.recipe, &context.recipe_name))
    }

    /// Tells what was made.
    pub(super) fn tell(&self, outputs: &[BuildOutput]) {
        if let (Some(made), Some(output)) = (self.made, outputs.last()) {
            let _ = made.set(output.image.manifest.digest.clone());
        }
    }
}

/// The arguments with which nothing is pushed or written, for the platform of a kept build. What its results are made into says what
/// its image is, and stays until it is read ([`keep_alone`]).
fn alone(arguments: Arguments, kept: &BuildRecord) -> Arguments {
    Arguments {
        // of several targets the one that this build was of
        targets: kept.target.clone().into_iter().collect(),
        quiet: true,
        platforms: kept.platform.parse().into_iter().collect(),
        cache_to: Vec::new(),
        iidfile: None,
        metadata_file: None,
        digest_file: None,
        image_name_with_digest_file: None,
        image_name_tag_with_digest_file: None,
        no_cache: false,
        no_cache_filter: Vec::new(),
        trace: None,
        watch: false,
        debug: false,
        ..arguments
    }
}

/// Leaves of the results of a line the images, in the form that they had, in the store and without a name.
pub(super) fn keep_alone(arguments: &mut Arguments, parsed: &mut Parsed) {
    arguments.tags.clear();
    parsed.outputs.retain(|output| output.kind.is_image());
    for output in &mut parsed.outputs {
        output.kind = Kind::Image { push: false, by_digest: false };
        output.names.clear();
    }
    if parsed.outputs.is_empty() {
        parsed.outputs = output::outputs(&[], Usual::default()).expect("a build has a result by itself");
    }
}

/// Builds as far as a step that is looked into.
pub(in crate::command::builder) fn look(
    global: &Global,
    arguments: Arguments,
    (kept, step, shell): (&BuildRecord, &StepRecord, &Shell),
) -> Result<(), Failure> {
    let folder = Some(Path::new(&kept.folder_of_line));
    let purpose = Purpose { folder, step: Some(step), shell: Some(shell), made: None };
    build(global, alone(arguments, kept), purpose).map(drop)
}

/// Builds once more without cached results; answers what was made.
pub(in crate::command::builder) fn again(
    global: &Global,
    arguments: Arguments,
    kept: &BuildRecord,
) -> Result<Digest, Failure> {
    let (made, folder) = (OnceLock::new(), Some(Path::new(&kept.folder_of_line)));
    let arguments = Arguments { no_cache: true, cache_from: Vec::new(), ..alone(arguments, kept) };
    build(global, arguments, Purpose { folder, made: Some(&made), ..Purpose::default() })?;
    made.into_inner().ok_or_else(|| Failure::new("the build made no image"))
}
