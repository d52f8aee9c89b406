//! The report: one HTML file without network, to read, print and attach.

use super::checklist::{self, Answer, Item};
use super::figures::{Figure, two};
use super::fit::Fitted;
use super::models::Model;
use super::results::{RadTerm, Results};
use super::spec::{Family, Icc, Imputation, Kind, LambdaChoice};
use super::svg::escape;
use super::validate::{Performance, Scored};

/// A p-value as journals print it.
pub fn p_text(p: f64) -> String {
    if p < 0.0001 { "P < 0.0001".into() } else { format!("P = {}", p_number(p)) }
}

fn p_number(p: f64) -> String {
    match p {
        p if p < 0.0001 => "< 0.0001".into(),
        p if p < 0.001 => format!("{p:.4}"),
        p => format!("{p:.3}"),
    }
}

/// Numbers figures and tables while the page grows.
#[derive(Default)]
struct Page {
    body: String,
    contents: Vec<(String, String)>,
    figures: usize,
    tables: usize,
}

impl Page {
    fn section(&mut self, title: &str) {
        let id = format!("s{}", self.contents.len() + 1);
        self.body.push_str(&format!("<h2 id=\"{id}\">{}. {}</h2>\n", self.contents.len() + 1, escape(title)));
        self.contents.push((id, title.to_owned()));
    }

    fn heading(&mut self, title: &str) {
        self.body.push_str(&format!("<h3>{}</h3>\n", escape(title)));
    }

    /// A paragraph of plain text.
    fn text(&mut self, text: &str) {
        self.body.push_str(&format!("<p>{}</p>\n", escape(text)));
    }

    fn figure(&mut self, figure: &Figure) {
        self.figures += 1;
        self.body.push_str(&format!(
            "<figure>\n{}<figcaption><b>Figure {}.</b> {}</figcaption>\n</figure>\n",
            figure.svg,
            self.figures,
            escape(&figure.caption)
        ));
    }

    /// Two figures beside each other where the page is wide enough.
    fn pair(&mut self, figures: &[Figure]) {
        self.body.push_str("<div class=\"pair\">\n");
        figures.iter().for_each(|f| self.figure(f));
        self.body.push_str("</div>\n");
    }

    /// A table; a first cell that begins with a tab is indented.
    fn table(&mut self, caption: &str, head: &[&str], rows: &[Vec<String>], class: &str) {
        self.tables += 1;
        let cell = |text: &String| match text.strip_prefix('\t') {
            Some(text) => format!("<td class=\"indent\">{}</td>", escape(text)),
            None => format!("<td>{}</td>", escape(text)),
        };
        let head: String = head.iter().map(|h| format!("<th scope=\"col\">{}</th>", escape(h))).collect();
        let rows: String =
            rows.iter().map(|row| format!("<tr>{}</tr>\n", row.iter().map(cell).collect::<String>())).collect();
        self.body.push_str(&format!(
            "<div class=\"scroll\"><table class=\"{class}\">\n<caption><b>Table {}.</b> {}</caption>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}</tbody></table></div>\n",
            self.tables,
            escape(caption)
        ));
    }
}

/// The whole report.
pub fn report_html(fitted: &Fitted) -> String {
    let mut page = Page::default();
    let r = &fitted.results;
    summary(&mut page, fitted);
    patients(&mut page, fitted);
    methods(&mut page, fitted);
    rad_score(&mut page, fitted);
    models(&mut page, fitted);
    equation(&mut page, fitted);
    discrimination(&mut page, fitted);
    page.section("Calibration");
    page.text("A slope below 1 means predictions that are too extreme, above 1 too timid; calibration in the large is the shift of all risks on the log odds scale. ICI, E50 and E90 are mean, median and 90th percentile of the distance between the smooth curve and the diagonal.");
    calibration_table(&mut page, "Calibration of all models.", &r.performance);
    page.pair(&fitted.calibration_figures());
    other_way(&mut page, fitted);
    page.section("Clinical use");
    page.text("Net benefit weighs true against false positives at the odds of each threshold probability; a model is worth using where its line lies above both simple policies.");
    page.pair(&fitted.decision_figures());
    risk_groups(&mut page, fitted);
    subgroups(&mut page, fitted);
    optimism(&mut page, fitted);
    page.section("Explanation");
    page.text("The models are linear in the log odds, so SHAP values are exact: coefficient times distance from the training mean. They say what moved a prediction, not what causes the event.");
    fitted.shap_figures().iter().for_each(|f| page.figure(f));
    appendix(&mut page, fitted);
    wrap(fitted, page)
}

/// Frame, style, contents, label.
fn wrap(fitted: &Fitted, page: Page) -> String {
    let r = &fitted.results;
    let mode = if r.paper_mode {
        "combined model on in-sample rad-scores (paper mode)"
    } else {
        "combined model on out-of-fold rad-scores"
    };
    let subtitle =
        format!("Development and validation report · outcome: {} · {mode} · metwatch {}", r.outcome, r.version);
    document(&r.title, &subtitle, r.simulated, &format!("{}\n{}", facts(r), warnings(r)), page)
}

