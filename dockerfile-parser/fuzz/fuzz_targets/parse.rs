//! Any text, through everything that reads text.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::json;
use slipway_dockerfile::{Expander, extension, format, lower, lsp, parse, parse_onbuild};

/// Opens the text in an editor and asks about a few places.
fn edit(text: &str) {
    let mut server = lsp::Server::new();
    server.handle(&json!({"id": 0, "method": "initialize"}));
    let document = json!({"uri": "file:///Dockerfile", "text": text});
    server.handle(&json!({"method": "textDocument/didOpen", "params": {"textDocument": document}}));
    for (line, character) in [(0, 3), (1, 0), (1, 9), (2, 5), (3, 20)] {
        for method in ["hover", "completion", "definition"] {
            let position = json!({"line": line, "character": character});
            let params = json!({"textDocument": document, "position": position});
            let method = format!("textDocument/{method}");
            let replies = server.handle(&json!({"id": 1, "method": method, "params": params}));
            assert!(replies.len() == 1 && replies[0]["error"].is_null());
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let parsed = parse(text);
    let lowered = lower(&parsed.file);
    let _ = slipway_dockerfile::json::tree(&parsed.file);
    let _ = slipway_dockerfile::json::diagnostics(&parsed.diagnostics, text);
    for found in parsed.diagnostics.iter().chain(&lowered.diagnostics).take(5) {
        let _ = found.render(text, "Dockerfile", false);
    }
    let lookup = |name: &str| (name.len() % 2 == 1).then(|| "a*b/c\\".to_owned());
    for escape in ['\\', '`'] {
        let expander = Expander::new(escape);
        let _ = expander.expand(text, &lookup);
        let _ = expander.expand_raw(text, &lookup);
        let _ = expander.split(text, &lookup);
        let _ = parse_onbuild(text, escape);
    }
    for indent_shell in [false, true] {
        let style = format::Style { indent_shell };
        if let Ok(tidy) = format::format_with(text, style) {
            assert_eq!(format::format_with(&tidy, style).as_ref(), Ok(&tidy), "formatting is not settled");
            let same = format::same_meaning(&parsed.file, &parse(&tidy).file);
            assert!(same || indent_shell, "formatting changed the meaning:\n{tidy}");
        }
    }
    edit(text);
    let extended = format!("# slipway: extensions\n{text}");
    let mut loader = |path: &str| Ok(format!("RUN {path}\nINCLUDE {path}x\n{text}"));
    let _ = extension::lower(&extended, &mut loader);
    let mut loader = |path: &str| Ok(format!("RUN {path}"));
    if let Ok(plain) = extension::lower(&extended, &mut loader) {
        assert_eq!(plain.text.split_inclusive('\n').count(), plain.source_map.len());
        assert!(!parse(&plain.text).has_errors(), "lowering made errors:\n{}", plain.text);
        let again = extension::lower(&plain.text, &mut loader).map(|again| again.text);
        assert_eq!(again.as_ref(), Ok(&plain.text), "lowering is not settled");
    }
});
