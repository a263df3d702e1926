//! Blobs of layers beside the usual one of their media type: compressed at another level, or in chunks. A form's row says which
//! (`media type;variant`), so that what is built does not depend on what was built before.

use super::{Kind, LayerForm, Store, StoreError, manifests::write_form};
use crate::{Descriptor, Digest};

/// Says of a blob of the store how it differs from the usual one of its media type (`level=9`, `estargz`), so that neither is
/// taken for the other. No manifest has it.
pub const ANNOTATION_VARIANT: &str = "dev.slipway.variant";

/// Whether a form is another one than the usual of its media type.
pub(super) fn is_variant(form: &LayerForm) -> bool {
    form.descriptor.annotations.contains_key(ANNOTATION_VARIANT)
}

impl Store {
    /// The blob of the layer that is its `variant` ([`ANNOTATION_VARIANT`]) and here, and the length of its archive in bytes.
    pub fn variant_form(
        &self,
        diff_id: &Digest,
        variant: &str,
    ) -> Result<Option<(Descriptor, u64)>, StoreError> {
        let is_wanted = |form: &LayerForm| {
            form.descriptor.annotations.get(ANNOTATION_VARIANT).is_some_and(|own| own == variant)
        };
        for form in self.layer_forms(diff_id)?.into_iter().filter(is_wanted) {
            if self.blobs().contains(&form.descriptor.digest)? {
                let archive_bytes: i64 = self
                    .database()
                    .prepare_cached("SELECT archive FROM layers WHERE diff_id = ?1")?
                    .query_row([diff_id.to_string()], |row| row.get(0))?;
                let descriptor = Descriptor { annotations: Default::default(), ..form.descriptor };
                return Ok(Some((descriptor, archive_bytes as u64)));
            }
        }
        Ok(None)
    }

    /// Notes that a blob that is here is the layer's `variant`; its archive has `archive_bytes` bytes.
    pub fn put_variant(&self, form: &LayerForm, variant: &str, archive_bytes: u64) -> Result<(), StoreError> {
        assert!(!variant.is_empty() && !variant.contains(';'), "a variant has a name");
        let media_type = format!("{};{variant}", form.descriptor.media_type);
        let descriptor =
            Descriptor::new(media_type, form.descriptor.digest.clone(), form.descriptor.size_bytes);
        self.holder.rely(Kind::Layer, &form.diff_id)?;
        let mut database = self.database();
        let transaction = database.transaction()?;
        let marked = LayerForm { diff_id: form.diff_id.clone(), descriptor };
        write_form(&transaction, &marked, archive_bytes)?;
        Ok(transaction.commit()?)
    }
}
