//! `--from`, `--until` and `--partition`: where to begin, where to end, and what to read.

use client::Position;
use jiff::Timestamp;
use wire::limits::TOPIC_PARTITIONS_MAX;

const PLACES: &str = "an offset, or a time: RFC 3339 as in 2026-01-31T12:00:00Z, a duration as in \
                      '15m ago', or @ and ms since 1970";

/// Where to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// At what was the end when this began.
    End,
    /// Before this offset.
    Offset(u64),
    /// Before the first record whose time is at or after this, in ms since 1970.
    Time(i64),
}

/// Partitions from the first up to and with the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionRange {
    pub first: u32,
    pub last: u32,
}

/// Parses `earliest`, `latest`, `end-N`, an offset, or a time.
pub fn parse_from(text: &str) -> Result<Position, String> {
    if let Some(count) = text.strip_prefix("end-") {
        let count = count.parse().map_err(|_| format!("{count:?} is no number: expected end-N"))?;
        return Ok(Position::FromEnd(count));
    }
    match text {
        "earliest" | "beginning" => Ok(Position::Beginning),
        "latest" | "end" => Ok(Position::End),
        _ => match place(text) {
            Some(Until::Offset(offset)) => Ok(Position::Offset(offset)),
            Some(Until::Time(ms)) => Ok(Position::Time(ms)),
            _ => Err(format!("expected earliest, latest, end-N, {PLACES}")),
        },
    }
}

/// Parses `end`, an offset, or a time.
pub fn parse_until(text: &str) -> Result<Until, String> {
    match text {
        "end" | "latest" => Ok(Until::End),
        _ => place(text).ok_or_else(|| format!("expected end, {PLACES}")),
    }
}

/// Parses `3` or `0-7`.
pub fn parse_partitions(text: &str) -> Result<PartitionRange, String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (first.parse::<u32>(), last.parse::<u32>()) {
        (Ok(first), Ok(last)) if first <= last && last < TOPIC_PARTITIONS_MAX => {
            Ok(PartitionRange { first, last })
        }
        (Ok(first), Ok(last)) if first <= last => {
            Err(format!("a topic has at most {TOPIC_PARTITIONS_MAX} partitions, from 0"))
        }
        _ => Err(String::from("expected partitions as in 0,2,4-7")),
    }
}

fn place(text: &str) -> Option<Until> {
    if let Ok(offset) = text.parse::<u64>() {
        return (offset < 1 << 63).then_some(Until::Offset(offset));
    }
    let time = text.strip_prefix('@').unwrap_or(text);
    if time.len() < text.len()
        && let Ok(ms @ 0..) = time.parse::<i64>()
    {
        return Some(Until::Time(ms));
    }
    if let Some(duration) = text.strip_suffix("ago") {
        let back = humantime::parse_duration(duration.trim()).ok()?;
        let back_ms = i64::try_from(back.as_millis()).ok()?;
        return Some(Until::Time(Timestamp::now().as_millisecond().saturating_sub(back_ms)));
    }
    time.parse::<Timestamp>().ok().map(|time| Until::Time(time.as_millisecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form() {
        for (text, expected) in [
            ("beginning", Position::Beginning),
            ("earliest", Position::Beginning),
            ("end", Position::End),
            ("latest", Position::End),
            ("end-10", Position::FromEnd(10)),
            ("0", Position::Offset(0)),
            ("@1700000000123", Position::Time(1_700_000_000_123)),
            ("@2023-11-14T22:13:20.123Z", Position::Time(1_700_000_000_123)),
            ("2023-11-15T00:13:20.123+02:00", Position::Time(1_700_000_000_123)),
        ] {
            assert_eq!(parse_from(text), Ok(expected), "{text}");
        }
        for text in ["", "start", "-1", "end-", "end-x", "@", "@yesterday", "9223372036854775808"] {
            assert!(parse_from(text).is_err(), "{text}");
        }
        assert_eq!(parse_until("end"), Ok(Until::End));
        assert_eq!(parse_until("7"), Ok(Until::Offset(7)));
        assert!(parse_until("end-1").is_err() && parse_until("earliest").is_err());
    }

    #[test]
    fn a_while_ago() {
        let now = Timestamp::now().as_millisecond();
        for (text, back_ms) in [("15m ago", 900_000), ("1h30m ago", 5_400_000), ("2s ago", 2_000)] {
            let Ok(Position::Time(ms)) = parse_from(text) else { panic!("{text}") };
            assert!((0..60_000).contains(&(ms - (now - back_ms))), "{text}");
        }
        assert!(parse_from("soon ago").is_err() && parse_from("15m").is_err());
    }

    #[test]
    fn partitions_and_ranges() {
        assert_eq!(parse_partitions("3"), Ok(PartitionRange { first: 3, last: 3 }));
        assert_eq!(parse_partitions("0-7"), Ok(PartitionRange { first: 0, last: 7 }));
        for text in ["", "7-0", "a", "-1", "1-", "1-2-3", "0-10000"] {
            assert!(parse_partitions(text).is_err(), "{text}");
        }
    }
}
