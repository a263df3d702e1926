//! What `slipway serve` is told: `slipway.toml`, flags and variables.
//!
//! Every key has a flag and a variable ([`KEYS`]); a flag takes the place of its variable, and that of the file's key. A value is
//! written the same in all three. A mistake says where it is, what is expected, and what is near.

mod effect;
mod flags;
mod read;

pub(crate) use effect::bucket;
pub(crate) use flags::Settings;

use flags::{database, directory, host, mail, size, time, url, user};

use crate::{error::Failure, request, service::input};
use slipway_registry::server::{Deprecation, Hook, Listen, PasswordSource, access::KeySource};
use std::path::{Path, PathBuf};

/// Most bytes of a file of settings, and of an htpasswd file.
const FILE_BYTES: u64 = 16 << 20;

/// Names the file; `--config` does too.
pub(crate) const VARIABLE: &str = "SLIPWAY_CONFIG";

/// How a key's value is written in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// `true` or `false`.
    Switch,
    /// A text.
    Text,
    /// A list of texts.
    Texts,
    /// A table of texts.
    Named,
    /// A table of lists.
    NamedLists,
}

/// How lines of the access log are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LogFormat {
    /// Method, path, status, time, user
    Text,
    /// A JSON object a line
    Json,
}

/// A key of the file.
#[derive(Debug)]
pub(crate) struct Key {
    /// Its name; the variable is `SLIPWAY_` with it.
    pub(crate) name: &'static str,
    /// The flag.
    pub(crate) flag: &'static str,
    pub(crate) form: Form,
    /// What is expected.
    pub(crate) expected: &'static str,
}

const fn key(name: &'static str, flag: &'static str, form: Form, expected: &'static str) -> Key {
    Key { name, flag, form, expected }
}

/// Every key.
pub(crate) const KEYS: [Key; 44] = [
    key("access", "access", Form::Text, "`open`, `public` or `private`"),
    key("access-log", "access-log", Form::Switch, "`true` or `false`"),
    key("acme", "acme", Form::Texts, "a list of names: `[\"registry.example\"]`"),
    key("acme-contact", "acme-contact", Form::Text, "a mail address"),
    key("acme-directory", "acme-directory", Form::Text, "`https://HOST/PATH`"),
    key("acme-external", "acme-external", Form::Text, "`ID:KEY`, as the authority shows them"),
    key("acme-http", "acme-http", Form::Texts, "a list of places: `[\":80\"]`"),
    key("audit-log", "audit-log", Form::Text, "the path of a file"),
    key("basic-only", "basic-only", Form::Switch, "`true` or `false`"),
    key("collect", "collect", Form::Text, "`off`, or how: `1000/s every 1h after 1d`"),
    key("content", "content", Form::Text, "a bucket: `s3://BUCKET/PREFIX endpoint=https://s3.example`"),
    key("database", "database", Form::Text, "an address: `postgres://USER@HOST/NAME`"),
    key(
        "deprecated",
        "deprecated",
        Form::Named,
        "a table of patterns with words: `\"old/**\" = \"use new/\"`",
    ),
    key("drain", "drain", Form::Text, "a time: `30s`, `5m`"),
    key(
        "groups",
        "group",
        Form::NamedLists,
        "a table of names with lists of users: `ops = [\"ann\", \"bob\"]`",
    ),
    key("htpasswd", "htpasswd", Form::Text, "the path of a file"),
    key("immutable-tags", "immutable-tag", Form::Texts, "a list of patterns of tags: `[\"prod/**:v*\"]`"),
    key(
        "issuers",
        "issuer",
        Form::Named,
        "a table of names with issuers of identity tokens: `github = \"https://token.actions.githubusercontent.com audience=r.example claim:repository_owner=acme\"`",
    ),
    key(
        "limits",
        "limit",
        Form::Texts,
        "a list of limits: `[\"address: 50 requests/s\", \"user: 50MiB/s, 100 uploads/h, 20 failed logins/m\"]`",
    ),
    key("listen", "listen", Form::Texts, "a list of places: `[\"127.0.0.1:5000\"]`"),
    key("log-format", "log-format", Form::Text, "`text` or `json`"),
    key("max-blob", "max-blob", Form::Text, "a size: `10GiB`"),
    key("metrics-listen", "metrics-listen", Form::Texts, "a list of places: `[\"127.0.0.1:9090\"]`"),
    key(
        "mirrors",
        "mirror",
        Form::Named,
        "a table of names with upstreams: `hub = \"https://docker.io fresh=24h\"`",
    ),
    key(
        "quotas",
        "quota",
        Form::Texts,
        "a list of sentences: `[\"10GiB, 100 tags in each team/**\", \"200GiB in all of team\"]`",
    ),
    key("read-only", "read-only", Form::Switch, "`true` or `false`"),
    key(
        "retention",
        "retention",
        Form::Texts,
        "a list of sentences: `[\"keep 10 newest in team/**:ci-*\", \"untagged after 7d in **\"]`",
    ),
    key("rules", "rule", Form::Texts, "a list of sentences: `[\"users may pull, push in team/**\"]`"),
    key("scrub", "scrub", Form::Text, "`off` or a rate: `50MiB/s`, `50MiB/s every 7d`"),
    key("sparse", "sparse", Form::Switch, "`true` or `false`"),
    key("sparse-in", "sparse-in", Form::Texts, "a list of patterns of repositories: `[\"mirror/**\"]`"),
    key("storage", "storage", Form::Text, "the path of a folder"),
    key("store-quota", "store-quota", Form::Text, "a size: `100GB`"),
    key("tls-cert", "tls-cert", Form::Text, "the path of a PEM file"),
    key("tls-client-ca", "tls-client-ca", Form::Text, "the path of a PEM file"),
    key("tls-key", "tls-key", Form::Text, "the path of a PEM file"),
    key("token-key", "token-key", Form::Text, "the path of a file"),
    key("tokens", "token", Form::Named, "a table of names with hashes: `ci = \"sha256:...\"`"),
    key(
        "traces",
        "traces",
        Form::Text,
        "where traces go: `http://127.0.0.1:4318 sample=0.1`, with `service=NAME` and `header=NAME:VALUE`",
    ),
    key("trash", "trash", Form::Text, "a time: `7d`, `12h`, `0`"),
    key(
        "trusted-proxies",
        "trusted-proxy",
        Form::Texts,
        "a list of addresses and networks: `[\"10.0.0.0/8\", \"unix\"]`",
    ),
    key("url", "url", Form::Text, "`https://HOST[:PORT]`"),
    key("web", "web", Form::Switch, "`true` or `false`"),
    key(
        "webhooks",
        "webhook",
        Form::Named,
        "a table of names with webhooks: `ci = \"harbor https://ci.example/hook for push in team/**\"`",
    ),
];

