//! What webhooks are to be told, by any replica.

use super::{
    connect::Pool,
    row::{millis, natural, number},
};
use crate::{
    limits,
    server::storage::{
        StorageError,
        pointers::{Outbox, OutboxError, Waiting},
    },
};
use postgres::Row;
use std::{sync::Arc, time::Duration};

/// Notices in the database that replicas share.
pub(super) struct SharedOutbox(pub(super) Arc<Pool>);

fn waiting(row: &Row) -> Result<Waiting, postgres::Error> {
    let time = |index| natural(row, index).map(Duration::from_millis);
    let attempts: i32 = row.try_get(3)?;
    Ok(Waiting {
        id: row.try_get(0)?,
        body: row.try_get(1)?,
        age: time(2)?,
        attempts: attempts.unsigned_abs(),
        wait: time(4)?,
    })
}

impl Outbox for SharedOutbox {
    fn add(&self, all: &[(&str, String)]) -> Result<(), OutboxError> {
        let hooks: Vec<&str> = all.iter().map(|(hook, _)| *hook).collect();
        let bodies: Vec<&str> = all.iter().map(|(_, body)| body.as_str()).collect();
        let room = number(limits::NOTICES.saturating_sub(all.len() as u64));
        let added = self.0.write(|database| {
            database.run(
                "INSERT INTO notices (hook, body)
                 SELECT hook, body FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS new (hook, body, place)
                 WHERE (SELECT count(*) FROM (SELECT FROM notices LIMIT $3::bigint + 1) AS waiting) <= $3 ORDER BY place",
                &[&hooks, &bodies, &room],
            )
        })?;
        if added == 0 && !all.is_empty() { Err(OutboxError::Full) } else { Ok(()) }
    }

    fn first(&self, hook: &str) -> Result<Option<Waiting>, OutboxError> {
        let found = self.0.read(|database| {
            let since = |time: &str| format!("greatest(0, extract(epoch FROM {time}) * 1000)::bigint");
            let text = format!(
                "SELECT id, body, {}, attempts, {} FROM notices WHERE hook = $1 ORDER BY id LIMIT 1",
                since("clock_timestamp() - made"),
                since("due - clock_timestamp()"),
            );
            let row = database.row(&text, &[&hook])?;
            Ok::<_, StorageError>(row.as_ref().map(waiting).transpose()?)
        });
        Ok(found?)
    }

    fn all(&self, count: u64) -> Result<Vec<(i64, String, String)>, OutboxError> {
        let found = self.0.read(|database| {
            let rows = database
                .rows("SELECT id, hook, body FROM notices ORDER BY id LIMIT $1", &[&number(count)])?;
            let one = |row: &Row| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?));
            rows.iter().map(one).collect::<Result<_, StorageError>>()
        });
        Ok(found?)
    }

    fn claim(&self, waiting: &Waiting, time: Duration) -> Result<bool, OutboxError> {
        let attempts = i32::try_from(waiting.attempts).unwrap_or(i32::MAX);
        let claimed = self.0.read(|database| {
            database.run(
                "UPDATE notices SET attempts = attempts + 1, due = clock_timestamp() + $3::bigint * interval '1 millisecond'
                 WHERE id = $1 AND attempts = $2 AND due <= clock_timestamp()",
                &[&waiting.id, &attempts, &millis(time)],
            )
        });
        Ok(claimed? == 1)
    }

    fn postpone(&self, id: i64, attempts: u32, pause: Duration) -> Result<(), OutboxError> {
        let attempts = i32::try_from(attempts).unwrap_or(i32::MAX);
        self.0.read(|database| {
            database.run(
                "UPDATE notices SET due = clock_timestamp() + $3::bigint * interval '1 millisecond' WHERE id = $1 AND attempts = $2",
                &[&id, &attempts, &millis(pause)],
            )
        })?;
        Ok(())
    }

    fn remove(&self, id: i64) -> Result<(), OutboxError> {
        self.0.read(|database| database.run("DELETE FROM notices WHERE id = $1", &[&id]))?;
        Ok(())
    }

    fn count(&self) -> Result<u64, OutboxError> {
        let count: i64 = self.0.read(|database| database.one("SELECT count(*) FROM notices", &[]))?;
        Ok(count.unsigned_abs())
    }
}
