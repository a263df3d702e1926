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
