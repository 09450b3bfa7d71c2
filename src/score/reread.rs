//! Rereading: the log-probabilities of a trajectory rewritten into the words of other variants of
//! its task.
//!
//! [`super::features()`] averages over them. They are derived state: computed again whenever a head
//! is trained or trajectories are scored, never stored.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use anyhow::Result;
use rayon::prelude::*;

use crate::data::{Renaming, Variants};
use crate::domain::{Address, Generate, Purpose, ReadRequest, Score, ScoreError, ScorerName, Trajectory};
use crate::text::Text;

/// Trajectories read at once.
const UNIT: usize = 600;
/// Trajectories of a task that one thread rewrites one after another.
const TOGETHER: usize = 64;

/// Log-probabilities of a trajectory: (thoughts, rereadings, tokens). Without rereadings every
/// thought has none.
pub type Rereadings = Vec<Vec<Vec<f32>>>;

/// Rereads every trajectory `rereads` times, in order, with the policy's engine and tokenizer.
pub fn reread(
    engine: &dyn Generate,
    text: &Text,
    variants: Variants,
    rereads: u32,
    trajectories: &[Trajectory],
) -> Result<Vec<Rereadings>> {
    let mut all = Vec::with_capacity(trajectories.len());
    for unit in trajectories.chunks(UNIT) {
        let rewritten = rewritten((text, variants), engine.context_max(), rereads, unit)?;
        let (requests, parts): (Vec<_>, Vec<_>) = rewritten.into_iter().unzip();
        let mut readings: Vec<Rereadings> =
            unit.iter().map(|t| vec![Vec::new(); t.thoughts().len()]).collect();
        for ((index, lengths), reading) in parts.into_iter().zip(engine.read(&requests)?) {
            assert_eq!(lengths.len(), readings[index].len(), "a length for every thought");
            let mut rest = reading.logprobs.as_slice();
            for (thought, length) in readings[index].iter_mut().zip(lengths) {
                let (own, after) = rest.split_at(length);
                thought.push(own.to_vec());
                rest = after;
            }
        }
        all.extend(readings);
    }
    Ok(all)
}

/// The trajectory's mean log-probability over all of its `rereadings`: (thoughts, rereadings,
/// tokens).
pub(super) fn reread_score(rereadings: &[Vec<Vec<f32>>]) -> Score {
    let logprobs = || rereadings.iter().flatten().flatten().map(|&l| f64::from(l));
    match logprobs().count() {
        0 => Score::failed(ScorerName::REREAD, ScoreError::MissingInput),
        n => Score::new(ScorerName::REREAD, logprobs().sum::<f64>() / n as f64),
    }
}

/// What is to be read of a rewritten trajectory, its index within the unit, and the tokens of each
/// thought.
type Rewritten = (ReadRequest, (usize, Vec<usize>));

