//! What programs say of what they are made of: Go's linker (`.go.buildinfo`, Go's `debug/buildinfo`) and `cargo auditable`
//! (`.dep-v0`).

use super::{Kind, Package};
use crate::limits;
use std::io::Read;

/// The packages in a program; none in what is no ELF file, or says nothing.
pub(super) fn packages(bytes: &[u8]) -> Result<Vec<Package>, String> {
    if !bytes.starts_with(b"\x7fELF") {
        return Ok(Vec::new());
    }
    let mut all = Vec::new();
    if let Some(section) = section(bytes, b".dep-v0") {
        all.extend(rust(section)?);
    }
    if let Some(section) = section(bytes, b".go.buildinfo") {
        all.extend(go(section)?);
    }
    Ok(all)
}

/// A section of an ELF file by its name (elf(5)).
fn section<'a>(bytes: &'a [u8], wanted: &[u8]) -> Option<&'a [u8]> {
    let (wide, little) = (*bytes.get(4)? == 2, *bytes.get(5)? == 1);
    let number = |at: usize, width: usize| -> Option<usize> {
        let part = bytes.get(at..at.checked_add(width)?)?;
        let join = |value: u64, byte: &u8| value << 8 | u64::from(*byte);
        let value = if little { part.iter().rev().fold(0, join) } else { part.iter().fold(0, join) };
        usize::try_from(value).ok()
    };
    let (table, size, count, names) = match wide {
        true => (number(0x28, 8)?, number(0x3a, 2)?, number(0x3c, 2)?, number(0x3e, 2)?),
        false => (number(0x20, 4)?, number(0x2e, 2)?, number(0x30, 2)?, number(0x32, 2)?),
    };
    let content = |index: usize| -> Option<&[u8]> {
        let at = table.checked_add(index.checked_mul(size)?)?;
        let (offset, length) = match wide {
            true => (number(at.checked_add(0x18)?, 8)?, number(at.checked_add(0x20)?, 8)?),
            false => (number(at.checked_add(0x10)?, 4)?, number(at.checked_add(0x14)?, 4)?),
        };
        bytes.get(offset..offset.checked_add(length)?)
    };
    let texts = content(names)?;
    let is_wanted = |index: &usize| {
        let name = index.checked_mul(size).and_then(|at| number(table.checked_add(at)?, 4));
        let name = name.and_then(|name| texts.get(name..)).unwrap_or_default();
        name.strip_prefix(wanted).is_some_and(|rest| rest.first() == Some(&0))
    };
    content((0..count).find(is_wanted)?)
}

/// What `cargo auditable` has written: JSON in zlib's form. What only ran while it was built is left out.
fn rust(section: &[u8]) -> Result<Vec<Package>, String> {
    #[derive(serde::Deserialize)]
    struct Audit {
        packages: Vec<Crate>,
    }
    #[derive(serde::Deserialize)]
    struct Crate {
        name: String,
        version: String,
        #[serde(default)]
        kind: Option<String>,
    }
    let mut json = Vec::new();
    let decoder = flate2::read::ZlibDecoder::new(section);
    let read = decoder.take(limits::SBOM_TEXT_BYTES).read_to_end(&mut json);
    read.map_err(|error| format!("its list of crates cannot be read: {error}"))?;
    let audit: Audit = serde_json::from_slice(&json)
        .map_err(|error| format!("its list of crates cannot be read: {error}"))?;
    let used = audit.packages.into_iter().filter(|one| one.kind.as_deref() != Some("build"));
    Ok(used.map(|one| Package::new(Kind::Cargo, &one.name, &one.version)).collect())
}

/// What Go's linker has written: the version of Go, and the modules.
fn go(section: &[u8]) -> Result<Vec<Package>, String> {
    const MAGIC: &[u8] = b"\xff Go buildinf:";
    /// Both ends of the list of modules have so many bytes more.
    const SENTINEL: usize = 16;
    // the linker aligns it
    let start = section.windows(MAGIC.len()).step_by(16).position(|part| part == MAGIC);
    let Some(start) = start.map(|at| at * 16) else { return Ok(Vec::new()) };
    let flags = section.get(start + 15).copied().unwrap_or(0);
    if flags & 2 == 0 {
        return Err("it was built by a Go before 1.18: its modules are not read".to_owned());
    }
    let rest = section.get(start + 32..).unwrap_or_default();
    let broken = || "its list of modules is damaged".to_owned();
    let (version, rest) = text(rest).ok_or_else(broken)?;
    let (modules, _) = text(rest).ok_or_else(broken)?;
    let mut all = Vec::new();
    let version = String::from_utf8_lossy(version);
    if let Some(version) = version.split(' ').next().and_then(|word| word.strip_prefix("go")) {
        all.push(Package::new(Kind::Golang, "stdlib", version));
    }
    let lines = modules.get(SENTINEL..modules.len().saturating_sub(SENTINEL)).unwrap_or_default();
    for line in String::from_utf8_lossy(lines).lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        match fields.as_slice() {
            ["mod" | "dep", path, version, ..] => all.push(Package::new(Kind::Golang, path, version)),
            // in the place of the one before
            ["=>", path, version, ..] => {
                all.pop();
                all.push(Package::new(Kind::Golang, path, version));
            }
            _ => {}
        }
        if all.len() > limits::SBOM_PACKAGES {
            return Err(broken());
        }
    }
    Ok(all)
}

/// A text that begins with its length (varint), and what comes after it.
fn text(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (mut length, mut at) = (0u64, 0);
    loop {
        let byte = *bytes.get(at)?;
        if at > 8 {
            return None;
        }
        length |= u64::from(byte & 0x7f) << (7 * at);
        at += 1;
        if byte & 0x80 == 0 {
            break;
        }
    }
    let end = at.checked_add(usize::try_from(length).ok()?)?;
    Some((bytes.get(at..end)?, bytes.get(end..)?))
}