/// A whole page. `top`: elements between title and contents.
fn document(title: &str, subtitle: &str, simulated: bool, top: &str, page: Page) -> String {
    let simulated = if simulated { " · SIMULATED DATA: no patient is behind any row" } else { "" };
    let label = escape(&format!("{}{simulated}", capitalized(crate::DISCLAIMER)));
    let title = escape(title);
    let contents: String = page
        .contents
        .iter()
        .enumerate()
        .map(|(i, (id, title))| format!("<a href=\"#{id}\">{}. {}</a>\n", i + 1, escape(title)))
        .collect();
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n<style>\n{}</style>\n</head>\n<body>\n<div class=\"label\" role=\"note\">{label}</div>\n<main>\n<header>\n<h1>{title}</h1>\n<p class=\"sub\">{}</p>\n</header>\n{top}\n<nav aria-label=\"Contents\">\n{contents}</nav>\n{}</main>\n</body>\n</html>\n",
        include_str!("report.css"),
        escape(subtitle),
        page.body,
    )
}

fn capitalized(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}

fn main_model(r: &Results) -> &str {
    r.models.last().map_or("", |m| m.name.as_str())
}

fn main_performance(r: &Results) -> impl Iterator<Item = &Performance> {
    r.performance.iter().filter(|p| p.model == main_model(r))
}

fn facts(r: &Results) -> String {
    let n: usize = r.flow.parts.iter().map(|p| p.1).sum();
    let events: usize = r.flow.parts.iter().map(|p| p.2).sum();
    let mut cells = vec![
        (n.to_string(), "patients analysed".to_owned()),
        (format!("{events} ({:.0} %)", 100.0 * events as f64 / n.max(1) as f64), "with the event".into()),
    ];
    for p in main_performance(r) {
        if let Some([auc, low, high]) = p.auc {
            cells.push((format!("{auc:.3}"), format!("AUC, {} model, {} ({low:.3}–{high:.3})", p.model, p.part)));
        }
    }
    if let Some(o) = r.bootstrap.as_ref().and_then(|b| b.models.iter().find(|m| m.model == main_model(r))) {
        cells.push((
            format!("{:.3}", o.apparent_auc - o.auc_optimism),
            "training AUC less the optimism of the whole procedure".into(),
        ));
    }
    for p in main_performance(r).skip(1) {
        if let Some(c) = &p.calibration {
            cells.push((format!("{:.2}", c.slope), format!("calibration slope, {}", p.part)));
        }
    }
    if let Some(s) = &r.sample_size {
        cells.push((format!("{:.2}", s.events_per_candidate), "events per candidate parameter".into()));
    }
    cells.truncate(8);
    let cells: String =
        cells.iter().map(|(value, what)| format!("<div><b>{}</b>{}</div>", escape(value), escape(what))).collect();
    format!("<div class=\"facts\">{cells}</div>")
}

fn warnings(r: &Results) -> String {
    if r.warnings.is_empty() {
        return "<p class=\"small\">The analysis found nothing to warn of by its own rules.</p>".into();
    }
    let list: String = r.warnings.iter().map(|w| format!("<li>{}</li>\n", escape(w))).collect();
    format!("<div class=\"warnings\"><h3>What the analysis noticed about itself</h3><ul>\n{list}</ul></div>")
}

fn summary(page: &mut Page, fitted: &Fitted) {
    let r = &fitted.results;
    page.section("Summary");
    let parts: Vec<String> =
        r.flow.parts.iter().map(|(name, n, e)| format!("{name} ({n} patients, {e} events)")).collect();
    let mut text = format!(
        "Of {} patients in the clinical table, {} were analysed: {}. ",
        r.flow.in_clinical_table,
        r.flow.parts.iter().map(|p| p.1).sum::<usize>(),
        parts.join(", ")
    );
    if let (Some(first), Some(last)) = (r.features.steps.first(), r.features.steps.last()) {
        text += &format!("Of {} features, {} entered the rad-score. ", first.1, last.1);
    }
    if !r.clinical_selection.kept.is_empty() {
        let labels: Vec<String> = r.clinical_selection.kept.iter().map(|k| term_label(fitted, k)).collect();
        text += &format!("Clinical values selected: {}. ", labels.join(", "));
    }
    for p in main_performance(r) {
        if let Some([auc, low, high]) = p.auc {
            text +=
                &format!("In {} the {} model had an AUC of {auc:.3} (95 % CI {low:.3} to {high:.3})", p.part, p.model);
            if let Some([c, _]) = p.c_index {
                text += &format!(", a C-index of {c:.3}");
            }
            if let Some(c) = &p.calibration {
                text += &format!(", a calibration slope of {:.2} and a Brier score of {:.3}", c.slope, c.brier);
            }
            text += ". ";
        }
    }
    if let Some(b) = r.bootstrap.as_ref().and_then(|b| Some((b, b.models.iter().find(|m| m.model == main_model(r))?))) {
        text += &format!(
            "Repeating the whole procedure on {} bootstrap samples showed an optimism of {:.3} in the training AUC. ",
            b.0.replicates, b.1.auc_optimism
        );
    }
    page.text(&text);
}

fn term_label(fitted: &Fitted, name: &str) -> String {
    fitted
        .cohort
        .terms
        .iter()
        .find(|t| t.candidate.name == name)
        .map_or(name.to_owned(), |t| t.candidate.label().to_owned())
}

