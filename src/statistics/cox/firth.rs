//! Firth's penalty for the Cox model (Heinze and Schemper 2001): finite estimates where the likelihood has none.

use super::super::StatisticsError;
use super::super::linear::Cholesky;
use super::{Cox, Data, Derivatives, ITERATIONS_MAX, Ties, column_center, standardize};
use ndarray::{Array1, ArrayView2};

/// Steps are linear here, not quadratic, as the information takes the place of the penalized one's.
const FIRTH_ITERATIONS_MAX: usize = 10 * ITERATIONS_MAX;
/// Step of the numerical derivative of the information, for columns of mean absolute deviation 1. The error of the five-point rule
/// is of the order of its fourth power, the rounding 1e-16 over it.
const DIFFERENCE: f64 = 1e-3;

/// Maximizes log likelihood + log det(information) / 2. Standard errors are those of the information, the likelihoods the penalized
/// ones, as in R's `coxphf` (whose ties are Breslow's).
pub fn firth(x: ArrayView2<f64>, time: &[f64], event: &[u8], ties: Ties) -> Result<Cox, StatisticsError> {
    let mut data = Data::new(x, time, event, None, ties)?;
    let means: Array1<f64> = x.columns().into_iter().map(column_center).collect();
    let scale = standardize(&mut data.x);
    let mut beta = Array1::zeros(x.ncols());
    let mut at = Penalized::new(&data, &beta)?;
    let null = at.value;
    let score = at.score.dot(&at.factor.solve(at.score.view()));
    let not_converged =
        StatisticsError::NotConverged { what: "the Cox model with Firth's penalty", iterations: FIRTH_ITERATIONS_MAX };
    for _ in 0..FIRTH_ITERATIONS_MAX {
        let step = at.factor.solve(at.score.view());
        let gain = step.dot(&at.score);
        if gain < 1e-20 {
            // The determinant of the information was that of the scaled columns.
            let scaled = scale.iter().map(|s| s.ln()).sum::<f64>();
            let likelihoods = [null + scaled, at.value + scaled];
            let information = at.derivatives.information;
            return data.finish(x, None, [means, scale, beta], &information, likelihoods, score);
        }
        // Far from the maximum the information can be too small for a whole step.
        let largest = data.x.dot(&step).iter().fold(0.0, |a: f64, v| a.max(v.abs()));
        let mut share = (2.0 / largest).min(1.0);
        loop {
            let next = &beta + share * &step;
            if let Ok(found) = Penalized::new(&data, &next)
                && found.value >= at.value - 1e-13 * at.value.abs()
            {
                (beta, at) = (next, found);
                break;
            }
            share /= 2.0;
            if share < 1e-9 {
                return Err(not_converged);
            }
        }
    }
    Err(not_converged)
}

/// The penalized likelihood and its gradient.
struct Penalized {
    derivatives: Derivatives,
    factor: Cholesky,
    value: f64,
    score: Array1<f64>,
}

impl Penalized {
    fn new(data: &Data, beta: &Array1<f64>) -> Result<Penalized, StatisticsError> {
        let derivatives = data.derivatives(beta);
        let factor = Cholesky::new(derivatives.information.view())?;
        let inverse = factor.inverse();
        let mut score = derivatives.score.clone();
        for j in 0..beta.len() {
            let moved = |steps: f64| {
                let mut beta = beta.clone();
                beta[j] += steps * DIFFERENCE;
                (&data.derivatives(&beta).information * &inverse).sum()
            };
            // tr(inverse of I times the derivative of I), by the five-point rule.
            score[j] += 0.5 * (8.0 * (moved(1.0) - moved(-1.0)) - (moved(2.0) - moved(-2.0))) / (12.0 * DIFFERENCE);
        }
        let value = derivatives.log_likelihood + 0.5 * factor.log_determinant();
        Ok(Penalized { derivatives, factor, value, score })
    }
}
