//! The structured report of a study: Comprehensive 3D SR by TID 1500 "Measurement Report" (PS3.16), as IHE AI Results asks.

use super::data_set::DataSet;
use super::items::read_items;
use super::report::{FeatureReport, PackageReport, RegionReport, ResultError, ResultInfo, RiskReport, date_and_time};
use super::seg::terms;
use super::source::{Code, ObjectFile, SourceUids, code, equipment, patient_and_study, reference, reference_to, short};
use super::sr_codes::{PRIVATE, clinical, clinical_name, clinical_text, feature, private_value, site, unit};
use super::sr_items::Relation::{Contains, HasAcquisitionContext, HasConceptModifier, HasObservationContext};
use super::sr_items::{coded, container, date, image, number, text, uid, with_children, with_template};
use super::{Header, derive_uid, parse_object, part10, sop_class, syntax};
use crate::DISCLAIMER;
use crate::risk::ClinicalKey;
use crate::volume::Region;
use dicom_dictionary_std::tags;

/// Marks everything that this box says.
pub(super) const INVESTIGATIONAL: &str = "investigational: not cleared or approved as a medical device";

const TRACKING_IDENTIFIER: Code<'_> = ("112039", "DCM", "Tracking Identifier");
const TRACKING_UID: Code<'_> = ("112040", "DCM", "Tracking Unique Identifier");
const MEASUREMENT_GROUP: Code<'_> = ("125007", "DCM", "Measurement Group");
const FINDING: Code<'_> = ("121071", "DCM", "Finding");
const FINDING_SITE: Code<'_> = ("363698007", "SCT", "Finding Site");
const COMMENT: Code<'_> = ("121106", "DCM", "Comment");

/// A term of our own scheme.
const fn own<'a>(value: &'a str, meaning: &'a str) -> Code<'a> {
    (value, PRIVATE, meaning)
}

/// Writes the structured report: a measurement group per region that was found (TID 1411, with its segment of
/// `segmentation`, the SEG object of this result), the risk as a group of its own (TID 1501), and what was looked for
/// and not found, reasons, notes and disclaimers as qualitative evaluations.
///
/// `predecessor` is the report that this one takes the place of, such as one before more was known.
///
/// "CAD Processing and Findings Summary" (CID 6047) tells whether a risk was computed and whether there are findings.
pub fn write_sr(
    info: &ResultInfo<'_>,
    segmentation: Option<&[u8]>,
    predecessor: Option<&[u8]>,
) -> Result<ObjectFile, ResultError> {
    let first = *info.source.first().ok_or(ResultError::NoSource)?;
    let segmentation = segmentation.map(Segmentation::read).transpose()?;
    let new = |what: &[u8]| derive_uid(&[b"sr", first.sop_instance_uid.as_str().as_bytes(), info.uid_seed, what]);
    let (instance, series) = (new(b"instance"), new(b"series"));
    let (day, time) = date_and_time(&info.report.created_at);
    let device = &info.report.device;
    let object = equipment(patient_and_study(first), device)
        .text(tags::SPECIFIC_CHARACTER_SET, "ISO_IR 192")
        .text(tags::SOP_CLASS_UID, sop_class::COMPREHENSIVE_3D_SR)
        .text(tags::SOP_INSTANCE_UID, &instance)
        .text(tags::SERIES_INSTANCE_UID, &series)
        .text(tags::MODALITY, "SR")
        .text(tags::SERIES_NUMBER, &info.series_number.to_string())
        .text(tags::SERIES_DATE, &day)
        .text(tags::SERIES_TIME, &time)
        .text(tags::SERIES_DESCRIPTION, &short(&format!("Measurements and risk, {DISCLAIMER}")))
        .items(tags::REFERENCED_PERFORMED_PROCEDURE_STEP_SEQUENCE, Vec::new())
        .text(tags::INSTANCE_NUMBER, "1")
        .text(tags::CONTENT_DATE, &day)
        .text(tags::CONTENT_TIME, &time)
        .text(tags::COMPLETION_FLAG, "COMPLETE")
        .text(tags::VERIFICATION_FLAG, "UNVERIFIED")
        .text(tags::PRELIMINARY_FLAG, preliminary(info))
        .items(tags::PERFORMED_PROCEDURE_CODE_SEQUENCE, Vec::new())
        .items(tags::CODING_SCHEME_IDENTIFICATION_SEQUENCE, coding_schemes())
        .item(tags::CURRENT_REQUESTED_PROCEDURE_EVIDENCE_SEQUENCE, evidence(info, segmentation.as_ref()))
        .text(tags::VALUE_TYPE, "CONTAINER")
        .text(tags::CONTINUITY_OF_CONTENT, "SEPARATE")
        .item(tags::CONCEPT_NAME_CODE_SEQUENCE, code(("126000", "DCM", "Imaging Measurement Report")));
    let object = match predecessor {
        Some(earlier) => object.item(tags::PREDECESSOR_DOCUMENTS_SEQUENCE, predecessor_item(earlier)?),
        None => object,
    };
    let object = with_template(with_children(object, content(info, segmentation.as_ref())?), "1500");
    let data_set = object.to_bytes();
    let bytes = part10::file(&data_set, sop_class::COMPREHENSIVE_3D_SR, &instance, syntax::EXPLICIT_LE, None);
    Ok(ObjectFile { bytes, sop_instance_uid: instance, series_instance_uid: series })
}

