//! When a job's next time is: cron patterns of five fields (minute, hour, day of month, month, day of week), in UTC.

use std::cmp::Ordering;
use std::str::FromStr as _;
use std::time::Duration;

use croner::errors::CronError;
use croner::{CivilDate, CivilDateTime, CivilTime, Cron, CronDateTime, Resolution, Weekday};
use time::{Date, Month, OffsetDateTime, Time};

use crate::store::now_us;

/// The first time of a pattern behind a moment, both in microseconds since the epoch; `None` where it is no pattern, or its time never
/// comes.
#[must_use]
pub fn next_us(pattern: &str, after_us: i64) -> Option<i64> {
    // The library also knows one with seconds: nothing here is that punctual.
    if pattern.split_ascii_whitespace().count() > 5 {
        return None;
    }
    let cron = Cron::from_str(pattern).ok()?;
    let after = OffsetDateTime::from_unix_timestamp(after_us.div_euclid(1_000_000)).ok()?;
    let next = cron.find_next_occurrence(&Utc(after), false).ok()?;
    next.0.unix_timestamp().checked_mul(1_000_000)
}

/// How long it is to the next time of a pattern, where there is one.
pub(super) fn wait(pattern: &str) -> Option<Duration> {
    let now = now_us();
    let next = next_us(pattern, now)?;
    Some(Duration::from_micros(u64::try_from(next - now).unwrap_or(0)))
}

/// A moment in UTC, where every wall clock time happens once.
#[derive(Clone, Debug)]
struct Utc(OffsetDateTime);

impl CronDateTime for Utc {
    fn to_civil(&self) -> CivilDateTime {
        let time = self.0;
        CivilDateTime::new(
            CivilDate::from_parts_unchecked(time.year(), u8::from(time.month()).into(), time.day().into()),
            CivilTime::from_parts_unchecked(time.hour().into(), time.minute().into(), time.second().into()),
        )
    }

    fn civil_weekday(&self) -> Weekday {
        Weekday::from_days_from_sunday(self.0.weekday().number_days_from_sunday().into())
    }

    fn resolve_civil(&self, civil: CivilDateTime) -> Result<Resolution<Utc>, CronError> {
        let small = |number: u32| u8::try_from(number).map_err(|_| CronError::InvalidTime);
        let month = Month::try_from(small(civil.month())?).map_err(|_| CronError::InvalidDate)?;
        let date = Date::from_calendar_date(civil.year(), month, small(civil.day())?)
            .map_err(|_| CronError::InvalidDate)?;
        let time = Time::from_hms(small(civil.hour())?, small(civil.minute())?, small(civil.second())?)
            .map_err(|_| CronError::InvalidTime)?;
        Ok(Resolution::Single(Utc(OffsetDateTime::new_utc(date, time))))
    }

    fn checked_add_seconds(&self, seconds: i64) -> Option<Utc> {
        self.0.checked_add(time::Duration::seconds(seconds)).map(Utc)
    }

    fn cmp_instant(&self, other: &Utc) -> Ordering {
        self.0.cmp(&other.0)
    }
}

#[cfg(test)]
mod tests {
    use time::format_description::well_known::Rfc3339;

    use super::*;

    fn next(pattern: &str, after: &str) -> Option<String> {
        let after = OffsetDateTime::parse(after, &Rfc3339).unwrap();
        let us = i64::try_from(after.unix_timestamp_nanos() / 1_000).unwrap();
        let next = next_us(pattern, us)?;
        assert!(next > us, "{pattern}");
        Some(OffsetDateTime::from_unix_timestamp(next / 1_000_000).unwrap().format(&Rfc3339).unwrap())
    }

    #[test]
    fn the_next_time_of_patterns() {
        for (pattern, after, expected) in [
            ("* * * * *", "2026-03-01T10:00:00Z", "2026-03-01T10:01:00Z"),
            ("* * * * *", "2026-03-01T10:00:59.999999Z", "2026-03-01T10:01:00Z"),
            ("0 3 * * *", "2026-12-31T03:00:00Z", "2027-01-01T03:00:00Z"),
            ("*/15 * * * *", "2026-03-29T01:50:00Z", "2026-03-29T02:00:00Z"),
            ("0 0 29 2 *", "2026-01-01T00:00:00Z", "2028-02-29T00:00:00Z"),
            ("30 4 * * MON", "2026-11-30T04:30:00Z", "2026-12-07T04:30:00Z"),
        ] {
            assert_eq!(next(pattern, after).as_deref(), Some(expected), "{pattern} behind {after}");
        }
    }

    #[test]
    fn what_is_no_pattern_or_never_comes_has_no_next_time() {
        for pattern in ["", "x", "* * * *", "61 * * * *", "* * * * * *", "0 0 30 2 *", "\n"] {
            assert_eq!(next(pattern, "2026-01-01T00:00:00Z"), None, "{pattern:?}");
        }
    }
}
