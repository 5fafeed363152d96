//! Turns given texts into values and notes, along the way, what is in force and what is wrong.

use certctl_domain::time::Timestamp;

use crate::{
    effective::{Effective, Row},
    form::Form,
    problem::{Error, Problem, Warning, quoted},
    setting::{DefaultValue, Entry, Programs, Setting},
    source::{self, Collected, Given, Origin, Sources},
    table,
};

/// Settings with what was noticed while they were read.
#[derive(Debug)]
pub struct Loaded<T> {
    /// The settings.
    pub settings: T,
    /// What should be logged at the level WARN.
    pub warnings: Vec<Warning>,
    /// What is in force and where it came from, with secrets redacted.
    pub effective: Effective,
}

/// Reads values out of what was collected.
pub(crate) struct Reader<'a> {
    sources: &'a Sources<'a>,
    collected: Collected,
    rows: Vec<Row>,
}

impl<'a> Reader<'a> {
    /// Collects the texts of the settings of one program.
    pub(crate) fn new(sources: &'a Sources<'a>, program: Programs) -> Self {
        let table: Vec<_> = table::entries()
            .filter(|entry| entry.programs().include(program))
            .collect();
        Self {
            sources,
            collected: source::collect(sources, &table),
            rows: Vec::new(),
        }
    }

    /// The present time.
    pub(crate) fn now(&self) -> Timestamp {
        self.sources.now
    }

    /// A variable that is not ours and has no prefix.
    pub(crate) fn foreign(&self, variable: &str) -> Option<String> {
        self.sources.env.get(variable)
    }

    /// The value, or the default of the table.
    ///
    /// A refused text is noted and the default taken in its place, so that the rest can still be checked.
    pub(crate) fn get<F: Form>(&mut self, setting: &'static Setting<F>) -> F::Value {
        if let Some(value) = self.take(setting) {
            return value;
        }
        let default = default_text(setting);
        self.show(setting, setting.form.shown(default), Origin::Default);
        setting
            .form
            .parse(default)
            .expect("a test reads every setting with its default")
    }

    /// The value, or what is worked out, with the words that show it.
    pub(crate) fn derive<F: Form>(
        &mut self,
        setting: &'static Setting<F>,
        default: impl FnOnce(&Self) -> (F::Value, String),
    ) -> F::Value {
        if let Some(value) = self.take(setting) {
            return value;
        }
        let (value, shown) = default(self);
        self.show(setting, shown, Origin::Default);
        value
    }

    /// The value, when there is one.
    pub(crate) fn find<F: Form>(&mut self, setting: &'static Setting<F>) -> Option<F::Value> {
        let value = self.take(setting);
        if value.is_none() {
            self.show(setting, String::new(), Origin::Default);
        }
        value
    }

    /// The value, when it was given and not left to its default.
    pub(crate) fn given<F: Form>(&mut self, setting: &'static Setting<F>) -> Option<F::Value> {
        let value = self.take(setting);
        if value.is_none() {
            self.show(
                setting,
                setting.form.shown(default_text(setting)),
                Origin::Default,
            );
        }
        value
    }

    /// Whether a setting that was read already had been given and not left to its default.
    pub(crate) fn was_given(&self, name: &str) -> bool {
        self.rows
            .iter()
            .any(|row| row.entry.name() == name && row.origin != Origin::Default)
    }

    /// Two settings of which one is of no use without the other.
    pub(crate) fn pair<F: Form>(
        &mut self,
        first: &'static Setting<F>,
        second: &'static Setting<F>,
    ) -> Option<(F::Value, F::Value)> {
        let problems = self.problem_count();
        let values = (self.find(first), self.find(second));
        let lonely: Option<&dyn Entry> = match &values {
            (Some(_), None) => Some(second),
            (None, Some(_)) => Some(first),
            _ => None,
        };
        // A refused half is noted already; that it is missing, too, would be noise.
        if let Some(lonely) = lonely.filter(|_| self.problem_count() == problems) {
            self.refuse(Problem::Missing {
                variable: lonely.variable(),
                why: "its other half is given",
            });
        }
        values.0.zip(values.1)
    }

    /// How much is wrong so far.
    pub(crate) fn problem_count(&self) -> usize {
        self.collected.problems.len()
    }

    /// Everything that is wrong.
    pub(crate) fn into_error(self) -> Error {
        Error::new(self.collected.problems)
    }

    /// Rewrites a text before it is read. A problem takes the place of the value.
    pub(crate) fn rewrite<F: Form>(
        &mut self,
        setting: &'static Setting<F>,
        rewrite: impl FnOnce(&Self, &str) -> Result<String, Problem>,
    ) {
        let Some(given) = self.collected.given.remove(setting.name) else {
            return;
        };
        match rewrite(self, given.text.expose()) {
            Ok(text) => {
                self.collected.given.insert(
                    setting.name,
                    Given {
                        text: text.into(),
                        ..given
                    },
                );
            }
            Err(problem) => self.refuse(problem),
        }
    }

    /// Notes what is in force for a setting that was worked out.
    pub(crate) fn show(&mut self, entry: &'static dyn Entry, shown: String, origin: Origin) {
        self.rows.push(Row {
            entry,
            shown,
            origin,
        });
    }

    /// Notes something that is wrong.
    pub(crate) fn refuse(&mut self, problem: Problem) {
        self.collected.problems.push(problem);
    }

    /// Notes something that should be seen.
    pub(crate) fn warn(&mut self, warning: Warning) {
        self.collected.warnings.push(warning);
    }

    /// Hands over the settings, or everything that is wrong with them.
    pub(crate) fn finish<T>(self, settings: T) -> Result<Loaded<T>, Error> {
        let Collected {
            problems,
            warnings,
            without_effect,
            ..
        } = self.collected;
        if problems.is_empty() {
            let effective = Effective::new(self.rows, without_effect.into_iter().collect());
            Ok(Loaded {
                settings,
                warnings,
                effective,
            })
        } else {
            Err(Error::new(problems))
        }
    }

    /// The names of the settings that were read so far.
    #[cfg(test)]
    pub(crate) fn names_read(&self) -> std::collections::BTreeSet<&'static str> {
        self.rows.iter().map(|row| row.entry.name()).collect()
    }

    fn take<F: Form>(&mut self, setting: &'static Setting<F>) -> Option<F::Value> {
        let given = self.collected.given.remove(setting.name)?;
        let text = given.text.expose();
        // Compose files and charts leave a setting out by leaving it empty. Where there is a default to fall back on in
        // silence, an empty text is judged like any other.
        if text.is_empty() && !matches!(setting.default, DefaultValue::Text(_)) {
            return None;
        }
        match setting.form.parse(text) {
            Ok(value) => {
                let shown = setting.form.shown(text);
                self.show(setting, shown, given.origin);
                Some(value)
            }
            Err(fault) => {
                let shown = if F::SECRET {
                    "the value (redacted)".to_owned()
                } else {
                    quoted(&setting.form.shown(text))
                };
                self.refuse(Problem::Value {
                    variable: setting.variable(),
                    shown,
                    fault,
                });
                None
            }
        }
    }
}

/// The default as the table writes it; empty when it has none.
fn default_text(entry: &dyn Entry) -> &'static str {
    match entry.default() {
        DefaultValue::Text(text) => text,
        DefaultValue::Unset | DefaultValue::Derived(_) => "",
    }
}
