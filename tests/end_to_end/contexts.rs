//! Contexts that somebody else made: nothing in them leads to the host, and nothing that they name is run.

use crate::file_server;
use crate::support::image::{Image, text};
use crate::support::{Ended, Slipway, run, run_with_input};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use slipway_skip::{need, need_root};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

const TIME: &str = "2020-01-02T03:04:05Z";

/// git in `folder`, with nobody's configuration and a fixed time.
fn git_command(folder: &Path) -> Command {
    let mut git = Command::new("git");
    git.arg("-C").arg(folder).env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
    for role in ["AUTHOR", "COMMITTER"] {
        git.env(format!("GIT_{role}_NAME"), "t").env(format!("GIT_{role}_EMAIL"), "t@t");
        git.env(format!("GIT_{role}_DATE"), TIME);
    }
    git
}

#[track_caller]
fn git(folder: &Path, words: &[&str]) -> String {
    run(git_command(folder).args(words)).ok().trim().to_owned()
}

#[track_caller]
fn repository(folder: &Path, words: &[&str]) {
    fs::create_dir_all(folder).unwrap();
    git(folder, &[&["init", "-q", "-b", "main"], words].concat());
    git(folder, &["add", "-A"]);
    git(folder, &["commit", "-q", "--allow-empty", "-m", "x"]);
}

fn pipe(path: &Path) {
    mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o644), 0).unwrap();
}

/// How a context reaches the builder.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Form {
    Stdin,
    Url,
    Git,
    GitSubfolder,
}

/// Serves `folder`, a repository's work tree, on loopback; answers the URL.
fn serve_git(folder: &Path) -> String {
    let bare = folder.with_file_name("served/repo.git");
    let (from, to) = (folder.to_str().unwrap(), bare.to_str().unwrap());
    git(folder, &["clone", "-q", "--bare", from, to]);
    git(&bare, &["update-server-info"]);
    format!("http://{}/repo.git", file_server::start(bare.parent().unwrap().to_owned()))
}

/// Builds the folder `context` as it comes by way of `form`.
fn build(slipway: &Slipway, form: Form, context: &Path, flags: &[&str]) -> Ended {
    let mut command = slipway.command(["build", "--progress", "plain", "-t", "x"]);
    command.args(flags);
    let archive = context.with_file_name("context.tar");
    let pack = || run(Command::new("tar").arg("-cf").arg(&archive).arg("-C").arg(context).arg(".")).ok();
    match form {
        Form::Stdin => {
            pack();
            run_with_input(command.arg("-"), &fs::read(archive).unwrap())
        }
        Form::Url => {
            pack();
            let server = file_server::start(context.parent().unwrap().to_owned());
            run(command.arg(format!("http://{server}/context.tar")))
        }
        Form::Git | Form::GitSubfolder => {
            let top = context.with_file_name("repository");
            let inner = if form == Form::Git { top.clone() } else { top.join("sub") };
            fs::create_dir_all(&inner).unwrap();
            run(Command::new("cp").args(["-a", "."]).arg(&inner).current_dir(context)).ok();
            repository(&top, &[]);
            let part = if form == Form::Git { "" } else { ":sub" };
            run(command.arg(format!("{}#main{part}", serve_git(&top))))
        }
    }
}

/// Makes a path; the other one is a file of the host with the marker in it.
type Maker = fn(&Path, &Path);

/// What stands where the builder looks for a file.
const ASTRAY: [(&str, Maker); 8] = [
    ("a link to the host", |place, host| symlink(host, place).unwrap()),
    ("a link upwards", |place, host| {
        let up = "../".repeat(30);
        symlink(format!("{up}{}", host.strip_prefix("/").unwrap().display()), place).unwrap();
    }),
    ("a link by way of a link", |place, host| {
        symlink(host.parent().unwrap(), place.with_file_name("way")).unwrap();
        symlink(Path::new("way").join(host.file_name().unwrap()), place).unwrap();
    }),
    ("a link by way of a file", |place, host| {
        symlink(format!("kept/../{}{}", "../".repeat(30), &host.to_str().unwrap()[1..]), place).unwrap();
    }),
    ("a link to a process's root", |place, host| {
        symlink(format!("/proc/self/root{}", host.display()), place).unwrap();
    }),
    ("a link to itself", |place, _| symlink(place.file_name().unwrap(), place).unwrap()),
    ("a pipe", |place, _| pipe(place)),
    ("a folder", |place, _| {
        fs::create_dir(place).unwrap();
        fs::write(place.join("x"), "").unwrap();
    }),
];

