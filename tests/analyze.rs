//! `metwatch analyze` on phantoms, on real CT, and on what is no CT.

use crate::common::{Folder, reference, run};
use serde_json::Value;
use std::process::Command;

struct Analyzed {
    code: i32,
    stdout: String,
    stderr: String,
    folder: Folder,
}

impl Analyzed {
    fn result(&self) -> Value {
        let text = std::fs::read_to_string(self.folder.join("out/result.json")).expect("result.json was written");
        serde_json::from_str(&text).expect("result.json is JSON")
    }
    fn codes(&self, of: &str) -> Vec<String> {
        self.result()[of]
            .as_array()
            .expect("a list")
            .iter()
            .map(|r| r["code"].as_str().unwrap_or("").to_string())
            .collect()
    }
    fn has(&self, name: &str) -> bool {
        std::fs::metadata(self.folder.join("out").join(name)).is_ok_and(|m| m.len() > 0)
    }
}

fn analyze(name: &str, input: &str, more: &[&str]) -> Analyzed {
    let folder = Folder::new(name);
    let out = folder.text("out");
    let mut args = vec!["analyze", input, "--out", &out, "--model", "phantom"];
    args.extend_from_slice(more);
    let (code, stdout, stderr) = run(&args);
    Analyzed { code, stdout, stderr, folder }
}

#[test]
fn a_phantom_gets_a_final_risk_when_everything_is_known() {
    let phantom = Folder::new("phantom");
    let (code, _, stderr) = run(&[
        "phantom",
        "--seed",
        "4",
        "--out",
        &phantom.text(""),
        "--dicom",
        "--nifti",
        "--size",
        "192,192,80",
        "--spacing-mm",
        "2,2,4",
    ]);
    assert_eq!(code, 0, "{stderr}");
    let truth: Value = serde_json::from_str(&std::fs::read_to_string(phantom.join("truth.json")).unwrap()).unwrap();
    std::fs::write(phantom.join("clinical.json"), truth["clinical"].to_string()).unwrap();

    let complete = analyze("complete", &phantom.text("dicom"), &["--clinical", &phantom.text("clinical.json")]);
    assert_eq!(complete.code, 0, "{}", complete.stderr);
    let result = complete.result();
    assert_eq!(result["assessment"]["variant"], "complete");
    assert_eq!(result["assessment"]["certainty"], "final");
    assert_eq!(result["disclaimer"], "demonstration, not for clinical use");
    assert!(complete.stdout.contains("demonstration, not for clinical use"));
    for name in ["labels.nii.gz", "features.csv", "overlay_axial_liver.png", "report.pdf"] {
        assert!(complete.has(name), "{name} is missing");
    }
    assert_eq!(objects_say_what_files_say(&complete, &phantom.text("dicom")), ["colorectal_tumor", "liver"]);
    let sum: f64 =
        result["assessment"]["contributions"].as_array().unwrap().iter().map(|c| c["shap"].as_f64().unwrap()).sum();
    assert!(sum.is_finite());

    // The same image as NIfTI, nothing known: provisional, by the variant that needs the image alone.
    let image = analyze("image", &phantom.text("ct.nii.gz"), &[]);
    let result = image.result();
    assert_eq!(result["assessment"]["variant"], "image");
    assert_eq!(result["assessment"]["certainty"], "provisional");
    assert!(image.codes("notes").contains(&"risk.missing".to_string()));
    assert!(image.has("report.pdf"));
    for name in ["segmentation.dcm", "measurements.dcm", "report.dcm", "picture_1.dcm"] {
        assert!(!image.has(name), "{name} needs DICOM slices to point at");
    }
}

