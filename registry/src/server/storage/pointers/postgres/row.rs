//! How values lie in columns.

use postgres::{
    Row,
    types::{FromSql, Type},
};
use slipway_oci::Digest;
use std::{error::Error, time::Duration};

/// A digest as it is stored.
pub(super) struct Stored(pub(super) Digest);

impl<'a> FromSql<'a> for Stored {
    fn from_sql(of: &Type, raw: &'a [u8]) -> Result<Stored, Box<dyn Error + Sync + Send>> {
        Ok(Stored(<&str>::from_sql(of, raw)?.parse()?))
    }

    fn accepts(of: &Type) -> bool {
        <&str>::accepts(of)
    }
}

/// A number that is never negative.
pub(super) struct Natural(pub(super) u64);

impl<'a> FromSql<'a> for Natural {
    fn from_sql(of: &Type, raw: &'a [u8]) -> Result<Natural, Box<dyn Error + Sync + Send>> {
        Ok(Natural(u64::try_from(i64::from_sql(of, raw)?)?))
    }

    fn accepts(of: &Type) -> bool {
        i64::accepts(of)
    }
}

pub(super) fn digest(row: &Row, index: usize) -> Result<Digest, postgres::Error> {
    Ok(row.try_get::<_, Stored>(index)?.0)
}

pub(super) fn optional_digest(row: &Row, index: usize) -> Result<Option<Digest>, postgres::Error> {
    Ok(row.try_get::<_, Option<Stored>>(index)?.map(|stored| stored.0))
}

pub(super) fn natural(row: &Row, index: usize) -> Result<u64, postgres::Error> {
    Ok(row.try_get::<_, Natural>(index)?.0)
}

/// A number for a column; what is larger than any can be is the largest.
pub(super) fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// A time as milliseconds; a thousand years are long enough.
pub(super) fn millis(time: Duration) -> i64 {
    number(time.as_secs().min(1000 * 366 * 24 * 3600)) * 1000 + i64::from(time.subsec_millis())
}

/// The first column of each row.
pub(super) fn texts(rows: &[Row]) -> Result<Vec<String>, postgres::Error> {
    rows.iter().map(|row| row.try_get(0)).collect()
}

/// The first column of each row.
pub(super) fn digests(rows: &[Row]) -> Result<Vec<Digest>, postgres::Error> {
    rows.iter().map(|row| digest(row, 0)).collect()
}
