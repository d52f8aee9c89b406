//! The report that a person reads: one A4 page with the risk, what it rests on, pictures, volumes, remarks and versions.

use super::pdf::{Font, HEIGHT, Page, Rgb, WIDTH, clipped, text_width, wrapped};
use super::report::date_and_time;
use super::sr::INVESTIGATIONAL;
use super::sr_codes::clinical_name;
use super::{Header, PackageReport, Picture, RemarkReport, Report, ResultError, RiskReport};
use crate::DISCLAIMER;

const LEFT: f64 = 40.0;
const RIGHT: f64 = WIDTH - LEFT;
const INK: Rgb = [24, 30, 38];
const FAINT: Rgb = [104, 114, 126];
const RULE: Rgb = [205, 211, 218];
const AMBER: Rgb = [255, 193, 7];
/// Low, intermediate, high; apart in the common color vision deficiencies, and never without their names.
const GROUPS: [(&str, Rgb); 3] = [("low", [120, 170, 205]), ("intermediate", [235, 190, 90]), ("high", [196, 78, 60])];
/// Contributions that raise and that lower the risk.
const RAISES: Rgb = [196, 78, 60];
const LOWERS: Rgb = [70, 130, 180];
/// Contributions on the page; the structured report has all.
const CONTRIBUTIONS_MAX: usize = 8;
/// Pictures on the page; the secondary captures are all.
const PICTURES_MAX: usize = 2;

/// Draws the report as PDF. `source` names patient and series; without it (an image that is no DICOM) the page says so.
/// Of the pictures the first two are shown.
pub fn write_page(report: &Report, source: &[&Header], pictures: &[Picture]) -> Result<Vec<u8>, ResultError> {
    let pictures = &pictures[..pictures.len().min(PICTURES_MAX)];
    pictures.iter().try_for_each(Picture::check)?;
    let mut page = Page::default();
    heading(&mut page);
    let y = identity(&mut page, report, source);
    let y = match &report.risk {
        Some(risk) => {
            let y = verdict(&mut page, report, risk, y);
            explanation(&mut page, risk, y)
        }
        None => no_risk(&mut page, report, y),
    };
    let y = images(&mut page, pictures, y);
    let footer = footer(&mut page, report);
    regions(&mut page, report, y);
    remarks(&mut page, report, y, footer);
    let (day, time) = date_and_time(&report.created_at);
    Ok(page.finish("CT report: risk of metachronous liver metastasis", &format!("{day}{time}")))
}

fn heading(page: &mut Page) {
    page.text((LEFT, 48.0), Font::Bold, 16.0, INK, "Risk of metachronous liver metastasis");
    page.text(
        (LEFT, 62.0),
        Font::Regular,
        9.0,
        FAINT,
        "Automatic analysis of an abdominal CT: segmentation, radiomics, nomogram",
    );
    page.text_right((RIGHT, 48.0), Font::Bold, 11.0, FAINT, "metwatch");
    page.rectangle((LEFT, 70.0), (RIGHT - LEFT, 17.0), AMBER);
    let text = DISCLAIMER.to_uppercase();
    let middle = (WIDTH - text_width(Font::Bold, 9.5, &text)) / 2.0;
    page.text((middle, 82.0), Font::Bold, 9.5, [40, 32, 0], &text);
}

/// Title of a part of the page, with a rule; where its first line stands.
fn section(page: &mut Page, (x, y): (f64, f64), right: f64, title: &str) -> f64 {
    page.text((x, y + 9.0), Font::Bold, 9.5, INK, title);
    page.line((x, y + 13.0), (right, y + 13.0), 0.6, RULE);
    y + 26.0
}

