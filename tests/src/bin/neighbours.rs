//! What a client in order notices of those who are not: its latency alone and beside them, pair
//! by pair, and what memory they cost the broker. Started by `scripts/neighbours`.

use std::path::Path;
use std::process::{Child, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use pelton_tests::broker::Broker;
use pelton_tests::crowd::{
    CONNECTION_BYTES_MAX, PROGRAM_BYTES, allow_many_files, bystander, counted, fill, rss_bytes_max,
    stalled_consumers, visit,
};
use pelton_tests::program;
use serde_json::Value;
use wire::TopicId;

const USAGE: &str =
    "usage: scripts/neighbours [--pairs N] [--beside nobody | overload | stalled | visitors]";
const PAIRS: usize = 10;
const MIB: u64 = 1 << 20;
/// What the broker may use.
const MEMORY_BYTES: u64 = 256 * MIB;
/// What the crowd asks for: more than fits the sockets of all of them.
const CROWD_BYTES: u64 = 64 * MIB;
const STALLED: u64 = 1_000;
const VISITORS: u64 = 10_000;
/// Times the rate that the broker reaches.
const OVERLOAD: u64 = 3;
/// The load of the client in order.
const CALM: &str = "--rate 2000 --batch 1rec --duration 4s --warmup 500ms --topic calm";
/// The load of the other one, which lasts longer; its rate comes with it.
const WILD: &str = "--batch 1rec --inflight 64 --topic wild";

/// What lies beside the client in order.
#[derive(Debug, Clone, Copy)]
enum Trouble {
    /// The same twice: how far apart two measurements are for no reason.
    Nobody,
    Overload,
    Stalled,
    Visitors,
}

impl Trouble {
    const ALL: [Trouble; 4] =
        [Trouble::Nobody, Trouble::Overload, Trouble::Stalled, Trouble::Visitors];

    const fn word(self) -> &'static str {
        match self {
            Trouble::Nobody => "nobody",
            Trouble::Overload => "overload",
            Trouble::Stalled => "stalled",
            Trouble::Visitors => "visitors",
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Trouble::Nobody => "nobody",
            Trouble::Overload => "three times the load that is served",
            Trouble::Stalled => "1,000 consumers that read nothing",
            Trouble::Visitors => "10,000 connections that come and go",
        }
    }
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let (mut pairs, mut troubles) = (Some(PAIRS), Trouble::ALL.to_vec());
    for flag in words.chunks(2) {
        match flag {
            [name, number] if name == "--pairs" => {
                pairs = number.parse().ok().filter(|pairs| *pairs > 0);
            }
            [name, word] if name == "--beside" => {
                troubles.retain(|trouble| trouble.word() == word);
            }
            _ => pairs = None,
        }
    }
    let Some(pairs) = pairs.filter(|_| !troubles.is_empty()) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    allow_many_files();
    for trouble in troubles {
        measure(trouble, pairs);
    }
    ExitCode::SUCCESS
}

/// A broker, and what is known of it.
struct Site {
    broker: Broker,
    folder: tempfile::TempDir,
    crowd: TopicId,
    /// Single records in a second, as many as one generator gets acknowledged.
    most: u64,
}

fn measure(trouble: Trouble, pairs: usize) {
    let folder = tempfile::tempdir().expect("a folder");
    let data_dir = folder.path().join("data");
    let memory = format!("--memory-bytes={MEMORY_BYTES}");
    let broker = Broker::start_as_shipped(&data_dir, &[&memory]);
    let settings = client::topic_settings(1);
    let crowd = bystander(broker.address()).create_topic("crowd", &settings).expect("a new topic");
    fill(broker.address(), "crowd", CROWD_BYTES);
    let mut site = Site { broker, folder, crowd, most: 0 };
    if matches!(trouble, Trouble::Overload) {
        let result = site.bench(&format!("{WILD} --duration 3s --warmup 1s"));
        site.most = result["load"]["achieved_records_per_s"].as_u64().expect("a rate");
    }
    let mut ratios = [Vec::new(), Vec::new()];
    for pair in 0..pairs {
        // Whoever comes second finds a fuller journal.
        let (alone, beside) = if pair % 2 == 0 {
            let alone = site.bench(CALM);
            (alone, site.bench_beside(trouble))
        } else {
            let beside = site.bench_beside(trouble);
            (site.bench(CALM), beside)
        };
        for (ratios, percentile) in ratios.iter_mut().zip(["p50", "p99"]) {
            ratios.push(latency(&beside, percentile) / latency(&alone, percentile));
        }
        eprint!(".");
    }
    eprintln!();
    let [p50, p99] = ratios.map(spread);
    println!("beside {}: p50 x {p50}, p99 x {p99}, {pairs} pairs", trouble.name());
    site.tell_costs(trouble);
}

