//! Any text, through everything that reads text.
#![no_main]

use libfuzzer_sys::fuzz_target;
use slipway_dockerfile::{Expander, extension, format, json, lower, parse, parse_onbuild};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let parsed = parse(text);
    let lowered = lower(&parsed.file);
    let _ = json::tree(&parsed.file);
    let _ = json::diagnostics(&parsed.diagnostics, text);
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
