//! `--fault`: what befalls a spawned broker while it is loaded, and when.

mod strike;

pub(super) use strike::Strikes;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::choices::{AcksChoice, TargetChoice, name_of};
use super::options::RunArgs;
use super::queue::Mode;

/// Most faults of a run.
const FAULTS_MAX: usize = 100;
/// How a fault is written.
const GRAMMAR: &str = "expected '@TIME KIND', the time counted from the beginning of the window, \
                       and one of: kill-broker,restart=DUR (killed, and started again that much \
                       later), stop-broker,for=DUR (stopped, and continued that much later), \
                       drop-connections (all of this run's); e.g. '@20s kill-broker,restart=2s'";

/// One fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// From the beginning of the window.
    at: Duration,
    kind: FaultKind,
    /// How long the broker is gone; no time where connections are dropped.
    lasts: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FaultKind {
    /// SIGKILL; then started again on the same data and port.
    Kill,
    /// SIGSTOP; then SIGCONT.
    Stop,
    /// All connections of producers and consumers, from their end.
    Drop,
}

impl FaultKind {
    const ALL: [Self; 3] = [Self::Kill, Self::Stop, Self::Drop];

    /// Its name, and that of its one setting.
    fn names(self) -> (&'static str, Option<&'static str>) {
        match self {
            Self::Kill => ("kill-broker", Some("restart")),
            Self::Stop => ("stop-broker", Some("for")),
            Self::Drop => ("drop-connections", None),
        }
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = || {
            let (at, what) = text.trim().strip_prefix('@')?.split_once(char::is_whitespace)?;
            let duration = |text: &str| humantime::parse_duration(text.trim()).ok();
            let (name, setting) = match what.split_once(',') {
                Some((name, setting)) => (name, Some(setting.split_once('=')?)),
                None => (what, None),
            };
            let names = (name.trim(), setting.map(|(key, _)| key.trim()));
            let kind = FaultKind::ALL.into_iter().find(|known| known.names() == names)?;
            let lasts = setting.map_or(Some(Duration::ZERO), |(_, lasts)| duration(lasts))?;
            Some(Self { at: duration(at)?, kind, lasts })
        };
        parsed().ok_or_else(|| GRAMMAR.to_owned())
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, setting) = self.kind.names();
        let text = |duration| humantime::format_duration(duration).to_string().replace(' ', "");
        write!(f, "@{} {kind}", text(self.at))?;
        match setting {
            Some(setting) => write!(f, ",{setting}={}", text(self.lasts)),
            None => Ok(()),
        }
    }
}

impl Fault {
    /// When its second half comes.
    fn over(&self) -> Duration {
        self.at + self.lasts
    }
}

/// Whether one of them ends connections, and what is on its way over them.
pub(super) fn end_connections(faults: &[Fault]) -> bool {
    faults.iter().any(|fault| fault.kind != FaultKind::Stop)
}

