//! The probe: how fast this machine reads, draws and trains, with the configured model and tasks.
//!
//! Each part begins small and grows while the next size still fits its share of the time, so that a
//! large model costs seconds, too. What was too large to be tried is extrapolated from what was.

use std::time::Instant;

use anyhow::{Result, bail, ensure};

use crate::config::Config;
use crate::domain::{Address, AnswerMap, FinishReason, Purpose, ReadRequest, Sampling, Split, Task, Tree};
use crate::improve::with_tools;
use crate::policy::{Policy, trainable};
use crate::rollout::{self, Job};
use crate::text::Text;
use crate::train::{self, Group, Hyper, Trainer};

/// Trajectories that are drawn together, where there is time for them.
const TOGETHER: usize = 64;
/// What a step of a few trajectories takes, over one of many: both read all weights.
const FEW: f64 = 0.15;
/// How much larger the next size of a part is.
const GROWTH: usize = 4;
/// Tokens of the first update.
const FIRST_UPDATE: usize = 64;
/// A forward pass, and a backward pass of twice its operations; part of the first is recomputed.
const PASSES: f64 = 3.3;
/// Tokens that remain of a prompt that is too long for the time.
const SHORT_PROMPT: usize = 16;

/// Seconds for each part.
#[derive(Clone, Copy)]
pub(in crate::cli) struct Budget {
    pub reading: f64,
    pub drawing: f64,
    pub lengths: f64,
    pub training: f64,
}

impl Budget {
    /// With loading the model, under ten seconds in all.
    pub(in crate::cli) const QUICK: Self = Self { reading: 0.4, drawing: 1.2, lengths: 3.5, training: 2.0 };
    /// For `--measure`: everything at its full size, unless the model is very slow.
    pub(in crate::cli) const FULL: Self =
        Self { reading: 10.0, drawing: 30.0, lengths: 120.0, training: 120.0 };
}

/// What the probe found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::cli) struct Rates {
    /// Tokens of a prompt.
    pub prompt: f64,
    /// Tokens that are read in a second.
    pub reading: f64,
    /// Tokens that are drawn in a second, once the prompts are read.
    pub drawing: f64,
    pub length: Length,
    pub update: Update,
}

/// How long trajectories are, in tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::cli) struct Length {
    pub mean: f64,
    /// Within which the mean lies, as far as the probe can see (two standard errors).
    pub least: f64,
    pub most: f64,
    /// How many were drawn.
    pub drawn: usize,
    /// How many of them ended by themselves within the probe.
    pub ended: usize,
}

/// What an optimizer update takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::cli) struct Update {
    pub seconds: f64,
    /// Tokens of the update.
    pub tokens: usize,
    /// Tokens of the largest update that was tried; 0 if its time is only computed.
    pub tried: usize,
}

/// Reads, draws and trains a little.
pub(in crate::cli) fn rates(
    config: &Config,
    text: &Text,
    policy: &Policy,
    tasks: &[Task],
    budget: Budget,
) -> Result<Rates> {
    let jobs = jobs(config, text, tasks)?;
    let prompt = jobs.iter().map(|job| job.prompt_ids.len()).sum::<usize>() as f64 / jobs.len() as f64;
    let probe = Probe { config, text, policy, jobs };
    let reading = probe.reading(budget.reading)?;
    let drawing = probe.drawing(reading, budget.drawing)?;
    let length = probe.lengths(reading, drawing, budget.lengths)?;
    let update = update(config, text, policy, tasks, (reading, budget.training))?;
    Ok(Rates { prompt, reading, drawing, length, update })
}

/// The questions of the first train tasks.
fn jobs(config: &Config, text: &Text, tasks: &[Task]) -> Result<Vec<Job>> {
    let job = |(i, task): (usize, &Task)| {
        Ok(Job {
            task_id: task.id.clone(),
            kind: task.kind,
            variant: None,
            answers: AnswerMap::new(),
            prompt_ids: text.prompt_ids_of(task.kind, &task.question)?,
            address: Address::new(config.run.seed, Purpose::Evaluation, 0, &task.id, &[i as u32]),
        })
    };
    let train: Vec<&Task> = tasks.iter().filter(|t| t.split == Split::Train).collect();
    let jobs: Vec<Job> =
        train.into_iter().cycle().take(TOGETHER).enumerate().map(job).collect::<Result<_>>()?;
    ensure!(!jobs.is_empty(), "there is no train task to ask");
    Ok(jobs)
}

