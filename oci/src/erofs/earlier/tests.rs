//! A file that refers to earlier ones shows what it would show alone.

use super::*;
use crate::{
    blobs::Blobs,
    compression::{BackgroundReader, Compression},
    erofs::{
        Search, Written,
        tests::{Item, Listing, archive, everything, file, items, of_image, of_mount, sensible},
    },
    layer::{Entry, LayerWriter, NewImage, Unpacked, write_image, write_image_on, write_image_seeking},
};
use proptest::prelude::*;
use std::{fs, path::Path, sync::Arc};

/// A layer's file under a name, with what is known of it.
struct Made {
    path: PathBuf,
    unpacked: Unpacked,
    written: Written,
}

impl Made {
    fn of(folder: &Path, name: &str, items: &[Item], earlier: Earlier) -> Made {
        Made::try_of(folder, name, items, earlier).expect("written")
    }

    /// Nothing where the archive is refused whatever it is written to.
    fn try_of(folder: &Path, name: &str, items: &[Item], earlier: Earlier) -> Option<Made> {
        let path = folder.join(name);
        let target = File::options().read(true).write(true).create_new(true).open(&path).expect("file");
        let (unpacked, written) =
            write_image_on(&archive(items)[..], target, Arc::new(earlier), None).ok()?;
        assert!(written.is_whole(&File::open(&path).expect("open")).expect("read"));
        Some(Made { path, unpacked, written })
    }

    /// The same where earlier layers are found only while it is written.
    fn seeking(folder: &Path, name: &str, items: &[Item], mut search: Planned<'_>) -> Made {
        let path = folder.join(name);
        let target = File::options().read(true).write(true).create_new(true).open(&path).expect("file");
        let source = BackgroundReader::digesting(Box::new(std::io::Cursor::new(archive(items))));
        let (unpacked, written) = write_image_seeking(source, target, &mut search, None).expect("written");
        assert!(written.is_whole(&File::open(&path).expect("open")).expect("read"));
        Made { path, unpacked, written }
    }

    fn devices(&self) -> Vec<File> {
        self.written.devices.iter().map(|path| File::open(path).expect("device")).collect()
    }

    fn image(&self) -> Image {
        Image::open(File::open(&self.path).expect("file"), self.devices()).expect("image")
    }

    /// Adds what it has to `earlier`.
    fn add_to(&self, earlier: &mut Earlier, least_bytes: u64) {
        let image = self.image();
        let mut devices = vec![Device::open(self.path.clone(), &self.written.digest.hex()).expect("device")];
        for (number, path) in self.written.devices.iter().enumerate() {
            devices.push(Device::open(path.clone(), image.device_tag(number).expect("tag")).expect("device"));
        }
        earlier.add(&image, &self.unpacked.toc, devices, &|_| true, &|_| least_bytes).expect("added");
    }

    fn length(&self) -> u64 {
        fs::metadata(&self.path).expect("file").len()
    }

    /// What it shows, by both readers.
    fn listing(&self) -> Listing {
        let listing = of_image(&self.image());
        if rustix::process::getuid().is_root() {
            let file = File::open(&self.path).expect("file");
            if let Some(mounted) = of_mount(&file, &self.devices()) {
                assert_eq!(mounted, listing, "the kernel reads what we read");
            }
        }
        listing
    }
}

/// Finds all of some layers after so many contents.
struct Planned<'m> {
    after: usize,
    layers: &'m [Made],
    least_bytes: u64,
}

impl Search for Planned<'_> {
    fn see(&mut self, _: &Digest, _: u64, earlier: &mut Earlier) {
        if self.after == 0 {
            std::mem::take(&mut self.layers).iter().for_each(|made| made.add_to(earlier, 1));
        }
        self.after = self.after.saturating_sub(1);
    }

    fn least_bytes(&self, _: u64) -> u64 {
        self.least_bytes
    }
}

fn alone(items: &[Item]) -> Listing {
    let target = tempfile::tempfile().expect("file");
    write_image(&archive(items)[..], target.try_clone().expect("handle"), None).expect("written");
    of_image(&Image::open(target, Vec::new()).expect("image"))
}

fn content(number: u64, length: usize) -> Vec<u8> {
    (0..length).map(|at| ((at as u64 + 1).wrapping_mul(number * 2 + 0x9e37_79b9) >> 7) as u8).collect()
}

/// A layer of so many files; those in `changed` are not what they were.
fn files(count: u64, changed: &[u64]) -> Vec<Item> {
    let one = |number: u64| {
        let seed = if changed.contains(&number) { number + 1000 } else { number };
        file(&format!("f{number}"), content(seed, 5000 + number as usize))
    };
    (0..count).map(one).collect()
}

