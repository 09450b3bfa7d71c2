//! Models of the Hugging Face hub: from `org/name@revision` to a folder on this disk.
//!
//! The cache comes first, and its layout is that of Python's `huggingface_hub`, so that either finds what the other
//! fetched: `models--org--name/{refs,blobs,snapshots}`. A revision that was fetched once stays the commit it was
//! then: nothing is asked of the network while everything needed is here. What is fetched is what the loader reads:
//! configuration, tokenizer, safetensors; never pickles, which can run code. A file is at its place only when it is
//! whole, and a revision is noted only when all its files are.
//!
//! The protocol is spoken here over a plain HTTP client. Left out: datasets, uploads, the chunked Xet transfer (the
//! hub serves the same files over HTTP), and asking whether a branch has moved on.
//!
//! This room reads no environment: endpoint, token and places come from the caller, who is told of what happens.

mod cache;
mod download;
mod files;
mod http;
mod id;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use cache::Repo;
use files::Plan;
pub use files::Want;
use http::{Client, Unreachable};
pub use id::HubId;

/// Free space that must be left beside what is fetched, in bytes.
const SPACE_LEFT: u64 = 64 << 20;

/// Where the hub is, and where its files are kept.
pub struct Settings {
    /// Such as `https://huggingface.co`, without a slash at the end.
    pub endpoint: String,
    /// The folder that holds `models--…`.
    pub cache: PathBuf,
    /// Sent to `endpoint` and to nobody else.
    pub token: Option<String>,
    /// Whether to keep to what is cached.
    pub offline: bool,
}

/// What a watcher is told.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A file is being fetched; so many of its bytes were here already.
    Fetching { file: String, bytes: u64, here: u64 },
    /// So many bytes more.
    Received { bytes: u64 },
    /// The file is at its place.
    Fetched { file: String },
    /// Something that the user should know.
    Note { message: String },
}

/// A model that lies on this disk.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// Hash of the commit.
    pub commit: String,
    /// Its snapshot folder, or the one file that was named.
    pub path: PathBuf,
}

/// What [`Hub::look`] saw.
#[derive(Clone, Debug, PartialEq)]
pub enum Look {
    Cached(Found),
    /// It would have to be fetched: names and bytes.
    Remote {
        commit: String,
        files: Vec<(String, u64)>,
    },
}

/// The hub and its cache.
pub struct Hub<'a> {
    settings: Settings,
    client: Client,
    on_event: &'a dyn Fn(Event),
}

/// A file as the hub has it.
struct Remote {
    name: String,
    /// Names the blob; for large files the SHA-256 of their contents.
    etag: String,
    bytes: u64,
}

