//! Stores on every kind of file system that a machine may have: what can be had there works and comes out as elsewhere, what
//! cannot is refused in a sentence. `slipway info` says what is used, and why.

use crate::support::server::Server;
use crate::support::{Slipway, base};

/// A file system with a place for a store.
struct Place {
    /// Makes it at `$F/disk`.
    script: &'static str,
    programs: &'static [&'static str],
    /// What the kernel was built with where it can mount this: a file that exists then, and what is written in it.
    kernel: Option<(&'static str, &'static str)>,
    /// What `info` says of a sandbox's changes.
    changes: &'static str,
    /// Why layers cannot be folders there.
    no_folders: Option<&'static str>,
}

const IN_MEMORY: &str = "in memory: no overlay can write into the store's file system";
const IN_STORE: &str = "in the store";

const RECIPE: &str = "\
FROM base
RUN mkdir /a /b && echo x > /a/x && echo y > /b/y && echo z > /b/z && ln -s z /b/link && chown 5:6 /b/z && ln /a/x /a/hard
RUN rm /b/y && rm -r /a && mkdir /a && echo n > /a/n
COPY --chown=7:8 tree /tree
COPY --from=base /etc/motd /motd
RUN cat /tree/f /a/n /b/z /motd > /seen && ls /a /b >> /seen
";

const SCRIPT: &str = "ls /a /b; stat -c '%n %u:%g %a' /b/z /tree/f /b/link; cat /seen; echo changed >> /seen; \
                      tail -n 1 /seen";

/// Layers' digests and what a container of the image says.
fn use_it(slipway: &Slipway, remote: &str) -> (String, String) {
    slipway.build("app", RECIPE, &[("tree/f", "f\n")]).ok();
    let layers = slipway.ok(["inspect", "--format", "{{json .RootFS.Layers}}", "app"]);
    let said = slipway.shell("app", SCRIPT);
    // and from elsewhere, over what is here
    slipway.ok(["prune", "--all", "--force"]);
    slipway.ok(["pull", "-q", remote]);
    assert_eq!(slipway.shell(remote, SCRIPT), said, "pulled");
    let pulled = slipway.ok(["inspect", "--format", "{{json .RootFS.Layers}}", remote]);
    assert_eq!(pulled, layers, "pulled");
    assert_eq!(slipway.leftovers(), [] as [String; 0]);
    (layers, said)
}

/// Whether a file of the kernel's is there and says a word.
fn is_written(file: &str, word: &str) -> bool {
    std::fs::read_to_string(file).is_ok_and(|text| text.contains(word))
}

/// Builds, pulls and runs on the place as on a usual disk.
fn is_as_elsewhere(place: &Place) {
    slipway_skip::need_root!();
    slipway_skip::need!("unshare", "nsenter");
    for program in place.programs {
        slipway_skip::need_that!(slipway_skip::find(program).is_some(), "`{program}` is not installed");
    }
    let script = format!("mkdir $F/disk; {}", place.script);
    let mut slipway = match Slipway::empty().on("disk/store", &script) {
        Ok(slipway) => slipway,
        // asked only now: the attempt loads a module
        Err(words) if place.kernel.is_some_and(|(file, word)| !is_written(file, word)) => {
            return slipway_skip::skip_for_kernel(&words);
        }
        Err(words) => return slipway_skip::skip(&words),
    };
    let mut usual = Slipway::empty();
    for store in [&mut slipway, &mut usual] {
        // or it is that of this repository's last commit, which may be another before the test ends
        store.environment.push(("SOURCE_DATE_EPOCH".to_owned(), "1600000000".to_owned()));
        let archive = base::busybox();
        store.ok(["import".as_ref(), archive.as_os_str(), "base".as_ref()]);
    }
    usual.build("app", RECIPE, &[("tree/f", "f\n")]).ok();
    let server = Server::slipway(&usual, &usual.path("storage"));
    let remote = server.name("app");
    usual.ok(["push", "-q", "app", &remote]);
    let info = slipway.ok(["info", "--format", "{{.Changes}}"]);
    assert_eq!(info.trim_end(), place.changes);
    let in_folders = slipway.run(["run", "--rm", "--layers-as", "unpacked", "base", "true"]);
    match place.no_folders {
        None => drop(in_folders.ok()),
        Some(reason) => {
            let words = in_folders.fails(125);
            assert!(words.contains(reason) && words.contains("--root"), "{words}");
        }
    }
    let shape = slipway.ok(["info", "--format", "{{.Layers.Shape}}: {{.Layers.Reason}}"]);
    if slipway_skip::shape().is_some_and(|asked| !shape.starts_with(&asked)) {
        // tmpfs has no files that the kernel mounts by itself; some keep no folders
        let words = slipway.fails(125, ["run", "--rm", "base", "true"]);
        assert!(words.contains("layers cannot be"), "{words}");
        return;
    }
    assert_eq!(use_it(&slipway, &remote), use_it(&usual, &remote), "with layers {shape}");
}

