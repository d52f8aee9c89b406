//! The figures of a fit: from its numbers to the plots.

use super::diagrams;
use super::drawing::Drawing;
use super::fit::Fitted;
use super::models::Model;
use super::plot::{self, ForestRow, Series, SurvivalGroup, Swarm};
use super::scale::Scale;
use super::validate::{self, Scored};
use super::validate_survival;
use crate::statistics::time_dependent::Censoring;
use crate::statistics::{calibration, competing};

/// Features on SHAP plots.
const SHAP_SHOWN: usize = 18;

/// A figure with its caption.
#[derive(Debug, Clone)]
pub struct Figure {
    /// What is drawn.
    pub drawing: Drawing,
    /// What it shows, plain text.
    pub caption: String,
}

fn figure(drawing: Drawing, caption: impl Into<String>) -> Figure {
    Figure { drawing, caption: caption.into() }
}

/// A feature name short enough for a label.
pub fn short_name(name: &str) -> String {
    name.replace("colorectal_tumor_", "tumor ")
        .replace("tumour_", "tumor ")
        .replace("tumor_", "tumor ")
        .replace("liver_", "liver ")
        .replace("log-sigma-", "LoG ")
        .replace("-mm-3D", " mm")
        .replace("original_", "")
        .replace('_', " ")
}

impl Fitted {
    /// Every figure under a name that can be a file's.
    pub fn figures(&self) -> Vec<(String, Figure)> {
        let mut all = vec![("flow".to_owned(), self.flow_figure())];
        all.extend(["cv_curve", "coefficient_path"].map(str::to_owned).into_iter().zip(self.path_figures()));
        for (name, figures) in [
            ("roc", self.roc_figures()),
            ("calibration", self.calibration_figures()),
            ("decision", self.decision_figures()),
            ("survival", self.survival_figures()),
            ("incidence", self.incidence_figures()),
            ("shap", self.shap_figures()),
            ("resampling", self.resampling_figures()),
        ] {
            all.extend(figures.into_iter().enumerate().map(|(i, f)| (format!("{name}_{}", i + 1), f)));
        }
        for (name, figure) in
            [("nomogram", self.nomogram_figure()), ("odds", self.odds_figure()), ("subgroups", self.subgroup_figure())]
        {
            all.extend(figure.map(|f| (name.to_owned(), f)));
        }
        all
    }

    /// The model that says most.
    fn main(&self) -> Option<&Model> {
        self.procedure.main()
    }

    /// A model in a part.
    pub(super) fn scored(&self, model: &Model, part: usize) -> Scored {
        Scored::new(&self.cohort, &self.cohort.parts[part], &self.cohort.rows(part), model, part == 0)
    }

    /// What the main model's linear predictor means.
    pub(super) fn scale(&self) -> Scale {
        self.main().map_or(Scale::Odds, |m| m.scale)
    }

    /// Censoring of the training patients.
    pub(super) fn censoring(&self) -> Option<Censoring> {
        let time = self.cohort.time.as_ref()?;
        let time: Vec<f64> = self.training.rows.iter().map(|r| time[*r]).collect();
        let codes: Vec<u8> = self.training.event.iter().map(|e| u8::from(*e)).collect();
        Censoring::new(&time, &codes).ok()
    }

    /// Who came in and who was left out.
    pub fn flow_figure(&self) -> Figure {
        let flow = &self.results.flow;
        let stayed = flow.parts.iter().map(|p| p.1).sum();
        figure(diagrams::flow(flow.in_clinical_table, &flow.excluded, stayed, &flow.parts), "Flow of patients.")
    }

    /// Cross-validation curve and coefficient path of the rad-score.
    pub fn path_figures(&self) -> Vec<Figure> {
        let (Some(results), Some(reduction)) = (&self.results.penalized, &self.procedure.reduction) else {
            return Vec::new();
        };
        let label = if results.family == "cox" { "Partial likelihood deviance" } else { "Binomial deviance" };
        let chosen = [results.index_min, results.index_1se];
        let curve =
            plot::cv_curve(&results.lambda, &results.mean, &results.standard_error, &results.nonzero, chosen, label);
        let path = &reduction.cv.path;
        let lines: Vec<Vec<f64>> = reduction
            .selected
            .iter()
            .map(|(column, _)| {
                let at = |k: &Vec<(usize, f64)>| k.iter().find(|(c, _)| c == column).map_or(0.0, |(_, b)| *b);
                path.coefficients.iter().map(at).collect()
            })
            .collect();
        vec![
            figure(
                curve,
                format!(
                    "Cross-validated {} over the penalty, with one standard error. Numbers on top: features with a coefficient.",
                    label.to_lowercase()
                ),
            ),
            figure(
                plot::coefficient_path(&results.lambda, &lines, results.index),
                "Paths of the coefficients that the chosen penalty (vertical line) left; per standard deviation of each feature.",
            ),
        ]
    }

