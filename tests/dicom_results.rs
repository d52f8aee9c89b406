//! The objects that carry a result into a PACS: written for a phantom, checked and read by others (dicom3tools, DCMTK, pydicom).
#![allow(clippy::disallowed_methods, reason = "tests own files and peers")]

use crate::common::Folder;
use metwatch::dicom::{
    self, ContributionReport, FeatureReport, Header, ObjectFile, PackageReport, PatientInfo, Picture, RegionReport,
    RemarkReport, Report, ResultError, ResultInfo, RiskReport, SegInfo, SeriesPlan, parse_header, plan_series,
};
use metwatch::risk::ClinicalKey;
use metwatch::volume::{Geometry, LabelMap, LabelScheme, Region, Volume};
use ndarray::Array3;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A phantom's series and the SEG of its labels.
struct Study {
    plan: SeriesPlan,
    slices: Vec<(String, Vec<u8>)>,
    seg: ObjectFile,
}

fn study() -> Study {
    let geometry = Geometry {
        size: [24, 20, 50],
        spacing_mm: [0.7, 0.8, 2.5],
        origin_mm: [-10.0, -20.0, 5.0],
        direction: Geometry::IDENTITY,
    };
    let hu = Array3::from_shape_fn((50, 20, 24), |(k, j, i)| ((k + j + i) as f32 * 17.0) % 1200.0 - 1000.0);
    let patient = PatientInfo {
        patient_id: "PHANTOM-1".into(),
        name: "Phantom^Jürgen".into(),
        birth_date: "19600101".into(),
        sex: "O".into(),
        accession_number: "ACC1".into(),
        study_date: "20260101".into(),
        study_time: "120000".into(),
        study_description: "Phantom".into(),
    };
    let slices = dicom::phantom_series(&Volume { hu, geometry }, &patient, 1);
    let headers: Vec<Header> = slices.iter().map(|(_, b)| parse_header(b).unwrap()).collect();
    let plan = plan_series(&headers).unwrap();
    let (_, seg) = label(&plan);
    Study { plan, slices, seg }
}

/// Labels on a plan's grid, and their SEG.
fn label(plan: &SeriesPlan) -> (LabelMap, ObjectFile) {
    let mut labels = Array3::<u8>::zeros(plan.geometry.shape_zyx());
    labels.slice_mut(ndarray::s![5..20, 2..12, 3..15]).fill(1);
    labels.slice_mut(ndarray::s![8..10, 4..6, 5..8]).fill(2);
    labels.slice_mut(ndarray::s![30..33, 7..9, 18..22]).fill(4);
    let entries = vec![
        (1, Region::Liver, "10200004".into()),
        (2, Region::LiverLesion, "108369006".into()),
        (3, Region::Colon, "71854001".into()),
        (4, Region::ColorectalTumor, "363406005".into()),
    ];
    let map = LabelMap { labels, geometry: plan.geometry.clone(), scheme: LabelScheme { entries } };
    let info = SegInfo {
        algorithm: "abdomen-phantom",
        version: "0.1.0",
        date: "20260102",
        time: "030405",
        series_number: 9001,
        uid_seed: b"test",
    };
    let seg = dicom::write_seg(&map, plan, &info).unwrap();
    (map, seg)
}

impl Study {
    fn headers(&self) -> Vec<&Header> {
        self.plan.slices.iter().map(|s| &s.header).collect()
    }
}

/// Name, value, unit, IBSI code: a public code, one that no CID has, ours, an undefined value, and a filtered image.
const FEATURES: [(&str, f64, &str, Option<&str>); 6] = [
    ("original_shape_MeshVolume", 123_456.789_012_345_67, "mm3", Some("RNU0")),
    ("original_firstorder_Mean", -1.0 / 3.0, "I", Some("Q4LE")),
    ("original_glcm_MCC", 0.1 + 0.2, "", None),
    ("original_glcm_JointEntropy", 7.123e-12, "bit", Some("TU9B")),
    ("original_ngtdm_Coarseness", f64::NAN, "", Some("QCDE")),
    ("wavelet-LLH_glcm_JointEntropy", 1.0e6 / 7.0, "bit", Some("TU9B")),
];