#[test]
fn no_file_of_a_fetched_context_leads_to_the_host() {
    need!("git", "tar");
    let slipway = Slipway::new();
    let host = slipway.path("host-file");
    fs::write(&host, "FROM base\nLABEL marker=stolen\n").unwrap();
    let good = "FROM base\nCOPY kept /kept\n";
    let mut count = 0;
    for form in [Form::Stdin, Form::Url, Form::Git, Form::GitSubfolder] {
        for (what, make) in ASTRAY {
            let is_pipe = what == "a pipe";
            if is_pipe && matches!(form, Form::Git | Form::GitSubfolder) {
                continue; // git has none
            }
            let places = ["Dockerfile", "named", "deep/named", ".dockerignore", ".containerignore"];
            for place in places.iter().chain(&["Dockerfile.dockerignore"]) {
                count += 1;
                let context = slipway.path(&format!("try-{count}/context"));
                fs::create_dir_all(context.join("deep")).unwrap();
                fs::write(context.join("kept"), "kept").unwrap();
                fs::write(context.join("Dockerfile"), good).unwrap();
                let target = context.join(place);
                if target.exists() {
                    fs::remove_file(&target).unwrap();
                }
                make(&target, &host);
                let flags: &[&str] = if place.contains("named") { &["-f", place] } else { &[] };
                let message = build(&slipway, form, &context, flags).fails(1);
                let shown = format!("{form:?}, {place} is {what}: {message}");
                assert!(message.contains(place.rsplit('/').next().unwrap()), "{shown}");
                assert!(!message.contains("stolen"), "{shown}");
                fs::remove_dir_all(context.parent().unwrap()).unwrap();
            }
        }
    }
    assert_eq!(slipway.leftovers(), Vec::<String>::new());
}

/// A folder of the context in the middle of a path that is a link to the host.
#[test]
fn no_folder_of_a_fetched_context_leads_to_the_host() {
    need!("git", "tar");
    let slipway = Slipway::new();
    let host = slipway.context(
        "host-folder",
        &[("named", "FROM base\nLABEL marker=stolen\n"), ("named.dockerignore", "*")],
    );
    for form in [Form::Stdin, Form::Url, Form::Git, Form::GitSubfolder] {
        for (index, target) in
            [host.clone(), PathBuf::from(format!("{}{}", "../".repeat(30), &host.to_str().unwrap()[1..]))]
                .iter()
                .enumerate()
        {
            let context = slipway.path(&format!("middle-{form:?}-{index}/context"));
            fs::create_dir_all(context.join("real")).unwrap();
            fs::write(context.join("Dockerfile"), "FROM base\nCOPY way /x/\nCOPY way/named /y\n").unwrap();
            symlink(target, context.join("way")).unwrap();
            symlink("way", context.join("again")).unwrap();
            for path in ["way/named", "again/named", "/way/named", "real/../way/named"] {
                let message = build(&slipway, form, &context, &["-f", path]).fails(1);
                assert!(
                    message.contains("named") && !message.contains("stolen"),
                    "{form:?} {path}: {message}"
                );
                let _ = fs::remove_dir_all(context.with_file_name("repository"));
                let _ = fs::remove_dir_all(context.with_file_name("served"));
            }
            build(&slipway, form, &context, &[]).fails(1);
        }
    }
    assert_eq!(slipway.leftovers(), Vec::<String>::new());
}

