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
                       later), stop-broker,for=DUR (stopped, and continued that much later); \
                       e.g. '@20s kill-broker,restart=2s'";

/// One fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// From the beginning of the window.
    at: Duration,
    kind: FaultKind,
    /// How long the broker is gone.
    lasts: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FaultKind {
    /// SIGKILL; then started again on the same data and port.
    Kill,
    /// SIGSTOP; then SIGCONT.
    Stop,
}

impl FaultKind {
    const ALL: [Self; 2] = [Self::Kill, Self::Stop];

    /// Its name, and that of its one setting.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Kill => ("kill-broker", "restart"),
            Self::Stop => ("stop-broker", "for"),
        }
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = || {
            let (at, what) = text.trim().strip_prefix('@')?.split_once(char::is_whitespace)?;
            let (kind, setting) = what.trim().split_once(',')?;
            let (key, lasts) = setting.split_once('=')?;
            let kind = FaultKind::ALL
                .into_iter()
                .find(|known| known.names() == (kind.trim(), key.trim()))?;
            let duration = |text: &str| humantime::parse_duration(text.trim()).ok();
            Some(Self { at: duration(at)?, kind, lasts: duration(lasts)? })
        };
        parsed().ok_or_else(|| GRAMMAR.to_owned())
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, setting) = self.kind.names();
        let text = |duration| humantime::format_duration(duration).to_string().replace(' ', "");
        write!(f, "@{} {kind},{setting}={}", text(self.at), text(self.lasts))
    }
}

impl Fault {
    /// When its second half comes.
    fn over(&self) -> Duration {
        self.at + self.lasts
    }
}

/// What is wrong with the faults of a run, as a usage error.
pub(super) fn invalid(args: &RunArgs) -> Option<String> {
    let faults = &args.faults;
    let first = faults.first()?;
    if args.target != TargetChoice::Spawn {
        return Some(
            "--fault kills or stops a broker that the run has spawned: leave --target out, or the \
             faults"
                .to_owned(),
        );
    }
    if faults.len() > FAULTS_MAX {
        return Some(format!("--fault: at most {FAULTS_MAX} faults"));
    }
    if args.queue.mode == Mode::Queue {
        return Some(
            "--fault is for --mode topic: publishers and consumers of queues do not \
                     connect again yet"
                .to_owned(),
        );
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
        for text in ["@20s kill-broker,restart=2s", "@1m500ms stop-broker,for=10ms"] {
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
        let target = "pelton://h:1".parse().expect("an address");
        assert!(reason(RunArgs { target, ..good.clone() }).contains("has spawned"));
        let acks = AcksChoice::Memory;
        assert!(reason(RunArgs { acks, ..good.clone() }).contains("written or durable"));
        let acks = AcksChoice::Memory;
        let stop = with(&["@1s stop-broker,for=1s"]);
        assert_eq!(invalid(&RunArgs { acks, ..stop }), None);
        let broker_flags = vec!["shard-ports=on".to_owned()];
        assert!(reason(RunArgs { broker_flags, ..good }).contains("shard ports"));
    }
}
