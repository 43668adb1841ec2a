//! Lives through simulated histories, one seed after the other, counts them, and says how to see
//! a bad one again. Started by `scripts/sim`.

use std::ops::Range;
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use broker::io::sim::{Failure, Honesty};
use engine::pool::Arenas;
use engine::port::Fault;
use pelton_tests::canary::Canary;
use pelton_tests::check::{Bounds, Trial, live_within};
use pelton_tests::history::{self, Outcome, Plan};
use pelton_tests::workload::Load;

const USAGE: &str = "usage: scripts/sim --seed N | --seeds A..B | --for DURATION (90s, 20m, 2h)
  [--trace] [--lives N] [--operations N] [--canary NAME]
or one planned accident: scripts/sim --plain --seed N | --seeds A..B
  [--power-loss-at K] [--fail-at K] [--short-at K] [--actions N] [--clients N] [--rebirths N]
  [--lying] [--varied]";
/// How many broken laws of one seed are printed.
const VIOLATIONS_SHOWN_MAX: usize = 12;

/// The command of what is under way, for a panic to tell.
static UNDER_WAY: Mutex<String> = Mutex::new(String::new());

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let Some(request) = parse(&words) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        usual(panic);
        if let Ok(command) = UNDER_WAY.lock() {
            eprintln!("  again: {command}");
        }
    }));
    let bad = match request.trial {
        Some(trial) => try_plain(&request.seeds, trial),
        None => live_through(&request),
    };
    if bad == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Histories; gives how many broke a law.
fn live_through(request: &Request) -> u32 {
    let begun = Instant::now();
    let mut arenas = Arenas::default();
    let (mut sum, mut bad, mut seeds) = (Outcome::default(), 0, 0u64);
    for seed in request.seeds.clone() {
        if request.time.is_some_and(|time| begun.elapsed() >= time) {
            break;
        }
        let plan = Plan { seed, ..request.plan.clone() };
        tell_under_way(&plan.command());
        let outcome = history::live(&mut arenas, &plan);
        sum.add(&outcome);
        seeds += 1;
        let is_only = request.seeds.end - request.seeds.start == 1;
        if is_only || !outcome.violations.is_empty() {
            judge(seed, &outcome.violations, outcome.mutations, outcome.trace, &plan.command());
            bad += u32::from(!outcome.violations.is_empty());
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    let Outcome { lives, recoveries, forks, early, requests, mutations, .. } = sum;
    let first = request.seeds.start;
    println!(
        "seeds {first}..{}: {lives} lives, {recoveries} crash-recoveries of {} operations and more \
         ({forks} of them at a moment of a life that went on), {early} earlier ones, \
         {requests} operations, {mutations} disk operations, {bad} bad seeds, \
         {:.0} s, {:.0} crash-recoveries per second, commit {}",
        first + seeds,
        request.plan.operations,
        seconds,
        f64::from(u32::try_from(recoveries + early).unwrap_or(u32::MAX)) / seconds,
        std::env::var("PELTON_COMMIT").unwrap_or_else(|_| "unknown".to_owned()),
    );
    bad
}

/// Trials; gives how many broke a law.
fn try_plain(seeds: &Range<u64>, trial: Trial) -> u32 {
    let mut arenas = Arenas::default();
    let mut bad = 0;
    for seed in seeds.clone() {
        let trial = Trial { seed, ..trial };
        tell_under_way(&trial.command());
        let outcome = live_within(&mut arenas, &trial);
        judge(seed, &outcome.violations, outcome.mutations, outcome.trace, &trial.command());
        bad += u32::from(!outcome.violations.is_empty());
    }
    bad
}

fn tell_under_way(command: &str) {
    if let Ok(mut under_way) = UNDER_WAY.lock() {
        command.clone_into(&mut under_way);
    }
}

fn judge(seed: u64, violations: &[String], mutations: u64, trace: u64, command: &str) {
    let verdict = if violations.is_empty() { "lawful" } else { "BROKEN" };
    println!("seed {seed}: {verdict}, {mutations} disk operations, trace {trace:016x}");
    for violation in violations.iter().take(VIOLATIONS_SHOWN_MAX) {
        println!("  {violation}");
    }
    if !violations.is_empty() {
        println!("  again: {command} --trace");
    }
}

/// What the command line asks for.
struct Request {
    seeds: Range<u64>,
    time: Option<Duration>,
    plan: Plan,
    trial: Option<Trial>,
}

fn parse(words: &[String]) -> Option<Request> {
    let mut seeds = None;
    let mut request = Request { seeds: 0..0, time: None, plan: Plan::new(0), trial: None };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--plain" => {
                request.trial = Some(Trial::new(0, Load { clients: 4, actions: 250 }));
                continue;
            }
            "--trace" => {
                request.plan.lines = Some(|line| println!("{line}"));
                continue;
            }
            "--seeds" => {
                let (first, end) = words.next()?.split_once("..")?;
                seeds = Some(first.parse().ok()?..end.parse().ok()?);
                continue;
            }
            "--for" => {
                request.time = Some(duration(words.next()?)?);
                continue;
            }
            "--canary" => {
                request.plan.canary = Some(Canary::named(words.next()?)?);
                continue;
            }
            "--varied" => {
                request.trial.as_mut()?.bounds = Bounds::Varied;
                continue;
            }
            "--lying" => {
                request.trial.as_mut()?.honesty = Honesty::Lying;
                continue;
            }
            _ => {}
        }
        let number: u64 = words.next()?.parse().ok()?;
        match word.as_str() {
            "--seed" => seeds = Some(number..number + 1),
            "--lives" => request.plan.lives = u32::try_from(number).ok()?,
            "--operations" => request.plan.operations = number.max(1),
            word => parse_plain(word, number, request.trial.as_mut()?)?,
        }
    }
    // Each stretch of time has seeds of its own.
    let since_1970 = std::time::SystemTime::UNIX_EPOCH.elapsed().ok()?.as_secs();
    let endless = (since_1970 * 1_000_000)..u64::MAX;
    request.seeds = seeds.or_else(|| request.time.map(|_| endless))?;
    Some(request)
}

fn parse_plain(word: &str, number: u64, trial: &mut Trial) -> Option<()> {
    match word {
        "--power-loss-at" => trial.power_loss_at = Some(number),
        "--fail-at" => trial.failure = Some((number, Failure::Fault(Fault::EIO))),
        "--short-at" => trial.failure = Some((number, Failure::Short)),
        "--actions" => trial.load.actions = u32::try_from(number).ok()?,
        "--clients" => trial.load.clients = usize::try_from(number).ok()?,
        "--rebirths" => trial.rebirths = u32::try_from(number).ok()?,
        _ => return None,
    }
    Some(())
}

fn duration(text: &str) -> Option<Duration> {
    let unit = text.trim_start_matches(|digit: char| digit.is_ascii_digit());
    let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
    let seconds = match unit {
        "s" | "" => 1,
        "m" | "min" => 60,
        "h" => 3600,
        _ => return None,
    };
    Some(Duration::from_secs(number.checked_mul(seconds)?))
}
