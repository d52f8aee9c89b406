//! DICOM beside pydicom, in alternating runs: `cargo bench --bench dicom`. METWATCH_TEST_PYTHON names a Python with
//! pydicom and pylibjpeg-openjpeg (tests/requirements.txt).
//!
//! 1. Headers and verdict of 1000 CT slices (25 copies of CRLM-CT-1004 as series of their own, in the page cache).
//! 2. 300 JPEG 2000 slices of 512 x 512 (the 20 of TotalSegmentator's example, 15 times) to Hounsfield units, decoder
//!    processes included; pydicom decodes them by OpenJPEG.
#![allow(clippy::disallowed_methods, reason = "a benchmark reads files and the clock")]

use metwatch::dicom::{self, Decoder, SeriesRules, assemble_volume, judge_series, plan_series, scan_headers};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

const RUNS: usize = 5;

fn data(path: &str) -> PathBuf {
    std::env::var_os("METWATCH_TEST_DATA").map_or("../shared/data".into(), PathBuf::from).join(path)
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut files: Vec<PathBuf> = entries.map(|e| e.expect("readable").path()).filter(|p| p.is_file()).collect();
    files.sort();
    files
}

/// Seconds that a Python script measures around its own work; starting Python is not in them.
fn python(script: &str, folder: &Path) -> f64 {
    let python = std::env::var("METWATCH_TEST_PYTHON").unwrap_or(".venv/bin/python".into());
    let out = Command::new(python).args(["-c", script]).arg(folder).output().expect("Python with pydicom");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).trim().parse().expect("seconds")
}

/// Alternating runs: the median of each side, printed with the quotient.
fn compare(what: &str, mut ours: impl FnMut() -> f64, mut theirs: impl FnMut() -> f64) {
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..RUNS {
        times[0].push(ours());
        times[1].push(theirs());
    }
    times.iter_mut().for_each(|t| t.sort_by(f64::total_cmp));
    let [ours, theirs] = times.each_ref().map(|t| t[RUNS / 2]);
    println!("{what}: {ours:.3} s, pydicom {theirs:.3} s, {:.1} x (medians of {RUNS}; all {times:.3?})", theirs / ours);
}

const HEADERS: &str = "
import sys, time, pathlib, pydicom
files = sorted(pathlib.Path(sys.argv[1]).iterdir())
began = time.perf_counter()
series = {}
for f in files:
    d = pydicom.dcmread(f, stop_before_pixels=True)
    series.setdefault(d.SeriesInstanceUID, []).append((float(d.ImagePositionPatient[2]), d))
for s in series.values():
    s.sort(key=lambda p: p[0])
    gaps = [b[0] - a[0] for a, b in zip(s, s[1:])]
    assert max(gaps) - min(gaps) < 0.01 and len({d.PatientID for _, d in s}) == 1
print(time.perf_counter() - began)
";

const VOLUME: &str = "
import sys, time, pathlib, numpy as np, pydicom
files = sorted(pathlib.Path(sys.argv[1]).iterdir())
began = time.perf_counter()
volume = np.zeros((300, 512, 512), np.float32)
for k in range(300):
    d = pydicom.dcmread(files[k % len(files)])
    volume[k] = d.pixel_array * float(d.RescaleSlope) + float(d.RescaleIntercept)
print(time.perf_counter() - began)
";

fn main() {
    println!("machine: {}", metwatch::device::survey().summary());
    headers();
    volume();
}

fn headers() {
    let folder = std::env::temp_dir().join(format!("metwatch-bench-headers-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("the temporary folder is writable");
    let slices = files(&data("crlm_ct/CRLM-CT-1004"));
    for copy in 0..25 {
        for (k, file) in slices.iter().enumerate().take(40) {
            let mut bytes = std::fs::read(file).expect("readable");
            // Series and objects of their own: two digits of their UIDs count. An object that comes twice would be hashed.
            let header = dicom::parse_header(&bytes).expect("DICOM");
            for (uid, from_end) in [(&header.series_instance_uid, 2), (&header.sop_instance_uid, 8)] {
                let name = uid.as_str().as_bytes();
                let places: Vec<usize> =
                    bytes.windows(name.len()).enumerate().filter(|(_, w)| *w == name).map(|(at, _)| at).collect();
                assert!(!places.is_empty(), "the UID stands in the file");
                for at in places {
                    let digits = at + name.len() - from_end;
                    bytes[digits..digits + 2].copy_from_slice(format!("{copy:02}").as_bytes());
                }
            }
            std::fs::write(folder.join(format!("{copy:02}-{k:02}.dcm")), bytes).expect("writable");
        }
    }
    let all = files(&folder);
    let ours = || {
        let began = Instant::now();
        let mut series: BTreeMap<String, Vec<dicom::Header>> = BTreeMap::new();
        for header in scan_headers(&all).into_iter().flatten() {
            series.entry(header.series_instance_uid.as_str().to_owned()).or_default().push(header);
        }
        let rules = SeriesRules::default();
        assert!(series.len() == 25 && series.values().all(|headers| judge_series(headers, &rules).plan.is_ok()));
        began.elapsed().as_secs_f64()
    };
    compare(&format!("headers and verdict of {} files", all.len()), ours, || python(HEADERS, &folder));
    let _ = std::fs::remove_dir_all(&folder);
}

fn volume() {
    let folder = data("totalsegmentator/example_ct_dicom");
    let slices = files(&folder);
    let headers: Vec<_> = scan_headers(&slices).into_iter().map(|h| h.expect("DICOM")).collect();
    let mut plan = plan_series(&headers).expect("a stack");
    plan.slices = (0..300).map(|k| plan.slices[k % slices.len()].clone()).collect();
    plan.geometry.size[2] = 300;
    for (k, slice) in plan.slices.iter_mut().enumerate() {
        slice.along_normal_mm = k as f64 * plan.geometry.spacing_mm[2];
        // Each slice is an object of its own, as in a real series.
        slice.index += slices.len() * (k / slices.len());
    }
    let decoder = Decoder::apart(Path::new(env!("CARGO_BIN_EXE_metwatch")));
    let ours = || {
        let began = Instant::now();
        let load = |index: usize| std::fs::read(&slices[index % slices.len()]);
        assemble_volume(&plan, &decoder, &load, &|_, _| ()).expect("a volume");
        began.elapsed().as_secs_f64()
    };
    compare("300 JPEG 2000 slices to a volume", ours, || python(VOLUME, &folder));
}
