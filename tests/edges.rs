//! The house's edges (docs/architecture.md): which crate may know which, and what may be said where.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The house's crates and the siblings that each may know.
const EDGES: [(&str, &[&str]); 8] = [
    ("slipway-dockerfile", &[]),
    ("slipway-oci", &[]),
    ("slipway-runtime", &["slipway-oci"]),
    ("slipway-registry", &["slipway-oci"]),
    ("slipway-builder", &["slipway-dockerfile", "slipway-oci", "slipway-runtime"]),
    (
        "slipway",
        &["slipway-dockerfile", "slipway-oci", "slipway-runtime", "slipway-builder", "slipway-registry"],
    ),
    ("slipway-skip", &[]),
    ("xtask", &[]),
];

/// Asynchronous crates, at home in the registry alone.
const ASYNCHRONOUS: [&str; 5] = ["tokio", "axum", "reqwest", "oci-client", "futures-util"];

/// Folders of the libraries.
const LIBRARIES: [&str; 5] = ["dockerfile-parser", "oci", "runtime", "builder", "registry"];

fn house() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every workspace crate and what it names as a dependency outside its tests.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .current_dir(house())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let package = |package: &Value| {
        let needed = package["dependencies"].as_array().unwrap().iter().filter(|d| d["kind"].is_null());
        (text(&package["name"]), needed.map(|dependency| text(&dependency["name"])).collect())
    };
    metadata["packages"].as_array().unwrap().iter().map(package).collect()
}

#[test]
fn imports_run_one_way() {
    let found = dependencies();
    let names: BTreeSet<&str> = EDGES.iter().map(|(name, _)| *name).collect();
    assert_eq!(found.keys().map(String::as_str).collect::<BTreeSet<_>>(), names, "a crate without a rule");
    for (name, allowed) in EDGES {
        let siblings: Vec<&String> = found[name].iter().filter(|d| names.contains(d.as_str())).collect();
        for sibling in siblings {
            assert!(allowed.contains(&sibling.as_str()), "`{name}` must not know `{sibling}`");
        }
    }
}

#[test]
fn asynchronous_code_lives_in_the_registry() {
    for (name, needed) in dependencies() {
        for krate in ASYNCHRONOUS {
            assert!(name == "slipway-registry" || !needed.contains(krate), "`{name}` depends on `{krate}`");
        }
    }
}

#[test]
fn chores_need_next_to_nothing() {
    assert_eq!(dependencies()["xtask"].iter().map(String::as_str).collect::<Vec<_>>(), ["serde_json"]);
}

/// The code that is not for tests alone, without comments.
fn without_tests(text: &str) -> String {
    let mut code = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line == "#[cfg(test)]" {
            // an item of one line ends with a semicolon, any other with a brace in the first column
            let mut item = lines.by_ref().skip_while(|line| line.starts_with("#["));
            let is_short = item.next().is_none_or(|line| line.ends_with(';') || line.starts_with('}'));
            if !is_short {
                lines.by_ref().find(|line| line.starts_with('}'));
            }
        } else if !line.trim_start().starts_with("//") {
            code += line;
            code.push('\n');
        }
    }
    code
}

/// Every source file of a folder, with its code.
fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![house().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            let name = entry.file_name().into_string().unwrap();
            if path.is_dir() && name != "tests" {
                folders.push(path);
            } else if path.is_file() && name.ends_with(".rs") && !name.ends_with("tests.rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let code = without_tests(&text);
                found.push((path.strip_prefix(house()).unwrap().to_owned(), code));
            }
        }
    }
    assert!(!found.is_empty(), "no source in {folder}");
    found
}

/// Whether `word` is in `code` as a word of its own.
fn has_word(code: &str, word: &str) -> bool {
    let is_part = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    code.match_indices(word).any(|(at, _)| {
        let bytes = code.as_bytes();
        !is_part(at.checked_sub(1).and_then(|before| bytes.get(before)))
            && !is_part(bytes.get(at + word.len()))
    })
}

#[test]
fn libraries_do_not_talk_to_users() {
    let words = [
        "println!",
        "eprintln!",
        "print!",
        "eprint!",
        "env::args",
        "env::args_os",
        "process::exit",
        "home_dir",
    ];
    for folder in LIBRARIES {
        for (path, code) in sources(&format!("{folder}/src")) {
            for word in words {
                assert!(!has_word(&code, word), "{} says `{word}`", path.display());
            }
        }
    }
}

#[test]
fn unsafe_code_has_one_place() {
    let folders = LIBRARIES.map(|folder| format!("{folder}/src")).into_iter();
    for folder in folders.chain(["src".to_owned(), "xtask/src".to_owned()]) {
        for (path, code) in sources(&folder) {
            let allowed = path.starts_with("runtime/src/sandbox/sys");
            assert!(allowed || !has_word(&code, "unsafe"), "{} has unsafe code", path.display());
        }
    }
    for root in
        ["dockerfile-parser/src/lib.rs", "oci/src/lib.rs", "builder/src/lib.rs", "registry/src/lib.rs"]
            .into_iter()
            .chain(["src/main.rs", "xtask/src/main.rs"])
    {
        let text = std::fs::read_to_string(house().join(root)).unwrap();
        assert!(text.contains("#![forbid(unsafe_code)]"), "{root} does not forbid unsafe code");
    }
}

