//! SIGKILL at random moments under load: no acknowledged object and no alert is lost.

use crate::line::{Heard, Served, free_port, high, mosquitto, series, storescu, write};
use metwatch::dicom::{self, AeTitle, Target};
use metwatch::store::{AuditNote, StateV1, Store, StudyChange};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// As many as the issue asks for.
const KILLS: u32 = 50;

#[test]
fn fifty_kills_lose_no_object_and_no_alert() {
    let port = free_port();
    let _broker = mosquitto(port);
    let mut heard = Heard::listen(port);
    let mut served = Served::start("crash", port, 1, 4);
    let title = |t: &str| t.parse::<AeTitle>().expect("a title");
    let target = |port| Target {
        ae_title: title("METWATCH"),
        host: "127.0.0.1".into(),
        port,
        calling_ae: title("CT1"),
        tls: None,
    };
    // A fixed sequence of moments (xorshift): a failure can be run again.
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    let mut random = |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    let mut patients = 0;
    let mut kills = 0;
    while kills < KILLS {
        patients += 1;
        let id = format!("K{patients}");
        served.drop_clinical(&format!(
            r#"{{"patient_id": "{id}", "afp_ng_per_ml": 40, "dissected_lymph_nodes": 5, "perineural_invasion": true, "tumor_nodules": true}}"#
        ));
        let mut left = series(100 + patients, &id);
        // A scanner sends what was not acknowledged again until all of it is.
        while !left.is_empty() {
            let port = served.dicom;
            let batch = left.clone();
            let to = target(port);
            let sending = std::thread::spawn(move || {
                let load = |k: usize| Ok(batch[k].1.clone());
                let mut stored = BTreeSet::new();
                let mut at = 0;
                let sent = dicom::send(batch.len(), &load, &to, &mut |_, delivery| {
                    if delivery.is_stored() {
                        stored.insert(at);
                    }
                    at += 1;
                });
                drop(sent);
                stored
            });
            if kills < KILLS && random(3) > 0 {
                std::thread::sleep(Duration::from_millis(random(120)));
                served.kill_and_restart();
                kills += 1;
            }
            let stored = sending.join().expect("the sender does not panic");
            left = left.into_iter().enumerate().filter(|(k, _)| !stored.contains(k)).map(|(_, file)| file).collect();
        }
        // And at random moments of the computation and the delivery.
        for _ in 0..random(4) {
            if kills < KILLS {
                std::thread::sleep(Duration::from_millis(500 + random(1500)));
                served.kill_and_restart();
                kills += 1;
            }
        }
    }
    let mut studies = BTreeSet::new();
    // Long, for a machine that computes each study in ten times the usual time; a study that is given up fails at once.
    let end = Instant::now() + Duration::from_secs(900);
    while studies.len() < patients as usize {
        let left = end.saturating_duration_since(Instant::now());
        assert!(!left.is_zero(), "{} of {patients} alerts came", studies.len());
        let (_, alert) = heard.wait("an alert for each patient", left, |t, v| {
            assert_ne!(v["code"], "service.step-failed", "a study was given up because the process was killed");
            t.contains("/alert/") && !studies.contains(&v["study"].to_string())
        });
        studies.insert(alert["study"].to_string());
    }
    served.kill();
    let store = metwatch::store::Store::inspect(&served.folder.join("store")).expect("the store opens");
    let mut objects = 0;
    for study in store.studies().expect("readable") {
        let n = store.objects(&study.number).expect("readable").len();
        assert_eq!(n, 60, "study {} lacks acknowledged objects", study.number);
        objects += n;
    }
    assert!(store.check().expect("readable").is_sound());
    store.verify_audit().expect("the audit chain holds");
    println!("{kills} kills, {patients} patients, {objects} objects, {} alerts: nothing lost", studies.len());
}

#[test]
fn a_study_that_ends_the_process_again_and_again_is_given_up_and_told() {
    let port = free_port();
    let _broker = mosquitto(port);
    let mut heard = Heard::listen(port);
    let mut served = Served::start("poison", port, 3, 6);
    storescu(served.dicom, &write(&served.folder.join("a"), &series(31, "POISON")));
    served.kill();
    // What a codec that aborts would have left: twenty beginnings without an end.
    let (store, _) = Store::open(&served.folder.join("store"), 0).expect("the store opens");
    let study = store.studies().expect("readable").remove(0);
    assert_eq!(study.state, StateV1::Receiving, "it is still arriving");
    let change = StudyChange { attempts: Some(20), ..StudyChange::to(StateV1::Receiving) };
    store.transition(&study, &change, &[], &AuditNote::new("test", "study.begun"), 0).expect("writable");
    drop(store);
    served.kill_and_restart();
    assert_eq!(heard.event("service.step-failed")["study"], "S000001");
    // The next one is computed all the same.
    served.drop_clinical(&high("PAT-A"));
    storescu(served.dicom, &write(&served.folder.join("b"), &series(21, "PAT-A")));
    heard.wait("the result", Duration::from_secs(60), |t, _| t.ends_with("/result/S000002"));
}
