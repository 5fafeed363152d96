//! The recorder of metrics: what counters, gauges and histograms of all crates end in.

use std::sync::{Mutex, PoisonError};

use metrics_exporter_prometheus::{
    Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};

use crate::{
    error::Error,
    exposition::Exposition,
    metrics_names::{self, Kind, Source},
};

/// The handle of the recorder that this process has installed.
static INSTALLED: Mutex<Option<MetricsHandle>> = Mutex::new(None);

/// What was recorded, to be rendered.
#[derive(Debug, Clone)]
pub struct MetricsHandle(PrometheusHandle);

impl MetricsHandle {
    /// Everything recorded so far, in the Prometheus text format.
    #[must_use]
    pub fn render(&self) -> String {
        self.0.render()
    }

    /// The same, followed by what was worked out for this scrape.
    #[must_use]
    pub fn render_with(&self, scraped: &Exposition) -> String {
        let mut text = self.render();
        text.push_str(scraped.as_str());
        text
    }

    /// Folds recorded samples of histograms into their buckets. They take memory until then or until the next render, so
    /// a process that nobody scrapes calls this every few seconds.
    pub fn run_upkeep(&self) {
        self.0.run_upkeep();
    }
}

/// Makes a recorder for a part of a process: a test, or a service that embeds certctl and installs it itself.
///
/// All metrics are described, and those counters without labels stand at zero, so that a first failure is seen as a step.
#[must_use]
pub fn build() -> (PrometheusRecorder, MetricsHandle) {
    let histograms = metrics_names::ALL
        .iter()
        .filter(|metric| metric.kind == Kind::Histogram);
    let builder = histograms.fold(PrometheusBuilder::new(), |builder, metric| {
        builder
            .set_buckets_for_metric(Matcher::Full(metric.name.to_owned()), metric.buckets)
            .expect("a test finds no histogram without buckets")
    });
    let recorder = builder.build_recorder();
    let handle = MetricsHandle(recorder.handle());
    metrics::with_local_recorder(&recorder, || {
        metrics_names::describe_all();
        start_counters();
    });
    (recorder, handle)
}

/// Makes the recorder of this process, or finds it again: a process that starts a server twice has one recorder.
///
/// # Errors
/// [`Error::RecorderInstalled`] when someone else has installed one.
pub fn install() -> Result<MetricsHandle, Error> {
    // Nothing that holds the lock leaves it half done, so a panic elsewhere while it was held does no harm.
    let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(handle) = installed.as_ref() {
        return Ok(handle.clone());
    }
    let (recorder, handle) = build();
    metrics::set_global_recorder(recorder).map_err(|_| Error::RecorderInstalled)?;
    Ok(installed.insert(handle).clone())
}

fn start_counters() {
    let counts = |metric: &&&metrics_names::Metric| {
        metric.kind == Kind::Counter && metric.source == Source::Recorder
    };
    for metric in metrics_names::ALL
        .iter()
        .filter(counts)
        .filter(|metric| metric.labels.is_empty())
    {
        metrics::counter!(metric.name).absolute(0);
    }
}

#[cfg(test)]
mod tests {
    use super::{build, install};
    use crate::{
        exposition::Exposition,
        metrics_names::{self, HTTP_REQUESTS_TOTAL, ISSUANCE_DURATION_SECONDS, UPTIME_SECONDS},
    };

    #[test]
    fn recorded_values_are_rendered_with_help_type_and_buckets() {
        let (recorder, handle) = build();
        metrics::with_local_recorder(&recorder, || {
            metrics::counter!(HTTP_REQUESTS_TOTAL.name, "method" => "GET", "route" => "/a\"b", "status" => "2xx").increment(3);
            metrics::histogram!(ISSUANCE_DURATION_SECONDS.name, "issuer_type" => "GenericCA")
                .record(0.3);
        });
        let text = handle.render();
        for line in [
            &format!(
                "# HELP certctl_http_requests_total {}",
                HTTP_REQUESTS_TOTAL.help
            ),
            "# TYPE certctl_http_requests_total counter",
            "certctl_http_requests_total{method=\"GET\",route=\"/a\\\"b\",status=\"2xx\"} 3",
            "# TYPE certctl_issuance_duration_seconds histogram",
            "certctl_issuance_duration_seconds_bucket{issuer_type=\"GenericCA\",le=\"0.25\"} 0",
            "certctl_issuance_duration_seconds_bucket{issuer_type=\"GenericCA\",le=\"0.5\"} 1",
            "certctl_issuance_duration_seconds_bucket{issuer_type=\"GenericCA\",le=\"120\"} 1",
            "certctl_issuance_duration_seconds_bucket{issuer_type=\"GenericCA\",le=\"+Inf\"} 1",
            "certctl_audit_chain_break_detected_total 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
    }

    #[test]
    fn two_recorders_do_not_meet() {
        let ((first, shown), (_second, other)) = (build(), build());
        metrics::with_local_recorder(&first, || {
            metrics::gauge!(metrics_names::DB_POOL_SIZE.name).set(7.0);
        });
        assert!(shown.render().contains("certctl_db_pool_size 7"));
        assert!(!other.render().contains("certctl_db_pool_size 7"));
    }

    #[test]
    fn scraped_values_follow_recorded_ones() {
        let (_recorder, handle) = build();
        let mut scraped = Exposition::new();
        scraped.value(&UPTIME_SECONDS, 1.5);
        assert!(
            handle
                .render_with(&scraped)
                .ends_with("# TYPE certctl_uptime_seconds gauge\ncertctl_uptime_seconds 1.5\n")
        );
    }

    #[test]
    fn installing_twice_gives_the_same_recorder() {
        let (first, second) = (install().unwrap(), install().unwrap());
        metrics::counter!("certctl_test_installed_total").increment(1);
        assert!(first.render().contains("certctl_test_installed_total 1"));
        assert!(second.render().contains("certctl_test_installed_total 1"));
    }
}
