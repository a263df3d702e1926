//! What lies below the servers of these tests: their folder, or what `SLIPWAY_ENGINES` names.

use crate::server::{
    Engines, Redirect, ServeError, Server, ServerConfig,
    storage::{
        Seals, Storage,
        content::{BucketConfig, Content, FolderContent, ObjectContent},
        pointers::PostgresPointers,
    },
};
use slipway_oci::Digest;
use slipway_skip::engines::{self, Pair};
use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock},
    time::{Duration, SystemTime},
};

/// The database of each folder that a server was started for.
fn databases() -> std::sync::MutexGuard<'static, HashMap<PathBuf, String>> {
    static DATABASES: OnceLock<Mutex<HashMap<PathBuf, String>>> = OnceLock::new();
    DATABASES.get_or_init(Mutex::default).lock().expect("no panic happens while it is held")
}

fn database(folder: &Path) -> String {
    let server = engines::postgres().expect("`initdb` is there where its round is run");
    databases().entry(folder.to_owned()).or_insert_with(|| server.database()).clone()
}

/// The engines in the place of a folder.
pub(super) fn shared(folder: &Path) -> Engines {
    let store = engines::store().expect("the store is there where its round is run");
    let database = database(folder);
    let (key_id, secret) = engines::STORE_KEY;
    let bucket = BucketConfig {
        bucket: "registry".to_owned(),
        prefix: database.split(['/', '?']).nth(3).expect("a name").to_owned(),
        endpoint: Some(store.endpoint()),
        key_id: key_id.to_owned(),
        secret: secret.to_owned(),
        ..BucketConfig::default()
    };
    let database = database.parse().expect("an address");
    Engines { database, bucket, redirect: Redirect::default(), seals: Seals::default() }
}

/// A server on the engines of this run.
pub(super) fn bind(mut config: ServerConfig) -> Result<Server, ServeError> {
    // a test that has engines of its own is about replicas
    if config.engines.is_some() {
        return Server::bind(config);
    }
    match engines::pair() {
        Pair::Folder => Server::bind(config),
        Pair::FolderAndPostgres => {
            std::fs::create_dir_all(&config.storage).expect("a folder");
            Server::over(folder_and_database(&config.storage), config)
        }
        Pair::Shared(_) => {
            config.engines = Some(shared(&config.storage));
            Server::bind(config)
        }
    }
}

fn folder_and_database(folder: &Path) -> Arc<Storage> {
    let pointers = PostgresPointers::open(&database(folder).parse().expect("an address"));
    Storage::new(FolderContent::open(folder).expect("a folder"), pointers.expect("a database"))
}

/// What a server lies on, opened beside it, as another process or another replica does.
pub(super) fn beside(folder: &Path) -> Arc<Storage> {
    match engines::pair() {
        Pair::Folder => Storage::open_existing(folder).expect("a registry"),
        Pair::FolderAndPostgres => folder_and_database(folder),
        Pair::Shared(_) => shared(folder).open(&folder.join("beside")).expect("engines"),
    }
}

/// What lies in the store below a folder's server, seen without it.
fn content(folder: &Path) -> Box<dyn Content> {
    match engines::pair() {
        Pair::Folder | Pair::FolderAndPostgres => {
            Box::new(FolderContent::open(folder).expect("a folder")) as Box<dyn Content>
        }
        Pair::Shared(_) => {
            let scratch = folder.join("looked-at");
            Box::new(ObjectContent::open(&shared(folder).bucket, &scratch).expect("a bucket"))
        }
    }
}

fn later() -> SystemTime {
    SystemTime::now() + Duration::from_secs(3600)
}

/// Whether there is content under a digest.
pub(super) fn is_placed(folder: &Path, digest: &Digest) -> bool {
    content(folder).size(digest).expect("a look").is_some()
}

/// How much content there is.
pub(super) fn placed(folder: &Path) -> usize {
    content(folder).placed(None, later(), 1000).expect("a list").len()
}

/// How many uploads have bytes that came in.
pub(super) fn uploads(folder: &Path) -> usize {
    match engines::pair() {
        Pair::Shared(_) => content(folder).stale_uploads(later(), None).expect("a list").0.len(),
        _ => std::fs::read_dir(folder.join("uploads")).expect("a folder").count(),
    }
}

/// Whether a repository has a blob, as the pointers say.
pub(super) fn has_blob(folder: &Path, name: &str, digest: &Digest) -> bool {
    let blobs = "FROM blobs b JOIN repositories r ON r.id = b.repository WHERE r.name =";
    if let Pair::Folder = engines::pair() {
        let database = rusqlite::Connection::open(folder.join("registry.db")).expect("the database");
        let text = format!("SELECT count(*) {blobs} ?1 AND b.digest = ?2");
        let count: u64 =
            database.query_row(&text, (name, digest.to_string()), |row| row.get(0)).expect("a count");
        return count > 0;
    }
    let server = engines::postgres().expect("`initdb` is there where its round is run");
    let database = database(folder);
    let text =
        format!("SET search_path = slipway; SELECT count(*) {blobs} '{name}' AND b.digest = '{digest}'");
    server.tell(database.split(['/', '?']).nth(3).expect("a name"), &text) != "0"
}

/// Takes away what a folder's server had in the database.
pub(super) fn forget(folder: &Path) {
    if let (Some(database), Some(server)) = (databases().remove(folder), engines::postgres()) {
        server.forget(&database);
    }
}

/// Ends a test that looks into the folder or breaks what lies there, where content or pointers lie elsewhere.
macro_rules! in_folder {
    () => {
        if !slipway_skip::engines::in_folders() {
            return;
        }
    };
}
pub(super) use in_folder;
