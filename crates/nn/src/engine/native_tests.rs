//! Tests of the native engine on small random models.

use std::sync::atomic::{AtomicUsize, Ordering};

use autodidact_testing::assert_refused;

use super::*;
use crate::domain::{Address, FinishReason, Purpose, Sampling};
use crate::model::{LayerConfig, ModelConfig, Weights};

const VOCAB: usize = 31;

/// Sliding and full, rotary and not, grouped queries; a context short enough to fill.
fn config() -> ModelConfig {
    let flags = [(true, true), (true, false), (false, true), (false, false)];
    ModelConfig {
        hidden_size: 24,
        intermediate_size: 40,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 8,
        sliding_window: Some(5),
        max_position_embeddings: 96,
        layers: flags.map(|(rope, sliding)| LayerConfig { rope, sliding, sparse: false }).into(),
        ..ModelConfig::seed(VOCAB)
    }
}

fn weights() -> Weights {
    Weights::init(config(), &Address::new(5, Purpose::Init, 0, "", &[])).unwrap()
}

fn request(index: u32, context_ids: Vec<u32>, tokens_max: usize) -> Request {
    let sampling = match index % 4 {
        0 => Sampling::GREEDY,
        1 => Sampling { temperature: 1.3, top_k: 0, top_p: 1.0, min_p: 0.0 },
        2 => Sampling { temperature: 0.8, top_k: 9, top_p: 0.9, min_p: 0.01 },
        _ => Sampling { temperature: 3.0, top_k: 0, top_p: 1.0, min_p: 0.0 },
    };
    let address = Address::new(1, Purpose::Rollout, 0, "t", &[index]);
    Request { context_ids, address, sampling, tokens_max, stop_at_boundary: index.is_multiple_of(3) }
}

/// Contexts of many lengths, some shared by several requests.
fn requests() -> Vec<Request> {
    (0..40u32)
        .map(|i| {
            let group = if i < 20 { i / 5 } else { i };
            let len = [1, 2, 15, 16, 17, 40, 64, 90, 33][group as usize % 9];
            let context = (0..len).map(|p| (p * 7 + group * 3 + p * p) % VOCAB as u32).collect();
            request(i, context, [1, 3, 12, 40, 25][i as usize % 5])
        })
        .collect()
}

fn stops() -> Stops {
    let token_bytes = (0..VOCAB as u8).map(|i| vec![b'a' + i % 26, b'A' + i % 26]).collect::<Vec<_>>();
    Stops {
        eos_ids: vec![2],
        boundary_ids: vec![3, 4, 5, 6],
        strings: vec![b"FgG".to_vec(), b"iIaA".to_vec()],
        token_bytes: Arc::new(token_bytes),
    }
}

fn on_threads<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(work)
}

fn generate(engine: &Native, requests: &[Request]) -> Vec<Completion> {
    engine.generate(requests, &stops(), &|_| ()).unwrap()
}

/// A request's completion, and the number of passes after its context.
fn in_passes(engine: &Native, request: &Request) -> (Completion, usize) {
    let passes = AtomicUsize::new(0);
    let count = |_| {
        passes.fetch_add(1, Ordering::Relaxed);
    };
    let completion = engine.generate(std::slice::from_ref(request), &Stops::default(), &count).unwrap();
    (completion.into_iter().next().unwrap(), passes.into_inner())
}

#[test]
fn drafts_save_passes_and_change_nothing() {
    let weights = weights();
    let engine = |rows| Native::new(Packed::new(&weights).unwrap(), 4096).unwrap().drafting(rows);
    let [without, few, many] = [0, 8, 40].map(engine);
    // With greedy sampling this model soon repeats itself.
    let greedy = Request { sampling: Sampling::GREEDY, ..request(0, vec![1, 7, 9, 7, 9], 80) };
    let (completion, passes) = in_passes(&without, &greedy);
    assert_eq!(passes, completion.token_ids.len());
    let (drafted, fewer) = in_passes(&few, &greedy);
    assert_eq!(completion, drafted);
    assert!(fewer < passes * 3 / 4, "{fewer} of {passes} passes");
    let requests = requests();
    let together = generate(&without, &requests);
    for engine in [few, many] {
        assert!(together == generate(&engine, &requests));
        for (request, completion) in requests.iter().zip(&together) {
            assert!(generate(&engine, std::slice::from_ref(request)) == std::slice::from_ref(completion));
        }
    }
}

