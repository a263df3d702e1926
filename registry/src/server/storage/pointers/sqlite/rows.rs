//! Rows for who carries a registry out of SQLite, or into it.

use super::{SqlitePointers, tally, writer::Durability};
use crate::{
    limits,
    server::storage::{
        StorageError, now_seconds,
        pointers::rows::{CARRIED, Cell, Mark, REFUSED, Row, Rows, Table, text_bytes},
    },
};
use rusqlite::{
    Connection, OptionalExtension, ToSql,
    types::{ToSqlOutput, Value, ValueRef},
};
use std::time::Duration;

/// Until when a hold is for good.
const FOR_GOOD: i64 = i64::MAX;

impl ToSql for Cell {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self {
            Cell::Nothing => ToSqlOutput::Owned(Value::Null),
            Cell::Number(number) => ToSqlOutput::Owned(Value::Integer(*number)),
            Cell::Text(text) => ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes())),
        })
    }
}

fn cell(value: ValueRef<'_>) -> rusqlite::Result<Cell> {
    Ok(match value {
        ValueRef::Null => Cell::Nothing,
        ValueRef::Integer(number) => Cell::Number(number),
        other => Cell::Text(other.as_str()?.to_owned()),
    })
}

fn names(table: &Table) -> Vec<&'static str> {
    table.columns.iter().map(|(name, _)| *name).collect()
}

fn places(count: usize) -> String {
    (1..=count).map(|number| format!("?{number}")).collect::<Vec<_>>().join(", ")
}

fn page(
    database: &Connection,
    table: &Table,
    after: Option<&[Cell]>,
    count: u64,
) -> Result<Vec<Row>, StorageError> {
    let names = names(table);
    let key = names[..table.keys].join(", ");
    let from = match after {
        Some(_) => format!("WHERE ({key}) > ({})", places(table.keys)),
        None => String::new(),
    };
    let text = format!("SELECT {} FROM {} {from} ORDER BY {key} LIMIT {count}", names.join(", "), table.name);
    let mut statement = database.prepare_cached(&text)?;
    let values = rusqlite::params_from_iter(after.unwrap_or_default());
    let rows = statement.query_map(values, |row| {
        (0..table.columns.len()).map(|index| cell(row.get_ref(index)?)).collect::<rusqlite::Result<Row>>()
    })?;
    let (mut found, mut bytes) = (Vec::new(), 0);
    for row in rows {
        let row = row?;
        bytes += text_bytes(&row);
        found.push(row);
        if bytes >= limits::MOVE_BYTES {
            break;
        }
    }
    Ok(found)
}

fn change(database: &Connection, table: &Table, put: &[Row], gone: &[Row]) -> Result<(), StorageError> {
    let names = names(table);
    let key = &names[..table.keys];
    let news: Vec<String> =
        names[table.keys..].iter().map(|name| format!("{name} = excluded.{name}")).collect();
    let clash =
        if news.is_empty() { "NOTHING".to_owned() } else { format!("UPDATE SET {}", news.join(", ")) };
    // one of a repository that came after its table was carried waits for the next round
    let known = match names.iter().position(|name| *name == "repository") {
        Some(at) => format!("EXISTS (SELECT 1 FROM repositories WHERE id = ?{})", at + 1),
        None => "true".to_owned(),
    };
    let insert = format!(
        "INSERT INTO {} ({}) SELECT {} WHERE {known} ON CONFLICT ({}) DO {clash}",
        table.name,
        names.join(", "),
        places(names.len()),
        key.join(", "),
    );
    let mut statement = database.prepare_cached(&insert)?;
    for row in put {
        statement.execute(rusqlite::params_from_iter(row))?;
        if let ("repositories", [Cell::Number(id), Cell::Text(name)]) = (table.name, &row[..]) {
            tally::join(database, *id, name)?;
        }
    }
    let text = format!("DELETE FROM {} WHERE ({}) = ({})", table.name, key.join(", "), places(table.keys));
    let mut statement = database.prepare_cached(&text)?;
    for row in gone {
        statement.execute(rusqlite::params_from_iter(table.key(row)))?;
    }
    Ok(())
}

