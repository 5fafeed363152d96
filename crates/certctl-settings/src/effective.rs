//! What is in force: the answer of `--check-config`.

use std::fmt;

use crate::{setting::Entry, source::Origin, table};

/// One setting that is in force.
pub struct Row {
    pub(crate) entry: &'static dyn Entry,
    pub(crate) shown: String,
    pub(crate) origin: Origin,
}

impl Row {
    /// The variable: `CERTCTL_SERVER_PORT`.
    #[must_use]
    pub fn variable(&self) -> String {
        self.entry.variable()
    }

    /// The value with secrets redacted; empty when there is none.
    #[must_use]
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// Where the value came from.
    #[must_use]
    pub fn origin(&self) -> &Origin {
        &self.origin
    }
}

impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={} ({})", self.variable(), self.shown, self.origin)
    }
}

/// All settings of a program that are in force, in the order of the reference page.
///
/// Its `Display` is what `--check-config` prints.
#[derive(Debug)]
pub struct Effective {
    rows: Vec<Row>,
    without_effect: Vec<String>,
}

impl Effective {
    pub(crate) fn new(mut rows: Vec<Row>, without_effect: Vec<String>) -> Self {
        let order: Vec<_> = table::entries().map(Entry::name).collect();
        rows.sort_by_key(|row| order.iter().position(|name| *name == row.entry.name()));
        Self {
            rows,
            without_effect,
        }
    }

    /// The settings.
    #[must_use]
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Names that were given and are known, but that no part of this version acts on.
    #[must_use]
    pub fn without_effect(&self) -> &[String] {
        &self.without_effect
    }
}

impl fmt::Display for Effective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widest = |width: fn(&Row) -> usize| self.rows.iter().map(width).max().unwrap_or(0);
        let name_width = widest(|row| row.variable().len());
        let value_width = widest(|row| row.shown.chars().count()).min(40);
        let mut title = "";
        for row in &self.rows {
            let group = table::title_of(row.entry.name());
            if group != title {
                writeln!(f, "{}# {group}", if title.is_empty() { "" } else { "\n" })?;
                title = group;
            }
            let (variable, origin) = (row.variable(), &row.origin);
            // A line break in a value would look like another setting.
            let shown = row.shown.replace(['\n', '\r'], " ");
            let shown = if shown.is_empty() { "(unset)" } else { &shown };
            writeln!(f, "{variable:name_width$}  {shown:value_width$}  {origin}")?;
        }
        if !self.without_effect.is_empty() {
            writeln!(
                f,
                "\n# Given, but without effect in this version\n{}",
                self.without_effect.join("\n")
            )?;
        }
        Ok(())
    }
}
