//! Databases of RPM: SQLite (`rpmdb.sqlite`) and RPM's own (`Packages.db`), which both hold a header a package.
//!
//! A header is two numbers (how many tags, how many bytes of data), the tags, 16 bytes each, and the data, all big endian (rpm.org,
//! "Package format").

use super::{Kind, Package};
use crate::limits;
use rusqlite::Connection;

const NAME: u32 = 1000;
const VERSION: u32 = 1001;
const RELEASE: u32 = 1002;
const EPOCH: u32 = 1003;
const VENDOR: u32 = 1011;
const LICENCE: u32 = 1014;
const ARCHITECTURE: u32 = 1022;
const SOURCE: u32 = 1044;
/// Types of values (rpm, `rpmtag.h`).
const INT32: u32 = 4;
const STRING: u32 = 6;
const TRANSLATED: u32 = 9;

/// Packages, and how many could not be read.
type Read = Result<(Vec<Package>, usize), String>;

fn add(into: &mut (Vec<Package>, usize), header: &[u8]) {
    match package(header) {
        Some(package) => into.0.push(package),
        None => into.1 += 1,
    }
}

/// Those of a database in SQLite's form, which is read where it lies in memory: nothing of it is a file of this machine.
pub(super) fn sqlite(mut bytes: Vec<u8>) -> Read {
    // one whose log lies beside it is opened as one that has none (sqlite.org/fileformat, offsets 18 and 19)
    if bytes.len() > 20 && bytes.starts_with(b"SQLite format 3\0") {
        bytes[18..20].fill(1);
    }
    let failed = |error: rusqlite::Error| format!("the database cannot be read: {error}");
    let mut connection = Connection::open_in_memory().map_err(failed)?;
    let length = bytes.len();
    connection.deserialize_read_exact("main", bytes.as_slice(), length, true).map_err(failed)?;
    drop(bytes);
    // a schema may name functions: none of them is called
    connection
        .set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)
        .and_then(|_| {
            connection.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)
        })
        .map_err(failed)?;
    let is_table: bool = connection
        .query_row(
            "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'Packages')",
            [],
            |row| row.get(0),
        )
        .map_err(failed)?;
    if !is_table {
        return Err("the database has no table of packages".to_owned());
    }
    let mut statement = connection.prepare("SELECT blob FROM Packages LIMIT ?1").map_err(failed)?;
    let mut rows = statement.query([limits::SBOM_PACKAGES as i64]).map_err(failed)?;
    let mut found = (Vec::new(), 0);
    while let Some(row) = rows.next().map_err(failed)? {
        match row.get_ref(0).ok().and_then(|value| value.as_blob().ok()) {
            Some(header) => add(&mut found, header),
            None => found.1 += 1,
        }
    }
    Ok(found)
}

/// Those of a database in RPM's own form (rpm, `lib/backend/ndb/rpmpkg.c`): pages of slots, each of which says where a package's
/// blob is, in units of 16 bytes, all little endian.
pub(super) fn ndb(bytes: &[u8]) -> Read {
    const UNIT: usize = 16;
    let word = |at: usize| {
        let word = bytes.get(at..at.checked_add(4)?)?;
        Some(u32::from_le_bytes(word.try_into().ok()?))
    };
    let is = |at: usize, magic: &[u8]| bytes.get(at..at.saturating_add(4)) == Some(magic);
    if !is(0, b"RpmP") {
        return Err("it is no database of RPM".to_owned());
    }
    let pages = word(12).unwrap_or(0) as usize;
    let slots = pages.saturating_mul(4096 / UNIT).min(bytes.len() / UNIT);
    let mut found = (Vec::new(), 0);
    // the header takes the first two
    for at in (2..slots).map(|slot| slot * UNIT) {
        let index = word(at + 4).unwrap_or(0);
        if !is(at, b"Slot") || index == 0 {
            continue;
        }
        if found.0.len() >= limits::SBOM_PACKAGES {
            break;
        }
        let place = (word(at + 8).unwrap_or(0) as usize).saturating_mul(UNIT);
        let length = word(place.saturating_add(12)).unwrap_or(0) as usize;
        let start = place.saturating_add(UNIT);
        let is_whole = is(place, b"BlbS") && word(place.saturating_add(4)) == Some(index);
        match bytes.get(start..start.saturating_add(length)).filter(|_| is_whole) {
            Some(header) => add(&mut found, header),
            None => found.1 += 1,
        }
    }
    Ok(found)
}

/// The package that a header is of; `None` where it cannot be read.
fn package(header: &[u8]) -> Option<Package> {
    let word = |at: usize| {
        let word = header.get(at..at.checked_add(4)?)?;
        Some(u32::from_be_bytes(word.try_into().ok()?))
    };
    let tags = word(0)? as usize;
    let data = header.get(8usize.checked_add(tags.checked_mul(16)?)?..)?;
    let find = |wanted: u32| {
        let at = (0..tags).map(|tag| 8 + tag * 16).find(|at| word(*at) == Some(wanted))?;
        Some((word(at + 4)?, word(at + 8)? as usize))
    };
    let text = |wanted: u32| {
        let (kind, offset) = find(wanted)?;
        let bytes = data.get(offset..).filter(|_| matches!(kind, STRING | TRANSLATED | 8))?;
        let end = bytes.iter().position(|byte| *byte == 0)?;
        Some(String::from_utf8_lossy(&bytes[..end]).into_owned())
    };
    let epoch = || {
        let (kind, offset) = find(EPOCH)?;
        let bytes = data.get(offset..offset.checked_add(4)?).filter(|_| kind == INT32)?;
        Some(u32::from_be_bytes(bytes.try_into().ok()?))
    };
    let mut package =
        Package::new(Kind::Rpm, &text(NAME)?, &format!("{}-{}", text(VERSION)?, text(RELEASE)?));
    package.architecture = text(ARCHITECTURE);
    package.supplier = text(VENDOR);
    package.licence = text(LICENCE);
    package.source = text(SOURCE);
    package.epoch = epoch();
    Some(package)
}