fn patients(page: &mut Page, fitted: &Fitted) {
    let r = &fitted.results;
    page.section("Patients");
    page.figure(&fitted.flow_figure());
    let mut head = vec![""];
    head.extend(r.table_one_groups.iter().map(String::as_str));
    head.push("SMD");
    let mut rows = Vec::new();
    let mut before = String::new();
    for row in &r.table_one {
        if !row.class.is_empty() && row.label != before {
            let mut heading = vec![String::new(); head.len()];
            heading[0] = row.label.clone();
            rows.push(heading);
        }
        let name = if row.class.is_empty() { row.label.clone() } else { format!("\t{}", row.class) };
        let mut cells = vec![name];
        cells.extend(row.cells.iter().cloned());
        cells.push(row.smd.map_or("–".into(), |v| format!("{:.2}", v.abs())));
        rows.push(cells);
        before.clone_from(&row.label);
    }
    page.table("Characteristics by part of the split, and in training by outcome. SMD: standardized difference between training and all other patients; above 0.1 the groups differ noticeably.", &head, &rows, "");
    let mut missing: Vec<Vec<String>> = r
        .flow
        .missing
        .iter()
        .map(|(column, n)| {
            let share = 100.0 * *n as f64 / r.flow.in_clinical_table.max(1) as f64;
            let imputed = r
                .flow
                .imputed
                .iter()
                .find(|(c, ..)| fitted.spec.candidates.iter().any(|k| k.name == *c && k.column() == column));
            vec![
                column.clone(),
                format!("{n} ({share:.1} %)"),
                imputed.map_or("patients left out".into(), |(_, n, v)| format!("{n} filled with {v}")),
            ]
        })
        .collect();
    missing.extend(
        r.flow
            .features_dropped
            .iter()
            .map(|(why, n)| vec![format!("{n} features"), why.clone(), "features left out".into()]),
    );
    if missing.is_empty() {
        page.text("No candidate and no feature had missing values.");
    } else {
        page.table(
            "Missing values among all patients of the clinical table, and features dropped.",
            &["Column", "Missing", "What was done"],
            &missing,
            "left",
        );
    }
    if r.flow.features_without_clinical > 0 {
        page.text(&format!(
            "{} patients of the feature tables are in no row of the clinical table and were not used.",
            r.flow.features_without_clinical
        ));
    }
}

fn methods(page: &mut Page, fitted: &Fitted) {
    let spec = &fitted.spec;
    let r = &fitted.results;
    page.section("Methods");
    let split = match (&spec.split.column, &spec.split.date) {
        (Some(column), _) => format!(
            "Patients were split by the column {column}: {} trained the models, {} validated them.",
            spec.split.training.join(", "),
            fitted.cohort.parts[1..].join(", ")
        ),
        (None, date) => format!(
            "Patients were split by the date in {}: training before {}.",
            date.clone().unwrap_or_default(),
            spec.split.before.clone().unwrap_or_default()
        ),
    };
    page.text(&format!("{split} Everything below was fitted on training patients alone."));
    if spec.harmonization.combat {
        page.text("Features were harmonized over centers by ComBat (parametric empirical Bayes) with parameters fitted on training patients. The bootstrap does not repeat this step.");
    }
    let mut steps = Vec::new();
    if let (Some(limit), Some([first, _])) = (spec.filters.icc_min, &fitted.cohort.repeats) {
        let form =
            if spec.filters.icc == Icc::Agreement { "ICC(2,1), absolute agreement" } else { "ICC(3,1), consistency" };
        steps.push(format!("stability over {} repeat segmentations ({form}, at least {limit})", first.nrows()));
    }
    if let Some(limit) = spec.filters.univariable_p_max {
        let test = if spec.penalized.family == Family::Cox {
            "univariable Cox models"
        } else {
            "Mann-Whitney tests (normal approximation with correction)"
        };
        steps.push(format!("{test} with p below {limit}"));
    }
    if let Some(limit) = spec.filters.correlation_max {
        steps.push(format!(
            "Spearman correlation, by increasing p, keeping a feature if |rho| is at most {limit} to all kept before"
        ));
    }
    if let Some(most) = spec.filters.mrmr {
        steps.push(format!("minimum redundancy, maximum relevance, at most {most}"));
    }
    if !r.features.steps.is_empty() {
        let filters = if steps.is_empty() { "no filter".into() } else { steps.join("; ") };
        let family = if spec.penalized.family == Family::Cox { "proportional hazards" } else { "logistic" };
        let penalty = if spec.penalized.alpha == 1.0 {
            "LASSO".into()
        } else {
            format!("elastic net (alpha {})", spec.penalized.alpha)
        };
        let rule = if spec.penalized.rule == LambdaChoice::Min {
            "the smallest cross-validated deviance"
        } else {
            "the largest penalty within one standard error of the smallest cross-validated deviance"
        };
        let folds = fitted.training.folds.iter().max().map_or(0, |f| f + 1);
        let drawn = spec
            .penalized
            .fold_column
            .as_ref()
            .map_or_else(|| format!("drawn with seed {}", spec.analysis.seed), |c| format!("given in the column {c}"));
        page.text(&format!("Features passed these filters: {filters}. They were then standardized by training mean and SD and offered to a {family} {penalty} over 100 penalties (glmnet's grid; each fold on its own grid). The penalty was that of {rule} over {folds} folds ({drawn}). The linear predictor is the rad-score."));
    }
    let candidates: Vec<Vec<String>> = spec
        .candidates
        .iter()
        .map(|c| {
            let kind = match c.kind {
                Kind::Continuous => "continuous".into(),
                Kind::Log => "natural logarithm".into(),
                Kind::Cut => format!("cut at {}", c.at.unwrap_or(0.0)),
                Kind::Ordinal => "ordinal".into(),
                Kind::Factor => format!("factor, reference {}", c.levels[0]),
                Kind::Indicator => format!("{} or not", c.level.clone().unwrap_or_default()),
                Kind::Spline => format!("restricted cubic spline, {} knots", c.knots.unwrap_or(0)),
            };
            let range = c.range.map_or("–".into(), |[a, b]| format!("{a} to {b}"));
            let known = if c.known == super::Known::Laboratory { "at the scan" } else { "after surgery" };
            vec![
                c.label().to_owned(),
                c.column().to_owned(),
                if c.unit.is_empty() { "–".into() } else { c.unit.clone() },
                kind,
                range,
                known.into(),
            ]
        })
        .collect();
    if !candidates.is_empty() {
        let backward =
            if spec.clinical_model.backward_aic { ", the rest reduced backward by Akaike's criterion" } else { "" };
        page.text(&format!("Clinical candidates with a univariable p below {} were kept{backward}. Wald tests are used; where an outcome was separated, Firth's penalty.", spec.clinical_model.univariable_p_max));
        page.table(
            "Clinical candidates.",
            &["Value", "Column", "Unit", "Enters as", "Permitted", "Known"],
            &candidates,
            "left",
        );
    }
    let combined = if r.paper_mode {
        "The combined model is logistic in the selected clinical values and the rad-score as fitted on the same patients (paper mode), which makes it look better in training than it is."
    } else {
        "The combined model is logistic in the selected clinical values and the rad-score; it was fitted on out-of-fold rad-scores (each patient's from the fit without that patient's fold) and is applied with the full rad-score."
    };
    let imputation = if spec.analysis.imputation == Imputation::Median {
        "Missing values were filled with the training median or the most frequent class."
    } else {
        "Patients with a missing candidate or feature were left out."
    };
    page.text(&format!("{combined} {imputation} AUC intervals and tests are DeLong's; the C-index is Harrell's for the linear predictor against time; smooth calibration curves are lowess without robustness; survival bands are log-log; hazard ratios use Efron's ties."));
}

