//! The order of training examples, and the course of the learning rate.
//!
//! Both are pure functions: which groups an update sees depends only on the address, so a phase
//! that was interrupted resumes with exactly the updates that were left.

use rand_chacha::rand_core::Rng;

use super::Group;
use crate::domain::Address;

/// Which groups each of `steps` updates trains on, as indices into `kept` followed by `replay`.
///
/// An update is filled until the next group would exceed `step_tokens` (prompts included; one group
/// always fits). Both sets are walked in shuffled passes: every group comes once before any comes
/// again. The next group comes from the set that has had less than its share of all tokens so far.
/// So `replay_share` holds over the whole schedule and nearly in every update. If one set is empty
/// the other fills everything; if both are, the schedule is empty.
///
/// It ends early, after the update in which the kept set was walked `epochs_max` times: few examples
/// get few updates. 0 walks as often as it takes, and so does an empty kept set.
pub fn schedule(
    kept: &[Group],
    replay: &[Group],
    (steps, epochs_max): (u32, f64),
    step_tokens: usize,
    replay_share: f64,
    address: &Address,
) -> Vec<Vec<usize>> {
    let mut kept_passes = Passes::new(0..kept.len(), address.child(0));
    let mut replay_passes = Passes::new(kept.len()..kept.len() + replay.len(), address.child(1));
    let tokens = |i: usize| kept.get(i).unwrap_or_else(|| &replay[i - kept.len()]).tokens();
    let share = match (kept.is_empty(), replay.is_empty()) {
        (true, true) => return Vec::new(),
        (true, false) => 1.0,
        (false, true) => 0.0,
        (false, false) => replay_share,
    };
    // Tokens given out so far: of the replay set, and of both.
    let (mut replayed, mut total) = (0, 0);
    let mut schedule = Vec::with_capacity(steps as usize);
    for _ in 0..steps {
        if epochs_max > 0.0 && !kept.is_empty() && kept_passes.epochs() >= epochs_max {
            break;
        }
        let (mut step, mut filled) = (Vec::new(), 0);
        loop {
            // Ties go to the kept set, so a share of 0 never replays.
            let from_replay = share == 1.0 || (replayed as f64) < share * total as f64;
            let passes = if from_replay { &mut replay_passes } else { &mut kept_passes };
            let next = passes.peek();
            if filled > 0 && filled + tokens(next) > step_tokens {
                break;
            }
            passes.advance();
            filled += tokens(next);
            total += tokens(next);
            replayed += if from_replay { tokens(next) } else { 0 };
            step.push(next);
        }
        schedule.push(step);
    }
    schedule
}

/// Endless shuffled passes over a set of indices; pass `p` is shuffled by the stream at
/// `address.child(p)`.
struct Passes {
    indices: Vec<usize>,
    address: Address,
    pass: u32,
    next: usize,
}

impl Passes {
    fn new(range: std::ops::Range<usize>, address: Address) -> Self {
        let mut passes = Self { indices: range.collect(), address, pass: 0, next: 0 };
        passes.shuffle();
        passes
    }

    /// How often the set was walked, with the part of the pass that is under way.
    fn epochs(&self) -> f64 {
        f64::from(self.pass) + self.next as f64 / self.indices.len().max(1) as f64
    }

    fn peek(&self) -> usize {
        self.indices[self.next]
    }

    fn advance(&mut self) {
        self.next += 1;
        if self.next == self.indices.len() {
            self.next = 0;
            self.pass += 1;
            self.shuffle();
        }
    }

    /// Fisher–Yates over the sorted indices. A draw below `n` is the high word of `n · u64`: its
    /// bias, below 2⁻⁴⁰ for any set that fits in memory, buys independence from library versions.
    fn shuffle(&mut self) {
        self.indices.sort_unstable();
        let mut stream = self.address.child(self.pass).stream();
        for i in (1..self.indices.len()).rev() {
            let j = (u128::from(stream.next_u64()) * (i as u128 + 1)) >> 64;
            self.indices.swap(i, j as usize);
        }
    }
}

/// The course of the learning rate: a factor on every base rate.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum LearningRate {
    /// Linear warm-up, then half a cosine down to `floor` of the base rate (Loshchilov and Hutter
    /// 2017).
    Cosine { warmup_steps: u32, floor: f64 },
    /// Linear warm-up, constant, then a linear fall towards zero over the last `decay_steps` steps
    /// (warm-up-stable-decay, Hu et al. 2024).
    Trapezoid { warmup_steps: u32, decay_steps: u32 },
}

impl LearningRate {
    /// The factor for update `step` (counted from 0) of `steps`; above 0 and at most 1.
    pub fn factor(self, step: u32, steps: u32) -> f64 {
        let (step, steps) = (f64::from(step), f64::from(steps.max(1)));
        let ramp = |warmup: u32| if warmup == 0 { 1.0 } else { ((step + 1.0) / f64::from(warmup)).min(1.0) };
        match self {
            Self::Cosine { warmup_steps, floor } => {
                let warmup = f64::from(warmup_steps);
                let progress = ((step - warmup) / (steps - warmup).max(1.0)).clamp(0.0, 1.0);
                ramp(warmup_steps) * (floor + (1.0 - floor) * half_cosine(progress))
            }
            Self::Trapezoid { warmup_steps, decay_steps } => {
                let falling = f64::from(decay_steps.max(1));
                ramp(warmup_steps) * ((steps - step) / falling).clamp(0.0, 1.0)
            }
        }
    }
}

