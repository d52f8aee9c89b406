//! `metwatch demo`: the whole line in one process, with nothing faked between the scanner's first byte and the alert.

use super::{Failure, phantom as phantom_cli, write_file};
use crate::alert::{self, Acknowledge, Received, StationConfig};
use crate::service::{Config, ResultV1, Service};
use crate::store::{StateV1, Store, StudyV1};
use crate::{DISCLAIMER, Explain, dicom, phantom};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};

/// The alert must have come within this time after the last object.
const ALERT_WITHIN: Duration = Duration::from_secs(120);

/// Shows the whole line at work: broker, service, a synthetic patient sent by C-STORE, the alert received
#[derive(clap::Args)]
pub struct Args {
    /// Folder for everything; a temporary one by default
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Ends when the alert has come, instead of keeping the page until Ctrl-C
    #[arg(long)]
    no_wait: bool,
    /// Seed of the synthetic patient
    #[arg(long, default_value_t = DEMO_SEED)]
    seed: u64,
}

/// A patient whose risk is high.
const DEMO_SEED: u64 = 4;

/// Why the demonstration did not reach its end.
#[derive(Debug, thiserror::Error)]
enum DemoError {
    /// Something on the way.
    #[error("the demonstration stopped: {0}")]
    Stopped(String),
}

impl Explain for DemoError {
    fn code(&self) -> &'static str {
        "demo.stopped"
    }
    fn advice(&self) -> &'static str {
        "run it again with RUST_LOG=info to see each step of the service"
    }
}

fn stopped(why: impl ToString) -> DemoError {
    DemoError::Stopped(why.to_string())
}

struct Steps(Instant);

impl Steps {
    fn say(&self, what: impl std::fmt::Display) {
        println!("[{:6.2} s] {what}", self.0.elapsed().as_secs_f64());
    }
}

/// Runs the demonstration.
pub fn run(args: Args) -> Result<(), Failure> {
    super::log_to_stderr("error");
    let steps = Steps(Instant::now());
    let folder =
        args.dir.clone().unwrap_or_else(|| std::env::temp_dir().join(format!("metwatch-demo-{}", std::process::id())));
    println!("metwatch demo: a synthetic patient from the scanner to the alert. {}", DISCLAIMER.to_uppercase());
    write_file(
        &folder.join("clinical").join("README.txt"),
        b"The laboratory system renames JSON files into this folder.\n",
    )?;
    let service = Service::start(config(&folder)?, super::decoder()?)?;
    let page = service.console.map(|c| format!("http://{c}/"));
    steps.say(format_args!(
        "service ready: DICOM on {}, MQTT broker on {}, models loaded and verified",
        service.dicom, service.broker
    ));
    let station = Station::start(&service)?;
    station.expect_up()?;
    steps.say("nursing station subscribed");

    let options = phantom::Options::new(args.seed);
    let patient = phantom::generate(&options, &|_| ());
    let [x, y, z] = options.size;
    let truth = &patient.truth;
    steps.say(format_args!(
        "synthetic patient {}: {x} x {y} x {z} voxels, liver {:.0} mL with {} lesions, tumor of {:.0} mm",
        args.seed,
        truth.liver_ml,
        truth.lesions.len(),
        truth.tumor_diameter_mm
    ));
    let clinical = folder.join("clinical").join("patient.json.part");
    write_file(&clinical, phantom_cli::clinical(&patient, args.seed).to_string().as_bytes())?;
    std::fs::rename(&clinical, clinical.with_extension("")).map_err(|e| super::FileError::write(&clinical, e))?;
    steps.say("laboratory and pathology values dropped");

    let series = dicom::phantom_series(&patient.volume, &phantom_cli::patient(args.seed), args.seed);
    let target = dicom::Target {
        ae_title: "METWATCH".parse().map_err(stopped)?,
        host: service.dicom.ip().to_string(),
        port: service.dicom.port(),
        calling_ae: "CT1".parse().map_err(stopped)?,
        tls: None,
    };
    let load = |index: usize| Ok(series[index].1.clone());
    let sent = dicom::send(series.len(), &load, &target, &mut |_, _| ())?;
    if let Some(failed) = sent.iter().find(|d| !d.is_stored()) {
        return Err(stopped(format!("an object was not stored: {failed:?}")).into());
    }
    let last_slice = Instant::now();
    steps.say(format_args!("{} slices sent by C-STORE, each durable before it was acknowledged", sent.len()));

    let alert = watch_study(&service.store, &station, &steps)?;
    steps.say(format_args!(
        "ALERT received at the station {:.2} s after the last slice, and acknowledged",
        last_slice.elapsed().as_secs_f64()
    ));
    println!("           {alert}");
    let study = delivered(&service.store)?;
    let result = ResultV1::from_json(study.result_json.as_deref().unwrap_or_default()).map_err(stopped)?;
    println!();
    super::analyze::print(&result);
    let results = folder.join("results").join(&study.number);
    let overlay = study.artifacts.keys().find(|n| n.contains("tumor") && n.ends_with(".png"));
    let overlay = overlay.or_else(|| study.artifacts.keys().find(|n| n.ends_with(".png")));
    println!("\noverlay   {}", results.join(overlay.map_or("", String::as_str)).display());
    println!("results   {}", results.display());
    if let Some(page) = page {
        println!("page      {page}study/{}", study.number);
        if !args.no_wait {
            println!("\nThe page stays until Ctrl-C.");
            super::wait_for_stop(|| (), Duration::from_secs(3600));
        }
    }
    station.stop();
    service.stop();
    Ok(())
}