fn rad_score(page: &mut Page, fitted: &Fitted) {
    let r = &fitted.results;
    let Some(penalized) = &r.penalized else { return };
    page.section("Rad-score");
    let steps: Vec<Vec<String>> = r.features.steps.iter().map(|(step, n)| vec![step.clone(), n.to_string()]).collect();
    page.table("Features left after each step.", &["Step", "Features"], &steps, "");
    fitted.path_figures().iter().for_each(|f| page.figure(f));
    page.text(&format!("Chosen penalty: lambda = {:.6} (number {} of {}), {} features. Optimality conditions are met to {:.0e} of lambda at every penalty.", penalized.lambda[penalized.index], penalized.index + 1, penalized.lambda.len(), penalized.coefficients.len(), penalized.optimality.max(1e-12)));
    let mut terms: Vec<&RadTerm> = penalized.coefficients.iter().collect();
    terms.sort_by(|a, b| b.coefficient.abs().total_cmp(&a.coefficient.abs()));
    let rows: Vec<Vec<String>> = terms
        .iter()
        .map(|t| vec![t.name.clone(), format!("{:+.5}", t.coefficient), six(t.center), six(t.scale)])
        .collect();
    page.table(
        &format!(
            "The rad-score: {:.6} + sum of coefficient x (value - mean) / SD, by size of the coefficient.",
            penalized.intercept
        ),
        &["Feature", "Coefficient", "Mean", "SD"],
        &rows,
        "",
    );
}

/// Six significant digits.
fn six(v: f64) -> String {
    super::format_number(format!("{v:.5e}").parse().unwrap_or(v))
}

