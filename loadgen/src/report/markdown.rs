//! A sweep as Markdown: a row per cell, each with the command that makes such a run.

use std::fmt::Write;

use super::limit::{Limit, ratio_text};
use super::{Analysis, Environment, Figure, Knob, Run, Set, Spread, Sweep, Unit};
use crate::integrity::IntegrityVerdict;
use crate::validity::ValidityVerdict;

/// Columns behind those of the knobs.
const COLUMNS: [&str; 8] =
    ["records/s", "spread", "p50", "p99", "CPU/record", "limit", "ratio", "runs"];
/// Flags of a sweep that a run does not have, or that say where results go; with a value each.
const OF_SWEEPS: [&str; 7] =
    ["--vary", "--repeat", "--order-seed", "--csv", "--json", "--resume", "--slo"];
/// The same, without one.
const SWITCHES: [&str; 5] = ["--without-floor", "--dry-run", "-q", "--quiet", "--floor"];

/// The command, the machine, a table, what it says, and the commands of its rows.
///
/// # Errors
/// The set is the result of no sweep.
pub fn render_markdown(set: &Set) -> Result<String, &'static str> {
    let Some(sweep) = &set.sweep else { return Err("it is the result of no sweep") };
    let Some(first) = set.cells.first() else { return Err("it holds no run") };
    let mut text = String::new();
    let mut say = |line: &str| writeln!(text, "{line}").expect("a string takes all");
    say("```");
    say(&shell_line(&command(first, &[])));
    say("```");
    say("");
    let knobs: Vec<&str> = sweep.vary.iter().map(|knob| knob.key.as_str()).collect();
    let head: Vec<&str> = knobs.iter().copied().chain(COLUMNS).collect();
    say(&row(&head));
    say(&row(&vec!["---"; head.len()]));
    for cell in 0..sweep.cells.len() {
        let cells = cells_of(set, sweep, cell);
        say(&row(&cells.iter().map(String::as_str).collect::<Vec<_>>()));
    }
    say("");
    for note in notes(set, sweep) {
        say(&note);
    }
    say("");
    say("<details><summary>Commands of the rows</summary>");
    say("");
    say("```");
    for settings in &sweep.cells {
        let of = |Knob { key, .. }: &Knob| Some((key.clone(), settings.get(key)?.clone()));
        let settings: Vec<(String, String)> = sweep.vary.iter().filter_map(of).collect();
        say(&shell_line(&one_run(first, &settings)));
    }
    say("```");
    say("");
    say("</details>");
    Ok(text)
}

/// The machine in a sentence.
#[must_use]
pub fn machine(env: &Environment) -> String {
    let known = |text: &Option<String>| text.clone().unwrap_or_else(|| "unknown".to_owned());
    let cores = env.cores.map_or_else(|| "unknown".to_owned(), |cores| cores.to_string());
    let gibibytes = env.memory_bytes.map_or(0, |bytes| bytes >> 30);
    format!(
        "{} ({cores} CPUs), {gibibytes} GiB, Linux {}, {} on {}",
        known(&env.cpu_model),
        known(&env.kernel),
        known(&env.file_system),
        known(&env.device),
    )
}

fn row(cells: &[&str]) -> String {
    let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
    format!("| {} |", cells.join(" | "))
}

fn cells_of(set: &Set, sweep: &Sweep, cell: usize) -> Vec<String> {
    let runs: Vec<&Run> = set.runs_of(cell).collect();
    let spread = |figure: &Figure| Spread::of(runs.iter().filter_map(|run| (figure.of)(run)));
    let median = |name: &str| {
        let figure = Figure::named(name);
        figure.unit.show(spread(figure).map(|spread| spread.median))
    };
    let rates = spread(Figure::named("records_per_s"));
    let knobs =
        sweep.vary.iter().map(|knob| sweep.cells[cell].get(&knob.key).cloned().unwrap_or_default());
    let (limit, ratio) = limit(&runs);
    let not_valid =
        runs.iter().filter(|run| run.validity.verdict != ValidityVerdict::Valid).count();
    let figures = [
        Unit::PerSecond.show(rates.map(|rates| rates.median)),
        rates
            .and_then(|rates| rates.half_range_percent())
            .map_or_else(|| "--".to_owned(), |percent| format!("±{percent} %")),
        median("response_p50_ns"),
        median("response_p99_ns"),
        median("broker_cpu_ns_per_record"),
        limit,
        ratio,
        match not_valid {
            0 => runs.len().to_string(),
            _ => format!("{} ({not_valid} not valid)", runs.len()),
        },
    ];
    knobs.chain(figures).collect()
}

