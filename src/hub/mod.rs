//! Models of the Hugging Face hub: from `org/name@revision` to a folder on this disk.
//!
//! The cache is looked at first. It has the layout of Python's `huggingface_hub`
//! (`models--org--name/{refs,blobs,snapshots}`), so that each program finds what the other one
//! fetched. A revision that was fetched keeps its commit, and no request is sent if every needed
//! file is in the cache. Only the files that the loader reads are fetched: configuration,
//! tokenizer, safetensors. Pickles, which can run code, are never fetched. A file gets its final
//! name only if it is complete, and a revision is recorded only if all its files are.
//!
//! The protocol is implemented here on a plain HTTP client. Left out: datasets, uploads, the
//! chunked Xet transfer (the hub serves the same files over HTTP), and checks whether a branch has
//! a newer commit.
//!
//! This room reads no environment: the caller passes endpoint, token and folders, and receives
//! [`Event`]s.

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

/// Free space that must be left after a fetch, in bytes.
const SPACE_LEFT: u64 = 64 << 20;

/// Where the hub is, and where its files are stored.
pub struct Settings {
    /// For example `https://huggingface.co`, without a slash at the end.
    pub endpoint: String,
    /// The folder that contains `models--…`.
    pub cache: PathBuf,
    /// Sent to `endpoint` only.
    pub token: Option<String>,
    /// Whether to use the cache only and send no request.
    pub offline: bool,
}

/// What happens during a fetch, for a progress display.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The fetch of a file of `bytes` bytes starts; `here` of them were on the disk already.
    Fetching { file: String, bytes: u64, here: u64 },
    /// More bytes of the file arrived.
    Received { bytes: u64 },
    /// The file is complete.
    Fetched { file: String },
    /// A message for the user.
    Note { message: String },
}

/// A model on this disk.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// Hash of the commit.
    pub commit: String,
    /// Its snapshot folder, or the one file that the id names.
    pub path: PathBuf,
}

/// The result of [`Hub::look`].
#[derive(Clone, Debug, PartialEq)]
pub enum Look {
    Cached(Found),
    /// It is not in the cache.
    Remote {
        commit: String,
        /// The files to fetch: names and bytes.
        files: Vec<(String, u64)>,
    },
}

/// The hub and its cache.
pub struct Hub<'a> {
    settings: Settings,
    client: Client,
    on_event: &'a dyn Fn(Event),
}

/// A file of the hub.
struct Remote {
    name: String,
    /// Names the blob; for large files the SHA-256 of their contents.
    etag: String,
    bytes: u64,
}

impl<'a> Hub<'a> {
    /// A hub that reports its progress to `on_event`.
    pub fn new(settings: Settings, on_event: &'a dyn Fn(Event)) -> Self {
        let client = Client::new(&settings.endpoint, settings.token.clone());
        Self { settings, client, on_event }
    }

    /// The address, the token and the time limits.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// A model on this disk; fetches it if it isn't in the cache. `pinned` is a commit to use
    /// instead of the revision.
    ///
    /// # Errors
    /// If it isn't in the cache and the hub can't be reached, doesn't have it, or has no usable
    /// file.
    pub fn resolve(&self, id: &HubId, want: Want, pinned: Option<&str>) -> Result<Found> {
        let repo = Repo::new(&self.settings.cache, &id.repo);
        let (at, cached) = self.cached(&repo, id, want, pinned)?;
        if let Some(Cached { found, unsure: false }) = cached {
            return Ok(found);
        }
        let plan = match (self.plan(&repo, id, want, &at), cached) {
            (Ok(plan), _) => plan,
            (Err(error), Some(Cached { found, .. })) if error.is::<Unreachable>() => {
                let message = format!("{id} is used from the cache without a check: {error:#}");
                (self.on_event)(Event::Note { message });
                return Ok(found);
            }
            (Err(error), _) => return Err(error),
        };
        self.fetch(&repo, id, &plan)?;
        for name in &plan.absent {
            repo.mark_absent(&plan.commit, name)?;
        }
        // Last, because a revision is recorded only if all its files are here.
        if pinned.is_none() && !is_commit(id.revision()) {
            repo.write_ref(id.revision(), &plan.commit)?;
        }
        Ok(found(&repo, id, plan.commit))
    }

    /// What [`Hub::resolve`] would do. It fetches and writes nothing.
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

    /// The revision to ask the hub for, and the model if the cache has all of it. An error if it
    /// doesn't and no request may be sent.
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
        let lacks = format!("its commit {commit} is incomplete here, without {}", held.missing.join(", "));
        ensure!(!offline, "{}", not_cached(&self.settings, repo, id, &lacks));
        // A part of the commit is here. The rest must be of the same commit only if it is pinned.
        let at = if pinned.is_some() { commit } else { id.revision().to_owned() };
        Ok((at, None))
    }

    /// The commit, and the files of it to have.
    fn plan(&self, repo: &Repo, id: &HubId, want: Want, at: &str) -> Result<Plan> {
        let info = self.client.info(id, at)?;
        ensure!(
            is_commit(&info.sha),
            "{} answered that {id} is at commit {:?}, which is not the hash of a commit; is HF_ENDPOINT a hub?",
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

    /// The files of the plan that aren't in the cache, with one request for each.
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

/// A model in the cache; unsure if the hub may have optional files of it.
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
        "{id} is not in the cache, and nothing is fetched (HF_HUB_OFFLINE is set, or the command only looks): {why}. \
         The cache is {}. Let `autodidact run` or `autodidact generate` fetch the model from {}, without \
         HF_HUB_OFFLINE; or copy a snapshot into the cache; or give a folder as model.path",
        repo.path().display(),
        settings.endpoint
    )
}

/// Whether the text is the full hash of a commit, and not a branch or tag.
fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

fn ensure_space(dir: &Path, needed: u64, id: &HubId) -> Result<()> {
    let there = dir.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let free = fs4::available_space(there)
        .with_context(|| format!("cannot ask for the space at {}", there.display()))?;
    if free < needed.saturating_add(SPACE_LEFT) {
        bail!(
            "{id} needs {} MiB and {} has {} MiB left (64 of them stay free): free some space, or move the cache \
             with HF_HOME or HF_HUB_CACHE",
            needed.div_ceil(1 << 20),
            there.display(),
            free >> 20
        );
    }
    Ok(())
}
