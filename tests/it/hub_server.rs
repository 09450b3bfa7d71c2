//! A hub to test with: the routes that a client needs, another host for large files, and faults on demand.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};

use sha2::{Digest, Sha256};

/// Files by name.
pub(crate) type Files = BTreeMap<String, Vec<u8>>;

/// What goes wrong with a request.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// An answer with this status and these headers, instead of the right one.
    Status(u16, &'static str),
    /// The contents end after so many bytes, and so does the connection.
    Truncated(usize),
    /// The first byte of the contents is another.
    Garbled,
    /// The hub doesn't go on in the middle of a file.
    NoRanges,
}

/// A request as it came in.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub method: String,
    pub path: String,
    pub authorization: Option<String>,
    pub range: Option<String>,
    /// Whether it came to the host of large files.
    pub at_store: bool,
}

#[derive(Default)]
struct State {
    /// By repository, then by commit.
    repos: BTreeMap<String, BTreeMap<String, Files>>,
    /// `repo@revision` → commit.
    refs: BTreeMap<String, String>,
    /// For requests whose path holds the text: so many times.
    faults: Vec<(String, usize, Fault)>,
    log: Vec<Request>,
}

/// A running hub; it ends with the test.
pub(crate) struct Server {
    state: Arc<Mutex<State>>,
    address: SocketAddr,
}