/// Links that stay inside are links like any other.
#[test]
fn files_of_a_fetched_context_may_be_links_within_it() {
    need!("git", "tar");
    let slipway = Slipway::new();
    for form in [Form::Stdin, Form::Url, Form::Git, Form::GitSubfolder] {
        let context = slipway.path(&format!("inside-{form:?}/context"));
        fs::create_dir_all(context.join("real")).unwrap();
        fs::write(context.join("real/recipe"), "FROM base\nCOPY . /all/\n").unwrap();
        fs::write(context.join("real/ignore"), "secret\n").unwrap();
        fs::write(context.join("secret"), "s").unwrap();
        symlink("real", context.join("way")).unwrap();
        symlink("way/recipe", context.join("Dockerfile")).unwrap();
        // absolute links begin at the context, whatever the host has there
        symlink("/real/ignore", context.join(".dockerignore")).unwrap();
        for flags in [&[][..], &["-f", "way/recipe"], &["-f", "/way/../way/recipe"]] {
            build(&slipway, form, &context, flags).ok();
            let image = Image::read(&slipway, "x");
            let paths: Vec<&str> = image.layers.iter().flatten().map(|entry| entry.path.as_str()).collect();
            assert!(paths.contains(&"all/way") && !paths.contains(&"all/secret"), "{form:?}: {paths:?}");
            let _ = fs::remove_dir_all(context.with_file_name("repository"));
            let _ = fs::remove_dir_all(context.with_file_name("served"));
        }
    }
}

/// The folder of a git URL: links of the repository in its last and in a middle component, and the same as a context
/// by name and as a source of ADD.
#[test]
fn the_subfolder_of_a_repository_stays_in_it() {
    need!("git");
    let slipway = Slipway::new();
    let host = slipway
        .context("host", &[("sub/Dockerfile", "FROM base\nLABEL marker=stolen\n"), ("sub/f", "stolen")]);
    let top = slipway.path("work");
    fs::create_dir_all(top.join("real/sub")).unwrap();
    fs::write(top.join("real/sub/Dockerfile"), "FROM base\nCOPY f /f\n").unwrap();
    fs::write(top.join("real/sub/f"), "own").unwrap();
    symlink("real", top.join("inside")).unwrap();
    symlink(&host, top.join("middle")).unwrap();
    symlink(host.join("sub"), top.join("last")).unwrap();
    symlink(format!("{}{}", "../".repeat(30), &host.to_str().unwrap()[1..]), top.join("up")).unwrap();
    repository(&top, &[]);
    let url = serve_git(&top);
    let tries = |part: &str| -> [Ended; 3] {
        let named = format!("named={url}#main:{part}");
        let added = format!("FROM base\nADD {url}#main:{part} /\n");
        [
            slipway.run(["build", "-t", "x", &format!("{url}#main:{part}")]),
            slipway.build_with("y", "FROM base\nCOPY --from=named f /f\n", &[], &["--build-context", &named]),
            slipway.build("z", &added, &[]),
        ]
    };
    for part in ["middle/sub", "last", "up/sub", ".git", "missing", "real/sub/f"] {
        for ended in tries(part) {
            let message = ended.fails(1);
            assert!(message.contains(part) && !message.contains("stolen"), "{part}: {message}");
        }
    }
    for part in ["real/sub", "inside/sub", "/real/sub/", "../../real/sub"] {
        for (ended, name) in tries(part).into_iter().zip(["x", "y", "z"]) {
            ended.ok();
            let image = Image::read(&slipway, name);
            let file = image.layers.iter().flatten().find(|entry| entry.path == "f").unwrap();
            assert_eq!(file.content, b"own", "{part} as {name}");
        }
    }
    assert_eq!(fs::read_to_string(host.join("sub/f")).unwrap(), "stolen", "the host's folder was moved");
    assert_eq!(fs::read_dir(host.join("sub")).unwrap().count(), 2);
}

/// The context by name that is a folder of the host, with what makes a reader wait.
#[test]
fn a_pipe_in_a_place_that_is_looked_into_does_not_hang() {
    let slipway = Slipway::new();
    for place in ["Dockerfile", ".dockerignore", "Dockerfile.dockerignore", "file"] {
        let name = format!("pipe-{place}");
        let context = slipway.context(&name, &[("Dockerfile", "FROM base\nCOPY file /\n"), ("file", "x")]);
        fs::remove_file(context.join(place)).ok();
        pipe(&context.join(place));
        let ended = slipway.build_folder("x", &context, &[]);
        if place == "file" {
            ended.ok(); // a pipe is copied as a pipe
        } else {
            let message = ended.fails(1);
            assert!(message.contains(place), "{place}: {message}");
        }
        let named = format!("other={}", context.display());
        let recipe = "FROM base\nCOPY --from=other Dockerfile /\n";
        let ended = slipway.build_with("y", recipe, &[], &["--build-context", &named]);
        if place == ".dockerignore" {
            assert!(ended.fails(1).contains(".dockerignore"));
        } else {
            ended.ok();
        }
    }
}