fn models(page: &mut Page, fitted: &Fitted) {
    let r = &fitted.results;
    page.section("Models");
    if !r.clinical_selection.univariable.is_empty() {
        let rows: Vec<Vec<String>> = r
            .clinical_selection
            .univariable
            .iter()
            .map(|u| {
                let ratio = if u.odds_ratios.len() == 1 {
                    ratio(u.odds_ratios[0])
                } else {
                    format!("{} columns", u.odds_ratios.len())
                };
                let fate = if r.clinical_selection.kept.contains(&u.term) {
                    "selected"
                } else if u.passed {
                    "dropped by AIC"
                } else {
                    "dropped by p"
                };
                vec![u.label.clone(), ratio, p_number(u.p), fate.into()]
            })
            .collect();
        page.table("Each clinical candidate alone.", &["Value", "Odds ratio (95 % CI)", "p", ""], &rows, "");
    }
    for model in &r.models {
        let rows: Vec<Vec<String>> = (0..model.names.len())
            .map(|i| {
                let vif = if i == 0 { None } else { model.variance_inflation.as_ref().and_then(|v| v.get(i - 1)) };
                let profile =
                    model.profile.as_ref().map_or("–".into(), |p| format!("{}–{}", two(p[i][0]), two(p[i][1])));
                let hazard =
                    model.cox.as_ref().filter(|_| i > 0).map_or("–".into(), |c| ratio(c.hazard_ratios[i - 1]));
                vec![
                    fitted.column_label(&model.names[i]),
                    format!("{:.4}", model.coefficients[i]),
                    format!("{:.4}", model.standard_errors[i]),
                    if i == 0 { "–".into() } else { ratio(model.odds_ratios[i]) },
                    if i == 0 { "–".into() } else { profile },
                    p_number(model.p[i]),
                    vif.map_or("–".into(), |v| format!("{v:.2}")),
                    hazard,
                ]
            })
            .collect();
        let firth = if model.firth { " Firth's penalty, as the outcome was separated." } else { "" };
        let ph = model
            .cox
            .as_ref()
            .and_then(|c| c.proportionality_p)
            .map(|p| format!(" Test of proportional hazards: {}.", p_text(p)))
            .unwrap_or_default();
        page.table(
            &format!("The {} model, AIC {:.1}.{firth}{ph}", model.name, model.aic),
            &["", "Log odds", "SE", "Odds ratio (Wald)", "Profile limits", "p", "VIF", "Hazard ratio"],
            &rows,
            "",
        );
    }
    if let Some(figure) = fitted.odds_figure() {
        page.figure(&figure);
    }
}

fn ratio([value, low, high]: [f64; 3]) -> String {
    format!("{} ({}–{})", two(value), two(low), two(high))
}

fn equation(page: &mut Page, fitted: &Fitted) {
    let r = &fitted.results;
    let Some(model) = r.models.last() else { return };
    page.section("Equation and nomogram");
    page.text("Risk = 1 / (1 + exp(-L)), with the linear predictor");
    page.body.push_str(&format!("<div class=\"formula\">L = {}</div>\n", escape(&formula(fitted, model))));
    if let Some(p) = &r.prior {
        page.text(&format!(
            "Where {:.0} % of patients have the event, add {:+.4} to L.",
            100.0 * p.local_incidence,
            p.shift
        ));
    }
    if let Some(cox) = model.cox.as_ref().filter(|c| !c.baseline_survival.is_empty()) {
        let s: Vec<String> = cox.baseline_survival.iter().map(|(m, s)| format!("S0({m} months) = {s:.5}")).collect();
        let h: Vec<String> = cox
            .names
            .iter()
            .zip(&cox.coefficients)
            .zip(&cox.centers)
            .map(|((n, b), c)| {
                format!("{b:+.5} · ({} {} {})", fitted.column_label(n), if *c < 0.0 { "+" } else { "-" }, six(c.abs()))
            })
            .collect();
        page.text("By proportional hazards, S(t) = S0(t) to the power of exp(H), with");
        page.body.push_str(&format!(
            "<div class=\"formula\">H = {}<br>{}</div>\n",
            escape(&h.join(" ")),
            escape(&s.join(", "))
        ));
    }
    if let Some(figure) = fitted.nomogram_figure() {
        page.figure(&figure);
    }
}

fn formula(fitted: &Fitted, model: &Model) -> String {
    let mut text = format!("{:.5}", model.coefficients[0]);
    for (name, b) in model.names.iter().zip(&model.coefficients).skip(1) {
        let label = fitted.column_label(name);
        let unit =
            fitted.cohort.terms.iter().find(|t| t.columns().contains(name)).map_or("", |t| t.candidate.unit.as_str());
        let unit = if unit.is_empty() { String::new() } else { format!(" [{unit}]") };
        text += &format!(" {} {:.5} · {label}{unit}", if *b < 0.0 { "-" } else { "+" }, b.abs());
    }
    text
}

fn discrimination(page: &mut Page, fitted: &Fitted) {
    let r = &fitted.results;
    page.section("Discrimination");
    let rows: Vec<Vec<String>> = r
        .performance
        .iter()
        .map(|p| {
            let interval = |v: Option<[f64; 3]>| v.map_or("–".into(), |[a, b, c]| format!("{a:.3} ({b:.3}–{c:.3})"));
            let dynamic: Vec<String> = p.dynamic_auc.iter().map(|(m, a)| format!("{m}: {a:.3}")).collect();
            vec![
                p.model.clone(),
                p.part.clone(),
                format!("{} / {}", p.n, p.events),
                interval(p.auc),
                p.c_index.map_or("–".into(), |[c, se]| format!("{c:.3} (SE {se:.3})")),
                p.uno_c.map_or("–".into(), |c| format!("{c:.3}")),
                if dynamic.is_empty() { "–".into() } else { dynamic.join(", ") },
            ]
        })
        .collect();
    page.table(
        "Discrimination of all models. Dynamic AUC by months, weighted for censoring by the training patients.",
        &["Model", "Part", "n / events", "AUC (95 % CI)", "Harrell's C", "Uno's C", "Dynamic AUC"],
        &rows,
        "left",
    );
    page.pair(&fitted.roc_figures());
    if !r.comparisons.is_empty() {
        let rows: Vec<Vec<String>> = r
            .comparisons
            .iter()
            .map(|c| {
                vec![
                    c.part.clone(),
                    format!("{} against {}", c.first, c.second),
                    format!("{:+.3}", c.difference),
                    format!("{:.3}", c.z),
                    p_number(c.p),
                    format!("{:+.3} ({})", c.nri[0], p_text(c.nri[1])),
                    format!("{:+.3} ({})", c.idi[0], p_text(c.idi[1])),
                ]
            })
            .collect();
        page.table("Comparison of models in the same patients: DeLong's test, continuous net reclassification (NRI) and integrated discrimination improvement (IDI).", &["Part", "Models", "Difference of AUC", "z", "p", "NRI", "IDI"], &rows, "left");
    }
}

