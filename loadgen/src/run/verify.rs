//! `pelton bench verify`: proves afterwards that what a run has kept is still there.

use clap::Args;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

use super::cell;
use super::choices::TargetChoice;
use super::files::read_document;
use super::options::RunArgs;
use super::queue;
use super::site::Site;
use super::{EXIT_ERROR, EXIT_INTEGRITY, EXIT_OK, RunError, abort_on_signals, write_json};
use crate::integrity::IntegrityVerdict;
use crate::page::Document;
use crate::report::{Integrity, Proof, QueueProof, Run};

/// Name and version of the schema.
pub const VERIFY_SCHEMA: &str = "pelton.bench.verify/1";

/// Proves that the records of a run that was made with --keep are all still there
#[derive(Args, Clone, Debug)]
pub struct VerifyArgs {
    /// The result of the run
    #[arg(value_name = "FILE.json")]
    file: PathBuf,
    /// The broker that has the topic now, pelton://HOST:PORT [default: the run's, or one that is
    /// started for this on the data directory that the run has kept]
    #[arg(long, value_name = "TARGET", conflicts_with = "data_dir")]
    target: Option<TargetChoice>,
    /// The data directory, if it is elsewhere now; no broker uses it meanwhile
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Write what was found as JSON to this file (`-` for stdout)
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Print nothing
    #[arg(short, long)]
    quiet: bool,
}

/// What is still there of a run.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Verified {
    /// [`VERIFY_SCHEMA`].
    pub schema: String,
    /// The run's topic, or its queues.
    pub topic: String,
    /// Records (messages) that were acknowledged (confirmed).
    #[serde(default)]
    pub acknowledged: u64,
    /// Whether these are messages of queues.
    #[serde(default)]
    pub is_queue: bool,
    /// When the run began.
    pub run_started_utc: Option<String>,
    /// When it was looked.
    pub started_utc: String,
    /// The broker that was asked.
    pub address: String,
    /// The data directory, where it was started on one.
    pub data_dir: Option<String>,
    /// What was found.
    pub integrity: Integrity,
}

/// Where the records are.
enum Place {
    Broker(TargetChoice),
    Directory(PathBuf),
}

/// Reads and compares.
pub(super) fn run(args: &VerifyArgs) -> Result<u8, RunError> {
    let run = read_run(&args.file)?;
    let usage = |reason: String| RunError::Usage(format!("{}: {reason}", args.file.display()));
    let known = Known::of(&run).ok_or_else(|| {
        usage(
            "it does not say which records there were: only the result of `bench run --keep` does, \
             for a topic or for queues of persistent messages"
                .to_owned(),
        )
    })?;
    if let Some(reason) = known.invalid() {
        return Err(usage(reason.to_owned()));
    }
    let place = place(args, &run).map_err(usage)?;
    let flags = RunArgs { quiet: args.quiet, ..known.flags() };
    let abort = abort_on_signals()?;
    let mut site = match &place {
        Place::Broker(target) => {
            Site::open(&RunArgs { target: target.clone(), ..flags.clone() }, abort)?
        }
        Place::Directory(dir) => {
            let broker_flags = run.target.broker_flags.clone();
            Site::open_on(dir, &RunArgs { broker_flags, ..flags.clone() }, abort)?
        }
    };
    let started_utc = jiff::Timestamp::now().to_string();
    let found = match known {
        Known::Records(proof) => cell::verify(&mut site, &flags, proof)?,
        Known::Messages(proof) => queue::verify(&mut site, proof)?,
    };
    let verified = Verified {
        schema: VERIFY_SCHEMA.to_owned(),
        topic: known.names(),
        acknowledged: known.acknowledged(),
        is_queue: matches!(known, Known::Messages(_)),
        run_started_utc: run.started_utc.clone(),
        started_utc,
        address: site.address().to_owned(),
        data_dir: match &place {
            Place::Broker(_) => None,
            Place::Directory(dir) => Some(dir.display().to_string()),
        },
        integrity: found.integrity(),
    };
    drop(site);
    write_json(args.json.as_deref(), &verified)?;
    if !args.quiet && args.json.as_deref() != Some(Path::new("-")) {
        println!("{}", verified.sentence());
    }
    Ok(match verified.integrity.verdict {
        IntegrityVerdict::Ok => EXIT_OK,
        IntegrityVerdict::Failed => EXIT_INTEGRITY,
        IntegrityVerdict::NotChecked => EXIT_ERROR,
    })
}

