//! `pelton log verify`.

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::Args;
use client::TopicId;
use engine::boot::DamagedRange;
use engine::inspect::{self, Directory, Event, Finding, Kept, Lost, Summary, TopicEntry, Verdict};
use engine::layout::FilePath;
use engine::log::damage::END_UNKNOWN;
use engine::port::{Disk, Fault, FileEntry};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use super::DirArgs;
use super::line::{hex, topic_name};
use crate::failure::Failure;
use crate::output;

/// Flags of `log verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    #[command(flatten)]
    dir: DirArgs,
    /// Only tell of what is damaged or torn
    #[arg(short, long)]
    quiet: bool,
    /// One JSON object per line
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: &VerifyArgs) -> Result<ExitCode, Failure> {
    let (_lock, disk) = args.dir.open()?;
    let failed = |error| super::failure(&args.dir.dir, &error);
    let mut disk = Watched { disk, bar: progress_bar() };
    let bar = disk.bar.clone();
    let mut directory = Directory::open(&mut disk).map_err(failed)?;
    bar.set_length(directory.files().iter().map(|file| file.bytes).sum());
    bar.set_position(0);
    let topics = directory.topics().clone();
    let mut printed = Ok(());
    let summary = inspect::verify(&mut directory, &mut |event| {
        if printed.is_ok() {
            printed = bar.suspend(|| args.tell(&event, &topics));
        }
    });
    bar.finish_and_clear();
    printed?;
    let summary = summary.map_err(failed)?;
    args.sum_up(&summary)?;
    if summary.is_sound() {
        return Ok(ExitCode::SUCCESS);
    }
    let refusal = summary.refusal.as_ref().map_or_else(
        || {
            "a broker starts on it all the same, and answers what is damaged with an error"
                .to_owned()
        },
        |refusal| format!("a broker would not start on it: {refusal}"),
    );
    let dir = args.dir.dir.display();
    Err(Failure::Damaged(format!("{dir}: records that were acknowledged are damaged; {refusal}")))
}

impl VerifyArgs {
    fn tell(
        &self,
        event: &Event<'_>,
        topics: &BTreeMap<TopicId, TopicEntry>,
    ) -> Result<(), Failure> {
        match event {
            Event::File(finding) if self.quiet && is_fine(&finding.verdict) => Ok(()),
            Event::File(finding) if self.json => output::print(&json_line(finding).to_string()),
            Event::File(finding) => output::print(&text_line(finding, topics)),
            Event::Lost(Lost { stream, offsets, what }) if self.json => {
                let line = json!({
                    "type": "lost", "topic_id": hex(&stream.0), "partition": stream.1,
                    "offsets": [offsets.start, offsets.end], "what": what,
                });
                output::print(&line.to_string())
            }
            Event::Lost(Lost { stream: (topic, partition), offsets, what }) => {
                let name = topic_name(topics, topic);
                output::print(&format!(
                    "{name}/{partition}: MISSING offsets {}..{}: {what}",
                    offsets.start, offsets.end
                ))
            }
        }
    }

    fn sum_up(&self, summary: &Summary) -> Result<(), Failure> {
        if self.json {
            for range in &summary.quarantined {
                output::print(&quarantined(range).to_string())?;
            }
            return output::print(
                &json!({
                    "type": "summary", "is_sound": summary.is_sound(),
                    "files": summary.files, "bytes": summary.bytes,
                    "records": summary.records,
                    "records_in_journals": summary.records_in_journals,
                    "torn": summary.torn, "damaged": summary.damaged,
                    "refusal": summary.refusal.as_ref().map(ToString::to_string),
                })
                .to_string(),
            );
        }
        for range in &summary.quarantined {
            output::print(&format!("the next start: {range}"))?;
        }
        output::print(&format!(
            "{} files, {} B, {} records ({} of them in journals only), {} torn tails, {} damaged",
            summary.files,
            summary.bytes,
            summary.records,
            summary.records_in_journals,
            summary.torn,
            summary.damaged
        ))
    }
}

fn quarantined(range: &DamagedRange) -> Value {
    let to = Some(range.offsets.end).filter(|end| *end != END_UNKNOWN);
    json!({
        "type": "quarantined", "topic_id": hex(&range.topic), "partition": range.partition,
        "from": range.offsets.start, "to": to,
        "file": range.path.to_string(), "position": range.position, "what": range.what,
    })
}

