//! Devices that wait to be let in, at whichever replica they asked and their people type. Times are the database's.

use super::{
    connect::{Database, Pool},
    row::number,
};
use crate::server::storage::StorageError;
use std::{sync::Arc, time::Duration};

/// A device that begins to wait.
#[derive(Clone, Copy, Debug)]
pub struct NewDevice<'a> {
    /// The digest of what it asks with.
    pub secret: &'a str,
    /// What people type.
    pub code: &'a str,
    /// What it calls itself.
    pub client: &'a str,
    /// Where it asked from.
    pub address: Option<&'a str>,
    /// How many may wait.
    pub most: u64,
    /// How many of one address.
    pub most_of_address: u64,
}

/// How long what holds, in whole seconds.
#[derive(Clone, Copy, Debug)]
pub struct DeviceTimes {
    /// A code; what is over stays as long again, so that its device is told.
    pub life: Duration,
    /// Between two questions of a device, at first; one that asks too early waits this much longer.
    pub pause: Duration,
    /// How long wrong codes count.
    pub guesses: Duration,
    /// How many somebody may type in that time.
    pub most_guesses: u64,
}

/// What a device that asks is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// There is none, or it is another client's.
    Unknown,
    /// It waited too long.
    Expired,
    /// Nothing was decided, and it asks too often.
    Early,
    /// Nothing was decided.
    Pending,
    /// It was refused.
    Refused,
    /// It may act as somebody.
    Allowed {
        /// As whom.
        user: String,
        /// What their tokens stood on when they said so.
        stamp: String,
    },
}

/// What somebody decides: what their tokens stand on where they let the device in.
#[derive(Clone, Debug)]
pub struct Decided(pub Option<String>);

/// What somebody who types a code is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Typed {
    /// Whose it is.
    Known {
        /// What the device calls itself.
        client: String,
        /// Where it asked from.
        address: Option<String>,
    },
    /// Nobody's.
    Unknown,
    /// They typed too many that were wrong; for how long that counts yet.
    Often(Duration),
}

/// Devices in the database that replicas share. What they mean is said in the server's `devices`.
pub struct SharedDevices(Arc<Pool>);

/// An interval of so many seconds, given as parameter `place`.
fn seconds(place: &str) -> String {
    format!("({place}::bigint * interval '1 second')")
}

fn whole(time: Duration) -> i64 {
    number(time.as_secs())
}

impl SharedDevices {
    pub(super) fn new(pool: Arc<Pool>) -> SharedDevices {
        SharedDevices(pool)
    }

    /// A device begins to wait. Answers whether there was room.
    pub fn begin(&self, device: &NewDevice<'_>, times: &DeviceTimes) -> Result<bool, StorageError> {
        let NewDevice { secret, code, client, address, most, most_of_address } = device;
        // of many that begin at once at several replicas, each may let one more in
        self.0.write(|database| {
            let life = whole(times.life);
            let over = format!("DELETE FROM devices WHERE until + {} < clock_timestamp()", seconds("$1"));
            database.run(&over, &[&life])?;
            let over = format!("DELETE FROM guesses WHERE since + {} < clock_timestamp()", seconds("$1"));
            database.run(&over, &[&whole(times.guesses)])?;
            let text = format!(
                "INSERT INTO devices (secret, code, client, address, until, pause)
                 SELECT $1, $2, $3, $4, clock_timestamp() + {}, $6
                 WHERE (SELECT count(*) FROM devices) < $7
                 AND (SELECT count(*) FROM devices WHERE address IS NOT DISTINCT FROM $4) < $8
                 ON CONFLICT DO NOTHING",
                seconds("$5"),
            );
            let count = database.run(
                &text,
                &[
                    secret,
                    code,
                    client,
                    address,
                    &life,
                    &whole(times.pause),
                    &number(*most),
                    &number(*most_of_address),
                ],
            )?;
            Ok(count > 0)
        })
    }

