//! Feature filters: rank tests, correlation, mRMR.
//!
//! The filters run inside every replicate of a bootstrap, so [`RankedColumns`] sorts each column once; a sample of the
//! rows is then a matter of counting along the order (1516 columns x 254 rows in about a millisecond).

use super::StatisticsError;
use super::hypothesis::{RankMethod, exact_rank_p, normal_rank_p, rank_sum_tails};
use super::sample::{ascending, check, class_sizes, mid_ranks, pearson};
use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis, s};
use rayon::prelude::*;

/// Columns of a table with the order of their values.
#[derive(Debug, Clone)]
pub struct RankedColumns {
    rows: usize,
    /// For each column the rows in ascending order of its values.
    orders: Vec<Vec<u32>>,
    /// For each column and place in the order: whether the value equals the one before.
    tied: Vec<Vec<bool>>,
}

/// Rows that a sample does not draw stay out; those drawn more than once count as often.
struct Counts {
    /// Of each row of the table.
    drawn: Vec<u32>,
    total: usize,
}

impl RankedColumns {
    /// Sorts the columns of `x`, shape (rows, columns).
    pub fn new(x: ArrayView2<f64>) -> Result<RankedColumns, StatisticsError> {
        if let Some(row) = x.rows().into_iter().position(|row| row.iter().any(|v| !v.is_finite())) {
            return Err(StatisticsError::NotFinite { what: "the features", row });
        }
        let columns: Vec<ArrayView1<f64>> = x.columns().into_iter().collect();
        let sorted = columns.par_iter().map(|column| {
            let values = column.to_vec();
            let order = ascending(&values);
            let tied = (0..order.len()).map(|k| k > 0 && values[order[k]] == values[order[k - 1]]).collect();
            (order.into_iter().map(|row| row as u32).collect(), tied)
        });
        let (orders, tied) = sorted.collect::<Vec<_>>().into_iter().unzip();
        Ok(RankedColumns { rows: x.nrows(), orders, tied })
    }

    /// Number of columns.
    pub fn columns(&self) -> usize {
        self.orders.len()
    }

    /// The sample that draws each row once.
    pub fn all_rows(&self) -> Vec<usize> {
        (0..self.rows).collect()
    }

    fn counts(&self, rows: &[usize]) -> Result<Counts, StatisticsError> {
        let mut drawn = vec![0; self.rows];
        for &row in rows {
            let Some(count) = drawn.get_mut(row) else {
                let what = format!("the sample names row {row} of {} (from 0)", self.rows);
                return Err(StatisticsError::Degenerate { what });
            };
            *count += 1;
        }
        Ok(Counts { drawn, total: rows.len() })
    }

    /// Mann-Whitney p of each column between the rows with and without the event, over the sample `rows` (repeats
    /// count). `outcome`: of every row of the table. A column that does not vary has p = 1.
    pub fn mann_whitney(
        &self,
        rows: &[usize],
        outcome: &[bool],
        method: RankMethod,
    ) -> Result<Vec<f64>, StatisticsError> {
        let (events, others, sums) = self.rank_sums(rows, outcome)?;
        let may_be_exact = method == RankMethod::Auto && events < 50 && others < 50;
        let tails = if may_be_exact { rank_sum_tails(events, others) } else { Vec::new() };
        Ok(sums
            .iter()
            .map(|&(w, ties)| {
                if may_be_exact && ties == 0.0 {
                    exact_rank_p(w, &tails)
                } else {
                    normal_rank_p(w, events, others, ties, method.correction())
                }
            })
            .collect())
    }

    /// AUC of each column, events having the higher values (never flipped), over the sample `rows`.
    pub fn auc(&self, rows: &[usize], outcome: &[bool]) -> Result<Vec<f64>, StatisticsError> {
        let (events, others, sums) = self.rank_sums(rows, outcome)?;
        Ok(sums.iter().map(|(w, _)| w / (events as f64 * others as f64)).collect())
    }

