//! Dead letters that go back to the queues they died in: a few for a request, or all of them in a
//! job with a rate. A job is memory alone: what it has sent back stays so, the rest stays where it
//! is when the broker ends, and somebody starts it again.

use wire::queue::{
    Message, RedriveJobReply, RedriveJobRequest, RedriveReply, RedriveState, RedriveVerb,
};
use wire::{ErrorCode, Kind};
use zerocopy::{FromBytes, IntoBytes};

use super::journal::Passage;
use super::load::Hand;
use super::pump::MOVES_PER_TURN;
use super::queues::{Ask, Pending};
use crate::port::{Now, OpBatch, Time};
use crate::request::{Answer, Refusal, Request};
use crate::shard::Shard;

const NS_PER_S: u128 = 1_000_000_000;

/// A job that sends dead letters back.
#[derive(Debug)]
pub struct Redrive {
    state: RedriveState,
    /// Where it goes on, and where it ends: what dies later is not for it.
    from: u64,
    until: u64,
    /// How many may still go.
    left: u64,
    /// Most per second; 0: as fast as it goes.
    rate: u32,
    moved: u64,
    kept: u64,
    started: Time,
    /// When the next one may go.
    pub due: Option<Time>,
    /// Once records up to here are durable, so is all that it did.
    recorded: u64,
}

/// What has become of a dead letter that was to go back.
enum Step {
    /// It is in its queue.
    Moved,
    /// It stays: it never died, or its queue is gone.
    Kept,
    /// Its body is being loaded.
    Later,
}

impl Shard {
    /// Sends one dead letter back.
    fn redrive_one(
        &mut self,
        slot: u32,
        at: u64,
        now: Now,
        batch: &mut OpBatch,
    ) -> Result<Step, ErrorCode> {
        match self.bring(slot, at, batch) {
            Hand::Here => {}
            Hand::Unreadable => return Ok(Step::Kept),
            Hand::Later => return Ok(Step::Later),
        }
        let queue = self.queues.queue(slot);
        let store = queue.store;
        let bytes = queue.window.message(at).expect("just brought");
        let (message, _) = Message::split(bytes).expect("checked once");
        let origin = message.death.map(|note| note.origin);
        let target = origin.and_then(|origin| self.queues.slot(&origin));
        let target = target.filter(|&to| self.queues.queue(to).store == store && to != slot);
        let Some(to) = target else { return Ok(Step::Kept) };
        self.record_move(now.time, slot, at, to, Passage::Return)?;
        Ok(Step::Moved)
    }

    /// Sends dead letters back to where they died. Gives what is left to do.
    pub(super) fn redrive(
        &mut self,
        slot: u32,
        ask: Ask,
        now: Now,
        batch: &mut OpBatch,
    ) -> Option<Ask> {
        let Ask::Redrive { request, mut from, mut left, mut moved, mut kept } = ask else {
            return Some(ask);
        };
        while left > 0 {
            let Some(at) = self.queues.queue(slot).state.first_ready(from) else { break };
            match self.redrive_one(slot, at, now, batch) {
                Ok(Step::Moved) => moved += 1,
                Ok(Step::Kept) => kept += 1,
                Ok(Step::Later) => return Some(Ask::Redrive { request, from, left, moved, kept }),
                Err(code) => {
                    let detail = "the dead letters cannot be moved now";
                    self.refuse_queue(&request, Kind::QueueRedrive, code, detail);
                    return None;
                }
            }
            from = at + 1;
            left -= 1;
        }
        let left = self.queues.queue(slot).state.ready().into();
        let reply = RedriveReply { moved: moved.into(), kept: kept.into(), left };
        let stream = self.stream_of(slot);
        let offset = self.store.partition(stream).progress.appended();
        let body = reply.as_bytes().to_vec();
        if moved > 0 {
            self.answer_at(slot, offset, Pending::Answer(request, Kind::QueueRedrive, body));
        } else {
            self.answer_queue(&request, Kind::QueueRedrive, &body);
        }
        None
    }

