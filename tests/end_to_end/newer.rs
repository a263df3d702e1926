//! A source that changed is newer than what a cache mount holds of it, whichever way it came (issue 7, B13).
//!
//! The rules of the tests are make's; make itself comes from this machine, with what it is linked to.

use crate::support::{Slipway, skip, write_tree};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

/// `base` with the machine's make in it, as `tools`; nothing where the machine has none.
fn with_make(slipway: &Slipway) -> bool {
    let Some(make) = crate::support::find("make") else {
        skip("make is not installed");
        return false;
    };
    let linked = Command::new("ldd").arg(&make).output().unwrap();
    let context = slipway.path("tools");
    let mut recipe = String::from("FROM base\n");
    let mut copy = |from: &Path, to: &str| {
        let name = to.trim_start_matches('/').replace('/', "_");
        fs::create_dir_all(&context).unwrap();
        fs::copy(from, context.join(&name)).unwrap();
        recipe.push_str(&format!("COPY --chmod=755 {name} {to}\n"));
    };
    copy(&make, "/bin/make");
    for word in
        String::from_utf8_lossy(&linked.stdout).split_whitespace().filter(|word| word.starts_with('/'))
    {
        copy(Path::new(word), word);
    }
    fs::write(context.join("Dockerfile"), recipe).unwrap();
    slipway.build_folder("tools", &context, &[]).ok();
    true
}

/// Compiles two files and links them, each step told in the cache's log.
const MAKEFILE: &str = "O = /cache
all: $(O)/prog
$(O)/%.o: %.c
\tcat $< > $@
\techo $* >> $(O)/log
$(O)/prog: $(O)/main.o $(O)/other.o
\tcat $^ > $@
";

/// What builds: the log is of this run alone.
const MAKE: &str =
    "rm -f /cache/log && make -s && cp /cache/prog /prog && touch /cache/log && cp /cache/log /log";

/// A context with the sources below `src`, and their times.
fn sources(slipway: &Slipway, main: &str, time: u64) -> PathBuf {
    let context = slipway.path("context");
    write_tree(&context, &[("src/main.c", main), ("src/other.c", "other;"), ("src/Makefile", MAKEFILE)]);
    for name in ["main.c", "other.c", "Makefile"] {
        let file = File::options().write(true).open(context.join("src").join(name)).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(time)).unwrap();
    }
    context
}

/// An archive of the sources.
fn archive(context: &Path) {
    let mut command = Command::new("tar");
    command.arg("-C").arg(context.join("src")).arg("-cf").arg(context.join("src.tar")).arg(".");
    let status = command.status().unwrap();
    assert!(status.success());
}

struct Way {
    name: &'static str,
    /// Before the RUN of [`MAKE`], and its further flags.
    before: &'static str,
    flags: &'static str,
}

/// Every way that a source comes to a command.
const WAYS: [Way; 9] = [
    Way { name: "copied", before: "COPY src /app\nWORKDIR /app\n", flags: "" },
    Way { name: "linked", before: "COPY --link src /app\nWORKDIR /app\n", flags: "" },
    Way { name: "archive", before: "ADD src.tar /app\nWORKDIR /app\n", flags: "" },
    Way {
        name: "stage",
        before: "FROM base AS from\nCOPY src /src\nFROM tools\nCOPY --from=from /src /app\nWORKDIR /app\n",
        flags: "",
    },
    Way { name: "mounted", before: "WORKDIR /app\n", flags: "--mount=type=bind,source=src,target=/app" },
    Way { name: "writable", before: "WORKDIR /app\n", flags: "--mount=type=bind,source=src,target=/app,rw" },
    Way {
        name: "mounted-stage",
        before: "FROM base AS from\nCOPY src /src\nFROM tools\nWORKDIR /app\n",
        flags: "--mount=type=bind,from=from,source=/src,target=/app",
    },
    Way { name: "made", before: "COPY src /app\nRUN sed -i s/x/y/ /app/main.c\nWORKDIR /app\n", flags: "" },
    Way {
        name: "switched",
        before: "COPY src /v\nRUN mkdir /a && cp -r /v /a/$(md5sum </v/main.c | cut -c1-9) && ln -s a/* /app\nWORKDIR /app\n",
        flags: "",
    },
];

