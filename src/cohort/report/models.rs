//! The rad-score, the models and the equation.

use super::page::Page;
use super::{p_number, p_text, ratio, six};
use crate::cohort::drawing::escape;
use crate::cohort::figures::two;
use crate::cohort::fit::Fitted;
use crate::cohort::models::Model;
use crate::cohort::results::RadTerm;

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

pub(super) fn equation(page: &mut Page, fitted: &Fitted) {
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
