//! Whether coefficients drift with time.

use super::super::StatisticsError;
use super::super::kaplan_meier::{ascending, check_length, counts};
use super::super::linear::Cholesky;
use super::{Cox, Data, Test};
use ndarray::{Array1, Array2, ArrayView2, Axis, s};

/// Time scale on which a coefficient may drift, in the test of proportionality.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeScale {
    /// 1 - Kaplan-Meier estimate just before the time: R's default.
    KaplanMeier,
    /// The time itself.
    Identity,
    /// Mean rank of the time among all patients.
    Rank,
    /// Natural logarithm; no time may be 0.
    Log,
}

/// Result of the test of proportionality.
#[derive(Debug, Clone, PartialEq)]
pub struct Proportionality {
    /// One for each term.
    pub terms: Vec<Test>,
    /// Of all terms together.
    pub global: Test,
}

/// Score test of coefficients that drift with time (`cox.zph` since survival 3.0). `fit` was made from the same data;
/// `terms` lists the columns of each term (a factor of three levels has two).
pub fn proportionality(
    fit: &Cox,
    x: ArrayView2<f64>,
    time: &[f64],
    event: &[u8],
    strata: Option<&[usize]>,
    terms: &[Vec<usize>],
    scale: TimeScale,
) -> Result<Proportionality, StatisticsError> {
    let mut data = Data::new(x, time, event, strata, fit.ties)?;
    let p = x.ncols();
    check_length("columns of the fit", fit.coefficients.len(), p)?;
    check_length("linear predictors of the fit", fit.linear_predictors.len(), time.len())?;
    if terms.iter().flatten().any(|&j| j >= p) {
        return Err(StatisticsError::Degenerate { what: format!("a term names a column beyond the {p} of the fit") });
    }
    data.x -= &x.mean_axis(Axis(0)).unwrap_or_else(|| Array1::zeros(p));
    let g = transformed(&data.time, event, scale)?;
    let n_events = event.iter().filter(|&&e| e == 1).count() as f64;
    let mean = g.iter().zip(event).map(|(g, &e)| g * f64::from(e)).sum::<f64>() / n_events;
    let risk: Vec<f64> = fit.linear_predictors.iter().map(|eta| eta.exp()).collect();
    // Scores of the drifts, and the information of coefficients (first p) and drifts together.
    let mut score = Array1::<f64>::zeros(p);
    let mut information = Array2::<f64>::zeros((2 * p, 2 * p));
    data.walk(&risk, |at| {
        let g = g[at.dead[0]] - mean;
        let mut covariance = Array2::<f64>::zeros((p, p));
        for &i in at.dead {
            score.scaled_add(g, &data.x.row(i));
        }
        for part in at.parts(fit.ties) {
            score.scaled_add(-g, &part.sums.mean());
            covariance += &part.sums.covariance();
        }
        information.slice_mut(s![..p, ..p]).scaled_add(1.0, &covariance);
        information.slice_mut(s![p.., ..p]).scaled_add(g, &covariance);
        information.slice_mut(s![p.., p..]).scaled_add(g * g, &covariance);
    });
    let test = |columns: &[usize]| {
        let picked: Vec<usize> = (0..p).chain(columns.iter().map(|j| p + j)).collect();
        let mut u = Array1::zeros(picked.len());
        for (k, &j) in columns.iter().enumerate() {
            u[p + k] = score[j];
        }
        let part = Array2::from_shape_fn((picked.len(), picked.len()), |(i, j)| {
            let (row, column) = (picked[i].max(picked[j]), picked[i].min(picked[j]));
            information[[row, column]]
        });
        let factor = Cholesky::new(part.view()).map_err(|_| StatisticsError::Singular {
            what: "too few distinct event times to tell a drift of a coefficient from the coefficient".into(),
        })?;
        Ok(Test::new(u.dot(&factor.solve(u.view())), columns.len()))
    };
    Ok(Proportionality {
        terms: terms.iter().map(|columns| test(columns)).collect::<Result<_, StatisticsError>>()?,
        global: test(&(0..p).collect::<Vec<_>>())?,
    })
}

/// Each patient's time on the scale of the test.
fn transformed(time: &[f64], event: &[u8], scale: TimeScale) -> Result<Vec<f64>, StatisticsError> {
    let mut g = time.to_vec();
    match scale {
        TimeScale::Identity => {}
        TimeScale::Log => {
            if let Some(row) = time.iter().position(|&t| t == 0.0) {
                return Err(StatisticsError::Degenerate {
                    what: format!("row {row} has time 0, which has no logarithm"),
                });
            }
            g.iter_mut().for_each(|t| *t = t.ln());
        }
        TimeScale::Rank => {
            let mut before = 0;
            for block in ascending(time).chunk_by(|&a, &b| time[a] == time[b]) {
                block.iter().for_each(|&i| g[i] = before as f64 + (block.len() + 1) as f64 / 2.0);
                before += block.len();
            }
        }
        TimeScale::KaplanMeier => {
            let order = ascending(time);
            let (mut s, mut rows) = (1.0, order.chunk_by(|&a, &b| time[a] == time[b]));
            for at in counts(time, event) {
                rows.next().into_iter().flatten().for_each(|&i| g[i] = 1.0 - s);
                s *= 1.0 - at.n_event as f64 / at.n_risk as f64;
            }
        }
    }
    Ok(g)
}
