//! Rows for who carries a registry out of PostgreSQL, or into it.

use super::{
    PostgresPointers,
    connect::Database,
    row::{Outside, millis, number, optional_outside},
    tally,
};
use crate::{
    limits,
    server::storage::{
        StorageError,
        pointers::rows::{CARRIED, Cell, Mark, REFUSED, REFUSED_STATE, Row, Rows, Table, Type},
    },
};
use postgres::types::ToSql;
use std::time::Duration;

/// How a column is read: as a number or a text.
fn read(name: &str, of: Type) -> String {
    match of {
        Type::Number | Type::Text | Type::Outside => name.to_owned(),
        Type::Small => format!("{name}::bigint AS {name}"),
        Type::Flag => format!("{name}::int::bigint AS {name}"),
    }
}

/// How a column is written, and the type of an array of what it is written from.
fn written(name: &str, of: Type) -> (String, &'static str) {
    match of {
        Type::Number => (name.to_owned(), "bigint[]"),
        Type::Small => (format!("{name}::smallint"), "bigint[]"),
        Type::Flag => (format!("{name} <> 0"), "bigint[]"),
        Type::Text | Type::Outside => (name.to_owned(), "text[]"),
    }
}

/// The values of a column of several rows.
enum Column {
    Numbers(Vec<Option<i64>>),
    Texts(Vec<Option<String>>),
}

impl Column {
    fn of(rows: &[Row], index: usize, of: Type) -> Column {
        let cells = rows.iter().map(|row| &row[index]);
        if matches!(of, Type::Text | Type::Outside) {
            let text = |cell: &Cell| match cell {
                Cell::Text(text) if of == Type::Outside => Some(Outside(text).stored().into_owned()),
                Cell::Text(text) => Some(text.clone()),
                Cell::Nothing | Cell::Number(_) => None,
            };
            return Column::Texts(cells.map(text).collect());
        }
        let number = |cell: &Cell| if let Cell::Number(number) = cell { Some(*number) } else { None };
        Column::Numbers(cells.map(number).collect())
    }

    fn value(&self) -> &(dyn ToSql + Sync) {
        match self {
            Column::Numbers(numbers) => numbers,
            Column::Texts(texts) => texts,
        }
    }
}

fn row(found: &postgres::Row, table: &Table) -> Result<Row, postgres::Error> {
    let cell = |(index, (_, of)): (usize, &(&str, Type))| {
        Ok(match of {
            Type::Text => found.try_get::<_, Option<String>>(index)?.map_or(Cell::Nothing, Cell::Text),
            Type::Outside => optional_outside(found, index)?.map_or(Cell::Nothing, Cell::Text),
            _ => found.try_get::<_, Option<i64>>(index)?.map_or(Cell::Nothing, Cell::Number),
        })
    };
    table.columns.iter().enumerate().map(cell).collect()
}

fn page(
    database: &mut Database,
    table: &Table,
    after: Option<&[Cell]>,
    count: u64,
) -> Result<Vec<Row>, StorageError> {
    let columns: Vec<String> = table.columns.iter().map(|(name, of)| read(name, *of)).collect();
    let keys: Vec<&str> = table.columns[..table.keys].iter().map(|(name, _)| *name).collect();
    let key = keys.join(", ");
    let last: Vec<Row> = after.map(|after| vec![after.to_vec()]).unwrap_or_default();
    let of = &table.columns[..table.keys];
    let last: Vec<Column> = of
        .iter()
        .enumerate()
        .filter(|_| after.is_some())
        .map(|(at, (_, of))| Column::of(&last, at, *of))
        .collect();
    let place =
        |(index, (_, of)): (usize, &(&str, Type))| format!("(${}::{})[1]", index + 1, written("", *of).1);
    let places: Vec<String> = of.iter().enumerate().map(place).collect();
    let from = match after {
        Some(_) => format!("WHERE ({key}) > ({})", places.join(", ")),
        None => String::new(),
    };
    let rows = |also: &str| {
        let (columns, name, count) = (columns.join(", "), table.name, number(count));
        format!("SELECT {columns}{also} FROM {name} {from} ORDER BY {key} LIMIT {count}")
    };
    let lengths: Vec<String> =
        table.long().map(|name| format!("coalesce(octet_length({name}), 0)")).collect();
    let text = match lengths.is_empty() {
        true => rows(""),
        // those whose predecessors are not enough by themselves
        false => format!(
            "SELECT {names} FROM (SELECT *, sum(long) OVER (ORDER BY {key} ROWS UNBOUNDED PRECEDING) - long AS before
                FROM ({rows}) AS own) AS summed
             WHERE before < {bytes} ORDER BY {key}",
            names = table.columns.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", "),
            rows = rows(&format!(", {} AS long", lengths.join(" + "))),
            bytes = limits::MOVE_BYTES,
        ),
    };
    let values: Vec<&(dyn ToSql + Sync)> = last.iter().map(Column::value).collect();
    let found = database.rows(&text, &values)?;
    Ok(found.iter().map(|found| row(found, table)).collect::<Result<_, _>>()?)
}

