//! Layers that become runnable while their blobs come in.
//!
//! ```text
//! transfer -> BlobWriter (digest) -> file in tmp/ ............ digest right, synced, renamed -> blob
//!                                      | Follower                                              |
//!                                      v                                                       v
//!                                    decompress, diff id -> unpacker -> file in tmp/ ... diff id right -> layers/, row
//! ```
//!
//! A worker follows the file that a transfer fills ([`crate::blobs::Follower`]), so nothing but the disk's cache lies between
//! them, and a transfer waits for nobody. Broken and resumed transfers go on in the same file; one that is given up ends its
//! worker. **Order:** first the blob has its name and is on the disk, then the table, then the layer's file, then the row that
//! makes it usable; so nothing is believed that was not checked, and a crash leaves files in `tmp/`, or a blob without a
//! runnable form, which whoever runs it makes.
//!
//! A worker has the layer's turn, as every maker of it; where somebody else has it, or the layer is runnable, only the blob is
//! taken in. Layers are taken in in any order, so what those beneath say of missing parents ([`Footing`]) is asked
//! at the end: until then such a layer waits in its plain form.
//!
//! What is wrong with a layer (no archive, another diff id) is no failure of the transfer: the blob is what its name says, may
//! be pushed and saved, and whoever runs it is told. A full disk is one.

use super::{
    LayerForm, Shape, Store, StoreError, Turn,
    earlier::{Likeness, Names},
    layers::{Form, Product},
    shape::new_file,
    sweep,
};
use crate::{
    Digest,
    blobs::{BlobError, BlobSink, BlobWriter, Blobs, Follower},
    compression::{self, BackgroundReader},
    erofs::Written,
    layer::{self, Footing, LayerError, Tree, Unpacked},
    limits,
};
use std::{
    collections::HashMap,
    io::{BufReader, Read},
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
};

/// Takes blobs in, and makes layers runnable on the way.
pub struct Intake<'s> {
    blobs: &'s Blobs,
    /// The layers that are wanted, by blob.
    wanted: HashMap<Digest, Wanted>,
    jobs: Sender<Job>,
}

/// A layer that is to become runnable.
#[derive(Clone, Debug)]
struct Wanted {
    layer: LayerForm,
    /// Whether nothing is beneath it in any image.
    is_base: bool,
}

/// One layer to be made.
struct Job {
    wanted: Wanted,
    /// `None` where the blob is here.
    coming: Option<Follower>,
}

/// A layer's file that has no place yet, and goes where it gets none.
pub(crate) struct Unplaced {
    path: PathBuf,
    unpacked: Unpacked,
    written: Written,
    /// Of the earlier files that it refers to, until it has its own.
    _names: Arc<Names>,
}

impl Drop for Unplaced {
    fn drop(&mut self) {
        // what got its place is not there any more; what cannot be removed is swept later
        drop(sweep::remove(&self.path));
    }
}

impl Unplaced {
    /// Digest of the archive that it was made of.
    pub(crate) fn diff_id(&self) -> &Digest {
        &self.unpacked.diff_id
    }
}

/// A layer that waits for those beneath it, with the turn to make it.
struct Waiting(Unplaced, Turn);

/// What the workers have to say.
#[derive(Default)]
struct Found {
    waiting: HashMap<Digest, Waiting>,
    failed: Option<StoreError>,
}

impl BlobSink for Intake<'_> {
    fn size(&self, digest: &Digest) -> Result<Option<u64>, BlobError> {
        let size = self.blobs.size(digest)?;
        if size.is_some() {
            self.begin(digest, None);
        }
        Ok(size)
    }

    fn writer(&self, digest: &Digest) -> Result<BlobWriter, BlobError> {
        let mut writer = self.blobs.writer(digest.algorithm())?;
        if self.wanted.contains_key(digest) {
            let follower = writer.follow()?;
            self.begin(digest, Some(follower));
        }
        Ok(writer)
    }
}

