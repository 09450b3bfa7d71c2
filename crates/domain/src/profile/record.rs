//! The counters: per thread, written only by that thread, summed on request.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use super::{Operator, Tokens, Unit};

const OPERATORS: usize = Operator::ALL.len();
const UNITS: usize = Unit::ALL.len();
const TOKENS: usize = Tokens::ALL.len();

/// Nanoseconds since some fixed moment; unset while nothing is recorded.
static CLOCK: OnceLock<fn() -> u64> = OnceLock::new();
/// Of every thread that has recorded anything.
static SLOTS: Mutex<Vec<&'static Slots>> = Mutex::new(Vec::new());
/// Of threads that have ended, for those that come: pools come and go, and totals only grow.
static FREE: Mutex<Vec<&'static Slots>> = Mutex::new(Vec::new());

/// Starts recording, by a clock in nanoseconds that never goes back. The first clock stays.
pub fn install(clock: fn() -> u64) {
    CLOCK.get_or_init(|| clock);
}

/// Whether anything is recorded.
pub fn is_on() -> bool {
    CLOCK.get().is_some()
}

/// The clock's time in nanoseconds; 0 while nothing is recorded.
pub fn now() -> u64 {
    CLOCK.get().map_or(0, |clock| clock())
}

/// What an operator did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Exclusive time, summed over threads.
    pub ns: u64,
    /// Spans: pieces that one thread computed.
    pub spans: u64,
    /// By [`Unit`].
    pub flops: [u64; UNITS],
    /// Weights, keys and values that were read, each counted once a call.
    pub bytes: u64,
}

/// What all threads did so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// By [`Operator`].
    pub operators: [Count; OPERATORS],
    /// By [`Tokens`].
    pub tokens: [u64; TOKENS],
}

impl Totals {
    /// Applies `f` to every number of `self` and `other`.
    fn zip(&self, other: &Self, f: impl Fn(u64, u64) -> u64) -> Self {
        let count = |a: Count, b: Count| Count {
            ns: f(a.ns, b.ns),
            spans: f(a.spans, b.spans),
            flops: std::array::from_fn(|u| f(a.flops[u], b.flops[u])),
            bytes: f(a.bytes, b.bytes),
        };
        Self {
            operators: std::array::from_fn(|o| count(self.operators[o], other.operators[o])),
            tokens: std::array::from_fn(|t| f(self.tokens[t], other.tokens[t])),
        }
    }

    /// What has come since `earlier`.
    pub fn since(&self, earlier: &Self) -> Self {
        self.zip(earlier, u64::saturating_sub)
    }

    /// Both together.
    pub fn plus(&self, other: &Self) -> Self {
        self.zip(other, u64::saturating_add)
    }

    /// What one operator took.
    pub fn of(&self, operator: Operator) -> Count {
        self.operators[operator as usize]
    }

    /// How many tokens of one kind.
    pub fn tokens(&self, tokens: Tokens) -> u64 {
        self.tokens[tokens as usize]
    }
}

/// Sums over all threads. Exact while none is at work.
pub fn totals() -> Totals {
    let slots = SLOTS.lock().unwrap_or_else(PoisonError::into_inner);
    slots.iter().map(|slots| slots.read()).fold(Totals::default(), |sum, own| sum.plus(&own))
}

/// What this thread did so far.
pub fn thread_totals() -> Totals {
    if is_on() { with_thread(|thread| thread.slots.read()).unwrap_or_default() } else { Totals::default() }
}

/// One thread's counters. Only that thread writes, so adding is a load and a store.
struct Slots {
    ns: [AtomicU64; OPERATORS],
    spans: [AtomicU64; OPERATORS],
    flops: [[AtomicU64; UNITS]; OPERATORS],
    bytes: [AtomicU64; OPERATORS],
    tokens: [AtomicU64; TOKENS],
}

