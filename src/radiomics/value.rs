//! Values of parameter files and diagnostics: integers and floats stay apart, as in Python, and maps keep their order.

/// A value as Python would hold it.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `None`.
    Null,
    /// `True` or `False`.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A float.
    Float(f64),
    /// Text.
    Text(String),
    /// A list; written as a tuple where `true`.
    List(Vec<Value>, bool),
    /// A map in the order of its file.
    Map(Vec<(String, Value)>),
}

impl Value {
    /// A tuple of floats, as SimpleITK's spacings are.
    pub fn floats(values: &[f64]) -> Value {
        Value::List(values.iter().copied().map(Value::Float).collect(), true)
    }

    /// A tuple of integers, as SimpleITK's sizes are.
    pub fn ints(values: &[usize]) -> Value {
        Value::List(values.iter().map(|v| Value::Int(*v as i64)).collect(), true)
    }

    /// The number, if it is one; integers become floats.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Value::Int(v) => Some(*v as f64),
            Value::Float(v) => Some(*v),
            _ => None,
        }
    }

    /// What Python's `str()` gives; PyRadiomics writes this into its CSV files.
    pub fn to_python(&self) -> String {
        match self {
            Value::Text(text) => text.clone(),
            other => other.repr(),
        }
    }

    fn repr(&self) -> String {
        match self {
            Value::Null => "None".into(),
            Value::Bool(v) => if *v { "True" } else { "False" }.into(),
            Value::Int(v) => v.to_string(),
            Value::Float(v) => python_float(*v),
            Value::Text(text) => format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'")),
            Value::List(values, tuple) => {
                let inner = values.iter().map(Value::repr).collect::<Vec<_>>().join(", ");
                match (tuple, values.len()) {
                    (true, 1) => format!("({inner},)"),
                    (true, _) => format!("({inner})"),
                    (false, _) => format!("[{inner}]"),
                }
            }
            Value::Map(entries) => {
                let inner = entries.iter().map(|(k, v)| format!("'{k}': {}", v.repr())).collect::<Vec<_>>();
                format!("{{{}}}", inner.join(", "))
            }
        }
    }
}

/// A float as Python's `repr` writes it: shortest digits that read back the same, an exponent below 1e-4 and from 1e16.
pub fn python_float(value: f64) -> String {
    if value.is_nan() {
        return "nan".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf" } else { "-inf" }.into();
    }
    let size = value.abs();
    if value != 0.0 && !(1e-4..1e16).contains(&size) {
        let text = format!("{value:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |e| ('-', e));
        return format!("{digits}e{sign}{exponent:0>2}");
    }
    format!("{value:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_written_as_python_does() {
        let cases = [
            (1.0, "1.0"),
            (0.1, "0.1"),
            (1e-5, "1e-05"),
            (1.5e-7, "1.5e-07"),
            (0.0001, "0.0001"),
            (1e16, "1e+16"),
            (123456789012345.6, "123456789012345.6"),
            (-2.5e300, "-2.5e+300"),
        ];
        for (value, text) in cases {
            assert_eq!(python_float(value), text);
        }
    }

    #[test]
    fn maps_are_written_as_python_does() {
        let map =
            Value::Map(vec![("a".into(), Value::Null), ("b".into(), Value::List(vec![Value::Float(1.0)], false))]);
        assert_eq!(map.to_python(), "{'a': None, 'b': [1.0]}");
        assert_eq!(Value::ints(&[1, 2]).to_python(), "(1, 2)");
    }
}
