//! Rereading: what a policy thinks of a trajectory told in the words of other variants of its task.
//!
//! The log-probabilities under other words are what [`crate::critic::features`] averages over. They are derived state:
//! made again whenever a head is trained or scores are given, never stored.

use anyhow::Result;

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
    /// Where the trajectory was drawn; its rereadings have variants of their own.
    pub address: &'t Address,
    pub thoughts: Vec<&'t Thought>,
}

/// Log-probabilities of a trajectory: (thoughts, rereadings, tokens). Without rereadings every thought has none.
pub(super) type Rereadings = Vec<Vec<Vec<f32>>>;

/// Rereads every trajectory `critic.rereads` times, in order.
pub(super) fn reread(session: &Session, policy: &Policy, told: &[Told]) -> Result<Vec<Rereadings>> {
    let mut all = Vec::with_capacity(told.len());
    for unit in told.chunks(UNIT) {
        let (mut requests, mut parts) = (Vec::new(), Vec::new());
        for (index, trajectory) in unit.iter().enumerate() {
            for n in 0..session.config.critic.rereads {
                if let Some((request, lengths)) = retold(session, policy, trajectory, n)? {
                    requests.push(request);
                    parts.push((index, lengths));
                }
            }
        }
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

/// Rereading `n` of a trajectory and the tokens of each thought in it; `None` where its kind has no variants, or the
/// text can't be told in other words.
fn retold(
    session: &Session,
    policy: &Policy,
    told: &Told,
    n: u32,
) -> Result<Option<(ReadRequest, Vec<usize>)>> {
    let place = Address { purpose: Purpose::Variant, ..told.address.child(n) };
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
