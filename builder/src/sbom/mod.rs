//! Which packages an image has: what the databases of its package managers and its programs say of themselves.
//!
//! Nothing of the image is executed. Paths are those of the image's tables of contents, so no link leads out of it; every file has a
//! cap ([`limits`](crate::limits)), every list a bound. What cannot be read is said with its place, and stops nothing.
//!
//! | of | read |
//! |---|---|
//! | Debian and its kin | `var/lib/dpkg/status`, `var/lib/dpkg/status.d/*` ([`dpkg`]) |
//! | Alpine | `lib/apk/db/installed`, `usr/lib/apk/db/installed` ([`dpkg`]) |
//! | Fedora, SUSE and their kin | `rpmdb.sqlite`, `Packages.db` ([`rpm`]) |
//! | Python, Node | `*.dist-info/METADATA`, `*.egg-info`, `node_modules/*/package.json` ([`script`]) |
//! | Rust, Go | what `cargo auditable` and Go's linker write into programs ([`binary`]) |

mod binary;
mod document;
mod dpkg;
mod licence;
mod rpm;
mod script;

pub use document::{About, CYCLONEDX_TYPE, SPDX_TYPE, cyclonedx, spdx};

use crate::limits;
use slipway_oci::layer::{Kind as PathKind, Tree};
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::Path,
};

/// Reads a file of a layer: the layer's number, the path in it, the most bytes that are taken.
pub type ReadFile<'a> = &'a dyn Fn(usize, &Path, u64) -> io::Result<Vec<u8>>;

/// Whose package it is; the names are those of package URLs (purl-spec, `PURL-TYPES.rst`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Alpine's.
    Apk,
    /// Rust's.
    Cargo,
    /// Debian's.
    Deb,
    /// Go's.
    Golang,
    /// Node's.
    Npm,
    /// Python's.
    Pypi,
    /// Fedora's and SUSE's.
    Rpm,
}

impl Kind {
    /// The name of the type in package URLs.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Apk => "apk",
            Kind::Cargo => "cargo",
            Kind::Deb => "deb",
            Kind::Golang => "golang",
            Kind::Npm => "npm",
            Kind::Pypi => "pypi",
            Kind::Rpm => "rpm",
        }
    }

    /// Whether the distribution decides what the name means.
    fn is_of_distribution(self) -> bool {
        matches!(self, Kind::Apk | Kind::Deb | Kind::Rpm)
    }
}

/// One package.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Package {
    /// Whose.
    pub kind: Kind,
    /// Its name, with the scope of those of Node.
    pub name: String,
    /// Its version.
    pub version: String,
    /// What it is for.
    pub architecture: Option<String>,
    /// Its epoch, of those of RPM.
    pub epoch: Option<u32>,
    /// What it was made from: `name` or `name version`.
    pub source: Option<String>,
    /// Who made it.
    pub supplier: Option<String>,
    /// Its licences, as it says them.
    pub licence: Option<String>,
    /// The file that says so.
    pub place: String,
}

impl Package {
    fn new(kind: Kind, name: &str, version: &str) -> Package {
        Package {
            kind,
            name: name.to_owned(),
            version: version.to_owned(),
            architecture: None,
            epoch: None,
            source: None,
            supplier: None,
            licence: None,
            place: String::new(),
        }
    }
}

/// The distribution, as `os-release` says it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Distribution {
    /// `ID`.
    pub id: String,
    /// `VERSION_ID`.
    pub version: Option<String>,
    /// `PRETTY_NAME`.
    pub name: Option<String>,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The packages, sorted, each once.
    pub packages: BTreeSet<Package>,
    /// The distribution.
    pub distribution: Option<Distribution>,
    /// What could not be read: where, and why.
    pub warnings: Vec<String>,
}

/// Where to look within the tree.
#[derive(Default)]
struct Places {
    python: Vec<Vec<u8>>,
    node: Vec<Vec<u8>>,
    programs: Vec<Vec<u8>>,
}

/// An image while it is looked through.
struct Scan<'a> {
    tree: &'a Tree,
    read: ReadFile<'a>,
    found: Found,
    /// Bytes of programs that may still be read.
    program_bytes: u64,
}

