//! Small files, read and digested ahead of the writer on all cores, in its order.
//!
//! A tree of sources is many small files, and most of the time goes with opening them. So threads read them into memory
//! while the writer works on earlier ones; each thread takes every so many-th file and waits when it is some files ahead, which
//! bounds the memory whatever the tree holds. Large files are left to the writer.

use super::{Node, Placement, Source, SourceTree};
use crate::StepError;
use slipway_oci::{
    Digest,
    digest::CONTENT,
    erofs::Earlier,
    layer::{Kind, LayerError},
};
use std::{
    io::Read,
    sync::mpsc::{Receiver, sync_channel},
};

/// Files up to this size are read ahead, in bytes.
const SMALL_BYTES: u64 = 128 << 10;
/// How many files each thread is ahead at most.
const FILES_AHEAD: usize = 32;
/// Most threads.
const MOST_THREADS: usize = 8;
/// Below so many files for each thread it is not worth its start.
const LEAST_FILES: usize = 16;

/// A file to be read.
#[derive(Clone, Copy)]
pub(super) struct Job<'p> {
    tree: usize,
    node: &'p Node,
    /// The digest that its bytes must have, where it is known.
    known: Option<&'p Digest>,
}

impl<'p> Job<'p> {
    /// The placed file, where it is one that is read ahead.
    pub(super) fn of(placement: &'p Placement) -> Option<Job<'p>> {
        let entry = &placement.entry;
        match &placement.source {
            Source::Tree(tree, node) if entry.kind == Kind::File && entry.size_bytes <= SMALL_BYTES => {
                Some(Job { tree: *tree, node, known: entry.content.as_ref() })
            }
            _ => None,
        }
    }

    /// Reads the file: out of an earlier layer that has the same bytes, where there is one and they are still the same.
    fn read(
        &self,
        trees: &[Box<dyn SourceTree + '_>],
        earlier: &Earlier,
    ) -> Result<(Vec<u8>, Digest), StepError> {
        let size = self.node.entry.size_bytes;
        if let Some(known) = self.known {
            let mut bytes = vec![0; size as usize];
            if earlier.read(known, &mut bytes).is_ok_and(|found| found) && Digest::content(&bytes) == *known {
                return Ok((bytes, known.clone()));
            }
        }
        let failed = || StepError::io("read", self.node.entry.to_path());
        let mut bytes = Vec::with_capacity(size as usize + 1);
        let file = trees[self.tree].open(self.node)?;
        // one more would be a file that grew
        file.take(size + 1).read_to_end(&mut bytes).map_err(failed())?;
        let digest = Digest::content(&bytes);
        let is_another = |known: &Digest| match known.algorithm() {
            CONTENT => *known != digest,
            // what was fetched is known by what its blob is called
            other => *known != Digest::of(other, &bytes),
        };
        if bytes.len() as u64 != size || self.known.is_some_and(is_another) {
            return Err(LayerError::Changed(self.node.entry.to_path()).into());
        }
        Ok((bytes, digest))
    }
}

type Answer = Result<(Vec<u8>, Digest), StepError>;

/// What was read, in the order of the jobs.
pub(super) struct Ahead<'s> {
    threads: Vec<Receiver<Answer>>,
    next: usize,
    /// Reads the job of this number, where there are no threads.
    here: &'s dyn Fn(usize) -> Answer,
}

impl Ahead<'_> {
    /// The bytes of the next job's file and their digest.
    pub(super) fn next(&mut self) -> Answer {
        let number = self.next;
        self.next += 1;
        match self.threads.get(number % self.threads.len().max(1)) {
            Some(thread) => thread.recv().expect("a thread answers for all of its jobs"),
            None => (self.here)(number),
        }
    }
}

/// Runs `work` while `jobs` are read ahead of it.
pub(super) fn read<T>(
    jobs: &[Job<'_>],
    trees: &[Box<dyn SourceTree + '_>],
    earlier: &Earlier,
    work: impl FnOnce(Ahead<'_>) -> Result<T, StepError>,
) -> Result<T, StepError> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS);
    let count = if cores > 1 { cores.min(jobs.len() / LEAST_FILES) } else { 0 };
    let here = |number: usize| jobs[number].read(trees, earlier);
    std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for first in 0..count {
            let (send, receive) = sync_channel(FILES_AHEAD);
            threads.push(receive);
            scope.spawn(move || {
                for job in jobs.iter().skip(first).step_by(count) {
                    // a writer that gave up wants no more
                    if send.send(job.read(trees, earlier)).is_err() {
                        return;
                    }
                }
            });
        }
        work(Ahead { threads, next: 0, here: &here })
    })
}
