//! The store's own list of multipart uploads that were begun and never ended, which `object_store` has no request for.

use super::bucket::Bucket;
use crate::{
    limits,
    server::storage::{StorageError, error::StoreFailure},
};
use object_store::{
    path::Path,
    signer::{SignedUrlOptions, Signer},
};
use serde::Deserialize;
use slipway_oci::spec::rfc3339;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// An upload that is under way, or was left.
pub(super) struct Unfinished {
    /// What it would become, below the prefix.
    pub(super) key: String,
    /// The store's name for it.
    pub(super) id: String,
    pub(super) begun: SystemTime,
}

/// Where the next page begins: after an upload of a key.
pub(super) struct Marker {
    key: String,
    id: String,
}

/// A part of the list.
pub(super) struct Page {
    pub(super) uploads: Vec<Unfinished>,
    pub(super) next: Option<Marker>,
}

/// What a store answers (ListMultipartUploads).
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    #[serde(default)]
    is_truncated: bool,
    #[serde(default)]
    next_key_marker: String,
    #[serde(default)]
    next_upload_id_marker: String,
    #[serde(default)]
    upload: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    key: String,
    upload_id: String,
    initiated: String,
}

fn failed(source: Box<dyn std::error::Error + Send + Sync>) -> StorageError {
    let source = object_store::Error::Generic { store: "S3", source };
    StoreFailure { operation: "list unfinished uploads of", key: "the bucket".to_owned(), source }.into()
}

impl Bucket {
    /// A part of the unfinished uploads below the prefix.
    pub(super) fn unfinished(&self, from: Option<&Marker>) -> Result<Page, StorageError> {
        let prefix = self.key("").to_string();
        let mut query = vec![
            ("uploads", String::new()),
            ("max-uploads", limits::STORE_LIST.to_string()),
            ("prefix", if prefix.is_empty() { prefix } else { format!("{prefix}/") }),
        ];
        if let Some(Marker { key, id }) = from {
            query.extend([("key-marker", key.clone()), ("upload-id-marker", id.clone())]);
        }
        let options = SignedUrlOptions::new().with_query(query);
        let text = self.fetch(options)?.map_err(failed)?;
        let answer: Answer = quick_xml::de::from_str(&text).map_err(|error| failed(error.into()))?;
        let (key, id) = (answer.next_key_marker, answer.next_upload_id_marker);
        let next = (answer.is_truncated && !key.is_empty()).then_some(Marker { key, id });
        let uploads = answer.upload.into_iter().filter_map(|entry| {
            // one without a date that can be read may be under way
            let begun = u64::try_from(rfc3339::parse(&entry.initiated)?).ok()?;
            let key = self.name(&Path::parse(&entry.key).ok()?).to_owned();
            Some(Unfinished { key, id: entry.upload_id, begun: UNIX_EPOCH + Duration::from_secs(begun) })
        });
        Ok(Page { uploads: uploads.collect(), next })
    }

    /// What the store answers to a request about the bucket itself.
    fn fetch(
        &self,
        options: SignedUrlOptions,
    ) -> Result<Result<String, Box<dyn std::error::Error + Send + Sync>>, StorageError> {
        let (store, http) = (self.store(), self.http());
        let fetched = self.wait(async move {
            let time = limits::STORE_PATIENCE;
            let url = store.signed_url_opts(reqwest::Method::GET, &Path::default(), time, &options).await?;
            let reply = http.get(url).timeout(time).send().await.map_err(reqwest::Error::without_url)?;
            let mut reply = reply.error_for_status().map_err(reqwest::Error::without_url)?;
            let mut text = Vec::new();
            while let Some(piece) = reply.chunk().await.map_err(reqwest::Error::without_url)? {
                if text.len() + piece.len() > limits::STORE_LIST_BYTES {
                    return Err("the list is longer than any page is".into());
                }
                text.extend_from_slice(&piece);
            }
            Ok(String::from_utf8(text)?)
        });
        fetched.ok_or(StorageError::Stopped)
    }
}
