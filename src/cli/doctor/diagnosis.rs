//! What a run will need, and whether it is there. Gathers and measures; writes nothing.

use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Serialize;

use super::forecast::Forecast;
use super::plan::{self, Plan};
use super::probe::{self, Budget, Length, Rates};
use super::suggest::suggestions;
use crate::cli::block_on;
use crate::cli::hub::HubReport;
use crate::cli::lengths::{self, SplitLengths};
use crate::config::{Config, Matmul};
use crate::data::{Dataset, Report};
use crate::domain::{Split, Task, stats};
use crate::improve::{as_begun, dataset, preflight, replay_notice, special_notice};
use crate::model::{checkpoint_files, value_head_tensors};
use crate::policy::checkpoints::ensure_space;
use crate::policy::{Lengths, Policy, PolicyKind, Use, memory_advice, memory_needed, trainable};

/// What a run will need, and whether it is there.
#[derive(Serialize)]
pub(super) struct Diagnosis {
    pub threads: usize,
    /// Instruction set that the kernels use.
    pub cpu: &'static str,
    /// How products with the model's matrices are computed.
    pub matmul: Matmul,
    pub memory_free_mib: u64,
    pub disk_free_mib: u64,
    pub model: String,
    /// The configured models that are the hub's.
    pub hub: Vec<HubReport>,
    pub parameters: usize,
    /// Those that training changes: all, or an adapter's.
    pub trained_parameters: usize,
    pub tasks: usize,
    /// Whether questions are asked through the checkpoint's chat template.
    pub chat: bool,
    pub prompt_tokens_max: usize,
    /// Token lengths by split.
    pub tokens: Vec<SplitLengths>,
    pub left_out: LeftOut,
    pub context_max: usize,
    pub generation_tokens_per_s: f64,
    pub training_tokens_per_s: f64,
    pub memory_needed_mib: u64,
    pub disk_needed_mib: u64,
    /// Of `run.iterations` iterations.
    pub estimated_seconds: f64,
    /// How a run with hours will use them.
    pub plan: Option<Plan>,
    pub estimate: Estimate,
    /// What is worth knowing and no problem.
    pub notes: Vec<String>,
    pub problems: Vec<String>,
    /// Settings that would suit the model or the time better.
    pub suggestions: Vec<String>,
}

/// What the estimated time rests on.
#[derive(Serialize)]
pub(super) struct Estimate {
    /// The time if trajectories are as short, or as long, as the probe allows.
    pub least_seconds: f64,
    pub most_seconds: f64,
    pub reading_tokens_per_s: f64,
    /// Tokens of a trajectory.
    pub tokens_mean: f64,
    pub tokens_least: f64,
    pub tokens_most: f64,
    /// Trajectories of the probe, and how many of them ended by themselves.
    pub trajectories: usize,
    pub trajectories_ended: usize,
    /// Tokens of the largest update that was tried; 0 if its time is only computed.
    pub update_tokens_tried: usize,
}

impl Estimate {
    fn of(forecast: &Forecast, rates: &Rates) -> Self {
        let Length { mean, least, most, drawn, ended } = rates.length;
        Self {
            least_seconds: forecast.seconds(rates, least),
            most_seconds: forecast.seconds(rates, most),
            reading_tokens_per_s: rates.reading,
            tokens_mean: mean,
            tokens_least: least,
            tokens_most: most,
            trajectories: drawn,
            trajectories_ended: ended,
            update_tokens_tried: rates.update.tried,
        }
    }
}

/// What the files of tasks are, and which of their rows are not used.
#[derive(Default, Serialize)]
pub(super) struct LeftOut {
    /// Name, format and number of rows of each file.
    pub files: Vec<String>,
    /// Rows that overlap with measuring ones, and with which.
    pub overlaps: Vec<String>,
    pub repeated: Vec<String>,
    /// Rows of published files that can't be used.
    pub odd: Vec<String>,
    pub beyond_split_max: usize,
}

impl LeftOut {
    fn of(report: &Report) -> Self {
        Self {
            files: report.files.iter().map(ToString::to_string).collect(),
            overlaps: report.overlaps.iter().map(ToString::to_string).collect(),
            repeated: report.repeated.clone(),
            odd: report.odd.clone(),
            beyond_split_max: report.beyond_max,
        }
    }
}

