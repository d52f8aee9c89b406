//! The likelihoods that are penalized: binomial, and Cox with Breslow's ties.
//!
//! Rows come in the order of [`Loss::order`]; weights sum to 1, a row of weight 0 takes no part.

use super::super::StatisticsError;
use super::Outcome;

/// Probabilities in a deviance are cut here, as in glmnet.
const PROBABILITY_MIN: f64 = 1e-9;

/// The outcome in the order of the rows.
#[derive(Debug, Clone)]
pub(super) enum Sorted {
    Binary(Vec<f64>),
    /// Time increases; at one time events come before censored rows.
    Survival {
        time: Vec<f64>,
        event: Vec<bool>,
    },
}

impl Sorted {
    /// `n`: rows to fill up to; those have no outcome, and weight 0.
    pub(super) fn new(outcome: &Outcome, order: &[usize], n: usize) -> Sorted {
        match outcome {
            Outcome::Binary(y) => {
                let mut y: Vec<f64> = order.iter().map(|&i| y[i]).collect();
                y.resize(n, 0.0);
                Sorted::Binary(y)
            }
            Outcome::Survival { time, event } => {
                let mut time: Vec<f64> = order.iter().map(|&i| time[i]).collect();
                let mut event: Vec<bool> = order.iter().map(|&i| event[i]).collect();
                time.resize(n, f64::INFINITY);
                event.resize(n, false);
                Sorted::Survival { time, event }
            }
        }
    }

    /// The order in which rows have to be stored.
    pub(super) fn order(outcome: &Outcome) -> Vec<usize> {
        match outcome {
            Outcome::Binary(y) => (0..y.len()).collect(),
            Outcome::Survival { time, event } => {
                let mut order: Vec<usize> = (0..time.len()).collect();
                order.sort_by(|&a, &b| time[a].total_cmp(&time[b]).then(event[b].cmp(&event[a])));
                order
            }
        }
    }
}

/// A time with events.
#[derive(Debug, Clone, Copy)]
struct Death {
    /// The first row at risk; all later ones are too.
    from: usize,
    /// Weight of the events.
    weight: f64,
}

/// A log-likelihood with what was computed at the last linear predictors.
pub(super) struct Loss<'a> {
    outcome: &'a Sorted,
    pub(super) weights: Vec<f64>,
    deaths: Vec<Death>,
    /// Probabilities; for Cox weight x exp(linear predictor).
    fitted: Vec<f64>,
    /// Cox: cumulative hazard of each row.
    hazard: Vec<f64>,
    /// Cox: `fitted` summed over those at risk, for each death.
    at_risk: Vec<f64>,
}

