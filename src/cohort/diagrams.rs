//! Figures that are no charts: the nomogram and the flow of patients.

use super::drawing::{Anchor, Drawing, GRAY, INK};
use super::font::text_width;
use super::nomogram_axes::{Nomogram, ScaleAxis, format_number};

/// The nomogram to read off by hand.
pub fn nomogram(nomogram: &Nomogram, scales: &[ScaleAxis]) -> Drawing {
    let names = nomogram.axes.iter().map(|a| a.name.as_str()).chain(scales.iter().map(|s| s.name.as_str()));
    let names = names.chain(["Linear predictor"]).map(|name| text_width(name, 13.0, true));
    let left = names.fold(60.0, f64::max) + 24.0;
    let (width, step) = (left + 660.0, 46.0);
    let rows = nomogram.axes.len() + scales.len() + 3;
    let mut drawing = Drawing::new(width, rows as f64 * step + 34.0);
    let right = width - 30.0;
    let mut row = 0;
    let mut axis = |drawing: &mut Drawing, name: &str, ticks: &[(f64, String)], most: f64| {
        let y = 34.0 + step * row as f64;
        row += 1;
        drawing.bold([left - 12.0, y + 4.0], 13.0, Anchor::End, INK, name);
        let x = |points: f64| left + points / most * (right - left);
        let ends = ticks.iter().map(|t| t.0).fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), v| (a.min(v), b.max(v)));
        if ends.0 <= ends.1 {
            drawing.line([x(ends.0), y], [x(ends.1), y], INK, 1.2, "");
        }
        // Labels that would touch the one before go below the line.
        let mut sorted: Vec<&(f64, String)> = ticks.iter().collect();
        sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut occupied = [f64::NEG_INFINITY; 2];
        for (points, label) in sorted {
            let (px, half) = (x(*points), text_width(label, 11.0, false) / 2.0 + 2.0);
            let side = usize::from(px - half < occupied[0]);
            drawing.line([px, y], [px, if side == 0 { y - 5.0 } else { y + 5.0 }], INK, 1.0, "");
            if px - half >= occupied[side] {
                drawing.text([px, if side == 0 { y - 8.0 } else { y + 15.0 }], 11.0, Anchor::Middle, INK, label);
                occupied[side] = px + half;
            }
        }
    };
    let hundred: Vec<(f64, String)> = (0..=10).map(|i| (f64::from(i) * 10.0, (i * 10).to_string())).collect();
    axis(&mut drawing, "Points", &hundred, 100.0);
    for one in &nomogram.axes {
        let ticks: Vec<(f64, String)> = one.points.iter().copied().zip(one.labels.iter().cloned()).collect();
        axis(&mut drawing, &one.name, &ticks, 100.0);
    }
    let most = nomogram.total_points.last().copied().unwrap_or(100.0);
    let written = |values: &[f64]| values.iter().map(|v| format_number(*v)).collect::<Vec<_>>();
    let total = nomogram.total_points.iter().copied().zip(written(&nomogram.total_points)).collect::<Vec<_>>();
    axis(&mut drawing, "Total points", &total, most);
    for scale in std::iter::once(&nomogram.lp).chain(scales) {
        let ticks: Vec<(f64, String)> = scale
            .points
            .iter()
            .copied()
            .zip(written(&scale.values))
            .filter(|(p, _)| (0.0..=most).contains(p))
            .collect();
        axis(&mut drawing, &scale.name, &ticks, most);
    }
    // A picture travels without the page around it.
    let label = format!("metwatch: {}", crate::DISCLAIMER);
    drawing.text([width - 30.0, rows as f64 * step + 22.0], 11.0, Anchor::End, GRAY, &label);
    drawing.titled("Nomogram")
}

