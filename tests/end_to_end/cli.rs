//! Wrong use: one clear message, exit status 1 or 2, and nothing half-written.

use crate::support::Slipway;

#[test]
fn flags_that_are_wrong_are_usage_errors() {
    let slipway = Slipway::empty();
    for arguments in [
        &["nosuch"][..],
        &["build"],
        &["build", "--nosuch", "."],
        &["build", "--progress", "loud", "."],
        &["build", "--push", "."],
        &["build", "-t", "Bad Name", "."],
        &["run"],
        &["run", "-v", "relative", "base"],
        &["run", "--network", "moon", "base"],
        &["pull"],
        &["pull", "UPPER/case"],
        &["tag", "one"],
        &["save"],
        &["save", "--format", "zip", "x"],
        &["serve", "--listen", "nowhere"],
        &["images", "extra", "--nosuch"],
    ] {
        let ended = slipway.run(arguments);
        // docker's status of a container that was never made
        let status = if arguments[0] == "run" { 125 } else { 2 };
        assert_eq!(ended.code(), Some(status), "{arguments:?}: {}", ended.stderr);
        assert!(!ended.stderr.trim().is_empty() && !ended.stderr.contains("panicked"), "{arguments:?}");
        assert_eq!(ended.stdout, "", "{arguments:?}");
    }
    assert!(!slipway.root.exists(), "a usage error makes no store");
}

#[test]
fn help_and_version_are_there() {
    let slipway = Slipway::empty();
    let help = slipway.ok(["--help"]);
    for command in
        ["build", "pull", "push", "images", "inspect", "tag", "rmi", "import", "save", "load", "run", "serve"]
    {
        assert!(help.lines().any(|line| line.trim_start().starts_with(command)), "{command} in\n{help}");
        assert!(slipway.ok([command, "--help"]).contains("Usage"), "{command}");
    }
    assert!(slipway.ok(["--version"]).starts_with("slipway "));
}

#[test]
fn recipes_that_are_wrong_name_file_and_line() {
    let slipway = Slipway::new();
    for (recipe, line, part) in [
        ("", 0, "Dockerfile"),
        ("# nothing\n", 0, "Dockerfile"),
        ("FROM base\nRNU true\n", 2, "RUN"),
        ("RUN true\n", 1, "FROM"),
        ("FROM base\nCOPY onlyone\n", 2, "COPY"),
        ("FROM base\nENV nothing\n", 2, "ENV"),
        ("FROM base\nCOPY --form=x a b\n", 2, "from"),
        ("FROM base\nRUN cat <<EOT\nnever ended\n", 2, "EOT"),
        ("FROM base\nEXPOSE 99999\n", 2, "99999"),
        ("FROM base AS 9lives\n", 1, "9lives"),
        ("FROM $NOTHING\n", 1, "NOTHING"),
        ("FROM base\nSHELL sh\n", 2, "SHELL"),
        ("FROM base\nENV A=${B:?must be set}\n", 2, "must be set"),
        ("FROM base\nUSER nosuchuser\nRUN true\n", 3, "nosuchuser"),
        ("FROM base\nRUN [\"/no/such/program\"]\n", 2, "/no/such/program"),
        ("FROM base AS one\nCOPY --from=1 /a /b\nFROM base\nFROM one\n", 2, "1"),
        ("FROM base\nSTOPSIGNAL SIGNOTHING\n", 2, "SIGNOTHING"),
    ] {
        let message = slipway.build("wrong", recipe, &[("a", "a")]).fails(1);
        let place = if line == 0 { "Dockerfile".to_owned() } else { format!("Dockerfile:{line}") };
        assert!(message.contains(&place), "`{place}` for\n{recipe}\nin\n{message}");
        assert!(message.contains(part), "`{part}` for\n{recipe}\nin\n{message}");
    }
    assert_eq!(slipway.ok(["images"]).lines().count(), 2);
    assert_eq!(slipway.leftovers(), Vec::<String>::new());
}

#[test]
fn contexts_that_are_wrong_are_named() {
    let slipway = Slipway::new();
    let missing = slipway.path("missing");
    let message = slipway.fails(1, ["build".as_ref(), "-t".as_ref(), "x".as_ref(), missing.as_os_str()]);
    assert!(message.contains("missing"), "{message}");
    let empty = slipway.context("empty", &[]);
    let message = slipway.fails(1, ["build".as_ref(), empty.as_os_str()]);
    assert!(message.contains("Dockerfile"), "{message}");
    let binary = slipway.context("binary", &[]);
    std::fs::write(binary.join("Dockerfile"), b"FROM base\nRUN \xff\xfe\n").unwrap();
    let message = slipway.fails(1, ["build".as_ref(), binary.as_os_str()]);
    assert!(message.contains("Dockerfile:2"), "{message}");
    let file = slipway.context("file", &[("x", "")]).join("x");
    slipway.fails(1, ["build".as_ref(), file.as_os_str()]);
}