impl<'a> Loss<'a> {
    /// `weights`: any sum above 0, one for each row.
    pub(super) fn new(outcome: &'a Sorted, weights: &[f64]) -> Result<Loss<'a>, StatisticsError> {
        let total: f64 = weights.iter().sum();
        let weights: Vec<f64> = weights.iter().map(|w| w / total).collect();
        let degenerate = |what: &str| Err(StatisticsError::Degenerate { what: what.into() });
        let mut deaths = Vec::new();
        match outcome {
            Sorted::Binary(y) => {
                let events: f64 = weights.iter().zip(y).map(|(w, y)| w * y).sum();
                if !(PROBABILITY_MIN < events && events < 1.0 - PROBABILITY_MIN) {
                    return degenerate("the outcome (or that outside a fold) has only one class");
                }
            }
            Sorted::Survival { time, event } => {
                deaths = deaths_of(time, event, &weights);
                if deaths.is_empty() {
                    return degenerate("no event (or none outside a fold): there is nothing to fit");
                }
            }
        }
        let n = weights.len();
        let at_risk = vec![0.0; deaths.len()];
        Ok(Loss { outcome, weights, deaths, fitted: vec![0.0; n], hazard: vec![0.0; n], at_risk })
    }

    pub(super) fn has_intercept(&self) -> bool {
        matches!(self.outcome, Sorted::Binary(_))
    }

    /// Log odds of the mean outcome; 0 for Cox.
    pub(super) fn start(&self) -> f64 {
        match self.outcome {
            Sorted::Binary(y) => {
                let events: f64 = self.weights.iter().zip(y).map(|(w, y)| w * y).sum();
                (events / (1.0 - events)).ln()
            }
            Sorted::Survival { .. } => 0.0,
        }
    }

    /// Derivative of the log-likelihood by each linear predictor.
    pub(super) fn residuals(&mut self, eta: &[f64], out: &mut [f64]) {
        match self.outcome {
            Sorted::Binary(y) => {
                for (i, eta) in eta.iter().enumerate() {
                    self.fitted[i] = 1.0 / (1.0 + (-eta).exp());
                    out[i] = self.weights[i] * (y[i] - self.fitted[i]);
                }
            }
            Sorted::Survival { event, .. } => {
                let largest = largest_of_used(eta, &self.weights);
                for ((fitted, w), eta) in self.fitted.iter_mut().zip(&self.weights).zip(eta) {
                    *fitted = if *w > 0.0 { w * (eta - largest).exp() } else { 0.0 };
                }
                sum_at_risk(&self.fitted, &self.deaths, &mut self.at_risk);
                let (mut hazard, mut next) = (0.0, 0);
                for i in 0..eta.len() {
                    while next < self.deaths.len() && self.deaths[next].from <= i {
                        hazard += self.deaths[next].weight / self.at_risk[next];
                        next += 1;
                    }
                    self.hazard[i] = hazard;
                    out[i] = if event[i] { self.weights[i] } else { 0.0 } - self.fitted[i] * hazard;
                }
            }
        }
    }

    /// The diagonal part of the information at the linear predictors of the last [`Loss::residuals`].
    pub(super) fn curvatures(&self, out: &mut [f64]) {
        for (i, out) in out.iter_mut().enumerate() {
            *out = match self.outcome {
                Sorted::Binary(_) => self.weights[i] * (self.fitted[i] * (1.0 - self.fitted[i])).max(f64::EPSILON),
                Sorted::Survival { .. } => self.fitted[i] * self.hazard[i],
            };
        }
    }

    /// What the information of Cox lacks on the diagonal part: the information of columns a and b is
    /// sum of curvature a b - risk_means(a) · risk_means(b). Empty for a binary outcome.
    pub(super) fn risk_means(&self, column: &[f64]) -> Vec<f64> {
        let mut means = vec![0.0; self.deaths.len()];
        let (mut sum, mut row) = (0.0, column.len());
        for (k, death) in self.deaths.iter().enumerate().rev() {
            while row > death.from {
                row -= 1;
                sum += self.fitted[row] * column[row];
            }
            means[k] = death.weight.sqrt() * sum / self.at_risk[k];
        }
        means
    }

    /// -2 log-likelihood with weights of sum 1 (for Cox against the saturated model), at any linear predictors.
    pub(super) fn deviance(&self, eta: &[f64]) -> f64 {
        match self.outcome {
            Sorted::Binary(y) => {
                let row = |i: usize| {
                    let p = 1.0 / (1.0 + (-eta[i]).exp());
                    let p = if y[i] > 0.5 { p } else { 1.0 - p };
                    self.weights[i] * p.clamp(PROBABILITY_MIN, 1.0 - PROBABILITY_MIN).ln()
                };
                -2.0 * (0..eta.len()).filter(|&i| self.weights[i] > 0.0).map(row).sum::<f64>()
            }
            Sorted::Survival { event, .. } => cox_deviance(&self.deaths, event, &self.weights, eta),
        }
    }
}

/// Cox's deviance, 2 (saturated - log-likelihood), with the weights as they are; rows are sorted as in [`Sorted`].
pub(super) fn cox_deviance_of(time: &[f64], event: &[bool], weights: &[f64], eta: &[f64]) -> f64 {
    cox_deviance(&deaths_of(time, event, weights), event, weights, eta)
}

fn cox_deviance(deaths: &[Death], event: &[bool], weights: &[f64], eta: &[f64]) -> f64 {
    let largest = largest_of_used(eta, weights);
    let exp: Vec<f64> =
        eta.iter().zip(weights).map(|(e, w)| if *w > 0.0 { w * (e - largest).exp() } else { 0.0 }).collect();
    let mut at_risk = vec![0.0; deaths.len()];
    sum_at_risk(&exp, deaths, &mut at_risk);
    let risks: f64 = deaths.iter().zip(&at_risk).map(|(d, s)| d.weight * (s.ln() + largest)).sum();
    let own: f64 = (0..eta.len()).filter(|&i| event[i] && weights[i] > 0.0).map(|i| weights[i] * eta[i]).sum();
    let saturated: f64 = -deaths.iter().map(|d| d.weight * d.weight.ln()).sum::<f64>();
    2.0 * (saturated - (own - risks))
}

fn largest_of_used(eta: &[f64], weights: &[f64]) -> f64 {
    eta.iter().zip(weights).filter(|(_, w)| **w > 0.0).fold(f64::NEG_INFINITY, |a, (e, _)| a.max(*e))
}

fn deaths_of(time: &[f64], event: &[bool], weights: &[f64]) -> Vec<Death> {
    let mut deaths = Vec::new();
    let mut from = 0;
    while from < time.len() {
        let to = from + time[from..].iter().take_while(|t| **t == time[from]).count();
        let weight: f64 = (from..to).filter(|&i| event[i]).map(|i| weights[i]).sum();
        if weight > 0.0 {
            deaths.push(Death { from, weight });
        }
        from = to;
    }
    deaths
}

fn sum_at_risk(fitted: &[f64], deaths: &[Death], out: &mut [f64]) {
    let (mut sum, mut row) = (0.0, fitted.len());
    for (k, death) in deaths.iter().enumerate().rev() {
        while row > death.from {
            row -= 1;
            sum += fitted[row];
        }
        out[k] = sum;
    }
}
