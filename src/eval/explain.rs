//! What else explains a figure: answering the same to everything, and writing answers in a form that
//! can be read.
//!
//! A policy's pass@1 is the share of its answers that are readable times the share of those that are
//! right. A gain that a constant answer or readable answers explain is none of ability. Pure, as the
//! rest of the room.

use std::collections::{BTreeMap, BTreeSet};

use crate::answer;
use crate::domain::stats::{self, Interval};
use crate::domain::{Address, Task, TaskKind};

/// Gold answers that are tried as the constant one: the most frequent.
const CONSTANTS_TRIED: usize = 20;
/// Answers that are listed.
const ANSWERS_SHOWN: usize = 5;
/// How many times fewer different golds than tasks make a closed set of answers.
const CLOSED: usize = 3;

/// The one answer that scores most if it is given to every task.
#[derive(Clone, Debug, PartialEq)]
pub struct Constant {
    pub answer: String,
    /// Share of the tasks for which it is right.
    pub pass1: f64,
}

/// The best constant answer to these tasks; `None` if no task has a gold answer. `verdict` is that
/// of an answer to a task.
pub fn best_constant<'t>(
    tasks: impl Iterator<Item = &'t Task> + Clone,
    verdict: &dyn Fn(&Task, Option<&str>) -> Option<bool>,
) -> Option<Constant> {
    let mut golds: BTreeMap<String, usize> = BTreeMap::new();
    for task in tasks.clone() {
        if let Some(gold) = task.answer.as_deref().and_then(|gold| answer::gold(task.kind, gold)) {
            *golds.entry(gold).or_default() += 1;
        }
    }
    let mut golds: Vec<(String, usize)> = golds.into_iter().collect();
    golds.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let score = |answer: &str| {
        let (mut right, mut n) = (0, 0);
        for verdict in tasks.clone().filter_map(|task| verdict(task, Some(answer))) {
            n += 1;
            right += usize::from(verdict);
        }
        right as f64 / f64::from(n.max(1))
    };
    let scored = golds.into_iter().take(CONSTANTS_TRIED).map(|(answer, _)| (score(&answer), answer));
    // The first of equals is the most frequent.
    let best = scored.reduce(|best, next| if next.0 > best.0 { next } else { best })?;
    Some(Constant { answer: best.1, pass1: best.0 })
}

/// Which answers count as readable.
///
/// Where the golds of texts are a closed set (yes and no, true and false), another text is as
/// unreadable as none: a policy that writes "not false" has not answered.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Readable {
    closed: Option<BTreeSet<String>>,
}

impl Readable {
    /// For answers to these tasks.
    pub fn of<'t>(tasks: impl Iterator<Item = &'t Task>) -> Self {
        let (mut golds, mut n, mut texts) = (BTreeSet::new(), 0, true);
        for task in tasks {
            n += 1;
            texts &= matches!(task.kind, TaskKind::Exact | TaskKind::Text);
            golds.extend(task.answer.as_deref().and_then(|gold| answer::gold(task.kind, gold)));
        }
        let is_closed = texts && !golds.is_empty() && golds.len() * CLOSED <= n;
        Self { closed: is_closed.then_some(golds) }
    }

    /// Whether this answer is one.
    pub fn is(&self, answer: Option<&str>) -> bool {
        answer.is_some_and(|answer| self.closed.as_ref().is_none_or(|golds| golds.contains(answer)))
    }
}

/// One task as a policy answered it.
#[derive(Clone, Debug, PartialEq)]
pub struct Answered {
    pub answer: Option<String>,
    pub readable: bool,
    pub right: bool,
}

/// What a policy's answers are.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// Share of the answers that are readable.
    pub readable: f64,
    /// Share of those that are right; `None` if there are none.
    pub right_if_readable: Option<f64>,
    /// The most frequent answers with their shares; `None` is no answer.
    pub answers: Vec<(Option<String>, f64)>,
    /// Entropy of the answers over all tasks, in bits; 0 if they are all the same.
    pub entropy_bits: f64,
}

/// The profile of these answers; `None` without any.
pub fn profile<'a>(answered: impl Iterator<Item = &'a Answered>) -> Option<Profile> {
    let (mut counts, mut n, mut readable, mut right) = (BTreeMap::<Option<&str>, usize>::new(), 0, 0, 0);
    for one in answered {
        n += 1;
        readable += usize::from(one.readable);
        right += usize::from(one.readable && one.right);
        *counts.entry(one.answer.as_deref()).or_default() += 1;
    }
    if n == 0 {
        return None;
    }
    let share = |count: usize| count as f64 / n as f64;
    let entropy_bits = counts.values().map(|&count| -share(count) * share(count).log2()).sum::<f64>();
    let mut counts: Vec<(Option<&str>, usize)> = counts.into_iter().collect();
    counts.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let answers = counts.into_iter().take(ANSWERS_SHOWN);
    Some(Profile {
        readable: share(readable),
        right_if_readable: (readable > 0).then(|| right as f64 / readable as f64),
        answers: answers.map(|(answer, count)| (answer.map(str::to_owned), share(count))).collect(),
        entropy_bits: entropy_bits.max(0.0),
    })
}

/// The parts of a gain, in shares, each with its interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Parts {
    /// What more, or fewer, readable answers give.
    pub format: Interval,
    /// What being right more often among readable answers gives.
    pub substance: Interval,
}

