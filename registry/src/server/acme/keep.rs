//! Account and certificate on disk: `acme/account.json` and `acme/certificate.json`, their owner's alone.

use super::AcmeError;
use crate::limits;
use rustls::pki_types::{CertificateDer, pem::PemObject};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use slipway_oci::{file, lock::Lock};
use std::{
    fs::{self, File, OpenOptions},
    io,
    path::Path,
};
use x509_cert::{Certificate, der::Decode};

/// A certificate with its key, both in PEM form.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    pub(super) names: Vec<String>,
    /// The authority's.
    pub(super) directory: String,
    pub(super) chain: String,
    pub(super) key: String,
}

impl Kept {
    /// From when to when it holds, in seconds since 1970.
    fn validity(&self) -> Option<(i64, i64)> {
        let der = CertificateDer::from_pem_slice(self.chain.as_bytes()).ok()?;
        let certificate = Certificate::from_der(&der).ok()?;
        let validity = certificate.tbs_certificate().validity();
        let seconds = |time: &x509_cert::time::Time| i64::try_from(time.to_unix_duration().as_secs()).ok();
        Some((seconds(&validity.not_before)?, seconds(&validity.not_after)?))
    }

    /// When it ends.
    pub(super) fn ends(&self) -> Option<i64> {
        self.validity().map(|(_, end)| end)
    }

    /// When a new one is due: with a third of its time left.
    pub(super) fn due(&self) -> Option<i64> {
        self.validity().map(|(begin, end)| end - (end - begin) / 3)
    }
}

/// An account of an authority.
#[derive(Serialize, Deserialize)]
pub(super) struct KeptAccount {
    pub(super) directory: String,
    pub(super) credentials: serde_json::Value,
}

const CERTIFICATE: &str = "certificate.json";
const ACCOUNT: &str = "account.json";

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> AcmeError {
    let path = path.to_owned();
    move |source| AcmeError::Io { operation, path, source }
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, AcmeError> {
    match file::read_capped(path, limits::ACME_BYTES as u64) {
        // one that is damaged is made anew
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("read", path)(error)),
    }
}

/// Whoever reads it sees the former or the new one.
fn write(folder: &Path, name: &str, value: &impl Serialize) -> Result<(), AcmeError> {
    slipway_oci::private::folder(folder).map_err(io::Error::other).map_err(failed("use", folder))?;
    let (path, new) = (folder.join(name), folder.join(file::temporary_name(".new")));
    let bytes = serde_json::to_vec(value).expect("texts are JSON");
    let written = file::write_new(&new, &bytes, 0o600)
        .and_then(|()| File::open(&new)?.sync_all())
        .and_then(|()| fs::rename(&new, &path))
        .and_then(|()| file::sync_folder(folder));
    written.map_err(failed("write", &path))
}

pub(super) fn load(folder: &Path) -> Result<Option<Kept>, AcmeError> {
    read(&folder.join(CERTIFICATE))
}

pub(super) fn store(folder: &Path, kept: &Kept) -> Result<(), AcmeError> {
    write(folder, CERTIFICATE, kept)
}

pub(super) fn load_account(folder: &Path) -> Result<Option<KeptAccount>, AcmeError> {
    read(&folder.join(ACCOUNT))
}

pub(super) fn store_account(folder: &Path, account: &KeptAccount) -> Result<(), AcmeError> {
    write(folder, ACCOUNT, account)
}

/// Takes the turn of asking; `None` where another process has it.
pub(super) fn turn(folder: &Path) -> Result<Option<Lock>, AcmeError> {
    slipway_oci::private::folder(folder).map_err(io::Error::other).map_err(failed("use", folder))?;
    let path = folder.join("lock");
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(failed("open", &path))?;
    Lock::try_alone(file).map_err(failed("lock", &path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn what_is_kept_is_read_again_and_is_its_owner_s() {
        let folder = tempfile::tempdir().expect("folder");
        let acme = folder.path().join("acme");
        assert!(load(&acme).expect("nothing").is_none());
        let chain = include_str!("../../client/tests/tls/leaf.crt").to_owned();
        let kept =
            Kept { names: vec!["a".to_owned()], directory: "d".to_owned(), chain, key: "k".to_owned() };
        store(&acme, &kept).expect("kept");
        assert!(load(&acme).expect("read") == Some(kept.clone()));
        let (begin, end) = kept.validity().expect("its time");
        assert!(begin < end && kept.due() > Some(begin) && kept.due() < kept.ends());
        let mode = |path: &Path| fs::metadata(path).expect("it").permissions().mode() & 0o777;
        assert_eq!((mode(&acme), mode(&acme.join(CERTIFICATE))), (0o700, 0o600));
        // one that is damaged is none
        fs::write(acme.join(CERTIFICATE), b"{").expect("damage");
        assert!(load(&acme).expect("none").is_none());
        let none = Kept { chain: "none".to_owned(), ..kept };
        assert_eq!((none.due(), none.ends()), (None, None));
        // one at a time
        let turn = super::turn(&acme).expect("a turn").expect("it is free");
        assert!(super::turn(&acme).expect("a turn").is_none());
        drop(turn);
        assert!(super::turn(&acme).expect("a turn").is_some());
    }
}
