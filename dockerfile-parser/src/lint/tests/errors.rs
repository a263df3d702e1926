//! What makes a check fail: recipes that would not build.

use super::{LintOptions, check, options};

fn codes(source: &str, options: &LintOptions) -> Vec<&'static str> {
    check(source, options).errors.iter().map(|error| error.code).collect()
}

#[test]
fn recipes_that_would_not_build() {
    for (source, expected) in [
        ("", vec!["E0101"]),
        ("FROM scratch\nRUM x\n", vec!["E0104"]),
        ("FROM scratch\nCOPY a\n", vec!["E0301"]),
        ("FROM $IMAGE\n", vec!["E0802"]),
        ("FROM Debian y\n", vec!["E0803", "E0403"]),
        ("FROM Debian:\n", vec!["E0803"]),
        ("FROM scratch${\n", vec!["E0805"]),
        ("ARG A=${\nFROM scratch\n", vec!["E0805"]),
        ("ARG A\nFROM ${A:?missing}\n", vec!["E0805"]),
        ("FROM --platform=linux/ scratch\n", vec!["E0804"]),
        ("FROM --platform=$NOPE scratch\n", vec!["E0804"]),
        ("FROM scratch\nCOPY --from=0 a b\n", vec!["E0807"]),
        ("FROM scratch AS a\nCOPY --from=a a b\n", vec!["E0807"]),
        ("FROM scratch\nCOPY --from=1 a b\nFROM scratch\n", vec!["E0806"]),
        ("FROM scratch\nCOPY --from=7 a b\n", vec!["E0806"]),
        ("FROM scratch\nCOPY --from=later a b\nFROM scratch AS later\n", vec!["E0806"]),
        ("FROM scratch\nCOPY --from=Bad:: a b\n", vec!["E0806"]),
        ("FROM scratch\nRUN --mount=from=5,target=/x true\n", vec!["E0806"]),
        ("FROM scratch\nRUN --mount=type=cache true\n", vec![]),
        ("FROM scratch\nARG s=x\nRUN --mount=type=cache,target=/c,sharing=$s true\n", vec!["E0207"]),
        ("FROM scratch\nEXPOSE 99999\n", vec!["E0808"]),
        ("FROM scratch\nEXPOSE 80/http\n", vec!["E0808"]),
        ("FROM scratch\nEXPOSE 9-8\n", vec!["E0808"]),
        ("FROM scratch\nENV P=x\nEXPOSE $P\n", vec!["E0808"]),
        ("FROM scratch\nSTOPSIGNAL SIGTREM\n", vec!["E0809"]),
        ("FROM scratch\nSTOPSIGNAL 99\n", vec!["E0809"]),
        ("FROM scratch\nSHELL /bin/sh\n", vec!["E0303"]),
        ("FROM scratch\nCOPY https://example.com/x /\n", vec!["E0810"]),
        ("FROM scratch\nCOPY git@github.com:a/b.git /\n", vec!["E0810"]),
        ("FROM scratch\nADD --checksum=sha256:00 a /\n", vec!["E0810"]),
        ("FROM scratch\nARG m=rwx\nCOPY --chmod=$m a /\n", vec!["E0810"]),
        ("FROM scratch\nCOPY ${x:?why} /\n", vec!["E0805"]),
        ("FROM scratch\nENV a='b\n", vec!["E0805"]),
        ("FROM scratch\nUSER $nobody\n", vec![]),
        ("FROM scratch\nLABEL a=${b:=c}\n", vec!["E0805"]),
    ] {
        assert_eq!(codes(source, &options()), expected, "{source}");
    }
}

#[test]
fn recipes_that_build() {
    for source in [
        "FROM scratch\n",
        "FROM scratch AS A\nFROM a\nCOPY --from=A x /\nCOPY --from=0 x /\n",
        "FROM alpine\nCOPY --from=busybox:1 x /\nRUN --mount=from=nginx:1,target=/x true\n",
        "FROM some/image\nENV X=${FROM_BASE:?unset}\nUSER $APP_USER\nEXPOSE $PORT\nSTOPSIGNAL $SIG\n",
        "FROM scratch\nSTOPSIGNAL SIGRTMIN+3\nSTOPSIGNAL 9\nSTOPSIGNAL quit\n",
        "FROM scratch\nADD https://example.com/x.tgz git@github.com:a/b.git /\n",
        "ARG V=3\nFROM alpine:$V\nARG V\nLABEL v=$V\n",
        "FROM --platform=$BUILDPLATFORM alpine:3 AS b\nFROM scratch\nCOPY --from=b / /\n",
        "FROM scratch\nEXPOSE $NONE\n",
    ] {
        assert_eq!(codes(source, &options()), Vec::<&str>::new(), "{source}");
    }
}

#[test]
fn targets() {
    let source = "FROM scratch AS good\nFROM scratch AS bad\nEXPOSE x\nFROM good AS late\n";
    let target = |name: &str| LintOptions { target: Some(name.to_owned()), ..options() };
    assert_eq!(codes(source, &options()), ["E0808"]);
    assert_eq!(codes(source, &target("late")), Vec::<&str>::new());
    assert_eq!(codes(source, &target("BAD")), ["E0808"]);
    let report = check(source, &target("goood"));
    assert_eq!(report.errors[0].code, "E0801");
    assert_eq!(report.errors[0].hint.as_deref(), Some("did you mean `good`?"));
    assert_eq!(codes("FROM scratch\n", &target("x")), ["E0801"]);
}

#[test]
fn named_contexts_stand_in() {
    let given =
        LintOptions { named_contexts: vec!["Weird Name".to_owned(), "later".to_owned()], ..options() };
    assert_eq!(
        codes("FROM scratch\nCOPY --from=later a /\nFROM scratch AS later\n", &given),
        Vec::<&str>::new()
    );
}
