//! Several layers as one.

use super::{
    Finished,
    files::{Flat, opened},
};
use crate::{
    Environment, StepError,
    transfer::{Placement, Placements, Source, Writing, write_layer},
};
use slipway_oci::{
    Digest,
    compression::Compression,
    layer::{Entry, Kind, Tree},
    spec::{History, ImageConfig},
    store::{CacheEntry, CachedLayer, LayerForm},
};

/// Which layers become one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Squash {
    /// None.
    #[default]
    Nothing,
    /// The image's own, on its base's.
    Own,
    /// All of them.
    All,
}

/// An image with fewer layers.
pub(super) struct Squashed {
    config: ImageConfig,
    layers: Vec<LayerForm>,
    base_layers: usize,
}

impl Squashed {
    pub(super) fn finished(&self) -> Finished<'_> {
        Finished { config: self.config.clone(), layers: &self.layers, base_layers: self.base_layers }
    }
}

/// Makes one layer of those above the base, or of all; nothing where there is none to join.
pub(super) fn squash(
    environment: &Environment<'_>,
    finished: &Finished<'_>,
    squash: Squash,
) -> Result<Option<Squashed>, StepError> {
    let kept = match squash {
        Squash::Nothing => return Ok(None),
        Squash::Own => finished.base_layers,
        Squash::All => 0,
    };
    if finished.layers.len() <= kept + 1 {
        return Ok(None);
    }
    let made = joined(environment, finished.layers, kept)?;
    let mut layers = finished.layers[..kept].to_vec();
    layers.push(made);
    let mut config = finished.config.clone();
    config.rootfs.diff_ids = layers.iter().map(|form| form.diff_id.clone()).collect();
    let mut below = kept;
    for entry in config.history.iter_mut().filter(|entry| !entry.empty_layer) {
        match below {
            0 => entry.empty_layer = true,
            _ => below -= 1,
        }
    }
    config.history.push(History {
        created: config.created.clone(),
        comment: Some(format!("{} layers squashed into one", finished.layers.len() - kept)),
        ..History::default()
    });
    Ok(Some(Squashed { config, layers, base_layers: kept }))
}

/// What the layers above the first `kept` ones come to, as a layer; kept as a result is.
fn joined(environment: &Environment<'_>, layers: &[LayerForm], kept: usize) -> Result<LayerForm, StepError> {
    let store = environment.store;
    let ids: Vec<String> = layers.iter().map(|form| form.diff_id.to_string()).collect();
    let key = Digest::sha256(format!("squash {kept} {}", ids.join(" ")).as_bytes());
    if let Some(CachedLayer::Layer(form)) = store.cached(&key)? {
        return Ok(*form);
    }
    let tree = opened(environment, layers)?;
    let mut placements = Placements::new();
    let all = crate::base::tree(environment, layers)?;
    Flat::of(&tree).each(&mut |path, node| {
        if all.get(path).is_some_and(|found| found.layer >= kept) {
            let entry = node.entry.clone();
            placements.insert(path.to_vec(), Placement { entry, source: Source::Tree(0, Box::new(node)) });
        }
        Ok(())
    })?;
    for path in deleted(&Tree::new(all.layers()[..kept].to_vec()), &all) {
        let entry = Entry::new(path.clone(), Kind::Whiteout, 0);
        placements.insert(path, Placement { entry, source: Source::None });
    }
    let writing = Writing {
        store,
        compression: Compression::default(),
        cancel: environment.cancel,
        image: false,
        new: None,
    };
    let written = write_layer(&placements, &[Box::new(tree)], writing)?;
    let form = written.adopt(store)?;
    let step = &format!("{} layers squashed", layers.len() - kept);
    store.put_cached(&CacheEntry { key: &key, diff_id: Some(&form.diff_id), step, description: None })?;
    Ok(form)
}

/// The topmost paths of `below` that are not in `above`, and that nothing else has taken the place of.
fn deleted(below: &Tree, above: &Tree) -> Vec<Vec<u8>> {
    let mut gone = Vec::new();
    below.walk(b"", &mut |path, _| match above.get(path) {
        None => {
            gone.push(path.to_vec());
            false
        }
        Some(found) => found.entry.is_directory(),
    });
    gone
}

#[cfg(test)]
mod tests {
    use super::*;
    use slipway_oci::layer::Toc;
    use std::sync::Arc;

    fn toc(entries: &[(&str, Kind, bool)]) -> Arc<Toc> {
        let entry = |(path, kind, opaque): &(&str, Kind, bool)| {
            let mut entry = Entry::new(*path, *kind, 0o755);
            entry.opaque = *opaque;
            entry
        };
        Arc::new(Toc::new(entries.iter().map(entry).collect()))
    }

    #[test]
    fn only_the_topmost_of_what_is_gone_is_deleted() {
        use Kind::{Directory, File, Whiteout};
        let base = toc(&[
            ("etc", Directory, false),
            ("etc/gone", File, false),
            ("etc/kept", File, false),
            ("opt", Directory, false),
            ("opt/a", Directory, false),
            ("opt/a/deep", File, false),
            ("srv", Directory, false),
            ("srv/below", File, false),
            ("var", Directory, false),
            ("var/old", File, false),
        ]);
        let own = toc(&[
            ("etc", Directory, false),
            ("etc/gone", Whiteout, false),
            ("opt/a", Whiteout, false),
            // a file in a folder's place, and a folder that hides what it had
            ("srv", File, false),
            ("var", Directory, true),
            ("var/new", File, false),
        ]);
        let below = Tree::new(vec![base.clone()]);
        let gone = deleted(&below, &Tree::new(vec![base, own]));
        let gone: Vec<String> = gone.iter().map(|path| String::from_utf8_lossy(path).into_owned()).collect();
        assert_eq!(gone, ["etc/gone", "opt/a", "var/old"]);
    }
}
