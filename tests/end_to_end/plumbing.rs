//! `fmt`, `dockerfile` and `context`: what people, editors and CI meet, without a store.

use crate::support::Slipway;
use serde_json::Value;
use std::{fs, io::Write, process::Stdio};

/// Runs a command with a text on its standard input.
fn feed(slipway: &Slipway, arguments: &[&str], input: &str) -> (Option<i32>, String, String) {
    let mut command = slipway.command(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let ended = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (ended.status.code(), text(ended.stdout), text(ended.stderr))
}

#[test]
fn fmt_formats_checks_and_refuses() {
    let slipway = Slipway::empty();
    let folder = slipway.context("fmt", &[("Dockerfile", "from  a\nrun  b\n"), ("bad", "FORM a\n")]);
    let recipe = folder.join("Dockerfile");
    let run = |arguments: &[&str]| crate::support::run(slipway.command(arguments).current_dir(&folder));
    let checked = run(&["fmt", "--check"]);
    assert_eq!(checked.code(), Some(1));
    assert!(checked.stdout.contains("-from  a\n-run  b\n+FROM a\n+RUN b\n"), "{}", checked.stdout);
    assert_eq!(fs::read_to_string(&recipe).unwrap(), "from  a\nrun  b\n");
    // A broken recipe is left alone, and does not keep the other from being formatted.
    assert!(run(&["fmt", "bad", "Dockerfile"]).fails(1).contains("did you mean `FROM`?"));
    assert_eq!(fs::read_to_string(&recipe).unwrap(), "FROM a\nRUN b\n");
    assert_eq!(fs::read_to_string(folder.join("bad")).unwrap(), "FORM a\n");
    assert_eq!(run(&["fmt", "--check"]).ok(), "");
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 2, "a temporary file is left");
    let (status, out, _) = feed(&slipway, &["fmt", "-"], "from a\r\n");
    assert_eq!((status, out.as_str()), (Some(0), "FROM a\r\n"));
}

#[test]
fn dockerfile_parse_prints_trees_and_diagnostics() {
    let slipway = Slipway::empty();
    let parse = ["dockerfile", "parse", "--format", "json", "-"];
    let (status, out, _) = feed(&slipway, &parse, "FROM a\nhealthcheck --retries=3 cmd  a  b\n");
    let tree: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((status, &tree[1]["args"][1]), (Some(0), &Value::from("a  b")));
    assert_eq!(
        (&tree[1]["keyword"], &tree[1]["args"][0]),
        (&Value::from("healthcheck"), &Value::from("CMD"))
    );
    // Judging comes later: an unknown flag and a missing argument are syntax all the same.
    assert_eq!(feed(&slipway, &parse, "FROM a\nCOPY --bogus x\n").0, Some(0));
    let (status, out, _) = feed(&slipway, &parse, "FORM a\n");
    let found: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (status, &found[0]["code"], &found[0]["line"]),
        (Some(1), &Value::from("E0104"), &Value::from(1))
    );
}

#[test]
fn dockerfile_expand_prints_one_word() {
    let slipway = Slipway::empty();
    let expand = |arguments: &[&str]| slipway.ok([&["dockerfile", "expand"], arguments].concat());
    assert_eq!(expand(&["--env", "a=1=2", "--env", "b=", "'$a' \"$a\" ${b:-c} \\$a"]), "$a 1=2 c $a\n");
    assert_eq!(expand(&["--escape", "`", "`$a\\"]), "$a\\\n");
    assert_eq!(expand(&["-x${unset}"]), "-x\n");
    assert!(slipway.fails(1, ["dockerfile", "expand", "${a?is missing}"]).contains("a: is missing"));
    slipway.fails(2, ["dockerfile", "expand", "--escape", "x", "a"]);
}

#[test]
fn dockerfile_lower_includes_from_the_context_only() {
    let slipway = Slipway::empty();
    let recipe = "# slipway: extensions\nFROM a\nINCLUDE d/b.inc\nCOPY --optional c /\n";
    let folder = slipway.context("lower", &[("Dockerfile", recipe), ("d/b.inc", "RUN b\n")]);
    let file = folder.join("Dockerfile");
    let file = file.to_str().unwrap();
    let text = slipway.ok(["dockerfile", "lower", file]);
    assert!(text.ends_with("FROM a\nRUN b\nCOPY [c] /\n"), "{text}");
    fs::remove_file(folder.join("d/b.inc")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", folder.join("d/b.inc")).unwrap();
    assert!(slipway.fails(1, ["dockerfile", "lower", file]).contains("cannot include `d/b.inc`"));
}

#[test]
fn context_ls_lists_what_remains() {
    let slipway = Slipway::empty();
    let files = [
        ("Dockerfile", ""),
        (".dockerignore", "*\n!keep\n!deep/in/x\nkeep/*.log\n"),
        ("keep/a", ""),
        ("keep/b.log", ""),
        ("deep/in/x", ""),
        ("deep/y", ""),
        ("gone/z", ""),
        ("other.dockerignore", "deep\nkeep\ngone\n.dockerignore\n"),
    ];
    let folder = slipway.context("ls", &files);
    let path = folder.to_str().unwrap();
    // A folder is listed when it is not excluded, or when something in it is not.
    assert_eq!(slipway.ok(["context", "ls", path]), "deep\ndeep/in\ndeep/in/x\nkeep\nkeep/a\n");
    let other = folder.join("other");
    let listed = slipway.ok(["context", "ls", "-f", other.to_str().unwrap(), path]);
    assert_eq!(listed, "Dockerfile\nother.dockerignore\n");
    slipway.fails(1, ["context", "ls", "/nowhere"]);
}

#[test]
fn dockerfile_lsp_speaks_over_standard_streams() {
    let slipway = Slipway::empty();
    let framed = |text: &str| format!("Content-Length: {}\r\n\r\n{text}", text.len());
    let input: String = [
        r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}"#,
        r#"{"jsonrpc":"2.0","method":"textDocument/didOpen","params":{"textDocument":{"uri":"file:///D","text":"FORM a\n"}}}"#,
        r#"{"jsonrpc":"2.0","id":2,"method":"shutdown"}"#,
        r#"{"jsonrpc":"2.0","method":"exit"}"#,
    ]
    .map(framed)
    .concat();
    let (status, out, errors) = feed(&slipway, &["dockerfile", "lsp", "--stdio"], &input);
    assert_eq!((status, errors.as_str()), (Some(0), ""));
    assert!(
        out.contains("publishDiagnostics") && out.contains("E0104") && out.contains("\"hoverProvider\":true")
    );
}
