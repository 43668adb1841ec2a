//! The configuration file: TOML, a flat list of keys.

use std::path::Path;

use toml::{Table, Value};

use super::layer::Layer;

/// A name is suggested for a misspelt key if it is at least this like it, from 0 to 1.
const LIKENESS_MIN: f64 = 0.7;

/// Reads a file.
pub fn read(path: &Path) -> Result<Layer, String> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    parse(&text).map_err(|error| format!("{}: {error}", path.display()))
}

fn parse(text: &str) -> Result<Layer, String> {
    let table: Table = text.parse().map_err(|error: toml::de::Error| error.to_string())?;
    let mut layer = Layer::default();
    for (key, value) in &table {
        if Layer::keys().all(|known| known != key) {
            return Err(unknown(key));
        }
        let text = value_text(value).ok_or_else(|| {
            format!("{key} is a {}: expected text, a number or a list", value.type_str())
        })?;
        layer.set(key, &text).map_err(|reason| format!("{key}: {reason}"))?;
    }
    Ok(layer)
}

fn unknown(key: &str) -> String {
    let like = |name: &&str| strsim::jaro_winkler(key, name);
    let nearest = Layer::keys().max_by(|a, b| like(a).total_cmp(&like(b)));
    match nearest.filter(|name| like(name) >= LIKENESS_MIN) {
        Some(name) => format!("there is no key {key:?}; did you mean {name:?}?"),
        None => format!(
            "there is no key {key:?}; there are {}",
            Layer::keys().collect::<Vec<_>>().join(", ")
        ),
    }
}

/// A value as its flag would have it.
fn value_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Boolean(truth) => Some(truth.to_string()),
        Value::Array(items) => {
            let texts: Option<Vec<String>> = items.iter().map(value_text).collect();
            texts.map(|texts| texts.join(","))
        }
        Value::Float(_) | Value::Datetime(_) | Value::Table(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use broker::config::Config;
    use proptest::prelude::*;

    #[test]
    fn keys_have_the_values_of_flags() {
        let text = "data_dir = '/var/lib/pelton'\nspin_us = 20\ninsecure_bind = true\n\
                    memory_bytes = '64MiB'\ncores = [0, 1]\n";
        let mut config = Config::default();
        parse(text).expect("good").apply(&mut config);
        assert_eq!(config.data_dir, Path::new("/var/lib/pelton"));
        assert_eq!((config.spin_us, config.memory_bytes), (20, 64 << 20));
        assert_eq!(config.cores, [0, 1]);
        assert!(config.insecure_bind);
    }

    fn key() -> impl Strategy<Value = &'static str> {
        prop::sample::select(Layer::keys().collect::<Vec<_>>())
    }

    /// Something that may stand behind `=`.
    fn value() -> impl Strategy<Value = String> {
        let number = prop_oneof![any::<i64>().prop_map(|n| n.to_string()), "[0-9]{1,20}"];
        let text = prop_oneof!["[ -~]{0,12}", "[0-9]{1,9}(KiB|GB|us|ms|s|x)", "[0-9,-]{1,12}"];
        prop_oneof![
            number,
            text.prop_map(|text| format!("'{}'", text.replace('\'', ""))),
            prop::collection::vec(any::<u32>(), 0..4).prop_map(|list| format!("{list:?}")),
            "(true|false|1\\.5|inf|1979-05-27)",
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        /// Whatever a file holds, it is refused with a sentence, or read.
        #[test]
        fn arbitrary_files_are_refused_or_read(text in "\\PC{0,200}") {
            let _ = parse(&text);
        }

        /// A line of a known key is refused by its name, or read; what is read is what its flag
        /// would have set, whatever else the file holds.
        #[test]
        fn lines_are_refused_by_name_or_read((key, value) in (key(), value())) {
            let line = format!("{key} = {value}\n");
            match parse(&line) {
                Ok(layer) => {
                    let table: Table = line.parse().expect("it was read");
                    let text = value_text(&table[key]).expect("it was read");
                    let mut flag = Layer::default();
                    flag.set(key, &text).expect("by the same rules");
                    prop_assert_eq!(layer, flag);
                }
                Err(reason) => {
                    let is_toml = line.parse::<Table>().is_ok();
                    prop_assert!(!is_toml || reason.starts_with(key), "{}", reason);
                }
            }
        }
    }

    #[test]
    fn misspelt_keys_get_a_suggestion() {
        let error = parse("memory_byte = 1").expect_err("unknown");
        assert!(error.contains("did you mean \"memory_bytes\"?"), "{error}");
        let error = parse("zzz = 1").expect_err("unknown");
        assert!(error.contains("there are data_dir, listen"), "{error}");
    }

    #[test]
    fn bad_values_and_bad_toml_are_named() {
        assert!(parse("spin_us = 'soon'").expect_err("no time").starts_with("spin_us: "));
        assert!(parse("spin_us = -1").expect_err("negative").starts_with("spin_us: "));
        assert!(parse("listen = 1.5").expect_err("a float").contains("listen is a float"));
        assert!(parse("[journal]\nbytes = 1").is_err());
        assert!(parse("listen = ").is_err());
    }
}
