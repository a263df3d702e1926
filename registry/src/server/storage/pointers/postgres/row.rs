//! How values lie in columns.

use bytes::BytesMut;
use postgres::{
    Row,
    types::{FromSql, IsNull, ToSql, Type, to_sql_checked},
};
use slipway_oci::Digest;
use std::{borrow::Cow, error::Error, time::Duration};

/// A digest as it is stored.
pub(super) struct Stored(pub(super) Digest);

impl<'a> FromSql<'a> for Stored {
    fn from_sql(of: &Type, raw: &'a [u8]) -> Result<Stored, Box<dyn Error + Sync + Send>> {
        Ok(Stored(<&str>::from_sql(of, raw)?.parse()?))
    }

    fn accepts(of: &Type) -> bool {
        <&str as FromSql>::accepts(of)
    }
}

/// A number that is never negative.
pub(super) struct Natural(pub(super) u64);

impl<'a> FromSql<'a> for Natural {
    fn from_sql(of: &Type, raw: &'a [u8]) -> Result<Natural, Box<dyn Error + Sync + Send>> {
        Ok(Natural(u64::try_from(i64::from_sql(of, raw)?)?))
    }

    fn accepts(of: &Type) -> bool {
        <i64 as FromSql>::accepts(of)
    }
}

/// A text of somebody outside. It may have zero bytes in it, which the database's texts cannot: such a one lies there with its zero
/// bytes as `\u{1}0`, its `\u{1}` as `\u{1}1`, and a `\u{1}` in front of all.
#[derive(Debug)]
pub(super) struct Outside<'a>(pub(super) &'a str);

const MARK: char = '\u{1}';

impl Outside<'_> {
    /// As it lies there.
    pub(super) fn stored(&self) -> Cow<'_, str> {
        if !self.0.contains('\0') && !self.0.starts_with(MARK) {
            return Cow::Borrowed(self.0);
        }
        Cow::Owned(format!("{MARK}{}", self.0.replace(MARK, "\u{1}1").replace('\0', "\u{1}0")))
    }
}

fn outside(stored: String) -> String {
    match stored.strip_prefix(MARK) {
        Some(rest) => rest.replace("\u{1}0", "\0").replace("\u{1}1", "\u{1}"),
        None => stored,
    }
}

impl ToSql for Outside<'_> {
    fn to_sql(&self, of: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        (&*self.stored()).to_sql(of, out)
    }

    fn accepts(of: &Type) -> bool {
        <&str as ToSql>::accepts(of)
    }

    to_sql_checked!();
}

/// The same of a column.
pub(super) fn optional_outside(row: &Row, index: usize) -> Result<Option<String>, postgres::Error> {
    Ok(row.try_get::<_, Option<String>>(index)?.map(outside))
}

/// As much of a text of somebody outside as names are compared with: what comes after `a\0b` comes after `a`, for no name has
/// a zero byte.
pub(super) fn place(text: &str) -> &str {
    text.split('\0').next().unwrap_or_default()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_with_zero_bytes_come_back_as_they_were() {
        for text in
            ["", "plain", "ä", "\0", "a\0b\0", "\u{1}", "\u{1}0", "a\u{1}", "\u{1}1\0\u{1}\u{1}0", "\0\u{1}1"]
        {
            let stored = Outside(text).stored().into_owned();
            assert!(!stored.contains('\0'), "{text:?}");
            assert_eq!(outside(stored), text, "{text:?}");
        }
        assert_eq!(Outside("plain").stored(), "plain");
        assert_eq!((place("a\0b"), place("\0"), place("ab")), ("a", "", "ab"));
    }
}
