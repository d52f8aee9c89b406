//! Which series of a study is analyzed (phase choice).

use super::{Header, SeriesPlan, SeriesRules};

/// An acceptable series of a study, as the choice sees it.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// The first slice of its plan.
    pub header: &'a Header,
    /// Slices of its volume.
    pub slices: usize,
}

impl<'a> Candidate<'a> {
    /// The candidate of a plan; `None` when the plan must not be analyzed.
    pub fn of(plan: &'a SeriesPlan) -> Option<Self> {
        let header = &plan.slices.first().filter(|_| plan.refusals.is_empty())?.header;
        Some(Self { header, slices: plan.slices.len() })
    }
}

/// The series that is analyzed, and why that one or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// Index into the candidates; `None`: no series of the study is analyzed.
    pub index: Option<usize>,
    /// Stable code.
    pub code: &'static str,
    /// Why, one sentence without patient data.
    pub sentence: String,
}

/// Chooses among the acceptable series of one study: the first rule that any of them fits decides, and of several that
/// fit it the one with the most slices, if it is the only one with so many. Where no rule fits, the only acceptable
/// series is analyzed.
pub fn choose_series(candidates: &[Candidate<'_>], rules: &SeriesRules) -> Choice {
    let choice = |index: Option<usize>, code, sentence: String| Choice { index, code, sentence };
    for (at, rule) in rules.choose.iter().enumerate() {
        let fitting: Vec<usize> = (0..candidates.len()).filter(|i| rule.fits(candidates[*i].header)).collect();
        let most = fitting.iter().map(|i| candidates[*i].slices).max();
        let largest: Vec<usize> = fitting.iter().copied().filter(|i| Some(candidates[*i].slices) == most).collect();
        let name = if rule.name.is_empty() { format!("number {}", at + 1) } else { format!("\"{}\"", rule.name) };
        match (fitting.len(), &largest[..]) {
            (0, _) => {}
            (1, [only]) => {
                let sentence = format!("it is the only acceptable series of the study that fits the rule {name}");
                return choice(Some(*only), "choice.rule", sentence);
            }
            (n, [only]) => {
                let sentence = format!("of {n} acceptable series that fit the rule {name} it has the most slices");
                return choice(Some(*only), "choice.rule", sentence);
            }
            (n, _) => {
                let sentence = format!("{n} acceptable series of the study fit the rule {name} equally well");
                return choice(None, "choice.several", sentence);
            }
        }
    }
    match candidates.len() {
        0 => choice(None, "choice.none", "no series of the study is acceptable".into()),
        1 => choice(Some(0), "choice.only", "it is the only acceptable series of the study".into()),
        n => {
            let sentence = format!("{n} series of the study are acceptable and no rule of the configuration fits one");
            choice(None, "choice.several", sentence)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dicom::{ChooseRule, Pattern};

    fn headers() -> Vec<Header> {
        let bytes = crate::dicom::phantom_series(&volume(), &Default::default(), 1).remove(0).1;
        let base = crate::dicom::parse_header(&bytes).unwrap();
        let header = |description: &str, kernel: &str, thickness: f64| Header {
            series_description: description.into(),
            kernel: kernel.into(),
            slice_thickness_mm: Some(thickness),
            ..base.clone()
        };
        vec![
            header("Abd arterial 1.0", "B30f", 1.0),
            header("Abd portal venous 5.0", "B30f", 5.0),
            header("Abd portal venous 1.0", "B30f", 1.0),
            header("Abd portal venous lung", "B70f", 5.0),
        ]
    }

    fn volume() -> crate::volume::Volume {
        let geometry = crate::volume::Geometry {
            size: [2, 2, 1],
            spacing_mm: [1.0; 3],
            origin_mm: [0.0; 3],
            direction: crate::volume::Geometry::IDENTITY,
        };
        crate::volume::Volume { hu: ndarray::Array3::zeros((1, 2, 2)), geometry }
    }

    fn choose(slices: &[usize], rules: &SeriesRules) -> (Option<usize>, &'static str) {
        let headers = headers();
        let candidates: Vec<_> =
            headers.iter().zip(slices).map(|(header, &slices)| Candidate { header, slices }).collect();
        let choice = choose_series(&candidates, rules);
        (choice.index, choice.code)
    }

    #[test]
    fn the_first_rule_that_fits_decides() {
        let rules = SeriesRules::default();
        assert_eq!(choose(&[300, 60, 300, 60], &rules), (Some(1), "choice.rule"));
        assert_eq!(choose(&[300], &rules), (Some(0), "choice.only"));
        assert_eq!(choose(&[], &rules), (None, "choice.none"));
    }

    #[test]
    fn of_several_that_fit_the_largest_is_taken_unless_two_are_as_large() {
        let portal = ChooseRule { description: vec![Pattern::new("*portal*")], ..Default::default() };
        let rules = SeriesRules { choose: vec![portal], ..Default::default() };
        assert_eq!(choose(&[400, 60, 300, 60], &rules), (Some(2), "choice.rule"));
        assert_eq!(choose(&[400, 60, 300, 300], &rules), (None, "choice.several"));
        let nothing = SeriesRules { choose: Vec::new(), ..Default::default() };
        assert_eq!(choose(&[400, 60], &nothing), (None, "choice.several"));
    }
}
