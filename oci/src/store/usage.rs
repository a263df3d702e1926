//! What the store holds, and what of it costs how much disk.
//!
//! Each byte is counted once in the [totals](Account::totals): what an image needs is the images', what only results of steps
//! need is theirs, and what neither names is loose. What is said to be reclaimable is what `prune` with everything allowed
//! takes off the disk; what a living process relies on is not.

mod weights;

use super::{Store, StoreError, hold::Relied};
use crate::file;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    fs,
    path::Path,
};
use weights::{Weights, last_used};

/// What a record is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RecordKind {
    /// An image, or an index, with its layers.
    Image,
    /// What a step of a build led to: a layer.
    Step,
    /// A cache of `RUN --mount=type=cache`.
    Cache,
    /// What is remembered of a build context's files.
    Context,
    /// What a build was: its record and the output of its steps.
    Build,
    /// What a container has written, and its log.
    Container,
    /// Blobs and layers that nothing names: of something that is being made, or that was given up.
    Loose,
    /// The store's own: its database, what is being written, room for deletes.
    Own,
}

impl RecordKind {
    /// All of them, in the order in which they are shown.
    pub const ALL: [RecordKind; 8] = [
        RecordKind::Image,
        RecordKind::Step,
        RecordKind::Cache,
        RecordKind::Context,
        RecordKind::Build,
        RecordKind::Container,
        RecordKind::Loose,
        RecordKind::Own,
    ];

    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            RecordKind::Image => "image",
            RecordKind::Step => "step",
            RecordKind::Cache => "cache",
            RecordKind::Context => "context",
            RecordKind::Build => "build",
            RecordKind::Container => "container",
            RecordKind::Loose => "loose",
            RecordKind::Own => "own",
        }
    }

    /// Whether builds have kept it to be quick, so that it is bounded and pruned with the others of which that is so.
    pub fn is_kept_for_builds(self) -> bool {
        matches!(self, RecordKind::Step | RecordKind::Cache | RecordKind::Context)
    }
}

/// One thing in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// What it is.
    pub kind: RecordKind,
    /// A digest, or a name of its own.
    pub id: String,
    /// For people: names, the step, the cache's id. What others wrote is in it as they wrote it.
    pub about: String,
    /// Bytes of disk, with what it shares.
    pub bytes: u64,
    /// How many of them something else needs too.
    pub shared_bytes: u64,
    /// How many would leave the disk if it alone went; 0 while it is in use.
    pub reclaimable_bytes: u64,
    /// When it was last used, in seconds since 1970, where that is noted.
    pub used: Option<i64>,
    /// Whether a living process relies on it.
    pub in_use: bool,
}

/// One kind of thing in the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// How many there are.
    pub count: usize,
    /// How many of them another living process relies on.
    pub active: usize,
    /// Bytes of disk that they take.
    pub bytes: u64,
    /// How much of that several of them, or another kind, need.
    pub shared_bytes: u64,
    /// How much of that `prune` can take off the disk.
    pub reclaimable_bytes: u64,
}

/// What takes the store's room.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Each thing; of results of steps those that cost something.
    pub records: Vec<Record>,
    /// By kind, each byte once.
    pub totals: BTreeMap<RecordKind, Share>,
}

impl Account {
    /// The total of a kind.
    pub fn total(&self, kind: RecordKind) -> Share {
        self.totals.get(&kind).copied().unwrap_or_default()
    }
}

/// What images need: blobs, and diff ids of layers.
#[derive(Default)]
pub(super) struct Needed {
    pub(super) blobs: BTreeSet<String>,
    pub(super) layers: BTreeSet<String>,
}

/// A top manifest: what it is called, when it was used, and what it needs.
struct Top {
    digest: String,
    names: Vec<String>,
    used: i64,
    needed: Needed,
}

/// What the account is made of.
struct Books<'a> {
    store: &'a Store,
    weights: Weights,
    needed: Needed,
    /// Layers that results of steps are, with their last use and their words.
    cached: BTreeMap<String, (i64, String)>,
    /// What the living rely on, with the blobs of the layers among it.
    relied: Relied,
}

impl Store {
    /// What the images need.
    pub(super) fn needed(&self) -> Result<Needed, StoreError> {
        let mut needed = Needed::default();
        let database = self.database();
        let mut manifests = database.prepare("SELECT digest FROM manifests")?;
        for digest in manifests.query_map([], |row| row.get(0))? {
            needed.blobs.insert(digest?);
        }
        let mut edges = database.prepare("SELECT child, diff_id FROM edges")?;
        for row in edges.query_map([], |row| Ok((row.get(0)?, row.get::<_, Option<String>>(1)?)))? {
            let (child, diff_id) = row?;
            needed.blobs.insert(child);
            needed.layers.extend(diff_id);
        }
        Ok(needed)
    }