impl Server {
    pub(crate) fn start() -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let [hub, store] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let (address, store_address) = (hub.local_addr().unwrap(), store.local_addr().unwrap());
        for (listener, at_store) in [(hub, false), (store, true)] {
            let state = state.clone();
            std::thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let state = state.clone();
                    std::thread::spawn(move || {
                        let _ = serve(&state, stream, at_store, store_address);
                    });
                }
            });
        }
        Self { state, address }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Adds a commit, and moves `main` to it.
    pub(crate) fn publish(&self, repo: &str, commit: &str, files: Files) {
        let mut state = self.state();
        state.repos.entry(repo.to_owned()).or_default().insert(commit.to_owned(), files);
        state.refs.insert(format!("{repo}@main"), commit.to_owned());
    }

    /// The next `times` requests whose path holds `part` go wrong.
    pub(crate) fn fault(&self, part: &str, times: usize, fault: Fault) {
        self.state().faults.push((part.to_owned(), times, fault));
    }

    pub(crate) fn heal(&self) {
        self.state().faults.clear();
    }

    /// The requests so far, which are forgotten.
    pub(crate) fn take_log(&self) -> Vec<Request> {
        std::mem::take(&mut self.state().log)
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn serve(state: &Mutex<State>, stream: TcpStream, at_store: bool, store: SocketAddr) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let (mut line, mut headers) = (String::new(), BTreeMap::new());
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let (Some(method), Some(path)) = (words.next(), words.next()) else { return Ok(()) };
    loop {
        let mut header = String::new();
        reader.read_line(&mut header)?;
        let Some((name, value)) = header.trim().split_once(':') else { break };
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    let header = |name: &str| headers.get(name).cloned();
    let request =
        Request { method, path, authorization: header("authorization"), range: header("range"), at_store };
    let reply = {
        let mut state = state.lock().unwrap();
        state.log.push(request.clone());
        state.reply(&request, store)
    };
    reply.write(stream, request.method == "HEAD")
}

struct Reply {
    status: u16,
    headers: Vec<String>,
    body: Vec<u8>,
    cut: Option<usize>,
}

impl Reply {
    fn new(status: u16, headers: &[String], body: &[u8]) -> Self {
        Self { status, headers: headers.to_vec(), body: body.to_vec(), cut: None }
    }

    fn write(&self, mut stream: TcpStream, is_head: bool) -> std::io::Result<()> {
        write!(stream, "HTTP/1.1 {} -\r\nConnection: close\r\n", self.status)?;
        write!(stream, "Content-Length: {}\r\n", self.body.len())?;
        self.headers.iter().try_for_each(|header| write!(stream, "{header}\r\n"))?;
        stream.write_all(b"\r\n")?;
        if !is_head {
            stream.write_all(&self.body[..self.cut.unwrap_or(self.body.len())])?;
        }
        stream.flush()
    }
}

impl State {
    fn reply(&mut self, request: &Request, store: SocketAddr) -> Reply {
        let fault = self.next_fault(request);
        if let Some(Fault::Status(status, header)) = fault {
            return Reply::new(status, &[header.to_owned()], b"no");
        }
        let found = self
            .route(request, store)
            .unwrap_or_else(|| Reply::new(404, &["X-Error-Code: RepoNotFound".to_owned()], b"no such thing"));
        if found.status != 200 {
            return found;
        }
        let mut found = match (&request.range, &fault) {
            (Some(range), fault) if !matches!(fault, Some(Fault::NoRanges)) => ranged(found, range),
            _ => found,
        };
        match fault {
            Some(Fault::Truncated(bytes)) => found.cut = Some(bytes.min(found.body.len())),
            Some(Fault::Garbled) => found.body[0] ^= 1,
            _ => {}
        }
        found
    }

    fn next_fault(&mut self, request: &Request) -> Option<Fault> {
        let whole = format!("{} {}", request.method, request.path);
        let (_, times, fault) =
            self.faults.iter_mut().find(|(part, times, _)| *times > 0 && whole.contains(&**part))?;
        *times -= 1;
        Some(fault.clone())
    }

    fn route(&self, request: &Request, store: SocketAddr) -> Option<Reply> {
        if let Some(rest) = request.path.strip_prefix("/api/models/") {
            let (repo, revision) = rest.split_once("/revision/")?;
            return Some(self.info(repo, &revision.replace("%2F", "/")));
        }
        // Both hosts know a file by repository, commit and name.
        let path = request.path.split('?').next()?.trim_start_matches("/cached").trim_start_matches('/');
        let (repo, rest) = path.split_once("/resolve/")?;
        let (commit, name) = rest.split_once('/')?;
        let body = self.repos.get(repo)?.get(commit)?.get(name)?;
        let of_commit = format!("X-Repo-Commit: {commit}");
        let is_large = name.ends_with(".safetensors");
        if is_large && !request.at_store {
            let headers = [
                of_commit,
                format!("X-Linked-Size: {}", body.len()),
                format!("X-Linked-ETag: \"{}\"", sha256(body)),
                "ETag: \"of-the-pointer\"".to_owned(),
                format!("Location: http://{store}/{path}?signed=1"),
            ];
            return Some(Reply::new(302, &headers, b""));
        }
        // One of the small files is behind a redirect within the hub.
        if name == "config.json" && !request.path.starts_with("/cached") {
            return Some(Reply::new(307, &[of_commit, format!("Location: /cached/{path}")], b""));
        }
        Some(Reply::new(200, &[of_commit, format!("ETag: W/\"{}\"", &sha256(body)[..40])], body))
    }

    fn info(&self, repo: &str, revision: &str) -> Reply {
        let unknown = |code: &str| Reply::new(404, &[format!("X-Error-Code: {code}")], b"{}");
        let Some(commits) = self.repos.get(repo) else { return unknown("RepoNotFound") };
        let commit = self.refs.get(&format!("{repo}@{revision}")).map_or(revision, String::as_str);
        let Some(files) = commits.get(commit) else { return unknown("RevisionNotFound") };
        let siblings: Vec<_> = files.keys().map(|name| serde_json::json!({ "rfilename": name })).collect();
        let info = serde_json::json!({ "id": repo, "sha": commit, "siblings": siblings });
        Reply::new(200, &["Content-Type: application/json".to_owned()], info.to_string().as_bytes())
    }
}

/// The part of the contents that `bytes=N-` asks for.
fn ranged(reply: Reply, range: &str) -> Reply {
    let from: usize = range.trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap();
    let total = reply.body.len();
    let mut headers = reply.headers;
    headers.push(format!("Content-Range: bytes {from}-{}/{total}", total - 1));
    Reply::new(206, &headers, &reply.body[from..])
}
