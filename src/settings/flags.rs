//! The flags of `serve`, each with its variable, and how a value of each is read.

use super::LogFormat;
use crate::request;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use slipway_registry::server::{
    Collect, ContentSetting, Deprecation, External, Hook, Limit, Listen, MirrorSetting, Quota, Retention,
    Scrub, TraceSetting, Trash, Trusted,
    access::{Issuer, Mode, RepositoryPattern, Rule, SecretHash, TagPattern, is_name},
    is_host_name,
    storage::pointers::DatabaseAddress,
};
use std::{path::PathBuf, time::Duration};

/// The settings, of one source or of all. Also the flags of `serve`.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Settings {
    /// Where to listen, several times for several places: ADDRESS:PORT, localhost:PORT, :PORT for every address, PORT for
    /// this machine, unix:PATH; port 0 takes a free one [default: the sockets that systemd passes, else 127.0.0.1:5000]
    #[arg(
        long,
        value_name = "PLACE",
        env = "SLIPWAY_LISTEN",
        value_delimiter = ',',
        value_parser = request::serve::listen
    )]
    pub(crate) listen: Vec<Listen>,
    /// Folder of the registry's content [default: registry, in the folder of the local store]
    #[arg(long, value_name = "DIR", env = "SLIPWAY_STORAGE")]
    pub(crate) storage: Option<PathBuf>,
    /// What the local store may take of the disk, in bytes: no matter of the server's, but of the same file.
    #[arg(skip)]
    pub(crate) store_quota: Option<u64>,
    /// Be a replica, one of several servers with one registry: its database, PostgreSQL, as postgres://USER@HOST[:PORT]/NAME,
    /// the password in PGPASSWORD. The folder is this server's own then. Needs --content
    #[arg(long, value_name = "URL", env = "SLIPWAY_DATABASE", hide_env_values = true)]
    pub(crate) database: Option<String>,
    /// Where replicas keep the content: s3://BUCKET[/PREFIX] [endpoint=URL] [region=NAME] [key=FILE] [ca=FILE] [cache=SIZE] [redirect=all|NETWORK,...] [redirect-from=SIZE] [redirect-to=URL], the key in
    /// AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or, as ID:SECRET, in a file. Needs --database
    #[arg(long, value_name = "PLACE", env = "SLIPWAY_CONTENT", value_parser = |text: &str| text.parse::<ContentSetting>())]
    pub(crate) content: Option<ContentSetting>,
    /// Seal the keys of tokens in the database by the first line of this file, and open them by any. Needs --database
    #[arg(long, value_name = "FILE", env = "SLIPWAY_TOKEN_KEY")]
    pub(crate) token_key: Option<PathBuf>,
    /// Refuse pushes and deletes
    #[arg(long, env = "SLIPWAY_READ_ONLY")]
    pub(crate) read_only: bool,
    /// Get a certificate for this name and renew it (ACME): every address speaks TLS then. Says yes to the authority's terms
    #[arg(long, value_name = "NAME", env = "SLIPWAY_ACME", value_delimiter = ',', value_parser = host)]
    pub(crate) acme: Vec<String>,
    /// A mail address for the certificate's authority to write to
    #[arg(long, value_name = "ADDRESS", env = "SLIPWAY_ACME_CONTACT", value_parser = mail)]
    pub(crate) acme_contact: Option<String>,
    /// The directory of the certificate's authority [default: Let's Encrypt's]
    #[arg(long, value_name = "URL", env = "SLIPWAY_ACME_DIRECTORY", value_parser = directory)]
    pub(crate) acme_directory: Option<String>,
    /// ID:KEY of an account that you have with the authority, where it asks for one
    #[arg(long, value_name = "ID:KEY", env = "SLIPWAY_ACME_EXTERNAL", hide_env_values = true, value_parser = |text: &str| text.parse::<External>())]
    pub(crate) acme_external: Option<External>,
    /// Where to answer the authority by plain HTTP, which it asks at port 80, in the words of --listen [default: over TLS,
    /// which it asks at port 443]
    #[arg(
        long,
        value_name = "PLACE",
        env = "SLIPWAY_ACME_HTTP",
        value_delimiter = ',',
        value_parser = request::serve::listen
    )]
    pub(crate) acme_http: Vec<Listen>,
    /// How fast everything that is stored is read again, and how often, to find what the disk damaged: `50MiB/s`,
    /// `50MiB/s every 7d`, `off` [default: 20MiB/s every 7d]
    #[arg(long, value_name = "RATE", env = "SLIPWAY_SCRUB", value_parser = |text: &str| text.parse::<Scrub>())]
    pub(crate) scrub: Option<Scrub>,
    /// Whether the web page is shown at `/` [default: true]
    #[arg(long, value_name = "BOOL", env = "SLIPWAY_WEB")]
    pub(crate) web: Option<bool>,
    /// How long deleted manifests, tags and blobs stay in the trash: `7d`, `12h`, `0` for not at all [default: 7d]
    #[arg(long, value_name = "TIME", env = "SLIPWAY_TRASH", value_parser = |text: &str| text.parse::<Trash>())]
    pub(crate) trash: Option<Trash>,
    /// How what nothing needs is collected: pointers a second, how often, and how long after it was needed last:
    /// `1000/s every 1h after 1d`, `off` [default: 1000/s every 1h after 1d]
    #[arg(long, value_name = "RATE", env = "SLIPWAY_COLLECT", value_parser = |text: &str| text.parse::<Collect>())]
    pub(crate) collect: Option<Collect>,
    /// What is kept of tags and untagged manifests: `keep 10 newest, pulled within 30d in team/**:ci-*`,
    /// `expire after 14d in **:pr-*`, `untagged after 7d in **` [default: everything]
    #[arg(long, value_name = "RULE", env = "SLIPWAY_RETENTION", value_delimiter = ';', value_parser = |text: &str| text.parse::<Retention>())]
    pub(crate) retention: Vec<Retention>,
    /// How much there may be: `10GiB, 100 tags in each team/**` of each of these repositories, `200GiB in all of team` of all
    /// below it together, `1TiB in all` of the registry [default: as much as there is room for]
    #[arg(long = "quota", value_name = "QUOTA", env = "SLIPWAY_QUOTAS", value_delimiter = ';', value_parser = |text: &str| text.parse::<Quota>())]
    pub(crate) quotas: Vec<Quota>,
    /// Take manifests of which not everything is pushed (mirrors of a few platforms)
    #[arg(long, env = "SLIPWAY_SPARSE")]
    pub(crate) sparse: bool,
    /// The same, in these repositories
    #[arg(
        long,
        value_name = "REPOSITORIES",
        env = "SLIPWAY_SPARSE_IN",
        value_delimiter = ',',
        value_parser = |text: &str| text.parse::<RepositoryPattern>()
    )]
    pub(crate) sparse_in: Vec<RepositoryPattern>,
    /// What whoever uses these repositories is warned of
    #[arg(
        long,
        value_name = "REPOSITORIES=WORDS",
        env = "SLIPWAY_DEPRECATED",
        value_delimiter = ';',
        value_parser = |text: &str| text.parse::<Deprecation>()
    )]
    pub(crate) deprecated: Vec<Deprecation>,
    /// Write a line a request to standard error
    #[arg(long, env = "SLIPWAY_ACCESS_LOG")]
    pub(crate) access_log: bool,
    /// How the lines of the access log are written
    #[arg(long, value_name = "FORMAT", env = "SLIPWAY_LOG_FORMAT", value_enum)]
    pub(crate) log_format: Option<LogFormat>,
    /// Write a line of JSON for every change to this file
    #[arg(long, value_name = "FILE", env = "SLIPWAY_AUDIT_LOG")]
    pub(crate) audit_log: Option<PathBuf>,
    /// Where /metrics, /healthz and /readyz are shown to everybody, without TLS, in the words of --listen
    #[arg(
        long,
        value_name = "PLACE",
        env = "SLIPWAY_METRICS_LISTEN",
        value_delimiter = ',',
        value_parser = request::serve::listen
    )]
    pub(crate) metrics_listen: Vec<Listen>,
    /// Who is told of changes: NAME=[harbor|distribution] URL [for push, delete, pull] [in REPOSITORIES]
    #[arg(
        long = "webhook",
        value_name = "HOOK",
        env = "SLIPWAY_WEBHOOKS",
        value_delimiter = ';',
        value_parser = |text: &str| text.parse::<Hook>()
    )]
    pub(crate) webhooks: Vec<Hook>,
    /// A collector that takes traces of requests by OTLP over HTTP: URL [sample=SHARE] [service=NAME] [header=NAME:VALUE]
    #[arg(
        long,
        value_name = "COLLECTOR",
        env = "SLIPWAY_TRACES",
        hide_env_values = true,
        value_parser = |text: &str| text.parse::<TraceSetting>()
    )]
    pub(crate) traces: Option<TraceSetting>,
    /// Who may do what, after the rules: `open` for anyone everything, `public` for anyone pulls and users everything,
    /// `private` for users alone [default: private where there are users, open where there are none, and the rules alone
    /// where there are rules]
    #[arg(long, value_name = "MODE", env = "SLIPWAY_ACCESS", value_parser = modes())]
    pub(crate) access: Option<Mode>,
    /// File of users: NAME:HASH a line, with bcrypt or argon2
    #[arg(long, value_name = "FILE", env = "SLIPWAY_HTPASSWD")]
    pub(crate) htpasswd: Option<PathBuf>,
    /// A user with a token: NAME=HASH, as `slipway registry token NAME` prints it
    #[arg(long = "token", value_name = "NAME=HASH", env = "SLIPWAY_TOKENS", value_delimiter = ',', value_parser = token)]
    pub(crate) tokens: Vec<(String, SecretHash)>,
    /// An issuer of identity tokens, whose jobs are `issuer:NAME` in rules: NAME=URL audience=TEXT
    /// [claim:NAME=PATTERN]... [jwks=URL|FILE] [ca=FILE]
    #[arg(long = "issuer", value_name = "NAME=ISSUER", env = "SLIPWAY_ISSUERS", value_delimiter = ';', value_parser = issuer)]
    pub(crate) issuers: Vec<(String, Issuer)>,
    /// A registry whose content is served here as `mirror/NAME/...`, fetched when it is asked for, and kept: NAME=URL
    /// [prefix=NAME] [ns=HOST] [host=HOST] [fresh=[TAGS=]TIME] [user=NAME password=TEXT|password-file=FILE|password-env=VARIABLE]
    /// [token=HOST] [redirect=HOST] [ca=FILE]
    #[arg(long = "mirror", value_name = "NAME=UPSTREAM", env = "SLIPWAY_MIRRORS", hide_env_values = true, value_delimiter = ';', value_parser = mirror)]
    pub(crate) mirrors: Vec<(String, MirrorSetting)>,
    /// A group of users, `@NAME` in rules: NAME=USER,USER
    #[arg(long = "group", value_name = "NAME=USERS", env = "SLIPWAY_GROUPS", value_delimiter = ';', value_parser = group)]
    pub(crate) groups: Vec<(String, Vec<String>)>,
    /// A rule, the first that fits counting: `WHO may [not] ACTIONS in REPOSITORIES`
    #[arg(long = "rule", value_name = "RULE", env = "SLIPWAY_RULES", value_delimiter = ';', value_parser = |text: &str| text.parse::<Rule>())]
    pub(crate) rules: Vec<Rule>,
    /// What one address or one user may have: `address: 50 requests/s, 50MiB/s, 100 uploads/h, 20 failed logins/m`, or
    /// `user: ...` [default: 30 failed logins/m for each]
    #[arg(long = "limit", value_name = "LIMIT", env = "SLIPWAY_LIMITS", value_delimiter = ';', value_parser = |text: &str| text.parse::<Limit>())]
    pub(crate) limits: Vec<Limit>,
    /// How long requests under way are waited for when the server is told to stop: 30s, 5m [default: 10s]
    #[arg(long, value_name = "TIME", env = "SLIPWAY_DRAIN", value_parser = time)]
    pub(crate) drain: Option<Duration>,
    /// Most bytes of a blob: 10GiB
    #[arg(long, value_name = "SIZE", env = "SLIPWAY_MAX_BLOB", value_parser = size)]
    pub(crate) max_blob: Option<u64>,
    /// Tags that never change once they are there: [REPOSITORIES:]TAGS
    #[arg(
        long = "immutable-tag",
        value_name = "PATTERN",
        env = "SLIPWAY_IMMUTABLE_TAGS",
        value_delimiter = ',',
        value_parser = |text: &str| text.parse::<TagPattern>()
    )]
    pub(crate) immutable_tags: Vec<TagPattern>,
    /// Where clients reach the registry, if a proxy stands in front [default: where they say they came]
    #[arg(long, value_name = "URL", env = "SLIPWAY_URL", value_parser = url)]
    pub(crate) url: Option<String>,
    /// A proxy in front whose `X-Forwarded-For`, `X-Forwarded-Proto` and `X-Forwarded-Host`, or `Forwarded`, are believed: an
    /// address, a network, or `unix` for sockets in the file system
    #[arg(long = "trusted-proxy", value_name = "PROXY", env = "SLIPWAY_TRUSTED_PROXIES", value_delimiter = ',', value_parser = |text: &str| text.parse::<Trusted>())]
    pub(crate) trusted_proxies: Vec<Trusted>,
    /// Ask for name and password with every request, and make no tokens
    #[arg(long, env = "SLIPWAY_BASIC_ONLY")]
    pub(crate) basic_only: bool,
    /// The server's certificate, with those that vouch for it, in PEM form: every address speaks TLS then
    #[arg(long, value_name = "FILE", env = "SLIPWAY_TLS_CERT")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// The key of --tls-cert
    #[arg(long, value_name = "FILE", env = "SLIPWAY_TLS_KEY")]
    pub(crate) tls_key: Option<PathBuf>,
    /// Authorities of clients, in PEM form: a certificate that they vouch for names its user
    #[arg(long, value_name = "FILE", env = "SLIPWAY_TLS_CLIENT_CA")]
    pub(crate) tls_client_ca: Option<PathBuf>,
}

