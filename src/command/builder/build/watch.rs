//! `build --watch`: builds again whenever something changes that a build could see.
//!
//! Each build is a process of its own, called with the same line: one that is under way when something changes is stopped as Ctrl-C
//! stops it, and begun again. Changes are heard of by inotify; what they come to is decided by looking: paths that the ignore
//! file excludes are in no picture, and a change that changes nothing builds nothing.

use super::Arguments;
use crate::{app, command::dockerfile, error::Failure, show};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::inotify::{self, CreateFlags, WatchFlags},
    io::Errno,
    process::{Pid, Signal, kill_process},
};
use slipway_builder::{context_paths, read_ignore_file};
use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    os::{fd::OwnedFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
    process::{Child, Command},
    time::Duration,
};

/// How long nothing may change before it is built: an editor writes a file in several steps.
const QUIET: Duration = Duration::from_millis(150);
/// How often it is looked where the kernel cannot say what changes.
const LOOK: Duration = Duration::from_secs(1);

/// What a build could see: each path's inode, size, mode and times.
type Picture = BTreeMap<PathBuf, (u64, u64, u32, i64, i64)>;

/// What is watched.
struct Watched {
    folder: PathBuf,
    recipe: PathBuf,
    /// What the build itself writes.
    written: Vec<PathBuf>,
}

impl Watched {
    fn picture(&self) -> Result<Picture, Failure> {
        let ignore =
            read_ignore_file(Some(&self.recipe), &self.folder).map_err(|error| Failure::of(&error))?;
        let (name, text) = ignore.map_or((None, None), |(name, text)| (Some(name), Some(text)));
        let mut picture = Picture::new();
        let visible = context_paths(&self.folder, text.as_deref()).map_err(|error| Failure::of(&error))?;
        // what a build writes is no change, or it would begin again for ever
        let is_own = |path: &PathBuf| self.written.iter().any(|own| path.starts_with(own));
        let paths = visible.into_iter().map(|path| self.folder.join(path)).filter(|path| !is_own(path));
        let own = [self.recipe.clone()].into_iter().chain(name.map(|name| self.folder.join(name)));
        for path in paths.chain(own).chain([self.folder.clone()]) {
            // what goes while it is looked at is gone
            let Ok(found) = fs::symlink_metadata(&path) else { continue };
            let nanos = found.mtime().saturating_mul(1_000_000_000).saturating_add(found.mtime_nsec());
            let changed = found.ctime().saturating_mul(1_000_000_000).saturating_add(found.ctime_nsec());
            // a folder's own times say what its names say, and what is ignored in it
            let times = if found.is_dir() { (0, 0) } else { (nanos, changed) };
            let size = if found.is_dir() { 0 } else { found.len() };
            picture.insert(path, (found.ino(), size, found.mode(), times.0, times.1));
        }
        Ok(picture)
    }

    /// Asks the kernel to tell of all folders of the picture; nothing where it cannot.
    fn listen(&self, picture: &Picture) -> Option<OwnedFd> {
        let listener = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok()?;
        let what = WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::MODIFY
            | WatchFlags::ATTRIB;
        let beside = self.recipe.parent().map(Path::to_owned);
        let folders = picture.keys().filter(|path| path.is_dir()).cloned().chain(beside);
        for folder in folders {
            match inotify::add_watch(&listener, &folder, what) {
                // gone again
                Ok(_) | Err(Errno::NOENT | Errno::NOTDIR) => {}
                Err(_) => return None,
            }
        }
        Some(listener)
    }
}

/// A build under way.
struct Build(Child);

impl Build {
    fn start() -> Result<Build, Failure> {
        // `--watch=true` is read too: what stayed of it would watch again, for ever
        let is_watch =
            |word: &OsString| word == "--watch" || word.as_encoded_bytes().starts_with(b"--watch=");
        let line: Vec<OsString> = std::env::args_os().skip(1).filter(|word| !is_watch(word)).collect();
        Ok(Build(Command::new(app::program()).args(line).spawn()?))
    }

    fn is_over(&mut self) -> Result<bool, Failure> {
        Ok(self.0.try_wait()?.is_some())
    }

