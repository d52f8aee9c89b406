//! Tails and quantiles of the distributions that tests refer to. Tails keep their relative accuracy down to 1e-300.
//!
//! statrs's erfc is off by 5e-11 at z = 1.96, and its incomplete beta stops after 140 terms. Here each tail is a series
//! or continued fraction times a density in saddle point form (Loader 2000), which loses nothing for many degrees of
//! freedom.

use statrs::function::{erf::erfc_inv, gamma::ln_gamma};
use std::f64::consts::{PI, SQRT_2};

/// P(Z > z), standard normal.
pub fn normal_upper_tail(z: f64) -> f64 {
    let half = 0.5 * normal_two_sided(z);
    if z >= 0.0 { half } else { 1.0 - half }
}

/// P(|Z| > |z|), standard normal.
pub fn normal_two_sided(z: f64) -> f64 {
    gamma_tails(0.5, 0.5 * z * z).upper
}

/// z with P(Z <= z) = p, standard normal, `p` in (0, 1). The upper quantile of a small tail p is `-normal_quantile(p)`.
pub fn normal_quantile(p: f64) -> f64 {
    let start = SQRT_2 * erfc_inv(2.0 * p.min(1.0 - p));
    // One step of Newton's method on the logarithm of the tail takes statrs's 1e-10 to rounding.
    let tail = normal_upper_tail(start);
    let density = (-0.5 * start * start).exp() / (2.0 * PI).sqrt();
    let z = start + (tail / p.min(1.0 - p)).ln() * tail / density;
    if p <= 0.5 { -z } else { z }
}

/// P(X > x), chi-squared with `df` degrees of freedom.
pub fn chi_squared_upper_tail(x: f64, df: f64) -> f64 {
    gamma_tails(df / 2.0, x / 2.0).upper
}

/// P(X <= x), chi-squared with `df` degrees of freedom.
pub fn chi_squared_lower_tail(x: f64, df: f64) -> f64 {
    gamma_tails(df / 2.0, x / 2.0).lower
}

/// x with P(X <= x) = p, chi-squared with `df` degrees of freedom, `p` in (0, 1).
pub fn chi_squared_quantile(p: f64, df: f64) -> f64 {
    2.0 * positive_quantile(p, df / 2.0, |x| gamma_tails(df / 2.0, x))
}

/// P(|T| > |t|), Student with `df` degrees of freedom.
pub fn t_two_sided(t: f64, df: f64) -> f64 {
    let (a, ratio) = (df / 2.0, t.abs() / df.sqrt());
    if ratio > 1e30 {
        // The square may overflow; the leading term, x^a / (a B(a, 1/2)), is exact to 1e-60 here.
        let ln_beta = ln_gamma(a) + ln_gamma(0.5) - ln_gamma(a + 0.5);
        return (-df * ratio.ln() - a.ln() - ln_beta).exp();
    }
    let square = ratio * ratio;
    beta_tails(a, 0.5, 1.0 / (1.0 + square), square / (1.0 + square)).lower
}

/// P(T > t), Student with `df` degrees of freedom.
pub fn t_upper_tail(t: f64, df: f64) -> f64 {
    let half = 0.5 * t_two_sided(t, df);
    if t >= 0.0 { half } else { 1.0 - half }
}

/// t with P(T <= t) = p, Student with `df` degrees of freedom, `p` in (0, 1). The upper quantile of a small tail p is
/// `-t_quantile(p, df)`.
pub fn t_quantile(p: f64, df: f64) -> f64 {
    if p == 0.5 {
        return 0.0;
    }
    if p > 0.5 {
        return -t_quantile(1.0 - p, df);
    }
    // The density of |T|, times |t|, is the slope over ln |t|.
    let ln_scale = ln_gamma((df + 1.0) / 2.0) - ln_gamma(df / 2.0) - 0.5 * (df * PI).ln();
    let tails = |t: f64| {
        let upper = t_two_sided(t, df);
        let ln_kernel = -(df + 1.0) * (t / df.sqrt()).hypot(1.0).ln();
        // P(|T| <= t) stands in the other beta tail, exact for small t as well.
        let square = t * t / df;
        let lower = if square < 1.0 {
            beta_tails(0.5, df / 2.0, square / (1.0 + square), 1.0 / (1.0 + square)).lower
        } else {
            1.0 - upper
        };
        Tails { lower, upper, slope: 2.0 * t * (ln_scale + ln_kernel).exp() }
    };
    -upper_quantile(2.0 * p, 1.0, tails)
}

