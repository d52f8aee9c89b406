//! The unit against systemd's own tools, and the service against systemd's protocol.

use crate::common::{Folder, metwatch};
use crate::line::{free_port, series, storescu, wait_for_port, write};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Out of 100; `systemd-analyze security` calls a plain service 96.
const EXPOSURE_MAX: &str = "15";

fn analyze(args: &[&str], unit: &Path) -> (bool, String) {
    let output = Command::new("systemd-analyze").args(args).arg(unit).output().expect("tests/run installs systemd");
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn systemd_finds_nothing_to_say_against_the_unit() {
    let folder = Folder::new("systemd");
    let unit = std::fs::read_to_string("systemd/metwatch.service").unwrap();
    let binary = env!("CARGO_BIN_EXE_metwatch");
    let copy = folder.join("metwatch.service");
    // `verify` wants the program to be there; the GPU's drop-in is verified with the unit.
    std::fs::write(&copy, unit.replace("/usr/bin/metwatch", binary)).unwrap();
    let (fine, said) = analyze(&["verify"], &copy);
    assert!(fine && said.is_empty(), "{said}");
    let (fine, said) = analyze(&["security", "--offline=true", "--threshold", EXPOSURE_MAX], &copy);
    assert!(fine, "{said}");
    let drop_in = folder.join("metwatch.service.d");
    std::fs::create_dir(&drop_in).unwrap();
    std::fs::copy("systemd/metwatch-gpu.conf", drop_in.join("gpu.conf")).unwrap();
    let (fine, said) = analyze(&["verify"], &copy);
    assert!(fine && said.is_empty(), "{said}");
    // A misspelt directive would be told.
    std::fs::write(&copy, unit.replace("/usr/bin/metwatch", binary).replace("ProtectHome", "ProtectHouse")).unwrap();
    assert!(analyze(&["verify"], &copy).1.contains("ProtectHouse"));
}

#[test]
fn systemd_finds_nothing_to_say_against_the_update_timer() {
    let folder = Folder::new("systemd-update");
    let unit = std::fs::read_to_string("systemd/metwatch-update.service").unwrap();
    let service = folder.join("metwatch-update.service");
    std::fs::write(&service, unit.replace("/usr/bin/metwatch", env!("CARGO_BIN_EXE_metwatch"))).unwrap();
    let timer = folder.join("metwatch-update.timer");
    std::fs::copy("systemd/metwatch-update.timer", &timer).unwrap();
    for file in [&service, &timer] {
        let (fine, said) = analyze(&["verify"], file);
        assert!(fine && said.is_empty(), "{said}");
    }
    let (fine, said) = analyze(&["security", "--offline=true", "--threshold", EXPOSURE_MAX], &service);
    assert!(fine, "{said}");
}

/// Messages of the service until one of them holds `what`.
fn told(socket: &UnixDatagram, what: &str) -> String {
    let mut buffer = [0; 4096];
    let end = Instant::now() + Duration::from_secs(60);
    while Instant::now() < end {
        let Ok(n) = socket.recv(&mut buffer) else { continue };
        let text = String::from_utf8_lossy(&buffer[..n]).into_owned();
        if text.contains(what) {
            return text;
        }
    }
    panic!("the service never said {what}");
}

#[test]
fn the_service_tells_systemd_and_stops_within_its_time_with_a_study_in_flight() {
    let folder = Folder::new("systemd-notify");
    let socket = UnixDatagram::bind(folder.join("notify")).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let dicom = free_port();
    let config = format!(
        "[store]\ndirectory = \"{}\"\n[models]\nsegmenter = \"phantom\"\n[dicom]\nlisten = \"127.0.0.1:{dicom}\"\nallow = [\"STORESCU\"]\nquiet_s = 1\n\
         incomplete_s = 5\n[alert]\nsite = \"test\"\nbox_id = \"systemd\"\nembedded_port = 0\n",
        folder.text("store")
    );
    std::fs::write(folder.join("metwatch.toml"), config).unwrap();
    let mut child = metwatch()
        .args(["serve", "--config", &folder.text("metwatch.toml")])
        .env("NOTIFY_SOCKET", folder.join("notify"))
        .env("WATCHDOG_USEC", "60000000")
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // Each step of the start says how long it may take, so that a long one is not killed and a hanging one is.
    assert!(told(&socket, "EXTEND_TIMEOUT_USEC=").contains("STATUS=starting: "));
    told(&socket, "READY=1");
    told(&socket, "WATCHDOG=1");
    wait_for_port(dicom, "the service");
    storescu(dicom, &write(&folder.join("dicom"), &series(41, "PAT-S")));
    std::thread::sleep(Duration::from_millis(1500)); // the quiet second is over, the study in work
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
    told(&socket, "STOPPING=1");
    let end = Instant::now() + Duration::from_secs(30);
    let status = loop {
        match child.try_wait().unwrap() {
            Some(status) => break status,
            None if Instant::now() > end => panic!("it does not stop"),
            None => std::thread::sleep(Duration::from_millis(50)),
        }
    };
    assert!(status.success(), "{status}");
}