/// Every rereading of a unit; those of one trajectory in order.
fn rewritten(
    words: (&Text, Variants),
    context_max: usize,
    rereads: u32,
    unit: &[Trajectory],
) -> Result<Vec<Rewritten>> {
    let (mut places, mut first) = (Vec::new(), 0);
    let variant_of = |trajectory: &Trajectory| variant_address(&trajectory.tree.address, 0);
    for of_task in unit.chunk_by(|a, b| variant_of(a) == variant_of(b)) {
        for together in of_task.chunks(TOGETHER) {
            places.extend((0..rereads).map(|n| (together, n, first)));
            first += together.len();
        }
    }
    let rewritten = |&(together, n, first): &(&[Trajectory], u32, usize)| {
        rewritten_as(words, context_max, together, n, first)
    };
    let rewritten: Vec<Result<Vec<Rewritten>>> = places.par_iter().map(rewritten).collect();
    Ok(rewritten.into_iter().collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
}

/// Where the variant of rereading `n` is drawn: the same for all trajectories of a task in an
/// iteration, so that their log-probabilities can be compared, and its prompt is read once.
fn variant_address(drawn_at: &Address, n: u32) -> Address {
    Address { purpose: Purpose::Variant, branch: vec![0, n], ..drawn_at.clone() }
}

/// Rereading `n` of trajectories of one task, the first of which has index `first` in its unit.
/// Left out are those whose kind has no variants, and those that can't be rewritten.
fn rewritten_as(
    (text, variants): (&Text, Variants),
    context_max: usize,
    together: &[Trajectory],
    n: u32,
    first: usize,
) -> Result<Vec<Rewritten>> {
    let address = variant_address(&together[0].tree.address, n);
    let Some(variant) = variants.variant(together[0].task, &address) else { return Ok(Vec::new()) };
    let prompt_ids = text.prompt_ids_of(together[0].task.kind, &variant.question)?;
    let mut cache = TokenCache { text, known: HashMap::new() };
    let mut rewritten = Vec::with_capacity(together.len());
    for (index, trajectory) in (first..).zip(together) {
        let renaming = variants.renaming(trajectory.task, trajectory.question(), &variant.question);
        let words = renaming.and_then(|renaming| cache.rewritten(trajectory, &renaming, &prompt_ids));
        if let Some((ids, lengths)) = words
            && ids.len() <= context_max
        {
            let request = ReadRequest { ids, from: prompt_ids.len(), hidden_at: Vec::new() };
            rewritten.push((request, (index, lengths)));
        }
    }
    Ok(rewritten)
}

/// Token ids by text: trajectories of a task share most of their lines, and each is tokenized once.
struct TokenCache<'t> {
    text: &'t Text,
    /// `None` is what this tokenizer can't write.
    known: HashMap<String, Option<Vec<u32>>>,
}

