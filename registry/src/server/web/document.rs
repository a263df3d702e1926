//! SBOMs, provenance and signatures, read for people. Whatever else they hold is in the file.

use super::{image::pairs, words};
use base64::{Engine, engine::general_purpose::STANDARD};
use maud::{Markup, html};
use serde_json::Value;

/// Most packages or materials that are shown.
const MOST: usize = 1000;

/// What a document says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Shown {
    title: String,
    /// Names with values.
    lines: Vec<(String, String)>,
    packages: Vec<Package>,
    /// How many packages there are.
    count: usize,
    /// What it was made of.
    materials: Vec<(String, String)>,
}

/// A package of an SBOM.
#[derive(Debug, Default, PartialEq, Eq)]
struct Package {
    name: String,
    version: String,
    license: String,
}

fn text(value: &Value, path: &str) -> String {
    match value.pointer(path) {
        Some(Value::String(text)) => text.clone(),
        Some(value @ (Value::Number(_) | Value::Bool(_))) => value.to_string(),
        _ => String::new(),
    }
}

fn list<'a>(value: &'a Value, path: &str) -> &'a [Value] {
    value.pointer(path).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// Reads a document of a known form.
pub(super) fn read(document: &Value) -> Option<Shown> {
    let mut shown = unwrap(document, 3)?;
    shown.lines.retain(|(_, value)| !value.is_empty());
    Some(shown)
}

/// A document within envelopes, at most `depth` of them.
fn unwrap(document: &Value, depth: u32) -> Option<Shown> {
    if depth == 0 {
        return None;
    }
    if let Some(payload) =
        document.get("payload").and_then(Value::as_str).filter(|_| document.get("payloadType").is_some())
    {
        let bytes = STANDARD.decode(payload).ok()?;
        let mut shown = unwrap(&serde_json::from_slice(&bytes).ok()?, depth - 1)?;
        let signatures = list(document, "/signatures");
        shown.lines.push(("Signatures".to_owned(), signatures.len().to_string()));
        shown.lines.extend(signatures.iter().take(10).map(|one| ("Key".to_owned(), text(one, "/keyid"))));
        return Some(shown);
    }
    if let Some(envelope) = document.get("dsseEnvelope") {
        return unwrap(envelope, depth - 1);
    }
    if document.get("spdxVersion").is_some() {
        return Some(spdx(document));
    }
    if document.get("bomFormat").is_some_and(|form| form == "CycloneDX") {
        return Some(cyclonedx(document));
    }
    if let (Some(kind), Some(predicate)) =
        (document.get("predicateType").and_then(Value::as_str), document.get("predicate"))
    {
        return Some(statement(document, kind, predicate, depth));
    }
    if document.pointer("/critical/image").is_some() {
        return Some(simple_signing(document));
    }
    None
}

fn line(name: &str, value: String) -> (String, String) {
    (name.to_owned(), value)
}

/// SPDX 2.3, section 7.
fn spdx(document: &Value) -> Shown {
    let all = list(document, "/packages");
    let package = |one: &Value| {
        let license = [text(one, "/licenseConcluded"), text(one, "/licenseDeclared")];
        let known = license.into_iter().find(|text| !matches!(text.as_str(), "" | "NOASSERTION" | "NONE"));
        Package {
            name: text(one, "/name"),
            version: text(one, "/versionInfo"),
            license: known.unwrap_or_default(),
        }
    };
    let creators = list(document, "/creationInfo/creators").iter().filter_map(Value::as_str).take(20);
    Shown {
        title: "SBOM (SPDX)".to_owned(),
        lines: vec![
            line("Name", text(document, "/name")),
            line("Version", text(document, "/spdxVersion")),
            line("Created", text(document, "/creationInfo/created")),
            line("Made by", creators.collect::<Vec<_>>().join(", ")),
        ],
        packages: all.iter().take(MOST).map(package).collect(),
        count: all.len(),
        materials: Vec::new(),
    }
}