/// The limit that binds a cell and what it reached of it, medians.
fn limit(runs: &[&Run]) -> (String, String) {
    let none = || "--".to_owned();
    let limits = runs.iter().filter_map(|run| Limit::of(run));
    let Some(limit) = Spread::of(limits.clone().map(Limit::figure)) else {
        return (none(), none());
    };
    let text = match limits.clone().next() {
        Some(Limit::P50Ns(_)) => format!("p50 {}", Unit::Nanoseconds.show(Some(limit.median))),
        _ => Unit::BytesPerSecond.show(Some(limit.median)),
    };
    let ratios = runs.iter().filter_map(|run| Limit::of(run)?.hundredths(run));
    (text, Spread::of(ratios).map_or_else(none, |ratio| ratio_text(ratio.median) + " ×"))
}

fn notes(set: &Set, sweep: &Sweep) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(run) = set.cells.first() {
        let when = run.started_utc.as_deref().unwrap_or("at an unknown time");
        let version = &run.tool.version;
        notes.push(format!("Measured {when} by version {version} on {}.", machine(&run.env)));
    }
    let lost = |run: &&Run| run.integrity.verdict == IntegrityVerdict::Failed;
    notes.push(match set.cells.iter().filter(lost).count() {
        0 => "No run lost, repeated, reordered or changed a record.".to_owned(),
        count => format!("**{count} runs broke the proof of integrity.**"),
    });
    if sweep.interrupted {
        notes.push("**It was interrupted: not all runs were made.**".to_owned());
    }
    let failed = sweep.attempts.iter().filter(|attempt| attempt.error.is_some()).count();
    if failed > 0 {
        notes.push(format!("**{failed} runs failed.**"));
    }
    let analysis = set.analysis.clone().or_else(|| Analysis::of(set)).unwrap_or_default();
    for effect in &analysis.effects {
        let names = [("rate", "records_per_s"), ("p99", "response_p99_ns")];
        let cpu = [("CPU/record", "broker_cpu_ns_per_record")];
        let texts = names.iter().chain(&cpu).filter_map(|(short, name)| {
            Some(format!("{short} {}", effect.changes.get(*name)?.text()))
        });
        let texts = texts.collect::<Vec<_>>().join(", ");
        notes.push(format!("- {} {} → {}: {texts}", effect.knob, effect.from, effect.to));
    }
    if let Some(recommended) = &analysis.recommended {
        notes.push(format!("- recommended: {}", recommended.sentence));
    }
    notes
}

/// The words behind `pelton` of the command that made a run, without those named.
fn command(run: &Run, left_out: &[&str]) -> Vec<String> {
    let at = run.command.iter().position(|word| word == "bench").unwrap_or(0);
    let mut kept = vec!["pelton".to_owned()];
    let mut words = run.command[at..].iter();
    while let Some(word) = words.next() {
        let name = word.split('=').next().unwrap_or_default();
        // Where the file of the results was is nobody's business.
        let is_file = ["--json", "--csv"].contains(&name);
        if is_file || left_out.contains(&name) && !SWITCHES.contains(&name) {
            if !word.contains('=') {
                words.next();
            }
        } else if !left_out.contains(&name) {
            kept.push(word.clone());
        }
    }
    kept
}

