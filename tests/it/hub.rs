//! Models of the hub, against a hub of this machine: fetched once, kept, pinned to their run, refused when they are
//! damaged or not to be had.

use std::fs;
use std::path::PathBuf;

use crate::crash::verified;
use crate::hub_server::{Fault, Files, Server, sha256};
use crate::model::tiny;
use crate::sandbox::{Outcome, Sandbox};

const FIRST: &str = "1111111111111111111111111111111111111111";
const SECOND: &str = "2222222222222222222222222222222222222222";
const WEIGHTS: &str = "model.safetensors";
const ID: &str = "org/seed";

/// The embedded model's files, and some that nobody needs.
fn seed() -> Files {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("assets/seed");
    let entries = dir.read_dir().unwrap().map(|entry| entry.unwrap().path());
    let mut files: Files = entries
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(&path).unwrap()))
        .collect();
    for name in ["README.md", "pytorch_model.bin", "onnx/model.onnx"] {
        files.insert(name.to_owned(), b"not needed".to_vec());
    }
    files
}

/// The same model with a few other numbers.
fn other() -> Files {
    let mut files = seed();
    let weights = files.get_mut(WEIGHTS).unwrap();
    let end = weights.len();
    // The lowest bytes of little-endian numbers.
    (0..64).for_each(|i| weights[end - 4 * i - 4] ^= 0x15);
    files
}

/// A user's machine with its own cache.
struct User {
    sandbox: Sandbox,
    endpoint: String,
}

impl User {
    fn of(server: &Server) -> Self {
        Self { sandbox: Sandbox::new(), endpoint: server.endpoint() }
    }

    fn hub(&self) -> PathBuf {
        self.sandbox.path().join("hf/hub")
    }

    fn repo(&self) -> PathBuf {
        self.hub().join("models--org--seed")
    }

    fn command(&self, args: &[&str], env: &[(&str, &str)]) -> std::process::Command {
        let mut command = self.sandbox.command(args);
        command.env("HF_ENDPOINT", &self.endpoint).env("HF_HOME", self.sandbox.path().join("hf"));
        command.envs(env.iter().copied());
        command
    }

