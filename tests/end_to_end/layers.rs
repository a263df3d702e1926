//! Layers that occur more than once in an image.

use crate::support::base;
use crate::support::image::{Image, text};
use crate::support::{Slipway, run};
use serde_json::json;
use slipway_oci::Digest;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// An archive of one image as docker writes it; every layer an uncompressed tar.
pub(crate) struct Foreign<'a> {
    pub(crate) name: &'a str,
    pub(crate) layers: &'a [Vec<u8>],
}

impl Foreign<'_> {
    /// Writes it and loads it.
    #[track_caller]
    pub(crate) fn load(&self, slipway: &Slipway) {
        let place = self.write(slipway);
        slipway.ok(["load".as_ref(), "-i".as_ref(), place.as_os_str()]);
    }

    pub(crate) fn write(&self, slipway: &Slipway) -> PathBuf {
        let ids: Vec<String> = self.layers.iter().map(|layer| Digest::sha256(layer).to_string()).collect();
        let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        let config = json!({
            "architecture": arch, "os": "linux",
            "config": { "Env": ["PATH=/usr/bin:/bin"] },
            "rootfs": { "type": "layers", "diff_ids": ids },
        });
        let file = |number: &String| format!("{}.tar", number.replace(':', "-"));
        let names: Vec<String> = ids.iter().map(file).collect();
        let entry = json!([{ "Config": "config.json", "RepoTags": [self.name], "Layers": names }]);
        let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        files.insert("config.json".to_owned(), config.to_string().into_bytes());
        files.insert("manifest.json".to_owned(), entry.to_string().into_bytes());
        files.extend(names.into_iter().zip(self.layers.iter().cloned()));
        let place = slipway.path(&format!("{}.tar", self.name.replace(['/', ':'], "-")));
        let mut archive = tar::Builder::new(fs::File::create(&place).unwrap());
        for (name, bytes) in files {
            append(&mut archive, &name, tar::EntryType::Regular, 0o644, "", &bytes);
        }
        archive.finish().unwrap();
        place
    }
}

/// One entry of an archive; parents are not made up for it.
pub(crate) fn append<W: std::io::Write>(
    archive: &mut tar::Builder<W>,
    path: &str,
    kind: tar::EntryType,
    mode: u32,
    link: &str,
    content: &[u8],
) {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(base::MTIME);
    header.set_size(content.len() as u64);
    if link.is_empty() {
        archive.append_data(&mut header, path, content).unwrap();
    } else {
        archive.append_link(&mut header, path, link).unwrap();
    }
}

/// A layer of files alone.
pub(crate) fn layer(files: &[(&str, &str)]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (path, content) in files {
        append(&mut archive, path, tar::EntryType::Regular, 0o644, "", content.as_bytes());
    }
    archive.into_inner().unwrap()
}

/// How many of the image's layers are repetitions of one further down.
fn repeated(image: &Image) -> usize {
    let ids = image.config["rootfs"]["diff_ids"].as_array().unwrap();
    let distinct: std::collections::BTreeSet<&str> = ids.iter().map(text).collect();
    ids.len() - distinct.len()
}

/// Recipes whose image has a layer twice, what `/w` then holds, and how often a layer is repeated.
const TWICE: &[(&str, &str, &str)] = &[
    ("copied twice", "COPY a /w/a\nCOPY a /w/a\n", "/w/a=a"),
    ("copied, removed, copied", "COPY a /w/a\nRUN rm /w/a\nCOPY a /w/a\n", "/w/a=a"),
    ("copied, folder removed, copied", "COPY a /w/a\nCOPY b /w/b\nRUN rm -r /w\nCOPY a /w/a\n", "/w/a=a"),
    ("copied, replaced, copied", "COPY a /w/a\nCOPY b /w/a\nCOPY a /w/a\n", "/w/a=a"),
    (
        "copied, folder for file, copied",
        "COPY a /w/a\nRUN rm -r /w && echo x > /w\nRUN rm /w\nCOPY a /w/a\n",
        "/w/a=a",
    ),
    ("linked twice", "COPY --link a /w/a\nCOPY --link a /w/a\n", "/w/a=a"),
    ("linked, removed, linked", "COPY --link a /w/a\nRUN rm -r /w\nCOPY --link a /w/a\n", "/w/a=a"),
    (
        "run and run again",
        // what is written again as it was is no change
        "RUN mkdir -p /w; echo x > /w/x\nRUN echo y > /w/x\nRUN mkdir -p /w; echo x > /w/x\nRUN echo y > /w/x\n",
        "/w/x=y",
    ),
    ("deleted twice", "COPY a /w/a\nCOPY b /w/b\nRUN rm /w/a\nCOPY a /w/a\nRUN rm /w/a\n", "/w/b=b"),
    (
        "an opaque folder twice",
        "RUN mkdir /w; echo x > /w/a\nRUN rm -r /w; mkdir /w; echo y > /w/y\n\
         RUN rm /w/y; echo z > /w/a\nRUN rm -r /w; mkdir /w; echo y > /w/y\n",
        "/w/y=y",
    ),
    (
        "another between",
        "COPY a /w/a\nRUN chmod 700 /w\nCOPY a /w/a\nRUN chmod 755 /w\nRUN chmod 700 /w\n",
        "/w/a=a",
    ),
    ("a folder twice", "COPY a b /w/\nRUN rm /w/b\nCOPY a b /w/\n", "/w/a=a /w/b=b"),
];

