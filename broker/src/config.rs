//! What can be set about a broker, its defaults, and what makes no sense. Where the values come
//! from (flags, environment, a file) is the command line's business.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

use engine::settings::Settings;

use crate::backend::Backend;
use crate::listen::ShardPorts;
use crate::mesh::SHARDS_MAX;
use crate::tuning::{FetchPath, Tuning};

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// Everything that can be set. Sizes are in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where everything that must last is kept. Made if it does not exist.
    pub data_dir: PathBuf,
    /// `HOST:PORT` to listen on; port 0 takes any free one.
    pub listen: String,
    /// The host that clients are told to connect to; `None`: that of `listen`.
    pub advertised_host: Option<String>,
    /// Listen on addresses that other machines can reach, though nobody is authenticated.
    pub insecure_bind: bool,
    /// What runs the shards' input and output.
    pub io: Backend,
    /// CPUs to run shards on, one after the other and round again; empty: those allowed.
    pub cores: Vec<usize>,
    /// Shards; `None`: one for each CPU of `cores`, or one.
    pub shards: Option<u16>,
    /// Whether each shard listens on a port of its own besides the shared one.
    pub shard_ports: ShardPorts,
    /// How long a shard looks for more work after traffic before it parks, in microseconds. A
    /// park and its wake-up cost about 40 µs on a virtual machine and 5 µs on bare metal. While a
    /// commit is in flight it does not park at all; with 0 it parks at once even then.
    pub spin_us: u64,
    /// This much segment space is written with zeros before the broker is ready, so that large
    /// runs go to blocks that have been written before. 0: none.
    pub prepare_bytes: u64,
    /// Most bytes of each shard's files that have served as segments and wait to serve again;
    /// what is retired beyond them is deleted.
    pub recycle_bytes: u64,
    /// Bytes of sealed segments that are read per second, to see that they are whole; 0 reads none.
    pub scrub_rate: u64,
    /// While fewer bytes are free on the device, producing is refused.
    pub free_bytes_min: u64,
    /// The shard's journal, all its files together.
    pub journal_bytes: u64,
    /// Length at which a new segment begins.
    pub segment_bytes: u64,
    /// Memory of one shard, all buffers together.
    pub memory_bytes: u64,
    /// Most connections of one shard at a time.
    pub connections_max: u32,
    /// Journal writes of one shard that may be under way at once.
    pub commits_in_flight: u32,
    /// What a partition gathers at this size or more is written straight to its segment.
    pub direct_run_bytes_min: u64,
    /// Knobs of the fetch path and the ring.
    pub tuning: Tuning,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            data_dir: PathBuf::from("pelton-data"),
            listen: "127.0.0.1:9600".to_owned(),
            advertised_host: None,
            insecure_bind: false,
            io: Backend::default(),
            cores: Vec::new(),
            shards: None,
            shard_ports: ShardPorts::Off,
            spin_us: 50,
            prepare_bytes: 0,
            recycle_bytes: 1024 * MIB,
            scrub_rate: 4 * MIB,
            free_bytes_min: 256 * MIB,
            journal_bytes: 128 * MIB,
            segment_bytes: 256 * MIB,
            memory_bytes: 256 * MIB,
            connections_max: 16_384,
            commits_in_flight: 4,
            direct_run_bytes_min: 192 * KIB,
            tuning: Tuning::default(),
        }
    }
}

