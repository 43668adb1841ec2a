//! `--from`: where to begin.

use client::Position;
use jiff::Timestamp;

/// Parses `beginning`, `end`, an offset, or `@` and a time (RFC 3339 or ms since 1970).
pub fn parse(text: &str) -> Result<Position, String> {
    match text {
        "beginning" => return Ok(Position::Beginning),
        "end" => return Ok(Position::End),
        _ => {}
    }
    if let Some(time) = text.strip_prefix('@') {
        if let Ok(ms @ 0..) = time.parse::<i64>() {
            return Ok(Position::Time(ms));
        }
        return match time.parse::<Timestamp>() {
            Ok(time) => Ok(Position::Time(time.as_millisecond())),
            Err(_) => Err(format!(
                "{time:?} is no time: give RFC 3339, as in 2026-01-31T12:00:00Z, or ms since 1970"
            )),
        };
    }
    match text.parse::<u64>() {
        Ok(offset) if offset < 1 << 63 => Ok(Position::Offset(offset)),
        _ => Err(String::from("expected beginning, end, an offset, or @TIME")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form() {
        for (text, expected) in [
            ("beginning", Position::Beginning),
            ("end", Position::End),
            ("0", Position::Offset(0)),
            ("@1700000000123", Position::Time(1_700_000_000_123)),
            ("@2023-11-14T22:13:20.123Z", Position::Time(1_700_000_000_123)),
            ("@2023-11-15T00:13:20.123+02:00", Position::Time(1_700_000_000_123)),
        ] {
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
        for text in ["", "start", "-1", "@", "@yesterday", "9223372036854775808"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
