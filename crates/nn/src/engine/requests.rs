//! What every engine does around its own work: it checks the requests, completes those without room
//! for a token, and returns the results in the order of the requests.
//!
//! It knows nothing about models: each engine brings its own check of token ids.

use anyhow::{Context, Result, ensure};

use super::sampler;
use crate::domain::{Choice, Completion, FinishReason, ReadRequest, Request};

/// Completes every request, in order.
///
/// `check_ids` refuses a context that the engine can't read. `complete` is passed the indices of
/// the requests that have room for at least one token; it returns (index, completion) in any order.
///
/// # Errors
/// A context or a sampling that can't be used, an error of `complete`, or a request that it left
/// out.
pub(super) fn complete_all(
    requests: &[Request],
    context_max: usize,
    check_ids: impl Fn(&[u32]) -> Result<()>,
    complete: impl FnOnce(&[usize]) -> Result<Vec<(usize, Completion)>>,
) -> Result<Vec<Completion>> {
    let (mut done, mut open) = (Vec::new(), Vec::with_capacity(requests.len()));
    for (index, request) in requests.iter().enumerate() {
        check_ids(&request.context_ids)
            .and_then(|()| sampler::check(&request.sampling))
            .with_context(|| format!("request {index} ({})", request.address))?;
        match without_room(request, context_max) {
            Some(finish) => done.push((index, Completion::empty(finish))),
            None => open.push(index),
        }
    }
    done.extend(complete(&open)?);
    in_order(requests.len(), "request", done)
}

/// Why the request ends before its first token, if it does.
fn without_room(request: &Request, context_max: usize) -> Option<FinishReason> {
    if request.tokens_max == 0 {
        Some(FinishReason::TokensMax)
    } else if request.context_ids.len() >= context_max {
        Some(FinishReason::ContextFull)
    } else {
        None
    }
}

/// Sorts results by their index, which counts from 0 to `count`.
///
/// # Errors
/// An index has no result.
pub(super) fn in_order<T>(
    count: usize,
    what: &str,
    done: impl IntoIterator<Item = (usize, T)>,
) -> Result<Vec<T>> {
    let mut all: Vec<Option<T>> = (0..count).map(|_| None).collect();
    for (index, result) in done {
        all[index] = Some(result);
    }
    let present =
        |(index, result): (usize, Option<T>)| result.with_context(|| format!("{what} {index} was lost"));
    all.into_iter().enumerate().map(present).collect()
}

/// # Errors
/// A read request with token ids or positions that can't be read.
pub(super) fn check_reads(requests: &[ReadRequest], check_ids: impl Fn(&[u32]) -> Result<()>) -> Result<()> {
    for (index, request) in requests.iter().enumerate() {
        check_ids(&request.ids)
            .and_then(|()| request.check())
            .with_context(|| format!("read request {index}"))?;
    }
    Ok(())
}

/// # Errors
/// A choice with token ids that can't be read, without tokens, or longer than `context_max`.
pub(super) fn check_choices(
    choices: &[Choice],
    context_max: usize,
    check_ids: impl Fn(&[u32]) -> Result<()>,
) -> Result<()> {
    for (index, choice) in choices.iter().enumerate() {
        choice
            .check(context_max)
            .and_then(|()| check_ids(&choice.context_ids))
            .and_then(|()| choice.options.iter().try_for_each(|option| check_ids(option)))
            .with_context(|| format!("choice {index}"))?;
    }
    Ok(())
}

/// # Errors
/// A sequence that a model of `vocab` tokens and contexts of at most `max` tokens can't read.
pub(super) fn check_ids(ids: &[u32], vocab: usize, max: usize) -> Result<()> {
    ensure!(!ids.is_empty(), "the context is empty; give at least a beginning-of-sequence token");
    ensure!(ids.len() <= max, "the context has {} tokens; the model reads at most {max}", ids.len());
    let unknown = ids.iter().find(|&&id| id as usize >= vocab);
    ensure!(unknown.is_none(), "token id {} is outside the vocabulary of {vocab}", unknown.unwrap_or(&0));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Address, Purpose, Sampling};

    fn request(context: usize, tokens_max: usize) -> Request {
        Request {
            context_ids: vec![1; context],
            address: Address::new(0, Purpose::Rollout, 0, "t", &[]),
            sampling: Sampling::GREEDY,
            tokens_max,
            stop_at_boundary: false,
        }
    }

    #[test]
    fn requests_without_room_are_completed_at_once_and_all_keep_their_order() {
        let requests = [request(3, 2), request(3, 0), request(5, 2), request(4, 1)];
        let complete = |open: &[usize]| {
            assert_eq!(open, [0, 3]);
            let done = |&i: &usize| {
                let token_ids = vec![i as u32];
                (i, Completion { token_ids, ..Completion::empty(FinishReason::Eos) })
            };
            Ok(open.iter().rev().map(done).collect())
        };
        let all = complete_all(&requests, 5, |ids| check_ids(ids, 9, 5), complete).unwrap();
        let got: Vec<_> = all.iter().map(|c| (c.token_ids.as_slice(), c.finish)).collect();
        let want = [
            (&[0][..], FinishReason::Eos),
            (&[], FinishReason::TokensMax),
            (&[], FinishReason::ContextFull),
            (&[3], FinishReason::Eos),
        ];
        assert_eq!(got, want);
    }

    #[test]
    fn what_is_wrong_or_lost_is_named() {
        let requests = [request(3, 2), request(6, 2)];
        let check = |ids: &[u32]| check_ids(ids, 9, 5);
        let error = complete_all(&requests, 5, check, |_| unreachable!()).unwrap_err();
        assert!(format!("{error:#}").starts_with("request 1 ("), "{error:#}");
        let error = complete_all(&requests[..1], 5, check, |_| Ok(Vec::new())).unwrap_err();
        assert_eq!(error.to_string(), "request 0 was lost");
        let read = ReadRequest { ids: vec![1, 10], from: 1, hidden_at: Vec::new() };
        let error = check_reads(&[read], check).unwrap_err();
        assert!(format!("{error:#}").contains("read request 0: token id 10"), "{error:#}");
        let choice = Choice { context_ids: vec![1], options: vec![vec![2], vec![9]] };
        let error = check_choices(&[choice], 5, check).unwrap_err();
        assert!(format!("{error:#}").contains("choice 0: token id 9"), "{error:#}");
    }
}
