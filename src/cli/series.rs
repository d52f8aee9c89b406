//! `metwatch series explain`: every series of a folder with its geometry, the outcome of each series rule, the verdict,
//! and which one would be analyzed and why. Nothing is stored or sent.

use super::load::{Found, FoundSeries, find_files, find_series};
use super::{Failure, load_rules};
use crate::dicom::{self, Choice, Header, Note, Phase, RuleOutcome, RuleState, SeriesRules, Verdict};
use crate::{DISCLAIMER, Explain};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Arguments of `metwatch series`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: SeriesCommand,
}

#[derive(clap::Subcommand)]
enum SeriesCommand {
    /// Lists every series of a folder: what it is, what each rule says of it, and which one would be analysed (a dry
    /// run)
    Explain {
        /// A folder of DICOM files, or DICOM files
        #[arg(required = true, value_name = "DIR")]
        paths: Vec<PathBuf>,
        /// The service's configuration: its [series] part; without it, the default rules
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Prints JSON
        #[arg(long)]
        json: bool,
    },
}

/// Runs `metwatch series`.
pub fn run(args: Args) -> Result<(), Failure> {
    let SeriesCommand::Explain { paths, config, json } = args.command;
    let rules = load_rules(config.as_deref())?;
    let files = find_files(&paths)?;
    let found = find_series(&files, &rules);
    let studies = explain(&found, &rules);
    if json {
        println!(
            "{}",
            serde_json::to_string_pretty(&to_json(&found, &studies)).expect("plain values have a JSON form")
        );
    } else {
        print(&found, &studies, files.len());
    }
    Ok(())
}

/// A study: its series with what is said of each, and the choice among them.
struct Study<'a> {
    series: Vec<Explained<'a>>,
    choice: Choice,
    /// Index into `series` of the one that is analyzed.
    chosen: Option<usize>,
}

struct Explained<'a> {
    series: &'a FoundSeries,
    rules: Vec<RuleOutcome>,
    verdict: Verdict,
    reasons: Vec<Note>,
    advice: &'static str,
    facts: Facts,
}

fn explain<'a>(found: &'a Found, rules: &SeriesRules) -> Vec<Study<'a>> {
    let mut studies: BTreeMap<&str, Vec<Explained<'a>>> = BTreeMap::new();
    for series in &found.series {
        let uid = series.headers.first().map_or("", |h| h.study_instance_uid.as_str());
        studies.entry(uid).or_default().push(explain_series(series));
    }
    studies.into_values().map(|series| choose(series, rules)).collect()
}

fn explain_series(series: &FoundSeries) -> Explained<'_> {
    let judgment = &series.judgment;
    let advice = match &judgment.plan {
        Err(error) => error.advice(),
        Ok(plan) if !plan.refusals.is_empty() => "send the whole abdomen as the scanner reconstructed it",
        Ok(_) => "",
    };
    Explained {
        series,
        rules: judgment.outcomes(),
        verdict: judgment.verdict(),
        reasons: judgment.reasons(),
        advice,
        facts: Facts::of(series),
    }
}

fn choose<'a>(mut series: Vec<Explained<'a>>, rules: &SeriesRules) -> Study<'a> {
    let acceptable: Vec<usize> = (0..series.len()).filter(|i| series[*i].series.candidate().is_some()).collect();
    let candidates: Vec<_> = acceptable.iter().filter_map(|i| series[*i].series.candidate()).collect();
    let choice = dicom::choose_series(&candidates, rules);
    let chosen = choice.index.map(|index| acceptable[index]);
    if let Some(chosen) = chosen {
        look_at_voxels(&mut series[chosen]);
    }
    Study { series, choice, chosen }
}

/// The voxels of the chosen series are looked at as the analysis would: decoding, a body, air.
fn look_at_voxels(explained: &mut Explained<'_>) {
    let Ok(plan) = &explained.series.judgment.plan else { return };
    let (found, broken) = match explained.series.assemble(plan, &|_, _| ()) {
        Err(failure) => (vec![Note { code: failure.code(), sentence: failure.sentence() }], true),
        Ok(scan) if !scan.verdict.reasons.is_empty() => (scan.verdict.reasons.iter().map(note).collect(), true),
        Ok(scan) => (scan.verdict.notes.iter().map(note).collect(), false),
    };
    for note in found {
        let Some(outcome) = explained.rules.iter_mut().find(|o| o.rule.findings.contains(&note.code)) else { continue };
        if outcome.findings.contains(&note) {
            continue;
        }
        outcome.state = if broken { RuleState::Broken } else { RuleState::Noted };
        outcome.findings.push(note.clone());
        if broken {
            explained.reasons.push(note);
        }
    }
    explained.verdict = match (broken, explained.rules.iter().any(|o| o.state == RuleState::Noted)) {
        (true, _) => Verdict::Reject,
        (false, true) => Verdict::Note,
        (false, false) => Verdict::Accept,
    };
}

