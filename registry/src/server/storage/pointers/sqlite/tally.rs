//! How much each repository and each namespace has: numbers that triggers keep, so that no statement can forget them.
//!
//! What counts is [`super::super::quota`]'s to say; of a blob the column `counted` has it, of a manifest `deleted`. A
//! repository that begins to have some content, as the one or the other, becomes one of its holders in each of its
//! namespaces; the first holder adds its bytes there, the last one takes them away. All of this is one row of a key each:
//! nothing is summed up where something is pushed. A database that many replicas write to need not keep it in this form: its
//! namespaces' sums are rows that all pushes of a team meet at (goharbor/harbor#18440), and may be several that are summed.

use super::super::quota::{Bound, Kin, Scope, Used, namespaces};
use crate::{limits, server::storage::StorageError};
use rusqlite::{Connection, OptionalExtension, Row};

/// The tables, beside the columns `bytes` and `tags` of `repositories`, and `counted` of `blobs`.
pub(super) const TABLES: &str = "
CREATE TABLE namespaces (           -- what lies below a name
    id            INTEGER PRIMARY KEY,
    name          TEXT NOT NULL UNIQUE, -- empty: everything
    bytes         INTEGER NOT NULL DEFAULT 0, -- of different contents that count
    tags          INTEGER NOT NULL DEFAULT 0
);
INSERT INTO namespaces (name) VALUES ('');
CREATE TABLE members (              -- which namespaces a repository lies in; that of everything apart
    repository    INTEGER NOT NULL REFERENCES repositories (id),
    namespace     INTEGER NOT NULL REFERENCES namespaces (id),
    PRIMARY KEY (repository, namespace)
) WITHOUT ROWID;
CREATE TABLE holdings (             -- what a namespace has; that of everything apart
    namespace     INTEGER NOT NULL REFERENCES namespaces (id),
    digest        TEXT NOT NULL,
    size          INTEGER NOT NULL, -- bytes
    holders       INTEGER NOT NULL, -- its repositories that have it
    PRIMARY KEY (namespace, digest)
) WITHOUT ROWID;
";

/// The same content of the row `{row}`, as the other thing in the same repository.
const AS_MANIFEST: &str = "EXISTS (SELECT 1 FROM manifests o
    WHERE o.repository = {row}.repository AND o.digest = {row}.digest AND o.deleted IS NULL)";
const AS_BLOB: &str = "EXISTS (SELECT 1 FROM blobs o
    WHERE o.repository = {row}.repository AND o.digest = {row}.digest AND o.counted = 1)";

/// Whether no other repository has it.
const ALONE: &str = "NOT EXISTS (SELECT 1 FROM blobs o
        WHERE o.digest = {row}.digest AND o.counted = 1 AND o.repository <> {row}.repository)
    AND NOT EXISTS (SELECT 1 FROM manifests o
        WHERE o.digest = {row}.digest AND o.deleted IS NULL AND o.repository <> {row}.repository)";

const GAINED: &str = "
    UPDATE repositories SET bytes = bytes + new.size WHERE id = new.repository;
    INSERT INTO holdings (namespace, digest, size, holders)
        SELECT namespace, new.digest, new.size, 1 FROM members WHERE repository = new.repository
        ON CONFLICT (namespace, digest) DO UPDATE SET holders = holders + 1;
    UPDATE namespaces SET bytes = bytes + new.size WHERE name = '' AND {alone};";

const LOST: &str = "
    UPDATE repositories SET bytes = bytes - old.size WHERE id = old.repository;
    UPDATE holdings SET holders = holders - 1 FROM members m WHERE m.repository = old.repository
        AND holdings.namespace = m.namespace AND holdings.digest = old.digest;
    UPDATE namespaces SET bytes = bytes - old.size WHERE name = '' AND {alone};";

/// What a namespace and a repository have of holders and tags.
const SUMS: &str = "
CREATE TRIGGER holdings_begun AFTER INSERT ON holdings BEGIN
    UPDATE namespaces SET bytes = bytes + new.size WHERE id = new.namespace; END;
CREATE TRIGGER holdings_ended AFTER UPDATE OF holders ON holdings WHEN new.holders = 0 BEGIN
    UPDATE namespaces SET bytes = bytes - old.size WHERE id = old.namespace;
    DELETE FROM holdings WHERE namespace = old.namespace AND digest = old.digest; END;
CREATE TRIGGER tags_begun AFTER INSERT ON tags BEGIN
    UPDATE repositories SET tags = tags + 1 WHERE id = new.repository;
    UPDATE namespaces SET tags = tags + 1 WHERE name = ''
        OR id IN (SELECT namespace FROM members WHERE repository = new.repository); END;
CREATE TRIGGER tags_ended AFTER DELETE ON tags BEGIN
    UPDATE repositories SET tags = tags - 1 WHERE id = old.repository;
    UPDATE namespaces SET tags = tags - 1 WHERE name = ''
        OR id IN (SELECT namespace FROM members WHERE repository = old.repository); END;
";

