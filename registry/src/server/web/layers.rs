//! Layers that a page looks into: a few requests at a time read them.

use super::{
    listing::{Cut, Listing},
    visit::Visit,
};
use crate::{limits, server::error::ApiError};
use slipway_oci::Digest;
use std::{sync::Arc, time::Instant};

/// The lists of layers, the base first; a few requests at a time read them.
pub(in crate::server) async fn of(
    visit: &Visit,
    repository: &str,
    digests: Vec<Digest>,
) -> Result<Vec<Arc<Listing>>, ApiError> {
    let permit = readers(visit).await?;
    let (shared, name) = (Arc::clone(&visit.shared), repository.to_owned());
    visit
        .look(move |storage| {
            let until = Instant::now() + limits::WEB_FILES_TIME;
            let mut left = limits::WEB_IMAGE_PATHS;
            let mut lists = Vec::with_capacity(digests.len());
            for digest in &digests {
                if left == 0 {
                    lists.push(Arc::new(Listing::none(Cut::Paths)));
                    continue;
                }
                let list = shared.pages.lists.of(storage, &name, digest, until)?;
                left = left.saturating_sub(list.rows.len());
                lists.push(list);
            }
            drop(permit);
            Ok(lists)
        })
        .await
}

/// A turn to read something large.
pub(in crate::server) async fn readers(visit: &Visit) -> Result<tokio::sync::OwnedSemaphorePermit, ApiError> {
    let wait = Arc::clone(&visit.shared.pages.lists.readers).acquire_owned();
    match tokio::time::timeout(limits::WEB_WAIT, wait).await {
        Ok(permit) => Ok(permit.expect("the semaphore is never closed")),
        Err(_) => Err(ApiError::Busy),
    }
}
