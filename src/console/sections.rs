//! The parts of a study's page below the answer. Each is empty when there is nothing to show.

use super::html::{Text, bytes, capital, duration, grouped, moment, quantity};
use super::picture::picture_title;
use super::view::{Remark, Status, StudyPage};
use crate::risk::format_short;

/// Pictures, each a link to its full size.
pub fn pictures(s: &StudyPage) -> String {
    let one = |name: &String| {
        let (href, title) = (file_href(&s.number, name), picture_title(name));
        format!(
            "<figure><a href=\"{href}\"><img src=\"{href}\" alt=\"{title}\" loading=\"lazy\"></a><figcaption>{title}</figcaption></figure>",
            href = Text(&href),
            title = Text(&title)
        )
    };
    let all: String = s.pictures.iter().map(one).collect();
    if all.is_empty() { all } else { format!("<div class=\"pictures\">{all}</div>") }
}

/// The address of a file of a study.
pub fn file_href(number: &str, name: &str) -> String {
    format!("/study/{number}/file/{name}")
}

/// Reasons or notes: what, what to do, and the code.
pub fn remarks(remarks: &[Remark]) -> String {
    let one = |r: &Remark| {
        let advice = match r.advice.as_str() {
            "" => String::new(),
            advice => format!("<span class=\"advice\">{}</span>", Text(capital(advice))),
        };
        format!(
            "<li><span>{}</span>{advice}<span class=\"code\">{}</span></li>",
            Text(capital(&r.sentence)),
            Text(&r.code)
        )
    };
    if remarks.is_empty() {
        String::new()
    } else {
        format!("<ul class=\"remarks\">{}</ul>", remarks.iter().map(one).collect::<String>())
    }
}

/// The verdict of the gate, with what belongs to it.
pub fn quality(s: &StudyPage) -> String {
    let verdict = match s.status {
        Status::Receiving | Status::Processing => return String::new(),
        Status::Accepted => "<p class=\"verdict good\">Accepted. The checks of the images found nothing unusual.</p>",
        Status::AcceptedWithNotes => {
            "<p class=\"verdict attention\">Accepted, with notes that belong to the result.</p>"
        }
        Status::Refused => {
            "<p class=\"verdict bad\">Refused, for the reasons above. Labels and features are kept for review.</p>"
        }
        Status::Failed => "<p class=\"verdict bad\">Not judged: the analysis did not end.</p>",
    };
    let of_risk = s.assessment.iter().filter(|_| s.status.allows_risk()).flat_map(|a| a.notes.iter().cloned());
    let notes: Vec<Remark> = s.notes.iter().cloned().chain(of_risk).collect();
    format!("<div id=\"quality\">{verdict}{}</div>", remarks(&notes))
}

/// Volumes of the regions.
pub fn regions(s: &StudyPage) -> String {
    if s.regions.is_empty() {
        return String::new();
    }
    let row = |r: &super::view::RegionRow| {
        let swatch = r.name.to_lowercase().replace(' ', "_");
        let known = ["liver", "liver_lesion", "colon", "colorectal_tumor"].contains(&swatch.as_str());
        let class = if known { format!("swatch {swatch}") } else { "swatch".into() };
        let voxels = grouped(r.n_voxels as u64);
        let volume = if r.n_voxels == 0 { "not found".into() } else { format!("{} mL", quantity(r.volume_ml)) };
        format!(
            "<tr><td><i class=\"{class}\"></i>{}</td><td class=\"number\">{volume}</td><td class=\"number\">{voxels}</td></tr>",
            Text(capital(&r.name.replace('_', " ")))
        )
    };
    format!(
        "<table><thead><tr><th>Region</th><th class=\"number\">Volume</th><th class=\"number\">Voxels</th></tr></thead><tbody>{}</tbody></table>",
        s.regions.iter().map(row).collect::<String>()
    )
}

/// The clinical values that were used and those nobody has told.
pub fn clinical(s: &StudyPage) -> String {
    let yes_no = |flag: bool| if flag { "yes".to_owned() } else { "no".to_owned() };
    let rows = [
        ("Alpha-fetoprotein", s.clinical.afp_ng_per_ml.map(|v| format!("{} ng/mL", format_short(v)))),
        ("Dissected lymph nodes", s.clinical.dissected_lymph_nodes.map(|n| n.to_string())),
        ("Perineural invasion", s.clinical.perineural_invasion.map(yes_no)),
        ("Tumor nodules", s.clinical.tumor_nodules.map(yes_no)),
    ];
    let row = |(label, value): (&str, Option<String>)| {
        let value = value.map_or("<span class=\"faint\">not known</span>".into(), |v| format!("<b>{}</b>", Text(v)));
        format!("<tr><td>{label}</td><td class=\"number\">{value}</td></tr>")
    };
    format!("<table><tbody>{}</tbody></table>", rows.into_iter().map(row).collect::<String>())
}