/// A script that prints every file of `/w` and below.
const SHOW: &str = "cd /; for f in $(find w -type f | sort); do echo \"/$f=$(cat $f)\"; done";

#[test]
fn a_layer_that_occurs_twice_is_mounted() {
    let slipway = Slipway::new();
    let context = slipway.context("context", &[("a", "a\n"), ("b", "b\n")]);
    for (number, (what, steps, expected)) in TWICE.iter().enumerate() {
        let name = format!("twice{number}");
        let build = |name: &str, recipe: String| {
            fs::write(context.join("Dockerfile"), recipe).unwrap();
            let ended = slipway.build_folder(name, &context, &[]);
            assert!(ended.status.success(), "{what}: {}", ended.stderr);
        };
        let expected: String = expected.split(' ').map(|line| format!("{line}\n")).collect();
        build(&name, format!("FROM base\n{steps}"));
        assert!(repeated(&Image::read(&slipway, &name)) > 0, "{what} repeats no layer");
        assert_eq!(slipway.shell(&name, SHOW), expected, "{what}: run");
        build("step", format!("FROM base\n{steps}RUN {SHOW} > /seen\n"));
        assert_eq!(slipway.shell("step", "cat /seen"), expected, "{what}: RUN in the same recipe");
        build("from", format!("FROM {name}\nRUN {SHOW} > /seen\n"));
        assert_eq!(slipway.shell("from", "cat /seen"), expected, "{what}: RUN on it as a base");
        build("copied", format!("FROM base\nCOPY --from={name} /w /w\n"));
        assert_eq!(slipway.shell("copied", SHOW), expected, "{what}: COPY --from it");
        let shown = "RUN --mount=type=bind,from=NAME,source=/w,target=/w find /w -type f | sort > /seen\n";
        build("bound", format!("FROM base\n{}", shown.replace("NAME", &name)));
        let names: String = expected.lines().map(|line| format!("{}\n", &line[..4])).collect();
        assert_eq!(slipway.shell("bound", "cat /seen"), names, "{what}: a mount from it");
    }
}

#[test]
fn images_of_others_repeat_the_empty_layer() {
    let slipway = Slipway::empty();
    let busybox = fs::read(base::busybox()).unwrap();
    let empty = layer(&[]);
    let file = layer(&[("w/a", "a\n")]);
    let again = layer(&[("w/a", "b\n")]);
    for (name, layers) in [
        ("between", vec![&empty, &busybox, &empty, &file, &empty]),
        ("ends", vec![&busybox, &file, &empty, &empty, &empty]),
        ("file", vec![&busybox, &file, &again, &empty, &file]),
        ("base", vec![&busybox, &file, &busybox]),
    ] {
        let layers: Vec<Vec<u8>> = layers.into_iter().cloned().collect();
        Foreign { name, layers: &layers }.load(&slipway);
        assert_eq!(slipway.shell(name, SHOW), "/w/a=a\n", "{name}");
        let recipe = format!("FROM {name}\nRUN cat /w/a > /seen\nCOPY --from={name} /w/a /copied\n");
        slipway.build("made", &recipe, &[]).ok();
        assert_eq!(slipway.shell("made", "cat /seen /copied"), "a\na\n", "{name}");
    }
}