#[test]
fn completions_do_not_depend_on_batch_threads_order_or_memory() {
    let (weights, requests) = (weights(), requests());
    let reference: Vec<Completion> = on_threads(1, || {
        let engine = Native::new(Packed::new(&weights).unwrap(), 1).unwrap().remembering(0);
        requests.iter().flat_map(|r| generate(&engine, std::slice::from_ref(r))).collect()
    });
    for (threads, batch_tokens, remembered) in
        [(1, 1, 0), (1, 100_000, 0), (2, 300, 64), (2, 100_000, 10_000)]
    {
        let engine =
            Native::new(Packed::new(&weights).unwrap(), batch_tokens).unwrap().remembering(remembered);
        let got = on_threads(threads, || generate(&engine, &requests));
        assert_eq!(got, reference, "{threads} threads, {batch_tokens} tokens, {remembered} remembered");
        let mut reversed: Vec<Request> = requests.clone();
        reversed.reverse();
        let mut got = on_threads(threads, || generate(&engine, &reversed));
        got.reverse();
        assert_eq!(got, reference, "reversed");
    }
    let engine = Native::new(Packed::new(&weights).unwrap(), 1).unwrap();
    assert_eq!(engine.capabilities(), Capabilities::ALL);
    let mut ends = reference.iter().flat_map(|completion| &completion.boundaries);
    assert!(ends.all(|end| end.hidden_f16.len() == weights.config.hidden_size));
    let reasons = |reason| reference.iter().filter(|c| c.finish == reason).count();
    for reason in [
        FinishReason::Eos,
        FinishReason::StopString,
        FinishReason::Boundary,
        FinishReason::TokensMax,
        FinishReason::ContextFull,
    ] {
        assert!(reasons(reason) > 0, "no completion ends with {reason}: the test tests too little");
    }
}

#[test]
fn a_search_continues_from_remembered_pages_without_a_difference() {
    let weights = weights();
    let remembering = Native::new(Packed::new(&weights).unwrap(), 100_000).unwrap();
    let forgetful = Native::new(Packed::new(&weights).unwrap(), 100_000).unwrap().remembering(0);
    let mut context: Vec<u32> = (0..30).map(|p| p * 11 % VOCAB as u32).collect();
    for depth in 0..6 {
        let children: Vec<Request> = (0..3)
            .map(|child| Request {
                stop_at_boundary: true,
                ..request(depth * 3 + child, context.clone(), 10)
            })
            .collect();
        let completions = generate(&remembering, &children);
        assert_eq!(completions, generate(&forgetful, &children));
        context.extend(&completions[depth as usize % 3].token_ids);
    }
    assert!(remembering.prefixes().find(&context).len() >= 2, "nothing was remembered");
    assert!(forgetful.prefixes().find(&context).is_empty());
}

#[test]
fn reading_gives_what_drawing_reported() {
    let (weights, requests) = (weights(), requests());
    let engine = Native::new(Packed::new(&weights).unwrap(), 4000).unwrap();
    let completions = generate(&engine, &requests);
    let reads: Vec<ReadRequest> = requests
        .iter()
        .zip(&completions)
        .map(|(request, completion)| {
            let from = request.context_ids.len();
            ReadRequest {
                ids: [request.context_ids.as_slice(), &completion.token_ids].concat(),
                from,
                hidden_at: completion.boundaries.iter().map(|b| from + b.end - 1).collect(),
            }
        })
        .collect();
    let readings = engine.read(&reads).unwrap();
    for (reading, completion) in readings.iter().zip(&completions) {
        assert_eq!(reading.logprobs, completion.logprobs);
        let hidden: Vec<_> = completion.boundaries.iter().map(|b| b.hidden_f16.clone()).collect();
        assert_eq!(reading.hidden_f16, hidden);
        assert!(hidden.iter().all(|h| h.len() == 24));
        assert_eq!(completion.boundaries.last().unwrap().end, completion.token_ids.len());
    }
    let only_hidden = ReadRequest { from: reads[5].ids.len(), hidden_at: vec![1], ids: reads[5].ids.clone() };
    let reading = &engine.read(&[only_hidden]).unwrap()[0];
    assert!(reading.logprobs.is_empty() && reading.hidden_f16[0].len() == 24);
}

#[test]
fn boundaries_end_thoughts_and_tokens_are_counted() {
    let engine = Native::new(Packed::new(&weights()).unwrap(), 4000).unwrap();
    let counted = AtomicUsize::new(0);
    let requests = requests();
    let count = |n| {
        counted.fetch_add(n, Ordering::Relaxed);
    };
    let completions = engine.generate(&requests, &stops(), &count).unwrap();
    assert_eq!(counted.into_inner(), completions.iter().map(|c| c.token_ids.len()).sum::<usize>());
    for (completion, request) in completions.iter().zip(&requests) {
        let mut ends: Vec<usize> = (1..=completion.token_ids.len())
            .filter(|&n| matches!(completion.token_ids[n - 1], 2..=6) || n == completion.token_ids.len())
            .collect();
        ends.dedup();
        assert_eq!(completion.boundaries.iter().map(|b| b.end).collect::<Vec<_>>(), ends);
        assert!(!request.stop_at_boundary || ends.len() == 1);
        assert_eq!(completion.logprobs.len(), completion.token_ids.len());
    }
}