    /// Bytes of the blobs that only the cache keeps, as rows say: no file is looked at.
    pub fn bytes_kept_for_builds(&self) -> Result<u64, StoreError> {
        let sum: i64 = self.database().query_row(KEPT_FOR_BUILDS, [], |row| row.get(0))?;
        Ok(sum as u64)
    }

    /// What takes the store's room. Reads the size of every file.
    pub fn account(&self) -> Result<Account, StoreError> {
        let books = Books::open(self)?;
        let mut account = Account::default();
        books.images(&mut account)?;
        books.steps(&mut account)?;
        books.mounts(&mut account)?;
        self.files(&mut account)?;
        self.containers_in(&mut account)?;
        books.loose(&mut account);
        let own = ["tmp", "run", "leases", "reserve", "store.db", "store.db-wal", "store.db-shm"];
        let bytes = own.iter().map(|name| file::disk_bytes(&self.root.join(name)).unwrap_or(0)).sum();
        account.totals.insert(RecordKind::Own, Share { count: 1, bytes, ..Share::default() });
        Ok(account)
    }

    /// Stat caches, and what builds were.
    fn files(&self, account: &mut Account) -> Result<(), StoreError> {
        for (kind, folder) in [(RecordKind::Context, "context"), (RecordKind::Build, "builds")] {
            let mut share = Share::default();
            for path in super::sweep::entries(&self.root.join(folder))? {
                let bytes = file::disk_bytes(&path).unwrap_or(0);
                let free = if kind == RecordKind::Context { bytes } else { 0 };
                share.count += 1;
                share.bytes += bytes;
                share.reclaimable_bytes += free;
                account.records.push(Record {
                    kind,
                    id: name_of(&path),
                    about: format!("{folder}/{}", name_of(&path)),
                    bytes,
                    shared_bytes: 0,
                    reclaimable_bytes: free,
                    used: modified(&path),
                    in_use: false,
                });
            }
            account.totals.insert(kind, share);
        }
        Ok(())
    }

    /// Containers: what they have written goes with them, and not by `prune`.
    fn containers_in(&self, account: &mut Account) -> Result<(), StoreError> {
        let mut share = Share::default();
        let up: HashSet<String> = self.containers_up()?.into_iter().map(|container| container.id).collect();
        for container in self.containers()? {
            let bytes = file::disk_bytes(&self.container_folder(&container.id)).unwrap_or(0);
            let in_use = up.contains(&container.id);
            share.count += 1;
            share.active += usize::from(in_use);
            share.bytes += bytes;
            account.records.push(Record {
                kind: RecordKind::Container,
                id: container.id,
                about: container.name,
                bytes,
                shared_bytes: 0,
                reclaimable_bytes: 0,
                used: Some(container.created),
                in_use,
            });
        }
        account.totals.insert(RecordKind::Container, share);
        Ok(())
    }

    /// What the images of containers are made of.
    fn needed_by_containers(&self) -> Result<Needed, StoreError> {
        let mut needed = Needed::default();
        let database = self.database();
        let mut rows = database.prepare(
            "SELECT manifest, NULL, NULL FROM containers
             UNION SELECT parent, child, diff_id FROM edges WHERE parent IN (SELECT manifest FROM containers)",
        )?;
        for row in rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))? {
            let (manifest, child, diff_id): (String, Option<String>, Option<String>) = row?;
            needed.blobs.insert(manifest);
            needed.blobs.extend(child);
            needed.layers.extend(diff_id);
        }
        Ok(needed)
    }

    /// The manifests that no other one needs, or that have a name.
    fn tops(&self) -> Result<Vec<Top>, StoreError> {
        let database = self.database();
        let mut edges: HashMap<String, Vec<(String, Option<String>)>> = HashMap::new();
        let mut rows = database.prepare("SELECT parent, child, diff_id FROM edges")?;
        for row in rows.query_map([], |row| Ok((row.get(0)?, (row.get(1)?, row.get(2)?))))? {
            let (parent, child): (String, _) = row?;
            edges.entry(parent).or_default().push(child);
        }
        let mut names: HashMap<String, Vec<String>> = HashMap::new();
        let mut rows = database.prepare("SELECT digest, reference FROM names ORDER BY reference")?;
        for row in rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))? {
            let (digest, reference): (String, String) = row?;
            names.entry(digest).or_default().push(reference);
        }
        let mut rows = database.prepare(TOPS)?;
        let mut tops = Vec::new();
        for row in rows.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get(1)?)))? {
            let (digest, used) = row?;
            let mut needed = Needed::default();
            let mut open = vec![digest.clone()];
            while let Some(parent) = open.pop() {
                if needed.blobs.insert(parent.clone()) {
                    for (child, diff_id) in edges.get(&parent).into_iter().flatten() {
                        open.push(child.clone());
                        needed.layers.extend(diff_id.clone());
                    }
                }
            }
            let names = names.get(&digest).cloned().unwrap_or_default();
            tops.push(Top { digest, names, used, needed });
        }
        Ok(tops)
    }
}

