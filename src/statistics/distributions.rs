//! Tails and quantiles of the distributions that tests refer to. Tails keep their relative accuracy down to 1e-300.

use statrs::function::{beta::beta_reg, erf::erfc, gamma::gamma_ur};

/// P(Z > z), standard normal.
pub fn normal_upper_tail(z: f64) -> f64 {
    0.5 * erfc(z / std::f64::consts::SQRT_2)
}

/// P(|Z| > |z|), standard normal.
pub fn normal_two_sided(z: f64) -> f64 {
    erfc(z.abs() / std::f64::consts::SQRT_2)
}

/// z with P(Z <= z) = p, standard normal, `p` in (0, 1).
pub fn normal_quantile(p: f64) -> f64 {
    -std::f64::consts::SQRT_2 * statrs::function::erf::erfc_inv(2.0 * p)
}

/// P(X > x), chi-squared with `df` degrees of freedom.
pub fn chi_squared_upper_tail(x: f64, df: f64) -> f64 {
    if x <= 0.0 { 1.0 } else { gamma_ur(df / 2.0, x / 2.0) }
}

/// P(|T| > |t|), Student with `df` degrees of freedom.
pub fn t_two_sided(t: f64, df: f64) -> f64 {
    beta_reg(df / 2.0, 0.5, df / (df + t * t))
}

/// P(F > f), F with `df1` and `df2` degrees of freedom.
pub fn f_upper_tail(f: f64, df1: f64, df2: f64) -> f64 {
    if f <= 0.0 { 1.0 } else { beta_reg(df2 / 2.0, df1 / 2.0, df2 / (df2 + df1 * f)) }
}