impl Config {
    /// Why a broker cannot run with this: one sentence with the fix.
    pub fn invalid(&self) -> Option<String> {
        if let Err(sentence) = self.address() {
            return Some(sentence);
        }
        if let Some(sentence) = self.io.missing() {
            return Some(sentence.to_owned());
        }
        if self.io == Backend::Glommio && self.shards() > 1 {
            return Some(format!(
                "glommio runs one shard only, but there are to be {}: give --shards 1, or use \
                 --io uring",
                self.shards()
            ));
        }
        if let Some(sentence) = self.invalid_ports() {
            return Some(sentence);
        }
        if self.io == Backend::Glommio && self.tuning.has_ring_knobs() {
            let sentence = "registered-buffers, multishot and sync-method are not glommio's: \
                            leave them out, or use --io uring";
            return Some(sentence.to_owned());
        }
        if self.io == Backend::Glommio && self.tuning.fetch_path == FetchPath::SendFile {
            let sentence = "fetch-path is sendfile, which glommio does not have: use --io uring, \
                            or --fetch-path memory or direct";
            return Some(sentence.to_owned());
        }
        let bounds = [
            ("shards", u64::from(self.shards()), 1, u64::from(SHARDS_MAX)),
            ("spin-us", self.spin_us, 0, 1_000_000),
            ("prepare", self.prepare_bytes, 0, 1 << 44),
            ("recycle-bytes", self.recycle_bytes, 0, 1 << 44),
            ("scrub-rate", self.scrub_rate, 0, 1 << 40),
            ("free-bytes-min", self.free_bytes_min, 0, 1 << 44),
            ("journal-bytes", self.journal_bytes, 8 * MIB, 64 * 1024 * MIB),
            ("segment-bytes", self.segment_bytes, 4 * MIB, 64 * 1024 * MIB),
            ("memory-bytes", self.memory_bytes, 32 * MIB, 64 * 1024 * MIB),
            ("connections-max", u64::from(self.connections_max), 1, 1 << 20),
            ("commits-in-flight", u64::from(self.commits_in_flight), 1, 64),
            ("direct-run-bytes-min", self.direct_run_bytes_min, 4 * KIB, 448 * KIB),
        ];
        let mut bounds = bounds.into_iter().chain(self.tuning.bounds());
        let outside = bounds.find(|(_, value, min, max)| value < min || value > max);
        if let Some((name, value, min, max)) = outside {
            return Some(format!("{name} is {value}, but must be {min} to {max}: change it"));
        }
        self.engine_settings().invalid().map(str::to_owned)
    }

    /// How many shards there are.
    pub fn shards(&self) -> u16 {
        let cores = u16::try_from(self.cores.len()).unwrap_or(u16::MAX);
        self.shards.unwrap_or(cores.max(1))
    }

    /// Why the shards cannot have ports of their own.
    fn invalid_ports(&self) -> Option<String> {
        let port = self.address().ok()?.port();
        let is_beyond = port.checked_add(self.shards()).is_none();
        (self.shard_ports == ShardPorts::On && port != 0 && is_beyond).then(|| {
            format!(
                "shard-ports takes the {} ports behind {port}, which do not all exist: listen on \
                 a lower port",
                self.shards()
            )
        })
    }

    /// The bounds of a shard with this configuration. Memory is divided as in the engine's own
    /// preset, which is made for 256 MiB.
    pub fn engine_settings(&self) -> Settings {
        let preset = Settings::production();
        let share = |bytes: usize| {
            let bytes = u64::try_from(bytes).expect("usize fits u64");
            let scaled = u128::from(bytes) * u128::from(self.memory_bytes) / (256 << 20);
            usize::try_from(scaled).expect("bounded by memory-bytes")
        };
        let file_bytes = self.journal_bytes / u64::from(preset.journal_files);
        let mut settings = Settings {
            shards: self.shards(),
            pool_bytes: share(preset.pool_bytes),
            journal_file_bytes: file_bytes / 4096 * 4096,
            commits_in_flight: usize::try_from(self.commits_in_flight).expect("at most 64"),
            direct_run_bytes_min: usize::try_from(self.direct_run_bytes_min)
                .expect("at most 448 KiB"),
            gather_budget_bytes: share(preset.gather_budget_bytes),
            segment_bytes: self.segment_bytes,
            recycle_bytes: self.recycle_bytes,
            free_bytes_min: self.free_bytes_min,
            scrub_bytes_per_s: self.scrub_rate.div_ceil(u64::from(self.shards())),
            connections_max: usize::try_from(self.connections_max).expect("at most 2^20"),
            read_ahead_bytes_total_max: share(preset.read_ahead_bytes_total_max),
            ..preset
        };
        self.tuning.apply(&mut settings);
        settings
    }