impl TokenCache<'_> {
    /// Prompt and rewritten thoughts, and the tokens of each thought; `None` if one of them has
    /// none.
    fn rewritten(
        &mut self,
        trajectory: &Trajectory,
        renaming: &Renaming,
        prompt_ids: &[u32],
    ) -> Option<(Vec<u32>, Vec<usize>)> {
        let thoughts = trajectory.thoughts();
        let (mut ids, mut lengths) = (prompt_ids.to_vec(), Vec::with_capacity(thoughts.len()));
        for thought in thoughts {
            let start = ids.len();
            // What a policy wrote need not be text that can be read back.
            ids.extend(self.ids(renaming.apply(&thought.text))?);
            ids.extend(thought.token_ids.last().filter(|id| self.text.eos_ids().contains(id)));
            lengths.push(ids.len() - start);
        }
        (!lengths.contains(&0)).then_some((ids, lengths))
    }

    fn ids(&mut self, text: String) -> Option<&[u32]> {
        let known = match self.known.entry(text) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let ids = self.text.encode(new.key()).ok();
                new.insert(ids)
            }
        };
        known.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::data;
    use crate::domain::{FinishReason, Leaf, Split, Strategy, Task, Thought, Tree, Variant};

    /// A trajectory with the first `thoughts` lines of its task's solution, asked in the words of
    /// `question`.
    fn drawn(text: &Text, task: &Task, question: &str, thoughts: usize, branch: u32) -> Tree {
        let address = Address::new(7, Purpose::Rollout, 1, &task.id, &[branch]);
        let lines = task.solution.as_ref().unwrap().split_inclusive('\n').take(thoughts);
        let thought = |(i, line): (usize, &str)| Thought {
            parent: (i as u32).checked_sub(1),
            token_ids: text.encode(line).unwrap(),
            logprobs: Vec::new(),
            text: line.to_owned(),
            hidden_f16: Vec::new(),
            value: None,
            pruned: None,
            visits: None,
        };
        let thoughts: Vec<Thought> = lines.enumerate().map(thought).collect();
        let last = thoughts.len() as u32 - 1;
        Tree {
            variant: (!question.is_empty())
                .then(|| Variant { address: address.clone(), question: question.to_owned() }),
            address,
            strategy: Strategy::Cot,
            task_id: task.id.clone(),
            prompt_ids: Vec::new(),
            thoughts,
            leaves: vec![Leaf { thought: last, finish: FinishReason::Eos, answer: None }],
        }
    }

    /// Trajectories of tasks A A B A, one of which can't be rewritten, compared with one at a time.
    #[test]
    fn every_reading_is_of_its_own_trajectory() {
        let config = Config::load(None, &[]).unwrap();
        let variants = Variants::new(&config.tasks);
        let tasks = data::dataset(&config.tasks, Vec::new()).unwrap().tasks;
        let easy: Vec<&Task> = tasks.iter().filter(|task| task.split == Split::Easy).take(2).collect();
        let text = Text::embedded().unwrap();
        let trees: Vec<(&Task, Tree)> = [(0, "", 9), (0, "no chain", 9), (1, "", 1), (0, "", 1)]
            .into_iter()
            .zip(0..)
            .map(|((which, question, n), branch)| {
                (easy[which], drawn(&text, easy[which], question, n, branch))
            })
            .collect();
        let trajectories: Vec<Trajectory> = trees
            .iter()
            .map(|(task, tree)| Trajectory { id: 0, task, tree, leaf: &tree.leaves[0] })
            .collect();
        let together = rewritten((&text, variants), 2048, 3, &trajectories).unwrap();
        assert_eq!(together.len(), 9, "three trajectories, three times");
        for (index, trajectory) in trajectories.iter().enumerate() {
            let mut alone = Vec::new();
            for n in 0..3 {
                let at = variant_address(&trajectory.tree.address, n);
                let variant = variants.variant(trajectory.task, &at).unwrap();
                let renaming = variants.renaming(trajectory.task, trajectory.question(), &variant.question);
                let Some(renaming) = renaming else { continue };
                let mut ids = text.prompt_ids(&variant.question).unwrap();
                let from = ids.len();
                let encoded = |thought: &Thought| text.encode(&renaming.apply(&thought.text)).unwrap();
                let parts: Vec<Vec<u32>> = trajectory.thoughts().into_iter().map(encoded).collect();
                ids.extend(parts.iter().flatten());
                alone.push((ids, from, parts.iter().map(Vec::len).collect::<Vec<_>>()));
            }
            let own: Vec<_> = together
                .iter()
                .filter(|(_, (of, _))| *of == index)
                .map(|(r, (_, lengths))| (r.ids.clone(), r.from, lengths.clone()))
                .collect();
            assert!(own == alone, "trajectory {index}");
        }
    }

    #[test]
    fn the_score_is_the_mean_over_all_rereadings() {
        let score = reread_score(&[vec![vec![-1.0, -3.0]], vec![vec![-2.0]]]);
        assert_eq!((score.scorer, score.value), (ScorerName::REREAD, Ok(-2.0)));
        assert_eq!(reread_score(&[vec![], vec![]]).value, Err(ScoreError::MissingInput));
    }

    #[test]
    fn trajectories_of_a_task_share_their_variants_for_an_iteration() {
        let drawn_at = |iteration, task: &str, branch: &[u32]| {
            variant_address(&Address::new(7, Purpose::Rollout, iteration, task, branch), 1)
        };
        let place = drawn_at(2, "t/1", &[3]);
        assert_eq!(place, drawn_at(2, "t/1", &[0, 4]));
        assert_ne!(place, drawn_at(2, "t/2", &[3]));
        assert_ne!(place, drawn_at(3, "t/1", &[3]));
        let first = variant_address(&Address::new(7, Purpose::Rollout, 2, "t/1", &[3]), 0);
        assert_ne!(place, first, "each rereading has another one");
        let rollouts = |variant| Address::new(7, Purpose::Variant, 2, "t/1", &[variant]);
        assert!((0..9).all(|variant| rollouts(variant) != place), "none that was drawn under");
    }
}