/// An array of each column, and how a statement reads them as rows called `given`.
fn given(rows: &[Row], columns: &[(&str, Type)]) -> (Vec<Column>, String) {
    let arrays = columns.iter().enumerate().map(|(index, (_, of))| Column::of(rows, index, *of)).collect();
    let places: Vec<String> = columns
        .iter()
        .enumerate()
        .map(|(index, (_, of))| format!("${}::{}", index + 1, written("", *of).1))
        .collect();
    let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
    (arrays, format!("unnest({}) AS given ({})", places.join(", "), names.join(", ")))
}

fn put(database: &mut Database, table: &Table, rows: &[Row]) -> Result<(), StorageError> {
    let (arrays, given) = given(rows, table.columns);
    let names: Vec<&str> = table.columns.iter().map(|(name, _)| *name).collect();
    let values: Vec<String> = table.columns.iter().map(|(name, of)| written(name, *of).0).collect();
    let news: Vec<String> =
        names[table.keys..].iter().map(|name| format!("{name} = excluded.{name}")).collect();
    let clash =
        if news.is_empty() { "NOTHING".to_owned() } else { format!("UPDATE SET {}", news.join(", ")) };
    // what is of a repository that came after its table was carried waits for the next round, or no namespace would count it
    let known = match names.contains(&"repository") {
        true => "WHERE EXISTS (SELECT FROM repositories AS r WHERE r.id = given.repository)",
        false => "",
    };
    let text = format!(
        "INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM {given} {known} ON CONFLICT ({}) DO {clash}",
        table.name,
        names.join(", "),
        values.join(", "),
        names[..table.keys].join(", "),
    );
    database.run(&text, &arrays.iter().map(Column::value).collect::<Vec<_>>())?;
    for row in rows {
        if let ("repositories", [Cell::Number(id), Cell::Text(name)]) = (table.name, &row[..]) {
            tally::join(database, *id, name)?;
        }
    }
    Ok(())
}

fn remove(database: &mut Database, table: &Table, rows: &[Row]) -> Result<(), StorageError> {
    let keys = &table.columns[..table.keys];
    let (arrays, given) = given(rows, keys);
    let same: Vec<String> = keys.iter().map(|(name, _)| format!("t.{name} = given.{name}")).collect();
    let text = format!("DELETE FROM {} AS t USING {given} WHERE {}", table.name, same.join(" AND "));
    database.run(&text, &arrays.iter().map(Column::value).collect::<Vec<_>>())?;
    Ok(())
}

/// Lets this transaction through what refuses everybody's changes, as long as these are refused: another run of the same move may have
/// come to its end, and then this is a registry that takes pushes. (It is none before this transaction is over.)
fn as_mover(database: &mut Database) -> Result<(), StorageError> {
    let is_target = "SELECT EXISTS (SELECT FROM slipway.moving WHERE NOT is_source)";
    if !is_marked(database)? || !database.one::<bool>(is_target, &[])? {
        return Err(StorageError::OtherMove);
    }
    database.take_time()?;
    database.batch("SET LOCAL slipway.mover = 'on'")
}

fn is_marked(database: &mut Database) -> Result<bool, StorageError> {
    database.one("SELECT to_regclass('slipway.moving') IS NOT NULL", &[])
}

/// What a database says of being moved.
pub(super) fn mark(database: &mut Database) -> Result<Option<Mark>, StorageError> {
    if !is_marked(database)? {
        return Ok(None);
    }
    let row = database.row(
        "SELECT id, is_source, other, until > clock_timestamp(), until = 'infinity' FROM slipway.moving",
        &[],
    )?;
    let mark = |row: postgres::Row| {
        Ok(Mark {
            id: row.try_get(0)?,
            is_source: row.try_get(1)?,
            other: row.try_get(2)?,
            is_held: row.try_get(3)?,
            is_over: row.try_get(4)?,
        })
    };
    row.map(mark).transpose()
}

