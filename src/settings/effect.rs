//! What the settings make of a server: its policy, who may do what, its mirrors and certificates.

use super::{FILE_BYTES, Settings, flags::database};
use crate::{error::Failure, service::input};
use slipway_registry::client::{Authorities, Proxies};
use slipway_registry::server::{
    Acme, ContentSetting, Engines, Limits, MirrorSetting, Mirrors, NamedMirror, PasswordSource, Policy, Tls,
    access::{Access, AccessConfig, Htpasswd, Issuer, KeySource, NamedIssuer},
    storage::{Seals, content::BucketConfig},
};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

impl Settings {
    /// What is taken by these settings.
    pub(crate) fn policy(&self) -> Policy {
        let guesses = "30 failed logins/m";
        let mut limits = Limits::default();
        let mut add = |text: String| limits.add(&text.parse().expect("a limit"));
        add(format!("user: {guesses}"));
        // behind a proxy everybody has its address, unless its word is taken
        if self.url.is_none() || !self.trusted_proxies.is_empty() {
            add(format!("address: {guesses}"));
        }
        self.limits.iter().for_each(|limit| limits.add(limit));
        Policy {
            limits,
            max_blob: self.max_blob,
            read_only: self.read_only,
            web: self.web.unwrap_or(true),
            sparse: self.sparse,
            sparse_in: self.sparse_in.clone(),
            deprecated: self.deprecated.clone(),
            scrub: self.scrub.unwrap_or_default(),
            trusted_proxies: self.trusted_proxies.clone(),
            quotas: self.quotas.clone(),
            retention: self.retention.clone(),
            trash: self.trash.unwrap_or_default(),
            collect: self.collect.unwrap_or_default(),
        }
    }

    /// Who may do what by these settings.
    pub(crate) fn access(&self) -> Result<Arc<Access>, Failure> {
        let htpasswd = self.htpasswd.as_deref().map(read_htpasswd).transpose()?;
        let config = AccessConfig {
            mode: self.access,
            htpasswd,
            tokens: self.tokens.iter().cloned().collect(),
            rules: self.rules.clone(),
            groups: self.groups.iter().cloned().collect(),
            issuers: self.issuers.iter().map(read_issuer).collect::<Result<_, _>>()?,
            proxies: Proxies::from_environment(|name| std::env::var(name).ok()),
            immutable_tags: self.immutable_tags.clone(),
            certificates: self.tls_client_ca.is_some(),
            url: self.url.clone(),
            token_endpoint: !self.basic_only,
        };
        Access::new(config).map(Arc::new).map_err(|error| Failure::of(&error))
    }

    /// Repositories that are other registries', by these settings.
    pub(crate) fn mirrors(&self) -> Result<Arc<Mirrors>, Failure> {
        let named = self.mirrors.iter().map(read_mirror).collect::<Result<_, _>>()?;
        let proxies = Proxies::from_environment(|name| std::env::var(name).ok());
        Mirrors::new(named, &proxies).map(Arc::new).map_err(|error| Failure::of(&error))
    }

    /// Whether something is different from `former` that a running server does not take over.
    pub(crate) fn needs_restart(&self, former: &Settings) -> bool {
        let fixed = |own: &Settings| {
            let all = own.listen.iter().chain(&own.metrics_listen).chain(&own.acme_http);
            let listen: Vec<String> = all.map(ToString::to_string).collect();
            let logs = (own.access_log, own.log_format, own.audit_log.clone());
            let told = (own.webhooks.clone(), own.traces.clone());
            let acme = (
                own.acme.clone(),
                own.acme_contact.clone(),
                own.acme_directory.clone(),
                own.acme_external.clone(),
            );
            let engines =
                (own.storage.clone(), own.database.clone(), own.content.clone(), own.token_key.clone());
            (logs, told, listen, engines, own.drain, own.tls_cert.is_some(), acme)
        };
        fixed(self) != fixed(former)
    }

