//! What a step's command wrote, in a file of bounded size.
//!
//! The first half of the file is the beginning. Behind it stands the end: while the command runs it is written round and
//! round over itself, and it is put in order, behind a line that says what was left out, when the command has ended.

use super::mask::Masks;
use crate::{Stream, limits};
use std::{
    fs::File,
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

/// Half of a log.
const HALF: u64 = limits::STEP_LOG_BYTES / 2;

/// The log of one step. What cannot be written is left out.
pub(crate) struct StepLog {
    path: Option<PathBuf>,
    masks: Masks,
    state: Mutex<Writing>,
}

#[derive(Default)]
struct Writing {
    file: Option<File>,
    /// Whether writing has failed.
    broken: bool,
    /// Bytes so far, those that were left out too.
    written: u64,
    /// What may be the beginning of a secret, of each stream.
    pending: [Vec<u8>; 2],
}

impl StepLog {
    /// The log at `path`, which is made when something is written; none where there is no path.
    pub(crate) fn new(path: Option<PathBuf>, masks: Masks) -> StepLog {
        StepLog { path, masks, state: Mutex::default() }
    }

    /// Writes down what came from a stream.
    pub(crate) fn write(&self, stream: Stream, bytes: &[u8]) {
        let Some(path) = &self.path else { return };
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if self.masks.is_empty() {
            return state.put(path, bytes);
        }
        let mut pending = std::mem::take(&mut state.pending[usize::from(stream == Stream::Stderr)]);
        pending.extend_from_slice(bytes);
        let masked = self.masks.take(&mut pending, true);
        state.pending[usize::from(stream == Stream::Stderr)] = pending;
        state.put(path, &masked);
    }

    /// Ends the log; answers where it is, how many bytes were written to it and how many of them it has.
    pub(crate) fn finish(self) -> (Option<PathBuf>, u64, u64) {
        let mut state = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        let Some(path) = self.path else { return (None, 0, 0) };
        for mut pending in std::mem::take(&mut state.pending) {
            let masked = self.masks.take(&mut pending, false);
            state.put(&path, &masked);
        }
        let kept = state.order().unwrap_or(0);
        (state.file.is_some().then_some(path), state.written, kept)
    }
}

impl Writing {
    fn put(&mut self, path: &Path, mut bytes: &[u8]) {
        if self.broken || bytes.is_empty() {
            return;
        }
        if self.file.is_none() {
            match File::options().read(true).write(true).create_new(true).mode(0o600).open(path) {
                Ok(file) => self.file = Some(file),
                Err(_) => self.broken = true,
            }
        }
        let Some(file) = &self.file else { return };
        while !bytes.is_empty() {
            let (at, room) = match self.written.checked_sub(HALF) {
                None => (self.written, HALF - self.written),
                Some(beyond) => (HALF + beyond % HALF, HALF - beyond % HALF),
            };
            let (now, later) = bytes.split_at(bytes.len().min(room as usize));
            if file.write_all_at(now, at).is_err() {
                self.broken = true;
                return;
            }
            self.written += now.len() as u64;
            bytes = later;
        }
    }

    /// Puts the end in its order; answers how many bytes of the output there are.
    fn order(&self) -> io::Result<u64> {
        let Some(file) = &self.file else { return Ok(0) };
        if self.written <= 2 * HALF {
            return Ok(self.written);
        }
        let mut end = vec![0; HALF as usize];
        file.read_exact_at(&mut end, HALF)?;
        end.rotate_left(((self.written - HALF) % HALF) as usize);
        // the first line is a piece of one
        let whole = end.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let end = &end[whole..];
        let kept = HALF + end.len() as u64;
        let note = format!("\n[{} bytes left out]\n", self.written - kept);
        file.write_all_at(note.as_bytes(), HALF)?;
        file.write_all_at(end, HALF + note.len() as u64)?;
        file.set_len(HALF + (note.len() + end.len()) as u64)?;
        Ok(kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn written(lines: u64) -> (Vec<u8>, u64, u64) {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("1.log");
        let log = StepLog::new(Some(path.clone()), Masks::default());
        let mut batch = Vec::new();
        for number in 0..lines {
            batch.extend(format!("{number:099}\n").into_bytes());
            if batch.len() > 60_000 || number + 1 == lines {
                log.write(Stream::Stdout, &batch);
                batch.clear();
            }
        }
        let (at, all, kept) = log.finish();
        assert_eq!(at.is_some(), lines > 0);
        let text = std::fs::read(&path).unwrap_or_default();
        if lines > 0 {
            assert_eq!(std::fs::metadata(&path).expect("status").permissions().mode() & 0o777, 0o600);
        }
        (text, all, kept)
    }

    #[test]
    fn a_log_has_the_beginning_and_the_end() {
        assert_eq!(written(0), (Vec::new(), 0, 0));
        let (text, all, kept) = written(3);
        assert_eq!((text.len(), all, kept), (300, 300, 300));
        let fits = limits::STEP_LOG_BYTES / 100;
        let (text, all, kept) = written(fits);
        assert_eq!((text.len() as u64, kept), (all, all));
        for lines in [fits + 1, fits * 2, fits * 5 + 17] {
            let (text, all, kept) = written(lines);
            let text = String::from_utf8(text).expect("text");
            assert!(text.len() as u64 <= limits::STEP_LOG_BYTES + 100, "{}", text.len());
            let (head, tail) = text.split_once("\n[").expect("a note");
            assert!(head.starts_with(&format!("{:099}\n{:099}\n", 0, 1)));
            let (note, tail) = tail.split_once("]\n").expect("its end");
            assert_eq!(note, format!("{} bytes left out", all - kept));
            let numbers: Vec<u64> = tail.lines().map(|line| line.parse().expect("a whole line")).collect();
            assert_eq!(numbers.last(), Some(&(lines - 1)));
            assert!(numbers.windows(2).all(|two| two[0] + 1 == two[1]), "in order");
            assert_eq!(head.len() as u64 + tail.len() as u64, kept);
        }
    }

    #[test]
    fn what_cannot_be_written_is_left_out() {
        let log = StepLog::new(Some("/nowhere/at/all/1.log".into()), Masks::default());
        log.write(Stream::Stdout, b"x\n");
        assert_eq!(log.finish(), (None, 0, 0));
    }
}
