//! Numbers for people: three figures at most, a unit always.

/// Bytes in decimal units: `812 B`, `3.2 MB`.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["kB", "MB", "GB", "TB"];
    if count < 1000 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1000.0;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let name = UNITS.get(unit).copied().unwrap_or_default();
    if value < 10.0 { format!("{value:.1} {name}") } else { format!("{value:.0} {name}") }
}

/// A duration in milliseconds: `0.3 ms`, `41 ms`, `1.4 s`, `2 min 5 s`.
pub fn millis(ms: f64) -> String {
    let ms = ms.max(0.0);
    if ms < 0.05 {
        "under 0.1 ms".to_owned()
    } else if ms < 9.95 {
        format!("{ms:.1} ms")
    } else if ms < 999.5 {
        format!("{ms:.0} ms")
    } else if ms < 99_950.0 {
        format!("{:.1} s", ms / 1000.0)
    } else {
        let seconds = (ms / 1000.0).round() as u64;
        format!("{} min {} s", seconds / 60, seconds % 60)
    }
}

/// A hash short enough to compare by eye: `3f9a1c22…90be`.
pub fn short(hash: &str) -> String {
    let count = hash.chars().count();
    if count <= 14 {
        return hash.to_owned();
    }
    let head: String = hash.chars().take(8).collect();
    let tail: String = hash.chars().skip(count - 4).collect();
    format!("{head}…{tail}")
}

/// `1 passage`, `4 passages`.
pub fn plural(count: u64, one: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{} {one}s", thousands(count)) }
}

/// Digits in threes with a thin space: `12 345`.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_keep_their_unit() {
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(3_200_000), "3.2 MB");
        assert_eq!(bytes(23_400_000), "23 MB");
        assert_eq!(bytes(999_900), "1.0 MB");
        assert_eq!(millis(0.01), "under 0.1 ms");
        assert_eq!(millis(41.4), "41 ms");
        assert_eq!(millis(1_432.0), "1.4 s");
        assert_eq!(millis(125_000.0), "2 min 5 s");
    }

    #[test]
    fn hashes_shorten_by_characters_not_bytes() {
        assert_eq!(short("abcdef"), "abcdef");
        assert_eq!(short(&"ab".repeat(32)), "abababab…abab");
        assert_eq!(short(&"é".repeat(20)), "éééééééé…éééé");
    }

    #[test]
    fn counts_read_well() {
        assert_eq!(plural(1, "passage"), "1 passage");
        assert_eq!(plural(12_345, "block"), "12\u{202f}345 blocks");
        assert_eq!(thousands(7), "7");
    }
}
