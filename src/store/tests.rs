//! Studies from the first object to the last message, and the starts in between.

use super::*;
use std::collections::BTreeMap;
use std::fs;

/// A folder of one test, removed at its end.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new(name: &str) -> Self {
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

fn object<'a>(series: &'a str, sop: &'a str, bytes: &'a [u8]) -> NewObject<'a> {
    NewObject {
        study_uid: "1.2.3",
        series_uid: series,
        sop_uid: sop,
        patient_id: "PAT-4711",
        accession: Some("ACC-9"),
        description: "abdomen",
        header_json: "{}",
        bytes,
    }
}

fn note() -> AuditNote {
    AuditNote::new("test", "test")
}

fn alert(id: &str) -> NewOutbox {
    let study = Some("S000001".to_string());
    NewOutbox {
        id: id.into(),
        kind: OutboxKind::Alert,
        topic: format!("alert/{id}"),
        payload: "{}".into(),
        study,
        expires_at_ms: None,
        file: None,
    }
}

#[test]
fn objects_make_studies() {
    let folder = Folder::new("objects");
    let (store, notices) = Store::open(&folder.0, 1).unwrap();
    assert_eq!(notices, []);
    let new = |study: &str| PutObject::New { study: study.into() };
    assert_eq!(store.put_object(&object("1.1", "1.1.1", b"a"), 10).unwrap(), new("S000001"));
    assert_eq!(store.put_object(&object("1.1", "1.1.2", b"b"), 20).unwrap(), new("S000001"));
    assert_eq!(store.put_object(&object("1.2", "1.2.1", b"c"), 30).unwrap(), new("S000002"));
    assert_eq!(
        store.put_object(&object("1.1", "1.1.1", b"a"), 40).unwrap(),
        PutObject::SameAgain { study: "S000001".into() }
    );
    assert_eq!(
        store.put_object(&object("1.1", "1.1.1", b"x"), 50).unwrap(),
        PutObject::Altered { study: "S000001".into() }
    );
    let study = store.study("S000001").unwrap().unwrap();
    assert_eq!((study.n_objects, study.revision, study.first_received_ms, study.last_received_ms), (2, 1, 10, 20));
    let mut bytes: Vec<_> =
        store.objects("S000001").unwrap().iter().map(|o| store.read_spool(&o.file).unwrap()).collect();
    bytes.sort();
    assert_eq!(bytes, [b"a", b"b"]);
    assert_eq!(store.studies().unwrap().len(), 2);
    // Two studies made, one object altered.
    assert_eq!(store.verify_audit().unwrap().n_entries, 3);
    let report = store.check().unwrap();
    assert!(report.is_sound());
    assert_eq!((report.n_studies, report.n_objects, report.spool_bytes, report.unnamed_files), (2, 3, 3, vec![]));
}

#[test]
fn no_patient_identifier_in_debug_or_status() {
    let folder = Folder::new("privacy");
    let (store, _) = Store::open(&folder.0, 1).unwrap();
    store.put_object(&object("1.1", "1.1.1", b"a"), 10).unwrap();
    store.put_clinical("PAT-4711", "{\"afp_ng_per_ml\":3}", "file", 11).unwrap();
    let study = store.study("S000001").unwrap().unwrap();
    let mut text =
        format!("{study:?} {:?} {:?}", store.objects("S000001").unwrap(), store.clinical("PAT-4711").unwrap());
    text += &fs::read_to_string(folder.0.join("status/S000001.json")).unwrap();
    text += &format!("{:?}", store.audit_entries().unwrap());
    assert!(!text.contains("4711") && !text.contains("ACC-9") && !text.contains("afp"), "{text}");
    assert_eq!(study.patient_id.as_str(), "PAT-4711");
}

