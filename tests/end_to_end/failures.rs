//! Failures of registries as a user meets them: said once, with what to do, and not repeated where that mends nothing.

use crate::support::Slipway;
use crate::support::http::{Answers, reply};
use crate::support::server::Server;
use std::collections::BTreeSet;

/// What is said has one line, or one and a hint, and nothing of a second attempt.
#[track_caller]
fn said_once(message: &str) {
    assert!(message.lines().count() <= 2, "{message}");
    assert!(!message.contains("again in") && !message.contains("attempt"), "{message}");
    assert_eq!(message.matches("error").count(), 1, "{message}");
}

#[test]
fn what_repeating_does_not_mend_is_asked_once() {
    let slipway = Slipway::new();
    let context = slipway.context("context", &[]);
    let challenge = "WWW-Authenticate: Basic realm=\"r\"\r\n";
    let mut cases = vec![(401, "", "refuses access"), (401, challenge, "refuses access")];
    cases.extend([(400, "", "400"), (403, "", "refuses access"), (404, "", "not in the registry")]);
    cases.extend([(405, "", "405"), (410, "", "410"), (418, "", "418"), (451, "", "451")]);
    for (status, headers, words) in cases {
        for command in ["pull", "run", "build", "push"] {
            let server = Answers::start(move |_, path, _| match path {
                "/v2/" => reply(200, "Docker-Distribution-Api-Version: registry/2.0\r\n", "{}"),
                _ => reply(status, headers, "{\"errors\":[{\"code\":\"X\",\"message\":\"no way\"}]}"),
            });
            let name = format!("{}/team/app:1", server.address);
            std::fs::write(context.join("Dockerfile"), format!("FROM {name}\n")).unwrap();
            let line: Vec<&str> = match command {
                "pull" => vec!["pull", "--progress", "plain", &name],
                "run" => vec!["run", &name],
                "build" => vec!["build", "-q", context.to_str().unwrap()],
                _ => vec!["push", "--progress", "plain", "base", &name],
            };
            let code = if command == "run" { 125 } else { 1 };
            let message = slipway.fails(code, line);
            let asked = server.asked();
            let different: BTreeSet<&String> = asked.iter().collect();
            // each blob of a push begins an upload at one and the same place
            let uploads = asked.iter().filter(|line| line.starts_with("POST")).count();
            let same = asked.len() - different.len();
            assert!(same <= uploads.saturating_sub(1) && uploads <= 2, "{command} {status}: {asked:?}");
            assert!(!asked.is_empty() && asked.len() <= 4, "{command} {status}: {asked:?}");
            if command != "build" {
                said_once(&message);
            }
            assert!(!message.contains("again in"), "{message}");
            let wanted = if command == "push" && status == 404 { "404" } else { words };
            assert!(message.contains(wanted), "{command} {status}: {message}");
            if matches!(status, 401 | 403) {
                assert!(message.contains("docker login"), "{command} {status}: {message}");
            }
        }
    }
}

#[test]
fn a_name_that_nobody_knows_is_looked_up_once_and_said_once() {
    let slipway = Slipway::new();
    for line in [
        &["pull", "--progress", "plain", "nosuch.invalid/app"][..],
        &["push", "--progress", "plain", "base", "nosuch.invalid/app"],
        &["run", "nosuch.invalid/app"],
    ] {
        let ended = slipway.run(line);
        said_once(&ended.stderr);
        assert!(ended.stderr.contains("`nosuch.invalid`"), "{line:?}: {}", ended.stderr);
    }
}

