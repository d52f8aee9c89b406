//! How files come from a repository: over HTTP(S) or from a folder, each bounded in bytes and in time.
//!
//! Metadata is fetched whole and kept byte for byte, so that what is stored later is what was signed. A target goes into
//! `downloads/SHA256.part`, resumed by Range where an earlier run stopped; tough then hashes what lies on the disk.

use super::UpdateError;
use super::files::{make_folder, open_plain, require_space, sync_folder};
use reqwest::{Client, Response, StatusCode, Url};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tough::schema::{Root, Signed, Timestamp};
use tough::{Bytes, TransportError, TransportErrorKind, TransportStream, async_trait};

/// Metadata of one role. A targets role may list some thousand packages; the others are small.
pub const ROLE_BYTES_MAX: u64 = 1 << 20;
/// The targets role.
pub const TARGETS_BYTES_MAX: u64 = 10 << 20;
/// The slowest line that a large file is waited for.
const BYTES_PER_S_MIN: u64 = 32 << 10;
/// Times that a broken connection is taken up again within one run.
const TRIES: u32 = 4;
const REDIRECTS_MAX: usize = 5;
const CHUNK: usize = 1 << 17;

/// A target that is about to be fetched: what was signed for it, and where it goes.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Its length.
    pub length: u64,
    /// Where its bytes go; what is there already is kept.
    pub part: PathBuf,
}

/// The trusted timestamp, which a fetched one of the same version must not replace, and the root that judges both.
#[derive(Debug, Clone)]
struct Known {
    version: u64,
    bytes: Vec<u8>,
    root: Signed<Root>,
}

impl Known {
    /// Whether other bytes claim to be this timestamp, by right: signed with the keys of the same root.
    fn is_same(&self, bytes: &[u8]) -> bool {
        let fetched = serde_json::from_slice::<Signed<Timestamp>>(bytes).ok();
        let fetched = fetched.filter(|timestamp| timestamp.signed.version.get() == self.version);
        fetched.is_some_and(|timestamp| self.root.signed.verify_role(&timestamp).is_ok())
    }
}

#[derive(Debug)]
struct Shared {
    client: Option<Client>,
    patience: Duration,
    known_timestamp: Option<Known>,
    /// Metadata as it came, by file name.
    fetched: Mutex<BTreeMap<String, Vec<u8>>>,
    wanted: Mutex<Option<Wanted>>,
    /// The last failure, in more words than tough keeps.
    failure: Mutex<Option<UpdateError>>,
}

/// A transport for tough.
#[derive(Debug, Clone)]
pub struct Fetcher(Arc<Shared>);

impl Fetcher {
    /// `patience`: how long a server may be silent; a whole metadata file may take three times as long.
    pub fn new(base: &Url, ca_file: Option<&Path>, patience: Duration) -> Result<Fetcher, UpdateError> {
        let client = match base.scheme() {
            "file" => None,
            "http" | "https" => Some(client(base, ca_file, patience)?),
            other => {
                return Err(UpdateError::Setting {
                    what: format!("{other}: is no way to a repository; use https, http or --from"),
                });
            }
        };
        Ok(Fetcher(Arc::new(Shared {
            client,
            patience,
            known_timestamp: None,
            fetched: Mutex::default(),
            wanted: Mutex::default(),
            failure: Mutex::default(),
        })))
    }

    /// The same, knowing the root and the timestamp that are trusted so far.
    pub fn knowing(self, root: &str, timestamp: Option<&str>) -> Fetcher {
        let known = timestamp.and_then(|text| {
            let root = serde_json::from_str(root).ok()?;
            Some(Known { version: version_of(text.as_bytes())?, bytes: text.into(), root })
        });
        let shared = Shared {
            client: self.0.client.clone(),
            patience: self.0.patience,
            known_timestamp: known,
            fetched: Mutex::default(),
            wanted: Mutex::default(),
            failure: Mutex::default(),
        };
        Fetcher(Arc::new(shared))
    }