    /// Numbers of events and others; for each column the pairs in which the event is higher (ties half), and the sum of
    /// t^3 - t.
    #[allow(clippy::type_complexity, reason = "a private triple")]
    fn rank_sums(&self, rows: &[usize], outcome: &[bool]) -> Result<(usize, usize, Vec<(f64, f64)>), StatisticsError> {
        if outcome.len() != self.rows {
            let what = "the outcome";
            return Err(StatisticsError::Length { what, found: outcome.len(), expected: self.rows });
        }
        let counts = self.counts(rows)?;
        let drawn: Vec<bool> = rows.iter().map(|&row| outcome[row]).collect();
        let (events, others) = class_sizes(&drawn)?;
        // Both counts of a row in one number: events above, others below.
        let both: Vec<u64> =
            counts.drawn.iter().zip(outcome).map(|(&n, &y)| u64::from(n) << if y { 32 } else { 0 }).collect();
        let sums = self.orders.iter().zip(&self.tied).map(|(order, tied)| {
            let (mut twice_w, mut ties, mut others_below, mut group) = (0_u64, 0_u64, 0_u64, 0_u64);
            let mut close = |group: u64| {
                let (e, o) = (group >> 32, group & 0xffff_ffff);
                twice_w += e * (2 * others_below + o);
                others_below += o;
                let t = e + o;
                ties += t * t * t - t;
            };
            for (&row, &tied) in order.iter().zip(tied) {
                if !tied {
                    close(group);
                    group = 0;
                }
                group += both[row as usize];
            }
            close(group);
            (0.5 * twice_w as f64, ties as f64)
        });
        Ok((events, others, sums.collect()))
    }

    /// Ranks of some columns over a sample, centered and scaled so that a product of two rows is Spearman's rho.
    /// Shape (columns, drawn rows): a row drawn w times stands once, with weight sqrt(w).
    fn unit_ranks(&self, rows: &[usize], columns: &[usize]) -> Result<Array2<f64>, StatisticsError> {
        let counts = self.counts(rows)?;
        let middle = 0.5 * (counts.total as f64 + 1.0);
        let mut place = vec![usize::MAX; self.rows];
        let mut roots = Vec::new();
        for (row, &n) in counts.drawn.iter().enumerate().filter(|(_, n)| **n > 0) {
            place[row] = roots.len();
            roots.push(f64::from(n).sqrt());
        }
        let mut ranks = Array2::zeros((columns.len(), roots.len()));
        for (&column, mut out) in columns.iter().zip(ranks.rows_mut()) {
            let (order, tied) = (&self.orders[column], &self.tied[column]);
            let (mut first, mut below) = (0, 0);
            while first < order.len() {
                let group = 1 + tied[first + 1..].iter().take_while(|t| **t).count();
                let members = &order[first..first + group];
                let n: u32 = members.iter().map(|&row| counts.drawn[row as usize]).sum();
                let rank = f64::from(below) + 0.5 * (f64::from(n) + 1.0);
                for &row in members {
                    let place = place[row as usize];
                    if place < roots.len() {
                        out[place] = roots[place] * (rank - middle);
                    }
                }
                below += n;
                first += group;
            }
            let norm = out.dot(&out).sqrt();
            if norm <= 0.0 {
                let what = format!("column {column} (from 0) does not vary: its correlations are undefined");
                return Err(StatisticsError::Degenerate { what });
            }
            out /= norm;
        }
        Ok(ranks)
    }

    /// Spearman's correlations among `columns` over the sample `rows`; shape (columns, columns).
    pub fn spearman(&self, rows: &[usize], columns: &[usize]) -> Result<Array2<f64>, StatisticsError> {
        let ranks = self.unit_ranks(rows, columns)?;
        Ok(ranks.dot(&ranks.t()))
    }

    /// Goes through `candidates` in their order and keeps those whose |rho| to all kept before is at most `limit`.
    pub fn spearman_filter(
        &self,
        rows: &[usize],
        candidates: &[usize],
        limit: f64,
    ) -> Result<Vec<usize>, StatisticsError> {
        /// Candidates compared at once: a matrix product instead of many scalar ones.
        const BLOCK: usize = 64;
        /// Single precision is off by some 1e-7; what comes nearer than this to the limit is computed again.
        const NEAR: f64 = 1e-4;
        let ranks = self.unit_ranks(rows, candidates)?;
        let mut fast = ranks.mapv(|v| v as f32);
        // Places in `candidates`; the first rows of `fast` hold those kept.
        let mut kept: Vec<usize> = Vec::new();
        for start in (0..candidates.len()).step_by(BLOCK) {
            let end = (start + BLOCK).min(candidates.len());
            let block = fast.slice(s![start..end, ..]).to_owned();
            let to_kept = block.dot(&fast.slice(s![..kept.len(), ..]).t());
            let within = block.dot(&block.t());
            let apart = |rho: f32, a: usize, b: usize| {
                let rho = f64::from(rho.abs());
                let exact = (rho - limit).abs() < NEAR;
                (if exact { ranks.row(a).dot(&ranks.row(b)).abs() } else { rho }) <= limit
            };
            let before = kept.len();
            for k in 0..end - start {
                let place = start + k;
                let free = (0..before).all(|j| apart(to_kept[[k, j]], place, kept[j]))
                    && kept[before..].iter().all(|&other| apart(within[[k, other - start]], place, other));
                if free {
                    fast.row_mut(kept.len()).assign(&block.row(k));
                    kept.push(place);
                }
            }
        }
        Ok(kept.into_iter().map(|place| candidates[place]).collect())
    }
}

