//! The 22 rules that BuildKit has. Recipes and messages marked so are those of its own tests and pages.

use super::{LintOptions, check, found, lint, messages, options, run};

/// What BuildKit's rules find, all of them.
fn buildkit(source: &str, options: &LintOptions) -> Vec<String> {
    found(&check(source, options), |code| !code.starts_with("SW"))
}

#[test]
fn names_of_stages() {
    run(
        "StageNameCasing",
        &[
            ("FROM scratch AS BadStageName\n", &["StageNameCasing:1"]),
            ("FROM scratch AS a\nFROM scratch AS dEV\n", &["StageNameCasing:2"]),
            ("FROM scratch AS base\n", &[]),
            ("FROM scratch\n", &[]),
            ("# check=skip=StageNameCasing\nFROM scratch AS Base\n", &[]),
        ],
    );
    run(
        "FromAsCasing",
        &[
            ("FROM scratch as base2\n", &["FromAsCasing:1"]),
            ("from scratch AS base\nfrom scratch as base2\n", &["FromAsCasing:1"]),
            ("FROM scratch AS a\n", &[]),
            ("From scratch as a\n", &[]),
            ("#check=skip=all\nFROM scratch as base\ncopy Dockerfile .\n", &[]),
        ],
    );
    run(
        "DuplicateStageName",
        &[
            ("FROM scratch AS b\nFROM scratch AS b\n", &["DuplicateStageName:2"]),
            ("FROM scratch AS b\nFROM scratch AS B\n", &["DuplicateStageName:2"]),
            ("FROM scratch AS b\nFROM scratch AS c\nFROM scratch\nFROM scratch\n", &[]),
            ("# check=skip=DuplicateStageName\nFROM scratch AS b\nFROM scratch AS b\n", &[]),
        ],
    );
    run(
        "ReservedStageName",
        &[
            ("FROM scratch AS scratch\n", &["ReservedStageName:1"]),
            ("FROM scratch AS context\n", &["ReservedStageName:1"]),
            ("FROM scratch AS contexts\n", &[]),
            ("FROM scratch AS base\n", &[]),
        ],
    );
    assert_eq!(
        messages("FROM scratch AS Dev\n", &options(), "StageNameCasing"),
        ["Stage name 'Dev' should be lowercase"]
    );
    assert_eq!(
        messages("FROM scratch as a\n", &options(), "FromAsCasing"),
        ["'as' and 'FROM' keywords' casing do not match"]
    );
    assert_eq!(
        messages("FROM scratch AS b\nFROM scratch AS b\n", &options(), "DuplicateStageName"),
        ["Duplicate stage name \"b\", stage names should be unique"]
    );
    assert_eq!(
        messages("FROM scratch AS context\n", &options(), "ReservedStageName"),
        ["Stage name should not use the same name as reserved stage \"context\""]
    );
}

#[test]
fn casing_and_continuations() {
    run(
        "ConsistentInstructionCasing",
        &[
            ("FROM scratch\ncopy a /foo\nCOPY a /bar\n", &["ConsistentInstructionCasing:2"]),
            ("from scratch\nCOPY a /foo\ncopy a /bar\n", &["ConsistentInstructionCasing:2"]),
            ("from scratch\nCOPY a /b\nCOPY a /c\n", &["ConsistentInstructionCasing:1"]),
            ("From scratch as base\nFROM scratch AS base2\n", &["ConsistentInstructionCasing:1"]),
            ("from scratch\ncopy a /foo\n", &[]),
            ("FROM scratch\nCOPY a /foo\n", &[]),
            // Arguments before the first FROM have no vote, and no warning.
            ("arg A\nFROM scratch\n", &[]),
            ("FROM scratch\n# check=skip=ConsistentInstructionCasing\ncopy a /b\nCOPY a /c\n", &[]),
        ],
    );
    assert_eq!(
        messages("FROM scratch\ncopy a /foo\nCOPY a /bar\n", &options(), "ConsistentInstructionCasing"),
        ["Command 'copy' should match the case of the command majority (uppercase)"]
    );
    run(
        "NoEmptyContinuation",
        &[
            // BuildKit reports the line where the instruction's text ends.
            (
                "\nFROM scratch\n# warning: empty continuation line\nCOPY Dockerfile \\\n\n.\nCOPY Dockerfile \\\n.\n",
                &["NoEmptyContinuation:6"],
            ),
            ("FROM scratch\nRUN a \\\n\n\n b <<E\nx\nE\n", &["NoEmptyContinuation:5"]),
            ("FROM scratch\nCOPY a \\\n# comment\n /b\n", &[]),
            ("FROM scratch\n\nCOPY a /b\n", &[]),
            ("# check=skip=NoEmptyContinuation\nFROM scratch\nCOPY a \\\n\n /b\n", &[]),
        ],
    );
}

