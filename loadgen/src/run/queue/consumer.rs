//! One consumer of a queue: proves every message, and settles it.

use client::session::{RequestId, Session};
use client::{ClientError, Connection};
use wire::limits::SETTLE_ROWS_MAX;
use wire::queue::{
    CONSUME_AUTO_ACK, ConsumeRequest, Deliver, DeliveredRow, Message, ROW_REDELIVERED, SettleRow,
    Verb,
};

use super::super::tally::{Tally, Window};
use super::super::work::Progress;
use super::flags::AckMode;
use super::task::{Purpose, Signals, Task};
use crate::integrity::queue::{Delivery, Mark};
use crate::payload::{self, Header};

/// What a consumer needs from its thread to verify.
pub(super) struct Proof<'a> {
    pub(super) task: &'a Task<'a>,
    pub(super) window: Window,
    pub(super) tally: &'a mut Tally,
    pub(super) progress: &'a Progress,
}

pub(super) struct Consumer {
    index: u32,
    /// Its number, once the broker has told.
    number: u32,
    /// What is to be told to the broker.
    rows: Vec<SettleRow>,
    /// Messages that these rows settle.
    noted: u32,
    /// Some of them go back, which shall not wait.
    gives_back: bool,
    /// The request whose answer is the last thing that it awaits.
    farewell: Option<RequestId>,
    is_done: bool,
}

impl Consumer {
    pub(super) fn new(index: u32) -> Self {
        Self {
            index,
            number: 0,
            rows: Vec::with_capacity(SETTLE_ROWS_MAX),
            noted: 0,
            gives_back: false,
            farewell: None,
            is_done: false,
        }
    }

    /// Asks for messages.
    pub(super) fn subscribe(
        &self,
        session: &mut Session,
        task: &Task<'_>,
    ) -> Result<(), ClientError> {
        let is_auto = task.ack_mode == AckMode::Auto;
        session.consume(&ConsumeRequest {
            queue: task.place(self.index).id,
            prefetch: task.prefetch.into(),
            priority: 0.into(),
            flags: if is_auto { CONSUME_AUTO_ACK } else { 0 },
            reserved: 0,
        })?;
        Ok(())
    }

    /// The broker knows it by this number.
    pub(super) fn subscribed(&mut self, number: u32) {
        self.number = number;
    }

    /// The connection is lost: the broker gives what was not settled to others, or once more.
    pub(super) fn disconnected(&mut self) {
        self.rows.clear();
        (self.number, self.noted, self.gives_back, self.farewell) = (0, 0, false, None);
    }

    /// A request was answered that only asked for an answer.
    pub(super) fn answered(&mut self, id: RequestId) {
        self.is_done |= self.farewell == Some(id);
    }

    /// Proves messages that arrived at `now_ns`, and notes what shall become of them.
    pub(super) fn take(&mut self, deliver: &Deliver<'_>, proof: &mut Proof<'_>, now_ns: u64) {
        if now_ns >= proof.window.drain_ns {
            // Other consumers may have left by now, with messages that they had noted as
            // acknowledged and not told the broker of.
            return;
        }
        let (mut deliveries, mut settled, mut body_bytes) = (0, 0, 0);
        let mut streak = Streak::default();
        for found in deliver.messages() {
            let Ok((sequence, row, message)) = found else {
                proof.task.ledger.corrupt();
                break;
            };
            deliveries += 1;
            body_bytes += message.body.len() as u64;
            let verb = judge(row, &message, proof, now_ns, &mut streak);
            settled += u64::from(verb == Verb::Accept);
            if proof.task.ack_mode != AckMode::Auto {
                self.note(sequence, verb, proof.task.ack_mode);
            }
        }
        streak.record(proof.tally, now_ns);
        proof.task.ledger.count(deliveries, settled, now_ns);
        proof.progress.consumed(deliveries);
        if proof.window.measures(now_ns) {
            proof.tally.consumed_records += deliveries;
            proof.tally.consumed_value_bytes += body_bytes;
            if let Some(stretch) = proof.tally.timeline.at(now_ns) {
                stretch.consumed(deliveries);
            }
        }
    }

    /// Tells the broker what it must know by now, and says good-bye when all is drained.
    pub(super) fn pump(
        &mut self,
        connection: &mut Connection,
        task: &Task<'_>,
        signals: &Signals<'_>,
    ) -> Result<(), ClientError> {
        let most = match task.ack_mode {
            AckMode::Auto | AckMode::Each => 1,
            AckMode::Batched(count) => count,
        };
        // Once nobody publishes, the last messages would wait for others in vain.
        let is_due = self.noted >= most || self.gives_back || signals.is_published();
        if is_due && !self.rows.is_empty() {
            self.tell(connection.session_mut(), task)?;
        }
        if signals.is_drained() && self.farewell.is_none() {
            // Deliveries that left before the answer come before it.
            self.farewell = Some(connection.session_mut().ping()?);
        }
        connection.send_now()
    }

    /// Whether everything that it will ever get has come.
    pub(super) const fn is_done(&self) -> bool {
        self.is_done
    }