fn add(to: &AtomicU64, n: u64) {
    to.store(to.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
}

fn zeros<const N: usize>() -> [AtomicU64; N] {
    std::array::from_fn(|_| AtomicU64::new(0))
}

impl Slots {
    fn read(&self) -> Totals {
        let get = |x: &AtomicU64| x.load(Ordering::Relaxed);
        Totals {
            operators: std::array::from_fn(|o| Count {
                ns: get(&self.ns[o]),
                spans: get(&self.spans[o]),
                flops: std::array::from_fn(|u| get(&self.flops[o][u])),
                bytes: get(&self.bytes[o]),
            }),
            tokens: std::array::from_fn(|t| get(&self.tokens[t])),
        }
    }

    /// Those of a thread that has ended, or new ones, which live as long as the process.
    fn take() -> &'static Self {
        let free = FREE.lock().unwrap_or_else(PoisonError::into_inner).pop();
        free.unwrap_or_else(|| {
            let slots: &'static Self = Box::leak(Box::new(Self {
                ns: zeros(),
                spans: zeros(),
                flops: std::array::from_fn(|_| zeros()),
                bytes: zeros(),
                tokens: zeros(),
            }));
            SLOTS.lock().unwrap_or_else(PoisonError::into_inner).push(slots);
            slots
        })
    }
}

/// What a thread knows of itself.
struct Thread {
    slots: &'static Slots,
    /// Nanoseconds of the spans that ended within the one that is open.
    inner_ns: Cell<u64>,
    /// What the next product is part of.
    name: Cell<Option<Operator>>,
}

impl Drop for Thread {
    fn drop(&mut self) {
        FREE.lock().unwrap_or_else(PoisonError::into_inner).push(self.slots);
    }
}

thread_local! {
    static THREAD: Thread =
        Thread { slots: Slots::take(), inner_ns: Cell::new(0), name: Cell::new(None) };
}

/// Nothing, while the thread is being taken down: then nothing is worth counting.
fn with_thread<T>(f: impl FnOnce(&Thread) -> T) -> Option<T> {
    THREAD.try_with(f).ok()
}

/// Measures until it is dropped, on the thread that made it.
#[must_use = "a span measures until it is dropped"]
pub struct Span(Option<Open>);

struct Open {
    operator: Operator,
    clock: fn() -> u64,
    began: u64,
    /// [`Thread::inner_ns`] of the span around this one.
    outer_inner_ns: u64,
    /// Spans stay on their thread.
    _thread: std::marker::PhantomData<*const ()>,
}

/// Measures `operator` until the span is dropped.
#[inline]
pub fn span(operator: Operator) -> Span {
    Span(CLOCK.get().and_then(|&clock| open(operator, clock)))
}

fn open(operator: Operator, clock: fn() -> u64) -> Option<Open> {
    let outer_inner_ns = with_thread(|thread| thread.inner_ns.replace(0))?;
    Some(Open { operator, clock, began: clock(), outer_inner_ns, _thread: std::marker::PhantomData })
}

impl Drop for Span {
    #[inline]
    fn drop(&mut self) {
        if let Some(open) = self.0.take() {
            open.close();
        }
    }
}

impl Open {
    fn close(self) {
        let took = (self.clock)().saturating_sub(self.began);
        with_thread(|thread| {
            let own = took.saturating_sub(thread.inner_ns.get());
            thread.inner_ns.set(self.outer_inner_ns + took);
            let at = self.operator as usize;
            add(&thread.slots.ns[at], own);
            add(&thread.slots.spans[at], 1);
        });
    }
}

/// Measures across `await`s until it is dropped, on whatever thread that is.
#[must_use = "a wait measures until it is dropped"]
pub struct Waiting(Option<Began>);

struct Began {
    operator: Operator,
    clock: fn() -> u64,
    ns: u64,
}

/// Measures `operator` until the wait is dropped. Not exclusive: neither spans nor other waits
/// belong within.
#[inline]
pub fn waiting(operator: Operator) -> Waiting {
    Waiting(CLOCK.get().map(|&clock| Began { operator, clock, ns: clock() }))
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let Some(began) = self.0.take() else { return };
        let took = (began.clock)().saturating_sub(began.ns);
        with_thread(|thread| {
            let at = began.operator as usize;
            add(&thread.slots.ns[at], took);
            add(&thread.slots.spans[at], 1);
        });
    }
}