/// Who and what: from the headers of the source.
fn identity(page: &mut Page, report: &Report, source: &[&Header]) -> f64 {
    let top = 104.0;
    let Some(first) = source.first() else {
        page.text((LEFT, top), Font::Regular, 9.0, INK, "The image is no DICOM: patient and study are not known.");
        return top + 10.0;
    };
    let patient = &first.patient;
    // Family^Given of the alphabetic group; a page in a standard font has no letters for the others.
    let name = patient.name.as_str().split('=').next().unwrap_or_default().split('^');
    let name = name.filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ");
    let thickness = first.slice_thickness_mm.map_or(String::new(), |t| format!(", {t} mm"));
    let kernel = if first.kernel.is_empty() { String::new() } else { format!(", kernel {}", first.kernel) };
    let series = first.series_number.map_or(String::new(), |n| format!("series {n}, "));
    let series = format!("{series}{} slices{thickness}{kernel}", source.len());
    let result = format!("{} revision {}", report.study, report.revision);
    let rows = [
        [("Patient", name), ("Study date", dashed(&first.study_date))],
        [("Patient ID", patient.id.as_str().into()), ("Accession", first.accession_number.as_str().into())],
        [("Born, sex", format!("{} {}", dashed(patient.birth_date.as_str()), patient.sex)), ("CT", series)],
        [("Computed", computed_at(report)), ("Result", result.trim().into())],
    ];
    for (row, cells) in rows.into_iter().enumerate() {
        let y = top + 13.0 * row as f64;
        for ((label, value), x) in cells.into_iter().zip([LEFT, 300.0]) {
            page.text((x, y), Font::Regular, 8.0, FAINT, label);
            let value = clipped(Font::Regular, 9.0, 195.0, &value);
            page.text((x + 56.0, y), Font::Regular, 9.0, INK, &value);
        }
    }
    top + 52.0
}

/// YYYYMMDD with dashes.
fn dashed(date: &str) -> String {
    match (date.get(..4), date.get(4..6), date.get(6..8)) {
        (Some(year), Some(month), Some(day)) => format!("{year}-{month}-{day}"),
        _ => date.to_owned(),
    }
}

fn computed_at(report: &Report) -> String {
    format!("{} UTC", report.created_at.get(..16).unwrap_or(&report.created_at).replace('T', " "))
}

fn percent(probability: f64) -> String {
    format!("{:.1} %", 100.0 * probability)
}

/// The probability, its group on a scale, and the survival that goes with it.
fn verdict(page: &mut Page, report: &Report, risk: &RiskReport, y: f64) -> f64 {
    let y = section(page, (LEFT, y), RIGHT, &format!("Risk within {} months", risk.horizon_months));
    let color = GROUPS.iter().find(|(name, _)| *name == risk.group).map_or(FAINT, |(_, color)| *color);
    let number = percent(risk.probability);
    page.text((LEFT, y + 20.0), Font::Bold, 30.0, INK, &number);
    let x = LEFT + text_width(Font::Bold, 30.0, &number) + 14.0;
    let group = format!("{} risk", risk.group);
    page.rectangle((x, y), (text_width(Font::Bold, 11.0, &group) + 16.0, 20.0), color);
    let ink = if risk.group == "high" { [255, 255, 255] } else { INK };
    page.text((x + 8.0, y + 14.0), Font::Bold, 11.0, ink, &group);
    let certainty =
        format!("{}, variant {}, {:.0} of {:.0} points", risk.certainty, risk.variant, risk.points, risk.points_max);
    page.text((LEFT, y + 34.0), Font::Regular, 8.5, FAINT, &certainty);
    scale(page, risk, (300.0, y + 4.0), RIGHT - 300.0);
    if !risk.survival.is_empty() {
        let months: Vec<String> = risk.survival.iter().map(|(month, _)| month.to_string()).collect();
        let free: Vec<String> = risk.survival.iter().map(|(_, p)| format!("{:.0}", 100.0 * p)).collect();
        let line = format!("Free of metastasis at {} months: {} %", months.join(", "), free.join(", "));
        // Five horizons are a little wider than the column.
        let width = RIGHT - 300.0;
        let size = (8.49 * width / text_width(Font::Regular, 8.5, &line)).clamp(6.0, 8.5);
        page.text((300.0, y + 34.0), Font::Regular, size, INK, &clipped(Font::Regular, size, width, &line));
    }
    let missing = report.missing.iter().map(|key| clinical_name(*key)).collect::<Vec<_>>().join(", ");
    if missing.is_empty() {
        return y + 44.0;
    }
    let line = clipped(
        Font::Regular,
        8.5,
        RIGHT - LEFT,
        &format!("Not known: {missing}. The risk changes when they become known."),
    );
    page.text((LEFT, y + 46.0), Font::Regular, 8.5, FAINT, &line);
    y + 56.0
}

