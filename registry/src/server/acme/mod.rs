//! Certificates that the server gets and renews by itself (ACME, RFC 8555).
//!
//! The authority asks for a proof that the names are this server's: a TLS connection that speaks `acme-tls/1` to the very address that
//! clients use (TLS-ALPN-01, RFC 8737), or, where `http` names places, a file by plain HTTP (HTTP-01). Account and certificate lie in
//! `acme/` of the storage, or with what replicas share ([`home`]), so that a restart asks for nothing, and of several processes or replicas
//! one asks. A certificate is renewed when a third of its time is left; new connections get the new one, and the others go on.

mod home;
mod http;
mod keep;
mod order;

pub(super) use http::router;

use super::{
    call::Shared,
    event::Event,
    sockets::Listen,
    storage::{Storage, StorageError},
    tls::{Certificates, Tls, TlsError},
};
use crate::{
    client::{Authorities, Proxies},
    limits,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use home::Home;
use keep::Kept;
use order::Orders;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// What is asked for, and of whom.
#[derive(Clone, Debug)]
pub struct Acme {
    /// Names that the certificate is for, at least one.
    pub names: Vec<String>,
    /// The authority's directory.
    pub directory: String,
    /// A mail address for the authority to write to.
    pub contact: Option<String>,
    /// What ties a new account to one that its owner has with the authority already.
    pub external: Option<External>,
    /// Where challenges are answered by plain HTTP; over TLS where there is no such place.
    pub http: Vec<Listen>,
    /// Who vouches for the authority's own certificate, beside the system's.
    pub authorities: Option<Authorities>,
    /// Proxies on the way to the authority.
    pub proxies: Proxies,
    /// Authorities of clients, in PEM form.
    pub clients: Option<Vec<u8>>,
}

impl Acme {
    /// Let's Encrypt's certificates for these names.
    pub fn new(names: Vec<String>) -> Acme {
        Acme {
            names,
            directory: instant_acme::LetsEncrypt::Production.url().to_owned(),
            contact: None,
            external: None,
            http: Vec::new(),
            authorities: None,
            proxies: Proxies::default(),
            clients: None,
        }
    }
}

/// The key of an account that an authority keeps elsewhere (RFC 8555, section 7.3.4): `ID:KEY`, the key in base64url as authorities
/// show it.
#[derive(Clone, PartialEq, Eq)]
pub struct External {
    id: String,
    key: Vec<u8>,
}

impl std::fmt::Debug for External {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "External({})", self.id)
    }
}

impl std::str::FromStr for External {
    type Err = String;

    fn from_str(text: &str) -> Result<External, String> {
        let wrong = || "it is ID:KEY, as the authority shows them, the key in base64url".to_owned();
        let (id, key) = text.trim().split_once(':').ok_or_else(wrong)?;
        let key = URL_SAFE_NO_PAD.decode(key.trim_end_matches('=')).ok().filter(|key| !key.is_empty());
        let fits = !id.is_empty() && id.chars().all(|c| c.is_ascii_graphic());
        key.filter(|_| fits).map(|key| External { id: id.to_owned(), key }).ok_or_else(wrong)
    }
}

