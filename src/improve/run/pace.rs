//! How much is drawn and committed together: as much as takes about half a minute, judged by the
//! unit before.
//!
//! A crash, a limit or Ctrl-C costs at most one unit. Many small units cost speed: while the last
//! trajectories of a unit are drawn, threads run out of work. Where a unit ends changes no
//! trajectory.

/// Seconds that a unit should take.
const SECONDS: f64 = 30.0;
/// Trajectories that a thread draws together at most.
const TOGETHER_MAX: usize = 128;
/// How much larger a unit may be than the one before, whose time may have been an outlier.
const GROWTH_MAX: usize = 16;

/// The size of the next unit.
pub(super) struct Pace {
    least: usize,
    next: usize,
}

impl Pace {
    /// The pace before the first unit. All threads together hold `tokens_max` tokens, and a piece
    /// of work takes `tokens_each`. A unit is at least as large as what is drawn together.
    pub(super) fn new(threads: usize, tokens_max: usize, tokens_each: usize) -> Self {
        let held = tokens_max / tokens_each.max(1);
        let least = held.clamp(1, TOGETHER_MAX * threads.max(1));
        Self { least, next: least }
    }

    /// Takes the next unit off the rest. A remainder that would make a small unit is included.
    pub(super) fn unit<'a, T>(&self, rest: &mut &'a [T]) -> &'a [T] {
        let count = if rest.len() < self.next + self.next / 2 { rest.len() } else { self.next };
        let (unit, others) = rest.split_at(count);
        *rest = others;
        unit
    }

    /// Learns how long a unit of `count` pieces took.
    pub(super) fn took(&mut self, count: usize, seconds: f64) {
        let wanted = count as f64 * SECONDS / seconds.max(1e-3);
        self.next = (wanted as usize).min(count.saturating_mul(GROWTH_MAX)).max(self.least);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_take_as_long_as_they_should() {
        let work = vec![(); 100_000];
        let (mut pace, mut rest) = (Pace::new(2, 1 << 20, 100), work.as_slice());
        let mut sizes = Vec::new();
        while !rest.is_empty() {
            let unit = pace.unit(&mut rest).len();
            // A hundredth of a second each, and twenty times as long towards the end.
            pace.took(unit, unit as f64 * if sizes.len() < 5 { 0.01 } else { 0.2 });
            sizes.push(unit);
        }
        assert_eq!(sizes[..4], [256, 3000, 3000, 3000]);
        assert!(
            sizes[6..sizes.len() - 1].iter().all(|&size| size == 256),
            "not below what threads hold: {sizes:?}"
        );
        assert!((128..384).contains(&sizes[sizes.len() - 1]), "no small rest: {sizes:?}");
        assert_eq!(sizes.iter().sum::<usize>(), work.len());
    }

    #[test]
    fn an_outlier_changes_little() {
        assert_eq!(Pace::new(64, 32_768, 300).least, 109, "no more than fit");
        let mut pace = Pace::new(1, 1 << 20, 100);
        pace.took(128, 0.0);
        assert_eq!(pace.unit(&mut [0; 1 << 20].as_slice()).len(), 128 * GROWTH_MAX);
        pace.took(1, 1e9);
        assert_eq!(pace.unit(&mut [0; 1000].as_slice()).len(), 128);
    }
}
