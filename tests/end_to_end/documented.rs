//! What the documentation writes is done as it stands there: the lines of README.md and of every help page, typed in a shell.

use crate::support::server::{Server, free_address};
use crate::support::shell::Shell;
use crate::support::{Slipway, base, wait_until};
use slipway_skip::need;
use std::path::PathBuf;

const README: &str = include_str!("../../README.md");
const REGISTRY: &str = include_str!("../../docs/registry.md");
const CONTAINERS: &str = include_str!("../../docs/containers.md");
const TRUST: &str = include_str!("../../docs/trust.md");
const PAGES: &str = include_str!("../../src/manual/pages.txt");
const EXTENSIONS: &str = include_str!("../../docs/extensions.md");

/// Lines that begin with `$ ` and call slipway.
fn lines(text: &'static str) -> Vec<&'static str> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("$ "));
    lines.filter(|line| line.starts_with("slipway ") || line.starts_with("source <(slipway ")).collect()
}

/// A folder as the documentation has one in mind, and a shell in it.
fn at_home(slipway: &Slipway) -> (Shell, PathBuf) {
    let recipe = "FROM debian:12 AS build\nARG VERSION=1\nRUN echo $VERSION > /version\nFROM build AS test\nFROM build\n\
                  ENTRYPOINT [\"echo\", \"app\"]\n";
    let bake = "variable \"TAG\" { default = \"1\" }\ngroup \"default\" { targets = [\"app\"] }\ntarget \"app\" {\n  \
                tags = [\"baked:${TAG}\"]\n}\n";
    let files = [
        ("Dockerfile", recipe),
        ("docker-bake.hcl", bake),
        ("deploy/docker-bake.hcl", bake),
        ("deploy/Dockerfile", recipe),
        ("src/file", ""),
        (".config/fish/completions/", ""),
        (".local/share/man/man1/", ""),
    ];
    let folder = slipway.context("home", &files);
    std::fs::copy(base::busybox(), folder.join("rootfs.tar")).unwrap();
    let gzip = std::process::Command::new("gzip").arg("-k").arg(folder.join("rootfs.tar")).status();
    assert!(gzip.unwrap().success());
    let mut command = slipway.command([""; 0]);
    command.env("HOME", &folder).env("TOKEN", "secret").env("COSIGN_PASSWORD", "secret");
    let shell = Shell::start(&["bash", "--noprofile", "--norc", "--noediting", "-i"], &command, &folder);
    (shell, folder)
}

/// Types a line, with the keys that it asks for, and what the shell says of it.
fn typed(shell: &mut Shell, line: &str) -> (String, i32) {
    shell.begin(line);
    if line.contains(" -it ") {
        shell.wait_for("# ");
        shell.press("\x04");
    } else if line.contains("dockerfile lsp") {
        shell.press("\x04");
    } else if line.contains("--password-stdin") {
        shell.press("secret\r\x04");
    } else if line.contains("slipway login") || line.contains("htpasswd") {
        if line.contains("slipway login") {
            shell.wait_for("Username: ");
            shell.press("ann\r");
        }
        shell.wait_for("Password: ");
        shell.press("secret\r");
    } else if ["system reset", "prune"].iter().any(|own| line.contains(own)) && !line.contains("--force") {
        shell.wait_for("y/N");
        shell.press("y\r");
    }
    shell.end()
}