/// What a run knows of what it has kept.
#[derive(Clone, Copy)]
enum Known<'a> {
    Records(&'a Proof),
    Messages(&'a QueueProof),
}

impl<'a> Known<'a> {
    fn of(run: &'a Run) -> Option<Self> {
        let records = run.proof.as_ref().map(Self::Records);
        records.or(run.queue_proof.as_ref().map(Self::Messages))
    }

    fn invalid(self) -> Option<&'static str> {
        match self {
            Self::Records(proof) => proof.invalid(),
            Self::Messages(proof) => proof.invalid(),
        }
    }

    /// Of a run that reads it.
    fn flags(self) -> RunArgs {
        match self {
            Self::Records(proof) => RunArgs {
                partitions: i64::from(proof.partitions),
                producers: i64::from(proof.producers),
                ..RunArgs::defaults()
            },
            Self::Messages(_) => RunArgs::defaults(),
        }
    }

    fn names(self) -> String {
        match self {
            Self::Records(proof) => proof.topic.clone(),
            Self::Messages(proof) => proof.queues.join(", "),
        }
    }

    fn acknowledged(self) -> u64 {
        match self {
            Self::Records(proof) => {
                let ranges = proof.outcomes.iter().flat_map(|row| &row.acked);
                ranges.map(|(start, end)| end - start).sum()
            }
            Self::Messages(proof) => proof.confirmed_messages(),
        }
    }
}

fn read_run(path: &Path) -> Result<Run, RunError> {
    match read_document(path)? {
        Document::Run(run) => Ok(*run),
        _ => {
            let path = path.display();
            Err(RunError::Usage(format!("{path}: give the result of a single `bench run --keep`")))
        }
    }
}

fn place(args: &VerifyArgs, run: &Run) -> Result<Place, String> {
    match (&args.target, &args.data_dir) {
        (Some(target @ TargetChoice::Address(_)), _) => Ok(Place::Broker(target.clone())),
        (Some(_), _) => Err("--target is a broker that runs: pelton://HOST:PORT".to_owned()),
        (None, Some(dir)) => Ok(Place::Directory(dir.clone())),
        (None, None) if run.target.kind == "running" => {
            Ok(Place::Broker(TargetChoice::Address(run.target.address.clone())))
        }
        (None, None) => match run.target.data_dir.as_deref().map(PathBuf::from) {
            Some(dir) if dir.is_dir() => Ok(Place::Directory(dir)),
            Some(dir) => Err(format!(
                "the data directory {} is gone: where it is now is for --data-dir, a broker that \
                 serves it for --target",
                dir.display()
            )),
            None => Err("it names no data directory: pass --target or --data-dir".to_owned()),
        },
    }
}

impl Verified {
    /// In a sentence.
    #[must_use]
    pub fn sentence(&self) -> String {
        let Self { topic, acknowledged, integrity: found, .. } = self;
        let count = |count: Option<u64>| count.unwrap_or(0);
        let in_doubt = [found.in_doubt, found.in_doubt_found].map(count);
        match (found.verdict, self.is_queue) {
            (IntegrityVerdict::Ok, false) => format!(
                "ok: all {acknowledged} acknowledged records of {topic} are there once, in order \
                 and intact; of {} in doubt, {}",
                in_doubt[0], in_doubt[1]
            ),
            (IntegrityVerdict::Ok, true) => format!(
                "ok: all {acknowledged} confirmed messages of {topic} were acknowledged by a \
                 consumer, or are there once and intact; of {} in doubt, {}",
                in_doubt[0], in_doubt[1]
            ),
            (IntegrityVerdict::Failed, false) => format!(
                "FAILED: of {acknowledged} acknowledged records of {topic}, {} are lost; {} are \
                 there twice, {} out of order, {} damaged, {} unexpected",
                count(found.lost),
                count(found.duplicated),
                count(found.reordered),
                count(found.corrupted),
                count(found.unexpected)
            ),
            (IntegrityVerdict::Failed, true) => format!(
                "FAILED: of {acknowledged} confirmed messages of {topic}, {} are lost; {} are \
                 there twice, or although they were acknowledged, {} damaged, {} unexpected",
                count(found.lost),
                count(found.duplicated),
                count(found.corrupted),
                count(found.unexpected)
            ),
            (IntegrityVerdict::NotChecked, _) => format!(
                "not checked: {}",
                found.not_checked_because.as_deref().unwrap_or("nothing was read")
            ),
        }
    }
}
