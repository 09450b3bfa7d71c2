//! Golden ids, round trips and the embedded files.

use autodidact_testing::assert_refused;

use super::*;
use crate::config::Config;

#[test]
fn the_embedded_tokenizer_is_what_the_code_builds() {
    let built = seed_tokenizer().unwrap().to_string(true).unwrap();
    let embedded = include_str!("../../assets/seed/tokenizer.json");
    if built != embedded {
        // The file is an output: write what is right where the difference can be looked at.
        let path = std::env::temp_dir().join("autodidact-seed-tokenizer.json");
        std::fs::write(&path, &built).unwrap();
        panic!("assets/seed/tokenizer.json differs from seed_tokenizer(); see {}", path.display());
    }
}

/// `tests/golden/tokenizer_ids.py`, transformers 5.23.0,
/// `AutoTokenizer.from_pretrained("assets/seed")`: TokenizersBackend, 165 tokens.
const GOLDEN: &[(&str, &[u32])] = &[
    (
        "Paul minus 5 is Tina. Tina plus 2 is Cora. Cora minus 5 is Ana. Paul has 16. Ana?\n",
        &[
            126, 155, 69, 143, 138, 10, 138, 150, 66, 143, 83, 10, 83, 155, 69, 143, 76, 10, 127, 146, 65,
            18, 10, 76, 24, 3,
        ],
    ),
    (
        "Paul minus 5 is Tina 11\nTina plus 2 is Cora 13\nCora minus 5 is Ana 8\nA: 8",
        &[
            126, 155, 69, 143, 138, 65, 13, 3, 137, 150, 66, 143, 83, 65, 15, 3, 82, 155, 69, 143, 76, 72, 3,
            25, 22, 72,
        ],
    ),
    ("Uma twice is Hugo 18\n", &[140, 160, 143, 100, 65, 20, 3]),
    ("3 5 7 make 56?\n", &[15, 69, 71, 164, 69, 18, 24, 3]),
    (
        "3+5=8\n8*7=56\nA: (3+5)*7",
        &[15, 8, 17, 23, 20, 3, 20, 7, 19, 23, 17, 18, 3, 25, 22, 4, 5, 15, 8, 17, 6, 7, 19],
    ),
    ("12/4-1", &[13, 14, 11, 16, 9, 13]),
    ("", &[]),
];

#[test]
fn ids_are_those_of_hugging_face() {
    let text = Text::embedded().unwrap();
    assert_eq!(text.vocab_size(), 165);
    assert_eq!((text.pad_id(), text.bos_id(), text.eos_id()), (0, Some(1), 2));
    for (string, ids) in GOLDEN {
        assert_eq!(text.encode(string).unwrap(), *ids, "{string:?}");
        assert_eq!(text.decode(ids).unwrap(), *string);
    }
}

#[test]
fn every_name_and_word_is_one_token_with_and_without_a_space() {
    let text = Text::embedded().unwrap();
    for word in
        crate::data::relations::NAMES.into_iter().chain(["plus", "minus", "twice", "is", "has", "make"])
    {
        for spelled in [word.to_owned(), format!(" {word}")] {
            assert_eq!(text.encode(&spelled).unwrap().len(), 1, "{spelled:?}");
        }
    }
}

#[test]
fn prompt_and_completion_join_at_the_same_tokens_as_their_text() {
    let text = Text::embedded().unwrap();
    let (question, solution) = ("Ana plus 1 is Ben. Ana has 9. Ben?", "Ana plus 1 is Ben 10\nA: 10");
    let prompt = text.prompt_ids(question).unwrap();
    let completion = text.completion_ids(solution).unwrap();
    assert_eq!(prompt, text.encode(&format!("{question}\n")).unwrap());
    assert_eq!(completion.last(), Some(&text.eos_id()));
    let joined = text.encode(&format!("{question}\n{solution}")).unwrap();
    assert_eq!(joined, [&prompt[..], &completion[..completion.len() - 1]].concat());
    assert_eq!(text.decode(&completion).unwrap(), solution);
}