/// CycloneDX 1.6, "components".
fn cyclonedx(document: &Value) -> Shown {
    let all = list(document, "/components");
    let package = |one: &Value| {
        let licenses = list(one, "/licenses").iter().take(10).map(|license| {
            let texts =
                [text(license, "/license/id"), text(license, "/license/name"), text(license, "/expression")];
            texts.into_iter().find(|text| !text.is_empty()).unwrap_or_default()
        });
        let license = licenses.collect::<Vec<_>>().join(", ");
        let name = [text(one, "/group"), text(one, "/name")].into_iter().filter(|text| !text.is_empty());
        Package { name: name.collect::<Vec<_>>().join("/"), version: text(one, "/version"), license }
    };
    Shown {
        title: "SBOM (CycloneDX)".to_owned(),
        lines: vec![
            line("Name", text(document, "/metadata/component/name")),
            line("Version", text(document, "/specVersion")),
            line("Created", text(document, "/metadata/timestamp")),
        ],
        packages: all.iter().take(MOST).map(package).collect(),
        count: all.len(),
        materials: Vec::new(),
    }
}

/// An in-toto statement: provenance of SLSA 0.2 or 1, an SBOM, or something else with its first fields.
fn statement(document: &Value, kind: &str, predicate: &Value, depth: u32) -> Shown {
    let mut shown = match kind {
        _ if kind.contains("slsa.dev/provenance") => provenance(predicate),
        _ => unwrap(predicate, depth - 1).unwrap_or_else(|| other(predicate)),
    };
    shown.lines.push(line("Predicate", kind.to_owned()));
    for subject in list(document, "/subject").iter().take(20) {
        let digest = subject.get("digest").and_then(Value::as_object).and_then(|all| all.iter().next());
        let digest = digest.map(|(name, value)| format!("{name}:{}", value.as_str().unwrap_or_default()));
        shown.lines.push(line("About", format!("{} {}", text(subject, "/name"), digest.unwrap_or_default())));
    }
    shown
}

fn other(predicate: &Value) -> Shown {
    let fields = predicate.as_object().into_iter().flatten().take(50);
    let plain = |(name, value): (&String, &Value)| match value {
        Value::Object(_) | Value::Array(_) => None,
        Value::String(text) => Some((name.clone(), text.clone())),
        value => Some((name.clone(), value.to_string())),
    };
    Shown { title: "Attestation".to_owned(), lines: fields.filter_map(plain).collect(), ..Shown::default() }
}

fn provenance(predicate: &Value) -> Shown {
    let first = |paths: &[&str]| {
        paths.iter().map(|path| text(predicate, path)).find(|text| !text.is_empty()).unwrap_or_default()
    };
    let materials =
        [list(predicate, "/buildDefinition/resolvedDependencies"), list(predicate, "/materials")].concat();
    let material = |one: &Value| {
        let digest = one.get("digest").and_then(Value::as_object).and_then(|all| all.iter().next());
        let digest = digest.map(|(name, value)| format!("{name}:{}", value.as_str().unwrap_or_default()));
        (text(one, "/uri"), digest.unwrap_or_default())
    };
    Shown {
        title: "Provenance".to_owned(),
        lines: vec![
            line("Builder", first(&["/runDetails/builder/id", "/builder/id"])),
            line("Build type", first(&["/buildDefinition/buildType", "/buildType"])),
            line(
                "Source",
                first(&[
                    "/buildDefinition/externalParameters/configSource/uri",
                    "/buildDefinition/externalParameters/workflow/repository",
                    "/buildDefinition/externalParameters/source",
                    "/invocation/configSource/uri",
                ]),
            ),
            line(
                "Entry point",
                first(&[
                    "/buildDefinition/externalParameters/configSource/path",
                    "/invocation/configSource/entryPoint",
                ]),
            ),
            line(
                "Invocation",
                first(&[
                    "/runDetails/metadata/invocationId",
                    "/runDetails/metadata/invocationID",
                    "/metadata/buildInvocationID",
                ]),
            ),
            line("Started", first(&["/runDetails/metadata/startedOn", "/metadata/buildStartedOn"])),
            line("Finished", first(&["/runDetails/metadata/finishedOn", "/metadata/buildFinishedOn"])),
        ],
        materials: materials.iter().take(MOST).map(material).collect(),
        ..Shown::default()
    }
}

/// What cosign signs (containers/image, "simple signing").
fn simple_signing(document: &Value) -> Shown {
    Shown {
        title: "Signature".to_owned(),
        lines: vec![
            line("Of", text(document, "/critical/image/docker-manifest-digest")),
            line("Called", text(document, "/critical/identity/docker-reference")),
            line("Kind", text(document, "/critical/type")),
        ],
        ..Shown::default()
    }
}

