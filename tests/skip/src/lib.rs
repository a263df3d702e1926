//! How a test of this house says that it cannot run on a machine: [`skip`], and the conditions that lead to it.
//!
//! Rust's runner knows no test that finds out at run time. So a skipped one ends as passed there, writes its name and
//! reason into the file that `SLIPWAY_SKIPPED` names, and `cargo xtask test` counts it as skipped. CI may skip
//! only what its kernel cannot do.

pub mod engines;

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;

/// Says why the running test cannot run here.
///
/// # Panics
/// In CI, where every test must run.
#[track_caller]
pub fn skip(reason: &str) {
    let ci = std::env::var_os("CI").is_some_and(|value| !value.is_empty() && value != "false");
    assert!(!ci, "CI must run `{}`, but {reason}", running());
    write_down(reason);
}

/// Says why the running test cannot run on a kernel that was built without something: no package brings another kernel,
/// so CI takes it too. The caller has found that the kernel is what is missing.
pub fn skip_for_kernel(reason: &str) {
    write_down(&format!("this kernel was built without it: {reason}"));
}

fn running() -> String {
    std::thread::current().name().unwrap_or("a test").to_owned()
}

fn write_down(reason: &str) {
    let test = running();
    let line = format!("{test}: {reason}\n");
    // the runner keeps what a passed test prints to itself
    print!("skipped: {line}");
    if let Some(list) = std::env::var_os("SLIPWAY_SKIPPED") {
        let file = OpenOptions::new().append(true).create(true).open(list);
        file.and_then(|mut file| file.write_all(line.as_bytes()))
            .expect("the list of skipped tests takes a line");
    }
}

/// Whether the tests run as root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whether the running kernel is this version or a later one.
pub fn has_kernel(major: u32, minor: u32) -> bool {
    let release = rustix::system::uname();
    let text = release.release().to_string_lossy();
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (major, minor)
}

/// The shape that layers are to have in this run (`cargo xtask test --shapes` sets it), for tests that make them without
/// the program, which reads the variable itself; `None` for what the test makes of its own.
pub fn shape() -> Option<String> {
    std::env::var("SLIPWAY_LAYERS").ok().filter(|shape| !shape.is_empty() && shape != "auto")
}

/// Where Debian keeps what a PostgreSQL server is made of.
const POSTGRES: &str = "/usr/lib/postgresql/15/bin";

/// Where a program is: on the path, or built by `cargo xtask test` (`xtask/src/process.rs`).
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders =
        std::env::split_paths(&path).chain(["/usr/sbin", "/usr/bin", "/bin", POSTGRES].map(PathBuf::from));
    let folder = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = folder("XDG_CACHE_HOME").or_else(|| Some(folder("HOME")?.join(".cache")));
    let built = cache.map(|cache| cache.join("slipway-peers"));
    folders.chain(built).map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// Ends the test as skipped unless a condition holds; the rest are the words for that.
#[macro_export]
macro_rules! need_that {
    ($condition:expr, $($reason:tt)+) => {
        if !$condition {
            return $crate::skip(&format!($($reason)+));
        }
    };
}

/// Ends the test as skipped unless it is root's.
#[macro_export]
macro_rules! need_root {
    () => {
        $crate::need_that!($crate::is_root(), "it needs root")
    };
}

/// Ends the test as skipped unless the programs are installed.
#[macro_export]
macro_rules! need {
    ($($program:literal),+) => {
        for program in [$($program),+] {
            $crate::need_that!($crate::find(program).is_some(), "`{program}` is not installed");
        }
    };
}
