//! Every state that a power cut can leave of every short workload, recovered and judged.
//! Started by `scripts/images`.

use std::process::ExitCode;
use std::time::Instant;

use pelton_tests::images::{Counts, Examiner, Operation, Order, Tempo, Violation, Workload};

const USAGE: &str = "usage: scripts/images --operations 1|2|3
       scripts/images --workload NAME[,NAME..] [--tempo step|reply|burst]
         [--order oldest|newest|durable]
  names: append, commit, roll, recycle, trim, create, delete, checkpoint";
/// Most operations of a workload: each more takes eight times as long.
const OPERATIONS_MAX: u32 = 3;
/// Broken workloads that are shown.
const SHOWN_MAX: usize = 8;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let Some(workloads) = parse(&words) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let begin = Instant::now();
    let mut examiner = Examiner::default();
    let mut violations = Vec::new();
    for workload in &workloads {
        violations.extend(examiner.examine(workload));
    }
    violations.iter().take(SHOWN_MAX).for_each(show);
    let Counts { workloads, moments, images, recovered, cut_off, judged } = examiner.counts;
    println!(
        "{workloads} workloads, {moments} moments of power loss, {images} images; {recovered} \
         different ones recovered, {cut_off} left by recoveries cut off, {judged} judged in \
         {:.1} s: {} broken",
        begin.elapsed().as_secs_f64(),
        violations.len()
    );
    if violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn show(violation: &Violation) {
    println!("BROKEN at moment {}: scripts/images {}", violation.moment, violation.workload);
    violation.fates.iter().for_each(|fate| println!("    {fate}"));
    violation.broken.iter().for_each(|what| println!("  {what}"));
}

fn parse(words: &[String]) -> Option<Vec<Workload>> {
    let mut workload =
        Workload { operations: Vec::new(), tempo: Tempo::Step, order: Order::Oldest };
    let mut words = words.iter();
    let mut all = None;
    while let Some(word) = words.next() {
        let value = words.next()?.as_str();
        match (word.as_str(), value) {
            ("--operations", count) => {
                let count = count.parse().ok().filter(|count| (1..=OPERATIONS_MAX).contains(count));
                all = Some(Workload::all(count?));
            }
            ("--workload", names) => {
                let operation = |name| Operation::ALL.into_iter().find(|op| op.name() == name);
                workload.operations = names.split(',').map(operation).collect::<Option<_>>()?;
            }
            ("--tempo", name) => {
                workload.tempo = Tempo::ALL.into_iter().find(|tempo| tempo.name() == name)?;
            }
            ("--order", name) => {
                workload.order = Order::ALL.into_iter().find(|order| order.name() == name)?;
            }
            _ => return None,
        }
    }
    match all {
        Some(all) if workload.operations.is_empty() => Some(all),
        None if !workload.operations.is_empty() => Some(vec![workload]),
        _ => None,
    }
}