/// Who came in, who was left out (reason, number), and the parts that stayed (name, patients, events).
pub fn flow(came: usize, excluded: &[(String, usize)], stayed: usize, parts: &[(String, usize, usize)]) -> Drawing {
    let column = 168.0;
    let width = (parts.len() as f64 * (column + 18.0)).max(560.0);
    let lines = excluded.len().max(1) as f64;
    let height = 242.0 + lines * 16.0;
    let mut drawing = Drawing::new(width, height);
    let middle = width / 2.0 - 110.0;
    let boxed = |drawing: &mut Drawing, at: [f64; 2], size: [f64; 2], lines: &[String]| {
        drawing.rect(at, size, "#f6f8fa", "#55606a");
        for (i, line) in lines.iter().enumerate() {
            let y = at[1] + 20.0 + 16.0 * i as f64;
            let center = at[0] + size[0] / 2.0;
            if i == 0 {
                drawing.bold([center, y], 12.5, Anchor::Middle, INK, line);
            } else {
                drawing.text([center, y], 12.0, Anchor::Middle, INK, line);
            }
        }
    };
    let arrow = |drawing: &mut Drawing, from: [f64; 2], to: [f64; 2]| {
        drawing.line(from, to, "#55606a", 1.2, "");
        let [x, y] = to;
        if from[0] == to[0] {
            drawing.area(&[[x - 4.0, y - 7.0], [x + 4.0, y - 7.0], [x, y]], "#55606a", 1.0);
        } else {
            drawing.area(&[[x - 7.0, y - 4.0], [x - 7.0, y + 4.0], [x, y]], "#55606a", 1.0);
        }
    };
    let center = middle;
    let box_width = 190.0;
    boxed(
        &mut drawing,
        [center - box_width / 2.0, 8.0],
        [box_width, 46.0],
        &["Clinical table".into(), format!("n = {came}")],
    );
    let below = 54.0 + lines * 16.0 + 42.0;
    arrow(&mut drawing, [center, 54.0], [center, below]);
    let out: usize = excluded.iter().map(|e| e.1).sum();
    let mut reasons = vec![format!("Left out (n = {out})")];
    reasons.extend(excluded.iter().map(|(reason, n)| format!("{reason}: {n}")));
    if excluded.is_empty() {
        reasons.push("nobody".into());
    }
    let side = center + box_width / 2.0 + 30.0;
    arrow(&mut drawing, [center, 54.0 + (below - 54.0) / 2.0], [side, 54.0 + (below - 54.0) / 2.0]);
    boxed(&mut drawing, [side, 66.0], [(width - side - 8.0).min(300.0), 16.0 * lines + 34.0], &reasons);
    boxed(
        &mut drawing,
        [center - box_width / 2.0, below],
        [box_width, 46.0],
        &["Analysed".into(), format!("n = {stayed}")],
    );
    let fork = below + 46.0 + 22.0;
    drawing.line([center, below + 46.0], [center, fork], "#55606a", 1.2, "");
    let total = parts.len() as f64 * (column + 18.0) - 18.0;
    let start = (center - total / 2.0).max(8.0);
    let x = |i: usize| start + (column + 18.0) * i as f64 + column / 2.0;
    drawing.line([x(0).min(center), fork], [x(parts.len().saturating_sub(1)).max(center), fork], "#55606a", 1.2, "");
    for (i, (name, n, events)) in parts.iter().enumerate() {
        arrow(&mut drawing, [x(i), fork], [x(i), fork + 22.0]);
        let share = 100.0 * *events as f64 / (*n).max(1) as f64;
        let texts = [name.clone(), format!("n = {n}, {events} events ({share:.0} %)")];
        boxed(&mut drawing, [x(i) - column / 2.0, fork + 22.0], [column, 46.0], &texts);
    }
    drawing.titled("Flow of patients")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_tells_every_number() {
        let parts = [("train".to_owned(), 60, 20), ("test".to_owned(), 37, 12)];
        let svg = flow(100, &[("no features".into(), 3)], 97, &parts).svg();
        for text in
            ["n = 100", "Left out (n = 3)", "no features: 3", "n = 97", "n = 60, 20 events (33 %)", "n = 37, 12"]
        {
            assert!(svg.contains(text), "{text}");
        }
    }
}
