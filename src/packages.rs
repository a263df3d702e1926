//! The packages of images, listed in the words that were asked for.

use crate::{error::Failure, images::Images, request::attest::Format, show};
use serde_json::Value;
use slipway_builder::sbom::{self, About, CYCLONEDX_TYPE, Found, SPDX_TYPE};
use slipway_oci::store::{ImageRecord, LayerFiles};
use std::{collections::HashMap, path::Path, sync::Arc};

/// Looks an image of the store through; layers that are not here are fetched. What cannot be read is said.
pub(crate) fn list(images: &Images<'_>, record: &ImageRecord) -> Result<Found, Failure> {
    let (layers, tree) = images.runnable(record)?;
    let open: std::cell::RefCell<HashMap<usize, Arc<LayerFiles>>> = Default::default();
    let read = |layer: usize, path: &Path, most_bytes: u64| {
        let known = open.borrow().get(&layer).cloned();
        let files = match known {
            Some(files) => files,
            None => {
                let files = Arc::new(layers[layer].files()?);
                open.borrow_mut().insert(layer, files.clone());
                files
            }
        };
        files.read(path, most_bytes)
    };
    let found = sbom::scan(&tree, &read);
    for warning in &found.warnings {
        show::note(format_args!("warning: packages: {warning}"));
    }
    Ok(found)
}

/// The list as a document about an image, under what it is called.
pub(crate) fn document(
    found: &Found,
    format: Format,
    record: &ImageRecord,
    name: Option<&str>,
    created: &str,
) -> Value {
    let digest = &record.descriptor.digest;
    let own = digest.to_string();
    let about = About { name: name.unwrap_or(&own), digest, created, version: env!("CARGO_PKG_VERSION") };
    match format {
        Format::Spdx => sbom::spdx(found, &about),
        Format::Cyclonedx => sbom::cyclonedx(found, &about),
    }
}

/// What kind of statement such a document is.
pub(crate) fn predicate_type(format: Format) -> &'static str {
    match format {
        Format::Spdx => SPDX_TYPE,
        Format::Cyclonedx => CYCLONEDX_TYPE,
    }
}
