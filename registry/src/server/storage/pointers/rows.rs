//! Pointers as rows, for who carries a whole registry from one database into another.
//!
//! Every table of either database is decided on here: [`CARRIED`] with the columns that both have, or [`LEFT`] with why it is not
//! carried. A test holds that no table and no column of either schema is missing.

use super::super::StorageError;
#[cfg(doc)]
use crate::limits;
use std::time::Duration;

/// A value of a column.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cell {
    /// None.
    Nothing,
    /// A number, a time in seconds since 1970, or a yes (1) or no (0).
    Number(i64),
    /// A text; texts sort by byte.
    Text(String),
}

/// A row, its values in the order of its table's columns.
pub type Row = Vec<Cell>;

/// What a column has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// A number.
    Number,
    /// A small number, where a database knows such.
    Small,
    /// A yes or no.
    Flag,
    /// A text.
    Text,
    /// A text of somebody outside, which may have zero bytes in it.
    Outside,
}

/// A table that is carried.
#[derive(Debug)]
pub struct Table {
    /// Its name.
    pub name: &'static str,
    /// How many of the first columns tell its rows apart.
    pub keys: usize,
    /// The columns that are carried.
    pub columns: &'static [(&'static str, Type)],
    /// Those columns that tell whether a row means something else than before; empty: all of them. What only says when something
    /// was asked for last may change while a registry is held.
    pub held: &'static [&'static str],
    /// The column of a digest whose bytes the row points at.
    pub content: Option<usize>,
}

impl Table {
    /// The part of a row that tells it apart.
    pub fn key<'a>(&self, row: &'a [Cell]) -> &'a [Cell] {
        &row[..self.keys]
    }

    /// The columns whose texts may have any length.
    pub fn long(&self) -> impl Iterator<Item = &'static str> {
        let outside = self.columns.iter().filter(|(_, of)| *of == Type::Outside);
        outside.map(|(name, _)| *name)
    }
}

/// How many bytes the texts of a row have.
pub fn text_bytes(row: &[Cell]) -> usize {
    let texts = row.iter().map(|cell| if let Cell::Text(text) = cell { text.len() } else { 0 });
    texts.sum()
}

use Type::{Flag, Number, Outside, Small, Text};

/// Tables that are carried, each after those that it refers to.
pub const CARRIED: [Table; 6] = [
    Table {
        name: "repositories",
        keys: 1,
        columns: &[("id", Number), ("name", Text)],
        held: &[],
        content: None,
    },
    Table {
        name: "blobs",
        keys: 2,
        columns: &[
            ("repository", Number),
            ("digest", Text),
            ("size", Number),
            ("loose", Number),
            ("deleted", Number),
            ("counted", Flag),
        ],
        held: &["size", "deleted", "counted"],
        content: Some(1),
    },
    Table {
        name: "manifests",
        keys: 2,
        columns: &[
            ("repository", Number),
            ("digest", Text),
            ("media_type", Text),
            ("size", Number),
            ("subject", Text),
            ("artifact_type", Outside),
            ("annotations", Outside),
            ("pushed", Number),
            ("loose", Number),
            ("orphan", Flag),
            ("deleted", Number),
        ],
        held: &["media_type", "size", "pushed", "deleted"],
        content: Some(1),
    },
    Table {
        name: "edges",
        keys: 4,
        columns: &[("repository", Number), ("manifest", Text), ("target", Text), ("kind", Small)],
        held: &[],
        content: None,
    },
    Table {
        name: "tags",
        keys: 2,
        columns: &[
            ("repository", Number),
            ("name", Text),
            ("digest", Text),
            ("updated", Number),
            ("pulled", Number),
            ("pulls", Number),
        ],
        held: &["digest", "updated"],
        content: None,
    },
    Table {
        name: "tag_history",
        keys: 1,
        columns: &[
            ("number", Number),
            ("repository", Number),
            ("tag", Text),
            ("former", Text),
            ("digest", Text),
            ("at", Number),
            ("who", Outside),
            ("origin", Outside),
        ],
        held: &[],
        content: None,
    },
];

/// Tables whose rows are not carried as they are, and why.
pub const LEFT: [(&str, &str); 15] = [
    ("holders", "counted anew"),
    ("devices", "a device that waits to be let in asks for another code"),
    ("guesses", "wrong codes count for minutes"),
    ("limit_key", "limits are counted anew"),
    ("secrets", "a certificate is asked for by whoever serves then"),
    ("signing_keys", "keys are opened and sealed anew by the settings of either side"),
    ("notices", "what webhooks are to be told is handed over, and sent by whoever serves then"),
    ("uploads", "an upload that is under way is begun again"),
    ("condemned", "content on its way out, which nothing points at"),
    ("namespaces", "counted anew"),
    ("members", "counted anew"),
    ("holdings", "counted anew"),
    ("sums", "counted anew"),
    ("leases", "turns of those who serve"),
    ("version", "the schema's own"),
];

/// Columns of carried tables that are not carried: counted anew.
pub const COUNTED: [(&str, &str); 2] = [("repositories", "bytes"), ("repositories", "tags")];

/// What a database says of being moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Which move.
    pub id: String,
    /// Whether the registry is moved out of this database; otherwise into it.
    pub is_source: bool,
    /// The other side, in words.
    pub other: String,
    /// Whether changes are refused at this moment.
    pub is_held: bool,
    /// Whether they are for good: it has moved.
    pub is_over: bool,
}

/// What a refused change is told, by both databases. (No client's business is where to.)
pub(in crate::server::storage) const REFUSED: &str = "slipway: the registry is being moved";

/// The state of an error of PostgreSQL's by which the same is known.
pub(in crate::server::storage) const REFUSED_STATE: &str = "SWMOV";

/// A database that a registry can be carried out of, or into.
///
/// While it is *held*, triggers refuse everybody's changes, whatever version of this program they have: what has no triggers costs
/// nothing. A hold of a source ends by itself, because its holder may die; that of a target does not.
pub trait Rows: Send + Sync {
    /// Rows of a table after a key, in the order of keys, at most `count`, and no more once they have [`limits::MOVE_BYTES`] of texts from
    /// outside. None at the end alone.
    fn page(&self, table: &Table, after: Option<&[Cell]>, count: u64) -> Result<Vec<Row>, StorageError>;

    /// Writes rows and removes those of some keys, all or none. Only into what is held as a target, by who holds it.
    fn change(&self, table: &Table, put: Vec<Row>, gone: Vec<Row>) -> Result<(), StorageError>;

    /// What it says of being moved.
    fn mark(&self) -> Result<Option<Mark>, StorageError>;

    /// Refuses everybody's changes from when this returns on: for `time` where it is a source, for good otherwise. Answers
    /// whether it is this move's to hold.
    fn hold(&self, id: &str, other: &str, time: Option<Duration>) -> Result<bool, StorageError>;

    /// Holds on for `time` from now, or for good. Answers whether it was held all the time.
    fn hold_on(&self, id: &str, time: Option<Duration>) -> Result<bool, StorageError>;

    /// Takes changes again.
    fn release(&self) -> Result<(), StorageError>;
}
