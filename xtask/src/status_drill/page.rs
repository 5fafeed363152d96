//! The configuration of nginx as the page for operators has it, so that what they copy is what was run.

use anyhow::{Result, ensure};

const PAGE: &str = include_str!("../../../docs/operator/revocation.md");

/// Plain HTTP in front of the status paths.
pub(super) const PROXY: usize = 0;
/// A website that asks a responder.
pub(super) const STAPLES: usize = 1;
/// A website that staples a file.
pub(super) const STAPLES_FILE: usize = 2;

/// A piece of the page's nginx configuration, with each of the page's names replaced by one of this run.
pub(super) fn snippet(number: usize, names: &[(&str, String)]) -> Result<String> {
    let pieces = pieces(PAGE);
    ensure!(number < pieces.len(), "the page has no piece {number}");
    let mut text = pieces[number].to_owned();
    for (on_page, here) in names {
        ensure!(
            text.contains(on_page),
            "piece {number} of the page does not say {on_page:?}"
        );
        text = text.replace(on_page, here);
    }
    Ok(text)
}

/// What stands between the fences that say nginx, in order.
fn pieces(page: &str) -> Vec<&str> {
    page.split("```nginx\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{PROXY, STAPLES, STAPLES_FILE, pieces, snippet};

    #[test]
    fn pieces_are_what_stands_between_fences() {
        assert_eq!(
            pieces("a\n```nginx\none\n```\n```sh\nno\n```\n```nginx\ntwo\n```\n"),
            ["one\n", "two\n"]
        );
    }

    #[test]
    fn the_page_has_what_the_drill_runs() {
        for (number, says) in [
            (PROXY, "proxy_pass"),
            (STAPLES, "ssl_stapling_responder"),
            (STAPLES_FILE, "ssl_stapling_file"),
        ] {
            assert!(
                snippet(number, &[]).unwrap().contains(says),
                "{number} has no {says}"
            );
        }
        let named = snippet(PROXY, &[("listen 80", "listen 127.0.0.1:8080".to_owned())]).unwrap();
        assert!(named.contains("listen 127.0.0.1:8080;") && !named.contains("listen 80;"));
        snippet(PROXY, &[("no such words", String::new())]).unwrap_err();
        snippet(9, &[]).unwrap_err();
    }
}