fn report() -> Report {
    let feature = |(name, value, unit, ibsi): (&str, f64, &str, Option<&str>)| FeatureReport {
        name: name.into(),
        value,
        unit: unit.into(),
        ibsi: ibsi.map(Into::into),
    };
    let region = |region, snomed: &str, n_voxels, features: &[_]| RegionReport {
        region,
        snomed: snomed.into(),
        n_voxels,
        volume_ml: n_voxels as f64 * 1.4 / 1000.0,
        color: [86, 180, 233],
        features: features.iter().copied().map(feature).collect(),
    };
    let remark = |code: &str, sentence: &str| RemarkReport {
        code: code.into(),
        sentence: sentence.into(),
        ..Default::default()
    };
    let package = |id: &str| PackageReport { id: id.into(), version: "0.1.0".into(), sha256: "ab".repeat(32) };
    let contribution = |predictor: &str, label: &str, value: &str, log_odds| ContributionReport {
        predictor: predictor.into(),
        label: label.into(),
        value: value.into(),
        log_odds,
    };
    Report {
        created_at: "2026-01-02T03:04:05.678Z".into(),
        study: "S000007".into(),
        revision: 2,
        regions: vec![
            region(Region::Liver, "10200004", 1800, &FEATURES),
            region(Region::LiverLesion, "108369006", 12, &[]),
            region(Region::Colon, "71854001", 0, &[]),
            region(Region::ColorectalTumor, "363406005", 24, &FEATURES[..2]),
        ],
        risk: Some(RiskReport {
            probability: 0.231_234_567_890_123,
            linear_predictor: -1.2,
            points: 141.0,
            points_max: 300.0,
            group: "intermediate".into(),
            variant: "with-afp".into(),
            certainty: "provisional".into(),
            cut_offs: Some([0.15, 0.4]),
            horizon_months: 60,
            survival: vec![(12, 0.97), (36, 0.85), (60, 0.77)],
            contributions: vec![
                contribution("afp", "Alpha-fetoprotein", "4.2 ng/mL", 0.61),
                contribution("liver_idm", "Liver texture (inverse difference moment)", "0.342", -0.4),
            ],
        }),
        notes: vec![
            remark("series.jitter", "slices lie up to 0.2 mm beside their grid and were resampled"),
            remark("risk.missing", "variant full was not possible without perineural_invasion"),
        ],
        known: vec![(ClinicalKey::AfpNgPerMl, 4.2), (ClinicalKey::TumorNodules, 0.0)],
        missing: vec![ClinicalKey::PerineuralInvasion],
        segmenter: package("segmenter-phantom"),
        nomogram: package("mlm-phantom"),
        radiomics_settings_sha256: "cd".repeat(32),
        backend: "tract, CPU, int8 (avx2)".into(),
        ..Default::default()
    }
}

fn info<'a>(source: &'a [&'a Header], report: &'a Report) -> ResultInfo<'a> {
    ResultInfo { source, report, series_number: 9002, uid_seed: b"test" }
}

fn write(folder: &Folder, name: &str, bytes: &[u8]) -> PathBuf {
    std::fs::write(folder.join(name), bytes).unwrap();
    folder.join(name)
}

/// What a tool says on both channels, and whether it was content.
fn tool(name: &str, args: &[&Path]) -> (bool, String) {
    let out =
        Command::new(name).args(args).output().unwrap_or_else(|e| panic!("{name}: {e} (apt: dicom3tools, dcmtk)"));
    let text = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    assert!(!text.trim().is_empty(), "{name} said nothing");
    (out.status.success(), text)
}

fn dciodvfy_errors(file: &Path) -> Vec<String> {
    tool("dciodvfy", &[file]).1.lines().filter(|l| l.starts_with("Error")).map(str::to_owned).collect()
}

/// Errors and warnings of a DCMTK tool. That DCMTK 3.6.7 cannot check the characters of UTF-8 is its own limit.
fn complaints(text: &str) -> Vec<&str> {
    let own = "W: The VR checker does not support this Specific Character Set: ISO_IR 192";
    text.lines().filter(|l| (l.starts_with("E: ") || l.starts_with("W: ")) && *l != own).collect()
}

fn python_path() -> PathBuf {
    std::env::var_os("METWATCH_TEST_PYTHON").map_or(".venv/bin/python".into(), PathBuf::from)
}

/// A program that a Python package brought.
fn beside_python(name: &str) -> PathBuf {
    python_path().with_file_name(name)
}

/// A peer that a machine may lack is left out only where `tests/run` (or a person) says so by a variable.
fn left_out(peer: &str) -> bool {
    let left_out = std::env::var_os(format!("METWATCH_TEST_WITHOUT_{peer}")).is_some();
    if left_out {
        eprintln!("left out: {peer} is not installed");
    }
    left_out
}