/// A repository that names programs in every place where git would run one.
#[test]
fn nothing_of_a_local_repository_is_run() {
    need!("git");
    let slipway = Slipway::new();
    let marker = slipway.path("marker");
    let script = slipway.path("evil");
    fs::write(&script, format!("#!/bin/sh\necho \"$0 $*\" >> {}\nexit 0\n", marker.display())).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let evil = script.to_str().unwrap();
    let command = format!("!{evil}");
    let hooks = slipway.path("").join("evil-hooks");
    fs::create_dir(&hooks).unwrap();
    for hook in ["post-checkout", "reference-transaction", "post-index-change"] {
        fs::copy(&script, hooks.join(hook)).unwrap();
    }
    let hooks = hooks.to_str().unwrap();
    let mut configurations: Vec<Vec<(&str, &str)>> = vec![
        vec![("log.showSignature", "true"), ("gpg.program", evil)],
        vec![("log.showSignature", "true"), ("gpg.format", "ssh"), ("gpg.ssh.program", evil)],
        vec![("gpg.x509.program", evil), ("gpg.format", "x509"), ("log.showSignature", "true")],
        vec![
            ("core.sshCommand", evil),
            ("remote.origin.url", "ssh://h/r"),
            ("remote.origin.promisor", "true"),
            ("extensions.partialClone", "origin"),
        ],
        vec![("core.fsmonitor", evil)],
        vec![("core.pager", evil), ("pager.log", "true"), ("core.editor", evil)],
        vec![("alias.log", &command), ("alias.cat-file", &command), ("alias.rev-parse", &command)],
        vec![("core.hooksPath", hooks)],
        vec![("filter.x.smudge", evil), ("filter.x.clean", evil), ("filter.x.process", evil)],
        vec![
            ("diff.external", evil),
            ("core.alternateRefsCommand", evil),
            ("uploadpack.packObjectsHook", evil),
        ],
        vec![("credential.helper", &command), ("core.askPass", evil), ("core.gitProxy", evil)],
    ];
    configurations.push(vec![("trace2.eventTarget", "/proc/self/cwd/trace"), ("core.worktree", "/")]);
    for (index, pairs) in configurations.iter().enumerate() {
        let context = slipway.context(&format!("evil-{index}"), &[("Dockerfile", "FROM base\nLABEL a=b\n")]);
        fs::write(context.join(".gitattributes"), "* filter=x diff=x\n").unwrap();
        repository(&context, &[]);
        sign_head(&context);
        let included = context.join(".git/included");
        for (key, value) in pairs {
            let file = if index % 2 == 0 { context.join(".git/config") } else { included.clone() };
            git(&context, &["config", "--file", file.to_str().unwrap(), key, value]);
        }
        git(&context, &["config", "include.path", included.to_str().unwrap()]);
        for hook in ["post-checkout", "fsmonitor-watchman", "post-index-change", "reference-transaction"] {
            fs::create_dir_all(context.join(".git/hooks")).unwrap();
            fs::copy(&script, context.join(".git/hooks").join(hook)).unwrap();
        }
        slipway.build_folder("x", &context, &["--no-cache", "--build-arg", "SOURCE_DATE_EPOCH=context"]).ok();
        assert!(!marker.exists(), "{pairs:?} ran {}", fs::read_to_string(&marker).unwrap_or_default());
        assert_eq!(text(&Image::read(&slipway, "x").config["created"]), TIME, "{pairs:?}");
    }
}

