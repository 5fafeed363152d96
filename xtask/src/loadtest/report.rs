//! What is written of a run: the summary with what only this program knows, its text, its picture.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::checks::Checked;
use super::picture;
use super::sampler::{Sample, to_json};

/// A whole run.
pub(super) struct Report {
    pub(super) summary: Value,
    checked: Vec<Checked>,
}

impl Report {
    /// Puts together what k6 wrote, what the machine showed, and what was looked at afterwards.
    pub(super) fn new(
        mut summary: Value,
        run: Value,
        samples: &[Sample],
        checked: Vec<Checked>,
    ) -> Self {
        summary["run"] = run;
        let rates: serde_json::Map<String, Value> = scenarios(&summary)
            .map(|one| {
                let name = one["name"].as_str().unwrap_or_default().to_owned();
                (name, json!({"achieved_per_second": one["achieved_per_second"], "dropped_iterations": one["dropped_iterations"]}))
            })
            .collect();
        summary["run"]["scenarios"] = Value::Object(rates);
        summary["server"] = to_json(samples);
        summary["checks"] = checked.iter().map(Checked::to_json).collect();
        if let Some(thresholds) = summary["thresholds"].as_array_mut() {
            thresholds.extend(
                checked
                    .iter()
                    .filter(|one| !one.limit.is_empty())
                    .map(Checked::to_json),
            );
        }
        Self { summary, checked }
    }

    /// What was not kept, one line each: scenario, metric, limit, value.
    pub(super) fn breaches(&self) -> Vec<String> {
        let thresholds = self.summary["thresholds"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        thresholds
            .iter()
            .filter(|one| one["ok"] != true)
            .map(breach)
            .collect()
    }

    pub(super) fn text(&self) -> String {
        let mut text = format!(
            "{:<28} {:>10} {:>10} {:>10} {:>10} {:>10} {:>9} {:>11} {:>8}\n",
            "scenario",
            "offered",
            "p50 ms",
            "p95 ms",
            "p99 ms",
            "max ms",
            "errors",
            "iterations",
            "dropped"
        );
        for one in scenarios(&self.summary) {
            let ms = |field: &str| {
                one["latency_ms"][field]
                    .as_f64()
                    .map_or_else(|| "-".to_owned(), |ms| format!("{ms:.2}"))
            };
            text += &format!(
                "{:<28} {:>10} {:>10} {:>10} {:>10} {:>10} {:>7.2} % {:>11} {:>8}\n",
                one["name"].as_str().unwrap_or_default(),
                one["offered"].as_str().unwrap_or_default(),
                ms("p50"),
                ms("p95"),
                ms("p99"),
                ms("max"),
                100.0 * one["errors"].as_f64().unwrap_or_default(),
                one["iterations"].to_string(),
                one["dropped_iterations"].to_string(),
            );
        }
        for one in &self.checked {
            let limit = if one.limit.is_empty() {
                String::new()
            } else {
                format!(" ({})", one.limit)
            };
            text += &format!("{}: {}{limit}\n", one.what, shortened(one.value));
        }
        let most: Vec<String> = self.summary["commits"]
            .as_array()
            .into_iter()
            .flatten()
            .take(5)
            .map(|one| {
                format!(
                    "{} {}",
                    one["transaction"].as_str().unwrap_or_default(),
                    one["commits"]
                )
            })
            .collect();
        if !most.is_empty() {
            text += &format!("of these: {}\n", most.join(", "));
        }
        let peak = &self.summary["server"]["peak"];
        text += &format!(
            "server at most: {} MiB, {} % CPU, {} descriptors, {} connections in use; database {} % CPU, {} sessions busy; driver {} % CPU\n",
            peak["rss_kib"].as_u64().unwrap_or_default() / 1024,
            peak["cpu_percent"],
            peak["fds"],
            peak["db_pool_in_use"],
            peak["database_cpu_percent"],
            peak["db_active_backends"],
            peak["driver_cpu_percent"],
        );
        let thresholds = self.summary["thresholds"].as_array().map_or(0, Vec::len);
        let breaches = self.breaches();
        for line in &breaches {
            text += &format!("BREACHED {line}\n");
        }
        text += &format!("{thresholds} thresholds, {} breached\n", breaches.len());
        text
    }

    /// Writes `summary<-name>.json`, `.txt` and `.svg` into a folder.
    pub(super) fn write(&self, folder: &Path, name: &str) -> Result<PathBuf> {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let stem = if name.is_empty() {
            "summary".to_owned()
        } else {
            format!("summary-{name}")
        };
        let put = |end: &str, text: String| {
            let file = folder.join(format!("{stem}.{end}"));
            fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))
        };
        put(
            "json",
            format!("{}\n", serde_json::to_string_pretty(&self.summary)?),
        )?;
        put("txt", self.text())?;
        put("svg", picture::of(&self.summary))?;
        Ok(folder.join(format!("{stem}.txt")))
    }
}

