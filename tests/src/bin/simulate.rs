//! Lives through simulated worlds, one seed after the other, and says how to see a bad one
//! again. Started by `scripts/sim`.

use std::process::ExitCode;

use broker::io::sim::{Failure, Honesty};
use engine::port::Fault;
use pelton_tests::check::{Bounds, Trial, live};
use pelton_tests::workload::Load;

const USAGE: &str = "usage: scripts/sim --seed N | --seeds A..B
  [--power-loss-at K] [--fail-at K] [--short-at K] [--actions N] [--clients N] [--rebirths N]
  [--lying] [--varied]";
/// How many broken laws of one seed are printed.
const VIOLATIONS_SHOWN_MAX: usize = 12;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let Some((seeds, trial)) = parse(&words) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let mut bad = 0u32;
    for seed in seeds {
        let trial = Trial { seed, ..trial };
        let outcome = live(&trial);
        let verdict = if outcome.violations.is_empty() { "lawful" } else { "BROKEN" };
        println!(
            "seed {seed}: {verdict}, {} mutations, trace {:016x}",
            outcome.mutations, outcome.trace
        );
        for violation in outcome.violations.iter().take(VIOLATIONS_SHOWN_MAX) {
            println!("  {violation}");
        }
        if !outcome.violations.is_empty() {
            println!("  again: {}", trial.command());
            bad += 1;
        }
    }
    if bad == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn parse(words: &[String]) -> Option<(std::ops::Range<u64>, Trial)> {
    let mut seeds = None;
    let mut trial = Trial::new(0, Load { clients: 4, actions: 250 });
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let mut number = || words.next()?.parse::<u64>().ok();
        match word.as_str() {
            "--seed" => {
                let seed = number()?;
                seeds = Some(seed..seed + 1);
            }
            "--seeds" => {
                let (first, end) = words.next()?.split_once("..")?;
                seeds = Some(first.parse().ok()?..end.parse().ok()?);
            }
            "--power-loss-at" => trial.power_loss_at = Some(number()?),
            "--fail-at" => trial.failure = Some((number()?, Failure::Fault(Fault::EIO))),
            "--short-at" => trial.failure = Some((number()?, Failure::Short)),
            "--actions" => trial.load.actions = u32::try_from(number()?).ok()?,
            "--clients" => trial.load.clients = usize::try_from(number()?).ok()?,
            "--rebirths" => trial.rebirths = u32::try_from(number()?).ok()?,
            "--varied" => trial.bounds = Bounds::Varied,
            "--lying" => trial.honesty = Honesty::Lying,
            _ => return None,
        }
    }
    Some((seeds?, trial))
}