#[test]
fn a_changed_source_is_newer_than_what_was_made_of_it() {
    let slipway = Slipway::new();
    if !with_make(&slipway) {
        return;
    }
    let other = slipway.another("other");
    other.import_base();
    assert!(with_make(&other));
    for way in WAYS {
        let cache = format!("--mount=type=cache,id={},target=/cache", way.name);
        let start = if way.before.starts_with("FROM") { "" } else { "FROM tools\n" };
        let recipe = format!("{start}{}RUN {cache} {} {MAKE}\n", way.before, way.flags);
        let mut digests = Vec::new();
        // the time goes backwards, and forwards
        for (number, (main, time)) in
            [("one;", 2_000), ("two;", 1_000), ("one;", 3_000), ("one;", 500), ("two;", 2_000)]
                .into_iter()
                .enumerate()
        {
            let context = sources(&slipway, main, time);
            archive(&context);
            fs::write(context.join("Dockerfile"), &recipe).unwrap();
            // a result from the cache of steps would be right by itself
            slipway.build_folder("made", &context, &["--no-cache"]).ok();
            let seen = slipway.shell("made", "cat /prog");
            assert_eq!(seen, format!("{main}other;"), "{}, build {number}", way.name);
            digests.push(slipway.digest("made"));
            if number == 1 && way.name != "switched" && way.name != "archive" {
                assert_eq!(slipway.shell("made", "cat /log"), "main\n", "{}: only what changed", way.name);
            }
        }
        // `/log` tells a warm cache from a cold one, so only builds that did the same are compared; what an archive
        // holds keeps the times of the archive
        if way.name != "archive" {
            assert_eq!(digests[1], digests[4], "{}", way.name);
        }
    }
}

#[test]
fn what_a_cache_makes_newer_is_not_in_the_image() {
    let slipway = Slipway::new();
    if !with_make(&slipway) {
        return;
    }
    let make = MAKE.replace("&& touch /cache/log && cp /cache/log /log", "");
    let recipe = format!(
        "FROM tools\nCOPY src /app\nWORKDIR /app\nRUN --mount=type=cache,target=/cache {make}\nRUN --mount=type=cache,target=/cache cp main.c copy.c && chmod 600 other.c && ls -l /cache >/dev/null\n"
    );
    let build = |store: &Slipway, main: &str, flags: &[&str]| {
        let context = sources(store, main, 1_000);
        fs::write(context.join("Dockerfile"), &recipe).unwrap();
        store.build_folder("made", &context, flags).ok();
        store.digest("made")
    };
    let first = build(&slipway, "one;", &[]);
    let second = build(&slipway, "two;", &[]);
    assert_ne!(first, second);
    for (main, digest) in [("one;", &first), ("two;", &second)] {
        assert_eq!(&build(&slipway, main, &["--no-cache"]), digest, "warm");
        assert_eq!(&build(&slipway, main, &[]), digest, "cached");
        let other = slipway.another(&format!("cold-{main}"));
        other.import_base();
        assert!(with_make(&other));
        assert_eq!(&build(&other, main, &[]), digest, "cold");
    }
    assert!(slipway.leftovers().is_empty(), "{:?}", slipway.leftovers());
}

/// The step that changed the source and the one that needs it are two, and the first may fail.
#[test]
fn a_source_stays_newer_until_it_is_used() {
    let slipway = Slipway::new();
    if !with_make(&slipway) {
        return;
    }
    let cache = "--mount=type=cache,target=/cache";
    let head = "FROM tools\nCOPY src /app\nWORKDIR /app\n";
    let build = |main: &str, rest: &str| {
        let context = sources(&slipway, main, 1_000);
        fs::write(context.join("Dockerfile"), format!("{head}{rest}")).unwrap();
        slipway.build_folder("made", &context, &["--no-cache"])
    };
    let make = format!("RUN {cache} {MAKE}\n");
    build("one;", &make).ok();
    build("two;", &format!("RUN {cache} test -e /cache/prog && false\n")).fails(1);
    build("two;", &format!("RUN {cache} make -s /cache/other.o\nRUN {cache} true\n{make}")).ok();
    assert_eq!(slipway.shell("made", "cat /prog"), "two;other;");
    // nothing is made twice
    build("two;", &format!("{make}RUN {cache} make -q\n")).ok();
    assert_eq!(slipway.shell("made", "cat /log"), "");
    // a record that is damaged or gone makes everything new
    let caches = slipway.root.join("caches");
    for damage in
        [|path: &Path| fs::write(path, "nothing").unwrap(), |path: &Path| fs::remove_file(path).unwrap()]
    {
        let seen = fs::read_dir(&caches).unwrap().flatten().map(|entry| entry.path());
        seen.filter(|path| path.extension().is_some_and(|end| end == "seen")).for_each(|path| damage(&path));
        build("two;", &make).ok();
        assert_eq!(slipway.shell("made", "sort /log"), "main\nother\n");
    }
}
