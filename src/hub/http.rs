//! The hub's routes over HTTP: the files of a revision, their sizes and hashes, and their contents.
//!
//! Redirects are followed here and not by the client, because other hosts serve large files and the
//! token must be sent to the hub only. Failures that may be temporary (no connection, 429, 5xx) are
//! retried a bounded number of times.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::Deserialize;
use ureq::http::{HeaderMap, Response, StatusCode};
use ureq::{Agent, Body};

use super::{HubId, Remote};

/// How many failures in a row make a request fail.
pub(super) const ATTEMPTS: u32 = 5;

/// The wait after the first failure; it doubles with each further failure.
const WAIT_FIRST: Duration = Duration::from_millis(200);

/// Longest wait that a server may ask for.
const WAIT_MAX: Duration = Duration::from_secs(30);

const TIMEOUT_CONNECT: Duration = Duration::from_secs(15);
/// Longest silence of a server before the connection counts as lost.
const TIMEOUT_READ: Duration = Duration::from_secs(60);

const REDIRECTS_MAX: u32 = 8;

/// Largest listing or index, in bytes.
const TEXT_BYTES_MAX: u64 = 64 << 20;

/// Most characters of a server's message that are quoted.
const QUOTED_MAX: usize = 200;

/// A revision, as the hub lists it.
#[derive(Deserialize)]
pub(super) struct Info {
    pub sha: String,
    #[serde(default)]
    pub siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
pub(super) struct Sibling {
    pub rfilename: String,
}

/// The hub could not be reached; the cache may have what is needed.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Unreachable(String);

/// Why an attempt failed.
pub(super) enum Failure {
    /// It may be temporary: try again, after this time if the server asks for it.
    Passing(anyhow::Error, Option<Duration>),
    Final(anyhow::Error),
}

pub(super) type Attempt<T> = std::result::Result<T, Failure>;

pub(super) struct Client {
    agent: Agent,
    endpoint: String,
    token: Option<String>,
}

/// An answer, with the headers of the redirects that led to it.
struct Answer {
    response: Response<Body>,
    /// One for each hop, the last hop first.
    headers: Vec<HeaderMap>,
}

impl Answer {
    /// The header in the last hop that has it.
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find_map(|headers| headers.get(name)?.to_str().ok())
    }
}

impl Client {
    pub(super) fn new(endpoint: &str, token: Option<String>) -> Self {
        let config = Agent::config_builder()
            .max_redirects(0)
            .http_status_as_error(false)
            .timeout_connect(Some(TIMEOUT_CONNECT))
            .timeout_recv_response(Some(TIMEOUT_READ))
            .timeout_per_read(Some(TIMEOUT_READ))
            .user_agent(concat!("autodidact/", env!("CARGO_PKG_VERSION")))
            .build();
        Self { agent: config.into(), endpoint: endpoint.to_owned(), token }
    }

    pub(super) fn file_url(&self, id: &HubId, commit: &str, name: &str) -> String {
        format!("{}/{}/resolve/{commit}/{name}", self.endpoint, id.repo)
    }

    /// The files of a revision.
    pub(super) fn info(&self, id: &HubId, revision: &str) -> Result<Info> {
        let url =
            format!("{}/api/models/{}/revision/{}", self.endpoint, id.repo, revision.replace('/', "%2F"));
        let text = self.read_text(&url, id)?;
        serde_json::from_str(&text)
            .with_context(|| format!("{url} did not answer with a listing of {id}; is HF_ENDPOINT a hub?"))
    }

    /// The contents of a small file.
    pub(super) fn text(&self, id: &HubId, commit: &str, name: &str) -> Result<String> {
        self.read_text(&self.file_url(id, commit, name), id)
    }

    fn read_text(&self, url: &str, id: &HubId) -> Result<String> {
        retried(|| {
            let answer = self.send("GET", url, 0)?;
            let answer = expect_ok(answer, id, url)?;
            let body = answer.response.into_body().into_with_config().limit(TEXT_BYTES_MAX);
            body.read_to_string().map_err(|error| failure(error, url))
        })
    }