    /// A metadata file as it came, if it came.
    pub fn fetched(&self, name: &str) -> Option<Vec<u8>> {
        lock(&self.0.fetched).get(name).cloned()
    }

    /// The next file asked for is this target.
    pub fn want(&self, wanted: Option<Wanted>) {
        *lock(&self.0.wanted) = wanted;
    }

    /// Why the last fetch failed, once.
    pub fn failure(&self) -> Option<UpdateError> {
        lock(&self.0.failure).take()
    }

    async fn metadata(&self, url: &Url) -> Result<Vec<u8>, UpdateError> {
        let name = url.path_segments().and_then(|mut s| s.next_back()).unwrap_or_default().to_string();
        let limit = if name.ends_with("targets.json") { TARGETS_BYTES_MAX } else { ROLE_BYTES_MAX };
        let bytes = self.whole(url, limit).await?;
        let mut fetched = lock(&self.0.fetched);
        // One version has one content: what was believed first stays.
        let bytes = match &self.0.known_timestamp {
            Some(known) if name == "timestamp.json" && known.is_same(&bytes) => known.bytes.clone(),
            _ => bytes,
        };
        fetched.insert(name, bytes.clone());
        Ok(bytes)
    }

    /// A small file, whole.
    async fn whole(&self, url: &Url, limit: u64) -> Result<Vec<u8>, UpdateError> {
        let mut bytes = Vec::new();
        let too_large = || UpdateError::TooLarge { what: format!("{url} is larger than {limit} bytes") };
        if url.scheme() == "file" {
            let (file, _) = open(url)?;
            file.take(limit + 1).read_to_end(&mut bytes).map_err(|e| failed(url, e))?;
            return if bytes.len() as u64 > limit { Err(too_large()) } else { Ok(bytes) };
        }
        let whole = async {
            let mut response = self.get(url, 0).await?;
            while let Some(chunk) = response.chunk().await.map_err(|e| failed(url, chain(&e)))? {
                bytes.extend_from_slice(&chunk);
                if bytes.len() as u64 > limit {
                    return Err(too_large());
                }
            }
            Ok(())
        };
        let limit_s = self.0.patience * 3;
        match tokio::time::timeout(limit_s, whole).await {
            Ok(done) => done.map(|()| bytes),
            Err(_) => Err(failed(url, format!("the server needs more than {} s for it", limit_s.as_secs_f32()))),
        }
    }

    async fn get(&self, url: &Url, from: u64) -> Result<Response, UpdateError> {
        let client = self.0.client.as_ref().ok_or_else(|| failed(url, "it leads out of the folder"))?;
        let mut request = client.get(url.clone());
        if from > 0 {
            request = request.header("range", format!("bytes={from}-"));
        }
        let response = request.send().await.map_err(|e| failed(url, chain(&e)))?;
        match response.status() {
            status if status.is_success() => Ok(response),
            StatusCode::NOT_FOUND | StatusCode::FORBIDDEN | StatusCode::GONE => {
                Err(UpdateError::NotFound { url: url.to_string() })
            }
            StatusCode::RANGE_NOT_SATISFIABLE if from > 0 => Ok(response),
            status => Err(failed(url, format!("the server answers {status}"))),
        }
    }

