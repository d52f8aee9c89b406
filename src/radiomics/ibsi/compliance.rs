//! A table against IBSI's published values.

use super::table::Table;

/// One published value and what was found.
#[derive(Debug, Clone, PartialEq)]
pub struct ComplianceRow {
    /// Tag of the reference file.
    pub tag: String,
    /// IBSI's code of the feature; empty for diagnostics, and for tags that the table does not have.
    pub code: &'static str,
    /// What was computed; `None` if the table has no such row.
    pub value: Option<f64>,
    /// As published.
    pub reference: f64,
    /// Largest difference that counts as equal.
    pub tolerance: f64,
    /// Whether the value, rounded to 3 significant digits (or as it is: counts have more), lies within the tolerance.
    pub passes: bool,
}

/// Every row of a reference file (`reference value;tolerance;tag`) that has a value. One that cannot be read does not pass.
pub fn compliance(reference_csv: &str, table: &Table) -> Vec<ComplianceRow> {
    let mut rows = Vec::new();
    for line in reference_csv.lines().skip(1) {
        let mut cells = line.trim_end().split(';');
        let (Some(reference), Some(tolerance), Some(tag)) = (cells.next(), cells.next(), cells.next()) else {
            continue;
        };
        if reference.is_empty() {
            continue; // not standardized
        }
        let number = |text: &str| text.trim().parse().unwrap_or(f64::NAN);
        let (reference, tolerance): (f64, f64) = (number(reference), number(tolerance));
        let found = table.rows.iter().find(|row| row.tag == tag);
        let value = found.map(|row| row.value);
        let passes = value.is_some_and(|v| within(v, reference, tolerance));
        rows.push(ComplianceRow {
            tag: tag.into(),
            code: found.map_or("", |row| row.code),
            value,
            reference,
            tolerance,
            passes,
        });
    }
    rows
}

/// Both are decimal fractions, so 0.702 - 0.698 may exceed 0.004 in the last bit.
fn within(value: f64, reference: f64, tolerance: f64) -> bool {
    let rounded: f64 = format!("{value:.2e}").parse().unwrap_or(f64::NAN);
    [rounded, value].iter().any(|v| (v - reference).abs() <= tolerance + 1e-9 * reference.abs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::radiomics::ibsi::{Family, Row};

    #[test]
    fn values_are_rounded_before_they_are_compared() {
        assert!(within(0.698_4, 0.702, 0.004));
        assert!(!within(0.697_4, 0.702, 0.004));
        assert!(within(-0.355_04, -0.355, 0.0) && within(1650.4e6, 1.65e9, 0.0));
        assert!(within(125_256.0, 125_256.0, 0.0) && !within(125_255.0, 125_256.0, 0.0));
        assert!(!within(f64::NAN, 1.0, 1.0));
    }

    #[test]
    fn what_is_missing_does_not_pass() {
        let row = Row {
            family: Family::Statistics,
            name: "mean_intensity",
            code: "Q4LE",
            aggregation: "DHQ4",
            tag: "stat_mean".into(),
            value: 2.1486,
            unit: "I",
        };
        let text = "reference value;tolerance;tag\n2.15;0;stat_mean\n;;ivh_auc\n1;0;stat_min\nx;0;stat_mean\n";
        let found = compliance(text, &Table { rows: vec![row] });
        assert_eq!(found.iter().map(|r| r.passes).collect::<Vec<_>>(), [true, false, false]);
        assert_eq!((found[0].code, found[1].value), ("Q4LE", None));
    }
}