#[test]
fn a_step_is_taken_once_and_survives_a_start() {
    let folder = Folder::new("steps");
    let (store, _) = Store::open(&folder.0, 1).unwrap();
    store.put_object(&object("1.1", "1.1.1", b"a"), 10).unwrap();
    let received = store.study("S000001").unwrap().unwrap();
    let assembled = store.transition(&received, &StudyChange::to(StateV1::Assembled), &[], &note(), 20).unwrap();
    let again = store.transition(&received, &StudyChange::to(StateV1::Assembled), &[], &note(), 21);
    assert!(matches!(again, Err(StoreError::StudyMoved { state: "assembled", revision: 1, .. })));

    let labels = store.write_spool("S000001", "labels.nii.gz", b"labels").unwrap();
    let large = format!("{{\"text\":\"{}\"}}", "x".repeat(40_000));
    let change = StudyChange {
        packages: Some(PackagesV1 { segmenter: "abdomen-phantom 0.1.0".into(), nomogram: String::new() }),
        artifacts: BTreeMap::from([("labels.nii.gz".to_string(), labels.clone())]),
        result_json: Some(large.clone()),
        ..StudyChange::to(StateV1::Scored)
    };
    let scored = store.transition(&assembled, &change, &[alert("a1")], &note(), 30).unwrap();
    let tried = StudyChange { attempts: Some(2), ..StudyChange::to(StateV1::Scored) };
    let tried = store.transition(&scored, &tried, &[], &note(), 31).unwrap();
    assert_eq!((tried.attempts, tried.result_json.as_ref()), (2, Some(&large)));
    drop(store);

    let (store, notices) = Store::open(&folder.0, 40).unwrap();
    assert_eq!(notices, []);
    assert_eq!(store.study("S000001").unwrap().unwrap(), tried);
    assert_eq!(store.outbox_open().unwrap().iter().map(|o| o.id.as_str()).collect::<Vec<_>>(), ["a1"]);
    assert_eq!(store.read_spool(&labels).unwrap(), b"labels");
    // Scored again with more values: the first result is history.
    let change = StudyChange { result_json: Some("{\"final\":true}".into()), ..StudyChange::to(StateV1::Scored) };
    let rescored = store.transition(&tried, &change, &[], &note(), 50).unwrap();
    assert_eq!(rescored.result_json.as_deref(), Some("{\"final\":true}"));
    assert_eq!(rescored.history[0].result_json.as_ref(), Some(&large));
    let status = read_status(&folder.0).unwrap();
    assert_eq!(
        (status[0].state.name(), status[0].result.clone()),
        ("scored", Some(serde_json::json!({"final": true})))
    );
    assert!(store.check().unwrap().is_sound());
}

#[test]
fn a_late_object_makes_the_next_revision_and_stops_the_old_one() {
    let folder = Folder::new("late");
    let (store, _) = Store::open(&folder.0, 1).unwrap();
    store.put_object(&object("1.1", "1.1.1", b"a"), 10).unwrap();
    let early = store.study("S000001").unwrap().unwrap();
    store.put_object(&object("1.1", "1.1.2", b"b"), 11).unwrap();
    let too_early = store.transition(&early, &StudyChange::to(StateV1::Assembled), &[], &note(), 12);
    assert!(matches!(too_early, Err(StoreError::StudyMoved { state: "receiving", .. })), "an object more is a change");
    let received = store.study("S000001").unwrap().unwrap();
    let scored = StudyChange { result_json: Some("{\"n\":2}".into()), ..StudyChange::to(StateV1::Scored) };
    let scored = store.transition(&received, &scored, &[], &note(), 13).unwrap();
    store.put_object(&object("1.1", "1.1.3", b"c"), 14).unwrap();
    let late = store.transition(&scored, &StudyChange::to(StateV1::Delivered), &[alert("x")], &note(), 15);
    assert!(matches!(late, Err(StoreError::StudyMoved { state: "receiving", revision: 2, .. })));
    assert!(store.outbox_open().unwrap().is_empty());
    let study = store.study("S000001").unwrap().unwrap();
    assert_eq!((study.revision, study.n_objects, study.result_json), (2, 3, None));
    assert_eq!((study.history[0].revision, study.history[0].result_json.as_deref()), (1, Some("{\"n\":2}")));
    assert!(store.check().unwrap().is_sound());
}

