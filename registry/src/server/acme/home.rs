//! Where account, certificate and answers to challenges lie: in a folder of one server, or with what replicas share. There any of them
//! may be asked what another one has begun, so each looks every second ([`limits::ACME_SHARED_LOOK`]).

use super::{
    AcmeError,
    keep::{self, Kept, KeptAccount},
    pause,
};
use crate::{
    limits,
    server::{
        storage::{Errand, Secrets, Storage, Turn},
        tls::Certificates,
    },
};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use slipway_oci::lock::Lock;
use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// Answers to challenges that are under way.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Answers {
    /// By name: the digest of the authorization in base64, over TLS.
    #[serde(default)]
    tls: BTreeMap<String, String>,
    /// By token: a text, by HTTP.
    #[serde(default)]
    http: BTreeMap<String, String>,
}

impl Answers {
    pub(super) fn over_tls(&mut self, name: &str, digest: &[u8]) {
        self.tls.insert(name.to_owned(), BASE64.encode(digest));
    }

    pub(super) fn by_http(&mut self, token: &str, text: &str) {
        self.http.insert(token.to_owned(), text.to_owned());
    }

    /// Has them, and no others, answered here.
    pub(super) fn answer(&self, certificates: &Certificates) -> Result<(), AcmeError> {
        certificates.end_challenges();
        for (name, digest) in &self.tls {
            let digest = BASE64.decode(digest).unwrap_or_default();
            certificates.prove(name, &digest).map_err(AcmeError::Challenge)?;
        }
        self.http.iter().for_each(|(token, text)| certificates.say(token, text));
        Ok(())
    }
}

/// How often it failed in a row, for all replicas.
#[derive(Default, Serialize, Deserialize)]
struct Failures {
    count: u32,
}

const CERTIFICATE: &str = "certificate";
const ACCOUNT: &str = "account";
const ANSWERS: &str = "answers";
const FAILURES: &str = "failures";

/// The turn at asking an authority, until it is dropped.
pub(super) enum Asking {
    Alone { _lock: Lock },
    ForAll(Turn),
}

impl Asking {
    /// It was asked, with whatever success: nobody does so again before it is time.
    pub(super) fn finish(self) {
        if let Asking::ForAll(turn) = self {
            turn.finish();
        }
    }
}

pub(super) enum Home {
    Folder(PathBuf),
    Shared { storage: Arc<Storage>, known: Mutex<Secrets> },
}

impl Home {
    pub(super) fn shared(storage: Arc<Storage>) -> Home {
        Home::Shared { storage, known: Mutex::default() }
    }

    /// How often it is looked at.
    pub(super) fn look(&self) -> Duration {
        match self {
            Home::Folder(_) => limits::ACME_LOOK,
            Home::Shared { .. } => limits::ACME_SHARED_LOOK,
        }
    }

    /// How long it takes until everybody knows what was kept.
    pub(super) fn spreads(&self) -> Duration {
        match self {
            Home::Folder(_) => Duration::ZERO,
            Home::Shared { .. } => 3 * limits::ACME_SHARED_LOOK,
        }
    }

    /// What is known of a secret; one that cannot be read is as good as none.
    fn known<T: DeserializeOwned>(
        storage: &Storage,
        known: &Mutex<Secrets>,
        name: &str,
    ) -> Result<Option<T>, AcmeError> {
        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
        storage.learn_secrets(&mut known).map_err(AcmeError::Shared)?;
        Ok(known.get(name).and_then(|value| serde_json::from_slice(value).ok()))
    }

    fn keep(storage: &Storage, name: &str, value: &impl Serialize) -> Result<(), AcmeError> {
        let value = serde_json::to_vec(value).expect("texts are JSON");
        storage.keep_secret(name, &value).map_err(AcmeError::Shared)
    }

    pub(super) fn certificate(&self) -> Result<Option<Kept>, AcmeError> {
        match self {
            Home::Folder(folder) => keep::load(folder),
            Home::Shared { storage, known } => Home::known(storage, known, CERTIFICATE),
        }
    }

    pub(super) fn keep_certificate(&self, kept: &Kept) -> Result<(), AcmeError> {
        match self {
            Home::Folder(folder) => keep::store(folder, kept),
            Home::Shared { storage, .. } => Home::keep(storage, CERTIFICATE, kept),
        }
    }

    pub(super) fn account(&self) -> Result<Option<KeptAccount>, AcmeError> {
        match self {
            Home::Folder(folder) => keep::load_account(folder),
            Home::Shared { storage, known } => Home::known(storage, known, ACCOUNT),
        }
    }

    pub(super) fn keep_account(&self, account: &KeptAccount) -> Result<(), AcmeError> {
        match self {
            Home::Folder(folder) => keep::store_account(folder, account),
            Home::Shared { storage, .. } => Home::keep(storage, ACCOUNT, account),
        }
    }

    /// Answers that another one wants to be given here; `None` where nobody else could.
    pub(super) fn answers(&self) -> Result<Option<Answers>, AcmeError> {
        match self {
            Home::Folder(_) => Ok(None),
            Home::Shared { storage, known } => {
                Ok(Some(Home::known(storage, known, ANSWERS)?.unwrap_or_default()))
            }
        }
    }

    pub(super) fn keep_answers(&self, answers: &Answers) -> Result<(), AcmeError> {
        match self {
            Home::Folder(_) => Ok(()),
            Home::Shared { storage, .. } => Home::keep(storage, ANSWERS, answers),
        }
    }

    /// Takes the turn of asking; `None` where another one has it, or asked in vain lately.
    pub(super) fn turn(&self) -> Result<Option<Asking>, AcmeError> {
        match self {
            Home::Folder(folder) => Ok(keep::turn(folder)?.map(|lock| Asking::Alone { _lock: lock })),
            Home::Shared { storage, known } => {
                let failures: Failures = Home::known(storage, known, FAILURES)?.unwrap_or_default();
                let every = if failures.count == 0 { Duration::ZERO } else { pause(failures.count) };
                Ok(match storage.errand("acme", every).map_err(AcmeError::Shared)? {
                    Errand::Mine(turn) => Some(Asking::ForAll(turn)),
                    Errand::Elsewhere | Errand::Done(_) => None,
                })
            }
        }
    }

    /// Tells the others how it went, who would all try as often as one may.
    pub(super) fn note_outcome(&self, failed: bool) -> Result<(), AcmeError> {
        let Home::Shared { storage, known } = self else { return Ok(()) };
        let former: Failures = Home::known(storage, known, FAILURES)?.unwrap_or_default();
        let count = if failed { former.count.saturating_add(1) } else { 0 };
        match count == former.count {
            true => Ok(()),
            false => Home::keep(storage, FAILURES, &Failures { count }),
        }
    }
}