/// Puts a commit with a signature at HEAD, so that a checker would be asked.
fn sign_head(context: &Path) {
    let commit = git(context, &["cat-file", "commit", "HEAD"]);
    let (headers, words) = commit.split_once("\n\n").unwrap_or((&commit, "x"));
    let signed = format!(
        "{headers}\ngpgsig -----BEGIN PGP SIGNATURE-----\n \n x\n -----END PGP SIGNATURE-----\n\n{words}\n"
    );
    let mut make = git_command(context);
    let made = run_with_input(make.args(["hash-object", "-t", "commit", "-w", "--stdin"]), signed.as_bytes());
    git(context, &["update-ref", "refs/heads/main", made.ok().trim()]);
}

/// The commit's time is found however the repository keeps its commits.
#[test]
fn the_commit_of_every_kind_of_repository_is_read() {
    need!("git");
    let slipway = Slipway::new();
    let mut count = 0;
    let mut fresh = |words: &[&str]| -> PathBuf {
        count += 1;
        let folder =
            slipway.context(&format!("kind-{count}/top"), &[("Dockerfile", "FROM base\nLABEL a=b\n")]);
        repository(&folder, words);
        folder
    };
    let many = |folder: &Path| {
        // long equal messages, so that packs hold commits as deltas
        for number in 0..40 {
            let words = format!("{}{number}", "the same words again and again\n".repeat(200));
            let mut commit = git_command(folder);
            commit.args(["commit", "-q", "--allow-empty", "-m", &words]);
            let date = if number == 20 { TIME } else { "2001-01-01T00:00:00Z" };
            run(commit.env("GIT_COMMITTER_DATE", date)).ok();
        }
        git(folder, &["checkout", "-q", "HEAD~19"]);
    };
    let mut kinds: Vec<(&str, PathBuf)> = vec![("loose", fresh(&[]))];
    for (name, words) in [("packed", &[][..]), ("packed, sha256", &["--object-format=sha256"])] {
        let folder = fresh(words);
        git(&folder, &["gc", "-q"]);
        assert!(folder.join(".git/packed-refs").exists());
        kinds.push((name, folder));
        let folder = fresh(words);
        many(&folder);
        git(&folder, &["repack", "-q", "-a", "-d", "-f", "--depth=50", "--window=50"]);
        kinds.push(("deltas", folder.clone()));
        let folder = fresh(words);
        many(&folder);
        git(&folder, &["-c", "repack.useDeltaBaseOffset=false", "repack", "-q", "-a", "-d", "-f"]);
        kinds.push(("deltas by name", folder.clone()));
        let (from, to) = (folder.to_str().unwrap(), folder.with_file_name("borrower"));
        git(&folder, &["clone", "-q", "--shared", from, to.to_str().unwrap()]);
        kinds.push(("borrowed objects", to));
        let to = folder.with_file_name("worktree");
        git(&folder, &["worktree", "add", "-q", to.to_str().unwrap(), "-b", "other"]);
        kinds.push(("a worktree", to));
    }
    let folder = fresh(&[]);
    git(&folder, &["symbolic-ref", "refs/heads/alias", "refs/heads/main"]);
    git(&folder, &["symbolic-ref", "HEAD", "refs/heads/alias"]);
    kinds.push(("a reference to a reference", folder));
    let folder = fresh(&["--separate-git-dir", "../elsewhere.git"]);
    kinds.push(("its folder elsewhere", folder));
    let folder = fresh(&[]);
    let deeper = folder.join("a/b");
    fs::create_dir_all(&deeper).unwrap();
    fs::copy(folder.join("Dockerfile"), deeper.join("Dockerfile")).unwrap();
    kinds.push(("a folder in it", deeper.clone()));
    symlink(&deeper, slipway.path("way")).unwrap();
    kinds.push(("a link to a folder in it", slipway.path("way")));
    for (name, folder) in &kinds {
        slipway.build_folder("x", folder, &["--build-arg", "SOURCE_DATE_EPOCH=context"]).ok();
        assert_eq!(text(&Image::read(&slipway, "x").config["created"]), TIME, "{name}");
    }
    // contexts that came from elsewhere: a checkout has its commit's time, an archive that of the repository in it
    let folder = fresh(&[]);
    let flags = ["--build-arg", "SOURCE_DATE_EPOCH=context"];
    run(slipway.command(["build", "-t", "x"]).args(flags).arg(serve_git(&folder))).ok();
    assert_eq!(text(&Image::read(&slipway, "x").config["created"]), TIME);
    build(&slipway, Form::Stdin, &folder, &flags).ok();
    assert_eq!(text(&Image::read(&slipway, "x").config["created"]), TIME);
    fs::remove_dir_all(folder.join(".git")).unwrap();
    fs::write(folder.join(".git"), format!("gitdir: {}/.git\n", kinds[0].1.display())).unwrap();
    assert!(build(&slipway, Form::Stdin, &folder, &flags).fails(1).contains("no git repository"));
}