    /// ROC curves of all models in each part.
    pub fn roc_figures(&self) -> Vec<Figure> {
        let parts = 0..self.cohort.parts.len();
        if let Some(month) = self.scale().month() {
            return parts.filter_map(|part| self.roc_at(month, part)).collect();
        }
        let one = |part: usize| {
            let series: Vec<Series> = self
                .procedure
                .models
                .iter()
                .rev()
                .filter_map(|model| {
                    let scored = self.scored(model, part);
                    let points = validate::roc_points(&scored).ok()?;
                    let auc =
                        self.results.performance.iter().find(|p| p.model == model.name && p.part == scored.part)?.auc?;
                    Some(Series {
                        name: format!("{} {:.3} ({:.3}–{:.3})", model.name, auc[0], auc[1], auc[2]), points
                    })
                })
                .collect();
            figure(
                plot::roc(&series),
                format!("ROC curves in {}; AUC with DeLong's 95 % interval.", self.cohort.parts[part]),
            )
        };
        parts.map(one).collect()
    }

    /// ROC curves of Cox models in a part: events up to a month against the patients beyond it.
    fn roc_at(&self, month: u32, part: usize) -> Option<Figure> {
        let censoring = self.censoring();
        let one = |model: &Model| {
            let scored = self.scored(model, part);
            let curve = validate_survival::roc(&scored, month, censoring.as_ref()).ok()?;
            let of = self.results.performance.iter().find(|p| p.model == model.name && p.part == scored.part)?;
            let auc = of.dynamic_auc.iter().find(|(m, _)| *m == month).map(|(_, auc)| format!(" {auc:.3}"));
            let name = format!("{}{}", model.name, auc.unwrap_or_default());
            Some(Series { name, points: curve.iter().map(|p| [1.0 - p.specificity, p.sensitivity]).collect() })
        };
        let series: Vec<Series> = self.procedure.models.iter().rev().filter_map(one).collect();
        let caption = format!(
            "ROC curves at {month} months in {}: events up to then against the patients free of it beyond, weighted for censoring by the training patients, with the area below.",
            self.cohort.parts[part]
        );
        (!series.is_empty()).then(|| figure(plot::roc(&series), caption))
    }

    /// Calibration of the main model in each part.
    pub fn calibration_figures(&self) -> Vec<Figure> {
        let Some(main) = self.main() else { return Vec::new() };
        let one = |part: usize| {
            let scored = self.scored(main, part);
            let drawing = calibration_plot(&scored);
            Some(figure(
                drawing,
                format!(
                    "Calibration of the {} model{} in {}{}. Below: predictions of patients with and without the event.",
                    main.name,
                    main.scale.month().map(|m| format!(" at {m} months")).unwrap_or_default(),
                    scored.part,
                    if main.scale == Scale::Odds {
                        ""
                    } else {
                        ": Kaplan-Meier in groups of equal size, and the smooth curve of a Cox model in a spline of the risk"
                    }
                ),
            ))
        };
        (0..self.cohort.parts.len()).filter_map(one).collect()
    }

    /// Decision curves in each part.
    pub fn decision_figures(&self) -> Vec<Figure> {
        let one = |part: &String| {
            let of: Vec<_> = self.results.decision_curves.iter().filter(|c| &c.part == part).collect();
            let series: Vec<Series> =
                of.iter().rev().map(|c| Series { name: c.model.clone(), points: c.model_curve.clone() }).collect();
            let all = &of.first()?.treat_all;
            Some(figure(
                plot::decision_curve(&series, all),
                format!(
                    "Decision curves in {part}: net benefit against treating all and none{}.",
                    self.scale()
                        .month()
                        .map(|m| format!(", for events up to {m} months under censoring"))
                        .unwrap_or_default()
                ),
            ))
        };
        self.cohort.parts.iter().filter_map(one).collect()
    }

