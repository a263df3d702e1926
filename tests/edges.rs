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

/// The module that a source file is, as its path from the crate's root.
fn module_of(source: &Path) -> Vec<String> {
    let parts = source.with_extension("");
    let parts = parts.iter().map(|part| part.to_str().unwrap().to_owned());
    parts.filter(|part| !matches!(part.as_str(), "mod" | "lib")).collect()
}

/// Every path that `code` of the module `module` names from `crate` or `super`, by `use` or in full, from the crate's root.
fn named(code: &str, module: &[String]) -> BTreeSet<Vec<String>> {
    let mut found = BTreeSet::new();
    let mut at = 0;
    while at < code.len() {
        let begins = ["crate::", "super::"].iter().any(|prefix| code[at..].starts_with(prefix));
        let before = code.as_bytes().get(at.wrapping_sub(1));
        let is_part = before.is_some_and(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':'));
        if begins && !is_part {
            at = code.len() - tree(&code[at..], module, &[], &mut found).len();
        } else {
            at += code[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    found
}

/// Reads one path, or the group of paths that it ends in, and answers what follows.
fn tree<'a>(
    mut text: &'a str,
    module: &[String],
    before: &[String],
    found: &mut BTreeSet<Vec<String>>,
) -> &'a str {
    let mut path = before.to_vec();
    loop {
        text = text.trim_start();
        if let Some(mut group) = text.strip_prefix('{') {
            while !group.trim_start().starts_with('}') {
                group = tree(group, module, &path, found).trim_start();
                // an `as`, and whatever else is no path
                group = &group[group.find([',', '}']).expect("a group ends")..];
                group = group.strip_prefix(',').unwrap_or(group);
            }
            return &group.trim_start()[1..];
        }
        let end = text.find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
        let (word, rest) = text.split_at(end.unwrap_or(text.len()));
        match word {
            "crate" => path.clear(),
            "super" if path.is_empty() => path.extend_from_slice(&module[..module.len() - 1]),
            "super" => drop(path.pop()),
            "" | "self" => {}
            _ => path.push(word.to_owned()),
        }
        match rest.strip_prefix("::") {
            Some(rest) => text = rest,
            None => {
                found.insert(path);
                return rest;
            }
        }
    }
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
    let mut graph: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (path, code) in sources("registry/src/server") {
        let module = module_of(path.strip_prefix("registry/src").unwrap());
        // the room's own file wires its modules together
        let Some(name) = module.get(1) else { continue };
        let named = named(&code, &module).into_iter().filter(|path| path[..].first() == module.first());
        graph.entry(name.clone()).or_default().extend(named.filter_map(|path| path.into_iter().nth(1)));
    }
    let known = graph["dispatch"].contains("access") && graph["endpoint"].contains("call");
    // of a group in a group
    let known = known && graph["web"].contains("storage");
    assert!(known && graph["call"].contains("storage"), "{graph:?}");
    assert_eq!(circles(graph), BTreeMap::new());
}

#[test]
fn circles_are_found() {
    let code = "use super::{a, b::{c, d as x}, e::F};\nuse crate::{\n    l,\n    room::{m::{self, N}, o},\n};\n\
                pub(in crate::room) fn g(x: super::super::h::I, y: crate::room::{j}) { other::super::k }";
    let module = ["room", "house", "chair"].map(str::to_owned);
    let named = named(code, &module).into_iter().map(|path| path.join("::"));
    let wanted = ["l", "room", "room::h::I", "room::house::a", "room::house::b::c", "room::house::b::d"];
    let more = ["room::house::e::F", "room::j", "room::m", "room::m::N", "room::o"];
    assert_eq!(named.collect::<Vec<_>>(), [&wanted[..], &more[..]].concat());
    assert_eq!(module_of(Path::new("room/house/mod.rs")), ["room", "house"]);
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
