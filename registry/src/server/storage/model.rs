//! Random histories, driven against both pairs of content and pointers at once: they have to answer alike, and after
//! each history every byte that is pointed at is there, and nothing else.

use super::*;
use proptest::prelude::*;
use slipway_oci::{Algorithm, spec::media_type};

/// One thing that a client does. Numbers choose among few names and contents, so that they meet.
#[derive(Clone, Debug)]
enum Operation {
    Push { repository: u8, content: u8 },
    Mount { repository: u8, content: u8, from: Option<u8> },
    DeleteBlob { repository: u8, content: u8 },
    PutManifest { repository: u8, manifest: u8, tag: Option<u8>, docker: bool },
    DeleteManifest { repository: u8, manifest: u8 },
    DeleteTag { repository: u8, tag: u8 },
    Start { repository: u8 },
    Append { session: u8, content: u8 },
    Finish { session: u8, right: bool },
    Cancel { session: u8 },
    Reopen,
}

fn operation() -> impl Strategy<Value = Operation> {
    use Operation as O;
    let (repository, content, manifest, tag, session) = (0..3_u8, 0..4_u8, 0..5_u8, 0..2_u8, 0..3_u8);
    prop_oneof![
        4 => (repository.clone(), content.clone()).prop_map(|(repository, content)| O::Push { repository, content }),
        2 => (repository.clone(), content.clone(), proptest::option::of(0..3_u8))
            .prop_map(|(repository, content, from)| O::Mount { repository, content, from }),
        2 => (repository.clone(), content.clone())
            .prop_map(|(repository, content)| O::DeleteBlob { repository, content }),
        4 => (repository.clone(), manifest.clone(), proptest::option::of(0..2_u8), proptest::bool::weighted(0.2))
            .prop_map(|(repository, manifest, tag, docker)| O::PutManifest { repository, manifest, tag, docker }),
        2 => (repository.clone(), manifest)
            .prop_map(|(repository, manifest)| O::DeleteManifest { repository, manifest }),
        1 => (repository.clone(), tag).prop_map(|(repository, tag)| O::DeleteTag { repository, tag }),
        2 => repository.prop_map(|repository| O::Start { repository }),
        3 => (session.clone(), content).prop_map(|(session, content)| O::Append { session, content }),
        2 => (session.clone(), any::<bool>()).prop_map(|(session, right)| O::Finish { session, right }),
        1 => session.prop_map(|session| O::Cancel { session }),
        1 => Just(O::Reopen),
    ]
}

fn name(repository: u8) -> String {
    format!("r{repository}")
}

fn immutable() -> IsImmutable {
    Arc::new(|tag| tag == "t0")
}

fn content(number: u8) -> Vec<u8> {
    vec![number; usize::from(number) + 1]
}

/// Manifests 0 to 3 need a blob each; 4 is an index of 0, with 1 as its subject.
fn manifest(number: u8, tag: Option<u8>, docker: bool) -> (NewManifest, Vec<u8>) {
    let bytes = format!("manifest {number}").into_bytes();
    let of = |bytes: &[u8], manifest| Required {
        digest: Digest::sha256(bytes),
        size_bytes: bytes.len() as u64,
        manifest,
        optional: false,
    };
    let required = if number == 4 { of(b"manifest 0", true) } else { of(&content(number), false) };
    let media_type = if docker { media_type::DOCKER_MANIFEST } else { media_type::OCI_MANIFEST };
    let record = ManifestRecord {
        digest: Digest::sha256(&bytes),
        media_type: media_type.to_owned(),
        size_bytes: bytes.len() as u64,
    };
    let subject = (number == 4).then(|| Digest::sha256(b"manifest 1"));
    let tags = tag.map(|tag| format!("t{tag}")).into_iter().collect();
    let manifest = NewManifest {
        record,
        subject,
        artifact_type: None,
        annotations: None,
        required: vec![required],
        // one tag never changes, another may only be added
        kept: tag
            .and_then(|tag| {
                [Kept::Immutable, Kept::Foreign]
                    .get(usize::from(tag))
                    .copied()
                    .map(|why| (format!("t{tag}"), why))
            })
            .into_iter()
            .collect(),
        tags,
    };
    (manifest, bytes)
}

/// A storage with the sessions that a history started.
struct Driven {
    storage: Arc<Storage>,
    folder: Option<tempfile::TempDir>,
    sessions: Vec<(String, UploadId, Vec<u8>)>,
}

impl Driven {
    /// What a client sees of one operation.
    fn apply(&mut self, operation: &Operation) -> String {
        match self.outcome(operation) {
            Ok(text) => text,
            // the words name what was asked for, and no engine
            Err(error) => error.to_string(),
        }
    }

    fn session(&self, session: u8) -> Result<(String, UploadId), StorageError> {
        let found = self.sessions.get(usize::from(session)).ok_or(StorageError::UploadUnknown)?;
        Ok((found.0.clone(), found.1.clone()))
    }