    /// Kaplan-Meier curves of the risk groups in each part.
    pub fn survival_figures(&self) -> Vec<Figure> {
        let (Some(main), Some(cut)) = (self.main(), &self.results.cut_off) else { return Vec::new() };
        let one = |part: usize| {
            let scored = self.scored(main, part);
            let time = scored.time.clone()?;
            let test = self.results.survival_groups.iter().find(|g| g.part == scored.part)?;
            let last = time.iter().copied().fold(0.0, f64::max);
            let times = super::chart::Range::linear(0.0, last).ticks(6);
            let group = |high: bool, name: &str| {
                let of = |i: usize| (scored.lp[i] >= cut.lp) == high;
                let curve = validate::survival_curve(&scored, of).ok()?;
                let mut points = vec![[0.0, 1.0, 1.0, 1.0]];
                let mut bounds = (1.0, 1.0);
                for k in 0..curve.time.len() {
                    bounds = (curve.lower[k].unwrap_or(bounds.0), curve.upper[k].unwrap_or(bounds.1));
                    points.push([curve.time[k], curve.survival[k], bounds.0, bounds.1]);
                }
                let censored = (0..curve.time.len()).filter(|k| curve.n_censor[*k] > 0);
                let at_risk = |t: &f64| (0..time.len()).filter(|i| of(*i) && time[*i] >= *t).count();
                Some(SurvivalGroup {
                    name: name.into(),
                    censored: censored.map(|k| [curve.time[k], curve.survival[k]]).collect(),
                    curve: points,
                    at_risk: times.iter().map(at_risk).collect(),
                })
            };
            let groups = [group(false, "low risk")?, group(true, "high risk")?];
            let ratio =
                test.hazard_ratio.map(|h| format!(", HR {:.2} ({:.2}–{:.2})", h[0], h[1], h[2])).unwrap_or_default();
            let note = format!("log-rank {}{ratio}", super::report::p_text(test.p));
            let label = format!("Free of {}", lower_first(&self.results.outcome));
            let drawing = plot::survival(&groups, last, &times, &label, &note, false);
            Some(figure(
                drawing,
                format!(
                    "Kaplan-Meier curves of the risk groups in {} with 95 % bands and numbers at risk.",
                    scored.part
                ),
            ))
        };
        (0..self.cohort.parts.len()).filter_map(one).collect()
    }

    /// Cumulative incidence of the event in the risk groups where another event competes.
    pub fn incidence_figures(&self) -> Vec<Figure> {
        let (Some(main), Some(cut), Some(time)) = (self.main(), &self.results.cut_off, &self.cohort.time) else {
            return Vec::new();
        };
        if self.results.competing.is_empty() {
            return Vec::new();
        }
        let one = |part: usize| {
            let rows = self.cohort.rows(part);
            let last = rows.iter().map(|r| time[*r]).fold(0.0, f64::max);
            let group = |high: bool, name: &str| {
                let of: Vec<usize> = rows.iter().copied().filter(|r| (main.lp[*r] >= cut.lp) == high).collect();
                let times: Vec<f64> = of.iter().map(|r| time[*r]).collect();
                let states: Vec<u8> = of.iter().map(|r| self.cohort.state[*r]).collect();
                let found = competing::cumulative_incidence(&times, &states, 1).ok()?;
                let mut curve = vec![[0.0; 4]];
                for ((t, f), variance) in found.time.iter().zip(&found.incidence).zip(&found.variance) {
                    let half = 1.96 * variance.sqrt();
                    curve.push([*t, *f, (f - half).max(0.0), (f + half).min(1.0)]);
                }
                Some(SurvivalGroup { name: name.into(), curve, censored: Vec::new(), at_risk: Vec::new() })
            };
            let groups = [group(false, "low risk")?, group(true, "high risk")?];
            let gray = self.results.competing.get(part)?.gray.map(|g| format!("Gray {}", super::report::p_text(g[1])));
            let drawing = plot::survival(&groups, last, &[], "Cumulative incidence", &gray.unwrap_or_default(), true);
            Some(figure(
                drawing,
                format!("Cumulative incidence with the competing event in {}.", self.cohort.parts[part]),
            ))
        };
        (0..self.cohort.parts.len()).filter_map(one).collect()
    }