impl Settings {
    /// Sets one text of a key; names of tables come with it.
    fn set(&mut self, key: &str, name: &str, text: &str) -> Result<(), String> {
        match key {
            "access" => self.access = Some(text.parse()?),
            "acme" => self.acme.push(host(text)?),
            "acme-contact" => self.acme_contact = Some(mail(text)?),
            "acme-directory" => self.acme_directory = Some(directory(text)?),
            "acme-external" => self.acme_external = Some(text.parse()?),
            "acme-http" => self.acme_http.push(place(text)?),
            "audit-log" => self.audit_log = Some(path(text)?),
            "log-format" => {
                let wrong = |_| format!("`{text}` is neither `text` nor `json`");
                self.log_format = Some(clap::ValueEnum::from_str(text, false).map_err(wrong)?);
            }
            "metrics-listen" => self.metrics_listen.push(place(text)?),
            "htpasswd" => self.htpasswd = Some(path(text)?),
            "immutable-tags" => {
                let wrong = |error| format!("`{text}` is no pattern of tags: {error}");
                self.immutable_tags.push(text.parse().map_err(wrong)?);
            }
            "issuers" => self.issuers.push((user(name)?, text.parse()?)),
            "limits" => self.limits.push(text.parse()?),
            "drain" => self.drain = Some(time(text)?),
            "max-blob" => self.max_blob = Some(size(text)?),
            "listen" => self.listen.push(place(text)?),
            "mirrors" => self.mirrors.push((user(name)?, text.parse()?)),
            "rules" => self.rules.push(text.parse()?),
            "trusted-proxies" => self.trusted_proxies.push(text.parse()?),
            "quotas" => self.quotas.push(text.parse()?),
            "retention" => self.retention.push(text.parse()?),
            "collect" => self.collect = Some(text.parse()?),
            "traces" => self.traces = Some(text.parse()?),
            "trash" => self.trash = Some(text.parse()?),
            "scrub" => self.scrub = Some(text.parse()?),
            "deprecated" => {
                self.deprecated.push(Deprecation::new(name, text).map_err(|error| error.to_string())?);
            }
            "webhooks" => {
                let name = user(name)?;
                self.webhooks.push(Hook::new(&name, text).map_err(|error| error.to_string())?);
            }
            "sparse-in" => {
                let wrong = |error| format!("`{text}` is no pattern of repositories: {error}");
                self.sparse_in.push(text.parse().map_err(wrong)?);
            }
            "tls-cert" => self.tls_cert = Some(path(text)?),
            "tls-client-ca" => self.tls_client_ca = Some(path(text)?),
            "token-key" => self.token_key = Some(path(text)?),
            "tls-key" => self.tls_key = Some(path(text)?),
            "storage" => self.storage = Some(path(text)?),
            "store-quota" => self.store_quota = Some(request::size::argument(text)?),
            "content" => self.content = Some(text.parse()?),
            "database" => self.database = Some(database(text).map(|_| text.to_owned())?),
            "tokens" => {
                let wrong = |words| format!("the hash of token `{name}` is none: {words}");
                self.tokens.push((user(name)?, text.parse().map_err(wrong)?));
            }
            "groups" => {
                let (group, member) = (user(name)?, user(text)?);
                match self.groups.iter_mut().find(|(own, _)| *own == group) {
                    Some((_, members)) => members.push(member),
                    None => self.groups.push((group, vec![member])),
                }
            }
            "url" => self.url = Some(url(text)?),
            _ => unreachable!("a key without a text: {key}"),
        }
        Ok(())
    }

