//! Which program this is.

use certctl_http::BuildInfo;

/// What was known when the program was built; a source tree without history says so instead of guessing.
pub(crate) fn build_info() -> BuildInfo {
    BuildInfo {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        commit: option_env!("CERTCTL_BUILD_COMMIT")
            .unwrap_or("unknown")
            .to_owned(),
        modified: option_env!("CERTCTL_BUILD_MODIFIED") == Some("true"),
        build_time: option_env!("CERTCTL_BUILD_TIME")
            .unwrap_or("unknown")
            .to_owned(),
        toolchain: option_env!("CERTCTL_BUILD_TOOLCHAIN")
            .unwrap_or("unknown")
            .to_owned(),
    }
}
