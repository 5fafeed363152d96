//! Statistics for dashboards: exact counts, worked out by the database.

use std::time::Duration;

use certctl_domain::{
    access::{Actor, Permission},
    time::Timestamp,
};
use certctl_repository::{
    metrics::Counts,
    stats::{self, JobDay, StatusCount},
};

use crate::{Error, Services, services::authorise};

/// How many days a series has: 1 to 365.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Days(u32);

impl Days {
    /// Days where the caller names no number.
    pub const DEFAULT: Self = Self(30);
    /// Most days of a series.
    pub const MAX: u32 = 365;

    /// Takes what a caller sent; what is out of bounds or no number becomes the default, as the contract has it (api §28.1).
    #[must_use]
    pub fn lenient(text: Option<&str>) -> Self {
        text.and_then(|text| text.parse().ok())
            .filter(|days| (1..=Self::MAX).contains(days))
            .map_or(Self::DEFAULT, Self)
    }

    fn span(self) -> Duration {
        self.0 * DAY
    }
}

/// A day, UTC, with a count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Day<T> {
    /// Its first instant.
    pub start: Timestamp,
    /// What falls on it.
    pub value: T,
}

/// How jobs ended on a day.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outcomes {
    /// Those that ended well.
    pub completed: i64,
    /// Those that failed.
    pub failed: i64,
}

impl Outcomes {
    /// Those that ended well of those that ended, in percent; 0 where none ended.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        reason = "counts of jobs of a day are far below 2^53"
    )]
    pub fn success_rate(self) -> f64 {
        match self.completed + self.failed {
            0 => 0.0,
            ended => 100.0 * self.completed as f64 / ended as f64,
        }
    }
}

const DAY: Duration = Duration::from_secs(86_400);

impl Services {
    /// Counts everything there is; at most a second old.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `stats.read`.
    pub async fn stats_summary(&self, actor: &Actor) -> Result<Counts, Error> {
        authorise(actor, Permission::StatsRead)?;
        self.recent_counts().await
    }

    /// Counts certificates by state.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `stats.read`.
    pub async fn certificates_by_status(&self, actor: &Actor) -> Result<Vec<StatusCount>, Error> {
        authorise(actor, Permission::StatsRead)?;
        Ok(stats::certificates_by_status(&mut self.read().await?).await?)
    }

    /// Counts the certificates that end on each of the next days, today first; revoked and archived ones are left out.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `stats.read`.
    pub async fn expiration_timeline(
        &self,
        actor: &Actor,
        days: Days,
    ) -> Result<Vec<Day<i64>>, Error> {
        authorise(actor, Permission::StatsRead)?;
        let from = midnight(self.now());
        let counts =
            stats::expiries_by_day(&mut self.read().await?, from, from + days.span()).await?;
        Ok(every_day(from, days, counts, |one| (one.day, one.count)))
    }

    /// Counts the jobs that ended on each of the last days, today last.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `stats.read`.
    pub async fn job_trends(&self, actor: &Actor, days: Days) -> Result<Vec<Day<Outcomes>>, Error> {
        authorise(actor, Permission::StatsRead)?;
        let until = midnight(self.now()) + DAY;
        let from = until - days.span();
        let counts = stats::jobs_by_day(&mut self.read().await?, from, until).await?;
        Ok(every_day(from, days, counts, |one: JobDay| {
            let JobDay {
                completed, failed, ..
            } = one;
            (one.day, Outcomes { completed, failed })
        }))
    }

    /// Counts the versions that were issued on each of the last days, today last.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `stats.read`.
    pub async fn issuance_rate(&self, actor: &Actor, days: Days) -> Result<Vec<Day<i64>>, Error> {
        authorise(actor, Permission::StatsRead)?;
        let until = midnight(self.now()) + DAY;
        let from = until - days.span();
        let counts = stats::issuances_by_day(&mut self.read().await?, from, until).await?;
        Ok(every_day(from, days, counts, |one| (one.day, one.count)))
    }
}

/// Every day from `from` on, those without a row too.
fn every_day<R, T: Copy + Default>(
    from: Timestamp,
    days: Days,
    rows: Vec<R>,
    read: impl Fn(R) -> (i64, T),
) -> Vec<Day<T>> {
    let first = number(from);
    let mut all: Vec<Day<T>> = (0..days.0)
        .map(|day| Day {
            start: from + day * DAY,
            value: T::default(),
        })
        .collect();
    for (day, value) in rows.into_iter().map(read) {
        if let Some(slot) = usize::try_from(day - first)
            .ok()
            .and_then(|at| all.get_mut(at))
        {
            slot.value = value;
        }
    }
    all
}

/// Days since 1970-01-01.
fn number(time: Timestamp) -> i64 {
    time.as_seconds().div_euclid(86_400)
}

fn midnight(time: Timestamp) -> Timestamp {
    Timestamp::from_seconds(number(time) * 86_400)
}

#[cfg(test)]
mod tests {
    use super::{Days, Outcomes};

    #[test]
    fn days_out_of_bounds_are_thirty() {
        for text in [
            None,
            Some("0"),
            Some("366"),
            Some("-1"),
            Some("x"),
            Some(""),
        ] {
            assert_eq!(Days::lenient(text), Days::DEFAULT, "{text:?}");
        }
        assert_eq!(Days::lenient(Some("365")), Days(365));
        assert_eq!(Days::lenient(Some("1")), Days(1));
    }

    #[test]
    fn a_day_without_jobs_has_no_success() {
        let rate = |completed, failed| Outcomes { completed, failed }.success_rate();
        assert!(rate(0, 0) == 0.0 && rate(3, 1) == 75.0 && rate(2, 0) == 100.0);
    }
}
