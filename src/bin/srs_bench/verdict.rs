//! The meaning of a measured upload for the settings of an encoder.

/// Encoder settings, and the bit rate that they need in kbit/s: what live platforms recommend for H.264.
const SETTINGS: [(&str, u64); 6] = [
    ("1080p at 60 frames/s", 6000),
    ("1080p at 30 frames/s", 4500),
    ("720p at 60 frames/s", 3500),
    ("720p at 30 frames/s", 2500),
    ("480p at 30 frames/s", 1200),
    ("360p at 30 frames/s", 700),
];

/// Returns a verdict in words: the bit rate that leaves half of itself as a reserve, and the settings for it.
pub(super) fn upload(kbps: u64) -> String {
    let usable = rounded(kbps * 2 / 3);
    if usable < 100 {
        return format!("too slow for live video: {kbps} kbit/s upload");
    }
    let rate = match usable {
        1000.. => format!("{} Mbit/s", decimal(usable)),
        _ => format!("{usable} kbit/s"),
    };
    let settings = SETTINGS.iter().find(|(_, needed)| *needed <= usable);
    let settings = settings.map_or_else(|| "audio or very small video".to_owned(), |(name, _)| format!("up to {name}"));
    format!("good for {rate} upload with 50 % reserve: {settings}")
}

/// Rounds down to two digits.
fn rounded(kbps: u64) -> u64 {
    let mut step = 1;
    while kbps / step >= 100 {
        step *= 10;
    }
    kbps / step * step
}

/// Returns kbit/s as Mbit/s with as many decimals as needed.
fn decimal(kbps: u64) -> String {
    let text = format!("{:.1}", kbps as f64 / 1000.0);
    text.strip_suffix(".0").unwrap_or(&text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_third_of_the_line_is_the_reserve() {
        for (kbps, expected) in [
            (0, "too slow for live video: 0 kbit/s upload"),
            (149, "too slow for live video: 149 kbit/s upload"),
            (150, "good for 100 kbit/s upload with 50 % reserve: audio or very small video"),
            (1_499, "good for 990 kbit/s upload with 50 % reserve: up to 360p at 30 frames/s"),
            (6_000, "good for 4 Mbit/s upload with 50 % reserve: up to 720p at 60 frames/s"),
            (9_400, "good for 6.2 Mbit/s upload with 50 % reserve: up to 1080p at 60 frames/s"),
            (94_000, "good for 62 Mbit/s upload with 50 % reserve: up to 1080p at 60 frames/s"),
        ] {
            assert_eq!(upload(kbps), expected);
        }
    }
}