#[test]
fn a_line_break_closes_a_thought_and_bytes_are_bytes() {
    let text = Text::embedded().unwrap();
    let stops = text.stops(TaskKind::Relations, &["A:".to_owned()]).unwrap();
    assert_eq!((stops.eos_ids, stops.boundary_ids), (vec![2], vec![3]));
    assert_eq!(stops.strings, [b"A:".to_vec()]);
    assert_eq!(stops.token_bytes.len(), text.vocab_size());
    assert_eq!((&stops.token_bytes[3][..], &stops.token_bytes[138][..]), (&b"\n"[..], &b" Tina"[..]));
    assert!(stops.token_bytes[..3].iter().all(Vec::is_empty));
    assert_refused(text.stops(TaskKind::Relations, &[String::new()]), "a stop string is empty");
}

#[test]
fn what_cannot_be_written_is_an_error_and_not_dropped() {
    let text = Text::embedded().unwrap();
    for (string, part) in [("Ana hätte 3", "'ä'"), ("Zoe", "'Z'"), ("3 % 5", "'%'"), ("3\t5", "'\\t'")] {
        let error = text.encode(string).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
    let error = text.prompt_ids("Ana has 3.<eos> Ana?").unwrap_err().to_string();
    assert!(error.contains("<eos>"), "{error}");
}

/// A small tokenizer in the manner of Llama 2: pieces with `▁`, bytes as `<0x0A>`, a beginning
/// token before texts.
fn llama_style() -> serde_json::Value {
    let special = |id: u32, content: &str| {
        serde_json::json!({ "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                            "normalized": false, "special": true })
    };
    serde_json::json!({
        "version": "1.0",
        "added_tokens": [special(0, "<s>"), special(1, "</s>")],
        "normalizer": { "type": "Sequence", "normalizers": [
            { "type": "Prepend", "prepend": "▁" },
            { "type": "Replace", "pattern": { "String": " " }, "content": "▁" }] },
        "pre_tokenizer": null,
        "post_processor": { "type": "TemplateProcessing",
            "single": [{ "SpecialToken": { "id": "<s>", "type_id": 0 } }, { "Sequence": { "id": "A", "type_id": 0 } }],
            "pair": [], "special_tokens": { "<s>": { "id": "<s>", "ids": [0], "tokens": ["<s>"] } } },
        "decoder": { "type": "Sequence", "decoders": [
            { "type": "Replace", "pattern": { "String": "▁" }, "content": " " },
            { "type": "ByteFallback" }, { "type": "Fuse" },
            { "type": "Strip", "content": " ", "start": 1, "stop": 0 }] },
        "model": { "type": "BPE", "dropout": null, "unk_token": null, "fuse_unk": true, "byte_fallback": true,
            "vocab": { "<s>": 0, "</s>": 1, "<0x0A>": 2, "<0xC3>": 3, "<0xA4>": 4, "▁": 5, "a": 6, "b": 7, "?": 8,
                       "▁a": 9, "\n": 10 },
            "merges": [["▁", "a"]] }
    })
}

#[test]
fn a_checkpoint_directory_is_read_with_all_its_end_tokens() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, contents: &str| std::fs::write(dir.path().join(name), contents).unwrap();
    write("tokenizer.json", &llama_style().to_string());
    write(
        "tokenizer_config.json",
        r#"{"eos_token": {"content": "</s>"}, "bos_token": "<s>", "pad_token": null}"#,
    );
    write("generation_config.json", r#"{"eos_token_id": [5, 1]}"#);
    write("config.json", r#"{"eos_token_id": 1, "pad_token_id": 8}"#);
    let text = Text::load(dir.path()).unwrap();
    let stops = text.stops(TaskKind::Text, &[]).unwrap();
    assert_eq!(stops.eos_ids, [1, 5]);
    assert_eq!(stops.boundary_ids, [2, 10], "a byte and a piece that are line breaks");
    assert_eq!((text.bos_id(), text.eos_id(), text.pad_id()), (Some(0), 1, 8));
    assert_eq!(stops.token_bytes[3..6], [vec![0xC3], vec![0xA4], b" ".to_vec()]);
    assert_eq!(text.prompt_ids("a b?").unwrap(), [0, 9, 5, 7, 8, 10], "its own beginning token, once");
    assert_eq!(text.encode_start("a b?").unwrap(), [0, 9, 5, 7, 8]);
    assert_eq!(text.encode("a b?").unwrap(), [9, 5, 7, 8]);
    assert_eq!(text.completion_ids("a").unwrap(), [9, 1]);
    assert_eq!(text.decode(&[0, 9, 3, 4, 99, 1]).unwrap(), " aä", "special and unknown ids have no text");
    let names: Vec<&str> = text.files().iter().map(|file| file.name.as_str()).collect();
    assert_eq!(names, ["tokenizer.json", "tokenizer_config.json", "generation_config.json"]);
    // Negative ids are none, lists are as good as numbers, and a pad token may be unknown: nothing
    // pads.
    for pad in ["-1", "[8]", "[-1, 8]", "null"] {
        let config = format!(r#"{{"eos_token_id": 1, "pad_token_id": {pad}}}"#);
        write("config.json", &config);
        let expected = if pad.contains('8') { 8 } else { 1 };
        assert_eq!(Text::load(dir.path()).unwrap().pad_id(), expected, "{pad}");
    }
    write("tokenizer_config.json", r#"{"eos_token": "</s>", "pad_token": "<|unknown|>"}"#);
    assert_eq!(Text::load(dir.path()).unwrap().pad_id(), 1);
}

#[test]
fn broken_checkpoint_directories_say_what_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, contents: &str| std::fs::write(dir.path().join(name), contents).unwrap();
    let error = || format!("{:#}", Text::load(dir.path()).err().unwrap());
    assert!(error().contains("has no tokenizer.json"), "{}", error());
    write("tokenizer.json", "{");
    assert!(error().contains("tokenizer.json can't be read"), "{}", error());
    write("tokenizer.json", &llama_style().to_string());
    assert!(error().contains("no end-of-sequence token"), "{}", error());
    write("config.json", r#"{"eos_token_id": "two"}"#);
    assert!(error().contains("config.json: eos_token_id is \"two\""), "{}", error());
    write("config.json", r#"{"eos_token_id": 77}"#);
    assert!(error().contains("77 has no token"), "{}", error());
    write("tokenizer_config.json", r#"{"eos_token": "<|end|>"}"#);
    assert!(error().contains("\"<|end|>\""), "{}", error());
    write("tokenizer_config.json", "not JSON");
    assert!(error().contains("tokenizer_config.json is not valid JSON"), "{}", error());
    let nowhere = format!("{:#}", Text::load(&dir.path().join("nowhere")).err().unwrap());
    assert!(nowhere.contains("is not a directory"), "{nowhere}");
}

#[test]
fn the_seed_as_a_directory_is_the_seed() {
    let dir = tempfile::tempdir().unwrap();
    let seed = Text::embedded().unwrap();
    for file in seed.files() {
        std::fs::write(dir.path().join(&file.name), &file.contents).unwrap();
    }
    let loaded = Text::load(dir.path()).unwrap();
    assert_eq!(loaded.hash(), seed.hash());
    assert_eq!(loaded.files(), seed.files());
}

#[test]
fn the_hash_follows_tokenizer_end_tokens_and_the_template_in_use() {
    let seed = Text::embedded().unwrap();
    let json = seed_tokenizer().unwrap().to_string(true).unwrap();
    let with_eos = |eos: &[u32]| Text::from_tokenizer_json(json.as_bytes(), eos).unwrap();
    assert_ne!(with_eos(&[2]).hash(), with_eos(&[3]).hash());
    let own = |name: &str| Prompts::with(&[(name.to_owned(), "{{ question }}?".to_owned())]).unwrap();
    let asking = |kind, prompts| seed.clone().asking(kind, prompts).hash().to_owned();
    assert_eq!(asking(TaskKind::Relations, Prompts::embedded().unwrap()), seed.hash());
    assert_eq!(asking(TaskKind::Relations, own("cot.jinja")), seed.hash());
    assert_ne!(asking(TaskKind::Relations, own("relations.jinja")), seed.hash());
    assert_ne!(asking(TaskKind::Text, Prompts::embedded().unwrap()), seed.hash());
}

#[test]
fn built_in_tasks_survive_the_tokenizer_and_fit_the_default_limits() {
    use crate::config::Config;
    use crate::domain::{Address, Purpose};
    let text = Text::embedded().unwrap();
    println!("kind      level  prompt mean max  completion mean max");
    for (kind, levels) in [("relations", 1..=19), ("countdown", 1..=19)] {
        for level in levels {
            let pairs =
                [("tasks.kind", kind.to_owned()), ("tasks.easy_levels", format!("[{level}, {level}]"))];
            let config = Config::load(None, &pairs.map(|(k, v)| (k.to_owned(), v))).unwrap();
            let address = Address::new(1, Purpose::Dataset, 0, "tokens", &[level]);
            let (mut prompts, mut completions) = (Vec::new(), Vec::new());
            for task in crate::data::Pretraining::new(&config.tasks, &address).unwrap().take(200) {
                let task = task.unwrap();
                let solution = task.solution.unwrap();
                let (prompt, completion) =
                    (text.prompt_ids(&task.question).unwrap(), text.completion_ids(&solution).unwrap());
                assert_eq!(text.decode(&prompt).unwrap(), format!("{}\n", task.question));
                assert_eq!(text.decode(&completion).unwrap(), solution);
                prompts.push(prompt.len());
                completions.push(completion.len());
                assert!(completion.len() < config.rollout.tokens_max, "{solution}");
                assert!(solution.lines().count() < config.rollout.thoughts_max, "{solution}");
            }
            let mean = |lengths: &[usize]| lengths.iter().sum::<usize>() as f64 / lengths.len() as f64;
            let max = |lengths: &[usize]| *lengths.iter().max().unwrap();
            println!(
                "{kind:9} {level:5} {:10.1} {:4} {:12.1} {:4}",
                mean(&prompts),
                max(&prompts),
                mean(&completions),
                max(&completions)
            );
        }
    }
}

#[test]
fn it_can_be_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Text>();
}

/// A checkpoint in the manner of [`llama_style`] with turns: `<u>` begins a question and `<e>` ends
/// an answer.
fn chat_checkpoint(template: &serde_json::Value) -> tempfile::TempDir {
    let mut tokenizer = llama_style();
    for (id, content) in [(11, "<u>"), (12, "<e>")] {
        tokenizer["model"]["vocab"][content] = id.into();
        tokenizer["added_tokens"].as_array_mut().unwrap().push(serde_json::json!({
            "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true
        }));
    }
    // Without the blank that is put before every text, so that ids are easy to read.
    tokenizer["normalizer"] = serde_json::Value::Null;
    let config = serde_json::json!({ "eos_token": "</s>", "bos_token": { "content": "<s>" }, "chat_template": template });
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("tokenizer.json"), tokenizer.to_string()).unwrap();
    std::fs::write(dir.path().join("tokenizer_config.json"), config.to_string()).unwrap();
    std::fs::write(dir.path().join("generation_config.json"), r#"{"eos_token_id": [1, 12]}"#).unwrap();
    dir
}

const CHAT: &str = "{{ bos_token }}{% for m in messages %}{% if m.role == 'assistant' %}a{{ m.content }}<e>\n{% else %}\
                    {{ '<u>' if m.role == 'user' else 'b' }}{{ m.content }}{% endif %}{% endfor %}\
                    {% if add_generation_prompt %}a{{ '?' if enable_thinking is defined and not enable_thinking }}{% endif %}";

fn model(pairs: &[(&str, &str)]) -> ModelSource {
    let pairs: Vec<_> = pairs.iter().map(|(k, v)| (format!("model.{k}"), v.to_string())).collect();
    Config::load(None, &pairs).unwrap().model
}

/// Asks as it is, so that prompts stay within the small vocabulary.
fn bare(text: Text) -> Text {
    text.asking(TaskKind::Relations, Prompts::embedded().unwrap())
}

#[test]
fn a_checkpoint_with_a_chat_template_is_asked_through_it() {
    let dir = chat_checkpoint(&CHAT.into());
    let text = bare(Text::load(dir.path()).unwrap());
    assert!(text.is_chat());
    assert_eq!(text.prompt_ids("b?").unwrap(), [0, 11, 7, 8, 6], "one beginning token, the question trimmed");
    assert_eq!((text.eos_id(), text.stops(TaskKind::Text, &[]).unwrap().eos_ids), (12, vec![12, 1]));
    assert_eq!(text.completion_ids("a").unwrap(), [6, 12], "the token that ends a turn trains");
    let as_told = |pairs: &[(&str, &str)]| bare(Text::load_as(dir.path(), &model(pairs)).unwrap());
    assert_eq!(as_told(&[("system", "bb")]).prompt_ids("b?").unwrap(), [0, 7, 7, 7, 11, 7, 8, 6]);
    assert_eq!(as_told(&[("thinking", "off")]).prompt_ids("b?").unwrap(), [0, 11, 7, 8, 6, 8]);
    let plain = as_told(&[("chat", "plain")]);
    assert_eq!(plain.prompt_ids("b?").unwrap(), [0, 7, 8, 10]);
    assert_eq!(plain.eos_id(), 1);
    let hashes = [
        as_told(&[]),
        as_told(&[("system", "b")]),
        as_told(&[("thinking", "on")]),
        as_told(&[("date", "2025-01-01")]),
        plain,
    ];
    let hashes: std::collections::HashSet<&str> = hashes.iter().map(Text::hash).collect();
    assert_eq!(hashes.len(), 5);
    // As plain text it has characters that this vocabulary lacks, and so no token.
    assert_eq!(text.special_in("b<e>?"), Some("<e>"));
    assert_eq!(text.prompt_ids("b<e>?").unwrap(), [0, 11, 7, 8, 6]);
}

#[test]
fn named_templates_and_files_are_found_and_broken_ones_refused() {
    let named = |names: &[(&str, &str)]| {
        let entries: Vec<_> =
            names.iter().map(|(n, t)| serde_json::json!({ "name": n, "template": t })).collect();
        chat_checkpoint(&serde_json::Value::Array(entries))
    };
    let dir = named(&[("tool_use", "bb"), ("default", "a{{ messages[0].content }}")]);
    assert_eq!(bare(Text::load(dir.path()).unwrap()).prompt_ids("b").unwrap(), [6, 7]);
    std::fs::write(dir.path().join("chat_template.jinja"), "bb").unwrap();
    assert_eq!(
        bare(Text::load(dir.path()).unwrap()).prompt_ids("b").unwrap(),
        [7, 7],
        "the file comes first"
    );
    for (template, part) in [
        (serde_json::json!("{% if %}"), "not valid Jinja"),
        (serde_json::json!("{{ raise_exception('No.') }}"), "refuses the conversation: No."),
        (serde_json::json!(3), "neither a text nor a list"),
        (serde_json::json!([{ "name": "x", "template": "a" }, { "name": "y", "template": "a" }]), "(x, y)"),
    ] {
        let dir = chat_checkpoint(&template);
        let error = format!("{:#}", Text::load(dir.path()).err().unwrap());
        assert!(error.contains(part) && error.contains("model.chat = \"plain\""), "{error}");
        assert!(!Text::load_as(dir.path(), &model(&[("chat", "plain")])).unwrap().is_chat());
    }
}

#[test]
fn the_configuration_says_whether_texts_begin_with_the_beginning_token() {
    let dir = chat_checkpoint(&serde_json::Value::Null);
    let with = |adds: serde_json::Value| {
        let config = serde_json::json!({ "eos_token": "</s>", "bos_token": "<s>", "add_bos_token": adds });
        std::fs::write(dir.path().join("tokenizer_config.json"), config.to_string()).unwrap();
        bare(Text::load(dir.path()).unwrap()).prompt_ids("b").unwrap()
    };
    assert_eq!(with(false.into()), [7, 10]);
    assert_eq!(with(true.into()), [0, 7, 10]);
    assert_eq!(with(serde_json::Value::Null), [0, 7, 10], "as the tokenizer itself has it");
}

#[test]
fn questions_from_files_are_asked_by_kind_with_and_without_examples() {
    let prompts = Prompts::embedded().unwrap();
    let kinds = [
        (TaskKind::Number, "then the number alone"),
        (TaskKind::Choice, "such as (A)"),
        (TaskKind::Math, "in \\boxed{}"),
        (TaskKind::Exact, "in the form that the question asks for"),
        (TaskKind::Game24, "then the whole expression"),
    ];
    for (kind, instruction) in kinds {
        let bare = prompts.question(kind, "Why?").unwrap();
        assert!(bare.contains(instruction) && bare.ends_with("\n\nQuestion: Why?\n\n"), "{bare}");
        let shown = prompts.clone().few_shot(true).question(kind, "Why?").unwrap();
        assert!(shown.starts_with("Question: ") && shown.ends_with("\n\nQuestion: Why?\n\n"), "{shown}");
        assert!(shown.matches("\n\nQuestion: ").count() >= 2 && !shown.contains("\n\n\n"), "{shown}");
    }
    assert_eq!(prompts.question(TaskKind::Code, "def f():\n").unwrap(), "def f():\n");
    let text = Text::embedded().unwrap().asking(TaskKind::Text, prompts.clone());
    assert_ne!(text.hash(), text.clone().asking(TaskKind::Text, prompts.few_shot(true)).hash());
}