/// Runs a script with pydicom and highdicom; what it prints.
fn python(script: &str, args: &[&Path]) -> String {
    let out =
        Command::new(python_path()).args(["-c", script]).args(args).output().expect("METWATCH_TEST_PYTHON is a Python");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// One line per content item: depth, relationship, type, concept, value.
const TREE: &str = r#"
import sys, pydicom
def code(c): return '(%s, %s, %s)' % (c.get('CodeValue', c.get('LongCodeValue')), c.CodingSchemeDesignator, c.CodeMeaning)
def value(i):
    t = i.ValueType
    if t == 'CODE': return code(i.ConceptCodeSequence[0])
    if t == 'TEXT': return i.TextValue
    if t == 'UIDREF': return i.UID
    if t == 'NUM':
        m = i.MeasuredValueSequence
        return '%r %s' % (m[0].FloatingPointValue, m[0].MeasurementUnitsCodeSequence[0].CodeValue)
    if t == 'IMAGE':
        r = i.ReferencedSOPSequence[0]
        return '%s %s' % (r.ReferencedSOPInstanceUID, r.get('ReferencedSegmentNumber'))
    return ''
def show(i, depth):
    print('%s%s %s %s = %s' % ('  ' * depth, i.get('RelationshipType', 'ROOT'), i.ValueType, code(i.ConceptNameCodeSequence[0]), value(i)))
    for c in i.get('ContentSequence', []): show(c, depth + 1)
show(pydicom.dcmread(sys.argv[1]), 0)
"#;

#[test]
fn the_structured_report_is_valid_and_says_what_was_measured() {
    let folder = Folder::new("sr");
    let (study, report) = (study(), report());
    let source = study.headers();
    let sr = dicom::write_sr(&info(&source, &report), Some(&study.seg.bytes)).unwrap();
    let file = write(&folder, "sr.dcm", &sr.bytes);
    write(&folder, "seg.dcm", &study.seg.bytes);
    assert_eq!(dciodvfy_errors(&file), Vec::<String>::new());
    let (content, dump) = tool("dsrdump", &[Path::new("-Ec"), Path::new("-q"), &file]);
    assert!(content && complaints(&dump).is_empty() && dump.contains("Imaging Measurement Report"), "{dump}");
    let (content, xml) = tool("dsr2xml", &[&file]);
    assert!(content && complaints(&xml).is_empty() && xml.contains("Measurement Group"), "{xml}");
    let tree = python(TREE, &[&file]);
    for (name, value, _, ibsi) in FEATURES {
        let scheme = if ibsi.is_some() { "IBSI" } else { "99METWATCH" };
        let lines: Vec<&str> = tree.lines().collect();
        let named = |l: &str| l.trim_end().ends_with(&format!("{name})"));
        let Some(method) = lines.iter().position(|l| l.contains("Measurement Method") && named(l)) else {
            assert!(
                value.is_nan() && tree.contains(&format!("Feature that is undefined here) = {name}")),
                "{name}: {tree}"
            );
            continue;
        };
        let (concept, shown) = lines[method - 1].split_once(" = ").unwrap();
        assert!(concept.contains(&format!("({}", ibsi.unwrap_or("origina-"))), "{name}: {concept}");
        assert!(concept.contains(&format!(", {scheme}, ")), "{name}: {concept}");
        assert_eq!(shown.split(' ').next().unwrap().parse::<f64>().unwrap(), value, "{name}");
    }
    for expected in [
        "CODE (111017, DCM, CAD Processing and Findings Summary) = (111242, DCM, All algorithms succeeded; with findings)",
        "CODE (71854001, SCT, Colon) = (272519000, SCT, Absent)",
        "CODE (363406005, SCT, Malignant tumor of colon) = (52101004, SCT, Present)",
        "CODE (RISKGROUP, 99METWATCH, Risk group) = (11896004, SCT, Intermediate)",
        "NUM (122157, DCM, Probability) = 0.231234567890123 1",
        "TEXT (112039, DCM, Tracking Identifier) = colorectal_tumor",
        "TEXT (DISCLAIMER, 99METWATCH, Disclaimer) = demonstration, not for clinical use",
        "TEXT (121014, DCM, Device Observer Manufacturer) = metwatch",
    ] {
        assert!(tree.contains(expected), "{expected} is missing: {tree}");
    }
    // The tracking UIDs and segments are those of the SEG, and every object that is named is listed as evidence.
    let compare = r#"
import sys, pydicom
sr, seg = map(pydicom.dcmread, sys.argv[1:3])
assert str(sr.PatientName) == 'Phantom^Jürgen' and sr.StudyInstanceUID == seg.StudyInstanceUID, sr.PatientName
tracked = {s.TrackingUID: s.SegmentNumber for s in seg.SegmentSequence}
named, groups = set(), 0
def visit(i):
    global groups
    if i.ValueType == 'IMAGE': named.add(i.ReferencedSOPSequence[0].ReferencedSOPInstanceUID)
    if i.get('ContentTemplateSequence') and i.ContentTemplateSequence[0].TemplateIdentifier == '1411':
        uid = [c.UID for c in i.ContentSequence if c.ValueType == 'UIDREF' and c.ConceptNameCodeSequence[0].CodeValue == '112040'][0]
        segment = [c.ReferencedSOPSequence[0].ReferencedSegmentNumber for c in i.ContentSequence if c.ValueType == 'IMAGE'][0]
        assert tracked[uid] == segment, (tracked, uid, segment)
        groups += 1
    for c in i.get('ContentSequence', []): visit(c)
visit(sr)
listed = {o.ReferencedSOPInstanceUID for st in sr.CurrentRequestedProcedureEvidenceSequence
          for se in st.ReferencedSeriesSequence for o in se.ReferencedSOPSequence}
assert named == listed and len(listed) == 51, (len(named), len(listed))
print(groups)
"#;
    assert_eq!(python(compare, &[&file, &folder.join("seg.dcm")]).trim(), "3");
}

#[test]
fn a_report_tells_what_was_not_found_and_why_there_is_no_risk() {
    let folder = Folder::new("sr-cases");
    let (study, full) = (study(), report());
    let source = study.headers();
    let mut nothing = full.clone();
    nothing.regions.iter_mut().filter(|r| r.region != Region::Liver).for_each(|r| r.n_voxels = 0);
    let reason = RemarkReport {
        code: "gate.liver-volume".into(),
        sentence: "the liver has 200 mL".into(),
        advice: "send the whole abdomen".into(),
    };
    let refused = Report { risk: None, reasons: vec![reason], ..full.clone() };
    let mut empty = refused.clone();
    empty.regions.iter_mut().for_each(|r| r.n_voxels = 0);
    let cases = [
        ("nothing", &nothing, Some(&study.seg.bytes[..]), "111241", 3),
        ("refused", &refused, Some(&study.seg.bytes[..]), "111244", 1),
        ("empty", &empty, None, "111243", 4),
    ];
    for (name, report, seg, summary, absent) in cases {
        let sr = dicom::write_sr(&info(&source, report), seg).unwrap();
        let file = write(&folder, &format!("{name}.dcm"), &sr.bytes);
        assert_eq!(dciodvfy_errors(&file), Vec::<String>::new(), "{name}");
        let tree = python(TREE, &[&file]);
        assert!(tree.contains(&format!("= ({summary}, DCM, ")), "{name}: {tree}");
        assert_eq!(tree.matches("= (272519000, SCT, Absent)").count(), absent, "{name}");
        assert_eq!(tree.contains("What to do: send the whole abdomen"), name != "nothing");
        assert_eq!(tree.contains("(122157, DCM, Probability)"), name == "nothing");
    }
    let without_seg = dicom::write_sr(&info(&source, &full), None).unwrap_err();
    assert_eq!(without_seg, ResultError::NoSegment { region: Region::Liver });
    assert_eq!(dicom::write_sr(&info(&[], &full), None).unwrap_err(), ResultError::NoSource);
}

/// What highdicom and dcmqi read in the report: every group by its tracking identifier, with its segment and its numbers.
#[test]
fn other_readers_give_back_the_same_groups_and_numbers() {
    let folder = Folder::new("sr-readers");
    let (study, report) = (study(), report());
    let sr = dicom::write_sr(&info(&study.headers(), &report), Some(&study.seg.bytes)).unwrap();
    let file = write(&folder, "sr.dcm", &sr.bytes);
    let script = r#"
import sys, highdicom as hd
content = hd.sr.srread(sys.argv[1]).content
for g in content.get_volumetric_roi_measurement_groups() + content.get_image_measurement_groups():
    segment = [c.ReferencedSOPSequence[0].ReferencedSegmentNumber for c in g[0].ContentSequence if c.ValueType == 'IMAGE']
    for m in g.get_measurements():
        print(g.tracking_identifier, segment, m.name.value, m.name.scheme_designator, repr(float(m.value)), m.unit.value, sep='|')
"#;
    let read = python(script, &[&file]);
    let defined: Vec<_> = FEATURES.into_iter().filter(|(_, value, ..)| !value.is_nan()).collect();
    let mut expected = Vec::new();
    for (segment, region) in [(1, 0), (2, 1), (3, 3)] {
        let region = &report.regions[region];
        let name = region.region.name();
        expected.push(format!("{name}|[{segment}]|118565006|SCT|{:?}|mL", region.volume_ml));
        for (_, value, unit, ibsi) in &defined[..defined.len().min(region.features.len())] {
            let unit = match *unit {
                "I" => "[hnsf'U]",
                "" => "1",
                other => other,
            };
            match ibsi {
                Some(code) => expected.push(format!("{name}|[{segment}]|{code}|IBSI|{value:?}|{unit}")),
                None => expected.push(format!("|99METWATCH|{value:?}|{unit}")),
            }
        }
    }
    let risk = report.risk.as_ref().unwrap();
    let tracked = "risk of metachronous liver metastasis|[1]";
    expected.push(format!("{tracked}|122157|DCM|{:?}|1", risk.probability));
    expected.push(format!("{tracked}|1834-1|LN|4.2|ng/mL"));
    // Python writes 1e-05 where Rust writes 1e-5; no value here is that small but one, which both write as 7.123e-12.
    for line in expected {
        assert!(read.contains(&line), "{line} is not in\n{read}");
    }
    assert_eq!(read.lines().filter(|l| l.starts_with("liver|")).count(), 1 + defined.len());
    if left_out("DCMQI") {
        return;
    }
    let out = Command::new(beside_python("tid1500reader"))
        .args(["--inputDICOM", &folder.text("sr.dcm"), "--outputMetadata", &folder.text("sr.json")])
        .output()
        .expect("dcmqi is installed");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let json: serde_json::Value = serde_json::from_slice(&std::fs::read(folder.join("sr.json")).unwrap()).unwrap();
    let groups = json["Measurements"].as_array().unwrap();
    let names: Vec<&str> = groups.iter().filter_map(|g| g["TrackingIdentifier"].as_str()).collect();
    assert_eq!(names, ["liver", "liver_lesion", "colorectal_tumor", "risk of metachronous liver metastasis"]);
    let mesh = &groups[0]["measurementItems"][1];
    assert_eq!(
        (mesh["quantity"]["CodeValue"].as_str(), mesh["value"].as_str()),
        (Some("RNU0"), Some("123456.789012346"))
    );
    assert_eq!(groups[0]["ReferencedSegment"], 1);
}

/// PixelMed's validator knows the templates; it takes some 8 s.
#[test]
fn the_structured_report_follows_its_templates() {
    if left_out("PIXELMED") {
        return;
    }
    let folder = Folder::new("sr-templates");
    let (study, report) = (study(), report());
    let sr = dicom::write_sr(&info(&study.headers(), &report), Some(&study.seg.bytes)).unwrap();
    let file = write(&folder, "sr.dcm", &sr.bytes);
    // Java 17 limits XPath below what the validator's style sheets need.
    let limits = ["xpathExprOpLimit", "xpathTotalOpLimit", "xpathExprGrpLimit"].map(|l| format!("-Djdk.xml.{l}=0"));
    let out = Command::new("java")
        .args(limits)
        .args(["-cp", "/usr/share/java/*", "com.pixelmed.validate.DicomSRValidator"])
        .arg(&file)
        .output()
        .expect("java is installed");
    let text = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    assert!(text.contains("Found Root Template TID_1500") && text.contains("IOD validation complete"), "{text}");
    let errors: Vec<&str> = text.lines().filter(|l| l.starts_with("Error")).collect();
    assert!(errors.is_empty(), "{errors:#?}");
}

/// A picture whose pixels all differ, 20 by 10.
fn picture(title: &str, slice: Option<usize>) -> Picture {
    let rgb = (0..600).map(|i| (i * 7 % 251) as u8).collect();
    Picture { title: title.into(), patient_orientation: "L\\P", slice, width: 20, height: 10, rgb }
}

#[test]
fn captures_are_valid_images_of_the_study_with_the_same_pixels() {
    let folder = Folder::new("captures");
    let (study, report) = (study(), report());
    let source = study.headers();
    let pictures = [picture("Axial, largest cross-section of the tumor", Some(31)), picture("Coronal", None)];
    let captures = dicom::write_captures(&info(&source, &report), &pictures).unwrap();
    assert_eq!(captures.len(), 2);
    for (index, (capture, picture)) in captures.iter().zip(&pictures).enumerate() {
        let file = write(&folder, "sc.dcm", &capture.bytes);
        let raw = write(&folder, "rgb", &picture.rgb);
        let slice = write(&folder, "slice.dcm", &study.slices[31].1);
        assert_eq!(dciodvfy_errors(&file), Vec::<String>::new());
        let script = r#"
import sys, pydicom
capture, source = pydicom.dcmread(sys.argv[1]), pydicom.dcmread(sys.argv[3])
assert capture.pixel_array.shape == (10, 20, 3) and capture.pixel_array.tobytes() == open(sys.argv[2], 'rb').read()
for name in ['StudyInstanceUID', 'PatientID', 'PatientName', 'PatientBirthDate', 'AccessionNumber', 'StudyDate', 'StudyID']:
    assert capture[name].value == source[name].value, name
assert capture.SeriesInstanceUID != source.SeriesInstanceUID and capture.BurnedInAnnotation == 'NO'
assert capture.file_meta.MediaStorageSOPClassUID == '1.2.840.10008.5.1.4.1.1.7' and capture.ConversionType == 'WSD'
assert 'not for clinical use' in capture.ImageComments and list(capture.PatientOrientation) == ['L', 'P']
shown = [i.ReferencedSOPInstanceUID for i in capture.get('SourceImageSequence', [])]
assert shown in ([], [source.SOPInstanceUID])
print(capture.InstanceNumber, len(shown), capture.SeriesInstanceUID)
"#;
        let said = python(script, &[&file, &raw, &slice]);
        let expected = format!("{} {} {}", index + 1, 1 - index, captures[0].series_instance_uid);
        assert_eq!(said.trim(), expected);
    }
    let short = Picture { rgb: vec![0; 5], ..pictures[0].clone() };
    let refused = dicom::write_captures(&info(&source, &report), &[short]).unwrap_err();
    assert!(matches!(refused, ResultError::Picture { .. }));
}

#[test]
fn the_page_says_what_the_result_says_and_is_encapsulated_unchanged() {
    let folder = Folder::new("page");
    let (study, report) = (study(), report());
    let source = study.headers();
    let pdf = dicom::write_page(&report, &source, &[picture("Axial (tumor)", None)]).unwrap();
    let page = write(&folder, "page.pdf", &pdf);
    let document = dicom::write_document(&info(&source, &report), &pdf).unwrap();
    let file = write(&folder, "page.dcm", &document.bytes);
    assert_eq!(dciodvfy_errors(&file), Vec::<String>::new());
    let script = r#"
import sys, pydicom
document = pydicom.dcmread(sys.argv[1])
assert document.EncapsulatedDocument[:document.EncapsulatedDocumentLength] == open(sys.argv[2], 'rb').read()
assert document.MIMETypeOfEncapsulatedDocument == 'application/pdf' and document.Modality == 'DOC'
assert len(document.SourceInstanceSequence) == 50 and document.BurnedInAnnotation == 'YES'
"#;
    python(script, &[&file, &page]);
    // poppler reads it without a complaint: one page of A4.
    let (content, said) = tool("pdfinfo", &[&page]);
    assert!(
        content && said.contains("Pages:           1\n") && said.contains("(A4)") && !said.contains("rror"),
        "{said}"
    );
    let (_, text) = tool("pdftotext", &[Path::new("-layout"), &page, Path::new("-")]);
    for expected in [
        "DEMONSTRATION, NOT FOR CLINICAL USE",
        "Phantom, Jürgen",
        "PHANTOM-1",
        "23.1 %",
        "intermediate risk",
        "Alpha-fetoprotein",
        "4.2 ng/mL",
        "+0.61",
        "Not known: perineural invasion.",
        "Axial (tumor)",
        "series.jitter",
        "not found",
        "mlm-phantom 0.1.0",
        "S000007 revision 2",
    ] {
        assert!(text.contains(expected), "{expected} is missing: {text}");
    }
    let reason = RemarkReport {
        code: "gate.liver-volume".into(),
        sentence: "the liver has 200 mL".into(),
        advice: "send the whole abdomen".into(),
    };
    let notes = (0..200).map(|_| report.notes[0].clone()).collect();
    let refused = Report { risk: None, reasons: vec![reason], notes, ..report };
    let page = write(&folder, "refused.pdf", &dicom::write_page(&refused, &[], &[]).unwrap());
    let (_, text) = tool("pdftotext", &[Path::new("-layout"), &page, Path::new("-")]);
    for expected in [
        "No risk is given",
        "The liver has 200 mL",
        "What to do: send the whole abdomen",
        "more in the structured report",
    ] {
        assert!(text.contains(expected), "{expected} is missing: {text}");
    }
    assert!(!text.contains("23.1 %"));
    let (_, said) = tool("pdfinfo", &[&page]);
    assert!(said.contains("Pages:           1\n"), "{said}");
}

#[test]
fn a_folder_with_its_directory_is_read_by_others_as_the_same_instances() {
    let folder = Folder::new("directory");
    let (study, report) = (study(), report());
    let source = study.headers();
    let info = info(&source, &report);
    let page = dicom::write_page(&report, &source, &[]).unwrap();
    let mut files: Vec<(String, Vec<u8>)> =
        study.slices.iter().enumerate().map(|(i, (_, bytes))| (format!("CT{:06}", i + 1), bytes.clone())).collect();
    files.push(("SG000001".into(), study.seg.bytes.clone()));
    files.push(("SR000001".into(), dicom::write_sr(&info, Some(&study.seg.bytes)).unwrap().bytes));
    files.push(("SC000001".into(), dicom::write_captures(&info, &[picture("Axial", None)]).unwrap()[0].bytes.clone()));
    files.push(("PD000001".into(), dicom::write_document(&info, &page).unwrap().bytes));
    std::fs::create_dir_all(folder.join("S000007")).unwrap();
    let mut entries = Vec::new();
    for (name, bytes) in &files {
        write(&folder, &format!("S000007/{name}"), bytes);
        entries.push(dicom::DirectoryEntry::new(&format!("S000007/{name}"), bytes).unwrap());
    }
    let directory = write(&folder, "DICOMDIR", &dicom::write_directory(&entries).unwrap());
    let script = r#"
import sys, glob, pydicom
from pydicom.fileset import FileSet
root = sys.argv[1]
found = FileSet(root + '/DICOMDIR')
there = {str(p): pydicom.dcmread(p).SOPInstanceUID for p in glob.glob(root + '/S000007/*')}
listed = {i.path: i.SOPInstanceUID for i in found}
assert listed == there and len(there) == 54, (len(listed), len(there))
assert len(found.find_values('PatientID')) == len(found.find_values('StudyInstanceUID')) == 1
assert len(found.find_values('SeriesInstanceUID')) == 5
for i in found:
    d = i.load()
    assert d.file_meta.TransferSyntaxUID == i.ReferencedTransferSyntaxUIDInFile and d.StudyInstanceUID == i.StudyInstanceUID
    assert d.PatientName == i.PatientName and d.SeriesInstanceUID == i.SeriesInstanceUID
kinds = [r.DirectoryRecordType for r in pydicom.dcmread(root + '/DICOMDIR').DirectoryRecordSequence]
print(sorted(set(kinds)))
"#;
    let kinds = python(script, &[folder.path()]);
    assert_eq!(kinds.trim(), "['ENCAP DOC', 'IMAGE', 'PATIENT', 'SERIES', 'SR DOCUMENT', 'STUDY']");
    assert_eq!(dciodvfy_errors(&directory), Vec::<String>::new());
    let (content, dump) = tool("dcmdump", &[&directory]);
    assert!(content && complaints(&dump).is_empty(), "{dump}");
    assert!(dump.contains(r"S000007\SR000001"), "{dump}");
    // The objects agree on patient and study. (The validator is at odds with itself on where the accession number belongs.)
    let out =
        Command::new("dcentvfy").args(entries.iter().map(|e| folder.join("S000007").join(e.file_name()))).output();
    let said = String::from_utf8_lossy(&out.expect("dcentvfy is installed (apt: dicom3tools)").stderr).into_owned();
    let odd = "Different information entities for attribute - Element=<AccessionNumber>";
    let complaints: Vec<&str> = said.lines().filter(|l| !l.contains(odd)).collect();
    assert!(complaints.is_empty(), "{complaints:#?}");
    // DCMTK takes it as its own: it adds an object to it, and finds all records in place.
    let extra = dicom::write_captures(&info, &[picture("Axial", None), picture("Coronal", None)]).unwrap();
    write(&folder, "S000007/SC000002", &extra[1].bytes);
    let out = Command::new("dcmmkdir")
        .args(["--append", "--general-purpose", "S000007/SC000002"])
        .current_dir(folder.path())
        .output()
        .expect("dcmmkdir is installed (apt: dcmtk)");
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.success() && !said.contains("E: "), "{said}");
    write(&folder, "S000007/SC000002", &extra[1].bytes);
    let all = "import sys; from pydicom.fileset import FileSet; print(len(list(FileSet(sys.argv[1]))))";
    assert_eq!(python(all, &[&directory]).trim(), "55");
}

