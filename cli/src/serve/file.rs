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