/// An address of a database, which is kept as it is written: what is wrong with it is said without its password.
pub(super) fn database(text: &str) -> Result<DatabaseAddress, String> {
    text.parse()
}

pub(super) fn modes() -> impl TypedValueParser<Value = Mode> {
    PossibleValuesParser::new(Mode::ALL.map(Mode::name)).try_map(|text| text.parse::<Mode>())
}

pub(super) fn host(text: &str) -> Result<String, String> {
    let wrong =
        || format!("`{text}` is no name of a host that a certificate can be got for: `registry.example`");
    if is_host_name(text) { Ok(text.to_ascii_lowercase()) } else { Err(wrong()) }
}

pub(super) fn mail(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_graphic() && !matches!(c, ',' | ';' | '<' | '>' | '?' | ':' | '`');
    let parts = text.split_once('@').filter(|(name, host)| !name.is_empty() && is_host_name(host));
    let fits = parts.is_some() && text.chars().all(plain);
    if fits { Ok(text.to_owned()) } else { Err(format!("`{text}` is no mail address: `ops@example.com`")) }
}

pub(super) fn directory(text: &str) -> Result<String, String> {
    let rest = text.strip_prefix("https://").filter(|rest| !rest.is_empty() && !rest.starts_with('/'));
    let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '`' | '@' | '#' | '\\');
    match rest {
        Some(rest) if rest.chars().all(plain) => Ok(text.to_owned()),
        _ => Err(format!("`{text}` is not https://HOST/PATH")),
    }
}