#[test]
fn a_real_ct_is_refused_by_a_network_that_knows_phantoms_only() {
    for input in ["crlm_ct/CRLM-CT-1004", "totalsegmentator/example_ct.nii.gz", "totalsegmentator/example_ct_dicom"] {
        let name = input.replace(['/', '.'], "-");
        let analyzed = analyze(&name, &reference(input).display().to_string(), &[]);
        assert_eq!(analyzed.code, 0, "a refusal is a result: {}", analyzed.stderr);
        let result = analyzed.result();
        assert_eq!(result["status"], "refused", "{input}");
        assert!(result["assessment"].is_null(), "{input}: a refused study shows no risk");
        assert!(
            analyzed.codes("reasons").contains(&"gate.other-world".to_string()),
            "{input}: {:?}",
            analyzed.codes("reasons")
        );
        assert!(analyzed.has("labels.nii.gz") && analyzed.has("features.csv"), "labels and features are kept");
        assert!(analyzed.stdout.contains("NOT ANALYSED"));
        if input == "crlm_ct/CRLM-CT-1004" {
            objects_say_what_files_say(&analyzed, &reference(input).display().to_string());
        }
    }
}

/// The objects for a PACS: valid, of the source's study, with the numbers of features.csv and the voxels of result.json as
/// highdicom reads them. The regions that have features, sorted.
fn objects_say_what_files_say(analyzed: &Analyzed, source: &str) -> Vec<String> {
    let out = analyzed.folder.join("out");
    let mut names: Vec<String> =
        std::fs::read_dir(&out).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.retain(|name| name.ends_with(".dcm"));
    names.sort();
    let objects = ["measurements.dcm", "picture_1.dcm", "picture_2.dcm", "report.dcm"];
    assert!(objects.iter().all(|o| names.iter().any(|n| n == o)), "{names:?}");
    for name in &names {
        let checked = Command::new("dciodvfy").arg(out.join(name)).output().expect("dicom3tools is installed");
        let report = String::from_utf8_lossy(&checked.stderr).into_owned();
        assert!(!report.lines().any(|l| l.starts_with("Error")), "{name}: {report}");
    }
    let script = r#"
import sys, os, csv, json, glob, numpy as np, pydicom, highdicom as hd
out, source = sys.argv[1:]
result = json.load(open(out + '/result.json'))
slices = [pydicom.dcmread(f, stop_before_pixels=True) for f in glob.glob(source + '/*.dcm')]
for f in glob.glob(out + '/*.dcm'):
    d = pydicom.dcmread(f)
    assert d.StudyInstanceUID == slices[0].StudyInstanceUID and d.PatientID == slices[0].PatientID, f
    assert d.PatientName == slices[0].PatientName and d.SeriesInstanceUID != slices[0].SeriesInstanceUID, f
rows = {r['region']: r for r in csv.DictReader(open(out + '/features.csv'))}
content = hd.sr.srread(out + '/measurements.dcm').content
read = {}
for g in content.get_volumetric_roi_measurement_groups():
    numbers = {}
    for m in g.get_measurements():
        methods = [c.ConceptCodeSequence[0].CodeMeaning for c in m[0].get('ContentSequence', [])]
        numbers[methods[0] if methods else m.name.meaning] = float(m.value)
    read[g.tracking_identifier] = numbers
for region in result['regions']:
    assert (region['n_voxels'] > 0) == (region['region'] in read), region
    if region['n_voxels'] > 0: assert read[region['region']]['Volume'] == region['volume_ml']
for region, row in rows.items():
    finite = {n: float(v) for n, v in row.items() if n != 'region' and v and np.isfinite(float(v))}
    mine = {n: v for n, v in read[region].items() if n != 'Volume'}
    assert mine == finite and len(mine) > 90, (region, len(mine), len(finite))
probability = [float(m.value) for g in content.get_image_measurement_groups() for m in g.get_measurements()
               if m.name.value == '122157']
assert probability == ([result['assessment']['probability']] if result['assessment'] else []), probability
if os.path.exists(out + '/segmentation.dcm'):
    seg = hd.seg.segread(out + '/segmentation.dcm')
    voxels = {s.TrackingID: 0 for s in seg.SegmentSequence}
    for frame, pixels in zip(seg.PerFrameFunctionalGroupsSequence, seg.pixel_array.reshape(-1, seg.Rows, seg.Columns)):
        number = frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        voxels[seg.SegmentSequence[number - 1].TrackingID] += int(pixels.sum())
    # The organ is measured with its lesions, the segment is without them.
    voxels['liver'] = voxels.get('liver', 0) + voxels.get('liver_lesion', 0)
    for region in result['regions']:
        assert voxels.get(region['region'], 0) == region['n_voxels'], region
print(*sorted(rows))
"#;
    let python = std::env::var("METWATCH_TEST_PYTHON").unwrap_or(".venv/bin/python".into());
    let said = Command::new(python).args(["-c", script]).arg(&out).arg(source).output().expect("tests/run makes it");
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    String::from_utf8_lossy(&said.stdout).split_whitespace().map(Into::into).collect()
}

