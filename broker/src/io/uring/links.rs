//! The shard's links to the others: the mesh moves the bytes, this ring wakes the peers' rings
//! and is woken by them. A doorbell is a message to the sleeper's ring, which finds it as a
//! completion; on this side it completes without a word unless it fails.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use engine::pool::Slice;
use engine::port::{Done, Op};
use io_uring::types::Fd;
use io_uring::{opcode, squeue};

use super::conns::Completion;
use super::token::{Kind, Token};
use crate::mesh::{MeshCounters, MeshEnd, Rest};

/// The mesh end of a shard that is not the only one.
#[derive(Debug, Default)]
pub struct Links {
    end: Option<MeshEnd>,
}

impl Links {
    /// Takes the end; the links' numbers begin at `first`, and peers ring at `bell`.
    pub fn join(&mut self, mut end: MeshEnd, first: u32, bell: OwnedFd) {
        assert!(self.end.is_none(), "a shard has one end");
        end.open(first, bell);
        self.end = Some(end);
    }

    /// What the mesh end counted.
    pub fn counters(&self) -> MeshCounters {
        self.end.as_ref().map(MeshEnd::counters).unwrap_or_default()
    }

    /// Does an op on a link; gives back one that is not.
    pub fn divert(&mut self, op: Op, slices: &[Slice]) -> Option<Op> {
        let Some(end) = &mut self.end else { return Some(op) };
        match op {
            Op::Send { conn, first, count } if end.has(conn) => {
                let first = usize::try_from(first).expect("u32 fits usize");
                let count = usize::try_from(count).expect("u32 fits usize");
                end.send(conn, &slices[first..first + count]);
            }
            Op::RecvInto { conn, buf, at, len } if end.has(conn) => {
                end.receive(conn, buf, at, len);
            }
            Op::RecvCancel { conn } if end.has(conn) => end.cancel(conn),
            op => return Some(op),
        }
        None
    }

    /// Tells what has come; also whether a peer wants this shard awake.
    pub fn poll(&mut self, dones: &mut Vec<Done>) -> bool {
        self.end.as_mut().is_some_and(|end| end.poll(dones))
    }

    /// Wants every peer awake.
    pub fn call_all(&mut self) {
        if let Some(end) = &mut self.end {
            end.call_all();
        }
    }

    /// Rings the sleepers that were told something. Gives the number of entries staged, none of
    /// which completes here if all is well.
    pub fn ring(&mut self, staged: &mut Vec<squeue::Entry>) -> u64 {
        let mut count = 0;
        if let Some(end) = &mut self.end {
            end.ring_sleepers(|peer, bell| {
                staged.push(doorbell(peer, bell));
                count += 1;
            });
        }
        count
    }

    /// A doorbell failed. A peer whose thread has ended needs none; for any other (the kernel
    /// had no memory for the message) it is rung again, or the peer would sleep on.
    pub fn ring_again(&mut self, failed: Completion, staged: &mut Vec<squeue::Entry>) -> u64 {
        let is_gone = [-libc::EOWNERDEAD, -libc::EBADFD].contains(&failed.result);
        let Some(end) = self.end.as_ref().filter(|_| !is_gone) else { return 0 };
        let peer = u16::try_from(failed.token.index).expect("a shard's number");
        staged.push(doorbell(peer, end.bell(peer)));
        1
    }

    /// Says that this shard sleeps from now on, unless something has come.
    pub fn lie_down(&mut self) -> Rest {
        self.end.as_mut().map_or(Rest::Asleep, MeshEnd::lie_down)
    }

    /// Says that it does not, if it did.
    pub fn get_up(&mut self) {
        if let Some(end) = &mut self.end {
            end.get_up();
        }
    }
}

fn doorbell(peer: u16, bell: BorrowedFd<'_>) -> squeue::Entry {
    let token = Token { kind: Kind::Doorbell, generation: 0, index: u32::from(peer) };
    let rung = Token::sole(Kind::Rung).user_data();
    opcode::MsgRingData::new(Fd(bell.as_raw_fd()), 0, rung, None)
        .build()
        .flags(squeue::Flags::SKIP_SUCCESS)
        .user_data(token.user_data())
}