fn note(finding: &crate::segment::Finding) -> Note {
    Note { code: finding.code, sentence: finding.sentence.clone() }
}

/// What people know a series by, and how it lies.
struct Facts {
    number: Option<i32>,
    description: String,
    protocol: String,
    modality: String,
    kernel: String,
    phase: String,
    thickness_mm: Option<f64>,
    images: usize,
    /// Columns, rows.
    size: [u16; 2],
    pixel_spacing_mm: Option<[f64; 2]>,
    /// Usual distance of neighbors and the way from the first to the last slice, mm.
    spacing_and_extent_mm: Option<[f64; 2]>,
    patient_position: String,
}

impl Facts {
    fn of(series: &FoundSeries) -> Self {
        let planned = series.judgment.plan.as_ref().ok().and_then(|plan| Some(&plan.slices.first()?.header));
        let first = planned.or(series.headers.first());
        let text = |get: fn(&Header) -> &String| first.map_or(String::new(), |h| get(h).clone());
        let spacing_and_extent_mm = match &series.judgment.plan {
            Ok(plan) => {
                let spacing = plan.geometry.spacing_mm[2];
                Some([spacing, spacing * plan.geometry.size[2].saturating_sub(1) as f64])
            }
            Err(_) => spread_mm(&series.headers),
        };
        Facts {
            number: first.and_then(|h| h.series_number),
            description: text(|h| &h.series_description),
            protocol: text(|h| &h.protocol_name),
            modality: text(|h| &h.modality),
            kernel: text(|h| &h.kernel),
            phase: first.map_or(String::new(), phase),
            thickness_mm: first.and_then(|h| h.slice_thickness_mm),
            images: series.headers.iter().map(|h| h.pixels.frames as usize).sum(),
            size: first.map_or([0; 2], |h| [h.pixels.columns, h.pixels.rows]),
            pixel_spacing_mm: first.and_then(|h| h.pixel_spacing_mm),
            spacing_and_extent_mm,
            patient_position: text(|h| &h.patient_position),
        }
    }

    fn geometry(&self) -> String {
        let mut parts = vec![format!("{} images of {} x {} pixels", self.images, self.size[0], self.size[1])];
        if let Some([rows, columns]) = self.pixel_spacing_mm {
            parts.push(format!("pixels of {columns:.3} x {rows:.3} mm"));
        }
        if let Some([spacing, extent]) = self.spacing_and_extent_mm {
            parts.push(format!("{spacing:.2} mm apart, over {extent:.0} mm"));
        }
        if let Some(thickness) = self.thickness_mm {
            parts.push(format!("{thickness} mm thick"));
        }
        if !self.patient_position.is_empty() {
            parts.push(format!("patient position {}", self.patient_position));
        }
        parts.join(", ")
    }
}

fn phase(header: &Header) -> String {
    match (Phase::of(header), header.contrast_agent.is_empty()) {
        (Some(phase), _) => format!("{} (by its description)", phase.name()),
        (None, true) => "not named, no contrast agent recorded".into(),
        (None, false) => "not named, contrast agent recorded".into(),
    }
}

/// Median distance of neighbors and extent along the first image's normal, of what has a position.
fn spread_mm(headers: &[Header]) -> Option<[f64; 2]> {
    let (row, column) = headers.iter().find_map(|h| Some((h.row_cosines?, h.column_cosines?)))?;
    let normal = [0, 1, 2].map(|i| {
        let (j, k) = ((i + 1) % 3, (i + 2) % 3);
        row[j] * column[k] - row[k] * column[j]
    });
    let along = |p: [f64; 3]| p[0] * normal[0] + p[1] * normal[1] + p[2] * normal[2];
    let mut at: Vec<f64> = headers.iter().filter_map(|h| h.position_mm.map(along)).collect();
    at.sort_by(f64::total_cmp);
    let mut gaps: Vec<f64> = at.windows(2).map(|w| w[1] - w[0]).collect();
    gaps.sort_by(f64::total_cmp);
    Some([*gaps.get(gaps.len() / 2)?, at.last()? - at.first()?])
}

