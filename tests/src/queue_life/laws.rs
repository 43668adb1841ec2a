//! What a delivery must be.

use wire::queue::{DeathNote, Reason, Verb};

use super::kinds::Credit;
use super::{DOUBT_ROUNDS, Mail, QueueLife};

impl QueueLife {
    pub(super) fn check_delivery(
        &mut self,
        client: usize,
        token: u64,
        sequence: u64,
        told: (u32, bool),
    ) {
        let (life, wrong) = (self.life, &mut self.wrong);
        let has_redriven = self.has_redriven;
        let Some(mail) = self.mail.get_mut(&token) else {
            return wrong.push(format!("{token} was never published"));
        };
        let was_accepted = mail.is_settled && mail.asked != Some(Verb::Reject);
        if has_redriven && !was_accepted && mail.sequence != Some(sequence) {
            mail.reborn();
        }
        if mail.buried > 0 {
            wrong.push(format!("{token} was delivered after its dead letter was accepted"));
        }
        if mail.is_settled {
            wrong.push(format!("{token} was delivered after it was settled"));
        }
        if mail.sequence.is_some_and(|known| known != sequence) {
            wrong.push(format!("{token} had another number before {sequence}"));
        }
        mail.sequence = Some(sequence);
        if let Some((holder, in_life)) = mail.holder
            && in_life == life
        {
            let what = format!("{token} is with {holder} and was delivered to {client}");
            self.doubts.push((self.clients[holder].serial, DOUBT_ROUNDS, what));
        }
        mail.holder = Some((client, life));
        let (deliveries, is_again) = told;
        if let Some((before, in_life)) = mail.deliveries {
            let least = if in_life == life { before + 1 } else { before };
            if deliveries < least {
                wrong.push(format!("{token} was delivered {before} times, then {deliveries}"));
            }
            if !is_again {
                wrong.push(format!("{token} was delivered before, and does not say so"));
            }
        }
        mail.deliveries = Some((deliveries, life));
        mail.asked = None;
    }

    pub(super) fn check_dead_letter(&mut self, token: u64, note: Option<&DeathNote>) {
        self.seen.buried += 1;
        let Some(mail) = self.mail.get_mut(&token) else {
            return self.wrong.push(format!("dead letter {token} was never published"));
        };
        let Some(note) = note else {
            return self.wrong.push(format!("dead letter {token} has no note"));
        };
        let is_held = mail.holder.is_some_and(|(_, in_life)| in_life == self.life);
        let was_accepted = mail.is_settled && mail.asked != Some(Verb::Reject);
        let (published, died) = (note.first_published_ms.get(), note.died_ms.get());
        // Each life has a clock of its own.
        let is_time = died < published || died >= published + u64::from(mail.ttl_ms);
        let is_due = match Reason::from_u8(note.reason) {
            Some(Reason::Rejected) => mail.deliveries.is_some(),
            Some(Reason::Expired) => mail.ttl_ms > 0 && is_time,
            Some(Reason::Overflow) => mail.may_be_turned_away,
            _ => false,
        };
        if !is_due || is_held || was_accepted || mail.buried > 0 {
            let what = format!("dead letter {token} is none, or comes again");
            self.wrong.push(format!("{what}: {note:?} {mail:?}"));
        }
    }

    /// A message of the queue with copies: nobody has it meanwhile, and it was not accepted.
    pub(super) fn check_copy(&mut self, client: usize, token: u64) {
        let Some(copy) = self.copies.get_mut(&token) else {
            return self.wrong.push(format!("copy {token} was never published"));
        };
        let holder = copy.holder.replace((client, self.life));
        if copy.is_settled {
            self.wrong.push(format!("copy {token} was accepted before: {copy:?}"));
        }
        if let Some((holder, _)) = holder.filter(|(_, in_life)| *in_life == self.life) {
            let what = format!("copy {token} is with {holder} and was delivered to {client}");
            self.doubts.push((self.clients[holder].serial, DOUBT_ROUNDS, what));
        }
    }

    /// A client has as many pushed messages as its bound says at most.
    pub(super) fn check_credit(&mut self, client: usize) {
        let one = &self.clients[client];
        let have = one.pushed_to_it();
        let Some(Credit { most, had }) = one.credit.filter(|_| self.settings.shards == 1) else {
            return;
        };
        if most > 0 && have > most.max(had) {
            self.wrong.push(format!("{client} has {have} messages, more than {most} or {had}"));
        }
    }
}

impl Mail {
    /// A dead letter is in its queue again, as a new message.
    fn reborn(&mut self) {
        *self = Mail {
            is_confirmed: self.is_confirmed,
            ttl_ms: self.ttl_ms,
            may_be_purged: self.may_be_purged,
            may_be_turned_away: self.may_be_turned_away,
            buried: self.buried,
            is_reborn: true,
            ..Mail::default()
        };
    }
}
