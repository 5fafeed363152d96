//! Text that leaves the host.

use certctl_domain::secret::Secret;

/// The longest failure message that is sent, in bytes.
pub(crate) const LONGEST: usize = 2048;

/// Makes a text fit to be sent and logged: no PEM blocks, none of the given secrets, no control characters but line
/// breaks, and bounded.
pub(crate) fn safe(text: &str, secrets: &[&Secret]) -> String {
    let mut clean = without_pem(text);
    for secret in secrets.iter().filter(|secret| secret.expose().len() >= 6) {
        clean = clean.replace(secret.expose(), "<redacted>");
    }
    let clean: String = clean
        .chars()
        .filter(|c| !c.is_control() || matches!(c, '\n' | '\t'))
        .collect();
    bounded(&clean)
}

/// A command that prints a key file must not send it to the server.
fn without_pem(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("-----BEGIN ") {
        clean.push_str(&rest[..start]);
        clean.push_str("<redacted>");
        let after = &rest[start..];
        let end = after
            .find("-----END ")
            .and_then(|at| Some(at + 9 + after[at + 9..].find("-----")? + 5));
        // A block that does not end reaches to the end of the text.
        rest = end.map_or("", |end| &after[end..]);
    }
    clean.push_str(rest);
    clean
}

fn bounded(text: &str) -> String {
    if text.len() <= LONGEST {
        return text.to_owned();
    }
    const MARK: &str = "…";
    let mut end = LONGEST - MARK.len();
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{MARK}", &text[..end])
}

#[cfg(test)]
mod tests {
    use certctl_domain::secret::Secret;

    use super::{LONGEST, safe};

    #[test]
    fn keys_and_secrets_do_not_leave() {
        let key = Secret::new("canary-key-1");
        let text = "a canary-key-1 b\n-----BEGIN EC PRIVATE KEY-----\nc2VjcmV0\n-----END EC PRIVATE KEY-----\nc \u{1b}[31m";
        assert_eq!(safe(text, &[&key]), "a <redacted> b\n<redacted>\nc [31m");
        assert_eq!(
            safe("x -----BEGIN PRIVATE KEY-----\nc2V", &[]),
            "x <redacted>"
        );
        assert_eq!(safe("x -----BEGIN A----- -----END A", &[]), "x <redacted>");
    }

    #[test]
    fn length_is_bounded_at_a_character() {
        for text in [
            "ä".repeat(3000),
            "x".repeat(2049),
            "a".to_owned() + &"€".repeat(2000),
        ] {
            let cut = safe(&text, &[]);
            assert!(cut.len() <= LONGEST && cut.ends_with('…'));
        }
        assert_eq!(safe(&"x".repeat(2048), &[]).len(), 2048);
    }
}
