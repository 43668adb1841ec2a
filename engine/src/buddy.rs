//! A buddy allocator over page numbers. Allocations are trimmed to whole pages: what a power of
//! two has too much goes straight back.

/// Largest block: 2^9 pages, 2 MiB.
const ORDER_MAX: usize = 9;
/// Most pages of one allocation.
pub const PAGES_MAX: usize = 1 << ORDER_MAX;
/// No page: the end of a list.
const NONE: u32 = u32::MAX;
/// Mark of a page that is not the head of a free block.
const NOT_FREE: u8 = u8::MAX;

#[derive(Debug, Clone, Copy)]
struct Link {
    previous: u32,
    next: u32,
}

/// Which pages are free.
#[derive(Debug)]
pub struct Buddy {
    /// Order of the free block that starts at this page, or `NOT_FREE`.
    orders: Vec<u8>,
    links: Vec<Link>,
    heads: [u32; ORDER_MAX + 1],
    free_pages: usize,
}

impl Buddy {
    /// `pages` free pages, a multiple of [`PAGES_MAX`].
    pub fn new(pages: usize) -> Buddy {
        assert!(pages > 0 && pages.is_multiple_of(PAGES_MAX), "whole largest blocks");
        let mut buddy = Buddy {
            orders: vec![NOT_FREE; pages],
            links: vec![Link { previous: NONE, next: NONE }; pages],
            heads: [NONE; ORDER_MAX + 1],
            free_pages: 0,
        };
        for block in (0..pages / PAGES_MAX).rev() {
            buddy.insert(page_u32(block * PAGES_MAX), ORDER_MAX);
        }
        buddy
    }

    /// How many pages are free.
    pub const fn free_pages(&self) -> usize {
        self.free_pages
    }

    /// `pages` pages in a row, 1 to [`PAGES_MAX`]; gives the first.
    pub fn alloc(&mut self, pages: usize) -> Option<u32> {
        let order = order_of(pages);
        let found = (order..=ORDER_MAX).find(|&order| self.heads[order] != NONE)?;
        let page = self.heads[found];
        self.remove(page, found);
        for half in (order..found).rev() {
            self.insert(page + page_u32(1 << half), half);
        }
        let surplus = (1 << order) - pages;
        if surplus > 0 {
            self.free(page + page_u32(pages), surplus);
        }
        Some(page)
    }

    /// Gives `pages` pages from `page` on back: all or part of allocations.
    pub fn free(&mut self, page: u32, pages: usize) {
        let mut at = usize::try_from(page).expect("u32 fits usize");
        let end = at + pages;
        while at < end {
            let aligned = (at.trailing_zeros() as usize).min(ORDER_MAX);
            let fits = (end - at).ilog2() as usize;
            let order = aligned.min(fits);
            self.merge(page_u32(at), order);
            at += 1 << order;
        }
    }

    fn merge(&mut self, mut page: u32, mut order: usize) {
        while order < ORDER_MAX {
            let buddy = page ^ page_u32(1 << order);
            if usize::from(self.orders[index(buddy)]) != order {
                break;
            }
            self.remove(buddy, order);
            page = page.min(buddy);
            order += 1;
        }
        self.insert(page, order);
    }

    fn insert(&mut self, page: u32, order: usize) {
        assert_eq!(self.orders[index(page)], NOT_FREE, "a page is freed once");
        let next = self.heads[order];
        self.links[index(page)] = Link { previous: NONE, next };
        if next != NONE {
            self.links[index(next)].previous = page;
        }
        self.heads[order] = page;
        self.orders[index(page)] = u8::try_from(order).expect("orders are below 10");
        self.free_pages += 1 << order;
    }

    fn remove(&mut self, page: u32, order: usize) {
        let Link { previous, next } = self.links[index(page)];
        if previous == NONE {
            self.heads[order] = next;
        } else {
            self.links[index(previous)].next = next;
        }
        if next != NONE {
            self.links[index(next)].previous = previous;
        }
        self.orders[index(page)] = NOT_FREE;
        self.free_pages -= 1 << order;
    }
}

fn order_of(pages: usize) -> usize {
    assert!((1..=PAGES_MAX).contains(&pages), "allocations are 1 to PAGES_MAX pages");
    pages.next_power_of_two().trailing_zeros() as usize
}

fn page_u32(page: usize) -> u32 {
    u32::try_from(page).expect("arenas are below 16 TiB")
}

fn index(page: u32) -> usize {
    usize::try_from(page).expect("u32 fits usize")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Allocates and frees by a fixed recipe; no page is ever given twice, and in the end the
    /// largest blocks are back.
    #[test]
    fn random_use_neither_overlaps_nor_leaks() {
        let pages = 4 * PAGES_MAX;
        let mut buddy = Buddy::new(pages);
        let mut owner = vec![0u32; pages];
        let mut live: Vec<(u32, usize)> = Vec::new();
        let mut seed = 0x9e37_79b9_7f4a_7c15u64;
        for round in 1..20_000u32 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let random = usize::try_from(seed >> 33).expect("31 bits");
            if random.is_multiple_of(2) || live.is_empty() {
                let want = 1 + (random / 2) % 40;
                if let Some(page) = buddy.alloc(want) {
                    let range = index(page)..index(page) + want;
                    assert!(owner[range.clone()].iter().all(|&o| o == 0));
                    owner[range].fill(round);
                    live.push((page, want));
                }
            } else {
                let (page, count) = live.swap_remove(random % live.len());
                owner[index(page)..index(page) + count].fill(0);
                buddy.free(page, count);
            }
            let used: usize = live.iter().map(|(_, count)| count).sum();
            assert_eq!(buddy.free_pages(), pages - used);
        }
        for (page, count) in live {
            buddy.free(page, count);
        }
        let whole: Vec<_> = (0..4).map(|_| buddy.alloc(PAGES_MAX)).collect();
        assert!(whole.iter().all(Option::is_some));
    }
}