/// The sections of a page.
pub(super) fn show(shown: &Shown) -> Markup {
    html! {
        section {
            h2 { (shown.title) }
            (pairs(shown.lines.iter().map(|(name, value)| (name.as_str(), value.as_str()))))
            @if shown.count > 0 {
                div.head {
                    h3 { (words::things(shown.count as u64, "package", "packages")) }
                    input.script type="search" placeholder="Filter packages" aria-label="Filter packages" data-filter="packages" hidden;
                }
                table.rows {
                    thead { tr { th scope="col" { "Package" } th scope="col" { "Version" } th scope="col" { "License" } } }
                    tbody id="packages" {
                        @for one in &shown.packages {
                            tr data-row { th scope="row" { (words::text(&one.name)) } td data-label="Version" { (words::text(&one.version)) } td data-label="License" { (words::text(&one.license)) } }
                        }
                    }
                }
                @if shown.packages.len() < shown.count { p.note { "The first " (shown.packages.len()) " are shown; the file has them all." } }
            }
            @if !shown.materials.is_empty() {
                h3 { "Made of" }
                (pairs(shown.materials.iter().map(|(name, value)| (name.as_str(), value.as_str()))))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(document: &Value) -> Option<Shown> {
        read(document)
    }

    #[test]
    fn known_documents_are_read_also_within_envelopes() {
        let spdx = json!({ "spdxVersion": "SPDX-2.3", "name": "app", "packages": [
            { "name": "zlib", "versionInfo": "1.3", "licenseConcluded": "NOASSERTION", "licenseDeclared": "Zlib" }, 7] });
        let shown = of(&spdx).expect("an SBOM");
        assert_eq!((shown.title.as_str(), shown.count), ("SBOM (SPDX)", 2));
        assert_eq!(
            shown.packages[0],
            Package { name: "zlib".into(), version: "1.3".into(), license: "Zlib".into() }
        );
        let statement = json!({ "predicateType": "https://spdx.dev/Document", "predicate": spdx,
            "subject": [{ "name": "app", "digest": { "sha256": "ab" } }] });
        let envelope = json!({ "payloadType": "x", "payload": STANDARD.encode(statement.to_string()), "signatures": [{}] });
        let shown = of(&envelope).expect("an SBOM within");
        assert_eq!(shown.count, 2);
        assert!(shown.lines.contains(&("About".into(), "app sha256:ab".into())), "{:?}", shown.lines);
        assert!(shown.lines.contains(&("Signatures".into(), "1".into())));
        let slsa = json!({ "predicateType": "https://slsa.dev/provenance/v1", "predicate": {
            "runDetails": { "builder": { "id": "https://builder.example" } },
            "buildDefinition": { "resolvedDependencies": [{ "uri": "pkg:docker/alpine", "digest": { "sha256": "cd" } }] } } });
        let shown = of(&slsa).expect("provenance");
        assert!(shown.lines.contains(&("Builder".into(), "https://builder.example".into())));
        assert_eq!(shown.materials, [("pkg:docker/alpine".to_owned(), "sha256:cd".to_owned())]);
        let cyclonedx = json!({ "bomFormat": "CycloneDX", "specVersion": "1.6", "components": [
            { "group": "org", "name": "x", "version": "1", "licenses": [{ "license": { "id": "MIT" } }] }] });
        assert_eq!(of(&cyclonedx).expect("an SBOM").packages[0].name, "org/x");
        let cosign = json!({ "critical": { "image": { "docker-manifest-digest": "sha256:ef" }, "type": "cosign container image signature" } });
        assert!(of(&cosign).expect("a signature").lines.contains(&("Of".into(), "sha256:ef".into())));
    }

    #[test]
    fn what_is_not_known_or_nested_too_deeply_is_left_out() {
        let mut nested = json!({ "spdxVersion": "SPDX-2.3" });
        for _ in 0..5 {
            nested = json!({ "payloadType": "x", "payload": STANDARD.encode(nested.to_string()) });
        }
        for document in [
            json!(null),
            json!([]),
            json!({}),
            json!({ "payloadType": "x", "payload": "%" }),
            json!({ "predicateType": 1 }),
            nested,
        ] {
            assert_eq!(of(&document), None, "{document}");
        }
    }
}
