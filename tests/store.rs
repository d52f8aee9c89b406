//! The store under SIGKILL, flipped bits, cut files and copies taken from a running process: nothing acknowledged is lost, no half
//! transaction, no panic, and damage is never a shorter list.
#![expect(clippy::disallowed_methods, reason = "tests damage and copy the store's folder and start a process to kill")]

use metwatch::Explain;
use metwatch::store::{
    AuditNote, NewObject, NewOutbox, OpenNotice, OutboxKind, OutboxState, StateV1, Store, StoreError, StudyChange,
    message_id,
};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// Set for the child of the kill tests: the store's directory.
const CHILD: &str = "METWATCH_STORE_TEST_CHILD";
const OBJECTS_PER_STUDY: u64 = 6;

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("metwatch-store-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Seeded numbers, printed by the tests that use them.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % n
    }
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, target) = (entry.as_ref().unwrap().path(), to.join(entry.as_ref().unwrap().file_name()));
        if path.is_dir() {
            copy_folder(&path, &target);
        } else {
            fs::copy(path, target).unwrap();
        }
    }
}

/// The bytes of object `i`: a person can tell them from its number.
fn bytes_of(i: u64) -> Vec<u8> {
    i.to_le_bytes().repeat(500 + (i % 7) as usize * 100)
}

fn put(store: &Store, i: u64) -> Result<String, StoreError> {
    let (series, sop, bytes) = (format!("1.2.{}", i / OBJECTS_PER_STUDY), format!("1.2.3.{i}"), bytes_of(i));
    let (series_uid, sop_uid) = (series.as_str(), sop.as_str());
    let new = NewObject {
        study_uid: "1",
        series_uid,
        sop_uid,
        patient_id: "P",
        accession: None,
        description: "",
        header_json: "{}",
        bytes: &bytes,
    };
    Ok(store.put_object(&new, i as i64)?.study().to_string())
}

/// Takes a study from where it is to scored, with an artifact, a result and an alert. Says each step once it is durable.
fn score(store: &Store, number: &str, say: &mut dyn FnMut(String)) -> Result<(), StoreError> {
    let Some(mut study) = store.study(number)? else { return Err(StoreError::NoSuchStudy { number: number.into() }) };
    let note = AuditNote::new("test", "step");
    if study.state == StateV1::Receiving {
        study = store.transition(&study, &StudyChange::to(StateV1::Assembled), &[], &note, 1)?;
        say(format!("step {number} {}", study.serial));
    }
    if study.state == StateV1::Assembled {
        let labels = store.write_spool(number, "labels.nii.gz", number.as_bytes())?;
        let change = StudyChange {
            artifacts: BTreeMap::from([("labels.nii.gz".to_string(), labels)]),
            result_json: Some(format!("{{\"study\":\"{number}\"}}")),
            ..StudyChange::to(StateV1::Scored)
        };
        let id = message_id(&["alert", number]);
        let study_number = Some(number.to_string());
        let topic = format!("alert/{id}");
        let alert = NewOutbox {
            id,
            kind: OutboxKind::Alert,
            topic,
            payload: "{}".into(),
            study: study_number,
            expires_at_ms: None,
            file: None,
        };
        study = store.transition(&study, &change, &[alert], &note, 2)?;
        say(format!("step {number} {}", study.serial));
    }
    let id = message_id(&["alert", number]);
    store.outbox_attempt(&id)?;
    if store.outbox_advance(&id, OutboxState::StationAcked { by: "ward".into(), at_ms: 3 }, &note, 3)? {
        say(format!("acknowledged {number}"));
    }
    Ok(())
}

