//! Commands that work on results: pages and exports, the same run again, and the schemas.

use clap::{Args, ValueEnum};
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};
use schemars::schema_for;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::{AB_SCHEMA, Ab, BACKLOG_SCHEMA, Backlog, CURVE_SCHEMA, Curve, MAX_SCHEMA, Max};
use super::{BenchArgs, EXIT_OK, RunError, ServeFlags, bench, write_text};
use super::{SOAK_SCHEMA, Soak, VERIFY_SCHEMA, Verified};
use crate::latency::Latencies;
use crate::page::{Document, page};
use crate::report::{FIGURES, RUN_SCHEMA, Run, SET_SCHEMA, Set, render_markdown};

/// Makes a page of a result, or other files
#[derive(Args, Clone, Debug)]
pub struct ReportArgs {
    /// A result of any command of `bench`
    #[arg(value_name = "FILE.json")]
    file: PathBuf,
    /// Write the page to this file [default: FILE.html, unless another export is asked for]
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write a row per run to this file
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Write the response times of the first run as text for HdrHistogram's plotters
    #[arg(long, value_name = "FILE")]
    hgrm: Option<PathBuf>,
    /// Write all latencies of all runs as an HdrHistogram log, a tag each
    #[arg(long, value_name = "FILE")]
    hlog: Option<PathBuf>,
    /// Write a sweep as a table in Markdown, with the commands of its rows (`-` for stdout)
    #[arg(long, value_name = "FILE")]
    md: Option<PathBuf>,
}

