//! What the pages show, as plain values: easy to fill from a stored result, and nothing else reaches a page.

use crate::risk::ClinicalValues;

/// Where a study is, as a reader of the page needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Status {
    /// Objects still arrive.
    #[default]
    Receiving,
    /// The computation runs.
    Processing,
    /// The quality gate found nothing.
    Accepted,
    /// Usable, with remarks that belong to the result.
    AcceptedWithNotes,
    /// The series rules or the quality gate refused: no risk is shown.
    Refused,
    /// The box could not do its work: no risk is shown.
    Failed,
}

impl Status {
    /// True while a reader should look again soon.
    pub fn is_under_way(self) -> bool {
        matches!(self, Status::Receiving | Status::Processing)
    }

    /// True if an assessment may be shown.
    pub fn allows_risk(self) -> bool {
        matches!(self, Status::Accepted | Status::AcceptedWithNotes)
    }

    /// For people.
    pub fn title(self) -> &'static str {
        match self {
            Status::Receiving => "Receiving",
            Status::Processing => "Processing",
            Status::Accepted => "Accepted",
            Status::AcceptedWithNotes => "Accepted with notes",
            Status::Refused => "Not analysed",
            Status::Failed => "Failed",
        }
    }
}

/// One line of the list of studies.
#[derive(Debug, Clone, Default)]
pub struct StudySummary {
    /// Box-local study number; also the last part of the page's address.
    pub number: String,
    /// The patient, where the site configured that an identifier is shown.
    pub patient: Option<String>,
    /// Series description.
    pub description: Option<String>,
    /// When the first object came, unix ms UTC.
    pub received_at_ms: Option<i64>,
    /// Where the study is.
    pub status: Status,
    /// `low`, `intermediate` or `high`.
    pub group: Option<String>,
    /// Probability of the event, 0 to 1.
    pub probability: Option<f64>,
    /// `provisional` or `final`.
    pub certainty: Option<String>,
    /// The first reason of a refusal or failure, a sentence.
    pub reason: Option<String>,
    /// Where its alert is.
    pub alert: Option<AlertState>,
}

/// Everything about one study.
#[derive(Debug, Clone, Default)]
pub struct StudyPage {
    /// Box-local study number.
    pub number: String,
    /// 1, or more when slices or clinical values came later.
    pub revision: Option<u32>,
    /// The patient, where the site configured that an identifier is shown.
    pub patient: Option<String>,
    /// Series description.
    pub description: Option<String>,
    /// When the first object came, unix ms UTC.
    pub received_at_ms: Option<i64>,
    /// When the result was computed, unix ms UTC.
    pub computed_at_ms: Option<i64>,
    /// Objects received.
    pub n_objects: Option<u32>,
    /// Columns, rows, slices.
    pub size_xyz: Option<[usize; 3]>,
    /// Voxel spacing along x, y, z.
    pub spacing_mm: Option<[f64; 3]>,
    /// Where the study is.
    pub status: Status,
    /// The step that runs now, such as `segmenting`; for a study under way.
    pub state: Option<String>,
    /// Why there is no risk.
    pub reasons: Vec<Remark>,
    /// Remarks of the gate that belong to the result.
    pub notes: Vec<Remark>,
    /// The risk. Ignored unless the status allows one.
    pub assessment: Option<AssessmentView>,
    /// What was segmented.
    pub regions: Vec<RegionRow>,
    /// Milliseconds per step, in order.
    pub steps: Vec<StepRow>,
    /// The packages that made the result.
    pub packages: Vec<PackageRow>,
    /// Backend and arithmetic, such as `tract, int8 weights, f32`.
    pub backend: Option<String>,
    /// Files to download, pictures included or not. Only these names and `pictures` are ever served.
    pub files: Vec<FileRow>,
    /// File names of pictures, in order of display.
    pub pictures: Vec<String>,
    /// Radiomic features.
    pub features: Vec<FeatureRow>,
    /// Clinical values, known or not; they also fill the form.
    pub clinical: ClinicalValues,
    /// True if the service takes clinical values for this study now.
    pub clinical_form: bool,
    /// The alert, if the result raised one.
    pub alert: Option<AlertView>,
    /// What goes to other DICOM nodes.
    pub deliveries: Vec<DeliveryRow>,
    /// The audit entries of this study, newest first.
    pub audit: Vec<AuditRow>,
}

/// One object on its way to another DICOM node.
#[derive(Debug, Clone, Default)]
pub struct DeliveryRow {
    /// Message id: what is sent again by.
    pub id: String,
    /// AE title of the node.
    pub to: String,
    /// The object's file name.
    pub what: String,
    /// How far it has come, such as `delivered`.
    pub state: String,
    /// How often it was tried.
    pub attempts: u32,
    /// Why it is parked, and waits for a person.
    pub parked: Option<String>,
}

