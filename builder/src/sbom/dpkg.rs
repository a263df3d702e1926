//! Databases of text: Debian's (deb-control(5)) and Alpine's (`apk` v2, a letter and a colon a line).

use super::{Kind, Package};
use std::collections::HashMap;

/// A paragraph's fields; continued lines are left out.
fn paragraphs(bytes: &[u8]) -> impl Iterator<Item = HashMap<String, String>> {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let mut all = Vec::new();
    let mut here = HashMap::new();
    for line in text.lines() {
        if line.trim().is_empty() {
            all.push(std::mem::take(&mut here));
        } else if !line.starts_with([' ', '\t'])
            && let Some((name, value)) = line.split_once(':')
        {
            here.entry(name.to_owned()).or_insert_with(|| value.trim().to_owned());
        }
    }
    all.push(here);
    all.into_iter().filter(|fields| !fields.is_empty())
}

/// Debian's packages; with `status`, those that are installed.
pub(super) fn debian(bytes: &[u8], status: bool) -> Vec<Package> {
    let one = |mut fields: HashMap<String, String>| {
        // `want flag state`: what was removed leaves its configuration
        let is_here = fields.get("Status").is_some_and(|text| text.split(' ').nth(2) == Some("installed"));
        if status && !is_here {
            return None;
        }
        let mut package = Package::new(Kind::Deb, fields.get("Package")?, fields.get("Version")?);
        package.architecture = fields.remove("Architecture");
        package.supplier = fields.remove("Maintainer");
        // `name` or `name (version)`
        package.source = fields.remove("Source").map(|text| text.replace(['(', ')'], ""));
        Some(package)
    };
    paragraphs(bytes).filter_map(one).collect()
}

/// Alpine's packages.
pub(super) fn alpine(bytes: &[u8]) -> Vec<Package> {
    let one = |mut fields: HashMap<String, String>| {
        let mut package = Package::new(Kind::Apk, fields.get("P")?, fields.get("V")?);
        package.architecture = fields.remove("A");
        package.supplier = fields.remove("m");
        package.source = fields.remove("o");
        package.licence = fields.remove("L");
        Some(package)
    };
    paragraphs(bytes).filter_map(one).collect()
}