/// Whether a certificate can be asked for a name: without a wildcard, which only a zone's owner can prove.
pub fn is_host_name(text: &str) -> bool {
    let label = |label: &str| {
        let inner = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        inner && (1..=63).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(label) && text.parse::<std::net::Ipv4Addr>().is_err()
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum AcmeError {
    /// The authority cannot be reached, or says no.
    #[error("the authority `{directory}` gave no certificate")]
    Authority {
        /// Its directory.
        directory: String,
        /// Its words.
        source: instant_acme::Error,
    },
    /// The authority does not believe that the name is this server's.
    #[error("the authority could not see that `{name}` is this server: {why}")]
    Unproven {
        /// The name.
        name: String,
        /// Its words.
        why: String,
    },
    /// It wants another proof.
    #[error("the authority takes no proof for `{name}` that is configured: `acme-http` gives another one")]
    NoChallenge {
        /// The name.
        name: String,
    },
    /// It takes longer than anybody waits.
    #[error("the authority did not answer in time")]
    Time,
    /// What it gave cannot be used.
    #[error("the authority's certificate cannot be used")]
    Unusable(#[source] TlsError),
    /// The authority's challenge cannot be answered.
    #[error("the authority's challenge cannot be answered")]
    Challenge(#[source] TlsError),
    /// What replicas share cannot be used.
    #[error("what replicas share of a certificate cannot be used")]
    Shared(#[source] StorageError),
    /// The server ends.
    #[error("the server is stopping")]
    Stopped,
    /// The folder cannot be used.
    #[error("cannot {operation} `{path}`")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On which path.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}

/// What a server starts with.
pub(super) type Prepared = (Keeper, Arc<Certificates>, Tls);

type BoxedError = Box<dyn std::error::Error + Send + Sync>;

/// Gets certificates and keeps them.
pub(super) struct Keeper {
    acme: Acme,
    home: Arc<Home>,
    certificates: Arc<Certificates>,
    orders: Orders,
}

impl Keeper {
    /// What is kept in a storage's folder, or by replicas, is presented at once.
    pub(super) fn prepare(acme: Acme, storage: &Arc<Storage>, folder: &Path) -> Result<Prepared, BoxedError> {
        let certificates = Arc::new(Certificates::default());
        let tls = Tls::renewed(Arc::clone(&certificates), acme.clients.as_deref())?;
        let home = Arc::new(match storage.is_shared() {
            true => Home::shared(Arc::clone(storage)),
            false => Home::Folder(folder.join("acme")),
        });
        let orders = Orders::new(&acme, Arc::clone(&home))?;
        let keeper = Keeper { acme, home, certificates: Arc::clone(&certificates), orders };
        if let Ok(Some(kept)) = keeper.home.certificate().map(|kept| keeper.fitting(kept)) {
            // one that cannot be used is said, and asked for anew, when the server runs
            let _ = keeper.certificates.present(&kept.chain, &kept.key);
        }
        Ok((keeper, certificates, tls))
    }

    /// The certificate that is kept, if it is for these names and of this authority.
    fn fitting(&self, kept: Option<Kept>) -> Option<Kept> {
        kept.filter(|kept| kept.names == self.acme.names && kept.directory == self.acme.directory)
    }

    async fn kept(&self) -> Result<Option<Kept>, AcmeError> {
        Ok(self.fitting(at(&self.home, Home::certificate).await?))
    }

    /// Renews until the server ends.
    pub(super) async fn run(self, shared: Arc<Shared>) {
        let (mut failures, mut again) = (0, Instant::now());
        let mut seen = Seen::default();
        loop {
            let due = match self.look(&shared, &mut seen).await {
                Ok(kept) => kept.as_ref().and_then(Kept::due).map_or(Duration::ZERO, until),
                // away for a while: what is presented goes on
                Err(error) => {
                    failed(&shared, &error);
                    again = Instant::now() + limits::ACME_PAUSE;
                    limits::ACME_LOOK
                }
            };
            if due == Duration::ZERO && again <= Instant::now() {
                match self.renew(&shared).await {
                    Ok(false) => {}
                    Ok(true) => {
                        // one that is due at once, by a clock that is wrong: nobody is asked again and again
                        let kept = self.kept().await.ok().flatten();
                        let fine = kept.and_then(|kept| kept.due()).map(until) > Some(Duration::ZERO);
                        failures = if fine { 0 } else { failures + 1 };
                    }
                    Err(error) => {
                        failures += 1;
                        failed(&shared, &error);
                    }
                }
                if failures > 0 {
                    again = Instant::now() + pause(failures);
                }
            }
            let left = again.saturating_duration_since(Instant::now()).max(due);
            // without a certificate the next look is soon, but not at once
            tokio::time::sleep(left.clamp(Duration::from_secs(1), self.home.look())).await;
        }
    }

    /// Presents what is new of this process or another one, and answers what another one has begun.
    async fn look(&self, shared: &Shared, seen: &mut Seen) -> Result<Option<Kept>, AcmeError> {
        let kept = self.kept().await?;
        if let Some(answers) = at(&self.home, Home::answers).await?
            && seen.answers.as_ref() != Some(&answers)
        {
            answers.answer(&self.certificates)?;
            seen.answers = Some(answers);
        }
        let Some(new) = kept else { return Ok(None) };
        if seen.chain.as_ref() == Some(&new.chain) {
            return Ok(Some(new));
        }
        match self.certificates.present(&new.chain, &new.key) {
            Ok(()) => {
                seen.chain = Some(new.chain.clone());
                Ok(Some(new))
            }
            // it is as good as none
            Err(error) => {
                failed(shared, &AcmeError::Unusable(error));
                Ok(None)
            }
        }
    }

    /// Asks for a certificate and keeps it; false where another process or replica is at it, or was.
    async fn renew(&self, shared: &Shared) -> Result<bool, AcmeError> {
        let Some(turn) = at(&self.home, Home::turn).await? else { return Ok(false) };
        let kept = self.kept().await?;
        if kept.and_then(|kept| kept.due()).is_some_and(|due| until(due) > Duration::ZERO) {
            return Ok(false);
        }
        let renewed = self.obtain().await;
        let is_failed = renewed.is_err();
        let noted = at(&self.home, move |home| {
            home.note_outcome(is_failed)?;
            turn.finish();
            Ok(())
        });
        let noted = noted.await;
        let kept = renewed?;
        shared.tell(&Event::Certificate { names: &kept.names, ends: kept.ends().unwrap_or(0) });
        noted.map(|()| true)
    }

    async fn obtain(&self) -> Result<Kept, AcmeError> {
        let work = self.orders.obtain(&self.acme, &self.certificates);
        let obtained = tokio::time::timeout(limits::ACME_TIME, work).await;
        self.certificates.end_challenges();
        let ended = at(&self.home, |home| home.keep_answers(&home::Answers::default())).await;
        let (chain, key) = obtained.map_err(|_| AcmeError::Time)??;
        ended?;
        let kept =
            Kept { names: self.acme.names.clone(), directory: self.acme.directory.clone(), chain, key };
        // what cannot be used is not kept
        self.certificates.present(&kept.chain, &kept.key).map_err(AcmeError::Unusable)?;
        let own = kept.clone();
        at(&self.home, move |home| home.keep_certificate(&own)).await?;
        Ok(kept)
    }
}

/// What was looked at last.
#[derive(Default)]
struct Seen {
    chain: Option<String>,
    answers: Option<home::Answers>,
}

/// Something that waits for a disk or a database.
async fn at<T: Send + 'static>(
    home: &Arc<Home>,
    work: impl FnOnce(&Home) -> Result<T, AcmeError> + Send + 'static,
) -> Result<T, AcmeError> {
    let home = Arc::clone(home);
    tokio::task::spawn_blocking(move || work(&home)).await.map_err(|_| AcmeError::Stopped)?
}

fn failed(shared: &Shared, error: &AcmeError) {
    shared.metrics.fail();
    shared.tell(&Event::Failure { operation: "get a certificate", error });
}

fn until(due: i64) -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64);
    Duration::from_secs(u64::try_from(due - now).unwrap_or(0))
}

/// One minute, two, four ... six hours: authorities count failures.
fn pause(failures: u32) -> Duration {
    limits::ACME_PAUSE
        .saturating_mul(1 << failures.clamp(1, 10).saturating_sub(1))
        .min(limits::ACME_PAUSE_MOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_hosts() {
        for text in ["registry.example", "localhost", "a-b.c1.example", "xn--nxasmq6b.example"] {
            assert!(is_host_name(text), "{text}");
        }
        let long = format!("{}.example", "a".repeat(64));
        let longer = ["abcdefghi"; 26].join(".");
        for text in [
            "",
            ".",
            "a.",
            ".a",
            "*.example",
            "a_b",
            "a b",
            "-a",
            "a-",
            "192.0.2.1",
            "[::1]",
            "ä.example",
            &long,
            &longer,
        ] {
            assert!(!is_host_name(text), "{text}");
        }
    }

    #[test]
    fn keys_of_accounts_elsewhere() {
        let external: External = " kid-1:c2VjcmV0 ".parse().expect("a key");
        assert_eq!((external.id.as_str(), external.key.as_slice()), ("kid-1", b"secret".as_slice()));
        assert_eq!(format!("{external:?}"), "External(kid-1)", "the key is nobody's to see");
        assert!("kid:c2VjcmV0cw==".parse::<External>().is_ok());
        for text in ["", "kid", ":c2VjcmV0", "kid:", "kid:?", "k d:c2VjcmV0"] {
            assert!(text.parse::<External>().is_err(), "{text}");
        }
    }

    #[test]
    fn failures_are_further_and_further_apart() {
        let pauses: Vec<u64> = (1..=11).map(|failures| pause(failures).as_secs() / 60).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 256, 360, 360]);
        assert_eq!(until(0), Duration::ZERO);
        assert!(until(i64::MAX / 2) > Duration::from_secs(1));
    }
}
