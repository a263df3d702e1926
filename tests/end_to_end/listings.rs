//! What lists or inspects: docker's keys, forms and filters.

use crate::support::Slipway;
use serde_json::Value;

/// A store with `base`, `app:1` and `app:2`, the last with a label, and one image without a name.
fn stocked() -> Slipway {
    let slipway = Slipway::new();
    for (name, recipe) in [
        ("app:1", "FROM base\nCOPY a /a\nENV A=1\n"),
        ("app:2", "FROM base\nLABEL team=blue\nCOPY a /b\n"),
        ("gone", "FROM base\nENV GONE=1\n"),
    ] {
        slipway.build(name, recipe, &[("a", "content")]).ok();
    }
    slipway.build("gone", "FROM base\nENV GONE=2\n", &[("a", "content")]).ok();
    slipway
}

#[test]
fn images_are_filtered_and_shaped() {
    let slipway = stocked();
    let names = |arguments: &[&str]| {
        let given = ["images", "--format", "{{.Repository}}:{{.Tag}}"].iter().chain(arguments);
        let mut names: Vec<String> = slipway.ok(given).lines().map(str::to_owned).collect();
        names.sort();
        names.join(" ")
    };
    for (arguments, expected) in [
        (&["-f", "dangling=true"][..], "<none>:<none>"),
        (&["--filter", "label=team"], "app:2"),
        (&["--filter", "label=team=red"], ""),
        (&["--filter", "reference=app:*"], "app:1 app:2"),
        (&["--filter", "reference=app", "--filter", "label=team=blue"], "app:2"),
        (&["-a", "app:1"], "app:1"),
    ] {
        assert_eq!(names(arguments), expected, "{arguments:?}");
    }
    let message = slipway.run(["images", "--filter", "size=5"]).fails(2);
    assert!(message.contains("dangling, label, reference"), "{message}");
    slipway.run(["images", "--filter", "before=nosuch"]).fails(1);

    let table = slipway.ok(["images", "--format", "table {{.Tag}}\\t{{.ID}}", "app"]);
    assert!(table.starts_with("TAG   IMAGE ID\n"), "{table}");
    assert_eq!(table.lines().count(), 3);
    for line in slipway.ok(["images", "--format", "json"]).lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        let keys: Vec<&str> = row.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(
            keys,
            [
                "Containers",
                "CreatedAt",
                "CreatedSince",
                "Digest",
                "ID",
                "Repository",
                "SharedSize",
                "Size",
                "Tag",
                "UniqueSize",
                "VirtualSize"
            ],
            "docker's"
        );
        assert!(row["CreatedAt"].as_str().unwrap().ends_with(" +0000 UTC"), "{row}");
    }
    let ids = slipway.ok(["images", "-q", "--no-trunc"]);
    assert!(ids.lines().all(|id| id.starts_with("sha256:") && id.len() == 71), "{ids}");
    assert!(slipway.ok(["images", "--digests"]).lines().next().unwrap().contains("DIGEST"));
}

#[test]
fn an_image_tells_what_it_was_made_by() {
    let slipway = stocked();
    let rows: Vec<Value> = slipway
        .ok(["history", "--no-trunc", "--format", "json", "app:1"])
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let by: Vec<&str> = rows.iter().map(|row| row["CreatedBy"].as_str().unwrap()).collect();
    assert!(by[0].contains("ENV A=1") && by[1].contains("COPY"), "the last step first: {by:?}");
    let id = slipway.ok(["inspect", "--format", "{{.Id}}", "app:1"]);
    assert_eq!(rows[0]["ID"], id.trim());
    assert!(rows[1..].iter().all(|row| row["ID"] == "<missing>"));
    assert_eq!(rows[0]["Size"], "0B");
    let bytes = slipway.ok(["history", "--human=false", "--format", "{{.Size}}", "app:1"]);
    assert!(bytes.lines().nth(1).unwrap().parse::<u64>().unwrap() > 0, "{bytes}");
    let table = slipway.ok(["history", "app:1"]);
    assert!(table.starts_with("IMAGE "), "{table}");
    assert_eq!(slipway.ok(["image", "history", "-q", "app:1"]).lines().count(), rows.len());
    slipway.run(["history", "nosuch"]).fails(1);
}

#[test]
fn the_program_and_the_machine_are_described() {
    let slipway = Slipway::empty();
    let version = slipway.ok(["version", "--format", "{{.Client.Version}}"]);
    assert_eq!(slipway.ok(["--version"]), format!("slipway {version}"));
    let all: Value = serde_json::from_str(&slipway.ok(["version", "-f", "json"])).unwrap();
    assert_eq!(all["Server"]["Version"], version.trim());
    assert!(all["Machine"]["Sandbox"].is_string() && all["Features"].is_array(), "{all}");
    let text = slipway.ok(["version"]);
    for word in ["Version:", "Commit:", "Features:", "Sandbox:", "Kernel:"] {
        assert!(text.contains(word), "{word} in\n{text}");
    }
    assert!(!slipway.root.exists(), "a version needs no store");
    for template in [
        "{{.ServerVersion}}",
        "{{.OSType}}/{{.Architecture}}",
        "{{.NCPU}}",
        "{{.Driver}}",
        "{{.DockerRootDir}}",
    ] {
        assert!(!slipway.ok(["info", "--format", template]).trim().is_empty(), "{template}");
    }
}

#[test]
fn contexts_are_listed_as_json_too() {
    let slipway = Slipway::empty();
    let folder = crate::support::scratch();
    std::fs::create_dir(folder.path().join("sub")).unwrap();
    std::fs::write(folder.path().join("sub/odd \"name\""), "").unwrap();
    let listed = slipway.ok(["context", "ls", "--format", "json", folder.path().to_str().unwrap()]);
    let listed: Vec<String> = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed, ["sub", "sub/odd \"name\""]);
}
