//! Starting and stopping: store, packages, broker, receiver, worker, alert session, console.

use super::Config;
use super::analysis::ModelsError;
use super::delivery::{Reporter, Sender};
use super::events::{self, Told};
use super::models::ActiveModels;
use super::plan::Patience;
use super::sink::{Arrivals, StoreSink};
use super::source::{CutOffs, StoreSource};
use super::worker::Worker;
use crate::alert::payload::EventKind;
use crate::alert::{AlertError, BrokerAddress, EmbeddedBroker, Notice};
use crate::store::{OpenNotice, Store, StoreError};
use crate::{Explain, alert, console, device, dicom};
use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Health is published this often.
const HEALTH_EVERY: Duration = Duration::from_secs(30);
/// The worker may be silent this long (one study is a few seconds) before the watchdog is no longer fed.
const WORKER_SILENT: Duration = Duration::from_secs(300);

/// Senders that wait for another node are left behind after this long.
const SENDERS_GRACE: Duration = Duration::from_secs(3);

/// Why the service did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The certificates of the DICOM ports and destinations.
    #[error(transparent)]
    Tls(#[from] dicom::TlsError),
    /// A model package.
    #[error(transparent)]
    Models(#[from] ModelsError),
    /// The broker's address or its secrets.
    #[error(transparent)]
    Alert(#[from] AlertError),
    /// The console's configuration.
    #[error(transparent)]
    Console(#[from] console::ConsoleError),
    /// An address that cannot be listened on.
    #[error("{what} cannot listen on {address}")]
    Listen {
        /// Which part.
        what: &'static str,
        /// Where.
        address: SocketAddr,
        /// The system's own words.
        source: std::io::Error,
    },
    /// No thread.
    #[error("a thread could not be started")]
    Thread(#[source] std::io::Error),
}

impl Explain for StartError {
    fn code(&self) -> &'static str {
        match self {
            Self::Store(e) => e.code(),
            Self::Tls(e) => e.code(),
            Self::Models(e) => e.code(),
            Self::Alert(e) => e.code(),
            Self::Console(e) => e.code(),
            Self::Listen { .. } => "service.port-in-use",
            Self::Thread(_) => "service.thread",
        }
    }
    fn advice(&self) -> &'static str {
        match self {
            Self::Store(e) => e.advice(),
            Self::Tls(e) => e.advice(),
            Self::Models(e) => e.advice(),
            Self::Alert(e) => e.advice(),
            Self::Console(e) => e.advice(),
            Self::Listen { .. } => {
                "stop the other program on that port, or choose another address in the configuration"
            }
            Self::Thread(_) => "raise the limit of threads (TasksMax) or free memory",
        }
    }
}

/// A running service.
pub struct Service {
    /// Where it receives DICOM; its TLS port where there is no other.
    pub dicom: SocketAddr,
    /// The broker it speaks to.
    pub broker: BrokerAddress,
    /// Where its pages are, if anywhere.
    pub console: Option<SocketAddr>,
    /// Its store: another handle.
    pub store: Store,
    stop: Arc<AtomicBool>,
    stop_async: watch::Sender<bool>,
    heartbeat: Arc<AtomicU64>,
    began: Instant,
    threads: Vec<JoinHandle<()>>,
    /// Threads that may wait for another node for a minute; what they do is durable at each step.
    senders: Vec<JoinHandle<()>>,
}

impl Service {
    /// Starts everything; compressed frames are decoded by `decoder`. Nothing is received before everything that receiving
    /// promises is there.
    pub fn start(config: Config, decoder: dicom::Decoder) -> Result<Service, StartError> {
        let began = Instant::now();
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            device = device::survey().summary(),
            "starting; {}",
            crate::DISCLAIMER
        );
        let (active, model_news) = ActiveModels::load(&config.models)?;
        let models = active.models();
        config.console.as_ref().map(console::Config::verify).transpose()?;
        let doors = doors(&config.dicom)?;
        let pages = config.console.as_ref().map(|c| listen("the console", c.listen)).transpose()?;
        let (store, notices) = Store::open(&config.store.directory, super::now_ms())?;
        for notice in notices {
            // Leftovers of a crash are none of the stations' business: nothing in them was acknowledged.
            if matches!(notice, OpenNotice::LeftoversRemoved { .. }) {
                tracing::info!(code = notice.code(), "{notice}");
                continue;
            }
            tracing::warn!(code = notice.code(), "{notice}");
            let told = Told {
                kind: EventKind::Degraded,
                code: notice.code(),
                sentence: &notice.to_string(),
                advice: "look at the store with `metwatch study list` and keep the named folder until it is clear what is missing",
                study: None,
                about: &super::now_ms().to_string(),
            };
            events::tell(&store, &told);
        }
        model_news.iter().for_each(|news| news.tell(&store));
        let mut alert = config.alert.clone();
        let broker = match &alert.broker {
            Some(broker) => broker.clone(),
            None => EmbeddedBroker::start(alert.embedded_port)?.address(),
        };
        alert.broker = Some(broker.clone());
        alert.verify()?;

        let sender = |to: &dicom::Destination| Sender::new(store.clone(), &config.dicom, to.clone());
        let senders = config.dicom.send.iter().map(sender).collect::<Result<Vec<_>, _>>()?;
        let stop = Arc::new(AtomicBool::new(false));
        let (stop_async, stopped) = watch::channel(false);
        let heartbeat = Arc::new(AtomicU64::new(0));
        let arrivals = Arc::new(Arrivals::default());
        let address = |l: &TcpListener, asked| l.local_addr().unwrap_or(asked);
        let mut service = Service {
            dicom: doors.first().map_or(config.dicom.listen, |d| address(&d.listener, config.dicom.listen)),
            broker,
            console: pages.as_ref().zip(config.console.as_ref()).map(|(l, c)| address(l, c.listen)),
            store: store.clone(),
            stop: stop.clone(),
            stop_async,
            heartbeat: heartbeat.clone(),
            began,
            threads: Vec::new(),
            senders: Vec::new(),
        };
        let cut_offs = Arc::new(Mutex::new(CutOffs::of(&models.nomogram)));
        let worker = Worker {
            store: store.clone(),
            models,
            active,
            cut_offs: cut_offs.clone(),
            arrivals: arrivals.clone(),
            rules: config.series,
            decoder,
            patience: Patience {
                quiet: Duration::from_secs(config.dicom.quiet_s.into()),
                incomplete: Duration::from_secs(config.dicom.incomplete_s.into()),
            },
            alert: alert.clone(),
            destinations: config.dicom.send.clone(),
            clinical: config.clinical,
            results_directory: config.store.results_directory.clone(),
            heartbeat,
            under_way: BTreeMap::new(),
        };
        service.spawn("worker", {
            let stop = stop.clone();
            move || worker.run(&stop)
        })?;
        let sink = Arc::new(StoreSink::new(store.clone(), arrivals, &config.dicom));
        for sender in senders {
            let stop = stop.clone();
            service.spawn("sender", move || sender.run(&stop))?;
            service.senders.extend(service.threads.pop());
        }
        let reporter = Reporter { store: store.clone(), config: config.dicom.clone() };
        service.spawn("reporter", {
            let stop = stop.clone();
            move || reporter.run(&stop)
        })?;
        service.senders.extend(service.threads.pop());
        let dicom_config = config.dicom;
        service.spawn("dicom", {
            let stop = stop.clone();
            move || {
                if let Err(error) = dicom::serve(doors, dicom_config, sink, stop) {
                    tracing::error!(%error, "the DICOM receiver ended");
                }
            }
        })?;
        let source = StoreSource { store: store.clone(), identifiers: alert.identifiers, cut_offs };
        let web = pages.zip(config.console);
        service.spawn("network", move || network(alert, store, web, source, stopped))?;
        tracing::info!(dicom = %service.dicom, broker = %service.broker, "ready");
        Ok(service)
    }

    fn spawn(&mut self, name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), StartError> {
        self.threads.push(std::thread::Builder::new().name(name.into()).spawn(work).map_err(StartError::Thread)?);
        Ok(())
    }

    /// Whether every part is at work; what the watchdog is fed by.
    pub fn is_alive(&self) -> bool {
        let last = Duration::from_millis(self.heartbeat.load(Ordering::Relaxed));
        self.threads.iter().chain(&self.senders).all(|t| !t.is_finished())
            && self.began.elapsed().saturating_sub(last) < WORKER_SILENT
    }

    /// Stops: no new associations, the running step ends, everything is on disk.
    pub fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.stop_async.send(true);
        for thread in self.threads {
            let name = thread.thread().name().unwrap_or("").to_string();
            if thread.join().is_err() {
                tracing::error!(name, "a part of the service had ended by a fault of the program");
            }
        }
        let deadline = Instant::now() + SENDERS_GRACE;
        while self.senders.iter().any(|t| !t.is_finished()) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
        tracing::info!("stopped");
    }
}