/// The triggers.
pub(super) fn triggers() -> String {
    let mut text = SUMS.to_owned();
    for (table, other, begins, ends, column) in [
        ("blobs", AS_MANIFEST, "new.counted = 1", "old.counted = 1", "counted"),
        ("manifests", AS_BLOB, "new.deleted IS NULL", "old.deleted IS NULL", "deleted"),
    ] {
        let of = |text: &str, row: &str| text.replace("{alone}", ALONE).replace("{row}", row);
        let (gained, lost) = (of(GAINED, "new"), of(LOST, "old"));
        let (new, old) = (of(other, "new"), of(other, "old"));
        text.push_str(&format!(
            "CREATE TRIGGER {table}_begun AFTER INSERT ON {table} WHEN {begins} AND NOT {new} BEGIN {gained} END;
             CREATE TRIGGER {table}_begun_again AFTER UPDATE OF {column} ON {table}
                WHEN {begins} AND NOT ({ends}) AND NOT {new} BEGIN {gained} END;
             CREATE TRIGGER {table}_ended AFTER UPDATE OF {column} ON {table}
                WHEN {ends} AND NOT ({begins}) AND NOT {old} BEGIN {lost} END;
             CREATE TRIGGER {table}_gone AFTER DELETE ON {table} WHEN {ends} AND NOT {old} BEGIN {lost} END;"
        ));
    }
    text
}

/// Which blobs count, where that is not known: those that are needed, and those that nobody ever named.
pub(super) const COUNTED: &str = "
UPDATE blobs SET counted = deleted IS NULL AND (
    NOT EXISTS (SELECT 1 FROM edges e
        WHERE e.repository = blobs.repository AND e.target = blobs.digest AND e.kind IN (1, 2))
    OR EXISTS (SELECT 1 FROM edges e JOIN manifests m
        ON m.repository = e.repository AND m.digest = e.manifest AND m.deleted IS NULL
        WHERE e.repository = blobs.repository AND e.target = blobs.digest AND e.kind IN (1, 2)));
";

/// All numbers, where there are none yet and no trigger either.
const COUNT: &str = "
CREATE TEMP TABLE counting (repository, digest, size, PRIMARY KEY (repository, digest)) WITHOUT ROWID;
INSERT INTO counting SELECT repository, digest, max(size) FROM (
    SELECT repository, digest, size FROM blobs WHERE counted = 1
    UNION ALL SELECT repository, digest, size FROM manifests WHERE deleted IS NULL) GROUP BY repository, digest;
UPDATE repositories SET bytes = (SELECT coalesce(sum(size), 0) FROM counting WHERE repository = id),
    tags = (SELECT count(*) FROM tags WHERE repository = id);
INSERT INTO holdings (namespace, digest, size, holders)
    SELECT m.namespace, c.digest, max(c.size), count(*) FROM members m JOIN counting c USING (repository)
    GROUP BY m.namespace, c.digest;
UPDATE namespaces SET bytes = (SELECT coalesce(sum(size), 0) FROM holdings WHERE namespace = id),
    tags = (SELECT coalesce(sum(r.tags), 0) FROM members m JOIN repositories r ON r.id = m.repository
        WHERE m.namespace = namespaces.id) WHERE name <> '';
UPDATE namespaces SET bytes = (SELECT coalesce(sum(size), 0) FROM (
        SELECT max(size) AS size FROM counting GROUP BY digest)),
    tags = (SELECT count(*) FROM tags) WHERE name = '';
DROP TABLE temp.counting;
";

/// Notes which namespaces a new repository lies in.
pub(super) fn join(database: &Connection, repository: i64, name: &str) -> Result<(), StorageError> {
    for namespace in namespaces(name) {
        database
            .prepare_cached("INSERT OR IGNORE INTO namespaces (name) VALUES (?1)")?
            .execute([namespace])?;
        database
            .prepare_cached(
                "INSERT INTO members (repository, namespace) SELECT ?1, id FROM namespaces WHERE name = ?2",
            )?
            .execute((repository, namespace))?;
    }
    Ok(())
}

/// Counts what a database of an earlier version has, and keeps it counted.
pub(super) fn begin(database: &Connection) -> Result<(), StorageError> {
    database.execute_batch(TABLES)?;
    join_all(database)?;
    database.execute_batch(COUNTED)?;
    database.execute_batch(COUNT)?;
    Ok(database.execute_batch(&triggers())?)
}

/// Which namespaces lie all in that are there.
fn join_all(database: &Connection) -> Result<(), StorageError> {
    let mut statement = database.prepare("SELECT id, name FROM repositories")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        join(database, row.get(0)?, row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?)?;
    }
    Ok(())
}

fn columns(row: &Row<'_>) -> rusqlite::Result<Used> {
    Ok(Used { bytes: row.get("bytes")?, tags: row.get("tags")? })
}

