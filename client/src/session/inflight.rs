//! The requests whose replies are awaited, within the window that hello granted.

use wire::Kind;

/// Names a request in flight. Its number goes over the wire as the correlation id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct RequestId(u64);

impl RequestId {
    /// A number below the connection's window that no other request in flight has: an index
    /// into whatever the caller keeps per request.
    pub fn slot(self) -> usize {
        usize::try_from(self.0 & u64::from(u32::MAX)).expect("32 bits fit usize")
    }

    /// The request with this correlation id.
    pub(super) const fn of(number: u64) -> RequestId {
        RequestId(number)
    }

    /// The correlation id.
    pub const fn number(self) -> u64 {
        self.0
    }
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    /// What is in flight, or was last; its upper half counts the slot's uses.
    id: u64,
    waiting: Option<(Kind, u32)>,
}

/// Slots of requests in flight; a freed slot is used again first.
#[derive(Debug)]
pub(super) struct Inflight {
    slots: Vec<Slot>,
    free: Vec<u32>,
    bytes: u64,
}

impl Inflight {
    pub(super) const fn new() -> Self {
        Inflight { slots: Vec::new(), free: Vec::new(), bytes: 0 }
    }

    pub(super) fn count(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The id that the next [`Inflight::insert`] uses.
    pub(super) fn next_id(&self) -> RequestId {
        match self.free.last() {
            Some(&slot) => {
                let index = usize::try_from(slot).expect("32 bits fit usize");
                RequestId(self.slots[index].id.wrapping_add(1 << 32))
            }
            None => RequestId((1 << 32) | u64::try_from(self.slots.len()).expect("bounded")),
        }
    }

    pub(super) fn insert(&mut self, kind: Kind, frame_bytes: usize) -> RequestId {
        let id = self.next_id();
        let bytes = u32::try_from(frame_bytes).expect("frames are bounded");
        let slot = Slot { id: id.0, waiting: Some((kind, bytes)) };
        match self.free.pop() {
            Some(_) => self.slots[id.slot()] = slot,
            None => self.slots.push(slot),
        }
        self.bytes += u64::from(bytes);
        id
    }

    /// Ends the request with this correlation id; gives its kind, or `None` if there is none.
    pub(super) fn remove(&mut self, correlation_id: u64) -> Option<(RequestId, Kind)> {
        let id = RequestId(correlation_id);
        let slot = self.slots.get_mut(id.slot()).filter(|slot| slot.id == correlation_id)?;
        let (kind, bytes) = slot.waiting.take()?;
        self.free.push(u32::try_from(id.slot()).expect("slots are 32 bits"));
        self.bytes -= u64::from(bytes);
        Some((id, kind))
    }

    /// The requests that have no reply yet, in no order.
    pub(super) fn waiting(&self) -> impl Iterator<Item = RequestId> + '_ {
        self.slots.iter().filter(|slot| slot.waiting.is_some()).map(|slot| RequestId(slot.id))
    }
}