#[test]
fn the_registry_s_page_leads_from_nothing_to_a_private_registry() {
    need!("bash", "setsid", "openssl");
    let slipway = Slipway::new();
    slipway.ok(["tag", "base", "app"]);
    let folder = slipway.context("page", &[]);
    let address = free_address();
    let place = |text: &str| {
        let port = address.rsplit(':').next().unwrap();
        text.replace("localhost:5000", &format!("127.0.0.1:{port}"))
    };
    let command = slipway.command([""; 0]);
    let mut shell = Shell::start(&["bash", "--noprofile", "--norc", "--noediting", "-i"], &command, &folder);
    let (mut settings, mut token, mut count) = (String::new(), String::new(), 0);
    let (steps, _) = REGISTRY.split_once("## Settings").unwrap();
    for block in steps.split("```").skip(1).step_by(2) {
        if let Some(own) = block.strip_prefix("toml\n# in a file of its own: ") {
            let (name, text) = own.split_once('\n').expect("a file's name and its text");
            std::fs::write(folder.join(name), text).unwrap();
            continue;
        }
        if let Some(own) = block.strip_prefix("toml\n") {
            // for the same file; tables come last
            settings.push_str(&place(own));
            std::fs::write(folder.join("slipway.toml"), format!("{settings}{token}")).unwrap();
            continue;
        }
        for line in block.lines().filter_map(|line| line.strip_prefix("$ ")) {
            count += 1;
            if line.contains("login -u ci") {
                let log = || std::fs::read_to_string(folder.join("serve.log")).unwrap_or_default();
                wait_until("the settings are read again", || log().contains("settings were read again"));
            }
            shell.begin(&place(line).replace("slipway.toml &", "slipway.toml 2> serve.log &"));
            if line.contains("htpasswd ann") || line.contains("login -u ann") {
                shell.wait_for("Password: ");
                shell.press("secret\r");
            }
            let (shown, status) = shell.end();
            assert_eq!(status, 0, "{line}: {shown}");
            assert!(!shown.contains("error:") && !shown.contains("warning:"), "{line}: {shown}");
            if line.contains("serve") {
                wait_until("it listens", || std::net::TcpStream::connect(&address).is_ok());
            }
            if line.contains("registry token") {
                let (_, own) = shown.rsplit_once("[tokens]:").unwrap();
                token = format!("[tokens]\n{}\n", own.trim());
            }
        }
    }
    assert!(count > 10, "{count}");
    shell.run("kill %1; wait");
}

#[test]
fn the_readme_s_lines_run_as_they_stand() {
    need!("bash", "setsid", "gzip");
    let slipway = Slipway::empty();
    let (mut shell, folder) = at_home(&slipway);
    let address = free_address();
    // the demo's lines are typed by `cargo xtask demo`
    let (_, use_it) = README.split_once("## Use it").unwrap();
    let all = lines(use_it);
    assert!(all.len() > 20, "{all:#?}");
    for line in all {
        let line = line.replace("127.0.0.1:5000", &address);
        if line.contains("slipway serve") {
            let (shown, status) = typed(&mut shell, &line.replace(" &", " --storage served 2> /dev/null &"));
            assert_eq!(status, 0, "{line}: {shown}");
            wait_until("it listens", || std::net::TcpStream::connect(&address).is_ok());
            continue;
        }
        let (shown, status) = typed(&mut shell, &line);
        assert_eq!(status, 0, "{line}: {shown}");
        assert!(!shown.contains("error:") && !shown.contains("warning:"), "{line}: {shown}");
        // what it says beside the line comes true
        if line.contains("slipway run --rm app") {
            assert_eq!(shown, "app\n");
        } else if line.contains("--format '{{.Digest}}'") {
            assert!(shown.starts_with("sha256:") && shown.lines().count() == 1, "{shown}");
        } else if line.contains("system reset") {
            assert!(!slipway.root.join("blobs").exists(), "{shown}");
        } else if line.contains("slipway man") {
            assert!(folder.join(".local/share/man/man1/slipway-build.1").exists(), "{shown}");
        } else if line.contains("slipway save") {
            assert!(folder.join("app.tar").exists(), "{shown}");
        }
    }
    shell.run("kill %1");
}

#[test]
fn the_lines_on_trust_run_as_they_stand() {
    need!("bash", "setsid");
    let slipway = Slipway::new();
    slipway.ok(["tag", "base", "app"]);
    let server = Server::slipway(&slipway, &slipway.path("storage"));
    let folder = slipway.context("page", &[("Dockerfile", "FROM base\nCOPY Dockerfile /\n")]);
    let mut command = slipway.command([""; 0]);
    command.env("COSIGN_PASSWORD", "secret");
    let mut shell = Shell::start(&["bash", "--noprofile", "--norc", "--noediting", "-i"], &command, &folder);
    let all = lines(TRUST);
    assert!(all.len() > 6, "{all:#?}");
    for line in all {
        let line = line.replace("localhost:5000", &server.address);
        let (shown, status) = typed(&mut shell, &line);
        assert_eq!(status, 0, "{line}: {shown}");
        assert!(!shown.contains("error:") && !shown.contains("warning:"), "{line}: {shown}");
        if line.contains("referrers") {
            assert!(shown.matches("application/vnd.in-toto+json").count() == 2, "{shown}");
        } else if line.contains("verify") {
            assert!(shown.contains("@sha256:"), "{shown}");
        }
    }
    assert!(folder.join("cosign.key").exists() && folder.join("app.cdx.json").exists());
}

