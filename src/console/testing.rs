//! Studies for tests and for looking at the pages, and a check of their HTML.

use super::view::*;
use crate::risk::ClinicalValues;

/// 25 November 2025, 08:12:33 UTC.
const AT_MS: i64 = 1_764_058_353_000;

fn remark(code: &str, sentence: &str, advice: &str) -> Remark {
    Remark { code: code.into(), sentence: sentence.into(), advice: advice.into() }
}

fn contribution(label: &str, value: &str, shap: f64, points: f64) -> Contribution {
    Contribution { label: label.into(), value: value.into(), shap, points: Some(points) }
}

/// A study with everything that a page can show.
pub fn scored_study() -> StudyPage {
    let step = |(name, ms): (&str, f64)| StepRow { name: name.into(), ms };
    let file = |(name, length): (&str, u64)| FileRow { name: name.into(), title: String::new(), length: Some(length) };
    let region = |(name, volume_ml, n_voxels): (&str, f64, usize)| RegionRow { name: name.into(), volume_ml, n_voxels };
    let audit = |(after_ms, actor, action, detail): (i64, &str, &str, &str)| AuditRow {
        at_ms: AT_MS + after_ms,
        actor: actor.into(),
        action: action.into(),
        detail: detail.into(),
    };
    let package = |(kind, id, version): (&str, &str, &str)| PackageRow {
        kind: kind.into(),
        id: id.into(),
        version: version.into(),
        sha256: "9f2c4e0b7a6d51388ab0c1d2e3f405162738495a6b7c8d9e0f1a2b3c4d5e6f70".into(),
    };
    let names = [
        "original_shape_MeshVolume",
        "original_firstorder_Mean",
        "original_glcm_JointEntropy",
        "original_glcm_Contrast",
    ];
    StudyPage {
        number: "S000041".into(),
        description: Some("Abdomen portal venous 2.5 mm".into()),
        received_at_ms: Some(AT_MS),
        computed_at_ms: Some(AT_MS + 31_000),
        n_objects: Some(128),
        size_xyz: Some([512, 512, 128]),
        spacing_mm: Some([0.75, 0.75, 2.5]),
        status: Status::AcceptedWithNotes,
        notes: vec![remark("series.no-contrast", "the contrast phase is not stated in the series", "")],
        assessment: Some(AssessmentView {
            probability: 0.684,
            group: "high".into(),
            cut_offs: Some([0.22, 0.51]),
            horizon_months: Some(36),
            variant: "image + AFP".into(),
            certainty: "provisional".into(),
            points: Some(241.0),
            points_max: Some(402.0),
            survival: vec![(12.0, 0.78), (24.0, 0.51), (36.0, 0.32)],
            contributions: vec![
                contribution("Tumor joint entropy", "6.42 bits", 0.91, 88.0),
                contribution("Alpha-fetoprotein", "12.1 ng/mL", 0.44, 71.0),
                contribution("Liver contrast (GLCM)", "4.87", 0.31, 52.0),
                contribution("Tumor sphericity", "0.71", -0.22, 19.0),
                contribution("Liver mean attenuation", "108 HU", -0.08, 11.0),
            ],
            notes: vec![remark(
                "risk.missing",
                "the complete variant was not possible: dissected lymph nodes, perineural invasion and tumor nodules are not known",
                "enter them when pathology reports them",
            )],
        }),
        regions: [
            ("liver", 1412.3, 1_004_301),
            ("liver_lesion", 8.4, 5_973),
            ("colon", 611.0, 434_488),
            ("colorectal_tumor", 21.7, 15_431),
        ]
        .map(region)
        .into(),
        steps: [
            ("assemble", 620.0),
            ("segment", 14_310.0),
            ("gate", 240.0),
            ("measure", 9_120.0),
            ("assess", 3.0),
            ("pictures and files", 2_210.0),
        ]
        .map(step)
        .into(),
        packages: [
            ("segmenter", "abdomen-phantom", "0.1.0"),
            ("nomogram", "phantom-mlm", "0.1.0"),
            ("radiomics settings", "PyRadiomics 3.1 defaults", ""),
        ]
        .map(package)
        .into(),
        backend: Some("tract, int8 weights, f32 arithmetic".into()),
        files: [
            ("labels.nii.gz", 182_304),
            ("features.csv", 34_120),
            ("result.json", 6_310),
            ("segmentation.dcm", 1_204_998),
        ]
        .map(file)
        .into(),
        pictures: ["axial_tumor", "axial_liver", "coronal_tumor", "sagittal_tumor"]
            .map(|n| format!("overlay_{n}.png"))
            .into(),
        features: names.map(|n| FeatureRow { region: "liver".into(), name: n.into(), value: "123.456".into() }).into(),
        clinical: ClinicalValues { afp_ng_per_ml: Some(12.1), ..ClinicalValues::default() },
        clinical_form: true,
        alert: Some(AlertView {
            id: Some("5f1c".into()),
            state: AlertState::Acknowledged,
            at_ms: Some(AT_MS + 58_000),
            by: Some("ward-3".into()),
        }),
        audit: [
            (58_000, "station ward-3", "alert acknowledged", ""),
            (32_000, "broker", "alert sent", "QoS 1"),
            (31_000, "service", "scored", "high, provisional"),
            (16_000, "service", "segmented", "4 regions"),
            (1_000, "service", "assembled", "128 slices"),
        ]
        .map(audit)
        .into(),
        ..StudyPage::default()
    }
}