    fn outcome(&mut self, operation: &Operation) -> Result<String, StorageError> {
        let storage = Arc::clone(&self.storage);
        match operation {
            Operation::Push { repository, content: number } => {
                let mut upload = storage.stage(&name(*repository), Algorithm::Sha256)?;
                upload.append(&content(*number))?;
                upload.finish(&Digest::sha256(&content(*number)))?;
            }
            Operation::Mount { repository, content: number, from } => {
                let digest = Digest::sha256(&content(*number));
                let from = from.map(name);
                return Ok(storage.mount(&name(*repository), &digest, from.as_deref())?.to_string());
            }
            Operation::DeleteBlob { repository, content: number } => {
                storage.delete_blob(&name(*repository), &Digest::sha256(&content(*number)))?;
            }
            Operation::PutManifest { repository, manifest: number, tag, docker } => {
                let (manifest, bytes) = manifest(*number, *tag, *docker);
                storage.put_manifest(&name(*repository), &manifest, &bytes)?;
            }
            Operation::DeleteManifest { repository, manifest: number } => {
                let digest = manifest(*number, None, false).0.record.digest;
                storage.delete_manifest(&name(*repository), &ManifestKey::Digest(digest), &immutable())?;
            }
            Operation::DeleteTag { repository, tag } => {
                storage.delete_manifest(
                    &name(*repository),
                    &ManifestKey::Tag(format!("t{tag}")),
                    &immutable(),
                )?;
            }
            Operation::Start { repository } => {
                let id = storage.start_upload(&name(*repository), Algorithm::Sha256)?;
                self.sessions.push((name(*repository), id, Vec::new()));
            }
            Operation::Append { session, content: number } => {
                let (repository, id) = self.session(*session)?;
                let mut upload = storage.open_upload(&repository, &id)?;
                upload.append(&content(*number))?;
                upload.save()?;
                self.sessions[usize::from(*session)].2.extend(content(*number));
            }
            Operation::Finish { session, right } => {
                let (repository, id) = self.session(*session)?;
                let bytes = self.sessions[usize::from(*session)].2.clone();
                let expected = if *right { Digest::sha256(&bytes) } else { Digest::sha256(b"wrong") };
                storage.open_upload(&repository, &id)?.finish(&expected)?;
            }
            Operation::Cancel { session } => {
                let (repository, id) = self.session(*session)?;
                storage.open_upload(&repository, &id)?.cancel()?;
            }
            Operation::Reopen => {
                if let Some(folder) = &self.folder {
                    self.storage = Storage::open(folder.path())?;
                }
            }
        }
        Ok("done".to_owned())
    }

    /// Everything that can be seen.
    fn picture(&self) -> String {
        let storage = &self.storage;
        let mut lines = vec![format!("{:?}", storage.repositories("", 100).ok())];
        for repository in (0..3).map(name) {
            lines.push(format!("{:?}", storage.tags(&repository, "", 100).ok()));
            for number in 0..4 {
                lines.push(format!(
                    "{:?}",
                    storage.blob_size(&repository, &Digest::sha256(&content(number))).ok()
                ));
            }
            for number in 0..5 {
                let key = ManifestKey::Digest(manifest(number, None, false).0.record.digest);
                let record = storage.manifest(&repository, &key).ok();
                let bytes = record.as_ref().map(|record| storage.manifest_bytes(record).expect("its bytes"));
                lines.push(format!("{record:?} {bytes:?}"));
            }
            let page = ReferrersPage { artifact_type: None, last: String::new() };
            lines.push(format!(
                "{:?}",
                storage.referrers(&repository, &Digest::sha256(b"manifest 1"), &page).ok()
            ));
        }
        for (repository, id, _) in &self.sessions {
            lines.push(format!("{:?}", storage.upload_length(repository, id).ok()));
        }
        lines.join("\n")
    }

    /// What content is there, and whether it has to be.
    fn check_content(&self) {
        let later = std::time::SystemTime::now() + std::time::Duration::from_secs(10);
        for digest in self.storage.content.placed(None, later, 1000).expect("list") {
            assert!(self.storage.pointers.is_needed(&digest).expect("look"), "{digest} is left over");
        }
        assert_eq!(self.storage.pointers.condemned(i64::MAX, 10).expect("list"), []);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn both_pairs_answer_alike(history in proptest::collection::vec(operation(), 1..40)) {
        let folder = tempfile::tempdir().expect("folder");
        let storage = Storage::open(folder.path()).expect("open");
        let mut durable = Driven { storage, folder: Some(folder), sessions: Vec::new() };
        let mut fleeting = Driven { storage: Storage::in_memory(), folder: None, sessions: Vec::new() };
        for operation in &history {
            prop_assert_eq!(durable.apply(operation), fleeting.apply(operation), "{:?}", operation);
        }
        prop_assert_eq!(durable.picture(), fleeting.picture());
        durable.check_content();
        fleeting.check_content();
    }
}