/// (1 + cos πp)/2 for p in [0, 1], as (1 + sin x)/2 with x = π(½ − p), by sine's series: libm
/// libraries don't agree on the last bit, and that bit would end up in the weights.
fn half_cosine(p: f64) -> f64 {
    let x = std::f64::consts::PI * (0.5 - p);
    let square = x * x;
    // Horner's scheme over x²: the last term left out is below 1e-17.
    let series = (1..=11).rev().fold(1.0, |sum, k| 1.0 - square * sum / f64::from(2 * k * (2 * k + 1)));
    0.5 * (1.0 + x * series)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::domain::Purpose;
    use crate::train::example_from_solution;

    fn set(count: usize, tokens: impl Fn(usize) -> usize) -> Vec<Group> {
        (0..count).map(|i| example_from_solution(&vec![1; tokens(i) - 2], &[3, 2], "t").into()).collect()
    }

    fn address() -> Address {
        Address::new(3, Purpose::Training, 1, "", &[])
    }

    #[test]
    fn the_replay_share_holds_by_tokens_and_passes_are_complete() {
        let (kept, replay) = (set(50, |i| 300 + i), set(20, |i| 40 + i));
        let schedule = schedule(&kept, &replay, (80, 0.0), 6144, 0.25, &address());
        assert_eq!(schedule.len(), 80);
        let tokens = |i: usize| if i < 50 { kept[i].tokens() } else { replay[i - 50].tokens() };
        let (mut replayed, mut total) = (0, 0);
        let mut times: HashMap<usize, usize> = HashMap::new();
        for step in &schedule {
            let filled: usize = step.iter().map(|&i| tokens(i)).sum();
            assert!(filled <= 6144 && filled > 6144 - 350, "{filled}");
            total += filled;
            replayed += step.iter().filter(|&&i| i >= 50).map(|&i| tokens(i)).sum::<usize>();
            step.iter().for_each(|&i| *times.entry(i).or_default() += 1);
        }
        let share = replayed as f64 / total as f64;
        assert!((share - 0.25).abs() < 0.001, "{share}");
        for range in [0..50, 50..70] {
            let counts: Vec<_> = range.map(|i| times[&i]).collect();
            let (low, high) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
            assert!(high - low <= 1, "{counts:?}");
        }
    }

    #[test]
    fn it_is_a_function_of_the_address_and_a_prefix_of_a_longer_one() {
        let (kept, replay) = (set(9, |i| 30 + i), set(4, |_| 20));
        let run = |steps, address: &Address| schedule(&kept, &replay, (steps, 0.0), 100, 0.25, address);
        assert_eq!(run(20, &address()), run(20, &address()));
        assert_eq!(run(20, &address())[..7], run(7, &address()));
        assert_ne!(run(20, &address()), run(20, &address().child(1)));
    }

    #[test]
    fn few_examples_get_few_updates() {
        let (kept, replay) = (set(9, |_| 30), set(4, |_| 20));
        let all = schedule(&kept, &replay, (40, 0.0), 100, 0.25, &address());
        let few = schedule(&kept, &replay, (40, 3.0), 100, 0.25, &address());
        assert_eq!(few[..], all[..few.len()], "the beginning is the same");
        let of_kept = few.iter().flatten().filter(|&&i| i < 9).count();
        assert!((27..30).contains(&of_kept) && few.len() < 20, "{of_kept} in {} updates", few.len());
        assert_eq!(schedule(&kept, &replay, (40, 100.0), 100, 0.25, &address()), all);
        let easy_only = schedule(&[], &replay, (40, 2.0), 40, 0.25, &address());
        assert_eq!(easy_only.len(), 40, "a control arm makes as many updates");
    }

    #[test]
    fn an_empty_set_leaves_the_room_to_the_other() {
        let some = set(3, |_| 10);
        let all = |kept: &[Group], replay: &[Group], share| {
            schedule(kept, replay, (2, 0.0), 40, share, &address()).concat()
        };
        assert_eq!(all(&some, &[], 0.25).len(), 8);
        assert_eq!(all(&[], &some, 0.25).len(), 8);
        assert!(all(&[], &[], 0.25).is_empty());
        assert!(all(&some, &some, 0.0).iter().all(|&i| i < 3));
        let long = set(1, |_| 500);
        assert_eq!(schedule(&long, &[], (2, 0.0), 40, 0.0, &address()), [[0], [0]]);
    }

    #[test]
    fn the_learning_rate_rises_and_falls() {
        let cosine = LearningRate::Cosine { warmup_steps: 10, floor: 0.1 };
        let factors: Vec<_> = (0..100).map(|s| cosine.factor(s, 100)).collect();
        assert!((factors[0] - 0.1).abs() < 1e-12 && factors[9] == 1.0 && factors[10] == 1.0);
        assert!(factors[..10].is_sorted() && factors[10..].iter().rev().is_sorted());
        assert!(factors[99] > 0.1 && factors[99] < 0.11);

        let trapezoid = LearningRate::Trapezoid { warmup_steps: 50, decay_steps: 300 };
        let factors: Vec<_> = (0..1000).map(|s| trapezoid.factor(s, 1000)).collect();
        assert_eq!((factors[0], factors[49], factors[700]), (0.02, 1.0, 1.0));
        assert!((factors[850] - 0.5).abs() < 1e-12 && factors[999] > 0.0 && factors[999] < 0.01);
        for i in 0..=1000 {
            let p = f64::from(i) / 1000.0;
            let exact = 0.5 * (1.0 + (std::f64::consts::PI * p).cos());
            assert!((half_cosine(p) - exact).abs() < 1e-15, "{p}");
        }
        let none = LearningRate::Trapezoid { warmup_steps: 0, decay_steps: 0 };
        assert!((0..10).all(|s| none.factor(s, 10) == 1.0));
    }
}
