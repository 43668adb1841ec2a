//! What the broker answers, and what follows from it.

use client::session::{Event, QueueEvent, Refusal, RequestId};
use wire::ErrorCode;
use wire::queue::{Deliver, QueueId, ROW_REDELIVERED, RoutedRow, Verb};

use super::kinds::Credit;
use super::known::Asked;
use super::{NAMES, QueueLife};

impl QueueLife {
    pub(super) fn take(&mut self, client: usize, event: &Event<'_>) {
        let Some(id) = event.request_id() else { return };
        match event {
            Event::Queue(_, QueueEvent::Delivered(deliver)) => {
                return self.delivered(client, deliver);
            }
            Event::Queue(_, QueueEvent::Pulled(deliver)) => self.delivered(client, deliver),
            Event::Queue(_, QueueEvent::Consuming(reply)) => {
                let consumers = &mut self.clients[client].consumers;
                let mine = consumers.iter_mut().flatten().find(|consumer| consumer.0 == id);
                if let Some(mine) = mine {
                    mine.1 = reply.consumer.get();
                }
            }
            Event::Refused(_, refusal) if !self.may_be_refused(client, id, refusal) => {
                self.wrong.push(format!("refused: {refusal:?}"));
            }
            _ => {}
        }
        let Some(asked) = self.clients[client].asked.remove(&id) else { return };
        match (asked, event) {
            (Asked::Publish(tokens), Event::Queue(_, QueueEvent::Published(reply))) => {
                self.published(&tokens, reply.head.first.get());
            }
            (Asked::Publish(tokens), Event::Refused(_, refusal))
                if refusal.error_code() == Some(ErrorCode::QueueFull) =>
            {
                self.turned_away(&tokens);
            }
            (Asked::Describe, Event::Queue(_, QueueEvent::Described(reply))) => {
                self.note_dying(reply.counts.dying.get());
            }
            (Asked::Own(asked), event) => self.take_own(asked, event),
            (asked @ (Asked::Topic | Asked::Fetch(_)), event) => self.take_topic(&asked, event),
            (Asked::Route(tokens), Event::Queue(_, QueueEvent::Routed(reply))) => {
                for (which, row) in reply.rows.iter().enumerate() {
                    self.routed(which, &tokens, row);
                }
            }
            (Asked::Credit(most), _) => {
                let one = &mut self.clients[client];
                let is_last = !one.asked.values().any(|asked| matches!(asked, Asked::Credit(_)));
                let had = one.pushed_to_it();
                one.credit = is_last.then_some(Credit { most, had });
            }
            (Asked::Create(which), Event::Queue(_, QueueEvent::Created(reply))) => {
                let known = self.queues[which].replace(reply.queue);
                if known.is_some_and(|known| known != reply.queue) {
                    self.wrong.push(format!("{} is another queue than before", NAMES[which]));
                }
            }
            (Asked::Settle(which, tokens, verb), Event::Queue(_, QueueEvent::Settled(reply))) => {
                for (token, row) in tokens.iter().zip(reply.rows) {
                    if row.error.get() != 0 {
                        self.wrong.push(format!("{token} was held, and settling it: {row:?}"));
                    }
                    self.settled(which, *token, verb);
                }
            }
            _ => {}
        }
    }

    /// Whether a request may be answered with this error.
    fn may_be_refused(&mut self, client: usize, id: RequestId, refusal: &Refusal<'_>) -> bool {
        use ErrorCode::{LimitReached, Overloaded, QueueFull, QueueInUse, ShuttingDown};
        let code = refusal.error_code();
        match (self.clients[client].asked.get(&id), code) {
            (_, Some(Overloaded | ShuttingDown | LimitReached)) => true,
            // Another redrive goes on.
            (_, Some(QueueInUse)) => true,
            (Some(Asked::Publish(_)), Some(QueueFull)) => self.kinds.bounded,
            (Some(Asked::Topic), Some(ErrorCode::UnknownTopic)) => true,
            (Some(&Asked::Own(asked)), code) => self.is_own_refusal(asked, code),
            (None, Some(ErrorCode::UnknownQueue)) => self.is_own_ended(client, id),
            _ => false,
        }
    }

    /// Messages are confirmed.
    fn published(&mut self, tokens: &[u64], first: u64) {
        for (token, sequence) in tokens.iter().zip(first..) {
            self.seen.confirmed += 1;
            let mail = self.mail.get_mut(token).expect("published");
            mail.is_confirmed = true;
            mail.sequence = Some(sequence).filter(|_| !mail.is_reborn).or(mail.sequence);
        }
    }

    /// Messages found their queue full: they are dead letters.
    fn turned_away(&mut self, tokens: &[u64]) {
        for token in tokens {
            self.mail.get_mut(token).expect("published").is_turned_away = true;
            self.seen.turned_away += 1;
        }
    }

    fn settled(&mut self, which: usize, token: u64, verb: Verb) {
        let mail = self.mail.get_mut(&token).expect("delivered");
        match (which, verb) {
            (0, Verb::Accept) => {
                mail.is_settled = true;
                self.seen.accepted += 1;
            }
            (0, Verb::Reject) => mail.is_settled = true,
            (1, Verb::Accept) => mail.buried += 1,
            (2, Verb::Accept) => self.copies.get_mut(&token).expect("delivered").is_settled = true,
            _ => {}
        }
    }

    /// What became of a publish to several targets in one of them.
    fn routed(&mut self, which: usize, tokens: &[u64], row: &RoutedRow) {
        if row.error.get() != 0 {
            let code = ErrorCode::from_u16(row.error.get());
            if which == 0 && self.kinds.bounded && code == Some(ErrorCode::QueueFull) {
                return self.turned_away(tokens);
            }
            if !matches!(code, Some(ErrorCode::Overloaded | ErrorCode::ShuttingDown)) {
                self.wrong.push(format!("routed to target {which}: {row:?}"));
            }
            return;
        }
        let first = row.first.get();
        match which {
            0 => self.published(tokens, first),
            1 => {
                for token in tokens {
                    self.copies.get_mut(token).expect("published").is_confirmed = true;
                }
            }
            _ => self.topic.confirmed.extend((first..).zip(tokens.iter().copied())),
        }
    }

    fn delivered(&mut self, client: usize, deliver: &Deliver<'_>) {
        let is_it = |queue: &Option<QueueId>| *queue == Some(deliver.head.queue);
        let Some(which) = self.queues.iter().position(is_it) else {
            return self.wrong.push("a delivery of a queue that nobody consumes".to_owned());
        };
        let lease = deliver.head.lease.get();
        if deliver.head.consumer.get() != 0 {
            self.clients[client].pushes.insert((which, lease));
        }
        for found in deliver.messages() {
            let (sequence, row, message) = found.expect("the broker sends what it says");
            let token = u64::from_le_bytes(*message.body.first_chunk().expect("a token"));
            let is_again = row.flags.get() & ROW_REDELIVERED != 0;
            self.clients[client].held.push((token, which, sequence, lease));
            self.seen.delivered += 1;
            self.seen.redelivered += u64::from(is_again);
            let told = (row.deliveries.get(), is_again);
            match which {
                0 => self.check_delivery(client, token, sequence, told),
                1 => self.check_dead_letter(token, message.death),
                _ => self.check_copy(client, token),
            }
        }
        self.check_credit(client);
    }
}