fn calibration_table(page: &mut Page, caption: &str, performance: &[Performance]) {
    let rows: Vec<Vec<String>> = performance
        .iter()
        .filter_map(|p| {
            let c = p.calibration.as_ref()?;
            let test =
                c.hosmer_lemeshow.map_or("–".into(), |[chi, df, p]| format!("{chi:.2}, df {df:.0}, {}", p_text(p)));
            Some(vec![
                p.model.clone(),
                p.part.clone(),
                format!("{:.3}", c.brier),
                format!("{:.3}", c.brier_scaled),
                format!("{:+.3}", c.in_the_large),
                format!("{:+.3}", c.intercept),
                format!("{:.3}", c.slope),
                format!("{:.2}", c.expected_over_observed),
                format!("{:.3} / {:.3} / {:.3}", c.ici, c.e50, c.e90),
                test,
            ])
        })
        .collect();
    page.table(
        caption,
        &[
            "Model",
            "Part",
            "Brier",
            "scaled",
            "In the large",
            "Intercept",
            "Slope",
            "E/O",
            "ICI / E50 / E90",
            "Hosmer-Lemeshow",
        ],
        &rows,
        "",
    );
}

fn other_way(page: &mut Page, fitted: &Fitted) {
    let r = &fitted.results;
    if r.other_way.is_empty() {
        return;
    }
    let (this, other) = if r.paper_mode { ("in-sample", "out-of-fold") } else { ("out-of-fold", "in-sample") };
    page.heading("What the choice of rad-scores does");
    page.text(&format!("This report's {} model was fitted on {this} rad-scores. The table shows the same model fitted on {other} ones.", main_model(r)));
    calibration_table(page, &format!("The {} model fitted on {other} rad-scores.", main_model(r)), &r.other_way);
}

fn risk_groups(page: &mut Page, fitted: &Fitted) {
    let r = &fitted.results;
    let Some(cut) = &r.cut_off else { return };
    page.section("Risk groups");
    let rule = if cut.rule == "youden" {
        "largest sum of sensitivity and specificity in training"
    } else {
        "maximally selected log-rank statistic in training"
    };
    let p = cut.p.map(|p| format!(", corrected {}", p_text(p))).unwrap_or_default();
    page.text(&format!(
        "High risk is a linear predictor of {:.4} or more, a risk of {:.3} ({rule}{p}).",
        cut.lp, cut.probability
    ));
    let share = |v: [f64; 3]| format!("{:.2} ({:.2}–{:.2})", v[0], v[1], v[2]);
    let option = |v: Option<f64>| v.map_or("–".into(), |v| format!("{v:.2}"));
    let rows: Vec<Vec<String>> = main_performance(r)
        .filter_map(|p| {
            let c = p.at_cut_off.as_ref()?;
            Some(vec![
                p.part.clone(),
                share(c.sensitivity),
                share(c.specificity),
                option(c.ppv),
                option(c.npv),
                option(c.accuracy),
            ])
        })
        .collect();
    page.table(
        "Classification at the cut-off (Wilson's intervals).",
        &["Part", "Sensitivity", "Specificity", "PPV", "NPV", "Accuracy"],
        &rows,
        "",
    );
    if !r.survival_groups.is_empty() {
        let median = |m: [Option<f64>; 3]| {
            m[0].map_or("not reached".into(), |t| {
                format!(
                    "{t:.1} ({}–{})",
                    m[1].map_or("–".into(), |v| format!("{v:.1}")),
                    m[2].map_or("–".into(), |v| format!("{v:.1}"))
                )
            })
        };
        let rows: Vec<Vec<String>> = r
            .survival_groups
            .iter()
            .map(|g| {
                vec![
                    g.part.clone(),
                    format!("{} / {}", g.n[0], g.n[1]),
                    format!("{:.0} / {:.0}", g.observed[0], g.observed[1]),
                    format!("{:.1} / {:.1}", g.expected[0], g.expected[1]),
                    format!("{:.2}", g.chi_squared),
                    p_number(g.p),
                    g.hazard_ratio.map_or("–".into(), ratio),
                    format!("{} / {}", median(g.median_months[0]), median(g.median_months[1])),
                ]
            })
            .collect();
        page.table(
            "Survival of the risk groups, low / high.",
            &["Part", "n", "Events", "Expected", "Chi-squared", "p", "Hazard ratio", "Median months"],
            &rows,
            "",
        );
    }
    fitted.survival_figures().iter().for_each(|f| page.figure(f));
    page.pair(&fitted.incidence_figures());
}

