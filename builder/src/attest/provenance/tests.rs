use super::*;
use crate::{SecretSource, tests::request};
use slipway_oci::Digest;

fn provenance(mode: Mode) -> Value {
    let mut request = request("FROM scratch\nRUN echo hunter2\n");
    request.recipe_name = "/home/somebody/project/docker/Dockerfile".to_owned();
    request.context = Some("/home/somebody/project".into());
    request.build_args = [
        ("TOKEN", "ghp_abc"),
        ("PROXY", "http://me:word@proxy:3128"),
        ("PASS", "hunter2"),
        ("GIT", "https://host/a?access_token=ghs_x&b=1#c"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    request.secrets.insert("npm".to_owned(), SecretSource::Value(b"hunter2\n".to_vec()));
    let materials = [
        Material::Image {
            uri: "pkg:docker/a@1?platform=linux%2Famd64".to_owned(),
            digest: Digest::sha256(b""),
        },
        Material::Git { url: "https://user:pass@host/r.git#main".to_owned(), commit: "c0ffee".to_owned() },
    ];
    let record = BuildRecord::default();
    let vcs = Vcs { source: None, revision: "beef".to_owned() };
    Provenance {
        mode,
        builder_id: None,
        reproducible: false,
        version: "1",
        request: &request,
        record: &record,
        materials: &materials,
        source: None,
        vcs: Some(&vcs),
        times: (0, 1),
        invocation: None,
    }
    .predicate()
}

#[test]
fn the_smallest_form_tells_no_secrets_arguments_or_places() {
    let min = provenance(Mode::Min);
    let text = min.to_string();
    for word in ["hunter2", "ghp_", "me:word", "user:pass", "npm", "TOKEN", "somebody", "RUN"] {
        assert!(!text.contains(word), "{word}: {text}");
    }
    let definition = &min["buildDefinition"];
    assert_eq!(definition["externalParameters"]["configSource"]["path"], "docker/Dockerfile");
    assert_eq!(definition["resolvedDependencies"][1]["uri"], "https://***@host/r.git#main");
    assert_eq!(min["runDetails"]["metadata"]["startedOn"], "1970-01-01T00:00:00Z");
    assert_eq!(min["runDetails"]["metadata"]["slipway_metadata"]["vcs"]["revision"], "beef");
}

#[test]
fn the_largest_form_tells_all_but_secrets() {
    let max = provenance(Mode::Max);
    let text = max.to_string();
    for word in ["hunter2", "me:word", "user:pass", "somebody", "ghs_x"] {
        assert!(!text.contains(word), "{word}: {text}");
    }
    let request = &max["buildDefinition"]["externalParameters"]["request"];
    assert_eq!(request["args"]["build-arg:TOKEN"], "ghp_abc", "an argument is as it was given");
    assert_eq!(request["args"]["build-arg:PROXY"], "http://***@proxy:3128");
    assert_eq!(request["args"]["build-arg:PASS"], "***");
    assert_eq!(request["args"]["build-arg:GIT"], "https://host/a?access_token=***&b=1#c");
    assert_eq!(request["secrets"], json!([{ "id": "npm" }]));
    assert_eq!(max["runDetails"]["metadata"]["slipway_completeness"]["request"], true);
}
