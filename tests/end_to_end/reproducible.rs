//! The same inputs give the same digest, wherever and by whomever.

use crate::support::base::MTIME;
use crate::support::image::{Image, text};
use crate::support::user::User;
use crate::support::{Slipway, run, skip};
use slipway_skip::need_root;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};

const RECIPE: &str = "FROM base
WORKDIR /app
COPY . .
RUN mkdir -p /made/deep && echo made > /made/deep/file && ln /made/deep/file /made/hard && ln -s deep /made/soft
RUN rm /etc/motd && echo $SOURCE_DATE_EPOCH > /epoch && touch /now && chmod 1777 /made
FROM base
COPY --from=0 /made /made
COPY --from=0 /app /app
ENV A=b
CMD [\"/bin/sh\"]
";

const FILES: [(&str, &str); 4] =
    [("z", "last"), ("a", "first"), ("d/file", "in a folder"), ("d/e/f/g", "deep")];

/// Writes the files in the given order, with times of their own.
fn checkout(folder: &Path, reverse: bool, time: u64) {
    let mut files = FILES.to_vec();
    if reverse {
        files.reverse();
    }
    for (path, content) in files {
        let place = folder.join(path);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::write(&place, content).unwrap();
        let file = fs::File::options().write(true).open(&place).unwrap();
        file.set_modified(UNIX_EPOCH + Duration::from_secs(time)).unwrap();
        fs::set_permissions(&place, PermissionsExt::from_mode(0o644)).unwrap();
    }
    fs::write(folder.join("Dockerfile"), RECIPE).unwrap();
}

#[test]
fn two_stores_and_two_checkouts_give_one_digest() {
    let one = Slipway::new();
    let two = one.another("two");
    two.import_base();
    let (first, second) = (one.path("first"), one.path("a/deeper/second"));
    checkout(&first, false, 1_600_000_000);
    checkout(&second, true, 1_700_000_000);
    one.build_folder("same", &first, &[]).ok();
    two.build_folder("same", &second, &[]).ok();
    assert_eq!(one.digest("base"), two.digest("base"));
    assert_eq!(one.digest("same"), two.digest("same"));
    // and once more without what the first build left
    two.build_folder("again", &first, &["--no-cache"]).ok();
    assert_eq!(one.digest("same"), two.digest("again"));
}

/// Everything that two machines may differ in, and that no digest may tell of.
#[test]
fn no_digest_tells_how_where_and_when_it_was_built() {
    let first = Slipway::new();
    let context = first.path("context");
    checkout(&context, false, 1_600_000_000);
    first.build_folder("same", &context, &[]).ok();
    let expected = first.digest("same");
    let cache = first.path("cache");
    let to = format!("type=local,dest={},mode=max", cache.display());
    let from = format!("type=local,src={}", cache.display());
    // what it is, flags, variables, and what the shell does before it
    type Case<'a> = (&'static str, &'a [&'a str], &'a [(&'a str, &'a str)], &'a str);
    let cases: [Case<'_>; 10] = [
        ("again, cached", &["--cache-to", &to], &[], ""),
        ("again", &["--no-cache"], &[], ""),
        ("one stage at a time", &["--no-cache", "--jobs", "1"], &[], ""),
        ("eight at a time", &["--no-cache", "--jobs", "8"], &[], ""),
        ("another time zone", &["--no-cache"], &[("TZ", "Pacific/Kiritimati")], ""),
        ("another language", &["--no-cache"], &[("LC_ALL", "tr_TR.UTF-8"), ("LANG", "tr_TR.UTF-8")], ""),
        ("a strict umask", &["--no-cache"], &[], "umask 077; "),
        ("no umask", &["--no-cache"], &[], "umask 0; "),
        ("without namespaces and mounts", &["--no-cache", "--isolation", "chroot"], &[], ""),
        (
            "another home and name",
            &["--no-cache"],
            &[("HOME", "/nowhere"), ("HOSTNAME", "other"), ("USER", "other")],
            "",
        ),
    ];
    for (name, flags, variables, before) in cases {
        let line = [&["build", "-q", "-t", "other"], flags].concat();
        let own = first.command(line);
        let mut command = Command::new("sh");
        command
            .args(["-c", &format!("{before}exec \"$0\" \"$@\"")])
            .arg(own.get_program())
            .args(own.get_args())
            .arg(&context);
        command.envs(own.get_envs().filter_map(|(name, value)| Some((name, value?))));
        run(command.envs(variables.iter().copied())).ok();
        assert_eq!(first.digest("other"), expected, "{name}");
        first.ok(["rmi", "other"]);
    }
    let second = first.another("second");
    second.import_base();
    second.build_folder("same", &context, &["--cache-from", &from]).ok();
    assert_eq!(second.digest("same"), expected, "out of another store's cache");
    second.build_folder("other", &context, &["--no-cache", "--layers-as", "unpacked"]).ok();
    assert_eq!(second.digest("other"), expected, "layers as folders");
    // another file system
    let memory = tempfile::Builder::new().prefix("slipway-").tempdir_in("/dev/shm");
    if let Ok(memory) = memory {
        let mut third = first.another("third");
        third.root = memory.path().join("store");
        third.import_base();
        third.build_folder("same", &context, &[]).ok();
        assert_eq!(third.digest("same"), expected, "in memory");
    }
}