const fn is_fine(verdict: &Verdict) -> bool {
    !matches!(
        verdict,
        Verdict::TornTail { .. } | Verdict::Harmless { .. } | Verdict::Corrupt { .. }
    )
}

fn text_line(finding: &Finding, topics: &BTreeMap<TopicId, TopicEntry>) -> String {
    let Finding { path, kept, verdict, .. } = finding;
    let stream = match path {
        FilePath::Segment { topic, partition, .. } => {
            format!(" {}/{partition}", topic_name(topics, topic))
        }
        _ => String::new(),
    };
    format!("{path}{stream}: {}{}", verdict_words(verdict), kept_words(path, kept))
}

fn verdict_words(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Whole => "ok".to_owned(),
        Verdict::Unused => "ok, unused".to_owned(),
        Verdict::TornTail { position } => {
            format!("torn tail at byte {position}: nothing acknowledged is missing")
        }
        Verdict::Unacknowledged => {
            "written ahead of records that a crash lost: the next start removes it".to_owned()
        }
        Verdict::Deleted => "of deleted records: the next start removes it".to_owned(),
        Verdict::Harmless { position, what } => {
            format!("damaged at byte {position}, and nothing is lost: {what}")
        }
        Verdict::Corrupt { position, offsets: Some(offsets), what } => {
            let (from, to) = (offsets.start, offsets.end);
            format!("CORRUPT at byte {position}, offsets {from}..{to}: {what}")
        }
        Verdict::Corrupt { position, offsets: None, what } => {
            format!("CORRUPT at byte {position}: {what}")
        }
    }
}

fn kept_words(path: &FilePath, kept: &Kept) -> String {
    if kept.frames == 0 {
        return String::new();
    }
    let numbers = match path {
        FilePath::Journal { .. } => "lsn",
        _ => "offsets",
    };
    format!(
        "; {} frames, {} batches, {} records, {numbers} {}..{}",
        kept.frames, kept.batches, kept.records, kept.from, kept.to
    )
}

fn json_line(finding: &Finding) -> Value {
    let Finding { path, bytes, kept, verdict } = finding;
    let (name, position, offsets, what) = match verdict {
        Verdict::Whole => ("ok", None, None, None),
        Verdict::Unused => ("unused", None, None, None),
        Verdict::TornTail { position } => ("torn", Some(position), None, None),
        Verdict::Unacknowledged => ("unacknowledged", None, None, None),
        Verdict::Deleted => ("deleted", None, None, None),
        Verdict::Harmless { position, what } => ("harmless", Some(position), None, Some(what)),
        Verdict::Corrupt { position, offsets, what } => {
            let offsets = offsets.as_ref().map(|offsets| [offsets.start, offsets.end]);
            ("corrupt", Some(position), offsets, Some(what))
        }
    };
    json!({
        "type": "file", "file": path.to_string(), "bytes": bytes, "verdict": name,
        "position": position, "offsets": offsets, "what": what,
        "frames": kept.frames, "batches": kept.batches, "records": kept.records,
        "from": kept.from, "to": kept.to,
    })
}

/// A bar on stderr where that is a terminal; nothing elsewhere.
fn progress_bar() -> ProgressBar {
    let bar = ProgressBar::new(0);
    let style = ProgressStyle::with_template("{wide_bar} {bytes} of {total_bytes}, {eta} left");
    bar.set_style(style.expect("the template is a constant that indicatif accepts"));
    bar
}

/// A disk whose reads move the bar.
struct Watched<D> {
    disk: D,
    bar: ProgressBar,
}

impl<D: Disk> Disk for Watched<D> {
    fn settle(&mut self) -> Result<(), Fault> {
        self.disk.settle()
    }

    fn list(&mut self) -> Result<Vec<FileEntry>, Fault> {
        self.disk.list()
    }

    fn read(&mut self, path: &FilePath, position: u64, into: &mut [u8]) -> Result<usize, Fault> {
        let got = self.disk.read(path, position, into)?;
        self.bar.inc(u64::try_from(got).expect("usize fits u64"));
        Ok(got)
    }

    fn write(&mut self, path: &FilePath, position: u64, bytes: &[u8]) -> Result<(), Fault> {
        self.disk.write(path, position, bytes)
    }

    fn create(&mut self, path: &FilePath, bytes: u64) -> Result<(), Fault> {
        self.disk.create(path, bytes)
    }

    fn delete(&mut self, path: &FilePath) -> Result<(), Fault> {
        self.disk.delete(path)
    }
}
