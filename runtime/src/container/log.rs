//! A container's log: what it wrote, line by line, in the form of docker's `json-file`, which collectors of logs read.
//!
//! ```text
//! {"log":"words\n","stream":"stdout","time":"2026-11-27T09:00:00.000000001Z"}
//! ```
//!
//! A line that is no UTF-8 has its bytes in hexadecimal beside it (`bytes`), so that nothing is lost. One of more than 16 KiB is
//! several entries, of which the last has the line's end. The log is cut off where its limits say: `log.json` becomes
//! `log.json.1`, that `log.json.2`, and the eldest goes. Without limits of the caller's a log has 2 files of 32 MiB: what a
//! container writes must not fill the machine's disk.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::container::state::Moment;

/// The name of the file in a container's folder.
pub const FILE: &str = "log.json";

/// The most bytes of a line that are one entry (moby `daemon/logger/copier.go`).
const ENTRY_BYTES: usize = 16 << 10;

/// How much of a log is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct LogLimits {
    /// Whether there is one at all.
    pub is_kept: bool,
    /// The most bytes of a file; `None` is without end.
    pub file_bytes: Option<u64>,
    /// The most files, at least one.
    pub files: u32,
}

impl Default for LogLimits {
    fn default() -> Self {
        LogLimits { is_kept: true, file_bytes: Some(32 << 20), files: 2 }
    }
}

/// Which of a container's streams wrote something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// Standard output, or the terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

/// One line, or a part of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    log: String,
    /// Where it was written.
    pub stream: Source,
    /// When, as [`Moment`] writes it.
    pub time: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bytes: Option<String>,
}

impl Entry {
    fn new(stream: Source, bytes: &[u8], time: Moment) -> Entry {
        let log = String::from_utf8_lossy(bytes).into_owned();
        let bytes = (log.as_bytes() != bytes)
            .then(|| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
        Entry { log, stream, time: time.to_string(), bytes }
    }

    /// What was written.
    pub fn content(&self) -> Vec<u8> {
        let digits = |text: &str| -> Option<Vec<u8>> {
            let pairs = text.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).ok());
            pairs.map(|pair| u8::from_str_radix(pair?, 16).ok()).collect()
        };
        let bytes = self.bytes.as_deref().and_then(digits);
        bytes.unwrap_or_else(|| self.log.as_bytes().to_vec())
    }
}

/// Writes a log. What cannot be written, because the disk is full, is lost: the container is not held up for it.
#[derive(Debug)]
pub struct LogWriter {
    path: PathBuf,
    limits: LogLimits,
    file: Option<(File, u64)>,
    /// What stands behind the last line's end, of either stream.
    begun: [Vec<u8>; 2],
}

impl LogWriter {
    /// The log of a container's folder, which goes on where there is one.
    pub fn open(folder: &Path, limits: LogLimits) -> LogWriter {
        LogWriter { path: folder.join(FILE), limits, file: None, begun: Default::default() }
    }

    /// Writes down what a stream has written now.
    pub fn write(&mut self, stream: Source, mut bytes: &[u8], time: Moment) {
        if !self.limits.is_kept {
            return;
        }
        let mut lines = Vec::new();
        let begun = &mut self.begun[stream as usize];
        while !bytes.is_empty() {
            let room = ENTRY_BYTES - begun.len();
            let end = bytes.iter().take(room).position(|byte| *byte == b'\n').map(|at| at + 1);
            let (piece, rest) = bytes.split_at(end.unwrap_or(room.min(bytes.len())));
            begun.extend_from_slice(piece);
            bytes = rest;
            if end.is_some() || begun.len() == ENTRY_BYTES {
                lines.push(line(&Entry::new(stream, begun, time)));
                begun.clear();
            }
        }
        self.append(&lines);
    }

    /// Writes down what has no line's end: nothing more comes.
    pub fn finish(&mut self, time: Moment) {
        for stream in [Source::Stdout, Source::Stderr] {
            let begun = std::mem::take(&mut self.begun[stream as usize]);
            if !begun.is_empty() && self.limits.is_kept {
                self.append(&[line(&Entry::new(stream, &begun, time))]);
            }
        }
    }

    /// Writes lines, as many at once as one file may have.
    fn append(&mut self, lines: &[Vec<u8>]) {
        let most = self.limits.file_bytes.unwrap_or(u64::MAX);
        let mut piece = Vec::new();
        for line in lines {
            if !piece.is_empty() && (piece.len() + line.len()) as u64 > most {
                // what cannot be written is lost: see above
                let _ = self.try_append(&piece);
                piece.clear();
            }
            piece.extend_from_slice(line);
        }
        if !piece.is_empty() {
            let _ = self.try_append(&piece);
        }
    }