/// Loads the model and the tasks, samples and trains a little, and measures what a run would need.
///
/// # Errors
/// If the model or the tasks can't be loaded, or the probe fails.
pub(super) fn diagnose(config: &Config, hub: Vec<HubReport>, budget: Budget) -> Result<Diagnosis> {
    let memory_free_mib = memory_free()? >> 20;
    let begun = block_on(async { Ok(as_begun(config).await) })?;
    let text = PolicyKind::Model.text(config)?;
    let policy = PolicyKind::Model.base(config, &text, Use::Train, None)?;
    let mut fitted = begun.as_ref().unwrap_or(config).clone();
    let Dataset { mut tasks, mut report } = dataset(&fitted)?;
    let rates = probe::rates(&fitted, &text, &policy, &tasks, budget)?;
    let mut plan = None;
    if config.run.hours > 0.0 && begun.is_none() {
        let (planned, how) = plan::plan(&fitted, &tasks, &rates);
        (fitted, plan) = (planned, Some(how));
        Dataset { tasks, report } = dataset(&fitted)?;
    }
    let config = &fitted;
    let Policy::Model(model) = &policy else { bail!("only a model can be diagnosed") };
    let forecast = Forecast::of(config, &tasks);
    let tokens = lengths::measure(&tasks, &text)?;

    let dir = existing_parent(Path::new(&config.run.dir));
    let trained_parameters = trainable(&model.body, config, 1)?.element_count();
    let prompt_tokens_max = tokens.iter().map(|split| split.prompt.max).max().unwrap_or(0);
    let longest = prompt_tokens_max + config.rollout.tokens_max;
    let lengths = Lengths { longest, drawn: rates.length.mean.ceil() as usize };
    let (memory_needed, _) = memory_needed(config, model, &tasks, lengths)?;
    let checkpoints = (config.checkpoints.keep as u64 + 3) * trained_parameters as u64 * 4;
    let mut diagnosis = Diagnosis {
        threads: rayon::current_num_threads(),
        cpu: crate::ops::kernels::instruction_set(),
        matmul: config.model.matmul,
        memory_free_mib,
        disk_free_mib: fs4::available_space(dir)? >> 20,
        model: config.model.path.clone(),
        hub,
        parameters: model.body.parameter_count(),
        trained_parameters,
        tasks: tasks.len(),
        chat: text.is_chat(),
        prompt_tokens_max,
        tokens,
        left_out: LeftOut::of(&report),
        context_max: policy.engine().context_max(),
        generation_tokens_per_s: rates.length.mean
            / (rates.prompt / rates.reading + rates.length.mean / rates.drawing),
        training_tokens_per_s: rates.update.tokens as f64 / rates.update.seconds,
        memory_needed_mib: memory_needed as u64 >> 20,
        disk_needed_mib: (checkpoints + forecast.stored_bytes(rates.length.mean)) >> 20,
        estimated_seconds: forecast.seconds(&rates, rates.length.mean),
        plan,
        estimate: Estimate::of(&forecast, &rates),
        notes: replay_notice(config, &tasks)
            .into_iter()
            .chain(special_notice(&tasks, &text))
            .chain(unread_tensors(config)?)
            .chain(more_threads_than_cores(config))
            .chain(blunt_gate(config, &tasks))
            .collect(),
        problems: Vec::new(),
        suggestions: suggestions(config, &tasks, &rates),
    };
    let space = ensure_space(dir, diagnosis.disk_needed_mib << 20);
    diagnosis.problems = problems(&diagnosis, config.rollout.tokens_max, space);
    diagnosis.problems.extend(block_on(async { Ok(preflight(config, &text, &policy, &tasks).await) })?);
    Ok(diagnosis)
}

/// A note on tensors of the model that nothing reads.
fn unread_tensors(config: &Config) -> Result<Option<String>> {
    let folder = config.model.folder();
    if !folder.is_dir() || !checkpoint_files(folder)?.iter().all(|name| folder.join(name).exists()) {
        return Ok(None);
    }
    let names = value_head_tensors(folder)?;
    Ok((!names.is_empty()).then(|| format!("not read, because they are a value head: {}", names.join(", "))))
}

/// Share of gate tasks on which two policies are taken to differ, and the power that is asked for.
const DISCORDANT: f64 = 0.25;
const POWER: f64 = 0.8;
/// Points of regression that a gate should see.
const REGRESSION: f64 = 5.0;