/// A risk that changes when more becomes known is preliminary.
fn preliminary(info: &ResultInfo<'_>) -> &'static str {
    let provisional = info.report.risk.as_ref().is_some_and(|r| r.certainty == "provisional");
    if provisional { "PRELIMINARY" } else { "FINAL" }
}

/// Study, series and instance of an earlier report.
fn predecessor_item(earlier: &[u8]) -> Result<DataSet, ResultError> {
    let header = parse_object(earlier)?.header;
    let series = DataSet::default()
        .text(tags::SERIES_INSTANCE_UID, header.series_instance_uid.as_str())
        .item(tags::REFERENCED_SOP_SEQUENCE, reference(&header));
    Ok(DataSet::default()
        .text(tags::STUDY_INSTANCE_UID, header.study_instance_uid.as_str())
        .item(tags::REFERENCED_SERIES_SEQUENCE, series))
}

/// What the report needs of the SEG object that goes with it.
struct Segmentation {
    instance: String,
    series: String,
    /// Region, segment number, tracking UID.
    segments: Vec<(Region, u16, String)>,
}

impl Segmentation {
    fn read(bytes: &[u8]) -> Result<Self, ResultError> {
        let object = parse_object(bytes)?;
        let root = read_items(&object.data_set, &object.header.transfer_syntax)?;
        let segments = root.items(tags::SEGMENT_SEQUENCE).iter().filter_map(|item| {
            let region = Region::from_name(&item.text(tags::TRACKING_ID))?;
            Some((region, item.u16(tags::SEGMENT_NUMBER)?, item.text(tags::TRACKING_UID)))
        });
        Ok(Self {
            instance: object.header.sop_instance_uid.as_str().to_owned(),
            series: object.header.series_instance_uid.as_str().to_owned(),
            segments: segments.collect(),
        })
    }

    fn segment(&self, region: Region) -> Option<&(Region, u16, String)> {
        self.segments.iter().find(|(own, _, _)| *own == region)
    }
}

fn coding_schemes() -> Vec<DataSet> {
    let scheme = |designator: &str, name: &str, responsible: &str| {
        DataSet::default()
            .text(tags::CODING_SCHEME_DESIGNATOR, designator)
            .text(tags::CODING_SCHEME_NAME, name)
            .text(tags::CODING_SCHEME_RESPONSIBLE_ORGANIZATION, responsible)
    };
    let ibsi = scheme("IBSI", "Image Biomarker Standardisation Initiative", "IBSI");
    vec![scheme(PRIVATE, "metwatch", "metwatch"), ibsi.text(tags::CODING_SCHEME_UID, "1.2.840.10008.2.16.13")]
}

/// Every object that the content refers to, by study and series.
fn evidence(info: &ResultInfo<'_>, segmentation: Option<&Segmentation>) -> DataSet {
    let uids = SourceUids::of(info.source.first().copied());
    let series = |uid: &str, instances: Vec<DataSet>| {
        DataSet::default().text(tags::SERIES_INSTANCE_UID, uid).items(tags::REFERENCED_SOP_SEQUENCE, instances)
    };
    let slices = info.source.iter().map(|h| reference(h)).collect();
    let of_segmentation =
        segmentation.map(|s| series(&s.series, vec![reference_to(sop_class::SEGMENTATION, &s.instance)]));
    let all = [series(&uids.series, slices)].into_iter().chain(of_segmentation).collect();
    DataSet::default().text(tags::STUDY_INSTANCE_UID, &uids.study).items(tags::REFERENCED_SERIES_SEQUENCE, all)
}

fn content(info: &ResultInfo<'_>, segmentation: Option<&Segmentation>) -> Result<Vec<DataSet>, ResultError> {
    let language = ("121049", "DCM", "Language of Content Item and Descendants");
    let mut items = vec![coded(HasConceptModifier, language, ("en-US", "RFC5646", "English (United States)"))];
    items.extend(observer(info));
    let procedure = ("121058", "DCM", "Procedure reported");
    items.push(coded(HasConceptModifier, procedure, ("25045-6", "LN", "CT unspecified body region")));
    items.push(image_library(info));
    let mut groups = Vec::new();
    for region in info.report.regions.iter().filter(|r| r.n_voxels > 0) {
        groups.push(region_group(info, region, segmentation)?);
    }
    groups.extend(info.report.risk.as_ref().map(|risk| risk_group(info, risk, segmentation)));
    if !groups.is_empty() {
        items.push(container(("126010", "DCM", "Imaging Measurements"), None, groups));
    }
    items.push(container(("C0034375", "UMLS", "Qualitative Evaluations"), None, evaluations(info)));
    Ok(items)
}

/// TID 1002 and 1004: the device observes, no person did.
fn observer(info: &ResultInfo<'_>) -> Vec<DataSet> {
    let device = &info.report.device;
    let name = format!("metwatch {}", device.software);
    let device_uid = derive_uid(&[b"device", device.manufacturer.as_bytes(), device.serial_number.as_bytes()]);
    let say = |concept, value: &str| text(HasObservationContext, concept, value);
    vec![
        coded(HasObservationContext, ("121005", "DCM", "Observer Type"), ("121007", "DCM", "Device")),
        uid(HasObservationContext, ("121012", "DCM", "Device Observer UID"), &device_uid),
        say(("121013", "DCM", "Device Observer Name"), &name),
        say(("121014", "DCM", "Device Observer Manufacturer"), &device.manufacturer),
        say(("121015", "DCM", "Device Observer Model Name"), &device.model),
        say(("121016", "DCM", "Device Observer Serial Number"), &device.serial_number),
    ]
}

/// TID 1600: the slices, with what they have in common.
fn image_library(info: &ResultInfo<'_>) -> DataSet {
    let uids = SourceUids::of(info.source.first().copied());
    let mut group =
        vec![coded(HasAcquisitionContext, ("121139", "DCM", "Modality"), ("CT", "DCM", "Computed Tomography"))];
    // A date of the source that is none would make the item invalid.
    let study_date = info.source.first().map_or("", |h| h.study_date.as_str());
    if study_date.len() == 8 && study_date.bytes().all(|b| b.is_ascii_digit()) {
        group.push(date(HasAcquisitionContext, ("111060", "DCM", "Study Date"), study_date));
    }
    group.push(uid(HasAcquisitionContext, ("112227", "DCM", "Frame of Reference UID"), &uids.frame_of_reference));
    group.extend(info.source.iter().map(|h| slice_image(h)));
    let group = container(("126200", "DCM", "Image Library Group"), None, group);
    container(("111028", "DCM", "Image Library"), None, vec![group])
}

fn slice_image(header: &Header) -> DataSet {
    let class = if header.sop_class_uid.is_empty() { sop_class::CT } else { &header.sop_class_uid };
    image(Contains, ("260753009", "SCT", "Source"), class, header.sop_instance_uid.as_str(), None)
}

/// TID 4019.
fn algorithm(package: &PackageReport, parameters: &[String]) -> Vec<DataSet> {
    let say = |concept, value: &str| text(HasConceptModifier, concept, value);
    let sha256 = format!("package sha256 = {}", package.sha256);
    [
        say(("111001", "DCM", "Algorithm Name"), &package.id),
        say(("111003", "DCM", "Algorithm Version"), &package.version),
        say(("111002", "DCM", "Algorithm Parameters"), &sha256),
    ]
    .into_iter()
    .chain(parameters.iter().map(|p| say(("111002", "DCM", "Algorithm Parameters"), p)))
    .collect()
}

/// TID 1411: one region, where it is and what was measured in it.
fn region_group(
    info: &ResultInfo<'_>,
    region: &RegionReport,
    segmentation: Option<&Segmentation>,
) -> Result<DataSet, ResultError> {
    let missing = ResultError::NoSegment { region: region.region };
    let segmentation = segmentation.ok_or(missing.clone())?;
    let lesion = segmentation.segment(Region::LiverLesion);
    // A liver that is all lesion has no segment of its own.
    let own_segment = segmentation.segment(region.region).or(lesion.filter(|_| region.region == Region::Liver));
    let (_, segment, tracking_uid) = own_segment.ok_or(missing)?;
    let terms = terms(region.region);
    let report = info.report;
    let parameters = [
        format!("radiomics settings sha256 = {}", report.radiomics_settings_sha256),
        format!("backend = {}", report.backend),
        format!("metwatch = {}", report.device.software),
    ];
    let category = ("276214006", "SCT", "Finding category");
    let (ml, ml_meaning) = unit("mL", true);
    let mut items = vec![
        text(HasObservationContext, TRACKING_IDENTIFIER, region.region.name()),
        uid(HasObservationContext, TRACKING_UID, tracking_uid),
        coded(Contains, category, (terms.category.0, "SCT", terms.category.1)),
        coded(Contains, FINDING, (&region.snomed, "SCT", terms.meaning)),
        coded(HasConceptModifier, FINDING_SITE, site(region.region)),
    ];
    items.extend(algorithm(&report.segmenter, &parameters));
    items.push(segment_image(&segmentation.instance, *segment));
    items.push(source_series(info));
    items.extend(number(Contains, ("118565006", "SCT", "Volume"), region.volume_ml, (&ml, &ml_meaning)));
    items.extend(region.features.iter().filter_map(feature_item));
    let undefined = region.features.iter().filter(|f| !f.value.is_finite());
    items.extend(undefined.map(|f| text(Contains, own("UNDEFINED", "Feature that is undefined here"), &f.name)));
    if let (Region::Liver, Some((_, number, _))) = (region.region, lesion) {
        let sentence = format!("The liver was measured as an organ: with its lesions, which are segment {number}.");
        items.push(text(Contains, COMMENT, &sentence));
    }
    Ok(container(MEASUREMENT_GROUP, Some("1411"), items))
}

fn segment_image(instance: &str, segment: u16) -> DataSet {
    image(Contains, ("121191", "DCM", "Referenced Segment"), sop_class::SEGMENTATION, instance, Some(segment))
}

fn source_series(info: &ResultInfo<'_>) -> DataSet {
    let uids = SourceUids::of(info.source.first().copied());
    uid(Contains, ("121232", "DCM", "Source series for segmentation"), &uids.series)
}

/// One feature, if it is defined; its method is the PyRadiomics name, which also tells the filter of the image.
fn feature_item(row: &FeatureReport) -> Option<DataSet> {
    let own_code = private_value(&row.name);
    let (value, meaning) = unit(&row.unit, row.name.starts_with("original"));
    let concept = feature(&row.name, row.ibsi.as_deref(), &own_code);
    let method = coded(HasConceptModifier, ("370129005", "SCT", "Measurement Method"), own(&own_code, &row.name));
    Some(with_children(number(Contains, concept, row.value, (&value, &meaning))?, vec![method]))
}

/// TID 1501: the risk. Its finding is a risk, never a metastasis: a reader by code must not take one for the other.
///
/// It names the segment of the liver and its source: PixelMed's validator (2022) asks for both in every group when any
/// group has them.
fn risk_group(info: &ResultInfo<'_>, risk: &RiskReport, segmentation: Option<&Segmentation>) -> DataSet {
    let (report, seed) = (info.report, info.uid_seed);
    let first = info.source.first().map_or("", |h| h.sop_instance_uid.as_str());
    let tracking = derive_uid(&[b"tracking", first.as_bytes(), seed, b"risk"]);
    let parameters = [format!("variant = {}", risk.variant), format!("metwatch = {}", report.device.software)];
    let one = ("1", "no units");
    let measure = |concept: Code<'_>, value: f64| number(Contains, concept, value, one);
    let mut items = vec![
        text(HasObservationContext, TRACKING_IDENTIFIER, "risk of metachronous liver metastasis"),
        uid(HasObservationContext, TRACKING_UID, &tracking),
        coded(Contains, FINDING, own("RISKMLM", "Risk of metachronous liver metastasis")),
        coded(HasConceptModifier, FINDING_SITE, site(Region::Liver)),
    ];
    items.extend(algorithm(&report.nomogram, &parameters));
    let liver = segmentation.and_then(|s| Some((s, s.segment(Region::Liver)?)));
    items.extend(
        liver.iter().flat_map(|(s, (_, segment, _))| [segment_image(&s.instance, *segment), source_series(info)]),
    );
    items.extend(measure(("122157", "DCM", "Probability"), risk.probability));
    let horizon = f64::from(risk.horizon_months);
    items.extend(number(Contains, own("HORIZON", "Months to which the probability refers"), horizon, ("mo", "month")));
    items.extend(measure(
        own("LOGODDS", "Linear predictor: log odds, or log hazard of a Cox package"),
        risk.linear_predictor,
    ));
    items.extend(measure(own("POINTS", "Nomogram points"), risk.points));
    items.extend(measure(own("POINTSMAX", "Most nomogram points that are possible"), risk.points_max));
    for (month, probability) in &risk.survival {
        let value = private_value(&format!("FREE{month}"));
        let meaning = format!("Probability of no liver metastasis by month {month}");
        items.extend(measure(own(&value, &meaning), *probability));
    }
    for part in &risk.contributions {
        let value = private_value(&format!("SHAP-{}", part.predictor));
        let meaning = format!("Contribution to the risk: {}", part.label);
        items.extend(measure(own(&value, &meaning), part.log_odds));
    }
    items.push(coded(Contains, own("RISKGROUP", "Risk group"), group(&risk.group)));
    let certainty = own(if risk.certainty == "final" { "FINAL" } else { "PROVISIONAL" }, &risk.certainty);
    items.push(coded(Contains, own("CERTAINTY", "Certainty of the risk"), certainty));
    let say = |concept, value: &str| text(Contains, concept, value);
    items.extend(report.known.iter().filter_map(|(key, value)| clinical_item(*key, *value)));
    let inputs = risk.contributions.iter().map(|c| format!("{} = {}", c.label, c.value));
    items.extend(inputs.map(|input| say(own("INPUT", "Known input of the risk model"), &input)));
    items.push(say(own("DISCLAIMER", "Disclaimer"), DISCLAIMER));
    items.push(say(own("STATUS", "Regulatory status"), INVESTIGATIONAL));
    container(MEASUREMENT_GROUP, Some("1501"), items)
}

/// A clinical value by its public code: a number with its unit, or present and absent.
fn clinical_item(key: ClinicalKey, value: f64) -> Option<DataSet> {
    let (concept, unit) = clinical(key);
    let found = if value > 0.5 { ("52101004", "SCT", "Present") } else { ("47492008", "SCT", "Not seen") };
    unit.map_or_else(|| Some(coded(Contains, concept, found)), |unit| number(Contains, concept, value, unit))
}

fn group(name: &str) -> Code<'_> {
    match name {
        "low" => ("62482003", "SCT", "Low"),
        "intermediate" => ("11896004", "SCT", "Intermediate"),
        "high" => ("75540009", "SCT", "High"),
        other => own("OTHERGROUP", other),
    }
}