#[test]
fn a_partial_scan_says_so() {
    let analyzed = analyze("partial", &reference("totalsegmentator/example_ct_dicom").display().to_string(), &[]);
    let reasons = analyzed.codes("reasons");
    assert!(
        reasons.contains(&"series.short-extent".to_string()) && reasons.contains(&"gate.liver-cut".to_string()),
        "{reasons:?}"
    );
}

#[test]
fn what_cannot_become_a_volume_ends_with_a_reason() {
    let folder = Folder::new("bad");
    std::fs::create_dir_all(folder.join("empty")).unwrap();
    std::fs::create_dir_all(folder.join("text")).unwrap();
    std::fs::write(folder.join("text/readme.txt"), "no image").unwrap();
    let tilt = reference("dicom_oddities/ge_head_variable_tilt").display().to_string();
    let cases = [
        (tilt, "series.variable-spacing"),
        (folder.text("empty"), "input.empty"),
        (folder.text("text"), "dicom.not-dicom"),
        (folder.text("missing"), "file.read"),
        (reference("pydicom/MR_small.dcm").display().to_string(), "series.not-ct"),
        (reference("pydicom/MR_truncated.dcm").display().to_string(), "dicom.truncated"),
    ];
    for (input, code) in cases {
        let analyzed = analyze("bad-out", &input, &[]);
        assert_eq!(analyzed.code, 1, "{input}");
        assert!(analyzed.stderr.contains(code), "{input}: expected {code}, got {}", analyzed.stderr);
        assert!(analyzed.stderr.contains("what to do:"), "{}", analyzed.stderr);
    }
}

#[test]
fn clinical_values_out_of_range_or_misspelt_are_refused() {
    let folder = Folder::new("clinical");
    let image = reference("clm_example/image.nii.gz").display().to_string();
    for (json, part) in [(r#"{"afp": 3}"#, "afp"), (r#"{"afp_ng_per_ml": -1}"#, "afp_ng_per_ml"), ("{", "JSON")] {
        std::fs::write(folder.join("c.json"), json).unwrap();
        let analyzed = analyze("clinical-out", &image, &["--clinical", &folder.text("c.json")]);
        assert_eq!(analyzed.code, 1, "{json}");
        assert!(analyzed.stderr.contains(part), "{json}: {}", analyzed.stderr);
    }
}

/// Peak resident memory of a command, MiB.
fn peak_mib(args: &[&str]) -> u64 {
    let mut child =
        crate::common::metwatch().args(args).stdout(std::process::Stdio::null()).spawn().expect("the binary runs");
    let mut peak = 0;
    while child.try_wait().expect("a child").is_none() {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let line = status.lines().find(|l| l.starts_with("VmHWM:")).unwrap_or("");
        peak = peak.max(line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) / 1024);
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    peak
}

#[test]
fn a_scan_of_300_slices_needs_less_than_3_gib() {
    let folder = Folder::new("memory");
    let (code, _, stderr) = run(&[
        "phantom",
        "--seed",
        "3",
        "--out",
        &folder.text(""),
        "--dicom",
        "--size",
        "512,512,300",
        "--spacing-mm",
        "0.75,0.75,1.1",
    ]);
    assert_eq!(code, 0, "{stderr}");
    let peak = peak_mib(&["analyze", &folder.text("dicom"), "--out", &folder.text("out"), "--model", "phantom"]);
    println!("peak memory of analyze, 512 x 512 x 300: {peak} MiB");
    assert!((100..3072).contains(&peak), "{peak} MiB");
}
