//! Numbers of bytes, as people write them.

/// A number of bytes with an optional unit: B, KB, MB, GB, TB, KiB, MiB, GiB, TiB.
pub fn bytes(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '_').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = match unit.trim_start() {
        "" | "B" => 1,
        "KB" | "kB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return Err(format!("{text:?} is no size: expected e.g. 65536, 64KiB or 1GiB")),
    };
    let number: Option<u64> = number.replace('_', "").parse().ok();
    number
        .and_then(|number| number.checked_mul(factor))
        .ok_or_else(|| format!("{text:?} is no size: expected e.g. 65536, 64KiB or 1GiB"))
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn units() {
        for (text, expected) in
            [("0", 0), ("65536", 65_536), ("64KiB", 65_536), ("1 MB", 1_000_000), ("2GiB", 2 << 30)]
        {
            assert_eq!(bytes(text), Ok(expected), "{text}");
        }
        for text in ["", "KiB", "1.5MiB", "-1", "1 XB", "99999999999999999999", "99999999TiB"] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }
}
