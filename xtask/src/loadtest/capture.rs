//! `cargo xtask loadtest-capture`: the tables of baselines, made from summaries and put into the page of operators. Nobody writes them
//! by hand; a new capture adds its rows and keeps those that were there.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::report::{scenarios, shortened};
use crate::step::root;

/// Put the results of load tests into the table of baselines
#[derive(clap::Args)]
pub(crate) struct Capture {
    /// The folders with summaries: those of PostgreSQL and of SQLite when none is given; several runs of a suite are one row
    folders: Vec<PathBuf>,
    /// Show the rows only
    #[arg(long)]
    dry_run: bool,
}

const PAGE: &str = "docs/operator/scale.md";
const BEGIN: &str = "<!-- loadtest-capture: begin -->";
const END: &str = "<!-- loadtest-capture: end -->";

impl Capture {
    pub(crate) fn run(&self) -> Result<()> {
        let usual = [
            root().join("loadtest/results"),
            root().join("loadtest/results/sqlite"),
        ];
        let folders: Vec<PathBuf> = if self.folders.is_empty() {
            usual.into_iter().filter(|folder| folder.is_dir()).collect()
        } else {
            self.folders.clone()
        };
        let mut summaries = Vec::new();
        for folder in &folders {
            summaries.extend(read(folder)?);
        }
        ensure!(
            !summaries.is_empty(),
            "there is no summary; run `cargo xtask loadtest` first"
        );
        let text = capture(&summaries);
        println!("{text}");
        if self.dry_run {
            return Ok(());
        }
        for summary in &summaries {
            ensure!(
                summary["run"]["programs"] == "release",
                "{} was measured with programs that are not optimised; --dry-run shows it",
                suite(summary)
            );
        }
        let page = root().join(PAGE);
        let old = fs::read_to_string(&page).with_context(|| format!("cannot read {PAGE}"))?;
        fs::write(&page, inserted(&old, &text)?).with_context(|| format!("cannot write {PAGE}"))?;
        eprintln!("written into {PAGE}");
        Ok(())
    }
}

/// Every summary of a folder, in the order of the names.
fn read(folder: &Path) -> Result<Vec<Value>> {
    let mut files = Vec::new();
    for entry in
        fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?
    {
        let path = entry?.path();
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        if name.starts_with("summary") && name.ends_with(".json") {
            files.push(path);
        }
    }
    files.sort();
    files
        .into_iter()
        .map(|file| {
            let text = fs::read_to_string(&file)?;
            serde_json::from_str(&text).with_context(|| format!("{} is not JSON", file.display()))
        })
        .collect()
}

/// The new part of the page: how it was measured, a table of scenarios, and what was counted afterwards.
fn capture(summaries: &[Value]) -> String {
    let run = &summaries[0]["run"];
    let host = &run["host"];
    let mut text = format!(
        "### {}\n\n{}\n\n",
        run["date"].as_str().unwrap_or_default(),
        [
            format!("commit `{}`", run["commit"].as_str().unwrap_or_default()),
            format!(
                "{} × {}",
                host["processors"],
                host["cpu"].as_str().unwrap_or("a processor")
            ),
            format!("{} MiB", host["memory_mib"]),
            // What distributors and hosts append says nothing to others.
            format!(
                "Linux {}",
                host["kernel"]
                    .as_str()
                    .and_then(|kernel| kernel.split('-').next())
                    .unwrap_or_default()
            ),
            format!(
                "programs built for {}",
                run["programs"].as_str().unwrap_or_default()
            ),
            run["driver"].as_str().unwrap_or_default().to_owned(),
            run["tls"].as_str().unwrap_or_default().to_owned(),
            "bearer key".to_owned(),
            format!(
                "limits of requests {}",
                if run["server"]["CERTCTL_RATE_LIMIT_ENABLED"] == "false" {
                    "off"
                } else {
                    "on"
                }
            ),
            "driver, server and database on the same machine".to_owned(),
        ]
        .join("; ")
    );
    text += "| Database | Suite | Scenario | Offered | Length | p50 ms | p95 ms | p99 ms | Max ms | Errors | Iterations | Dropped | Peak RSS MiB | Runs |\n";
    text += "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n";
    for group in groups(summaries) {
        text += &rows(&group);
    }
    text += "\n| Database | Suite | Counted afterwards | Limit | Value |\n|---|---|---|---|---|\n";
    for summary in summaries {
        for check in summary["checks"].as_array().into_iter().flatten() {
            text += &format!(
                "| {} | {} | {} | {} | {} |\n",
                database(summary),
                suite(summary),
                check["metric"].as_str().unwrap_or_default(),
                check["limit"].as_str().unwrap_or_default().replace('|', ""),
                number(&check["value"]),
            );
        }
    }
    let breaches: Vec<String> = summaries
        .iter()
        .flat_map(|summary| {
            summary["thresholds"]
                .as_array()
                .into_iter()
                .flatten()
                .map(move |one| (summary, one))
        })
        .filter(|(_, one)| one["ok"] != true)
        .map(|(summary, one)| {
            format!(
                "{} {}: {} {}, was {}",
                database(summary),
                suite(summary),
                one["metric"],
                one["limit"],
                number(&one["value"])
            )
        })
        .collect();
    if breaches.is_empty() {
        text += "\nAll thresholds were kept.\n";
    } else {
        text += &format!(
            "\nNot kept:\n\n{}\n",
            breaches
                .iter()
                .map(|line| format!("- {line}"))
                .collect::<Vec<_>>()
                .join("\n")
        );
    }
    text
}

