//! What reports look like.

use super::{lint, options};
use crate::lint::{RULES, check, json, sarif, text};

const SOURCE: &str = "FROM scratch AS App\nRUN apt-get update && \\\n    apt-get install é\nEXPOSE 99999\n";
const CLEAN: &str = "FROM scratch\nCOPY a /\n";

#[test]
fn json_has_exactly_its_fields() {
    let source = "FROM scratch AS App\nCMD a b\n";
    assert_eq!(
        json(&lint(source), source),
        concat!(
            "{\"warnings\":[{\"rule\":\"StageNameCasing\",\"line\":1,\"column\":17,\"end_line\":1,",
            "\"message\":\"Stage name 'App' should be lowercase\",\"hint\":\"write `app`; names are compared without case\",",
            "\"url\":\"https://docs.docker.com/go/dockerfile/rule/stage-name-casing/\"},",
            "{\"rule\":\"JSONArgsRecommended\",\"line\":2,\"column\":1,\"end_line\":2,",
            "\"message\":\"JSON arguments recommended for CMD to prevent unintended behavior related to OS signals\",",
            "\"hint\":\"write `CMD [\\\"a\\\", \\\"b\\\"]`\",",
            "\"url\":\"https://docs.docker.com/go/dockerfile/rule/json-args-recommended/\"}],\"error\":null}"
        )
    );
    let broken = "FROM scratch\nEXPOSE x\nRUM y\n";
    let value: serde_json::Value = serde_json::from_str(&json(&lint(broken), broken)).unwrap();
    let error = value["error"].as_object().unwrap();
    let keys: Vec<_> = error.keys().map(String::as_str).collect();
    assert_eq!(keys, ["rule", "line", "column", "end_line", "message", "hint", "url"]);
    assert_eq!((error["rule"].as_str(), error["line"].as_u64()), (Some("E0808"), Some(2)));
    assert_eq!(json(&lint(CLEAN), CLEAN), "{\"warnings\":[],\"error\":null}");
}

#[test]
fn text_marks_the_place() {
    let source = "FROM debian:12\nRUN apt-get install -y --no-install-recommends curl=1 && \\\n    cd /app\n";
    assert_eq!(
        text(&lint(source), source, "Dockerfile", false),
        "\
warning[SW2001]: `cd` ends with its RUN: the next instruction begins in WORKDIR again
 --> Dockerfile:3:5
  |
3 |     cd /app
  |     ^^^^^^^
  = note: CdDoesNotLast: see slipway check --explain SW2001
  = hint: use `WORKDIR /app`

1 warning
"
    );
    assert_eq!(text(&lint(CLEAN), CLEAN, "x", false), "no warnings\n");
    let summary = |source: &str| text(&lint(source), source, "x", false).lines().last().unwrap().to_owned();
    assert_eq!(
        summary("# check=error=true\nFROM scratch AS A\n"),
        "1 warning; 1 can be mended with --fix; warnings count as errors here"
    );
    assert_eq!(summary("FROM scratch\nEXPOSE x y\n"), "2 errors");
}

#[test]
fn sarif_is_what_viewers_read() {
    let report = check(SOURCE, &options());
    let value: serde_json::Value =
        serde_json::from_str(&sarif(&report, SOURCE, "Dockerfile", "1.2.3")).unwrap();
    assert_eq!(value["version"], "2.1.0");
    let run = &value["runs"][0];
    assert_eq!(run["tool"]["driver"]["rules"].as_array().unwrap().len(), RULES.len());
    let results = run["results"].as_array().unwrap();
    assert_eq!(results.len(), report.warnings.len() + report.errors.len());
    assert_eq!((results[0]["ruleId"].as_str(), results[0]["level"].as_str()), (Some("E0808"), Some("error")));
    let yes = results.iter().find(|result| result["ruleId"] == "SW1001").unwrap();
    let region = &yes["locations"][0]["physicalLocation"]["region"];
    assert_eq!(
        *region,
        serde_json::json!({"startLine": 3, "startColumn": 13, "endLine": 3, "endColumn": 20})
    );
    let index = yes["ruleIndex"].as_u64().unwrap();
    assert_eq!(run["tool"]["driver"]["rules"][usize::try_from(index).unwrap()]["id"], "SW1001");
    assert_eq!(yes["fixes"][0]["artifactChanges"][0]["replacements"][0]["insertedContent"]["text"], " -y");
}

#[test]
fn the_number_of_warnings_is_bounded() {
    let source = format!("FROM scratch\n{}", "copy a /\nCOPY a /\nCOPY b /\n".repeat(2_000));
    assert_eq!(lint(&source).warnings.len(), 500);
}
