//! From the last slice to the announcement, split by step: `cargo bench --bench line`.
//!
//! The whole service in one process (store, receiver, broker, worker), the slices by C-STORE over loopback. Two series: the default
//! phantom (512 x 512 x 128) and the real CT CRLM-CT-1004 of the shared data (512 x 512 x 41; a refusal by the gate is its outcome).
#![allow(clippy::disallowed_methods, reason = "a benchmark reads files and the clock")]

use metwatch::dicom::{self, PatientInfo, Target};
use metwatch::phantom::{Options, generate};
use metwatch::service::{Config, ResultV1, Service};
use metwatch::{device, store::StateV1};
use std::path::PathBuf;
use std::time::{Duration, Instant};

const RUNS: usize = 3;
/// Waiting for the series to be quiet is a setting, not work: it is taken off.
const QUIET: Duration = Duration::from_secs(1);

fn main() {
    println!("machine: {}", device::survey().summary());
    let phantom = generate(&Options::new(1), &|_| ());
    let slices = dicom::phantom_series(
        &phantom.volume,
        &PatientInfo { patient_id: "BENCH".into(), ..PatientInfo::default() },
        1,
    );
    measure("phantom 512 x 512 x 128", &slices.into_iter().map(|(_, bytes)| bytes).collect::<Vec<_>>());
    let root = std::env::var_os("METWATCH_TEST_DATA")
        .map_or("../shared/data".into(), PathBuf::from)
        .join("crlm_ct/CRLM-CT-1004");
    match std::fs::read_dir(&root) {
        Ok(entries) => {
            let files: Vec<Vec<u8>> = entries
                .filter_map(|e| std::fs::read(e.ok()?.path()).ok())
                .filter(|b| dicom::parse_header(b).is_ok())
                .collect();
            measure("CRLM-CT-1004", &files);
        }
        Err(error) => println!("CRLM-CT-1004 was not measured: {}: {error}", root.display()),
    }
}

fn measure(name: &str, files: &[Vec<u8>]) {
    for run in 1..=RUNS {
        let folder = std::env::temp_dir().join(format!("metwatch-bench-{}-{run}", std::process::id()));
        let text = format!(
            "[store]\ndirectory = {:?}\n[dicom]\nlisten = \"127.0.0.1:0\"\nallow = [\"CT1\"]\nquiet_s = {}\n[alert]\nembedded_port = 0\n[models]\nsegmenter = \"phantom\"\n",
            folder.display().to_string(),
            QUIET.as_secs()
        );
        let service = Service::start(Config::parse(&text).expect("a valid configuration"), dicom::Decoder::Here)
            .expect("the service starts");
        let title = |t: &str| t.parse().expect("a title");
        let target = Target {
            ae_title: title("METWATCH"),
            host: "127.0.0.1".into(),
            port: service.dicom.port(),
            calling_ae: title("CT1"),
            tls: None,
        };
        let began = Instant::now();
        dicom::send(files.len(), &|k| Ok(files[k].clone()), &target, &mut |_, _| ()).expect("the slices are sent");
        let received = began.elapsed();
        let last_slice = Instant::now();
        let study = loop {
            let study = service.store.studies().expect("readable").into_iter().next().expect("a study");
            if matches!(study.state, StateV1::Scored | StateV1::Delivered | StateV1::Rejected { .. }) {
                break service.store.study(&study.number).expect("readable").expect("a study");
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        let announced = last_slice.elapsed().saturating_sub(QUIET);
        let steps = study
            .result_json
            .as_deref()
            .and_then(|json| ResultV1::from_json(json).ok())
            .map_or(Vec::new(), |r| r.steps_ms);
        let steps: Vec<String> = steps.iter().map(|(step, ms)| format!("{step} {ms:.0}")).collect();
        println!(
            "{name}, run {run}: {} slices in {} ms by C-STORE; last slice to announcement {} ms (without the quiet second): {} ms; {}",
            files.len(),
            received.as_millis(),
            announced.as_millis(),
            steps.join(", "),
            study.state.name()
        );
        service.stop();
        let _ = std::fs::remove_dir_all(&folder);
    }
}