#[test]
fn clinical_values_keep_their_revisions() {
    let folder = Folder::new("clinical");
    let (store, _) = Store::open(&folder.0, 1).unwrap();
    assert_eq!(store.clinical("p").unwrap(), None);
    assert_eq!(store.put_clinical("p", "{\"a\":1}", "file", 1).unwrap(), 1);
    assert_eq!(store.put_clinical("p", "{\"a\":1}", "file", 2).unwrap(), 1);
    assert_eq!(store.put_clinical("p", "{\"a\":2}", "hl7", 3).unwrap(), 2);
    assert_eq!(store.put_clinical("q", "{\"a\":3}", "hl7", 4).unwrap(), 1);
    let newest = store.clinical("p").unwrap().unwrap();
    assert_eq!((newest.revision, newest.json.as_str(), newest.received_ms), (2, "{\"a\":2}", 3));
    assert!(store.check().is_ok());
}

#[test]
fn a_start_sweeps_leftovers_and_reports_what_is_missing() {
    let folder = Folder::new("sweep");
    let (store, _) = Store::open(&folder.0, 1).unwrap();
    store.put_object(&object("1.1", "1.1.1", b"a"), 10).unwrap();
    store.put_object(&object("1.1", "1.1.2", b"b"), 10).unwrap();
    let lost = store.objects("S000001").unwrap()[0].file.clone();
    let unnamed = store.write_spool("S000001", "labels.nii.gz", b"never named").unwrap();
    fs::write(folder.0.join("spool/S000001/x.dcm.0.part"), b"half").unwrap();
    fs::remove_file(folder.0.join(&lost.path)).unwrap();
    drop(store);
    let (store, notices) = Store::open(&folder.0, 2).unwrap();
    let missing = OpenNotice::FileMissing { study: "S000001".into(), path: lost.path.clone() };
    assert_eq!(notices, [missing, OpenNotice::LeftoversRemoved { n_files: 2 }]);
    assert!(!folder.0.join(&unnamed.path).exists());
    assert!(!store.check().unwrap().is_sound());
    // The sender repeats the series: the file is back.
    for (sop, bytes) in [("1.1.1", b"a"), ("1.1.2", b"b")] {
        assert!(matches!(store.put_object(&object("1.1", sop, bytes), 20).unwrap(), PutObject::SameAgain { .. }));
    }
    assert!(store.check().unwrap().is_sound());
}

#[test]
fn a_second_process_is_told_who_holds_the_store() {
    let folder = Folder::new("locked");
    let (store, _) = Store::open(&folder.0, 1).unwrap();
    assert!(matches!(Store::open(&folder.0, 1), Err(StoreError::Locked { .. })));
    assert!(matches!(Store::inspect(&folder.0), Err(StoreError::Locked { .. })));
    drop(store);
    assert!(Store::inspect(&folder.0).is_ok());
    assert!(Store::inspect(&folder.0.join("nowhere")).is_err());
}

#[test]
fn older_trees_below_newer_files_are_told_and_nothing_is_deleted() {
    let folder = Folder::new("rollback");
    let (store, _) = Store::open(&folder.0, 1).unwrap();
    store.put_object(&object("1.1", "1.1.1", b"a"), 10).unwrap();
    drop(store);
    let copy = Folder::new("rollback-copy");
    copy_folder(&folder.0.join("trees-000001"), &copy.0.join("trees-000001"));
    let (store, _) = Store::open(&folder.0, 2).unwrap();
    store.put_object(&object("1.2", "1.2.1", b"b"), 10).unwrap();
    let file = store.objects("S000002").unwrap()[0].file.clone();
    drop(store);
    fs::remove_dir_all(folder.0.join("trees-000001")).unwrap();
    copy_folder(&copy.0.join("trees-000001"), &folder.0.join("trees-000001"));
    let (store, notices) = Store::open(&folder.0, 0).unwrap();
    let to = folder.0.join("store.broken-19700101T000000Z");
    let lost = OpenNotice::ConfirmedLost { n_transactions: 1 };
    let rolled_back = OpenNotice::RolledBack { study: "S000002".into() };
    assert_eq!(notices, [lost, OpenNotice::UnnamedKept { to: to.clone(), n_files: 1 }, rolled_back]);
    assert_eq!(fs::read(to.join(file.path)).unwrap(), b"b");
    drop(store);
    assert_eq!(Store::open(&folder.0, 0).unwrap().1, []);
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
