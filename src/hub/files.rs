//! Which files of a model are needed: those that the loader reads.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use super::HubId;
use super::cache::Repo;
use super::http::Info;
use super::id::is_part;

const CONFIG: &str = "config.json";
const TOKENIZER: &str = "tokenizer.json";
const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const ADAPTER: [&str; 2] = ["adapter_config.json", "adapter_model.safetensors"];

/// Files that are read if they exist.
const OPTIONAL: [&str; 4] =
    ["tokenizer_config.json", "special_tokens_map.json", "generation_config.json", "chat_template.jinja"];

/// Extensions of weights that are pickles. Loading a pickle runs the code in it.
const PICKLES: [&str; 4] = [".bin", ".pt", ".pth", ".ckpt"];

/// Most file names that a message lists.
const LISTED_MAX: usize = 12;

/// What a model is used as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// A checkpoint with its tokenizer.
    Checkpoint,
    /// An adapter in the format of PEFT.
    Adapter,
    /// A checkpoint if it is one, or else an adapter.
    Either,
}

/// The files to have of one commit.
pub(super) struct Plan {
    pub commit: String,
    pub names: Vec<String>,
    /// The index file that names the other files, if the weights are in several.
    pub index: Option<String>,
    /// Optional files that the hub doesn't have.
    pub absent: Vec<&'static str>,
}

/// Which files of a commit the cache lacks.
pub(super) struct Held {
    /// Needed files that are not here.
    pub missing: Vec<String>,
    /// Whether the hub may have optional files that are not here.
    pub is_unsure: bool,
}

/// Compares the cache with what is needed.
pub(super) fn held(repo: &Repo, commit: &str, id: &HubId, want: Want) -> Held {
    let lacks = |names: &[&str]| -> Vec<String> {
        names.iter().filter(|name| !repo.has(commit, name)).map(|name| name.to_string()).collect()
    };
    if let Some(file) = &id.file {
        return Held { missing: lacks(&[file]), is_unsure: false };
    }
    let is_adapter = want == Want::Adapter
        || (want == Want::Either && repo.has(commit, ADAPTER[0]) && !repo.has(commit, CONFIG));
    if is_adapter {
        return Held { missing: lacks(&ADAPTER), is_unsure: false };
    }
    let mut missing = lacks(&[CONFIG, TOKENIZER]);
    if !repo.has(commit, WEIGHTS) {
        let text = std::fs::read_to_string(repo.file(commit, INDEX)).unwrap_or_default();
        match shards(&text) {
            Ok(names) => missing.extend(names.into_iter().filter(|name| !repo.has(commit, name))),
            Err(_) => missing.push(WEIGHTS.to_owned()),
        }
    }
    let settled = |name: &str| repo.has(commit, name) || repo.is_absent(commit, name);
    Held { missing, is_unsure: !OPTIONAL.iter().all(|name| settled(name)) }
}

/// The files to have, out of those that the hub lists.
pub(super) fn plan(id: &HubId, want: Want, info: Info) -> Result<Plan> {
    let listed: BTreeSet<&str> = info.siblings.iter().map(|file| file.rfilename.as_str()).collect();
    let has = |name: &str| listed.contains(name);
    let mut plan = Plan { commit: info.sha.clone(), names: Vec::new(), index: None, absent: Vec::new() };
    if let Some(file) = &id.file {
        ensure!(has(file), "{} has no file {file}; it has {}", id.repo, some(&listed, ".gguf"));
        plan.names.push(file.clone());
        return Ok(plan);
    }
    let is_adapter = want == Want::Adapter || (want == Want::Either && has(ADAPTER[0]) && !has(CONFIG));
    if is_adapter {
        need(id, &listed, &ADAPTER)?;
        plan.names.extend(ADAPTER.map(str::to_owned));
        return Ok(plan);
    }
    need(id, &listed, &[CONFIG, TOKENIZER])?;
    plan.names.extend([CONFIG, TOKENIZER].map(str::to_owned));
    plan.names.extend(OPTIONAL.into_iter().filter(|name| has(name)).map(str::to_owned));
    plan.absent.extend(OPTIONAL.into_iter().filter(|name| !has(name)));
    if has(WEIGHTS) {
        plan.names.push(WEIGHTS.to_owned());
    } else if has(INDEX) {
        plan.names.push(INDEX.to_owned());
        plan.index = Some(INDEX.to_owned());
    } else {
        need(id, &listed, &[WEIGHTS])?;
    }
    Ok(plan)
}

/// An error if one of the files isn't listed; it names files that are.
fn need(id: &HubId, listed: &BTreeSet<&str>, names: &[&str]) -> Result<()> {
    let Some(missing) = names.iter().find(|name| !listed.contains(**name)) else { return Ok(()) };
    let pickle = listed.iter().find(|name| PICKLES.iter().any(|ending| name.ends_with(ending)));
    if missing.ends_with(".safetensors")
        && let Some(pickle) = pickle
    {
        bail!(
            "{id} has its weights only as {pickle}, a pickle, which is never fetched because it can run code; use a \
             repository or a revision with safetensors (`refs/pr/N` often has them)"
        );
    }
    let gguf = match listed.iter().find(|name| name.to_lowercase().ends_with(".gguf")) {
        Some(file) => format!("; name one of its files, as in {}/{file}", id.repo),
        None => String::new(),
    };
    bail!("{id} has no {missing}, which is needed; it has {}{gguf}", some(listed, ""))
}

/// Some of the names with this ending, for messages.
fn some(listed: &BTreeSet<&str>, ending: &str) -> String {
    let fit: Vec<&str> =
        listed.iter().copied().filter(|name| name.to_lowercase().ends_with(ending)).collect();
    match fit.len() {
        0 => format!("{} others", listed.len()),
        n if n > LISTED_MAX => format!("{} and {} more", fit[..LISTED_MAX].join(", "), n - LISTED_MAX),
        _ => fit.join(", "),
    }
}

#[derive(Deserialize)]
struct Index {
    weight_map: std::collections::BTreeMap<String, String>,
}

/// The files that an index names.
pub(super) fn shards(index: &str) -> Result<BTreeSet<String>> {
    let Index { weight_map } = serde_json::from_str(index).context("it is not an index of weights")?;
    let names: BTreeSet<String> = weight_map.into_values().collect();
    ensure!(!names.is_empty(), "it names no file");
    for name in &names {
        let usable = is_part(name) && name.ends_with(".safetensors");
        ensure!(usable, "it names {name:?}, which is not a safetensors file in the same folder");
    }
    Ok(names)
}
