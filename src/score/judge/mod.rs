//! A judge: a model that is asked in words and answers in probabilities.
//!
//! The judge generates no text: its score is the expectation over the next-token probabilities of 1
//! to 5, read after the fenced candidate (Liu et al. 2023, arXiv:2303.16634). So a candidate's text
//! can't write its own score. Every criterion is asked `repeats` times, in other words and another
//! order; the mean is the score, and the spread of the verdicts is a separate score.
//!
//! What it can't score has an error class: a text that its tokenizer can't write or that names a
//! special token, a prompt longer than its context, answers that are too unlikely together. There
//! is no time-out: every question is one bounded forward pass. Left out: critiques in words before
//! the verdict.

mod settings;

use anyhow::{Context, Result, ensure};

pub use settings::{Criterion, JudgeConfig};

use crate::domain::{Capabilities, Choice, Generate, Score, ScoreError, ScorerName, ScorerSpec, Trajectory};
use crate::text::{CRITIQUES, Text, VALUE};

/// The numbers a judge may answer.
const LEVELS: [&str; 5] = ["1", "2", "3", "4", "5"];
/// What each is worth.
const LEVEL_WORTHS: [f64; 5] = [0.0, 0.25, 0.5, 0.75, 1.0];
/// The words of the value prompt (Yao et al. 2023, arXiv:2305.10601), and their worths as
/// probabilities.
const WORDS: [&str; 3] = ["sure", "likely", "impossible"];
const WORD_WORTHS: [f64; 3] = [1.0, 0.5, 0.0];

/// What a prompt shows of a trajectory, or of a search's path, which has no end yet.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown<'t> {
    pub question: &'t str,
    /// The texts of its thoughts.
    pub thoughts: Vec<&'t str>,
}

impl<'t> From<&Trajectory<'t>> for Shown<'t> {
    fn from(trajectory: &Trajectory<'t>) -> Self {
        Self { question: trajectory.question(), thoughts: trajectory.thought_texts() }
    }
}

/// A model with the prompts that it is asked with.
pub struct Judge<'a> {
    engine: &'a dyn Generate,
    text: &'a Text,
    config: &'a JudgeConfig,
}

/// A verdict to come: the prompt, or why it can't be asked.
type Question = Result<Choice, ScoreError>;

impl<'a> Judge<'a> {
    /// A judge that asks `engine` with the prompts of `text`.
    pub fn new(engine: &'a dyn Generate, text: &'a Text, config: &'a JudgeConfig) -> Self {
        Self { engine, text, config }
    }

    /// What the engine of the model that judges can do.
    pub fn capabilities(&self) -> Capabilities {
        self.engine.capabilities()
    }

    /// Identifies the judge: its weights, its tokenizer, the prompts and how they are read.
    pub fn hash(&self) -> String {
        let prompts = self.prompts_hash();
        let JudgeConfig { repeats, temperature, mass_min, .. } = self.config;
        let identity = [self.engine.policy_hash(), self.text.hash(), &prompts].join(" ");
        let mut hasher = blake3::Hasher::new_derive_key("autodidact 2026 judge v1");
        hasher.update(format!("{identity} {repeats} {temperature} {mass_min}").as_bytes());
        hasher.finalize().to_hex().to_string()
    }

    /// How the scores in `asked` are made.
    ///
    /// [`Self::hash`] stays the scorer's hash in the store; the spec is what it stands for.
    pub fn spec(&self, asked: &[ScorerName]) -> ScorerSpec {
        let JudgeConfig { repeats, temperature, mass_min, .. } = self.config;
        let settings = serde_json::json!({
            "model": self.engine.policy_hash(),
            "tokenizer": self.text.hash(),
            "prompts": self.prompts_hash(),
            "scores": asked,
            "repeats": repeats,
            "temperature": temperature,
            "mass_min": mass_min,
        });
        let computes = "expectation over a model's next-token probabilities of 1 to 5, scaled to 0 to 1, for each criterion";
        ScorerSpec::new(ScorerName::JUDGE, computes, &settings)
    }

    fn prompts_hash(&self) -> String {
        let names = CRITIQUES.map(|(_, name)| name);
        self.text.prompts().hash_of(&[names.as_slice(), &[VALUE]].concat())
    }

    /// Dry-runs every prompt in `asked` on an empty question, so that what never works shows before
    /// the run.
    ///
    /// # Errors
    /// If a prompt can't be rendered, tokenized or read.
    pub fn check(&self, asked: &[ScorerName]) -> Result<()> {
        for scorer in asked {
            let prompt = self.text.prompts().critique(scorer, "?", &["."], 0)?;
            self.probe(&prompt, &LEVELS)
                .with_context(|| format!("the prompt for {scorer} can't be asked"))?;
        }
        Ok(())
    }

    /// The same for [`Self::values`].
    pub fn check_values(&self) -> Result<()> {
        let prompt = self.text.prompts().value("?", &["."])?;
        self.probe(&prompt, &WORDS).with_context(|| format!("the prompt {VALUE} can't be asked"))
    }

    fn probe(&self, prompt: &str, words: &[&str]) -> Result<()> {
        self.engine.option_logprobs(&[self.text.choice(prompt, words)?]).map(drop)
    }