    /// The nomogram.
    pub fn nomogram_figure(&self) -> Option<Figure> {
        let (nomogram, scales) = self.nomogram.as_ref()?;
        let main = self.main()?;
        Some(figure(
            diagrams::nomogram(nomogram, scales),
            format!(
                "Nomogram of the {} model: add the points of each line, read the risk below the total. The rad-score comes from the software. Demonstration, not for clinical use.",
                main.name
            ),
        ))
    }

    /// Odds or hazard ratios of the main model.
    pub fn odds_figure(&self) -> Option<Figure> {
        let main = self.main()?;
        let rows: Vec<ForestRow> = main
            .columns()
            .iter()
            .zip(main.ratios())
            .map(|(name, or)| ForestRow {
                name: self.column_label(name),
                estimate: *or,
                text: format!("{} ({}–{})", two(or[0]), two(or[1]), two(or[2])),
            })
            .collect();
        Some(figure(
            plot::forest(&rows, &format!("{} (95 % CI)", main.scale.ratio()), true),
            format!("{}s of the {} model, per unit of each column.", main.scale.ratio(), main.name),
        ))
    }

    /// The label of a model's column.
    pub(super) fn column_label(&self, name: &str) -> String {
        match name {
            "(Intercept)" => "Intercept".into(),
            super::models::RAD_SCORE => "Rad-score".into(),
            _ => super::fit::label_of(&self.cohort, name),
        }
    }

    /// AUC (C-index of a Cox model) by center and subgroup.
    pub fn subgroup_figure(&self) -> Option<Figure> {
        let all = self.results.by_center.iter().chain(&self.results.by_subgroup);
        let rows: Vec<ForestRow> = all
            .filter_map(|p| {
                Some(ForestRow {
                    name: format!("{} (n = {}, {} events)", p.part, p.n, p.events),
                    estimate: p.discrimination()?,
                    text: p.discrimination().map(|a| format!("{:.3} ({:.3}–{:.3})", a[0], a[1], a[2]))?,
                })
            })
            .collect();
        let main = self.main()?;
        (!rows.is_empty()).then(|| {
            figure(
                plot::forest(&rows, &format!("{} (95 % CI)", main.scale.measure()), false),
                format!(
                    "{} of the {} model by center, and by subgroup of the validation patients.",
                    main.scale.measure(),
                    main.name
                ),
            )
        })
    }

    /// Bars, beeswarm and two waterfalls of SHAP values.
    pub fn shap_figures(&self) -> Vec<Figure> {
        let (Some(main), shap) = (self.main(), &self.shap) else { return Vec::new() };
        let shown: Vec<&(String, f64)> = self.results.shap_importance.iter().take(SHAP_SHOWN).collect();
        let bars: Vec<(String, f64)> = shown.iter().map(|(n, v)| (short_name(n), *v)).collect();
        let swarm = |name: &String| {
            let column = shap.names.iter().position(|n| n == name)?;
            let inputs = shap.inputs.column(column);
            let mut sorted: Vec<f64> = inputs.to_vec();
            sorted.sort_by(f64::total_cmp);
            let rank = |v: f64| {
                let (below, upto) = (sorted.partition_point(|s| *s < v), sorted.partition_point(|s| *s <= v));
                (below + upto) as f64 / (2 * sorted.len()) as f64
            };
            let points = inputs.iter().zip(shap.values.column(column)).map(|(v, s)| [*s, rank(*v)]).collect();
            Some(Swarm { name: short_name(name), points })
        };
        let swarms: Vec<Swarm> = shown.iter().filter_map(|(name, _)| swarm(name)).collect();
        let mut figures = vec![
            figure(
                plot::bars(&bars, &format!("mean |SHAP| ({})", main.scale.unit())),
                format!(
                    "Mean |SHAP| of the {} model in training: exact values, coefficient times distance from the training mean.",
                    main.name
                ),
            ),
            figure(
                plot::beeswarm(&swarms, &format!("SHAP value ({})", main.scale.unit())),
                "SHAP values of all patients; color: rank of the patient's value.",
            ),
        ];
        let mut order: Vec<usize> = (0..main.lp.len()).collect();
        order.sort_by(|a, b| main.lp[*a].total_cmp(&main.lp[*b]));
        for (row, who) in [
            (order[order.len() / 2], "a patient of median risk"),
            (order[order.len() - 1 - order.len() / 50], "a patient of high risk"),
        ] {
            figures.push(figure(
                self.waterfall(row),
                format!(
                    "How the prediction of {who} comes about ({:.0} %{}).",
                    100.0 * main.scale.risk(main.lp[row]),
                    main.scale.until()
                ),
            ));
        }
        figures
    }

