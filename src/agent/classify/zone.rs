//! Time zones as programs print them: names, abbreviations and offsets.

use std::sync::LazyLock;

use jiff::tz::{Offset, TimeZone};
use regex::Regex;

/// A regular expression that matches the text of a zone, known or unknown. Abbreviations must be in
/// capital letters, because ordinary words may follow a time, too.
pub(super) const PATTERN: &str = r"(?:\([^()\n]{1,40}\)|(?:in\s+)?(?-i:[A-Z][A-Za-z]+/[A-Za-z_]+(?:/[A-Za-z_]+)?)|(?-i:UTC|GMT)\s?[+-]\d{1,2}(?::?\d\d)?\b|(?:utc|gmt)\b|(?-i:Z|[PMCE]T|[A-Z]{3,5})\b)";

/// Abbreviations with a single meaning, and their zones. An abbreviation that several countries use
/// is unknown.
const ABBREVIATIONS: [(&str, &str); 19] = [
    ("UTC", "+00"),
    ("GMT", "+00"),
    ("Z", "+00"),
    ("PST", "-08"),
    ("PDT", "-07"),
    ("MST", "-07"),
    ("MDT", "-06"),
    ("CDT", "-05"),
    ("EST", "-05"),
    ("EDT", "-04"),
    ("CET", "+01"),
    ("CEST", "+02"),
    ("EET", "+02"),
    ("EEST", "+03"),
    ("JST", "+09"),
    ("PT", "America/Los_Angeles"),
    ("MT", "America/Denver"),
    ("CT", "America/Chicago"),
    ("ET", "America/New_York"),
];

static OFFSET: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"^(?i:utc|gmt)?\s?([+-])(\d{1,2})(?::?(\d\d))?$").ok());

/// Parses the text of a zone. Returns `None` for an unknown zone.
pub(super) fn find(text: &str) -> Option<TimeZone> {
    let name = text.trim().trim_start_matches('(').trim_end_matches(')').trim();
    let name = name.strip_prefix("in ").unwrap_or(name).trim();
    let abbreviation = ABBREVIATIONS.iter().find(|(short, _)| short.eq_ignore_ascii_case(name));
    let name = abbreviation.map_or(name, |(_, zone)| zone);
    offset(name).or_else(|| {
        // A name without a slash is not looked up: it is an ambiguous abbreviation, and the
        // database would give one of its meanings.
        name.contains('/').then(|| TimeZone::get(name).ok()).flatten()
    })
}

/// Parses `+02`, `UTC+2` and `-05:30`.
fn offset(text: &str) -> Option<TimeZone> {
    let parts = OFFSET.as_ref()?.captures(text)?;
    let number = |n| parts.get(n).map_or(Some(0), |m| m.as_str().parse::<i32>().ok());
    let seconds = number(2)? * 3600 + number(3)? * 60;
    let seconds = if &parts[1] == "-" { -seconds } else { seconds };
    Some(TimeZone::fixed(Offset::from_seconds(seconds).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zone_is_found_by_name_abbreviation_and_offset() {
        for known in [
            "UTC",
            "utc",
            "Z",
            "(PST)",
            "CEST",
            "+02:00",
            "-0530",
            "UTC+2",
            "GMT-11",
            "(Europe/Berlin)",
            "in Asia/Kolkata",
            "America/Argentina/Buenos_Aires",
            "ET",
        ] {
            assert!(find(known).is_some(), "{known}");
        }
        for unknown in ["IST", "CST", "XYZ", "(local time)", "Middle/Earth", "UTC+99", ""] {
            assert!(find(unknown).is_none(), "{unknown}");
        }
    }
}