#[test]
fn commands() {
    run(
        "JSONArgsRecommended",
        &[
            ("FROM scratch\nCMD mycommand\n", &["JSONArgsRecommended:2"]),
            ("FROM scratch\nENTRYPOINT mycommand\n", &["JSONArgsRecommended:2"]),
            ("FROM scratch\nCMD [\"x\"]\nENTRYPOINT [\"y\"]\nHEALTHCHECK CMD z\n", &[]),
            ("FROM scratch\nSHELL [\"/usr/bin/customshell\"]\nCMD mycommand\n", &[]),
            (
                "FROM scratch AS base\nSHELL [\"/usr/bin/customshell\"]\n\nFROM base\nENTRYPOINT mycommand\n",
                &[],
            ),
            ("FROM scratch\n# check=skip=JSONArgsRecommended\nCMD x\n", &[]),
        ],
    );
    run(
        "MultipleInstructionsDisallowed",
        &[
            (
                "FROM scratch\nENTRYPOINT [\"/a\"]\nENTRYPOINT [\"/b\"]\nCMD [\"/a\"]\nCMD [\"/b\"]\nHEALTHCHECK CMD [\"/a\"]\nHEALTHCHECK CMD [\"/b\"]\n",
                &[
                    "MultipleInstructionsDisallowed:2",
                    "MultipleInstructionsDisallowed:4",
                    "MultipleInstructionsDisallowed:6",
                ],
            ),
            (
                "FROM scratch\nCMD [\"a\"]\nCOPY a /\nCMD [\"b\"]\nCMD [\"c\"]\n",
                &["MultipleInstructionsDisallowed:2", "MultipleInstructionsDisallowed:4"],
            ),
            ("FROM scratch AS a\nCMD [\"a\"]\nFROM a AS b\nCMD [\"b\"]\n", &[]),
            ("FROM scratch\nCMD [\"a\"]\nENTRYPOINT [\"b\"]\n", &[]),
            ("# check=skip=MultipleInstructionsDisallowed\nFROM scratch\nCMD [\"a\"]\nCMD [\"b\"]\n", &[]),
        ],
    );
    run(
        "MaintainerDeprecated",
        &[
            ("FROM scratch\nMAINTAINER me@example.org\n", &["MaintainerDeprecated:2"]),
            ("FROM scratch\nmaintainer a b\n", &["MaintainerDeprecated:2"]),
            ("FROM scratch\nLABEL org.opencontainers.image.authors=\"me@example.org\"\n", &[]),
            ("FROM scratch\n", &[]),
            ("FROM scratch\n# check=skip=MaintainerDeprecated\nMAINTAINER me\n", &[]),
        ],
    );
    run(
        "LegacyKeyValueFormat",
        &[
            (
                "FROM scratch\nENV testkey value\nLABEL key value\n",
                &["LegacyKeyValueFormat:2", "LegacyKeyValueFormat:3"],
            ),
            ("FROM scratch AS a\nFROM a AS b\nENV testkey value\nFROM a AS c\n", &["LegacyKeyValueFormat:3"]),
            ("FROM scratch\nENV testkey=value\nLABEL key=value\n", &[]),
            ("FROM scratch\nENV a=b \\\n c=d\n", &[]),
            ("# check=skip=LegacyKeyValueFormat\nFROM scratch\nENV a b\n", &[]),
        ],
    );
    run(
        "WorkdirRelativePath",
        &[
            ("FROM scratch\nWORKDIR app/\n", &["WorkdirRelativePath:2"]),
            ("FROM alpine\nWORKDIR a\nWORKDIR b\n", &["WorkdirRelativePath:2"]),
            ("FROM scratch AS a\nWORKDIR /app\n\nFROM a AS b\nWORKDIR subdir/\n", &[]),
            ("FROM scratch\nENV D=/x\nWORKDIR $D\nWORKDIR y\n", &[]),
            ("# only the base image knows\nFROM some/image\nWORKDIR $APP_HOME\n", &[]),
            ("FROM scratch\n# check=skip=WorkdirRelativePath\nWORKDIR a\n", &[]),
        ],
    );
    assert_eq!(
        messages("FROM scratch\nenv a b\n", &options(), "LegacyKeyValueFormat"),
        ["\"env key=value\" should be used instead of legacy \"env key value\" format"]
    );
    assert_eq!(
        messages("FROM scratch\nWORKDIR app/\n", &options(), "WorkdirRelativePath"),
        ["Relative workdir \"app/\" can have unexpected results if the base image changes"]
    );
}

