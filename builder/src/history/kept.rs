//! The history as it lies in the store: made, read, tidied, removed.

use super::record::{BuildRecord, Line, StepRecord, VERSION};
use crate::limits;
use slipway_oci::{file, private};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, BufRead, BufReader, Read},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// How long a folder without a record is left to whoever may be making it, in seconds.
const STRANGER_SECONDS: u64 = 86_400;
/// Hexadecimal digits of an id.
const ID_DIGITS: usize = 12;

/// A failure around the history.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The file system refused.
    #[error("cannot {operation} `{path}`")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On which path.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Nothing is kept at all.
    #[error("no builds are kept here")]
    Empty,
    /// No build has the id or name.
    #[error("no build `{0}` is kept here")]
    NoBuild(String),
    /// Several builds have ids that begin so.
    #[error("`{0}` is the beginning of several builds' ids: write more of it")]
    Ambiguous(String),
    /// The build has no such step.
    #[error("build {build} has no step `{step}`")]
    NoStep {
        /// The build's id.
        build: String,
        /// What was asked for.
        step: String,
    },
    /// A build that is under way cannot be removed.
    #[error("build {0} is running")]
    Running(String),
}

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> HistoryError {
    let path = path.to_owned();
    move |source| HistoryError::Io { operation, path, source }
}

/// The builds that a store remembers. Reading it asks for no lock and writes nothing, so it can be read of a store that is
/// not writable, or damaged.
#[derive(Clone, Debug)]
pub struct History {
    folder: PathBuf,
}

impl History {
    /// That of the store in `root`, which need not be there.
    pub fn of(root: &Path) -> History {
        History { folder: root.join("builds") }
    }

    /// The builds, the last one first. What cannot be read as a build is passed over.
    pub fn builds(&self) -> Result<Vec<BuildRecord>, HistoryError> {
        let mut builds: Vec<BuildRecord> =
            self.folders()?.iter().rev().filter_map(|name| self.read(name)).collect();
        // the clock may have been set back; the order is that of the names then
        builds.sort_by(|one, other| other.folder.cmp(&one.folder));
        Ok(builds)
    }

    /// The build that a text means: an id or the beginning of one, `^N` for the one N before the last, a name that an image got,
    /// or nothing for the last.
    pub fn find(&self, text: Option<&str>) -> Result<BuildRecord, HistoryError> {
        let folders = self.folders()?;
        let Some(text) = text else {
            return folders.iter().rev().find_map(|name| self.read(name)).ok_or(HistoryError::Empty);
        };
        let none = || HistoryError::NoBuild(text.to_owned());
        if let Some(back) = text.strip_prefix('^') {
            let back: usize = if back.is_empty() { 1 } else { back.parse().map_err(|_| none())? };
            return self.builds()?.into_iter().nth(back).ok_or_else(none);
        }
        let hex = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let mut named =
            folders.iter().filter(|name| hex && id_of(name).is_some_and(|id| id.starts_with(text)));
        if let Some(name) = named.next() {
            return match named.next() {
                Some(_) => Err(HistoryError::Ambiguous(text.to_owned())),
                None => self.read(name).ok_or_else(none),
            };
        }
        let called = |build: &BuildRecord| {
            build.names.iter().any(|name| name == text || name.strip_suffix(":latest") == Some(text))
        };
        self.builds()?.into_iter().find(called).ok_or_else(none)
    }

    /// The builds that began before another one, the last one first: what its steps are compared with.
    pub fn before(&self, build: &BuildRecord) -> Result<Vec<BuildRecord>, HistoryError> {
        let mut builds = self.builds()?;
        // one that began later is no earlier result, though it may have ended before
        builds.retain(|other| other.id != build.id && other.began_ms <= build.began_ms);
        Ok(builds)
    }

    /// Where a build's files are.
    pub fn folder_of(&self, build: &BuildRecord) -> PathBuf {
        self.folder.join(&build.folder)
    }

