//! What a site decides about series: whether loss is allowed, and which series of a study is analyzed.

use super::Header;
use serde::{Deserialize, Deserializer};

/// The `[series]` part of the configuration.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SeriesRules {
    /// Analyzes images that were compressed with loss, with a note; without it they are refused.
    pub allow_lossy: bool,
    /// Which series of a study is analyzed: the first rule that an acceptable series fits decides. Where none fits, the
    /// only acceptable series is analyzed.
    pub choose: Vec<ChooseRule>,
}

/// A series that a site wants. What is left out fits everything.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ChooseRule {
    /// What people call it.
    pub name: String,
    /// Patterns; one of them fits Series Description or Protocol Name.
    pub description: Vec<Pattern>,
    /// Patterns; one of them fits Convolution Kernel.
    pub kernel: Vec<Pattern>,
    /// Slice Thickness from and to, mm, both included.
    pub thickness_mm: Option<[f64; 2]>,
    /// Contrast phase as description or protocol names it.
    pub phase: Option<Phase>,
}

/// Text with `*` for any characters and `?` for one; upper and lower case are the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(Vec<char>);

impl Pattern {
    /// A pattern.
    pub fn new(text: &str) -> Self {
        Self(text.to_lowercase().chars().collect())
    }

    /// Whether the whole text fits.
    pub fn fits(&self, text: &str) -> bool {
        let text: Vec<char> = text.trim().to_lowercase().chars().collect();
        let (mut at, mut p) = (0, 0);
        // Where the last `*` stood, and the character that it gives up next.
        let mut star: Option<(usize, usize)> = None;
        while at < text.len() {
            match self.0.get(p) {
                Some('*') => {
                    star = Some((p, at));
                    p += 1;
                }
                Some(&c) if c == '?' || c == text[at] => (p, at) = (p + 1, at + 1),
                _ => match star {
                    Some((back, taken)) => {
                        star = Some((back, taken + 1));
                        (p, at) = (back + 1, taken + 1);
                    }
                    None => return false,
                },
            }
        }
        self.0[p..].iter().all(|c| *c == '*')
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from).map(|text| Pattern::new(&text))
    }
}

/// Contrast phases of an abdominal CT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Before or without contrast.
    Native,
    /// Arterial, early or late.
    Arterial,
    /// Portal venous.
    PortalVenous,
    /// Delayed, equilibrium, excretory.
    Delayed,
}

impl Phase {
    /// As in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Arterial => "arterial",
            Self::PortalVenous => "portal-venous",
            Self::Delayed => "delayed",
        }
    }

    /// The phase that Series Description or, failing that, Protocol Name names (English, German, French, Italian,
    /// Spanish).
    pub fn of(header: &Header) -> Option<Phase> {
        Self::named_by(&header.series_description).or_else(|| Self::named_by(&header.protocol_name))
    }

    fn named_by(text: &str) -> Option<Phase> {
        let text = text.to_lowercase();
        let words: Vec<&str> = text.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()).collect();
        let begins = |starts: &[&str]| words.iter().any(|w| starts.iter().any(|s| w.starts_with(s)));
        let is = |whole: &[&str]| words.iter().any(|w| whole.contains(w));
        let follows = |a: &str, b: &[&str]| words.windows(2).any(|w| w[0] == a && b.contains(&w[1]));
        let without = follows("non", &["contrast", "enhanced"])
            || follows("no", &["contrast"])
            || follows("pre", &["contrast"])
            || follows("w", &["o"])
            || begins(&["nativ", "unenhanc", "noncontrast", "precontrast"])
            || is(&["without", "ohne", "sans", "sin", "senza", "nc", "ncct", "plain"]);
        let portal = begins(&["portal", "portov", "porto"]) || is(&["pv", "pvp"]);
        let venous = begins(&["venous", "venös", "venoes", "veneux", "veineux", "venos"]) || is(&["ven", "vein"]);
        let arterial = begins(&["arter", "artér"]) || is(&["art"]);
        let late = begins(&["delay", "late", "spät", "spaet", "tard", "equil", "äquil", "excret"]);
        match () {
            () if portal => Some(Phase::PortalVenous),
            // A late arterial phase is arterial, a late venous one is not portal venous any more.
            () if arterial && !venous => Some(Phase::Arterial),
            () if late => Some(Phase::Delayed),
            () if venous && !arterial => Some(Phase::PortalVenous),
            () if without => Some(Phase::Native),
            () => None,
        }
    }
}

