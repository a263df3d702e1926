//! Random histories, driven against pairs of content and pointers at once: they have to answer alike, and after
//! each history every byte that is pointed at is there, and nothing else.

mod growing;
mod replicas;

use super::*;
use growing::{growing, quotas, scope};
use proptest::prelude::*;
use slipway_oci::{Algorithm, spec::media_type};
use std::{collections::BTreeMap, path::Path};

/// One thing that a client does. Numbers choose among few names and contents, so that they meet.
#[derive(Clone, Debug)]
enum Operation {
    Push { repository: u8, content: u8 },
    Mount { repository: u8, content: u8, from: Option<u8> },
    DeleteBlob { repository: u8, content: u8 },
    PutManifest { repository: u8, manifest: u8, tag: Option<u8>, docker: bool, wanted: Wanted },
    DeleteManifest { repository: u8, manifest: u8, force: bool, wanted: Wanted },
    DeleteTag { repository: u8, tag: u8, wanted: Wanted },
    SetTag { repository: u8, tag: u8, manifest: u8 },
    Trash { days: u8 },
    Limit { which: u8, bytes: Option<u64>, tags: Option<u64> },
    Collect { reason: Reason, trash: bool },
    Undelete { repository: u8, manifest: u8 },
    Pull { repository: u8, tag: u8 },
    Start { repository: u8 },
    Append { session: u8, content: u8 },
    Finish { session: u8, right: bool },
    Cancel { session: u8 },
    Reopen,
}

/// What a caller wants to find.
#[derive(Clone, Copy, Debug)]
enum Wanted {
    Anything,
    Something,
    Nothing,
    Manifest(u8),
}

fn wanted() -> impl Strategy<Value = Wanted> {
    prop_oneof![
        6 => Just(Wanted::Anything),
        1 => Just(Wanted::Something),
        1 => Just(Wanted::Nothing),
        1 => (0..5_u8).prop_map(Wanted::Manifest),
    ]
}

fn condition(wanted: Wanted) -> Condition {
    match wanted {
        Wanted::Anything => Condition::default(),
        Wanted::Something => Condition { is: Some(Entities::Any), is_not: None },
        Wanted::Nothing => Condition { is: None, is_not: Some(Entities::Any) },
        Wanted::Manifest(number) => Condition::is(&manifest(number, None, false).0.record.digest),
    }
}

fn reason() -> impl Strategy<Value = Reason> {
    prop_oneof![Just(Reason::Loose), Just(Reason::Untagged), Just(Reason::Trashed)]
}

fn operation() -> impl Strategy<Value = Operation> {
    use Operation as O;
    let (repository, content, manifest, tag, session) = (0..3_u8, 0..4_u8, 0..5_u8, 0..3_u8, 0..3_u8);
    prop_oneof![
        4 => (repository.clone(), content.clone()).prop_map(|(repository, content)| O::Push { repository, content }),
        2 => (repository.clone(), content.clone(), proptest::option::of(0..3_u8))
            .prop_map(|(repository, content, from)| O::Mount { repository, content, from }),
        2 => (repository.clone(), content.clone())
            .prop_map(|(repository, content)| O::DeleteBlob { repository, content }),
        6 => (repository.clone(), manifest.clone(), proptest::option::of(0..3_u8), proptest::bool::weighted(0.2), wanted())
            .prop_map(|(repository, manifest, tag, docker, wanted)| {
                O::PutManifest { repository, manifest, tag, docker, wanted }
            }),
        2 => (repository.clone(), manifest.clone(), proptest::bool::weighted(0.2), wanted())
            .prop_map(|(repository, manifest, force, wanted)| {
                O::DeleteManifest { repository, manifest, force, wanted }
            }),
        1 => (repository.clone(), tag.clone(), wanted())
            .prop_map(|(repository, tag, wanted)| O::DeleteTag { repository, tag, wanted }),
        1 => (repository.clone(), tag.clone(), manifest.clone())
            .prop_map(|(repository, tag, manifest)| O::SetTag { repository, tag, manifest }),
        1 => (0..2_u8).prop_map(|days| O::Trash { days }),
        2 => (0..4_u8, proptest::option::of(0..60_u64), proptest::option::of(0..4_u64))
            .prop_map(|(which, bytes, tags)| O::Limit { which, bytes, tags }),
        3 => (reason(), any::<bool>()).prop_map(|(reason, trash)| O::Collect { reason, trash }),
        2 => (repository.clone(), manifest)
            .prop_map(|(repository, manifest)| O::Undelete { repository, manifest }),
        1 => (repository.clone(), tag).prop_map(|(repository, tag)| O::Pull { repository, tag }),
        2 => repository.prop_map(|repository| O::Start { repository }),
        3 => (session.clone(), content).prop_map(|(session, content)| O::Append { session, content }),
        2 => (session.clone(), any::<bool>()).prop_map(|(session, right)| O::Finish { session, right }),
        1 => session.prop_map(|session| O::Cancel { session }),
        1 => Just(O::Reopen),
    ]
}