    fn run_with(&self, args: &[&str], env: &[(&str, &str)]) -> Outcome {
        let output = self.command(args, env).output().unwrap();
        Outcome {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    fn run(&self, args: &[&str]) -> Outcome {
        self.run_with(args, &[])
    }

    fn refused(&self, args: &[&str], parts: &[&str]) -> String {
        let outcome = self.run(args);
        assert_eq!(outcome.code, Some(1), "stdout:\n{}\nstderr:\n{}", outcome.stdout, outcome.stderr);
        for part in parts {
            assert!(outcome.stderr.contains(part), "`{part}` is not in:\n{}", outcome.stderr);
        }
        outcome.stderr
    }

    /// One greedy trajectory of a fixed question.
    fn ask(&self, options: &[&str]) -> Outcome {
        let file = self.sandbox.path().join("question.txt");
        fs::write(&file, "Paul plus 2 is Tina. Paul has 3. Tina?\n").unwrap();
        self.run(&[&["generate", "--greedy"], options, &["question.txt"]].concat())
    }
}

fn published() -> Server {
    let server = Server::start();
    server.publish(ID, FIRST, seed());
    server
}

#[test]
fn a_model_is_fetched_once_and_then_taken_from_the_cache() {
    let server = published();
    let user = User::of(&server);
    let own = user.ask(&[]).success();
    let token = [("HF_TOKEN", "hf_secret")];
    let said = user.run_with(&["eval", "--model", ID, "--tasks", "2"], &token);
    assert!(
        said.stderr.contains("fetching model.safetensors") && said.stderr.contains(FIRST),
        "{}",
        said.stderr
    );
    assert!(!said.stderr.contains("hf_secret"));
    said.success();

    // The token went to the hub, and to nobody else; nothing was asked that isn't needed.
    let log = server.take_log();
    assert!(log.iter().any(|request| request.at_store) && log.iter().any(|request| !request.at_store));
    for request in &log {
        let expected = (!request.at_store).then_some("Bearer hf_secret");
        assert_eq!(request.authorization.as_deref(), expected, "{request:?}");
        assert!(!["README", "pytorch", "onnx"].iter().any(|name| request.path.contains(name)), "{request:?}");
    }

    // The cache is as others know it.
    assert_eq!(fs::read_to_string(user.repo().join("refs/main")).unwrap(), FIRST);
    let weights = user.repo().join("snapshots").join(FIRST).join(WEIGHTS);
    let blob = PathBuf::from("../../blobs").join(sha256(&seed()[WEIGHTS]));
    assert_eq!(fs::read_link(&weights).unwrap(), blob);
    assert_eq!(fs::read(&weights).unwrap(), seed()[WEIGHTS]);
    assert!(user.repo().join(".no_exist").join(FIRST).join("chat_template.jinja").exists());
    let blobs = user.repo().join("blobs").read_dir().unwrap();
    assert!(blobs.flatten().all(|entry| !entry.file_name().to_string_lossy().contains("incomplete")));

    // From now on nothing is asked, whether there is a hub or not.
    for id in [ID, "org/seed@main", &format!("{ID}@{FIRST}")] {
        assert_eq!(user.ask(&["--set", &format!("model.path={id}")]).success(), own, "{id}");
    }
    assert_eq!(user.ask(&["--model", ID]).success(), own);
    assert!(server.take_log().is_empty());
    let nowhere = User { endpoint: "http://127.0.0.1:9".to_owned(), ..user };
    assert_eq!(nowhere.ask(&["--model", ID]).success(), own);
    let offline = nowhere.run_with(&["eval", "--model", ID, "--tasks", "2"], &[("HF_HUB_OFFLINE", "1")]);
    offline.success();
    // A folder of that name comes first.
    fs::create_dir_all(nowhere.sandbox.path().join(ID)).unwrap();
    nowhere.refused(&["eval", "--model", ID], &["org/seed", "tokenizer.json"]);
}

#[test]
fn offline_with_nothing_cached_says_so_and_writes_nothing() {
    let server = published();
    let user = User::of(&server);
    for args in [
        ["eval", "--model", ID],
        ["run", "--set", "model.path=org/seed"],
        ["doctor", "--set", "model.path=org/seed"],
    ] {
        let outcome = user.run_with(&args, &[("HF_HUB_OFFLINE", "1")]);
        assert_eq!(outcome.code, Some(1));
        for part in [ID, "HF_HUB_OFFLINE", "models--org--seed", "folder"] {
            assert!(outcome.stderr.contains(part), "{part} is not in {}", outcome.stderr);
        }
    }
    assert!(server.take_log().is_empty());
    assert_eq!(user.sandbox.path().read_dir().unwrap().count(), 0);
    user.refused(&["eval", "--model", "absent"], &["\"absent\"", "no path", "org/name"]);
    user.refused(
        &["eval", "--set", "model.path=./org/seed"],
        &["model.path", "does not exist", "the folder \".\""],
    );
    assert_eq!(user.sandbox.path().read_dir().unwrap().count(), 0);
    assert!(server.take_log().is_empty());
}

#[test]
fn the_doctor_looks_and_fetches_nothing() {
    let server = published();
    let user = User::of(&server);
    let doctor = ["doctor", "--json", "--set", "model.path=org/seed"];
    let report: serde_json::Value = serde_json::from_str(&user.run(&doctor).success()).unwrap();
    let hub = &report["hub"][0];
    assert_eq!((&hub["cached"], &hub["commit"]), (&false.into(), &FIRST.into()));
    let fetch = hub["fetch"].as_array().unwrap();
    let weights = fetch.iter().find(|file| file["file"] == WEIGHTS).unwrap();
    assert_eq!(weights["bytes"], seed()[WEIGHTS].len());
    assert_eq!(fetch.len(), 6, "{fetch:?}");
    assert_eq!(user.sandbox.path().read_dir().unwrap().count(), 0);
    let text = user.run(&["doctor", "--set", "model.path=org/seed"]).success();
    assert!(text.contains("not cached: 6 files") && text.contains("fetches it"), "{text}");
    user.ask(&["--model", ID]).success();
    server.take_log();
    let report: serde_json::Value = serde_json::from_str(&user.run(&doctor).success()).unwrap();
    assert_eq!(report["hub"][0]["cached"], true);
    assert!(report["generation_tokens_per_s"].as_f64().unwrap() > 0.0);
    assert!(server.take_log().is_empty());
}

#[test]
fn what_may_pass_is_tried_again_and_what_will_not_is_explained() {
    let server = published();
    let user = User::of(&server);
    let refused = |fault: Fault, part: &str, parts: &[&str]| {
        server.fault(part, 99, fault);
        user.refused(&["eval", "--model", ID], parts);
        server.heal();
        assert!(!user.repo().join("refs").exists(), "{parts:?}");
    };
    refused(
        Fault::Status(401, "X-Error-Code: GatedRepo"),
        "config.json",
        &["gated", "accept its terms", "HF_TOKEN"],
    );
    refused(
        Fault::Status(401, "X-Error-Code: RepoNotFound"),
        "api/models",
        &["private", "HF_TOKEN", "no path"],
    );
    refused(Fault::Status(503, "Retry-After: 0"), "api/models", &["503", "tried 5 times"]);
    refused(Fault::Status(200, "Content-Type: text/html"), "api/models", &["HF_ENDPOINT"]);
    user.refused(&["eval", "--model", "org/absent"], &["no model org/absent", "404", "path"]);
    user.refused(&["eval", "--model", "org/seed@v9"], &["no revision v9", "404"]);
    user.refused(&["eval", "--model", "org/seed/x.gguf"], &["no file x.gguf"]);
    let mut pickled = seed();
    pickled.remove(WEIGHTS);
    server.publish("org/pickled", FIRST, pickled);
    user.refused(&["eval", "--model", "org/pickled"], &["pytorch_model.bin", "pickle"]);

    // Two refusals and a third that asks for no wait: then it works.
    server.fault("api/models", 2, Fault::Status(429, "Retry-After: 0"));
    server.fault("HEAD /org/seed", 1, Fault::Status(503, "Retry-After: 0"));
    server.fault("tokenizer.json", 1, Fault::Status(500, "Retry-After: 0"));
    user.run(&["eval", "--model", ID, "--tasks", "2"]).success();
}

#[test]
fn a_broken_download_goes_on_and_a_damaged_one_is_thrown_away() {
    let server = published();
    let user = User::of(&server);
    let blob = user.repo().join("blobs").join(sha256(&seed()[WEIGHTS]));
    let incomplete = blob.with_extension("incomplete");
    let resolve = "GET /org/seed/resolve";

    // It never gets further: nothing is at its place, and what came is kept.
    server.fault("signed", 99, Fault::Truncated(100));
    user.refused(&["eval", "--model", ID], &[WEIGHTS, "500 of", "5 attempts", "resumes from there"]);
    assert_eq!(fs::read(&incomplete).unwrap(), seed()[WEIGHTS][..500]);
    assert!(!blob.exists() && !user.repo().join("refs").exists());
    server.heal();

    // The same command resumes from there, over another break.
    server.take_log();
    server.fault("signed", 1, Fault::Truncated(700));
    let said = user.run(&["eval", "--model", ID, "--tasks", "2"]);
    assert!(said.stderr.contains("trying again from byte 1200"), "{}", said.stderr);
    said.success();
    let log = server.take_log();
    let ranges: Vec<_> = log.iter().filter(|request| request.at_store).map(|r| r.range.as_deref()).collect();
    assert_eq!(ranges, [Some("bytes=500-"), Some("bytes=1200-")]);
    assert!(
        log.iter().filter(|r| r.method == "GET").all(|r| !r.path.contains("tokenizer.json")),
        "it was here"
    );
    assert!(log.iter().any(|r| format!("{} {}", r.method, r.path).contains(resolve)));
    assert_eq!(fs::read(&blob).unwrap(), seed()[WEIGHTS]);
    assert!(!incomplete.exists());

    // Wrong bytes are noticed, and not gone on with.
    let user = User::of(&server);
    server.fault("signed", 1, Fault::Garbled);
    user.refused(&["eval", "--model", ID], &["hash", "deleted"]);
    let left = user.repo().join("blobs").join(sha256(&seed()[WEIGHTS]));
    assert!(!left.exists() && !left.with_extension("incomplete").exists());
    // A hub that always begins anew is borne with.
    fs::write(left.with_extension("incomplete"), b"half").unwrap();
    server.fault("signed", 1, Fault::NoRanges);
    user.run(&["eval", "--model", ID, "--tasks", "2"]).success();
}

#[test]
fn a_run_keeps_the_commit_that_it_began_with() {
    let server = published();
    let user = User::of(&server);
    let run = |iterations: &str| user.run(&tiny(&["run"], &["model.path=org/seed", iterations]));
    run("run.iterations=1").success();

    // Main moves on, and something else on this machine fetches what it is now.
    server.publish(ID, SECOND, other());
    fs::remove_file(user.repo().join("refs/main")).unwrap();
    let fresh = user.run(&["eval", "--model", ID, "--tasks", "2"]);
    assert!(fresh.stderr.contains(SECOND), "{}", fresh.stderr);
    assert_eq!(fs::read_to_string(user.repo().join("refs/main")).unwrap(), SECOND);

    // The run goes on with its own, even if that has to be fetched again.
    fs::remove_dir_all(user.repo().join("snapshots").join(FIRST)).unwrap();
    fs::remove_dir_all(user.repo().join("blobs")).unwrap();
    let offline = tiny(&["run"], &["model.path=org/seed", "run.iterations=2"]);
    let refused = user.run_with(&offline, &[("HF_HUB_OFFLINE", "1")]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains(FIRST) && refused.stderr.contains(WEIGHTS), "{}", refused.stderr);
    let resumed = run("run.iterations=2");
    assert!(resumed.stderr.contains(&format!("{FIRST}, with which the run started")), "{}", resumed.stderr);
    resumed.success();
    verified(&user.sandbox);
    assert_eq!(
        fs::read_to_string(user.repo().join("refs/main")).unwrap(),
        SECOND,
        "nobody's ref is moved back"
    );

    // Another revision is another model, and the same weights from the binary are the same run.
    let other = user.run(&tiny(&["run"], &[&format!("model.path={ID}@{SECOND}"), "run.iterations=2"]));
    assert_eq!(other.code, Some(1));
    assert!(other.stderr.contains("model.path") && other.stderr.contains(SECOND), "{}", other.stderr);
    let plain = Sandbox::new();
    plain.run(&tiny(&["run"], &["run.iterations=2"])).success();
    let kept = "SELECT t.answer FROM trajectory_text t ORDER BY t.id";
    let rows = |args: Outcome| args.success();
    assert_eq!(
        rows(user.run(&["inspect", "sql", kept, "--json"])),
        rows(plain.run(&["inspect", "sql", kept, "--json"]))
    );
}

#[test]
fn an_adapter_comes_from_the_hub_too() {
    let server = published();
    let user = User::of(&server);
    let at_hub = &["model.path=org/seed", "train.method=lora", "lora.r=4"];
    user.run(&tiny(&["run"], at_hub)).success();
    user.run(&[
        "export",
        "policy",
        "--set",
        "model.path=org/seed",
        "--iteration",
        "1",
        "--format",
        "peft",
        "--out",
        "peft",
    ])
    .success();
    let folder = user.sandbox.path().join("peft");
    let config = fs::read_to_string(folder.join("adapter_config.json")).unwrap();
    assert!(config.contains("\"org/seed\""), "PEFT finds the base by its name: {config}");
    let file = |name: &str| (name.to_owned(), fs::read(folder.join(name)).unwrap());
    server.publish(
        "org/night",
        SECOND,
        ["adapter_config.json", "adapter_model.safetensors"].map(file).into_iter().collect(),
    );
    let own = user.ask(&["--set", "model.path=org/seed", "--iteration", "1"]).success();
    assert_eq!(user.ask(&["--set", "model.path=org/seed", "--model", "org/night"]).success(), own);
    let configured =
        ["--set", "model.path=org/seed", "--set", "model.adapter=org/night", "--set", "run.dir=none"];
    assert_eq!(user.ask(&configured).success(), own);
    user.refused(&["eval", "--set", "model.adapter=org/seed"], &["model.adapter", "adapter_config.json"]);
}

#[test]
fn two_processes_fetch_a_model_of_several_files_once() {
    let server = Server::start();
    server.publish(ID, FIRST, sharded());
    let user = User::of(&server);
    let children: Vec<_> = (0..2)
        .map(|_| {
            let mut command = user.command(&["eval", "--model", ID, "--tasks", "2"], &[]);
            command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap()
        })
        .collect();
    let outputs: Vec<_> = children.into_iter().map(|child| child.wait_with_output().unwrap()).collect();
    for output in &outputs {
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    assert_eq!(outputs[0].stdout, outputs[1].stdout);
    let embedded = user.run(&["eval", "--tasks", "2"]).success();
    let same = embedded.replace("· embedded", &format!("· {ID}"));
    assert_eq!(String::from_utf8_lossy(&outputs[0].stdout), same, "the same model");
    let fetched = server.take_log().into_iter().filter(|request| request.at_store).count();
    assert_eq!(fetched, 2, "each part of the weights once");
    fs::remove_file(user.repo().join("snapshots").join(FIRST).join("model-00002-of-00002.safetensors"))
        .unwrap();
    let offline = user.run_with(&["eval", "--model", ID], &[("HF_HUB_OFFLINE", "1")]);
    assert!(offline.stderr.contains("model-00002-of-00002.safetensors"), "{}", offline.stderr);
}

/// The embedded model with its weights in two files.
fn sharded() -> Files {
    let mut files = seed();
    let whole = files.remove(WEIGHTS).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&whole).unwrap();
    let mut names: Vec<String> = tensors.names().into_iter().map(|name| name.to_string()).collect();
    names.sort();
    let (first, second) = names.split_at(names.len() / 2);
    let mut map = serde_json::Map::new();
    for (n, part) in [first, second].into_iter().enumerate() {
        let file = format!("model-0000{}-of-00002.safetensors", n + 1);
        let views = part.iter().map(|name| (name.clone(), tensors.tensor(name).unwrap()));
        let bytes = safetensors::serialize(views, None).unwrap();
        map.extend(part.iter().map(|name| (name.clone(), file.clone().into())));
        files.insert(file, bytes);
    }
    let index = serde_json::json!({ "metadata": {}, "weight_map": map });
    files.insert(format!("{WEIGHTS}.index.json"), index.to_string().into_bytes());
    files
}

#[test]
fn a_reference_of_the_hub_is_pinned_to_its_run() {
    let server = published();
    let user = User::of(&server);
    let settings = ["reference.model=org/seed", "reward.formula=vote + 0 * reference"];
    user.run(&tiny(&["run"], &settings)).success();
    let sql = "SELECT json_extract(config_json, '$.reference.snapshot.commit') AS pinned FROM runs";
    let pinned = user.run(&["inspect", "sql", sql, "--json"]).success();
    assert!(pinned.contains(FIRST), "{pinned}");
    // To measure needs no reference.
    server.take_log();
    fs::remove_dir_all(user.hub()).unwrap();
    user.run(&["eval", "--tasks", "2", "--set", "reference.model=org/seed"]).success();
    assert!(server.take_log().is_empty());
}
