//! Texts of PEM as services want them.

/// Blocks that follow each other need a line end between them, and exactly one; nothing stays nothing.
pub(super) fn block(text: &str) -> String {
    match text.trim_end() {
        "" => String::new(),
        text => format!("{text}\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::block;

    #[test]
    fn a_block_ends_in_one_newline() {
        for text in ["a\nb", "a\nb\n", "a\nb\r\n\n"] {
            assert_eq!(block(text), "a\nb\n");
        }
        assert_eq!(block(" \n"), "");
    }
}