    /// What a replica shares with others, where the settings say so.
    pub(crate) fn engines(
        &self,
        authorities: impl FnOnce() -> Result<Option<Authorities>, Failure>,
    ) -> Result<Option<Engines>, Failure> {
        let (address, content) = match (&self.database, &self.content) {
            (None, None) if self.token_key.is_some() => {
                return Err(Failure::new("`token-key` needs `database`: a folder is its owner's alone"));
            }
            (None, None) => return Ok(None),
            (Some(database), Some(content)) => (database, content),
            (Some(_), None) => return Err(Failure::new("`database` needs `content`: replicas share both")),
            (None, Some(_)) => return Err(Failure::new("`content` needs `database`: replicas share both")),
        };
        let address = database(address).map_err(|words| Failure::new(format!("`database`: {words}")))?;
        let password = std::env::var("PGPASSWORD").ok().filter(|text| !text.is_empty());
        let system = authorities()?;
        let bucket = bucket(content, system.as_ref())?;
        let database = address.or_password(password.as_deref()).trusting(system);
        let redirect = content.redirect.clone();
        Ok(Some(Engines { database, bucket, redirect, seals: self.seals()? }))
    }

    /// What seals the keys of tokens.
    fn seals(&self) -> Result<Seals, Failure> {
        let Some(path) = &self.token_key else { return Ok(Seals::default()) };
        let bytes = input::read("token-key", path, FILE_BYTES).map_err(Failure::from)?;
        let wrong = |words: &str| Failure::new(format!("`token-key` `{}`: {words}", path.display()));
        let text = String::from_utf8(bytes).map_err(|_| wrong("it is not UTF-8 text"))?;
        Seals::read(&text).map_err(|words| wrong(&words))
    }

    /// Files that the settings name, and that may change while a server runs.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let issued = self.issuers.iter().flat_map(|(_, issuer)| {
            let keys = if let KeySource::File(path) = &issuer.keys { Some(path) } else { None };
            keys.into_iter().chain(&issuer.authorities)
        });
        let mirrored = self.mirrors.iter().flat_map(|(_, mirror)| {
            let password = match &mirror.password {
                Some(PasswordSource::File(path)) => Some(path),
                _ => None,
            };
            password.into_iter().chain(&mirror.authorities)
        });
        let own = [&self.htpasswd, &self.tls_cert, &self.tls_key, &self.tls_client_ca];
        own.into_iter().flatten().chain(issued).chain(mirrored).cloned().collect()
    }

    /// How the server gets its certificate by itself, where the settings say so.
    pub(crate) fn acme(
        &self,
        authorities: impl FnOnce() -> Result<Option<Authorities>, Failure>,
    ) -> Result<Option<Acme>, Failure> {
        if self.acme.is_empty() {
            let others = [
                ("acme-contact", self.acme_contact.is_some()),
                ("acme-directory", self.acme_directory.is_some()),
                ("acme-external", self.acme_external.is_some()),
                ("acme-http", !self.acme_http.is_empty()),
            ];
            return match others.iter().find(|(_, set)| *set) {
                Some((key, _)) => Err(Failure::new(format!("`{key}` needs names, `acme`"))),
                None => Ok(None),
            };
        }
        if self.tls_cert.is_some() || self.tls_key.is_some() {
            return Err(Failure::new("`acme` gets what `tls-cert` and `tls-key` name: one of them goes"));
        }
        let read = |path: &PathBuf| input::read("tls-client-ca", path, FILE_BYTES).map_err(Failure::from);
        let own = Acme::new(self.acme.clone());
        Ok(Some(Acme {
            directory: self.acme_directory.clone().unwrap_or(own.directory),
            contact: self.acme_contact.clone(),
            external: self.acme_external.clone(),
            http: self.acme_http.clone(),
            authorities: authorities()?,
            proxies: Proxies::from_environment(|name| std::env::var(name).ok()),
            clients: self.tls_client_ca.as_ref().map(read).transpose()?,
            names: own.names,
        }))
    }

    /// Certificate and key, where the settings name them.
    pub(crate) fn tls(&self) -> Result<Option<Tls>, Failure> {
        let (cert, key) = match (&self.tls_cert, &self.tls_key) {
            (None, None) if self.tls_client_ca.is_some() && self.acme.is_empty() => {
                return Err(Failure::new("`tls-client-ca` needs TLS: `tls-cert` and `tls-key`, or `acme`"));
            }
            (None, None) => return Ok(None),
            (Some(cert), Some(key)) => (cert, key),
            (Some(_), None) => return Err(Failure::new("`tls-cert` needs its key, `tls-key`")),
            (None, Some(_)) => return Err(Failure::new("`tls-key` needs its certificate, `tls-cert`")),
        };
        let read = |flag, path| input::read(flag, path, FILE_BYTES).map_err(Failure::from);
        let clients = self.tls_client_ca.as_ref().map(|path| read("tls-client-ca", path)).transpose()?;
        let tls = Tls::from_pem(&read("tls-cert", cert)?, &read("tls-key", key)?, clients.as_deref());
        let about = format!("`{}` and `{}`", cert.display(), key.display());
        tls.map(Some).map_err(|error| Failure::of(&error).about(about))
    }
}