    /// Starts, shows or stops the job of a queue.
    pub(crate) fn redrive_asked(
        &mut self,
        now: Time,
        slot: u32,
        request: &Request,
    ) -> Result<Answer, Refusal> {
        let asked = RedriveJobRequest::read_from_bytes(self.pool.view(request.body));
        let asked = asked.map_err(|_| Refusal::new(ErrorCode::Malformed, "redrive job"))?;
        let verb = RedriveVerb::from_u8(asked.verb);
        let verb = verb.filter(|_| asked.reserved == [0; 3]);
        let malformed = Refusal::new(ErrorCode::Malformed, "a redrive has an unknown verb");
        let queue = self.queues.queue(slot);
        match verb.ok_or(malformed)? {
            RedriveVerb::Show => {}
            RedriveVerb::Stop => {
                let running = |job: &&mut Box<Redrive>| job.state == RedriveState::Running;
                if let Some(job) = queue.redrive.as_mut().filter(running) {
                    job.state = RedriveState::Stopped;
                    job.due = None;
                }
            }
            RedriveVerb::Start => {
                let is_busy =
                    queue.redrive.as_ref().is_some_and(|job| job.state == RedriveState::Running);
                if is_busy {
                    let detail = "a redrive of this queue is under way: show it, or stop it first";
                    return Err(Refusal::new(ErrorCode::QueueInUse, detail));
                }
                let most = asked.max_messages.get();
                queue.redrive = Some(Box::new(Redrive {
                    state: RedriveState::Running,
                    from: 0,
                    until: queue.state.next(),
                    left: if most == 0 { u64::MAX } else { most },
                    rate: asked.rate.get(),
                    moved: 0,
                    kept: 0,
                    started: now,
                    due: None,
                    recorded: 0,
                }));
            }
        }
        self.queues.touch(slot);
        let reply = self.redrive_shown(slot);
        self.answer_queue(request, Kind::QueueRedriveJob, reply.as_bytes());
        Ok(Answer::Later)
    }

    fn redrive_shown(&mut self, slot: u32) -> RedriveJobReply {
        let stream = self.stream_of(slot);
        let durable = self.store.partition(stream).progress.durable();
        let queue = self.queues.queue(slot);
        let ready = queue.state.ready();
        let none = (RedriveState::None, 0, 0, 0);
        let shown = queue.redrive.as_ref().map_or(none, |job| {
            let is_safe = job.recorded <= durable;
            // It is done once that is durable.
            let state = if is_safe { job.state } else { RedriveState::Running };
            (state, job.rate, job.moved, job.kept)
        });
        let (state, rate, moved, kept) = shown;
        RedriveJobReply {
            state: (state as u32).into(),
            rate: rate.into(),
            moved: moved.into(),
            kept: kept.into(),
            left: ready.into(),
        }
    }

    /// A job of the queue goes on, if there is one.
    pub(super) fn run_redrive(&mut self, slot: u32, now: Now, batch: &mut OpBatch) {
        let Some(mut job) = self.queues.queue(slot).redrive.take() else { return };
        // It is not to keep a broker from ending.
        if job.state == RedriveState::Running && self.stopping.is_none() {
            self.redrive_some(slot, &mut job, now, batch);
        }
        if let Some(slot) = self.queues.slots.get_mut(slot) {
            slot.redrive = Some(job);
        }
    }

    fn redrive_some(&mut self, slot: u32, job: &mut Redrive, now: Now, batch: &mut OpBatch) {
        job.due = None;
        for _ in 0..MOVES_PER_TURN {
            let next = self.queues.queue(slot).state.first_ready(job.from);
            let Some(at) = next.filter(|&at| at < job.until && job.left > 0) else {
                job.state = RedriveState::Done;
                return;
            };
            if let Some(due) = job.too_early(now.time) {
                job.due = Some(due);
                return;
            }
            match self.redrive_one(slot, at, now, batch) {
                Ok(Step::Moved) => {
                    job.moved += 1;
                    job.left -= 1;
                    let stream = self.stream_of(slot);
                    job.recorded = self.store.partition(stream).progress.appended();
                }
                Ok(Step::Kept) => job.kept += 1,
                Ok(Step::Later) => return,
                Err(_) => {
                    if self.store.failed.is_none() {
                        self.queues.again.push(slot);
                    }
                    return;
                }
            }
            job.from = at + 1;
        }
        self.queues.touch(slot);
    }
}

impl Redrive {
    /// When the next one may go, if that is not yet.
    fn too_early(&self, now: Time) -> Option<Time> {
        if self.rate == 0 {
            return None;
        }
        let ns = u128::from(self.moved) * NS_PER_S / u128::from(self.rate);
        let due = self.started.plus_ns(u64::try_from(ns).unwrap_or(u64::MAX));
        (due > now).then_some(due)
    }
}
