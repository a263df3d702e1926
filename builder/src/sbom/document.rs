//! Lists of packages in the words of SPDX 2.3 and CycloneDX 1.6, as JSON. The same image has the same document.

use super::{Distribution, Found, Kind, Package, licence};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use slipway_oci::Digest;
use std::collections::BTreeSet;

/// The predicate's type of a document of SPDX.
pub const SPDX_TYPE: &str = "https://spdx.dev/Document";
/// The predicate's type of a document of CycloneDX.
pub const CYCLONEDX_TYPE: &str = "https://cyclonedx.org/bom";

/// What a package URL has as it is (purl-spec, "Character encoding").
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'.').remove(b'-').remove(b'_').remove(b'~');
/// SPDX' word for what is not known.
const UNKNOWN: &str = "NOASSERTION";

/// The image that a list is of.
#[derive(Clone, Debug)]
pub struct About<'a> {
    /// What it is called.
    pub name: &'a str,
    /// Digest of its manifest.
    pub digest: &'a Digest,
    /// When it was made, as RFC 3339.
    pub created: &'a str,
    /// This program's version.
    pub version: &'a str,
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, PLAIN).to_string()
}

/// The package URL of a package (purl-spec, `PURL-TYPES.rst`).
fn purl(package: &Package, distribution: Option<&Distribution>) -> String {
    let mut name = package.name.clone();
    let mut namespace = Vec::new();
    match package.kind {
        Kind::Apk | Kind::Deb | Kind::Rpm => {
            let usual = match package.kind {
                Kind::Apk => "alpine",
                Kind::Deb => "debian",
                _ => "linux",
            };
            namespace.push(distribution.map_or_else(|| usual.to_owned(), |own| own.id.clone()));
        }
        Kind::Pypi => name = name.to_lowercase().replace(['_', '.'], "-"),
        Kind::Npm | Kind::Golang => {
            let mut parts: Vec<String> = name.split('/').map(str::to_owned).collect();
            name = parts.pop().unwrap_or_default();
            namespace = parts;
        }
        Kind::Cargo => {}
    }
    let mut qualifiers = Vec::new();
    if let Some(architecture) = &package.architecture {
        qualifiers.push(format!("arch={}", encoded(architecture)));
    }
    if let Some(own) = distribution.filter(|_| package.kind.is_of_distribution()) {
        let version = own.version.as_ref().map(|version| format!("-{version}")).unwrap_or_default();
        qualifiers.push(format!("distro={}", encoded(&format!("{}{version}", own.id))));
    }
    if let Some(epoch) = package.epoch {
        qualifiers.push(format!("epoch={epoch}"));
    }
    let space: String = namespace.iter().map(|part| format!("{}/", encoded(part))).collect();
    let version = match package.version.as_str() {
        "" => String::new(),
        version => format!("@{}", encoded(version)),
    };
    let qualifiers = if qualifiers.is_empty() { String::new() } else { format!("?{}", qualifiers.join("&")) };
    format!("pkg:{}/{space}{}{version}{qualifiers}", package.kind.name(), encoded(&name))
}

/// The package URL of the image.
fn image_purl(about: &About<'_>) -> String {
    let name = about.name.rsplit('/').next().unwrap_or_default();
    let name = name.split([':', '@', '?']).next().unwrap_or_default();
    let name = if name.is_empty() { "image" } else { name };
    format!("pkg:oci/{}@{}", encoded(&name.to_lowercase()), encoded(&about.digest.to_string()))
}

/// Sixteen digits that tell a package from all others.
fn id(package: &Package) -> String {
    let parts = [package.kind.name(), &package.name, &package.version, &package.place];
    let architecture = package.architecture.as_deref().unwrap_or_default();
    Digest::sha256(format!("{}\n{architecture}", parts.join("\n")).as_bytes()).hex()[..16].to_owned()
}