/// The policy and its questions.
struct Probe<'a> {
    config: &'a Config,
    text: &'a Text,
    policy: &'a Policy,
    jobs: Vec<Job>,
}

impl Probe<'_> {
    /// Tokens per second of reading whole prompts.
    fn reading(&self, budget: f64) -> Result<f64> {
        let request = |job: &Job| ReadRequest {
            ids: job.prompt_ids.clone(),
            // Nothing of a prompt is scored.
            from: job.prompt_ids.len(),
            hidden_at: Vec::new(),
        };
        let requests: Vec<ReadRequest> = self.jobs.iter().map(request).collect();
        let mut count = rayon::current_num_threads().min(requests.len());
        loop {
            let began = Instant::now();
            self.policy.engine().read(&requests[..count])?;
            let seconds = began.elapsed().as_secs_f64();
            if count == requests.len() || seconds * GROWTH as f64 > budget {
                let tokens: usize = requests[..count].iter().map(|request| request.ids.len()).sum();
                return Ok(tokens as f64 / seconds.max(1e-6));
            }
            count = (count * GROWTH).min(requests.len());
        }
    }

    /// Tokens per second of drawing, as many trajectories together as a run draws. What reading the
    /// prompts takes is taken off; prompts are cut if reading them would take too long.
    fn drawing(&self, reading: f64, budget: f64) -> Result<f64> {
        let mut jobs = self.jobs.clone();
        let tokens: usize = jobs.iter().map(|job| job.prompt_ids.len()).sum();
        if tokens as f64 / reading > budget / 3.0 {
            for job in &mut jobs {
                let cut = job.prompt_ids.len().saturating_sub(SHORT_PROMPT);
                job.prompt_ids.drain(..cut);
            }
        }
        let (one, first) = self.draw(&jobs, 1)?;
        let (mut tokens_max, most) = (2, self.config.rollout.tokens_max.max(2));
        loop {
            let (trees, seconds) = self.draw(&jobs, tokens_max)?;
            let steps = seconds - first;
            let drawn = drawn(&trees).saturating_sub(drawn_in_first(&one));
            let next = (tokens_max * GROWTH).min(most);
            let projected = first + steps.max(0.0) * next as f64 / (tokens_max - 1) as f64;
            if tokens_max == most || projected > budget {
                return Ok(drawn.max(1) as f64 / steps.max(1e-4));
            }
            tokens_max = next;
        }
    }

    /// How long trajectories are: all of them to their ends, or a few as far as there is time.
    fn lengths(&self, reading: f64, drawing: f64, budget: f64) -> Result<Length> {
        let (most, threads) = (self.config.rollout.tokens_max, rayon::current_num_threads());
        let prompts = |count: usize| -> f64 {
            let tokens: usize = self.jobs[..count].iter().map(|job| job.prompt_ids.len()).sum();
            tokens as f64 / reading
        };
        let whole = prompts(self.jobs.len()) + (self.jobs.len() * most) as f64 / drawing;
        if whole <= budget {
            return Ok(length(&self.draw(&self.jobs, most)?.0, most));
        }
        let mut count = (2 * threads).min(self.jobs.len());
        let step = FEW * self.jobs.len() as f64 / drawing;
        let affordable = ((budget / 2.0 - prompts(count)) / step).max(4.0) as usize;
        let (mut tokens_max, mut spent) = (affordable.min(most), 0.0);
        loop {
            let (trees, seconds) = self.draw(&self.jobs[..count], tokens_max)?;
            spent += seconds;
            // The prompts are read again each time.
            let step = (seconds - prompts(count)).max(seconds / 4.0) / tokens_max as f64;
            let room = ((budget - spent - prompts(count)) / step) as usize;
            let more = (count * GROWTH).min(self.jobs.len());
            if tokens_max == most || trees.iter().all(has_ended) {
                // The same again, of more trajectories.
                if more == count || seconds * GROWTH as f64 > budget - spent {
                    return Ok(length(&trees, most));
                }
                (count, tokens_max) = (more, most);
            } else if room < 2 * tokens_max {
                return Ok(length(&trees, most));
            } else {
                tokens_max = room.min(most);
            }
        }
    }

    /// The trajectories of these jobs with at most `tokens_max` tokens, and the time they took.
    fn draw(&self, jobs: &[Job], tokens_max: usize) -> Result<(Vec<Tree>, f64)> {
        let mut config = self.config.clone();
        config.rollout.tokens_max = tokens_max;
        let sampling = Sampling { temperature: config.rollout.temperature, ..Sampling::GREEDY };
        let began = Instant::now();
        let trees = with_tools(&config, self.text, self.policy, sampling, &|_| (), |tools| {
            rollout::chains(tools, jobs)
        })?;
        Ok((trees, began.elapsed().as_secs_f64()))
    }
}

