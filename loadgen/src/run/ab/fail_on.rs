//! `--fail-on`: which changes of B end with an exit code of their own.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Gates;
use crate::compare::Weighed;
use crate::report::FIGURES;

/// A figure and the change that must not be.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Gate {
    text: String,
    figure: &'static str,
    /// B / A.
    ratio: f64,
    side: Side,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Below,
    Above,
}

/// What became of one gate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GateOutcome {
    /// As it was asked for.
    pub expression: String,
    /// Whether the figure has certainly changed so much.
    pub failed: bool,
    /// Whether the figure was measured in both arms.
    pub measured: bool,
}

impl Gate {
    pub(super) fn outcome(&self, figures: &[Weighed]) -> GateOutcome {
        let found = figures.iter().find(|row| row.name == self.figure);
        let failed = found.is_some_and(|row| match self.side {
            Side::Below => row.is_below(self.ratio),
            Side::Above => row.is_above(self.ratio),
        });
        GateOutcome { expression: self.text.clone(), failed, measured: found.is_some() }
    }
}

/// `records_per_s<-3%,response_p99_ns>+5%`.
pub(super) fn parse_gates(text: &str) -> Result<Gates, String> {
    text.split(',').map(str::trim).map(gate).collect::<Result<_, _>>().map(Gates)
}

fn gate(text: &str) -> Result<Gate, String> {
    let expected =
        || format!("{text}: expected FIGURE<-N% or FIGURE>+N%, e.g. response_p99_ns>+5%");
    let at = text.find(['<', '>']).ok_or_else(expected)?;
    let (name, change) = (text[..at].trim(), text[at + 1..].trim());
    let figure = FIGURES.iter().find(|figure| figure.name == name).ok_or_else(|| {
        let like = |candidate: &str| strsim::jaro_winkler(name, candidate);
        let nearest = FIGURES.iter().max_by(|a, b| like(a.name).total_cmp(&like(b.name)));
        format!("there is no figure {name:?}; did you mean {:?}?", nearest.map_or("", |n| n.name))
    })?;
    let (side, share) = match (text.as_bytes()[at], change.strip_prefix('-'), change) {
        (b'<', Some(share), _) => (Side::Below, -percent(share)?),
        (b'>', None, share) => (Side::Above, percent(share.trim_start_matches('+'))?),
        _ => return Err(expected()),
    };
    let (text, figure) = (text.to_owned(), figure.name);
    Ok(Gate { text, figure, ratio: 1.0 + share, side })
}

/// `5%` as a share.
pub(super) fn percent(text: &str) -> Result<f64, String> {
    let number = text.trim().trim_end_matches('%').trim().parse::<f64>();
    match number {
        Ok(percent) if (0.0..100.0).contains(&percent) => Ok(percent / 100.0),
        _ => Err(format!("{text}: expected per cent from 0 to below 100, e.g. 5%")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates_are_read_and_wrong_ones_are_told() {
        let Gates(gates) = parse_gates("records_per_s<-3%, response_p99_ns>+5%").expect("good");
        assert_eq!((gates[0].side, gates[1].side), (Side::Below, Side::Above));
        assert!((gates[0].ratio - 0.97).abs() < 1e-9 && (gates[1].ratio - 1.05).abs() < 1e-9);
        for (text, says) in [
            ("records_per_s", "expected FIGURE<-N%"),
            ("record_per_s<-3%", "did you mean \"records_per_s\"?"),
            ("records_per_s<3%", "expected FIGURE<-N%"),
            ("records_per_s>-3%", "expected FIGURE<-N%"),
            ("records_per_s<-x%", "expected per cent"),
        ] {
            let error = parse_gates(text).expect_err(text);
            assert!(error.contains(says), "{text}: {error}");
        }
        let missing = gates[0].outcome(&[]);
        assert!(!missing.failed && !missing.measured);
    }
}
