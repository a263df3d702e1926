//! The object store itself: requests that block, on a runtime of their own.

use crate::{
    client::{ClientError, Proxies, Resolver, install_provider},
    limits,
    server::storage::{StorageError, answers::Answers, error::StoreFailure, traffic::Traffic},
};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream::BoxStream};
use object_store::{
    BackoffConfig, ClientOptions, GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt, PutPayload,
    RetryConfig,
    aws::{AmazonS3, AmazonS3Builder},
    client::{HttpClient, HttpConnector},
    multipart::{MultipartStore, PartId},
    path::Path,
    signer::Signer,
};
use std::{
    fmt,
    future::Future,
    ops::Range,
    sync::{Arc, Condvar, Mutex, mpsc},
    time::{Duration, Instant},
};
use tokio::{
    runtime::{Builder, Runtime},
    sync::Semaphore,
};

/// Where an S3-compatible store is, and who asks it. It is never shown: it has a secret.
#[derive(Clone, Default)]
pub struct BucketConfig {
    /// The bucket.
    pub bucket: String,
    /// What all keys begin with; may be empty.
    pub prefix: String,
    /// The store's address, where it is not Amazon's.
    pub endpoint: Option<String>,
    /// The region.
    pub region: Option<String>,
    /// The key's name.
    pub key_id: String,
    /// The key's secret.
    pub secret: String,
    /// What TLS trusts, where that is not what the system trusts.
    pub authorities: Option<crate::client::Authorities>,
    /// Proxies on the way.
    pub proxies: Proxies,
    /// How many bytes of blobs are kept at hand in files.
    pub cache_bytes: u64,
    /// The store's address as clients reach it, where that is another one.
    pub public: Option<String>,
}

impl fmt::Debug for BucketConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}", self.bucket)?;
        if !self.prefix.is_empty() {
            write!(f, "/{}", self.prefix)?;
        }
        self.endpoint.as_ref().map_or(Ok(()), |endpoint| write!(f, " endpoint={endpoint}"))
    }
}

/// The house's way to the network.
#[derive(Debug)]
struct Connector(reqwest::Client);

impl HttpConnector for Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.0.clone()))
    }
}

fn client(config: &BucketConfig, silence: Duration) -> Result<reqwest::Client, ClientError> {
    install_provider();
    let proxies = config.proxies.clone();
    let plain = config.endpoint.as_ref().is_some_and(|endpoint| endpoint.starts_with("http:"));
    let builder = reqwest::Client::builder();
    let builder = match plain {
        true => builder.tls_certs_only([]),
        false => builder.tls_backend_preconfigured(crate::client::tls_of(config.authorities.as_ref())?),
    };
    builder
        .proxy(reqwest::Proxy::custom(move |url| proxies.of(url)))
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("slipway/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(limits::STORE_CONNECT)
        .pool_max_idle_per_host(limits::STORE_IDLE)
        .read_timeout(silence)
        .dns_resolver(Arc::new(Resolver::default()))
        .build()
        .map_err(ClientError::Tls)
}

/// A bucket. Every request blocks its caller, wherever that runs.
pub(super) struct Bucket {
    store: AmazonS3,
    /// The same for who sends it bytes or has it copy some: it may say nothing for longer.
    patient: AmazonS3,
    /// The store as clients reach it.
    public: AmazonS3,
    /// What reaches it.
    http: reqwest::Client,
    answers: Answers,
    pub(super) traffic: Arc<Traffic>,
    prefix: Path,
    /// `None` once it ends.
    runtime: Option<Runtime>,
    /// How many send bytes that are in memory.
    sending: Mutex<usize>,
    sent: Condvar,
    /// Turns at reading ahead.
    streams: Arc<Semaphore>,
}

/// The turn of one that sends bytes that are in memory.
pub(super) struct Sending<'a>(&'a Bucket);

impl Drop for Sending<'_> {
    fn drop(&mut self) {
        *self.0.sending.lock().expect("no panic happens while it is counted") -= 1;
        self.0.sent.notify_one();
    }
}

