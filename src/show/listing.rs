//! Rows of a listing in docker's forms: a table of its own, `json` (an object a line), a template a line, or
//! `table TEMPLATE`, which is a table of what the template makes.

use super::{say, template};
use crate::error::Failure;
use serde_json::{Map, Value};

/// A column: the field that it shows, and its head.
pub(crate) type Column = (&'static str, &'static str);

/// What a listing has.
pub(crate) struct Listing<'a> {
    /// The columns of its own table.
    pub(crate) columns: &'a [Column],
    /// Heads of fields that only a template shows.
    pub(crate) more: &'a [Column],
    /// The rows: objects of texts.
    pub(crate) rows: &'a [Value],
}

impl Listing<'_> {
    /// Writes it in the form that `--format` names.
    pub(crate) fn write(&self, format: Option<&str>) -> Result<(), Failure> {
        self.lines(format)?.into_iter().try_for_each(say)
    }

    fn lines(&self, format: Option<&str>) -> Result<Vec<String>, Failure> {
        match format.map(str::trim) {
            None | Some("table") => {
                let cells = |row: &Value| {
                    let cell = |(field, _): &Column| row[*field].as_str().unwrap_or_default().to_owned();
                    self.columns.iter().map(cell).collect()
                };
                let head = self.columns.iter().map(|(_, head)| (*head).to_owned()).collect();
                Ok(table(std::iter::once(head).chain(self.rows.iter().map(cells)).collect()))
            }
            Some("json") => Ok(self.rows.iter().map(Value::to_string).collect()),
            Some(format) => match format.strip_prefix("table ") {
                Some(template) => {
                    let heads = self.columns.iter().chain(self.more);
                    let heads: Map<String, Value> =
                        heads.map(|(field, head)| ((*field).to_owned(), (*head).into())).collect();
                    let rendered = std::iter::once(&Value::Object(heads))
                        .chain(self.rows)
                        .map(|row| template::render(template.trim(), row))
                        .collect::<Result<Vec<_>, _>>()?;
                    let cells = |line: &String| line.split('\t').map(str::to_owned).collect();
                    Ok(table(rendered.iter().map(cells).collect()))
                }
                None => self.rows.iter().map(|row| template::render(format, row)).collect(),
            },
        }
    }
}

/// Lines whose cells stand beneath each other.
fn table(lines: Vec<Vec<String>>) -> Vec<String> {
    let length = |cell: &String| cell.chars().count();
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|column| lines.iter().filter_map(|line| line.get(column).map(length)).max().unwrap_or(0))
        .collect();
    let shown = |line: Vec<String>| {
        let cells: Vec<String> =
            line.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}")).collect();
        cells.join("   ").trim_end().to_owned()
    };
    lines.into_iter().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_s_forms_of_a_listing() {
        let rows = [
            serde_json::json!({"Name": "a", "Size": "5MB", "ID": "1"}),
            serde_json::json!({"Name": "längst", "Size": "7B", "ID": "2"}),
        ];
        let listing = Listing {
            columns: &[("Name", "NAME"), ("Size", "SIZE")],
            more: &[("ID", "ROW ID")],
            rows: &rows,
        };
        for (format, expected) in [
            (None, "NAME     SIZE\na        5MB\nlängst   7B"),
            (Some("table"), "NAME     SIZE\na        5MB\nlängst   7B"),
            (
                Some("json"),
                "{\"Name\":\"a\",\"Size\":\"5MB\",\"ID\":\"1\"}\n{\"Name\":\"längst\",\"Size\":\"7B\",\"ID\":\"2\"}",
            ),
            (Some("{{.Name}}={{.ID}}"), "a=1\nlängst=2"),
            (
                Some("{{json .}}"),
                "{\"Name\":\"a\",\"Size\":\"5MB\",\"ID\":\"1\"}\n{\"Name\":\"längst\",\"Size\":\"7B\",\"ID\":\"2\"}",
            ),
            (Some("table {{.ID}}\\t{{.Name}}"), "ROW ID   NAME\n1        a\n2        längst"),
            (Some("table {{.Name}}: {{.Size}}"), "NAME: SIZE\na: 5MB\nlängst: 7B"),
        ] {
            assert_eq!(listing.lines(format).expect("format").join("\n"), expected, "{format:?}");
        }
        assert!(listing.lines(Some("{{.Nope}}")).is_err());
        assert!(listing.lines(Some("table {{.Nope}}")).is_err());
        let none = Listing { rows: &[], ..listing };
        assert_eq!(none.lines(None).expect("table"), ["NAME   SIZE"]);
        assert!(none.lines(Some("json")).expect("json").is_empty());
    }
}
