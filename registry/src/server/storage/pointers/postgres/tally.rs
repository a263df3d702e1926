//! How much each repository and each namespace has: the triggers of `schema.sql` keep it.
//!
//! A namespace's sum lies in slots, of which each connection adds to its own: pushes of a team do not wait for one row
//! (goharbor/harbor#18440). Only where a quota holds, who adds to its scope has that for itself ([`super::locks`]): a quota that
//! is exact is a place where all that it bounds meet.

use super::{
    connect::Database,
    row::{natural, number},
};
use crate::server::storage::{
    StorageError,
    pointers::{Bound, Kin, Scope, Used, namespaces},
};

/// Notes which namespaces a new repository lies in, that of everything too.
pub(super) fn join(database: &mut Database, repository: i64, name: &str) -> Result<(), StorageError> {
    let names: Vec<&str> = std::iter::once("").chain(namespaces(name)).collect();
    database.run(
        "INSERT INTO namespaces (name) SELECT name FROM unnest($1::text[]) AS wanted (name)
         WHERE NOT EXISTS (SELECT 1 FROM namespaces n WHERE n.name = wanted.name) ON CONFLICT DO NOTHING",
        &[&names],
    )?;
    database.run(
        "INSERT INTO members (repository, namespace) SELECT $1, id FROM namespaces WHERE name = ANY ($2)",
        &[&repository, &names],
    )?;
    Ok(())
}

/// How much a scope has.
pub(super) fn used(database: &mut Database, scope: &Scope) -> Result<Used, StorageError> {
    let (table, kind, name) = match scope {
        Scope::Repository(name) => ("repositories", 1, name),
        Scope::Namespace(name) => ("namespaces", 2, name),
    };
    let text = format!(
        "SELECT coalesce(sum(bytes), 0)::bigint, coalesce(sum(tags), 0)::bigint FROM sums
         WHERE kind = {kind} AND scope = (SELECT id FROM {table} WHERE name = $1)"
    );
    let Some(row) = database.row(&text, &[name])? else { return Ok(Used::default()) };
    Ok(Used { bytes: natural(&row, 0)?, tags: natural(&row, 1)? })
}

/// Scopes of one kind.
pub(super) fn all(
    database: &mut Database,
    of: Kin,
    last: &str,
    count: u64,
) -> Result<Vec<(String, Used)>, StorageError> {
    let (table, kind) = match of {
        Kin::Repositories => ("repositories", 1),
        Kin::Namespaces => ("namespaces", 2),
    };
    let text = format!(
        "SELECT n.name, coalesce(sum(s.bytes), 0)::bigint, coalesce(sum(s.tags), 0)::bigint
         FROM (SELECT id, name FROM {table} WHERE name > $1 ORDER BY name LIMIT $2) AS n
         LEFT JOIN sums s ON s.kind = {kind} AND s.scope = n.id GROUP BY n.name ORDER BY n.name"
    );
    let rows = database.rows(&text, &[&last, &number(count)])?;
    let one =
        |row: &postgres::Row| Ok((row.try_get(0)?, Used { bytes: natural(row, 1)?, tags: natural(row, 2)? }));
    rows.iter().map(one).collect()
}

/// Does something that may grow, and refuses it where that is more than the bounds allow.
pub(super) fn within<T>(
    database: &mut Database,
    bounds: &[Bound],
    work: impl FnOnce(&mut Database) -> Result<T, StorageError>,
) -> Result<T, StorageError> {
    let mut before = Vec::new();
    for bound in bounds {
        before.push(used(database, &bound.scope)?);
    }
    let done = work(database)?;
    for (bound, before) in bounds.iter().zip(before) {
        bound.check(before, used(database, &bound.scope)?)?;
    }
    Ok(done)
}