    /// Size and hash of a file, without its contents.
    pub(super) fn head(&self, id: &HubId, commit: &str, name: &str) -> Result<Remote> {
        let url = self.file_url(id, commit, name);
        retried(|| {
            let answer = self.send("HEAD", &url, 0)?;
            let answer = match answer.response.status().is_redirection() {
                // Another host serves the contents; the hub's own headers describe them.
                true => answer,
                false => expect_ok(answer, id, &url)?,
            };
            remote(&answer, commit, name).map_err(Failure::Final)
        })
        .with_context(|| format!("cannot ask for {url}"))
    }

    /// The contents of a file from byte `from` on, or from byte 0 if the server doesn't support
    /// ranges. The first value is the byte at which the contents begin.
    pub(super) fn contents(&self, url: &str, from: u64) -> Attempt<(u64, Body)> {
        let answer = self.send("GET", url, from)?;
        let status = answer.response.status();
        if status == StatusCode::PARTIAL_CONTENT {
            let range = answer.header("content-range").unwrap_or_default().to_owned();
            if !range.starts_with(&format!("bytes {from}-")) {
                return Err(Failure::Final(anyhow!("{url} was asked from byte {from} and sent {range:?}")));
            }
            return Ok((from, answer.response.into_body()));
        }
        if status == StatusCode::OK {
            return Ok((0, answer.response.into_body()));
        }
        Err(refusal(&answer, url))
    }

    /// Sends a request and follows its redirects; those of a HEAD request only within the hub.
    fn send(&self, method: &str, url: &str, from: u64) -> Attempt<Answer> {
        let (mut url, mut headers) = (url.to_owned(), Vec::new());
        for _ in 0..=REDIRECTS_MAX {
            let response = self.send_once(method, &url, from)?;
            headers.insert(0, response.headers().clone());
            let at_hub = |url: &str| origin(url) == origin(&self.endpoint);
            let next = match response.headers().get("location").and_then(|value| value.to_str().ok()) {
                Some(location) if response.status().is_redirection() => absolute(&url, location),
                _ => return Ok(Answer { response, headers }),
            };
            if method == "HEAD" && !at_hub(&next) {
                return Ok(Answer { response, headers });
            }
            if url.starts_with("https:") && !next.starts_with("https:") {
                return Err(Failure::Final(anyhow!(
                    "{url} redirects to {next}, which is not encrypted; the redirect is not followed"
                )));
            }
            url = next;
        }
        Err(Failure::Final(anyhow!("{url} redirects more than {REDIRECTS_MAX} times")))
    }