    fn switch(&mut self, key: &str, on: bool) {
        match key {
            "access-log" => self.access_log = on,
            "basic-only" => self.basic_only = on,
            "read-only" => self.read_only = on,
            "sparse" => self.sparse = on,
            "web" => self.web = Some(on),
            _ => unreachable!("a key that is no switch: {key}"),
        }
    }

    /// These before those of the file.
    fn over(mut self, file: Settings) -> Settings {
        for (at, rule) in self.rules.iter_mut().enumerate() {
            rule.place = format!("--rule {}", at + 1);
        }
        fn list<T>(own: Vec<T>, other: Vec<T>) -> Vec<T> {
            if own.is_empty() { other } else { own }
        }
        Settings {
            listen: list(self.listen, file.listen),
            storage: self.storage.or(file.storage),
            database: self.database.or(file.database),
            token_key: self.token_key.or(file.token_key),
            content: self.content.or(file.content),
            store_quota: self.store_quota.or(file.store_quota),
            read_only: self.read_only || file.read_only,
            acme: list(self.acme, file.acme),
            acme_contact: self.acme_contact.or(file.acme_contact),
            acme_directory: self.acme_directory.or(file.acme_directory),
            acme_external: self.acme_external.or(file.acme_external),
            acme_http: list(self.acme_http, file.acme_http),
            scrub: self.scrub.or(file.scrub),
            web: self.web.or(file.web),
            trusted_proxies: list(self.trusted_proxies, file.trusted_proxies),
            quotas: list(self.quotas, file.quotas),
            retention: list(self.retention, file.retention),
            traces: self.traces.or(file.traces),
            trash: self.trash.or(file.trash),
            collect: self.collect.or(file.collect),
            sparse: self.sparse || file.sparse,
            sparse_in: list(self.sparse_in, file.sparse_in),
            deprecated: list(self.deprecated, file.deprecated),
            access_log: self.access_log || file.access_log,
            log_format: self.log_format.or(file.log_format),
            audit_log: self.audit_log.or(file.audit_log),
            webhooks: list(self.webhooks, file.webhooks),
            metrics_listen: list(self.metrics_listen, file.metrics_listen),
            access: self.access.or(file.access),
            htpasswd: self.htpasswd.or(file.htpasswd),
            tokens: list(self.tokens, file.tokens),
            groups: list(self.groups, file.groups),
            issuers: list(self.issuers, file.issuers),
            limits: list(self.limits, file.limits),
            mirrors: list(self.mirrors, file.mirrors),
            max_blob: self.max_blob.or(file.max_blob),
            drain: self.drain.or(file.drain),
            rules: list(self.rules, file.rules),
            immutable_tags: list(self.immutable_tags, file.immutable_tags),
            url: self.url.or(file.url),
            basic_only: self.basic_only || file.basic_only,
            tls_cert: self.tls_cert.or(file.tls_cert),
            tls_key: self.tls_key.or(file.tls_key),
            tls_client_ca: self.tls_client_ca.or(file.tls_client_ca),
        }
    }

    /// The settings of a file, where one is named, below `self`.
    pub(crate) fn with_file(self, path: Option<&Path>) -> Result<Settings, Failure> {
        let Some(path) = path else { return Ok(self.over(Settings::default())) };
        Ok(self.over(load(path)?))
    }
}

fn place(text: &str) -> Result<Listen, String> {
    request::serve::listen(text).map_err(|words| format!("`{text}` is no place to listen: {words}"))
}

fn path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() || text.contains('\0') { Err("it is no path".to_owned()) } else { Ok(text.into()) }
}