/// A test for each.
macro_rules! places {
    ($($name:ident $place:expr;)+) => {
        $(#[test]
        fn $name() {
            is_as_elsewhere(&$place);
        })+
    };
}

places! {
    privileged_a_store_on_ext4 Place {
        script: "truncate -s 200M $F/image; mkfs.ext4 -q $F/image; mount -o loop $F/image $F/disk",
        programs: &["mkfs.ext4"],
        kernel: None,
        changes: IN_STORE,
        no_folders: None,
    };
    privileged_a_store_on_ext4_that_ignores_case Place {
        script: "truncate -s 200M $F/image; mkfs.ext4 -q -O casefold $F/image; mount -o loop $F/image $F/disk; \
                 mkdir $F/disk/store; chattr +F $F/disk/store",
        programs: &["mkfs.ext4", "chattr"],
        kernel: Some(("/sys/fs/ext4/features/casefold", "supported")),
        changes: IN_MEMORY,
        no_folders: None,
    };
    privileged_a_store_on_xfs Place {
        script: "truncate -s 400M $F/image; mkfs.xfs -q $F/image; mount -o loop $F/image $F/disk",
        programs: &["mkfs.xfs"],
        kernel: None,
        changes: IN_STORE,
        no_folders: None,
    };
    privileged_a_store_on_btrfs Place {
        script: "truncate -s 300M $F/image; mkfs.btrfs -q $F/image > $F/said 2>&1; mount -o loop $F/image $F/disk",
        programs: &["mkfs.btrfs"],
        kernel: None,
        changes: IN_STORE,
        no_folders: None,
    };
    privileged_a_store_on_tmpfs Place {
        script: "mount -t tmpfs tmpfs $F/disk",
        programs: &[],
        kernel: None,
        changes: IN_STORE,
        no_folders: None,
    };
    privileged_a_store_on_bindfs Place {
        script: "mkdir $F/source; serve bindfs -f $F/source $F/disk; until_mounted $F/disk",
        programs: &["bindfs"],
        kernel: None,
        changes: IN_MEMORY,
        no_folders: None,
    };
    privileged_a_store_on_fuse_overlayfs Place {
        script: "mkdir $F/lower $F/upper $F/work; \
                 serve fuse-overlayfs -f -o lowerdir=$F/lower,upperdir=$F/upper,workdir=$F/work $F/disk; \
                 until_mounted $F/disk",
        programs: &["fuse-overlayfs"],
        kernel: None,
        changes: IN_MEMORY,
        no_folders: Some("keeps no marks of overlays"),
    };
    privileged_a_store_on_exfat Place {
        script: "truncate -s 200M $F/image; mkfs.exfat $F/image > $F/said; device=$(losetup -f --show $F/image); \
                 serve mount.exfat-fuse -d -o umask=077 $device $F/disk; until_mounted $F/disk; losetup -d $device",
        programs: &["mkfs.exfat", "mount.exfat-fuse", "losetup"],
        kernel: None,
        changes: IN_MEMORY,
        no_folders: Some("keeps no links"),
    };
    privileged_a_store_on_fat Place {
        script: "truncate -s 200M $F/image; mkfs.vfat $F/image > $F/said; \
                 mount -o loop,umask=077 $F/image $F/disk",
        programs: &["mkfs.vfat"],
        kernel: Some(("/proc/filesystems", "\tvfat\n")),
        changes: IN_MEMORY,
        no_folders: Some("keeps no links"),
    };
}

#[test]
fn privileged_a_store_that_stays_open_to_others_is_refused() {
    slipway_skip::need_root!();
    slipway_skip::need!("unshare", "nsenter", "mkfs.exfat", "mount.exfat-fuse", "losetup");
    let script = "mkdir $F/disk; truncate -s 200M $F/image; mkfs.exfat $F/image > $F/said; \
                  device=$(losetup -f --show $F/image); serve mount.exfat-fuse -d $device $F/disk; \
                  until_mounted $F/disk; losetup -d $device";
    let slipway = match Slipway::empty().on("disk/store", script) {
        Ok(slipway) => slipway,
        Err(words) => return slipway_skip::skip(&words),
    };
    for line in [&["images"][..], &["import", "-", "x"], &["serve", "--listen", "127.0.0.1:0"]] {
        let words = slipway.run(line).stderr;
        assert!(
            words.contains("stays open to other users") && words.contains("umask=077"),
            "{line:?}: {words}"
        );
        assert!(!slipway.inside("store.db").exists() && !slipway.inside("blobs").exists(), "{line:?}");
    }
}
