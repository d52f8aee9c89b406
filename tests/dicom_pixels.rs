//! Every file of pydicom's test data: what is decoded here equals what pydicom decodes, and the rest is refused with
//! its reason.

use crate::common::{Folder, metwatch, reference};
use crate::made::{Made, encapsulated};
use metwatch::Explain;
use metwatch::dicom::{Decoder, parse_object, stored_values};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where a decoder process runs, as in the shipped program.
pub fn apart() -> Decoder {
    Decoder::apart(Path::new(env!("CARGO_BIN_EXE_metwatch")))
}

/// What a file of the corpus gives here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// The gray values of every frame are pydicom's.
    Equal,
    /// Refused with this code.
    Refused(&'static str),
}
use Outcome::{Equal, Refused};

include!("data/pydicom_outcomes.rs");

/// pydicom's own gray values, as SHA-256 over 32-bit little endian numbers, frame after frame; JPEG 2000 and JPEG by
/// what pylibjpeg decodes. A file that pydicom cannot decode either has its error instead.
const SCRIPT: &str = r#"
import sys, pathlib, hashlib, warnings, numpy as np, pydicom
warnings.simplefilter('ignore')
for name in sys.stdin.read().split('\n'):
    try:
        d = pydicom.dcmread(name, force=True)
        if 'TransferSyntaxUID' not in d.file_meta:
            implicit, little = d.original_encoding
            d.file_meta.TransferSyntaxUID = '1.2.840.10008.1.2' if implicit else '1.2.840.10008.1.2.1'
        a = d.pixel_array
        assert d.SamplesPerPixel == 1
        bits, signed = int(d.BitsStored), int(d.PixelRepresentation)
        a = a.astype(np.int64) & ((1 << bits) - 1)
        if signed: a = np.where(a >= 1 << (bits - 1), a - (1 << bits), a)
        print(hashlib.sha256(a.astype('<i4').tobytes()).hexdigest())
    except Exception as e:
        print('error', type(e).__name__, str(e).replace('\n', ' ')[:150])
"#;

fn pydicom(files: &[PathBuf]) -> Vec<String> {
    use std::io::Write;
    let python = std::env::var("METWATCH_TEST_PYTHON").unwrap_or(".venv/bin/python".into());
    let mut child = Command::new(python)
        .args(["-c", SCRIPT])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("tests/run makes the venv");
    let names: Vec<String> = files.iter().map(|f| f.display().to_string()).collect();
    child.stdin.take().unwrap().write_all(names.join("\n").as_bytes()).unwrap();
    let out = child.wait_with_output().unwrap();
    assert!(out.status.success());
    String::from_utf8(out.stdout).unwrap().lines().map(str::to_owned).collect()
}

/// Gray values of all frames, hashed as by the script, or the code of the refusal.
fn ours(file: &Path, decoder: &Decoder) -> Result<String, &'static str> {
    let bytes = std::fs::read(file).unwrap();
    let object = parse_object(&bytes).map_err(|e| e.code())?;
    let mut hash = Sha256::new();
    for frame in 0..object.header.pixels.frames as usize {
        let values = stored_values(&object, frame, decoder).map_err(|e| e.code())?;
        values.iter().for_each(|v| hash.update(v.to_le_bytes()));
    }
    Ok(hash.finalize().iter().map(|b| format!("{b:02x}")).collect())
}

#[test]
fn every_file_of_pydicom_is_decoded_as_pydicom_does_or_refused_with_its_reason() {
    let mut files = Vec::new();
    for folder in ["pydicom", "pydicom_data"] {
        for entry in std::fs::read_dir(reference(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|e| e == "dcm") {
                files.push(path);
            }
        }
    }
    files.sort();
    let decoder = apart();
    let theirs = pydicom(&files);
    assert_eq!(theirs.len(), files.len());
    let table: BTreeMap<&str, Outcome> = OUTCOMES.iter().copied().collect();
    assert_eq!(table.len(), OUTCOMES.len(), "a file stands twice in the table");
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    for (file, theirs) in files.iter().zip(&theirs) {
        let name = file.file_name().unwrap().to_str().unwrap();
        seen.insert(name);
        let got = match ours(file, &decoder) {
            Ok(ours) if ours == *theirs => "Equal".to_string(),
            Ok(_) => format!("decoded, but pydicom says {theirs}"),
            Err(code) => format!("Refused({code:?})"),
        };
        let expected = table.get(name).map(|o| format!("{o:?}"));
        if expected.as_ref() != Some(&got) {
            wrong.push(format!(
                "(\"{name}\", {got}), // expected {}; pydicom {theirs}",
                expected.unwrap_or("nothing".into())
            ));
        }
    }
    assert!(wrong.is_empty(), "{} files:\n{}", wrong.len(), wrong.join("\n"));
    let missing: Vec<_> = table.keys().filter(|name| !seen.contains(*name)).collect();
    assert!(missing.is_empty(), "not in the shared data: {missing:?}");
}

