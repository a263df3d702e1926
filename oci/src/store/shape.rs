//! In which shape layers are made runnable: what is wanted, and what the machine allows.

use super::{Store, StoreError, io_at};
use crate::{
    file,
    layer::{self, OverlayXattrs},
};
use std::{
    fs::{self, File},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// What a layer is on disk while something runs on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A folder.
    Unpacked,
    /// A file that the kernel mounts by itself.
    Mounted,
    /// A file that is mounted through a loop device.
    Looped,
}

impl Shape {
    /// Every one, the best first.
    pub const ALL: [Shape; 3] = [Shape::Mounted, Shape::Looped, Shape::Unpacked];

    /// The word for it on the command line and in `slipway info`.
    pub fn name(self) -> &'static str {
        match self {
            Shape::Unpacked => "unpacked",
            Shape::Mounted => "mounted",
            Shape::Looped => "loop",
        }
    }
}

/// How the shape is chosen.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// The one that was asked for; `None` is the best that the machine allows.
    pub shape: Option<Shape>,
    /// Tries to mount a layer's file, and says why it cannot be.
    pub try_mount: fn(&Path, Shape) -> Result<(), String>,
}

/// The shape that layers get here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// Which.
    pub shape: Shape,
    /// Why this one, in words.
    pub reason: String,
}

impl Store {
    /// Says how layers get their shape; without it they are unpacked. Nothing is tried before a layer is wanted.
    pub fn shape_layers(&mut self, wanted: Wanted) {
        self.wanted = Some(wanted);
    }

    /// The shape that layers get, found out once.
    pub fn layer_shape(&self) -> Result<&Chosen, StoreError> {
        if let Some(chosen) = self.chosen.get() {
            return Ok(chosen);
        }
        let chosen = self.choose()?;
        Ok(self.chosen.get_or_init(|| chosen))
    }

    fn choose(&self) -> Result<Chosen, StoreError> {
        let chosen = |shape, reason: &str| Ok(Chosen { shape, reason: reason.to_owned() });
        let Some(Wanted { shape, try_mount }) = self.wanted else {
            return chosen(Shape::Unpacked, "nothing else was asked for");
        };
        let is_root = self.xattrs() == OverlayXattrs::Trusted;
        let own_right = "a user namespace has no right to mount layers' files";
        let can_unpack = || self.try_unpacking();
        match shape {
            Some(Shape::Unpacked) => {
                can_unpack()?.map_err(|reason| refused(Shape::Unpacked, reason))?;
                chosen(Shape::Unpacked, "it was asked for")
            }
            Some(shape) if !is_root => Err(refused(shape, own_right.to_owned())),
            Some(shape) => {
                self.with_sample(|sample| try_mount(sample, shape))?
                    .map_err(|reason| refused(shape, reason))?;
                chosen(shape, "it was asked for")
            }
            None => {
                let found = match is_root {
                    true => self.with_sample(|sample| best(sample, try_mount))?,
                    false => Chosen { shape: Shape::Unpacked, reason: own_right.to_owned() },
                };
                if found.shape == Shape::Unpacked {
                    let none = |reason| StoreError::NoShape {
                        reason: format!("{}; unpacked: {reason}", found.reason),
                    };
                    can_unpack()?.map_err(none)?;
                }
                Ok(found)
            }
        }
    }

    /// Tries what folders of layers need of a file system; where it lacks something, that in words.
    fn try_unpacking(&self) -> Result<Result<(), String>, StoreError> {
        let folder = self.temporary_folder("sample")?;
        let lacks = |what: &str| {
            let root = self.root.display();
            Err(format!("the file system of `{root}` keeps no {what}: name a store elsewhere with --root"))
        };
        let has_links = std::os::unix::fs::symlink("target", folder.join("link")).is_ok()
            && File::create(folder.join("file")).is_ok()
            && fs::hard_link(folder.join("file"), folder.join("again")).is_ok();
        let has_marks = || {
            // a user may do without, for only layers that delete need them, and can make none of root's anywhere
            self.xattrs().is_user()
                || !rustix::process::geteuid().is_root()
                || File::open(&folder).is_ok_and(|opened| layer::set_opaque(&opened, self.xattrs()).is_ok())
        };
        let result = match has_links {
            false => lacks("links"),
            true if has_marks() => Ok(()),
            true => lacks("marks of overlays (attributes `trusted.overlay`)"),
        };
        file::remove_tree(&folder).map_err(io_at("remove", &folder))?;
        Ok(result)
    }