#[test]
fn variables() {
    run(
        "UndefinedVar",
        &[
            (
                "FROM scratch AS first\nCOPY $foo .\n\nFROM scratch AS second\nCOPY $bar .\n",
                &["UndefinedVar:2", "UndefinedVar:5"],
            ),
            ("FROM alpine AS base\nCOPY $foo .\n", &["UndefinedVar:2"]),
            ("FROM alpine\nCOPY $foo .\nARG foo=bar\nRUN echo $foo\n", &["UndefinedVar:2"]),
            ("FROM alpine\nENV PATH=$PAHT:/tmp/bin\n", &["UndefinedVar:2"]),
            ("ARG V=1\nFROM scratch\nCOPY $V .\n", &["UndefinedVar:3"]),
            ("FROM scratch\nRUN --mount=type=cache,target=/$x true\n", &["UndefinedVar:2"]),
            ("FROM scratch\nCOPY <<E /f\n$x\nE\n", &["UndefinedVar:2"]),
            ("FROM scratch\nARG foo\nCOPY Dockerfile${foo} .\n", &[]),
            ("FROM alpine AS base\nARG foo=Dockerfile\n\nFROM base\nCOPY $foo .\n", &[]),
            ("FROM alpine\nRUN echo $PATH $undefined\n", &[]),
            ("FROM scratch\nCOPY ${x:-a} ${y:+b} .\n", &[]),
            ("FROM scratch\nCOPY <<'E' /f\n$x\nE\n", &[]),
            ("FROM scratch\nENV P=$PATH:/x\n", &[]),
            ("# check=skip=UndefinedVar\nFROM scratch\nCOPY $foo .\n", &[]),
            // What a base image may well set is harmless, names near to known ones are not.
            ("FROM golang\nENV X=$GOPATH/bin Y=$HOME\n", &[]),
            ("FROM python:3\nARG PYTHON_VERSION_SUFFIX\nENV X=$PYTHON_VERSION\n", &[]),
            ("FROM some/image\nENV PATH=$PAHT:/x\n", &["UndefinedVar:2"]),
            ("FROM some/image\nARG DIR_ASSETS=a\nCOPY $DIR_ASSET .\n", &["UndefinedVar:3"]),
            ("FROM some/image\nENV X=$TARGETARCH\n", &["UndefinedVar:2"]),
            ("FROM alpine\nENV X=$HOME/.local\n", &[]),
        ],
    );
    let source = "FROM alpine\nARG DIR_BINARIES=binaries/\nARG DIR_ASSETS=assets/\nARG DIR_CONFIG=config/\nCOPY $DIR_ASSET .\n";
    assert_eq!(
        messages(source, &options(), "UndefinedVar"),
        ["Usage of undefined variable '$DIR_ASSET' (did you mean $DIR_ASSETS?)"]
    );
    run(
        "SecretsUsedInArgOrEnv",
        &[
            (
                "FROM scratch\nARG SECRET_PASSPHRASE\nENV SUPER_Secret=foo\nENV password=bar secret=baz\nARG super_duper_secret_token=foo auth=bar\nENV apikey=bar sunflower=foo\nENV git_key=\nENV PUBLIC_KEY=\nARG public_token\n",
                &[
                    "SecretsUsedInArgOrEnv:2",
                    "SecretsUsedInArgOrEnv:3",
                    "SecretsUsedInArgOrEnv:4",
                    "SecretsUsedInArgOrEnv:4",
                    "SecretsUsedInArgOrEnv:5",
                    "SecretsUsedInArgOrEnv:5",
                    "SecretsUsedInArgOrEnv:6",
                    "SecretsUsedInArgOrEnv:7",
                ],
            ),
            ("FROM scratch\nENV KEY_VERSION=1 TOKEN_FILE=/x\n", &[]),
            (
                "FROM scratch\n# check=skip=SecretsUsedInArgOrEnv\nENV TOKEN=x\nENV API_KEY=\n",
                &["SecretsUsedInArgOrEnv:4"],
            ),
        ],
    );
    assert_eq!(
        messages("FROM scratch\nENV password=x\n", &options(), "SecretsUsedInArgOrEnv"),
        ["Do not use ARG or ENV instructions for sensitive data (ENV \"password\")"]
    );
}