/// Two of three lie in a namespace.
fn name(repository: u8) -> String {
    let above = if repository == 0 { "" } else { "n/" };
    format!("{above}r{repository}")
}

fn deletion() -> Deletion {
    Deletion { immutable: Arc::new(|tag| tag == "t0"), ..Deletion::by(Author::default()) }
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
        condition: Condition::default(),
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
    /// Whether something was taken away although it is needed, or came back without all that it needs.
    forced: bool,
    bounds: Vec<Bound>,
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
                storage.delete_blob(&name(*repository), &Digest::sha256(&content(*number)), &deletion())?;
            }
            Operation::PutManifest { repository, manifest: number, tag, docker, wanted } => {
                let (mut manifest, bytes) = manifest(*number, *tag, *docker);
                manifest.condition = condition(*wanted);
                storage.put_manifest(&name(*repository), &manifest, &bytes, &Author::default())?;
            }
            Operation::DeleteManifest { repository, manifest: number, force, wanted } => {
                let key = ManifestKey::Digest(manifest(*number, None, false).0.record.digest);
                let deletion = Deletion { condition: condition(*wanted), force: *force, ..deletion() };
                storage.delete_manifest(&name(*repository), &key, &deletion)?;
            }
            Operation::DeleteTag { repository, tag, wanted } => {
                let deletion = Deletion { condition: condition(*wanted), ..deletion() };
                storage.delete_manifest(
                    &name(*repository),
                    &ManifestKey::Tag(format!("t{tag}")),
                    &deletion,
                )?;
            }
            Operation::SetTag { repository, tag, manifest: number } => {
                let digest = manifest(*number, None, false).0.record.digest;
                let change = Author { who: Some("ann".to_owned()), origin: None }.now();
                let (name, tag) = (name(*repository), format!("t{tag}"));
                let bounds = storage.bounds(&name);
                storage.pointers.set_tag(&name, &tag, &digest, &Condition::default(), &bounds, &change)?;
            }
            Operation::Trash { days } => {
                let time = std::time::Duration::from_secs(u64::from(*days) * 86400);
                self.storage.keep_trash(time);
            }
            Operation::Limit { which, bytes, tags } => {
                self.bounds.retain(|bound| bound.scope != scope(*which));
                self.bounds.push(Bound { scope: scope(*which), bytes: *bytes, tags: *tags });
                storage.limit(quotas(&self.bounds));
            }
            Operation::Collect { reason, trash } => return self.collect(*reason, *trash),
            Operation::Undelete { repository, manifest: number } => {
                let digest = manifest(*number, None, false).0.record.digest;
                let bounds = storage.bounds(&name(*repository));
                let found = storage.pointers.undelete(&name(*repository), &digest, &bounds, now_seconds())?;
                return Ok(format!("{found:?}"));
            }
            Operation::Pull { repository, tag } => {
                let repository = name(*repository);
                let key = match tag {
                    0 => ManifestKey::Digest(manifest(0, None, false).0.record.digest),
                    tag => ManifestKey::Tag(format!("t{tag}")),
                };
                storage.pointers.record_pulls(&[Pulls { repository, key, at: 7, count: 1 }])?;
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
                    let trash = self.storage.trash.load(Ordering::Relaxed);
                    self.storage.write_down(false)?;
                    self.storage = Storage::open(folder.path())?;
                    self.storage.trash.store(trash, Ordering::Relaxed);
                    self.storage.limit(quotas(&self.bounds));
                }
            }
        }
        Ok("done".to_owned())
    }

    /// Takes away what may go for a reason, however young.
    fn collect(&self, reason: Reason, trash: bool) -> Result<String, StorageError> {
        let pointers = &self.storage.pointers;
        let found = pointers.candidates(reason, None, i64::MAX, 100)?;
        let mut found: Vec<Pointer> = found.into_iter().map(|one| one.pointer).collect();
        found.sort();
        let now = now_seconds();
        let (gone, mut condemned) = pointers.collect(&found, reason, i64::MAX, trash, now, true)?;
        condemned.sort();
        self.storage.carry_out(&condemned, now)?;
        Ok(format!("{found:?} {gone} {condemned:?}"))
    }

    /// What is loose, in the trash and in the history of tags, times apart.
    fn life(&self) -> String {
        let pointers = &self.storage.pointers;
        let mut lines = Vec::new();
        for reason in [Reason::Loose, Reason::Untagged, Reason::Trashed] {
            let found = pointers.candidates(reason, None, i64::MAX, 100).expect("candidates");
            let mut found: Vec<_> = found.into_iter().map(|one| (one.pointer, one.size_bytes)).collect();
            found.sort();
            lines.push(format!("{reason:?} {found:?}"));
        }
        for repository in (0..3).map(name) {
            let history = pointers.tag_history(&repository, None, i64::MAX, 100).unwrap_or_default();
            let events =
                history.into_iter().map(|event| (event.tag, event.former, event.digest, event.change.who));
            lines.push(format!("{:?}", events.collect::<Vec<_>>()));
            let facts = pointers.tag_facts(&repository, "", 100).unwrap_or_default();
            let facts = facts.into_iter().map(|facts| (facts.tag, facts.digest, facts.pulled, facts.pulls));
            lines.push(format!("{:?}", facts.collect::<Vec<_>>()));
            let usage = pointers.usage(&repository).expect("usage");
            lines.push(format!(
                "{:?}",
                (
                    usage.tags,
                    usage.manifests,
                    usage.blobs,
                    usage.bytes,
                    usage.own_bytes,
                    usage.trash_bytes,
                    usage.pulls
                )
            ));
        }
        lines.push(format!("{:?}", pointers.contents("", 100).expect("contents")));
        for of in [Kin::Repositories, Kin::Namespaces] {
            lines.push(format!("{:?}", pointers.all_used(of, "", 100).expect("sums")));
        }
        lines.push(format!("{:?}", pointers.used(&scope(0)).expect("a sum")));
        lines.join("\n")
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

    /// How much each scope of a quota has.
    fn sums(&self) -> Vec<(Bound, Used)> {
        let sum = |bound: &Bound| self.storage.used(&bound.scope).expect("a sum");
        self.bounds.iter().map(|bound| (bound.clone(), sum(bound))).collect()
    }

    /// Nothing grew beyond its quota; and what is pulled counts.
    fn check_bounds(&self, before: &[(Bound, Used)]) {
        for (bound, used) in before {
            let now = self.storage.used(&bound.scope).expect("a sum");
            for (measure, most) in bound.measures() {
                let (used, now) = (used.of(measure), now.of(measure));
                assert!(now <= most.max(used), "{bound:?}: {used} became {now}");
            }
        }
        for repository in (0..3).map(name) {
            let live = |number: &u8| {
                let key = ManifestKey::Digest(manifest(*number, None, false).0.record.digest);
                self.storage.pointers.manifest(&repository, &key).is_ok()
            };
            let mut sizes: BTreeMap<Digest, u64> = BTreeMap::new();
            for (manifest, _) in (0..5).filter(live).map(|number| manifest(number, None, false)) {
                sizes.insert(manifest.record.digest.clone(), manifest.record.size_bytes);
                for needed in &manifest.required {
                    if let Ok(Some(blob)) = self.storage.pointers.blob(&repository, &needed.digest) {
                        sizes.insert(needed.digest.clone(), blob.size_bytes);
                    }
                }
            }
            let used = self.storage.used(&Scope::Repository(repository.clone())).expect("a sum").bytes;
            assert!(sizes.values().sum::<u64>() <= used, "{repository}: {sizes:?} are more than {used}");
        }
    }

    /// What content is there, and whether it has to be.
    fn check_content(&self) {
        let later = std::time::SystemTime::now() + std::time::Duration::from_secs(10);
        for digest in self.storage.content.placed(None, later, 1000).expect("list") {
            assert!(self.storage.pointers.is_needed(&digest).expect("look"), "{digest} is left over");
        }
        assert_eq!(self.storage.pointers.condemned(i64::MAX, 10).expect("list"), []);
        for (digest, size) in self.storage.pointers.contents("", 1000).expect("list") {
            assert_eq!(self.storage.content.size(&digest).expect("look"), Some(size), "{digest} is lost");
        }
        self.check_holds();
    }

    /// What a manifest that can be pulled needs is there: unless somebody forced it away, nothing takes it.
    fn check_holds(&self) {
        for repository in (0..3).map(name) {
            for number in 0..5 {
                let (manifest, _) = manifest(number, None, false);
                let key = ManifestKey::Digest(manifest.record.digest);
                if self.forced || self.storage.manifest(&repository, &key).is_err() {
                    continue;
                }
                for required in &manifest.required {
                    let child = ManifestKey::Digest(required.digest.clone());
                    let there = self.storage.blob_size(&repository, &required.digest).is_ok()
                        || required.manifest && self.storage.manifest(&repository, &child).is_ok();
                    assert!(there, "{repository} lacks {}", required.digest);
                }
            }
        }
    }
}

