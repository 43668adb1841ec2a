//! The format in which records are printed.

use std::io::{self, Write};

use client::ConsumerRecord;
use jiff::Timestamp;

/// A parsed format string.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Topic,
    Partition,
    Offset,
    Key,
    Value,
    Time,
    Headers,
}

impl Template {
    /// Parses `%t %p %o %k %v %T %h %%` and `\n \t \r \0 \\`; anything else stands for itself.
    pub fn parse(text: &str) -> Result<Template, String> {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            let part = match c {
                '%' => match chars.next() {
                    Some('t') => Part::Topic,
                    Some('p') => Part::Partition,
                    Some('o') => Part::Offset,
                    Some('k') => Part::Key,
                    Some('v') => Part::Value,
                    Some('T') => Part::Time,
                    Some('h') => Part::Headers,
                    Some('%') => {
                        plain.push('%');
                        continue;
                    }
                    other => return Err(unknown('%', other, "%t %p %o %k %v %T %h %%")),
                },
                '\\' => {
                    plain.push(match chars.next() {
                        Some('n') => '\n',
                        Some('t') => '\t',
                        Some('r') => '\r',
                        Some('0') => '\0',
                        Some('\\') => '\\',
                        other => return Err(unknown('\\', other, r"\n \t \r \0 \\")),
                    });
                    continue;
                }
                c => {
                    plain.push(c);
                    continue;
                }
            };
            if !plain.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut plain)));
            }
            parts.push(part);
        }
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        Ok(Template { parts })
    }

    /// Writes one record. Keys and values are written as they are; a missing one is empty.
    pub fn write(&self, out: &mut impl Write, record: &ConsumerRecord<'_>) -> io::Result<()> {
        for part in &self.parts {
            match part {
                Part::Text(text) => out.write_all(text.as_bytes())?,
                Part::Topic => out.write_all(record.topic.as_bytes())?,
                Part::Partition => write!(out, "{}", record.partition)?,
                Part::Offset => write!(out, "{}", record.offset)?,
                Part::Key => out.write_all(record.key.unwrap_or_default())?,
                Part::Value => out.write_all(record.value.unwrap_or_default())?,
                Part::Time => write_time(out, record.timestamp_ms)?,
                Part::Headers => write_headers(out, record)?,
            }
        }
        Ok(())
    }
}

fn unknown(introducer: char, found: Option<char>, known: &str) -> String {
    let found = found.map_or_else(String::new, String::from);
    format!("{introducer}{found} is not known here: there are {known}")
}

/// RFC 3339 in UTC with milliseconds; the plain number where that cannot say it.
pub(super) fn write_time(out: &mut impl Write, timestamp_ms: i64) -> io::Result<()> {
    match Timestamp::from_millisecond(timestamp_ms) {
        Ok(time) => write!(out, "{time:.3}"),
        Err(_) => write!(out, "{timestamp_ms}"),
    }
}

/// `name=value,name=value`.
fn write_headers(out: &mut impl Write, record: &ConsumerRecord<'_>) -> io::Result<()> {
    for (index, header) in record.headers.enumerate() {
        if index > 0 {
            out.write_all(b",")?;
        }
        out.write_all(header.key)?;
        out.write_all(b"=")?;
        out.write_all(header.value.unwrap_or_default())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::batch::{Batch, BatchBuilder};

    fn rendered(format: &str) -> String {
        let mut builder = BatchBuilder::with_capacity(64);
        let headers: [(&[u8], Option<&[u8]>); 2] = [(b"a", Some(b"1")), (b"b", None)];
        builder.push_with_headers(1_700_000_000_123, Some(b"key"), Some(b"value"), &headers);
        let batch = Batch::validate(builder.finish()).expect("valid");
        let record = batch.records().next().expect("one").expect("whole");
        let record = ConsumerRecord {
            topic: "orders",
            slot: 0,
            partition: 3,
            offset: 42,
            timestamp_ms: record.timestamp_ms,
            key: record.key,
            value: record.value,
            headers: record.headers,
        };
        let mut out = Vec::new();
        Template::parse(format).expect("good").write(&mut out, &record).expect("memory");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn tokens_and_escapes() {
        assert_eq!(rendered(r"%t %p %o %k %v\n"), "orders 3 42 key value\n");
        assert_eq!(rendered(r"%T\t%h|%%\\"), "2023-11-14T22:13:20.123Z\ta=1,b=|%\\");
        assert_eq!(rendered("Ω=%v"), "Ω=value");
        assert!(Template::parse("%x").expect_err("unknown").contains("%x"));
        assert!(Template::parse("100%").is_err());
        assert!(Template::parse(r"\q").is_err());
    }
}
