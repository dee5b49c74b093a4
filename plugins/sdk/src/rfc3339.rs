//! Times as platforms write them, `2026-05-04T10:00:00Z`, and as the host counts
//! them, in milliseconds since 1970. No clock: a plugin has none.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Milliseconds since 1970-01-01T00:00:00Z; none when the text is not RFC 3339
/// or lies before.
pub fn parse(text: &str) -> Option<u64> {
    let nanoseconds = OffsetDateTime::parse(text, &Rfc3339).ok()?.unix_timestamp_nanos();
    u64::try_from(nanoseconds / 1_000_000).ok().filter(|_| nanoseconds >= 0)
}

/// The whole second that `time_ms` lies in, in UTC; none past the year 9999,
/// where RFC 3339 ends.
pub fn format_seconds(time_ms: u64) -> Option<String> {
    let seconds = i64::try_from(time_ms / 1000).ok()?;
    OffsetDateTime::from_unix_timestamp(seconds).ok()?.format(&Rfc3339).ok()
}

/// The same with three digits of milliseconds, `2026-05-04T10:00:00.250Z`.
pub fn format_millis(time_ms: u64) -> Option<String> {
    let seconds = format_seconds(time_ms)?;
    Some(format!("{}.{:03}Z", seconds.strip_suffix('Z')?, time_ms % 1000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_and_a_fraction_are_understood() {
        for text in [
            "2026-05-04T10:00:00.25Z",
            "2026-05-04T12:00:00.250+02:00",
            "2026-05-04t04:30:00.250999-05:30",
        ] {
            assert_eq!(parse(text), Some(1_777_888_800_250), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_none() {
        for text in [
            "",
            "2026-05-04",
            "2026-05-04 10:00",
            "2026-02-30T10:00:00Z",
            "2026-05-04T25:00:00Z",
            "2026-05-04T10:00:00",
            "1969-12-31T23:59:59.9999Z",
            "99999-05-04T10:00:00Z",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_written_time_reads_back_as_its_second() {
        for (time_ms, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400_000, "2000-02-29T00:00:00Z"),
            (1_777_888_800_999, "2026-05-04T10:00:00Z"),
            (253_402_300_799_999, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(format_seconds(time_ms).as_deref(), Some(text));
            assert_eq!(parse(text), Some(time_ms / 1000 * 1000));
        }
    }

    #[test]
    fn no_time_is_too_late_to_be_refused() {
        assert_eq!(format_seconds(253_402_300_800_000), None);
        assert_eq!(format_seconds(u64::MAX), None);
    }
}