/// Looks an image's file system through.
pub fn scan(tree: &Tree, read: ReadFile<'_>) -> Found {
    let mut scan = Scan { tree, read, found: Found::default(), program_bytes: limits::SBOM_PROGRAMS_BYTES };
    scan.distribution();
    scan.debian();
    scan.alpine();
    scan.rpm();
    let places = scan.places();
    scan.each(&places.python, |text, place| script::python(text, place).into_iter().collect());
    scan.each(&places.node, |text, place| script::node(text, place).into_iter().collect());
    for path in &places.programs {
        scan.program(path);
    }
    scan.found
}

impl Scan<'_> {
    fn warn(&mut self, place: &[u8], why: &dyn std::fmt::Display) {
        if self.found.warnings.len() < limits::SBOM_WARNINGS {
            self.found.warnings.push(format!("`{}`: {why}", clean(&String::from_utf8_lossy(place))));
        }
    }

    fn add(&mut self, packages: Vec<Package>, place: &[u8]) {
        for mut package in packages {
            if self.found.packages.len() >= limits::SBOM_PACKAGES {
                return self.warn(place, &"more packages than are listed");
            }
            package.place = clean(&format!("/{}", String::from_utf8_lossy(place)));
            for text in [&mut package.name, &mut package.version] {
                *text = clean(text);
            }
            for text in
                [&mut package.architecture, &mut package.source, &mut package.supplier, &mut package.licence]
            {
                *text = text.take().map(|text| clean(&text)).filter(|text| !text.is_empty());
            }
            if !package.name.is_empty() {
                self.found.packages.insert(package);
            }
        }
    }

    /// The bytes of the file that a path leads to; `None` where there is none.
    fn bytes(&mut self, path: &[u8], most_bytes: u64) -> Option<Vec<u8>> {
        let resolved = self.tree.resolve(path, true).ok().filter(|resolved| resolved.exists)?;
        let mut found = self.tree.get(&resolved.path)?;
        if found.entry.kind == PathKind::Hardlink {
            let entry = self.tree.layers()[found.layer].get(&found.entry.link)?;
            found.entry = entry;
        }
        if found.entry.kind != PathKind::File {
            return None;
        }
        if found.entry.size_bytes > most_bytes {
            self.warn(path, &format_args!("it has more than the {most_bytes} bytes that are taken"));
            return None;
        }
        match (self.read)(found.layer, found.entry.as_path(), most_bytes) {
            Ok(bytes) => Some(bytes),
            Err(error) => {
                self.warn(path, &error);
                None
            }
        }
    }

    /// The names in a folder.
    fn names(&self, folder: &[u8]) -> Vec<Vec<u8>> {
        let resolved = self.tree.resolve(folder, true).ok().filter(|resolved| resolved.exists);
        resolved.map_or_else(Vec::new, |resolved| self.tree.children(&resolved.path).into_keys().collect())
    }

    fn distribution(&mut self) {
        for path in [&b"etc/os-release"[..], b"usr/lib/os-release"] {
            let Some(bytes) = self.bytes(path, limits::SBOM_TEXT_BYTES) else { continue };
            let text = String::from_utf8_lossy(&bytes);
            let values: BTreeMap<&str, String> = text
                .lines()
                .filter_map(|line| line.split_once('='))
                .map(|(name, value)| (name.trim(), clean(value.trim().trim_matches(['"', '\'']))))
                .collect();
            let said = |name: &str| values.get(name).filter(|value| !value.is_empty()).cloned();
            let id = said("ID").unwrap_or_else(|| "linux".to_owned()).to_ascii_lowercase();
            self.found.distribution =
                Some(Distribution { id, version: said("VERSION_ID"), name: said("PRETTY_NAME") });
            return;
        }
    }

    fn debian(&mut self) {
        let path = b"var/lib/dpkg/status";
        if let Some(bytes) = self.bytes(path, limits::SBOM_DATABASE_BYTES) {
            self.add(dpkg::debian(&bytes, true), path);
        }
        // an image without a package manager has a file a package
        let folder = b"var/lib/dpkg/status.d";
        for name in self.names(folder).into_iter().filter(|name| !name.ends_with(b".md5sums")) {
            let path = [&folder[..], b"/", &name].concat();
            if let Some(bytes) = self.bytes(&path, limits::SBOM_TEXT_BYTES) {
                self.add(dpkg::debian(&bytes, false), &path);
            }
        }
    }

    fn alpine(&mut self) {
        for path in [&b"lib/apk/db/installed"[..], b"usr/lib/apk/db/installed"] {
            if let Some(bytes) = self.bytes(path, limits::SBOM_DATABASE_BYTES) {
                self.add(dpkg::alpine(&bytes), path);
                return;
            }
        }
    }

    fn rpm(&mut self) {
        for folder in ["usr/lib/sysimage/rpm", "var/lib/rpm"] {
            let path = format!("{folder}/rpmdb.sqlite");
            if let Some(bytes) = self.bytes(path.as_bytes(), limits::SBOM_DATABASE_BYTES) {
                let log = format!("{path}-wal");
                if self.bytes(log.as_bytes(), limits::SBOM_DATABASE_BYTES).is_some_and(|log| !log.is_empty())
                {
                    self.warn(log.as_bytes(), &"what it holds beside the database is not read");
                }
                return self.add_read(path.as_bytes(), rpm::sqlite(bytes));
            }
            let path = format!("{folder}/Packages.db");
            if let Some(bytes) = self.bytes(path.as_bytes(), limits::SBOM_DATABASE_BYTES) {
                return self.add_read(path.as_bytes(), rpm::ndb(&bytes));
            }
            let path = format!("{folder}/Packages");
            if self.bytes(path.as_bytes(), limits::SBOM_DATABASE_BYTES).is_some() {
                let why =
                    "databases of RPM in the form of Berkeley DB are not read: its packages are missing";
                return self.warn(path.as_bytes(), &why);
            }
        }
    }

    fn add_read(&mut self, path: &[u8], read: Result<(Vec<Package>, usize), String>) {
        match read {
            Ok((packages, damaged)) => {
                if damaged > 0 {
                    self.warn(path, &format_args!("{damaged} of its packages cannot be read"));
                }
                self.add(packages, path);
            }
            Err(why) => self.warn(path, &why),
        }
    }

    fn places(&self) -> Places {
        let mut places = Places::default();
        let mut left = limits::SBOM_FILES;
        self.tree.walk(b"", &mut |path, found| {
            if matches!(path, b"proc" | b"sys" | b"dev") || left == 0 {
                return false;
            }
            if !matches!(found.entry.kind, PathKind::File | PathKind::Hardlink) {
                return true;
            }
            left -= 1;
            if script::is_python(path) {
                places.python.push(path.to_vec());
            } else if script::is_node(path) {
                places.node.push(path.to_vec());
            } else if found.entry.mode & 0o111 != 0 {
                places.programs.push(path.to_vec());
            }
            true
        });
        places
    }

    fn each(&mut self, paths: &[Vec<u8>], parse: impl Fn(&[u8], &str) -> Vec<Package>) {
        for path in paths {
            let Some(bytes) = self.bytes(path, limits::SBOM_TEXT_BYTES) else { continue };
            let packages = parse(&bytes, &String::from_utf8_lossy(path));
            self.add(packages, path);
        }
    }

    fn program(&mut self, path: &[u8]) {
        let size_bytes = self.tree.get(path).map_or(0, |found| found.entry.size_bytes);
        if size_bytes > self.program_bytes {
            return self.warn(path, &"so many bytes of programs are not looked through");
        }
        self.program_bytes -= size_bytes;
        let Some(bytes) = self.bytes(path, limits::SBOM_PROGRAM_BYTES) else { return };
        match binary::packages(&bytes) {
            Ok(packages) => self.add(packages, path),
            Err(why) => self.warn(path, &why),
        }
    }
}

/// A text of the image, without control characters and no longer than anybody reads.
fn clean(text: &str) -> String {
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let short: String = plain.take(limits::SBOM_FIELD_CHARS).collect();
    short.trim().to_owned()
}

#[cfg(test)]
mod tests;