    /// A file of an empty layer beside the others: not every file system has files that can be mounted.
    fn with_sample<T>(&self, with: impl FnOnce(&Path) -> T) -> Result<T, StoreError> {
        let path = self.temporary_path("sample")?;
        let written = layer::write_image(&[0; 1024][..], new_file(&path)?, None);
        let result = written.map(|_| with(&path));
        fs::remove_file(&path).map_err(io_at("remove", &path))?;
        Ok(result?)
    }
}

fn best(sample: &Path, try_mount: fn(&Path, Shape) -> Result<(), String>) -> Chosen {
    let mut reasons = Vec::new();
    for shape in [Shape::Mounted, Shape::Looped] {
        match try_mount(sample, shape) {
            Ok(()) if reasons.is_empty() => {
                return Chosen { shape, reason: "the kernel mounts layers' files by themselves".to_owned() };
            }
            Ok(()) => return Chosen { shape, reason: reasons.join("; ") },
            Err(reason) => reasons.push(format!("{}: {reason}", shape.name())),
        }
    }
    Chosen { shape: Shape::Unpacked, reason: reasons.join("; ") }
}

fn refused(shape: Shape, reason: String) -> StoreError {
    StoreError::Shape { shape: shape.name(), reason }
}

/// A new file of the owner's alone.
pub(super) fn new_file(path: &PathBuf) -> Result<File, StoreError> {
    let options = File::options().read(true).write(true).create_new(true).mode(0o600).clone();
    options.open(path).map_err(io_at("create", path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::erofs::Image;

    fn store(
        xattrs: OverlayXattrs,
        shape: Option<Shape>,
        try_mount: fn(&Path, Shape) -> Result<(), String>,
    ) -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().expect("folder");
        let mut store = Store::open(&folder.path().join("store"), xattrs).expect("store");
        store.shape_layers(Wanted { shape, try_mount });
        (folder, store)
    }

    #[test]
    fn the_machine_decides_unless_it_is_told() {
        use Shape::{Looped, Mounted, Unpacked};
        let all: fn(&Path, Shape) -> Result<(), String> = |sample, _| {
            // what is tried is a layer
            Image::open(File::open(sample).expect("open"), Vec::new())
                .map(drop)
                .map_err(|error| error.to_string())
        };
        let old: fn(&Path, Shape) -> Result<(), String> = |_, shape| match shape {
            Shape::Looped => Ok(()),
            _ => Err("too old".to_owned()),
        };
        let none: fn(&Path, Shape) -> Result<(), String> = |_, _| Err("no right".to_owned());
        let (root, user) = (OverlayXattrs::Trusted, OverlayXattrs::User);
        for (xattrs, asked, machine, expected) in [
            (root, None, all, Some(Mounted)),
            (root, None, old, Some(Looped)),
            (root, None, none, Some(Unpacked)),
            (user, None, all, Some(Unpacked)),
            (root, Some(Unpacked), all, Some(Unpacked)),
            (root, Some(Looped), all, Some(Looped)),
            (root, Some(Mounted), old, None),
            (root, Some(Looped), none, None),
            (user, Some(Mounted), all, None),
            (user, Some(Unpacked), none, Some(Unpacked)),
        ] {
            let (folder, store) = store(xattrs, asked, machine);
            let found = store.layer_shape();
            assert_eq!(found.as_ref().ok().map(|chosen| chosen.shape), expected, "{xattrs:?} {asked:?}");
            assert!(found.is_err() || !found.is_ok_and(|chosen| chosen.reason.is_empty()));
            assert_eq!(fs::read_dir(folder.path().join("store/tmp")).expect("list").count(), 0);
        }
    }
}
