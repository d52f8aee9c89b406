//! Where in a parameter file a key stands, and which known name a misspelt one is nearest to.

use yaml_rust2::parser::{Event, MarkedEventReceiver, Parser};
use yaml_rust2::scanner::Marker;

/// The line (from 1) on which a path such as `/setting/binWidth` or `/featureClass/glcm/Contrast` stands in a YAML text.
pub(super) fn line_of(text: &str, path: &str) -> Option<usize> {
    let mut places = Places { open: Vec::new(), found: Vec::new() };
    // The text was parsed before; if it ends early here, what was found until then still stands.
    let _ = Parser::new_from_str(text).load(&mut places, false);
    places.found.into_iter().find(|(found, _)| found == path).map(|(_, line)| line)
}

/// Walks the events and keeps the path of every key and of every scalar in a list.
struct Places {
    open: Vec<Open>,
    found: Vec<(String, usize)>,
}

enum Open {
    /// A map, with the key whose value comes next.
    Map(Option<String>),
    List,
}

impl Places {
    fn path(&self) -> String {
        let keys = self.open.iter().filter_map(|open| match open {
            Open::Map(key) => key.as_deref(),
            Open::List => None,
        });
        keys.fold(String::new(), |path, key| path + "/" + key)
    }

    /// A value ended: the map around it waits for its next key.
    fn end_value(&mut self) {
        if let Some(Open::Map(key)) = self.open.last_mut() {
            *key = None;
        }
    }
}

impl MarkedEventReceiver for Places {
    fn on_event(&mut self, event: Event, mark: Marker) {
        match event {
            Event::MappingStart(..) => self.open.push(Open::Map(None)),
            Event::SequenceStart(..) => self.open.push(Open::List),
            Event::MappingEnd | Event::SequenceEnd => {
                self.open.pop();
                self.end_value();
            }
            Event::Scalar(text, ..) => match self.open.last_mut() {
                Some(Open::Map(key @ None)) => {
                    *key = Some(text);
                    let path = self.path();
                    self.found.push((path, mark.line()));
                }
                Some(Open::Map(Some(_))) => self.end_value(),
                Some(Open::List) => {
                    let path = self.path() + "/" + &text;
                    self.found.push((path, mark.line()));
                }
                None => {}
            },
            _ => {}
        }
    }
}

/// The known name that differs least from `name`, if it differs in few letters.
pub(super) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (name.chars().count() / 3).max(2);
    known.map(|other| (distance(name, other), other)).filter(|(d, _)| *d <= limit).min().map(|(_, other)| other)
}

/// Letters to insert, delete, replace or (as case) ignore.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.to_lowercase().chars().collect(), b.to_lowercase().chars().collect());
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = corner + usize::from(x != y);
            corner = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(corner + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_in_both_styles() {
        let text = "# a comment\nsetting:\n  binWidth: 5\n  resampledPixelSpacing: [1, 1, 1]\nimageType:\n  Wavelet: {level: 2,\n    wvelet: haar}\nfeatureClass:\n  glcm:\n  - Contrast\n  - Contrst\n";
        let line = |path| line_of(text, path);
        assert_eq!(line("/setting/binWidth"), Some(3));
        assert_eq!(line("/imageType/Wavelet/wvelet"), Some(7));
        assert_eq!(line("/featureClass/glcm/Contrst"), Some(11));
        assert_eq!(line("/imageType"), Some(5));
        assert_eq!(line("/nothing"), None);
        assert_eq!(line_of("{\"setting\":\n {\"binwidth\": 3}}", "/setting/binwidth"), Some(2));
    }

    #[test]
    fn a_misspelt_name_finds_its_neighbor() {
        let known = ["Contrast", "JointEntropy", "Correlation"];
        assert_eq!(nearest("contrst", known.into_iter()), Some("Contrast"));
        assert_eq!(nearest("Entropy", known.into_iter()), None);
        assert_eq!(nearest("Joint_Entropy", known.into_iter()), Some("JointEntropy"));
    }
}