impl Intake<'_> {
    fn begin(&self, digest: &Digest, coming: Option<Follower>) {
        if let Some(wanted) = self.wanted.get(digest) {
            // workers stay until the queue ends, which is when this goes
            let _ = self.jobs.send(Job { wanted: wanted.clone(), coming });
        }
    }
}

impl Store {
    /// Runs `transfer`, and makes those of the layers that come in runnable where they are to be run from a file. `images`
    /// has a row of layers for each image, the base first. Answers what `transfer` did, and whether there was room for the
    /// layers.
    pub fn take_in<T>(
        &self,
        images: &[Vec<LayerForm>],
        transfer: impl FnOnce(&Intake<'_>) -> T,
    ) -> (T, Result<(), StoreError>) {
        let (jobs, queue) = channel();
        let (wanted, failed) = match self.wanted(images) {
            Ok(wanted) => (wanted, None),
            // the blobs are taken in all the same
            Err(error) => (HashMap::new(), Some(error)),
        };
        let workers = wanted.len().min(limits::INTAKE_LAYERS);
        let (queue, found) = (Mutex::new(queue), Mutex::new(Found { failed, ..Found::default() }));
        let result = thread::scope(|scope| {
            for _ in 0..workers {
                scope.spawn(|| self.work(&queue, &found));
            }
            let intake = Intake { blobs: self.blobs(), wanted, jobs };
            transfer(&intake)
        });
        let found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
        let settled = found.failed.map_or_else(|| self.settle(images, found.waiting), Err);
        (result, settled)
    }

    /// Makes those of a row of layers runnable whose blobs are here, several at a time, where they are to be run from a file.
    pub fn make_runnable(&self, row: &[LayerForm]) -> Result<(), StoreError> {
        let look = |intake: &Intake<'_>| {
            row.iter().try_for_each(|layer| intake.size(&layer.descriptor.digest).map(drop))
        };
        let (looked, made) = self.take_in(std::slice::from_ref(&row.to_vec()), look);
        looked?;
        made
    }

    /// The layers to be made of `images`, by blob.
    fn wanted(&self, images: &[Vec<LayerForm>]) -> Result<HashMap<Digest, Wanted>, StoreError> {
        let mut wanted: HashMap<Digest, Wanted> = HashMap::new();
        if images.iter().all(Vec::is_empty) || self.layer_shape()?.shape == Shape::Unpacked {
            return Ok(wanted);
        }
        for layers in images {
            for (at, layer) in layers.iter().enumerate() {
                let new = || Wanted { layer: layer.clone(), is_base: true };
                wanted.entry(layer.descriptor.digest.clone()).or_insert_with(new).is_base &= at == 0;
            }
        }
        Ok(wanted)
    }

    fn work(&self, queue: &Mutex<Receiver<Job>>, found: &Mutex<Found>) {
        let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        while let Ok(job) = next() {
            let diff_id = job.wanted.layer.diff_id.clone();
            let outcome = self.carry_out(job);
            let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
            match outcome {
                Ok(Some(waiting)) => drop(found.waiting.insert(diff_id, waiting)),
                Ok(None) => {}
                Err(error) if is_of_the_layer(&error) => {}
                Err(error) => drop(found.failed.get_or_insert(error)),
            }
        }
    }

    /// Makes a layer, and puts it in its place unless it has to wait for those beneath.
    fn carry_out(&self, job: Job) -> Result<Option<Waiting>, StoreError> {
        let Job { wanted: Wanted { layer, is_base }, coming } = job;
        let Some(turn) = self.try_turn(&Store::work_of(&layer.diff_id, Product::File))? else {
            return Ok(None);
        };
        let form = Form::plain(self, &layer.diff_id)?;
        let known = self.known_toc(&form);
        // which form an earlier image's layer has here is not known before those beneath are
        let is_open = known.is_some_and(|toc| toc.has_implicit()) && !is_base;
        if is_open || self.is_written(&form)? || self.is_unpacked(&form)? {
            return Ok(None);
        }
        let outcome = coming.as_ref().map(Follower::outcome);
        let unplaced = match coming {
            Some(follower) => self.write_unplaced(Box::new(follower), &layer.diff_id)?,
            None => {
                let blob = self.blobs().open_blob(&layer.descriptor.digest)?;
                self.write_unplaced(Box::new(blob), &layer.diff_id)?
            }
        };
        if outcome.is_some_and(|outcome| !outcome.is_kept()) {
            return Ok(None);
        }
        self.check_diff_id(&layer.diff_id, unplaced.diff_id())?;
        self.put_form(&layer, unplaced.unpacked.archive_bytes)?;
        let toc = self.save_toc(&form, unplaced.unpacked.toc.clone())?;
        if toc.has_implicit() && !is_base {
            return Ok(Some(Waiting(unplaced, turn)));
        }
        self.place_file(&form, &unplaced.path, &unplaced.written, &toc)?;
        Ok(None)
    }