#[test]
fn from_lines() {
    run(
        "UndefinedArgInFrom",
        &[
            ("FROM --platform=$BULIDPLATFORM scratch\n", &["UndefinedArgInFrom:1"]),
            ("ARG tag=latest\nFROM busybox:${tag}${version} AS b\n", &["UndefinedArgInFrom:2"]),
            ("FROM --platform=$BUILDPLATFORM scratch\n", &[]),
            ("ARG DEBUG\nFROM scratch${DEBUG}\n", &[]),
            ("ARG DEBUG=\"\"\nFROM scratch${DEBUG-@bogus}\n", &[]),
            ("FROM scra${DEBUG:-tch}\n", &[]),
            ("# check=skip=UndefinedArgInFrom\nFROM busybox:1${version}\n", &[]),
        ],
    );
    assert_eq!(
        messages("FROM --platform=$BULIDPLATFORM scratch\n", &options(), "UndefinedArgInFrom"),
        ["FROM argument 'BULIDPLATFORM' is not declared (did you mean BUILDPLATFORM?)"]
    );
    run(
        "InvalidDefaultArgInFrom",
        &[
            ("ARG VERSION\nFROM busybox:$VERSION\n", &["InvalidDefaultArgInFrom:2"]),
            ("ARG IMAGE\nFROM $IMAGE\n", &["InvalidDefaultArgInFrom:2"]),
            ("ARG SFX=\"box:\"\nFROM busy${SFX}\n", &["InvalidDefaultArgInFrom:2"]),
            ("ARG VERSION=\"latest\"\nFROM busybox:${VERSION}\n", &[]),
            ("ARG BUSYBOX_VARIANT\nFROM busybox:stable${BUSYBOX_VARIANT}\n", &[]),
            ("# check=skip=InvalidDefaultArgInFrom\nARG V\nFROM busybox:$V\n", &[]),
        ],
    );
    let mut given = options();
    given.build_args.insert("IMAGE".to_owned(), "busybox:1".to_owned());
    let report = check("ARG IMAGE\nFROM $IMAGE\n", &given);
    assert!(report.errors.is_empty() && !report.warnings.is_empty());
    run(
        "RedundantTargetPlatform",
        &[
            ("FROM --platform=$TARGETPLATFORM scratch\n", &["RedundantTargetPlatform:1"]),
            ("FROM --platform=${TARGETPLATFORM} scratch AS a\n", &["RedundantTargetPlatform:1"]),
            ("FROM --platform=$BUILDPLATFORM scratch\n", &[]),
            ("FROM --platform=$TARGETOS/$TARGETARCH scratch\n", &[]),
            ("# check=skip=RedundantTargetPlatform\nFROM --platform=$TARGETPLATFORM scratch\n", &[]),
        ],
    );
    run(
        "FromPlatformFlagConstDisallowed",
        &[
            ("FROM --platform=linux/amd64 scratch\n", &["FromPlatformFlagConstDisallowed:1"]),
            ("FROM --platform=linux/arm64 scratch AS build\n", &["FromPlatformFlagConstDisallowed:1"]),
            ("FROM --platform=linux/amd64 scratch AS my_amd64_stage\n", &[]),
            ("FROM --platform=linux/amd64 scratch AS linux\n", &[]),
            ("# check=skip=FromPlatformFlagConstDisallowed\nFROM --platform=linux/amd64 scratch\n", &[]),
        ],
    );
    // InvalidBaseImagePlatform needs the image, which a check does not fetch.
    run(
        "InvalidBaseImagePlatform",
        &[("FROM --platform=windows/s390x alpine\n", &[]), ("FROM alpine\n", &[])],
    );
}