/// The document of SPDX 2.3.
pub fn spdx(found: &Found, about: &About<'_>) -> Value {
    const IMAGE: &str = "SPDXRef-Image";
    let mut packages = vec![json!({
        "SPDXID": IMAGE,
        "name": about.name,
        "versionInfo": about.digest.to_string(),
        "downloadLocation": UNKNOWN,
        "filesAnalyzed": false,
        "licenseConcluded": UNKNOWN,
        "licenseDeclared": UNKNOWN,
        "copyrightText": UNKNOWN,
        "primaryPackagePurpose": "CONTAINER",
        "checksums": [{
            "algorithm": about.digest.algorithm().name().to_uppercase(), "checksumValue": about.digest.hex(),
        }],
        "externalRefs": [{
            "referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": image_purl(about),
        }],
    })];
    let mut relationships = vec![json!({
        "spdxElementId": "SPDXRef-DOCUMENT", "relationshipType": "DESCRIBES", "relatedSpdxElement": IMAGE,
    })];
    for package in &found.packages {
        let id = format!("SPDXRef-Package-{}-{}", package.kind.name(), id(package));
        relationships.push(json!({
            "spdxElementId": IMAGE, "relationshipType": "CONTAINS", "relatedSpdxElement": id,
        }));
        packages.push(spdx_package(package, &id, found.distribution.as_ref()));
    }
    let mut document = json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": about.name,
        "documentNamespace": format!("urn:slipway:sbom:{}", about.digest),
        "creationInfo": { "created": about.created, "creators": [format!("Tool: slipway-{}", about.version)] },
        "documentDescribes": [IMAGE],
        "packages": packages,
        "relationships": relationships,
    });
    if !found.warnings.is_empty() {
        document["comment"] = format!("not read: {}", found.warnings.join("; ")).into();
    }
    document
}

fn spdx_package(package: &Package, id: &str, distribution: Option<&Distribution>) -> Value {
    let declared = package.licence.as_deref().filter(|text| licence::is_expression(text));
    let mut value = json!({
        "SPDXID": id,
        "name": package.name,
        "downloadLocation": UNKNOWN,
        "filesAnalyzed": false,
        "licenseConcluded": UNKNOWN,
        "licenseDeclared": declared.unwrap_or(UNKNOWN),
        "copyrightText": UNKNOWN,
        "sourceInfo": format!("found in {}", package.place),
        "externalRefs": [{
            "referenceCategory": "PACKAGE-MANAGER",
            "referenceType": "purl",
            "referenceLocator": purl(package, distribution),
        }],
    });
    if !package.version.is_empty() {
        value["versionInfo"] = package.version.as_str().into();
    }
    if let (None, Some(licence)) = (declared, &package.licence) {
        value["licenseComments"] = format!("the package says: {licence}").into();
    }
    if let Some(supplier) = &package.supplier {
        // `Name <address>` is written `Name (address)`
        value["supplier"] = format!("Organization: {}", supplier.replace('<', "(").replace('>', ")")).into();
    }
    if let Some(source) = &package.source {
        value["comment"] = format!("made from {source}").into();
    }
    value
}

/// The document of CycloneDX 1.6.
pub fn cyclonedx(found: &Found, about: &About<'_>) -> Value {
    let mut components: Vec<Value> = Vec::new();
    if let Some(own) = &found.distribution {
        let mut system = json!({ "type": "operating-system", "bom-ref": "os", "name": own.id });
        system["version"] = own.version.as_deref().unwrap_or_default().into();
        if let Some(name) = &own.name {
            system["description"] = name.as_str().into();
        }
        components.push(system);
    }
    let mut references = BTreeSet::new();
    for package in &found.packages {
        let purl = purl(package, found.distribution.as_ref());
        // references are each one's own
        let reference = match references.insert(purl.clone()) {
            true => purl.clone(),
            false => format!("{purl}#{}", id(package)),
        };
        let mut component = json!({
            "type": "library",
            "bom-ref": reference,
            "name": package.name,
            "version": package.version,
            "purl": purl,
            "properties": [{ "name": "slipway:place", "value": package.place }],
        });
        if let Some(supplier) = &package.supplier {
            component["supplier"] = json!({ "name": supplier });
        }
        if let Some(text) = &package.licence {
            component["licenses"] = match licence::is_expression(text) {
                true => json!([{ "expression": text }]),
                false => json!([{ "license": { "name": text } }]),
            };
        }
        components.push(component);
    }
    let hex = about.digest.hex();
    json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        // of the image's digest, in the form of a UUID of version 8 (RFC 9562)
        "serialNumber": format!(
            "urn:uuid:{}-{}-8{}-8{}-{}", &hex[..8], &hex[8..12], &hex[12..15], &hex[15..18], &hex[18..30]
        ),
        "version": 1,
        "metadata": {
            "timestamp": about.created,
            "tools": { "components": [{ "type": "application", "name": "slipway", "version": about.version }] },
            "component": {
                "type": "container",
                "bom-ref": image_purl(about),
                "name": about.name,
                "version": about.digest.to_string(),
                "purl": image_purl(about),
            },
        },
        "components": components,
    })
}
