//! Links between the simulated shards of one process: a bus that carries letters from one
//! [`SimIo`] to another. A letter is copied out of the sender's arena as it is sent, cut into
//! pieces, and delayed; the receiver says what it has taken by letters of its own.
//!
//! Every shard has a clock of its own, which only its waits move. A letter arrives at its time
//! by the sender's clock, or at once if the receiver is later already. A world that always turns
//! the shard whose [`SimIo::next_at`] or deadline is nearest keeps the clocks together.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use engine::pool::{FillBuf, Slice};
use engine::port::{ConnId, Done, Fault, Op, SEND_SLICES_MAX, Time};

use super::net_ops::take_front;
use super::{Event, SimIo};
use crate::mesh::{Link, LinkNumbers, opposite};

/// Longest time that a piece is under way, in ns.
const LINK_NS_MAX: u64 = 5_000;
/// Now and then the other shard is busy for this much longer.
const BUSY_NS_MAX: u64 = 200_000;

/// What the shards of one world send each other through. A clone is the same bus.
#[derive(Debug, Clone)]
pub struct LinkBus {
    /// By receiver.
    boxes: Rc<RefCell<Vec<VecDeque<Letter>>>>,
}

impl LinkBus {
    /// A bus for this many shards.
    pub fn new(shards: u16) -> LinkBus {
        let boxes = (0..shards).map(|_| VecDeque::new()).collect();
        LinkBus { boxes: Rc::new(RefCell::new(boxes)) }
    }

    fn shards(&self) -> u16 {
        u16::try_from(self.boxes.borrow().len()).expect("as many as it was made for")
    }
}

/// On its way to a shard.
#[derive(Debug)]
struct Letter {
    at: Time,
    /// The receiver's end of the link.
    link: Link,
    word: Word,
}

/// What links carry.
#[derive(Debug)]
pub(super) enum Word {
    /// Bytes of a send.
    Bytes(Vec<u8>),
    /// So many bytes were taken.
    Taken(usize),
}

/// Something that happens on a link.
#[derive(Debug)]
pub(super) enum LinkEvent {
    /// There are links.
    Introduced,
    /// A word of the other shard is here.
    Arrived(Link, Word),
    /// The open receive looks for bytes.
    Receive(Link),
    /// The open receive is cancelled.
    Cancel(Link),
}

/// An open send.
#[derive(Debug)]
struct Sending {
    slices: Vec<Slice>,
    /// What the slices held when it was submitted.
    bytes: Vec<u8>,
    /// Bytes of them that it sends.
    len: usize,
    /// Bytes of those that the other shard has taken.
    taken: usize,
}

/// Both directions of a link.
#[derive(Debug, Default)]
struct Stream {
    inbox: VecDeque<u8>,
    receiving: Option<(FillBuf, u32, u32)>,
    sending: Option<Sending>,
    /// When the newest letter of this end arrives: later ones arrive later.
    newest: Time,
}

/// One shard's place on the bus.
#[derive(Debug)]
pub(super) struct Links {
    bus: LinkBus,
    shard: u16,
    numbers: LinkNumbers,
    streams: Vec<Stream>,
}

impl Links {
    fn stream(&mut self, link: Link) -> &mut Stream {
        &mut self.streams[link.place()]
    }

    pub(super) fn next_at(&self) -> Option<Time> {
        self.bus.boxes.borrow()[usize::from(self.shard)].iter().map(|letter| letter.at).min()
    }

    pub(super) fn has(&self, conn: ConnId) -> bool {
        self.numbers.link(conn).is_some()
    }
}

impl SimIo {
    /// Connects this shard with the others on the bus: the next wait tells its links. Their
    /// numbers begin behind those of the connections.
    ///
    /// # Panics
    /// If it has been connected before.
    pub fn join(&mut self, bus: &LinkBus, shard: u16) {
        assert!(self.links.is_none(), "a shard has one place on one bus");
        let shards = bus.shards();
        self.links = Some(Links {
            bus: bus.clone(),
            shard,
            numbers: LinkNumbers::new(self.net.numbers_max(), shard, shards),
            streams: (0..2 * shards).map(|_| Stream::default()).collect(),
        });
        self.schedule_at(self.clock, Event::Link(LinkEvent::Introduced));
    }

    pub(super) fn is_link(&self, conn: ConnId) -> bool {
        self.links.as_ref().is_some_and(|links| links.has(conn))
    }

    /// Letters become events of this shard's own time.
    pub(super) fn take_letters(&mut self) {
        let Some(links) = &self.links else { return };
        let letters = std::mem::take(&mut links.bus.boxes.borrow_mut()[usize::from(links.shard)]);
        for Letter { at, link, word } in letters {
            self.schedule_at(at.max(self.clock), Event::Link(LinkEvent::Arrived(link, word)));
        }
    }

