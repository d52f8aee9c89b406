//! The feature table of a study: a row per region, columns named as PyRadiomics names them.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Features by region name, each in PyRadiomics' order.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Features {
    /// Region name -> (feature name, value).
    pub regions: BTreeMap<String, Vec<(String, f64)>>,
}

impl Features {
    /// One feature of one region, if it was measured.
    pub fn get(&self, region: &str, feature: &str) -> Option<f64> {
        self.regions.get(region)?.iter().find(|(name, _)| name == feature).map(|(_, value)| *value)
    }

    /// `region,original_...` and a row per region, full precision; a value that a region lacks is empty.
    pub fn to_csv(&self) -> String {
        let names: Vec<&str> =
            self.regions.values().next().map_or(Vec::new(), |f| f.iter().map(|(n, _)| n.as_str()).collect());
        let mut csv = format!("region,{}\n", names.join(","));
        for (region, features) in &self.regions {
            let by_name: BTreeMap<&str, f64> = features.iter().map(|(n, v)| (n.as_str(), *v)).collect();
            csv.push_str(region);
            for name in &names {
                csv.push(',');
                if let Some(value) = by_name.get(name) {
                    // `{}` prints the shortest decimal that reads back as the same number.
                    let _ = write!(csv, "{value}");
                }
            }
            csv.push('\n');
        }
        csv
    }

    /// Reads what [`Features::to_csv`] wrote; `None` when it did not write it.
    pub fn from_csv(csv: &str) -> Option<Features> {
        let mut lines = csv.lines();
        let names: Vec<&str> = lines.next()?.split(',').skip(1).collect();
        let mut regions = BTreeMap::new();
        for line in lines {
            let mut fields = line.split(',');
            let region = fields.next()?.to_string();
            let values: Vec<&str> = fields.collect();
            if values.len() != names.len() {
                return None;
            }
            let mut row = Vec::new();
            for (name, value) in names.iter().zip(values).filter(|(_, v)| !v.is_empty()) {
                row.push((name.to_string(), value.parse().ok()?));
            }
            regions.insert(region, row);
        }
        Some(Features { regions })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_reads_back_as_it_was_written() {
        let row =
            |v: f64| vec![("original_shape_MeshVolume".to_string(), v), ("original_glcm_Idm".to_string(), 0.1 + v)];
        let table = Features {
            regions: BTreeMap::from([("liver".into(), row(1.0 / 3.0)), ("colorectal_tumor".into(), row(7e-12))]),
        };
        assert_eq!(Features::from_csv(&table.to_csv()), Some(table.clone()));
        assert_eq!(table.get("liver", "original_glcm_Idm"), Some(0.1 + 1.0 / 3.0));
        assert_eq!(Features::from_csv("region,a\nliver,1,2\n"), None);
    }
}
