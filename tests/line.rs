//! The service from the scanner to the station, with the peers of others: DCMTK and pynetdicom send, mosquitto carries and hears.

use crate::common::{Folder, metwatch, reference, run};
use metwatch::dicom::{PatientInfo, phantom_series};
use metwatch::phantom::{Options, generate};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// A free port of loopback.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").expect("loopback has a free port").local_addr().expect("an address").port()
}

/// A process that ends with the test.
pub struct Peer(pub Child);

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn wait_for_port(port: u16, what: &str) {
    let end = Instant::now() + Duration::from_secs(20);
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < end, "{what} does not listen");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A real mosquitto without persistence.
pub fn mosquitto(port: u16) -> Peer {
    let child =
        Command::new("mosquitto").args(["-p", &port.to_string()]).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let peer = Peer(child.expect("mosquitto is installed by tests/run"));
    wait_for_port(port, "mosquitto");
    peer
}

/// Every message below `metwatch/#`, as mosquitto_sub hears it.
pub struct Heard {
    lines: Receiver<(String, Value)>,
    seen: Vec<(String, Value)>,
    _peer: Peer,
}

impl Heard {
    pub fn listen(port: u16) -> Heard {
        let args = ["-V", "mqttv5", "-p", &port.to_string(), "-t", "metwatch/#", "-q", "1", "-F", "%t %p"];
        let mut child = Command::new("mosquitto_sub")
            .args(args)
            .stdout(Stdio::piped())
            .spawn()
            .expect("mosquitto_sub is installed");
        let out = BufReader::new(child.stdout.take().expect("piped"));
        let (tell, lines) = channel();
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                let Some((topic, payload)) = line.split_once(' ') else { continue };
                if tell.send((topic.to_string(), serde_json::from_str(payload).unwrap_or(Value::Null))).is_err() {
                    return;
                }
            }
        });
        Heard { lines, seen: Vec::new(), _peer: Peer(child) }
    }

    /// The next message that fits, old ones first.
    pub fn wait(&mut self, what: &str, within: Duration, fits: impl Fn(&str, &Value) -> bool) -> (String, Value) {
        let end = Instant::now() + within;
        loop {
            if let Some(k) = self.seen.iter().position(|(t, v)| fits(t, v)) {
                return self.seen.remove(k);
            }
            let left = end.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(message) => self.seen.push(message),
                Err(_) => panic!(
                    "{what} did not come; heard last {:?}",
                    self.seen.iter().rev().take(40).map(|(t, v)| (t, &v["code"])).collect::<Vec<_>>()
                ),
            }
        }
    }

    pub fn event(&mut self, code: &str) -> Value {
        self.wait(code, Duration::from_secs(40), |t, v| t.contains("/event/") && v["code"] == code).1
    }
}

/// A running `metwatch serve`.
pub struct Served {
    pub peer: Peer,
    pub dicom: u16,
    pub folder: Folder,
}

impl Served {
    pub fn start(name: &str, broker: u16, quiet_s: u32, incomplete_s: u32) -> Served {
        Served::start_with(name, broker, quiet_s, incomplete_s, |_| String::new())
    }

    /// The same with more in its configuration.
    pub fn start_with(
        name: &str,
        broker: u16,
        quiet_s: u32,
        incomplete_s: u32,
        more: impl Fn(&Folder) -> String,
    ) -> Served {
        let (folder, dicom) = (Folder::new(name), free_port());
        let text = format!(
            "[store]\ndirectory = \"{0}\"\nresults_directory = \"{1}\"\n[dicom]\nlisten = \"127.0.0.1:{dicom}\"\nallow = [\"CT1\", \"STORESCU\"]\n\
             quiet_s = {quiet_s}\nincomplete_s = {incomplete_s}\n[alert]\nbroker = \"127.0.0.1:{broker}\"\nsite = \"test\"\nbox_id = \"{name}\"\nresend_s = 2\n\
             [clinical]\ndrop_directory = \"{2}\"\n[models]\nsegmenter = \"phantom\"\n",
            folder.text("store"),
            folder.text("results"),
            folder.text("clinical")
        );
        std::fs::create_dir_all(folder.join("clinical")).unwrap();
        std::fs::write(folder.join("metwatch.toml"), text + &more(&folder)).unwrap();
        let mut served = Served { peer: Peer(spawn(&folder)), dicom, folder };
        served.wait();
        served
    }

    fn wait(&mut self) {
        wait_for_port(self.dicom, "the service");
    }

