//! A table of contents as it lies in the store, perhaps damaged, perhaps another's: read, asked, stacked, written again.
//!
//! The input is one or two tables, the second after a 32-bit length of the first.
#![no_main]

use libfuzzer_sys::fuzz_target;
use slipway_oci::layer::{Footing, Toc, Tree};
use std::{io::Write, path::Path, sync::Arc};

fn load(bytes: &[u8], path: &Path) -> Option<Toc> {
    std::fs::File::create(path).and_then(|mut file| file.write_all(bytes)).expect("scratch file");
    Toc::load(path).ok()
}

fuzz_target!(|data: &[u8]| {
    let Some((head, rest)) = data.split_first_chunk::<4>() else { return };
    let (base, upper) = rest.split_at((u32::from_le_bytes(*head) as usize).min(rest.len()));
    let path = Path::new("/dev/shm").join(format!("slipway-fuzz-toc-{}", std::process::id()));
    let written = path.with_extension("written");
    let tables: Vec<Arc<Toc>> =
        [base, upper].into_iter().filter_map(|bytes| load(bytes, &path)).map(Arc::new).collect();
    let _ = std::fs::remove_file(&path);
    for table in &tables {
        table.save(&path, &written).expect("scratch file");
        assert_eq!(Toc::load(&path).expect("what was written is read").entries(), table.entries());
        let _ = std::fs::remove_file(&path);
        for entry in table.entries() {
            assert_eq!(table.get(&entry.path), Some(entry));
        }
    }
    let tree = Tree::new(tables.clone());
    let mut seen = 0;
    tree.walk(b"", &mut |path, found| {
        seen += 1;
        assert!(seen < 10_000, "a walk that does not end");
        assert!(tree.get(path).is_some_and(|other| other.layer == found.layer), "walk and get differ");
        true
    });
    for entry in tables.iter().flat_map(|table| table.entries()) {
        for follow in [true, false] {
            if let Ok(resolved) = tree.resolve(&entry.path, follow)
                && resolved.exists
                && !resolved.path.is_empty()
            {
                assert!(tree.get(&resolved.path).is_some(), "resolved to nothing");
            }
        }
    }
    if let [base, upper] = tables.as_slice()
        && let Ok(Some(footing)) = Footing::of(upper, &Tree::new(vec![base.clone()]))
    {
        footing.digest();
    }
});
