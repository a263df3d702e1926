//! What is attached to a manifest: the referrers API of a registry, and the tag that stands in for it where there is none
//! (distribution specification, "Listing Referrers" and "Referrers Tag Schema").

use super::{Inner, error::ClientError, manifest::ManifestBytes, place::At, progress::Progress, tags::Page};
use crate::{limits, protocol};
use reqwest::header::{self, HeaderMap, HeaderValue};
use slipway_oci::{
    Descriptor, Digest, Reference,
    spec::{Index, Parsed, media_type, to_json},
};
use std::collections::BTreeSet;

/// The tag that lists the referrers of a manifest where the registry does not: the algorithm cut to 32 characters, the rest to
/// 64, and what no tag can have replaced.
pub(super) fn fallback_tag(subject: &Digest) -> String {
    let plain = |text: &str, most: usize| -> String {
        text.chars().take(most).map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect()
    };
    format!("{}-{}", plain(subject.algorithm().name(), 32), plain(&subject.hex(), 64))
}

impl Inner {
    /// The referrers of the manifest that `subject` names by digest, of one type or of all.
    pub(super) async fn referrers(
        &self,
        subject: &Reference,
        artifact_type: Option<&str>,
        progress: &dyn Progress,
    ) -> Result<Vec<Descriptor>, ClientError> {
        let digest = subject.digest().expect("the caller resolved it").clone();
        let work = async |at: &At<'_>| self.referrers_at(at, &digest, artifact_type, progress).await;
        let mut all = self.ask_places(subject, progress, work).await?;
        let mut seen = BTreeSet::new();
        all.retain(|one| {
            let meant = artifact_type.is_none_or(|wanted| one.artifact_type.as_deref() == Some(wanted));
            meant && seen.insert(one.digest.clone())
        });
        Ok(all)
    }

    pub(super) async fn referrers_at(
        &self,
        at: &At<'_>,
        subject: &Digest,
        artifact_type: Option<&str>,
        progress: &dyn Progress,
    ) -> Result<Vec<Descriptor>, ClientError> {
        let mut url = at.endpoint.url(at.reference.repository(), &format!("referrers/{subject}"));
        if let Some(kind) = artifact_type {
            url.query_pairs_mut().append_pair("artifactType", kind);
        }
        let mut all = Vec::new();
        for _ in 0..limits::PAGES {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, HeaderValue::from_static(media_type::OCI_INDEX));
            let page = match self.page(at, url, headers, progress).await {
                // registries that do not know the path
                Err(error) if matches!(error.status(), Some(400 | 405 | 501)) => None,
                other => other?,
            };
            let Some(Page { bytes, next, .. }) = page.filter(is_index) else {
                return self.fallback(at, subject, progress).await;
            };
            all.extend(parse(at, &bytes)?.manifests);
            if all.len() > limits::REFERRERS {
                let what = "more referrers than are taken";
                return Err(ClientError::Protocol { host: at.endpoint.host(), method: "GET".into(), what });
            }
            match next {
                Some(next) => url = next,
                None => return Ok(all),
            }
        }
        let what = "pages of referrers without end";
        Err(ClientError::Protocol { host: at.endpoint.host(), method: "GET".into(), what })
    }

    /// What the tag lists; nothing where it is not there.
    async fn fallback(
        &self,
        at: &At<'_>,
        subject: &Digest,
        progress: &dyn Progress,
    ) -> Result<Vec<Descriptor>, ClientError> {
        Ok(self.fallback_index(at, subject, progress).await?.map(|index| index.manifests).unwrap_or_default())
    }

    async fn fallback_index(
        &self,
        at: &At<'_>,
        subject: &Digest,
        progress: &dyn Progress,
    ) -> Result<Option<Index>, ClientError> {
        let tagged = format!("{}:{}", at.reference.name(), fallback_tag(subject));
        let tagged: Reference = tagged.parse().expect("a name with such a tag is a reference");
        let at = At { endpoint: at.endpoint.clone(), reference: &tagged, policy: at.policy, trace: at.trace };
        match self.manifest_at(&at, progress).await {
            Ok((descriptor, bytes)) => match Parsed::from_bytes(&bytes, Some(&descriptor.media_type)) {
                Ok(Parsed::Index(index)) => Ok(Some(*index)),
                _ => Ok(None),
            },
            Err(ClientError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Lists a manifest under the tag of its subject, for a registry that has no list of its own.
    pub(super) async fn list_by_tag(
        &self,
        target: &Reference,
        subject: &Digest,
        referrer: &Descriptor,
        progress: &dyn Progress,
    ) -> Result<(), ClientError> {
        let endpoint = self.own_endpoint(target).await?;
        let at = At { endpoint, reference: target, policy: &self.policy, trace: None };
        let mut index = self.fallback_index(&at, subject, progress).await?.unwrap_or_else(|| Index {
            schema_version: 2,
            media_type: Some(media_type::OCI_INDEX.to_owned()),
            artifact_type: None,
            manifests: Vec::new(),
            subject: None,
            annotations: Default::default(),
        });
        if index.manifests.iter().any(|one| one.digest == referrer.digest) {
            return Ok(());
        }
        index.manifests.push(referrer.clone());
        let bytes = to_json(&index);
        let descriptor = Descriptor::of(media_type::OCI_INDEX, &bytes);
        let manifest = ManifestBytes { descriptor: &descriptor, bytes: &bytes };
        self.send_manifest(target, &fallback_tag(subject), manifest, None, progress).await.map(drop)
    }
}

/// Whether a reply is a list of referrers, and no page that something else answers with.
fn is_index(page: &Page) -> bool {
    let kind = page.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    kind.is_some_and(|kind| {
        kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(media_type::OCI_INDEX)
    })
}

fn parse(at: &At<'_>, bytes: &[u8]) -> Result<Index, ClientError> {
    let wrong = |source| ClientError::Manifest { host: at.endpoint.host(), source };
    match Parsed::from_bytes(bytes, Some(media_type::OCI_INDEX)).map_err(wrong)? {
        Parsed::Index(index) => Ok(*index),
        Parsed::Manifest(_) => {
            let what = "a list of referrers that is none";
            Err(ClientError::Protocol { host: at.endpoint.host(), method: "GET".into(), what })
        }
    }
}

/// How a referrer is listed (distribution specification, "Listing Referrers").
pub(super) fn listed(manifest: &ManifestBytes<'_>, parsed: &Parsed) -> Descriptor {
    let mut descriptor = manifest.descriptor.clone();
    let (kind, annotations) = match parsed {
        Parsed::Manifest(image) => {
            let own = image.artifact_type.clone().filter(|kind| !kind.is_empty());
            (Some(own.unwrap_or_else(|| image.config.media_type.clone())), &image.annotations)
        }
        Parsed::Index(index) => (index.artifact_type.clone(), &index.annotations),
    };
    descriptor.artifact_type = kind;
    descriptor.annotations = annotations.clone();
    descriptor.platform = None;
    descriptor
}

/// Whether the registry lists the manifest among its subject's referrers itself.
pub(super) fn is_listed(headers: &HeaderMap) -> bool {
    headers.contains_key(protocol::SUBJECT_HEADER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tag_is_of_the_schema() {
        let digest = Digest::sha256(b"x");
        assert_eq!(fallback_tag(&digest), format!("sha256-{}", digest.hex()));
        let long: Digest = format!("sha512:{}", "ab".repeat(64)).parse().expect("a digest");
        assert_eq!(fallback_tag(&long), format!("sha512-{}", "ab".repeat(32)));
    }
}