#[test]
fn a_refused_password_is_sent_once_and_a_wait_is_said_once() {
    let slipway = Slipway::new();
    let challenge = "WWW-Authenticate: Basic realm=\"r\"\r\n";
    let server = Answers::start(move |_, _, _| reply(401, challenge, "{}"));
    let auth = |name: &str, file: &str| {
        let text = format!(r#"{{"auths":{{"{}":{{"auth":"dTpw"}}}}}}"#, server.address);
        slipway.context(name, &[(file, &text)]).join(file)
    };
    let name = format!("{}/app", server.address);
    // from wherever docker and podman keep it
    let home = slipway.path("").join("home");
    let (runtime, named) = (auth("runtime", "containers/auth.json"), auth("named", "x.json"));
    let (docker, own) = (auth("home/.docker", "config.json"), auth("home/.config/containers", "auth.json"));
    for (number, keep) in [&docker, &own, &runtime, &named, &named].into_iter().enumerate() {
        let mut command = slipway.command(["pull", &name]);
        command.env("HOME", &home).env_remove("XDG_CONFIG_HOME").env_remove("XDG_RUNTIME_DIR");
        match number {
            2 => drop(command.env("XDG_RUNTIME_DIR", slipway.path("runtime"))),
            3 => drop(command.env("REGISTRY_AUTH_FILE", &named)),
            4 => drop(command.env("DOCKER_AUTH_CONFIG", std::fs::read_to_string(&named).unwrap())),
            _ => {}
        }
        for (other, path) in [&docker, &own].into_iter().enumerate() {
            let (shown, hidden) = (path.clone(), path.with_extension("hidden"));
            let (from, to) = if other == number { (&hidden, &shown) } else { (&shown, &hidden) };
            let _ = std::fs::rename(from, to);
        }
        let before = server.asked().len();
        let message = crate::support::run(&mut command).fails(1);
        said_once(&message);
        assert!(message.contains("with the credentials given"), "{}: {message}", keep.display());
        let asked = server.asked().len() - before;
        assert!(asked <= 2, "without, and once with them: {asked}");
    }
    // a host that is busy: all transfers wait, one line says so
    for command in ["push", "pull"] {
        let busy = Answers::start(|_, path, _| match path {
            "/v2/" => reply(200, "", "{}"),
            _ => reply(503, "Retry-After: 1\r\n", "{}"),
        });
        let name = format!("{}/app", busy.address);
        let words = if command == "push" { vec!["base", &name] } else { vec![name.as_str()] };
        let line = [&[command, "--progress", "plain"], words.as_slice()].concat();
        let mut started = crate::support::start(&mut slipway.command(line));
        crate::support::wait_until("it was asked again", || busy.asked().len() >= 4);
        started.child.kill().unwrap();
        let message = started.wait().stderr;
        let first = message.lines().filter(|line| line.contains("(attempt 1)")).count();
        assert_eq!(first, 1, "{command}: {message}");
        assert!(message.lines().all(|line| line.len() < 160), "{message}");
    }
}

#[test]
fn parallel_transfers_that_fail_are_said_once() {
    let slipway = Slipway::new();
    let server = Server::slipway(&slipway, &slipway.path("storage"));
    slipway
        .build("many", "FROM base\nRUN echo 1 > /1\nRUN echo 2 > /2\nRUN echo 3 > /3\nRUN echo 4 > /4\n", &[])
        .ok();
    slipway.ok(["push", "-q", "many", &server.name("many")]);
    // a registry that has manifests and no layers
    let upstream = server.address.clone();
    let broken = Answers::start(move |method, path, _| {
        let whole =
            crate::support::http::try_request(&upstream, method, path, &[("Accept", "*/*")], b"").unwrap();
        let kind = whole.header("content-type").to_owned();
        match path.contains("/blobs/") && whole.text().contains('\0') {
            true => reply(403, "", "{}"),
            false => reply(whole.status, "", &whole.text()).replace("application/json", &kind),
        }
    });
    let fresh = slipway.another("fresh");
    let message = fresh.fails(1, ["pull", "--progress", "plain", &format!("{}/many", broken.address)]);
    said_once(&message);
    assert_eq!(fresh.leftovers(), Vec::<String>::new());
}

#[test]
fn a_short_name_says_what_it_was_understood_as() {
    let mut slipway = Slipway::new();
    let conf = "unqualified-search-registries = ['127.0.0.1:1', 'two.invalid']\n[aliases]\ntool = '127.0.0.1:1/team/tool'\n";
    let conf = slipway.context("conf", &[("registries.conf", conf)]).join("registries.conf");
    let lines: [&[&str]; 7] = [
        &["tag", "NAME", "x"],
        &["push", "NAME"],
        &["inspect", "NAME"],
        &["rmi", "NAME"],
        &["history", "NAME"],
        &["save", "-o", "/dev/null", "NAME"],
        &["run", "--pull", "never", "NAME"],
    ];
    let with = |slipway: &Slipway, line: &[&str], name: &str| {
        slipway.run(line.iter().map(|word| if *word == "NAME" { name } else { word }))
    };
    for (conf, name, meant) in [
        (None, "tool", "`docker.io/library/tool:latest`"),
        (None, "me/tool:2", "`docker.io/me/tool:2`"),
        (Some(&conf), "tool", "`127.0.0.1:1/team/tool:latest` here (registries.conf)"),
        (
            Some(&conf),
            "other",
            "`127.0.0.1:1/other:latest` or `two.invalid/other:latest` here (registries.conf)",
        ),
    ] {
        slipway.environment.clear();
        if let Some(conf) = conf {
            let variable = ("CONTAINERS_REGISTRIES_CONF".to_owned(), conf.to_str().unwrap().to_owned());
            slipway.environment.push(variable);
        }
        for line in lines {
            let ended = with(&slipway, line, name);
            assert!(!ended.status.success(), "{line:?}");
            let message = ended.stderr;
            assert!(
                message.contains(&format!(" means {meant}, which is not in the store")),
                "{line:?}: {message}"
            );
            assert!(message.contains("slipway pull"), "{line:?}: {message}");
            said_once(&message);
        }
    }
    // what an alias or a registry that is searched stands for is found by every command
    for (name, own) in [("tool", "127.0.0.1:1/team/tool:latest"), ("other", "two.invalid/other:latest")] {
        slipway.ok(["tag", "base", own]);
        for line in &lines[..6] {
            let ended = with(&slipway, line, name);
            if line[0] == "push" {
                // to where the name leads
                let host = own.split('/').next().unwrap();
                assert!(ended.stderr.contains(&format!("`{host}`")), "{}", ended.stderr);
            } else if line[0] == "rmi" {
                assert!(ended.ok().contains(own), "{name}");
                slipway.ok(["tag", "base", own]);
            } else {
                ended.ok();
            }
        }
        slipway.ok(["run", "--rm", name, "true"]);
    }
    // an id is no name
    let message = slipway.fails(1, ["inspect", "abcdef"]);
    assert!(message.contains("no image `abcdef` in the store"), "{message}");
}

#[test]
fn a_push_without_a_registry_says_where_it_goes() {
    let slipway = Slipway::new();
    // Docker Hub, wherever this machine can go
    let mut command = slipway.command(["push", "base"]);
    let message = crate::support::run(command.env("HTTPS_PROXY", "http://127.0.0.1:1")).stderr;
    assert!(
        message.contains("`base:latest` means `docker.io/library/base:latest` of Docker Hub"),
        "{message}"
    );
    assert!(message.contains("slipway push base:latest HOST/base:latest"), "{message}");
}

#[test]
fn three_platforms_have_their_names_wherever_one_is_compared() {
    use crate::support::base;
    let slipway = Slipway::new();
    let machine = slipway.ok(["inspect", "--format", "{{.Os}}/{{.Architecture}}", "base"]).trim().to_owned();
    let other = "linux/s390x";
    let archive = base::busybox();
    slipway.ok(["import", "--platform", other, archive.to_str().unwrap(), "far"]);
    let asked = "linux/riscv64";
    let context = slipway.context("c", &[("Dockerfile", "FROM far\n")]);
    let context = context.to_str().unwrap();
    let lines: [&[&str]; 6] = [
        &["run", "--pull", "never", "--platform", asked, "far", "true"],
        &["inspect", "--platform", asked, "far"],
        &["save", "--platform", asked, "-o", "/dev/null", "far"],
        &["push", "--platform", asked, "far", "127.0.0.1:1/far"],
        &["run", "--pull", "never", "far", "true"],
        // a base for another platform is looked for where it may be had; nobody is there
        &["build", "-q", context],
    ];
    for line in lines {
        let mut command = slipway.command(line);
        let message = crate::support::run(command.env("HTTPS_PROXY", "http://127.0.0.1:1")).stderr;
        assert!(
            message.contains("far") && message.contains(&format!("is for {other}")),
            "{line:?}: {message}"
        );
        if line.contains(&asked) {
            assert!(message.contains(&format!("{asked} was asked for")), "{line:?}: {message}");
        }
        if line[0] != "build" {
            assert!(message.contains(&format!("this machine is {machine}")), "{line:?}: {message}");
            said_once(&message);
        }
    }
    // a registry's image for one platform, and an index that lacks one
    let server = Server::slipway(&slipway, &slipway.path("storage"));
    slipway.ok(["push", "-q", "far", &server.name("far")]);
    let fresh = slipway.another("fresh");
    let ended = fresh.run(["pull", "-q", "--platform", asked, &server.name("far")]);
    assert!(
        ended
            .stderr
            .contains(&format!("is for {other}, {asked} was asked for, and this machine is {machine}")),
        "{}",
        ended.stderr
    );
    assert_eq!(fresh.run(["pull", "-q", "--platform", other, &server.name("far")]).stderr, "");
    let index = Answers::start(|_, path, _| match path {
        "/v2/" => reply(200, "", "{}"),
        _ => {
            let digest = format!("sha256:{}", "0".repeat(64));
            let kind = "application/vnd.oci.image.index.v1+json";
            let entry = format!(
                r#"{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{digest}","size":2,"platform":{{"os":"linux","architecture":"s390x"}}}}"#
            );
            let body = format!(r#"{{"schemaVersion":2,"mediaType":"{kind}","manifests":[{entry}]}}"#);
            reply(200, "", &body).replace("application/json", kind)
        }
    });
    let name = format!("{}/many", index.address);
    let message = fresh.fails(1, ["pull", "-q", &name]);
    assert!(message.contains(&format!("no image for {machine}, which this machine is")), "{message}");
    let message = fresh.fails(1, ["pull", "-q", "--platform", asked, &name]);
    assert!(
        message.contains(&format!("{asked}, which was asked for; this machine is {machine}")),
        "{message}"
    );
    assert!(message.contains("it has: linux/s390x"), "{message}");
    // and what is asked for is done

    slipway.ok(["build", "-q", "--platform", other, context]);
}

#[test]
fn a_secret_that_cannot_be_read_is_not_repeated() {
    let slipway = Slipway::new();
    let mut command = slipway.command(["pull", "127.0.0.1:1/app"]);
    let message = crate::support::run(command.env("DOCKER_AUTH_CONFIG", "{\"auths\": secret-word")).fails(1);
    assert!(message.contains("DOCKER_AUTH_CONFIG") && !message.contains("secret-word"), "{message}");
}
