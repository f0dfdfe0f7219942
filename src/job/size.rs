//! Sizes such as `50MiB`, `2GiB` and `500kB`.

use super::errors::ValueError;

/// The units in bytes, largest first.
const UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("kB", 1_000),
    ("B", 1),
];

/// Parses a size: a whole number with a unit.
pub(super) fn parse_size(text: &str) -> Result<u64, ValueError> {
    let error = || {
        let error = ValueError::new(format!("is not a size: \"{text}\""));
        match text.parse::<u64>() {
            Ok(bytes) => error.hint(format!("a size needs a unit, such as \"{bytes}MiB\"")),
            Err(_) => error.hint("write it like \"50MiB\", \"2GiB\" or \"500kB\""),
        }
    };
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let (_, factor) =
        UNITS.iter().find(|(name, _)| *name == unit.trim_start()).ok_or_else(error)?;
    let size = number.parse::<u64>().ok().and_then(|number| number.checked_mul(*factor));
    match size.ok_or_else(error)? {
        0 => Err(ValueError::new(format!("must be more than nothing: \"{text}\""))),
        size => Ok(size),
    }
}

/// Formats a size for people, with a binary unit and at most one decimal.
pub(crate) fn format_size(bytes: u64) -> String {
    let units = [("TiB", 1_u64 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    let Some((unit, factor)) = units.into_iter().find(|(_, factor)| bytes >= *factor) else {
        return format!("{bytes} B");
    };
    let tenths = bytes.saturating_mul(10) / factor;
    match tenths % 10 {
        0 => format!("{} {unit}", tenths / 10),
        tenth => format!("{}.{tenth} {unit}", tenths / 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_with_a_unit_are_parsed() {
        for (text, bytes) in [
            ("50MiB", 50 << 20),
            ("2 GiB", 2 << 30),
            ("500kB", 500_000),
            ("1B", 1),
            ("3TB", 3_000_000_000_000),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        let huge = format!("{}TiB", u64::MAX);
        for text in ["", "50", "MiB", "1.5GiB", "-1B", "1mib", "0MiB", "1MiB ", &huge] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_shown_with_a_binary_unit() {
        for (bytes, text) in [
            (5, "5 B"),
            (1023 << 10, "1023 KiB"),
            (50 << 20, "50 MiB"),
            ((60 << 20) + (1 << 19), "60.5 MiB"),
        ] {
            assert_eq!(format_size(bytes), text);
        }
    }
}
