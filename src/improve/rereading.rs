//! Rereading: what a policy thinks of a trajectory told in the words of other variants of its task.
//!
//! The log-probabilities under other words are what [`crate::critic::features`] averages over. They are derived state:
//! made again whenever a head is trained or scores are given, never stored.

use anyhow::Result;
use rayon::prelude::*;

use super::{Policy, Session};
use crate::data;
use crate::domain::{Address, Purpose, Task, Thought};
use crate::engine::ReadRequest;

/// Trajectories read at once.
const UNIT: usize = 600;

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
        let each = |index: usize| (0..session.config.critic.rereads).map(move |n| (index, n));
        let places: Vec<_> = (0..unit.len()).flat_map(each).collect();
        let reread = |&(index, n): &(usize, u32)| {
            let retold = retold(session, policy, &unit[index], n)?;
            Ok(retold.map(|(request, lengths)| (request, (index, lengths))))
        };
        let all_retold: Vec<Option<_>> = places.par_iter().map(reread).collect::<Result<_>>()?;
        let (requests, parts): (Vec<_>, Vec<_>) = all_retold.into_iter().flatten().unzip();
        let mut readings: Vec<Rereadings> = unit.iter().map(|t| vec![Vec::new(); t.thoughts.len()]).collect();
        for ((index, lengths), reading) in parts.into_iter().zip(policy.engine().read(&requests)?) {
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

/// Where the variant of rereading `n` is drawn: the same for all trajectories of a task in an iteration, so that their
/// log-probabilities can be compared, and its prompt is read once.
fn variant_address(drawn_at: &Address, n: u32) -> Address {
    Address { purpose: Purpose::Variant, branch: vec![0, n], ..drawn_at.clone() }
}

/// Rereading `n` of a trajectory and the tokens of each thought in it; `None` where its kind has no variants, or the
/// text can't be told in other words.
fn retold(
    session: &Session,
    policy: &Policy,
    told: &Told,
    n: u32,
) -> Result<Option<(ReadRequest, Vec<usize>)>> {
    let place = variant_address(told.address, n);
    let Some(variant) = data::variant(told.task, &place) else { return Ok(None) };
    let mut ids = session.text.prompt_ids(&variant.question)?;
    let (from, mut lengths) = (ids.len(), Vec::with_capacity(told.thoughts.len()));
    for thought in &told.thoughts {
        let text = data::retold(told.task.kind, told.question, &variant.question, &thought.text);
        let Some(text) = text else { return Ok(None) };
        let start = ids.len();
        // What a policy wrote need not be text that can be read back.
        let Ok(own) = session.text.encode(&text) else { return Ok(None) };
        ids.extend(own);
        ids.extend(thought.token_ids.last().filter(|id| session.text.eos_ids().contains(id)));
        lengths.push(ids.len() - start);
    }
    let readable = ids.len() <= policy.engine().context_max() && !lengths.contains(&0);
    Ok(readable.then(|| (ReadRequest { ids, from, hidden_at: Vec::new() }, lengths)))
}

#[cfg(test)]
mod tests {
    use super::*;

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