/// A note on a gate with too few tasks to see a regression.
pub(in crate::cli) fn blunt_gate(config: &Config, tasks: &[Task]) -> Option<String> {
    let n = tasks.iter().filter(|task| task.split == Split::Gate).count();
    let points = 100.0 * stats::detectable_change(n, DISCORDANT, config.gate.confidence, POWER);
    (points > REGRESSION).then(|| {
        format!(
            "the gate's {n} tasks show a regression of {points:.0} points or more in 4 of 5 cases, and smaller ones \
             less often (if the policies differ on a quarter of the tasks)"
        )
    })
}

/// A note on threads that would only wait for one another.
fn more_threads_than_cores(config: &Config) -> Option<String> {
    let cores = std::thread::available_parallelism().ok()?.get();
    let threads = config.run.threads;
    (threads > cores)
        .then(|| format!("run.threads = {threads}, but there are {cores} cores: 0 uses them all"))
}

/// Bytes of memory that are free.
pub(in crate::cli) fn memory_free() -> Result<u64> {
    let mut system = sysinfo::System::new().context("cannot ask for the memory")?;
    system.refresh_memory();
    Ok(system.available_memory())
}

/// What the machine or the model has too little of; `space` is the disk's own complaint.
fn problems(d: &Diagnosis, tokens_max: usize, space: Result<()>) -> Vec<String> {
    let mut problems = Vec::new();
    if d.memory_needed_mib > d.memory_free_mib {
        problems.push(memory_advice(d.memory_needed_mib, d.memory_free_mib));
    }
    problems.extend(d.plan.as_ref().and_then(Plan::problem));
    problems.extend(space.err().map(|error| error.to_string()));
    let longest = d.prompt_tokens_max + tokens_max;
    if longest > d.context_max {
        problems.push(format!(
            "the longest prompt and rollout.tokens_max make {longest} tokens, more than the model's {}: lower \
             rollout.tokens_max",
            d.context_max
        ));
    }
    problems
}

/// The nearest folder that exists.
fn existing_parent(path: &Path) -> &Path {
    path.ancestors().find(|p| p.exists()).unwrap_or(Path::new("."))
}

#[cfg(test)]
pub(super) mod tests {
    use anyhow::anyhow;

    use super::*;

    /// A machine that has what the run needs.
    pub(crate) fn healthy() -> Diagnosis {
        Diagnosis {
            threads: 2,
            cpu: "avx2",
            matmul: Matmul::F32,
            memory_free_mib: 900,
            disk_free_mib: 5000,
            model: "seed".into(),
            hub: Vec::new(),
            parameters: 1_000_000,
            trained_parameters: 500,
            tasks: 12,
            chat: false,
            prompt_tokens_max: 40,
            tokens: Vec::new(),
            left_out: LeftOut::default(),
            context_max: 100,
            generation_tokens_per_s: 1234.5,
            training_tokens_per_s: 99.5,
            memory_needed_mib: 900,
            disk_needed_mib: 70,
            estimated_seconds: 61.0,
            plan: None,
            estimate: Estimate {
                least_seconds: 50.0,
                most_seconds: 75.0,
                reading_tokens_per_s: 4000.0,
                tokens_mean: 20.0,
                tokens_least: 15.0,
                tokens_most: 30.0,
                trajectories: 64,
                trajectories_ended: 64,
                update_tokens_tried: 4096,
            },
            notes: Vec::new(),
            problems: Vec::new(),
            suggestions: Vec::new(),
        }
    }

    #[test]
    fn what_is_just_enough_is_no_problem() {
        assert_eq!(problems(&healthy(), 60, Ok(())), [""; 0]);
    }

    #[test]
    fn every_lack_is_a_problem_that_names_its_figures() {
        let poor = Diagnosis { memory_free_mib: 899, ..healthy() };
        let found = problems(&poor, 61, Err(anyhow!("the disk is full").context("no space")));
        let [memory, disk, context] = &found[..] else { panic!("{found:?}") };
        assert!(memory.contains("900") && memory.contains("899"), "{memory}");
        assert_eq!(disk, "no space");
        assert!(context.contains("101 tokens") && context.contains("model's 100"), "{context}");
    }

    #[test]
    fn a_folder_that_does_not_exist_yet_is_measured_where_it_will_be() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(existing_parent(&dir.path().join("a/b")), dir.path());
        assert_eq!(existing_parent(Path::new("no-such-folder")), Path::new("."));
    }
}