    /// Contributions of one patient, the small ones together.
    fn waterfall(&self, row: usize) -> Drawing {
        let shap = &self.shap;
        let mut items: Vec<(usize, f64)> = shap.values.row(row).iter().copied().enumerate().collect();
        items.sort_by(|a, b| b.1.abs().total_cmp(&a.1.abs()));
        let named = |(i, v): &(usize, f64)| {
            (format!("{} = {}", short_name(&shap.names[*i]), crate::risk::format_short(shap.inputs[[row, *i]])), *v)
        };
        let mut shown: Vec<(String, f64)> = items.iter().take(11).map(named).collect();
        if items.len() > 11 {
            shown.push((format!("{} others together", items.len() - 11), items[11..].iter().map(|i| i.1).sum()));
        }
        plot::waterfall(shap.base, &shown, self.scale().unit())
    }

    /// How often features were selected in the bootstrap, and the learning curve.
    pub fn resampling_figures(&self) -> Vec<Figure> {
        let mut figures = Vec::new();
        if let Some(bootstrap) = &self.results.bootstrap {
            let term = |name: &String| {
                let found = self.cohort.terms.iter().find(|t| t.candidate.name == *name);
                found.map_or_else(|| name.clone(), |t| t.candidate.label().to_owned())
            };
            let features = bootstrap.feature_frequency.iter().take(20).map(|(n, v)| (short_name(n), *v));
            let chosen: Vec<(String, f64)> =
                bootstrap.term_frequency.iter().map(|(n, v)| (term(n), *v)).chain(features).collect();
            if !chosen.is_empty() {
                figures.push(figure(plot::bars(&chosen, "share of bootstrap replicates"), "How often each clinical value and the 20 most frequent features were selected when the whole procedure was repeated."));
            }
        }
        if !self.results.learning_curve.is_empty() {
            let series = |name: &str, of: &dyn Fn(&super::resample::LearningPoint) -> f64| Series {
                name: name.into(),
                points: self.results.learning_curve.iter().map(|p| [p.n as f64, of(p)]).collect(),
            };
            let lines = [series("training", &|p| p.training), series("all validation patients", &|p| p.validation)];
            figures.push(figure(
                plot::learning_curve(&lines, self.scale().measure()),
                "Learning curve: everything refitted on random parts of training, mean over draws.",
            ));
        }
        figures
    }
}

/// Smooth line, groups and spread of the predictions of some patients.
pub fn calibration_plot(scored: &Scored) -> Drawing {
    let predicted = scored.probabilities();
    let at: Vec<f64> = (0..=100).map(|i| f64::from(i) / 100.0).collect();
    let smooth: Vec<[f64; 2]> = match scored.scale.month() {
        Some(month) => validate_survival::smooth(scored, month, &at),
        None => {
            let smooth = calibration::flexible_curve(&scored.event, &predicted, &at).unwrap_or_default();
            at.iter().zip(smooth).filter_map(|(x, y)| Some([*x, y?])).collect()
        }
    };
    let groups = validate::calibration_groups(scored);
    plot::calibration(&smooth, &groups, &predicted, &scored.event, &scored.part)
}

/// Two decimals, or more digits where they would vanish.
pub fn two(v: f64) -> String {
    if v != 0.0 && (v.abs() < 0.01 || v.abs() >= 1000.0) { crate::risk::format_short(v) } else { format!("{v:.2}") }
}

/// For the middle of a sentence.
pub fn lower_first(text: &str) -> String {
    let mut letters = text.chars();
    match letters.next() {
        Some(first) if !letters.clone().next().is_some_and(char::is_uppercase) => {
            first.to_lowercase().chain(letters).collect()
        }
        _ => text.to_owned(),
    }
}
