//! Concordance of a prediction with survival: Harrell, Uno.
//!
//! Two patients are comparable if the one with the shorter time had the event; at the same time, an event is comparable
//! to a censoring, which counts as the longer. A pair is concordant if the shorter time goes with the larger `risk`.

use super::StatisticsError;
use super::distributions::normal_two_sided;
use super::kaplan_meier::{ascending, check, check_events, check_finite, check_length, strata_rows, tied_times};
use super::time_dependent::Censoring;

/// How pairs are weighted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum PairWeight<'a> {
    /// All alike: Harrell's C (`timewt = "n"` of R's `concordance`).
    Equal,
    /// By 1 / G(t-)^2 at the shorter time, G being the Kaplan-Meier estimate of staying uncensored in the same
    /// patients: Uno's C as R has it (`timewt = "n/G2"`).
    InverseCensoring,
    /// By 1 / G(t)^2 at the shorter time, G coming from the training patients; pairs whose shorter time is `horizon` or
    /// later do not count: Uno's C as scikit-survival has it (`concordance_index_ipcw`).
    InverseTrainingCensoring {
        /// Of the training patients.
        censoring: &'a Censoring,
        /// In the unit of the times.
        horizon: f64,
    },
}

/// Concordance with the counts behind it; the counts are weighted as the pairs are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Concordance {
    /// (concordant + half of tied risk) / comparable.
    pub c: f64,
    /// Infinitesimal jackknife, as R's.
    pub standard_error: f64,
    /// Comparable pairs in the right order.
    pub concordant: f64,
    /// Comparable pairs in the wrong order.
    pub discordant: f64,
    /// Comparable pairs with the same risk (`tied.x` of R).
    pub tied_risk: f64,
    /// Pairs of events at the same time with different risks (`tied.y` of R); not comparable.
    pub tied_time: f64,
    /// Pairs of events at the same time with the same risk (`tied.xy` of R); not comparable.
    pub tied_both: f64,
    /// Comparable pairs of an event and a censoring at the same time (`tied_time` of scikit-survival).
    pub tied_with_censored: f64,
}

/// Concordance as R's `concordance(Surv(time, event) ~ risk, reverse = TRUE)`, which `coxph` reports; pairs are formed
/// within strata. Risks that differ by no more than `risk_tolerance` are tied: 0 for R, 1e-8 for scikit-survival. O(n
/// log n).
pub fn concordance(
    time: &[f64],
    event: &[u8],
    risk: &[f64],
    strata: Option<&[usize]>,
    weight: PairWeight,
    risk_tolerance: f64,
) -> Result<Concordance, StatisticsError> {
    Ok(pairs(time, event, risk, strata, weight, risk_tolerance)?.summary()?.0)
}

/// How much better one prediction orders the same patients than another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Difference {
    /// C of the first less C of the second.
    pub difference: f64,
    /// By the infinitesimal jackknife of both.
    pub standard_error: f64,
    /// Difference over its standard error.
    pub z: f64,
    /// Two-sided.
    pub p: f64,
}

/// Harrell's C of two risks in the same patients, as the contrast of R's `concordance(fit1, fit2)`. Risks that order all
/// patients alike are an error: their difference is 0 without any error.
pub fn paired_difference(time: &[f64], event: &[u8], risks: [&[f64]; 2]) -> Result<Difference, StatisticsError> {
    let of = |risk| pairs(time, event, risk, None, PairWeight::Equal, 0.0)?.summary();
    let ((first, by_first), (second, by_second)) = (of(risks[0])?, of(risks[1])?);
    let squares = by_first.iter().zip(&by_second).map(|(a, b)| (a - b) * (a - b));
    let (difference, standard_error) = (first.c - second.c, squares.sum::<f64>().sqrt());
    if standard_error == 0.0 {
        return Err(StatisticsError::Degenerate { what: "both risks order the patients alike".into() });
    }
    let z = difference / standard_error;
    Ok(Difference { difference, standard_error, z, p: normal_two_sided(z) })
}

