//! Packages of Python (core metadata) and Node (`package.json`).

use super::{Kind, Package};

/// Whether the path is one of a Python package's own description.
pub(super) fn is_python(path: &[u8]) -> bool {
    path.ends_with(b".dist-info/METADATA")
        || path.ends_with(b".egg-info/PKG-INFO")
        || path.ends_with(b".egg-info")
}

/// Whether the path is one of an installed Node package: `node_modules/NAME` or `node_modules/@SCOPE/NAME`.
pub(super) fn is_node(path: &[u8]) -> bool {
    let Some(folder) = path.strip_suffix(b"/package.json") else { return false };
    let mut parts = folder.rsplit(|byte| *byte == b'/');
    let (_, above) = (parts.next(), parts.next());
    match above {
        Some(b"node_modules") => true,
        Some(scope) if scope.starts_with(b"@") => parts.next() == Some(b"node_modules"),
        _ => false,
    }
}

/// The package that a description is of: the header's fields, until an empty line.
pub(super) fn python(bytes: &[u8], _: &str) -> Option<Package> {
    let text = String::from_utf8_lossy(bytes);
    let header: Vec<&str> = text.lines().take_while(|line| !line.trim().is_empty()).collect();
    let field = |name: &str| {
        let value = header.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?.trim();
        (!value.is_empty() && value != "UNKNOWN").then(|| value.to_owned())
    };
    let mut package = Package::new(Kind::Pypi, &field("Name")?, &field("Version")?);
    package.licence = field("License-Expression").or_else(|| field("License"));
    package.supplier = field("Author");
    Some(package)
}

/// The package that a `package.json` is of; one without a version is a part of another.
pub(super) fn node(bytes: &[u8], _: &str) -> Option<Package> {
    let json: serde_json::Value = serde_json::from_slice(bytes).ok()?;
    let text = |name: &str| json.get(name)?.as_str().filter(|text| !text.is_empty());
    let mut package = Package::new(Kind::Npm, text("name")?, text("version")?);
    let licence = json.get("license");
    let of_object = || licence?.get("type")?.as_str();
    package.licence = text("license").or_else(of_object).map(str::to_owned);
    Some(package)
}
