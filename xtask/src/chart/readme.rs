//! The tables in the chart's README, between its marks; what stands around them is written by hand.

use anyhow::{Context, Result};

use super::values::Value;

const VALUES: &str = "values";
const OBSOLETE: &str = "obsolete";

/// The README with its tables made anew.
///
/// # Errors
/// If a mark is missing.
pub(crate) fn render(written: &str, values: &[Value], warnings: &str) -> Result<String> {
    let obsolete = obsolete(warnings)?;
    let with_values = replace(written, VALUES, &values_table(values))?;
    replace(&with_values, OBSOLETE, &obsolete_table(&obsolete))
}

fn values_table(values: &[Value]) -> String {
    let rows = values.iter().map(
        |Value {
             path,
             default,
             description,
         }| {
            let default = if default.is_empty() {
                String::new()
            } else {
                format!("`{}`", escape(default))
            };
            format!("| `{path}` | {default} | {} |\n", escape(description))
        },
    );
    format!(
        "| key | default | meaning |\n|---|---|---|\n{}",
        rows.collect::<String>()
    )
}

fn obsolete_table(obsolete: &[(&str, &str)]) -> String {
    let rows = obsolete
        .iter()
        .map(|(key, why)| format!("| `{key}` | {} |\n", escape(why)));
    format!("| key | why |\n|---|---|\n{}", rows.collect::<String>())
}

/// The keys that the chart's notes warn about, as the template lists them: `key: why`.
pub(crate) fn obsolete(warnings: &str) -> Result<Vec<(&str, &str)>> {
    let (_, list) = warnings
        .split_once("define \"kuik.obsoleteValues\" -}}\n")
        .context("no list of obsolete values in _warnings.tpl")?;
    let (list, _) = list
        .split_once("{{- end")
        .context("no end of the list of obsolete values")?;
    list.lines()
        .map(|line| {
            line.split_once(": ")
                .with_context(|| format!("obsolete value {line:?}"))
        })
        .collect()
}

fn escape(text: &str) -> String {
    text.replace('|', "\\|")
}

/// `text` with what is between the marks of `name` replaced.
fn replace(text: &str, name: &str, with: &str) -> Result<String> {
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- end of {name} -->"));
    let marks = || format!("README.md has no {} ... {end}", begin.trim_end());
    let (before, rest) = text.split_once(&begin).with_context(marks)?;
    let (_, after) = rest.split_once(&end).with_context(marks)?;
    Ok(format!("{before}{begin}{with}{end}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_stand_between_their_marks_and_the_rest_stays() {
        let text = "top\n<!-- values -->\nold\n<!-- end of values -->\nmiddle\n<!-- obsolete -->\n<!-- end of obsolete -->\nbottom\n";
        let values = [Value {
            path: "a.b".into(),
            default: "1|2".into(),
            description: "What".into(),
        }];
        let warnings = "{{- define \"kuik.obsoleteValues\" -}}\nminio: later\n{{- end -}}";
        let made = render(text, &values, warnings).unwrap();
        assert!(
            made.contains("| `a.b` | `1\\|2` | What |\n<!-- end of values -->\nmiddle"),
            "{made}"
        );
        assert!(
            made.contains("| `minio` | later |\n<!-- end of obsolete -->\nbottom"),
            "{made}"
        );
        assert!(!made.contains("old"));
        assert_eq!(render(&made, &values, warnings).unwrap(), made);
    }

    #[test]
    fn a_missing_mark_is_named() {
        let error = render("", &[], "define \"kuik.obsoleteValues\" -}}\n{{- end").unwrap_err();
        assert!(error.to_string().contains("values"), "{error}");
    }
}