impl<'a> Hub<'a> {
    pub fn new(settings: Settings, on_event: &'a dyn Fn(Event)) -> Self {
        let client = Client::new(&settings.endpoint, settings.token.clone());
        Self { settings, client, on_event }
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Brings a model onto this disk, if it isn't there. `pinned` is a commit that counts instead of the revision.
    ///
    /// # Errors
    /// When it isn't cached and the hub can't be asked, doesn't have it, or has no file that can be used.
    pub fn resolve(&self, id: &HubId, want: Want, pinned: Option<&str>) -> Result<Found> {
        let repo = Repo::new(&self.settings.cache, &id.repo);
        let (at, cached) = self.cached(&repo, id, want, pinned)?;
        if let Some(Cached { found, unsure: false }) = cached {
            return Ok(found);
        }
        let plan = match (self.plan(&repo, id, want, &at), cached) {
            (Ok(plan), _) => plan,
            (Err(error), Some(Cached { found, .. })) if error.is::<Unreachable>() => {
                let message = format!("{id} is taken from the cache as it is: {error:#}");
                (self.on_event)(Event::Note { message });
                return Ok(found);
            }
            (Err(error), _) => return Err(error),
        };
        self.fetch(&repo, id, &plan)?;
        for name in &plan.absent {
            repo.mark_absent(&plan.commit, name)?;
        }
        // Last, because it makes the rest count.
        if pinned.is_none() && !is_commit(id.revision()) {
            repo.write_ref(id.revision(), &plan.commit)?;
        }
        Ok(found(&repo, id, plan.commit))
    }

    /// What [`Hub::resolve`] would do; fetches and writes nothing.
    pub fn look(&self, id: &HubId, want: Want, pinned: Option<&str>) -> Result<Look> {
        let repo = Repo::new(&self.settings.cache, &id.repo);
        let (at, cached) = self.cached(&repo, id, want, pinned)?;
        if let Some(Cached { found, .. }) = cached {
            return Ok(Look::Cached(found));
        }
        let plan = self.plan(&repo, id, want, &at)?;
        let remote = self.missing(&repo, id, &plan)?;
        let files = remote.into_iter().map(|file| (file.name, file.bytes)).collect();
        Ok(Look::Remote { commit: plan.commit, files })
    }

    /// What to ask the hub for, and what the cache has of it. An error if it has too little and may not ask.
    fn cached(
        &self,
        repo: &Repo,
        id: &HubId,
        want: Want,
        pinned: Option<&str>,
    ) -> Result<(String, Option<Cached>)> {
        let offline = self.settings.offline;
        let here = is_commit(id.revision()).then(|| id.revision().to_owned());
        let known = pinned.map(str::to_owned).or(here).or_else(|| repo.commit_of(id.revision()));
        let Some(commit) = known else {
            ensure!(!offline, "{}", not_cached(&self.settings, repo, id, "this revision was never fetched"));
            return Ok((id.revision().to_owned(), None));
        };
        let held = files::held(repo, &commit, id, want);
        if held.missing.is_empty() {
            let cached =
                Cached { found: found(repo, id, commit.clone()), unsure: held.is_unsure && !offline };
            return Ok((commit, Some(cached)));
        }
        let lacks = format!("its commit {commit} is not here as a whole: {}", held.missing.join(", "));
        ensure!(!offline, "{}", not_cached(&self.settings, repo, id, &lacks));
        // Half of it is here: the rest must be of the same commit only if somebody counts on that one.
        let at = if pinned.is_some() { commit } else { id.revision().to_owned() };
        Ok((at, None))
    }

    /// Which commit, and which of its files.
    fn plan(&self, repo: &Repo, id: &HubId, want: Want, at: &str) -> Result<Plan> {
        let info = self.client.info(id, at)?;
        ensure!(
            is_commit(&info.sha),
            "{} says that {id} is at commit {:?}, which is no hash of a commit; is HF_ENDPOINT a hub?",
            self.settings.endpoint,
            info.sha
        );
        let mut plan = files::plan(id, want, info)?;
        if let Some(index) = plan.index.take() {
            let path = repo.file(&plan.commit, &index);
            let text = match std::fs::read_to_string(&path) {
                Ok(text) => text,
                Err(_) => self.client.text(id, &plan.commit, &index)?,
            };
            plan.names.extend(files::shards(&text).with_context(|| format!("{index} of {id}"))?);
        }
        Ok(plan)
    }

    /// The files of the plan that aren't here, asked for one by one.
    fn missing(&self, repo: &Repo, id: &HubId, plan: &Plan) -> Result<Vec<Remote>> {
        let missing = plan.names.iter().filter(|name| !repo.has(&plan.commit, name));
        missing.map(|name| self.client.head(id, &plan.commit, name)).collect()
    }

    fn fetch(&self, repo: &Repo, id: &HubId, plan: &Plan) -> Result<()> {
        let missing = self.missing(repo, id, plan)?;
        let needed = missing.iter().map(|file| file.bytes.saturating_sub(repo.bytes_here(&file.etag))).sum();
        ensure_space(repo.path(), needed, id)?;
        for file in &missing {
            let url = self.client.file_url(id, &plan.commit, &file.name);
            download::fetch(&self.client, repo, &url, file, self.on_event)
                .with_context(|| format!("cannot fetch {} of {id}", file.name))?;
            repo.link(&plan.commit, &file.name, &file.etag)?;
            (self.on_event)(Event::Fetched { file: file.name.clone() });
        }
        Ok(())
    }
}

/// A model in the cache; unsure if the hub may have a file that would be used too.
struct Cached {
    found: Found,
    unsure: bool,
}

fn found(repo: &Repo, id: &HubId, commit: String) -> Found {
    let path = match &id.file {
        Some(file) => repo.file(&commit, file),
        None => repo.snapshot(&commit),
    };
    Found { commit, path }
}

fn not_cached(settings: &Settings, repo: &Repo, id: &HubId, why: &str) -> String {
    format!(
        "{id} is not in the cache, and nothing is fetched (HF_HUB_OFFLINE is set, or the command only looks): {why}. It \
         was looked for in {}. Let a run or `autodidact generate` fetch it from {}, without HF_HUB_OFFLINE; or copy a \
         snapshot there; or give a folder as model.path",
        repo.path().display(),
        settings.endpoint
    )
}

/// Whether the text is the whole hash of a commit, not a branch or tag.
fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

fn ensure_space(dir: &Path, needed: u64, id: &HubId) -> Result<()> {
    let there = dir.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let free = fs4::available_space(there)
        .with_context(|| format!("cannot ask for the space at {}", there.display()))?;
    if free < needed.saturating_add(SPACE_LEFT) {
        bail!(
            "{id} needs {} MiB and {} has {} MiB left (64 of them stay free): free some space, or put the cache \
             elsewhere with HF_HOME or HF_HUB_CACHE",
            needed.div_ceil(1 << 20),
            there.display(),
            free >> 20
        );
    }
    Ok(())
}