/// P(F > f), F with `df1` and `df2` degrees of freedom.
pub fn f_upper_tail(f: f64, df1: f64, df2: f64) -> f64 {
    f_tails(f, df1, df2).upper
}

/// P(F <= f), F with `df1` and `df2` degrees of freedom.
pub fn f_lower_tail(f: f64, df1: f64, df2: f64) -> f64 {
    f_tails(f, df1, df2).lower
}

/// f with P(F <= f) = p, F with `df1` and `df2` degrees of freedom, `p` in (0, 1).
/// The upper quantile of a small tail p is `1 / f_quantile(p, df2, df1)`.
pub fn f_quantile(p: f64, df1: f64, df2: f64) -> f64 {
    positive_quantile(p, 1.0, |f| f_tails(f, df1, df2))
}

/// Both tails of a positive variable at x, each with its own relative accuracy.
struct Tails {
    lower: f64,
    upper: f64,
    /// Density times x: the slope of the lower tail over ln x.
    slope: f64,
}

fn f_tails(f: f64, df1: f64, df2: f64) -> Tails {
    if f <= 0.0 {
        return Tails { lower: 0.0, upper: 1.0, slope: 0.0 };
    }
    let odds = f * (df1 / df2);
    let y = 1.0 / (1.0 + odds);
    let x = if odds > 1.0 { 1.0 / (1.0 + 1.0 / odds) } else { odds / (1.0 + odds) };
    beta_tails(df1 / 2.0, df2 / 2.0, x, y)
}

/// Rest of Stirling's formula: ln Gamma(a + 1) - (a + 1/2) ln a + a - ln sqrt(2 pi).
fn stirling_rest(a: f64) -> f64 {
    if a < 15.0 {
        return ln_gamma(a + 1.0) - (a + 0.5) * a.ln() + a - 0.5 * (2.0 * PI).ln();
    }
    let square = a * a;
    (1.0 / 12.0 - (1.0 / 360.0 - (1.0 / 1260.0 - (1.0 / 1680.0 - 1.0 / 1188.0 / square) / square) / square) / square)
        / a
}

/// a ln(a / mean) + mean - a, without the cancellation where both are near.
fn deviance_part(a: f64, mean: f64) -> f64 {
    let d = (mean - a) / a;
    if d < -0.5 { a * (d - (mean / a).ln()) } else { a * (d - d.ln_1p()) }
}

/// Terms after which a series or fraction counts as settled; they need some 10 sqrt(degrees of freedom).
const TERMS_MAX: usize = 100_000;

/// The incomplete gamma functions P(a, x) and Q(a, x).
fn gamma_tails(a: f64, x: f64) -> Tails {
    if x <= 0.0 {
        return Tails { lower: 0.0, upper: 1.0, slope: 0.0 };
    }
    // x^a e^-x / Gamma(a)
    let slope = (-stirling_rest(a) - deviance_part(a, x)).exp() * (a / (2.0 * PI)).sqrt();
    if slope == 0.0 && x > a {
        Tails { lower: 1.0, upper: 0.0, slope }
    } else if x < a + 1.0 {
        let (mut term, mut sum) = (1.0 / a, 1.0 / a);
        for k in 1..TERMS_MAX {
            term *= x / (a + k as f64);
            sum += term;
            if term < sum * 1e-17 {
                break;
            }
        }
        let lower = at_most_one(slope * sum);
        Tails { lower, upper: 1.0 - lower, slope }
    } else {
        // Q = slope / (x + 1 - a - 1 (1 - a) / (x + 3 - a - ...)), by Lentz's method.
        let mut b = x + 1.0 - a;
        let mut c = 1e300;
        let mut d = 1.0 / b;
        let mut h = d;
        for k in 1..TERMS_MAX {
            let an = k as f64 * (a - k as f64);
            b += 2.0;
            d = 1.0 / nonzero(an * d + b);
            c = nonzero(b + an / c);
            h *= d * c;
            if (d * c - 1.0).abs() < 2e-16 {
                break;
            }
        }
        let upper = at_most_one(slope * h);
        Tails { lower: 1.0 - upper, upper, slope }
    }
}

/// Rounding may pass 1; a NaN stays one.
fn at_most_one(p: f64) -> f64 {
    if p > 1.0 { 1.0 } else { p }
}

/// Lentz's method steps over a zero.
fn nonzero(v: f64) -> f64 {
    if v.abs() < 1e-300 { 1e-300 } else { v }
}

