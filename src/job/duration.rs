//! Durations such as `30m`, `90s`, `1h30m` and `500ms`.

use std::time::Duration;

use super::errors::ValueError;

/// The units in milliseconds, longest first.
const UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Parses a duration: whole numbers with the units `h`, `m`, `s` and `ms`, longest first, each unit
/// at most once.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, ValueError> {
    let error = || {
        let error = ValueError::new(format!("is not a duration: \"{text}\""));
        match text.parse::<u64>() {
            Ok(seconds) => error.hint(format!("a duration needs a unit, such as \"{seconds}s\"")),
            Err(_) => error.hint("write it like \"30m\", \"90s\", \"1h30m\" or \"500ms\""),
        }
    };
    let mut rest = text;
    let mut units = UNITS.iter();
    let mut total = 0_u64;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = rest.split_at(digits);
        let letters = after.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, after) = after.split_at(letters);
        // The search continues after the previous unit, which enforces the order.
        let (_, factor) = units.find(|(name, _)| *name == unit).ok_or_else(error)?;
        let amount = number.parse::<u64>().ok().and_then(|n| n.checked_mul(*factor));
        total = amount.and_then(|ms| total.checked_add(ms)).ok_or_else(error)?;
        rest = after;
    }
    match (text.is_empty(), total) {
        (true, _) => Err(error()),
        (false, 0) => Err(ValueError::new(format!("must be longer than nothing: \"{text}\""))),
        (false, ms) => Ok(Duration::from_millis(ms)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_with_units_are_parsed() {
        for (text, ms) in [
            ("30m", 1_800_000),
            ("90s", 90_000),
            ("1h30m", 5_400_000),
            ("500ms", 500),
            ("1s1ms", 1_001),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
    }

    #[test]
    fn other_texts_are_refused() {
        let huge = format!("{}h", u64::MAX);
        for text in [
            "", "30", "m", "1.5h", "-1s", " 1s", "1s ", "1m1h", "1s1s", "1d", "1M", "1h 2m", "0s",
            &huge,
        ] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