#[test]
fn ports() {
    run(
        "Expose",
        &[
            ("FROM scratch\nEXPOSE 80/TcP\n", &["ExposeProtoCasing:2"]),
            ("FROM scratch\nEXPOSE 80/UDP 53/tcp\n", &["ExposeProtoCasing:2"]),
            ("FROM scratch\nEXPOSE 127.0.0.1:80:80\n", &["ExposeInvalidFormat:2"]),
            ("FROM scratch\nEXPOSE 80:80 5000-5010\n", &["ExposeInvalidFormat:2"]),
            ("FROM scratch\nENV P=80/TCP\nEXPOSE $P\n", &["ExposeProtoCasing:3"]),
            ("FROM scratch\nEXPOSE 80 53/udp 90-100/sctp\n", &[]),
            ("FROM some/image\nEXPOSE $PORT\n", &[]),
            ("# check=skip=ExposeProtoCasing,ExposeInvalidFormat\nFROM scratch\nEXPOSE 80:80/TCP\n", &[]),
        ],
    );
    assert_eq!(
        messages("FROM scratch\nEXPOSE 80/TcP\n", &options(), "ExposeProtoCasing"),
        ["Defined protocol '80/TcP' in EXPOSE instruction should be lowercase"]
    );
    assert_eq!(
        messages("FROM scratch\nEXPOSE 127.0.0.1:80:80\n", &options(), "ExposeInvalidFormat"),
        ["EXPOSE instruction should not define an IP address or host-port mapping, found '127.0.0.1:80:80'"]
    );
}

#[test]
fn ignored_files() {
    for (ignore, source, expected) in [
        (
            "Dockerfile\n",
            "FROM scratch\nCOPY Dockerfile .\nADD --chown=0 Dockerfile /windy\n",
            vec!["CopyIgnoredFile:2", "CopyIgnoredFile:3"],
        ),
        ("*\n", "FROM scratch\nCOPY . /\n", vec!["CopyIgnoredFile:2"]),
        ("target\n", "FROM scratch\nCOPY ./target/x /\n", vec!["CopyIgnoredFile:2"]),
        (
            "foobar\n",
            "FROM scratch AS base\nCOPY Dockerfile /foobar\nFROM base\nCOPY --from=base /foobar /Dockerfile\n",
            vec![],
        ),
        ("*\n!src\n", "FROM scratch\nCOPY . /\nCOPY src /\n", vec![]),
        ("sub\n!sub/keep\n", "FROM scratch\nCOPY sub /\n", vec![]),
        ("Dockerfile\n", "# check=skip=CopyIgnoredFile\nFROM scratch\nCOPY Dockerfile .\n", vec![]),
        ("x\n", "FROM scratch\nCOPY <<x /\nx\n", vec![]),
    ] {
        let given = LintOptions { ignore_file: Some(ignore.to_owned()), ..options() };
        let report = check(source, &given);
        assert_eq!(found(&report, |code| code == "CopyIgnoredFile"), expected, "{ignore} {source}");
    }
    let given = LintOptions { ignore_file: Some("Dockerfile".to_owned()), ..options() };
    assert_eq!(
        messages("FROM scratch\nADD Dockerfile /\n", &given, "CopyIgnoredFile"),
        ["Attempting to Add file \"Dockerfile\" that is excluded by .dockerignore"]
    );
}

