//! What the end-to-end tests share: the binary with a store of its own, base images, registries, and a way to skip.
//!
//! Every test has its own folder under target/tmp and so its own store; nothing of the machine's is touched. A test
//! that cannot run here calls [`skip`], which fails in CI.

pub mod base;
pub mod browser;
pub mod chance;
pub mod http;
pub mod image;
pub mod place;
pub mod screen;
pub mod server;
pub mod shell;
pub mod user;
pub mod wire;

use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// No command of a test takes longer, on however slow a machine.
pub const TIME_LIMIT: Duration = Duration::from_secs(240);

pub use slipway_skip::{find, skip};

/// The binary under test.
pub fn binary() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_slipway"))
}

/// A folder for one test.
pub fn scratch() -> tempfile::TempDir {
    let made = tempfile::Builder::new().prefix("e2e-").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    fs::set_permissions(made.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    made
}

/// How a command ended and what it wrote.
pub struct Ended {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
    pub took: Duration,
}

impl Ended {
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// Its standard output, if it succeeded.
    #[track_caller]
    pub fn ok(self) -> String {
        assert!(
            self.status.success(),
            "{}\n--- stdout\n{}--- stderr\n{}",
            self.status,
            self.stdout,
            self.stderr
        );
        self.stdout
    }

    /// Its standard error, if it ended with `code` and a message.
    #[track_caller]
    pub fn fails(self, code: i32) -> String {
        let all = format!("{}\n--- stdout\n{}--- stderr\n{}", self.status, self.stdout, self.stderr);
        assert_eq!(self.status.code(), Some(code), "{all}");
        assert!(!self.stderr.trim().is_empty(), "no message: {all}");
        assert!(!self.stderr.contains("panicked at"), "{all}");
        self.stderr
    }
}

/// A command with its output caught, running.
pub struct Started {
    pub child: Child,
    start: Instant,
    stdout: std::thread::JoinHandle<Vec<u8>>,
    stderr: std::thread::JoinHandle<Vec<u8>>,
    shown: String,
}

/// Starts a command with its output caught.
#[track_caller]
pub fn start(command: &mut Command) -> Started {
    let shown = format!("{command:?}");
    let start = Instant::now();
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start {shown}: {error}"));
    let stdout = drain(child.stdout.take().unwrap());
    let stderr = drain(child.stderr.take().unwrap());
    Started { child, start, stdout, stderr, shown }
}

fn drain(mut from: impl Read + Send + 'static) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = from.read_to_end(&mut bytes);
        bytes
    })
}

impl Started {
    /// Waits for the end, but no longer than [`TIME_LIMIT`].
    #[track_caller]
    pub fn wait(mut self) -> Ended {
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if self.start.elapsed() > TIME_LIMIT {
                self.child.kill().unwrap();
                let status = self.child.wait().unwrap();
                let (stdout, stderr) = (text(self.stdout), text(self.stderr));
                panic!("{} did not end ({status})\n--- stdout\n{stdout}--- stderr\n{stderr}", self.shown);
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        let took = self.start.elapsed();
        Ended { status, stdout: text(self.stdout), stderr: text(self.stderr), took }
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(self.child.id() as i32).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }
}

fn text(thread: std::thread::JoinHandle<Vec<u8>>) -> String {
    String::from_utf8_lossy(&thread.join().unwrap()).into_owned()
}

/// Runs a command to its end with an empty standard input.
#[track_caller]
pub fn run(command: &mut Command) -> Ended {
    start(command.stdin(Stdio::null())).wait()
}

/// Waits until a condition holds.
#[track_caller]
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(120), "still waiting: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The binary with a store of its own.
pub struct Slipway {
    /// The test's folder; shared by stores of one test.
    folder: std::sync::Arc<tempfile::TempDir>,
    /// The store's folder.
    pub root: PathBuf,
    /// Variables of every command.
    pub environment: Vec<(String, String)>,
    /// Who runs it, if not root; its folder is the test's then.
    user: Option<std::sync::Arc<user::User>>,
    /// Whose mounts it sees, if not the machine's.
    place: Option<std::sync::Arc<place::Place>>,
}

impl Slipway {
    /// An empty store.
    pub fn empty() -> Slipway {
        let folder = std::sync::Arc::new(scratch());
        let root = folder.path().join("store");
        Slipway { folder, root, environment: Vec::new(), user: None, place: None }
    }