fn config(folder: &Path) -> Result<Config, DemoError> {
    let path = |name: &str| toml_string(&folder.join(name));
    let text = format!(
        "[store]\ndirectory = {}\nresults_directory = {}\n[dicom]\nlisten = \"127.0.0.1:0\"\nallow = [\"CT1\"]\nquiet_s = 1\n\
         [alert]\nsite = \"demo\"\nbox_id = \"box\"\nembedded_port = 0\n[console]\nlisten = \"127.0.0.1:0\"\n\
         [clinical]\ndrop_directory = {}\n[models]\nsegmenter = \"phantom\"\n",
        path("store"),
        path("results"),
        path("clinical")
    );
    Config::parse(&text).map_err(stopped)
}

fn toml_string(path: &Path) -> String {
    format!("{:?}", path.display().to_string())
}

/// Prints each state that the study reaches until the alert came; returns its text.
fn watch_study(store: &Store, station: &Station, steps: &Steps) -> Result<String, DemoError> {
    let end = Instant::now() + ALERT_WITHIN;
    let mut shown = String::new();
    loop {
        let study = store.studies().map_err(stopped)?.into_iter().next();
        if let Some(study) = &study {
            let state = study.state.name();
            if state != shown {
                steps.say(format_args!("study {} is {state}", study.number));
                shown = state.into();
            }
            if let StateV1::Rejected { sentence, .. } | StateV1::Failed { sentence, .. } = &study.state {
                return Err(stopped(format!("the study was not analysed: {sentence}")));
            }
        }
        match station.heard.recv_timeout(Duration::from_millis(20)) {
            Ok(Heard::Alert(text)) => return Ok(text),
            Ok(Heard::Up) | Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Err(stopped("the station ended")),
        }
        if end < Instant::now() {
            return Err(stopped("no alert came: the risk of this patient is not high, or the line is broken"));
        }
    }
}

/// The study when the station's acknowledgement has closed it.
fn delivered(store: &Store) -> Result<StudyV1, DemoError> {
    let end = Instant::now() + Duration::from_secs(15);
    loop {
        let study = store.studies().map_err(stopped)?.into_iter().next().ok_or_else(|| stopped("the study is gone"))?;
        if study.state == StateV1::Delivered {
            return store.study(&study.number).map_err(stopped)?.ok_or_else(|| stopped("the study is gone"));
        }
        if end < Instant::now() {
            return Err(stopped("the station's acknowledgement did not come back"));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

enum Heard {
    Up,
    Alert(String),
}

/// A nursing station in this process, connected over TCP as any other.
struct Station {
    heard: Receiver<Heard>,
    stop: watch::Sender<bool>,
    thread: std::thread::JoinHandle<()>,
}

impl Station {
    fn start(service: &Service) -> Result<Station, DemoError> {
        let config = StationConfig {
            broker: service.broker.clone(),
            name: "demo-station".parse().map_err(stopped)?,
            username: None,
            password_file: None,
            tls: None,
        };
        let (tell, heard) = channel();
        let (stop, stopped_) = watch::channel(false);
        let thread = std::thread::spawn(move || {
            let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
            let (acks, acks_received) = mpsc::unbounded_channel();
            let listened =
                runtime.block_on(alert::listen(config, acks_received, stopped_, |received| match received {
                    Received::Up => _ = tell.send(Heard::Up),
                    Received::Alert { from, alert, again: false } => {
                        let text = format!(
                            "{} risk {:.1} % ({}, {}), study {}, alert {}, {}",
                            alert.group.to_uppercase(),
                            100.0 * alert.probability,
                            alert.variant,
                            if alert.status == alert::payload::StatusOfRisk::Final { "final" } else { "provisional" },
                            alert.study,
                            &alert.alert_id[..12.min(alert.alert_id.len())],
                            alert.disclaimer
                        );
                        let _ = acks.send(Acknowledge { from, alert_id: alert.alert_id.clone() });
                        let _ = tell.send(Heard::Alert(text));
                    }
                    _ => {}
                }));
            if let Err(error) = listened {
                tracing::error!(%error, "the station ended");
            }
        });
        Ok(Station { heard, stop, thread })
    }

    fn expect_up(&self) -> Result<(), DemoError> {
        match self.heard.recv_timeout(Duration::from_secs(10)) {
            Ok(Heard::Up) => Ok(()),
            _ => Err(stopped("the station could not subscribe at the broker")),
        }
    }

    fn stop(self) {
        let _ = self.stop.send(true);
        let _ = self.thread.join();
    }
}
