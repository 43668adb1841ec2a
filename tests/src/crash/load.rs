//! Produces until enough is acknowledged, and goes on producing while the broker is killed.

use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use client::{ConnectOptions, Producer, ProducerOptions, Record};

use wire::Acks;

use super::TOPIC;
use super::ledger::Ledger;
use crate::broker::Broker;

/// Says that the broker is gone.
#[derive(Debug)]
pub struct Killed;

/// Kills the broker in the middle of the load, once `acked` records are acknowledged.
///
/// # Panics
/// If it ends before.
pub fn produce_until(acked: u64, broker: Broker, ledger: &mut Ledger) -> Killed {
    let address = broker.address().to_owned();
    let (enough, is_enough) = channel();
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut producer = connect(&address, Acks::Durable);
            let mut enough = Some(enough);
            ledger.begin();
            loop {
                let (partition, value) = ledger.next_record();
                let partition = Some(partition);
                let result = producer.send(&Record { partition, ..Record::value(&value) });
                match result {
                    Ok(sent) => ledger.sent(sent),
                    // The record was not taken: it has no delivery.
                    Err(_) => ledger.not_sent(),
                }
                while let Some(delivery) = producer.next_delivery() {
                    ledger.delivered(&delivery);
                }
                if result.is_err() {
                    break;
                }
                if producer.totals().acked >= acked
                    && let Some(enough) = enough.take()
                {
                    enough.send(()).expect("the killer waits");
                }
            }
            ledger.end();
        });
        is_enough.recv().expect("the producer got so far");
        broker.kill();
    });
    Killed
}

pub(super) fn connect(address: &str, acks: Acks) -> Producer {
    let options = ProducerOptions { acks, batch_bytes: 16 * 1024, ..ProducerOptions::default() };
    // The broker comes back elsewhere: the producer shall end with it.
    let connect = ConnectOptions { reconnect_for: Duration::ZERO, ..ConnectOptions::default() };
    Producer::connect(address, TOPIC, &connect, options).expect("it serves")
}
