//! The time at which a limit resets, from the reports of programs and servers: a timestamp, a
//! duration, or a time of day.

use std::sync::LazyLock;

use jiff::civil::{Date, DateTime, Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{Span, Zoned};
use regex::{Captures, Regex};
use serde_json::Value;

use super::stream_content::normalize;
use crate::agent::preset::Preset;
use crate::domain::id::Timestamp;

/// The largest plausible distance between a reset time and now, in the future or in the past.
const FARTHEST_MS: u64 = 40 * 24 * 3_600_000;

/// Finds the reset time in the fields of events, the newest first, then in texts.
///
/// If the harness gave up on the session, an announced wait starts at `now`. Otherwise, an
/// announced wait is ignored: the session may have waited already.
pub(super) fn find(
    preset: &Preset,
    events: &[&Value],
    texts: &[String],
    given_up: bool,
    now: Timestamp,
) -> Option<Timestamp> {
    let wait = |event: &&Value| {
        let ms = preset.output.waits_ms.iter().find_map(|p| p.first(event)?.as_f64())?;
        from_number(ms / 1000.0, now)
    };
    let field = |event: &&Value| {
        preset.output.resets.iter().find_map(|pointer| from_field(pointer.first(event)?, now))
    };
    events
        .iter()
        .rev()
        .find_map(field)
        .or_else(|| events.iter().rev().filter(|_| given_up).find_map(wait))
        .or_else(|| texts.iter().find_map(|text| from_text(&normalize(text), now)))
}

/// Reads a field: seconds from now, seconds or milliseconds since the epoch, or a text.
fn from_field(value: &Value, now: Timestamp) -> Option<Timestamp> {
    match value {
        Value::Number(number) => from_number(number.as_f64()?, now),
        Value::String(text) => text.trim().parse().map_or_else(
            |_| from_date(text.trim(), now).or_else(|| from_text(text, now)),
            |number| from_number(number, now),
        ),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the range is checked first"
)]
fn from_number(number: f64, now: Timestamp) -> Option<Timestamp> {
    match number {
        n if !(0.0..1e14).contains(&n) => None,
        n if n >= 1e12 => if_plausible(Timestamp(n as u64), now),
        n if n >= 1e9 => if_plausible(Timestamp((n * 1000.0) as u64), now),
        n => if_plausible(now.after_ms((n * 1000.0).ceil() as u64), now),
    }
}

/// Returns the time if it is at most `FARTHEST_MS` from `now`. A past time is plausible: the limit
/// has been reset already.
fn if_plausible(time: Timestamp, now: Timestamp) -> Option<Timestamp> {
    let is_near = time.since_ms(now) <= FARTHEST_MS && now.since_ms(time) <= FARTHEST_MS;
    is_near.then_some(time)
}

/// Words before a reset time.
const KEYWORD: &str = r"(?:resets?|reset|again|until|available|regain\w*(?: access)?|lifts?|renews?|refresh(?:es)?|retry|wait|expires?|back)";

/// Text between a keyword and a duration. The word `time` is missing on purpose: "retry wait time:
/// 5 s" reports a wait in the past.
const FILLER: &str = r#"["']?\s*[:=]?\s*["']?(?:(?:in|after|for|within|is|at least|about|approximately|around|another|delay|automatically)\b["']?\s*[:=]?\s*["']?){0,3}~?"#;

fn compile(pattern: &str) -> Option<Regex> {
    regex::RegexBuilder::new(pattern).case_insensitive(true).build().ok()
}

static EPOCH: LazyLock<Option<Regex>> = LazyLock::new(|| {
    compile(&format!(r"(?:{KEYWORD}|limit reached)\w*[^\d\n]{{0,40}}\b([12]\d{{9}}(?:\d{{3}})?)\b"))
});
static DURATION: LazyLock<Option<Regex>> = LazyLock::new(|| {
    compile(&format!(
        r"\b{KEYWORD}\w*{FILLER}((?:\d+(?:\.\d+)?\s*(?:days?|d|hours?|hrs?|hr|h|minutes?|mins?|min|milliseconds?|msecs?|ms|m|seconds?|secs?|sec|s)[\s,]*(?:and\s+)?)+)(?:\W|$)"
    ))
});
static DURATION_PART: LazyLock<Option<Regex>> =
    LazyLock::new(|| compile(r"(\d+(?:\.\d+)?)\s*(milli|ms|d|h|m|s)"));
static RETRY_AFTER: LazyLock<Option<Regex>> =
    LazyLock::new(|| compile(r#"retry[ _-]?after["']?\s*[:=]?\s*["']?(\d+(?:\.\d+)?)\b"#));
static DATE: LazyLock<Option<Regex>> = LazyLock::new(|| {
    compile(
        r"(\d{4})-(\d\d)-(\d\d)(?:T|\s+at\s+|\s+)(\d\d):(\d\d)(?::(\d\d))?(?:\.\d+)?\s*(Z\b|UTC|GMT|[+-]\d\d:?\d\d)?",
    )
});
static TIME_OF_DAY: LazyLock<Option<Regex>> = LazyLock::new(|| {
    compile(&format!(
        concat!(
            r"\b{}\w*[^\d\n]{{0,40}}?",
            r"(?:(?P<weekday>mon|tue|wed|thu|fri|sat|sun)[a-z]*,?\s+(?:at\s+)?)?",
            r"(?:(?P<month>jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?\s+(?P<day>\d{{1,2}})(?:st|nd|rd|th)?,?\s+(?:(?P<year>\d{{4}}),?\s+)?(?:at\s+)?)?",
            r"(?P<hour>\d{{1,2}})(?::(?P<minute>\d\d))?(?::\d\d)?\s*(?:(?P<half>[ap])\.?m\b\.?)?",
            r"\s*(?:\((?P<zone>[a-z_]+(?:/[a-z0-9_+-]+)*)\)|(?P<plain>utc|gmt|z)\b)?",
        ),
        KEYWORD
    ))
});

fn captures<'t>(pattern: &LazyLock<Option<Regex>>, text: &'t str) -> Option<Captures<'t>> {
    pattern.as_ref().and_then(|pattern| pattern.captures(text))
}

fn from_text(text: &str, now: Timestamp) -> Option<Timestamp> {
    let epoch = || {
        let number = captures(&EPOCH, text)?.get(1)?.as_str().parse().ok()?;
        from_number(number, now)
    };
    epoch()
        .or_else(|| from_date(text, now))
        .or_else(|| from_duration(text, now))
        .or_else(|| {
            let seconds = captures(&RETRY_AFTER, text)?.get(1)?.as_str().parse().ok()?;
            from_number(seconds, now)
        })
        .or_else(|| from_time_of_day(text, now))
}

/// Reads a date with a time. A time without an offset is in UTC.
fn from_date(text: &str, now: Timestamp) -> Option<Timestamp> {
    let date_match = captures(&DATE, text)?;
    let part = |n| date_match.get(n).map_or(Some(0), |m| m.as_str().parse::<i8>().ok());
    let year = date_match.get(1)?.as_str().parse().ok()?;
    let date = Date::new(year, part(2)?, part(3)?).ok()?;
    let time = Time::new(part(4)?, part(5)?, part(6)?, 0).ok()?;
    let offset = date_match.get(7).map_or("", |m| m.as_str());
    let ahead = match offset.strip_prefix(['+', '-']) {
        None => 0,
        Some(digits) => {
            let digits = digits.replace(':', "");
            let minutes = digits.get(..2)?.parse::<i64>().ok()? * 60
                + digits.get(2..)?.parse::<i64>().ok()?;
            if offset.starts_with('-') { -minutes } else { minutes }
        }
    };
    let at = DateTime::from_parts(date, time).checked_sub(Span::new().minutes(ahead)).ok()?;
    if_plausible(timestamp(&at.to_zoned(TimeZone::UTC).ok()?)?, now)
}

/// Reads a duration: `in 2 days 3 hours`, `after 13h25m30s`, `retry in 34.07s`.
fn from_duration(text: &str, now: Timestamp) -> Option<Timestamp> {
    let duration = captures(&DURATION, text)?;
    let mut seconds = 0.0;
    for part in DURATION_PART.as_ref()?.captures_iter(duration.get(1)?.as_str()) {
        let number: f64 = part.get(1)?.as_str().parse().ok()?;
        seconds += number
            * match part.get(2)?.as_str().to_ascii_lowercase().as_str() {
                "milli" | "ms" => 0.001,
                "d" => 86_400.0,
                "h" => 3_600.0,
                "m" => 60.0,
                _ => 1.0,
            };
    }
    (seconds < 1e9).then(|| from_number(seconds, now)).flatten()
}

/// Reads a time of day with or without a day, and returns the next such time.
///
/// A time without a zone is in UTC. A time in the current minute is today, not tomorrow: programs
/// omit the seconds, so the limit may still reset within this minute.
fn from_time_of_day(text: &str, now: Timestamp) -> Option<Timestamp> {
    let matches = TIME_OF_DAY.as_ref()?.captures_iter(text);
    // A number without minutes and without `am` or `pm` is not a time of day.
    let time_match = matches
        .into_iter()
        .find(|captures| captures.name("minute").or(captures.name("half")).is_some())?;
    let number = |name| time_match.name(name).and_then(|m| m.as_str().parse::<i8>().ok());
    let lower = |name| time_match.name(name).map(|m| m.as_str().to_ascii_lowercase());
    let hour = match (number("hour")?, lower("half").as_deref()) {
        (12, Some("a")) => 0,
        (hour @ 1..=11, Some("p")) => hour + 12,
        (hour, _) => hour,
    };
    let time = Time::new(hour, number("minute").unwrap_or(0), 0, 0).ok()?;
    let zone = time_match
        .name("zone")
        .and_then(|m| TimeZone::get(m.as_str()).ok())
        .unwrap_or(TimeZone::UTC);
    let millis = i64::try_from(now.0).ok()?;
    let local_now = jiff::Timestamp::from_millisecond(millis).ok()?.to_zoned(zone.clone());
    let today = local_now.date();
    let last_minute = local_now.checked_sub(Span::new().minutes(1)).ok()?;
    let on_date = |date: Date| DateTime::from_parts(date, time).to_zoned(zone.clone()).ok();
    let day = |n: i64| today.checked_add(Span::new().days(n)).ok();
    let next = if let Some(month) = lower("month") {
        let months =
            ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
        let month = i8::try_from(months.iter().position(|name| month == *name)?).ok()? + 1;
        let year = time_match.name("year").and_then(|m| m.as_str().parse().ok());
        let this_year =
            on_date(Date::new(year.unwrap_or(today.year()), month, number("day")?).ok()?)?;
        let past = year.is_none()
            && local_now.timestamp().duration_since(this_year.timestamp()).as_hours() > 24;
        if past {
            on_date(Date::new(today.year() + 1, month, number("day")?).ok()?)?
        } else {
            this_year
        }
    } else if let Some(weekday) = lower("weekday") {
        let days = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
        let number = i8::try_from(days.iter().position(|name| weekday == *name)?).ok()? + 1;
        let weekday = Weekday::from_monday_one_offset(number).ok()?;
        (0..=7)
            .filter_map(day)
            .filter(|d| d.weekday() == weekday)
            .filter_map(on_date)
            .find(|z| *z > last_minute)?
    } else {
        (0..=2).filter_map(day).filter_map(on_date).find(|z| *z > last_minute)?
    };
    if_plausible(timestamp(&next)?, now)
}

fn timestamp(zoned: &Zoned) -> Option<Timestamp> {
    u64::try_from(zoned.timestamp().as_millisecond()).ok().map(Timestamp)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sunday, 2026-11-22 15:10:00 UTC.
    const NOW: Timestamp = Timestamp(1_795_360_200_000);

    fn at(utc: &str) -> Option<Timestamp> {
        timestamp(&utc.parse::<jiff::Timestamp>().unwrap().to_zoned(TimeZone::UTC))
    }

    #[test]
    fn reset_time_is_read_from_error_texts() {
        for (text, utc) in [
            ("You've hit your session limit · resets 4:25pm (UTC)", "2026-11-22T16:25:00Z"),
            ("resets 3pm (UTC)", "2026-11-23T15:00:00Z"),
            ("limit reached ∙ resets 12am (America/New_York)", "2026-11-23T05:00:00Z"),
            ("resets Nov 25, 4pm (Europe/Berlin)", "2026-11-25T15:00:00Z"),
            ("resets Jan 2 at 9:30am", "2026-11-22T15:10:00Z"),
            ("or try again at 7:18 PM.", "2026-11-22T19:18:00Z"),
            ("or try again at Nov 28th, 2026 9:15 AM.", "2026-11-28T09:15:00Z"),
            ("resets Thu 10:00 PM", "2026-11-26T22:00:00Z"),
            ("available again at 16:05", "2026-11-22T16:05:00Z"),
            ("Please try again in 1s.", "2026-11-22T15:10:01Z"),
            ("Please retry in 34.07s.", "2026-11-22T15:10:34.07Z"),
            ("try again in 2 days 3 hours 4 minutes", "2026-11-24T18:14:00Z"),
            ("Your quota will reset after 13h25m30s.", "2026-11-23T04:35:30Z"),
            ("\"retryDelay\": \"90s\"", "2026-11-22T15:11:30Z"),
            ("retry-after: 3600", "2026-11-22T16:10:00Z"),
            ("Retry after 500ms", "2026-11-22T15:10:00.5Z"),
            ("Claude AI usage limit reached|1795370000", "2026-11-22T17:53:20Z"),
            ("You will regain access on 2026-12-01 at 00:00 UTC.", "2026-12-01T00:00:00Z"),
            ("resets at 2026-11-22T18:00:00+02:00", "2026-11-22T16:00:00Z"),
        ] {
            let expected = if text.starts_with("resets Jan") { None } else { at(utc) };
            assert_eq!(from_text(text, NOW), expected, "{text}");
        }
    }

    #[test]
    fn reset_time_in_the_current_minute_is_today() {
        let later = NOW.after_ms(8 * 60_000 + 59_999);
        assert_eq!(from_text("or try again at 3:18 PM.", later), at("2026-11-22T15:18:00Z"));
        assert_eq!(
            from_text("or try again at 3:18 PM.", later.after_ms(1)),
            at("2026-11-23T15:18:00Z")
        );
    }

    #[test]
    fn text_without_a_reset_time_has_none() {
        for text in [
            "Request rejected (429) · This request would exceed your organization's rate limit",
            "exceeded retry limit, last status: 429 Too Many Requests",
            "Try again in a moment. If it persists, check your gateway (127.0.0.1:8099).",
            "retried 5 times (total retry wait time: 5.49 seconds)",
            "resets 99:99pm",
            "retry 3",
            "try again in 99999999999999999999 days",
        ] {
            assert_eq!(from_text(text, NOW), None, "{text}");
        }
    }

    #[test]
    fn reset_time_is_read_from_timestamps_and_seconds_in_fields() {
        let field = |json: &str| from_field(&serde_json::from_str(json).unwrap(), NOW);
        assert_eq!(field("1795364748"), at("2026-11-22T16:25:48Z"));
        assert_eq!(field("1795364748000"), at("2026-11-22T16:25:48Z"));
        assert_eq!(field("\"60\""), at("2026-11-22T15:11:00Z"));
        assert_eq!(field("\"2026-11-22T15:30:00Z\""), at("2026-11-22T15:30:00Z"));
        for nonsense in ["-1", "1e300", "null", "true", "\"\"", "5"] {
            assert_eq!(field(nonsense).is_some(), nonsense == "5", "{nonsense}");
        }
    }
}