fn pairs(
    time: &[f64],
    event: &[u8],
    risk: &[f64],
    strata: Option<&[usize]>,
    weight: PairWeight,
    risk_tolerance: f64,
) -> Result<Pairs, StatisticsError> {
    check(time, event, 1)?;
    check_length("risks", risk.len(), time.len())?;
    check_finite("risk", risk)?;
    check_length("strata", strata.map_or(time.len(), <[usize]>::len), time.len())?;
    check_events(event)?;
    let time = tied_times(time);
    let mut pairs = Pairs { of_patient: vec![[0.0; 3]; time.len()], counts: [0.0; 6] };
    for rows in strata_rows(strata, time.len()) {
        let time: Vec<f64> = rows.iter().map(|&i| time[i]).collect();
        let event: Vec<u8> = rows.iter().map(|&i| event[i]).collect();
        let risk: Vec<f64> = rows.iter().map(|&i| risk[i]).collect();
        let weights = match weight {
            PairWeight::Equal => vec![1.0; time.len()],
            // As R, which leaves the pairs of a lone event as they are.
            PairWeight::InverseCensoring if event.iter().filter(|&&e| e == 1).count() < 2 => vec![1.0; time.len()],
            PairWeight::InverseCensoring => inverse_censoring(&time, &event),
            PairWeight::InverseTrainingCensoring { censoring, horizon } => {
                let of =
                    |(&t, &e): (&f64, &u8)| Ok(if e == 1 && t < horizon { censoring.weight(t)?.powi(2) } else { 0.0 });
                time.iter().zip(&event).map(of).collect::<Result<_, StatisticsError>>()?
            }
        };
        let ranks = Ranks::new(&risk, risk_tolerance.max(0.0));
        pairs.add_stratum(&rows, &time, &event, &ranks, &weights);
    }
    Ok(pairs)
}

/// 1 / G(t-)^2 for each patient; events come before censorings at the same time.
fn inverse_censoring(time: &[f64], event: &[u8]) -> Vec<f64> {
    let mut g = 1.0_f64;
    let mut n = time.len() as f64;
    let mut weights = vec![0.0; time.len()];
    for block in ascending(time).chunk_by(|&a, &b| time[a] == time[b]) {
        let censored = block.iter().filter(|&&i| event[i] == 0).count() as f64;
        block.iter().for_each(|&i| weights[i] = 1.0 / (g * g));
        let outliving = n - block.len() as f64;
        if censored > 0.0 {
            g *= outliving / (outliving + censored);
        }
        n = outliving;
    }
    weights
}

/// Ranks of the risks among the distinct ones, from 0.
struct Ranks {
    of: Vec<usize>,
    /// First rank tied with each patient's, and the first rank beyond.
    tied: Vec<(usize, usize)>,
    n: usize,
}

impl Ranks {
    fn new(values: &[f64], tolerance: f64) -> Ranks {
        let mut distinct = values.to_vec();
        distinct.sort_by(f64::total_cmp);
        distinct.dedup();
        let below = |limit: f64| distinct.partition_point(|&v| v < limit);
        let tied = |&v: &f64| {
            let start = distinct.partition_point(|&d| v - d > tolerance);
            (start, distinct.partition_point(|&d| d - v <= tolerance))
        };
        Ranks {
            of: values.iter().map(|&v| below(v)).collect(),
            tied: values.iter().map(tied).collect(),
            n: distinct.len(),
        }
    }
}

/// Sums of weights over ranks, in O(log n) (a Fenwick tree).
struct RankSums {
    tree: Vec<f64>,
    total: f64,
}

impl RankSums {
    fn new(n: usize) -> RankSums {
        RankSums { tree: vec![0.0; n + 1], total: 0.0 }
    }

    fn add(&mut self, rank: usize, weight: f64) {
        self.total += weight;
        let mut k = rank + 1;
        while k < self.tree.len() {
            self.tree[k] += weight;
            k += k & k.wrapping_neg();
        }
    }

    /// Weight at ranks below `rank`.
    fn below(&self, rank: usize) -> f64 {
        let (mut sum, mut k) = (0.0, rank);
        while k > 0 {
            sum += self.tree[k];
            k &= k - 1;
        }
        sum
    }