/// What the journal says is what the database has: now, and after snapshots in between.
fn check_journal(folder: &Path) {
    let read = || {
        let (kept, broken) = keep::reindex::read_journal(&folder.join("pointers")).expect("a journal");
        assert_eq!(broken, 0);
        kept
    };
    let told = read();
    let storage = Storage::open(folder).expect("open");
    // as after a power cut, that may have taken lines
    std::fs::create_dir_all(folder.join("pointers")).expect("folder");
    std::fs::write(folder.join("pointers/log"), b"").expect("a log");
    std::fs::remove_file(folder.join("pointers/snapshot")).ok();
    storage.write_down(true).expect("a snapshot");
    assert_eq!(told, read());
}

/// Drives both pairs through one history.
fn drive(history: &[Operation]) -> Result<(), TestCaseError> {
    let forced = history.iter().any(|one| matches!(one, Operation::DeleteManifest { force: true, .. }));
    let folder = tempfile::tempdir().expect("folder");
    let storage = Storage::open(folder.path()).expect("open");
    let driven =
        |storage, folder| Driven { storage, folder, sessions: Vec::new(), forced, bounds: Vec::new() };
    let (mut durable, mut fleeting) = (driven(storage, Some(folder)), driven(Storage::in_memory(), None));
    for operation in history {
        let before = fleeting.sums();
        prop_assert_eq!(durable.apply(operation), fleeting.apply(operation), "{:?}", operation);
        fleeting.check_bounds(&before);
        prop_assert_eq!(durable.life(), fleeting.life(), "{:?}", operation);
    }
    prop_assert_eq!(durable.picture(), fleeting.picture());
    durable.check_content();
    let folder = durable.folder.take().expect("its folder");
    drop(durable);
    check_journal(folder.path());
    fleeting.check_content();
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn both_pairs_answer_alike(history in proptest::collection::vec(operation(), 1..40)) {
        drive(&history)?;
    }

    #[test]
    fn both_pairs_count_alike(history in proptest::collection::vec(growing(), 20..60)) {
        drive(&history)?;
    }
}