    /// A device asks. What is decided, or over, is told once.
    pub fn ask(&self, secret: &str, client: &str, times: &DeviceTimes) -> Result<Asked, StorageError> {
        self.0.write(|database| {
            let text = format!(
                "SELECT until <= clock_timestamp(), coalesce(asked + {} > clock_timestamp(), false), allowed, who, stamp
                 FROM devices WHERE secret = $1 AND client = $2 AND until + {} > clock_timestamp() FOR UPDATE",
                seconds("pause"),
                seconds("$3"),
            );
            let Some(row) = database.row(&text, &[&secret, &client, &whole(times.life)])? else {
                return Ok(Asked::Unknown);
            };
            let (is_over, is_early): (bool, bool) = (row.try_get(0)?, row.try_get(1)?);
            let asked = match row.try_get::<_, Option<bool>>(2)? {
                _ if is_over => Asked::Expired,
                Some(true) => Asked::Allowed { user: row.try_get(3)?, stamp: row.try_get(4)? },
                Some(false) => Asked::Refused,
                None if is_early => Asked::Early,
                None => Asked::Pending,
            };
            match asked {
                Asked::Early | Asked::Pending => {
                    let more = if asked == Asked::Early { whole(times.pause) } else { 0 };
                    database.run(
                        "UPDATE devices SET asked = clock_timestamp(), pause = pause + $2 WHERE secret = $1",
                        &[&secret, &more],
                    )?;
                }
                _ => drop(database.run("DELETE FROM devices WHERE secret = $1", &[&secret])?),
            }
            Ok(asked)
        })
    }

    /// `user` typed a code, and decides where they do.
    pub fn typed(
        &self,
        user: &str,
        code: &str,
        decided: Option<&Decided>,
        times: &DeviceTimes,
    ) -> Result<Typed, StorageError> {
        self.0.write(|database| {
            let text = format!(
                "SELECT extract(epoch FROM since + {} - clock_timestamp())::bigint FROM guesses
                 WHERE who = $1 AND count >= $3 AND since + {} > clock_timestamp()",
                seconds("$2"),
                seconds("$2"),
            );
            let often = database.row(&text, &[&user, &whole(times.guesses), &number(times.most_guesses)])?;
            if let Some(row) = often {
                let left: i64 = row.try_get(0)?;
                return Ok(Typed::Often(Duration::from_secs(u64::try_from(left).unwrap_or(0).max(1))));
            }
            if let Some(found) = find(database, user, code, decided)? {
                return Ok(found);
            }
            let text = format!(
                "INSERT INTO guesses AS g (who, since, count) VALUES ($1, clock_timestamp(), 1)
                 ON CONFLICT (who) DO UPDATE SET
                    count = CASE WHEN g.since + {0} > clock_timestamp() THEN g.count + 1 ELSE 1 END,
                    since = CASE WHEN g.since + {0} > clock_timestamp() THEN g.since ELSE clock_timestamp() END",
                seconds("$2"),
            );
            database.run(&text, &[&user, &whole(times.guesses)])?;
            Ok(Typed::Unknown)
        })
    }
}

fn find(
    database: &mut Database,
    user: &str,
    code: &str,
    decided: Option<&Decided>,
) -> Result<Option<Typed>, StorageError> {
    let open = "code = $1 AND allowed IS NULL AND until > clock_timestamp()";
    let row = match decided {
        None => database.row(&format!("SELECT client, address FROM devices WHERE {open}"), &[&code])?,
        Some(Decided(stamp)) => database.row(
            &format!(
                "UPDATE devices SET allowed = $2, who = $3, stamp = $4 WHERE {open} RETURNING client, address"
            ),
            &[&code, &stamp.is_some(), &user, stamp],
        )?,
    };
    let known = |row: postgres::Row| Ok(Typed::Known { client: row.try_get(0)?, address: row.try_get(1)? });
    row.map(known).transpose()
}