#[test]
fn as_many_layers_as_an_image_may_have() {
    let slipway = Slipway::empty();
    let mut layers = vec![fs::read(base::busybox()).unwrap()];
    // one in three is a repetition
    let file = |number: usize| layer(&[(&format!("w/{:03}", number - number % 3 / 2), "x")]);
    layers.extend((1..slipway_oci::limits::LAYERS).map(file));
    Foreign { name: "many", layers: &layers }.load(&slipway);
    assert!(repeated(&Image::read(&slipway, "many")) > 100);
    let count = slipway.shell("many", "ls /w | wc -l");
    let distinct: std::collections::BTreeSet<&Vec<u8>> = layers.iter().skip(1).collect();
    assert_eq!(count.trim(), distinct.len().to_string());
    let message = slipway.build("more", "FROM many\nRUN touch /more\n", &[]).fails(1);
    assert!(message.contains("480 layers"), "{message}");
    layers.pop();
    Foreign { name: "less", layers: &layers }.load(&slipway);
    slipway.build("full", "FROM less\nRUN ls /w | wc -l > /seen\n", &[]).ok();
    assert_eq!(run(&mut save(&slipway, "full")).code(), Some(0));
    assert!(slipway.shell("full", "cat /seen").trim().parse::<usize>().unwrap() > 300);
}

fn save(slipway: &Slipway, image: &str) -> Command {
    let place = slipway.path("saved.tar");
    slipway.command(["save".as_ref(), "-o".as_ref(), place.as_os_str(), image.as_ref()])
}

/// The busybox base and on top a layer that makes `/lib` what it is there.
fn base_with(lib: &str) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    let folder = tar::EntryType::Directory;
    match lib {
        "" => {}
        "folder" => append(&mut archive, "lib/", folder, 0o755, "", b""),
        "private" => append(&mut archive, "lib/", folder, 0o700, "", b""),
        target => {
            append(&mut archive, "usr/lib/", folder, 0o755, "", b"");
            append(&mut archive, "lib", tar::EntryType::Symlink, 0o777, target, b"");
        }
    }
    archive.into_inner().unwrap()
}

/// A layer of nothing but `lib/foo` is one diff id in images whose `/lib` differ. Which is used first, and how, must not
/// matter to the others.
#[test]
fn a_layer_without_parents_is_right_on_every_base() {
    let busybox = fs::read(base::busybox()).unwrap();
    let (foo, gone) = (layer(&[("lib/foo", "foo\n")]), layer(&[("lib/.wh.foo", "")]));
    let libs =
        [("folder", "lib/foo", "755"), ("usr/lib", "usr/lib/foo", "755"), ("private", "lib/foo", "700")];
    let libs = [&libs[..], &[("/usr/lib", "usr/lib/foo", "755"), ("", "lib/foo", "755")]].concat();
    for turn in 0..libs.len() {
        let slipway = Slipway::empty();
        let order = (0..libs.len()).map(|number| (number, libs[(turn + number) % libs.len()]));
        for (number, (lib, place, mode)) in order {
            let layers = [busybox.clone(), base_with(lib), foo.clone()];
            Foreign { name: "one", layers: &layers }.load(&slipway);
            let copied = || {
                let recipe = "FROM one AS one\nFROM one\nCOPY --from=one /lib/foo /copied\nCOPY --from=one /lib /all/\n";
                slipway.build("copied", recipe, &[]).ok();
                assert_eq!(
                    slipway.shell("copied", "cat /copied /all/foo"),
                    "foo\nfoo\n",
                    "{lib}: COPY --from"
                );
            };
            // the table first, or the folder first
            if number % 2 == 0 {
                copied();
            }
            let script = format!("cat /lib/foo /{place}; stat -c %a $(dirname /{place})");
            assert_eq!(slipway.shell("one", &script), format!("foo\nfoo\n{mode}\n"), "{lib}: run");
            copied();
            slipway.build("made", "FROM one\nRUN cat /lib/foo > /seen && rm /lib/foo\n", &[]).ok();
            assert_eq!(
                slipway.shell("made", "cat /seen; ls /lib /usr/lib 2>/dev/null | grep foo; true"),
                "foo\n"
            );
            let layers = [&layers[..], std::slice::from_ref(&gone)].concat();
            Foreign { name: "gone", layers: &layers }.load(&slipway);
            assert_eq!(
                slipway.shell("gone", &format!("ls /{place} /lib/foo 2>/dev/null; true")),
                "",
                "{lib}"
            );
        }
    }
}