/// Kernels of soft tissue as the makers name them: GE, Siemens, Philips, Canon.
const SOFT_KERNELS: [&str; 22] = [
    "standard*",
    "soft*",
    "stnd*",
    "b2??",
    "b3??",
    "b4??",
    "b2?",
    "b3?",
    "b4?",
    "br3*",
    "br4*",
    "bf3*",
    "bf4*",
    "i2*",
    "i3*",
    "i4*",
    "qr3*",
    "qr4*",
    "fc0*",
    "fc1*",
    "a",
    "b",
];

impl Default for SeriesRules {
    /// What the nomogram was made for: the portal venous phase, soft kernel, in slices of 2 to 5 mm where there is a
    /// choice.
    fn default() -> Self {
        let soft: Vec<Pattern> = SOFT_KERNELS.iter().map(|k| Pattern::new(k)).collect();
        let rule = |name: &str, kernel: &[Pattern], thickness_mm| ChooseRule {
            name: name.into(),
            kernel: kernel.to_vec(),
            thickness_mm,
            phase: Some(Phase::PortalVenous),
            ..ChooseRule::default()
        };
        let choose = vec![
            rule("portal venous, soft kernel, 2 to 5 mm", &soft, Some([2.0, 5.0])),
            rule("portal venous, soft kernel", &soft, None),
            rule("portal venous", &[], None),
        ];
        Self { allow_lossy: false, choose }
    }
}

impl ChooseRule {
    /// Whether a slice of a series fits.
    pub fn fits(&self, header: &Header) -> bool {
        let any = |patterns: &[Pattern], texts: &[&str]| {
            patterns.is_empty() || patterns.iter().any(|p| texts.iter().any(|text| p.fits(text)))
        };
        // A hundredth of a millimeter is how makers round.
        let thick =
            |[from, to]: [f64; 2]| header.slice_thickness_mm.is_some_and(|t| (from - 0.01..=to + 0.01).contains(&t));
        any(&self.description, &[&header.series_description, &header.protocol_name])
            && any(&self.kernel, &header.kernel.split('\\').collect::<Vec<_>>())
            && self.thickness_mm.is_none_or(thick)
            && self.phase.is_none_or(|phase| Phase::of(header) == Some(phase))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_whole_texts_without_case() {
        for (pattern, text, fits) in [
            ("*portal*", "ABD Portal venous 5.0", true),
            ("abd*", "Abdomen", true),
            ("abd", "Abdomen", false),
            ("b3?f", "B30f", true),
            ("b3?f", "B30", false),
            ("*a*b", "xaxbab", true),
            ("*", "", true),
            ("", "x", false),
            ("*ö?", "VENÖS", true),
        ] {
            assert_eq!(Pattern::new(pattern).fits(text), fits, "{pattern} on {text}");
        }
    }

    #[test]
    fn phases_are_read_from_what_people_write() {
        for (text, phase) in [
            ("Abd. portalvenös 3.0 B30f", Some(Phase::PortalVenous)),
            ("ABDOMEN PV 5mm", Some(Phase::PortalVenous)),
            ("venous phase", Some(Phase::PortalVenous)),
            ("LATE ARTERIAL", Some(Phase::Arterial)),
            ("Leber art. 1.5", Some(Phase::Arterial)),
            ("delayed venous 5 min", Some(Phase::Delayed)),
            ("Spätphase", Some(Phase::Delayed)),
            ("ABD W/O CONTRAST", Some(Phase::Native)),
            ("Abdomen nativ", Some(Phase::Native)),
            ("Thorax/Abdomen", None),
            ("arterial + venous", None),
            ("", None),
        ] {
            assert_eq!(Phase::named_by(text), phase, "{text}");
        }
    }

    #[test]
    fn the_configuration_names_what_a_site_wants() {
        let text = "allow_lossy = true\n[[choose]]\nname = \"liver\"\ndescription = [\"*liver*\"]\nkernel = [\"B3*\"]\n\
            thickness_mm = [1, 3]\nphase = \"portal-venous\"\n";
        let rules: SeriesRules = toml::from_str(text).unwrap();
        assert!(rules.allow_lossy && rules.choose.len() == 1);
        assert_eq!(
            (rules.choose[0].thickness_mm, rules.choose[0].phase),
            (Some([1.0, 3.0]), Some(Phase::PortalVenous))
        );
        assert_eq!(toml::from_str::<SeriesRules>("").unwrap().choose.len(), 3);
        assert!(toml::from_str::<SeriesRules>("[[choose]]\nkernels = []").unwrap_err().to_string().contains("kernels"));
        assert!(toml::from_str::<SeriesRules>("[[choose]]\nphase = \"late\"").is_err());
    }
}