    /// Every knob that was changed, as `name value`.
    pub(crate) fn changed_knobs(&self) -> Vec<String> {
        let rows = |config: &Config| {
            let own = [
                ("spin-us", config.spin_us.to_string()),
                ("journal-bytes", config.journal_bytes.to_string()),
                ("free-bytes-min", config.free_bytes_min.to_string()),
                ("commits-in-flight", config.commits_in_flight.to_string()),
                ("direct-run-bytes-min", config.direct_run_bytes_min.to_string()),
            ];
            own.into_iter().chain(config.tuning.rows()).collect::<Vec<_>>()
        };
        let pairs = rows(self).into_iter().zip(rows(&Config::default()));
        let changed = pairs.filter(|(mine, default)| mine != default);
        changed.map(|((name, value), _)| format!("{name} {value}")).collect()
    }

    /// The address to listen on, or why not, in one sentence with the fix.
    pub fn address(&self) -> Result<SocketAddr, String> {
        let listen = &self.listen;
        let found = listen.to_socket_addrs().map(|mut all| all.next());
        let Ok(Some(address)) = found else {
            return Err(format!(
                "listen is {listen:?}, which is no address: give HOST:PORT, as in 127.0.0.1:9600"
            ));
        };
        if !address.ip().is_loopback() && !self.insecure_bind {
            return Err(format!(
                "{listen} can be reached by other machines and nobody would be authenticated: \
                 listen on 127.0.0.1, or give --insecure-bind if the network is trusted"
            ));
        }
        Ok(address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid() {
        assert_eq!(Config::default().invalid(), None);
    }

    #[test]
    fn other_machines_are_kept_out_unless_told() {
        let open = Config { listen: "0.0.0.0:9600".to_owned(), ..Config::default() };
        assert!(open.invalid().expect("refused").contains("--insecure-bind"));
        let told = Config { insecure_bind: true, ..open };
        assert_eq!(told.invalid(), None);
    }

    #[test]
    fn there_is_a_shard_for_each_core_unless_told() {
        let cores = Config { cores: vec![0, 1], ..Config::default() };
        assert_eq!((Config::default().shards(), cores.shards()), (1, 2));
        let told = Config { shards: Some(3), ..cores };
        assert_eq!((told.shards(), told.engine_settings().shards, told.invalid()), (3, 3, None));
    }

    #[test]
    fn nonsense_is_named() {
        let narrow = Config { memory_bytes: 32 * MIB, ..Config::default() };
        assert_eq!(narrow.invalid(), None, "the smallest memory is enough");
        let large = Config { direct_run_bytes_min: 448 * KIB, ..Config::default() };
        assert_eq!(large.invalid(), None, "the largest direct run fits into a frame");
        let glommio = Config { io: Backend::Glommio, shards: Some(2), ..Config::default() };
        let sentence = glommio.invalid().expect("refused");
        assert!(sentence.contains("one shard only") || sentence.contains("without glommio"));
        for shards in [0, SHARDS_MAX + 1] {
            let many = Config { shards: Some(shards), ..Config::default() };
            let sentence = format!("shards is {shards}, but must be 1 to 64: change it");
            assert_eq!(many.invalid(), Some(sentence));
        }
        let high = Config { listen: "127.0.0.1:65534".to_owned(), ..Config::default() };
        let high = Config { shards: Some(2), shard_ports: ShardPorts::On, ..high };
        assert!(high.invalid().expect("refused").contains("the 2 ports behind 65534"));
        assert_eq!(Config { shards: Some(1), ..high }.invalid(), None);
        let listen = Config { listen: "9600".to_owned(), ..Config::default() };
        assert!(listen.invalid().expect("refused").contains("HOST:PORT"));
        let small = Config { memory_bytes: 1, ..Config::default() };
        assert!(small.invalid().expect("refused").starts_with("memory-bytes is 1"));
    }
}
