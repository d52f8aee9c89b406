//! Content items of a structured report (PS3.3 C.17.3), each a data set.

use super::data_set::{DataSet, decimal};
use super::source::{Code, code, reference_to};
use dicom_core::VR;
use dicom_dictionary_std::tags;

/// How an item relates to the one that holds it.
#[derive(Debug, Clone, Copy)]
pub enum Relation {
    Contains,
    HasConceptModifier,
    HasObservationContext,
    HasAcquisitionContext,
}

impl Relation {
    fn text(self) -> &'static str {
        match self {
            Relation::Contains => "CONTAINS",
            Relation::HasConceptModifier => "HAS CONCEPT MOD",
            Relation::HasObservationContext => "HAS OBS CONTEXT",
            Relation::HasAcquisitionContext => "HAS ACQ CONTEXT",
        }
    }
}

fn item(relation: Relation, value_type: &str, concept: Code<'_>) -> DataSet {
    DataSet::default()
        .text(tags::RELATIONSHIP_TYPE, relation.text())
        .text(tags::VALUE_TYPE, value_type)
        .item(tags::CONCEPT_NAME_CODE_SEQUENCE, code(concept))
}

/// Text of any length; control characters other than line breaks are left out. An empty text is a dash: none may be empty.
pub fn text(relation: Relation, concept: Code<'_>, value: &str) -> DataSet {
    let value: String = value.chars().filter(|c| *c == '\n' || !c.is_control()).collect();
    let value = if value.is_empty() { "-" } else { &value };
    item(relation, "TEXT", concept).text(tags::TEXT_VALUE, value)
}

/// A coded value.
pub fn coded(relation: Relation, concept: Code<'_>, value: Code<'_>) -> DataSet {
    item(relation, "CODE", concept).item(tags::CONCEPT_CODE_SEQUENCE, code(value))
}

/// A UID.
pub fn uid(relation: Relation, concept: Code<'_>, value: &str) -> DataSet {
    item(relation, "UIDREF", concept).text(tags::UID, value)
}

/// A date, YYYYMMDD.
pub fn date(relation: Relation, concept: Code<'_>, value: &str) -> DataSet {
    item(relation, "DATE", concept).text(tags::DATE, value)
}

/// A number with its unit (UCUM code and meaning), in decimal and as the double itself. `None` for one that is not finite:
/// a NUM without a value is permitted, but makes common readers fail (highdicom 0.28, PixelMed 2022).
pub fn number(relation: Relation, concept: Code<'_>, value: f64, (unit, meaning): (&str, &str)) -> Option<DataSet> {
    let measured = DataSet::default()
        .text(tags::NUMERIC_VALUE, &decimal(value))
        .bytes(tags::FLOATING_POINT_VALUE, VR::FD, value.to_le_bytes().to_vec())
        .item(tags::MEASUREMENT_UNITS_CODE_SEQUENCE, code((unit, "UCUM", meaning)));
    value.is_finite().then(|| item(relation, "NUM", concept).item(tags::MEASURED_VALUE_SEQUENCE, measured))
}

/// A reference to an object: class, instance, and the segments meant in it.
pub fn image(relation: Relation, concept: Code<'_>, class: &str, instance: &str, segment: Option<u16>) -> DataSet {
    let reference = reference_to(class, instance);
    let reference = match segment {
        Some(number) => reference.shorts(tags::REFERENCED_SEGMENT_NUMBER, &[number]),
        None => reference,
    };
    item(relation, "IMAGE", concept).item(tags::REFERENCED_SOP_SEQUENCE, reference)
}

/// A container; `template` is its TID where it has one of its own.
pub fn container(concept: Code<'_>, template: Option<&str>, children: Vec<DataSet>) -> DataSet {
    let item = with_children(
        item(Relation::Contains, "CONTAINER", concept).text(tags::CONTINUITY_OF_CONTENT, "SEPARATE"),
        children,
    );
    template.map_or(item.clone(), |tid| with_template(item, tid))
}

/// The items below an item.
pub fn with_children(item: DataSet, children: Vec<DataSet>) -> DataSet {
    if children.is_empty() { item } else { item.items(tags::CONTENT_SEQUENCE, children) }
}

/// Names the template of a container.
pub fn with_template(item: DataSet, tid: &str) -> DataSet {
    let template = DataSet::default().text(tags::MAPPING_RESOURCE, "DCMR").text(tags::TEMPLATE_IDENTIFIER, tid);
    item.item(tags::CONTENT_TEMPLATE_SEQUENCE, template)
}