#[test]
fn what_was_built_is_built_again_and_compared() {
    let slipway = Slipway::new();
    let folder = slipway.context(
        "context",
        &[("Dockerfile", "FROM base\nCOPY file /file\nRUN echo made > /made\n"), ("file", "x")],
    );
    slipway.build_folder("same", &folder, &[]).ok();
    let digest = slipway.digest("same");
    let said = slipway.ok(["rebuild", "--verify", "same"]);
    assert!(said.contains("the same"), "{said}");
    assert_eq!(slipway.digest("same"), digest);
    fs::write(
        folder.join("Dockerfile"),
        "FROM base\nCOPY file /file\nRUN dd if=/dev/urandom bs=8 count=1 of=/noise 2>/dev/null\n",
    )
    .unwrap();
    slipway.build_folder("other", &folder, &[]).ok();
    let digest = slipway.digest("other");
    let ended = slipway.run(["rebuild", "--verify", "other"]);
    assert_eq!(ended.code(), Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("`/noise` is the first path that differs"), "{}", ended.stderr);
    assert_eq!(slipway.digest("other"), digest, "the name stays");
    let message = slipway.fails(1, ["rebuild", "--verify", "base"]);
    assert!(message.contains("base"), "{message}");
}

#[test]
fn what_results_were_made_into_is_made_again() {
    let slipway = Slipway::new();
    let recipe = "FROM base AS first\nRUN echo made > /made\nFROM first AS last\nARG AT\nRUN rm /made && echo $AT > /more\n";
    let folder = slipway.context("context", &[("Dockerfile", recipe)]);
    let archive = slipway.path("image.tar").display().to_string();
    let files = format!("type=local,dest={}", slipway.path("files").display());
    let to = format!("type=oci,dest={archive},compression=gzip,annotation.who=me");
    for (at, flags) in [
        &["--compression", "gzip", "--compression-level", "9", "--annotation", "who=me"][..],
        &["--squash", "--format", "docker"],
        &["-o", "type=image,compression=estargz,force-compression=true"],
        &["-o", &to, "-o", "type=image"],
        &["-o", &files, "--load", "--compression", "uncompressed"],
        &["--target", "first=none", "--target", "last=last"],
    ]
    .into_iter()
    .enumerate()
    {
        let (several, name) = (flags.contains(&"last=last"), format!("formed{at}"));
        // what runs nothing is not kept
        let argument = format!("AT={at}");
        let mut line = vec!["build", "--build-arg", &argument];
        line.extend_from_slice(flags);
        if !several {
            line.extend(["-t", name.as_str()]);
        }
        line.push(folder.to_str().unwrap());
        slipway.ok(line);
        fs::remove_file(&archive).ok();
        let said = slipway.ok(["rebuild", "--verify", if several { "last" } else { &name }]);
        assert!(said.contains("the same"), "{flags:?}: {said}");
        assert!(!fs::exists(&archive).unwrap(), "nothing else is written");
    }
}