fn drawn(trees: &[Tree]) -> usize {
    trees.iter().map(Tree::drawn_tokens).sum()
}

/// The first token of each is predicted by reading the prompt.
fn drawn_in_first(trees: &[Tree]) -> usize {
    trees.len()
}

fn has_ended(tree: &Tree) -> bool {
    tree.leaves.iter().all(|leaf| leaf.finish != FinishReason::TokensMax)
}

/// The mean length of trajectories of which some were cut off: all tokens over the number of those
/// that ended, which is the estimate of greatest likelihood if every token ends with one and the
/// same probability.
fn length(trees: &[Tree], most: usize) -> Length {
    let (tokens, most) = (drawn(trees) as f64, most as f64);
    let ended = trees.iter().filter(|tree| has_ended(tree)).count();
    let mean = |ended: f64| if ended > 0.0 { (tokens / ended).min(most) } else { most };
    let spread = (ended as f64).sqrt();
    let least = tokens / trees.len().max(1) as f64;
    if ended == trees.len() {
        let squares: f64 = trees.iter().map(|tree| (tree.drawn_tokens() as f64 - least).powi(2)).sum();
        let error = 2.0 * squares.sqrt() / ended.max(1) as f64;
        return Length {
            mean: least,
            least: least - error,
            most: (least + error).min(most),
            drawn: ended,
            ended,
        };
    }
    Length {
        mean: mean(ended as f64),
        least: if ended == 0 { least } else { mean(ended as f64 + spread).max(least) },
        most: mean(ended as f64 - spread),
        drawn: trees.len(),
        ended,
    }
}

/// What an update of `train.step_tokens` takes: the largest that fits the time, extrapolated by
/// what each token costs more. If even the optimizer's part of an update would not fit, nothing is
/// tried, and arithmetic counts at the rate of reading.
fn update(
    config: &Config,
    text: &Text,
    policy: &Policy,
    tasks: &[Task],
    (reading, budget): (f64, f64),
) -> Result<Update> {
    let Policy::Model(model) = policy else { bail!("only a model can be trained") };
    let (trainable, hyper) = (trainable(&model.body, config, 1)?, Hyper::from(&config.train));
    let (whole, mut size, mut last) = (config.train.step_tokens, FIRST_UPDATE, None);
    let per_token = 2.0 * model.body.parameter_count() as f64;
    let optimizer = train::optimizer_flops(&hyper, trainable.tensors()) / (per_token * reading);
    if 2.0 * optimizer > budget {
        let seconds = optimizer + PASSES * whole as f64 / reading;
        return Ok(Update { seconds, tokens: whole, tried: 0 });
    }
    let groups = groups(text, tasks)?;
    let mut trainer = Trainer::new(trainable, hyper, config.train.steps)?.in_passes((&config.train).into());
    loop {
        let batch = batch(&groups, size.min(whole));
        let batch: Vec<&Group> = batch.iter().collect();
        let began = Instant::now();
        let tokens = trainer.step(&batch)?.tokens;
        let now = (tokens, began.elapsed().as_secs_f64());
        let (fixed, each) = cost(last, now);
        let next = size * GROWTH;
        if size >= whole || fixed + each * next.min(whole) as f64 > budget {
            let seconds = if size >= whole {
                now.1 * whole as f64 / tokens as f64
            } else {
                fixed + each * whole as f64
            };
            return Ok(Update { seconds, tokens: whole, tried: tokens });
        }
        (last, size) = (Some(now), next);
    }
}

/// Seconds of an update without tokens, and of each token, from the last two (tokens, seconds).
fn cost(last: Option<(usize, f64)>, now: (usize, f64)) -> (f64, f64) {
    let all = (0.0, now.1 / now.0.max(1) as f64);
    let Some(last) = last.filter(|last| last.0 < now.0 && last.1 < now.1) else { return all };
    let each = (now.1 - last.1) / (now.0 - last.0) as f64;
    ((now.1 - each * now.0 as f64).max(0.0), each)
}