/// Runs the command of a result again
#[derive(Args, Clone, Debug)]
pub struct RerunArgs {
    /// A result of any command of `bench`
    #[arg(value_name = "FILE.json")]
    file: PathBuf,
    /// Write the new result to this file; the old one is left as it is
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Prints the JSON schema of a result
#[derive(Args, Clone, Debug)]
pub struct SchemaArgs {
    /// Which result
    #[arg(value_enum, default_value = "run")]
    of: SchemaOf,
}

/// In the order of [`schemas`].
#[derive(Clone, Copy, Debug, ValueEnum)]
enum SchemaOf {
    /// `bench run` and `bench ping`
    Run,
    /// Bare `bench` and `bench sweep`
    Set,
    /// `bench ab`
    Ab,
    /// `bench max`
    Max,
    /// `bench curve`
    Curve,
    /// `bench backlog`
    Backlog,
    /// `bench soak`
    Soak,
    /// `bench verify`
    Verify,
}

/// The JSON schemas of all results, by the names that results give.
#[must_use]
pub fn schemas() -> [(&'static str, serde_json::Value); 8] {
    [
        (RUN_SCHEMA, schema_for!(Run).to_value()),
        (SET_SCHEMA, schema_for!(Set).to_value()),
        (AB_SCHEMA, schema_for!(Ab).to_value()),
        (MAX_SCHEMA, schema_for!(Max).to_value()),
        (CURVE_SCHEMA, schema_for!(Curve).to_value()),
        (BACKLOG_SCHEMA, schema_for!(Backlog).to_value()),
        (SOAK_SCHEMA, schema_for!(Soak).to_value()),
        (VERIFY_SCHEMA, schema_for!(Verified).to_value()),
    ]
}

/// Prints a schema.
pub(super) fn schema(args: &SchemaArgs) -> Result<u8, RunError> {
    let (_, schema) = &schemas()[args.of as usize];
    let text = serde_json::to_string_pretty(schema).map_err(std::io::Error::from)?;
    println!("{text}");
    Ok(EXIT_OK)
}

/// Writes what is asked for.
pub(super) fn report(args: &ReportArgs) -> Result<u8, RunError> {
    let document = read_document(&args.file)?;
    let runs = document.runs();
    let others = [&args.csv, &args.hgrm, &args.hlog, &args.md].iter().any(|path| path.is_some());
    let html = match (&args.html, others) {
        (Some(path), _) => Some(path.clone()),
        (None, true) => None,
        (None, false) => Some(args.file.with_extension("html")),
    };
    let mut written = Vec::new();
    if let Some(path) = html {
        write_text(&path, &page(&document))?;
        written.push(path);
    }
    if let Some(path) = &args.csv {
        write_text(path, &csv(&runs))?;
        written.push(path.clone());
    }
    if let Some(path) = &args.hgrm {
        let response = runs.first().and_then(|run| run.histograms.get("response"));
        let response =
            response.and_then(|text| Latencies::decode(text)).ok_or_else(|| missing(&args.file))?;
        write_text(path, &response.hgrm())?;
        written.push(path.clone());
    }
    if let Some(path) = &args.hlog {
        let log = hlog(&runs).ok_or_else(|| missing(&args.file))?;
        write_text(path, &log)?;
        written.push(path.clone());
    }
    if let Some(path) = &args.md {
        let Document::Set(set) = &document else {
            return Err(RunError::Usage("--md is for the result of a sweep".to_owned()));
        };
        let text = render_markdown(set)
            .map_err(|why| RunError::Usage(format!("--md: {}: {why}", args.file.display())))?;
        if path == Path::new("-") {
            print!("{text}");
        } else {
            write_text(path, &text)?;
            written.push(path.clone());
        }
    }
    for path in written {
        println!("{}", path.display());
    }
    Ok(EXIT_OK)
}

pub(super) fn read_document(path: &Path) -> Result<Document, RunError> {
    Document::read(path).map_err(|error| RunError::Setup(error.to_string()))
}

fn missing(path: &Path) -> RunError {
    let path = path.display();
    RunError::Setup(format!("{path} holds no histograms: runs of a sweep do not keep them"))
}

/// A row per run: every figure, empty where it was not measured.
fn csv(runs: &[&Run]) -> String {
    let names = FIGURES.iter().map(|figure| figure.name);
    let head: Vec<&str> = ["started_utc", "acks", "validity"].into_iter().chain(names).collect();
    let mut text = head.join(",") + "\n";
    for run in runs {
        let first = [
            run.started_utc.clone().unwrap_or_default(),
            run.durability.acks.clone(),
            run.validity.status.clone(),
        ];
        let figures = FIGURES
            .iter()
            .map(|figure| (figure.of)(run).map_or_else(String::new, |value| value.to_string()));
        let row: Vec<String> = first.into_iter().chain(figures).collect();
        text += &(row.join(",") + "\n");
    }
    text
}

/// Each latency of each run under its own tag; none if there are none.
fn hlog(runs: &[&Run]) -> Option<String> {
    let mut bytes = Vec::new();
    let mut serializer = V2DeflateSerializer::new();
    let mut builder = IntervalLogWriterBuilder::new();
    builder.with_base_time(SystemTime::UNIX_EPOCH);
    let mut log = builder.begin_log_with(&mut bytes, &mut serializer).ok()?;
    let (mut start, mut count) = (Duration::ZERO, 0);
    for (index, run) in runs.iter().enumerate() {
        let window = Duration::from_nanos(run.load.window_ns.unwrap_or(0));
        for (name, text) in &run.histograms {
            let latencies = Latencies::decode(text)?;
            let tag = match runs.len() {
                1 => name.clone(),
                _ => format!("run{index}.{name}"),
            };
            let tag = Tag::new(&tag)?;
            log.write_histogram(latencies.histogram(), start, window, Some(tag)).ok()?;
            count += 1;
        }
        start += window;
    }
    drop(log);
    String::from_utf8(bytes).ok().filter(|_| count > 0)
}

/// Does again what the file's command line says.
pub(super) fn rerun(args: &RerunArgs, serve: &ServeFlags) -> Result<u8, RunError> {
    let document = read_document(&args.file)?;
    let path = args.file.display();
    let command = document.runs().first().map(|run| run.command.clone()).unwrap_or_default();
    let at = command.iter().position(|word| word == "bench").ok_or_else(|| {
        RunError::Setup(format!("{path} does not tell a command line of `bench`"))
    })?;
    let mut line = without_json(&command[at + 1..]);
    if let Some(seed) = order_seed(&document)
        && !line.iter().any(|word| word.starts_with("--order-seed"))
    {
        line.push(format!("--order-seed={seed}"));
    }
    if let Some(json) = &args.json {
        line.push(format!("--json={}", json.display()));
    }
    eprintln!("pelton bench {}", line.join(" "));
    let again = BenchArgs::from_line(&line).map_err(|error| {
        RunError::Setup(format!("{path}: this program does not take its command line: {error}"))
    })?;
    if line.first().is_some_and(|word| word == "rerun") {
        return Err(RunError::Setup(format!("{path} was itself made by `rerun`: give its source")));
    }
    Ok(bench(&again, serve))
}

/// What decided the order of the runs, where that was drawn.
fn order_seed(document: &Document) -> Option<u64> {
    match document {
        Document::Ab(ab) => Some(ab.order_seed),
        Document::Curve(curve) => Some(curve.order_seed),
        Document::Set(set) => set.sweep.as_ref().map(|sweep| sweep.order_seed),
        Document::Run(_)
        | Document::Max(_)
        | Document::Backlog(_)
        | Document::Soak(_)
        | Document::Verified(_) => None,
    }
}

/// The words without `--json FILE`: the old result stays.
fn without_json(words: &[String]) -> Vec<String> {
    let mut kept = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--json" => drop(words.next()),
            _ if word.starts_with("--json=") => {}
            _ => kept.push(word.clone()),
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    fn measured() -> Run {
        let mut run = crate::report::fixture();
        let mut latencies = Latencies::new();
        (0..5_000u64).for_each(|at| latencies.record(100_000 + at * 10));
        run.histograms.insert("response".to_owned(), latencies.encoded());
        run.histograms.insert("service".to_owned(), latencies.encoded());
        run.load.window_ns = Some(2_000_000_000);
        run
    }

    #[test]
    fn a_log_reads_back() {
        let (one, two) = (measured(), measured());
        let text = hlog(&[&one, &two]).expect("histograms");
        let mut tags = Vec::new();
        for entry in IntervalLogIterator::new(text.as_bytes()) {
            if let LogEntry::Interval(interval) = entry.expect("well-formed") {
                tags.push(interval.tag().expect("each has one").as_str().to_owned());
                let encoded = interval.encoded_histogram();
                let latencies = Latencies::decode(encoded).expect("a histogram");
                assert_eq!(latencies.summary(), one.latency_ns.response.clone().expect("it has"));
            }
        }
        assert_eq!(tags, ["run0.response", "run0.service", "run1.response", "run1.service"]);
        assert!(hlog(&[&crate::report::fixture()]).is_none());
    }

    #[test]
    fn rows_have_every_figure() {
        let run = measured();
        let text = csv(&[&run, &run]);
        let columns: Vec<usize> = text.lines().map(|line| line.split(',').count()).collect();
        assert_eq!(columns, [FIGURES.len() + 3; 3]);
    }

    #[test]
    fn the_old_file_is_left_out_of_a_command_line() {
        let words = ["run", "--json", "a.json", "--rate=5", "--json=b", "-q"].map(str::to_owned);
        assert_eq!(without_json(&words), ["run", "--rate=5", "-q"]);
    }
}