    /// An empty store of a plain user.
    pub fn of(user: user::User) -> Slipway {
        let root = user.path("home/data/slipway");
        let user = Some(std::sync::Arc::new(user));
        Slipway { root, user, ..Slipway::empty() }
    }

    /// The same store as whoever sees what `script` mounts in a place of its own ([`place::Place`]), where `$F` is the
    /// test's folder; the store is at `root` below it.
    ///
    /// # Errors
    /// What the script said where it failed.
    pub fn on(self, root: &str, script: &str) -> Result<Slipway, String> {
        let place = place::Place::new(self.folder.path(), script)?;
        let root = self.folder.path().join(root);
        Ok(Slipway { root, place: Some(std::sync::Arc::new(place)), ..self })
    }

    /// Whether it is run by root.
    pub fn is_roots(&self) -> bool {
        self.user.is_none() && slipway_skip::is_root()
    }

    /// Where the test itself finds a path of the store.
    pub fn inside(&self, path: &str) -> PathBuf {
        let path = self.root.join(path);
        self.place.as_ref().map_or_else(|| path.clone(), |place| place.path(&path))
    }

    /// A store with the busybox base in it as `base`.
    #[track_caller]
    pub fn new() -> Slipway {
        let slipway = Slipway::empty();
        slipway.import_base();
        slipway
    }

    /// Another store in the same test.
    pub fn another(&self, name: &str) -> Slipway {
        let root = self.folder.path().join(name);
        Slipway {
            folder: self.folder.clone(),
            root,
            environment: self.environment.clone(),
            user: self.user.clone(),
            place: self.place.clone(),
        }
    }

    #[track_caller]
    pub fn import_base(&self) {
        let archive = base::busybox();
        self.ok(["import".as_ref(), archive.as_os_str(), "base".as_ref()]);
    }

    /// A path in the test's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.user.as_ref().map_or_else(|| self.folder.path().join(name), |user| user.path(name))
    }