/// One bar per step, as long as the step took.
pub fn steps(s: &StudyPage) -> String {
    let longest = s.steps.iter().map(|step| step.ms).filter(|ms| ms.is_finite()).fold(1.0, f64::max);
    let row = |step: &super::view::StepRow| {
        let width = (step.ms / longest * 200.0).clamp(1.0, 200.0);
        format!(
            "<li><div class=\"what\"><span>{}</span></div><svg viewBox=\"0 0 200 14\" preserveAspectRatio=\"none\" aria-hidden=\"true\">\
             <rect class=\"dot\" x=\"0\" y=\"3\" width=\"{width:.1}\" height=\"8\"/></svg><div class=\"much\">{}</div></li>",
            Text(capital(&step.name)),
            duration(step.ms)
        )
    };
    let all: String = s.steps.iter().filter(|step| step.ms.is_finite()).map(row).collect();
    if all.is_empty() { all } else { format!("<ol class=\"bars time\">{all}</ol>") }
}

/// Links to the files of the result.
pub fn files(s: &StudyPage) -> String {
    let row = |f: &super::view::FileRow| {
        let length = f.length.map_or(String::new(), bytes);
        let title = if f.title.is_empty() { known_title(&f.name) } else { &f.title };
        format!(
            "<li><a href=\"{}\">{}</a><span class=\"faint\">{}</span><span class=\"number\">{length}</span></li>",
            Text(file_href(&s.number, &f.name)),
            Text(&f.name),
            Text(title)
        )
    };
    let all: String = s.files.iter().filter(|f| !s.pictures.contains(&f.name)).map(row).collect();
    if all.is_empty() { all } else { format!("<ul class=\"files\">{all}</ul>") }
}

fn known_title(name: &str) -> &'static str {
    match name {
        "result.json" => "the whole result",
        "labels.nii.gz" => "label map, NIfTI",
        "features.csv" => "features, PyRadiomics names",
        "segmentation.dcm" => "DICOM SEG",
        _ => "",
    }
}

/// What goes to other nodes, with a button for what is parked.
pub fn deliveries(s: &StudyPage) -> String {
    let row = |d: &super::view::DeliveryRow| {
        let (class, reason) = match (&d.parked, d.state.as_str()) {
            (Some(why), _) => (
                "bad",
                format!(
                    "<tr><td colspan=\"3\">{}<form method=\"post\" action=\"/study/{}/retry/{}\"><button type=\"submit\">Send again</button></form></td></tr>",
                    Text(why),
                    Text(&s.number),
                    Text(&d.id)
                ),
            ),
            (None, "delivered") => ("good", String::new()),
            (None, _) => ("attention", String::new()),
        };
        let tries =
            if d.attempts > 1 { format!(" <span class=\"faint\">{} tries</span>", d.attempts) } else { String::new() };
        format!(
            "<tr><td>{}</td><td>{}</td><td><span class=\"badge {class}\">{}</span>{tries}</td></tr>{reason}",
            Text(&d.to),
            Text(&d.what),
            Text(capital(&d.state))
        )
    };
    let all: String = s.deliveries.iter().map(row).collect();
    if all.is_empty() { all } else { format!("<table><tbody>{all}</tbody></table>") }
}

/// The packages that made the result, with their hashes.
pub fn packages(s: &StudyPage) -> String {
    let row = |p: &super::view::PackageRow| {
        format!(
            "<li><span class=\"faint\">{}</span><b>{} {}</b><code>{}</code></li>",
            Text(capital(&p.kind)),
            Text(&p.id),
            Text(&p.version),
            Text(&p.sha256)
        )
    };
    let mut all: String = s.packages.iter().map(row).collect();
    if let Some(backend) = &s.backend {
        all += &format!("<li><span class=\"faint\">Computed by</span><b>{}</b></li>", Text(backend));
    }
    if all.is_empty() { all } else { format!("<ul class=\"packages\">{all}</ul>") }
}

/// All features, folded away.
pub fn features(s: &StudyPage) -> String {
    if s.features.is_empty() {
        return String::new();
    }
    let row = |f: &super::view::FeatureRow| {
        format!(
            "<tr><td>{}</td><td><code>{}</code></td><td class=\"number\">{}</td></tr>",
            Text(&f.region),
            Text(&f.name),
            Text(&f.value)
        )
    };
    format!(
        "<section class=\"card\"><details><summary><h2>Radiomic features</h2><span class=\"faint\">{} values</span></summary>\
         <div class=\"scroll\"><table><thead><tr><th>Region</th><th>Feature</th><th class=\"number\">Value</th></tr></thead>\
         <tbody>{}</tbody></table></div></details></section>",
        s.features.len(),
        s.features.iter().map(row).collect::<String>()
    )
}

/// What the audit says about this study.
pub fn audit(s: &StudyPage) -> String {
    let row = |a: &super::view::AuditRow| {
        format!(
            "<tr><td class=\"when\">{}</td><td>{}</td><td><b>{}</b></td><td>{}</td></tr>",
            moment(a.at_ms),
            Text(&a.actor),
            Text(&a.action),
            Text(&a.detail)
        )
    };
    let all: String = s.audit.iter().map(row).collect();
    if all.is_empty() {
        all
    } else {
        format!("<div class=\"scroll\"><table class=\"audit\"><tbody>{all}</tbody></table></div>")
    }
}
