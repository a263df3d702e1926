//! What makes a server a replica: a database and a bucket that it shares with others.

use super::{
    redirect::Redirect,
    storage::{Seals, Storage, StorageError, content::BucketConfig, pointers::DatabaseAddress},
    throttle::bytes,
};
use crate::client::{Authorities, Proxies};
use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
};

/// What replicas share.
#[derive(Clone, Debug)]
pub struct Engines {
    /// Pointers.
    pub database: DatabaseAddress,
    /// Content.
    pub bucket: BucketConfig,
    /// Who fetches blobs from the store.
    pub redirect: Redirect,
    /// What seals the keys of tokens.
    pub seals: Seals,
}

impl Engines {
    /// Opens both for a command beside the replicas. What passes through lies in a folder of its own within
    /// `within`, which goes with the storage.
    pub fn open_beside(&self, within: &Path) -> Result<Arc<Storage>, StorageError> {
        Storage::open_beside(&self.database, &self.bucket, &self.seals, within)
    }

    /// The same for what is to be a registry, if it is none yet.
    pub fn open_new(&self, within: &Path) -> Result<Arc<Storage>, StorageError> {
        Storage::open_new(&self.database, &self.bucket, &self.seals, within)
    }

    /// Opens both. `folder` is the replica's own.
    pub(super) fn open(&self, folder: &Path) -> Result<Arc<Storage>, StorageError> {
        Storage::open_shared(&self.database, &self.bucket, &self.seals, folder)
    }
}

/// Where content lies in an object store, as it is written: `s3://BUCKET[/PREFIX] [endpoint=URL] [region=NAME] [key=FILE]
/// [ca=FILE] [cache=SIZE] [redirect=all|NETWORK,...] [redirect-from=SIZE] [redirect-to=URL]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContentSetting {
    /// The bucket.
    pub bucket: String,
    /// What all keys begin with.
    pub prefix: String,
    /// The store's address, where it is not Amazon's.
    pub endpoint: Option<String>,
    /// Its region.
    pub region: Option<String>,
    /// A file with the key: ID:SECRET.
    pub key: Option<PathBuf>,
    /// A file of authorities that TLS trusts.
    pub authorities: Option<PathBuf>,
    /// How many bytes of blobs the replica keeps in its own folder.
    pub cache_bytes: u64,
    /// Who fetches blobs from the store.
    pub redirect: Redirect,
    /// Where clients reach it, where that is not the same address.
    pub redirect_to: Option<String>,
}

impl ContentSetting {
    /// The bucket with the key that opens it: `ID:SECRET`.
    pub fn bucket(
        &self,
        key: &str,
        authorities: Option<Authorities>,
        proxies: &Proxies,
    ) -> Result<BucketConfig, String> {
        let parts = key.trim_end_matches(['\r', '\n']).split_once(':');
        let (id, secret) = parts
            .filter(|(id, secret)| {
                !id.is_empty() && !secret.is_empty() && !secret.contains(char::is_whitespace)
            })
            .ok_or("the key of `content` is not ID:SECRET")?;
        Ok(BucketConfig {
            bucket: self.bucket.clone(),
            prefix: self.prefix.clone(),
            endpoint: self.endpoint.clone(),
            region: self.region.clone(),
            key_id: id.to_owned(),
            secret: secret.to_owned(),
            authorities,
            proxies: proxies.clone(),
            cache_bytes: self.cache_bytes,
            public: self.redirect_to.clone(),
        })
    }
}

impl FromStr for ContentSetting {
    type Err = String;