/// Reads a file.
pub(crate) fn load(path: &Path) -> Result<Settings, Failure> {
    let bytes = input::read("--config", path, FILE_BYTES)?;
    let shown = path.display().to_string();
    let text = String::from_utf8(bytes).map_err(|_| Failure::new(format!("`{shown}` is not UTF-8 text")))?;
    let mut settings = read::read(&text, &shown).map_err(|mistakes| failure(&shown, &mistakes))?;
    // what a file names lies beside it
    let folder = path.parent().unwrap_or(Path::new(""));
    for path in [
        &mut settings.storage,
        &mut settings.audit_log,
        &mut settings.htpasswd,
        &mut settings.tls_cert,
        &mut settings.tls_key,
        &mut settings.tls_client_ca,
        &mut settings.token_key,
    ]
    .into_iter()
    .flatten()
    {
        *path = folder.join(&path);
    }
    if let Some(content) = &mut settings.content {
        for path in [&mut content.key, &mut content.authorities].into_iter().flatten() {
            *path = folder.join(&path);
        }
    }
    for (_, issuer) in &mut settings.issuers {
        let keys = if let KeySource::File(path) = &mut issuer.keys { Some(path) } else { None };
        for path in keys.into_iter().chain(&mut issuer.authorities) {
            *path = folder.join(&path);
        }
    }
    for (_, mirror) in &mut settings.mirrors {
        let password = match &mut mirror.password {
            Some(PasswordSource::File(path)) => Some(path),
            _ => None,
        };
        for path in password.into_iter().chain(&mut mirror.authorities) {
            *path = folder.join(&path);
        }
    }
    Ok(settings)
}

/// All mistakes of a file; the last one is the failure, the others stand before it.
fn failure(shown: &str, mistakes: &[read::Mistake]) -> Failure {
    let words =
        |mistake: &read::Mistake| format!("{shown}:{}:{}: {}", mistake.line, mistake.column, mistake.what);
    let Some((last, others)) = mistakes.split_last() else {
        return Failure::new(format!("`{shown}` cannot be used"));
    };
    let mut failure = Failure::new(words(last));
    if !others.is_empty() {
        let others: Vec<String> = others
            .iter()
            .map(|other| match &other.hint {
                Some(hint) => format!("error: {}\nhint: {hint}", words(other)),
                None => format!("error: {}", words(other)),
            })
            .collect();
        failure = failure.with_detail(others.join("\n"));
    }
    match &last.hint {
        Some(hint) => failure.with_hint(hint.clone()),
        None => failure,
    }
}

/// The file that the caller names: `--config`, else the variable. `--config` is docker's folder for other commands, and its
/// variable says nothing here.
pub(crate) fn named(config: Option<&Path>) -> Option<PathBuf> {
    let docker = std::env::var_os("DOCKER_CONFIG").filter(|value| !value.is_empty()).map(PathBuf::from);
    let own = config.filter(|path| Some(*path) != docker.as_deref()).map(Path::to_owned);
    own.or_else(|| std::env::var_os(VARIABLE).filter(|value| !value.is_empty()).map(PathBuf::from))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Args;
    use slipway_registry::server::access::Mode;

    #[test]
    fn every_key_has_a_flag_and_a_variable() {
        let own = Settings::augment_args(clap::Command::new("serve")).get_arguments().count();
        // the local store's is a flag of every command
        let command = crate::app::Global::augment_args(Settings::augment_args(clap::Command::new("serve")));
        for key in &KEYS {
            let flag = command.get_arguments().find(|arg| arg.get_long() == Some(key.flag));
            let flag = flag.unwrap_or_else(|| panic!("`{}` has no flag `--{}`", key.name, key.flag));
            let variable = format!("SLIPWAY_{}", key.name.to_uppercase().replace('-', "_"));
            assert_eq!(
                flag.get_env().and_then(|name| name.to_str()),
                Some(variable.as_str()),
                "{}",
                key.name
            );
            let takes = flag.get_action().takes_values();
            // what is on by itself is turned off by a word
            assert_eq!(takes, key.form != Form::Switch || key.name == "web", "{}", key.name);
        }
        assert_eq!(own + 1, KEYS.len(), "every flag has a key");
        assert!(KEYS.is_sorted_by_key(|key| key.name));
    }

    #[test]
    fn flags_take_the_place_of_the_file_s() {
        let file =
            read::read("rules = [\"anyone may pull in **\"]\nread-only = true\naccess = \"public\"", "f")
                .expect("settings");
        let mut flags = Settings { access: Some(Mode::Private), ..Settings::default() };
        let both = flags.clone().over(file.clone());
        assert_eq!((both.access, both.read_only, both.rules.len()), (Some(Mode::Private), true, 1));
        assert_eq!(both.rules[0].place, "f:1");
        flags.rules = vec!["ann may push in a".parse().expect("a rule")];
        assert_eq!(flags.over(file).rules[0].place, "--rule 1");
    }

    #[test]
    fn urls_are_of_hosts() {
        assert_eq!(url("https://r.example:5000/").as_deref(), Ok("https://r.example:5000"));
        for text in [
            "",
            "r.example",
            "https://",
            "https:///",
            "https://a/b",
            "https://u@h",
            "ftp://a",
            "https://a\"b",
        ] {
            assert!(url(text).is_err(), "{text}");
        }
    }
}
