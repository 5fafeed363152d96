//! The Prometheus text format, version 0.0.4, for values that are worked out when they are asked for.
//!
//! Counts of rows live in the database and are the same on every replica; holding them in the recorder would show what
//! was true some time ago. So they are asked for at each scrape and written here, beside what the recorder renders.

use std::fmt::Write as _;

use crate::metrics_names::Metric;

/// The content type of the text format.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A text under way.
#[derive(Debug, Default)]
pub struct Exposition {
    text: String,
}

/// The samples of one metric.
#[derive(Debug)]
pub struct Family<'a> {
    text: &'a mut String,
    name: &'static str,
}

impl Exposition {
    /// An empty text.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins a metric. Each metric is begun once in a text, and only those whose source is the scrape: others are
    /// rendered by the recorder, and a metric that comes twice makes the whole text invalid.
    pub fn family(&mut self, metric: &Metric) -> Family<'_> {
        let (name, kind) = (metric.name, metric.kind.as_str());
        self.line(format_args!(
            "# HELP {name} {}",
            escaped(metric.help, false)
        ));
        self.line(format_args!("# TYPE {name} {kind}"));
        Family {
            text: &mut self.text,
            name,
        }
    }

    /// Adds a metric with one sample that has no labels.
    pub fn value(&mut self, metric: &Metric, value: f64) {
        self.family(metric).sample(&[], value);
    }

    /// The text so far.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a `String` cannot fail.
        let _ = writeln!(self.text, "{line}");
    }
}

impl Family<'_> {
    /// Adds a sample. Label names are ours and written as they are; label values may be anything.
    pub fn sample(&mut self, labels: &[(&str, &str)], value: f64) -> &mut Self {
        self.text.push_str(self.name);
        for (index, (name, value)) in labels.iter().enumerate() {
            let open = if index == 0 { '{' } else { ',' };
            let _ = write!(self.text, "{open}{name}=\"{}\"", escaped(value, true));
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        let _ = match value {
            // Rust writes `inf`, the format wants a sign and a capital.
            f64::INFINITY => writeln!(self.text, " +Inf"),
            f64::NEG_INFINITY => writeln!(self.text, " -Inf"),
            finite_or_nan => writeln!(self.text, " {finite_or_nan}"),
        };
        self
    }
}

/// Escapes backslash and line feed and, in a label value, the quote.
fn escaped(text: &str, in_label: bool) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => escaped.push_str("\\\\"),
            '\n' => escaped.push_str("\\n"),
            '"' if in_label => escaped.push_str("\\\""),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Exposition, escaped};
    use crate::metrics_names::{CERTIFICATE_TOTAL, JOB_COMPLETED_TOTAL};

    #[test]
    fn families_have_help_type_and_samples() {
        let mut text = Exposition::new();
        text.value(&CERTIFICATE_TOTAL, 50_000.0);
        text.family(&JOB_COMPLETED_TOTAL)
            .sample(&[("type", "Renewal"), ("name", "a\"b\\c\nd")], 1.0)
            .sample(&[("type", "Issuance")], f64::INFINITY);
        assert_eq!(
            text.as_str(),
            format!(
                "# HELP certctl_certificate_total {}\n# TYPE certctl_certificate_total gauge\ncertctl_certificate_total 50000\n\
                 # HELP certctl_job_completed_total {}\n# TYPE certctl_job_completed_total counter\n\
                 certctl_job_completed_total{{type=\"Renewal\",name=\"a\\\"b\\\\c\\nd\"}} 1\n\
                 certctl_job_completed_total{{type=\"Issuance\"}} +Inf\n",
                CERTIFICATE_TOTAL.help, JOB_COMPLETED_TOTAL.help
            )
        );
    }

    proptest! {
        #[test]
        fn no_label_value_leaves_its_quotes(value in "[a\\\\\"\n]{0,16}") {
            let escaped = escaped(&value, true);
            prop_assert!(!escaped.contains('\n'));
            // What a reader of the format undoes is what was written, and no quote stands alone.
            let mut undone = String::new();
            let mut chars = escaped.chars();
            while let Some(c) = chars.next() {
                prop_assert_ne!(c, '"');
                undone.push(match c {
                    '\\' => match chars.next() { Some('n') => '\n', Some(c) => c, None => return Err(TestCaseError::fail("cut")) },
                    c => c,
                });
            }
            prop_assert_eq!(undone, value);
        }
    }
}
