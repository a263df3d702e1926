//! Rows of manifests, what they need and what they are called. Each is written only where it is not there as it should be:
//! a manifest never changes, so whoever builds or pulls what is here writes nothing, and nothing has to be synced.

use super::{LayerForm, StoreError, now};
use crate::{
    Descriptor, Digest, Platform, Reference, limits,
    spec::{ImageConfig, Index, Manifest},
};
use rusqlite::Transaction;

/// A row of `manifests`.
pub(super) struct ManifestRow<'a> {
    pub(super) digest: &'a Digest,
    pub(super) kind: &'static str,
    pub(super) media_type: &'a str,
    pub(super) size_bytes: u64,
    pub(super) config: Option<String>,
    pub(super) platform: Option<String>,
    pub(super) built: Option<i64>,
}

impl ManifestRow<'_> {
    /// Writes the row. One that is there keeps when it came, and to the [hour](limits::USED_GRAIN) also when it was used,
    /// and when it was built unless it was built again.
    pub(super) fn write(self, transaction: &Transaction<'_>) -> Result<(), StoreError> {
        let now = now();
        transaction
            .prepare_cached(
                "INSERT INTO manifests (digest, kind, media_type, size, config, platform, built, added, used)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?8)
                 ON CONFLICT (digest) DO UPDATE SET used = ?8, built = coalesce(?7, built)
                     WHERE used < ?9 OR coalesce(built, 0) < coalesce(?7, built, 0) - ?10",
            )?
            .execute((
                self.digest.to_string(),
                self.kind,
                self.media_type,
                self.size_bytes as i64,
                self.config,
                self.platform,
                self.built,
                now,
                now - limits::USED_GRAIN,
                limits::USED_GRAIN,
            ))?;
        Ok(())
    }
}

/// Gives a manifest its names; who had them before loses them.
pub(super) fn write_names(
    transaction: &Transaction<'_>,
    digest: &Digest,
    names: &[Reference],
) -> Result<(), StoreError> {
    let now = now();
    for name in names {
        let name = name.clone().or_latest();
        transaction
            .prepare_cached(
                "INSERT INTO names (reference, digest, updated, used) VALUES (?1, ?2, ?3, ?3)
                 ON CONFLICT (reference) DO UPDATE SET digest = ?2, updated = ?3, used = ?3
                     WHERE digest != ?2 OR used < ?4",
            )?
            .execute((name.to_string(), digest.to_string(), now, now - limits::USED_GRAIN))?;
    }
    Ok(())
}

/// Notes that `form` is a blob of its layer, whose archive has `archive_bytes` bytes; 0 where that is not known.
pub(super) fn write_form(
    transaction: &Transaction<'_>,
    form: &LayerForm,
    archive_bytes: u64,
) -> Result<(), StoreError> {
    let diff_id = form.diff_id.to_string();
    transaction
        .prepare_cached(
            "INSERT INTO layers (diff_id, archive, used) VALUES (?1, ?2, ?3)
             ON CONFLICT (diff_id) DO UPDATE SET archive = ?2 WHERE archive < ?2",
        )?
        .execute((&diff_id, archive_bytes as i64, now()))?;
    transaction
        .prepare_cached(
            "INSERT INTO forms (diff_id, digest, media_type, size) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (diff_id, digest) DO UPDATE SET media_type = ?3, size = ?4
                 WHERE (media_type != ?3 AND media_type NOT LIKE ?3 || ';%') OR size != ?4",
        )?
        .execute((
            &diff_id,
            form.descriptor.digest.to_string(),
            &form.descriptor.media_type,
            form.descriptor.size_bytes as i64,
        ))?;
    Ok(())
}

/// One thing that a manifest needs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Edge<'a> {
    kind: &'static str,
    child: &'a Descriptor,
    diff_id: Option<&'a Digest>,
}

impl<'a> Edge<'a> {
    /// An image's configuration and layers; without `config`, which no artifact has, no layer's diff id is known.
    pub(super) fn of_manifest(manifest: &'a Manifest, config: Option<&'a ImageConfig>) -> Vec<Edge<'a>> {
        let diff_id = |at: usize| config.and_then(|config| config.rootfs.diff_ids.get(at));
        let layers = manifest.layers.iter().enumerate();
        std::iter::once(Edge { kind: "config", child: &manifest.config, diff_id: None })
            .chain(layers.map(|(at, child)| Edge { kind: "layer", child, diff_id: diff_id(at) }))
            .collect()
    }

    /// The manifests of an index.
    pub(super) fn of_index(index: &'a Index) -> Vec<Edge<'a>> {
        index.manifests.iter().map(|child| Edge { kind: "manifest", child, diff_id: None }).collect()
    }

    fn row(&self, parent: &Digest, place: usize) -> Row {
        let child = self.child;
        (
            parent.to_string(),
            place as i64,
            self.kind.to_owned(),
            child.digest.to_string(),
            child.media_type.clone(),
            child.size_bytes as i64,
            self.diff_id.map(Digest::to_string),
            child.platform.as_ref().map(Platform::to_string),
        )
    }
}

/// The first place of what is attached to a manifest among its edges: far behind what it names itself
/// ([`limits::INDEX_ENTRIES`], [`limits::MANIFEST_LAYERS`]).
pub(super) const FIRST_REFERRER: i64 = 1 << 32;

/// A row of `edges`: parent, place, kind, child, media type, size, diff id, platform.
type Row = (String, i64, String, String, String, i64, Option<String>, Option<String>);

/// Writes what a manifest needs, in its order. What is attached to it stays.
pub(super) fn write_edges(
    transaction: &Transaction<'_>,
    parent: &Digest,
    edges: &[Edge<'_>],
) -> Result<(), StoreError> {
    let wanted: Vec<Row> = edges.iter().enumerate().map(|(at, edge)| edge.row(parent, at)).collect();
    let found: Vec<Row> = transaction
        .prepare_cached(
            "SELECT parent, place, kind, child, media_type, size, diff_id, platform FROM edges
             WHERE parent = ?1 AND kind != 'referrer' ORDER BY place",
        )?
        .query_map([parent.to_string()], |row| Row::try_from(row))?
        .collect::<Result<_, _>>()?;
    if found == wanted {
        return Ok(());
    }
    transaction
        .prepare_cached("DELETE FROM edges WHERE parent = ?1 AND kind != 'referrer'")?
        .execute([parent.to_string()])?;
    for row in wanted {
        transaction
            .prepare_cached(
                "INSERT INTO edges (parent, place, kind, child, media_type, size, diff_id, platform)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            )?
            .execute(row)?;
    }
    Ok(())
}
