//! Signatures of images, in cosign's forms, and who is believed.
//!
//! - [`key`]: pairs of keys: cosign's encrypted ones, plain PKCS #8, and public keys of others.
//! - [`payload`]: what is signed: simple signing (containers/image, `docs/containers-signature.5.md`), and sigstore's bundles.
//! - [`collect`]: where signatures are found: the tag `sha256-HEX.sig`, what is attached to the image, the store.
//! - [`policy`]: what `policy.json` asks of which images (containers-policy.json(5)).
//! - [`guard`]: asks it of the images that are used here.

pub(crate) mod collect;
pub(crate) mod guard;
pub(crate) mod key;
pub(crate) mod payload;
pub(crate) mod policy;
