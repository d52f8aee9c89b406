//! The objects that carry a result into a PACS: written for a phantom, checked and read by others (dicom3tools, DCMTK, pydicom).
#![allow(clippy::disallowed_methods, reason = "tests own files and peers")]

use crate::common::Folder;
use metwatch::dicom::{
    self, ContributionReport, FeatureReport, Header, ObjectFile, PackageReport, PatientInfo, RegionReport,
    RemarkReport, Report, ResultError, ResultInfo, RiskReport, SegInfo, SeriesPlan, parse_header, plan_series,
};
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
    let seg = dicom::write_seg(&map, &plan, &info).unwrap();
    Study { plan, slices, seg }
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
        segmented: true,
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
        known: vec![("afp_ng_per_ml".into(), "4.2".into())],
        missing: vec!["perineural_invasion".into(), "tumor_nodules".into()],
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

/// Runs a script with pydicom; what it prints.
fn pydicom(script: &str, args: &[&Path]) -> String {
    let python = std::env::var_os("METWATCH_TEST_PYTHON").map_or(".venv/bin/python".into(), PathBuf::from);
    let out = Command::new(python).args(["-c", script]).args(args).output().expect("METWATCH_TEST_PYTHON is a Python");
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
    let tree = pydicom(TREE, &[&file]);
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
    assert_eq!(pydicom(compare, &[&file, &folder.join("seg.dcm")]).trim(), "3");
}

#[test]
fn nothing_found_and_not_analyzed_are_told_apart() {
    let folder = Folder::new("sr-cases");
    let (study, full) = (study(), report());
    let source = study.headers();
    let mut nothing = full.clone();
    nothing.regions.iter_mut().filter(|r| r.region != Region::Liver).for_each(|r| r.n_voxels = 0);
    let refused = Report {
        segmented: false,
        risk: None,
        regions: Vec::new(),
        reasons: vec![RemarkReport {
            code: "series.missing-slice".into(),
            sentence: "a slice is missing".into(),
            advice: "send the whole series again".into(),
        }],
        ..full.clone()
    };
    let mut no_risk = full.clone();
    no_risk.risk = None;
    let cases = [
        ("nothing", &nothing, Some(&study.seg.bytes[..]), "111241", 3),
        ("refused", &refused, None, "111245", 0),
        ("no_risk", &no_risk, Some(&study.seg.bytes[..]), "111244", 1),
    ];
    for (name, report, seg, summary, absent) in cases {
        let sr = dicom::write_sr(&info(&source, report), seg).unwrap();
        let file = write(&folder, &format!("{name}.dcm"), &sr.bytes);
        assert_eq!(dciodvfy_errors(&file), Vec::<String>::new(), "{name}");
        let tree = pydicom(TREE, &[&file]);
        assert!(tree.contains(&format!("= ({summary}, DCM, ")), "{name}: {tree}");
        assert_eq!(tree.matches("= (272519000, SCT, Absent)").count(), absent, "{name}");
        assert_eq!(tree.contains("What to do: send the whole series again"), name == "refused");
        assert_eq!(tree.contains("(122157, DCM, Probability)"), name == "nothing");
    }
    let without_seg = dicom::write_sr(&info(&source, &full), None).unwrap_err();
    assert_eq!(without_seg, ResultError::NoSegment { region: Region::Liver });
    assert_eq!(dicom::write_sr(&info(&[], &full), None).unwrap_err(), ResultError::NoSource);
}