/// How much a scope has.
pub(super) fn used(database: &Connection, scope: &Scope) -> Result<Used, StorageError> {
    let (table, name) = match scope {
        Scope::Repository(name) => ("repositories", name),
        Scope::Namespace(name) => ("namespaces", name),
    };
    let mut statement =
        database.prepare_cached(&format!("SELECT bytes, tags FROM {table} WHERE name = ?1"))?;
    Ok(statement.query_row([name], columns).optional()?.unwrap_or_default())
}

/// Scopes of one kind.
pub(super) fn all(
    database: &Connection,
    of: Kin,
    last: &str,
    count: u64,
) -> Result<Vec<(String, Used)>, StorageError> {
    let table = match of {
        Kin::Repositories => "repositories",
        Kin::Namespaces => "namespaces",
    };
    let mut statement = database.prepare_cached(&format!(
        "SELECT name, bytes, tags FROM {table} WHERE name > ?1 ORDER BY name LIMIT ?2"
    ))?;
    let found = statement.query_map((last, count), |row| Ok((row.get("name")?, columns(row)?)))?;
    Ok(found.collect::<Result<_, _>>()?)
}

/// Does something that may grow, and refuses it where that is more than the bounds allow.
pub(super) fn within<T>(
    database: &Connection,
    bounds: &[Bound],
    work: impl FnOnce() -> Result<T, StorageError>,
) -> Result<T, StorageError> {
    let before: Vec<Used> =
        bounds.iter().map(|bound| used(database, &bound.scope)).collect::<Result<_, _>>()?;
    let done = work()?;
    for (bound, before) in bounds.iter().zip(before) {
        bound.check(before, used(database, &bound.scope)?)?;
    }
    Ok(done)
}

const _: () =
    assert!(limits::NAMESPACE_DEPTH > 0, "a namespace of one component is the least that is counted");

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Everything that is counted.
    pub(in super::super) fn picture(database: &Connection) -> Vec<String> {
        let mut lines = Vec::new();
        for query in [
            "SELECT 'r ' || name || ' ' || bytes || ' ' || tags FROM repositories ORDER BY name",
            "SELECT 'n ' || name || ' ' || bytes || ' ' || tags FROM namespaces ORDER BY name",
            "SELECT 'h ' || n.name || ' ' || digest || ' ' || size || ' ' || holders FROM holdings h
             JOIN namespaces n ON n.id = h.namespace ORDER BY n.name, digest",
        ] {
            let mut statement = database.prepare(query).expect("a statement");
            let rows = statement.query_map([], |row| row.get::<_, String>(0)).expect("rows");
            lines.extend(rows.map(|row| row.expect("a row")));
        }
        lines
    }

    /// What the triggers keep is what a count from nothing finds, whatever rows come and go.
    #[test]
    fn what_triggers_keep_is_what_a_count_finds() {
        let folder = tempfile::tempdir().expect("folder");
        let database = super::super::schema::open(&folder.path().join("registry.db")).expect("a database");
        for name in ["app", "team/a", "team/b", "team/deep/c/d/e/f"] {
            super::super::writes::ensure(&database, name).expect("a repository");
        }
        // a fixed walk through all that can happen to rows, the same each time
        let mut state = 7_u64;
        let mut draw = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        for step in 0..600 {
            let (repository, digest) = (draw(4) + 1, draw(5));
            let size = digest * 10 + 1;
            let statement = match draw(9) {
                0 | 1 => format!(
                    "INSERT INTO blobs (repository, digest, size, counted) VALUES ({repository}, 'd{digest}', {size}, 1)
                     ON CONFLICT (repository, digest) DO UPDATE SET counted = 1, deleted = NULL"
                ),
                2 => format!("UPDATE blobs SET counted = 0 WHERE repository = {repository} AND digest = 'd{digest}'"),
                3 => format!("DELETE FROM blobs WHERE repository = {repository} AND digest = 'd{digest}'"),
                4 => format!(
                    "INSERT INTO manifests (repository, digest, media_type, size) VALUES ({repository}, 'd{digest}', 't', {size})
                     ON CONFLICT (repository, digest) DO UPDATE SET deleted = NULL"
                ),
                5 => format!("UPDATE manifests SET deleted = 1 WHERE repository = {repository} AND digest = 'd{digest}'"),
                6 => format!("DELETE FROM manifests WHERE repository = {repository} AND digest = 'd{digest}'"),
                7 => format!(
                    "INSERT INTO tags (repository, name, digest, updated) VALUES ({repository}, 't{digest}', 'd', 1)
                     ON CONFLICT (repository, name) DO UPDATE SET updated = 2"
                ),
                _ => format!("DELETE FROM tags WHERE repository = {repository} AND name = 't{digest}'"),
            };
            database.execute_batch(&statement).expect("a change");
            let kept = picture(&database);
            // in a transaction that ends with nothing
            database
                .execute_batch("BEGIN; DROP TRIGGER holdings_begun; DELETE FROM holdings;")
                .expect("nothing");
            database.execute_batch(COUNT).expect("a count");
            assert_eq!(kept, picture(&database), "{step}: {statement}");
            database.execute_batch("ROLLBACK").expect("as before");
        }
    }
}
