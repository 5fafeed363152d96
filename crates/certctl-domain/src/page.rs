//! Pages of lists.

/// Which page of a list: `page` from 1, `per_page` from 1 to 500 (api §8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageRequest {
    page: u32,
    per_page: u32,
}

impl PageRequest {
    /// Rows on a page where the caller names no number.
    pub const DEFAULT_PER_PAGE: u32 = 50;
    /// Most rows on a page.
    pub const MAX_PER_PAGE: u32 = 500;

    /// Takes what a caller sent; a bad value becomes the default, as the contract has it.
    #[must_use]
    pub fn lenient(page: Option<&str>, per_page: Option<&str>) -> Self {
        let page = page
            .and_then(|text| text.parse().ok())
            .filter(|page| *page >= 1)
            .unwrap_or(1);
        let per_page = per_page
            .and_then(|text| text.parse().ok())
            .filter(|rows| (1..=Self::MAX_PER_PAGE).contains(rows))
            .unwrap_or(Self::DEFAULT_PER_PAGE);
        Self { page, per_page }
    }

    /// The number of the page, from 1.
    #[must_use]
    pub const fn page(self) -> u32 {
        self.page
    }

    /// The rows asked for.
    #[must_use]
    pub const fn per_page(self) -> u32 {
        self.per_page
    }

    /// Rows before this page.
    #[must_use]
    pub const fn offset(self) -> i64 {
        (self.page as i64 - 1) * self.per_page as i64
    }

    /// Rows of this page, as SQL wants it.
    #[must_use]
    pub const fn limit(self) -> i64 {
        self.per_page as i64
    }
}

impl Default for PageRequest {
    fn default() -> Self {
        Self {
            page: 1,
            per_page: Self::DEFAULT_PER_PAGE,
        }
    }
}

/// One page of a list, with the count of all matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// The rows.
    pub rows: Vec<T>,
    /// How many rows match in all.
    pub total: i64,
}

impl<T> Page<T> {
    /// The same page of something else.
    pub fn map<U>(self, each: impl FnMut(T) -> U) -> Page<U> {
        Page {
            rows: self.rows.into_iter().map(each).collect(),
            total: self.total,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::PageRequest;

    #[test]
    fn bad_numbers_become_the_defaults() {
        for (page, per_page) in [
            (Some("0"), Some("501")),
            (Some("-3"), Some("x")),
            (None, None),
            (Some("9999999999"), Some("0")),
        ] {
            assert_eq!(PageRequest::lenient(page, per_page), PageRequest::default());
        }
        let request = PageRequest::lenient(Some("3"), Some("500"));
        assert_eq!((request.offset(), request.limit()), (1000, 500));
    }
}