    /// Kills it as the power would, and starts it again.
    pub fn kill_and_restart(&mut self) {
        self.kill();
        self.peer = Peer(spawn(&self.folder));
        self.wait();
    }

    /// Stops it in order (SIGTERM), and starts it again.
    pub fn stop_and_restart(&mut self) {
        // It listens before it hears signals.
        let log = || std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        let begun = |log: &str| log.matches("; demonstration, not for clinical use").count();
        let ready = |log: &str| log.matches("metwatch: DICOM on").count();
        while ready(&log()) < begun(&log()) {
            std::thread::sleep(Duration::from_millis(50));
        }
        std::thread::sleep(Duration::from_millis(500));
        let id = self.peer.0.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().expect("kill").success());
        assert!(self.peer.0.wait().expect("a child ends").success());
        self.peer = Peer(spawn(&self.folder));
        self.wait();
    }

    pub fn kill(&mut self) {
        self.peer.0.kill().expect("a child can be killed");
        self.peer.0.wait().expect("a child ends");
    }

    pub fn drop_clinical(&self, json: &str) {
        // A name of its own, so that a file which is not taken yet is not replaced.
        static FILES: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let n = FILES.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let part = self.folder.join(&format!("clinical/{n}.part"));
        std::fs::write(&part, json).unwrap();
        std::fs::rename(part, self.folder.join(&format!("clinical/{n}.json"))).unwrap();
    }
}

fn spawn(folder: &Folder) -> Child {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(folder.join("log")).unwrap();
    metwatch()
        .args(["serve", "--config", &folder.text("metwatch.toml")])
        .stderr(log)
        .stdout(Stdio::null())
        .spawn()
        .expect("the binary runs")
}

/// A small phantom as DICOM files: 96 x 96 x 60 voxels of 4 x 4 x 5 mm.
pub fn series(seed: u64, patient_id: &str) -> Vec<(String, Vec<u8>)> {
    let options = Options { size: [96, 96, 60], spacing_mm: [4.0, 4.0, 5.0], ..Options::new(seed) };
    let patient =
        PatientInfo { patient_id: patient_id.into(), name: "Phantom^Synthetic".into(), ..PatientInfo::default() };
    phantom_series(&generate(&options, &|_| ()).volume, &patient, seed)
}

pub fn write(folder: &Path, series: &[(String, Vec<u8>)]) -> PathBuf {
    std::fs::create_dir_all(folder).unwrap();
    for (name, bytes) in series {
        std::fs::write(folder.join(name), bytes).unwrap();
    }
    folder.to_path_buf()
}