    /// Stops it as a person does, and waits for its end.
    fn stop(&mut self) -> Result<(), Failure> {
        if !self.is_over()? {
            if let Some(pid) = Pid::from_raw(self.0.id() as i32) {
                // one that ends at this moment takes no signal
                let _ = kill_process(pid, Signal::INT);
            }
            self.0.wait()?;
        }
        Ok(())
    }
}

impl Drop for Build {
    fn drop(&mut self) {
        let _ = self.stop();
    }
}

/// Where a line has its build write, the store among it.
fn written(arguments: &Arguments, store: PathBuf) -> Result<Vec<PathBuf>, Failure> {
    let files = [&arguments.iidfile, &arguments.metadata_file, &arguments.digest_file, &arguments.trace];
    let mut written: Vec<PathBuf> = files.into_iter().flatten().cloned().chain([store]).collect();
    for words in arguments.outputs.iter().chain(&arguments.cache_to) {
        let dest = words.split(',').find_map(|word| word.strip_prefix("dest="));
        // a word alone is a folder
        let alone = (!words.contains('=')).then_some(words.as_str());
        written.extend(dest.or(alone).map(PathBuf::from));
    }
    Ok(written.into_iter().map(std::path::absolute).collect::<Result<_, _>>()?)
}

/// Builds until it is stopped.
///
/// # Errors
/// When the context is no folder, or no build can be begun; a build that fails is begun again with the next change.
pub(super) fn run(arguments: &Arguments, store: PathBuf) -> Result<u8, Failure> {
    let folder = std::path::absolute(&arguments.context)?;
    if !folder.is_dir() || arguments.file.as_deref().is_some_and(|file| file == Path::new("-")) {
        return Err(Failure::usage("--watch watches a folder and a file: the context or the recipe is none"));
    }
    let recipe = arguments.file.clone();
    let recipe = recipe.unwrap_or_else(|| dockerfile::fmt::default_recipe(&folder));
    let watched = Watched { folder, recipe, written: written(arguments, store)? };
    let mut picture = watched.picture()?;
    let mut told = false;
    loop {
        let listener = watched.listen(&picture);
        if listener.is_none() && !told {
            told = true;
            show::note(
                "note: the kernel watches no more folders (fs.inotify.max_user_watches): it is looked once a second",
            );
        }
        let mut build = Build::start()?;
        let (mut said, mut first) = (false, true);
        loop {
            // what came between the picture and the listener is seen by looking
            let heard = wait(listener.as_ref()) || first;
            first = false;
            if !said && build.is_over()? {
                said = true;
                show::note(format_args!("watching `{}`; Ctrl-C ends it", watched.folder.display()));
            }
            let now = if heard { settled(&watched, &picture)? } else { None };
            if let Some(now) = now {
                picture = now;
                break;
            }
        }
        build.stop()?;
    }
}

/// Another picture than `before`, once it stays the same for a moment; nothing where it is the same. A folder that goes while it
/// is walked, or a file of patterns that is half written, is looked at again.
fn settled(watched: &Watched, before: &Picture) -> Result<Option<Picture>, Failure> {
    let begun = std::time::Instant::now();
    let mut last: Option<Picture> = None;
    loop {
        match (watched.picture(), last.take()) {
            (Ok(now), None) if now == *before => return Ok(None),
            (Ok(now), Some(earlier)) if now == earlier => {
                return Ok(if now == *before { None } else { Some(now) });
            }
            (Ok(now), _) => last = Some(now),
            (Err(failure), _) if begun.elapsed() > PATIENCE => return Err(failure),
            (Err(_), _) => {}
        }
        std::thread::sleep(QUIET);
    }
}

/// How long a context may be no context before that is a failure.
const PATIENCE: Duration = Duration::from_secs(5);

/// Waits for a word of the kernel's, and no longer than a moment: the build's end is to be said as well. Whether something may
/// have changed.
fn wait(listener: Option<&OwnedFd>) -> bool {
    let Some(listener) = listener else {
        std::thread::sleep(LOOK);
        return true;
    };
    let wait = Timespec { tv_sec: LOOK.as_secs() as i64, tv_nsec: 0 };
    let heard = poll(&mut [PollFd::new(listener, PollFlags::IN)], Some(&wait)).is_ok_and(|count| count > 0);
    let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
    let mut reader = inotify::Reader::new(listener, &mut buffer);
    // what it was is seen by looking; the words are only taken away
    while reader.next().is_ok() {}
    heard
}