    /// The scores in `asked` of every trajectory, and how much the repeated verdicts disagree, in
    /// order.
    pub fn scores(&self, asked: &[ScorerName], trajectories: &[Trajectory]) -> Result<Vec<Vec<Score>>> {
        let mut questions = Vec::new();
        for candidate in trajectories.iter().map(Shown::from) {
            for scorer in asked {
                for variant in 0..self.config.repeats {
                    let Shown { question, thoughts } = &candidate;
                    let prompt = self.text.prompts().critique(scorer, question, thoughts, variant)?;
                    questions.push(self.question(&prompt, &LEVELS));
                }
            }
        }
        let verdicts = self.verdicts(questions, &LEVEL_WORTHS)?;
        let repeats = self.config.repeats as usize;
        let of_candidate = |verdicts: &[Result<f64, ScoreError>]| {
            let repeated = verdicts.chunks(repeats);
            let mut scores: Vec<Score> =
                asked.iter().zip(repeated.clone()).map(|(scorer, v)| mean(scorer, v)).collect();
            if repeats > 1 {
                scores.push(disagreement(repeated));
            }
            scores
        };
        // Without a question there is nothing to divide.
        Ok(verdicts.chunks((asked.len() * repeats).max(1)).map(of_candidate).collect())
    }

    /// How likely each path is to lead to the answer: sure, likely or impossible, as a probability.
    pub fn values(&self, paths: &[Shown]) -> Result<Vec<Result<f64, ScoreError>>> {
        let question = |path: &Shown| {
            let prompt = self.text.prompts().value(path.question, &path.thoughts)?;
            Ok(self.question(&prompt, &WORDS))
        };
        let questions = paths.iter().map(question).collect::<Result<Vec<_>>>()?;
        self.verdicts(questions, &WORD_WORTHS)
    }

    fn question(&self, prompt: &str, words: &[&str]) -> Question {
        let choice = self.text.choice(prompt, words).map_err(|_| ScoreError::Unreadable)?;
        if choice.tokens() > self.engine.context_max() { Err(ScoreError::ContextFull) } else { Ok(choice) }
    }

    fn verdicts(&self, questions: Vec<Question>, worths: &[f64]) -> Result<Vec<Result<f64, ScoreError>>> {
        let askable: Vec<Choice> = questions.iter().filter_map(|q| q.as_ref().ok()).cloned().collect();
        let mut weights = self.engine.option_logprobs(&askable)?.into_iter();
        let mut verdicts = Vec::with_capacity(questions.len());
        for question in questions {
            verdicts.push(match question {
                Err(error) => Err(error),
                Ok(_) => {
                    let weights =
                        weights.next().context("the engine weighed fewer choices than it was given")?;
                    let (n, options) = (weights.len(), worths.len());
                    ensure!(n == options, "the engine weighed {n} options of {options}");
                    expected(&weights, worths, self.config)
                }
            });
        }
        Ok(verdicts)
    }
}

/// The expected worth of the answer under these log-probabilities.
fn expected(logprobs: &[f32], worths: &[f64], config: &JudgeConfig) -> Result<f64, ScoreError> {
    let probabilities = |temperature: f64| logprobs.iter().map(move |&l| (f64::from(l) / temperature).exp());
    let mass: f64 = probabilities(1.0).sum();
    if !mass.is_finite() {
        return Err(ScoreError::NonFinite);
    }
    if mass < config.mass_min || mass == 0.0 {
        return Err(ScoreError::LowMass);
    }
    // Relative to the likeliest, so that a low temperature doesn't make them all zero.
    let most = logprobs.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let share = |&l: &f32| (f64::from(l - most) / f64::from(config.temperature)).exp();
    let total: f64 = logprobs.iter().map(share).sum();
    Ok(logprobs.iter().map(share).zip(worths).map(|(share, worth)| share / total * worth).sum())
}

/// The mean of the verdicts that could be read; without any, the first one's error.
fn mean(scorer: &ScorerName, verdicts: &[Result<f64, ScoreError>]) -> Score {
    let read: Vec<f64> = verdicts.iter().filter_map(|v| v.ok()).collect();
    match verdicts.iter().find_map(|v| v.err()) {
        Some(error) if read.is_empty() => Score::failed(scorer.clone(), error),
        _ => Score::new(scorer.clone(), read.iter().sum::<f64>() / read.len() as f64),
    }
}

/// The standard deviation of each criterion's verdicts, averaged over the criteria that have at
/// least two.
fn disagreement<'v>(repeated: impl Iterator<Item = &'v [Result<f64, ScoreError>]>) -> Score {
    let deviation = |verdicts: &[Result<f64, ScoreError>]| {
        let read: Vec<f64> = verdicts.iter().filter_map(|v| v.ok()).collect();
        let mean = read.iter().sum::<f64>() / read.len() as f64;
        let variance = read.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / read.len() as f64;
        (read.len() > 1).then_some(variance.sqrt())
    };
    let deviations: Vec<f64> = repeated.filter_map(deviation).collect();
    match deviations.len() {
        0 => Score::failed(ScorerName::JUDGE_DISAGREEMENT, ScoreError::MissingInput),
        n => Score::new(ScorerName::JUDGE_DISAGREEMENT, deviations.iter().sum::<f64>() / n as f64),
    }
}

#[cfg(test)]
mod tests;
