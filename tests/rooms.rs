//! The rooms and the arrows between them, held against the code (../shared/design/architecture.md).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Who may name whom. A new arrow is a new row here: a decision, not an accident.
const ROWS: &[(&str, &[&str])] = &[
    ("volume", &[]),
    ("segment", &["volume"]),
    ("radiomics", &["volume"]),
    ("risk", &[]),
    ("phantom", &["volume"]),
    ("statistics", &[]),
    ("cohort", &["risk", "statistics"]),
    ("store", &[]),
    ("dicom", &PURE_AND_STORE),
    ("clinical", &PURE_AND_STORE),
    ("alert", &PURE_AND_STORE),
    ("device", &PURE_AND_STORE),
    ("console", &PURE_AND_STORE),
    ("update", &PURE_AND_STORE),
    ("service", &["*"]),
    ("cli", &["*"]),
];
const PURE_AND_STORE: [&str; 8] =
    ["volume", "segment", "radiomics", "risk", "phantom", "statistics", "cohort", "store"];
const PURE: [&str; 7] = ["volume", "segment", "radiomics", "risk", "phantom", "statistics", "cohort"];

fn sources(folder: &Path, into: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).expect("src is readable") {
        let path = entry.expect("src is readable").path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|e| e == "rs") {
            let text = fs::read_to_string(&path).expect("sources are UTF-8");
            into.push((path.strip_prefix("src").expect("below src").display().to_string(), text));
        }
    }
}

/// The rooms that a source file names through `crate::room`, comments left out.
fn named(text: &str, rooms: &BTreeSet<&str>) -> BTreeSet<String> {
    let code = text.lines().map(|l| l.split("//").next().unwrap_or("")).collect::<Vec<_>>().join("\n");
    let mut found = BTreeSet::new();
    for part in code.split("crate::").skip(1) {
        let group = part.strip_prefix('{').and_then(|p| p.split('}').next());
        let names: Vec<&str> = group.map_or_else(|| vec![part], |g| g.split(',').map(str::trim).collect());
        for name in names {
            let word: String = name.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            if rooms.contains(word.as_str()) {
                found.insert(word);
            }
        }
    }
    found
}

#[test]
fn every_arrow_between_rooms_is_in_the_table() {
    let table: BTreeMap<&str, &[&str]> = ROWS.iter().copied().collect();
    let rooms: BTreeSet<&str> = table.keys().copied().collect();
    let mut files = Vec::new();
    sources(Path::new("src"), &mut files);
    let mut seen = BTreeSet::new();
    for (file, text) in &files {
        let room = file.split(['/', '.']).next().expect("a first part");
        if !file.contains('/') {
            continue; // lib.rs, main.rs, explain.rs
        }
        let allowed = table.get(room).unwrap_or_else(|| panic!("src/{room} is a room without a row in tests/rooms.rs"));
        seen.insert(room);
        for other in named(text, &rooms) {
            let fine = other == room || allowed.contains(&"*") || allowed.contains(&other.as_str());
            assert!(fine, "src/{file} names crate::{other}, which {room} may not");
        }
    }
    let empty: Vec<_> = rooms.iter().filter(|r| !seen.contains(*r)).collect();
    assert!(empty.is_empty(), "rooms in the table without a folder in src: {empty:?}");
}

#[test]
fn pure_rooms_use_no_runtime_store_or_clock() {
    let mut files = Vec::new();
    sources(Path::new("src"), &mut files);
    for (file, text) in &files {
        let room = file.split('/').next().expect("a first part");
        if !PURE.contains(&room) {
            continue;
        }
        for forbidden in
            ["tokio::", "sled::", "std::fs", "std::env", "std::net", "SystemTime", "Instant::now", "std::process"]
        {
            let used = text.lines().any(|l| l.split("//").next().unwrap_or("").contains(forbidden));
            assert!(!used, "src/{file} uses {forbidden}, but {room} is a pure room");
        }
    }
}

#[test]
fn every_room_opens_with_its_page() {
    for (room, _) in ROWS {
        let text =
            fs::read_to_string(format!("src/{room}/mod.rs")).unwrap_or_else(|_| panic!("src/{room}/mod.rs is missing"));
        assert!(text.starts_with("//!"), "src/{room}/mod.rs does not say what the room is for");
        assert!(text.contains("**Invariant:**"), "src/{room}/mod.rs does not name its invariant");
    }
}