/// The DICOM ports, after what they need was read.
fn doors(config: &dicom::Config) -> Result<Vec<dicom::Door>, StartError> {
    config.verify()?;
    let mut doors = Vec::new();
    if !config.tls.as_ref().is_some_and(|tls| tls.only) {
        doors.push(dicom::Door { listener: listen("the DICOM receiver", config.listen)?, tls: false });
    }
    if let Some(address) = config.tls.as_ref().and_then(|tls| tls.listen) {
        doors.push(dicom::Door { listener: listen("the DICOM receiver with TLS", address)?, tls: true });
    }
    Ok(doors)
}

fn listen(what: &'static str, address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).map_err(|source| StartError::Listen { what, address, source })
}

/// The alert session and the console, on a runtime of their own.
fn network(
    alert: alert::Config,
    store: Store,
    web: Option<(TcpListener, console::Config)>,
    source: StoreSource,
    stopped: watch::Receiver<bool>,
) {
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return tracing::error!(%error, "the network runtime could not be started"),
    };
    runtime.block_on(async move {
        let (health, hear) = watch::channel(String::new());
        let notices = store.clone();
        let session =
            alert::run(alert, Arc::new(store), hear, stopped.clone(), move |notice: &Notice| tell(&notices, notice));
        let pages = async {
            if let Some((listener, config)) = web
                && let Err(error) = console::serve(listener, config, Arc::new(source), stopped.clone()).await
            {
                tracing::error!(code = error.code(), %error, "the console ended");
            }
        };
        let healthy = async {
            let mut stopped = stopped.clone();
            while !*stopped.borrow() {
                let device = device::survey();
                let _ = health
                    .send(serde_json::json!({ "schema": "metwatch.health/1", "device": device.summary() }).to_string());
                let _ = tokio::time::timeout(HEALTH_EVERY, stopped.wait_for(|s| *s)).await;
            }
        };
        let (ended, (), ()) = tokio::join!(session, pages, healthy);
        if let Err(error) = ended {
            tracing::error!(code = error.code(), %error, "the alert session ended");
        }
    });
}

/// What happens to alerts on their way, logged; what a person has to do something about also becomes an event.
fn tell(store: &Store, notice: &Notice) {
    let kind = match notice {
        Notice::Connected { .. } | Notice::Acknowledged { .. } => {
            return tracing::info!(code = notice.code(), "{}", notice.sentence());
        }
        // Nobody hears an event over a broker that is away; the log and the console tell.
        Notice::Down(_) => return tracing::warn!(code = notice.code(), "{}", notice.sentence()),
        Notice::Escalated { .. } => EventKind::Escalated,
        Notice::Expired { .. } => EventKind::Expired,
        Notice::NobodyListens { .. } | Notice::Refused { .. } => EventKind::Degraded,
    };
    tracing::warn!(code = notice.code(), "{}", notice.sentence());
    let (study, about) = match notice {
        Notice::Escalated { id, study } | Notice::Expired { id, study } => (study.as_deref(), id.as_str()),
        Notice::NobodyListens { id } | Notice::Refused { id, .. } => (None, id.as_str()),
        _ => (None, ""),
    };
    let sentence = notice.sentence();
    events::tell(
        store,
        &Told { kind, code: notice.code(), sentence: &sentence, advice: notice.advice(), study, about },
    );
}
