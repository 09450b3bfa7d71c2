//! How long the tasks of each split are, in tokens: what decides whether they fit and what they cost.

use anyhow::{Context, Result};
use serde::Serialize;

use crate::domain::{Split, Task};
use crate::text::Text;

/// Token lengths of one split.
#[derive(Serialize)]
pub(super) struct SplitLengths {
    pub split: Split,
    pub tasks: usize,
    /// Of the whole prompt, chat template included.
    pub prompt: Lengths,
    /// Of the gold solutions; `None` if the split has none.
    pub solution: Option<Lengths>,
}

#[derive(Serialize)]
pub(super) struct Lengths {
    pub min: usize,
    pub median: usize,
    pub p95: usize,
    pub max: usize,
}

impl Lengths {
    /// `None` of nothing. Percentiles are by nearest rank.
    fn of(mut tokens: Vec<usize>) -> Option<Self> {
        tokens.sort_unstable();
        let rank = |percent: usize| tokens.get((tokens.len() * percent).div_ceil(100).max(1) - 1).copied();
        Some(Self { min: *tokens.first()?, median: rank(50)?, p95: rank(95)?, max: *tokens.last()? })
    }
}

/// The splits that have tasks, in their order.
pub(super) fn measure(tasks: &[Task], text: &Text) -> Result<Vec<SplitLengths>> {
    let mut all = Vec::new();
    for &split in Split::ALL {
        let (mut prompts, mut solutions) = (Vec::new(), Vec::new());
        for task in tasks.iter().filter(|task| task.split == split) {
            let context = || format!("in task {}", task.id);
            prompts.push(text.prompt_ids_of(task.kind, &task.question).with_context(context)?.len());
            if let Some(solution) = &task.solution {
                solutions.push(text.completion_ids(solution).with_context(context)?.len());
            }
        }
        let tasks = prompts.len();
        let Some(prompt) = Lengths::of(prompts) else { continue };
        all.push(SplitLengths { split, tasks, prompt, solution: Lengths::of(solutions) });
    }
    Ok(all)
}

/// Lines for the terminal.
pub(super) fn lines(all: &[SplitLengths]) -> Vec<String> {
    let show = |l: &Lengths| format!("{:5} {:6} {:5} {:5}", l.min, l.median, l.p95, l.max);
    let head =
        "tokens       split     tasks   prompt: min median   p95   max   solution: min median   p95   max";
    let line = |s: &SplitLengths| {
        let solution = s.solution.as_ref().map(|l| format!("         {}", show(l))).unwrap_or_default();
        format!("             {:8} {:6}       {}{solution}", s.split, s.tasks, show(&s.prompt))
    };
    std::iter::once(head.to_owned()).chain(all.iter().map(line)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_occur() {
        let of = |tokens: Vec<usize>| Lengths::of(tokens).map(|l| (l.min, l.median, l.p95, l.max));
        assert_eq!(of((1..=100).rev().collect()), Some((1, 50, 95, 100)));
        assert_eq!(of(vec![7]), Some((7, 7, 7, 7)));
        assert_eq!(of(vec![1, 9]), Some((1, 1, 9, 9)));
        assert_eq!(of(Vec::new()), None);
    }
}