impl Drop for Bucket {
    fn drop(&mut self) {
        // an ordinary end waits, which a thread that serves connections must not
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Bucket {
    pub(super) fn open(config: &BucketConfig) -> Result<Bucket, StorageError> {
        let fail = |source| StoreFailure { operation: "reach", key: format!("{config:?}"), source };
        let client =
            |silence| client(config, silence).map_err(|error| StorageError::StoreClient(Box::new(error)));
        let (http, patient) = (client(limits::STORE_SILENCE)?, client(limits::STORE_WRITE_SILENCE)?);
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(&config.bucket)
            .with_region(config.region.as_deref().unwrap_or("us-east-1"))
            .with_access_key_id(&config.key_id)
            .with_secret_access_key(&config.secret)
            .with_allow_http(true)
            // one request each: not every store has the other form
            .with_disable_bulk_delete(true)
            .with_http_connector(Connector(http.clone()))
            .with_retry(RetryConfig {
                backoff: BackoffConfig { max_backoff: limits::STORE_PAUSE, ..BackoffConfig::default() },
                max_retries: limits::STORE_TRIES,
                retry_timeout: limits::STORE_PATIENCE,
            });
        if let Some(endpoint) = &config.endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        let store = builder.clone().build().map_err(fail)?;
        let patient = builder.clone().with_http_connector(Connector(patient)).build().map_err(fail)?;
        if let Some(public) = &config.public {
            builder = builder.with_endpoint(public);
        }
        let public = builder.build().map_err(fail)?;
        let runtime =
            Builder::new_multi_thread().worker_threads(2).thread_name("slipway-store").enable_all().build();
        let runtime = runtime.map_err(|source| StorageError::Io {
            operation: "start threads for",
            path: format!("{config:?}").into(),
            source,
        })?;
        Ok(Bucket {
            store,
            patient,
            public,
            http,
            answers: Answers::default(),
            traffic: Arc::default(),
            prefix: Path::from(config.prefix.as_str()),
            runtime: Some(runtime),
            sending: Mutex::new(0),
            sent: Condvar::new(),
            streams: Arc::new(Semaphore::new(limits::STORE_STREAMS)),
        })
    }

    /// Waits until few enough others send bytes that are in memory.
    pub(super) fn sending(&self) -> Sending<'_> {
        let guarded = "no panic happens while it is counted";
        let mut count = self.sending.lock().expect(guarded);
        while *count >= limits::STORE_SENDING {
            count = self.sent.wait(count).expect(guarded);
        }
        *count += 1;
        Sending(self)
    }

    fn runtime(&self) -> &Runtime {
        self.runtime.as_ref().expect("it ends with its owner")
    }

    pub(super) fn store(&self) -> AmazonS3 {
        self.store.clone()
    }

    pub(super) fn http(&self) -> reqwest::Client {
        self.http.clone()
    }

    /// Runs a request to its end.
    pub(super) fn wait<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let (tell, told) = mpsc::sync_channel(1);
        self.runtime().spawn(async move { drop(tell.send(work.await)) });
        told.recv().ok()
    }

    /// Runs a request; what is not there is `None`.
    fn ask<T: Send + 'static, F: Future<Output = object_store::Result<T>> + Send + 'static>(
        &self,
        operation: &'static str,
        key: &Path,
        work: impl FnOnce(AmazonS3, Path) -> F,
    ) -> Result<Option<T>, StorageError> {
        self.ask_for(limits::STORE_SILENCE, operation, key, work(self.store.clone(), key.clone()))
    }

    /// The same with bytes on their way, or some that are copied.
    fn send<T: Send + 'static, F: Future<Output = object_store::Result<T>> + Send + 'static>(
        &self,
        operation: &'static str,
        key: &Path,
        work: impl FnOnce(AmazonS3, Path) -> F,
    ) -> Result<Option<T>, StorageError> {
        self.ask_for(limits::STORE_WRITE_SILENCE, operation, key, work(self.patient.clone(), key.clone()))
    }