/// The last of two builds that are remembered, for examples that ask about one.
fn remembered(slipway: &Slipway, example: &str) -> String {
    if example.contains("slipway cache") {
        let recipe = "FROM base\nRUN --mount=type=cache,target=/c echo x > /c/x\n";
        slipway.build_with("cached", recipe, &[], &["--no-cache"]).ok();
        if example.contains("cache import") {
            slipway.ok(["cache", "export", slipway.path("home/caches").to_str().unwrap()]);
        }
    }
    if !["slipway builds", "slipway why", "slipway debug", "slipway rebuild"]
        .iter()
        .any(|own| example.contains(own))
    {
        return String::new();
    }
    for _ in 0..2 {
        let steps = "FROM base\nRUN echo 1\nRUN echo 2\nRUN echo 3\n";
        slipway.build_with("kept", steps, &[], &["--no-cache"]).ok();
    }
    slipway.ok(["builds", "ls", "-q"]).lines().next().unwrap().to_owned()
}

/// Files that examples name.
fn with_files(slipway: &Slipway) {
    // settings name a folder as well as what replicas share (`replicas_kept.rs` and `moving.rs` have these)
    let files = [
        ("report.json", "{}"),
        ("index.html", "<p>"),
        ("static/a.css", ""),
        ("sbom.spdx.json", "{}"),
        ("replica.toml", "storage = \"../storage\"\n"),
        ("cluster.toml", "storage = \"cluster\"\n"),
    ];
    crate::support::write_tree(&slipway.path("home"), &files);
}

#[test]
fn the_examples_of_every_page_run_as_they_stand() {
    need!("bash", "setsid", "gzip");
    let slipway = Slipway::new();
    let (mut shell, _) = at_home(&slipway);
    let server = Server::slipway(&slipway, &slipway.path("storage"));
    let recipe = "FROM base\nRUN printf '#!/bin/sh\\necho made $1' > /bin/make && chmod +x /bin/make\n";
    with_files(&slipway);
    std::fs::create_dir_all(slipway.path("home/distribution/docker/registry/v2/repositories")).unwrap();
    let all = lines(PAGES);
    assert!(all.len() > 45, "{all:#?}");
    for example in all {
        // what an example before it took away
        if slipway.ok(["images", "-q", "base"]).is_empty() {
            slipway.import_base();
        }
        slipway.build("debian:12", recipe, &[]).ok();
        let app = format!("{}/team/app:1", server.address);
        for name in ["debian", "app", &app] {
            slipway.ok(["tag", "debian:12", name]);
        }
        if example.contains("registry rollback") {
            slipway.ok(["tag", "base", &app]);
            slipway.ok(["push", "-q", &app]);
            slipway.ok(["tag", "debian:12", &app]);
        }
        slipway.ok(["push", "-q", &app]);
        if example.contains("registry undelete") {
            slipway.ok(["delete", &app]);
        }
        slipway.ok(["save", "-o", slipway.path("home/app.tar").to_str().unwrap(), "app"]);
        let build = remembered(&slipway, example);
        let line = example
            .replace("3f9a0c", &build)
            .replace("https://git.example/team/app.git#main", ".")
            .replace("registry.example", &server.address)
            .replace("/usr/share/bash-completion/completions/slipway", "bash-completion")
            .replace("/usr/share/zsh/vendor-completions/_slipway", "zsh-completion")
            .replace("/usr/local/share/man/man1", "man1")
            .replace("/var/lib/slipway-registry", "registry")
            .replace("/var/lib/docker-registry", "distribution")
            .replace("/backup/registry", "backup")
            .replace("./registry team/app", "../storage team/app");
        if line.starts_with("slipway serve") {
            let address = free_address();
            let (_, port) = address.rsplit_once(':').unwrap();
            let line = line.replace(" 5000 ", &format!(" {port} "));
            let issuer = "[issuers]\ngithub = \"https://issuer.example audience=r\"";
            let rules =
                "rules = [\"issuer:github may push in ci/${claim:repository}\", \"anyone may all in **\"]";
            let kept = "retention = [\"keep 10 newest in **\"]";
            let settings =
                format!("listen = [\"{address}\"]\nstorage = \"registry\"\n{rules}\n{kept}\n{issuer}\n");
            std::fs::write(slipway.path("home/slipway.toml"), settings).unwrap();
            let (shown, status) = typed(&mut shell, &format!("{line} 2> /dev/null &"));
            assert_eq!(status, 0, "{line}: {shown}");
            wait_until("it listens", || std::net::TcpStream::connect(&address).is_ok());
            shell.run("kill %1; wait");
            continue;
        }
        // `app` is whatever was built last, its command the image's
        let line = if line == "slipway run --rm app --help" {
            "slipway run --rm app ls --help".to_owned()
        } else if line.starts_with("slipway run -d ") {
            // a server is what goes on
            format!("{line} sleep 600")
        } else {
            line
        };
        let (shown, status) = typed(&mut shell, &line);
        // a client that leaves without its farewell is a failure of its own (Language Server Protocol, `exit`)
        assert_eq!(status, i32::from(line.contains("dockerfile lsp")), "{line}: {shown}");
        // a move says when pushes wait, and what comes next
        let notes = line.contains("registry migrate") || !shown.contains("note:");
        assert!(!shown.contains("error:") && notes, "{line}: {shown}");
    }
}