/// `pelton bench run` with the flags of the sweep, and these settings.
fn one_run(run: &Run, settings: &[(String, String)]) -> Vec<String> {
    let left_out: Vec<&str> = OF_SWEEPS.into_iter().chain(SWITCHES).collect();
    let mut words = command(run, &left_out);
    if let Some(sweep) = words.iter_mut().find(|word| *word == "sweep") {
        "run".clone_into(sweep);
    }
    words.push("--floor".to_owned());
    words.extend(settings.iter().map(|(key, value)| match key.strip_prefix("broker.") {
        Some(flag) => format!("--broker={flag}={value}"),
        None => format!("--{key}={value}"),
    }));
    words
}

/// Words with quotes where a shell needs them.
fn shell_line(words: &[String]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=.,:/+%@".contains(c);
    let quoted = words.iter().map(|word| match word.chars().all(plain) && !word.is_empty() {
        true => word.clone(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    });
    quoted.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Attempt, fixture};
    use std::collections::BTreeMap;

    fn sweep() -> Set {
        let mut set = Set::new(Vec::new());
        let vary = [("acks", ["memory", "durable"])].map(|(key, values)| Knob {
            key: key.to_owned(),
            values: values.map(str::to_owned).into(),
        });
        let (mut cells, mut attempts) = (Vec::new(), Vec::new());
        for (cell, acks) in ["memory", "durable"].into_iter().enumerate() {
            cells.push(BTreeMap::from([("acks".to_owned(), acks.to_owned())]));
            for round in 0..3u32 {
                let mut run = fixture();
                let words = "/x/pelton bench sweep -q --vary acks=memory,durable --repeat 3 \
                             --slo p99<5ms --json=/tmp/x.json --rate 20k --broker spin-us=0";
                run.command = words.split(' ').map(str::to_owned).collect();
                run.load.achieved_records_per_s = Some(1_000 + u64::from(round) * 100);
                run.validity.verdict = ValidityVerdict::Valid;
                set.cells.push(run);
                let run = Some(set.cells.len() - 1);
                attempts.push(Attempt { cell, round, run, error: None });
            }
        }
        let (repeat, order_seed, interrupted) = (3, 1, false);
        set.sweep =
            Some(Sweep { vary: vary.into(), cells, repeat, order_seed, interrupted, attempts });
        set
    }

    #[test]
    fn a_row_for_each_cell_with_its_spread_and_command() {
        let text = render_markdown(&sweep()).expect("a sweep");
        assert!(text.contains(
            "pelton bench sweep -q --vary acks=memory,durable --repeat 3 --slo 'p99<5ms' --rate \
             20k --broker spin-us=0\n"
        ));
        assert!(!text.contains("/tmp/x.json") && !text.contains("/x/pelton"), "{text}");
        let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("| ")).collect();
        assert_eq!(rows.len(), 4, "{text}");
        let columns: Vec<usize> = rows.iter().map(|row| row.split(" | ").count()).collect();
        assert_eq!(columns, [9; 4]);
        assert!(rows[2].starts_with("| memory | ") && rows[2].contains("±9 %"), "{text}");
        assert!(
            text.contains("pelton bench run --rate 20k --broker spin-us=0 --floor --acks=memory")
        );
        assert!(text.contains("- acks memory → durable: rate +0 %"), "{text}");
        assert!(text.contains("No run lost"), "{text}");
    }

    #[test]
    fn what_went_wrong_is_told() {
        let mut set = sweep();
        set.cells[0].integrity.verdict = IntegrityVerdict::Failed;
        set.cells[1].validity.verdict = ValidityVerdict::Doubtful;
        let plan = set.sweep.as_mut().expect("a sweep");
        plan.interrupted = true;
        plan.attempts[5].error = Some("no".to_owned());
        let text = render_markdown(&set).expect("a sweep");
        for says in ["1 runs broke", "interrupted", "1 runs failed", "3 (1 not valid)"] {
            assert!(text.contains(says), "{says}: {text}");
        }
        assert!(render_markdown(&Set::new(vec![fixture()])).is_err());
    }

    #[test]
    fn words_are_quoted_for_a_shell() {
        let words = ["a=b", "p99<5ms", "it's", ""].map(str::to_owned);
        assert_eq!(shell_line(&words), "a=b 'p99<5ms' 'it'\\''s' ''");
    }
}
