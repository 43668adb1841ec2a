//! Planted bugs. Each sits in the simulated world, in a client or in the model, never in the
//! engine, and breaks what a bug of the engine would break. Laws that do not notice are no laws.

use broker::io::sim::{FaultPlan, Honesty, Weather};

/// A planted bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Canary {
    /// Writes are told to be durable and are only in a cache.
    EarlyAcknowledgement,
    /// Some durable writes never happen.
    LostWrites,
    /// Some replies lose a bit on their way.
    AlteredReplies,
    /// Some writes never end.
    EndlessWrites,
    /// The answers to two produces are exchanged.
    SwappedReplies,
    /// What a client sends arrives twice.
    RepeatedSends,
    /// The model forgets what was sent.
    ForgetfulModel,
}

impl Canary {
    /// Every one.
    pub const ALL: [Canary; 7] = [
        Canary::EarlyAcknowledgement,
        Canary::LostWrites,
        Canary::AlteredReplies,
        Canary::EndlessWrites,
        Canary::SwappedReplies,
        Canary::RepeatedSends,
        Canary::ForgetfulModel,
    ];

    /// Its name, as the command line has it.
    pub const fn name(self) -> &'static str {
        match self {
            Canary::EarlyAcknowledgement => "early-acknowledgement",
            Canary::LostWrites => "lost-writes",
            Canary::AlteredReplies => "altered-replies",
            Canary::EndlessWrites => "endless-writes",
            Canary::SwappedReplies => "swapped-replies",
            Canary::RepeatedSends => "repeated-sends",
            Canary::ForgetfulModel => "forgetful-model",
        }
    }

    /// The one of this name.
    pub fn named(name: &str) -> Option<Canary> {
        Canary::ALL.into_iter().find(|canary| canary.name() == name)
    }

    /// What it does to the disk.
    pub const fn spoil_disk(self, plan: &mut FaultPlan) {
        match self {
            Canary::EarlyAcknowledgement => plan.honesty = Honesty::Lying,
            Canary::LostWrites => plan.lost_writes_one_in = 20,
            _ => {}
        }
    }

    /// What it does to the backend.
    pub const fn spoil_weather(self, weather: &mut Weather) {
        if matches!(self, Canary::EndlessWrites) {
            weather.endless_one_in = 30;
        }
    }
}
