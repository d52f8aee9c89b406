//! Settings given one by one on a command line (`NAME:VALUE`), read as PyRadiomics' `--setting` does.

use super::Value;

/// The keys of `setting` that PyRadiomics' schema knows, with the type that a text is read as; `true` for lists.
const TYPES: [(&str, Type, bool); 37] = [
    ("minimumROIDimensions", Type::Int, false),
    ("minimumROISize", Type::Int, false),
    ("geometryTolerance", Type::Float, false),
    ("correctMask", Type::Bool, false),
    ("additionalInfo", Type::Bool, false),
    ("label", Type::Int, false),
    ("label_channel", Type::Int, false),
    ("binWidth", Type::Float, false),
    ("binCount", Type::Int, false),
    ("normalize", Type::Bool, false),
    ("normalizeScale", Type::Float, false),
    ("removeOutliers", Type::Float, false),
    ("resampledPixelSpacing", Type::Float, true),
    ("interpolator", Type::Any, false),
    ("padDistance", Type::Int, false),
    ("distances", Type::Int, true),
    ("force2D", Type::Bool, false),
    ("force2Ddimension", Type::Int, false),
    ("resegmentRange", Type::Float, true),
    ("resegmentMode", Type::Text, false),
    ("resegmentShape", Type::Bool, false),
    ("preCrop", Type::Bool, false),
    ("sigma", Type::Float, true),
    ("start_level", Type::Int, false),
    ("level", Type::Int, false),
    ("wavelet", Type::Text, false),
    ("gradientUseSpacing", Type::Bool, false),
    ("lbp2DRadius", Type::Float, false),
    ("lbp2DSamples", Type::Int, false),
    ("lbp2DMethod", Type::Text, false),
    ("lbp3DLevels", Type::Int, false),
    ("lbp3DIcosphereRadius", Type::Float, false),
    ("lbp3DIcosphereSubdivision", Type::Int, false),
    ("voxelArrayShift", Type::Int, false),
    ("symmetricalGLCM", Type::Bool, false),
    ("weightingNorm", Type::Any, false),
    ("gldm_a", Type::Int, false),
];

/// The names of [`TYPES`].
pub(super) const SETTING_NAMES: [&str; 37] = {
    let mut names = [""; 37];
    let mut at = 0;
    while at < names.len() {
        names[at] = TYPES[at].0;
        at += 1;
    }
    names
};

#[derive(Clone, Copy)]
enum Type {
    Int,
    Float,
    Bool,
    Text,
    /// `any` in the schema: PyRadiomics cannot read these from a text and skips them.
    Any,
}

/// Reads `NAME:VALUE` texts, lists as `NAME:1,2`. What PyRadiomics skips with a warning is skipped, with its warning.
pub fn read_overrides(texts: &[String]) -> (Vec<(String, Value)>, Vec<String>) {
    let (mut found, mut warnings) = (Vec::new(), Vec::new());
    for text in texts {
        let Some((name, value)) = text.split_once(':') else {
            warnings.push(format!("Incorrect format for override setting \"{text}\", missing \":\""));
            continue;
        };
        let known = TYPES.iter().find(|(key, _, _)| *key == name);
        let Some(&(_, kind, is_list)) = known else {
            warnings.push(format!("Did not recognize override \"{name}\", skipping..."));
            continue;
        };
        let parsed = if is_list {
            value.split(',').map(|v| one(v, kind)).collect::<Option<Vec<_>>>().map(|items| Value::List(items, false))
        } else {
            one(value, kind)
        };
        match parsed {
            Some(value) => {
                found.retain(|(key, _): &(String, Value)| key != name);
                found.push((name.to_string(), value));
            }
            None => warnings.push(format!("Could not parse value \"{value}\" for setting \"{name}\", skipping...")),
        }
    }
    (found, warnings)
}

fn one(text: &str, kind: Type) -> Option<Value> {
    let trimmed = text.trim();
    match kind {
        Type::Int => trimmed.parse().ok().map(Value::Int),
        Type::Float => trimmed.parse().ok().map(Value::Float),
        Type::Bool => Some(Value::Bool(text == "1" || text.eq_ignore_ascii_case("true"))),
        Type::Text => Some(Value::Text(text.to_string())),
        Type::Any => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_become_the_types_of_the_schema() {
        let given =
            ["binWidth:10", "distances:1,2", "force2D:True", "foo:1", "binWidth:abc", "nocolon", "distances:1,x"];
        let (found, warnings) = read_overrides(&given.map(String::from));
        assert_eq!(
            found,
            [
                ("binWidth".to_string(), Value::Float(10.0)),
                ("distances".to_string(), Value::List(vec![Value::Int(1), Value::Int(2)], false)),
                ("force2D".to_string(), Value::Bool(true)),
            ]
        );
        assert_eq!(
            warnings,
            [
                "Did not recognize override \"foo\", skipping...",
                "Could not parse value \"abc\" for setting \"binWidth\", skipping...",
                "Incorrect format for override setting \"nocolon\", missing \":\"",
                "Could not parse value \"1,x\" for setting \"distances\", skipping...",
            ]
        );
    }
}
