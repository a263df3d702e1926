//! Whatever a client sends, the language server stays on its feet.

use proptest::prelude::*;
use serde_json::{Value, json};
use slipway_dockerfile::lsp::Server;

const URI: &str = "file:///Dockerfile";

fn text() -> impl Strategy<Value = String> {
    let pieces = vec![
        "FROM a AS b\n",
        "COPY --from=",
        "RUN --mount=type=",
        "cache,",
        "$",
        "${x",
        "é",
        "😀",
        "\r\n",
        "\n",
        "\\\n",
        "<<E",
        "E\n",
        "ENV x=1 ",
        "ONBUILD ",
        "# ",
        "# slipway: extensions\n",
        "INCLUDE a\n",
        "UNSET env ",
        "`",
        "'",
        " ",
        "--",
        "=",
        "ARG ",
    ];
    proptest::collection::vec(proptest::sample::select(pieces), 0..16).prop_map(|pieces| pieces.concat())
}

fn position() -> impl Strategy<Value = Value> {
    let number = prop_oneof![8 => (0_u64..8).prop_map(Value::from), 1 => any::<i64>().prop_map(Value::from), 1 => Just(json!("x"))];
    (number.clone(), number).prop_map(|(line, character)| json!({"line": line, "character": character}))
}

fn message() -> impl Strategy<Value = Value> {
    let methods =
        vec!["hover", "completion", "definition", "formatting", "didOpen", "didChange", "didClose", "rename"];
    (proptest::sample::select(methods), text(), position(), position(), any::<bool>()).prop_map(|(method, text, start, end, full)| {
        let id = if method.starts_with("did") { Value::Null } else { json!(1) };
        let change = if full { json!({"text": text}) } else { json!({"text": text, "range": {"start": start, "end": end}}) };
        let params = json!({"textDocument": {"uri": URI, "text": text}, "position": start, "contentChanges": [change]});
        json!({"id": id, "method": format!("textDocument/{method}"), "params": params})
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_conversation_is_survived(messages in proptest::collection::vec(message(), 1..20)) {
        let mut server = Server::new();
        server.handle(&json!({"id": 0, "method": "initialize"}));
        for message in &messages {
            let is_request = !message["id"].is_null();
            let replies = server.handle(message);
            prop_assert!(!is_request || (replies.len() == 1 && replies[0]["id"] == 1));
        }
    }
}

#[test]
fn odd_messages_are_survived() {
    let mut server = Server::new();
    let odd = [
        json!(null),
        json!([]),
        json!("x"),
        json!({}),
        json!({"method": 1}),
        json!({"id": {}, "method": "exit"}),
        json!({"id": 1, "method": "initialize", "params": []}),
        json!({"method": "textDocument/didChange", "params": []}),
        json!({"method": "textDocument/didOpen", "params": {"textDocument": {"uri": URI, "text": 5}}}),
        json!({"method": "textDocument/didChange", "params": {"textDocument": {"uri": URI}, "contentChanges": [1, {"range": 1, "text": "x"}]}}),
    ];
    for message in odd {
        server.handle(&message);
    }
}