/// What is wrong with the faults of a run, as a usage error.
pub(super) fn invalid(args: &RunArgs) -> Option<String> {
    let faults = &args.faults;
    let first = faults.first()?;
    let befalls_broker = faults.iter().any(|fault| fault.kind != FaultKind::Drop);
    if args.target != TargetChoice::Spawn && (befalls_broker || !args.target.keeps_records()) {
        return Some(
            "--fault kills or stops a broker that the run has spawned: leave --target out, or the \
             faults (drop-connections befalls any broker)"
                .to_owned(),
        );
    }
    if faults.len() > FAULTS_MAX {
        return Some(format!("--fault: at most {FAULTS_MAX} faults"));
    }
    if args.producers == 0 || args.preload.is_some() || args.beside_reader.is_some() {
        return Some(
            "--fault needs producers to befall: not with --preload, --beside-reader or \
             --producers 0"
                .to_owned(),
        );
    }
    if args.broker_flags.iter().any(|flag| flag == "shard-ports=on") {
        return Some(
            "--fault: a broker started again has other shard ports: leave --broker \
             shard-ports=on out"
                .to_owned(),
        );
    }
    let kills = faults.iter().any(|fault| fault.kind == FaultKind::Kill);
    let is_queue = args.queue.mode == Mode::Queue;
    if kills && is_queue && args.queue.persistent_millionths() < 1_000_000 {
        return Some(
            "--fault kill-broker with --persistent-share below 1: transient messages go with the \
             process, so that nothing could be proven"
                .to_owned(),
        );
    }
    if kills && matches!(args.acks, AcksChoice::None | AcksChoice::Memory) {
        return Some(format!(
            "--fault kill-broker with --acks {}: such records may be lost with the process, so \
             that nothing could be proven; use written or durable",
            name_of(&args.acks)
        ));
    }
    for pair in faults.windows(2) {
        if let [before, after] = pair
            && after.at <= before.over()
        {
            return Some(format!(
                "--fault '{after}' begins before '{before}' is over: give them in order of time"
            ));
        }
    }
    let last = faults.last().unwrap_or(first);
    (last.over() >= args.duration).then(|| {
        format!(
            "--fault '{last}' is not over when the window closes: pass a --duration above {}",
            humantime::format_duration(last.over())
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_read_and_written_the_same_way() {
        for text in
            ["@20s kill-broker,restart=2s", "@1m500ms stop-broker,for=10ms", "@1s drop-connections"]
        {
            let fault: Fault = text.parse().expect(text);
            assert_eq!(fault.to_string(), text);
        }
        let loose: Fault = " @5s   kill-broker, restart = 1s ".parse().expect("spaces do not hurt");
        assert_eq!(loose.to_string(), "@5s kill-broker,restart=1s");
        for text in [
            "",
            "kill-broker,restart=2s",
            "@20s",
            "@20s kill-broker",
            "@20s kill-broker,for=2s",
            "@20 kill-broker,restart=2s",
            "@20s kill-broker,restart=soon",
            "@20s burn-broker,for=1s",
            "@20s drop-connections,for=1s",
            "@20s drop-connections,",
        ] {
            let error = text.parse::<Fault>().expect_err(text);
            assert!(error.contains("'@20s kill-broker,restart=2s'"), "{text}: {error}");
        }
    }

    #[test]
    fn what_cannot_befall_a_run_is_told() {
        let with = |faults: &[&str]| RunArgs {
            faults: faults.iter().map(|text| text.parse().expect(text)).collect(),
            ..RunArgs::defaults()
        };
        assert_eq!(invalid(&with(&[])), None);
        let good = with(&["@1s kill-broker,restart=1s", "@3s stop-broker,for=1s"]);
        assert_eq!(invalid(&good), None);
        let reason = |args: RunArgs| invalid(&args).expect("wrong");
        let late = reason(with(&["@9s kill-broker,restart=1s"]));
        assert!(late.contains("pass a --duration above 10s"), "{late}");
        let crossed = reason(with(&["@1s stop-broker,for=3s", "@2s stop-broker,for=1s"]));
        assert!(crossed.contains("in order of time"), "{crossed}");
        let target: TargetChoice = "pelton://h:1".parse().expect("an address");
        assert!(reason(RunArgs { target: target.clone(), ..good.clone() }).contains("has spawned"));
        assert_eq!(invalid(&RunArgs { target, ..with(&["@1s drop-connections"]) }), None);
        let mut queue = good.queue.clone();
        (queue.mode, queue.persistent_share) = (Mode::Queue, "0.5".parse().ok());
        assert!(reason(RunArgs { queue, ..good.clone() }).contains("transient messages"));
        let acks = AcksChoice::Memory;
        assert!(reason(RunArgs { acks, ..good.clone() }).contains("written or durable"));
        let acks = AcksChoice::Memory;
        let stop = with(&["@1s stop-broker,for=1s"]);
        assert_eq!(invalid(&RunArgs { acks, ..stop }), None);
        let broker_flags = vec!["shard-ports=on".to_owned()];
        assert!(reason(RunArgs { broker_flags, ..good }).contains("shard ports"));
    }
}
