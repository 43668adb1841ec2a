//! Swarm testing: each seed switches kinds of operations and accidents off, and turns knobs, so
//! that what would hide behind the usual mixture comes about.

use broker::io::sim::{Rng, Weather};
use engine::Settings;

use crate::check::Bounds;
use crate::workload::{Action, Habits};
use crate::world::Surroundings;

/// What one history is like.
#[derive(Debug, Clone)]
pub struct Swarm {
    /// Bounds of the broker; the number of shards changes from life to life.
    pub settings: Settings,
    /// How many shards there may be.
    pub shards: &'static [u16],
    /// Spare segments that are made before each start.
    pub spares: u32,
    /// Latencies of network and disk.
    pub around: Surroundings,
    /// Clients at a time.
    pub clients: usize,
    /// What they do.
    pub habits: Habits,
    /// How often lives end in each [`Death`], in that order.
    pub deaths: [u64; Death::ALL.len()],
    /// How often lives meet each [`Accident`], in that order.
    pub accidents: [u64; Accident::ALL.len()],
    /// What happens to the device in the end.
    pub damage: Option<Damage>,
}

/// How a life ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Death {
    /// The power goes in the middle of something.
    PowerLoss,
    /// The process is killed in the middle of something.
    Kill,
    /// The power goes when all is at rest.
    AtRest,
    /// It is asked to stop, and may.
    Stop,
}

impl Death {
    /// Every death.
    pub const ALL: [Death; 4] = [Death::PowerLoss, Death::Kill, Death::AtRest, Death::Stop];
}

/// What goes wrong with the device in one life. It is well again in the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accident {
    /// Nothing.
    Nothing,
    /// One mutation fails, or is short.
    Once,
    /// From some mutation on, all of a kind fail.
    Lasting,
    /// A few reads fail.
    Reads,
    /// Some reads come back with a bit flipped, or with what lies elsewhere.
    WrongReads,
    /// Space runs out, and perhaps is there again later.
    Full,
}

impl Accident {
    /// Every accident.
    pub const ALL: [Accident; 6] = [
        Accident::Nothing,
        Accident::Once,
        Accident::Lasting,
        Accident::Reads,
        Accident::WrongReads,
        Accident::Full,
    ];
}

/// A device that does not keep what it took. Then only this is asked: nothing wrong is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    /// Bits flip at rest.
    FlippedBits,
    /// Some writes are done as durable and never happen.
    LostWrites,
    /// Some writes land somewhere else.
    MisdirectedWrites,
}

const MS: u64 = 1_000_000;

impl Swarm {
    /// The swarm of this seed.
    pub fn of(seed: u64) -> Swarm {
        let mut rng = Rng::new(seed ^ 0x5a_a3_3a);
        let settings = Bounds::Varied.settings(seed);
        let shards: [&[u16]; 5] = [&[1], &[1], &[2], &[1, 2, 3], &[1, 1, 2, 3]];
        let damage = [Damage::FlippedBits, Damage::LostWrites, Damage::MisdirectedWrites];
        let damage = damage[rng.index(damage.len())];
        let mut habits = Habits {
            actions: masked(&mut rng, [52, 3, 25, 7, 2, 2, 4, 1, 1, 1, 2]),
            sizes: masked(&mut rng, [20, 8, 5, 2, 0, 0]),
            acks: masked(&mut rng, [1, 1, 2, 6]),
        };
        if rng.one_in(6) {
            // Large batches cost time: few seeds have them.
            habits.sizes[4] = 1;
            habits.sizes[5] = 1;
        }
        let produce = Action::ALL.iter().position(|action| *action == Action::Produce);
        habits.actions[produce.expect("it is one of them")] = rng.between(10, 80);
        if habits.sizes.iter().sum::<u64>() == 0 {
            habits.sizes[0] = 1;
        }
        if habits.acks.iter().sum::<u64>() == 0 {
            habits.acks[3] = 1;
        }
        let mut deaths = masked(&mut rng, [5, 4, 1, 1]);
        deaths[0] += u64::from(deaths == [0; 4]);
        let mut accidents = masked(&mut rng, [0, 3, 1, 2, 2, 2]);
        accidents[0] = 8;
        let shards = shards[rng.index(shards.len())];
        Swarm {
            spares: Bounds::Varied.spares(seed),
            settings,
            shards,
            around: around(&mut rng),
            clients: 1 + rng.index(5),
            habits,
            deaths,
            accidents,
            damage: rng.one_in(4).then_some(damage),
        }
    }
}

fn around(rng: &mut Rng) -> Surroundings {
    let (is_laggy, is_stalling) = (rng.one_in(4), rng.one_in(6));
    let weather = Weather {
        transit_ns: [5_000, 100_000, MS, 20 * MS][rng.index(4)],
        lag_one_in: if is_laggy { rng.between(4, 100) } else { 0 },
        lag_ns: [MS, 20 * MS, 300 * MS][rng.index(3)],
        slow_one_in: [2, 8, 32, 1 << 40][rng.index(4)],
        stall_one_in: if is_stalling { rng.between(50, 400) } else { 0 },
        stall_ns: if is_stalling { rng.between(500, 12_000) * MS } else { 0 },
        endless_one_in: 0,
    };
    let client_window_bytes = [2_000, 16_000, 96 * 1024][rng.index(3)];
    Surroundings { weather, client_window_bytes, lines: None }
}

/// Each weight, or 0.
fn masked<const N: usize>(rng: &mut Rng, weights: [u64; N]) -> [u64; N] {
    weights.map(|weight| if rng.one_in(2) { weight } else { 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn swarms_differ_and_every_kind_comes_about() {
        let swarms: Vec<Swarm> = (0..200).map(Swarm::of).collect();
        for index in 0..Action::ALL.len() {
            let count = swarms.iter().filter(|swarm| swarm.habits.actions[index] > 0).count();
            assert!(count > 60, "{:?} is done in {count}", Action::ALL[index]);
        }
        for index in 0..Death::ALL.len() {
            assert!(swarms.iter().any(|swarm| swarm.deaths[index] == 0));
            assert!(swarms.iter().any(|swarm| swarm.deaths[index] > 0));
        }
        for index in 1..Accident::ALL.len() {
            assert!(swarms.iter().any(|swarm| swarm.accidents[index] > 0));
        }
        assert!(swarms.iter().any(|swarm| swarm.damage.is_some()));
        assert!(swarms.iter().all(|swarm| swarm.deaths.iter().sum::<u64>() > 0));
    }
}