#[test]
fn no_time_is_later_than_the_epoch() {
    let mut slipway = Slipway::new();
    let context = slipway.path("times");
    checkout(&context, false, 1_900_000_000);
    let epoch = 1_550_000_000;
    slipway.environment.push(("SOURCE_DATE_EPOCH".to_owned(), epoch.to_string()));
    slipway.build_folder("times", &context, &[]).ok();
    let image = Image::read(&slipway, "times");
    assert_eq!(text(&image.config["created"]), "2019-02-12T19:33:20Z");
    for entry in image.layers.iter().flatten() {
        assert!(entry.mtime <= epoch, "{} is of {}", entry.path, entry.mtime);
    }
    slipway.build_with("seen", "FROM base\nRUN echo $SOURCE_DATE_EPOCH > /epoch\n", &[], &[]).ok();
    assert_eq!(slipway.shell("seen", "cat /epoch"), format!("{epoch}\n"));
    slipway.environment[0].1 = "not a number".to_owned();
    let message = slipway.build_folder("times", &context, &[]).fails(2);
    assert!(message.contains("SOURCE_DATE_EPOCH"), "{message}");
}

#[test]
fn an_image_is_created_when_its_commit_was() {
    slipway_skip::need!("git");
    let slipway = Slipway::new();
    let context = slipway.path("repository");
    checkout(&context, false, 1_600_000_000);
    let commit = |date: &str| {
        for words in [&["add", "-A"][..], &["commit", "-q", "--allow-empty", "-m", "x"][..]] {
            let mut git = Command::new("git");
            git.arg("-C").arg(&context).args([
                "-c",
                "user.name=t",
                "-c",
                "user.email=t@t",
                "-c",
                "commit.gpgsign=false",
            ]);
            run(git.args(words).env("GIT_AUTHOR_DATE", date).env("GIT_COMMITTER_DATE", date)).ok();
        }
    };
    run(Command::new("git").args(["init", "-q"]).arg(&context)).ok();
    fs::write(context.join(".dockerignore"), ".git\n").unwrap();
    commit("2020-01-02T03:04:05Z");
    slipway.build_folder("committed", &context, &[]).ok();
    let image = Image::read(&slipway, "committed");
    assert_eq!(text(&image.config["created"]), "2020-01-02T03:04:05Z");
    for history in image.config["history"].as_array().unwrap() {
        if let Some(created) = history["created"].as_str() {
            assert!(created <= "2020-01-02T03:04:05Z", "{history}");
        }
    }
    commit("2021-01-02T03:04:05Z");
    slipway.build_folder("committed", &context, &[]).ok();
    let later = Image::read(&slipway, "committed");
    assert_eq!(text(&later.config["created"]), "2021-01-02T03:04:05Z");
    assert_eq!(later.manifest["layers"], image.manifest["layers"], "another commit, the same content");
}

#[test]
fn without_anything_else_the_base_gives_the_time() {
    let slipway = Slipway::new();
    // not below the checkout, whose commit would give the time
    let context = tempfile::tempdir_in("/var/tmp").unwrap();
    fs::write(context.path().join("Dockerfile"), "FROM base\nRUN touch /x\n").unwrap();
    slipway.build_folder("based", context.path(), &[]).ok();
    let (base, image) = (Image::read(&slipway, "base"), Image::read(&slipway, "based"));
    assert_eq!(image.config["created"], base.config["created"]);
    assert!(base.layers.iter().flatten().all(|entry| entry.mtime == MTIME));
}

#[test]
fn privileged_a_plain_user_and_root_make_the_same_image() {
    need_root!();
    let Some(user) = User::new() else { return skip("the test user is missing: run `cargo xtask test`") };
    let slipway = Slipway::new();
    let context = user.context(&[("Dockerfile", RECIPE)]);
    checkout(&context, true, 1_650_000_000);
    run(Command::new("chmod").args(["-R", "a+rX"]).arg(&context)).ok();
    slipway.build_folder("same", &context, &[]).ok();
    let base = user.path("base.tar");
    user.ok(["import".as_ref(), base.as_os_str(), "base".as_ref()]);
    user.ok(["build".as_ref(), "-t".as_ref(), "same".as_ref(), context.as_os_str()]);
    let digest = |name| user.ok(["inspect", "--format", "{{.Digest}}", name]).trim().to_owned();
    assert_eq!(digest("base"), slipway.digest("base"));
    assert_eq!(digest("same"), slipway.digest("same"));
}