    /// Brings a target onto the disk, as far as its bytes go; what they are is checked by reading them again.
    async fn target(&self, url: &Url, wanted: &Wanted) -> Result<(), UpdateError> {
        make_folder(wanted.part.parent().unwrap_or(Path::new(".")))?;
        let mut part = open_part(&wanted.part)?;
        let budget = self.0.patience * 3 + Duration::from_secs(wanted.length / BYTES_PER_S_MIN);
        let end = Instant::now() + budget;
        let mut last = None;
        for attempt in 0..TRIES {
            if attempt > 0 {
                tokio::time::sleep(Duration::from_millis(200 << attempt)).await;
            }
            let mut have = part.seek(SeekFrom::End(0)).map_err(|e| UpdateError::io("reading", &wanted.part, e))?;
            if have > wanted.length {
                have = 0;
                truncate(&mut part, &wanted.part)?;
            }
            if have == wanted.length {
                break;
            }
            require_space(wanted.part.parent().unwrap_or(Path::new(".")), wanted.length - have)?;
            let step = async {
                match url.scheme() {
                    "file" => self.download_from_folder(url, wanted, &mut part),
                    _ => self.download_from_server(url, wanted, &mut part, have).await,
                }
            };
            let left = end.saturating_duration_since(Instant::now());
            match tokio::time::timeout(left, step).await {
                Ok(Ok(())) => {
                    last = None;
                    break;
                }
                Ok(Err(error @ UpdateError::Fetch { .. })) => last = Some(error),
                Ok(Err(error)) => return Err(error),
                Err(_) => return Err(failed(url, format!("it did not come within {} s", budget.as_secs()))),
            }
        }
        part.sync_all().map_err(|e| UpdateError::io("syncing", &wanted.part, e))?;
        sync_folder(wanted.part.parent().unwrap_or(Path::new(".")))?;
        match last {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    fn download_from_folder(&self, url: &Url, wanted: &Wanted, part: &mut File) -> Result<(), UpdateError> {
        let (mut file, length) = open(url)?;
        if length != wanted.length {
            return Err(UpdateError::Altered { what: url.to_string() });
        }
        truncate(part, &wanted.part)?;
        let mut buffer = vec![0; CHUNK];
        loop {
            let n = file.read(&mut buffer).map_err(|e| failed(url, e))?;
            if n == 0 {
                return Ok(());
            }
            append(part, &buffer[..n], wanted, url)?;
        }
    }

    async fn download_from_server(
        &self,
        url: &Url,
        wanted: &Wanted,
        part: &mut File,
        have: u64,
    ) -> Result<(), UpdateError> {
        let mut response = self.get(url, have).await?;
        let resumed = response.status() == StatusCode::PARTIAL_CONTENT && starts_at(&response, have);
        if !resumed {
            truncate(part, &wanted.part)?;
            if response.status() != StatusCode::OK {
                response = self.get(url, 0).await?;
            }
        }
        while let Some(chunk) = response.chunk().await.map_err(|e| failed(url, chain(&e)))? {
            append(part, &chunk, wanted, url)?;
        }
        let got = part.stream_position().map_err(|e| UpdateError::io("reading", &wanted.part, e))?;
        if got < wanted.length {
            return Err(failed(url, format!("the server ended after {got} of {} bytes", wanted.length)));
        }
        Ok(())
    }

    fn keep(&self, url: &Url, error: UpdateError) -> TransportError {
        let kind = match error {
            UpdateError::NotFound { .. } => TransportErrorKind::FileNotFound,
            _ => TransportErrorKind::Other,
        };
        let kept = TransportError::new_with_cause(kind, url, error.to_string());
        *lock(&self.0.failure) = Some(error);
        kept
    }
}

#[async_trait]
impl tough::Transport for Fetcher {
    async fn fetch(&self, url: Url) -> Result<TransportStream, TransportError> {
        *lock(&self.0.failure) = None;
        let wanted = lock(&self.0.wanted).clone();
        match wanted {
            None => {
                let bytes = self.metadata(&url).await.map_err(|e| self.keep(&url, e))?;
                Ok(Box::pin(futures::stream::once(std::future::ready(Ok(Bytes::from(bytes))))))
            }
            Some(wanted) => {
                self.target(&url, &wanted).await.map_err(|e| self.keep(&url, e))?;
                let read = |e| self.keep(&url, UpdateError::io("reading", &wanted.part, e));
                let mut file = File::open(&wanted.part).map_err(read)?;
                let next = move || {
                    let mut buffer = vec![0; CHUNK];
                    match file.read(&mut buffer) {
                        Ok(0) => None,
                        Ok(n) => {
                            buffer.truncate(n);
                            Some(Ok(Bytes::from(buffer)))
                        }
                        Err(e) => Some(Err(TransportError::new_with_cause(TransportErrorKind::Other, &url, e))),
                    }
                };
                Ok(Box::pin(futures::stream::iter(std::iter::from_fn(next))))
            }
        }
    }
}

fn client(base: &Url, ca_file: Option<&Path>, patience: Duration) -> Result<Client, UpdateError> {
    let mut roots = rustls::RootCertStore::empty();
    match ca_file {
        Some(path) => {
            let unusable =
                |why: String| UpdateError::Setting { what: format!("the CA file {}: {why}", path.display()) };
            let certificates = CertificateDer::pem_file_iter(path).map_err(|e| unusable(e.to_string()))?;
            for certificate in certificates {
                let certificate = certificate.map_err(|e| unusable(e.to_string()))?;
                roots.add(certificate).map_err(|e| unusable(e.to_string()))?;
            }
        }
        None => drop(roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs)),
    }
    let broken = |why: String| UpdateError::Setting { what: format!("TLS could not be set up: {why}") };
    let tls = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| broken(e.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Client::builder()
        .tls_backend_preconfigured(tls)
        .https_only(base.scheme() == "https")
        .redirect(reqwest::redirect::Policy::limited(REDIRECTS_MAX))
        .connect_timeout(patience)
        .read_timeout(patience)
        .user_agent(concat!("metwatch/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|e| broken(chain(&e)))
}

/// A file of a repository in a folder, and its length.
fn open(url: &Url) -> Result<(File, u64), UpdateError> {
    let path = url.to_file_path().map_err(|()| failed(url, "it is no path"))?;
    match open_plain(&path).and_then(|f| f.metadata().map(|m| (f, m.len()))) {
        Ok(opened) => Ok(opened),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Err(UpdateError::NotFound { url: url.to_string() }),
        Err(e) => Err(failed(url, e)),
    }
}

fn open_part(path: &Path) -> Result<File, UpdateError> {
    let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
    opened.map_err(|e| UpdateError::io("opening", path, e))
}

fn truncate(part: &mut File, path: &Path) -> Result<(), UpdateError> {
    part.set_len(0).and_then(|()| part.rewind()).map_err(|e| UpdateError::io("writing", path, e))
}

/// Adds bytes; more than were signed for are not written.
fn append(part: &mut File, bytes: &[u8], wanted: &Wanted, url: &Url) -> Result<(), UpdateError> {
    let have = part.stream_position().map_err(|e| UpdateError::io("reading", &wanted.part, e))?;
    if have.saturating_add(bytes.len() as u64) > wanted.length {
        truncate(part, &wanted.part)?;
        return Err(UpdateError::TooLarge { what: format!("{url} goes on after its {} bytes", wanted.length) });
    }
    part.write_all(bytes).map_err(|e| UpdateError::io("writing", &wanted.part, e))
}

/// Whether a partial answer begins where it was asked to.
fn starts_at(response: &Response, from: u64) -> bool {
    let range = response.headers().get("content-range").and_then(|v| v.to_str().ok());
    range.and_then(|r| r.strip_prefix("bytes ")).is_some_and(|r| r.starts_with(&format!("{from}-")))
}

/// The version that a metadata file claims.
pub fn version_of(bytes: &[u8]) -> Option<u64> {
    #[derive(serde::Deserialize)]
    struct Signed {
        version: u64,
    }
    #[derive(serde::Deserialize)]
    struct File {
        signed: Signed,
    }
    serde_json::from_slice::<File>(bytes).ok().map(|f| f.signed.version)
}

fn failed(url: &Url, why: impl ToString) -> UpdateError {
    UpdateError::Fetch { url: url.to_string(), why: why.to_string() }
}

/// An error and its causes: reqwest's own sentence leaves out what matters ("certificate has expired").
fn chain(error: &dyn std::error::Error) -> String {
    let mut sentence = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !sentence.contains(&more) {
            sentence = format!("{sentence}: {more}");
        }
        cause = error.source();
    }
    sentence
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
