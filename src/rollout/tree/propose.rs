//! Proposals from a prompt (Yao et al. 2023, "propose prompt"): the policy writes several next
//! thoughts at once, one on each line, and every line becomes a thought of the tree.
//!
//! A line was written after the propose prompt, not after the path. So it is tokenized again and
//! read under the policy after the path: stored log-probabilities and hidden states are those of
//! the path. A line is closed by a line break or by the end of the sequence, whichever is more
//! probable under the policy. A path is continued by sampling instead if the policy would rather
//! end it, or if no line of the answer can be used. So a malformed answer costs proposals, and no
//! search is left without a leaf.

use anyhow::{Context, Result, ensure};

use super::sample::sampled;
use super::search::{Expansion, Proposal, Search};
use super::{Proposing, Tools};
use crate::domain::{Choice, FinishReason, ReadRequest, Reading, Request};

/// Above this probability of the end of the sequence a path isn't continued by the prompt.
const END_LIKELY: f32 = 0.5;

/// Longest line that is taken as a thought, in bytes.
const LINE_BYTES_MAX: usize = 2000;

/// The proposals of every expansion, in order: at most as many as it asks for, and at least one.
pub(super) fn prompted(
    tools: &Tools,
    proposing: &Proposing,
    searches: &[Search],
    expansions: &[Expansion],
) -> Result<Vec<Vec<Proposal>>> {
    let continues = continues(tools, searches, expansions)?;
    let lines = lines(tools, proposing, searches, expansions, &continues)?;
    let mut proposed = read(tools, proposing, searches, expansions, &lines)?;
    let without: Vec<usize> = (0..expansions.len()).filter(|&i| proposed[i].is_empty()).collect();
    let left: Vec<Expansion> = without.iter().map(|&i| expansions[i]).collect();
    for (i, proposals) in without.into_iter().zip(sampled(tools, searches, &left)?) {
        proposed[i] = proposals;
    }
    Ok(proposed)
}

/// Whether the policy would rather continue each path than end it.
fn continues(tools: &Tools, searches: &[Search], expansions: &[Expansion]) -> Result<Vec<bool>> {
    let ends: Vec<Vec<u32>> = tools.stops.eos_ids.iter().map(|&id| vec![id]).collect();
    let context_max = tools.engine.context_max();
    let mut continues = vec![true; expansions.len()];
    let (mut choices, mut owners) = (Vec::new(), Vec::new());
    for (i, Expansion { search, expand }) in expansions.iter().enumerate() {
        // At the root there is nothing to end.
        if expand.parent.is_none() {
            continue;
        }
        let context_ids = searches[*search].context_ids(expand.parent);
        // A path that fills the context is left to sampling, which reports it.
        if context_ids.len() + 1 > context_max {
            continues[i] = false;
            continue;
        }
        owners.push(i);
        choices.push(Choice { context_ids, options: ends.clone() });
    }
    let logprobs = tools.engine.option_logprobs(&choices)?;
    for (i, logprobs) in owners.into_iter().zip(logprobs) {
        continues[i] = logprobs.iter().map(|logprob| logprob.exp()).sum::<f32>() <= END_LIKELY;
    }
    Ok(continues)
}

/// The lines that the policy proposes for every expansion.
fn lines(
    tools: &Tools,
    proposing: &Proposing,
    searches: &[Search],
    expansions: &[Expansion],
    continues: &[bool],
) -> Result<Vec<Vec<String>>> {
    let (mut requests, mut owners) = (Vec::new(), Vec::new());
    for (i, Expansion { search, expand }) in expansions.iter().enumerate().filter(|(i, _)| continues[*i]) {
        let search = &searches[*search];
        // A path whose text can't be put into a prompt, or makes it too long, is continued by
        // sampling.
        let Ok(context_ids) = (proposing.ask)(&search.path_to(expand.parent), expand.children) else {
            continue;
        };
        if context_ids.is_empty() || context_ids.len() >= tools.engine.context_max() {
            continue;
        }
        owners.push(i);
        requests.push(Request {
            context_ids,
            address: search.prompt_address(*expand),
            sampling: tools.limits.sampling,
            tokens_max: tools.limits.tokens_max,
            stop_at_boundary: false,
        });
    }
    let completions = tools.engine.generate(&requests, tools.stops, tools.on_tokens)?;
    ensure!(completions.len() == requests.len(), "the engine gave {} completions", completions.len());
    let mut lines: Vec<Vec<String>> = vec![Vec::new(); expansions.len()];
    for (i, completion) in owners.into_iter().zip(completions) {
        let count = expansions[i].expand.children as usize;
        lines[i] = parsed(&(tools.decode)(&completion.token_ids)?, count);
    }
    Ok(lines)
}

/// The first `count` different lines of an answer, without list marks. Unusable lines are left out.
fn parsed(answer: &str, count: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for line in answer.lines().map(unmarked) {
        let known = lines.iter().any(|known| known == line);
        if !line.is_empty() && line.len() <= LINE_BYTES_MAX && !known && lines.len() < count {
            lines.push(line.to_owned());
        }
    }
    lines
}