impl Books<'_> {
    fn open(store: &Store) -> Result<Books<'_>, StoreError> {
        let needed = store.needed()?;
        let weights = Weights::of(store, &needed)?;
        let mut relied = store.holder.relied()?;
        let containers = store.needed_by_containers()?;
        relied.blobs.extend(containers.blobs);
        relied.layers.extend(containers.layers);
        let forms: Vec<String> =
            relied.layers.iter().flat_map(|layer| weights.forms(layer)).cloned().collect();
        relied.blobs.extend(forms);
        let mut words: HashMap<String, String> = HashMap::new();
        let database = store.database();
        let mut rows =
            database.prepare("SELECT diff_id, step FROM cache WHERE diff_id IS NOT NULL ORDER BY used")?;
        for row in rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))? {
            let (layer, step): (String, String) = row?;
            words.insert(layer, step);
        }
        drop(rows);
        drop(database);
        let used = last_used(store)?.into_iter();
        let cached = used.map(|(layer, used)| {
            let step = words.remove(&layer).unwrap_or_default();
            (layer, (used, step))
        });
        Ok(Books { store, weights, needed, cached: cached.collect(), relied })
    }

    /// Bytes of what is needed, of it those that `more` says so of.
    fn weigh(&self, needed: &Needed, counts: impl Fn(&str, bool) -> bool) -> u64 {
        let blobs =
            needed.blobs.iter().filter(|blob| counts(blob, false)).map(|blob| self.weights.blob(blob));
        let layers = needed.layers.iter().filter(|layer| counts(layer, true));
        blobs.sum::<u64>() + layers.map(|layer| self.weights.folder(layer)).sum::<u64>()
    }

    /// Whether a living process relies on a blob, or on a layer.
    fn is_relied(&self, digest: &str, is_layer: bool) -> bool {
        if is_layer { self.relied.layers.contains(digest) } else { self.relied.blobs.contains(digest) }
    }

    fn images(&self, account: &mut Account) -> Result<(), StoreError> {
        let tops = self.store.tops()?;
        let mut users: HashMap<(&str, bool), usize> = HashMap::new();
        for top in &tops {
            let blobs = top.needed.blobs.iter().map(|blob| (blob.as_str(), false));
            let layers = top.needed.layers.iter().map(|layer| (layer.as_str(), true));
            blobs.chain(layers).for_each(|thing| *users.entry(thing).or_default() += 1);
        }
        let cached_blobs: HashSet<&String> =
            self.cached.keys().flat_map(|layer| self.weights.forms(layer)).collect();
        let is_cached = |digest: &str, is_layer: bool| match is_layer {
            true => self.cached.contains_key(digest),
            false => cached_blobs.contains(&digest.to_owned()),
        };
        let is_shared = |digest: &str, is_layer: bool| {
            users.get(&(digest, is_layer)).is_some_and(|count| *count > 1) || is_cached(digest, is_layer)
        };
        let mut share = Share { count: tops.len(), ..Share::default() };
        for top in &tops {
            let in_use = top.needed.blobs.iter().any(|blob| self.relied.blobs.contains(blob));
            let bytes = self.weigh(&top.needed, |_, _| true);
            let shared_bytes = self.weigh(&top.needed, is_shared);
            share.active += usize::from(in_use);
            account.records.push(Record {
                kind: RecordKind::Image,
                id: top.digest.clone(),
                about: if top.names.is_empty() { "<none>".to_owned() } else { top.names.join(", ") },
                bytes,
                shared_bytes,
                reclaimable_bytes: if in_use { 0 } else { bytes - shared_bytes },
                used: Some(top.used),
                in_use,
            });
        }
        share.bytes = self.weigh(&self.needed, |_, _| true);
        share.shared_bytes = self.weigh(&self.needed, is_shared);
        share.reclaimable_bytes = self.weigh(&self.needed, |digest, layer| !self.is_relied(digest, layer));
        account.totals.insert(RecordKind::Image, share);
        Ok(())
    }

    fn steps(&self, account: &mut Account) -> Result<(), StoreError> {
        let rows: i64 =
            self.store.database().query_row("SELECT count(*) FROM cache", [], |row| row.get(0))?;
        let mut share = Share { count: rows as usize, ..Share::default() };
        for (layer, (used, step)) in &self.cached {
            let is_image_s = self.needed.layers.contains(layer);
            let folder = self.weights.folder(layer);
            let forms: Vec<&String> = self.weights.forms(layer).collect();
            let whole = folder + forms.iter().map(|blob| self.weights.blob(blob)).sum::<u64>();
            let own = forms.iter().filter(|blob| !self.needed.blobs.contains(**blob));
            let own =
                own.map(|blob| self.weights.blob(blob)).sum::<u64>() + if is_image_s { 0 } else { folder };
            let in_use = self.relied.layers.contains(layer)
                || forms.iter().any(|blob| self.relied.blobs.contains(*blob));
            let free = if in_use { 0 } else { own };
            share.active += usize::from(in_use);
            share.bytes += own;
            share.reclaimable_bytes += free;
            account.records.push(Record {
                kind: RecordKind::Step,
                id: layer.clone(),
                about: step.clone(),
                bytes: whole,
                shared_bytes: whole - own,
                // of a result whose layer an image has, other forms go with the image's
                reclaimable_bytes: if is_image_s { 0 } else { free },
                used: Some(*used),
                in_use,
            });
        }
        account.totals.insert(RecordKind::Step, share);
        Ok(())
    }

    fn mounts(&self, account: &mut Account) -> Result<(), StoreError> {
        let mut share = Share::default();
        for mount in self.store.cache_mounts()? {
            let free = if mount.in_use { 0 } else { mount.bytes };
            share.count += 1;
            share.active += usize::from(mount.in_use);
            share.bytes += mount.bytes;
            share.reclaimable_bytes += free;
            account.records.push(Record {
                kind: RecordKind::Cache,
                about: mount.about.map_or_else(String::new, |about| about.id),
                id: mount.name,
                bytes: mount.bytes,
                shared_bytes: 0,
                reclaimable_bytes: free,
                used: Some(mount.used),
                in_use: mount.in_use,
            });
        }
        account.totals.insert(RecordKind::Cache, share);
        Ok(())
    }

    /// What neither an image nor a result names.
    fn loose(&self, account: &mut Account) {
        let cached_blobs: HashSet<&String> =
            self.cached.keys().flat_map(|layer| self.weights.forms(layer)).collect();
        let hexes = self.cached.keys().chain(&self.needed.layers);
        let named: HashSet<&str> =
            hexes.filter_map(|layer| layer.split_once(':')).map(|(_, hex)| hex).collect();
        let mut share = Share::default();
        let blobs = self.weights.blobs.iter().map(|(digest, bytes)| (digest.clone(), *bytes, false));
        let blobs = blobs
            .filter(|(digest, ..)| !self.needed.blobs.contains(digest) && !cached_blobs.contains(digest));
        let layers = self.weights.folders.iter().filter(|(hex, _)| !named.contains(hex.as_str()));
        let layers = layers.map(|(hex, bytes)| (format!("sha256:{hex}"), *bytes, true));
        for (digest, bytes, is_layer) in blobs.chain(layers) {
            let in_use = self.is_relied(&digest, is_layer);
            let free = if in_use { 0 } else { bytes };
            share.count += 1;
            share.active += usize::from(in_use);
            share.bytes += bytes;
            share.reclaimable_bytes += free;
            account.records.push(Record {
                kind: RecordKind::Loose,
                id: digest,
                about: if is_layer { "a layer" } else { "a blob" }.to_owned(),
                bytes,
                shared_bytes: 0,
                reclaimable_bytes: free,
                used: None,
                in_use,
            });
        }
        account.totals.insert(RecordKind::Loose, share);
    }
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// When a file was last changed, in seconds since 1970.
pub(super) fn modified(path: &Path) -> Option<i64> {
    use std::os::unix::fs::MetadataExt;
    fs::symlink_metadata(path).ok().map(|metadata| metadata.mtime())
}

const KEPT_FOR_BUILDS: &str = "
SELECT coalesce(sum(size), 0) FROM forms WHERE diff_id IN (SELECT diff_id FROM cache)
    AND diff_id NOT IN (SELECT diff_id FROM edges WHERE diff_id IS NOT NULL)";

/// An index's images are the index's, but for those that have a name of their own.
const TOPS: &str = "
SELECT digest, max(used, added) FROM manifests WHERE digest IN (SELECT digest FROM names)
    OR digest NOT IN (SELECT child FROM edges WHERE kind IN ('manifest', 'referrer') AND parent IN (SELECT digest FROM manifests))
ORDER BY 2";
