//! Files of buildx' documentation, with what it says of them.

use super::*;
use serde_json::{Value, json};

fn environment(name: &str) -> Option<String> {
    [("FROM_ENV", "env"), ("FLAG", "true"), ("COUNT", "3"), ("LIST", "a,b"), ("TAG", "v9")]
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, value)| (*value).to_owned())
}

fn planned(files: &[(&str, &str)], names: &[&str], set: &[&str]) -> Result<Plan, String> {
    let mut definition = Definition::default();
    for (name, text) in files {
        definition.add(name, text, &environment).map_err(|error| slipway_oci::error::chain(&error))?;
    }
    let owned = |all: &[&str]| all.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let asked = Asked { names: owned(names), set: owned(set), ..Asked::default() };
    plan(&definition, &asked, &environment).map_err(|error| slipway_oci::error::chain(&error))
}

fn hcl(text: &str, names: &[&str]) -> Value {
    planned(&[("docker-bake.hcl", text)], names, &[])
        .unwrap_or_else(|words| panic!("{words}\n{text}"))
        .shown()
}

fn fails(text: &str) -> String {
    planned(&[("docker-bake.hcl", text)], &[], &[]).expect_err(text)
}

#[test]
fn targets_groups_and_defaults() {
    let text = r#"
        group "default" { targets = ["webapp", "checks"] }
        group "checks" { targets = ["lint"] }
        target "webapp" {
          description = "The app"
          dockerfile = "Dockerfile.webapp"
          tags = ["docker.io/username/webapp:latest", ""]
          output = ["type=image,push=true", "out"]
          cache-from = ["user/app:cache", { type = "gha" }]
          secret = [{ id = "a", src = "f" }]
        }
        target "lint" {
target = "lint"
args = { VERSION = 1, NONE = null }
}
    "#;
    assert_eq!(
        hcl(text, &[]),
        json!({
            "group": {"checks": {"targets": ["lint"]}, "default": {"targets": ["webapp", "checks"]}},
            "target": {
                "lint": {"context": ".", "dockerfile": "Dockerfile", "args": {"VERSION": "1"}, "target": "lint"},
                "webapp": {
                    "description": "The app", "context": ".", "dockerfile": "Dockerfile.webapp",
                    "tags": ["docker.io/username/webapp:latest"],
                    "cache-from": [{"type": "registry", "ref": "user/app:cache"}, {"type": "gha"}],
                    "secret": [{"id": "a", "src": "f"}],
                    "output": [{"type": "image", "push": "true"}, {"type": "local", "dest": "out"}],
                },
            },
        })
    );
    assert_eq!(hcl(text, &["lint"])["group"], json!({"default": {"targets": ["lint"]}}));
}

#[test]
fn what_is_inherited_goes_beneath() {
    let text = r#"
        target "_common" {
args = { GO_VERSION = VERSION, BASE = "x" }
cache-from = ["type=gha"]
tags = ["common"]
}
        target "lint" {
inherits = ["_common"]
dockerfile = "./dockerfiles/lint.Dockerfile"
}
        target "release" {
          inherits = ["_common", "more"]
          args = { BASE = "${TAG}-y" }
          platforms = ["linux/amd64", "linux/arm64"]
        }
        target "more" {
cache-from = ["type=local,src=c"]
tags = ["more"]
}
        variable "VERSION" { default = "1.22" }
        variable "TAG" { default = "old" }
        group "default" { targets = ["lint", "release"] }
    "#;
    let shown = hcl(text, &[]);
    assert_eq!(shown["target"]["lint"]["args"], json!({"BASE": "x", "GO_VERSION": "1.22"}));
    assert_eq!(shown["target"]["release"]["args"], json!({"BASE": "v9-y", "GO_VERSION": "1.22"}));
    assert_eq!(shown["target"]["release"]["tags"], json!(["more"]));
    assert_eq!(
        shown["target"]["release"]["cache-from"],
        json!([{"type": "gha"}, {"type": "local", "src": "c"}])
    );
}