    /// Weights below, above and within a range of ranks.
    fn split(&self, (start, end): (usize, usize)) -> [f64; 3] {
        let (smaller, up_to) = (self.below(start), self.below(end));
        [smaller, self.total - up_to, up_to - smaller]
    }
}

/// Pairs of each patient, and all pairs.
struct Pairs {
    /// Concordant, discordant and tied pairs that each patient is part of.
    of_patient: Vec<[f64; 3]>,
    /// Concordant, discordant, tied risk, tied time, tied both, event with censoring at the same time.
    counts: [f64; 6],
}

impl Pairs {
    /// `time`, `event`, `ranks` and `weight` are those of the patients in `rows`.
    fn add_stratum(&mut self, rows: &[usize], time: &[f64], event: &[u8], ranks: &Ranks, weight: &[f64]) {
        let order = ascending(time);
        let split = |block: &[usize]| block.iter().copied().partition::<Vec<usize>, _>(|&i| event[i] == 1);
        // Latest first: each event meets those that outlive it.
        let mut outliving = RankSums::new(ranks.n);
        for block in order.chunk_by(|&a, &b| time[a] == time[b]).rev() {
            let (events, censored) = split(block);
            censored.iter().for_each(|&i| outliving.add(ranks.of[i], 1.0));
            for &i in &events {
                for (k, n) in outliving.split(ranks.tied[i]).into_iter().enumerate() {
                    self.counts[k] += weight[i] * n;
                    self.of_patient[rows[i]][k] += weight[i] * n;
                }
                self.counts[5] += weight[i] * censored.len() as f64;
            }
            self.add_tied_events(&events, ranks, weight);
            events.iter().for_each(|&i| outliving.add(ranks.of[i], 1.0));
        }
        // Earliest first: each patient meets the events that it outlives; there the larger risk is the concordant one.
        let mut outlived = RankSums::new(ranks.n);
        for block in order.chunk_by(|&a, &b| time[a] == time[b]) {
            let (events, censored) = split(block);
            let mut meet = |patients: &[usize], outlived: &RankSums| {
                for &i in patients {
                    let [smaller, larger, tied] = outlived.split(ranks.tied[i]);
                    for (k, n) in [larger, smaller, tied].into_iter().enumerate() {
                        self.of_patient[rows[i]][k] += n;
                    }
                }
            };
            meet(&events, &outlived);
            events.iter().for_each(|&i| outlived.add(ranks.of[i], weight[i]));
            meet(&censored, &outlived);
        }
    }

    /// Pairs among the events at one time, which share a weight.
    fn add_tied_events(&mut self, events: &[usize], ranks: &Ranks, weight: &[f64]) {
        let Some(&first) = events.first() else { return };
        let mut sums = RankSums::new(if events.len() > 1 { ranks.n } else { 0 });
        for (earlier, &i) in events.iter().enumerate().filter(|_| events.len() > 1) {
            let [_, _, tied] = sums.split(ranks.tied[i]);
            self.counts[3] += weight[first] * (earlier as f64 - tied);
            self.counts[4] += weight[first] * tied;
            sums.add(ranks.of[i], 1.0);
        }
    }

    /// Concordance, and how it moves when the weight of each patient does.
    fn summary(&self) -> Result<(Concordance, Vec<f64>), StatisticsError> {
        let [concordant, discordant, tied_risk, tied_time, tied_both, tied_with_censored] = self.counts;
        let comparable = concordant + discordant + tied_risk;
        if comparable <= 0.0 {
            return Err(StatisticsError::Degenerate { what: "no two patients can be compared".into() });
        }
        let somers_d = (concordant - discordant) / comparable;
        let influence = |[c, d, t]: &[f64; 3]| (c - d - (c + d + t) * somers_d) / (2.0 * comparable);
        let influence: Vec<f64> = self.of_patient.iter().map(influence).collect();
        let concordance = Concordance {
            c: (somers_d + 1.0) / 2.0,
            standard_error: influence.iter().map(|i| i * i).sum::<f64>().sqrt(),
            concordant,
            discordant,
            tied_risk,
            tied_time,
            tied_both,
            tied_with_censored,
        };
        Ok((concordance, influence))
    }
}