    fn ask_for<T: Send + 'static>(
        &self,
        silence: Duration,
        operation: &'static str,
        key: &Path,
        work: impl Future<Output = object_store::Result<T>> + Send + 'static,
    ) -> Result<Option<T>, StorageError> {
        let begun = Instant::now();
        let Some(asking) = self.answers.ask() else {
            self.traffic.count(begun, true);
            return Err(StorageError::StoreSilent);
        };
        let answered = self.wait(work);
        let failed = !matches!(answered, Some(Ok(_) | Err(object_store::Error::NotFound { .. })));
        asking.ended(failed && begun.elapsed() >= silence);
        drop(asking);
        self.traffic.count(begun, failed);
        match answered {
            Some(Ok(done)) => Ok(Some(done)),
            Some(Err(object_store::Error::NotFound { .. })) => Ok(None),
            Some(Err(source)) => Err(StoreFailure { operation, key: key.to_string(), source }.into()),
            None => Err(StorageError::Stopped),
        }
    }

    /// The key of a name below the prefix.
    pub(super) fn key(&self, name: &str) -> Path {
        Path::from(format!("{}/{name}", self.prefix))
    }

    /// The name of a key.
    pub(super) fn name<'a>(&self, key: &'a Path) -> &'a str {
        key.as_ref().strip_prefix(self.prefix.as_ref()).unwrap_or(key.as_ref()).trim_start_matches('/')
    }

    pub(super) fn size(&self, key: &Path) -> Result<Option<u64>, StorageError> {
        let found = self.ask("look at", key, |store, key| async move { store.head(&key).await })?;
        Ok(found.map(|meta| meta.size))
    }

    pub(super) fn put(&self, key: &Path, bytes: Bytes) -> Result<(), StorageError> {
        let put = |store: AmazonS3, key: Path| async move { store.put(&key, PutPayload::from(bytes)).await };
        self.send("write", key, put)?.map(drop).ok_or_else(|| missing("write", key))
    }

    pub(super) fn range(&self, key: &Path, range: Range<u64>) -> Result<Option<Bytes>, StorageError> {
        self.ask("read", key, |store, key| async move { store.get_range(&key, range).await })
    }

    pub(super) fn whole(&self, key: &Path) -> Result<Option<Bytes>, StorageError> {
        self.ask("read", key, |store, key| async move { store.get(&key).await?.bytes().await })
    }

    /// Bytes from `offset` on, piece by piece, a few ahead of their reader; `None` where enough others have bytes ahead: clients that
    /// take nothing would fill the memory with them.
    pub(super) fn stream(
        &self,
        key: &Path,
        offset: u64,
    ) -> Option<tokio::sync::mpsc::Receiver<object_store::Result<Bytes>>> {
        let turn = Arc::clone(&self.streams).try_acquire_owned().ok()?;
        let (tell, told) = tokio::sync::mpsc::channel(limits::STORE_PIECES);
        let (store, key, traffic) = (self.store.clone(), key.clone(), Arc::clone(&self.traffic));
        self.runtime().spawn(async move {
            let _turn = turn;
            let options = GetOptions { range: Some(GetRange::Offset(offset)), ..GetOptions::default() };
            // how long its bytes take is their reader's time
            let begun = Instant::now();
            let found = store.get_opts(&key, options).await;
            traffic.count(begun, found.is_err());
            let mut pieces: BoxStream<'_, _> = match found {
                Ok(found) => found.into_stream(),
                Err(error) => return drop(tell.send(Err(error)).await),
            };
            while let Some(piece) = pieces.next().await {
                if tell.send(piece).await.is_err() {
                    return;
                }
            }
        });
        Some(told)
    }

    /// An address that opens an object for a while. Nothing is asked for it.
    pub(super) fn link(&self, key: &Path) -> Result<String, StorageError> {
        let (public, path) = (self.public.clone(), key.clone());
        let signed = self
            .wait(async move { public.signed_url(reqwest::Method::GET, &path, limits::REDIRECT_LIFE).await });
        match signed {
            Some(Ok(url)) => Ok(url.into()),
            Some(Err(source)) => {
                Err(StoreFailure { operation: "sign an address of", key: key.to_string(), source }.into())
            }
            None => Err(StorageError::Stopped),
        }
    }

    pub(super) fn delete(&self, key: &Path) -> Result<(), StorageError> {
        self.ask("remove", key, |store, key| async move { store.delete(&key).await })?;
        Ok(())
    }

    /// Answers whether there was anything.
    pub(super) fn copy(&self, from: &Path, to: &Path) -> Result<bool, StorageError> {
        let to = to.clone();
        let copied = self.send("copy", from, |store, from| async move { store.copy(&from, &to).await })?;
        Ok(copied.is_some())
    }

    /// Objects below a name, those after a key where one is named, in the order of keys, as many as `wanted` takes.
    pub(super) fn list(
        &self,
        name: &str,
        after: Option<Path>,
        count: usize,
        wanted: impl Fn(&ObjectMeta) -> bool + Send + Sync + 'static,
    ) -> Result<Vec<ObjectMeta>, StorageError> {
        let key = self.key(name);
        let listed = self.ask("list", &key, |store, key| async move {
            let all = match &after {
                Some(after) => store.list_with_offset(Some(&key), after),
                None => store.list(Some(&key)),
            };
            let mut found: Vec<ObjectMeta> =
                all.try_filter(|meta| std::future::ready(wanted(meta))).take(count).try_collect().await?;
            found.sort_by(|one, other| one.location.cmp(&other.location));
            Ok(found)
        })?;
        Ok(listed.unwrap_or_default())
    }

    pub(super) fn begin(&self, key: &Path) -> Result<String, StorageError> {
        let begun = self.ask("begin", key, |store, key| async move { store.create_multipart(&key).await })?;
        begun.ok_or_else(|| missing("begin", key))
    }

    pub(super) fn part(
        &self,
        key: &Path,
        id: &str,
        index: usize,
        bytes: Bytes,
    ) -> Result<String, StorageError> {
        let id = id.to_owned();
        let put = |store: AmazonS3, key: Path| async move {
            store.put_part(&key, &id, index, PutPayload::from(bytes)).await
        };
        let part = self.send("write a part of", key, put)?;
        part.map(|part| part.content_id).ok_or_else(|| missing("write a part of", key))
    }

    /// Answers whether there was such an upload.
    pub(super) fn complete(&self, key: &Path, id: &str, parts: &[String]) -> Result<bool, StorageError> {
        let parts = parts.iter().map(|part| PartId { content_id: part.clone() }).collect();
        let id = id.to_owned();
        let complete =
            |store: AmazonS3, key: Path| async move { store.complete_multipart(&key, &id, parts).await };
        Ok(self.send("complete", key, complete)?.is_some())
    }

    pub(super) fn abort(&self, key: &Path, id: &str) -> Result<(), StorageError> {
        let id = id.to_owned();
        self.ask("abort", key, |store, key| async move { store.abort_multipart(&key, &id).await })?;
        Ok(())
    }
}

/// What is written to is not there: the bucket, or the upload.
fn missing(operation: &'static str, key: &Path) -> StorageError {
    let source = "the store has no such bucket or upload".into();
    let source = object_store::Error::NotFound { path: key.to_string(), source };
    StoreFailure { operation, key: key.to_string(), source }.into()
}
