use super::*;
use crate::{lower, parse};

const URI: &str = "file:///Dockerfile";

fn open(text: &str) -> (Server, Value) {
    let mut server = Server::new();
    server.handle(&json!({"id": 0, "method": "initialize", "params": {}}));
    let params =
        json!({"textDocument": {"uri": URI, "languageId": "dockerfile", "version": 1, "text": text}});
    let mut sent = server.handle(&json!({"method": "textDocument/didOpen", "params": params}));
    (server, sent.remove(0))
}

/// The answer to a request about the place of `|` in `text`.
fn ask(text: &str, method: &str) -> Value {
    let at = text.find('|').unwrap();
    let before = &text[..at];
    let line = before.matches('\n').count();
    let character = before.rsplit('\n').next().unwrap().encode_utf16().count();
    let (mut server, _) = open(&text.replacen('|', "", 1));
    let params = json!({"textDocument": {"uri": URI}, "position": {"line": line, "character": character}});
    server.handle(&json!({"id": 1, "method": method, "params": params})).remove(0)
}

fn labels(text: &str) -> Vec<String> {
    let answer = ask(text, "textDocument/completion");
    let items = answer["result"]["items"].as_array().unwrap();
    items.iter().map(|item| item["label"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn life_of_a_server() {
    let mut server = Server::new();
    let code = |replies: Vec<Value>| replies[0]["error"]["code"].as_i64();
    assert_eq!(code(server.handle(&json!({"id": 1, "method": "textDocument/hover"}))), Some(-32002));
    assert!(server.handle(&json!({"method": "textDocument/didOpen", "params": {}})).is_empty());
    let reply = server.handle(&json!({"id": "a", "method": "initialize", "params": {}})).remove(0);
    assert_eq!((&reply["id"], &reply["result"]["serverInfo"]["name"]), (&json!("a"), &json!("slipway")));
    assert!(server.handle(&json!({"method": "initialized", "params": {}})).is_empty());
    assert!(server.handle(&json!({"method": "$/cancelRequest", "params": {"id": 1}})).is_empty());
    assert_eq!(code(server.handle(&json!({"id": 2, "method": "textDocument/rename"}))), Some(-32601));
    assert_eq!(code(server.handle(&json!({"id": 2, "method": "textDocument/hover"}))), Some(-32602));
    assert_eq!(code(server.handle(&json!({"id": 2, "method": "initialize"}))), Some(-32600));
    assert_eq!(code(server.handle(&json!([1]))), Some(-32600));
    assert_eq!(server.handle(&json!({"id": 3, "method": "shutdown"}))[0]["result"], Value::Null);
    assert_eq!(code(server.handle(&json!({"id": 4, "method": "textDocument/hover"}))), Some(-32600));
    assert_eq!(server.exit_status(), None);
    assert!(server.handle(&json!({"method": "exit"})).is_empty());
    assert_eq!(server.exit_status(), Some(0));
    let mut server = Server::new();
    server.handle(&json!({"method": "exit"}));
    assert_eq!(server.exit_status(), Some(1));
}

#[test]
fn marks_mistakes() {
    let (mut server, sent) = open("FROM alpine:3\nRUM é\n");
    assert_eq!(sent["method"], "textDocument/publishDiagnostics");
    let found = &sent["params"]["diagnostics"][0];
    assert_eq!((&found["code"], &found["severity"]), (&json!("E0104"), &json!(1)));
    assert_eq!(
        found["range"],
        json!({"start": {"line": 1, "character": 0}, "end": {"line": 1, "character": 3}})
    );
    assert!(found["message"].as_str().unwrap().contains("did you mean `RUN`?"));
    let range = json!({"start": {"line": 1, "character": 2}, "end": {"line": 1, "character": 3}});
    let params = json!({"textDocument": {"uri": URI, "version": 2}, "contentChanges": [{"range": range, "text": "N"}]});
    let sent = server.handle(&json!({"method": "textDocument/didChange", "params": params})).remove(0);
    let errors =
        sent["params"]["diagnostics"].as_array().unwrap().iter().filter(|found| found["severity"] == 1);
    assert_eq!(errors.count(), 0, "{sent}");
    assert_eq!(server.documents[URI], "FROM alpine:3\nRUN é\n");
    let sent =
        server.handle(&json!({"method": "textDocument/didClose", "params": {"textDocument": {"uri": URI}}}));
    assert_eq!(sent[0]["params"]["diagnostics"], json!([]));
    assert!(server.documents.is_empty());
}

#[test]
fn marks_what_the_linter_finds() {
    let (_, sent) = open("FROM alpine:3 as base\nWORKDIR x\n");
    let found = sent["params"]["diagnostics"].as_array().unwrap();
    assert!(found.iter().any(|found| found["code"] == "FromAsCasing" && found["severity"] == 2), "{sent}");
}

#[test]
fn extensions_are_marked_in_the_recipe() {
    let (_, sent) = open("# slipway: extensions\nFROM alpine:3\nINCLUDE a.inc\nRUN --bogus a\n");
    let found = sent["params"]["diagnostics"].as_array().unwrap();
    let errors: Vec<_> = found.iter().filter(|found| found["severity"] == 1).collect();
    assert_eq!((errors.len(), &errors[0]["range"]["start"]["line"]), (1, &json!(3)), "{sent}");
    let (_, sent) = open("FROM alpine:3\nINCLUDE a.inc\n");
    assert_eq!(sent["params"]["diagnostics"][0]["code"], "E0701");
}

#[test]
fn positions_count_utf16_units() {
    let text = "a😀b\r\né\n";
    let places = Places::new(text);
    for (line, character, offset) in [
        (0, 0, 0),
        (0, 1, 1),
        (0, 2, 1),
        (0, 3, 5),
        (0, 4, 6),
        (0, 99, 6),
        (1, 0, 8),
        (1, 1, 10),
        (2, 0, 11),
        (9, 9, 11),
    ] {
        assert_eq!(
            places.offset(&json!({"line": line, "character": character})),
            Some(offset),
            "{line}:{character}"
        );
    }
    assert_eq!(places.position(5), json!({"line": 0, "character": 3}));
    assert_eq!(places.offset(&json!({"line": u64::MAX, "character": u64::MAX})), Some(11));
    assert_eq!(places.offset(&json!({"line": -1, "character": 0})), None);
}

#[test]
fn hover_explains() {
    for (text, part) in [
        ("FR|OM a", "Begins a stage"),
        ("FROM a\nONBUILD CO|PY a b", "Copies files"),
        ("FROM a\nCOPY --li|nk a b", "does not depend"),
        ("FROM a\nRUN --mo|unt=type=cache,target=/x a", "Mounts something"),
        ("FROM a\nRUN --mount=type=ca|che,target=/x a", "kept from build to build"),
        ("FROM a\nRUN --mount=type=cache,tar|get=/x a", "Where it appears"),
        ("FROM a\nARG x=1\nENV y=${x|}", "set on line 2"),
    ] {
        let answer = ask(text, "textDocument/hover");
        let words = answer["result"]["contents"]["value"].as_str().unwrap_or_default();
        assert!(words.contains(part), "{text}: {answer}");
    }
    for text in ["FROM a\n# RU|N\n", "FROM a\nRUN <<E\nFR|OM\nE\n", "|\nFROM a\n"] {
        assert_eq!(ask(text, "textDocument/hover")["result"], Value::Null, "{text}");
    }
}

#[test]
fn completion_offers() {
    for (text, expected) in [
        ("FROM a\nhea|", vec!["HEALTHCHECK"]),
        ("FROM a\nCOPY --li|", vec!["--link"]),
        ("FROM a\nRUN --mount=type=s|", vec!["secret", "ssh"]),
        ("FROM a\nRUN --mount=type=cache,sh|", vec!["sharing"]),
        ("FROM a\nRUN --mount=type=tmpfs,si|", vec!["size"]),
        ("FROM a\nRUN --mount=type=cache,sharing=l|", vec!["locked"]),
        ("FROM a AS base\nFROM b AS other\nCOPY --from=|", vec!["base", "other"]),
        ("FROM a AS base\nFROM b|", vec!["base"]),
        ("FROM a |", vec!["AS"]),
        ("ARG one=1\nFROM a\nENV two=2 \nRUN echo $|", vec!["one", "two"]),
        ("FROM a\nENV two=2\nCOPY ${tw|", vec!["two"]),
        ("FROM a\nCOPY \\\n  --par|", vec!["--parents"]),
        ("FROM a\nONBUILD RUN --net|", vec!["--network"]),
        ("FROM a\nHEALTHCHECK --interval=5s |", vec!["CMD", "NONE"]),
        ("FROM a\n# RU|", vec![]),
        ("FROM a\nRUN <<E\nRU|\nE\n", vec![]),
        ("FROM a\nINC|", vec![]),
        ("# slipway: extensions\nFROM a\nINC|", vec!["INCLUDE"]),
        ("# slipway: extensions\nFROM a\nUNSET work|", vec!["workdir"]),
    ] {
        let found: Vec<_> = labels(text)
            .into_iter()
            .filter(|label| !label.starts_with("TARGET") && !label.starts_with("BUILD"))
            .collect();
        assert_eq!(found, expected, "{text}");
    }
    let answer = ask("FROM a\nCOPY --li|", "textDocument/completion");
    let edit = &answer["result"]["items"][0]["textEdit"];
    assert_eq!(edit["range"]["start"], json!({"line": 1, "character": 5}));
}

#[test]
fn definitions_are_found() {
    for (text, expected) in [
        ("FROM a AS base\nFROM ba|se\n", (0, 10)),
        ("FROM a AS base\nFROM b\nCOPY --from=ba|se a b\n", (0, 10)),
        ("FROM a AS base\nFROM b\nRUN --mount=from=BA|SE,target=/x a\n", (0, 10)),
        ("FROM a\nARG x=1 yy=2\nENV z=${y|y}\n", (1, 8)),
        ("FROM a\nENV x=1 yy=2\nRUN echo $y|y\n", (1, 8)),
    ] {
        let answer = ask(text, "textDocument/definition");
        let (line, character) = expected;
        assert_eq!(
            answer["result"]["range"]["start"],
            json!({"line": line, "character": character}),
            "{text}"
        );
    }
    assert_eq!(ask("FROM a\nRUN ba|se\n", "textDocument/definition")["result"], Value::Null);
}

#[test]
fn formats_documents() {
    let (mut server, _) = open("from   a\n");
    let ask = |server: &mut Server| {
        let params = json!({"textDocument": {"uri": URI}, "options": {"tabSize": 4}});
        server.handle(&json!({"id": 1, "method": "textDocument/formatting", "params": params})).remove(0)
    };
    assert_eq!(ask(&mut server)["result"][0]["newText"], "FROM a\n");
    let change = json!({"textDocument": {"uri": URI}, "contentChanges": [{"text": "FORM a\n"}]});
    server.handle(&json!({"method": "textDocument/didChange", "params": change}));
    assert_eq!(ask(&mut server)["error"]["code"], -32803);
}

#[test]
fn large_documents_are_refused() {
    let (server, sent) = open(&"#\n".repeat(MAX_DOCUMENT_BYTES));
    assert_eq!(sent["method"], "window/showMessage");
    assert!(server.documents.is_empty());
}

/// The tables here and the judge's must name the same flags and keys.
#[test]
fn the_texts_cover_the_language() {
    for keyword in crate::Keyword::ALL {
        assert!(docs::instruction(keyword.name()).is_some(), "{keyword:?}");
        let probe = format!("FROM a\n{} --no-such-flag-at-all CMD x\n", keyword.name());
        let found = lower(&parse(&probe).file).diagnostics;
        let expected =
            found.iter().find(|found| found.code == "E0201").and_then(|found| found.expected.clone());
        for flag in
            expected.iter().flat_map(|text| text.split([' ', ','])).filter(|word| word.starts_with("--"))
        {
            assert!(docs::flags(keyword.name()).any(|known| known.1 == flag), "{keyword:?} {flag}");
        }
        for (_, flag, _) in docs::flags(keyword.name()).filter(|flag| flag.1 != "--optional") {
            assert!(expected.as_ref().is_some_and(|text| text.contains(flag)), "{keyword:?} {flag}");
        }
    }
    for (_, key, _) in docs::MOUNT_KEYS {
        assert!(crate::mount::RunMount::check(&format!("{key}=1")).is_ok(), "{key}");
    }
}