/// What refuses changes of each table: a name, and of what.
fn guards() -> Vec<(String, String)> {
    let carried = CARRIED.iter().map(|table| (table.name, table.held));
    let all = carried.chain([("signing_keys", &[][..])]).flat_map(|(table, columns)| {
        let of = if columns.is_empty() { String::new() } else { format!("OF {} ", columns.join(", ")) };
        [
            (format!("moving_{table}_new"), format!("INSERT ON {table}")),
            (format!("moving_{table}_changed"), format!("UPDATE {of}ON {table}")),
            (format!("moving_{table}_gone"), format!("DELETE ON {table}")),
        ]
    });
    all.chain([("moving_uploads_new".to_owned(), "INSERT ON uploads".to_owned())]).collect()
}

fn is_marked(database: &Connection) -> Result<bool, StorageError> {
    let found = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'moving')";
    Ok(database.query_row(found, [], |row| row.get(0))?)
}

/// What a database says of being moved.
pub(super) fn mark(database: &Connection) -> Result<Option<Mark>, StorageError> {
    if !is_marked(database)? {
        return Ok(None);
    }
    let row = database
        .query_row("SELECT id, is_source, other, until FROM moving", [], |row| {
            let until: i64 = row.get(3)?;
            Ok(Mark {
                id: row.get(0)?,
                is_source: row.get(1)?,
                other: row.get(2)?,
                is_held: until > now_seconds(),
                is_over: until == FOR_GOOD,
            })
        })
        .optional()?;
    Ok(row)
}

fn until(time: Option<Duration>) -> i64 {
    let after = |time: Duration| now_seconds().saturating_add(i64::try_from(time.as_secs()).unwrap_or(0));
    time.map_or(FOR_GOOD, after)
}

fn hold(database: &Connection, id: &str, other: &str, time: Option<Duration>) -> Result<bool, StorageError> {
    match mark(database)? {
        Some(mark) if mark.id != id && mark.is_held => return Ok(false),
        Some(_) => drop(database.execute("DELETE FROM moving", [])?),
        None => database.execute_batch(
            "CREATE TABLE moving (id TEXT NOT NULL, is_source INTEGER NOT NULL, other TEXT NOT NULL, until INTEGER NOT NULL)",
        )?,
    }
    database
        .execute("INSERT INTO moving VALUES (?1, ?2, ?3, ?4)", (id, time.is_some(), other, until(time)))?;
    if time.is_none() {
        // a target is nobody else's: whoever opens it sees the mark
        return Ok(true);
    }
    for (name, event) in guards() {
        database.execute_batch(&format!(
            "DROP TRIGGER IF EXISTS {name};
             CREATE TRIGGER {name} BEFORE {event}
             WHEN (SELECT until FROM moving) > CAST(strftime('%s', 'now') AS INTEGER)
             BEGIN SELECT RAISE(ABORT, '{REFUSED}'); END"
        ))?;
    }
    Ok(true)
}

pub(super) fn release(database: &Connection) -> Result<(), StorageError> {
    for (name, _) in guards() {
        database.execute_batch(&format!("DROP TRIGGER IF EXISTS {name}"))?;
    }
    Ok(database.execute_batch("DROP TABLE IF EXISTS moving")?)
}

impl Rows for SqlitePointers {
    fn page(&self, table: &Table, after: Option<&[Cell]>, count: u64) -> Result<Vec<Row>, StorageError> {
        self.readers.read(|database| page(database, table, after, count))
    }

    fn change(&self, table: &Table, put: Vec<Row>, gone: Vec<Row>) -> Result<(), StorageError> {
        let table = CARRIED.iter().find(|own| own.name == table.name).expect("a table that is carried");
        self.writer.write(Durability::Durable, move |database| change(database, table, &put, &gone))
    }

    fn mark(&self) -> Result<Option<Mark>, StorageError> {
        self.readers.read(mark)
    }

    fn hold(&self, id: &str, other: &str, time: Option<Duration>) -> Result<bool, StorageError> {
        let (id, other) = (id.to_owned(), other.to_owned());
        self.writer.write(Durability::Durable, move |database| hold(database, &id, &other, time))
    }

    fn hold_on(&self, id: &str, time: Option<Duration>) -> Result<bool, StorageError> {
        let id = id.to_owned();
        self.writer.write(Durability::Durable, move |database| {
            if !mark(database)?.is_some_and(|mark| mark.id == id && mark.is_held) {
                return Ok(false);
            }
            Ok(database.execute("UPDATE moving SET until = ?1", [until(time)])? > 0)
        })
    }

    fn release(&self) -> Result<(), StorageError> {
        self.writer.write(Durability::Durable, release)
    }
}