/// Not a test by itself: what the kill tests run in a process of their own. Puts objects and takes studies on, two threads, and says
/// what is durable, one line each.
#[test]
fn child() {
    let Some(directory) = std::env::var_os(CHILD) else { return };
    let (store, notices) = Store::open(Path::new(&directory), 1).unwrap();
    let bad = notices.iter().find(|n| !matches!(n, OpenNotice::LeftoversRemoved { .. }));
    assert_eq!(bad, None);
    println!("\nopened");
    let first = store.studies().unwrap().iter().map(|s| u64::from(s.n_objects)).sum::<u64>();
    let (ready, to_score) = channel::<String>();
    let scorer = store.clone();
    std::thread::spawn(move || {
        let unfinished = scorer.studies().unwrap().into_iter().filter(|s| !s.state.is_final());
        let unfinished = unfinished.filter(|s| u64::from(s.n_objects) == OBJECTS_PER_STUDY).map(|s| s.number);
        for number in unfinished.collect::<Vec<_>>().into_iter().chain(to_score) {
            score(&scorer, &number, &mut |line| println!("{line}")).unwrap();
        }
    });
    for i in first.. {
        let number = put(&store, i).unwrap();
        println!("object {i} {number}");
        if i % OBJECTS_PER_STUDY == OBJECTS_PER_STUDY - 1 {
            ready.send(number).unwrap();
        }
    }
}

/// A child at work on a store, and the lines it says.
struct Worker(Child, Receiver<String>);

impl Worker {
    fn start(directory: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "store::child", "--nocapture", "--test-threads=1"])
            .env(CHILD, directory)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (line, lines) = channel();
        let output = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|l| line.send(l)));
        let worker = Worker(child, lines);
        while worker.1.recv_timeout(Duration::from_secs(60)).expect("the child opens the store") != "opened" {}
        worker
    }

    fn signal(&self, signal: &str) {
        assert!(Command::new("kill").args([signal, &self.0.id().to_string()]).status().unwrap().success());
    }

    /// SIGKILL; returns what was said before.
    fn kill(mut self) -> Vec<String> {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
        self.1.iter().collect()
    }
}

/// What a child promised, by its lines.
#[derive(Default)]
struct Promised {
    objects: BTreeMap<u64, String>,
    serials: BTreeMap<String, u64>,
    acknowledged: BTreeSet<String>,
}

impl Promised {
    fn hear(&mut self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            // A study's number has 7 characters; a line cut by the kill is no promise.
            ["object", i, number] if number.len() == 7 => drop(self.objects.insert(i.parse().unwrap(), number.into())),
            ["step", number, serial] => drop(self.serials.insert(number.into(), serial.parse().unwrap())),
            ["acknowledged", number] if number.len() == 7 => drop(self.acknowledged.insert(number.into())),
            _ => {}
        }
    }

    /// Every promise is kept, and no transaction is there by half.
    fn hold_against(&self, directory: &Path) {
        let (store, notices) = Store::open(directory, 1).unwrap();
        let bad = notices.iter().find(|n| !matches!(n, OpenNotice::LeftoversRemoved { .. }));
        assert_eq!(bad, None);
        let mut kept = BTreeMap::new();
        for study in store.studies().unwrap() {
            for object in store.objects(&study.number).unwrap() {
                let i: u64 = object.sop_uid.rsplit('.').next().unwrap().parse().unwrap();
                assert_eq!(store.read_spool(&object.file).unwrap(), bytes_of(i));
                kept.insert(i, study.number.clone());
            }
            let message = store.outbox_entry(&message_id(&["alert", &study.number])).unwrap();
            let scored = study.state == StateV1::Scored;
            assert_eq!((scored, scored), (message.is_some(), study.result_json.is_some()), "{study:?}");
            assert!(self.serials.get(&study.number).is_none_or(|serial| study.serial >= *serial));
            if self.acknowledged.contains(&study.number) {
                assert!(!message.unwrap().state.is_open());
            }
        }
        let lost: Vec<_> = self.objects.iter().filter(|(i, number)| kept.get(i) != Some(number)).collect();
        assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
        let report = store.check().unwrap();
        assert!(report.is_sound());
        assert!(report.audit.n_entries as usize >= self.acknowledged.len() + self.serials.len());
    }
}