fn print(found: &Found, studies: &[Study<'_>], n_files: usize) {
    let counted = |n: usize, one: &str, more: &str| format!("{n} {}", if n == 1 { one } else { more });
    println!(
        "{}: {} series in {}, {} left out",
        counted(n_files, "file", "files"),
        found.series.len(),
        counted(studies.len(), "study", "studies"),
        counted(found.refused.len(), "file", "files")
    );
    for (code, (count, sentence)) in refused_by_code(found) {
        println!("  left out  {count} x {sentence} [{code}]");
    }
    for (at, study) in studies.iter().enumerate() {
        println!("\nSTUDY {}", at + 1);
        for (index, explained) in study.series.iter().enumerate() {
            print_series(explained, Some(index) == study.chosen);
        }
        match study.chosen {
            Some(chosen) => {
                let explained = &study.series[chosen];
                let title = title(&explained.facts);
                let sentence = &study.choice.sentence;
                match explained.verdict {
                    Verdict::Reject => println!(
                        "\n  => {title} would be chosen: {sentence}. It would NOT be analysed: its voxels are refused."
                    ),
                    _ => println!("\n  => {title} would be analysed: {sentence}."),
                }
            }
            None => println!("\n  => NO series of this study would be analysed: {}.", study.choice.sentence),
        }
    }
    println!(
        "\nNothing was stored or sent. Which series is wanted is decided by [[series.choose]] in the configuration ({DISCLAIMER})."
    );
}

fn title(facts: &Facts) -> String {
    let number = facts.number.map_or("without a number".into(), |n| n.to_string());
    let named = [&facts.description, &facts.protocol].into_iter().find(|text| !text.is_empty());
    named.map_or(format!("series {number}"), |named| format!("series {number} \"{named}\""))
}

fn print_series(explained: &Explained<'_>, chosen: bool) {
    let facts = &explained.facts;
    let mark = if chosen { "=>" } else { "  " };
    println!("\n{mark} {:<7} {}", explained.verdict.name(), title(facts));
    println!("      {}", facts.geometry());
    let kernel = if facts.kernel.is_empty() { "not named" } else { &facts.kernel };
    println!("      modality {}, kernel {kernel}, contrast phase {}", facts.modality, facts.phase);
    let uid = explained.series.headers.first().map_or("", |h| h.series_instance_uid.as_str());
    println!("      UID {}", if uid.is_empty() { "not given" } else { uid });
    for reason in &explained.reasons {
        println!("      REJECTED: {} [{}]", reason.sentence, reason.code);
    }
    if explained.verdict == Verdict::Reject && !explained.advice.is_empty() {
        println!("      what to do: {}", explained.advice);
    }
    println!("      rules");
    for outcome in &explained.rules {
        println!("      {:>3}  {:<11}  {}", outcome.rule.number, outcome.state.name(), outcome.rule.asks);
        for finding in &outcome.findings {
            println!("           {:<9}  {} [{}]", "", finding.sentence, finding.code);
        }
    }
}

fn refused_by_code(found: &Found) -> BTreeMap<&'static str, (usize, String)> {
    let mut codes = BTreeMap::new();
    for (_, error) in &found.refused {
        codes.entry(error.code()).or_insert((0, error.to_string())).0 += 1;
    }
    codes
}

fn to_json(found: &Found, studies: &[Study<'_>]) -> Value {
    let notes =
        |notes: &[Note]| -> Value { notes.iter().map(|n| json!({ "code": n.code, "sentence": n.sentence })).collect() };
    let rule = |o: &RuleOutcome| {
        json!({
            "number": o.rule.number, "code": o.rule.code, "asks": o.rule.asks, "outcome": o.state.name(),
            "findings": notes(&o.findings),
        })
    };
    let series = |e: &Explained<'_>| {
        let (f, uid) = (&e.facts, e.series.headers.first().map_or("", |h| h.series_instance_uid.as_str()));
        json!({
            "series_instance_uid": uid, "series_number": f.number, "description": f.description, "protocol": f.protocol,
            "modality": f.modality, "kernel": f.kernel, "phase": f.phase, "files": e.series.files.len(),
            "images": f.images, "columns": f.size[0], "rows": f.size[1], "pixel_spacing_mm": f.pixel_spacing_mm,
            "slice_thickness_mm": f.thickness_mm, "slice_spacing_mm": f.spacing_and_extent_mm.map(|s| s[0]),
            "extent_mm": f.spacing_and_extent_mm.map(|s| s[1]), "patient_position": f.patient_position,
            "verdict": e.verdict.name(), "reasons": notes(&e.reasons), "advice": e.advice,
            "rules": e.rules.iter().map(rule).collect::<Vec<_>>(),
        })
    };
    let study = |s: &Study<'_>| {
        json!({
            "series": s.series.iter().map(series).collect::<Vec<_>>(),
            "choice": {
                "series_instance_uid": s.chosen.and_then(|i| s.series[i].series.headers.first()).map(|h| h.series_instance_uid.as_str()),
                "code": s.choice.code, "sentence": s.choice.sentence,
            },
        })
    };
    let file = |path: &Path| path.display().to_string();
    json!({
        "schema": "metwatch.series/1",
        "studies": studies.iter().map(study).collect::<Vec<_>>(),
        "left_out": found.refused.iter()
            .map(|(path, e)| json!({ "file": file(path), "code": e.code(), "sentence": e.to_string() }))
            .collect::<Vec<_>>(),
        "disclaimer": DISCLAIMER,
    })
}