/// A grid turned about all three axes, one from feet to head and one from head to feet.
fn grids() -> [(&'static str, Geometry); 3] {
    let grid = |direction| Geometry {
        size: [24, 20, 50],
        spacing_mm: [0.7, 0.8, 2.5],
        origin_mm: [-10.0, -20.0, 5.0],
        direction,
    };
    let (a, b) = (0.3f64, -0.2f64);
    let (ca, sa, cb, sb) = (a.cos(), a.sin(), b.cos(), b.sin());
    let oblique = [[ca, -sa * cb, sa * sb], [sa, ca * cb, -ca * sb], [0.0, sb, cb]];
    let feet_first = [[-1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, -1.0]];
    [("axial", grid(Geometry::IDENTITY)), ("oblique", grid(oblique)), ("feet first", grid(feet_first))]
}

/// What another reader makes of a SEG, voxel by voxel in patient space.
const COMPARE_SEGMENTS: &str = r#"
import sys, json, numpy as np, highdicom as hd
seg, truth = hd.seg.segread(sys.argv[1]), json.load(open(sys.argv[2]))
labels = np.fromfile(sys.argv[3], np.uint8).reshape(truth['shape'])
volume = seg.get_volume(combine_segments=True, dtype=np.uint8)
# LPS of voxel (slice, row, column), then the index of ours at that place.
own = np.linalg.inv(np.array(truth['affine']))
index = np.stack(np.meshgrid(*[np.arange(n) for n in volume.array.shape], indexing='ij'), -1).reshape(-1, 3)
place = index @ volume.affine[:3, :3].T + volume.affine[:3, 3]
found = place @ own[:3, :3].T + own[:3, 3]
assert np.abs(found - np.rint(found)).max() < 1e-3, np.abs(found - np.rint(found)).max()
mine = np.zeros_like(labels)
found = np.rint(found).astype(int)
mine[tuple(found[:, i] for i in (0, 1, 2))] = volume.array.reshape(-1)
expected = np.zeros_like(labels)
for number, value in enumerate(truth['values'], 1): expected[labels == value] = number
assert (mine == expected).all() and expected.max() == len(truth['values'])
for frame in seg.PerFrameFunctionalGroupsSequence:
    source = frame.DerivationImageSequence[0].SourceImageSequence[0]
    assert source.SpatialLocationsPreserved == truth['preserved'] and source.ReferencedSOPInstanceUID in truth['slices']
assert seg.SegmentationType == 'BINARY' and {s.SegmentAlgorithmType for s in seg.SegmentSequence} == {'AUTOMATIC'}
assert len({s.TrackingUID for s in seg.SegmentSequence}) == len(truth['values'])
print(seg.NumberOfFrames)
"#;

#[test]
fn segmentations_of_any_orientation_come_back_voxel_by_voxel() {
    let folder = Folder::new("seg-orientations");
    let mut cases: Vec<(&str, Vec<Header>)> = Vec::new();
    for (name, geometry) in grids() {
        let hu = Array3::zeros(geometry.shape_zyx());
        let series = dicom::phantom_series(&Volume { hu, geometry }, &PatientInfo::default(), 3);
        cases.push((name, series.iter().map(|(_, bytes)| parse_header(bytes).unwrap()).collect()));
    }
    // A gantry tilted by atan(0.5 / 2.5) = 11 degrees: each slice 0.5 mm further back.
    let mut tilted = cases[0].1.clone();
    for (k, header) in tilted.iter_mut().enumerate() {
        header.position_mm.as_mut().unwrap()[1] += 0.5 * k as f64;
    }
    cases.push(("tilted", tilted));
    for (name, headers) in cases {
        let plan = plan_series(&headers).unwrap();
        assert_eq!(plan.resampled, name == "tilted");
        let (labels, seg) = label(&plan);
        let file = write(&folder, "seg.dcm", &seg.bytes);
        assert_eq!(dciodvfy_errors(&file), Vec::<String>::new(), "{name}");
        let g = &plan.geometry;
        // Columns: a step along slices, rows, columns; then the origin.
        let column = |axis: usize, row: usize| g.direction[row][axis] * g.spacing_mm[axis];
        let affine: Vec<Vec<f64>> = (0..3)
            .map(|row| vec![column(2, row), column(1, row), column(0, row), g.origin_mm[row]])
            .chain([vec![0.0, 0.0, 0.0, 1.0]])
            .collect();
        let slices: Vec<&str> = plan.slices.iter().map(|s| s.header.sop_instance_uid.as_str()).collect();
        let truth = serde_json::json!({
            "shape": [g.size[2], g.size[1], g.size[0]],
            "affine": affine,
            "values": [1, 2, 4],
            "preserved": if plan.resampled { "NO" } else { "YES" },
            "slices": slices,
        });
        let truth = write(&folder, "truth.json", truth.to_string().as_bytes());
        let raw: Vec<u8> = labels.labels.iter().copied().collect();
        let raw = write(&folder, "labels.bin", &raw);
        // 15 slices of liver, 2 of lesion, 3 of tumor; the rest is left out.
        assert_eq!(python(COMPARE_SEGMENTS, &[&file, &truth, &raw]).trim(), "20", "{name}");
    }
}
