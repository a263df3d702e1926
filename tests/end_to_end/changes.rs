//! `import --change` means what the same lines mean in a recipe (issue 7, B5), and what `build` says of a recipe (B19).

use crate::support::{Slipway, base};

fn config(slipway: &Slipway, name: &str) -> serde_json::Value {
    let inspected: serde_json::Value = serde_json::from_str(&slipway.ok(["inspect", name])).unwrap();
    let image = inspected.as_array().map_or(&inspected, |all| &all[0]);
    let config = image["Config"].clone();
    assert!(config.is_object(), "{inspected}");
    config
}

#[test]
fn a_change_is_what_a_recipe_says() {
    let slipway = Slipway::empty();
    let archive = base::busybox();
    let import = |name: &str, changes: &[&str]| {
        let mut command = slipway.command(["import"]);
        command.args(changes.iter().flat_map(|change| ["--change", change]));
        crate::support::run(command.arg(&archive).arg(name))
    };
    // a build sets PATH where its base has none
    let path = "ENV PATH=/bin";
    import("plain", &[path]).ok();
    for (number, changes) in [
        &["CMD [\"a\", \"b\"]"][..],
        &["CMD echo $HOME"],
        &["cmd x", "ENTRYPOINT [\"/y\"]"],
        &["ENTRYPOINT /y"],
        &["ENV A=1 B=\"two words\"", "ENV C=$A$B"],
        &["ENV old style"],
        &["EXPOSE 80/ 53/udp 7000-7001"],
        &["ENV P=90", "EXPOSE $P/tcp"],
        &["HEALTHCHECK --interval=5s --retries=3 CMD [\"true\"]"],
        &["HEALTHCHECK NONE"],
        &["LABEL a=b \"c d\"=e", "LABEL a=c"],
        &["ONBUILD RUN echo $HOME", "ONBUILD COPY a b"],
        &["STOPSIGNAL SIGQUIT"],
        &["STOPSIGNAL 9"],
        &["USER app:staff"],
        &["VOLUME /a /b", "VOLUME [\"/c d\"]"],
        &["WORKDIR /", "USER 7"],
        &["ENV A=1\nUSER 7\nLABEL a=$A"],
    ]
    .into_iter()
    .enumerate()
    {
        let (imported, built) = (format!("imported{number}"), format!("built{number}"));
        import(&imported, &[&[path], changes].concat()).ok();
        slipway.build(&built, &format!("FROM plain\n{}\n", changes.join("\n")), &[]).ok();
        let (imported, built) = (config(&slipway, &imported), config(&slipway, &built));
        assert_eq!(imported, built, "{changes:?}");
        assert_ne!(imported, config(&slipway, "plain"), "{changes:?}");
    }
    import("moved", &["WORKDIR /a", "WORKDIR b/../c"]).ok();
    assert_eq!(config(&slipway, "moved")["WorkingDir"], "/a/c");
}

#[test]
fn what_is_no_change_is_refused_by_name_before_anything_is_read() {
    let slipway = Slipway::empty();
    for (change, words) in [
        ("RUN true", "`RUN`"),
        ("copy a b", "`COPY`"),
        ("ADD a b", "`ADD`"),
        ("ARG a=b", "`ARG`"),
        ("SHELL [\"a\"]", "`SHELL`"),
        ("MAINTAINER me", "`MAINTAINER`"),
        ("FROM scratch", "`FROM`"),
        ("NOTHING x", "NOTHING"),
        ("EXPOSE 70000", "70000"),
        ("STOPSIGNAL SIGNOTHING", "SIGNOTHING"),
        ("VOLUME $none", "VOLUME"),
        ("USER \"\"", "USER"),
        ("ENV $none=x", "ENV"),
        ("", "no instruction"),
        ("# a comment", "no instruction"),
    ] {
        let message = slipway.fails(2, ["import", "--change", change, "/dev/full/none", "x"]);
        assert!(message.contains("--change") && message.contains(words), "{change}: {message}");
    }
    assert_eq!(slipway.ok(["images", "-q"]), "");
}

#[test]
fn a_build_says_once_what_is_likely_not_meant() {
    let slipway = Slipway::new();
    let recipe = |directive: &str| format!("{directive}FROM base as one\nENV a b\nRUN echo done > /done\n");
    let said = ["FromAsCasing", "LegacyKeyValueFormat"];
    let error = "# check=error=true\n";
    let given = |value: &str| format!("BUILDKIT_DOCKERFILE_CHECK={value}");
    for (directive, argument, built, rules) in [
        ("", "", true, &said[..]),
        ("# check=skip=FromAsCasing\n", "", true, &said[1..]),
        ("# check=skip=all\n", "", true, &[]),
        ("", "skip=all", true, &[]),
        (error, "", false, &said),
        ("# check=skip=all;error=true\n", "", true, &[]),
        ("# check=skip=LegacyKeyValueFormat;error=true\n", "", false, &said[..1]),
        ("", "error=true", false, &said),
        (error, "error=false", true, &said),
        (error, "skip=FromAsCasing;error=true", false, &said[1..]),
    ] {
        let argument = given(argument);
        let flags = if argument.ends_with('=') { vec![] } else { vec!["--build-arg", &argument] };
        let shown = format!("{directive:?} {flags:?}");
        let _ = slipway.run(["rmi", "-f", "said"]);
        let ended = slipway.build_with("said", &recipe(directive), &[], &flags);
        assert_eq!(ended.code(), Some(if built { 0 } else { 1 }), "{shown}: {}", ended.stderr);
        for rule in said {
            let lines = ended.stderr.lines().filter(|line| line.starts_with(&format!(" - {rule}: "))).count();
            assert_eq!(lines, usize::from(rules.contains(&rule)), "{shown}: {}", ended.stderr);
        }
        assert_eq!(ended.stderr.contains(" found (`slipway check`"), !rules.is_empty(), "{}", ended.stderr);
        assert_eq!(ended.stderr.contains("lint violation found for rules: "), !built, "{}", ended.stderr);
        // a recipe that fails its own check builds nothing
        assert_eq!(slipway.run(["inspect", "said"]).code() == Some(0), built, "{shown}");
    }
    // rules that BuildKit does not have are told by `check` alone
    let own = "# check=error=true\nFROM base\nRUN test -e /bin/apt-get || exit 0; apt-get install x\n";
    assert!(!slipway.build("own", own, &[]).stderr.contains("SW1"));
    let quiet = slipway.build_with("quiet", &recipe(""), &[], &["-q"]);
    assert_eq!((quiet.code(), quiet.stderr.as_str()), (Some(0), ""));
    // a build that fails says them too, once
    let failing = slipway.build("failing", &format!("{}RUN false\n", recipe("")), &[]);
    assert_eq!(failing.stderr.matches(" - FromAsCasing: ").count(), 1, "{}", failing.stderr);
}