    fn send_once(&self, method: &str, url: &str, from: u64) -> Attempt<Response<Body>> {
        let mut request = match method {
            "HEAD" => self.agent.head(url),
            _ => self.agent.get(url),
        };
        // Sizes and hashes are those of the uncompressed file.
        request = request.header("accept-encoding", "identity");
        if from > 0 {
            request = request.header("range", format!("bytes={from}-"));
        }
        if let Some(token) = self.token.as_ref().filter(|_| origin(url) == origin(&self.endpoint)) {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        request.call().map_err(|error| failure(error, url))
    }
}

/// Repeats `work` until it succeeds, fails for good, or has failed [`ATTEMPTS`] times.
pub(super) fn retried<T>(mut work: impl FnMut() -> Attempt<T>) -> Result<T> {
    let mut failures = 0;
    loop {
        match work() {
            Ok(value) => return Ok(value),
            Err(Failure::Final(error)) => return Err(error),
            Err(Failure::Passing(error, asked)) => {
                failures += 1;
                if failures == ATTEMPTS {
                    return Err(Unreachable(format!(
                        "{error:#} (tried {ATTEMPTS} times): check the connection and HF_ENDPOINT, or give a folder"
                    ))
                    .into());
                }
                pause(failures, asked);
            }
        }
    }
}

/// Waits after the n-th failure in a row.
pub(super) fn pause(failures: u32, asked: Option<Duration>) {
    let wait = asked.unwrap_or(WAIT_FIRST * 2u32.saturating_pow(failures.saturating_sub(1)));
    std::thread::sleep(wait.min(WAIT_MAX));
}

/// The failure of a request that got no answer.
pub(super) fn failure(error: ureq::Error, url: &str) -> Failure {
    let is_final = matches!(
        error,
        ureq::Error::BadUri(_)
            | ureq::Error::Http(_)
            | ureq::Error::InvalidProxyUrl
            | ureq::Error::Rustls(_)
            | ureq::Error::Tls(_)
            | ureq::Error::BodyExceedsLimit(_)
    );
    let error = anyhow!("{url}: {error}");
    if is_final { Failure::Final(error) } else { Failure::Passing(error, None) }
}

fn expect_ok(answer: Answer, id: &HubId, url: &str) -> Attempt<Answer> {
    match answer.response.status() {
        StatusCode::OK => Ok(answer),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(Failure::Final(forbidden(&answer, id, url))),
        StatusCode::NOT_FOUND => Err(Failure::Final(not_found(&answer, id, url))),
        _ => Err(refusal(&answer, url)),
    }
}

/// The status and the hub's own message.
fn message(answer: &Answer) -> String {
    let status = answer.response.status();
    let parts = ["x-error-code", "x-error-message"].into_iter().filter_map(|name| answer.header(name));
    let text: String = parts.collect::<Vec<_>>().join(": ").chars().take(QUOTED_MAX).collect();
    if text.is_empty() {
        format!("HTTP {}", status.as_u16())
    } else {
        format!("HTTP {}, {text}", status.as_u16())
    }
}

fn forbidden(answer: &Answer, id: &HubId, url: &str) -> anyhow::Error {
    let (message, repo, host) = (message(answer), &id.repo, origin(url));
    match answer.header("x-error-code") {
        Some("GatedRepo") => anyhow!(
            "{repo} is gated ({message}): accept its terms at {host}/{repo} and give a token of that account in HF_TOKEN"
        ),
        _ => anyhow!(
            "{host} does not show {repo} ({message}): there is no such model, or it is private and HF_TOKEN is missing or \
             has no access to it"
        ),
    }
}

fn not_found(answer: &Answer, id: &HubId, url: &str) -> anyhow::Error {
    let (message, repo, host) = (message(answer), &id.repo, origin(url));
    match answer.header("x-error-code") {
        Some("RevisionNotFound") => {
            anyhow!(
                "{repo} has no revision {} ({message}); {host}/{repo} lists its branches and commits",
                id.revision()
            )
        }
        _ => anyhow!(
            "{host} has no model {id} ({message}): check the name, or the path if it should be a folder"
        ),
    }
}

/// The failure for any other status.
fn refusal(answer: &Answer, url: &str) -> Failure {
    let status = answer.response.status();
    let error = anyhow!("{url} answered {}", message(answer));
    match status.as_u16() {
        408 | 429 | 500..=599 => {
            let seconds = answer.header("retry-after").and_then(|text| text.trim().parse().ok());
            Failure::Passing(error, seconds.map(Duration::from_secs))
        }
        _ => Failure::Final(error),
    }
}

/// A file, from the headers of an answer.
fn remote(answer: &Answer, commit: &str, name: &str) -> Result<Remote> {
    if let Some(other) = answer.header("x-repo-commit") {
        ensure!(other == commit, "{name} was asked of commit {commit} and came from {other}; try again");
    }
    let etag = answer.header("x-linked-etag").or_else(|| answer.header("etag"));
    let etag = etag.unwrap_or_default().trim_start_matches("W/").trim_matches('"').to_owned();
    if !super::id::is_part(&etag) {
        bail!("{name} has the ETag {etag:?}, which can't be a file name; is HF_ENDPOINT a hub?");
    }
    let bytes = answer.header("x-linked-size").or_else(|| answer.header("content-length"));
    let bytes = bytes
        .and_then(|text| text.parse().ok())
        .with_context(|| format!("{name} was sent without a size"))?;
    Ok(Remote { name: name.to_owned(), etag, bytes })
}

/// Scheme, host and port.
fn origin(url: &str) -> String {
    let start = url.find("://").map_or(0, |at| at + 3);
    let end = url[start..].find(['/', '?', '#']).map_or(url.len(), |at| start + at);
    url[..end].to_lowercase()
}

/// The target of a redirect from `url`.
fn absolute(url: &str, location: &str) -> String {
    if location.contains("://") {
        return location.to_owned();
    }
    let (origin, scheme) = (origin(url), url.split("://").next().unwrap_or("https"));
    match location.strip_prefix("//") {
        Some(rest) => format!("{scheme}://{rest}"),
        None if location.starts_with('/') => format!("{origin}{location}"),
        None => format!("{}/{location}", url.rsplit_once('/').map_or(url, |(folder, _)| folder)),
    }
}