/// Columns with p below `limit`, by increasing p; ties in their own order.
pub fn by_increasing_p(p: &[f64], limit: f64) -> Vec<usize> {
    ascending(p).into_iter().filter(|&column| p[column] < limit).collect()
}

/// Spearman's rho of two columns.
pub fn spearman(x: &[f64], y: &[f64]) -> Result<f64, StatisticsError> {
    check("the first column", x, x.len())?;
    check("the second column", y, x.len())?;
    let rho = pearson(&mid_ranks(x).0, &mid_ranks(y).0);
    if rho.is_nan() {
        return Err(StatisticsError::Degenerate {
            what: "a column does not vary: its correlation is undefined".into(),
        });
    }
    Ok(rho)
}

/// Drops one of the most correlated pair until no |rho| exceeds `limit`: the one with the larger mean |rho| to all
/// columns still there (itself counted as 0), the first of both where these are equal. `rho`: shape (columns, columns).
/// Returns the dropped in order of dropping, and the kept in order of the columns.
pub fn drop_correlated(rho: ArrayView2<f64>, limit: f64) -> Result<(Vec<usize>, Vec<usize>), StatisticsError> {
    let n = rho.nrows();
    check("the correlations", &rho.iter().copied().collect::<Vec<f64>>(), n * n)?;
    let mut kept: Vec<usize> = (0..n).collect();
    let mut dropped = Vec::new();
    loop {
        let mut most = (limit, None);
        for (k, &i) in kept.iter().enumerate() {
            for &j in &kept[k + 1..] {
                let r = rho[[i, j]].abs();
                if r > most.0 {
                    most = (r, Some((i, j)));
                }
            }
        }
        let Some((i, j)) = most.1 else { return Ok((dropped, kept)) };
        let sum = |a: usize| kept.iter().filter(|&&b| b != a).map(|&b| rho[[a, b]].abs()).sum::<f64>();
        let loser = if sum(i) >= sum(j) { i } else { j };
        dropped.push(loser);
        kept.retain(|&column| column != loser);
    }
}

/// F of the analysis of variance between both classes, for each column (scikit-learn's `f_classif`); 0 for a constant
/// one.
pub fn anova_f(x: ArrayView2<f64>, outcome: &[bool]) -> Result<Vec<f64>, StatisticsError> {
    let (events, others) = class_sizes(outcome)?;
    check_table(x, outcome.len())?;
    let (m, n) = (events as f64, others as f64);
    Ok(x.columns()
        .into_iter()
        .map(|column| {
            let mean = |class: bool, count: f64| {
                column.iter().zip(outcome).filter(|(_, y)| **y == class).map(|(v, _)| v).sum::<f64>() / count
            };
            let means = [mean(false, n), mean(true, m)];
            let grand = column.sum() / (m + n);
            let between = m * (means[1] - grand).powi(2) + n * (means[0] - grand).powi(2);
            let within: f64 = column.iter().zip(outcome).map(|(v, &y)| (v - means[usize::from(y)]).powi(2)).sum();
            if between == 0.0 { 0.0 } else { between / (within / (m + n - 2.0)) }
        })
        .collect())
}