/// What the caller's shell and configuration say does not change what is checked out.
#[test]
fn a_checkout_is_the_same_whoever_makes_it() {
    need!("git");
    let mut slipway = Slipway::new();
    let top = slipway.context("work", &[("Dockerfile", "FROM base\nCOPY . /all/\n"), ("text", "a\nb\n")]);
    fs::write(top.join("program"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(top.join("program"), fs::Permissions::from_mode(0o775)).unwrap();
    fs::write(top.join(".gitattributes"), "text filter=evil text\n").unwrap();
    symlink("text", top.join("link")).unwrap();
    repository(&top, &[]);
    let url = serve_git(&top);
    slipway.ok(["build", "-t", "x", &url]);
    let plain = slipway.digest("x");
    let marker = slipway.path("marker");
    let evil = format!("touch {}; cat", marker.display());
    let home = slipway.path(".gitconfig");
    for (key, value) in [
        ("core.autocrlf", "true"),
        ("core.symlinks", "false"),
        ("core.fileMode", "false"),
        ("core.sharedRepository", "0600"),
        ("core.fsmonitor", &evil),
        ("filter.evil.smudge", &evil),
        ("filter.evil.required", "true"),
        ("init.templateDir", slipway.path("template").to_str().unwrap()),
        ("core.hooksPath", slipway.path("template/hooks").to_str().unwrap()),
    ] {
        git(&top, &["config", "--file", home.to_str().unwrap(), key, value]);
    }
    let hook = slipway.path("template/hooks/post-checkout");
    fs::create_dir_all(hook.parent().unwrap()).unwrap();
    fs::write(&hook, format!("#!/bin/sh\n{evil}\n")).unwrap();
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    let other = slipway.path("other");
    repository(&other, &[]);
    let git_dir = other.join(".git");
    for (name, value) in [
        ("GIT_DIR", git_dir.to_str().unwrap()),
        ("GIT_WORK_TREE", "/"),
        ("GIT_INDEX_FILE", "/nowhere"),
        ("GIT_OBJECT_DIRECTORY", "/nowhere"),
        ("GIT_EXTERNAL_DIFF", &evil),
        ("GIT_TEMPLATE_DIR", slipway.path("template").to_str().unwrap()),
        ("GIT_NAMESPACE", "x"),
    ] {
        slipway.environment.push((name.to_owned(), value.to_owned()));
    }
    let mut command = Command::new("sh");
    let own = slipway.command(["build", "--no-cache", "-t", "x", &url]);
    command.args(["-c", "umask 077; exec \"$0\" \"$@\""]).arg(own.get_program()).args(own.get_args());
    command.envs(own.get_envs().filter_map(|(name, value)| Some((name, value?))));
    run(&mut command).ok();
    assert_eq!(slipway.digest("x"), plain);
    assert!(!marker.exists());
    // how servers are reached is the person's own
    let away = format!("url.{}.insteadOf", url.trim_end_matches("repo.git"));
    git(&top, &["config", "--file", home.to_str().unwrap(), &away, "http://example.invalid/"]);
    slipway.ok(["build", "-t", "y", "http://example.invalid/repo.git"]);
    assert_eq!(slipway.digest("y"), plain);
}

/// A repository decides what git writes, so git is ended when that is too much: while it fetches, while it checks out, and
/// whatever says how much it will be.
#[test]
fn a_repository_that_is_too_large_is_refused_while_it_comes() {
    need!("git", "perl");
    let mut slipway = Slipway::new();
    let make = |name: &str, script: &str| {
        let top =
            slipway.context(&format!("{name}/work"), &[("Dockerfile", "FROM base\nCOPY Dockerfile /\n")]);
        run(Command::new("sh").args(["-c", script]).current_dir(&top)).ok();
        repository(&top, &[]);
        top
    };
    let small = serve_git(&make("small", "true"));
    // a few kilobytes of a pack, many of files
    let bomb = serve_git(&make("bomb", "head -c 40000000 /dev/zero > zeros"));
    let top = make("slow", "head -c 12000000 /dev/urandom > noise");
    // over "ssh", slowly, and saying how much came through; or only talking
    let (server, sent) = (slipway.path("server"), slipway.path("sent"));
    let copy = "$n = 0; while (($k = sysread(STDIN, $b, 32768)) > 0) { syswrite(STDOUT, $b); $n += $k; \
                open(F, \">>\", $ARGV[0]); print F \"$n\\n\"; close F; select(undef, undef, undef, 0.02); }";
    let script = format!(
        "case $1 in talker) head -c 20000000 /dev/zero | tr '\\0' x >&2; exit 1;; esac
         sh -c \"$2\" | perl -e '{copy}' {}",
        sent.display()
    );
    fs::write(&server, script).unwrap();
    slipway.environment.push(("GIT_SSH_COMMAND".to_owned(), format!("sh {}", server.display())));
    slipway.environment.push(("GIT_SSH_VARIANT".to_owned(), "simple".to_owned()));
    let slow = format!("ssh://slow{}/.git", top.display());
    for url in [&bomb, &slow] {
        let message = slipway.fails(1, ["build", "--max-unpacked", "3m", "-t", "x", url]);
        assert!(message.contains("is too large: it makes git write more than 3145728 bytes"), "{message}");
        assert!(message.contains(url) && message.contains("--max-unpacked"), "{message}");
        assert_eq!(slipway.leftovers(), [] as [String; 0]);
    }
    // a line a piece: whoever is ended in between has written whole ones
    let sent = fs::read_to_string(&sent).unwrap();
    let sent = sent.lines().last().unwrap_or_default();
    assert!(sent.parse::<u64>().unwrap() < 9_000_000, "git went on to {sent} bytes");
    // what is small, or allowed, comes
    slipway.ok(["build", "--max-unpacked", "3m", "-t", "x", &small]);
    slipway.ok(["build", "-t", "x", &bomb]);
    let message = slipway.fails(1, ["build", "-t", "x", "ssh://talker/repo.git"]);
    assert!(message.contains("git could not fetch") && message.len() < 300_000, "{}", message.len());
}

/// Serves a repository whose submodule `sub` is at a commit; `lines` say where from. Answers the URL.
fn serve_with_submodule(slipway: &Slipway, name: &str, lines: &str, commit: &str) -> String {
    let top = slipway.context(&format!("{name}/top"), &[("Dockerfile", "FROM base\nCOPY . /all/\n")]);
    fs::write(top.join(".gitmodules"), format!("[submodule \"sub\"]\n\tpath = sub\n{lines}")).unwrap();
    repository(&top, &[]);
    git(&top, &["update-index", "--add", "--cacheinfo", &format!("160000,{commit},sub")]);
    git(&top, &["commit", "-q", "-m", "with a submodule"]);
    serve_git(&top)
}

/// A submodule is fetched from where the repository says, but neither from this machine nor by a program.
#[test]
fn submodules_name_neither_folders_of_the_host_nor_programs() {
    need!("git");
    let mut slipway = Slipway::new();
    let secret = slipway.context("secret", &[("file", "stolen")]);
    repository(&secret, &[]);
    let commit = git(&secret, &["rev-parse", "HEAD"]);
    let bare = slipway.path("secret.git");
    git(&secret, &["clone", "-q", "--bare", ".", bare.to_str().unwrap()]);
    let marker = slipway.path("marker");
    let with_submodule = |name: &str, lines: &str| serve_with_submodule(&slipway, name, lines, &commit);
    let url = |url: &str| format!("\turl = {url}\n");
    let (host, touch) = (bare.display(), format!("ext::touch {}", marker.display()));
    let honest = slipway.context("honest/top", &[("file", "own")]);
    repository(&honest, &[]);
    let served = serve_git(&honest);
    let hostile: Vec<(&str, String)> = vec![
        ("path", with_submodule("path", &url(&host.to_string()))),
        ("file", with_submodule("file", &url(&format!("file://{host}")))),
        (
            "upwards",
            with_submodule("upwards", &url(&format!("{}{}", "../".repeat(12), &host.to_string()[1..]))),
        ),
        ("ext", with_submodule("ext", &url(&touch))),
        ("option", with_submodule("option", &url(&format!("--upload-pack=touch {}", marker.display())))),
        (
            "ssh option",
            with_submodule("ssh", &url(&format!("ssh://-oProxyCommand=touch%20{}/x", marker.display()))),
        ),
        (
            "update",
            with_submodule(
                "update",
                &format!("\turl = {}\n\tupdate = !touch {}\n", served, marker.display()),
            ),
        ),
    ];
    let config = slipway.path(".gitconfig");
    for round in ["nothing said", "allowed by configuration", "allowed by the environment"] {
        match round {
            "allowed by configuration" => {
                for name in ["protocol.allow", "protocol.ext.allow", "protocol.file.allow"] {
                    git(&secret, &["config", "--file", config.to_str().unwrap(), name, "always"]);
                }
            }
            "allowed by the environment" => {
                slipway.environment.push(("GIT_ALLOW_PROTOCOL".into(), "ext:file:http:https".into()));
            }
            _ => {}
        }
        for (name, url) in &hostile {
            let ended = slipway.run(["build", "--no-cache", "-t", "x", url]);
            assert!(!marker.exists(), "{round}, {name}: {}", ended.stderr);
            if ended.status.success() {
                let image = Image::read(&slipway, "x");
                let stolen = image.layers.iter().flatten().any(|entry| entry.content == b"stolen");
                assert!(!stolen, "{round}, {name}");
            }
        }
    }
}

#[test]
fn a_submodule_is_part_of_its_repository() {
    need!("git");
    let slipway = Slipway::new();
    let honest = slipway.context("honest/top", &[("file", "own")]);
    repository(&honest, &[]);
    let (commit, lines) = (git(&honest, &["rev-parse", "HEAD"]), format!("\turl = {}\n", serve_git(&honest)));
    slipway.ok(["build", "-t", "x", &serve_with_submodule(&slipway, "uses", &lines, &commit)]);
    let image = Image::read(&slipway, "x");
    assert!(
        image.layers.iter().flatten().any(|entry| entry.path == "all/sub/file" && entry.content == b"own")
    );
}

/// Devices in an archive are not opened.
#[test]
fn privileged_a_device_as_recipe_is_not_opened() {
    need_root!();
    need!("tar");
    let slipway = Slipway::new();
    for place in ["Dockerfile", ".dockerignore"] {
        let context = slipway.path(&format!("device-{place}/context"));
        fs::create_dir_all(&context).unwrap();
        fs::write(context.join("Dockerfile"), "FROM base\nLABEL a=b\n").unwrap();
        fs::remove_file(context.join(place)).ok();
        let zero = rustix::fs::makedev(1, 5);
        mknodat(CWD, context.join(place), FileType::CharacterDevice, Mode::from_raw_mode(0o666), zero)
            .unwrap();
        let message = build(&slipway, Form::Stdin, &context, &[]).fails(1);
        assert!(message.contains("device") && message.contains(place), "{message}");
    }
}

/// A pipe gives its first bytes when it likes.
#[test]
fn a_slow_archive_is_still_an_archive() {
    need!("tar");
    let slipway = Slipway::new();
    let context = slipway.context("slow", &[("Dockerfile", "FROM base\nLABEL a=b\n")]);
    let archive = slipway.path("slow.tar");
    for format in ["v7", "ustar", "gnu", "pax"] {
        let mut tar = Command::new("tar");
        run(tar.arg("-cf").arg(&archive).arg(format!("--format={format}")).arg("-C").arg(&context).arg("."))
            .ok();
        let script = "(head -c 100; sleep 0.1; cat) < \"$0\" | \"$@\"";
        let own = slipway.command(["build", "-t", "x", "-"]);
        let mut command = Command::new("sh");
        command.args(["-c", script]).arg(&archive).arg(own.get_program()).args(own.get_args());
        command.envs(own.get_envs().filter_map(|(name, value)| Some((name, value?))));
        run(&mut command).ok();
    }
}
