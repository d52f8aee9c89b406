//! Discrimination, calibration, risk groups, subgroups and optimism.

use super::page::Page;
use super::{main_model, main_performance, p_number, p_text, ratio};
use crate::cohort::fit::Fitted;
use crate::cohort::scale::Scale;
use crate::cohort::validate::Performance;

pub(super) fn discrimination(page: &mut Page, fitted: &Fitted) {
    let r = &fitted.results;
    page.section("Discrimination");
    let hazards = fitted.scale() != Scale::Odds;
    let rows: Vec<Vec<String>> = r
        .performance
        .iter()
        .map(|p| {
            let interval = |v: Option<[f64; 3]>| v.map_or("–".into(), |[a, b, c]| format!("{a:.3} ({b:.3}–{c:.3})"));
            let dynamic: Vec<String> = p.dynamic_auc.iter().map(|(m, a)| format!("{m}: {a:.3}")).collect();
            let c = p.c_index.map(|[c, se]| format!("{c:.3} (SE {se:.3})"));
            let with_limits = hazards.then(|| interval(p.discrimination()));
            let mut row = vec![p.model.clone(), p.part.clone(), format!("{} / {}", p.n, p.events)];
            row.extend((!hazards).then(|| interval(p.auc)));
            row.extend([
                with_limits.or(c).unwrap_or("–".into()),
                p.uno_c.map_or("–".into(), |c| format!("{c:.3}")),
                if dynamic.is_empty() { "–".into() } else { dynamic.join(", ") },
            ]);
            row
        })
        .collect();
    page.table(
        "Discrimination of all models. Dynamic AUC by months, weighted for censoring by the training patients.",
        if hazards {
            &["Model", "Part", "n / events", "Harrell's C (95 % CI)", "Uno's C", "Dynamic AUC"]
        } else {
            &["Model", "Part", "n / events", "AUC (95 % CI)", "Harrell's C", "Uno's C", "Dynamic AUC"]
        },
        &rows,
        "left",
    );
    page.pair(&fitted.roc_figures());
    if !r.comparisons.is_empty() {
        let rows: Vec<Vec<String>> = r
            .comparisons
            .iter()
            .map(|c| {
                let gain = |v: Option<[f64; 2]>| v.map(|[v, p]| format!("{v:+.3} ({})", p_text(p)));
                let mut row = vec![
                    c.part.clone(),
                    format!("{} against {}", c.first, c.second),
                    format!("{:+.3}", c.difference),
                    format!("{:.3}", c.z),
                    p_number(c.p),
                ];
                row.extend([gain(c.nri), gain(c.idi)].into_iter().flatten());
                row
            })
            .collect();
        if hazards {
            page.table("Comparison of models in the same patients: test of the difference of Harrell's C, by the infinitesimal jackknife of both.", &["Part", "Models", "Difference of C", "z", "p"], &rows, "left");
            return;
        }
        page.table("Comparison of models in the same patients: DeLong's test, continuous net reclassification (NRI) and integrated discrimination improvement (IDI).", &["Part", "Models", "Difference of AUC", "z", "p", "NRI", "IDI"], &rows, "left");
    }
}

/// Three decimals with a sign, and no sign for what rounds to 0.
fn signed(value: f64) -> String {
    if value.abs() < 0.0005 { "0.000".into() } else { format!("{value:+.3}") }
}

/// Calibration of Cox models at their month.
fn survival_table(page: &mut Page, caption: &str, performance: &[Performance]) {
    let rows: Vec<Vec<String>> = performance
        .iter()
        .filter_map(|p| {
            let c = p.survival_calibration.as_ref()?;
            let number = |v: Option<f64>| v.map_or("–".into(), |v| format!("{v:.3}"));
            Some(vec![
                p.model.clone(),
                p.part.clone(),
                format!("{:.3}", c.mean_risk),
                c.observed_risk.map_or("–".into(), |[v, a, b]| format!("{v:.3} ({a:.3}–{b:.3})")),
                number(c.expected_over_observed),
                c.slope.map_or("–".into(), |[b, se]| format!("{b:.3} (SE {se:.3})")),
                number(c.brier.map(|b| b[0])),
                number(c.brier.map(|b| b[1])),
                c.distances.map_or("–".into(), |[ici, e50, e90, _]| format!("{ici:.3} / {e50:.3} / {e90:.3}")),
            ])
        })
        .collect();
    page.table(
        caption,
        &["Model", "Part", "Mean risk", "Observed (95 % CI)", "E/O", "Slope", "Brier", "scaled", "ICI / E50 / E90"],
        &rows,
        "",
    );
}