/// Summaries of the same suite on the same database, which are runs of one row.
fn groups(summaries: &[Value]) -> Vec<Vec<&Value>> {
    let mut groups: Vec<Vec<&Value>> = Vec::new();
    for summary in summaries {
        let same = |group: &&mut Vec<&Value>| {
            suite(group[0]) == suite(summary) && database(group[0]) == database(summary)
        };
        match groups.iter_mut().find(same) {
            Some(group) => group.push(summary),
            None => groups.push(vec![summary]),
        }
    }
    groups
}

/// A row for each scenario: the median over the runs, and how far they lie apart.
fn rows(group: &[&Value]) -> String {
    let mut text = String::new();
    for one in scenarios(group[0]) {
        let name = one["name"].as_str().unwrap_or_default();
        let each = |of: &dyn Fn(&Value) -> Option<f64>| {
            let mut values: Vec<f64> = group
                .iter()
                .filter_map(|summary| {
                    scenarios(summary)
                        .find(|other| other["name"] == name)
                        .and_then(of)
                })
                .collect();
            values.sort_by(f64::total_cmp);
            values
        };
        let ms =
            |field: &'static str| spread(&each(&|one: &Value| one["latency_ms"][field].as_f64()));
        let errors = each(&|one: &Value| one["errors"].as_f64())
            .last()
            .copied()
            .unwrap_or_default();
        let memory = group
            .iter()
            .filter_map(|summary| summary["server"]["peak"]["rss_kib"].as_u64())
            .max()
            .unwrap_or_default()
            / 1024;
        text += &format!(
            "| {} | {} | {name} | {} | {} s | {} | {} | {} | {} | {:.2} % | {} | {} | {memory} | {} |\n",
            database(group[0]),
            suite(group[0]),
            one["offered"].as_str().unwrap_or_default(),
            one["seconds"],
            ms("p50"),
            ms("p95"),
            ms("p99"),
            ms("max"),
            100.0 * errors,
            one["iterations"],
            one["dropped_iterations"],
            group.len(),
        );
    }
    text
}

/// The median, with the least and the greatest where there are several.
fn spread(sorted: &[f64]) -> String {
    match sorted {
        [] => "–".to_owned(),
        [one] => format!("{one:.2}"),
        [least, .., most] => format!("{:.2} ({least:.2}–{most:.2})", sorted[sorted.len() / 2]),
    }
}

fn database(summary: &Value) -> String {
    let of = &summary["run"]["database"];
    let version = of["version"].as_str().unwrap_or_default();
    let version = version.split_whitespace().next().unwrap_or_default();
    format!("{} {version}", of["name"].as_str().unwrap_or_default())
}

fn suite(summary: &Value) -> &str {
    match summary["name"].as_str() {
        Some("") | None => "loadtest",
        Some(name) => name,
    }
}

fn number(value: &Value) -> String {
    value.as_f64().map_or_else(|| "–".to_owned(), shortened)
}

/// The page with a new capture before those that are there.
fn inserted(page: &str, text: &str) -> Result<String> {
    let begin = page
        .find(BEGIN)
        .with_context(|| format!("{PAGE} has no {BEGIN}"))?
        + BEGIN.len();
    ensure!(
        page[begin..].contains(END),
        "{PAGE} has no {END} after {BEGIN}"
    );
    Ok(format!(
        "{}\n\n{}\n{}",
        &page[..begin],
        text.trim_end(),
        &page[begin..]
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn summary(p99: f64) -> Value {
        json!({
            "name": "agent-storm",
            "run": {"date": "2026-01-02T03:04:05Z", "commit": "abc", "host": {"processors": 2, "cpu": "X", "memory_mib": 10, "kernel": "6"},
                "programs": "release", "driver": "k6", "tls": "TLS 1.3", "database": {"name": "SQLite", "version": "3.5 x"}, "server": {}},
            "scenarios": [{"name": "agent_storm", "offered": "167/s", "seconds": 300, "iterations": 9, "dropped_iterations": 0, "errors": 0,
                "latency_ms": {"p50": 1.0, "p95": 2.0, "p99": p99, "max": 4.0}}],
            "server": {"peak": {"rss_kib": 2048}},
            "checks": [{"metric": "rows", "limit": ">=4990", "value": 5000.0, "ok": true}],
            "thresholds": [{"metric": "rows", "limit": ">=4990", "value": 5000.0, "ok": true}],
        })
    }

    #[test]
    fn runs_of_a_suite_are_one_row_with_median_and_spread() {
        let text = capture(&[summary(3.0), summary(5.0), summary(4.0)]);
        let row = "| SQLite 3.5 | agent-storm | agent_storm | 167/s | 300 s | 1.00 (1.00–1.00) | 2.00 (2.00–2.00) | 4.00 (3.00–5.00) | 4.00 (4.00–4.00) \
                   | 0.00 % | 9 | 0 | 2 | 3 |";
        assert_eq!(text.matches(row).count(), 1, "{text}");
        assert!(
            text.contains("| SQLite 3.5 | agent-storm | rows | >=4990 | 5000 |"),
            "{text}"
        );
        assert!(text.contains("commit `abc`; 2 × X"), "{text}");
        assert!(text.contains("All thresholds were kept."));
    }

    #[test]
    fn a_capture_comes_before_the_ones_that_are_there() {
        let page = format!("# Page\n{BEGIN}\n\n### old\n\n{END}\nrest\n");
        let once = inserted(&page, "### new\n").unwrap();
        assert!(once.find("### new").unwrap() < once.find("### old").unwrap());
        assert!(once.ends_with(&format!("{END}\nrest\n")));
        assert!(inserted("nothing", "x").is_err());
    }

    #[test]
    fn the_page_has_its_place() {
        let page = fs::read_to_string(root().join(PAGE)).unwrap();
        assert!(inserted(&page, "x").is_ok());
    }
}
