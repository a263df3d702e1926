//! Leases on work that one of all replicas does at a time: a holder, until when, and a number that fences off former holders.
//!
//! Only the database's clock counts. Who holds a lease extends it while it works; who dies lets it run out, and any other takes it
//! then. One that stood still for longer, and goes on without knowing, has a lower number than its successor: what it writes down is
//! not taken.

use super::{connect::Pool, row::millis};
use crate::limits;
use crate::server::storage::StorageError;
use std::{sync::Arc, time::Duration};

/// What replicas do one at a time.
#[derive(Clone)]
pub struct Leases {
    pool: Arc<Pool>,
    /// How this one is called in the table.
    holder: String,
}

/// A lease that was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The work.
    pub name: String,
    /// Higher than that of every former holder.
    pub fence: i64,
    /// When it was taken, in seconds since 1970 by the database's clock.
    pub at: i64,
}

impl Leases {
    pub(super) fn new(pool: Arc<Pool>) -> Leases {
        let uname = rustix::system::uname();
        let machine = uname.nodename().to_string_lossy();
        Leases { pool, holder: format!("{machine}/{}", std::process::id()) }
    }

    /// Takes the lease on some work for `time`; `None` where another one has it, or finished it less than `every` ago.
    pub fn take(&self, name: &str, every: Duration, time: Duration) -> Result<Option<Lease>, StorageError> {
        let row = self.pool.read(|database| {
            database.row(
                "INSERT INTO leases AS l (name, holder, until, fence)
                 VALUES ($1, $2, clock_timestamp() + $3::bigint * interval '1 millisecond', 1)
                 ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until, fence = l.fence + 1
                 WHERE l.until <= clock_timestamp()
                     AND (l.finished IS NULL OR l.finished <= clock_timestamp() - $4::bigint * interval '1 millisecond')
                 RETURNING fence, extract(epoch FROM clock_timestamp())::bigint",
                &[&name, &self.holder, &millis(time), &millis(every)],
            )
        })?;
        let lease = |row: postgres::Row| {
            Ok(Lease { name: name.to_owned(), fence: row.try_get(0)?, at: row.try_get(1)? })
        };
        row.map(lease).transpose()
    }

    /// Who has the lease on some work at this moment.
    pub fn holder(&self, name: &str) -> Result<Option<String>, StorageError> {
        self.pool.read(|database| {
            let text = "SELECT holder FROM leases WHERE name = $1 AND until > clock_timestamp()";
            Ok(database.row(text, &[&name])?.map(|row| row.try_get(0)).transpose()?)
        })
    }

    /// How long ago the work was done last, where it ever was.
    pub fn age(&self, name: &str) -> Result<Option<Duration>, StorageError> {
        self.pool.read(|database| {
            let text =
                "SELECT extract(epoch FROM clock_timestamp() - finished)::float8 FROM leases WHERE name = $1";
            let row = database.row(text, &[&name])?;
            let age = row.map(|row| row.try_get::<_, Option<f64>>(0)).transpose()?.flatten();
            Ok(age.map(|seconds| Duration::from_secs_f64(seconds.max(0.0))))
        })
    }

    /// Forgets leases whose names begin with `kin`, and that nobody has had for `time`.
    pub fn prune(&self, kin: &str, time: Duration) -> Result<(), StorageError> {
        self.update(
            "DELETE FROM leases WHERE starts_with(name, $1) AND until < clock_timestamp() - $2::bigint * interval '1 millisecond'",
            &[&kin, &millis(time)],
        )?;
        Ok(())
    }

    /// Extends a lease to `time` from now. Answers whether it is still this one's.
    pub fn keep(&self, lease: &Lease, time: Duration) -> Result<bool, StorageError> {
        self.update(
            "UPDATE leases SET until = clock_timestamp() + $3::bigint * interval '1 millisecond' WHERE name = $1 AND fence = $2",
            &[&lease.name, &lease.fence, &millis(time)],
        )
    }

    /// Gives a lease back; `finished`: the work is done for now.
    pub fn end(&self, lease: &Lease, finished: bool) -> Result<(), StorageError> {
        // clients choose what errands are called: of one that brought nothing there is nothing to remember
        if !finished
            && lease.name.starts_with(limits::MIRROR_ERRAND)
            && self.update(
                "DELETE FROM leases WHERE name = $1 AND fence = $2 AND finished IS NULL",
                &[&lease.name, &lease.fence],
            )?
        {
            return Ok(());
        }
        self.update(
            "UPDATE leases SET until = clock_timestamp(), finished = CASE WHEN $3 THEN clock_timestamp() ELSE finished END
             WHERE name = $1 AND fence = $2",
            &[&lease.name, &lease.fence, &finished],
        )?;
        Ok(())
    }

    /// How far the work is, as its holder wrote it down last.
    pub fn note(&self, name: &str) -> Result<Option<String>, StorageError> {
        self.pool.read(|database| {
            let row = database.row("SELECT note FROM leases WHERE name = $1", &[&name])?;
            Ok(row.map(|row| row.try_get(0)).transpose()?.flatten())
        })
    }

    /// Writes down how far it is. Answers whether the lease is still this one's: otherwise nothing is written.
    pub fn set_note(&self, lease: &Lease, note: &str) -> Result<bool, StorageError> {
        self.update(
            "UPDATE leases SET note = $3 WHERE name = $1 AND fence = $2",
            &[&lease.name, &lease.fence, &note],
        )
    }

    fn update(&self, text: &str, values: super::connect::Values<'_>) -> Result<bool, StorageError> {
        Ok(self.pool.read(|database| database.run(text, values))? > 0)
    }
}