    fn from_str(text: &str) -> Result<ContentSetting, String> {
        let mut words = text.split_whitespace();
        let place = words.next().unwrap_or_default();
        let wrong = || format!("`{place}` is not s3://BUCKET[/PREFIX]");
        let place = place.strip_prefix("s3://").ok_or_else(wrong)?;
        let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
        let named = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        let fits = |part: &str| !part.is_empty() && part.chars().all(named) && part != "." && part != "..";
        let prefix = prefix.trim_end_matches('/');
        if !fits(bucket) || !(prefix.is_empty() || prefix.split('/').all(fits)) {
            return Err(wrong());
        }
        let mut found = ContentSetting {
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
            endpoint: None,
            region: None,
            key: None,
            authorities: None,
            cache_bytes: 0,
            redirect: Redirect::default(),
            redirect_to: None,
        };
        let (mut clients, mut from) = (None, None);
        for word in words {
            let Some((name, value)) = word.split_once('=').filter(|(_, value)| !value.is_empty()) else {
                return Err(format!("`{word}` is not NAME=VALUE"));
            };
            match name {
                "endpoint" => found.endpoint = Some(endpoint(value)?),
                "redirect" => clients = Some(value),
                "redirect-from" => from = Some(size(value)?),
                "redirect-to" => found.redirect_to = Some(endpoint(value)?),
                "region" if value.chars().all(named) => found.region = Some(value.to_owned()),
                "region" => return Err(format!("`{value}` is no region")),
                "key" => found.key = Some(value.into()),
                "ca" => found.authorities = Some(value.into()),
                "cache" => found.cache_bytes = size(value)?,
                other => {
                    return Err(format!(
                        "`{other}` is none of `endpoint`, `region`, `key`, `ca`, `cache`, `redirect`, `redirect-from` and `redirect-to`"
                    ));
                }
            }
        }
        if found.redirect_to.is_some() && clients.is_none() {
            return Err("`redirect-to` needs `redirect`".to_owned());
        }
        found.redirect = Redirect::read(clients, from)?;
        Ok(found)
    }
}

fn size(text: &str) -> Result<u64, String> {
    bytes(text).ok_or_else(|| format!("`{text}` is no size like `20GiB`"))
}

fn endpoint(text: &str) -> Result<String, String> {
    let parsed = reqwest::Url::parse(text).ok();
    let fits = parsed.is_some_and(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.host_str().is_some_and(|host| !host.is_empty())
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none()
    });
    if fits {
        Ok(text.trim_end_matches('/').to_owned())
    } else {
        Err(format!("`{text}` is not https://HOST[:PORT]"))
    }
}

impl fmt::Display for ContentSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}", self.bucket)?;
        if self.prefix.is_empty() { Ok(()) } else { write!(f, "/{}", self.prefix) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_a_bucket_with_words() {
        let text = "s3://team-images/registry/a/ endpoint=http://127.0.0.1:9000/ region=eu-1 key=k ca=ca.pem cache=20GiB
            redirect=10.0.0.0/8 redirect-from=5MiB redirect-to=https://s3.example";
        let found: ContentSetting = text.parse().expect("a setting");
        assert_eq!(found.to_string(), "s3://team-images/registry/a");
        assert_eq!(found.endpoint.as_deref(), Some("http://127.0.0.1:9000"));
        assert_eq!(found.cache_bytes, 20 << 30);
        assert_eq!((found.key, found.authorities), (Some("k".into()), Some("ca.pem".into())));
        for wrong in [
            "",
            "team-images",
            "s3://",
            "s3:///a",
            "s3://a/../b",
            "s3://a//b",
            "s3://a b",
            "s3://a endpoint=ftp://h",
            "s3://a endpoint=https://u:p@h",
            "s3://a region=",
            "s3://a secret=s",
            "s3://a cache=lots",
            "s3://a redirect=everybody",
            "s3://a redirect-from=1MiB",
            "s3://a redirect-to=https://s3.example",
            "s3://a redirect=all redirect-to=s3.example",
        ] {
            assert!(wrong.parse::<ContentSetting>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn secrets_are_never_shown() {
        let setting: ContentSetting = "s3://a".parse().expect("a setting");
        for wrong in ["", "id", "id:", ":secret", "id:sec ret", "id:secret\nmore"] {
            let refused = setting.bucket(wrong, None, &Proxies::default()).expect_err("no key");
            assert!(!refused.contains("secret"), "{refused}");
        }
        let bucket = setting.bucket("id:s3cr3t\n", None, &Proxies::default()).expect("a bucket");
        assert!(!format!("{bucket:?}").contains("s3cr3t"));
        let database: DatabaseAddress =
            "postgres://ann:s3cr3t@db.example:5433/registry".parse().expect("an address");
        for shown in [database.to_string(), format!("{database:?}")] {
            assert!(shown.contains("db.example") && !shown.contains("s3cr3t"), "{shown}");
        }
    }
}
