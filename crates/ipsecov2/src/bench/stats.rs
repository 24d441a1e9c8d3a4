//! Middle and spread.

/// The value in the middle; of an even number of them the mean of both. 0 of none.
pub(super) fn median(values: &[f64]) -> f64 {
    quarter(values, 2)
}

/// The distance between the quartiles, as a part of the median.
pub(super) fn spread(values: &[f64]) -> f64 {
    let median = median(values);
    if median > 0.0 { (quarter(values, 3) - quarter(values, 1)) / median } else { 0.0 }
}

/// The value below which so many quarters of the values lie, between neighbours in proportion.
fn quarter(values: &[f64], quarters: usize) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else { return 0.0 };
    let place = last * quarters;
    let (low, high) = (sorted[place / 4], sorted[place.div_ceil(4)]);
    low + (high - low) * f64::from((place % 4) as u8) / 4.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn middle_and_quartiles() {
        assert!(median(&[]).abs() < 1e-12 && spread(&[]).abs() < 1e-12 && spread(&[0.0]).abs() < 1e-12);
        assert!((median(&[3.0]) - 3.0).abs() < 1e-12);
        assert!((median(&[4.0, 1.0, 3.0, 2.0]) - 2.5).abs() < 1e-12);
        assert!((spread(&[5.0, 1.0, 4.0, 2.0, 3.0]) - 2.0 / 3.0).abs() < 1e-12);
        assert!(spread(&[7.0; 9]).abs() < 1e-12);
    }
}