pub(super) fn scenarios(summary: &Value) -> impl Iterator<Item = &Value> {
    summary["scenarios"].as_array().into_iter().flatten()
}

/// Whole numbers without a fraction, others with two digits of it, and shares of less than a tenth with four.
pub(super) fn shortened(value: f64) -> String {
    if (value - value.round()).abs() < 1e-9 {
        format!("{value:.0}")
    } else if value.abs() < 0.1 {
        format!("{value:.4}")
    } else {
        format!("{value:.2}")
    }
}

/// A threshold that was not kept, with the scenario it belongs to.
fn breach(threshold: &Value) -> String {
    let metric = threshold["metric"].as_str().unwrap_or_default();
    let (metric, tags) = metric.split_once('{').unwrap_or((metric, ""));
    let scenario = tags
        .trim_end_matches('}')
        .split(',')
        .find_map(|tag| tag.strip_prefix("scenario:"));
    let whole = if tags.is_empty() || scenario.is_some() {
        metric.to_owned()
    } else {
        format!("{metric}{{{tags}")
    };
    let value = threshold["value"]
        .as_f64()
        .map_or_else(|| "nothing".to_owned(), shortened);
    format!(
        "scenario {}: {whole}, limit {}, value {value}",
        scenario.unwrap_or("(all)"),
        threshold["limit"].as_str().unwrap_or_default(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(ok: bool) -> Report {
        let summary = json!({
            "scenarios": [{"name": "list", "offered": "50/s", "latency_ms": {"p50": 1.5, "p99": 3.0}, "errors": 0.25, "iterations": 7,
                "achieved_per_second": 50.0, "dropped_iterations": 0}],
            "thresholds": [
                {"metric": "http_req_duration{scenario:list}", "limit": "p(95)<800", "value": 3004.25, "ok": ok},
                {"metric": "server_errors", "limit": "rate<0.001", "value": 0, "ok": true},
            ],
            "timeline": {},
        });
        Report::new(
            summary,
            json!({}),
            &[],
            vec![
                Checked::equal("rows", 3.0, 3.0),
                Checked::told("commits", 1.234),
            ],
        )
    }

    #[test]
    fn a_breach_names_scenario_metric_limit_and_value() {
        let lines = report(false).breaches();
        assert_eq!(
            lines,
            ["scenario list: http_req_duration, limit p(95)<800, value 3004.25"]
        );
        assert!(report(true).breaches().is_empty());
    }

    #[test]
    fn a_count_that_does_not_fit_is_a_breach() {
        let mut broken = report(true);
        broken = Report::new(
            broken.summary.take(),
            json!({}),
            &[],
            vec![Checked::equal("rows", 2.0, 3.0)],
        );
        assert_eq!(
            broken.breaches(),
            ["scenario (all): rows, limit ==3, value 2"]
        );
        assert!(
            broken
                .text()
                .contains("BREACHED scenario (all): rows, limit ==3, value 2")
        );
    }

    #[test]
    fn the_text_has_a_line_for_each_scenario_and_each_check() {
        let text = report(true).text();
        assert!(
            text.contains(
                "list                               50/s       1.50          -       3.00"
            ),
            "{text}"
        );
        assert!(text.contains("rows: 3 (==3)\ncommits: 1.23\n"), "{text}");
        assert!(text.contains("3 thresholds, 0 breached"), "{text}");
    }
}
