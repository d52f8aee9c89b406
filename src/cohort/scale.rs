//! What a linear predictor means: log odds of a logistic model, or log hazard of a Cox model.

use crate::statistics::logistic::probability;

/// How a linear predictor becomes a risk.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scale {
    /// Log odds of the event.
    Odds,
    /// Log hazard against the patient of whom `survival` is the probability to be free of the event up to `month`.
    Hazard {
        /// The risk is that of an event up to this month.
        month: u32,
        /// At a linear predictor of 0.
        survival: f64,
    },
}

impl Scale {
    /// Probability of the event; of a Cox model up to its month.
    pub fn risk(self, lp: f64) -> f64 {
        match self {
            Scale::Odds => probability(lp),
            // 1 - survival^exp(lp), without the loss of digits where the risk is small.
            Scale::Hazard { survival, .. } => -(survival.ln() * lp.exp()).exp_m1(),
        }
    }

    /// The month of a Cox model.
    pub fn month(self) -> Option<u32> {
        match self {
            Scale::Odds => None,
            Scale::Hazard { month, .. } => Some(month),
        }
    }

    /// `log odds` or `log hazard`.
    pub fn unit(self) -> &'static str {
        if self == Scale::Odds { "log odds" } else { "log hazard" }
    }

    /// `Odds ratio` or `Hazard ratio`.
    pub fn ratio(self) -> &'static str {
        if self == Scale::Odds { "Odds ratio" } else { "Hazard ratio" }
    }

    /// What tells how well the model orders patients.
    pub fn measure(self) -> &'static str {
        if self == Scale::Odds { "AUC" } else { "C-index" }
    }

    /// ` up to 36 months` of a Cox model, else nothing.
    pub fn until(self) -> String {
        self.month().map(|m| format!(" up to {m} months")).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_doubled_hazard_squares_the_survival() {
        let scale = Scale::Hazard { month: 36, survival: 0.8 };
        assert!((scale.risk(0.0) - 0.2).abs() < 1e-15);
        assert!((scale.risk(2f64.ln()) - 0.36).abs() < 1e-15);
        assert_eq!(Scale::Odds.risk(0.0), 0.5);
    }
}