/// The incomplete beta function I_x(a, b) and its complement; `y` = 1 - x is given for its own accuracy.
/// `slope` is over the logarithm of the odds x / y.
fn beta_tails(a: f64, b: f64, x: f64, y: f64) -> Tails {
    let n = a + b;
    let ln_rest = stirling_rest(n) - stirling_rest(a) - stirling_rest(b);
    let deviance = deviance_part(a, n * x) + deviance_part(b, n * y);
    // x^a y^b / B(a, b)
    let slope = if x <= 0.0 || y <= 0.0 { 0.0 } else { (ln_rest - deviance).exp() * (a * b / (2.0 * PI * n)).sqrt() };
    if x < (a + 1.0) / (n + 2.0) {
        let lower = at_most_one(slope * beta_fraction(a, b, x, y));
        Tails { lower, upper: 1.0 - lower, slope }
    } else {
        let upper = at_most_one(slope * beta_fraction(b, a, y, x));
        Tails { lower: 1.0 - upper, upper, slope }
    }
}

/// The continued fraction of I_x(a, b) (Didonato and Morris 1992, whose terms do not cancel for large `a`), by Lentz's
/// method; converges fast for x < (a + 1) / (a + b + 2).
fn beta_fraction(a: f64, b: f64, x: f64, y: f64) -> f64 {
    let excess = a * y - b * x + 1.0;
    let mut h = nonzero(a * excess / (a + 1.0));
    let (mut c, mut d) = (h, 0.0);
    for k in 1..TERMS_MAX {
        let m = k as f64;
        let ratio = x / (a + 2.0 * m - 1.0);
        let an = (a + m - 1.0) * (a + b + m - 1.0) * m * (b - m) * ratio * ratio;
        let bn = m + m * (b - m) * ratio + (a + m) * (excess + m * (1.0 + y)) / (a + 2.0 * m + 1.0);
        d = 1.0 / nonzero(an * d + bn);
        c = nonzero(bn + an / c);
        h *= d * c;
        if (d * c - 1.0).abs() < 3e-16 {
            break;
        }
    }
    1.0 / h
}

/// x with lower tail `p`.
fn positive_quantile(p: f64, start: f64, tails: impl Fn(f64) -> Tails) -> f64 {
    if p > 0.5 {
        upper_quantile(1.0 - p, start, tails)
    } else {
        solve(p, start, |x| (tails(x).lower, tails(x).slope, 1.0))
    }
}

/// x with upper tail `p`.
fn upper_quantile(p: f64, start: f64, tails: impl Fn(f64) -> Tails) -> f64 {
    if p > 0.5 {
        return solve(1.0 - p, start, |x| {
            let at = tails(x);
            (at.lower, at.slope, 1.0)
        });
    }
    solve(p, start, |x| {
        let at = tails(x);
        (at.upper, at.slope, -1.0)
    })
}