pub(super) fn token(text: &str) -> Result<(String, SecretHash), String> {
    let (name, hash) = text.split_once('=').ok_or("it is NAME=HASH")?;
    Ok((user(name)?, hash.parse()?))
}

pub(super) fn size(text: &str) -> Result<u64, String> {
    let size = slipway_registry::server::bytes(text).filter(|size| *size > 0);
    size.ok_or_else(|| format!("`{text}` is no size: `10GiB`, `500MB`"))
}

pub(super) fn time(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no time up to an hour: `30s`, `5m`");
    let (number, factor) = match (text.strip_suffix('s'), text.strip_suffix('m')) {
        (Some(number), _) => (number, 1),
        (_, Some(number)) => (number, 60),
        _ => return Err(wrong()),
    };
    let seconds = number.parse::<u64>().ok().and_then(|number| number.checked_mul(factor));
    seconds.filter(|seconds| *seconds <= 3600).map(Duration::from_secs).ok_or_else(wrong)
}

pub(super) fn issuer(text: &str) -> Result<(String, Issuer), String> {
    let (name, issuer) = text.trim().split_once('=').ok_or("it is NAME=URL audience=TEXT ...")?;
    Ok((user(name)?, issuer.parse()?))
}

pub(super) fn mirror(text: &str) -> Result<(String, MirrorSetting), String> {
    let (name, mirror) = text.trim().split_once('=').ok_or("it is NAME=URL ...")?;
    Ok((user(name)?, mirror.parse()?))
}

pub(super) fn group(text: &str) -> Result<(String, Vec<String>), String> {
    let (name, users) = text.split_once('=').ok_or("it is NAME=USER,USER")?;
    Ok((user(name)?, users.split(',').map(|name| user(name.trim())).collect::<Result<_, _>>()?))
}

pub(super) fn user(text: &str) -> Result<String, String> {
    let wrong = || format!("`{text}` is no name: visible ASCII without `:`, `,`, `;` and quotes");
    if is_name(text) { Ok(text.to_owned()) } else { Err(wrong()) }
}

pub(super) fn url(text: &str) -> Result<String, String> {
    let host = ["https://", "http://"].iter().find_map(|scheme| text.strip_prefix(scheme));
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']');
    let host = host.map(|host| host.trim_end_matches('/')).filter(|host| !host.is_empty());
    match host {
        Some(host) if host.chars().all(plain) => Ok(text.trim_end_matches('/').to_owned()),
        _ => Err(format!("`{text}` is not https://HOST[:PORT]")),
    }
}
