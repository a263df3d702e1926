//! The keys of one issuer, kept: so that a token costs no round trip, and an issuer that is away for an hour stops nobody.
//!
//! They are asked for when there are none, when a token names a key that is not known (the issuer has rolled), and when they
//! are old; at most once in [`limits::ISSUER_PAUSE`], whoever invents ids of keys, and by one request at a time.

use super::{FetchError, IssuerError, NamedIssuer, fetch::Fetcher, jwk::KeySet};
use crate::{client::Proxies, limits};
use std::{
    sync::{Arc, RwLock},
    time::Instant,
};
use tokio::sync::Mutex;

struct Kept {
    keys: Arc<KeySet>,
    /// When they were fetched; `None`: never.
    fetched: Option<Instant>,
}

pub(super) struct Source {
    fetcher: Option<Fetcher>,
    kept: RwLock<Kept>,
    /// When they were last asked for. Held while they are.
    asked: Mutex<Option<Instant>>,
}

impl Source {
    pub(super) fn new(named: &NamedIssuer, proxies: &Proxies) -> Result<Source, IssuerError> {
        let name = || named.name.clone();
        let fetcher = Fetcher::new(&named.issuer, named.authorities.as_ref(), proxies)
            .map_err(|source| IssuerError::Client { name: name(), source })?;
        let keys = match &named.keys {
            Some(bytes) => {
                KeySet::parse(bytes).map_err(|source| IssuerError::Keys { name: name(), source })?
            }
            None => KeySet::default(),
        };
        let kept = RwLock::new(Kept { keys: Arc::new(keys), fetched: None });
        Ok(Source { fetcher, kept, asked: Mutex::new(None) })
    }

    fn kept(&self) -> (Arc<KeySet>, Option<Instant>) {
        let kept = self.kept.read().expect("no panic happens while the keys are held");
        (Arc::clone(&kept.keys), kept.fetched)
    }

    /// The keys to look in for one of this id, and why there are no newer ones, where that was just found out.
    pub(super) async fn keys_for(&self, id: &str) -> (Arc<KeySet>, Option<FetchError>) {
        let (keys, fetched) = self.kept();
        let Some(fetcher) = &self.fetcher else { return (keys, None) };
        let age = fetched.map(|fetched| fetched.elapsed());
        let fresh = age.is_some_and(|age| age < limits::ISSUER_AGE);
        if fresh && keys.has(id) {
            return (keys, None);
        }
        // what is old is of use while it is renewed, and for a while where that fails
        let usable = age.is_some_and(|age| age < limits::ISSUER_STALE);
        let mut asked = if usable && keys.has(id) {
            match self.asked.try_lock() {
                Ok(asked) => asked,
                Err(_) => return (keys, None),
            }
        } else {
            self.asked.lock().await
        };
        let failure = match *asked {
            // somebody else has just asked
            Some(at) if at.elapsed() < limits::ISSUER_PAUSE => None,
            _ => {
                let found = fetcher.fetch().await;
                *asked = Some(Instant::now());
                self.take(found)
            }
        };
        drop(asked);
        let (keys, fetched) = self.kept();
        let stale = fetched.is_none_or(|fetched| fetched.elapsed() >= limits::ISSUER_STALE);
        (if stale { Arc::default() } else { keys }, failure)
    }

    fn take(&self, found: Result<KeySet, FetchError>) -> Option<FetchError> {
        match found {
            Ok(keys) => {
                let mut kept = self.kept.write().expect("no panic happens while the keys are held");
                *kept = Kept { keys: Arc::new(keys), fetched: Some(Instant::now()) };
                None
            }
            Err(failure) => Some(failure),
        }
    }
}