/// What is said of the study as a whole.
fn evaluations(info: &ResultInfo<'_>) -> Vec<DataSet> {
    let report = info.report;
    let abnormal = |r: &&RegionReport| matches!(r.region, Region::LiverLesion | Region::ColorectalTumor);
    let findings = report.regions.iter().filter(abnormal).any(|r| r.n_voxels > 0);
    let summary = match (report.risk.is_some(), findings) {
        (true, false) => ("111241", "DCM", "All algorithms succeeded; without findings"),
        (true, true) => ("111242", "DCM", "All algorithms succeeded; with findings"),
        (false, false) => ("111243", "DCM", "Not all algorithms succeeded; without findings"),
        (false, true) => ("111244", "DCM", "Not all algorithms succeeded; with findings"),
    };
    let mut items = vec![coded(Contains, ("111017", "DCM", "CAD Processing and Findings Summary"), summary)];
    for region in &report.regions {
        let concept = (region.snomed.as_str(), "SCT", terms(region.region).meaning);
        let found = region.n_voxels > 0;
        let value = if found { ("52101004", "SCT", "Present") } else { ("272519000", "SCT", "Absent") };
        items.push(coded(Contains, concept, value));
    }
    let say = |concept, value: &str| text(Contains, concept, value);
    for reason in &report.reasons {
        let to_do = if reason.advice.is_empty() { String::new() } else { format!(" What to do: {}", reason.advice) };
        let sentence = format!("{} [{}]{to_do}", reason.sentence, reason.code);
        items.push(say(own("REASON", "Why no risk is given"), &sentence));
    }
    for note in &report.notes {
        items.push(say(own("QUALITY", "Quality note"), &format!("{} [{}]", note.sentence, note.code)));
    }
    for (name, value) in report.known.iter().map(|(key, value)| clinical_text(*key, *value)) {
        items.push(say(own("KNOWN", "Known clinical value"), &format!("{name} = {value}")));
    }
    items.extend(report.missing.iter().map(|key| say(own("MISSING", "Unknown clinical value"), clinical_name(*key))));
    let revision = format!("{} revision {}", report.study, report.revision);
    items.push(say(own("REVISION", "Study number and revision of the result"), revision.trim()));
    items.push(say(own("DISCLAIMER", "Disclaimer"), DISCLAIMER));
    items.push(say(own("STATUS", "Regulatory status"), INVESTIGATIONAL));
    items
}