fn subgroups(page: &mut Page, fitted: &Fitted) {
    let r = &fitted.results;
    let Some(figure) = fitted.subgroup_figure() else { return };
    page.section("Centers and subgroups");
    page.figure(&figure);
    let all: Vec<Performance> = r.by_center.iter().chain(&r.by_subgroup).cloned().collect();
    calibration_table(page, "Calibration by center and subgroup.", &all);
    page.text("Subgroups are small; their differences are not tested.");
}

fn optimism(page: &mut Page, fitted: &Fitted) {
    let r = &fitted.results;
    page.section("Optimism, sample size and local incidence");
    if let Some(b) = &r.bootstrap {
        let rows: Vec<Vec<String>> = b
            .models
            .iter()
            .map(|o| {
                vec![
                    o.model.clone(),
                    format!("{:.3}", o.apparent_auc),
                    format!("{:.3}", o.auc_optimism),
                    format!("{:.3}", o.apparent_auc - o.auc_optimism),
                    format!("{:.3}–{:.3}", o.auc_on_original[0], o.auc_on_original[1]),
                    format!("{:.3}", o.apparent_brier - o.brier_optimism),
                    format!("{:.2}", o.slope_on_original),
                    o.replicates.to_string(),
                ]
            })
            .collect();
        page.table(&format!("Bootstrap of the whole procedure (filters, penalized model with its cross-validation, clinical selection, models): {} replicates, {} of them without a result. Copies of a patient stay in one fold.", b.replicates, b.failed), &["Model", "Apparent AUC", "Optimism", "Corrected AUC", "AUC of replicates on the original patients (95 %)", "Corrected Brier", "Mean slope on the original patients", "Replicates"], &rows, "");
        page.text(&format!("On average {:.1} features had a coefficient. A selection that changes from sample to sample is a fact about the data, not about biology.", b.mean_features));
    } else {
        page.text("No bootstrap was asked for: the optimism of the training values is not known.");
    }
    fitted.resampling_figures().iter().for_each(|f| page.figure(f));
    if let Some(s) = &r.sample_size {
        let rows = vec![
            vec![
                "Candidate parameters (clinical columns and stable features)".into(),
                s.candidate_parameters.to_string(),
            ],
            vec!["Events per candidate parameter".into(), format!("{:.2}", s.events_per_candidate)],
            vec!["Parameters of clinical candidates and one rad-score".into(), s.final_parameters.to_string()],
            vec!["Events per such parameter".into(), format!("{:.1}", s.events_per_final)],
            vec![
                "Cox-Snell R2 planned with (of the largest possible)".into(),
                format!("{:.3} ({:.3})", s.r2_cox_snell, s.r2_max),
            ],
            vec!["Patients for a shrinkage of at most 10 %".into(), format!("{:.0}", s.n_shrinkage)],
            vec!["Patients for an optimism in R2 of at most 0.05".into(), format!("{:.0}", s.n_optimism)],
            vec!["Patients for an overall risk within 0.05".into(), format!("{:.0}", s.n_overall)],
            vec!["Patients needed".into(), format!("{:.0}", s.n_needed)],
        ];
        page.table("Sample size by the criteria of Riley et al. (BMJ 2020, m441), counting the rad-score as one parameter, which is lenient.", &["", ""], &rows, "");
    }
    if let Some(p) = &r.prior {
        page.text(&format!("In training {:.1} % of the patients had the event; where the nomogram will be used {:.1} % are expected. Shifting the intercept by {:+.4} (prior correction) takes the mean predicted risk of the validation patients from {:.3} to {:.3}. The package carries the shift and says so.", 100.0 * p.training_incidence, 100.0 * p.local_incidence, p.shift, p.mean_risk[0], p.mean_risk[1]));
    }
}

fn appendix(page: &mut Page, fitted: &Fitted) {
    page.section("Appendix: reporting checklists");
    page.text("Filled from the data and the specification where they can be. Open lines are for the author.");
    for (name, list) in [
        ("TRIPOD+AI", checklist::tripod(fitted)),
        ("METRICS", checklist::metrics(fitted)),
        ("CLAIM", checklist::claim(fitted)),
    ] {
        page.heading(name);
        checklist_table(page, fitted, name, &list);
    }
    page.section("Appendix: reproducibility");
    let r = &fitted.results;
    let rows: Vec<Vec<String>> = r.inputs.iter().map(|(name, sha)| vec![name.clone(), sha.clone()]).collect();
    page.table(&format!("sha256 of the inputs. metwatch {}, seed {}; the result is the same for any number of threads. results.json holds every number.", r.version, r.seed), &["Input", "sha256"], &rows, "left");
}

fn checklist_table(page: &mut Page, fitted: &Fitted, name: &str, items: &[Item]) {
    page.tables += 1;
    let statements = fitted.spec.statement.entries();
    let open = "<span class=\"open\">to be written by the author</span>".to_owned();
    let answer = |item: &Item| match &item.answer {
        Answer::Filled(text) => escape(text),
        Answer::Stated(key) => match statements.get(key).map(|t| t.trim()).unwrap_or_default() {
            "" => open.clone(),
            text => escape(text),
        },
        Answer::Author => open.clone(),
    };
    let rows: String = items
        .iter()
        .map(|i| format!("<tr><td>{}</td><td>{}</td><td>{}</td></tr>\n", i.number, escape(i.text), answer(i)))
        .collect();
    page.body.push_str(&format!("<div class=\"scroll\"><table class=\"left\">\n<caption><b>Table {}.</b> {name}.</caption>\n<thead><tr><th scope=\"col\">Item</th><th scope=\"col\">Asked</th><th scope=\"col\">Answer</th></tr></thead>\n<tbody>\n{rows}</tbody></table></div>\n", page.tables));
}

