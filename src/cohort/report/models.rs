//! The rad-score, the models and the equation.

use super::page::Page;
use super::{p_number, p_text, ratio, six};
use crate::cohort::drawing::escape;
use crate::cohort::figures::two;
use crate::cohort::fit::Fitted;
use crate::cohort::models::Model;
use crate::cohort::results::RadTerm;
use crate::cohort::scale::Scale;

pub(super) fn rad_score(page: &mut Page, fitted: &Fitted) {
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

pub(super) fn models(page: &mut Page, fitted: &Fitted) {
    let r = &fitted.results;
    page.section("Models");
    if !r.clinical_selection.univariable.is_empty() {
        let rows: Vec<Vec<String>> = r
            .clinical_selection
            .univariable
            .iter()
            .map(|u| {
                let ratio = match u.ratios() {
                    [one] => ratio(*one),
                    several => format!("{} columns", several.len()),
                };
                let fate = if r.clinical_selection.kept.contains(&u.term) {
                    "selected"
                } else if u.passed {
                    "left out by AIC"
                } else {
                    "dropped by p"
                };
                vec![u.label.clone(), ratio, p_number(u.p), fate.into()]
            })
            .collect();
        page.table(
            "Each clinical candidate alone.",
            &["Value", &format!("{} (95 % CI)", fitted.scale().ratio()), "p", ""],
            &rows,
            "",
        );
    }
    for model in &r.models {
        if fitted.scale() != Scale::Odds {
            cox_table(page, fitted, model);
            continue;
        }
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

fn cox_table(page: &mut Page, fitted: &Fitted, model: &Model) {
    let rows: Vec<Vec<String>> = (0..model.names.len())
        .map(|i| {
            vec![
                fitted.column_label(&model.names[i]),
                format!("{:.4}", model.coefficients[i]),
                format!("{:.4}", model.standard_errors[i]),
                ratio(model.ratios()[i]),
                p_number(model.p[i]),
                model.variance_inflation.as_ref().map_or("–".into(), |v| format!("{:.2}", v[i])),
            ]
        })
        .collect();
    let firth = if model.firth { " Firth's penalty, as the likelihood had no maximum." } else { "" };
    let ph = model.cox.as_ref().and_then(|c| c.proportionality_p);
    let ph = ph.map(|p| format!(" Test of proportional hazards: {}.", p_text(p))).unwrap_or_default();
    page.table(
        &format!("The {} model (Cox, Efron's ties), AIC {:.1}.{firth}{ph}", model.name, model.aic),
        &["", "Log hazard", "SE", "Hazard ratio (95 % CI)", "p", "VIF"],
        &rows,
        "",
    );
}

pub(super) fn equation(page: &mut Page, fitted: &Fitted) {
    let r = &fitted.results;
    let Some(model) = r.models.last() else { return };
    page.section("Equation and nomogram");
    match model.scale.month() {
        Some(month) => page.text(&format!("Risk of an event up to {month} months = 1 - S({month}); the probability to be free of it up to month t is S(t) = S0(t) to the power of exp(L), with the linear predictor")),
        None => page.text("Risk = 1 / (1 + exp(-L)), with the linear predictor"),
    }
    let baseline = model.cox.as_ref().filter(|_| model.scale != Scale::Odds).map(|c| &c.baseline_survival);
    let baseline = baseline.map(|s| s.iter().map(|(m, s)| format!("S0({m} months) = {s:.5}")).collect::<Vec<_>>());
    let baseline = baseline.map(|s| format!("<br>{}", escape(&s.join(", ")))).unwrap_or_default();
    page.body.push_str(&format!("<div class=\"formula\">L = {}{baseline}</div>\n", escape(&formula(fitted, model))));
    if let Some(p) = &r.prior {
        page.text(&format!(
            "Where {:.0} % of patients have the event{}, add {:+.4} to L.",
            100.0 * p.local_incidence,
            model.scale.until(),
            p.shift
        ));
    }
    let twin = model.cox.as_ref().filter(|_| model.scale == Scale::Odds);
    if let Some(cox) = twin.filter(|c| !c.baseline_survival.is_empty()) {
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
    let mut text = format!("{:.5}", model.constant);
    for (name, b) in model.columns().iter().zip(model.slopes()) {
        let label = fitted.column_label(name);
        let unit =
            fitted.cohort.terms.iter().find(|t| t.columns().contains(name)).map_or("", |t| t.candidate.unit.as_str());
        let unit = if unit.is_empty() { String::new() } else { format!(" [{unit}]") };
        text += &format!(" {} {:.5} · {label}{unit}", if *b < 0.0 { "-" } else { "+" }, b.abs());
    }
    text
}
