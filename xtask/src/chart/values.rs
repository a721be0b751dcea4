//! Reads `values.yaml` as a list of values, each with the `# --` comment above it.
//!
//! Only as much YAML is understood as the file has: maps by two spaces, and everything else on its key's own line.

use anyhow::{Result, bail};

/// One value of the chart.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Value {
    /// Its dotted path.
    pub(crate) path: String,
    /// What is taken where nothing is said, as the file has it; empty for an alias.
    pub(crate) default: String,
    /// What its comment says.
    pub(crate) description: String,
}

/// The values, in the order of the file.
///
/// # Errors
/// If a value has no comment, or a comment no value: a map's keys are described, not the map.
pub(crate) fn parse(text: &str) -> Result<Vec<Value>> {
    let mut values = Vec::new();
    let mut path: Vec<&str> = Vec::new();
    let mut description: Option<&str> = None;
    for (number, line) in (1..).zip(text.lines()) {
        let content = line.trim_start();
        if let Some(comment) = content.strip_prefix("# -- ") {
            description = Some(comment);
        }
        if content.is_empty() || content.starts_with('#') {
            continue;
        }
        let Some((key, default)) = content.split_once(':') else {
            bail!("values.yaml line {number}: neither a comment nor a key with its value");
        };
        path.truncate((line.len() - content.len()) / 2);
        path.push(key);
        let default = default.trim();
        let is_map = default.is_empty() || default.starts_with('&');
        match description.take() {
            Some(description) if !is_map => values.push(Value {
                path: path.join("."),
                default: default.strip_prefix('*').map_or(default, |_| "").to_owned(),
                description: description.to_owned(),
            }),
            None if is_map => {}
            _ => bail!(
                "values.yaml line {number}: {}: each value has a comment, no map has one",
                path.join(".")
            ),
        }
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_has_its_path_its_default_and_its_comment() {
        let values = parse(
            "# Not this.\na:\n  # -- One: of two\n  b: [1, 2]\n  c: &c\n    # -- Two\n    d: ''\n# -- As `a.c`\ne: *c\n",
        );
        let value = |path: &str, default: &str, description: &str| Value {
            path: path.to_owned(),
            default: default.to_owned(),
            description: description.to_owned(),
        };
        let expected = [
            value("a.b", "[1, 2]", "One: of two"),
            value("a.c.d", "''", "Two"),
            value("e", "", "As `a.c`"),
        ];
        assert_eq!(values.unwrap(), expected);
    }

    #[test]
    fn a_value_without_a_comment_is_named() {
        let error = parse("a:\n  b: 1\n").unwrap_err().to_string();
        assert!(error.contains("line 2") && error.contains("a.b"), "{error}");
        assert!(parse("# -- A map\na:\n").is_err());
        assert!(parse("- a\n").is_err());
    }
}