/// Newton's method on ln tail over ln x (near straight in both far tails), held inside a shrinking bracket.
/// `at` gives the tail, the absolute slope over ln x, and the sign of the slope.
fn solve(p: f64, start: f64, at: impl Fn(f64) -> (f64, f64, f64)) -> f64 {
    let (mut low, mut high) = (f64::MIN_POSITIVE, f64::MAX);
    let mut x = start;
    for _ in 0..200 {
        let (tail, slope, sign) = at(x);
        let gap = (tail / p).ln();
        if gap * sign > 0.0 {
            high = x;
        } else {
            low = x;
        }
        // The step is a factor, so that x keeps its digits at 1e-100 as well.
        let factor = (-sign * gap * tail / slope).exp();
        if (factor - 1.0).abs() < 4e-16 || high / low - 1.0 < 4e-16 {
            break;
        }
        let newton = x * factor;
        x = if newton > low && newton < high { newton } else { low.sqrt() * high.sqrt() };
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn close(value: f64, reference: f64) {
        assert!((value / reference - 1.0).abs() < 2e-12, "{value:e}, reference {reference:e}");
    }

    /// Tails from mpmath 1.3 with 60 digits, quantiles from scipy 1.17.1.
    #[test]
    #[rustfmt::skip]
    fn tails_and_quantiles_keep_their_relative_accuracy() {
        close(normal_upper_tail(0.5), 0.3085375387259869);
        close(normal_upper_tail(1.96), 0.024997895148220435);
        close(normal_upper_tail(6.0), 9.86587645037698e-10);
        close(normal_upper_tail(13.0), 6.11716439954988e-39);
        close(normal_upper_tail(25.0), 3.056696706382561e-138);
        close(normal_upper_tail(37.0), 5.725571222524577e-300);
        close(chi_squared_upper_tail(0.001, 1.0), 0.9747728793699604);
        close(chi_squared_upper_tail(3.84, 1.0), 0.050043521248705106);
        close(chi_squared_upper_tail(1300.0, 1.0), 1.1303728441492743e-284);
        close(chi_squared_upper_tail(12.0, 7.5), 0.12438158592173448);
        close(chi_squared_upper_tail(1250.0, 3.0), 1.0391802831670938e-270);
        close(chi_squared_upper_tail(5.0, 100.0), 1.0);
        close(chi_squared_upper_tail(1900.0, 200.0), 1.9615992918276707e-274);
        close(chi_squared_upper_tail(20500.0, 20000.0), 0.006517863488342559);
        close(chi_squared_upper_tail(0.3, 0.5), 0.33317180231535665);
        close(chi_squared_upper_tail(1500.0, 39.0), 1.0857827949117708e-289);
        close(chi_squared_lower_tail(0.001, 1.0), 0.025227120630039613);
        close(chi_squared_lower_tail(1e-100, 6.0), 2.0833333333333334e-302);
        close(chi_squared_lower_tail(5.0, 100.0), 2.238698928228896e-46);
        close(chi_squared_lower_tail(19000.0, 20000.0), 1.862454651795155e-07);
        close(t_two_sided(0.01, 5.0), 0.9924080180425819);
        close(t_two_sided(2.0, 3.5), 0.12613852257591354);
        close(t_two_sided(12.7, 1.0), 0.05002432768934416);
        close(t_two_sided(40.0, 252.0), 3.854827271470526e-111);
        close(t_two_sided(1e20, 14.0), 2.20812466875e-273);
        close(t_two_sided(30.0, 100000.0), 7.378536872222233e-197);
        close(t_two_sided(3.0, 1000000.0), 0.002699862541421797);
        close(t_two_sided(1e150, 2.0), 1.0e-300);
        close(f_upper_tail(0.5, 3.0, 10.0), 0.6906222455335574);
        close(f_upper_tail(4.0, 3.0, 10.0), 0.041347681036082544);
        close(f_upper_tail(200.0, 39.0, 39.0), 3.9113968255122e-35);
        close(f_upper_tail(80.0, 5.0, 400.0), 4.760576881620862e-58);
        close(f_upper_tail(3.0, 1000.0, 2000.0), 1.1136191530117037e-96);
        close(f_upper_tail(1e40, 2.0, 14.0), 8.235429999999998e-275);
        close(f_upper_tail(1.1, 0.5, 0.7), 0.43594322598819074);
        close(f_upper_tail(1.02, 39.0, 40000.0), 0.43524615809851674);
        close(f_lower_tail(0.5, 3.0, 10.0), 0.30937775446644256);
        close(f_lower_tail(1e-30, 8.0, 5.0), 5.913600000000002e-119);
        close(f_lower_tail(0.02, 39.0, 39.0), 1.2414754069118502e-23);
        close(normal_quantile(0.025), -1.9599639845400545);
        close(normal_quantile(0.975), 1.959963984540054);
        close(normal_quantile(1e-10), -6.361340902404056);
        close(normal_quantile(1e-300), -37.0470962993612);
        close(chi_squared_quantile(0.95, 1.0), 3.841458820694124);
        close(chi_squared_quantile(0.025, 39.0), 23.65432455759302);
        close(chi_squared_quantile(1e-08, 4.0), 0.00028285604667225797);
        close(chi_squared_quantile(0.999, 2000.0), 2201.156196586629);
        close(t_quantile(0.975, 5.0), 2.5705818356363146);
        close(t_quantile(0.6, 2.2), 0.2853915458883041);
        close(t_quantile(1e-10, 30.0), -9.377489780407144);
        close(t_quantile(0.975, 100000.0), 1.9599877075346095);
        close(t_quantile(0.5001, 7.0), 0.00025974603090261677);
        close(f_quantile(0.975, 5.0, 15.0), 3.5764153492790607);
        close(f_quantile(0.025, 39.0, 41.7), 0.5328139735234695);
        close(f_quantile(1e-09, 3.0, 8.0), 7.607748152410541e-07);
        close(f_quantile(0.95, 1.0, 1000.0), 3.8507746681386323);
    }

    #[test]
    fn a_quantile_leads_back_to_its_tail() {
        for p in [1e-200, 1e-20, 0.01, 0.3, 0.49] {
            close(chi_squared_lower_tail(chi_squared_quantile(p, 7.0), 7.0), p);
            close(t_upper_tail(-t_quantile(p, 11.0), 11.0), p);
            close(f_lower_tail(f_quantile(p, 6.0, 9.0), 6.0, 9.0), p);
            close(normal_upper_tail(-normal_quantile(p)), p);
        }
    }
}
