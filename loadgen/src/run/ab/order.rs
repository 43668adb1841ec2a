//! In which order the arms run: neither is always first, and a drift of the machine meets both.

use crate::random::Random;

/// One of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arm {
    A,
    B,
}

impl Arm {
    pub(super) fn letter(self) -> char {
        match self {
            Self::A => 'a',
            Self::B => 'b',
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::B => "B",
        }
    }

    fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

/// Blocks of ABBA or BAAB as the seed has it, so that a drift which is a straight line cancels out;
/// of an odd number, a pair at the end.
pub(super) fn order(repeat: u32, seed: u64) -> Vec<Arm> {
    let mut random = Random::stream(seed, 4);
    let mut order = Vec::new();
    for block in 0..repeat.div_ceil(2) {
        let first = if random.below(2) == 0 { Arm::A } else { Arm::B };
        order.extend([first, first.other()]);
        if block * 2 + 1 < repeat {
            order.extend([first.other(), first]);
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_arms_run_as_often_and_a_drift_meets_both() {
        for repeat in 2..9 {
            let order = order(repeat, 3);
            let of_a = order.iter().filter(|&&arm| arm == Arm::A).count();
            assert_eq!((order.len(), of_a), (2 * repeat as usize, repeat as usize));
            let place = |wanted: Arm| -> usize {
                let places = (0..).zip(&order).filter(|(_, arm)| **arm == wanted);
                places.map(|(place, _)| place).sum()
            };
            if repeat % 2 == 0 {
                assert_eq!(place(Arm::A), place(Arm::B), "{order:?}");
            }
        }
        let first = |seed| order(2, seed)[0];
        assert!((0..20).any(|seed| first(seed) != first(0)), "the seed decides");
        assert_eq!(order(5, 9), order(5, 9));
    }
}
