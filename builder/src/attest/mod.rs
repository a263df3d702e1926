//! What is said of an image beside it: statements about where it comes from and what is in it.
//!
//! A statement is in-toto's (`Statement v1`): whom it is about by digest, what kind of thing it says, and that. It is kept as the
//! only layer of an artifact that is attached to the image's manifest (image-spec `manifest.md`, "subject"), so the image has one
//! digest with it and without.
//!
//! ```text
//! image manifest <--subject-- manifest, artifactType application/vnd.in-toto+json
//!                               config: {} (application/vnd.oci.empty.v1+json)
//!                               layer:  the statement (application/vnd.in-toto+json), annotation in-toto.io/predicate-type
//! ```

mod material;
mod provenance;
mod statement;

pub use material::Material;
pub(crate) use material::Noted;
pub use provenance::{BUILD_TYPE, Mode, PROVENANCE_TYPE, Provenance, Vcs};
pub use statement::{ANNOTATION_PREDICATE, Attestation, STATEMENT_TYPE, attestation, image_uri};