#[test]
fn a_matrix_is_targets_and_a_group() {
    let text = r#"
        target "app" {
          name = "app-${tgt}-${replace(item.version, ".", "-")}"
          matrix = { tgt = ["foo", "bar"], item = [{ version = "1.0" }, { version = "2.0" }] }
          target = tgt
          args = { V = item.version }
        }
    "#;
    let shown = hcl(text, &["app"]);
    let names = ["app-foo-1-0", "app-bar-1-0", "app-foo-2-0", "app-bar-2-0"];
    assert_eq!(shown["group"]["app"]["targets"], json!(names));
    assert_eq!(shown["target"]["app-bar-2-0"]["args"], json!({"V": "2.0"}));
    assert_eq!(shown["target"]["app-bar-2-0"]["target"], "bar");
    assert!(fails(r#"target "default" { matrix = { a = ["x"] } }"#).contains("needs `name`"));
    assert!(
        fails("target \"default\" {\n name = \"y\"\n matrix = { a = [\"x\", \"z\"] }\n}")
            .contains("two targets")
    );
}

#[test]
fn variables_have_types_rules_and_callers() {
    let text = r#"
        variable "FLAG" { default = false }
        variable "COUNT" {
type = number
default = 1
}
        variable "LIST" {
type = list(string)
default = []
}
        variable "OTHER" { default = "${FROM_ENV}-${COUNT + 1}" }
        variable "FROM_ENV" { default = "file" }
        owner = "me"
        target "default" {
          args = { A = FLAG ? "yes" : "no", B = COUNT * 2, C = join("/", LIST), D = OTHER, E = "${owner}!" }
          no-cache = FLAG
        }
    "#;
    let shown = hcl(text, &[]);
    let args = json!({"A": "yes", "B": "6", "C": "a/b", "D": "env-4", "E": "me!"});
    assert_eq!(
        (&shown["target"]["default"]["args"], &shown["target"]["default"]["no-cache"]),
        (&args, &json!(true))
    );
    for (text, words) in [
        (r#"variable "COUNT" { type = bool }"#, "not of the type bool"),
        (
            r#"variable "X" {
default = []
type = number
}"#,
            "a list, and its type number",
        ),
        (
            r#"variable "X" {
default = ""
validation {
condition = X != ""
error_message = "X is needed"
}
}"#,
            "variable `X`: X is needed",
        ),
        (
            r#"variable "X" { default = Y }
variable "Y" { default = X }"#,
            "needs its own value",
        ),
        (r#"variable "X" { what = 1 }"#, "no attribute `what`"),
    ] {
        let found = fails(&format!("{text}\ntarget \"default\" {{}}"));
        assert!(found.contains(words), "{text}: {found}");
    }
}

#[test]
fn functions_and_expressions() {
    let text = r#"
        function "increment" {
params = [n]
result = n + 1
}
        function "tags" {
          params = [repo]
          variadic_params = names
          result = [for name in names : "${repo}:${lower(name)}"]
        }
        target "default" {
          args = {
            a = increment(increment(1))
            b = "%{ if true }x%{ else }y%{ endif }-%{ for k, v in { q = 1 } }${k}${v}%{ endfor }"
            c = upper(substr("hello", 1, 3))
            d = format("%s-%03d-%q", "a", 7, "b")
            e = join(",", sort(distinct(["b", "a", "b"])))
            f = can(nothing) ? "1" : "2"
            g = [1, 2, 3][1]
            h = { x = { y = "deep" } }.x["y"]
            i = join(",", [for o in [{ n = "p" }, { n = "q" }] : o.n])
            j = join(",", [{ n = "r" }, { n = "s" }][*].n)
            k = try(nothing.at.all, "fallback")
            l = jsonencode({ a = [1, true, null] })
            m = !(1 > 2) && "a" == "a" || false
            n = 7 / 2
            o = -5 % 3
            p = <<-EOT
              indented
            EOT
          }
          tags = tags("r/x", "A", "B")
        }
    "#;
    let shown = hcl(text, &[]);
    let args = &shown["target"]["default"]["args"];
    for (name, value) in [
        ("a", "3"),
        ("b", "x-q1"),
        ("c", "ELL"),
        ("d", "a-007-\"b\""),
        ("e", "a,b"),
        ("f", "2"),
        ("g", "2"),
        ("h", "deep"),
        ("i", "p,q"),
        ("j", "r,s"),
        ("k", "fallback"),
        ("l", r#"{"a":[1,true,null]}"#),
        ("m", "true"),
        ("n", "3.5"),
        ("o", "-2"),
    ] {
        assert_eq!(args[name], value, "{name}");
    }
    assert_eq!(args["p"].as_str().unwrap().trim(), "indented");
    assert_eq!(shown["target"]["default"]["tags"], json!(["r/x:a", "r/x:b"]));
    for (text, words) in [
        (
            r#"target "default" { args = { a = nofn(1) } }"#,
            "`args` of target `default`: there is no function `nofn`",
        ),
        (r#"target "default" { args = { a = novar } }"#, "no variable `novar`"),
        (r#"target "default" { args = { a = 1 / 0 } }"#, "divided by 0"),
        (r#"target "default" { what = 1 }"#, "no attribute `what`"),
        (r#"target "default" { inherits = ["none"] }"#, "no target or group `none`"),
        (r#"target "default" { inherits = ["default"] }"#, "refers to itself"),
        (r#"target "default" { contexts = { x = "target:default" } }"#, "refers to itself"),
        (r#"group "default" { targets = ["default"] }"#, "refers to itself"),
        (
            r#"function "f" {
params = []
result = f()
}
target "default" { args = { a = f() } }"#,
            "too deep",
        ),
        (r#"target "default" { args = { a = join("", range(99999999)) } }"#, "too many"),
        (r#"target "a b" {}"#, "no name of a target"),
        (r#"target "default" {"#, "cannot be read"),
        (r#"what "x" {}"#, "no block `what`"),
    ] {
        let found = fails(text);
        assert!(found.contains(words), "{text}: {found}");
    }
    assert!(fails(r#"target "a" {}"#).contains("no target or group `default`"));
}

#[test]
fn files_go_over_one_another_and_callers_over_them() {
    let first = r#"
        target "app" {
          args = { A = "1", B = "1" }
          tags = ["one"]
          context = "first"
        }
        target "other" {}
    "#;
    let second = r#"{"target": {"app": {"args": {"B": "${TAG}"}, "tags": ["two"]}}, "variable": {"TAG": {"default": "x"}}}"#;
    let files = [("docker-bake.hcl", first), ("docker-bake.override.json", second)];
    let shown = |set: &[&str]| planned(&files, &["app", "other"], set).unwrap().shown()["target"].clone();
    let app = shown(&[])["app"].clone();
    assert_eq!(
        app,
        json!({"context": "first", "dockerfile": "Dockerfile", "args": {"A": "1", "B": "v9"}, "tags": ["two"]})
    );
    let set = [
        "*.args.C=3",
        "app.args.A=2",
        "o*.platform=linux/arm64",
        "app.tags=x",
        "app.tags=y",
        "*.output=type=registry",
        "app.no-cache=true",
        "app.context=c",
        "app.labels.l=m",
    ];
    let all = shown(&set);
    assert_eq!(all["app"]["args"], json!({"A": "2", "B": "v9", "C": "3"}));
    assert_eq!((&all["app"]["tags"], &all["app"]["context"]), (&json!(["x", "y"]), &json!("c")));
    assert_eq!((&all["app"]["labels"], &all["app"]["no-cache"]), (&json!({"l": "m"}), &json!(true)));
    assert_eq!(all["other"]["platforms"], json!(["linux/arm64"]));
    assert_eq!(all["other"]["output"], json!([{"type": "registry"}]));
    assert_eq!(shown(&["app.tags+=z"])["app"]["tags"], json!(["two", "z"]));
    for (set, words) in [
        ("nobody.args.x=1", "no target is called"),
        ("app", "TARGET.ATTRIBUTE"),
        ("app.what=1", "no attribute `what`"),
    ] {
        let found = planned(&files, &["app"], &[set]).expect_err(set);
        assert!(found.contains(words), "{found}");
    }
}

#[test]
fn contexts_that_are_targets_come_first() {
    let text = r#"
        target "app" { contexts = { base = "target:base", alpine = "docker-image://alpine:3" } }
        target "base" { contexts = { x = "target:deep" } }
        target "deep" {}
    "#;
    let plan = planned(&[("docker-bake.hcl", text)], &["app"], &[]).unwrap();
    let order: Vec<&str> = plan.targets.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(order, ["deep", "base", "app"]);
    assert_eq!(Plan::contexts(&plan.targets[2].1), [("base".to_owned(), "base".to_owned())]);
}

#[test]
fn compose_files_are_targets() {
    let text = r#"
services:
  web.app:
    image: "user/web:${TAG:-latest}"
    build:
      context: ./dir
      dockerfile: Dockerfile-alternate
      args:
        buildno: 123
        from: $FROM_ENV
        COUNT:
      labels: ["a=b"]
      cache_from: ["user/web:cache"]
      secrets: [token]
      additional_contexts: ["res=../res"]
      x-bake:
        platforms: [linux/amd64, linux/arm64]
        tags: ["ct:1", "ct:2"]
        secret: ["id=other,src=f"]
  db:
    image: postgres
  worker:
    build: ./worker
    image: user/worker
secrets:
  token:
    environment: "FROM_ENV"
"#;
    let shown = planned(&[("compose.yaml", text)], &[], &[]).unwrap().shown();
    assert_eq!(shown["group"]["default"]["targets"], json!(["web_app", "worker"]));
    assert_eq!(
        shown["target"]["web_app"],
        json!({
            "context": "./dir", "contexts": {"res": "../res"}, "dockerfile": "Dockerfile-alternate",
            "args": {"COUNT": "3", "buildno": "123", "from": "env"}, "labels": {"a": "b"}, "tags": ["ct:1", "ct:2"],
            "cache-from": [{"type": "registry", "ref": "user/web:cache"}],
            "secret": [{"id": "other", "src": "f"}],
            "platforms": ["linux/amd64", "linux/arm64"],
        })
    );
    assert_eq!(
        shown["target"]["worker"],
        json!({"context": "./worker", "dockerfile": "Dockerfile", "tags": ["user/worker"]})
    );
    for (text, words) in [
        ("services: [", "cannot be read"),
        ("services:\n  a:\n    build: {context: '${X:?say it}'}", "`X` is needed: say it"),
        ("services:\n  a:\n    build: {secrets: [none]}", "no secret `none`"),
    ] {
        let found = planned(&[("compose.yaml", text)], &[], &[]).expect_err(text);
        assert!(found.contains(words), "{text}: {found}");
    }
}

#[test]
fn lists_as_flags_take_them() {
    let text = r#"
        target "default" {
          output = [{ type = "image", name = "a,b" }, "type=tar,dest=x"]
          ssh = ["default", "k=/s"]
        }
    "#;
    let plan = planned(&[("docker-bake.hcl", text)], &[], &[]).unwrap();
    let target = &plan.targets[0].1;
    assert_eq!(target.list("output"), ["type=image,\"name=a,b\"", "type=tar,dest=x"]);
    assert_eq!(target.list("ssh"), ["id=default", "id=k,paths=/s"]);
}
