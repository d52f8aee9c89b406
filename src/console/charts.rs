//! Charts as inline SVG: no script, no library, colors from the page's style sheet.

use super::html::{Text, capital, group_class, percent};
use super::view::{AssessmentView, Contribution};

/// The scale from 0 to 100 % with the zones of the groups and a marker at the probability.
pub fn scale(a: &AssessmentView) -> String {
    let at = |p: f64| p.clamp(0.0, 1.0) * 600.0;
    let zones: Vec<(f64, f64, &str)> = match a.cut_offs {
        Some([low, high]) if 0.0 < low && low <= high && high < 1.0 => {
            vec![(0.0, low, "low"), (low, high, "intermediate"), (high, 1.0, "high")]
        }
        _ => vec![(0.0, 1.0, "neutral")],
    };
    let mut svg = String::from("<svg class=\"scale\" viewBox=\"-14 0 628 62\" role=\"img\" aria-label=\"risk scale\">");
    for (from, to, class) in &zones {
        let (x, width) = (at(*from), (at(*to) - at(*from) - 2.0).max(0.0));
        svg += &format!(
            "<rect class=\"zone {class}\" x=\"{x:.1}\" y=\"20\" width=\"{width:.1}\" height=\"14\" rx=\"3\"/>"
        );
        if zones.len() > 1 && width > 70.0 {
            svg += &format!("<text class=\"mid\" x=\"{:.1}\" y=\"52\">{}</text>", x + width / 2.0, capital(class));
        }
    }
    for (p, label) in
        a.cut_offs.into_iter().flatten().map(|p| (p, percent(p))).chain([(0.0, "0".into()), (1.0, "100".into())])
    {
        if zones.len() > 1 || p == 0.0 || p == 1.0 {
            svg += &format!("<text class=\"mid small\" x=\"{:.1}\" y=\"12\">{label}</text>", at(p));
        }
    }
    let x = at(a.probability);
    svg += &format!(
        "<path class=\"marker\" d=\"M{x:.1} 36l-8 -9 8 -12 8 12z\"/><title>{}</title></svg>",
        percent(a.probability)
    );
    svg
}

/// One bar per predictor, the strongest first: to the right raises the risk, to the left lowers it.
pub fn contributions(rows: &[Contribution]) -> String {
    let mut sorted: Vec<&Contribution> = rows.iter().filter(|r| r.shap.is_finite()).collect();
    sorted.sort_by(|a, b| b.shap.abs().total_cmp(&a.shap.abs()));
    let Some(strongest) = sorted.first().map(|r| r.shap.abs().max(1e-9)) else { return String::new() };
    let row = |c: &&Contribution| {
        let length = (c.shap.abs() / strongest * 96.0).max(0.6);
        let (x, class) = if c.shap >= 0.0 { (100.0, "raises") } else { (100.0 - length, "lowers") };
        let sign = if c.shap >= 0.0 { "+" } else { "&#8722;" };
        format!(
            "<li><div class=\"what\"><span>{}</span> <b>{}</b></div>\
             <svg viewBox=\"0 0 200 14\" preserveAspectRatio=\"none\" aria-hidden=\"true\"><path class=\"axis\" d=\"M100 0v14\"/>\
             <rect class=\"{class}\" x=\"{x:.1}\" y=\"2\" width=\"{length:.1}\" height=\"10\"/></svg>\
             <div class=\"much {class}\">{sign}{:.2}</div></li>",
            Text(&c.label),
            Text(&c.value),
            c.shap.abs()
        )
    };
    format!(
        "<div class=\"bars-head\"><span class=\"lowers\">&#9664; lowers the risk</span>\
         <span class=\"raises\">raises the risk &#9654;</span></div><ol class=\"bars\">{}</ol>\
         <p class=\"hint\">Shapley values on the scale of the linear predictor, against the average patient of the training data.</p>",
        sorted.iter().map(row).collect::<String>()
    )
}

