//! A disk that loses its power or refuses: what was acknowledged is there afterwards, and what is not there was not acknowledged.
//!
//! The service runs on a disk of our own, `tests/peers/disk.c`, which keeps beside the real files what a cut of power would leave.

use crate::common::{Folder, metwatch};
use crate::line::{Heard, Peer, free_port, high, mosquitto, series, wait_for_port, write};
use metwatch::store::{OpenNotice, Store};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// `EIO` and `ENOSPC` of Linux.
const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// The service on a disk that can fail.
struct OnDisk {
    folder: Folder,
    dicom: u16,
    broker: u16,
    service: Peer,
}

impl OnDisk {
    fn start(name: &str, broker: u16) -> OnDisk {
        let folder = Folder::new(name);
        for made in ["shadow/files", "shadow/folders", "clinical"] {
            std::fs::create_dir_all(folder.join(made)).expect("writable");
        }
        let shim = folder.text("disk.so");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/disk.c");
        let options = ["-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o", &shim, source, "-ldl"];
        let compiled = Command::new("cc").args(options).status().expect("cc, which Rust links with, is there");
        assert!(compiled.success());
        let dicom = free_port();
        let service = Peer(spawn(&folder, "store", dicom, broker));
        wait_for_port(dicom, "the service");
        OnDisk { folder, dicom, broker, service }
    }

    /// The given calls fail from now on; none with an empty list.
    fn refuse(&self, faults: &[(&str, &str, i32)]) {
        let lines: String = faults.iter().map(|(call, part, error)| format!("{call} {part} {error}\n")).collect();
        let part = self.folder.join("faults.part");
        std::fs::write(&part, lines).expect("writable");
        std::fs::rename(part, self.folder.join("faults")).expect("writable");
    }

    /// What storescu says, in lower case.
    fn send(&self, files: &Path) -> String {
        let mut command = Command::new("storescu");
        command.args(["-v", "-aet", "CT1", "-aec", "METWATCH", "+sd", "127.0.0.1", &self.dicom.to_string()]).arg(files);
        let said = command.env("TCP_NODELAY", "1").output().expect("storescu (apt: dcmtk) is installed");
        let said = [said.stdout, said.stderr].concat();
        String::from_utf8_lossy(&said).to_lowercase()
    }

    /// The power goes: the service dies, and the store is what its disk kept. Returns the folder's name of that store.
    fn cut_power(&mut self) -> &'static str {
        self.service.0.kill().expect("a child can be killed");
        self.service.0.wait().expect("a child ends");
        let root = std::fs::metadata(self.folder.join("store")).expect("the store's folder");
        restore(&self.folder.join("shadow"), root.ino(), &self.folder.join("after"));
        "after"
    }

    fn restart(&mut self, store: &str) {
        self.dicom = free_port();
        self.service = Peer(spawn(&self.folder, store, self.dicom, self.broker));
        wait_for_port(self.dicom, "the service");
    }

    /// The service ends, and its store is opened: how many objects the first study has, and what the opening found.
    fn objects(&mut self, store: &str) -> (usize, Vec<&'static str>) {
        let _ = self.service.0.kill();
        let _ = self.service.0.wait();
        let (store, notices) = Store::open(&self.folder.join(store), 0).expect("the store opens");
        let found = notices.iter().map(OpenNotice::code).filter(|code| *code != "store.leftovers-removed").collect();
        (store.objects("S000001").expect("readable rows").len(), found)
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }
}

fn spawn(folder: &Folder, store: &str, dicom: u16, broker: u16) -> std::process::Child {
    let text = format!(
        "[store]\ndirectory = \"{}\"\n[dicom]\nlisten = \"127.0.0.1:{dicom}\"\nallow = [\"CT1\"]\nquiet_s = 2\nincomplete_s = 4\n\
         [alert]\nbroker = \"127.0.0.1:{broker}\"\nsite = \"test\"\nbox_id = \"power\"\n[clinical]\ndrop_directory = \"{}\"\n",
        folder.text(store),
        folder.text("clinical")
    );
    std::fs::write(folder.join("metwatch.toml"), text).expect("writable");
    let log = std::fs::OpenOptions::new().create(true).append(true).open(folder.join("log")).expect("writable");
    metwatch()
        .args(["serve", "--config", &folder.text("metwatch.toml")])
        .env("LD_PRELOAD", folder.text("disk.so"))
        .env("DISK_ROOT", folder.text("store"))
        .env("DISK_SHADOW", folder.text("shadow"))
        .env("DISK_FAULTS", folder.text("faults"))
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("the binary runs")
}