/// A reason or a note.
#[derive(Debug, Clone, Default)]
pub struct Remark {
    /// Stable code, such as `gate.liver-volume`.
    pub code: String,
    /// What was found.
    pub sentence: String,
    /// What to do; may be empty.
    pub advice: String,
}

/// The risk as it is shown.
#[derive(Debug, Clone, Default)]
pub struct AssessmentView {
    /// Probability of the event within the horizon, 0 to 1.
    pub probability: f64,
    /// `low`, `intermediate` or `high`.
    pub group: String,
    /// Probabilities that separate low from intermediate and intermediate from high.
    pub cut_offs: Option<[f64; 2]>,
    /// Months to which `probability` refers.
    pub horizon_months: Option<u32>,
    /// Variant of the nomogram, such as `image only`.
    pub variant: String,
    /// `provisional` or `final`.
    pub certainty: String,
    /// Total nomogram points.
    pub points: Option<f64>,
    /// Total points of a patient at the worse end of every axis.
    pub points_max: Option<f64>,
    /// (months, probability to be free of metastasis until then), ascending.
    pub survival: Vec<(f64, f64)>,
    /// What each predictor adds.
    pub contributions: Vec<Contribution>,
    /// Remarks of the nomogram.
    pub notes: Vec<Remark>,
}

/// What one predictor adds.
#[derive(Debug, Clone, Default)]
pub struct Contribution {
    /// Predictor, for people.
    pub label: String,
    /// Its value with unit.
    pub value: String,
    /// Shapley value, in the unit of the linear predictor.
    pub shap: f64,
    /// Nomogram points.
    pub points: Option<f64>,
}

/// One segmented region.
#[derive(Debug, Clone, Default)]
pub struct RegionRow {
    /// For people.
    pub name: String,
    /// Milliliters.
    pub volume_ml: f64,
    /// Voxels on the source's grid.
    pub n_voxels: usize,
}

/// One step of the computation.
#[derive(Debug, Clone, Default)]
pub struct StepRow {
    /// For people, such as `segment`.
    pub name: String,
    /// Wall time in milliseconds.
    pub ms: f64,
}

/// A model package that made the result.
#[derive(Debug, Clone, Default)]
pub struct PackageRow {
    /// `segmenter`, `nomogram`, `radiomics settings`.
    pub kind: String,
    /// Package id.
    pub id: String,
    /// Version; may be empty.
    pub version: String,
    /// SHA-256, hex.
    pub sha256: String,
}

/// A file to download.
#[derive(Debug, Clone, Default)]
pub struct FileRow {
    /// Name within the study, such as `labels.nii.gz`.
    pub name: String,
    /// What it is, for people; may be empty.
    pub title: String,
    /// Length in bytes.
    pub length: Option<u64>,
}

/// One radiomic feature.
#[derive(Debug, Clone, Default)]
pub struct FeatureRow {
    /// Region it was measured in.
    pub region: String,
    /// Name as PyRadiomics writes it.
    pub name: String,
    /// Value, as text.
    pub value: String,
}

/// Where an alert is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlertState {
    /// In the outbox.
    Queued,
    /// The broker has it; no station answered yet.
    AtBroker,
    /// No station answered in time; the other channel was used.
    Escalated,
    /// A station acknowledged it.
    Acknowledged,
    /// Its validity ended without an acknowledgement.
    Expired,
}

impl AlertState {
    /// For people.
    pub fn title(self) -> &'static str {
        match self {
            AlertState::Queued => "Waiting to be sent",
            AlertState::AtBroker => "Sent, not yet acknowledged",
            AlertState::Escalated => "Escalated, not yet acknowledged",
            AlertState::Acknowledged => "Acknowledged",
            AlertState::Expired => "Expired without acknowledgement",
        }
    }
}

/// The alert of a study.
#[derive(Debug, Clone)]
pub struct AlertView {
    /// Alert id.
    pub id: Option<String>,
    /// Where it is.
    pub state: AlertState,
    /// Since when, unix ms UTC.
    pub at_ms: Option<i64>,
    /// The station that acknowledged it.
    pub by: Option<String>,
}

/// One entry of the audit.
#[derive(Debug, Clone, Default)]
pub struct AuditRow {
    /// Unix ms UTC.
    pub at_ms: i64,
    /// Who.
    pub actor: String,
    /// What.
    pub action: String,
    /// More, for a person; may be empty.
    pub detail: String,
}
