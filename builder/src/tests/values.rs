//! Values that are not of the right form: found before anything runs, in one line that names them.

use super::Bench;

#[test]
fn bad_values_are_told_by_name() {
    let cases: [(&str, &[&str]); 13] = [
        ("RUN --mount=type=nothing,target=/x true", &["nothing"]),
        ("RUN --mount=type=tmpfs,target=/ true", &["target", "`/`"]),
        ("RUN --mount=type=tmpfs,target=/x/.. true", &["target", "`/`"]),
        ("RUN --mount=type=cache,target=/x,sharing=never true", &["never"]),
        ("RUN --mount=type=cache,target=/x,mode=9 true", &["mode"]),
        ("RUN --mount=type=secret,id=s,required=perhaps true", &["perhaps"]),
        ("RUN --network=mesh true", &["`mesh`"]),
        ("RUN --security=lax true", &["`lax`"]),
        ("RUN --security=insecure true", &["--allow"]),
        ("RUN --device=gpu true", &["gpu"]),
        ("EXPOSE 70000", &["`70000`", "65535"]),
        ("STOPSIGNAL SIGNOTHING", &["SIGNOTHING", "SIGTERM"]),
        ("ARG E=\nENV $E=x", &["ENV"]),
    ];
    let bench = Bench::new();
    for (line, parts) in cases {
        let words = bench.fails(&format!("FROM scratch\n{line}\n"));
        assert!(!words.contains('\n'), "{line}: {words}");
        for part in parts {
            assert!(words.contains(part), "{line}: {words}");
        }
    }
    assert!(bench.images.0.lock().expect("asked").is_empty());
}