/// Work by formula.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work {
    pub unit: Unit,
    /// A multiplication and an addition are two.
    pub flops: usize,
    /// Weights, keys and values that are read.
    pub bytes: usize,
}

impl Work {
    /// Of a product (m, k) by (k, n), whose right-hand side takes `bytes`.
    pub fn product(unit: Unit, [m, n, k]: [usize; 3], bytes: usize) -> Self {
        Self { unit, flops: 2 * m * n * k, bytes }
    }

    /// Of attention in f32: `seen` keys over all query rows, each scored and each value weighed, by
    /// `products` products (two forward; five backward, which computes the scores again). Keys and
    /// values are read as numbers of that many bytes.
    pub fn attention(
        products: usize,
        [heads, kv_heads, head_dim]: [usize; 3],
        seen: usize,
        bytes: usize,
    ) -> Self {
        let flops = 2 * products * heads * head_dim * seen;
        Self { unit: Unit::F32, flops, bytes: 2 * bytes * kv_heads * head_dim * seen }
    }
}

/// Counts work without time.
#[inline]
pub fn work(operator: Operator, work: impl FnOnce() -> Work) {
    if is_on() {
        count(operator, work());
    }
}

fn count(operator: Operator, work: Work) {
    let at = operator as usize;
    with_thread(|thread| {
        add(&thread.slots.flops[at][work.unit as usize], work.flops as u64);
        add(&thread.slots.bytes[at], work.bytes as u64);
    });
}

/// Counts tokens.
#[inline]
pub fn tokens(tokens: Tokens, count: usize) {
    if is_on() {
        with_thread(|thread| add(&thread.slots.tokens[tokens as usize], count as u64));
    }
}

/// Holds what the products that a thread begins are part of, until it is dropped.
#[must_use = "a name holds until it is dropped"]
pub struct Named {
    outer: Option<Option<Operator>>,
    _thread: std::marker::PhantomData<*const ()>,
}

impl Named {
    fn replace(name: Option<Operator>) -> Self {
        let outer = if is_on() { with_thread(|thread| thread.name.replace(name)) } else { None };
        Self { outer, _thread: std::marker::PhantomData }
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        if let Some(outer) = self.outer {
            with_thread(|thread| thread.name.set(outer));
        }
    }
}

/// Sets the operator of the thread's next products, until the returned value is dropped.
/// Without it the operator is [`Operator::LinearForward`].
#[inline]
pub fn named(operator: Operator) -> Named {
    Named::replace(Some(operator))
}

/// Puts the name aside, around waiting for other threads: a thread that waits may be lent other
/// work.
#[inline]
pub fn unnamed() -> Named {
    Named::replace(None)
}

/// A matrix product under way: measures its pieces on whatever thread they run. The name is put
/// aside meanwhile.
pub struct Product {
    operator: Option<Operator>,
    _aside: Named,
}

/// Counts a product's work, done in pieces that [`Product::pieces`] measures.
#[inline]
pub fn product(work: impl FnOnce() -> Work) -> Product {
    let aside = unnamed();
    let operator = aside.outer.map(|name| name.unwrap_or(Operator::LinearForward));
    if let Some(operator) = operator {
        count(operator, work());
    }
    Product { operator, _aside: aside }
}

/// Measures the pieces of a [`Product`], on any thread.
#[derive(Clone, Copy)]
pub struct Pieces(Option<Operator>);

impl Product {
    /// What measures the pieces of this product, on the threads that compute them.
    pub fn pieces(&self) -> Pieces {
        Pieces(self.operator)
    }
}

impl Pieces {
    /// Measures one piece.
    #[inline]
    pub fn span(self) -> Span {
        self.0.map_or(Span(None), span)
    }
}