pub(super) fn calibration_table(page: &mut Page, caption: &str, performance: &[Performance]) {
    if performance.iter().any(|p| p.survival_calibration.is_some()) {
        return survival_table(page, caption, performance);
    }
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
                signed(c.in_the_large),
                signed(c.intercept),
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

pub(super) fn other_way(page: &mut Page, fitted: &Fitted) {
    let r = &fitted.results;
    if r.other_way.is_empty() {
        return;
    }
    let (this, other) = if r.paper_mode { ("in-sample", "out-of-fold") } else { ("out-of-fold", "in-sample") };
    page.heading("What the choice of rad-scores does");
    page.text(&format!("This report's {} model was fitted on {this} rad-scores. The table shows the same model fitted on {other} ones.", main_model(r)));
    calibration_table(page, &format!("The {} model fitted on {other} rad-scores.", main_model(r)), &r.other_way);
}

pub(super) fn risk_groups(page: &mut Page, fitted: &Fitted) {
    let r = &fitted.results;
    let Some(cut) = &r.cut_off else { return };
    page.section("Risk groups");
    let month = fitted.scale().month();
    let rule = if cut.rule == "youden" {
        match month {
            Some(month) => {
                &format!("largest sum of sensitivity and specificity for events up to {month} months in training")
            }
            None => "largest sum of sensitivity and specificity in training",
        }
    } else {
        "maximally selected log-rank statistic in training"
    };
    let p = cut.p.map(|p| format!(", corrected {}", p_text(p))).unwrap_or_default();
    page.text(&format!(
        "High risk is a linear predictor of {:.4} or more, a risk{} of {:.3} ({rule}{p}).",
        cut.lp,
        fitted.scale().until(),
        cut.probability
    ));
    let share = |v: [f64; 3]| format!("{:.2} ({:.2}–{:.2})", v[0], v[1], v[2]);
    if let Some(month) = month {
        let rows: Vec<Vec<String>> = main_performance(r)
            .filter_map(|p| {
                let c = p.at_horizon.as_ref()?;
                let [low, high] = c.observed_risk.map(|v| v.map_or("–".into(), share));
                Some(vec![p.part.clone(), format!("{:.2}", c.sensitivity), format!("{:.2}", c.specificity), low, high])
            })
            .collect();
        page.table(
            &format!("The cut-off at {month} months: sensitivity for events up to then and specificity for patients free of it beyond, weighted for censoring, and the observed risk (1 - Kaplan-Meier) of both groups."),
            &["Part", "Sensitivity", "Specificity", "Observed risk, low", "Observed risk, high"],
            &rows,
            "",
        );
    }
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
    if month.is_none() {
        page.table(
            "Classification at the cut-off (Wilson's intervals).",
            &["Part", "Sensitivity", "Specificity", "PPV", "NPV", "Accuracy"],
            &rows,
            "",
        );
    }
    if !r.survival_groups.is_empty() {
        let median = |m: [Option<f64>; 3]| {
            m[0].map_or("not reached".into(), |t| {
                let limit = |v: Option<f64>| v.map_or("not reached".into(), |v| format!("{v:.1}"));
                format!("{t:.1} ({} to {})", limit(m[1]), limit(m[2]))
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

pub(super) fn subgroups(page: &mut Page, fitted: &Fitted) {
    let r = &fitted.results;
    let Some(figure) = fitted.subgroup_figure() else { return };
    page.section("Centers and subgroups");
    page.figure(&figure);
    let all: Vec<Performance> = r.by_center.iter().chain(&r.by_subgroup).cloned().collect();
    calibration_table(page, "Calibration by center and subgroup.", &all);
    page.text("Subgroups are small; their differences are not tested.");
}

pub(super) fn optimism(page: &mut Page, fitted: &Fitted) {
    let r = &fitted.results;
    page.section("Optimism, sample size and local incidence");
    let measure = fitted.scale().measure();
    if let Some(b) = &r.bootstrap {
        let rows: Vec<Vec<String>> = b
            .models
            .iter()
            .map(|o| {
                vec![
                    o.model.clone(),
                    format!("{:.3}", o.apparent),
                    format!("{:.3}", o.optimism),
                    format!("{:.3}", o.apparent - o.optimism),
                    format!("{:.3}–{:.3}", o.on_original[0], o.on_original[1]),
                    format!("{:.3}", o.apparent_brier - o.brier_optimism),
                    format!("{:.2}", o.slope_on_original),
                    o.replicates.to_string(),
                ]
            })
            .collect();
        page.table(&format!("Bootstrap of the whole procedure (filters, penalized model with its cross-validation, clinical selection, models): {} replicates, {} of them without a result. Copies of a patient stay in one fold.", b.replicates, b.failed), &["Model", &format!("Apparent {measure}"), "Optimism", &format!("Corrected {measure}"), &format!("{measure} of replicates on the original patients (95 %)"), "Corrected Brier", "Mean slope on the original patients", "Replicates"], &rows, "");
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
        page.text(&format!("In training {:.1} % of the patients had the event{}; where the nomogram will be used {:.1} % are expected. Shifting the linear predictor by {:+.4} (prior correction) takes the mean predicted risk of the validation patients from {:.3} to {:.3}. The package carries the shift and says so.", 100.0 * p.training_incidence, fitted.scale().until(), 100.0 * p.local_incidence, p.shift, p.mean_risk[0], p.mean_risk[1]));
    }
}