#[test]
fn privileged_a_touched_file_costs_a_touched_file() {
    let folder = tempfile::tempdir().expect("folder");
    let first = Made::of(folder.path(), "1", &files(100, &[]), Earlier::default());
    let mut earlier = Earlier::default();
    first.add_to(&mut earlier, 1);
    let second = Made::of(folder.path(), "2", &files(100, &[7]), earlier);
    assert_eq!(second.written.devices, std::slice::from_ref(&first.path));
    assert!(second.length() * 10 < first.length(), "{} of {}", second.length(), first.length());
    assert_eq!(second.listing(), alone(&files(100, &[7])));
    // a third takes from both, and names the first as its own device: devices do not nest
    let mut earlier = Earlier::default();
    second.add_to(&mut earlier, 1);
    let third = Made::of(folder.path(), "3", &files(100, &[7, 9]), earlier);
    assert_eq!(third.written.devices, [second.path.clone(), first.path.clone()]);
    assert_eq!(third.listing(), alone(&files(100, &[7, 9])));
    // what is not worth a device is written again
    let mut earlier = Earlier::default();
    second.add_to(&mut earlier, 100_000);
    let fourth = Made::of(folder.path(), "4", &files(100, &[7, 9]), earlier);
    assert_eq!(fourth.written.devices, std::slice::from_ref(&first.path));
    assert_eq!(fourth.listing(), third.listing());
    // the first one's name goes, its bytes stay as long as somebody has them
    let kept = folder.path().join("kept");
    fs::hard_link(&first.path, &kept).expect("link");
    fs::remove_file(&first.path).expect("removed");
    let image =
        Image::open(File::open(&fourth.path).expect("file"), vec![File::open(&kept).expect("device")]);
    assert_eq!(of_image(&image.expect("image")), alone(&files(100, &[7, 9])));
}

#[test]
fn privileged_what_is_found_on_the_way_is_settled_at_the_end() {
    let folder = tempfile::tempdir().expect("folder");
    let all = [Made::of(folder.path(), "1", &files(100, &[]), Earlier::default())];
    let (new, length) = (files(100, &[70]), all[0].length());
    for (name, after, least_bytes, is_referred_to) in [
        ("at once", 0, 1, true),
        ("at once, and it is worth it", 0, length / 2, true),
        ("at once, and it is not", 0, length, false),
        ("near the end", 95, 1, true),
        ("near the end, and it is not worth it", 95, length / 4, false),
        ("never", 200, 1, false),
    ] {
        let search = Planned { after, layers: &all, least_bytes };
        let made = Made::seeking(folder.path(), name, &new, search);
        assert_eq!(made.listing(), alone(&new), "{name}");
        assert_eq!(!made.written.devices.is_empty(), is_referred_to, "{name}");
    }
}

#[test]
fn an_earlier_file_that_changed_is_not_referred_to() {
    let folder = tempfile::tempdir().expect("folder");
    // in memory when it ends, and compared while it comes
    for (name, length) in [("small", 50_000), ("large", 3 << 20)] {
        let items =
            [file("a", content(1, 5000)), file("f", content(2, length)), file("g", content(3, 200_000))];
        let first = Made::of(folder.path(), name, &items, Earlier::default());
        let inode = first.image().find(b"f").expect("read").expect("file");
        let (_, block) = first.image().blocks_of(&inode).expect("read").expect("blocks");
        let end = u64::from(block) * BLOCK + length as u64 - 1;
        let damaged = File::options().read(true).write(true).open(&first.path).expect("file");
        let mut byte = [0];
        damaged.read_exact_at(&mut byte, end).expect("read");
        damaged.write_all_at(&[byte[0] ^ 1], end).expect("write");
        let all = [first];
        for known in [true, false] {
            let second = match known {
                true => {
                    let mut earlier = Earlier::default();
                    all[0].add_to(&mut earlier, 1);
                    Made::of(folder.path(), &format!("{name} known"), &items, earlier)
                }
                false => {
                    let search = Planned { after: 0, layers: &all, least_bytes: 1 };
                    Made::seeking(folder.path(), &format!("{name} found"), &items, search)
                }
            };
            assert_eq!(second.written.devices.len(), 1, "{name} {known}: what is whole is of use");
            assert_eq!(of_image(&second.image()), alone(&items), "{name} {known}");
        }
    }
}

#[test]
fn devices_that_are_not_those_are_an_error() {
    let folder = tempfile::tempdir().expect("folder");
    let first = Made::of(folder.path(), "1", &files(20, &[]), Earlier::default());
    let mut earlier = Earlier::default();
    first.add_to(&mut earlier, 1);
    let second = Made::of(folder.path(), "2", &files(20, &[3]), earlier);
    let open = |devices: Vec<File>| Image::open(File::open(&second.path).expect("file"), devices);
    let first_file = || File::open(&first.path).expect("file");
    assert!(open(vec![first_file()]).is_ok());
    assert!(open(Vec::new()).is_err() && open(vec![first_file(), first_file()]).is_err());
    File::options().append(true).open(&first.path).expect("file").set_len(4096).expect("cut");
    assert!(open(vec![first_file()]).is_err(), "a device that is shorter than it was");
}