impl Site {
    fn command(&self, load: &str) -> std::process::Command {
        let target = format!("pelton://{}", self.broker.address());
        let mut command = program::command(&["bench", "run", "--quiet", "--target", &target]);
        command.args(load.split_whitespace());
        command
    }

    /// What a load comes to.
    fn bench(&self, load: &str) -> Value {
        let json = self.folder.path().join("result.json");
        let mut command = self.command(load);
        command.arg("--json").arg(&json);
        program::finish(command, b"").expect_success();
        read(&json)
    }

    fn bench_beside(&self, trouble: Trouble) -> Value {
        let address = self.broker.address();
        match trouble {
            Trouble::Nobody => self.bench(CALM),
            Trouble::Overload => {
                let load = format!("{WILD} --rate {} --duration 30s", self.most * OVERLOAD);
                let wild = Wild::begin(self.command(&load));
                let result = self.bench(CALM);
                drop(wild);
                result
            }
            Trouble::Stalled => {
                let _stalled = stalled_consumers(address, self.crowd, STALLED);
                self.bench(CALM)
            }
            Trouble::Visitors => {
                let is_over = AtomicBool::new(false);
                thread::scope(|scope| {
                    scope.spawn(|| {
                        let visitors =
                            (0..VISITORS).take_while(|_| !is_over.load(Ordering::Relaxed));
                        visitors.for_each(|visitor| visit(address, self.crowd, visitor));
                    });
                    let result = self.bench(CALM);
                    is_over.store(true, Ordering::Relaxed);
                    result
                })
            }
        }
    }

    fn tell_costs(&self, trouble: Trouble) {
        let crowd = match trouble {
            Trouble::Nobody | Trouble::Overload => 0,
            Trouble::Stalled | Trouble::Visitors => STALLED,
        };
        let bound = MEMORY_BYTES + PROGRAM_BYTES + crowd * CONNECTION_BYTES_MAX;
        let used = rss_bytes_max(self.broker.pid());
        assert!(used <= bound, "{} MiB are above the bound of {} MiB", used / MIB, bound / MIB);
        let mut bystander = bystander(self.broker.address());
        println!(
            "  memory {} MiB, its bound {} MiB; {} connections, {} requests answered overloaded{}",
            used / MIB,
            bound / MIB,
            counted(&mut bystander, "connections_accepted"),
            counted(&mut bystander, "requests_overloaded"),
            if self.most > 0 { format!("; served {} records/s", self.most) } else { String::new() },
        );
    }
}

/// A load that goes on until it is dropped.
struct Wild(Child);

impl Wild {
    fn begin(mut command: std::process::Command) -> Wild {
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).stdin(Stdio::null());
        Wild(child.spawn().expect("the binary starts"))
    }
}

impl Drop for Wild {
    fn drop(&mut self) {
        // Fails only where it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn read(json: &Path) -> Value {
    let text = std::fs::read_to_string(json).expect("it was written");
    serde_json::from_str(&text).expect("it is JSON")
}

fn latency(result: &Value, percentile: &str) -> f64 {
    result["latency_ns"]["response"][percentile].as_f64().expect("enough records")
}

/// Median, and all between the first and the last.
fn spread(mut ratios: Vec<f64>) -> String {
    ratios.sort_by(f64::total_cmp);
    let (first, last) = (ratios[0], ratios[ratios.len() - 1]);
    let middle = (ratios[(ratios.len() - 1) / 2] + ratios[ratios.len() / 2]) / 2.0;
    format!("{middle:.2} ({first:.2} to {last:.2})")
}
