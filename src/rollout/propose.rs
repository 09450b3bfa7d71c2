//! Proposals from a prompt (Yao et al. 2023, "propose prompt"): the policy writes several next thoughts at once, a line
//! each, and every line becomes a thought of the tree.
//!
//! A line was written after the propose prompt, not after the path, so it is tokenized again and read under the policy
//! behind the path: stored log-probabilities and hidden states are those of the path. A line is closed by a line break
//! or by the end of the sequence, whichever the policy finds likelier. An entry that the policy would rather end than
//! continue, and one for which no line can be used, is continued by sampling instead; so a malformed answer costs
//! proposals and no search is left without a leaf.

use anyhow::{Context, Result, ensure};

use super::search::{Drawn, Entry, Search, sampled};
use super::{Proposing, Tools};
use crate::config::TreeConfig;
use crate::domain::FinishReason;
use crate::engine::{Choice, ReadRequest, Reading, Request};

/// Above this probability of the end of the sequence an entry isn't continued.
const END_LIKELY: f32 = 0.5;

/// Longest line that is taken as a thought, in bytes.
const LINE_BYTES_MAX: usize = 2000;

/// At most `proposals` thoughts for every entry, in order.
pub(super) fn prompted(
    tools: &Tools,
    config: &TreeConfig,
    proposing: &Proposing,
    searches: &[Search],
    entries: &[Entry],
) -> Result<Vec<Vec<Drawn>>> {
    let going_on = going_on(tools, searches, entries)?;
    let lines = lines(tools, config, proposing, searches, entries, &going_on)?;
    let mut proposed = read(tools, proposing, searches, entries, &lines)?;
    let without: Vec<usize> = (0..entries.len()).filter(|&i| proposed[i].is_empty()).collect();
    let left: Vec<Entry> = without.iter().map(|&i| entries[i]).collect();
    for (i, drawn) in without.into_iter().zip(sampled(tools, config, searches, &left)?) {
        proposed[i] = drawn;
    }
    Ok(proposed)
}

/// Whether the policy goes on from each entry, rather than to end there.
fn going_on(tools: &Tools, searches: &[Search], entries: &[Entry]) -> Result<Vec<bool>> {
    let ends: Vec<Vec<u32>> = tools.stops.eos_ids.iter().map(|&id| vec![id]).collect();
    let context = |entry: &Entry| searches[entry.search].context_ids(entry.place);
    let begun = |entry: &Entry| searches[entry.search].beam[entry.place].is_some();
    // At the root there is nothing to end.
    let asked: Vec<usize> = (0..entries.len()).filter(|&i| begun(&entries[i])).collect();
    let choices: Vec<Choice> = asked
        .iter()
        .map(|&i| Choice { context_ids: context(&entries[i]), options: ends.clone() })
        .filter(|choice| choice.tokens() <= tools.engine.context_max())
        .collect();
    let mut going_on = vec![true; entries.len()];
    // A path that fills the context is left to sampling, which says so.
    let full = |&i: &usize| context(&entries[i]).len() + 1 > tools.engine.context_max();
    asked.iter().copied().filter(|i| full(i)).for_each(|i| going_on[i] = false);
    let weights = tools.engine.weigh(&choices)?;
    for (i, weights) in asked.into_iter().filter(|i| !full(i)).zip(weights) {
        going_on[i] = weights.iter().map(|logprob| logprob.exp()).sum::<f32>() <= END_LIKELY;
    }
    Ok(going_on)
}

