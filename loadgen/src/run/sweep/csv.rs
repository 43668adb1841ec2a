//! A row per run, for other tools.

use super::plan::Plan;
use crate::report::{FIGURES, Run, Set};
use crate::validity::ValidityVerdict;

/// The header and a row for each attempt, in the order in which they were made. A figure that was
/// not measured is empty.
pub(super) fn rows(plan: &Plan, set: &Set) -> String {
    let knobs = plan.knobs.iter().map(|knob| knob.key.clone());
    let head = ["cell", "round"].into_iter().map(str::to_owned).chain(knobs);
    let figures = FIGURES.iter().map(|figure| figure.name.to_owned());
    let tail = ["validity", "started_utc", "error"].into_iter().map(str::to_owned);
    let mut text = line(head.chain(figures).chain(tail));
    let sweep = set.sweep.as_ref().expect("this is a sweep");
    for attempt in &sweep.attempts {
        let run = attempt.run.and_then(|index| set.cells.get(index));
        let place = [attempt.cell.to_string(), attempt.round.to_string()];
        let values = plan.cells[attempt.cell].values.iter().cloned();
        let figures = FIGURES.iter().map(|figure| {
            let figure = run.and_then(figure.of);
            figure.map_or_else(String::new, |figure| figure.to_string())
        });
        let tail = [
            run.map(validity).unwrap_or_default().to_owned(),
            run.and_then(|run| run.started_utc.clone()).unwrap_or_default(),
            attempt.error.clone().unwrap_or_default(),
        ];
        text += &line(place.into_iter().chain(values).chain(figures).chain(tail));
    }
    text
}

fn validity(run: &Run) -> &'static str {
    match run.validity.verdict {
        ValidityVerdict::Valid => "valid",
        ValidityVerdict::Doubtful => "doubtful",
        ValidityVerdict::Invalid => "invalid",
    }
}

/// Fields with a comma, a quote or a line break stand in quotes.
fn line(fields: impl Iterator<Item = String>) -> String {
    let quoted = fields.map(|field| match field.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", field.replace('"', "\"\"")),
        false => field,
    });
    let mut line = quoted.collect::<Vec<_>>().join(",");
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_quoted_where_they_must_be() {
        let fields = ["a", "0,1", "say \"no\"", ""].map(str::to_owned);
        assert_eq!(line(fields.into_iter()), "a,\"0,1\",\"say \"\"no\"\"\",\n");
    }
}