/// Points per predictor as on the paper nomogram, and their sum.
pub fn points(a: &AssessmentView) -> String {
    let rows: Vec<(&Contribution, f64)> =
        a.contributions.iter().filter_map(|c| Some((c, c.points.filter(|p| p.is_finite())?))).collect();
    let Some(total) = a.points.filter(|_| !rows.is_empty()) else { return String::new() };
    let longest = rows.iter().map(|(_, p)| *p).fold(100.0, f64::max);
    let row = |(c, p): &(&Contribution, f64)| {
        format!(
            "<li><div class=\"what\"><span>{}</span> <b>{}</b></div>\
             <svg viewBox=\"0 0 200 14\" preserveAspectRatio=\"none\" aria-hidden=\"true\">\
             <rect class=\"track\" x=\"0\" y=\"5\" width=\"200\" height=\"4\"/>\
             <rect class=\"dot\" x=\"0\" y=\"3\" width=\"{:.1}\" height=\"8\"/></svg><div class=\"much\">{p:.0}</div></li>",
            Text(&c.label),
            Text(&c.value),
            (p / longest * 200.0).clamp(1.0, 200.0),
        )
    };
    let of = a.points_max.map_or(String::new(), |max| format!(" <span class=\"faint\">of {max:.0}</span>"));
    format!(
        "<ol class=\"bars\">{}</ol><p class=\"total\"><span>Total points</span><b>{total:.0}{of}</b></p>",
        rows.iter().map(row).collect::<String>()
    )
}

/// Probability to be free of metastasis over the months, from 1 at month 0.
pub fn survival(points: &[(f64, f64)], group: &str) -> String {
    let known: Vec<(f64, f64)> =
        points.iter().copied().filter(|(m, p)| m.is_finite() && *m > 0.0 && (0.0..=1.0).contains(p)).collect();
    let Some(last) = known.last().map(|(month, _)| *month) else { return String::new() };
    let (left, top, width, height) = (46.0, 18.0, 470.0, 190.0);
    let x = |month: f64| left + month / last * width;
    let y = |p: f64| top + (1.0 - p) * height;
    let mut svg = String::from(
        "<svg class=\"curve\" viewBox=\"0 0 540 258\" role=\"img\" aria-label=\"metastasis-free probability\">",
    );
    for quarter in 0..=4 {
        let p = f64::from(quarter) / 4.0;
        svg += &format!(
            "<path class=\"grid\" d=\"M{left} {0:.1}h{width}\"/><text class=\"end\" x=\"{1}\" y=\"{2:.1}\">{3:.0}&#8239;%</text>",
            y(p),
            left - 8.0,
            y(p) + 4.0,
            p * 100.0
        );
    }
    let path: String = known.iter().map(|(m, p)| format!("L{:.1} {:.1}", x(*m), y(*p))).collect();
    let class = group_class(group);
    svg += &format!("<path class=\"area {class}\" d=\"M{left} {0}L{left} {top}{path}L{1:.1} {0}z\"/>", y(0.0), x(last));
    svg += &format!(
        "<path class=\"line {class}\" d=\"M{left} {top}{path}\"/><text class=\"mid\" x=\"{left}\" y=\"228\">0</text>"
    );
    for (month, p) in &known {
        // A label lies above its point, but below it where the curve would run through it.
        let label_y = if *p > 0.9 { y(*p) + 20.0 } else { y(*p) - 10.0 };
        svg += &format!(
            "<circle class=\"point {class}\" cx=\"{0:.1}\" cy=\"{1:.1}\" r=\"4.5\"/>\
             <text class=\"mid strong\" x=\"{0:.1}\" y=\"{label_y:.1}\">{2}</text><text class=\"mid\" x=\"{0:.1}\" y=\"228\">{month:.0}</text>",
            x(*month),
            y(*p),
            percent(*p)
        );
    }
    svg + "<text class=\"mid\" x=\"281\" y=\"250\">months after surgery</text></svg>"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_strongest_contribution_comes_first_and_points_the_right_way() {
        let row = |label: &str, shap| Contribution { label: label.into(), shap, ..Contribution::default() };
        let html = contributions(&[row("weak", 0.1), row("strong", -0.8), row("broken", f64::NAN)]);
        assert!(html.find("strong").unwrap() < html.find("weak").unwrap() && !html.contains("broken"));
        // 0.8 is the full 96 of 100 units to the left, 0.1 an eighth of it to the right.
        assert!(html.contains("class=\"lowers\" x=\"4.0\" y=\"2\" width=\"96.0\""), "{html}");
        assert!(html.contains("class=\"raises\" x=\"100.0\" y=\"2\" width=\"12.0\""), "{html}");
        assert!(html.contains("&#8722;0.80") && html.contains("+0.10"));
    }

    #[test]
    fn the_curve_begins_at_certainty_and_leaves_out_what_is_no_probability() {
        let html = survival(&[(12.0, 0.5), (24.0, 0.25), (36.0, f64::NAN)], "high");
        // Month 12 of 24 is the middle of 470 after 46; 0.5 of 190 below 18.
        assert!(html.contains("M46 18L281.0 113.0L516.0 160.5"), "{html}");
        assert!(!html.contains("NaN"));
        assert_eq!(survival(&[], "high"), "");
    }
}