pub fn storescu(port: u16, folder: &Path) {
    let mut command = Command::new("storescu");
    command.env("TCP_NODELAY", "1").args([
        "-aet",
        "STORESCU",
        "-aec",
        "METWATCH",
        "--scan-directories",
        "127.0.0.1",
        &port.to_string(),
    ]);
    let output = command.arg(folder).output().expect("dcmtk is installed by tests/run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn pynetdicom(port: u16, folder: &Path) {
    let script = "
import sys, pathlib, pydicom
from pynetdicom import AE
from pynetdicom.sop_class import CTImageStorage
ae = AE(ae_title='CT1'); ae.add_requested_context(CTImageStorage, '1.2.840.10008.1.2.1')
assoc = ae.associate('127.0.0.1', int(sys.argv[1]), ae_title='METWATCH')
assert assoc.is_established
for f in sorted(pathlib.Path(sys.argv[2]).iterdir()):
    assert assoc.send_c_store(pydicom.dcmread(f)).Status == 0
assoc.release()
";
    let python = std::env::var("METWATCH_TEST_PYTHON").unwrap_or(".venv/bin/python".into());
    let output = Command::new(python)
        .args(["-c", script, &port.to_string()])
        .arg(folder)
        .output()
        .expect("tests/run makes the venv");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Clinical values that make the risk of a phantom high.
pub fn high(patient_id: &str) -> String {
    format!(
        r#"{{"patient_id": "{patient_id}", "afp_ng_per_ml": 40, "dissected_lymph_nodes": 5, "perineural_invasion": true, "tumor_nodules": true}}"#
    )
}

#[test]
fn a_study_from_storescu_and_one_from_pynetdicom_reach_the_stations() {
    let port = free_port();
    let _broker = mosquitto(port);
    let mut heard = Heard::listen(port);
    let mut served = Served::start("line", port, 1, 5);
    let (_, status) = heard.wait("the birth message", Duration::from_secs(10), |t, _| t == "metwatch/test/line/status");
    assert_eq!(status["state"], "online");

    served.drop_clinical(&high("PAT-A"));
    storescu(served.dicom, &write(&served.folder.join("a"), &series(21, "PAT-A")));
    let (topic, alert) = heard.wait("the alert", Duration::from_secs(60), |t, _| t.contains("/alert/"));
    assert_eq!(alert["schema"], "metwatch.alert/1");
    assert_eq!((&alert["group"], &alert["status"]), (&Value::from("high"), &Value::from("final")));
    assert_eq!(alert["disclaimer"], "demonstration, not for clinical use");
    assert!(!alert.to_string().contains("PAT-A"), "no patient data unless the site says so");
    let (_, result) = heard.wait("the result", Duration::from_secs(10), |t, _| t.ends_with("/result/S000001"));
    assert_eq!(result["group"], "high");
    // Nobody acknowledged: the alert comes again with the same id, and ends with a station's answer.
    let (_, again) =
        heard.wait("the repetition", Duration::from_secs(10), |t, v| t == topic && v["attempt"] != alert["attempt"]);
    assert_eq!(again["alert_id"], alert["alert_id"]);
    let (code, _, stderr) =
        run(&["station", "--broker", &format!("127.0.0.1:{port}"), "--name", "ward3", "--ack", "auto", "--once"]);
    assert_eq!(code, 0, "{stderr}");
    let shown = wait_for_state(&served, "S000001", "delivered");
    assert_eq!(shown["state"]["name"], "delivered");

    // The second patient comes by pynetdicom; the laboratory is late, so the risk is provisional first and final later.
    pynetdicom(served.dicom, &write(&served.folder.join("b"), &series(22, "PAT-B")));
    let (_, result) = heard.wait("the second result", Duration::from_secs(60), |t, _| t.ends_with("/result/S000002"));
    assert_eq!(result["status"], "provisional");
    served.drop_clinical(&high("PAT-B"));
    let (_, result) = heard.wait("the final result", Duration::from_secs(30), |t, v| {
        t.ends_with("/result/S000002") && v["status"] == "final"
    });
    assert_eq!(result["variant"], "complete");
    let (code, text, stderr) = run(&["study", "list", "--config", &served.folder.text("metwatch.toml")]);
    assert_eq!(code, 0, "{stderr}");
    assert!(text.contains("S000001") && text.contains("S000002"), "{text}");

    // What is for a PACS is on disk before the announcement. All objects go onto a medium beside the running service.
    let config = served.folder.text("metwatch.toml");
    let medium = served.folder.text("medium");
    let export = ["study", "export", "s000001", "--config", &config, "--out", &medium];
    let (code, text, stderr) = run(&export);
    assert_eq!(code, 0, "{stderr}");
    assert!(text.contains(&format!("{} objects as received", series(21, "PAT-A").len())), "{text}");
    let (code, _, stderr) = run(&export);
    assert!(code == 1 && stderr.contains("export.exists"), "{stderr}");
    let script = r#"
import sys, glob, subprocess, pydicom
from pydicom.fileset import FileSet
results, medium, sent = sys.argv[1:]
expected = {pydicom.dcmread(f, stop_before_pixels=True).SOPInstanceUID for f in glob.glob(results + '/*.dcm') + glob.glob(sent + '/*')}
found = {i.SOPInstanceUID: i.path for i in FileSet(medium + '/DICOMDIR')}
assert set(found) == expected, (len(found), len(expected))
for path in list(found.values()) + [medium + '/DICOMDIR']:
    said = subprocess.run(['dciodvfy', path], capture_output=True, text=True).stderr
    assert not [l for l in said.splitlines() if l.startswith('Error')], (path, said)
print(*sorted({path.split('/')[-1][:2] for path in found.values()}))
"#;
    let folders = ["results/S000001", "medium", "a"].map(|name| served.folder.join(name));
    let python = std::env::var("METWATCH_TEST_PYTHON").unwrap_or(".venv/bin/python".into());
    let said = Command::new(python).args(["-c", script]).args(&folders).output().expect("tests/run makes the venv");
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    assert_eq!(String::from_utf8_lossy(&said.stdout).trim(), "CT PD SC SG SR");

    // SIGTERM: a goodbye, a clean end.
    let began = Instant::now();
    Command::new("kill").arg(served.peer.0.id().to_string()).status().unwrap();
    assert!(served.peer.0.wait().unwrap().success());
    assert!(began.elapsed() < Duration::from_secs(10));
    let (_, status) = heard.wait("the goodbye", Duration::from_secs(5), |t, v| {
        t == "metwatch/test/line/status" && v["state"] == "offline"
    });
    assert_eq!(status["reason"], "stopped");
    let (code, text, stderr) = run(&["audit", "verify", "--config", &served.folder.text("metwatch.toml")]);
    assert_eq!(code, 0, "{text}{stderr}");
    let log = std::fs::read_to_string(served.folder.join("log")).unwrap();
    assert!(!log.contains("PAT-A") && !log.contains("Phantom^Synthetic"), "no patient data in logs");
}

/// Waits for `study show --json` to tell a state.
pub fn wait_for_state(served: &Served, number: &str, state: &str) -> Value {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        let (_, text, _) = run(&["study", "show", number, "--config", &served.folder.text("metwatch.toml"), "--json"]);
        let shown: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
        if shown["state"]["name"] == state || Instant::now() > end {
            return shown;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn what_cannot_be_analysed_is_announced_with_its_reason() {
    let port = free_port();
    let _broker = mosquitto(port);
    let mut heard = Heard::listen(port);
    let served = Served::start("refuse", port, 1, 3);
    let send =
        |name: &str, files: &[(String, Vec<u8>)]| storescu(served.dicom, &write(&served.folder.join(name), files));

    let mut gap = series(31, "GAP");
    gap.remove(30);
    send("gap", &gap);
    let event = heard.event("series.missing-slice");
    assert_eq!(event["kind"], "not_analysed");
    assert!(event["study"].is_string() && !event["advice"].as_str().unwrap().is_empty());

    let short = series(32, "SHORT");
    send("short", &short[..10]);
    heard.event("series.too-few-slices");

    let (mut mixed, other) = (series(33, "ONE"), series(33, "TWO"));
    mixed.truncate(30);
    // The same series of another patient: its UIDs are those of the first, patched in the bytes.
    let uid = |bytes: &[u8]| metwatch::dicom::parse_header(bytes).unwrap().series_instance_uid.as_str().to_string();
    let (from, to) = (uid(&other[40].1), uid(&mixed[0].1));
    for (name, bytes) in &other[30..] {
        mixed.push((name.clone(), replace(bytes, &from, &to)));
    }
    send("mixed", &mixed);
    heard.event("series.mixed-patients");

    let mr = served.folder.join("mr");
    std::fs::create_dir_all(&mr).unwrap();
    std::fs::copy(reference("pydicom/MR_small.dcm"), mr.join("MR_small.dcm")).unwrap();
    storescu(served.dicom, &mr);
    heard.event("series.not-ct");
    assert_eq!(run(&["study", "list", "--config", &served.folder.text("metwatch.toml")]).0, 0);
}

/// Replaces a UID by another of equal or lower length, padded with NUL as DICOM pads UIDs.
fn replace(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    let mut padded = to.as_bytes().to_vec();
    assert!(padded.len() <= from.len() + from.len() % 2, "the new UID fits");
    padded.resize(from.len(), 0);
    let mut bytes = bytes.to_vec();
    let places: Vec<usize> =
        (0..bytes.len() - from.len()).filter(|k| bytes[*k..].starts_with(from.as_bytes())).collect();
    for k in places {
        bytes[k..k + from.len()].copy_from_slice(&padded);
    }
    bytes
}

#[test]
fn a_broker_that_is_away_costs_no_alert() {
    let port = free_port();
    let served = Served::start("away", port, 1, 5);
    served.drop_clinical(&high("PAT-C"));
    storescu(served.dicom, &write(&served.folder.join("c"), &series(23, "PAT-C")));
    wait_for_state(&served, "S000001", "scored");
    std::thread::sleep(Duration::from_secs(3));
    let _broker = mosquitto(port);
    let mut heard = Heard::listen(port);
    heard.wait("the alert", Duration::from_secs(60), |t, _| t.contains("/alert/"));
}

#[test]
fn the_demo_ends_with_an_alert() {
    let folder = Folder::new("demo");
    let (code, stdout, stderr) = run(&["demo", "--no-wait", "--dir", &folder.text("")]);
    assert_eq!(code, 0, "{stdout}{stderr}");
    for part in ["ALERT received", "HIGH risk", "NOT FOR CLINICAL USE", "results", "page"] {
        assert!(stdout.contains(part), "{part:?} is missing:\n{stdout}");
    }
    for name in ["result.json", "segmentation.dcm", "labels.nii.gz", "features.csv", "overlay_axial_tumor.png"] {
        assert!(folder.join("results/S000001").join(name).exists(), "{name}");
    }
}