/// Splits the gain of `after` over `before` on the same tasks, in their order.
///
/// Each part is the change of its factor times the mean of the other (Shapley 1953), so the two sum
/// to the gain. Without a readable answer on one side, how right that side would be is not known,
/// and nothing is credited to substance.
///
/// # Panics
/// If the two differ in length or are empty.
pub fn parts(before: &[&Answered], after: &[&Answered], confidence: f64, address: &Address) -> Parts {
    assert_eq!(before.len(), after.len(), "paired observations differ in number");
    let factors = |answered: &[&Answered], of: &[usize]| {
        let readable = of.iter().filter(|&&i| answered[i].readable).count();
        let right = of.iter().filter(|&&i| answered[i].readable && answered[i].right).count();
        let share = readable as f64 / of.len() as f64;
        (share, (readable > 0).then(|| right as f64 / readable as f64))
    };
    let split = |of: &[usize]| {
        let ((r0, c0), (r1, c1)) = (factors(before, of), factors(after, of));
        let (c0, c1) = (c0.or(c1).unwrap_or(0.0), c1.or(c0).unwrap_or(0.0));
        [(r1 - r0) * (c0 + c1) / 2.0, (c1 - c0) * (r0 + r1) / 2.0]
    };
    let [format, substance] = stats::bootstrap(before.len(), confidence, address, split);
    Parts { format, substance }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Purpose, Split};

    fn task(kind: TaskKind, gold: &str) -> Task {
        Task {
            id: "t".into(),
            kind,
            split: Split::HeldOut,
            level: 1,
            question: "q".into(),
            answer: Some(gold.to_owned()),
            solution: None,
        }
    }

    fn answered(answer: &str, gold: &str, readable: &Readable) -> Answered {
        let answer = Some(answer).filter(|answer| !answer.is_empty());
        let (readable, right) = (readable.is(answer), answer == Some(gold));
        Answered { answer: answer.map(str::to_owned), readable, right }
    }

    #[test]
    fn the_best_constant_answers_most_tasks() {
        let tasks: Vec<Task> =
            ["True", "False", "True", "True"].map(|gold| task(TaskKind::Exact, gold)).into();
        let verdict = |task: &Task, answer: Option<&str>| answer::is_right(task, answer);
        let best = best_constant(tasks.iter(), &verdict).unwrap();
        assert_eq!(best, Constant { answer: answer::gold(TaskKind::Exact, "True").unwrap(), pass1: 0.75 });
        assert_eq!(best_constant([].iter(), &verdict), None);
        // Equal values count, however they are written.
        let numbers =
            [task(TaskKind::Number, "1,000"), task(TaskKind::Number, "1000"), task(TaskKind::Number, "7")];
        assert_eq!(best_constant(numbers.iter(), &verdict).unwrap().pass1, 2.0 / 3.0);
    }

    #[test]
    fn in_a_closed_set_another_text_is_unreadable() {
        let tasks: Vec<Task> = (0..12).map(|i| task(TaskKind::Exact, ["True", "False"][i % 2])).collect();
        let readable = Readable::of(tasks.iter());
        let gold = answer::gold(TaskKind::Exact, "True").unwrap();
        assert!(readable.is(Some(&gold)) && !readable.is(Some("not")) && !readable.is(None));
        let open: Vec<Task> = (0..12).map(|i| task(TaskKind::Exact, &format!("word {i}"))).collect();
        assert!(Readable::of(open.iter()).is(Some("not")));
        let numbers: Vec<Task> = (0..12).map(|_| task(TaskKind::Number, "7")).collect();
        assert!(Readable::of(numbers.iter()).is(Some("9")), "a wrong number can be read");
    }

    #[test]
    fn a_profile_is_of_all_answers() {
        let readable = Readable::default();
        let all = ["a", "a", "b", ""].map(|answer| answered(answer, "a", &readable));
        let profile = profile(all.iter()).unwrap();
        assert_eq!((profile.readable, profile.right_if_readable), (0.75, Some(2.0 / 3.0)));
        assert_eq!(profile.answers[0], (Some("a".to_owned()), 0.5));
        assert_eq!(profile.entropy_bits, 1.5);
        assert_eq!(super::profile([].iter()), None);
    }

    /// The published run that this module exists for: everything is answered "true" afterwards.
    #[test]
    fn a_gain_of_format_is_told_from_one_of_substance() {
        let address = Address::new(0, Purpose::Evaluation, 0, "t", &[]);
        let closed = Readable { closed: Some(["a", "b"].map(str::to_owned).into()) };
        let gold = |i: usize| if i.is_multiple_of(2) { "a" } else { "b" };
        let make = |answer: &dyn Fn(usize) -> &'static str| -> Vec<Answered> {
            (0..200).map(|i| answered(answer(i), gold(i), &closed)).collect()
        };
        // Half is unreadable, and half of the rest is right; then all is readable, and half is right.
        let before = make(&|i| if i % 4 < 2 { "a" } else { "not" });
        let after = make(&|_| "a");
        let refs = |all: &'static [Answered]| all.iter().collect::<Vec<_>>();
        let (before, after) = (refs(Vec::leak(before)), refs(Vec::leak(after)));
        let Parts { format, substance } = parts(&before, &after, 0.95, &address);
        assert!((format.mean - 0.25).abs() < 1e-9 && format.lo > 0.15, "{format:?}");
        assert!(substance.mean.abs() < 1e-9 && substance.lo <= 0.0 && substance.hi >= 0.0, "{substance:?}");
        let able = refs(Vec::leak(make(&gold)));
        let Parts { format, substance } = parts(&after, &able, 0.95, &address);
        assert_eq!(format.mean, 0.0);
        assert!((substance.mean - 0.5).abs() < 1e-9 && substance.lo > 0.4, "{substance:?}");
        // Nothing could be read before: nothing is known of how right it was.
        let silent = refs(Vec::leak(make(&|_| "")));
        let Parts { format, substance } = parts(&silent, &able, 0.95, &address);
        assert_eq!((format.mean, substance.mean), (1.0, 0.0));
    }
}
