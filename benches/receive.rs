//! Receiving CT by C-STORE beside DCMTK's storescp and Orthanc: `cargo bench --bench receive`.
//!
//! 300 slices of 512 x 512 by storescu (DCMTK, TCP_NODELAY on all sides) to each receiver in turn, five rounds; then 50 associations at
//! once to ours, with the memory over idle. Orthanc is measured where it is installed.
#![allow(clippy::disallowed_methods, reason = "a benchmark starts processes and reads files and the clock")]

use metwatch::device;
use metwatch::dicom::{self, PatientInfo, Target};
use metwatch::volume::{Geometry, Volume};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const ROUNDS: usize = 5;
const SLICES: usize = 300;
const SENDERS: usize = 50;

fn main() {
    println!("machine: {}", device::survey().summary());
    let folder = std::env::temp_dir().join(format!("metwatch-receive-{}", std::process::id()));
    let sent = folder.join("sent");
    std::fs::create_dir_all(&sent).expect("the temporary folder is writable");
    let megabytes = write_slices(&sent);
    println!("{SLICES} slices, {megabytes:.0} MB; one storescu after the other, in turn");
    let mut receivers = vec![ours(&folder, "object"), ours(&folder, "association"), storescp(&folder)];
    receivers.extend(orthanc(&folder));
    for round in 0..ROUNDS {
        for receiver in &mut receivers {
            let began = Instant::now();
            let status = Command::new("storescu")
                .env("TCP_NODELAY", "1")
                .args(["-aet", "CT1", "-aec", receiver.title, "+sd", "127.0.0.1", &receiver.port.to_string()])
                .arg(slices_of_round(&sent, round))
                .status()
                .expect("storescu (apt: dcmtk) is installed");
            assert!(status.success(), "{}", receiver.name);
            receiver.rates.push(megabytes / began.elapsed().as_secs_f64());
        }
    }
    for receiver in &mut receivers {
        receiver.rates.sort_by(f64::total_cmp);
        let (least, median, most) = (receiver.rates[0], receiver.rates[ROUNDS / 2], receiver.rates[ROUNDS - 1]);
        println!("{:<44} {median:>5.0} MB/s (from {least:.0} to {most:.0})", receiver.name);
    }
    many_at_once(&folder, &sent);
    drop(receivers);
    let _ = std::fs::remove_dir_all(&folder);
}

/// 50 senders of 12 slices each.
fn many_at_once(folder: &Path, sent: &Path) {
    let receiver = ours(&folder.join("many"), "object");
    let files: Vec<Vec<u8>> =
        files(&slices_of_round(sent, 0)).iter().map(|f| std::fs::read(f).expect("readable")).collect();
    let target = Target {
        ae_title: receiver.title.parse().expect("a title"),
        host: "127.0.0.1".into(),
        port: receiver.port,
        calling_ae: "CT1".parse().expect("a title"),
        tls: None,
    };
    let memory = |key: &str| {
        let status = std::fs::read_to_string(format!("/proc/{}/status", receiver.process.0.id())).expect("a process");
        let line = status.lines().find_map(|l| l.strip_prefix(key)).expect("a key of /proc/pid/status");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") >> 10
    };
    // The peak counts from here on.
    std::fs::write(format!("/proc/{}/clear_refs", receiver.process.0.id()), "5").expect("its own child");
    let idle = memory("VmRSS:");
    let (began, per_sender) = (Instant::now(), 12);
    let stored: usize = std::thread::scope(|scope| {
        let send = |k: usize| {
            let (files, target) = (&files, &target);
            move || {
                // Pieces of the series that overlap: the same object from several senders is stored once.
                let load = |i: usize| Ok(files[(k * 6 + i) % files.len()].clone());
                let sent = dicom::send(per_sender, &load, target, &mut |_, _| ()).expect("an association");
                sent.iter().filter(|d| d.is_stored()).count()
            }
        };
        let threads: Vec<_> = (0..SENDERS).map(|k| scope.spawn(send(k))).collect();
        threads.into_iter().map(|t| t.join().expect("a sender")).sum()
    });
    assert_eq!(stored, SENDERS * per_sender);
    println!(
        "{SENDERS} associations at once, {per_sender} slices each: all stored in {:.1} s; memory {idle} MiB idle, {} MiB more at the peak",
        began.elapsed().as_secs_f64(),
        memory("VmHWM:").saturating_sub(idle)
    );
}

struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Receiver {
    name: &'static str,
    title: &'static str,
    port: u16,
    process: Process,
    rates: Vec<f64>,
}

fn start(name: &'static str, title: &'static str, port: u16, command: &mut Command) -> Receiver {
    let quiet = command.env("TCP_NODELAY", "1").stdout(Stdio::null()).stderr(Stdio::null());
    let process = Process(quiet.spawn().unwrap_or_else(|e| panic!("{name}: {e}")));
    let end = Instant::now() + Duration::from_secs(30);
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < end, "{name} does not listen");
        std::thread::sleep(Duration::from_millis(20));
    }
    Receiver { name, title, port, process, rates: Vec::new() }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").expect("loopback has a free port").local_addr().expect("an address").port()
}

/// The service; its series never count as complete, so that nothing is computed meanwhile.
fn ours(folder: &Path, durability: &'static str) -> Receiver {
    let (folder, port) = (folder.join(durability), free_port());
    std::fs::create_dir_all(&folder).expect("writable");
    let config = folder.join("metwatch.toml");
    let text = format!(
        "[store]\ndirectory = \"{}\"\n[alert]\nembedded_port = 0\n[dicom]\nlisten = \"127.0.0.1:{port}\"\nallow = [\"CT1\"]\n\
         durability = \"{durability}\"\nquiet_s = 100000\nincomplete_s = 100000\n",
        folder.join("store").display()
    );
    std::fs::write(&config, text).expect("writable");
    let name =
        if durability == "object" { "metwatch, each object synced" } else { "metwatch, one sync per association" };
    let mut command = Command::new(env!("CARGO_BIN_EXE_metwatch"));
    start(name, "METWATCH", port, command.args(["serve", "--config"]).arg(config))
}

fn storescp(folder: &Path) -> Receiver {
    let (folder, port) = (folder.join("storescp"), free_port());
    std::fs::create_dir_all(&folder).expect("writable");
    let mut command = Command::new("storescp");
    start("DCMTK storescp, syncs nothing", "STORESCP", port, command.arg("-od").arg(folder).arg(port.to_string()))
}

fn orthanc(folder: &Path) -> Option<Receiver> {
    let path = ["/usr/sbin/Orthanc", "/usr/bin/Orthanc"].into_iter().find(|p| Path::new(p).exists())?;
    let (folder, port) = (folder.join("orthanc"), free_port());
    std::fs::create_dir_all(&folder).expect("writable");
    let text = format!(
        "{{\"StorageDirectory\": \"{0}\", \"IndexDirectory\": \"{0}\", \"DicomAet\": \"ORTHANC\", \"DicomPort\": {port}, \"HttpServerEnabled\": false, \
         \"DicomAlwaysAllowStore\": true, \"OverwriteInstances\": true}}",
        folder.display()
    );
    let config = folder.join("orthanc.json");
    std::fs::write(&config, text).expect("writable");
    Some(start("Orthanc, its default (each object synced)", "ORTHANC", port, Command::new(path).arg(config)))
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(folder).expect("readable").map(|e| e.expect("readable").path()).collect();
    files.sort();
    files
}

fn slices_of_round(folder: &Path, round: usize) -> PathBuf {
    folder.join(format!("round{round}"))
}

/// A series of its own for each round; the megabytes of one.
fn write_slices(folder: &Path) -> f64 {
    let geometry = Geometry {
        size: [512, 512, SLICES],
        spacing_mm: [0.8, 0.8, 1.0],
        origin_mm: [0.0; 3],
        direction: Geometry::IDENTITY,
    };
    // Noise by a multiplicative hash, so that no file system or network compresses it away.
    let noise =
        |(k, j, i): (usize, usize, usize)| ((k * 512 * 512 + j * 512 + i) as u32).wrapping_mul(2_654_435_761) >> 21;
    let hu = ndarray::Array3::from_shape_fn((SLICES, 512, 512), |at| noise(at) as f32 - 1024.0);
    let volume = Volume { hu, geometry };
    let mut bytes = 0;
    for round in 0..ROUNDS {
        let patient = PatientInfo { patient_id: format!("BENCH{round}"), ..PatientInfo::default() };
        std::fs::create_dir_all(slices_of_round(folder, round)).expect("writable");
        bytes = 0;
        for (name, object) in dicom::phantom_series(&volume, &patient, round as u64 + 1) {
            bytes += object.len();
            std::fs::write(slices_of_round(folder, round).join(name), object).expect("writable");
        }
    }
    bytes as f64 / 1e6
}
