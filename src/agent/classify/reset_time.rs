//! The time at which a limit resets, from the reports of programs and servers: a timestamp, a
//! duration, or a time of day.

use std::sync::LazyLock;

use jiff::civil::{Date, DateTime, Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{Span, Zoned};
use regex::{Captures, Regex};
use serde_json::Value;

use super::terminal_text::normalize;
use super::zone;
use crate::agent::preset::Preset;
use crate::agent::preset::pattern::any_matches;
use crate::domain::id::Timestamp;

const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 60 * MINUTE_MS;

/// The largest plausible distance of a reset time, if the length of the window is unknown, and the
/// largest plausible age.
const FARTHEST_MS: u64 = 40 * 24 * HOUR_MS;
/// A time of day at most this long ago means today, not tomorrow: clocks differ, and the report may
/// be older than the time that it names.
const JUST_PAST_MINUTES: i64 = 15;
/// Windows may reset a little later than their length suggests.
const WINDOW_SLACK_MS: u64 = 10 * MINUTE_MS;

/// Finds the reset time: the latest time in the fields of events, otherwise the first time in the
/// texts. A time that is further away than the length of the limit's window is ignored.
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
    let output = &preset.output;
    let wait = |event: &&Value| {
        let ms = output.waits_ms.iter().find_map(|p| p.first(event)?.as_f64())?;
        from_number(ms / 1000.0, now)
    };
    let counts =
        |event: &&&Value| output.resets_in.is_empty() || any_matches(&output.resets_in, event);
    let field = |event: &&Value| {
        let at = output.resets.iter().find_map(|pointer| from_field(pointer.first(event)?, now))?;
        is_in_window(at, &event.to_string(), now).then_some(at)
    };
    let text = |text: &String| {
        let text = normalize(text);
        from_text(&text, now).filter(|at| is_in_window(*at, &text, now))
    };
    events
        .iter()
        .filter(counts)
        .filter_map(field)
        .max()
        .or_else(|| events.iter().filter(|_| given_up).find_map(wait))
        .or_else(|| texts.iter().find_map(text))
}

/// The names of limit windows, with their lengths in hours.
static WINDOWS: LazyLock<Vec<(Regex, u64)>> = LazyLock::new(|| {
    let windows = [
        (r"\bhourly\b|per[ _-]?hour\b", 1),
        (r"\b(?:five|5)[ _-]?(?:hours?|hrs?|h)\b|\bsession limit", 5),
        (r"\bdaily\b|per[ _-]?day\b|\b24[ _-]?h|\b(?:one|1)[ _-]?day\b", 24),
        (r"\bweek|(?:\b|_)(?:seven|7)[ _-]?day", 7 * 24),
        (r"\bmonth|\b30[ _-]?day|spend(?:ing)?[ _-](?:cap|limit)", 31 * 24),
    ];
    windows.into_iter().filter_map(|(name, hours)| Some((compile(name)?, hours))).collect()
});

/// Returns true if a reset time is no further away than the longest window that a text names.
fn is_in_window(at: Timestamp, text: &str, now: Timestamp) -> bool {
    let named = WINDOWS.iter().filter(|(name, _)| name.is_match(text));
    let longest = named.map(|(_, hours)| hours * HOUR_MS).max();
    longest.is_none_or(|window| at.since_ms(now) <= window + WINDOW_SLACK_MS)
}

