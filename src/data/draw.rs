//! Uniform draws from an address's stream.
//!
//! They are written here and not taken from a crate of distributions, because a dataset must stay
//! the same if a dependency changes how it turns random words into numbers.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;

/// A number in `0..n`, all equally likely: multiply and reject (Lemire 2019, arXiv:1805.10941).
///
/// # Panics
/// If `n` is 0.
pub(super) fn below(rng: &mut ChaCha8Rng, n: u32) -> u32 {
    assert!(n > 0, "there is no number below 0");
    let reject_below = n.wrapping_neg() % n;
    loop {
        let wide = u64::from(rng.next_u32()) * u64::from(n);
        if wide as u32 >= reject_below {
            return (wide >> 32) as u32;
        }
    }
}

/// A number in `low..=high`.
pub(super) fn between(rng: &mut ChaCha8Rng, low: u32, high: u32) -> u32 {
    low + below(rng, high - low + 1)
}

/// One of `items`.
///
/// # Panics
/// If `items` is empty.
pub(super) fn choose<T: Copy>(rng: &mut ChaCha8Rng, items: &[T]) -> T {
    items[below(rng, items.len() as u32) as usize]
}

/// A random permutation in place (Fisher–Yates).
pub(super) fn shuffle<T>(rng: &mut ChaCha8Rng, items: &mut [T]) {
    for last in (1..items.len()).rev() {
        items.swap(last, below(rng, last as u32 + 1) as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Address, Purpose};

    #[test]
    fn every_number_and_every_order_comes_up_equally_often() {
        let mut rng = Address::new(0, Purpose::Dataset, 0, "draw", &[]).stream();
        let mut counts = [0; 7];
        let mut orders = std::collections::BTreeMap::new();
        for _ in 0..7000 {
            counts[below(&mut rng, 7) as usize] += 1;
            let mut items = [0, 1, 2];
            shuffle(&mut rng, &mut items);
            *orders.entry(items).or_insert(0) += 1;
        }
        // 1000 expected each, standard deviation 29.
        assert!(counts.iter().all(|&n| (880..1120).contains(&n)), "{counts:?}");
        assert_eq!(orders.len(), 6);
        assert!(orders.values().all(|&n| (1020..1320).contains(&n)), "{orders:?}");
    }
}
