//! Figures of several rounds or many values.

/// The middle one; of an even number the mean of the two in the middle; 0 of none.
pub fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.as_slice() {
        [] => 0.0,
        odd if odd.len() % 2 == 1 => odd[middle],
        even => f64::midpoint(even[middle - 1], even[middle]),
    }
}

/// A percentile of sorted figures; infinite of none, because what never came took for ever.
pub fn percentile(sorted: &[f64], share: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    sorted.get((last as f64 * share).round() as usize).copied().unwrap_or(f64::INFINITY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn middles_and_ends_are_found() {
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(&[]), 0.0);
        assert_eq!((percentile(&[1.0, 2.0, 3.0], 0.5), percentile(&[1.0, 2.0, 3.0], 1.0), percentile(&[], 0.5)), (2.0, 3.0, f64::INFINITY));
    }
}
