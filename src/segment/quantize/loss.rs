//! What int8 costs: Dice against the f32 labels and, where it is known, against the truth.

use super::QuantizeError;
use crate::volume::LabelScheme;
use ndarray::Array3;
use std::collections::{BTreeMap, BTreeSet};

/// How two label maps agree, per label, over all voxels of all volumes.
#[derive(Debug, Clone, Default)]
pub struct Overlap {
    /// Per label: voxels that both have, and the sum of what each has.
    counts: BTreeMap<u8, [u64; 2]>,
}

impl Overlap {
    /// Adds a volume.
    pub fn add(&mut self, a: &Array3<u8>, b: &Array3<u8>) {
        for (a, b) in a.iter().zip(b).filter(|(a, b)| (**a, **b) != (0, 0)) {
            self.counts.entry(*a).or_default()[1] += 1;
            self.counts.entry(*b).or_default()[1] += 1;
            if a == b {
                self.counts.entry(*a).or_default()[0] += 1;
            }
        }
    }

    /// Dice of a label; nothing where neither map has it.
    pub fn dice(&self, label: u8) -> Option<f64> {
        self.counts.get(&label).map(|[both, sum]| 2.0 * *both as f64 / *sum as f64)
    }
}

/// Both networks on the volumes so far.
#[derive(Debug, Clone, Default)]
pub struct Figures {
    networks: Overlap,
    f32_truth: Overlap,
    int8_truth: Overlap,
    /// Labels that the truth has somewhere; without it a Dice of 0 to 0 would look like no loss.
    in_truth: BTreeSet<u8>,
    /// Whether some volume came without truth.
    some_without_truth: bool,
}

/// One label.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The region's name.
    pub label: &'static str,
    /// Dice of the int8 labels to the f32 ones.
    pub against_f32: f64,
    /// Dice of the f32 and of the int8 labels to the truth, where it has the label.
    pub truth: Option<[f64; 2]>,
    /// False where the truth of every volume lacks the label: what either network marks then is false in both, and no loss.
    pub is_judged: bool,
}

impl Row {
    /// Dice points that are lost: to the truth if it is known, else to the f32 labels.
    fn loss(&self) -> (f64, &'static str) {
        match self.truth {
            Some([f32_dice, int8_dice]) => (100.0 * (f32_dice - int8_dice), "Dice to the given labels"),
            None => (100.0 * (1.0 - self.against_f32), "1 - Dice to the labels of the f32 network"),
        }
    }
}

impl Figures {
    /// Adds the labels of both networks on a volume, and the truth if there is one.
    pub fn add(
        &mut self,
        f32_labels: &Array3<u8>,
        int8_labels: &Array3<u8>,
        truth: Option<&Array3<u8>>,
    ) -> Result<(), QuantizeError> {
        self.networks.add(f32_labels, int8_labels);
        if let Some(truth) = truth {
            if truth.dim() != f32_labels.dim() {
                return Err(QuantizeError::Truth(String::new()));
            }
            self.in_truth.extend(truth.iter().copied().collect::<BTreeSet<u8>>());
            self.f32_truth.add(f32_labels, truth);
            self.int8_truth.add(int8_labels, truth);
        } else {
            self.some_without_truth = true;
        }
        Ok(())
    }

    /// A row per label that either network found.
    pub fn rows(&self, scheme: &LabelScheme) -> Vec<Row> {
        let row = |(value, region, _): &(u8, crate::volume::Region, String)| {
            let truth = self.f32_truth.dice(*value).zip(self.int8_truth.dice(*value));
            let truth = truth.filter(|_| self.in_truth.contains(value));
            Some(Row {
                label: region.name(),
                against_f32: self.networks.dice(*value)?,
                truth: truth.map(|(f32_dice, int8_dice)| [f32_dice, int8_dice]),
                is_judged: self.some_without_truth || self.in_truth.contains(value),
            })
        };
        scheme.entries.iter().filter_map(row).collect()
    }
}

/// Refuses what lost more than `limit` Dice points in any label.
pub fn judge(rows: &[Row], limit: f64) -> Result<(), QuantizeError> {
    let judged = rows.iter().filter(|row| row.is_judged);
    let worst = judged.max_by(|a, b| a.loss().0.total_cmp(&b.loss().0)).ok_or(QuantizeError::NothingFound)?;
    let (loss, against) = worst.loss();
    if loss <= limit { Ok(()) } else { Err(QuantizeError::Loss { label: worst.label.into(), loss, against, limit }) }
}

/// The rows as the manifest's `[metrics]` list them.
pub fn metrics(rows: &[Row], n_volumes: usize) -> Vec<(String, f64)> {
    let mut found = vec![("int8_volumes_compared".to_string(), n_volumes as f64)];
    for row in rows {
        found.push((format!("int8_dice_{}_to_f32", row.label), row.against_f32));
        if let Some([f32_dice, int8_dice]) = row.truth {
            found.push((format!("f32_dice_{}_to_truth", row.label), f32_dice));
            found.push((format!("int8_dice_{}_to_truth", row.label), int8_dice));
        }
    }
    found
}