/// A bucket with the key that opens it, of the file that is named or of the variables.
pub(crate) fn bucket(
    content: &ContentSetting,
    system: Option<&Authorities>,
) -> Result<BucketConfig, Failure> {
    let read = |path: &PathBuf| input::read("content", path, FILE_BYTES).map_err(Failure::from);
    let key = match &content.key {
        Some(path) => String::from_utf8(read(path)?)
            .map_err(|_| Failure::new(format!("the key in `{}` is not UTF-8 text", path.display())))?,
        None => {
            let part = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
            let both = part("AWS_ACCESS_KEY_ID").zip(part("AWS_SECRET_ACCESS_KEY"));
            let (id, secret) = both.ok_or_else(|| {
                Failure::new(
                    "`content` needs a key: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or write `key=FILE`",
                )
            })?;
            format!("{id}:{secret}")
        }
    };
    let own = match &content.authorities {
        Some(path) => Some(Authorities::from_pem(path, &read(path)?).map_err(|error| Failure::of(&error))?),
        None => None,
    };
    let proxies = Proxies::from_environment(|name| std::env::var(name).ok());
    content.bucket(&key, own.or_else(|| system.cloned()), &proxies).map_err(Failure::new)
}

fn read_issuer((name, issuer): &(String, Issuer)) -> Result<NamedIssuer, Failure> {
    let read = |path: &Path| input::read("issuers", path, FILE_BYTES).map_err(Failure::from);
    let keys = match &issuer.keys {
        KeySource::File(path) => Some(read(path)?),
        _ => None,
    };
    let authorities = match &issuer.authorities {
        Some(path) => Some(Authorities::from_pem(path, &read(path)?).map_err(|error| Failure::of(&error))?),
        None => None,
    };
    Ok(NamedIssuer { name: name.clone(), issuer: issuer.clone(), keys, authorities })
}

fn read_mirror((name, setting): &(String, MirrorSetting)) -> Result<NamedMirror, Failure> {
    let read = |path: &Path| input::read("mirrors", path, FILE_BYTES).map_err(Failure::from);
    let password = match &setting.password {
        Some(PasswordSource::File(path)) => {
            let text = String::from_utf8(read(path)?).map_err(|_| {
                Failure::new(format!("the password in `{}` is not UTF-8 text", path.display()))
            })?;
            Some(text.strip_suffix('\n').unwrap_or(&text).trim_end_matches('\r').to_owned())
        }
        Some(PasswordSource::Variable(variable)) => match std::env::var(variable) {
            Ok(text) if !text.is_empty() => Some(text),
            _ => {
                return Err(Failure::new(format!(
                    "the mirror `{name}` takes its password from the variable `{variable}`, which is not set"
                )));
            }
        },
        Some(PasswordSource::Text(text)) => Some(text.clone()),
        None => None,
    };
    let authorities = match &setting.authorities {
        Some(path) => Some(Authorities::from_pem(path, &read(path)?).map_err(|error| Failure::of(&error))?),
        None => None,
    };
    Ok(NamedMirror { name: name.clone(), setting: setting.clone(), password, authorities })
}

fn read_htpasswd(path: &Path) -> Result<Htpasswd, Failure> {
    let bytes = input::read("htpasswd", path, FILE_BYTES)?;
    let text = String::from_utf8(bytes)
        .map_err(|_| Failure::new(format!("htpasswd file `{}` is not UTF-8 text", path.display())))?;
    Htpasswd::parse(&text)
        .map_err(|error| Failure::new(format!("htpasswd file `{}`, {error}", path.display())))
}
