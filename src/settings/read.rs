//! `slipway.toml` as settings, with the place of every mistake.

use super::{Form, KEYS, Key, Settings};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// A mistake, and where.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mistake {
    /// From 1.
    pub(super) line: usize,
    /// From 1, in characters.
    pub(super) column: usize,
    pub(super) what: String,
    pub(super) hint: Option<String>,
}

/// Reads the text of the file `shown`; all its mistakes, in its order, where there are any.
pub(super) fn read(text: &str, shown: &str) -> Result<Settings, Vec<Mistake>> {
    let mut reader = Reader { text, shown, settings: Settings::default(), mistakes: Vec::new() };
    match DeTable::parse(text) {
        Ok(table) => reader.table(table.get_ref()),
        Err(error) => {
            let at = error.span().map_or(0, |span| span.start);
            // the parser's words may go on on another line
            let words = error.message().lines().collect::<Vec<_>>().join(", ");
            reader.wrong(at, format!("it is no TOML: {words}"), None);
        }
    }
    reader.mistakes.sort_by_key(|mistake| (mistake.line, mistake.column));
    if reader.mistakes.is_empty() { Ok(reader.settings) } else { Err(reader.mistakes) }
}

struct Reader<'a> {
    text: &'a str,
    shown: &'a str,
    settings: Settings,
    mistakes: Vec<Mistake>,
}

impl Reader<'_> {
    fn place(&self, at: usize) -> (usize, usize) {
        let before = self.text.get(..at.min(self.text.len())).unwrap_or(self.text);
        let line = before.rsplit('\n').next().unwrap_or_default();
        (before.matches('\n').count() + 1, line.chars().count() + 1)
    }

    fn wrong(&mut self, at: usize, what: String, hint: Option<String>) {
        let (line, column) = self.place(at);
        self.mistakes.push(Mistake { line, column, what, hint });
    }

    fn table(&mut self, table: &DeTable<'_>) {
        for (name, value) in table {
            match KEYS.iter().find(|key| key.name == name.get_ref()) {
                Some(key) => self.value(key, value),
                None => self.unknown(name.get_ref(), name.span().start),
            }
        }
    }

    fn unknown(&mut self, name: &str, at: usize) {
        let names = || KEYS.iter().map(|key| key.name);
        // a flag's name, where it is another, is the usual slip
        let flag = KEYS.iter().find(|key| key.flag == name).map(|key| key.name);
        let hint = match flag.or_else(|| slipway_dockerfile::nearest(name, names())) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("there are: {}", names().collect::<Vec<_>>().join(", ")),
        };
        self.wrong(at, format!("there is no key `{}`", short(name)), Some(hint));
    }

    fn value(&mut self, key: &Key, value: &Spanned<DeValue<'_>>) {
        match (key.form, value.get_ref()) {
            (Form::Switch, DeValue::Boolean(on)) => self.settings.switch(key.name, *on),
            (Form::Text, DeValue::String(_)) => self.text(key, "", value),
            (Form::Texts, DeValue::Array(values)) => {
                values.iter().for_each(|value| self.text(key, "", value))
            }
            (Form::Named, DeValue::Table(table)) => {
                table.iter().for_each(|(name, value)| self.text(key, name.get_ref(), value));
            }
            (Form::NamedLists, DeValue::Table(table)) => {
                for (name, value) in table {
                    match value.get_ref() {
                        DeValue::Array(values) if !values.is_empty() => {
                            values.iter().for_each(|value| self.text(key, name.get_ref(), value));
                        }
                        _ => self.unexpected(key, value),
                    }
                }
            }
            _ => self.unexpected(key, value),
        }
    }

    fn unexpected(&mut self, key: &Key, value: &Spanned<DeValue<'_>>) {
        let found = match value.get_ref() {
            DeValue::Array(values) if values.is_empty() => "an empty list",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
            DeValue::String(_) => "a text",
            DeValue::Boolean(_) => "a truth value",
            DeValue::Integer(_) | DeValue::Float(_) => "a number",
            DeValue::Datetime(_) => "a date",
        };
        self.wrong(value.span().start, format!("`{}` is {}, and not {found}", key.name, key.expected), None);
    }

    fn text(&mut self, key: &Key, name: &str, value: &Spanned<DeValue<'_>>) {
        let DeValue::String(text) = value.get_ref() else { return self.unexpected(key, value) };
        let before = self.settings.rules.len();
        if let Err(words) = self.settings.set(key.name, name, text) {
            let at = value.span().start + self.within(value, &words);
            let hint = Some(format!("`{}` is {}", key.name, key.expected));
            return self.wrong(at, format!("`{}`: {words}", key.name), hint);
        }
        let (line, _) = self.place(value.span().start);
        for rule in &mut self.settings.rules[before..] {
            rule.place = format!("{}:{line}", self.shown);
        }
    }

    /// How far into a text the word lies that a mistake names first.
    fn within(&self, value: &Spanned<DeValue<'_>>, words: &str) -> usize {
        let named = words.split('`').nth(1).filter(|named| !named.is_empty());
        let own = self.text.get(value.span());
        named.zip(own).and_then(|(named, own)| own.find(named)).unwrap_or(0)
    }
}