/// A line without the `-`, `*`, `1.` or `(a)` that lists begin with.
fn unmarked(line: &str) -> &str {
    let line = line.trim();
    for mark in ["- ", "* ", "• "] {
        if let Some(rest) = line.strip_prefix(mark) {
            return rest.trim_start();
        }
    }
    let inner = line.strip_prefix('(').unwrap_or(line);
    let after = inner.trim_start_matches(|c: char| c.is_ascii_digit());
    // A number is a mark only if a point or bracket and a blank follow: `2 + 3 = 5` and `1.5` are
    // not.
    let marked = after.len() < inner.len() && inner.len() - after.len() <= 3;
    let rest = [". ", ") ", ": "].iter().find_map(|end| after.strip_prefix(end));
    rest.filter(|_| marked).map_or(line, str::trim_start)
}

/// A line as a thought, closed in both ways.
struct Line {
    /// Index of the expansion that it belongs to.
    owner: usize,
    /// Tokens of the prompt and the path before it.
    from: usize,
    /// Its tokens with a line break.
    broken: Vec<u32>,
    /// Its tokens with the end of the sequence.
    ended: Vec<u32>,
}

/// Reads every line after its path and closes it in the more probable way.
fn read(
    tools: &Tools,
    proposing: &Proposing,
    searches: &[Search],
    expansions: &[Expansion],
    lines: &[Vec<String>],
) -> Result<Vec<Vec<Proposal>>> {
    let (mut requests, mut read) = (Vec::new(), Vec::new());
    for (i, (Expansion { search, expand }, lines)) in expansions.iter().zip(lines).enumerate() {
        let context = searches[*search].context_ids(expand.parent);
        let left = searches[*search].tokens_left(tools, expand.parent);
        let tokens_max = left.min(tools.engine.context_max().saturating_sub(context.len()));
        for text in lines {
            let Some((broken, ended)) = closings(tools, proposing, text, tokens_max) else { continue };
            for ids in [&broken, &ended] {
                let ids = [context.as_slice(), ids].concat();
                let last = ids.len() - 1;
                requests.push(ReadRequest { ids, from: context.len(), hidden_at: vec![last] });
            }
            read.push(Line { owner: i, from: context.len(), broken, ended });
        }
    }
    let mut readings = tools.engine.read(&requests)?.into_iter();
    let mut proposed: Vec<Vec<Proposal>> = vec![Vec::new(); expansions.len()];
    for line in read {
        let (broken, ended) =
            readings.next().zip(readings.next()).context("the engine read too few sequences")?;
        let owner = line.owner;
        proposed[owner].push(closed(line, broken, ended)?);
    }
    Ok(proposed)
}

/// The tokens of a line with a line break, and with the end of the sequence. `None` for a line that
/// can't be a thought: the tokenizer can't write it, it has more than `tokens_max` tokens, or a
/// thought would end inside of it.
fn closings(
    tools: &Tools,
    proposing: &Proposing,
    text: &str,
    tokens_max: usize,
) -> Option<(Vec<u32>, Vec<u32>)> {
    let stops = tools.stops;
    let broken = (proposing.encode)(&format!("{text}\n")).ok()?;
    let mut ended = (proposing.encode)(text).ok()?;
    let closes = |id: &u32| stops.boundary_ids.contains(id) || stops.eos_ids.contains(id);
    let whole = broken.iter().position(closes) == Some(broken.len().checked_sub(1)?);
    let usable = whole && !ended.is_empty() && !ended.iter().any(closes);
    ended.push(*stops.eos_ids.first()?);
    let fits = broken.len().max(ended.len()) <= tokens_max;
    (usable && fits).then_some((broken, ended))
}

/// The more probable of the two ways to close a line.
fn closed(line: Line, broken: Reading, ended: Reading) -> Result<Proposal> {
    let sum = |reading: &Reading| reading.logprobs.iter().sum::<f32>();
    let ends = sum(&ended) > sum(&broken);
    let (token_ids, reading, finish) = match ends {
        true => (line.ended, ended, FinishReason::Eos),
        false => (line.broken, broken, FinishReason::Boundary),
    };
    let Reading { logprobs, mut hidden_f16 } = reading;
    ensure!(
        logprobs.len() == token_ids.len(),
        "the engine read {} log-probs of {} tokens from position {}",
        logprobs.len(),
        token_ids.len(),
        line.from
    );
    Ok(Proposal { token_ids, logprobs, hidden_f16: hidden_f16.pop().unwrap_or_default(), finish })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lists_are_read_line_by_line() {
        let answer =
            "1. 4 + 8 = 12\n2) 6 - 4 = 2\n\n- 4 + 8 = 12\n* 1.5 is less\n(3) so 2\n2 + 3 = 5\n10: ten\n";
        let lines = ["4 + 8 = 12", "6 - 4 = 2", "1.5 is less", "so 2", "2 + 3 = 5", "ten"];
        assert_eq!(parsed(answer, 9), lines);
        assert_eq!(parsed(answer, 2), lines[..2]);
        assert!(parsed("\n \n1. \n", 3).iter().all(|line| line == "1."));
        assert!(parsed(&"x".repeat(LINE_BYTES_MAX + 1), 3).is_empty());
    }

    proptest! {
        #[test]
        fn any_answer_gives_few_lines_without_breaks(answer in any::<String>(), count in 0usize..5) {
            let lines = parsed(&answer, count);
            prop_assert!(lines.len() <= count);
            prop_assert!(lines.iter().all(|line| !line.is_empty() && !line.contains('\n')));
        }
    }
}
