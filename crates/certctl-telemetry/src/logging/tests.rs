use std::{
    io,
    sync::{Arc, Mutex},
};

use certctl_domain::{
    secret::Secret,
    time::{ManualClock, Timestamp},
};
use serde_json::{Value, json};
use tracing_subscriber::fmt::MakeWriter;

use super::{FilterHandle, LogFormat, LogLevel, subscriber};
use crate::error_chain::tests::chained;

/// Keeps what is written.
#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Captured {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    fn lines(&self) -> Vec<Value> {
        self.text()
            .lines()
            .map(|line| {
                serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"))
            })
            .collect()
    }
}

impl io::Write for &Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Captured {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

/// What `log` logs in this format and at this level.
fn captured(format: LogFormat, level: LogLevel, log: impl FnOnce(&FilterHandle)) -> Captured {
    let captured = Captured::default();
    let clock = ManualClock::starting_at(Timestamp::from_micros(1_700_000_000_000_042));
    let (subscriber, handle) = subscriber(format, level, Arc::new(clock), captured.clone());
    tracing::subscriber::with_default(subscriber, || log(&handle));
    captured
}

fn json_of(log: impl FnOnce()) -> Vec<Value> {
    captured(LogFormat::Json, LogLevel::Info, |_| log()).lines()
}

#[test]
fn a_line_has_the_names_of_the_contract() {
    let lines = json_of(
        || tracing::info!(target: "certctl_http", status = 200, duration_ms = 1.5, cached = true, "request"),
    );
    assert_eq!(
        lines,
        [json!({
            "time": "2023-11-14T22:13:20.000042Z", "level": "INFO", "msg": "request", "target": "certctl_http",
            "status": 200, "duration_ms": 1.5, "cached": true
        })]
    );
}

#[test]
fn the_fixed_names_come_first() {
    let text = captured(
        LogFormat::Json,
        LogLevel::Info,
        |_| tracing::warn!(target: "certctl", a = 1, "m"),
    )
    .text();
    assert_eq!(
        text,
        "{\"time\":\"2023-11-14T22:13:20.000042Z\",\"level\":\"WARN\",\"msg\":\"m\",\"target\":\"certctl\",\"a\":1}\n"
    );
}

#[test]
fn fields_of_the_spans_around_are_on_the_line() {
    let lines = json_of(|| {
        let request = tracing::info_span!(
            "request",
            request_id = "r-1",
            method = "POST",
            path = "/a",
            status = tracing::field::Empty
        );
        request.in_scope(|| {
            tracing::info_span!("job", job_id = "j-1", path = "inner")
                .in_scope(|| tracing::info!(job_id = "own", "working"));
            request.record("status", 201);
            tracing::info!("done");
        });
        tracing::info!("after");
    });
    let pick = |line: &Value| {
        ["request_id", "method", "path", "job_id", "status"].map(|name| line[name].clone())
    };
    assert_eq!(
        pick(&lines[0]),
        [
            json!("r-1"),
            json!("POST"),
            json!("inner"),
            json!("own"),
            Value::Null
        ]
    );
    assert_eq!(
        pick(&lines[1]),
        [
            json!("r-1"),
            json!("POST"),
            json!("/a"),
            Value::Null,
            json!(201)
        ]
    );
    assert_eq!(
        pick(&lines[2]),
        [
            Value::Null,
            Value::Null,
            Value::Null,
            Value::Null,
            Value::Null
        ]
    );
}

#[test]
fn no_value_breaks_a_line_or_its_json() {
    let nasty = "a\r\nb\0c\"d\\e\u{1b}[31m\u{9b}31m\u{2028}{\"level\":\"INFO\"}";
    for format in [LogFormat::Json, LogFormat::Text] {
        let captured = captured(format, LogLevel::Info, |_| {
            tracing::info_span!("request", path = nasty)
                .in_scope(|| tracing::info!(agent = %nasty, shown = ?nasty, "{nasty}"));
        });
        let text = captured.text();
        assert_eq!(text.matches('\n').count(), 1, "{text}");
        assert!(!text.contains(['\r', '\0', '\u{1b}']), "{text}");
        // What a terminal would take for the start of a command, too, when the line is made for one.
        assert!(
            format == LogFormat::Json || !text.contains('\u{9b}'),
            "{text}"
        );
    }
    let line = &json_of(|| tracing::info!(path = nasty, "{nasty}"))[0];
    let expected = nasty.replace(['\r', '\n', '\0'], "");
    assert_eq!(
        (line["path"].as_str(), line["msg"].as_str()),
        (Some(expected.as_str()), Some(expected.as_str()))
    );
    assert_eq!(line["level"], "INFO");
}

#[test]
fn a_field_cannot_take_the_place_of_a_fixed_name() {
    let line = &json_of(|| {
        tracing::info!(
            level = "fake",
            time = 1,
            msg = "fake",
            target = "fake",
            r#type = "Renewal",
            "real"
        );
    })[0];
    assert_eq!(
        (
            &line["level"],
            &line["msg"],
            &line["level_"],
            &line["target_"]
        ),
        (
            &json!("INFO"),
            &json!("real"),
            &json!("fake"),
            &json!("fake")
        )
    );
    assert_eq!(line["type"], "Renewal");
}

#[test]
fn values_of_every_type_are_json() {
    let line = &json_of(|| {
        tracing::info!(int = -1_i64, uint = u64::MAX, wide = u128::MAX, float = f64::NAN, none = tracing::field::Empty, debug = ?Some(1), "m");
    })[0];
    assert_eq!(line["int"], -1);
    assert_eq!(line["uint"], u64::MAX);
    assert_eq!(line["wide"], u128::MAX.to_string());
    assert_eq!(line["float"], "NaN");
    assert_eq!(line["debug"], "Some(1)");
    assert_eq!(line.get("none"), None);
}

#[test]
fn an_error_is_logged_with_its_causes() {
    let error = chained();
    let line =
        &json_of(|| tracing::error!(error = &error as &(dyn std::error::Error + 'static), "m"))[0];
    assert_eq!(
        line["error"],
        "renewal failed: the issuer did not answer: connection reset"
    );
}

#[test]
fn a_secret_is_never_printed() {
    #[derive(Debug)]
    struct Config {
        #[expect(dead_code, reason = "read by its Debug")]
        key: Secret,
    }
    let secret = Secret::new("canary-8841");
    for format in [LogFormat::Json, LogFormat::Text] {
        let text = captured(format, LogLevel::Debug, |_| {
            let config = Config { key: secret.clone() };
            let span = tracing::info_span!("request", key = ?secret, authorization = secret.expose());
            span.in_scope(|| {
                tracing::info!(?secret, ?config, api_key = secret.expose(), password = %secret.expose(), "with {secret:?}");
            });
        })
        .text();
        assert!(!text.contains("canary"), "{text}");
        assert!(text.contains("<redacted>"), "{text}");
    }
}

#[test]
fn text_is_for_people() {
    let text = captured(LogFormat::Text, LogLevel::Info, |_| {
        tracing::info_span!("job", job_id = "job-1")
            .in_scope(|| tracing::warn!(target: "certctl_agent", path = "/a b", n = 2, "slow"));
    })
    .text();
    assert_eq!(
        text,
        "2023-11-14T22:13:20.000042Z WARN  certctl_agent: slow job_id=job-1 path=\"/a b\" n=2\n"
    );
}

#[test]
fn the_level_holds_for_events_and_not_for_our_spans() {
    let lines = captured(LogFormat::Json, LogLevel::Warn, |_| {
        tracing::info_span!(target: "certctl_http", "request", request_id = "r-1").in_scope(|| {
            tracing::info!(target: "certctl_http", "not logged");
            tracing::warn!(target: "certctl_http", "logged");
        });
    })
    .lines();
    assert_eq!(lines.len(), 1);
    assert_eq!(
        (&lines[0]["msg"], &lines[0]["request_id"]),
        (&json!("logged"), &json!("r-1"))
    );
}

#[test]
fn libraries_are_never_logged_below_info() {
    let lines = captured(LogFormat::Json, LogLevel::Debug, |handle| {
        tracing::debug!(target: "h2::codec", "headers with an API key");
        tracing::info!(target: "h2::codec", "1");
        tracing::debug!(target: "certctl_http::server", "2");
        handle.set_filter("trace").unwrap();
        tracing::debug!(target: "h2::codec", "headers with an API key");
        tracing::trace!(target: "certctl_http::server", "3");
    })
    .lines();
    assert_eq!(
        lines
            .iter()
            .map(|line| line["msg"].clone())
            .collect::<Vec<_>>(),
        ["1", "2", "3"]
    );
}

#[test]
fn the_filter_changes_while_running() {
    let captured = captured(LogFormat::Json, LogLevel::Info, |handle| {
        let debug = |msg| tracing::debug!(target: "certctl_acme::order", msg_nr = msg, "m");
        assert_eq!(handle.current(), "info");
        debug(1);
        handle.set_level(LogLevel::Debug).unwrap();
        debug(2);
        handle.set_level(LogLevel::Error).unwrap();
        debug(3);
        handle.set_filter("warn, certctl_acme=debug").unwrap();
        assert_eq!(handle.current(), "warn,certctl_acme=debug");
        debug(4);
        tracing::info!(target: "certctl_http", msg_nr = 5, "m");

        for wrong in [
            "loud",
            "h2=debug",
            "certctl=loud",
            "=info",
            "certctl=",
            "info;debug",
        ] {
            assert!(handle.set_filter(wrong).is_err(), "{wrong}");
        }
        assert_eq!(handle.current(), "warn,certctl_acme=debug");
    });
    assert_eq!(
        captured
            .lines()
            .iter()
            .map(|line| line["msg_nr"].clone())
            .collect::<Vec<_>>(),
        [2, 4]
    );
}

#[test]
fn a_handle_that_outlives_its_subscriber_says_so() {
    let (subscriber, handle) = subscriber(
        LogFormat::Json,
        LogLevel::Info,
        Arc::new(certctl_domain::time::SystemClock),
        io::sink,
    );
    drop(subscriber);
    assert_eq!(
        handle.set_level(LogLevel::Debug).unwrap_err().to_string(),
        "logging has ended"
    );
}