/// The most lines of code in one file, without tests and comments. Functions have theirs in clippy.toml.
const FILE_LINES: usize = 500;

#[test]
fn files_have_one_subject() {
    let folders = LIBRARIES.map(|folder| format!("{folder}/src")).into_iter();
    for folder in folders.chain(["src".to_owned(), "xtask/src".to_owned()]) {
        for (path, code) in sources(&folder) {
            let lines = code.lines().count();
            assert!(
                lines <= FILE_LINES,
                "{} has {lines} lines of code, the house's most is {FILE_LINES}",
                path.display()
            );
        }
    }
}

/// The modules beside it that the file `code` of the room `room` names, by `use` or in full.
fn named(code: &str, room: &str, is_own_file: bool) -> BTreeSet<String> {
    let absolute = format!("crate::{room}::");
    let mut found = BTreeSet::new();
    for prefix in ["super::", absolute.as_str()] {
        // in folders below, `super` is a module of their own
        if prefix == "super::" && !is_own_file {
            continue;
        }
        for (at, _) in code.match_indices(prefix) {
            let before = code.as_bytes().get(at.wrapping_sub(1));
            if before.is_some_and(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':')) {
                continue;
            }
            let rest = &code[at + prefix.len()..];
            let Some(group) = rest.strip_prefix('{') else {
                found.extend(first_word(rest));
                continue;
            };
            let mut depth = 0;
            for item in group.split_inclusive(['{', '}', ',']) {
                if depth == 0 {
                    found.extend(first_word(item));
                }
                match item.as_bytes().last() {
                    Some(b'{') => depth += 1,
                    Some(b'}') if depth == 0 => break,
                    Some(b'}') => depth -= 1,
                    _ => {}
                }
            }
        }
    }
    found
}

fn first_word(text: &str) -> Option<String> {
    let text = text.trim_start();
    let end =
        text.find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_').unwrap_or(text.len());
    (end > 0).then(|| text[..end].to_owned())
}

/// What is left of a graph once everything that needs nothing of the rest is taken away: its circles.
fn circles(mut graph: BTreeMap<String, BTreeSet<String>>) -> BTreeMap<String, BTreeSet<String>> {
    loop {
        let names: BTreeSet<String> = graph.keys().cloned().collect();
        graph
            .iter_mut()
            .for_each(|(name, needed)| needed.retain(|other| other != name && names.contains(other)));
        let count = graph.len();
        graph.retain(|_, needed| !needed.is_empty());
        if graph.len() == count {
            return graph;
        }
    }
}

#[test]
fn the_server_has_no_circle_of_modules() {
    let room = Path::new("registry/src/server");
    let mut graph: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (path, code) in sources("registry/src/server") {
        let within = path.strip_prefix(room).unwrap();
        let module = within.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs").to_owned();
        let is_own_file = within.iter().count() == 1;
        // the room's own file wires its modules together
        if module != "mod" {
            graph.entry(module).or_default().extend(named(&code, "server", is_own_file));
        }
    }
    let known = graph["dispatch"].contains("access") && graph["endpoint"].contains("call");
    assert!(known && graph["call"].contains("storage"), "{graph:?}");
    assert_eq!(circles(graph), BTreeMap::new());
}

#[test]
fn circles_are_found() {
    let code =
        "use super::{a, b::{c, d}, e::F};\nfn g(x: super::h::I, y: crate::server::{j}) { other::super::k }";
    let named = named(code, "server", true);
    assert_eq!(named.iter().map(String::as_str).collect::<Vec<_>>(), ["a", "b", "e", "h", "j"]);
    let graph = |edges: &[(&str, &str)]| {
        let mut graph: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (from, to) in edges {
            graph.entry((*from).to_owned()).or_default().insert((*to).to_owned());
        }
        graph
    };
    assert!(circles(graph(&[("a", "b"), ("b", "c"), ("a", "c"), ("a", "a")])).is_empty());
    let found = circles(graph(&[("a", "b"), ("b", "c"), ("c", "b"), ("d", "a")]));
    assert!(found.contains_key("b") && found.contains_key("c"));
}

#[test]
fn code_for_tests_is_left_out() {
    let text =
        "use a;\n#[cfg(test)]\nmod tests;\nfn b() {\n}\n// c\n#[cfg(test)]\nmod d {\n    e\n}\nuse f;\n";
    assert_eq!(without_tests(text), "use a;\nfn b() {\n}\nuse f;\n");
}

#[test]
fn words_are_found_as_words() {
    assert!(has_word("a unsafe {", "unsafe") && has_word("println!(x)", "println!"));
    assert!(!has_word("deny(unsafe_code)", "unsafe") && !has_word("eprintln!(x)", "println!"));
}
