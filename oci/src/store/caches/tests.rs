use super::*;
use crate::{Digest, store::tests};
use std::sync::atomic::{AtomicUsize, Ordering};

#[test]
fn who_uses_a_cache_never_loses_it_to_who_takes_caches_away() {
    let (folder, _store) = tests::store();
    let path = folder.path().join("store");
    let name = Digest::sha256(b"cache").hex();
    let (used, taken) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let store = tests::store_in(&path);
                // until it was ours often enough: on a busy machine others may have it each time that it is asked for
                let mut ours = 0;
                while ours < 50 {
                    let Some(_lock) = store.try_lock_cache(&name, true).expect("lock") else {
                        std::thread::yield_now();
                        continue;
                    };
                    ours += 1;
                    let folder = store.cache_folder(&name);
                    fs::create_dir_all(&folder).expect("folder");
                    store.note_cache(&name, &CacheAbout { id: "x".to_owned(), ..CacheAbout::default() });
                    fs::write(folder.join("file"), "x").expect("it is ours");
                    assert!(folder.join("file").exists());
                    used.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        scope.spawn(|| {
            let store = tests::store_in(&path);
            for number in 0..200 {
                let to = path.join("tmp").join(format!("gone-{number}"));
                fs::create_dir_all(&to).expect("trash");
                let mut count = 0;
                let mut take = |path: &Path| {
                    count += 1;
                    fs::rename(path, to.join(count.to_string())).is_ok()
                };
                taken.fetch_add(
                    usize::from(store.take_cache(&name, &mut take).expect("taken")),
                    Ordering::SeqCst,
                );
            }
        });
    });
    assert_eq!(used.into_inner(), 100);
    println!("{} times taken", taken.into_inner());
}

#[test]
fn what_is_known_of_a_cache_is_for_people_and_anything_may_stand_there() {
    let (_folder, store) = tests::store();
    let name = Digest::sha256(b"cache").hex();
    fs::create_dir_all(store.cache_folder(&name)).expect("folder");
    fs::create_dir_all(store.root().join("caches/no-digest")).expect("stranger");
    for words in ["", "{", "[1]", "{\"id\":5}"] {
        fs::write(store.cache_folder(&name).with_extension("about"), words).expect("written");
        let mounts = store.cache_mounts().expect("listed");
        assert_eq!(mounts.len(), 1, "{words}");
        assert_eq!(mounts[0].about, None, "{words}");
        assert!(mounts[0].used > 0 && !mounts[0].in_use);
    }
    let about = CacheAbout { id: "a\u{1b}[1m".to_owned(), mode: 0o755, ..CacheAbout::default() };
    store.note_cache(&name, &about);
    let noted = store.cache_about(&name).expect("about");
    assert!(noted.made > 0 && noted.used >= noted.made);
    assert_eq!(CacheAbout { made: 0, used: 0, ..noted }, about);
}