/// The `count` columns that minimum redundancy, maximum relevance picks, in order (mrmr_selection's `mrmr_classif` with
/// relevance F and redundancy |Pearson|): the largest F, then F over the mean of |r| to those picked, each at least
/// 0.001. Stops early where no column with F above 0 is left.
pub fn mrmr(x: ArrayView2<f64>, outcome: &[bool], count: usize) -> Result<Vec<usize>, StatisticsError> {
    /// Keeps the quotient finite.
    const FLOOR: f64 = 0.001;
    let relevance = anova_f(x, outcome)?;
    let unit = unit_columns(x);
    let mut redundancy = vec![0.0; x.ncols()];
    let mut left: Vec<usize> = (0..x.ncols()).filter(|&j| relevance[j] > 0.0).collect();
    let mut picked: Vec<usize> = Vec::new();
    while picked.len() < count && !left.is_empty() {
        let score = |j: usize| {
            if picked.is_empty() {
                return relevance[j];
            }
            let mean = redundancy[j] / picked.len() as f64;
            // A copy of all that is picked is worth nothing.
            if mean >= 1.0 - 1e-12 { 0.0 } else { relevance[j] / mean }
        };
        let mut best = 0;
        for k in 1..left.len() {
            if score(left[k]) > score(left[best]) {
                best = k;
            }
        }
        let column = left.remove(best);
        picked.push(column);
        let r = unit.dot(&unit.row(column));
        redundancy.iter_mut().zip(&r).for_each(|(sum, r)| *sum += r.abs().max(FLOOR));
    }
    Ok(picked)
}

/// Columns as rows of length 1 around 0, so that products are Pearson's r; a constant column stays 0.
fn unit_columns(x: ArrayView2<f64>) -> Array2<f64> {
    let mut unit = x.t().to_owned();
    for mut row in unit.rows_mut() {
        let center = row.sum() / row.len() as f64;
        row -= center;
        let norm = row.dot(&row).sqrt();
        if norm > 0.0 {
            row /= norm;
        }
    }
    unit
}

/// Mean and standard deviation (n - 1) of each column, for a z-score; the deviation of a constant column is 0.
pub fn column_scales(x: ArrayView2<f64>) -> Result<(Array1<f64>, Array1<f64>), StatisticsError> {
    if x.nrows() < 2 {
        return Err(StatisticsError::Length { what: "the rows", found: x.nrows(), expected: 2 });
    }
    check_table(x, x.nrows())?;
    let n = x.nrows() as f64;
    let mean = x.sum_axis(Axis(0)) / n;
    let centered = &x - &mean;
    let deviation = ((&centered * &centered).sum_axis(Axis(0)) / (n - 1.0)).mapv(f64::sqrt);
    Ok((mean, deviation))
}

fn check_table(x: ArrayView2<f64>, rows: usize) -> Result<(), StatisticsError> {
    if x.nrows() != rows {
        return Err(StatisticsError::Length { what: "the features", found: x.nrows(), expected: rows });
    }
    match x.rows().into_iter().position(|row| row.iter().any(|v| !v.is_finite())) {
        Some(row) => Err(StatisticsError::NotFinite { what: "the features", row }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::hypothesis::wilcoxon;
    use super::*;
    use ndarray::array;

    #[test]
    fn a_sample_with_repeats_counts_like_its_copied_rows() {
        let x = array![[1.0, 5.0], [2.0, 5.0], [2.0, 1.0], [7.0, 0.0], [3.0, 2.0]];
        let outcome = [false, true, false, true, true];
        let rows = [0, 1, 1, 3, 4, 2, 2, 2];
        let ranked = RankedColumns::new(x.view()).unwrap();
        let p = ranked.mann_whitney(&rows, &outcome, RankMethod::Normal).unwrap();
        let auc = ranked.auc(&rows, &outcome).unwrap();
        let copied = x.select(Axis(0), &rows);
        for column in 0..2 {
            let of = |class: bool| -> Vec<f64> {
                rows.iter().filter(|&&row| outcome[row] == class).map(|&row| x[[row, column]]).collect()
            };
            let test = wilcoxon(&of(true), &of(false), RankMethod::Normal).unwrap();
            assert_eq!(p[column], test.p);
            assert_eq!(auc[column], test.statistic / 16.0);
        }
        let rho = ranked.spearman(&rows, &[0, 1]).unwrap()[[0, 1]];
        let direct = spearman(&copied.column(0).to_vec(), &copied.column(1).to_vec()).unwrap();
        assert!((rho - direct).abs() < 1e-14);
        let kept = |limit: f64| ranked.spearman_filter(&rows, &[1, 0], limit).unwrap();
        assert_eq!((kept(rho.abs() - 1e-9), kept(rho.abs() + 1e-9)), (vec![1], vec![1, 0]));
    }
}