/// Largest memory of a command and of its decoders, MiB; its exit code is not looked at.
fn peak_mb(args: &[&str]) -> f64 {
    let script = "import resource, subprocess, sys\nsubprocess.run(sys.argv[1:], capture_output=True)\n\
        print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)";
    let python = std::env::var("METWATCH_TEST_PYTHON").unwrap_or(".venv/bin/python".into());
    let out = Command::new(python).args(["-c", script, env!("CARGO_BIN_EXE_metwatch")]).args(args).output().unwrap();
    String::from_utf8_lossy(&out.stdout).trim().parse().expect("a number")
}

/// 40 CT slices of 300 squared, each with these pixels.
fn write_slices(folder: &Path, syntax: &'static str, pixels: Vec<u8>) {
    Made { syntax, size: 300, pixels: Some(pixels), ..Made::default() }.write(folder);
}

/// JPEG 2000 of `size` squared in tiles of `tile` squared with up to 38 bits, then nonsense.
fn j2k(size: u32, tile: u32, bits: u8) -> Vec<u8> {
    let mut siz = vec![0xFF, 0x4F, 0xFF, 0x51, 0, 41, 0, 0];
    [size, size, 0, 0, tile, tile, 0, 0].iter().for_each(|v| siz.extend(v.to_be_bytes()));
    siz.extend([0, 1, bits - 1, 1, 1]);
    // COD and QCD with 32 levels, a tile part that never ends.
    siz.extend([0xFF, 0x52, 0, 12, 0, 0, 0, 1, 0, 32, 4, 4, 0, 1]);
    siz.extend([0xFF, 0x5C, 0, 100, 0x40]);
    siz.extend([0x48; 97]);
    siz.extend([0xFF, 0x90, 0, 10, 0, 0, 0, 0, 0, 0, 0, 1, 0xFF, 0x93]);
    siz.resize(1400, 0x7F);
    siz
}

/// 1.5 KB that claim 3.9 GB, as native pixels and inside codestreams: less than 20 MB above a folder of nothing.
#[test]
fn bombs_of_some_kilobytes_cost_less_than_twenty_megabytes() {
    let folder = Folder::new("bombs");
    let nothing = folder.join("nothing");
    std::fs::create_dir_all(&nothing).unwrap();
    std::fs::write(nothing.join("1.dcm"), [0; 1500]).unwrap();
    let explain = |folder: &Path| peak_mb(&["series", "explain", folder.to_str().unwrap(), "--json"]);
    let base = explain(&nothing);
    let mut claim = vec![0xE0, 0x7F, 0x10, 0, b'O', b'W', 0, 0, 0, 0, 0, 0xF0];
    claim.extend([0; 900]);
    write_slices(&folder.join("claim"), "1.2.840.10008.1.2.1", claim);
    let bombs = [
        ("tiles", j2k(300, 1, 16)),
        ("bits", j2k(300, 300, 38)),
        ("levels", j2k(300, 64, 16)),
        ("size", j2k(0x7FFF_FFFF, 0x7FFF_FFFF, 16)),
    ];
    for (name, frame) in &bombs {
        write_slices(&folder.join(name), "1.2.840.10008.1.2.4.90", encapsulated(frame));
    }
    let mut costs = Vec::new();
    for name in ["claim", "tiles", "bits", "levels", "size"] {
        costs.push((name, explain(&folder.join(name)) - base));
    }
    assert!(costs.iter().all(|(_, mb)| *mb < 20.0), "MB above {base:.1}: {costs:?}");
    assert!(base > 1.0);
}

/// A codec that is killed or loops costs its slice, not the program: its reason is told.
#[test]
fn damaged_frames_are_not_analysed_with_a_reason() {
    let folder = Folder::new("damaged");
    for (name, syntax, frame) in [
        ("j2k", "1.2.840.10008.1.2.4.90", j2k(300, 300, 16)),
        ("jpeg", "1.2.840.10008.1.2.4.70", vec![0xFF; 1400]),
        ("rle", "1.2.840.10008.1.2.5", vec![2; 1400]),
    ] {
        write_slices(&folder.join(name), syntax, encapsulated(&frame));
        let out = metwatch().args(["analyze", &folder.text(name), "--out", &folder.text("out")]).output().unwrap();
        let stderr = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(1), "{name}: {stderr}");
        assert!(stderr.contains("series.decode"), "{name}: {stderr}");
    }
}
