//! What concerns a whole process, and therefore needs one of its own.

use certctl_telemetry::{
    Error,
    logging::{self, LogFormat, LogLevel},
};

#[test]
fn a_process_starts_logging_once() {
    let guard = logging::init(LogFormat::Json, LogLevel::Warn).expect("nothing logs yet");
    assert!(tracing::enabled!(target: "certctl_http", tracing::Level::WARN));
    assert!(!tracing::enabled!(target: "certctl_http", tracing::Level::DEBUG));

    let again = logging::init(LogFormat::Json, LogLevel::Debug).expect_err("logging is set up");
    assert!(matches!(again, Error::LoggingInstalled(_)));
    assert_eq!(again.to_string(), "logging is set up already");

    // The handle of the first still works, from any number of copies.
    guard
        .filter()
        .set_level(LogLevel::Debug)
        .expect("logging goes on");
    assert!(tracing::enabled!(target: "certctl_http", tracing::Level::DEBUG));
    assert!(!tracing::enabled!(target: "h2", tracing::Level::DEBUG));
    assert_eq!(format!("{:?}", guard.filter()), "FilterHandle(\"debug\")");
}