#[test]
fn the_containers_page_runs_as_it_stands() {
    need!("bash", "setsid");
    let slipway = Slipway::new();
    slipway.ok(["tag", "base", "debian:12"]);
    let (mut shell, _folder) = at_home(&slipway);
    let all = lines(CONTAINERS);
    for line in &all {
        let (shown, status) = typed(&mut shell, line);
        assert_eq!(status, 0, "{line}: {shown}");
        assert!(!shown.contains("error:") && !shown.contains("note:"), "{line}: {shown}");
    }
    assert!(all.len() > 10);
    assert_eq!(slipway.ok(["ps", "-aq"]), "");
}

#[test]
fn what_an_extension_becomes_is_what_is_written() {
    let slipway = Slipway::empty();
    let block = |text: &'static str| {
        let (_, rest) = text.split_once("```dockerfile\n").unwrap();
        rest.split_once("```").unwrap()
    };
    let mut rest = EXTENSIONS;
    let mut count = 0;
    while let Some((before, after)) = rest.split_once("\nbecomes\n") {
        let at = before.rfind("```dockerfile\n").unwrap();
        let (recipe, _) = block(&before[at..]);
        let (lowered, next) = block(after);
        let recipe = format!("# slipway: extensions\n{recipe}");
        let file = slipway.context(&format!("lower{count}"), &[("Dockerfile", &recipe)]).join("Dockerfile");
        let shown = slipway.ok(["dockerfile".as_ref(), "lower".as_ref(), file.as_os_str()]);
        let (note, own) = shown.split_once('\n').unwrap();
        assert!(note.starts_with("# "), "{shown}");
        assert_eq!(own, lowered);
        (rest, count) = (next, count + 1);
    }
    assert!(count > 0);
    // the table of UNSET
    for row in EXTENSIONS.lines().filter(|line| line.starts_with("| `UNSET ")) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let (written, becomes) = (cells[1].trim_matches('`'), cells[2]);
        let recipe = format!("# slipway: extensions\nFROM scratch\n{}\n", written.split('`').next().unwrap());
        let file = slipway.context("unset", &[("Dockerfile", &recipe)]).join("Dockerfile");
        let ended = slipway.run(["dockerfile".as_ref(), "lower".as_ref(), file.as_os_str()]);
        match becomes {
            "refused" => assert!(!ended.status.success(), "{row}"),
            _ => assert_eq!(ended.ok().lines().last().unwrap(), becomes.trim_matches('`'), "{row}"),
        }
    }
}