#[test]
fn twenty_sigkills_lose_nothing_that_was_acknowledged() {
    let folder = Folder::new("kill");
    let mut random = Random(20261125);
    let mut promised = Promised::default();
    for _ in 0..20 {
        let worker = Worker::start(&folder.0);
        std::thread::sleep(Duration::from_millis(random.below(250)));
        worker.kill().iter().for_each(|line| promised.hear(line));
        promised.hold_against(&folder.0);
    }
    println!("{} objects, {} studies acknowledged by a station", promised.objects.len(), promised.acknowledged.len());
    assert!(promised.objects.len() > 100 && promised.acknowledged.len() > 5, "the child worked");
}

#[test]
fn a_copy_taken_from_a_running_store_opens_with_all_that_was_acknowledged() {
    let folder = Folder::new("image");
    let mut random = Random(7);
    let mut promised = Promised::default();
    let worker = Worker::start(&folder.0);
    for round in 0..6 {
        std::thread::sleep(Duration::from_millis(30 + random.below(150)));
        worker.signal("-STOP");
        // Lines said before the stop may still be on their way through the pipe: more time only makes the test stricter.
        std::thread::sleep(Duration::from_millis(20));
        worker.1.try_iter().for_each(|line| promised.hear(&line));
        let image = Folder::new(&format!("image-{round}"));
        copy_folder(&folder.0, &image.0);
        worker.signal("-CONT");
        promised.hold_against(&image.0);
    }
    worker.kill();
}

/// A store with some history, closed, and what it holds.
fn filled(directory: &Path, n_studies: u64) -> Contents {
    let (store, _) = Store::open(directory, 1).unwrap();
    for i in 0..n_studies * OBJECTS_PER_STUDY {
        let number = put(&store, i).unwrap();
        if i % OBJECTS_PER_STUDY == OBJECTS_PER_STUDY - 1 {
            score(&store, &number, &mut |_| ()).unwrap();
        }
    }
    store.put_clinical("P", "{\"afp_ng_per_ml\":4}", "file", 1).unwrap();
    Contents::of(&store).unwrap()
}

/// All that a caller can read.
#[derive(Debug, PartialEq)]
struct Contents {
    studies: Vec<metwatch::store::StudyV1>,
    objects: Vec<metwatch::store::ObjectV1>,
    audit: Vec<metwatch::store::AuditV1>,
    messages: usize,
    clinical: Option<metwatch::store::ClinicalV1>,
}

impl Contents {
    fn of(store: &Store) -> Result<Self, StoreError> {
        let studies = store.studies()?;
        let objects = studies.iter().map(|s| store.objects(&s.number)).collect::<Result<Vec<_>, _>>()?.concat();
        let (audit, messages) = (store.audit_entries()?, store.check()?.n_messages);
        Ok(Contents { studies, objects, audit, messages, clinical: store.clinical("P")? })
    }
}

/// How a damaged copy may end; anything else fails the test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    Whole,
    MovedAside,
    ToldAsOlder,
    Refused,
}

fn end_of(directory: &Path, whole: &Contents, damage: &str) -> End {
    match Store::open(directory, 1) {
        Err(error) => {
            assert_ne!(error.code(), "store.locked", "{damage}");
            End::Refused
        }
        Ok((store, notices)) if notices.iter().any(|n| matches!(n, OpenNotice::MovedAside { .. })) => {
            assert!(store.studies().unwrap().is_empty());
            // The new one works at once, and nothing of the old one was deleted.
            let number = put(&store, 0).unwrap();
            assert_eq!(number, format!("S{:06}", whole.studies.len() + 1), "a number is given once");
            let aside = notices
                .iter()
                .find_map(|n| if let OpenNotice::MovedAside { to, .. } = n { Some(to) } else { None })
                .unwrap();
            assert!(aside.join("trees-000001/db").exists());
            let n_files: usize = fs::read_dir(aside.join("spool"))
                .unwrap()
                .map(|d| fs::read_dir(d.unwrap().path()).unwrap().count())
                .sum();
            assert_eq!(n_files, whole.objects.len() + whole.studies.len(), "{damage}");
            End::MovedAside
        }
        Ok((store, notices)) if notices.iter().any(|n| matches!(n, OpenNotice::ConfirmedLost { .. })) => {
            assert!(Contents::of(&store).is_ok(), "{damage}");
            End::ToldAsOlder
        }
        Ok((store, notices)) => {
            assert!(Contents::of(&store).unwrap() == *whole, "{damage}: silently different, {notices:?}");
            End::Whole
        }
    }
}

