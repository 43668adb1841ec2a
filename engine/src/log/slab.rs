//! A table of slots that are reused. Its numbers stay small, so they fit into op tags.

use crate::units::{u32_of, usize_of};

/// Values by slot number.
#[derive(Debug)]
pub struct Slab<T> {
    slots: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Slab { slots: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    /// Puts a value into a free slot.
    pub fn insert(&mut self, value: T) -> u32 {
        if let Some(slot) = self.free.pop() {
            self.slots[usize_of(slot)] = Some(value);
            return slot;
        }
        self.slots.push(Some(value));
        u32_of(self.slots.len() - 1)
    }

    /// Takes the value out, which frees the slot.
    pub fn remove(&mut self, slot: u32) -> Option<T> {
        let value = self.slots.get_mut(usize_of(slot))?.take()?;
        self.free.push(slot);
        Some(value)
    }

    /// The value in a slot.
    pub fn get(&self, slot: u32) -> Option<&T> {
        self.slots.get(usize_of(slot))?.as_ref()
    }

    /// The value in a slot, to change.
    pub fn get_mut(&mut self, slot: u32) -> Option<&mut T> {
        self.slots.get_mut(usize_of(slot))?.as_mut()
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Every value with its slot, in slot order.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        let with_slot = self.slots.iter().enumerate();
        with_slot.filter_map(|(slot, value)| Some((u32_of(slot), value.as_ref()?)))
    }
}
