//! Errors with their causes on one line.

use std::{error::Error as StdError, fmt};

/// Prints an error and everything that `source` leads to: `a: b: c`.
///
/// Errors of this project never print their source, so this is the one place where a chain becomes text. It is for logs;
/// a caller is never shown more than the first link.
pub struct ErrorChain<'a>(pub &'a (dyn StdError + 'a));

impl fmt::Display for ErrorChain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(cause) = source {
            write!(f, ": {cause}")?;
            source = cause.source();
        }
        Ok(())
    }
}

impl fmt::Debug for ErrorChain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::ErrorChain;

    /// An error with a cause that has a cause.
    #[derive(Debug, thiserror::Error)]
    #[error("renewal failed")]
    pub(crate) struct Outer(#[source] Middle);

    #[derive(Debug, thiserror::Error)]
    #[error("the issuer did not answer")]
    struct Middle(#[source] std::io::Error);

    pub(crate) fn chained() -> Outer {
        Outer(Middle(std::io::Error::other("connection reset")))
    }

    #[test]
    fn the_whole_chain_is_printed() {
        assert_eq!(
            ErrorChain(&chained()).to_string(),
            "renewal failed: the issuer did not answer: connection reset"
        );
        assert_eq!(
            ErrorChain(&std::io::Error::other("alone")).to_string(),
            "alone"
        );
    }
}
