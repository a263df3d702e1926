//! A collection in a store of a million blobs, and reads beside it.
//!
//! Such a store is made by SQL from what the server's own schema has, triggers included: pushing it would take hours, of which
//! nothing is asked here. It has no files: `unlink` of what is not there takes the place of removing one, which costs what the
//! disk makes of it.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::http::Connection;
use super::server::Server;
use super::{MANIFEST_TYPE, Row, Things, load};
use crate::process::quiet;
use crate::{Failure, house};

/// Repositories, each with as many manifests under a tag, and blobs; nine tenths of the blobs are needed.
const REPOSITORIES: usize = 1000;
const MANIFESTS: usize = 100;
const BLOBS: usize = 1000;

/// The longest that a pass may take.
const PATIENCE: Duration = Duration::from_secs(300);

/// Everything was pushed long ago.
fn sql() -> String {
    let digest = |kind: char, number: &str| format!("'sha256:{kind}' || printf('%063x', {number})");
    let (blob, manifest) = (digest('b', "r.i * 10000 + n.i"), digest('a', "r.i * 10000 + n.i"));
    let needed = BLOBS * 9 / 10;
    let per_manifest = needed / MANIFESTS;
    let target = digest('b', &format!("r.i * 10000 + n.i * {per_manifest} + k.i"));
    format!(
        "PRAGMA synchronous = OFF; PRAGMA temp_store = MEMORY; PRAGMA cache_size = -500000; BEGIN;
         CREATE TEMP TABLE r AS WITH RECURSIVE c(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM c WHERE i < {REPOSITORIES}) SELECT i FROM c;
         CREATE TEMP TABLE n AS WITH RECURSIVE c(i) AS (VALUES (0) UNION ALL SELECT i + 1 FROM c WHERE i < 9999) SELECT i FROM c;
         INSERT INTO repositories (id, name) SELECT 1000 + i, printf('many%04d', i) FROM r;
         INSERT INTO blobs (repository, digest, size, loose, counted)
            SELECT 1000 + r.i, {blob}, 4096, CASE WHEN n.i >= {needed} THEN 1 END, 1 FROM r, n WHERE n.i < {BLOBS} ORDER BY r.i, n.i;
         INSERT INTO manifests (repository, digest, media_type, size, pushed)
            SELECT 1000 + r.i, {manifest}, '{MANIFEST_TYPE}', 500, 1 FROM r, n WHERE n.i < {MANIFESTS} ORDER BY r.i, n.i;
         INSERT INTO tags (repository, name, digest, updated)
            SELECT 1000 + r.i, printf('t%04d', n.i), {manifest}, 1 FROM r, n WHERE n.i < {MANIFESTS} ORDER BY r.i, n.i;
         INSERT INTO edges (repository, manifest, target, kind)
            SELECT 1000 + r.i, {manifest}, {target}, 1 FROM r, n, n k WHERE n.i < {MANIFESTS} AND k.i < {per_manifest};
         COMMIT; ANALYZE;"
    )
}

/// A number of `/metrics`.
fn metric(server: &Server, name: &str) -> Result<f64, Failure> {
    let answer = Connection::open(&server.address)?.ask("GET", "/metrics", &[], b"")?;
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    value.ok_or_else(|| Failure(format!("no `{name}` in the metrics")))
}

fn wait_for(server: &Server, name: &str, least: f64) -> Result<(), Failure> {
    let begun = Instant::now();
    while metric(server, name)? < least {
        if begun.elapsed() > PATIENCE {
            return Err(Failure(format!("`{name}` does not come to {least}")));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

fn flags(collect: &str) -> [String; 2] {
    ["--collect".to_owned(), collect.to_owned()]
}

/// Fills a store and measures.
pub(super) fn measure(
    slipway: &Path,
    things: &Things,
    rounds: usize,
    rows: &mut Vec<Row>,
) -> Result<(), Failure> {
    let storage = house::empty_folder("bench/registry-many")?;
    things.push(&Server::slipway(slipway, &storage, &flags("off"))?)?;
    let begun = Instant::now();
    quiet(Command::new("sqlite3").arg(storage.join("registry.db")).arg(sql()))?;
    println!("a store of {} blobs was made in {:.0} s", REPOSITORIES * BLOBS, begun.elapsed().as_secs_f64());

    let [(_, manifest), ..] = things.targets();
    let accept = [format!("Accept: {MANIFEST_TYPE}")];
    let mut reads = Row::new("manifest by tag beside a collection of a million blobs", "requests/s");
    let garbage = (REPOSITORIES * BLOBS / 10) as f64;
    {
        let quiet = Server::slipway(slipway, &storage, &flags("off"))?;
        // at the pace that it has without settings; the first pass begins some seconds after the start
        let busy = Server::slipway(slipway, &storage, &flags("1000/s every 1s after 1h"))?;
        wait_for(&busy, "slipway_collected_total", 1.0)?;
        for _ in 0..rounds.max(3) {
            reads.add("without one", load(&quiet, &manifest, &accept)?);
            reads.add("beside it", load(&busy, &manifest, &accept)?);
        }
        if metric(&busy, "slipway_collected_total")? >= garbage {
            return Err(Failure("the collection was over before the reads".to_owned()));
        }
    }
    let mut pass = Row::new("a pass over a million blobs, a tenth of them garbage", "s");
    let server = Server::slipway(slipway, &storage, &flags("1000000/s every 1s after 1h"))?;
    wait_for(&server, "slipway_collected_total", 1.0)?;
    let begun = Instant::now();
    wait_for(&server, "slipway_collection_ended_seconds", 1.0)?;
    pass.add("from its first page to its end", begun.elapsed().as_secs_f64());
    let share = garbage / metric(&server, "slipway_collected_total")?;
    let locked = metric(&server, "slipway_database_locked_seconds_total")?;
    pass.add("in which nobody else could write", locked * share);
    drop(server);
    rows.extend([reads, pass]);
    trash(slipway, &storage, rows)
}

/// A trash of a hundred thousand manifests is emptied, and what they needed has its grace.
fn trash(slipway: &Path, storage: &Path, rows: &mut Vec<Row>) -> Result<(), Failure> {
    let sql = "BEGIN; DELETE FROM tags WHERE repository > 1000;
        UPDATE manifests SET deleted = 1 WHERE repository > 1000; COMMIT;";
    quiet(Command::new("sqlite3").arg(storage.join("registry.db")).arg(sql))?;
    let mut command = Command::new(slipway);
    command.args(["registry", "gc", "--trash", "0", "--grace", "30d", "--json", "--storage"]);
    let (output, took) = quiet(command.arg(storage))?;
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    if said["manifests"] != REPOSITORIES * MANIFESTS {
        return Err(Failure(format!("the trash was not emptied: {said}")));
    }
    let mut row = Row::new("a trash of 100,000 manifests is emptied", "s");
    row.add("slipway registry gc", took.as_secs_f64());
    rows.push(row);
    Ok(())
}