/// A folder as its disk kept it: the names that were synced, each with the bytes that were synced.
fn restore(shadow: &Path, inode: u64, to: &Path) {
    std::fs::create_dir_all(to).expect("writable");
    let names = std::fs::read_to_string(shadow.join(format!("folders/{inode}"))).unwrap_or_default();
    for line in names.lines() {
        let [child, kind, name] = line.splitn(3, ' ').collect::<Vec<_>>()[..] else { panic!("{line:?}") };
        let file = shadow.join(format!("files/{child}"));
        if kind == "d" {
            restore(shadow, child.parse().expect("an inode"), &to.join(name));
        } else if file.exists() {
            std::fs::copy(file, to.join(name)).expect("writable");
        } else {
            std::fs::write(to.join(name), "").expect("writable");
        }
    }
}

fn files(disk: &OnDisk, seed: u64, patient: &str) -> (PathBuf, usize) {
    let series = series(seed, patient);
    (write(&disk.folder.join("sent"), &series), series.len())
}

#[test]
fn what_was_acknowledged_survives_a_cut_of_power() {
    let port = free_port();
    let _broker = mosquitto(port);
    let mut heard = Heard::listen(port);
    let mut disk = OnDisk::start("power", port);
    let (sent, n) = files(&disk, 101, "POWER");
    let answer = disk.send(&sent);
    assert_eq!(answer.matches("(success)").count(), n, "{answer}");
    let after = disk.cut_power();
    assert_eq!(disk.objects(after), (n, Vec::new()));
    // The series is analysed without being sent again.
    std::fs::write(disk.folder.join("clinical/a.json"), high("POWER")).expect("writable");
    disk.restart(after);
    heard.wait("the alert", Duration::from_secs(120), |topic, _| topic.contains("/alert/"));
}

#[test]
fn a_disk_that_does_not_sync_or_rename_acknowledges_nothing() {
    let port = free_port();
    let _broker = mosquitto(port);
    let mut disk = OnDisk::start("disk-faults", port);
    let (sent, n) = files(&disk, 102, "FAULT");
    // An object's own file, its name, and a full disk at the renaming: refused, and nothing of it stays.
    for (fault, status) in [
        (("fsync", ".dcm", EIO), "0x110"),
        (("fsync", "/spool/S", ENOSPC), "outofresources"),
        (("rename", ".dcm", ENOSPC), "outofresources"),
    ] {
        disk.refuse(&[fault]);
        let answer = disk.send(&sent);
        assert!(answer.contains(status) && !answer.contains("success"), "{fault:?}: {answer}");
    }
    // Once the disk is well again the same series is taken.
    disk.refuse(&[]);
    assert_eq!(disk.send(&sent).matches("(success)").count(), n);
    assert_eq!(disk.objects("store"), (n, Vec::new()));
}

#[test]
fn after_a_failed_sync_of_its_log_the_store_promises_nothing_until_it_is_opened_again() {
    let port = free_port();
    let _broker = mosquitto(port);
    let mut disk = OnDisk::start("log-fault", port);
    let (sent, n) = files(&disk, 103, "LOG");
    disk.refuse(&[("fsync", "/trees-", EIO)]);
    let answer = disk.send(&sent);
    assert!(answer.contains("0x110") && !answer.contains("success"), "{answer}");
    // The disk says yes again, but Linux has dropped what it could not write.
    disk.refuse(&[]);
    let answer = disk.send(&sent);
    assert!(answer.contains("0x110") && !answer.contains("success"), "{answer}");
    assert!(disk.log().contains("store.unsure"), "{}", disk.log());
    let _ = disk.service.0.kill();
    let _ = disk.service.0.wait();
    disk.restart("store");
    assert_eq!(disk.send(&sent).matches("(success)").count(), n);
}
