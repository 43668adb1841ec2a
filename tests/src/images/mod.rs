//! Exhaustive crash images: every state that a power cut can leave behind, of every short
//! workload, is recovered by the production engine and judged.
//!
//! ```text
//! workload ──► each state between two changes of the disk ──► each subset of what is not
//!              flushed, and each torn block ──► recovery, reading, laws
//! ```
//!
//! `volume` knows what is at risk, `risk` combines it, `stage` drives a shard step by step,
//! `workload` says what is done, `verdict` what may come of it. Nothing here is random.

mod flips;
mod image;
mod risk;
mod stage;
mod verdict;
mod volume;
mod workload;

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;
use std::rc::Rc;

use image::Image;
use risk::{Fate, Risk};
use stage::Machine;
use verdict::Reading;

use crate::model::Model;

pub use flips::{Flips, flip_each};
pub use stage::Order;
pub use volume::Device;
pub use workload::{Operation, Tempo, Workload};

/// How many readings are kept for images that come again; more are read anew.
const READINGS_MAX: usize = 1_000_000;
/// Of so many images one is recovered again and again, cut off at each of recovery's changes of
/// the disk in turn.
const CUT_OFF_ONE_OF: u64 = 64;

/// Where workloads run, and where their images are recovered meanwhile.
#[derive(Debug, Default)]
struct Machines {
    working: Machine,
    recovering: Machine,
}

/// What was looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Workloads.
    pub workloads: u64,
    /// States between two changes of the disk, each of which is a moment of power loss.
    pub moments: u64,
    /// Images, one for each combination of what a power cut may keep.
    pub images: u64,
    /// Those that differ, recovered and read.
    pub recovered: u64,
    /// Recoveries that lost their power in turn, each of which leaves one more image.
    pub cut_off: u64,
    /// Pairs of an image and what was acknowledged at that moment, judged.
    pub judged: u64,
}

/// A broken law, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The workload, as flags.
    pub workload: String,
    /// Which of its states, from 1.
    pub moment: u64,
    /// What the power cut did to what was at risk.
    pub fates: Vec<String>,
    /// What is wrong.
    pub broken: Vec<String>,
}

/// Looks at workloads one after the other, and remembers images it has seen.
#[derive(Debug)]
pub struct Examiner {
    machines: Machines,
    origin: workload::Origin,
    readings: HashMap<u64, Rc<Reading>>,
    /// What was looked at so far.
    pub counts: Counts,
}

impl Default for Examiner {
    fn default() -> Self {
        Examiner::new(Device::Honest)
    }
}

impl Examiner {
    /// Workloads run on such a device; what it left is recovered on an honest one.
    pub fn new(device: Device) -> Examiner {
        let mut machines = Machines::default();
        let origin = workload::Origin::new(&mut machines.working);
        machines.working.device = device;
        Examiner { machines, origin, readings: HashMap::new(), counts: Counts::default() }
    }

    /// Looks at every image of a workload; the first broken law ends it.
    pub fn examine(&mut self, workload: &Workload) -> Option<Violation> {
        self.counts.workloads += 1;
        let Examiner { machines, origin, readings, counts } = self;
        let mut look = Look {
            machine: &mut machines.recovering,
            readings,
            counts,
            judged: HashSet::new(),
            moment: 0,
            answers: 0,
            violation: None,
        };
        origin.run(&mut machines.working, workload, &mut |actor| look.moment(actor));
        let mut violation = look.violation?;
        violation.workload = workload.to_string();
        Some(violation)
    }
}

/// One workload while it is looked at.
struct Look<'e> {
    machine: &'e mut Machine,
    readings: &'e mut HashMap<u64, Rc<Reading>>,
    counts: &'e mut Counts,
    /// Images judged against what was known since the last answer.
    judged: HashSet<u64>,
    moment: u64,
    /// How often the model had changed when `judged` was begun.
    answers: u64,
    violation: Option<Violation>,
}

impl Look<'_> {
    fn moment(&mut self, actor: &workload::Actor) {
        if self.violation.is_some() {
            return;
        }
        self.moment += 1;
        self.counts.moments += 1;
        if self.answers != actor.changes() {
            self.answers = actor.changes();
            self.judged.clear();
        }
        let (stable, risks) = (actor.stage.volume.stable(), actor.stage.volume.risks());
        let broken = risk::combinations(&risks, |fates| {
            self.counts.images += 1;
            let image = risk::image(&stable, &risks, fates);
            let hash = image.hash();
            if !self.judged.insert(hash) {
                return ControlFlow::Continue(());
            }
            let broken = self.judge(hash, &image, &actor.model);
            if broken.is_empty() {
                return ControlFlow::Continue(());
            }
            ControlFlow::Break((told(&risks, fates), broken))
        });
        if let ControlFlow::Break((fates, broken)) = broken {
            let workload = String::new();
            self.violation = Some(Violation { workload, moment: self.moment, fates, broken });
        }
    }

    /// Every law that is broken if the power goes and leaves this image, and goes again while it
    /// is recovered.
    fn judge(&mut self, hash: u64, image: &Image, model: &Model) -> Vec<String> {
        self.counts.judged += 1;
        let broken = self.reading(hash, image).judge(model);
        if !broken.is_empty() || !hash.is_multiple_of(CUT_OFF_ONE_OF) {
            return broken;
        }
        for changes in 0.. {
            let Some(left) = self.machine.cut_off(image, verdict::SEED, changes) else { break };
            self.counts.cut_off += 1;
            let mut broken = self.reading(left.hash(), &left).judge(model);
            if !broken.is_empty() {
                broken.push(format!("after a recovery cut off at change {changes} of the disk"));
                return broken;
            }
        }
        Vec::new()
    }

    fn reading(&mut self, hash: u64, image: &Image) -> Rc<Reading> {
        if let Some(reading) = self.readings.get(&hash) {
            return Rc::clone(reading);
        }
        self.counts.recovered += 1;
        let reading = Rc::new(Reading::of(self.machine, image));
        if self.readings.len() < READINGS_MAX {
            self.readings.insert(hash, Rc::clone(&reading));
        }
        reading
    }
}

fn told(risks: &[Risk], fates: &[Fate]) -> Vec<String> {
    risks.iter().zip(fates).map(|(risk, fate)| format!("{risk}: {fate:?}")).collect()
}