/// A study that the gate refused.
pub fn refused_study() -> StudyPage {
    let scored = scored_study();
    StudyPage {
        number: "S000042".into(),
        description: Some("Thorax native".into()),
        status: Status::Refused,
        reasons: vec![
            remark(
                "gate.liver-volume",
                "the liver measures 41 mL, under 400 mL: it is not in the scanned range, or the network did not recognize it",
                "send the whole abdomen as the scanner reconstructed it",
            ),
            remark(
                "gate.entropy",
                "the network is unsure about the liver (mean entropy 0.83 nats, over 0.6)",
                "have the pictures below looked at by a radiologist",
            ),
        ],
        notes: vec![],
        assessment: None,
        regions: vec![
            RegionRow { name: "liver".into(), volume_ml: 41.2, n_voxels: 29_297 },
            RegionRow { name: "colorectal_tumor".into(), ..RegionRow::default() },
        ],
        pictures: ["axial_liver", "coronal_liver", "sagittal_liver"].map(|n| format!("overlay_{n}.png")).into(),
        clinical: ClinicalValues::default(),
        clinical_form: false,
        alert: None,
        audit: scored.audit[2..].to_vec(),
        ..scored
    }
}

/// A study in which every text tries to become markup.
pub fn hostile_study() -> StudyPage {
    let bad = || "<script>alert(\"x'y\")</script>&".to_owned();
    let mut s = scored_study();
    (s.number, s.patient, s.description, s.backend) = (bad(), Some(bad()), Some(bad()), Some(bad()));
    s.notes = vec![Remark { code: bad(), sentence: bad(), advice: bad() }];
    s.reasons = s.notes.clone();
    if let Some(a) = &mut s.assessment {
        (a.group, a.variant, a.certainty, a.notes) = (bad(), bad(), bad(), s.notes.clone());
        a.contributions = vec![
            Contribution { label: bad(), value: bad(), shap: f64::INFINITY, points: Some(1.0) },
            contribution(&bad(), &bad(), 1.0, 2.0),
        ];
        (a.probability, a.cut_offs) = (f64::NAN, Some([0.9, 0.1]));
    }
    s.regions = vec![RegionRow { name: bad(), volume_ml: f64::NAN, n_voxels: 1 }];
    s.steps = vec![StepRow { name: bad(), ms: 1.0 }];
    s.packages = vec![PackageRow { kind: bad(), id: bad(), version: bad(), sha256: bad() }];
    s.files = vec![FileRow { name: bad(), title: bad(), length: None }];
    s.pictures = vec![bad() + ".png"];
    s.features = vec![FeatureRow { region: bad(), name: bad(), value: bad() }];
    s.audit = vec![AuditRow { at_ms: i64::MAX, actor: bad(), action: bad(), detail: bad() }];
    s.alert = Some(AlertView { id: Some(bad()), state: AlertState::Expired, at_ms: None, by: Some(bad()) });
    s
}

/// A list with a study in each status.
pub fn summaries() -> Vec<StudySummary> {
    let base = |number: &str, minutes: i64, description: &str, status| StudySummary {
        number: number.into(),
        description: Some(description.into()),
        received_at_ms: Some(AT_MS - minutes * 60_000),
        status,
        ..StudySummary::default()
    };
    let scored = |s: StudySummary, group: &str, probability, certainty: &str, alert| StudySummary {
        group: Some(group.into()),
        probability: Some(probability),
        certainty: Some(certainty.into()),
        alert,
        ..s
    };
    let mut refused = base("S000042", 2, "Thorax native", Status::Refused);
    refused.reason = Some("the liver measures 41 mL, under 400 mL: it is not in the scanned range".into());
    let portal = "Abdomen portal venous 2.5 mm";
    vec![
        base("S000044", 0, portal, Status::Receiving),
        base("S000043", 1, portal, Status::Processing),
        refused,
        scored(
            base("S000041", 9, portal, Status::AcceptedWithNotes),
            "high",
            0.684,
            "provisional",
            Some(AlertState::AtBroker),
        ),
        scored(base("S000040", 44, portal, Status::Accepted), "high", 0.573, "final", Some(AlertState::Acknowledged)),
        scored(base("S000039", 95, "Abdomen 3 mm", Status::Accepted), "intermediate", 0.31, "provisional", None),
        scored(base("S000038", 180, portal, Status::Accepted), "low", 0.062, "final", None),
        base("S000037", 240, "Localizer", Status::Failed),
    ]
}

/// Well-formed enough: every element is closed in order, every attribute is quoted, there is no script.
pub fn check_html(html: &str) {
    const VOID: [&str; 4] = ["meta", "img", "input", "br"];
    let mut open: Vec<&str> = Vec::new();
    let body = html.strip_prefix("<!DOCTYPE html>").expect("a doctype");
    let (style, rest) = (body.find("<style>").expect("a style"), body.find("</style>").expect("its end"));
    for text in [&body[..style + 7], &body[rest..]] {
        for part in text.split('<').skip(1) {
            let (tag, _) = part.split_once('>').unwrap_or_else(|| panic!("a tag without end: {part}"));
            let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap_or("");
            assert_ne!(name, "script");
            assert_eq!(tag.matches('"').count() % 2, 0, "quotes in <{tag}>");
            if let Some(closed) = tag.strip_prefix('/') {
                assert_eq!(open.pop(), Some(closed), "in the wrong order: </{closed}>");
            } else if !tag.ends_with('/') && !VOID.contains(&name) {
                open.push(name);
            }
        }
    }
    assert!(open.is_empty(), "not closed: {open:?}");
}