#[test]
fn images_that_are_not_there_are_named() {
    let slipway = Slipway::new();
    for arguments in
        [&["inspect", "nosuch"][..], &["rmi", "nosuch"], &["tag", "nosuch", "x"], &["save", "nosuch"]]
    {
        let message = slipway.fails(1, arguments);
        assert!(message.contains("nosuch"), "{arguments:?}: {message}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let slipway = Slipway::new();
    let mut command = slipway.command(["images"]);
    let mut child =
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(!message.contains("panicked"), "{message}");
}

#[test]
fn an_unwritable_store_says_so() {
    let slipway = Slipway::empty();
    let message = slipway.fails(1, ["--root", "/proc/nowhere", "images"]);
    assert!(message.contains("/proc/nowhere"), "{message}");
    let file = slipway.context("x", &[("file", "")]).join("file");
    let message = slipway.fails(1, ["--root".as_ref(), file.as_os_str(), "images".as_ref()]);
    assert!(message.contains("file"), "{message}");
}

#[test]
fn habits_of_other_programs_are_answered() {
    let slipway = Slipway::new();
    for (arguments, status, parts) in [
        (&["exec"][..], 2, &["`exec`", "entered"][..]),
        (&["build"], 2, &["context", "slipway build ."]),
        (&["build", "--cpp-flag", "x", "."], 2, &["`--cpp-flag`", "preprocessor"]),
        (&["run", "-p", "80:80", "base"], 125, &["`-p`", "ports"]),
        (&["run", "--rm=maybe", "base"], 125, &["--rm=maybe", "true or false"]),
        (&["--context", "far", "images"], 2, &["--context", "daemon"]),
        (&["compose", "up"], 2, &["`compose`", "script"]),
    ] {
        let message = slipway.fails(status, arguments);
        for part in parts {
            assert!(message.contains(part), "{part} for {arguments:?} in {message}");
        }
        assert!(message.lines().count() <= 2, "one sentence and what to do: {message}");
    }
    assert_eq!(slipway.ok(["image", "ls", "--all"]), slipway.ok(["images"]));
    assert!(slipway.ok(["version"]).starts_with("Version: "));
    let ended = slipway.run(["-D", "images"]);
    assert!(ended.stderr.contains("`-D`"), "{}", ended.stderr);
    let mut command = slipway.command(["images"]);
    let ended = crate::support::run(command.env("DOCKER_HOST", "tcp://127.0.0.1:1"));
    assert!(ended.code() == Some(0) && ended.stderr.contains("DOCKER_HOST"), "{}", ended.stderr);
}

#[test]
fn rules_are_explained_and_a_recipe_is_no_context() {
    let slipway = Slipway::empty();
    for word in ["SW1002", "aptrecommends", "JSONArgsRecommended"] {
        assert!(slipway.ok(["check", "--explain", word]).starts_with("# "), "{word}");
    }
    let message = slipway.fails(2, ["check", "--explain", "SW0"]);
    assert!(message.contains("`SW0`"), "{message}");
    let recipe = slipway.context("one", &[("Dockerfile", "FROM scratch\n")]).join("Dockerfile");
    let message = slipway.fails(2, ["check".as_ref(), recipe.as_os_str()]);
    assert!(message.contains(&format!("slipway check -f {}", recipe.display())), "{message}");
}

#[test]
fn a_boolean_that_is_off_beats_its_variable() {
    let slipway = Slipway::empty();
    let storage = crate::support::scratch();
    for (flag, expected) in [("--read-only=false", 202), ("--access-log=false", 405), ("--read-only", 405)] {
        let folder = storage.path().join(flag);
        let mut command = slipway.command([
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--storage",
            folder.to_str().unwrap(),
            flag,
        ]);
        command.env("SLIPWAY_READ_ONLY", "true").stderr(std::process::Stdio::piped());
        let mut server = command.spawn().unwrap();
        let mut line = String::new();
        let mut from = std::io::BufReader::new(server.stderr.take().unwrap());
        std::io::BufRead::read_line(&mut from, &mut line).unwrap();
        let address = line.trim().rsplit("http://").next().unwrap().to_owned();
        let mut stream = std::net::TcpStream::connect(&address).unwrap();
        let request = format!(
            "POST /v2/x/blobs/uploads/ HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        std::io::Write::write_all(&mut stream, request.as_bytes()).unwrap();
        let mut answer = String::new();
        std::io::Read::read_to_string(&mut stream, &mut answer).unwrap();
        server.kill().unwrap();
        server.wait().unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {expected} ")), "{flag}: {answer}");
    }
}

#[test]
fn groups_of_commands_show_what_there_is() {
    let slipway = Slipway::empty();
    for line in [&["image"][..], &["image", "--help"], &["help", "image"], &["buildx", "--builder", "x"]] {
        let page = slipway.ok(line);
        assert!(page.contains("slipway build") && page.contains("Usage: slipway "), "{line:?}: {page}");
        assert!(page.lines().all(|line| line.len() <= 100), "{page}");
    }
    for line in [&["volume"][..], &["network", "--help"], &["help", "compose"], &["image", "buidl"]] {
        let message = slipway.fails(2, line);
        assert_eq!(message.lines().count(), 2, "{line:?}: {message}");
    }
    assert!(!slipway.root.exists());
}

#[test]
fn proxies_of_dockers_configuration_are_for_what_runs() {
    let slipway = Slipway::new();
    let config = slipway.context(
        "docker",
        &[("config.json", r#"{"proxies":{"default":{"httpProxy":"http://p.test:1","noProxy":"a,b"}}}"#)],
    );
    let with = |words: &[&str]| {
        let mut command = slipway.command(words);
        // the caller's own are for its requests alone
        command.env("DOCKER_CONFIG", &config).env("https_proxy", "http://own.test:1");
        crate::support::run(&mut command)
    };
    let seen = with(&["run", "--rm", "base", "env"]).ok();
    for line in ["HTTP_PROXY=http://p.test:1", "http_proxy=http://p.test:1", "NO_PROXY=a,b", "no_proxy=a,b"] {
        assert!(seen.lines().any(|seen| seen == line), "{line} in {seen}");
    }
    assert!(!seen.contains("own.test"), "{seen}");
    let seen = with(&["run", "--rm", "-e", "HTTP_PROXY=mine", "-e", "NO_PROXY", "base", "env"]).ok();
    assert!(seen.contains("HTTP_PROXY=mine\n") && !seen.contains("NO_PROXY="), "{seen}");
    let context =
        slipway.context("c", &[("Dockerfile", "FROM base\nRUN echo \"<$http_proxy $NO_PROXY>\"\n")]);
    let line = ["build", "--progress", "plain", context.to_str().unwrap()];
    let ended = with(&line);
    assert!(ended.stderr.contains("<http://p.test:1 a,b>"), "{}", ended.stderr);
    assert!(!ended.stderr.contains("warning"), "{}", ended.stderr);
    // no key holds them, and no image
    assert!(slipway.run(line).stderr.contains("CACHED"));
    assert!(
        !slipway
            .ok(["inspect", slipway.ok(["images", "-q", "-a"]).lines().next().unwrap()])
            .contains("p.test")
    );
    // what cannot be read is said, and docker runs all the same
    std::fs::write(config.join("config.json"), "{").unwrap();
    let ended = with(&["run", "--rm", "base", "true"]);
    assert!(ended.code() == Some(0) && ended.stderr.contains("config.json"), "{}", ended.stderr);
}

#[test]
fn variables_that_say_nothing_say_nothing() {
    let slipway = Slipway::new();
    let context = slipway.context("c", &[("Dockerfile", "FROM base\n")]);
    let mut command = slipway.command(["build".as_ref(), "-q".as_ref(), context.as_os_str()]);
    for name in [
        "SOURCE_DATE_EPOCH",
        "SLIPWAY_PROGRESS",
        "SLIPWAY_COMPRESSION",
        "SLIPWAY_JOBS",
        "SLIPWAY_TLS_CA",
        "DOCKER_CONFIG",
        "SLIPWAY_INSECURE_REGISTRY",
        "SLIPWAY_MAX_UNPACKED",
        "SLIPWAY_LAYERS",
        "SLIPWAY_TOKEN_SERVICE",
        "BUILDKIT_PROGRESS",
        "DOCKER_DEFAULT_PLATFORM",
        "DOCKER_HOST",
        "DOCKER_BUILDKIT",
    ] {
        command.env(name, "");
    }
    let ended = crate::support::run(&mut command);
    assert_eq!(ended.stderr, "");
    ended.ok();
}