/// The lines that the policy proposes for every entry.
fn lines(
    tools: &Tools,
    config: &TreeConfig,
    proposing: &Proposing,
    searches: &[Search],
    entries: &[Entry],
    going_on: &[bool],
) -> Result<Vec<Vec<String>>> {
    let (mut requests, mut owners) = (Vec::new(), Vec::new());
    for (i, entry) in entries.iter().enumerate().filter(|(i, _)| going_on[*i]) {
        let search = &searches[entry.search];
        // A path whose text can't be put into a prompt, or makes it too long, is continued by sampling.
        let Ok(context_ids) = (proposing.ask)(&search.path_to(search.beam[entry.place]), config.proposals)
        else {
            continue;
        };
        if context_ids.is_empty() || context_ids.len() >= tools.engine.context_max() {
            continue;
        }
        owners.push(i);
        requests.push(Request {
            context_ids,
            // A stream below those of the thoughts, so that sampling in its stead draws from its own.
            address: search.tree.address.child(search.first_index(config, entry.place)).child(0),
            sampling: tools.limits.sampling,
            tokens_max: tools.limits.tokens_max,
            stop_at_boundary: false,
        });
    }
    let completions = tools.engine.generate(&requests, tools.stops, tools.on_tokens)?;
    ensure!(completions.len() == requests.len(), "the engine gave {} completions", completions.len());
    let mut lines: Vec<Vec<String>> = vec![Vec::new(); entries.len()];
    for (i, completion) in owners.into_iter().zip(completions) {
        lines[i] = parsed(&(tools.decode)(&completion.token_ids)?, config.proposals as usize);
    }
    Ok(lines)
}

/// The first `count` different lines of an answer, without list marks. Anything that isn't a usable line is left out.
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
    // A number is a mark only with its point or bracket and a blank behind it: `2 + 3 = 5` and `1.5` are not.
    let marked = after.len() < inner.len() && inner.len() - after.len() <= 3;
    let rest = [". ", ") ", ": "].iter().find_map(|end| after.strip_prefix(end));
    rest.filter(|_| marked).map_or(line, str::trim_start)
}

/// A line as a thought, closed in both ways.
struct Line {
    /// Which entry it belongs to.
    entry: usize,
    /// Tokens before it.
    from: usize,
    broken: Vec<u32>,
    ended: Vec<u32>,
}

/// Reads every line behind its entry's path and closes it as the policy would.
fn read(
    tools: &Tools,
    proposing: &Proposing,
    searches: &[Search],
    entries: &[Entry],
    lines: &[Vec<String>],
) -> Result<Vec<Vec<Drawn>>> {
    let (mut requests, mut read) = (Vec::new(), Vec::new());
    for (i, (entry, lines)) in entries.iter().zip(lines).enumerate() {
        let context = searches[entry.search].context_ids(entry.place);
        let drawn = context.len() - searches[entry.search].tree.prompt_ids.len();
        let room =
            (tools.limits.tokens_max - drawn).min(tools.engine.context_max().saturating_sub(context.len()));
        for text in lines {
            let Some(line) = line(tools, proposing, i, context.len(), text, room) else { continue };
            for ids in [&line.broken, &line.ended] {
                let ids = [context.as_slice(), ids].concat();
                let last = ids.len() - 1;
                requests.push(ReadRequest { ids, from: context.len(), hidden_at: vec![last] });
            }
            read.push(line);
        }
    }
    let mut readings = tools.engine.read(&requests)?.into_iter();
    let mut proposed: Vec<Vec<Drawn>> = vec![Vec::new(); entries.len()];
    for line in read {
        let (broken, ended) =
            readings.next().zip(readings.next()).context("the engine read too few sequences")?;
        let entry = line.entry;
        proposed[entry].push(closed(line, broken, ended)?);
    }
    Ok(proposed)
}

/// `None` for a line that can't be a thought: one that can't be written, is longer than `room`, or would be cut.
fn line(
    tools: &Tools,
    proposing: &Proposing,
    entry: usize,
    from: usize,
    text: &str,
    room: usize,
) -> Option<Line> {
    let stops = tools.stops;
    let broken = (proposing.encode)(&format!("{text}\n")).ok()?;
    let mut ended = (proposing.encode)(text).ok()?;
    let closes = |id: &u32| stops.boundary_ids.contains(id) || stops.eos_ids.contains(id);
    let whole = broken.iter().position(closes) == Some(broken.len().checked_sub(1)?);
    let usable = whole && !ended.is_empty() && !ended.iter().any(closes);
    ended.push(*stops.eos_ids.first()?);
    let fits = broken.len().max(ended.len()) <= room;
    (usable && fits).then_some(Line { entry, from, broken, ended })
}

/// The likelier of the two ways to close a line.
fn closed(line: Line, broken: Reading, ended: Reading) -> Result<Drawn> {
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
    Ok(Drawn { token_ids, logprobs, hidden_f16: hidden_f16.pop().unwrap_or_default(), finish })
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
