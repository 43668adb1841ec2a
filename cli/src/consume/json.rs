//! Records as JSON, one object per line.

use std::io::{self, Write};

use client::ConsumerRecord;
use serde_json::{Map, Value};

use super::template::write_time;

/// Writes one record. Bytes that are no UTF-8 stand as hexadecimal digits under a name that says
/// so: `value_hex` instead of `value`.
pub fn write(out: &mut impl Write, record: &ConsumerRecord<'_>) -> io::Result<()> {
    let mut object = Map::new();
    object.insert(String::from("topic"), Value::from(record.topic));
    object.insert(String::from("partition"), Value::from(record.partition));
    object.insert(String::from("offset"), Value::from(record.offset));
    object.insert(String::from("timestamp_ms"), Value::from(record.timestamp_ms));
    let mut time = Vec::new();
    write_time(&mut time, record.timestamp_ms)?;
    object.insert(String::from("time"), text(&time).into());
    put(&mut object, "key", record.key);
    put(&mut object, "value", record.value);
    let headers = record.headers.map(|header| {
        let mut object = Map::new();
        put(&mut object, "name", Some(header.key));
        put(&mut object, "value", header.value);
        Value::Object(object)
    });
    object.insert(String::from("headers"), Value::Array(headers.collect()));
    serde_json::to_writer(&mut *out, &object)?;
    out.write_all(b"\n")
}

fn put(object: &mut Map<String, Value>, name: &str, bytes: Option<&[u8]>) {
    let (name, value) = match bytes.map(|bytes| (bytes, std::str::from_utf8(bytes))) {
        None => (name.to_owned(), Value::Null),
        Some((_, Ok(text))) => (name.to_owned(), Value::from(text)),
        Some((bytes, Err(_))) => {
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            (format!("{name}_hex"), Value::from(hex))
        }
    };
    object.insert(name, value);
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::batch::{Batch, BatchBuilder};

    #[test]
    fn text_and_other_bytes() {
        let mut builder = BatchBuilder::with_capacity(64);
        let headers: [(&[u8], Option<&[u8]>); 2] = [(b"a", Some(b"1")), (b"b", None)];
        builder.push_with_headers(1_700_000_000_123, Some(b"k"), Some(b"\xff\x00"), &headers);
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
        write(&mut out, &record).expect("memory");
        let line = String::from_utf8(out).expect("text");
        let found: Value = serde_json::from_str(&line).expect("JSON");
        let expected = serde_json::json!({
            "topic": "orders", "partition": 3, "offset": 42, "timestamp_ms": 1_700_000_000_123u64,
            "time": "2023-11-14T22:13:20.123Z", "key": "k", "value_hex": "ff00",
            "headers": [{"name": "a", "value": "1"}, {"name": "b", "value": null}],
        });
        assert_eq!(found, expected);
        assert!(line.ends_with("}\n") && line.lines().count() == 1, "{line}");
    }
}