    /// Writes the plain form of a layer into `tmp/`, from the bytes of a blob, whatever they turn out to be; it is called
    /// `name` where there is no room for it.
    pub(crate) fn write_unplaced(
        &self,
        blob: Box<dyn Read + Send>,
        name: &Digest,
    ) -> Result<Unplaced, StoreError> {
        let path = self.temporary_path("layer")?;
        let mut likeness = Likeness::new(self);
        let write = || {
            let blob = BufReader::with_capacity(limits::AHEAD_BYTES, blob);
            let decoded = compression::decoder(blob).map_err(LayerError::Archive)?;
            let file = new_file(&path)?;
            let source = BackgroundReader::digesting(self.within_room(decoded));
            let written = layer::write_image_seeking(source, file, &mut likeness, None);
            written.map_err(super::layers::no_room(name, &path))
        };
        match write() {
            Ok((unpacked, written)) => Ok(Unplaced { path, unpacked, written, _names: likeness.names }),
            Err(error) => {
                // half a layer is of no use to anybody; the error that matters is the first one
                drop(sweep::remove(&path));
                Err(error)
            }
        }
    }

    /// Decides about the layers that wait, now that what is beneath them is known.
    fn settle(
        &self,
        images: &[Vec<LayerForm>],
        mut waiting: HashMap<Digest, Waiting>,
    ) -> Result<(), StoreError> {
        for layers in images {
            match self.settle_image(layers, &mut waiting) {
                Err(error) if !is_of_the_layer(&error) => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    fn settle_image(
        &self,
        layers: &[LayerForm],
        waiting: &mut HashMap<Digest, Waiting>,
    ) -> Result<(), StoreError> {
        let mut below = Tree::default();
        let mut left = layers.iter().filter(|layer| waiting.contains_key(&layer.diff_id)).count();
        for LayerForm { diff_id, .. } in layers {
            if left == 0 {
                break;
            }
            if let Some(Waiting(unplaced, _turn)) = waiting.remove(diff_id) {
                left -= 1;
                self.place_on(unplaced, &below)?;
            }
            below = below.with(self.toc(diff_id, &below)?);
        }
        Ok(())
    }

    /// Puts a layer in its place on the layers `below`, for whoever has its turn. Its table is here, and its diff id right.
    /// Where what is beneath makes another form of it, that is made of the blob.
    pub(crate) fn place_on(&self, unplaced: Unplaced, below: &Tree) -> Result<(), StoreError> {
        let diff_id = unplaced.diff_id().clone();
        let mut form = Form::plain(self, &diff_id)?;
        form.footing = Footing::of(&unplaced.unpacked.toc, below)?;
        if form.footing.is_none() {
            return self.place_file(&form, &unplaced.path, &unplaced.written, &unplaced.unpacked.toc);
        }
        // first its room
        drop(unplaced);
        if !self.is_written(&form)? && !self.is_unpacked(&form)? {
            self.make_in_place(&form, Product::File)?;
        }
        Ok(())
    }
}

/// Whether a failure says something of the layer, which whoever runs it is told, and nothing of this place.
fn is_of_the_layer(error: &StoreError) -> bool {
    matches!(error, StoreError::Layer(_)) && !error.is_full()
}

#[cfg(test)]
mod tests;