/// The report of an external evaluation.
pub fn evaluation_html(evaluation: &super::Evaluation, scored: &Scored) -> String {
    let mut page = Page::default();
    page.section("Patients");
    page.text(&format!(
        "{} rows, {} assessed, {} of them with the event. The package {} {} was applied as it is; nothing in it was changed.",
        evaluation.rows, evaluation.assessed, evaluation.events, evaluation.nomogram, evaluation.nomogram_version
    ));
    let mut rows: Vec<Vec<String>> =
        evaluation.refused.iter().map(|(why, n)| vec![why.clone(), n.to_string()]).collect();
    rows.extend(evaluation.variants.iter().map(|(name, n)| vec![format!("assessed by variant {name}"), n.to_string()]));
    page.table("What became of the rows.", &["", "Patients"], &rows, "");
    let drift: Vec<Vec<String>> = evaluation
        .outside_training
        .iter()
        .map(|(p, n)| {
            vec![p.clone(), n.to_string(), format!("{:.0} %", 100.0 * *n as f64 / evaluation.assessed.max(1) as f64)]
        })
        .collect();
    if !drift.is_empty() {
        page.table(
            "Values outside the 5th to 95th percentile of training; 10 % are expected.",
            &["Predictor", "Patients", "Share"],
            &drift,
            "",
        );
    }
    page.section("Performance");
    let p = std::slice::from_ref(&evaluation.performance);
    if let Some([auc, low, high]) = evaluation.performance.auc {
        let c = evaluation
            .performance
            .c_index
            .map(|c| format!(", Harrell's C {:.3} (SE {:.3})", c[0], c[1]))
            .unwrap_or_default();
        page.text(&format!("AUC {auc:.3} (95 % CI {low:.3} to {high:.3}){c}."));
    }
    calibration_table(&mut page, "Calibration of the package as it is.", p);
    if let Ok(points) = super::validate::roc_points(scored) {
        let series = [super::plot::Series { name: "package".into(), points }];
        let roc = Figure { svg: super::plot::roc(&series), caption: "ROC curve.".into() };
        let calibration = Figure { svg: super::figures::calibration_plot(scored), caption: "Calibration.".into() };
        page.pair(&[roc, calibration]);
    }
    page.section("Recalibration, offered and not applied");
    match &evaluation.recalibration {
        Some(r) => page.text(&format!(
            "A new intercept alone would shift the log odds by {:+.4}. Intercept and slope together would be {:+.4} and {:.4} (SE {:.4} and {:.4}): L' = {:+.4} + {:.4} L. Whoever applies one makes a new package with a new version.",
            r.shift, r.intercept, r.slope, r.standard_errors[0], r.standard_errors[1], r.intercept, r.slope
        )),
        None => page.text("These patients do not allow a recalibration (one class, or told apart completely)."),
    }
    let title = format!("External evaluation of {}", evaluation.nomogram);
    document(
        &title,
        &format!("outcome: {} · metwatch {}", evaluation.outcome, evaluation.version),
        evaluation.outcome.contains("SIMULATED"),
        "",
        page,
    )
}

/// The report of repeats.
pub fn reliability_html(found: &super::Reliability) -> String {
    let mut page = Page::default();
    page.section("Intraclass correlation");
    page.text(&format!(
        "{} patients, {} measurements of each. ICC(2,1) asks for agreement of the values, ICC(3,1) for their order; 95 % limits are exact.",
        found.patients, found.measurements
    ));
    let counts: Vec<Vec<String>> = [0.9, 0.75, 0.5]
        .iter()
        .map(|l| vec![format!("at least {l}"), found.features.iter().filter(|f| f.icc2[0] >= *l).count().to_string()])
        .collect();
    page.table("Features by ICC(2,1).", &["ICC(2,1)", "Features"], &counts, "");
    let three = |v: [f64; 3]| format!("{:.3} ({:.3}–{:.3})", v[0], v[1], v[2]);
    let rows: Vec<Vec<String>> = found
        .features
        .iter()
        .map(|f| {
            vec![
                f.name.clone(),
                three(f.icc2),
                three(f.icc3),
                six(f.bias),
                format!("{} to {}", six(f.limits[0]), six(f.limits[1])),
            ]
        })
        .collect();
    page.table(
        "All features; bias and limits of agreement of the second against the first measurement.",
        &["Feature", "ICC(2,1)", "ICC(3,1)", "Bias", "Limits of agreement"],
        &rows,
        "",
    );
    page.section("Bland-Altman plots");
    page.text("The features with the lowest ICC(2,1).");
    page.pair(&found.plots);
    document(
        "Reliability of repeated measurements",
        &format!("metwatch {}", env!("CARGO_PKG_VERSION")),
        false,
        "",
        page,
    )
}