    /// What a step's command wrote; `None` where nothing of it is kept.
    pub fn log(&self, build: &BuildRecord, step: &StepRecord) -> Result<Option<File>, HistoryError> {
        let path = self.folder_of(build).join(format!("{}.log", step.number));
        match File::open(&path) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("open", &path)(error)),
        }
    }

    /// What a COPY or ADD selected, a line a path; `None` where the list is not kept.
    pub fn listing(&self, build: &BuildRecord, step: &StepRecord) -> Option<Vec<u8>> {
        let path = self.folder_of(build).join(format!("{}.files", step.number));
        file::read_capped(&path, limits::LISTING_BYTES as u64).ok()
    }

    /// Forgets a build that has ended.
    pub fn remove(&self, build: &BuildRecord) -> Result<(), HistoryError> {
        if build.end.is_none() && is_held(&self.folder_of(build)) {
            return Err(HistoryError::Running(build.id.clone()));
        }
        let path = self.folder_of(build);
        match file::remove_tree(&path) {
            // another process may have been first
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", &path)(error)),
            _ => Ok(()),
        }
    }

    /// Forgets the oldest builds until the rest is within its bounds; those under way stay.
    pub(crate) fn tidy(&self) -> Result<(), HistoryError> {
        let mut folders = self.folders()?;
        folders.reverse();
        let (mut count, mut bytes) = (0, 0);
        for name in folders {
            let path = self.folder.join(&name);
            count += 1;
            bytes += disk_bytes(&path);
            let first = count == 1;
            let within = count <= limits::HISTORY_BUILDS && (bytes <= limits::HISTORY_BYTES || first);
            if !within && !is_held(&path) {
                // what cannot be removed now goes with the next build
                let _ = file::remove_tree(&path);
            }
        }
        Ok(())
    }

    /// Makes the folder of a build, and its record, which is held as long as it is open. Gives the build its id.
    pub(super) fn create(&self, build: &mut BuildRecord) -> io::Result<(File, PathBuf)> {
        match private::new_folder(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            other => other?,
        }
        let mut random = [0; ID_DIGITS / 2];
        File::open("/dev/urandom")?.read_exact(&mut random)?;
        build.id = random.iter().map(|byte| format!("{byte:02x}")).collect();
        build.folder = format!("{:013}-{}", build.began_ms, build.id);
        let folder = self.folder.join(&build.folder);
        private::new_folder(&folder)?;
        let path = folder.join("record");
        let record = File::options().append(true).create_new(true).mode(0o600).open(path)?;
        record.lock()?;
        Ok((record, folder))
    }

    /// Names of the builds' folders, the oldest first.
    fn folders(&self) -> Result<Vec<String>, HistoryError> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed("list", &self.folder)(error)),
        };
        let mut names: Vec<String> = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| id_of(name).is_some())
            .collect();
        names.sort();
        Ok(names)
    }

    fn read(&self, name: &str) -> Option<BuildRecord> {
        let path = self.folder.join(name).join("record");
        let file = File::open(&path).ok()?;
        // asked before the end is looked for: who has let go has written it
        let alive = is_held(&self.folder.join(name));
        let mut build: Option<BuildRecord> = None;
        let (mut steps, mut end) = (BTreeMap::new(), None);
        let mut lines = BufReader::new(file.take(limits::RECORD_BYTES));
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line).ok()? > 0 {
            match serde_json::from_slice::<Line>(&line) {
                Ok(Line::Build(found)) if found.version == VERSION => build = Some(*found),
                Ok(Line::Step(step)) => drop(steps.insert(step.number, *step)),
                Ok(Line::End(found)) => end = Some(found),
                Ok(Line::Build(_)) | Err(_) => {}
            }
            line.clear();
        }
        let mut build = build?;
        build.steps = steps.into_values().collect();
        build.alive = alive && end.is_none();
        build.end = end;
        name.clone_into(&mut build.folder);
        Some(build)
    }
}

/// The id in a folder's name.
fn id_of(name: &str) -> Option<&str> {
    let (time, id) = name.split_once('-')?;
    let plain = time.bytes().all(|byte| byte.is_ascii_digit()) && id.len() == ID_DIGITS;
    (plain && id.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(id)
}

/// Whether somebody is at work on a build's record, or may be making it.
fn is_held(folder: &Path) -> bool {
    match File::open(folder.join("record")) {
        Ok(file) => matches!(file.try_lock_shared(), Err(fs::TryLockError::WouldBlock)),
        Err(_) => {
            let modified = fs::symlink_metadata(folder).and_then(|status| status.modified()).ok();
            let age = modified.and_then(|time| time.elapsed().ok());
            age.is_none_or(|age| age.as_secs() < STRANGER_SECONDS)
        }
    }
}

/// Bytes of disk that the files in a folder take.
fn disk_bytes(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let sizes = entries.filter_map(|entry| entry.ok()?.metadata().ok());
    sizes.map(|status| status.blocks() * 512).sum()
}