#[test]
fn other_tools_take_files_with_devices() {
    slipway_skip::need!("fsck.erofs");
    let folder = tempfile::tempdir().expect("folder");
    let first = Made::of(folder.path(), "1", &files(50, &[]), Earlier::default());
    let mut earlier = Earlier::default();
    first.add_to(&mut earlier, 1);
    let second = Made::of(folder.path(), "2", &files(50, &[3]), earlier);
    let output = std::process::Command::new("fsck.erofs")
        .args(["-d1", "--extract"])
        .arg(format!("--device={}", first.path.display()))
        .arg(&second.path)
        .output()
        .expect("runs");
    let said =
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && !said.contains("<E>"), "{said}");
}

/// The layer as its writer makes it beside the archive.
fn beside_the_archive(items: &[Item]) -> (Vec<u8>, Option<Vec<u8>>) {
    let folder = tempfile::tempdir().expect("folder");
    let blobs = Blobs::open(&folder.path().join("b"), &folder.path().join("t")).expect("blobs");
    let image = tempfile::tempfile().expect("file");
    let new = NewImage::new(image.try_clone().expect("handle"), "image".into(), Arc::default());
    let mut writer = LayerWriter::new(&blobs, Compression::None).expect("writer").with_image(new);
    for (number, (entry, bytes)) in items.iter().enumerate() {
        let mut entry: Entry = entry.clone();
        entry.size_bytes = bytes.len() as u64;
        if entry.kind == Kind::Whiteout {
            entry.mode = 0;
        }
        let is_file = entry.kind == Kind::File;
        // in all the ways that a writer has
        match number % 3 {
            0 if is_file => {
                entry.content = Some(Digest::content(bytes));
                writer.append_bytes(entry, bytes).expect("append");
            }
            1 if is_file => {
                entry.content = Some(Digest::content(bytes));
                writer.append_file(entry, &mut &bytes[..]).expect("append");
            }
            _ => {
                writer.append_file(entry, &mut &bytes[..]).expect("append");
            }
        }
    }
    let layer = writer.finish().expect("finish");
    let archive = fs::read(blobs.path(&layer.descriptor.digest)).expect("archive");
    let image = layer.image.map(|written| {
        assert!(written.is_whole(&image).expect("read"));
        let mut bytes = vec![0; written.length_bytes as usize];
        image.read_exact_at(&mut bytes, 0).expect("read");
        bytes
    });
    (archive, image)
}

fn from_the_archive(archive: &[u8]) -> Option<Vec<u8>> {
    let target = tempfile::tempfile().expect("file");
    let (_, written) = write_image(archive, target.try_clone().expect("handle"), None).ok()?;
    let mut bytes = vec![0; written.length_bytes as usize];
    target.read_exact_at(&mut bytes, 0).expect("read");
    Some(bytes)
}

#[test]
fn one_reading_makes_the_file_that_the_archive_makes() {
    // as the builder writes them: parents are there, hard links lead to first names
    let has_parent = |path: &[u8]| !path.contains(&b'/') || path.starts_with(b"opaque/");
    let is_first = |(entry, _): &Item| entry.kind != Kind::Hardlink || entry.link == b"more";
    let plain: Vec<Item> =
        everything().into_iter().filter(|item| has_parent(&item.0.path) && is_first(item)).collect();
    assert!(plain.len() > 20);
    for items in [plain, files(50, &[])] {
        let (archive, image) = beside_the_archive(&items);
        assert!(image.is_some() && image == from_the_archive(&archive));
    }
    // what the entries do not say is left to the archive
    assert!(beside_the_archive(&everything()).1.is_none());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn privileged_any_layer_is_the_same_on_any_earlier_ones(
        first in proptest::collection::vec(items(), 0..20),
        second in proptest::collection::vec(items(), 0..20),
        third in proptest::collection::vec(items(), 0..20),
        pick in any::<u64>(),
    ) {
        let folder = tempfile::tempdir().expect("folder");
        let mut earlier = Earlier::default();
        let (mut mixed, mut all): (Vec<Item>, Vec<Made>) = Default::default();
        for (number, items) in [first, second, third].into_iter().enumerate() {
            // some of the earlier ones' bytes under other names
            let mut items = sensible(items);
            for (at, (entry, bytes)) in items.iter_mut().enumerate() {
                if entry.kind == Kind::File && !mixed.is_empty() && pick >> (at % 60) & 1 == 1 {
                    *bytes = mixed[at % mixed.len()].1.clone();
                }
            }
            let Some(made) = Made::try_of(folder.path(), &number.to_string(), &items, earlier) else {
                prop_assert!(from_the_archive(&archive(&items)).is_none());
                return Ok(());
            };
            prop_assert_eq!(made.listing(), alone(&items));
            for least_bytes in [1, 20_000] {
                let search = Planned { after: pick as usize % 5, layers: &all, least_bytes };
                let name = format!("{number}-{least_bytes}");
                prop_assert_eq!(Made::seeking(folder.path(), &name, &items, search).listing(), alone(&items));
            }
            mixed.extend(items.into_iter().filter(|(_, bytes)| !bytes.is_empty()));
            earlier = Earlier::default();
            made.add_to(&mut earlier, 1);
            all.push(made);
        }
    }
}
