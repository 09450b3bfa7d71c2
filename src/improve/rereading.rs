//! Rereading: what a policy thinks of a trajectory told in the words of other variants of its task.
//!
//! The log-probabilities under other words are what [`crate::critic::features`] averages over. They are derived state:
//! made again whenever a head is trained or scores are given, never stored.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use anyhow::Result;
use rayon::prelude::*;

use super::{Policy, Session};
use crate::data::{self, Retelling};
use crate::domain::{Address, Purpose, Task, Thought};
use crate::engine::ReadRequest;
use crate::text::Text;

/// Trajectories read at once.
const UNIT: usize = 600;
/// Trajectories of a task retold one after another: the others of many are another thread's.
const TOGETHER: usize = 64;

/// A trajectory to reread.
pub(super) struct Told<'t> {
    pub task: &'t Task,
    /// The question that was asked: the task's own or a variant's.
    pub question: &'t str,
    /// Where the trajectory was drawn.
    pub address: &'t Address,
    pub thoughts: Vec<&'t Thought>,
}

/// Log-probabilities of a trajectory: (thoughts, rereadings, tokens). Without rereadings every thought has none.
pub(super) type Rereadings = Vec<Vec<Vec<f32>>>;

/// Rereads every trajectory `critic.rereads` times, in order.
pub(super) fn reread(session: &Session, policy: &Policy, told: &[Told]) -> Result<Vec<Rereadings>> {
    let mut all = Vec::with_capacity(told.len());
    for unit in told.chunks(UNIT) {
        let rereads = session.config.critic.rereads;
        let told = retold(&session.text, policy.engine().context_max(), rereads, unit)?;
        let (requests, parts): (Vec<_>, Vec<_>) = told.into_iter().unzip();
        let mut readings: Vec<Rereadings> = unit.iter().map(|t| vec![Vec::new(); t.thoughts.len()]).collect();
        for ((index, lengths), reading) in parts.into_iter().zip(policy.engine().read(&requests)?) {
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

/// What is to be read of a trajectory in other words, which one of the unit it is, and the tokens of each thought.
type Retold = (ReadRequest, (usize, Vec<usize>));

/// Every rereading of a unit; those of one trajectory in order.
fn retold(text: &Text, context_max: usize, rereads: u32, unit: &[Told]) -> Result<Vec<Retold>> {
    let (mut places, mut first) = (Vec::new(), 0);
    for of_task in unit.chunk_by(|a, b| variant_address(a.address, 0) == variant_address(b.address, 0)) {
        for told in of_task.chunks(TOGETHER) {
            places.extend((0..rereads).map(|n| (told, n, first)));
            first += told.len();
        }
    }
    let retold = |&(told, n, first): &(&[Told], u32, usize)| retold_as(text, context_max, told, n, first);
    let retold: Vec<Result<Vec<Retold>>> = places.par_iter().map(retold).collect();
    Ok(retold.into_iter().collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
}

/// Where the variant of rereading `n` is drawn: the same for all trajectories of a task in an iteration, so that their
/// log-probabilities can be compared, and its prompt is read once.
fn variant_address(drawn_at: &Address, n: u32) -> Address {
    Address { purpose: Purpose::Variant, branch: vec![0, n], ..drawn_at.clone() }
}

/// Rereading `n` of trajectories of one task, the first of which is `first` of its unit. Left out are those whose kind has
/// no variants, and those that can't be told in other words.
fn retold_as(text: &Text, context_max: usize, told: &[Told], n: u32, first: usize) -> Result<Vec<Retold>> {
    let Some(variant) = data::variant(told[0].task, &variant_address(told[0].address, n)) else {
        return Ok(Vec::new());
    };
    let prompt_ids = text.prompt_ids(&variant.question)?;
    let mut sayings = Sayings { text, known: HashMap::new() };
    let mut retold = Vec::with_capacity(told.len());
    for (index, told) in (first..).zip(told) {
        let retelling = Retelling::between(told.task.kind, told.question, &variant.question);
        let words = retelling.and_then(|retelling| sayings.of(told, &retelling, &prompt_ids));
        if let Some((ids, lengths)) = words
            && ids.len() <= context_max
        {
            let request = ReadRequest { ids, from: prompt_ids.len(), hidden_at: Vec::new() };
            retold.push((request, (index, lengths)));
        }
    }
    Ok(retold)
}

/// Token ids of what was said, each made once: trajectories of a task say much alike.
struct Sayings<'t> {
    text: &'t Text,
    /// `None` is what this tokenizer can't write.
    known: HashMap<String, Option<Vec<u32>>>,
}

impl Sayings<'_> {
    /// Prompt and thoughts in other words, and the tokens of each thought; `None` if one of them has none.
    fn of(
        &mut self,
        told: &Told,
        retelling: &Retelling,
        prompt_ids: &[u32],
    ) -> Option<(Vec<u32>, Vec<usize>)> {
        let (mut ids, mut lengths) = (prompt_ids.to_vec(), Vec::with_capacity(told.thoughts.len()));
        for thought in &told.thoughts {
            let start = ids.len();
            // What a policy wrote need not be text that can be read back.
            ids.extend(self.ids(retelling.tell(&thought.text))?);
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
    use crate::domain::Split;

    /// Trajectories of tasks A A B A, one of which can't be told in other words, against one at a time.
    #[test]
    fn every_reading_is_of_its_own_trajectory() {
        let config = Config::load(None, &[]).unwrap();
        let tasks = data::dataset(&config.tasks, Vec::new()).unwrap().tasks;
        let easy: Vec<&Task> = tasks.iter().filter(|task| task.split == Split::Easy).take(2).collect();
        let text = Text::embedded().unwrap();
        let thought = |line: &str| Thought {
            parent: None,
            token_ids: text.encode(line).unwrap(),
            logprobs: Vec::new(),
            text: line.to_owned(),
            hidden_f16: Vec::new(),
            value: None,
            pruned: None,
        };
        let said = [easy[0], easy[1]].map(|task| {
            let lines = task.solution.as_ref().unwrap().split_inclusive('\n');
            lines.map(thought).collect::<Vec<_>>()
        });
        let places = [(0, "", 9), (0, "no chain", 9), (1, "", 1), (0, "", 1)];
        let addresses = [0, 1, 2, 3]
            .map(|i: usize| Address::new(7, Purpose::Rollout, 1, &easy[places[i].0].id, &[i as u32]));
        let told: Vec<Told> = places
            .iter()
            .zip(&addresses)
            .map(|(&(which, question, thoughts), address)| Told {
                task: easy[which],
                question: if question.is_empty() { &easy[which].question } else { question },
                address,
                thoughts: said[which].iter().take(thoughts).collect(),
            })
            .collect();
        let together = retold(&text, 2048, 3, &told).unwrap();
        assert_eq!(together.len(), 9, "three trajectories, three times");
        for (index, told) in told.iter().enumerate() {
            let own: Vec<&Retold> = together.iter().filter(|(_, (of, _))| *of == index).collect();
            let mut alone = Vec::new();
            for n in 0..3 {
                let variant = data::variant(told.task, &variant_address(told.address, n)).unwrap();
                let Some(retelling) = Retelling::between(told.task.kind, told.question, &variant.question)
                else {
                    continue;
                };
                let mut ids = text.prompt_ids(&variant.question).unwrap();
                let from = ids.len();
                let parts: Vec<Vec<u32>> = told
                    .thoughts
                    .iter()
                    .map(|thought| text.encode(&retelling.tell(&thought.text)).unwrap())
                    .collect();
                ids.extend(parts.iter().flatten());
                alone.push((ids, from, parts.iter().map(Vec::len).collect::<Vec<_>>()));
            }
            let own: Vec<_> =
                own.into_iter().map(|(r, (_, lengths))| (r.ids.clone(), r.from, lengths.clone())).collect();
            assert!(own == alone, "trajectory {index}");
        }
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