/// What refuses changes of each table: after which events. What is made waits for transactions that have changed the table, so that
/// none is under way afterwards.
fn guards(is_source: bool) -> Vec<(&'static str, String)> {
    let of = |columns: &[&str]| match columns {
        [] => String::new(),
        columns => format!(" OF {}", columns.join(", ")),
    };
    let events = |columns: &[&str]| format!("INSERT OR DELETE OR UPDATE{}", of(columns));
    let carried = CARRIED.iter().map(|table| (table.name, events(table.held)));
    // keys that somebody adds to a target are keys too; what lies there without a row is not on its way out
    let others = match is_source {
        true => vec![("signing_keys", events(&[])), ("uploads", "INSERT".to_owned())],
        false => vec![("condemned", "INSERT".to_owned())],
    };
    carried.chain(others).collect()
}

const TABLES: &str = "
CREATE TABLE slipway.moving (id text NOT NULL, is_source boolean NOT NULL, other text NOT NULL, until timestamptz NOT NULL);
CREATE OR REPLACE FUNCTION slipway.refuse_moving() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF EXISTS (SELECT FROM slipway.moving WHERE until > clock_timestamp())
        AND current_setting('slipway.mover', true) IS DISTINCT FROM 'on' THEN
        RAISE EXCEPTION '{refused}' USING ERRCODE = '{state}';
    END IF;
    RETURN NULL;
END $$";

fn hold(
    database: &mut Database,
    id: &str,
    other: &str,
    time: Option<Duration>,
) -> Result<bool, StorageError> {
    match mark(database)? {
        Some(mark) if mark.id != id && mark.is_held => return Ok(false),
        Some(_) => database.batch("DELETE FROM slipway.moving")?,
        None => database.batch(&TABLES.replace("{refused}", REFUSED).replace("{state}", REFUSED_STATE))?,
    }
    database.run(
        "INSERT INTO slipway.moving VALUES ($1, $2, $3, coalesce(clock_timestamp() + $4::bigint * interval '1 millisecond', 'infinity'))",
        &[&id, &time.is_some(), &other, &time.map(millis)],
    )?;
    for (table, events) in guards(time.is_some()) {
        database.batch(&format!(
            "DROP TRIGGER IF EXISTS moving ON slipway.{table};
             CREATE TRIGGER moving BEFORE {events} ON slipway.{table} FOR EACH STATEMENT EXECUTE FUNCTION slipway.refuse_moving()"
        ))?;
    }
    Ok(true)
}

fn release(database: &mut Database) -> Result<(), StorageError> {
    let all: Vec<&str> = [true, false].into_iter().flat_map(guards).map(|(table, _)| table).collect();
    for table in all {
        database.batch(&format!("DROP TRIGGER IF EXISTS moving ON slipway.{table}"))?;
    }
    // numbers that come next are after those that came with the rows
    for (table, column) in [("repositories", "id"), ("tag_history", "number")] {
        database.batch(&format!(
            "SELECT setval(pg_get_serial_sequence('slipway.{table}', '{column}'), greatest(
                (SELECT coalesce(max({column}), 0) FROM slipway.{table}),
                (SELECT last_value FROM {table}_{column}_seq)))
             WHERE EXISTS (SELECT FROM slipway.{table})"
        ))?;
    }
    database.batch("DROP TABLE IF EXISTS slipway.moving; DROP FUNCTION IF EXISTS slipway.refuse_moving()")
}

impl Rows for PostgresPointers {
    fn page(&self, table: &Table, after: Option<&[Cell]>, count: u64) -> Result<Vec<Row>, StorageError> {
        self.pool.read(|database| page(database, table, after, count))
    }

    fn change(&self, table: &Table, rows: Vec<Row>, gone: Vec<Row>) -> Result<(), StorageError> {
        self.pool.write(|database| {
            as_mover(database)?;
            if !rows.is_empty() {
                put(database, table, &rows)?;
            }
            if gone.is_empty() { Ok(()) } else { remove(database, table, &gone) }
        })
    }

    fn mark(&self) -> Result<Option<Mark>, StorageError> {
        self.pool.read(mark)
    }

    fn hold(&self, id: &str, other: &str, time: Option<Duration>) -> Result<bool, StorageError> {
        self.pool.write(|database| hold(database, id, other, time))
    }

    fn hold_on(&self, id: &str, time: Option<Duration>) -> Result<bool, StorageError> {
        let held = self.pool.read(|database| {
            database.run(
                "UPDATE slipway.moving SET until = coalesce(clock_timestamp() + $2::bigint * interval '1 millisecond', 'infinity')
                 WHERE id = $1 AND until > clock_timestamp()",
                &[&id, &time.map(millis)],
            )
        });
        Ok(held? > 0)
    }

    fn release(&self) -> Result<(), StorageError> {
        self.pool.write(release)
    }
}
