//! What needs no server: names, and which files are chosen. The rest is tested through the program.

use super::files::{held, plan, shards};
use super::http::{Info, Sibling};
use super::*;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

fn info(names: &[&str]) -> Info {
    let siblings = names.iter().map(|name| Sibling { rfilename: name.to_string() }).collect();
    Info { sha: COMMIT.to_owned(), siblings }
}

fn names(id: &str, want: Want, listed: &[&str]) -> Result<Vec<String>> {
    Ok(plan(&HubId::parse(id).unwrap(), want, info(listed))?.names)
}

#[test]
fn names_of_models_are_told_from_paths() {
    for (text, repo, file, revision) in [
        ("Qwen/Qwen2.5-0.5B-Instruct", "Qwen/Qwen2.5-0.5B-Instruct", None, "main"),
        ("org/name@v1.0", "org/name", None, "v1.0"),
        ("org/name@refs/pr/3", "org/name", None, "refs/pr/3"),
        ("org/name/sub/m.Q4_K.GGUF@dev", "org/name", Some("sub/m.Q4_K.GGUF"), "dev"),
    ] {
        let id = HubId::parse(text).unwrap_or_else(|| panic!("{text}"));
        assert_eq!((id.repo.as_str(), id.file.as_deref(), id.revision()), (repo, file, revision));
        assert_eq!(id.to_string(), text);
    }
    let paths = [
        "gpt2",
        "embedded",
        "",
        "/org/name",
        "./org/name",
        "../name",
        "~/name",
        "org/name/",
        "org//name",
        "org/..",
        "org/name/file.bin",
        "org/na me",
        "org/name@",
        "org/name@..",
        "org/name@a/../b",
        "org/na--me",
        "a\\b/c",
        "org/.git",
        "-o/x",
    ];
    for text in paths {
        assert_eq!(HubId::parse(text), None, "{text}");
    }
}

#[test]
fn only_what_the_loader_reads_is_chosen() {
    let listed = [
        "README.md",
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "model.safetensors",
        "pytorch_model.bin",
        "onnx/model.onnx",
        "training_args.bin",
    ];
    let expected = ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"];
    assert_eq!(names("a/b", Want::Checkpoint, &listed).unwrap(), expected);
    assert_eq!(names("a/b", Want::Either, &listed).unwrap(), expected);
    let whole = plan(&HubId::parse("a/b").unwrap(), Want::Checkpoint, info(&listed)).unwrap();
    assert_eq!(whole.absent, ["special_tokens_map.json", "generation_config.json", "chat_template.jinja"]);
    let adapter = ["adapter_config.json", "adapter_model.safetensors", "tokenizer.json"];
    assert_eq!(names("a/b", Want::Either, &adapter).unwrap(), adapter[..2]);
    let both = [&listed[..], &adapter[..2]].concat();
    assert_eq!(names("a/b", Want::Adapter, &both).unwrap(), adapter[..2]);
    assert_eq!(names("a/b/x.gguf", Want::Checkpoint, &["x.gguf", "y.gguf"]).unwrap(), ["x.gguf"]);
}

#[test]
fn what_cannot_be_used_is_refused_with_a_way_out() {
    let refused = |id: &str, want, listed: &[&str], parts: &[&str]| {
        let error = format!("{:#}", names(id, want, listed).unwrap_err());
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    };
    let base = ["config.json", "tokenizer.json"];
    let pickled = [&base[..], &["pytorch_model.bin"]].concat();
    refused("a/b", Want::Checkpoint, &pickled, &["pytorch_model.bin", "pickle", "safetensors"]);
    refused(
        "a/b",
        Want::Adapter,
        &["adapter_config.json", "adapter_model.bin"],
        &["adapter_model.bin", "pickle"],
    );
    refused("a/b", Want::Checkpoint, &["x.gguf"], &["no config.json", "a/b/x.gguf"]);
    refused("a/b/z.gguf", Want::Checkpoint, &["x.gguf"], &["no file z.gguf", "x.gguf"]);
    for (index, part) in [
        (r#"{"weight_map": {}}"#, "no file"),
        (r#"{"weight_map": {"w": "../../x.safetensors"}}"#, "../../x"),
        (r#"{"weight_map": {"w": "x.bin"}}"#, "x.bin"),
        ("[]", "not an index"),
    ] {
        let error = format!("{:#}", shards(index).unwrap_err());
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn the_cache_knows_what_it_lacks() {
    let dir = tempfile::tempdir().unwrap();
    let repo = Repo::new(dir.path(), "a/b");
    let id = HubId::parse("a/b").unwrap();
    let put = |name: &str, text: &str| {
        std::fs::create_dir_all(repo.path().join("blobs")).unwrap();
        std::fs::write(repo.blob(name), text).unwrap();
        repo.link(COMMIT, name, name).unwrap();
    };
    assert_eq!(held(&repo, COMMIT, &id, Want::Checkpoint).missing.len(), 3);
    assert_eq!(dir.path().read_dir().unwrap().count(), 0, "looking creates nothing");
    ["config.json", "tokenizer.json"].iter().for_each(|name| put(name, "{}"));
    let index = r#"{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}"#;
    put("model.safetensors.index.json", index);
    put("model-1.safetensors", "x");
    assert_eq!(held(&repo, COMMIT, &id, Want::Checkpoint).missing, ["model-2.safetensors"]);
    put("model-2.safetensors", "y");
    let now = held(&repo, COMMIT, &id, Want::Checkpoint);
    assert!(now.missing.is_empty() && now.is_unsure, "nobody knows of a chat template");
    put("tokenizer_config.json", "{}");
    for name in ["special_tokens_map.json", "generation_config.json", "chat_template.jinja"] {
        repo.mark_absent(COMMIT, name).unwrap();
    }
    assert!(!held(&repo, COMMIT, &id, Want::Checkpoint).is_unsure);
    // A link whose blob was removed is no file, and is replaced.
    std::fs::remove_file(repo.blob("model-2.safetensors")).unwrap();
    assert_eq!(held(&repo, COMMIT, &id, Want::Checkpoint).missing, ["model-2.safetensors"]);
    put("model-2.safetensors", "y");
    assert!(held(&repo, COMMIT, &id, Want::Checkpoint).missing.is_empty());

    assert_eq!(repo.commit_of("refs/pr/1"), None);
    repo.write_ref("refs/pr/1", COMMIT).unwrap();
    assert_eq!(repo.commit_of("refs/pr/1").as_deref(), Some(COMMIT));
}