/// Prompts and completions to train on: easy tasks with their solutions; the questions of train
/// tasks if no easy task has a solution.
fn groups(text: &Text, tasks: &[Task]) -> Result<Vec<(Vec<u32>, Vec<u32>)>> {
    let pair = |task: &Task, completion: &str| -> Result<(Vec<u32>, Vec<u32>)> {
        Ok((text.prompt_ids_of(task.kind, &task.question)?, text.completion_ids(completion)?))
    };
    let easy = tasks.iter().filter(|t| t.split == Split::Easy);
    let solved = easy.filter_map(|task| Some((task, task.solution.as_deref()?)));
    let mut pairs: Vec<_> = solved.map(|(task, solution)| pair(task, solution)).collect::<Result<_>>()?;
    if pairs.is_empty() {
        let train = tasks.iter().filter(|t| t.split == Split::Train).take(TOGETHER);
        pairs = train.map(|task| pair(task, &task.question)).collect::<Result<_>>()?;
    }
    ensure!(!pairs.is_empty(), "there is no task to probe training with");
    Ok(pairs)
}

/// Examples that fill an update of `tokens_max` tokens; the last is cut, and so is the prompt of one that
/// is too long.
fn batch(pairs: &[(Vec<u32>, Vec<u32>)], tokens_max: usize) -> Vec<Group> {
    let (mut batch, mut left) = (Vec::new(), tokens_max.max(2));
    for (prompt, completion) in pairs.iter().cycle() {
        let completion = &completion[..completion.len().min(left.div_ceil(2))];
        let prompt = &prompt[prompt.len().saturating_sub(left - completion.len())..];
        left -= prompt.len() + completion.len();
        batch.push(train::example_from_solution(prompt, completion, "probe").into());
        if left < 2 {
            break;
        }
    }
    batch
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Leaf, Strategy, Thought};

    #[test]
    fn a_batch_has_the_tokens_that_were_asked_for() {
        let pairs = [(vec![1; 10], vec![2; 5]), (vec![1; 3], vec![2; 30])];
        for size in [2, 3, 7, 16, 64, 257] {
            let tokens: usize = batch(&pairs, size).iter().map(Group::tokens).sum();
            assert!((size - 1..=size).contains(&tokens), "{size}: {tokens}");
        }
    }

    #[test]
    fn what_an_update_costs_is_split_into_a_fixed_part_and_tokens() {
        assert_eq!(cost(None, (100, 2.0)), (0.0, 0.02));
        let (fixed, each) = cost(Some((100, 2.0)), (400, 5.0));
        assert!((fixed - 1.0).abs() < 1e-9 && (each - 0.01).abs() < 1e-9);
        assert_eq!(cost(Some((100, 6.0)), (400, 4.0)), (0.0, 0.01), "the first was slowed down by something");
    }

    fn tree(tokens: usize, finish: FinishReason) -> Tree {
        let thought = Thought {
            parent: None,
            token_ids: vec![1; tokens],
            logprobs: vec![0.0; tokens],
            text: String::new(),
            hidden_f16: Vec::new(),
            value: None,
            pruned: None,
            visits: None,
        };
        Tree {
            address: Address::new(0, Purpose::Rollout, 0, "t", &[]),
            strategy: Strategy::Cot,
            task_id: "t".into(),
            variant: None,
            prompt_ids: Vec::new(),
            thoughts: vec![thought],
            leaves: vec![Leaf { thought: 0, finish, answer: None }],
        }
    }

    #[test]
    fn lengths_of_cut_trajectories_are_estimated_from_those_that_ended() {
        let (ended, cut) = (tree(20, FinishReason::Eos), tree(40, FinishReason::TokensMax));
        let whole = length(&[ended.clone(), ended.clone()], 256);
        assert_eq!((whole.mean, whole.ended, whole.most), (20.0, 2, 20.0));
        let some = length(&[ended.clone(), cut.clone(), cut.clone()], 256);
        assert_eq!((some.mean, some.ended, some.drawn), (100.0, 1, 3));
        assert!(some.least < some.mean && some.mean < some.most && some.most == 256.0, "{some:?}");
        let none = length(&[cut.clone(), cut], 256);
        assert_eq!((none.least, none.mean, none.most), (40.0, 256.0, 256.0));
    }
}
