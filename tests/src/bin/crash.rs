//! Real brokers that are killed, lose power, run out of space, and find flipped bits. Started by
//! `scripts/crash`.

use std::process::ExitCode;
use std::time::Instant;

use pelton_tests::crash::FileSystem;
use pelton_tests::crash::cuts::{Load, cut_power};
use pelton_tests::crash::flips::flip_bits;
use pelton_tests::crash::full::fill_and_resume;
use pelton_tests::crash::kill::survive;
use pelton_tests::crash::read_only::turn_read_only;
use pelton_tests::crash::stalled::stand_still;

const USAGE: &str = "usage: scripts/crash kill [--cycles N] [--io uring|glommio]
       scripts/crash full [--cycles N]            (ext4 and xfs on loop devices: needs root)
       scripts/crash read-only                    (ext4 on a loop device: needs root)
       scripts/crash stalled                      (ext4 on loop devices: needs root)
       scripts/crash flips [--count N] [--seed N]
       scripts/crash cuts [--points N] [--seed N] [--on ext4|xfs] [--load durable|mixed|written]
                                                  (file systems on a FUSE file: needs root)
Everything happens in temporary folders, and is gone at the end.";
/// Cycles on one directory, before another one begins: what has survived is read in each.
const CYCLES_PER_DIRECTORY: u64 = 25;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let Some((command, flags)) = words.split_first() else { return usage() };
    let Some(flags) = parse(flags) else { return usage() };
    let number = |name: &str, default: u64| match flags.iter().find(|(flag, _)| flag == name) {
        Some((_, value)) => value.parse().ok(),
        None => Some(default),
    };
    let begin = Instant::now();
    let told = match command.as_str() {
        "kill" => number("cycles", 500).map(|cycles| kill(cycles, &flags)),
        "full" => number("cycles", 50).map(full),
        "read-only" => Some(turn_read_only().map(|served| format!("{served:?}"))),
        "stalled" => Some(stand_still().map(|stood| format!("{stood:?}"))),
        "cuts" => number("points", 1000)
            .and_then(|points| Some(cuts(points, number("seed", 1)?, on(&flags)?, load(&flags)?))),
        "flips" => number("count", 200).and_then(|count| Some(flips(number("seed", 1)?, count))),
        _ => None,
    };
    match told {
        None => usage(),
        Some(Err(sentence)) => {
            eprintln!("{sentence}");
            ExitCode::FAILURE
        }
        Some(Ok(sentence)) => {
            println!("{sentence} in {:.0} s: nothing lost", begin.elapsed().as_secs_f64());
            ExitCode::SUCCESS
        }
    }
}

fn kill(cycles: u64, flags: &[(String, String)]) -> Result<String, String> {
    let io = flags.iter().find(|(flag, _)| flag == "io");
    let flags: Vec<String> = io.iter().map(|(_, io)| format!("--io={io}")).collect();
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let mut records = 0;
    let mut done = 0;
    while done < cycles {
        let count = CYCLES_PER_DIRECTORY.min(cycles - done);
        let dir = tempfile::tempdir().map_err(|error| format!("no folder: {error}"))?;
        records += survive(dir.path(), done, count, &flags);
        done += count;
        eprintln!("{done} kills, {records} records verified");
    }
    Ok(format!("{done} kill -9 cycles, {records} records verified"))
}

fn full(cycles: u64) -> Result<String, String> {
    let mut told = Vec::new();
    for kind in FileSystem::ALL {
        let fillings = fill_and_resume(kind, cycles)?;
        told.push(format!("{} {cycles} cycles: {fillings:?}", kind.name()));
        eprintln!("{}", told.join("; "));
    }
    Ok(format!("full file systems, {}", told.join("; ")))
}

/// On each of these file systems its share of the points, and of that each load's.
fn cuts(points: u64, seed: u64, on: &[FileSystem], loads: &[Load]) -> Result<String, String> {
    let mut told = Vec::new();
    let lives = on.iter().flat_map(|&kind| loads.iter().map(move |&load| (kind, load)));
    let mut left = (points, u64::try_from(on.len() * loads.len()).expect("few"));
    for (kind, load) in lives {
        let share = left.0.div_ceil(left.1);
        left = (left.0 - share, left.1 - 1);
        if share == 0 {
            continue;
        }
        let cuts = cut_power(kind, load, share, seed)?;
        told.push(format!("{}, {}: {}", kind.name(), load.name(), cuts.told()));
        eprintln!("{}", told[told.len() - 1]);
    }
    Ok(format!("power cuts,\n{}\n{points} cuts", told.join("\n")))
}

/// The file systems that the flags name; all without them.
fn on(flags: &[(String, String)]) -> Option<&'static [FileSystem]> {
    chosen(flags, "on", &FileSystem::ALL, FileSystem::name)
}

fn load(flags: &[(String, String)]) -> Option<&'static [Load]> {
    chosen(flags, "load", &Load::ALL, Load::name)
}

fn chosen<T: Copy>(
    flags: &[(String, String)],
    flag: &str,
    all: &'static [T],
    name: impl Fn(T) -> &'static str,
) -> Option<&'static [T]> {
    let Some((_, wanted)) = flags.iter().find(|(name, _)| name == flag) else { return Some(all) };
    let index = all.iter().position(|&one| name(one) == wanted)?;
    Some(&all[index..=index])
}

fn flips(seed: u64, count: u64) -> Result<String, String> {
    Ok(format!("{count} flipped bits: {:?}", flip_bits(seed, count)))
}

fn parse(words: &[String]) -> Option<Vec<(String, String)>> {
    let (pairs, rest) = words.as_chunks::<2>();
    let flag =
        |[name, value]: &[String; 2]| Some((name.strip_prefix("--")?.to_owned(), value.clone()));
    rest.is_empty().then(|| pairs.iter().map(flag).collect())?
}

fn usage() -> ExitCode {
    eprintln!("{USAGE}");
    ExitCode::from(2)
}