#[test]
fn requests_without_room_end_at_once() {
    let engine = Native::new(Packed::new(&weights()).unwrap(), 4000).unwrap();
    let full = request(0, vec![1; 96], 5);
    let none = request(1, vec![1; 3], 0);
    let completions = generate(&engine, &[full, none]);
    assert_eq!(completions[0].finish, FinishReason::ContextFull);
    assert_eq!(completions[1].finish, FinishReason::TokensMax);
    assert!(completions.iter().all(|c| c.token_ids.is_empty() && c.boundaries.is_empty()));
    assert!(generate(&engine, &[]).is_empty());
}

#[test]
fn refuses_bad_requests_by_name() {
    let engine = Native::new(Packed::new(&weights()).unwrap(), 4000).unwrap();
    let good = request(1, vec![1, 2, 3], 5);
    let cases = [
        (Request { context_ids: vec![], ..good.clone() }, "empty"),
        (Request { context_ids: vec![1, 31], ..good.clone() }, "token id 31"),
        (Request { context_ids: vec![1; 97], ..good.clone() }, "97 tokens"),
        (Request { sampling: Sampling { top_p: 0.0, ..good.sampling }, ..good.clone() }, "top_p"),
    ];
    for (bad, word) in cases {
        let error = engine.generate(&[good.clone(), bad], &Stops::default(), &|_| ()).unwrap_err();
        let text = format!("{error:#}");
        assert!(text.contains(word) && text.contains("request 1"), "{text}");
    }
    let read = |from, hidden_at| engine.read(&[ReadRequest { ids: vec![1, 2, 3], from, hidden_at }]);
    read(1, vec![2]).unwrap();
    assert_refused(read(0, vec![]), "`from` is 0");
    assert_refused(read(4, vec![]), "`from` is 4");
    assert_refused(read(1, vec![0]), "`hidden_at` has 0");
    assert_refused(read(1, vec![3]), "`hidden_at` has 3");
    assert_refused(Native::new(Packed::new(&weights()).unwrap(), 0), "batch_tokens is 0");
}

#[test]
fn damaged_weights_stop_the_run() {
    let weights = weights();
    let norm = &weights.tensors["model.norm.weight"];
    norm.set(&(norm.as_tensor() * f64::NAN).unwrap()).unwrap();
    let engine = Native::new(Packed::new(&weights).unwrap(), 4000).unwrap();
    let error = engine.generate(&requests(), &stops(), &|_| ()).unwrap_err();
    assert!(format!("{error:#}").contains("log-probability"), "{error:#}");
}

#[test]
fn caches_of_one_policy_are_refused_under_another() {
    let first = Native::new(Packed::new(&weights()).unwrap(), 4000).unwrap();
    let other = Weights::init(config(), &Address::new(6, Purpose::Init, 0, "", &[])).unwrap();
    let second = Native::new(Packed::new(&other).unwrap(), 4000).unwrap();
    assert_ne!(first.policy_hash(), second.policy_hash());
    let mut cache = KvCache::new(&first.pool);
    let span = Span { cache: &mut cache, ids: &[1, 2], wanted_from: 1 };
    let error = decode(&second.model, &mut [span], &mut Scratch::default()).unwrap_err();
    assert!(error.to_string().contains(first.policy_hash()), "{error}");
}

/// Options share the context's pages. Reading each sequence separately must give the same sums, bit
/// for bit.
#[test]
fn weighing_options_is_reading_them() {
    let engine = Native::new(Packed::new(&weights()).unwrap(), 1000).unwrap();
    let options = vec![vec![3], vec![4, 5], vec![6; 20], vec![0]];
    let choices: Vec<Choice> = [1, 15, 16, 17, 64, 70]
        .into_iter()
        .map(|n| Choice {
            context_ids: (0..n).map(|i| (i * 7 + n) % VOCAB as u32).collect(),
            options: options.clone(),
        })
        .collect();
    let weights = engine.option_logprobs(&choices).unwrap();
    for (choice, weights) in choices.iter().zip(&weights) {
        let requests: Vec<ReadRequest> = options.iter().map(|option| choice.reading(option)).collect();
        let sum = |reading: &Reading| reading.logprobs.iter().skip(1).sum::<f32>() + 0.0;
        for (reading, weight) in engine.read(&requests).unwrap().iter().zip(weights) {
            assert_eq!(
                *weight,
                reading.logprobs[0] + sum(reading),
                "after {} tokens",
                choice.context_ids.len()
            );
        }
    }
    assert_eq!(on_threads(1, || engine.option_logprobs(&choices).unwrap()), weights);
    let cases = [
        (vec![1; 90], vec![1; 7], "a choice needs 97 tokens"),
        (vec![1], vec![99], "token id 99"),
        (vec![1], vec![], "an option of a choice has no token"),
    ];
    for (context_ids, option, part) in cases {
        let choice = Choice { context_ids, options: vec![option] };
        assert_refused(engine.option_logprobs(&[choice]), part);
    }
}