    fn try_append(&mut self, lines: &[u8]) -> io::Result<()> {
        let most = self.limits.file_bytes.unwrap_or(u64::MAX);
        if self.file.as_ref().is_some_and(|(_, size)| *size > 0 && size + lines.len() as u64 > most) {
            self.file = None;
            self.rotate()?;
        }
        let (file, size) = match &mut self.file {
            Some(open) => open,
            none => {
                let mut options = File::options();
                let file = options.append(true).create(true).mode(0o600).open(&self.path)?;
                let size = file.metadata()?.len();
                none.insert((file, size))
            }
        };
        file.write_all(lines)?;
        *size += lines.len() as u64;
        Ok(())
    }

    fn rotate(&self) -> io::Result<()> {
        for number in (1..self.limits.files).rev() {
            match fs::rename(numbered(&self.path, number - 1), numbered(&self.path, number)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

fn line(entry: &Entry) -> Vec<u8> {
    // of texts: nothing can fail
    let mut line = serde_json::to_vec(entry).unwrap_or_default();
    line.push(b'\n');
    line
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    match number {
        0 => path.to_owned(),
        number => path.with_extension(format!("json.{number}")),
    }
}

/// Reads a log, its eldest file first; what is written meanwhile, too. Who reads so slowly that the present file is cut off
/// twice meanwhile has missed what was in between.
#[derive(Debug)]
pub struct LogReader {
    path: PathBuf,
    /// Files that come before the present one, the eldest last.
    before: Vec<PathBuf>,
    open: Option<BufReader<File>>,
    /// A line whose end is not there yet.
    begun: Vec<u8>,
    /// Whether nobody writes to the open file any more.
    is_left: bool,
}

impl LogReader {
    /// The log of a container's folder.
    pub fn open(folder: &Path) -> LogReader {
        let path = folder.join(FILE);
        let exists = |number: &u32| numbered(&path, *number).exists();
        let before = (1..).take_while(exists).map(|number| numbered(&path, number)).collect();
        LogReader { path, before, open: None, begun: Vec::new(), is_left: false }
    }

    /// The next entry that is there; `None` at what is the end for now.
    ///
    /// # Errors
    /// When a file cannot be read. A line that is no entry, as a machine that lost its power leaves it, is passed over.
    pub fn next_entry(&mut self) -> io::Result<Option<Entry>> {
        loop {
            if self.open.is_none() && !self.advance()? {
                return Ok(None);
            }
            let Some(open) = &mut self.open else { return Ok(None) };
            let count = open.read_until(b'\n', &mut self.begun)?;
            if self.begun.last() == Some(&b'\n') {
                let line = std::mem::take(&mut self.begun);
                match serde_json::from_slice(&line) {
                    Ok(entry) => return Ok(Some(entry)),
                    Err(_) => continue,
                }
            }
            if count > 0 {
                continue;
            }
            // the end of this file; of the present one only for now, unless another has come in its place: then it is read
            // once more, for what was written before that
            if self.is_left {
                self.begun.clear();
                self.open = None;
                self.is_left = false;
            } else if self.is_present()? {
                return Ok(None);
            } else {
                self.is_left = true;
            }
        }
    }

    /// Opens the next file; whether there is one.
    fn advance(&mut self) -> io::Result<bool> {
        let next = self.before.pop();
        match File::open(next.as_ref().unwrap_or(&self.path)) {
            Ok(file) => self.open = Some(BufReader::new(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(next.is_some()),
            Err(error) => return Err(error),
        }
        Ok(true)
    }

    /// Whether the open file is the one that is written.
    fn is_present(&self) -> io::Result<bool> {
        let Some(open) = &self.open else { return Ok(false) };
        let ours = open.get_ref().metadata()?;
        match fs::metadata(&self.path) {
            Ok(found) => Ok((found.dev(), found.ino()) == (ours.dev(), ours.ino())),
            // it is between two names
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// The last `count` lines of what is there; entries that are parts of one line count as one.
    ///
    /// # Errors
    /// As [`LogReader::next_entry`].
    pub fn last(&mut self, count: usize) -> io::Result<Vec<Entry>> {
        let mut kept: VecDeque<Entry> = VecDeque::new();
        let mut lines = 0;
        let ends_line = |entry: &Entry| entry.log.ends_with('\n');
        while let Some(entry) = self.next_entry()? {
            lines += usize::from(kept.back().is_none_or(ends_line));
            kept.push_back(entry);
            while lines > count {
                while kept.pop_front().is_some_and(|entry| !ends_line(&entry)) {}
                lines -= 1;
            }
        }
        Ok(kept.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(folder: &Path) -> Vec<(Source, Vec<u8>)> {
        let mut reader = LogReader::open(folder);
        let next = || reader.next_entry().expect("read");
        std::iter::from_fn(next).map(|entry| (entry.stream, entry.content())).collect()
    }

    #[test]
    fn what_was_written_is_read_byte_by_byte() {
        let top = tempfile::tempdir().expect("folder");
        let mut log = LogWriter::open(top.path(), LogLimits::default());
        log.write(Source::Stdout, b"one\ntw", Moment(1));
        log.write(Source::Stderr, b"\xff\x00raw\n", Moment(2));
        log.write(Source::Stdout, b"o\n\n", Moment(3));
        log.write(Source::Stdout, &[b'x'; 2 * ENTRY_BYTES + 5], Moment(4));
        log.finish(Moment(5));
        let (out, err) = (Source::Stdout, Source::Stderr);
        let mut expected = vec![
            (out, b"one\n".to_vec()),
            (err, b"\xff\x00raw\n".to_vec()),
            (out, b"two\n".to_vec()),
            (out, b"\n".to_vec()),
        ];
        expected.extend([ENTRY_BYTES, ENTRY_BYTES, 5].map(|count| (out, vec![b'x'; count])));
        assert_eq!(all(top.path()), expected);
        let text = fs::read_to_string(top.path().join(FILE)).expect("text");
        let first =
            "{\"log\":\"one\\n\",\"stream\":\"stdout\",\"time\":\"1970-01-01T00:00:00.000000001Z\"}\n";
        assert!(text.starts_with(first), "{text}");
        let last = |count| LogReader::open(top.path()).last(count).expect("read").len();
        assert_eq!([0, 1, 2, 3, 5, 99].map(last), [0, 3, 4, 5, 7, 7]);
    }

    #[test]
    fn a_log_is_no_larger_than_its_limits() {
        let top = tempfile::tempdir().expect("folder");
        for files in [1, 3] {
            let limits = LogLimits { is_kept: true, file_bytes: Some(1000), files };
            let mut log = LogWriter::open(top.path(), limits);
            for number in 0..100 {
                log.write(Source::Stdout, format!("line {number}\n").as_bytes(), Moment(number));
            }
            // as much at once as many files have
            let rest: String = (100..200).map(|number| format!("line {number}\n")).collect();
            log.write(Source::Stdout, rest.as_bytes(), Moment(200));
            let found: Vec<u64> = (0..5)
                .filter_map(|number| Some(fs::metadata(numbered(&top.path().join(FILE), number)).ok()?.len()))
                .collect();
            assert_eq!(found.len(), files as usize);
            assert!(found.iter().all(|size| *size <= 1000), "{found:?}");
            let read = all(top.path());
            assert_eq!(read.last().expect("a line").1, b"line 199\n");
            let numbers: Vec<u32> = read
                .iter()
                .map(|(_, line)| String::from_utf8_lossy(line)[5..].trim().parse().expect("number"))
                .collect();
            assert!(numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{numbers:?}");
        }
        let none = LogLimits { is_kept: false, ..LogLimits::default() };
        let empty = tempfile::tempdir().expect("folder");
        LogWriter::open(empty.path(), none).write(Source::Stdout, b"x\n", Moment(0));
        assert_eq!(fs::read_dir(empty.path()).expect("listed").count(), 0);
    }

    #[test]
    fn a_reader_follows_what_is_written_and_passes_over_what_is_no_entry() {
        let top = tempfile::tempdir().expect("folder");
        let limits = LogLimits { is_kept: true, file_bytes: Some(300), files: 5 };
        let mut log = LogWriter::open(top.path(), limits);
        let mut reader = LogReader::open(top.path());
        assert!(reader.next_entry().expect("nothing yet").is_none());
        for number in 0..20 {
            let line = format!("{number}\n");
            log.write(Source::Stdout, line.as_bytes(), Moment(number));
            if number == 3 {
                let mut file = File::options().append(true).open(top.path().join(FILE)).expect("log");
                file.write_all(b"{\"log\":\n\0\0\0\n").expect("damaged");
            }
            let entry = reader.next_entry().expect("read").expect("an entry");
            assert_eq!(entry.content(), line.as_bytes());
            assert!(reader.next_entry().expect("read").is_none());
        }
    }
}