    fn tell(&mut self, session: &mut Session, task: &Task<'_>) -> Result<(), ClientError> {
        let rows_max = match task.ack_mode {
            AckMode::Each => 1,
            AckMode::Auto | AckMode::Batched(_) => SETTLE_ROWS_MAX,
        };
        let queue = &task.place(self.index).id;
        for rows in self.rows.chunks(rows_max) {
            session.settle_quietly(queue, self.number, rows)?;
        }
        self.rows.clear();
        self.noted = 0;
        self.gives_back = false;
        Ok(())
    }

    fn note(&mut self, sequence: u64, verb: Verb, ack_mode: AckMode) {
        self.noted += 1;
        self.gives_back |= verb == Verb::Release;
        if let Some(last) = self.rows.last_mut()
            && ack_mode != AckMode::Each
            && last.last.get() + 1 == sequence
            && last.verb == verb as u8
        {
            last.last = sequence.into();
            return;
        }
        self.rows.push(SettleRow {
            first: sequence.into(),
            last: sequence.into(),
            lease: 0.into(),
            verb: verb as u8,
            flags: 0,
            reserved: 0.into(),
            delay_ms: 0.into(),
        });
    }
}

/// Says what becomes of one message, and notes it before the broker hears of it.
fn judge(
    row: &DeliveredRow,
    message: &Message<'_>,
    proof: &mut Proof<'_>,
    now_ns: u64,
    streak: &mut Streak,
) -> Verb {
    let ledger = proof.task.ledger;
    let header = match payload::verify(message.body) {
        Ok(header) if header.run == proof.task.run => header,
        // Intact, but of another run: a queue that was there before may hold such.
        Ok(_) => return Verb::Accept,
        Err(_) => {
            ledger.corrupt();
            return Verb::Accept;
        }
    };
    if proof.task.purpose == Purpose::Bury {
        ledger.buried(header.sequence);
        return Verb::Accept;
    }
    let is_again = row.flags.get() & ROW_REDELIVERED != 0;
    let mark = if is_again { Mark::Redelivered } else { Mark::None };
    let delivery = ledger.delivered(header.sequence, mark);
    if delivery == Delivery::First && proof.window.measures(header.intended_ns) {
        proof.tally.clock_backwards += u64::from(now_ns < header.intended_ns);
        streak.add(&header, proof.tally, now_ns);
    }
    let is_open = now_ns < proof.window.close_ns;
    let millionths = proof.task.nack_millionths;
    if is_open && is_given_back(header.sequence, row.deliveries.get(), millionths) {
        return Verb::Release;
    }
    ledger.accepted(header.sequence);
    Verb::Accept
}

/// Whether this delivery of this message is one of the share that goes back: the same in each run.
fn is_given_back(number: u64, deliveries: u32, millionths: u32) -> bool {
    if millionths == 0 {
        return false;
    }
    // splitmix64 over message and delivery.
    let seed = number.wrapping_mul(64).wrapping_add(u64::from(deliveries));
    let word = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((word >> 32) * 1_000_000) >> 32 < u64::from(millionths)
}

/// Messages one after the other that were due at the same time: one entry of the histogram.
#[derive(Default)]
struct Streak {
    intended_ns: u64,
    sent_ns: u64,
    count: u64,
}

impl Streak {
    fn add(&mut self, header: &Header, tally: &mut Tally, now_ns: u64) {
        if (self.intended_ns, self.sent_ns) != (header.intended_ns, header.sent_ns) {
            self.record(tally, now_ns);
            (self.intended_ns, self.sent_ns) = (header.intended_ns, header.sent_ns);
        }
        self.count += 1;
    }

    fn record(&mut self, tally: &mut Tally, now_ns: u64) {
        if self.count > 0 {
            tally.e2e.record_n(now_ns.saturating_sub(self.intended_ns), self.count);
            tally.e2e_service.record_n(now_ns.saturating_sub(self.sent_ns), self.count);
            self.count = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_that_goes_back_is_kept() {
        for millionths in [0, 1_000, 50_000, 500_000, 1_000_000] {
            let some = (0..200_000).filter(|&at| is_given_back(at, 1, millionths)).count();
            let expected = millionths as usize / 5;
            assert!(some.abs_diff(expected) <= 600, "{some} instead of {expected}");
        }
        let both = (0..100_000)
            .filter(|&at| is_given_back(at, 1, 500_000) && is_given_back(at, 2, 500_000))
            .count();
        assert!(both.abs_diff(25_000) < 1_500, "deliveries are independent: {both}");
    }

    #[test]
    fn ranges_grow_and_break_where_the_verb_changes() {
        let mut consumer = Consumer::new(0);
        let verbs = [Verb::Accept, Verb::Accept, Verb::Release, Verb::Accept];
        for (sequence, verb) in (7..).zip(verbs) {
            consumer.note(sequence, verb, AckMode::Batched(2));
        }
        let rows: Vec<_> =
            consumer.rows.iter().map(|row| (row.first.get(), row.last.get())).collect();
        assert_eq!(rows, [(7, 8), (9, 9), (10, 10)]);
        assert!(consumer.gives_back);
        let mut each = Consumer::new(0);
        (7..9).for_each(|sequence| each.note(sequence, Verb::Accept, AckMode::Each));
        assert_eq!(each.rows.len(), 2);
    }
}
