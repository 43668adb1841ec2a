//! Which of several choices nobody need regret.

/// Indexes of the points that no other point beats: none is as low in every figure and lower in
/// one. Figures that should be high come negated.
#[must_use]
pub fn pareto_front<const N: usize>(points: &[[f64; N]]) -> Vec<usize> {
    let beats = |a: &[f64; N], b: &[f64; N]| {
        a.iter().zip(b).all(|(a, b)| a <= b) && a.iter().zip(b).any(|(a, b)| a < b)
    };
    (0..points.len()).filter(|&at| !points.iter().any(|other| beats(other, &points[at]))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_unbeaten_are_left() {
        let points = [[1.0, 9.0], [2.0, 5.0], [3.0, 6.0], [9.0, 1.0], [2.0, 5.0]];
        assert_eq!(pareto_front(&points), [0, 1, 3, 4]);
        assert_eq!(pareto_front::<2>(&[]), Vec::<usize>::new());
    }
}
