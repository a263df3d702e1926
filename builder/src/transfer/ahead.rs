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
    sync::mpsc::{Receiver, Sender, channel, sync_channel},
};

/// Files up to this size are read ahead, in bytes.
const SMALL_BYTES: u64 = 128 << 10;
/// So many files at most, and about so many bytes, are handed over together: each time costs two threads a switch.
const RUN_FILES: usize = 64;
const RUN_BYTES: u64 = 256 << 10;
/// How many runs each thread is ahead at most.
const RUNS_AHEAD: usize = 4;
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

    /// Adds the file's bytes to `bytes`, out of an earlier layer that has the same ones, where there is one and they are still
    /// the same; answers their digest.
    fn read(
        &self,
        trees: &[Box<dyn SourceTree + '_>],
        earlier: &Earlier,
        bytes: &mut Vec<u8>,
    ) -> Result<Digest, StepError> {
        let (size, begin) = (self.node.entry.size_bytes, bytes.len());
        if let Some(known) = self.known {
            bytes.resize(begin + size as usize, 0);
            if earlier.read(known, &mut bytes[begin..]) {
                return Ok(known.clone());
            }
            bytes.truncate(begin);
        }
        let failed = || StepError::io("read", self.node.entry.to_path());
        let file = trees[self.tree].open(self.node)?;
        // one more would be a file that grew
        bytes.reserve(size as usize + 1);
        file.take(size + 1).read_to_end(bytes).map_err(failed())?;
        let read = &bytes[begin..];
        let digest = Digest::content(read);
        let is_another = |known: &Digest| match known.algorithm() {
            CONTENT => *known != digest,
            // what was fetched is known by what its blob is called
            other => *known != Digest::of(other, read),
        };
        if read.len() as u64 != size || self.known.is_some_and(is_another) {
            return Err(LayerError::Changed(self.node.entry.to_path()).into());
        }
        Ok(digest)
    }
}

/// Files that follow each other, read.
#[derive(Default)]
struct Run {
    bytes: Vec<u8>,
    /// Where each file ends in `bytes`, and its digest.
    files: Vec<(usize, Digest)>,
    /// Why the next file could not be read.
    failed: Option<StepError>,
}

impl Run {
    fn read(&mut self, jobs: &[Job<'_>], trees: &[Box<dyn SourceTree + '_>], earlier: &Earlier) {
        self.bytes.clear();
        self.files.clear();
        for job in jobs {
            match job.read(trees, earlier, &mut self.bytes) {
                Ok(digest) => self.files.push((self.bytes.len(), digest)),
                Err(error) => {
                    self.failed = Some(error);
                    return;
                }
            }
        }
    }
}

/// The jobs in runs, in order.
fn runs<'j, 'p>(jobs: &'j [Job<'p>]) -> Vec<&'j [Job<'p>]> {
    let mut runs = Vec::new();
    let (mut begin, mut bytes) = (0, 0);
    for (at, job) in jobs.iter().enumerate() {
        let size = job.node.entry.size_bytes;
        if at > begin && (at - begin == RUN_FILES || bytes + size > RUN_BYTES) {
            runs.push(&jobs[begin..at]);
            (begin, bytes) = (at, 0);
        }
        bytes += size;
    }
    if begin < jobs.len() {
        runs.push(&jobs[begin..]);
    }
    runs
}

/// A thread that reads: what it read, and runs that it can use again.
type Thread = (Receiver<Run>, Sender<Run>);

/// What was read, in the order of the jobs.
pub(super) struct Ahead<'s> {
    threads: Vec<Thread>,
    /// The run that is being taken, its number, and how many of its files were.
    run: Run,
    next: usize,
    taken: usize,
    /// Reads the run of this number, where there are no threads.
    here: &'s dyn Fn(usize, &mut Run),
}

impl Ahead<'_> {
    /// The bytes of the next job's file and their digest.
    pub(super) fn next(&mut self) -> Result<(&[u8], &Digest), StepError> {
        if self.taken == self.run.files.len() {
            if let Some(error) = self.run.failed.take() {
                return Err(error);
            }
            self.next_run();
        }
        let Some((end, digest)) = self.run.files.get(self.taken) else {
            return Err(self.run.failed.take().expect("a run has files, or why not"));
        };
        let begin = self.taken.checked_sub(1).map_or(0, |before| self.run.files[before].0);
        self.taken += 1;
        Ok((&self.run.bytes[begin..*end], digest))
    }

    fn next_run(&mut self) {
        let (number, count) = (self.next, self.threads.len());
        (self.next, self.taken) = (number + 1, 0);
        match self.threads.get(number % count.max(1)) {
            Some((runs, used)) => {
                let run = runs.recv().expect("a thread answers for all of its jobs");
                // it has ended once all of its runs are read
                let _ = used.send(std::mem::replace(&mut self.run, run));
            }
            None => (self.here)(number, &mut self.run),
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
    let runs = &runs(jobs);
    let here = |number: usize, run: &mut Run| run.read(runs[number], trees, earlier);
    std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for first in 0..count {
            let (send, receive) = sync_channel(RUNS_AHEAD);
            let (give_back, used) = channel::<Run>();
            threads.push((receive, give_back));
            scope.spawn(move || {
                for jobs in runs.iter().skip(first).step_by(count) {
                    let mut run = used.try_recv().unwrap_or_default();
                    run.read(jobs, trees, earlier);
                    // a writer that gave up wants no more
                    if send.send(run).is_err() {
                        return;
                    }
                }
            });
        }
        work(Ahead { threads, run: Run::default(), next: 0, taken: 0, here: &here })
    })
}