/// The files of the trees, largest first: `db`, snapshots, `conf`.
fn tree_files(directory: &Path) -> Vec<PathBuf> {
    let entries =
        fs::read_dir(directory.join("trees-000001")).unwrap().map(|e| e.unwrap().path()).filter(|p| p.is_file());
    let mut files: Vec<_> = entries.filter(|p| fs::metadata(p).unwrap().len() > 0).collect();
    files.sort_by_key(|p| std::cmp::Reverse(fs::metadata(p).unwrap().len()));
    files
}

#[test]
fn flipped_bits_are_an_error_or_a_move_aside() {
    let folder = Folder::new("flips");
    let whole = filled(&folder.0, 60);
    let files = tree_files(&folder.0);
    let mut random = Random(42);
    let mut ends = BTreeMap::new();
    for round in 0..40 {
        let copy = Folder::new(&format!("flips-{round}"));
        copy_folder(&folder.0, &copy.0);
        let file = copy
            .0
            .join(files[if round % 8 == 7 { round / 8 % files.len() } else { 0 }].strip_prefix(&folder.0).unwrap());
        let mut bytes = fs::read(&file).unwrap();
        // Bytes in use: a file of sled is zeros for the most part.
        let used: Vec<usize> = (0..bytes.len()).filter(|i| bytes[*i] != 0).collect();
        let (at, bit) = (used[random.below(used.len() as u64) as usize], random.below(8));
        bytes[at] ^= 1 << bit;
        fs::write(&file, bytes).unwrap();
        let damage = format!("bit {bit} of byte {at} of {}", file.display());
        *ends.entry(end_of(&copy.0, &whole, &damage)).or_insert(0) += 1;
    }
    println!("40 flipped bits: {ends:?}");
}

#[test]
fn cut_files_are_an_error_or_a_move_aside() {
    let folder = Folder::new("cuts");
    let whole = filled(&folder.0, 10);
    let mut ends = BTreeMap::new();
    for file in tree_files(&folder.0) {
        for percent in [0, 1, 10, 25, 50, 75, 90, 99] {
            let copy = Folder::new(&format!("cuts-{percent}"));
            copy_folder(&folder.0, &copy.0);
            let file = copy.0.join(file.strip_prefix(&folder.0).unwrap());
            let length = fs::metadata(&file).unwrap().len() * percent / 100;
            fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(length).unwrap();
            let damage = format!("{} cut to {length} bytes", file.display());
            *ends.entry(end_of(&copy.0, &whole, &damage)).or_insert(0) += 1;
        }
    }
    println!("cut files: {ends:?}");
}

#[test]
fn objects_from_four_associations_at_once() {
    let folder = Folder::new("four");
    let (store, _) = Store::open(&folder.0, 1).unwrap();
    let start = Instant::now();
    let threads: Vec<_> = (0..4)
        .map(|t| {
            let store = store.clone();
            // Each thread brings its own 60 and the same 30 as the others.
            std::thread::spawn(move || {
                (t * 60..t * 60 + 60).chain(240..270).for_each(|i| drop(put(&store, i).unwrap()))
            })
        })
        .collect();
    threads.into_iter().for_each(|t| t.join().unwrap());
    println!("360 objects in {:?}", start.elapsed());
    let report = store.check().unwrap();
    assert_eq!((report.n_studies, report.n_objects, report.is_sound()), (45, 270, true));
    assert_eq!(report.unnamed_files, Vec::<String>::new());
}