fn short(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(text: &str) -> (usize, usize, String) {
        let mistakes = read(text, "slipway.toml").map(|_| ()).expect_err(text);
        let mistake = mistakes.into_iter().next().expect("a mistake");
        let hint = mistake.hint.map(|hint| format!(" ({hint})")).unwrap_or_default();
        (mistake.line, mistake.column, format!("{}{hint}", mistake.what))
    }

    /// For each key a value that it takes, and one of a right kind that it does not.
    fn values(key: &str) -> (&'static str, Option<&'static str>) {
        const HASH: &str =
            r#"{ ci = "sha256:2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881" }"#;
        match key {
            "access" => (r#""public""#, Some(r#""publik""#)),
            "acme" => (r#"["registry.example"]"#, Some(r#"["*.example"]"#)),
            "acme-contact" => (r#""ops@example.com""#, Some(r#""ops""#)),
            "acme-directory" => (r#""https://ca.example/dir""#, Some(r#""http://ca.example/dir""#)),
            "acme-external" => (r#""kid:c2VjcmV0""#, Some(r#""kid""#)),
            "acme-http" => (r#"[":80"]"#, Some(r#"["nowhere"]"#)),
            "access-log" | "basic-only" | "read-only" | "sparse" | "web" => ("true", None),
            "deprecated" => (r#"{ "old/**" = "use new" }"#, Some(r#"{ "old/**" = "ü" }"#)),
            "collect" => (r#""50/s every 1h after 2d""#, Some(r#""1000 every 1h""#)),
            "retention" => {
                (r#"["keep 10 newest in team/**:ci-*"]"#, Some(r#"["keep ten newest in team/**"]"#))
            }
            "trusted-proxies" => (r#"["10.0.0.0/8", "unix"]"#, Some(r#"["10.0.0.0/99"]"#)),
            "quotas" => (r#"["1GiB, 9 tags in each a/*"]"#, Some(r#"["1GiB in some of a"]"#)),
            "content" => (r#""s3://images/a endpoint=https://s3.example""#, Some(r#""s3://images/../b""#)),
            "database" => {
                (r#""postgres://ann@db.example/registry""#, Some(r#""mysql://ann@db.example/registry""#))
            }
            "trash" => (r#""7d""#, Some(r#""7""#)),
            "scrub" => (r#""50MiB/s every 7d""#, Some(r#""50MiB""#)),
            "sparse-in" => (r#"["mirror/**"]"#, Some(r#"["mirror/?"]"#)),
            "groups" => (r#"{ ops = ["ann"] }"#, Some(r#"{ ops = ["a b"] }"#)),
            "log-format" => (r#""json""#, Some(r#""xml""#)),
            "audit-log" | "htpasswd" | "storage" | "tls-cert" | "tls-client-ca" | "tls-key" | "token-key" => {
                (r#""a/b""#, Some(r#""""#))
            }
            "immutable-tags" => (r#"["a/**:v*"]"#, Some(r#"["a/**:v?"]"#)),
            "issuers" => (
                r#"{ ci = "https://issuer.example audience=r" }"#,
                Some(r#"{ ci = "https://issuer.example audience=r claim:a=***" }"#),
            ),
            "limits" => (r#"["user: 5MiB/s"]"#, Some(r#"["user: 5 pushes/s"]"#)),
            "mirrors" => (
                r#"{ hub = "https://docker.io fresh=24h" }"#,
                Some(r#"{ hub = "https://docker.io fresh=soon" }"#),
            ),
            "drain" => (r#""30s""#, Some(r#""30""#)),
            "store-quota" => (r#""100GB""#, Some(r#""10 elephants""#)),
            "max-blob" => (r#""10GiB""#, Some(r#""10 elephants""#)),
            "listen" | "metrics-listen" => (r#"["127.0.0.1:5000"]"#, Some(r#"["nowhere"]"#)),
            "rules" => (r#"["users may pull in **"]"#, Some(r#"["users may fly in **"]"#)),
            "tokens" => (HASH, Some(r#"{ ci = "sha256:00" }"#)),
            "webhooks" => (
                r#"{ ci = "harbor https://h/x for push in team/**" }"#,
                Some(r#"{ ci = "harbor https://h/x for fun" }"#),
            ),
            "traces" => {
                (r#""http://127.0.0.1:4318 sample=0.5""#, Some(r#""http://127.0.0.1:4318 sample=2""#))
            }
            "url" => (r#""https://r.example""#, Some(r#""r.example""#)),
            other => panic!("no values for `{other}`"),
        }
    }

    #[test]
    fn a_mistake_in_every_key_is_placed() {
        for key in &KEYS {
            let (right, wrong) = values(key.name);
            let text = format!("# settings\n\n{} = {right}\n", key.name);
            assert!(read(&text, "f").is_ok(), "{text}");
            // another kind of value
            for other in ["1", "1.5", "2026-01-01", "[1]", "{ a = 1 }"] {
                let text = format!("# settings\n\n{} = {other}\n", key.name);
                let (line, column, words) = first(&text);
                assert_eq!(line, 3, "{text}: {words}");
                assert!(column > key.name.len() + 3, "{text}: {words}");
                assert!(words.contains(key.name) && words.contains(key.expected), "{text}: {words}");
            }
            // one that it does not take
            if let Some(wrong) = wrong {
                let text = format!("{} = {wrong}", key.name);
                let (line, column, words) = first(&text);
                assert!(line == 1 && column > key.name.len() + 3, "{text}: {column} {words}");
                assert!(words.contains(key.name) && words.contains(key.expected), "{text}: {words}");
            }
            // its name, mistyped
            for typed in [format!("{}s", key.name), key.name.replacen('s', "z", 1), key.name.to_uppercase()] {
                if KEYS.iter().any(|key| key.name == typed) {
                    continue;
                }
                let (line, column, words) = first(&format!("\n  {typed} = {right}"));
                assert_eq!((line, column), (2, 3), "{typed}");
                assert!(words.contains("did you mean"), "{typed}: {words}");
            }
            // twice
            let twice = format!("{0} = {right}\n{0} = {right}", key.name);
            assert_eq!(first(&twice).0, 2, "{twice}");
        }
    }

    #[test]
    fn words_are_to_the_point() {
        for (text, place, words) in [
            (
                "rules = [\n  \"users may pull in **\",\n  \"users may fly in **\",\n]",
                (3, 14),
                "`fly` is no action",
            ),
            ("acces = \"public\"", (1, 1), "there is no key `acces` (did you mean `access`?)"),
            ("zzz = 1", (1, 1), "there are: access, access-log"),
            ("[rule]\na = 1", (1, 2), "there is no key `rule` (did you mean `rules`?)"),
            ("access = ", (1, 10), "it is no TOML"),
            ("access = \"public", (1, 17), "it is no TOML"),
            ("groups = { ops = [] }", (1, 18), "and not an empty list"),
            ("# ü\nurl = \"ü\"", (2, 8), "is not https://HOST"),
        ] {
            let (line, column, found) = first(text);
            assert_eq!((line, column), place, "{text}: {found}");
            assert!(found.contains(words), "{text}: {found}");
        }
        let all = read("a = 1\nb = 2\naccess = 3", "f").map(|_| ()).expect_err("mistakes");
        assert_eq!(all.iter().map(|one| one.line).collect::<Vec<_>>(), [1, 2, 3]);
    }

    #[test]
    fn three_lines_are_enough() {
        for mode in ["public", "private"] {
            let text = format!("listen = [\":5000\"]\naccess = \"{mode}\"\nhtpasswd = \"users\"");
            assert_eq!(text.lines().count(), 3);
            let settings = read(&text, "f").expect("settings");
            assert_eq!(settings.access.map(|own| own.name()), Some(mode));
        }
    }
}