    pub(super) fn submit_link(&mut self, op: Op, slices: &[Slice]) {
        match op {
            Op::RecvInto { conn, mut buf, at, len } => {
                assert!(len > 0, "a receive asks for bytes");
                self.poison(&mut buf, at, usize::try_from(len).expect("u32 fits usize"));
                let (link, stream) = self.stream(conn);
                assert!(stream.receiving.is_none(), "{conn:?} has one receive at a time");
                stream.receiving = Some((buf, at, len));
                self.schedule(LINK_NS_MAX, Event::Link(LinkEvent::Receive(link)));
            }
            Op::RecvCancel { conn } => {
                let (link, _) = self.stream(conn);
                self.schedule(LINK_NS_MAX, Event::Link(LinkEvent::Cancel(link)));
            }
            Op::Send { conn, first, count } => {
                let first = usize::try_from(first).expect("u32 fits usize");
                let count = usize::try_from(count).expect("u32 fits usize");
                assert!((1..=SEND_SLICES_MAX).contains(&count), "a send has a bounded list");
                self.send_link(conn, slices[first..first + count].to_vec());
            }
            other => unreachable!("a link takes no such op: {other:?}"),
        }
    }

    fn stream(&mut self, conn: ConnId) -> (Link, &mut Stream) {
        let links = self.links.as_mut().expect("it has links");
        let link = links.numbers.link(conn).expect("it is one of them");
        (link, links.stream(link))
    }

    /// A send may be short, as on any stream; what it takes travels in pieces.
    fn send_link(&mut self, conn: ConnId, slices: Vec<Slice>) {
        let bytes = self.slices_bytes(&slices);
        assert!(!bytes.is_empty(), "a send has bytes");
        let len = self.piece_len(bytes.len());
        let mut pieces = Vec::new();
        let mut rest = &bytes[..len];
        while !rest.is_empty() {
            let (piece, tail) = rest.split_at(self.piece_len(rest.len()));
            pieces.push(piece.to_vec());
            rest = tail;
        }
        let (link, stream) = self.stream(conn);
        assert!(stream.sending.is_none(), "{conn:?} has one send at a time");
        stream.sending = Some(Sending { slices, bytes, len, taken: 0 });
        for piece in pieces {
            self.post(link, Word::Bytes(piece));
        }
    }

    fn post(&mut self, link: Link, word: Word) {
        let busy_ns = if self.rng.one_in(16) { self.rng.below(BUSY_NS_MAX) } else { 0 };
        let at = self.clock.plus_ns(self.rng.between(100, LINK_NS_MAX) + busy_ns);
        let links = self.links.as_mut().expect("it has links");
        let stream = links.stream(link);
        let at = at.max(stream.newest.plus_ns(1));
        stream.newest = at;
        let theirs = Link { peer: links.shard, end: opposite(link.end) };
        let mut boxes = links.bus.boxes.borrow_mut();
        boxes[usize::from(link.peer)].push_back(Letter { at, link: theirs, word });
    }

    pub(super) fn happen_on_link(&mut self, event: LinkEvent, dones: &mut Vec<Done>) {
        let links = self.links.as_mut().expect("it has links");
        match event {
            LinkEvent::Introduced => {
                let numbers = links.numbers;
                dones.extend(numbers.links().map(|link| Done::Linked {
                    conn: numbers.conn(link),
                    shard: link.peer,
                    end: link.end,
                }));
            }
            LinkEvent::Arrived(link, Word::Bytes(bytes)) => {
                links.stream(link).inbox.extend(bytes);
                self.look_at_link(link, dones);
            }
            LinkEvent::Arrived(link, Word::Taken(count)) => self.link_taken(link, count, dones),
            LinkEvent::Receive(link) => self.look_at_link(link, dones),
            LinkEvent::Cancel(link) => {
                let conn = links.numbers.conn(link);
                if let Some((buf, _, _)) = links.stream(link).receiving.take() {
                    dones.push(Done::Filled { conn, buf, result: Err(Fault::ECANCELED) });
                }
            }
        }
    }

    /// The open receive takes some of what is there.
    fn look_at_link(&mut self, link: Link, dones: &mut Vec<Done>) {
        let links = self.links.as_mut().expect("it has links");
        let conn = links.numbers.conn(link);
        let stream = links.stream(link);
        let there = stream.inbox.len();
        if there == 0 {
            return;
        }
        let Some((mut buf, at, len)) = stream.receiving.take() else { return };
        let wanted = usize::try_from(len).expect("u32 fits usize");
        let count = self.piece_len(there.min(wanted));
        let (_, stream) = self.stream(conn);
        let bytes = take_front(&mut stream.inbox, count);
        self.trace.bytes(&bytes);
        self.arena.copy_in(&mut buf, at, &bytes);
        self.post(link, Word::Taken(count));
        let result = Ok(u32::try_from(count).expect("no longer than asked"));
        dones.push(Done::Filled { conn, buf, result });
    }

    /// The open send ends when all that it has sent was taken.
    fn link_taken(&mut self, link: Link, count: usize, dones: &mut Vec<Done>) {
        let links = self.links.as_mut().expect("it has links");
        let conn = links.numbers.conn(link);
        let stream = links.stream(link);
        let Some(mut sending) = stream.sending.take() else { unreachable!("it was sent") };
        sending.taken += count;
        if sending.taken < sending.len {
            stream.sending = Some(sending);
            return;
        }
        let is_same = self.holds(&sending.slices, &sending.bytes);
        assert!(is_same, "slices of a send to {conn:?} were changed while it was open");
        let sent = u32::try_from(sending.len).expect("no longer than the slices");
        dones.push(Done::Sent { conn, result: Ok(sent) });
    }
}
