//! Recipes and what becomes of them: listing and configuration of the built image against written-down expectations.
//!
//! A file of tests/conformance/ is a group of cases; [`case`] tells its form. Expectations are either recorded from
//! Debian's buildah (`by: buildah 1.28.2`) or written from BuildKit's known rules (`by: §1.8.4`, a section of the notes
//! that docs/compatibility.md sums up). Where slipway differs from buildah on purpose, the case says why (`differs:`)
//! and keeps what buildah made under `--- buildah`.
//!
//! `SLIPWAY_RECORD=buildah cargo test --test conformance` records the buildah parts anew; it needs root and buildah.
//! `SLIPWAY_RECORD=slipway` fills in the expectations of new cases that are not buildah's, for reading and correcting.
//! `SLIPWAY_CASE=part of a name` runs only those cases; `SLIPWAY_LEVELS=all` all of them at each level of the sandbox.

#[path = "conformance/buildah.rs"]
mod buildah;
#[path = "conformance/buildkit.rs"]
mod buildkit;
#[path = "conformance/case.rs"]
mod case;
#[path = "conformance/file_server.rs"]
mod file_server;
#[path = "conformance/harness.rs"]
mod harness;
#[path = "conformance/layers.rs"]
mod layers;
#[path = "conformance/listing.rs"]
mod listing;
#[path = "support/mod.rs"]
#[allow(dead_code, unreachable_pub, missing_docs)]
// a library of its own, not all of which every program uses
mod support;

macro_rules! groups {
    ($($name:ident $file:literal)+) => {
        $(#[test]
        fn $name() {
            slipway_skip::need_root!();
            harness::group($file, harness::Level::Root);
        })+

        #[test]
        fn no_group_is_left_out() {
            let mut there: Vec<String> = std::fs::read_dir(case::folder()).unwrap().flatten()
                .filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".txt").map(str::to_owned)).collect();
            there.sort();
            assert_eq!(there, [$($file),+]);
        }

        #[test]
        fn there_are_enough_cases() {
            let all: Vec<case::Case> = [$($file),+].iter().flat_map(|file| case::read(file).1).collect();
            let recorded = all.iter().filter(|case| case.by().starts_with("buildah")).count();
            assert!(all.len() >= 120 && recorded >= 40, "{} cases, {recorded} of them recorded", all.len());
            for case in &all {
                let (name, has) = (&case.name, |title| case.section(title).is_some());
                assert!(!case.by().is_empty(), "`{name}` does not say where its expectation is from");
                assert!(has("expect") != has("fails"), "`{name}` must either expect or fail");
                assert_eq!(has("buildah"), case.key("differs").is_some(), "`{name}` and its reason to differ");
            }
        }
    };
}

groups! {
    privileged_add "add"
    privileged_arguments "arguments"
    privileged_buildkit_archives "buildkit_archives"
    privileged_buildkit_matrix "buildkit_matrix"
    privileged_buildkit_owners "buildkit_owners"
    privileged_buildkit_selection "buildkit_selection"
    privileged_buildkit_sources "buildkit_sources"
    privileged_buildkit_variables "buildkit_variables"
    privileged_buildkit_workdir "buildkit_workdir"
    privileged_configuration "configuration"
    privileged_contexts "contexts"
    privileged_copy "copy"
    privileged_copy_flags "copy_flags"
    privileged_ignore "ignore"
    privileged_mounts "mounts"
    privileged_onbuild "onbuild"
    privileged_run "run"
    privileged_stages "stages"
    privileged_user_and_workdir "user_and_workdir"
}

/// Each row of docs/compatibility.md names a group that is there, and what it says of BuildKit without a mark is held by a
/// group with cases of BuildKit's.
#[test]
fn the_compatibility_page_says_where_it_is_from() {
    let page = include_str!("../docs/compatibility.md");
    let mut about_buildkit = false;
    let mut rows = 0;
    for line in page.lines().filter(|line| line.starts_with('|') && !line.starts_with("|---")) {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        assert_eq!(cells.len(), 5, "{line}");
        if cells[0] == "Topic" {
            about_buildkit = cells[1] == "BuildKit";
            continue;
        }
        let tests = cells[4].replace("conformance/", "");
        let names = || tests.split(", ");
        let groups: Vec<&str> =
            names().filter(|name| case::folder().join(format!("{name}.txt")).exists()).collect();
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        for name in names().filter(|name| !groups.contains(name)) {
            let kinds = ["", ".rs", ".txt"].map(|kind| format!("{name}{kind}"));
            let places =
                kinds.iter().flat_map(|path| [path.clone(), format!("tests/{path}"), format!("src/{path}")]);
            assert!(places.into_iter().any(|path| root.join(path).exists()), "no test `{name}`: {line}");
        }
        let marked = ["°", "(by its code)", "(seen by the issue's author)", "–"];
        if about_buildkit && !marked.iter().any(|mark| cells[1].ends_with(mark)) {
            let cases = groups.iter().flat_map(|group| case::read(group).1);
            assert!(
                cases.into_iter().any(|case| case.by().contains("BuildKit")),
                "not seen and not marked: {line}"
            );
        }
        rows += 1;
    }
    assert!(rows > 80, "{rows} rows");
}

/// What BuildKit builds comes out the same at every level of the sandbox.
macro_rules! levels {
    ($($level:ident $($name:ident $file:literal)+;)+) => {
        $($(#[test]
        fn $name() {
            slipway_skip::need_root!();
            harness::group($file, harness::Level::$level);
        })+)+
    };
}

levels! {
    SubordinateIds
        privileged_subordinate_ids_archives "buildkit_archives"
        privileged_subordinate_ids_matrix "buildkit_matrix"
        privileged_subordinate_ids_owners "buildkit_owners"
        privileged_subordinate_ids_selection "buildkit_selection"
        privileged_subordinate_ids_sources "buildkit_sources"
        privileged_subordinate_ids_variables "buildkit_variables"
        privileged_subordinate_ids_workdir "buildkit_workdir";
    SingleId
        privileged_single_id_archives "buildkit_archives"
        privileged_single_id_matrix "buildkit_matrix"
        privileged_single_id_owners "buildkit_owners"
        privileged_single_id_selection "buildkit_selection"
        privileged_single_id_sources "buildkit_sources"
        privileged_single_id_variables "buildkit_variables"
        privileged_single_id_workdir "buildkit_workdir";
}