    /// The command, not yet run.
    pub fn command<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = match (&self.user, &self.place) {
            (None, None) => Command::new(binary()),
            (None, Some(place)) => place.command(&binary()),
            (Some(user), _) => user.command([] as [&str; 0]),
        };
        command.env("SLIPWAY_ROOT", &self.root).env_remove("SOURCE_DATE_EPOCH").env_remove("DOCKER_CONFIG");
        command.env_remove("REGISTRY_AUTH_FILE").env_remove("DOCKER_AUTH_CONFIG");
        // what the machine says about registries is not the test's
        command.env("CONTAINERS_REGISTRIES_CONF", "/dev/null");
        let home = self.user.as_ref().map_or_else(|| self.folder.path().to_owned(), |user| user.path("home"));
        command.env("HOME", home).env("NO_COLOR", "1").stdin(Stdio::null());
        command.envs(self.environment.iter().map(|(name, value)| (name, value))).args(arguments);
        command
    }

    #[track_caller]
    pub fn run<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Ended {
        run(&mut self.command(arguments))
    }

    /// Runs what must succeed; answers its standard output.
    #[track_caller]
    pub fn ok<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> String {
        self.run(arguments).ok()
    }

    /// Runs what must fail with `code`; answers its standard error.
    #[track_caller]
    pub fn fails<S: AsRef<OsStr>>(&self, code: i32, arguments: impl IntoIterator<Item = S>) -> String {
        self.run(arguments).fails(code)
    }

    /// Makes a context folder of paths and texts; a path that ends in `/` is a folder.
    pub fn context(&self, name: &str, files: &[(&str, &str)]) -> PathBuf {
        let folder = self.path(name);
        write_tree(&folder, files);
        folder
    }

    /// Builds `recipe` on a context with `files`, as `name`; the output is of `--progress plain`.
    #[track_caller]
    pub fn build(&self, name: &str, recipe: &str, files: &[(&str, &str)]) -> Ended {
        self.build_with(name, recipe, files, &[])
    }

    /// The same, with more flags.
    #[track_caller]
    pub fn build_with(&self, name: &str, recipe: &str, files: &[(&str, &str)], flags: &[&str]) -> Ended {
        let context = self.context(&format!("context-{name}"), files);
        fs::write(context.join("Dockerfile"), recipe).unwrap();
        self.build_folder(name, &context, flags)
    }

    /// Builds a folder.
    #[track_caller]
    pub fn build_folder(&self, name: &str, context: &Path, flags: &[&str]) -> Ended {
        let mut command = self.command(["build", "--progress", "plain", "-t", name]);
        run(command.args(flags).arg(context))
    }

    /// Runs a shell script in an image; it must succeed.
    #[track_caller]
    pub fn shell(&self, image: &str, script: &str) -> String {
        self.ok(["run", "--rm", "--network", "none", image, "/bin/sh", "-c", script])
    }

    /// The image's manifest digest.
    #[track_caller]
    pub fn digest(&self, image: &str) -> String {
        self.ok(["inspect", "--format", "{{.Digest}}", image]).trim().to_owned()
    }

    /// Names in the store's `tmp/`: what is half-written.
    pub fn leftovers(&self) -> Vec<String> {
        let names = fs::read_dir(self.inside("tmp")).into_iter().flatten().flatten();
        names.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }
}

/// Writes files and folders below `folder`.
pub fn write_tree(folder: &Path, files: &[(&str, &str)]) {
    fs::create_dir_all(folder).unwrap();
    for (path, text) in files {
        let place = folder.join(path);
        if path.ends_with('/') {
            fs::create_dir_all(&place).unwrap();
        } else {
            fs::create_dir_all(place.parent().unwrap()).unwrap();
            fs::write(&place, text).unwrap();
        }
    }
}

/// Runs a command with `input` on its standard input.
#[track_caller]
pub fn run_with_input(command: &mut Command, input: &[u8]) -> Ended {
    use std::io::Write;
    let mut started = start(command.stdin(Stdio::piped()));
    let mut stdin = started.child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || {
        // a command that ends without reading all is free to
        let _ = stdin.write_all(&input);
    });
    let ended = started.wait();
    writer.join().unwrap();
    ended
}

/// How many processes have `text` as a word of their command line, other than those of the binary under test.
pub fn processes_with(text: &str) -> usize {
    pids_with(text).len()
}

/// Those processes.
pub fn pids_with(text: &str) -> Vec<rustix::process::Pid> {
    let own = binary();
    let matches = |entry: &fs::DirEntry| {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let mut words = line.split(|byte| *byte == 0);
        let program = words.next().unwrap_or_default();
        // typed by its name it is nothing else
        let is_ours = program == own.as_os_str().as_encoded_bytes() || program == b"slipway";
        !is_ours && words.any(|word| word == text.as_bytes())
    };
    let entries = fs::read_dir("/proc").unwrap().flatten().filter(matches);
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(rustix::process::Pid::from_raw).collect()
}

/// Both sides of a new terminal of 33 rows and 99 columns.
pub fn terminal() -> (fs::File, fs::File) {
    use rustix::fs::{Mode, OFlags, open};
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&ours).unwrap();
    unlockpt(&ours).unwrap();
    let name = ptsname(&ours, Vec::new()).unwrap();
    let theirs =
        open(name.as_c_str(), OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty()).unwrap();
    let size = rustix::termios::Winsize { ws_row: 33, ws_col: 99, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(&theirs, size).unwrap();
    (ours.into(), theirs.into())
}