#[test]
fn descriptions() {
    let good = "# check=experimental=InvalidDefinitionDescription\n# foo this is the foo\nARG foo=bar\n\n# base this is the base image\nFROM scratch AS base\n\n# version this is the version number\nARG version=latest\n\n# baz this is the baz\nARG foo=baz bar=qux baz=quux\n#\nARG bit=bat\n\n# comment for something other than ARG or FROM\nCOPY Dockerfile .\n";
    let bad = "# check=experimental=InvalidDefinitionDescription\n# bar this is the bar\nARG foo=bar\n# BasE this is the BasE image\nFROM scratch AS base\n# definitely a bad comment\nARG version=latest\n# definitely a bad comment\nARG foo=baz bar=qux baz=quux\n";
    let rule = "InvalidDefinitionDescription";
    assert!(messages(good, &options(), rule).is_empty());
    assert_eq!(
        messages(bad, &options(), rule),
        [
            "Comment for ARG should follow the format: `# foo <description>`",
            "Comment for FROM should follow the format: `# base <description>`",
            "Comment for ARG should follow the format: `# version <description>`",
            "Comment for ARG should follow the format: `# <arg_key> <description>`",
        ]
    );
    // Experimental: silent unless asked for, and `skip=all` does not reach it.
    assert!(messages("# x\nARG a\nFROM scratch\n", &options(), rule).is_empty());
    let both = format!("# check=skip=all;experimental={rule}\n# x\nARG a\nFROM scratch\n");
    assert_eq!(messages(&both, &options(), rule).len(), 1);
}

#[test]
fn directives() {
    let source = "FROM scratch as base\ncopy Dockerfile .\n";
    let with = |directive: &str| format!("#check={directive}\n{source}");
    assert!(buildkit(&with("skip=all"), &options()).is_empty());
    assert!(
        buildkit(&with("skip=ConsistentInstructionCasing,FromAsCasing;error=true"), &options()).is_empty()
    );
    let report = lint(&with("skip=ConsistentInstructionCasing;error=true"));
    assert!(report.fails() && report.errors.is_empty());
    let error = report.error().unwrap();
    assert_eq!(
        (error.message.as_str(), error.span.line),
        ("lint violation found for rules: FromAsCasing", 2)
    );
    assert!(!lint(source).fails());

    // The build argument replaces the directive.
    let mut given = options();
    given.build_args.insert(
        "BUILDKIT_DOCKERFILE_CHECK".to_owned(),
        "skip=ConsistentInstructionCasing;error=true".to_owned(),
    );
    assert!(check(&with("skip=all"), &given).fails());
    given.build_args.insert("BUILDKIT_DOCKERFILE_CHECK".to_owned(), "skip=all".to_owned());
    assert!(!check(&with("error=true"), &given).fails());
    given.build_args.insert("BUILDKIT_DOCKERFILE_CHECK".to_owned(), "nonsense".to_owned());
    assert_eq!(check(source, &given).errors[0].code, "E0107");
}

#[test]
fn warnings_before_an_error() {
    let report = lint("FROM scratch AS BadStageName\nMAINTAINER me@example.org\nBADCMD\n");
    assert_eq!(found(&report, |_| true), ["StageNameCasing:1", "MaintainerDeprecated:2"]);
    assert_eq!((report.errors[0].code, report.errors[0].span.line), ("E0104", 3));
}
