//! Numbers with units: times (`500ms`, `30s`, `2m`) and sizes (`64k`, `32m`, `4g`).

use std::time::Duration;

/// The unit of a time that is written without one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TimeUnit {
    Milliseconds,
    Seconds,
}

impl TimeUnit {
    /// Returns the name in the plural.
    pub(super) fn name(self) -> &'static str {
        match self {
            TimeUnit::Milliseconds => "milliseconds",
            TimeUnit::Seconds => "seconds",
        }
    }
}

/// Units of time and their milliseconds, the largest first.
const TIME_UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// Suffixes of sizes and their bytes, the largest first.
const SIZE_UNITS: [(char, u64); 3] = [('g', 1 << 30), ('m', 1 << 20), ('k', 1 << 10)];

/// Parses decimal digits; `str::parse` would also accept a plus sign.
pub(super) fn parse_digits(word: &str) -> Option<u64> {
    if word.bytes().all(|b| b.is_ascii_digit()) { word.parse().ok() } else { None }
}

/// Parses a number with up to three decimals. Returns thousandths.
pub(super) fn parse_thousandths(word: &str) -> Option<u64> {
    let (whole, fraction) = word.split_once('.').unwrap_or((word, "0"));
    if whole.is_empty() || fraction.is_empty() || fraction.len() > 3 {
        return None;
    }
    let scale = [100, 10, 1][fraction.len() - 1];
    parse_digits(whole)?.checked_mul(1000)?.checked_add(parse_digits(fraction)? * scale)
}

/// Formats thousandths as a number without superfluous zeros.
pub(super) fn format_thousandths(thousandths: u64) -> String {
    let text = format!("{}.{:03}", thousandths / 1000, thousandths % 1000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Parses a number of bytes with an optional suffix k, m or g, in either case.
pub(super) fn parse_size(word: &str) -> Option<u64> {
    let last = word.chars().last()?.to_ascii_lowercase();
    match SIZE_UNITS.iter().find(|(suffix, _)| *suffix == last) {
        // The suffix is one byte long.
        Some((_, unit)) => parse_digits(&word[..word.len() - 1])?.checked_mul(*unit),
        None => parse_digits(word),
    }
}

/// Formats a number of bytes with the largest suffix that divides it.
pub(super) fn format_size(bytes: u64) -> String {
    match SIZE_UNITS.iter().find(|(_, unit)| bytes > 0 && bytes.is_multiple_of(*unit)) {
        Some((suffix, unit)) => format!("{}{suffix}", bytes / unit),
        None => bytes.to_string(),
    }
}

/// Parses a time: a number with up to three decimals and a unit (ms, s, m, h, d), which is `bare` if there is none. The
/// time must be whole milliseconds.
pub(super) fn parse_time(word: &str, bare: TimeUnit) -> Option<Duration> {
    let (number, unit) = word.split_at(word.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(word.len()));
    let unit = match (unit, bare) {
        ("", TimeUnit::Milliseconds) => "ms",
        ("", TimeUnit::Seconds) => "s",
        (unit, _) => unit,
    };
    let (_, millis) = TIME_UNITS.iter().find(|(name, _)| *name == unit)?;
    let micros = parse_thousandths(number)?.checked_mul(*millis)?;
    micros.is_multiple_of(1000).then(|| Duration::from_millis(micros / 1000))
}

/// Formats milliseconds with the largest unit that divides them.
pub(super) fn format_time(millis: u64) -> String {
    match TIME_UNITS.iter().find(|(_, unit)| millis > 0 && millis.is_multiple_of(*unit)) {
        Some((name, unit)) => format!("{}{name}", millis / unit),
        None => "0".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_take_units_and_up_to_three_decimals() {
        let seconds = |word| parse_time(word, TimeUnit::Seconds).map(|time| time.as_millis());
        for (word, millis) in [
            ("30", 30_000),
            ("30s", 30_000),
            ("0", 0),
            ("500ms", 500),
            ("1.5s", 1500),
            ("2.002", 2002),
            ("2m", 120_000),
            ("0.5m", 30_000),
            ("1h", 3_600_000),
            ("7d", 604_800_000),
        ] {
            assert_eq!(seconds(word), Some(millis), "{word}");
        }
        assert_eq!(parse_time("350", TimeUnit::Milliseconds), Some(Duration::from_millis(350)));
        for bad in [
            "",
            "s",
            "30 s",
            "30S",
            "30sec",
            "1.5ms",
            "-1",
            "+1",
            ".5",
            "5.",
            "1.0000",
            "1m30s",
            "1é",
            "99999999999999999999",
            "9999999999999999d",
        ] {
            assert_eq!(seconds(bad), None, "{bad:?}");
        }
        for text in ["0", "500ms", "1100ms", "30s", "10m", "1h", "7d"] {
            let time = parse_time(text, TimeUnit::Seconds).unwrap();
            assert_eq!(format_time(u64::try_from(time.as_millis()).unwrap()), text);
        }
    }

    #[test]
    fn sizes_take_suffixes() {
        for (word, bytes) in [("4096", 4096), ("64k", 65536), ("32M", 32 << 20), ("4g", 4 << 30), ("0", 0)] {
            assert_eq!(parse_size(word), Some(bytes), "{word}");
        }
        for bad in ["", "k", "m1", "1mm", "1é", "+1", "1.5m", "17179869184g", "99999999999999999999g"] {
            assert_eq!(parse_size(bad), None, "{bad:?}");
        }
        assert_eq!([0, 128, 4096, 3 << 20, 4 << 30].map(format_size), ["0", "128", "4k", "3m", "4g"]);
    }
}