/// 0 to 100 % in the colors of the groups, with a mark at the probability.
fn scale(page: &mut Page, risk: &RiskReport, (x, y): (f64, f64), width: f64) {
    let at = |p: f64| x + width * p.clamp(0.0, 1.0);
    match risk.cut_offs {
        Some([low, high]) => {
            for ((_, color), (from, to)) in GROUPS.iter().zip([(0.0, low), (low, high), (high, 1.0)]) {
                page.rectangle((at(from), y), (at(to) - at(from), 8.0), *color);
            }
            for (place, cut) in [(at(low), low), (at(high), high)] {
                let label = format!("{:.0} %", 100.0 * cut);
                page.text(
                    (place - text_width(Font::Regular, 7.0, &label) / 2.0, y + 16.0),
                    Font::Regular,
                    7.0,
                    FAINT,
                    &label,
                );
            }
        }
        None => page.rectangle((x, y), (width, 8.0), RULE),
    }
    let mark = at(risk.probability);
    page.polygon(&[(mark, y + 1.0), (mark - 4.0, y - 6.0), (mark + 4.0, y - 6.0)], INK);
    page.line((mark, y), (mark, y + 8.0), 1.0, INK);
    page.text((x, y + 16.0), Font::Regular, 7.0, FAINT, "0 %");
    page.text_right((x + width, y + 16.0), Font::Regular, 7.0, FAINT, "100 %");
}

/// What raises and what lowers the risk.
fn explanation(page: &mut Page, risk: &RiskReport, y: f64) -> f64 {
    let y = section(page, (LEFT, y), RIGHT, "What the risk rests on");
    page.text_right(
        (RIGHT, y - 17.0),
        Font::Regular,
        7.5,
        FAINT,
        "contribution to the linear predictor, against the training mean",
    );
    let shown = &risk.contributions[..risk.contributions.len().min(CONTRIBUTIONS_MAX)];
    let longest = shown.iter().map(|c| c.log_odds.abs()).fold(0.1, f64::max);
    let (middle, reach) = (455.0, 70.0);
    for (row, part) in shown.iter().enumerate() {
        let y = y + 13.0 * row as f64;
        page.text((LEFT, y), Font::Regular, 8.5, INK, &clipped(Font::Regular, 8.5, 220.0, &part.label));
        page.text_right((360.0, y), Font::Regular, 8.5, INK, &clipped(Font::Regular, 8.5, 95.0, &part.value));
        let length = reach * part.log_odds.abs() / longest;
        let from = if part.log_odds < 0.0 { middle - length } else { middle };
        page.rectangle((from, y - 7.0), (length, 8.0), if part.log_odds < 0.0 { LOWERS } else { RAISES });
        let number = format!("{:+.2}", part.log_odds);
        match part.log_odds < 0.0 {
            true => page.text((middle + 5.0, y), Font::Regular, 8.0, LOWERS, &number),
            false => page.text_right((middle - 5.0, y), Font::Regular, 8.0, RAISES, &number),
        }
    }
    let end = y + 13.0 * shown.len() as f64;
    page.line((middle, y - 9.0), (middle, end - 9.0), 0.6, FAINT);
    page.text((middle - 60.0, end), Font::Regular, 7.0, FAINT, "lowers");
    page.text((middle + 40.0, end), Font::Regular, 7.0, FAINT, "raises");
    let left_out = risk.contributions.len() - shown.len();
    if left_out > 0 {
        page.text((LEFT, end), Font::Regular, 7.5, FAINT, &format!("and {left_out} more in the structured report"));
    }
    end + 10.0
}

fn no_risk(page: &mut Page, report: &Report, y: f64) -> f64 {
    let mut y = section(page, (LEFT, y), RIGHT, "No risk is given");
    for reason in report.reasons.iter().take(4) {
        for line in wrapped(Font::Bold, 9.5, RIGHT - LEFT, &sentence(&reason.sentence)) {
            page.text((LEFT, y), Font::Bold, 9.5, INK, &line);
            y += 13.0;
        }
        let to_do = if reason.advice.is_empty() { String::new() } else { format!("What to do: {} ", reason.advice) };
        let advice = format!("{to_do}[{}]", reason.code);
        for line in wrapped(Font::Regular, 8.5, RIGHT - LEFT, &advice) {
            page.text((LEFT, y), Font::Regular, 8.5, FAINT, &line);
            y += 12.0;
        }
        y += 4.0;
    }
    let left_out = report.reasons.len().saturating_sub(4);
    if left_out > 0 {
        page.text((LEFT, y), Font::Regular, 8.0, FAINT, &format!("and {left_out} more in the structured report"));
        y += 12.0;
    }
    y
}

fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// The pictures side by side, as large as 250 by 250 points.
fn images(page: &mut Page, pictures: &[Picture], y: f64) -> f64 {
    let (width, height) = ((RIGHT - LEFT - 12.0) / 2.0, 250.0);
    let mut end: f64 = y;
    for (place, picture) in pictures.iter().enumerate() {
        let (w, h) = (f64::from(picture.width), f64::from(picture.height));
        let scale = (width / w).min(height / h);
        let x = LEFT + place as f64 * (width + 12.0);
        page.image((x, y), (w * scale, h * scale), picture);
        page.text(
            (x, y + h * scale + 10.0),
            Font::Regular,
            8.0,
            FAINT,
            &clipped(Font::Regular, 8.0, width, &picture.title),
        );
        end = end.max(y + h * scale + 16.0);
    }
    end + 4.0
}

/// What was segmented; its squares are the legend of the pictures.
fn regions(page: &mut Page, report: &Report, y: f64) {
    let right = 225.0;
    let y = section(page, (LEFT, y), right, "Segmentation");
    for (row, region) in report.regions.iter().enumerate() {
        let y = y + 12.0 * row as f64;
        page.rectangle((LEFT, y - 7.0), (7.0, 7.0), region.color);
        page.text((LEFT + 12.0, y), Font::Regular, 8.5, INK, region.region.title());
        let volume = if region.n_voxels == 0 { "not found".into() } else { format!("{:.1} mL", region.volume_ml) };
        page.text_right((right, y), Font::Regular, 8.5, INK, &volume);
    }
}

/// Quality notes, as many as there is room for.
fn remarks(page: &mut Page, report: &Report, y: f64, end: f64) {
    let (x, size) = (245.0, 8.0);
    let mut y = section(page, (x, y), RIGHT, "Quality and notes");
    if report.notes.is_empty() {
        page.text((x, y), Font::Regular, size, INK, "None.");
    }
    for (index, note) in report.notes.iter().enumerate() {
        let RemarkReport { code, sentence: text, .. } = note;
        let lines = wrapped(Font::Regular, size, RIGHT - x - 8.0, &format!("{} [{code}]", sentence(text)));
        let last = index + 1 == report.notes.len();
        if y + 10.0 * lines.len() as f64 > end - if last { 0.0 } else { 10.0 } {
            let left_out = format!("and {} more in the structured report", report.notes.len() - index);
            page.text((x + 8.0, y), Font::Regular, size, FAINT, &left_out);
            return;
        }
        page.text((x, y), Font::Regular, size, INK, "\u{2022}");
        for line in lines {
            page.text((x + 8.0, y), Font::Regular, size, INK, &line);
            y += 10.0;
        }
    }
}

/// What computed it; where the footer begins.
fn footer(page: &mut Page, report: &Report) -> f64 {
    let package = |kind: &str, p: &PackageReport| {
        format!("{kind} {} {} (sha256 {})", p.id, p.version, p.sha256.get(..12).unwrap_or(&p.sha256))
    };
    let settings = report.radiomics_settings_sha256.get(..12).unwrap_or(&report.radiomics_settings_sha256);
    let device = &report.device;
    let lines = [
        format!("{}; {}", package("Segmenter", &report.segmenter), package("nomogram", &report.nomogram)),
        format!("Radiomics as PyRadiomics 3.1.0 (settings sha256 {settings}); {}", report.backend),
        format!(
            "{} {}, serial {}, software {}; {INVESTIGATIONAL}; {DISCLAIMER}.",
            device.manufacturer, device.model, device.serial_number, device.software
        ),
    ];
    let top = HEIGHT - 34.0 - 9.5 * lines.len() as f64;
    page.line((LEFT, top), (RIGHT, top), 0.6, RULE);
    for (row, line) in lines.iter().enumerate() {
        let line = clipped(Font::Regular, 7.0, RIGHT - LEFT, line);
        page.text((LEFT, top + 11.0 + 9.5 * row as f64), Font::Regular, 7.0, FAINT, &line);
    }
    top - 4.0
}