/// Reads a field: seconds from now, seconds or milliseconds since the epoch, or a text.
fn from_field(value: &Value, now: Timestamp) -> Option<Timestamp> {
    match value {
        Value::Number(number) => from_number(number.as_f64()?, now),
        Value::String(text) => text.trim().parse().map_or_else(
            |_| from_text(text, now).or_else(|| from_date(&captures(&DATE, text)?, now)),
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

/// Returns the time if it is plausible. A past time is plausible: the limit has already been reset.
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
        r"(\d{4})-(\d\d)-(\d\d)(?:T|\s+at\s+|\s+)(\d\d):(\d\d)(?::(\d\d))?(?:\.\d+)?\s*([+-]\d\d:?\d\d|ZONE)?"
            .replace("ZONE", zone::PATTERN)
            .as_str(),
    )
});
static TIME_OF_DAY: LazyLock<Option<Regex>> = LazyLock::new(|| {
    compile(&format!(
        concat!(
            r"\b{}\w*[^\d\n]{{0,40}}?",
            r"(?:(?P<weekday>mon|tue|wed|thu|fri|sat|sun)[a-z]*,?\s+(?:at\s+)?)?",
            r"(?:(?P<month>jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?\s+(?P<day>\d{{1,2}})(?:st|nd|rd|th)?,?\s+(?:(?P<year>\d{{4}}),?\s+)?(?:at\s+)?)?",
            r"(?:(?P<tomorrow>tomorrow),?\s+(?:at\s+)?)?",
            r"(?P<hour>\d{{1,2}})(?::(?P<minute>\d\d))?(?::\d\d)?\s*(?:(?P<half>[ap])\.?m\b\.?)?",
            r"\s*(?P<zone>{})?(?:\s*(?P<next>tomorrow)\b)?",
        ),
        KEYWORD,
        zone::PATTERN
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
    if let Some(date) = captures(&DATE, text) {
        // A text with a date is not searched for a duration or a time of day, even if the date is
        // invalid.
        return epoch().or_else(|| from_date(&date, now));
    }
    epoch()
        .or_else(|| from_duration(text, now))
        .or_else(|| {
            let seconds = captures(&RETRY_AFTER, text)?.get(1)?.as_str().parse().ok()?;
            from_number(seconds, now)
        })
        .or_else(|| from_time_of_day(text, now))
}

/// Reads a date with a time. A time without a zone is in UTC.
fn from_date(date_match: &Captures<'_>, now: Timestamp) -> Option<Timestamp> {
    let part = |n| date_match.get(n).map_or(Some(0), |m| m.as_str().parse::<i8>().ok());
    let year = date_match.get(1)?.as_str().parse().ok()?;
    let date = Date::new(year, part(2)?, part(3)?).ok()?;
    let time = Time::new(part(4)?, part(5)?, part(6)?, 0).ok()?;
    let zone = match date_match.get(7) {
        Some(name) => zone::find(name.as_str())?,
        None => TimeZone::UTC,
    };
    if_plausible(timestamp(&DateTime::from_parts(date, time).to_zoned(zone).ok()?)?, now)
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
/// A time without a zone is in UTC. Returns `None` for an unknown zone.
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
    let zone = match time_match.name("zone") {
        Some(name) => zone::find(name.as_str())?,
        None => TimeZone::UTC,
    };
    let millis = i64::try_from(now.0).ok()?;
    let local_now = jiff::Timestamp::from_millisecond(millis).ok()?.to_zoned(zone.clone());
    let today = local_now.date();
    let earliest = local_now.checked_sub(Span::new().minutes(JUST_PAST_MINUTES)).ok()?;
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
            .find(|z| *z > earliest)?
    } else if time_match.name("tomorrow").or(time_match.name("next")).is_some() {
        on_date(day(1)?)?
    } else {
        (0..=2).filter_map(day).filter_map(on_date).find(|z| *z > earliest)?
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
            ("resets 2pm (UTC)", "2026-11-23T14:00:00Z"),
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
    fn reset_time_a_few_minutes_past_is_today() {
        for (now, expected) in [
            (NOW.after_ms(8 * MINUTE_MS + 59_999), "2026-11-22T15:18:00Z"),
            (NOW.after_ms(14 * MINUTE_MS), "2026-11-22T15:18:00Z"),
            (NOW.after_ms(40 * MINUTE_MS), "2026-11-23T15:18:00Z"),
        ] {
            assert_eq!(from_text("or try again at 3:18 PM.", now), at(expected), "{now:?}");
        }
        assert_eq!(from_text("resets Sun 3:05pm", NOW), at("2026-11-22T15:05:00Z"));
    }

    #[test]
    fn reset_time_is_read_in_the_zone_of_the_text() {
        for (text, utc) in [
            ("resets 9pm (Europe/Budapest)", Some("2026-11-22T20:00:00Z")),
            ("resets 9pm Europe/Budapest", Some("2026-11-22T20:00:00Z")),
            ("resets 9am PST", Some("2026-11-22T17:00:00Z")),
            ("resets at 11:30 AM (EST)", Some("2026-11-22T16:30:00Z")),
            ("resets 18:00 UTC+2", Some("2026-11-22T16:00:00Z")),
            ("resets 11pm (GMT+05:30)", Some("2026-11-22T17:30:00Z")),
            ("resets tomorrow at 3am (UTC)", Some("2026-11-23T03:00:00Z")),
            ("resets 3am UTC tomorrow", Some("2026-11-23T03:00:00Z")),
            ("access on 2026-11-23 at 00:00 CET", Some("2026-11-22T23:00:00Z")),
            ("resets 9pm (Middle/Earth)", None),
            ("resets 9pm (local time)", None),
            ("resets 9pm XYZT", None),
            ("access on 2026-11-23 at 00:00 QQT", None),
        ] {
            assert_eq!(from_text(text, NOW), utc.and_then(at), "{text}");
        }
    }

    #[test]
    fn reset_time_beyond_the_window_of_the_limit_is_unknown() {
        let preset = crate::agent::preset::builtin("claude").unwrap();
        let find = |event: &str, text: &str| {
            let event = serde_json::from_str(event).unwrap();
            find(&preset, &[&event], &[text.to_owned()], false, NOW)
        };
        let none = "{}";
        for (text, utc) in [
            ("You've hit your session limit · resets 7am (UTC)", None),
            ("You've hit your 5-hour limit · resets 2pm (UTC)", None),
            ("You've hit your session limit · resets 8pm (UTC)", Some("2026-11-22T20:00:00Z")),
            ("daily limit reached, resets 7am (UTC)", Some("2026-11-23T07:00:00Z")),
            ("weekly limit reached, resets Nov 25, 4pm (UTC)", Some("2026-11-25T16:00:00Z")),
            ("weekly limit reached, resets Dec 14, 4pm (UTC)", None),
        ] {
            assert_eq!(find(none, text), utc.and_then(at), "{text}");
        }
        let window = |status: &str, kind: &str, hours: u64| {
            let at = NOW.0 / 1000 + hours * 3600;
            format!(
                r#"{{"type":"rate_limit_event","rate_limit_info":{{"status":"{status}","rateLimitType":"{kind}","resetsAt":{at}}}}}"#
            )
        };
        let after = |hours: u64| Some(NOW.after_ms(hours * HOUR_MS));
        assert_eq!(find(&window("rejected", "five_hour", 3), ""), after(3));
        assert_eq!(find(&window("rejected", "five_hour", 16), ""), None);
        assert_eq!(find(&window("rejected", "seven_day_opus", 100), ""), after(100));
        assert_eq!(find(&window("allowed", "five_hour", 3), ""), None);
        assert_eq!(find(&window("allowed_warning", "seven_day", 100), ""), None);
    }

    #[test]
    fn latest_rejected_window_counts() {
        let preset = crate::agent::preset::builtin("claude").unwrap();
        let event = |status: &str, hours: u64| -> Value {
            serde_json::json!({"type": "rate_limit_event", "rate_limit_info": {
                "status": status, "resetsAt": NOW.0 / 1000 + hours * 3600,
            }})
        };
        let events = [
            event("rejected", 2),
            event("rejected", 90),
            event("rejected", 4),
            event("allowed", 150),
        ];
        let found = find(&preset, &events.iter().collect::<Vec<_>>(), &[], false, NOW);
        assert_eq!(found, Some(NOW.after_ms(90 * HOUR_MS)));
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
