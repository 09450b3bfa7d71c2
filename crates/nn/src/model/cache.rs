//! The key/value cache: pages of 16 positions, shared by reference and copied on write (vLLM's
//! PagedAttention, Kwon et al. 2023, without its block table on a device).
//!
//! A page holds keys and values of *all* layers for 16 positions, so a fork of a sequence is a copy
//! of a short list of references. A sequence writes only pages that no other sequence refers to. A
//! shared page that must be written, the partly filled last one, is copied first. Every cache is
//! made for one policy, and [`super::decode`] refuses it under another.
//!
//! It knows nothing about tokens or attention. The layout within a block is that of
//! `ops::kernels::write_kv`.

use std::sync::{Arc, Mutex, PoisonError};

use crate::ops::kernels::{AlignedVec, KV_BLOCK, KvBlock, KvNumber, KvPrecision};

/// Pages kept for reuse take at most this many bytes; further ones go back to the allocator.
const FREE_BYTES_MAX: usize = 256 << 20;

/// Keys and values of [`KV_BLOCK`] positions: per layer a key block, then a value block, of
/// `kv_heads * head_dim * 16` elements each.
#[derive(Debug)]
pub struct Page(Numbers);

/// The elements of a page, in the precision of the policy's keys and values.
#[derive(Debug)]
enum Numbers {
    F32(AlignedVec),
    Bf16(AlignedVec<u16>),
}

impl Page {
    fn new(precision: KvPrecision, count: usize) -> Self {
        Self(match precision {
            KvPrecision::F32 => Numbers::F32(AlignedVec::new(count)),
            KvPrecision::Bf16 => Numbers::Bf16(AlignedVec::new(count)),
        })
    }

    fn copy_from(&mut self, other: &Self) {
        match (&mut self.0, &other.0) {
            (Numbers::F32(to), Numbers::F32(from)) => to.copy_from_slice(from),
            (Numbers::Bf16(to), Numbers::Bf16(from)) => to.copy_from_slice(from),
            _ => unreachable!("pages of a pool hold the same kind of numbers"),
        }
    }
}

/// A type of elements that pages hold.
pub(super) trait Held: KvNumber {
    /// The elements of a page, which must be of this type.
    fn of_page(page: &Page) -> &[Self];
    fn of_page_mut(page: &mut Page) -> &mut [Self];
}

macro_rules! held {
    ($($number:ty: $kind:ident),+) => {
        $(impl Held for $number {
            fn of_page(page: &Page) -> &[Self] {
                let Numbers::$kind(numbers) = &page.0 else { unreachable!("a page of other numbers") };
                numbers
            }

            fn of_page_mut(page: &mut Page) -> &mut [Self] {
                let Numbers::$kind(numbers) = &mut page.0 else { unreachable!("a page of other numbers") };
                numbers
            }
        })+
    };
}

held!(f32: F32, u16: Bf16);

/// Allocates and recycles the pages of one policy. Threads share it.
#[derive(Debug)]
pub struct PagePool {
    policy: Arc<str>,
    /// Elements of one block: `kv_heads * head_dim * 16`.
    block: usize,
    layers: usize,
    precision: KvPrecision,
    free: Mutex<Vec<Arc<Page>>>,
}

impl PagePool {
    /// A pool for the policy with this hash: `layers` layers of `kv_size` = kv_heads * head_dim
    /// elements per position.
    pub fn new(policy: Arc<str>, layers: usize, kv_size: usize, precision: KvPrecision) -> Arc<Self> {
        Arc::new(Self { policy, block: kv_size * KV_BLOCK, layers, precision, free: Mutex::default() })
    }

    /// Hash of the policy whose keys and values the pages hold.
    pub fn policy(&self) -> &Arc<str> {
        &self.policy
    }

    /// Number of elements of a page.
    fn page_len(&self) -> usize {
        2 * self.block * self.layers
    }

    fn page_bytes(&self) -> usize {
        self.page_len() * self.precision.bytes()
    }

    /// A page that nothing else refers to. Its content is arbitrary finite numbers: no position is
    /// read before it is written.
    fn take(&self) -> Arc<Page> {
        let recycled = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        recycled.unwrap_or_else(|| Arc::new(Page::new(self.precision, self.page_len())))
    }

    /// Takes back the pages that nothing else refers to.
    fn give_back(&self, pages: impl Iterator<Item = Arc<Page>>) {
        let free_max = FREE_BYTES_MAX / self.page_bytes().max(1);
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        for mut page in pages {
            if free.len() < free_max && Arc::get_mut(&mut page).is_some() {
                free.push(page);
            }
        }
    }
}

/// The keys and values of one sequence. Cloning forks it.
#[derive(Debug)]
pub struct KvCache {
    pool: Arc<PagePool>,
    pages: Vec<Arc<Page>>,
    len: usize,
}

impl Clone for KvCache {
    /// Shares every page. The next write copies the last page if it is partly filled.
    fn clone(&self) -> Self {
        Self { pool: self.pool.clone(), pages: self.pages.clone(), len: self.len }
    }
}

impl Drop for KvCache {
    fn drop(&mut self) {
        self.pool.give_back(self.pages.drain(..));
    }
}

impl KvCache {
    /// An empty sequence.
    pub fn new(pool: &Arc<PagePool>) -> Self {
        Self { pool: pool.clone(), pages: Vec::new(), len: 0 }
    }

    /// A sequence that begins with full pages of another.
    pub fn from_full_pages(pool: &Arc<PagePool>, pages: Vec<Arc<Page>>) -> Self {
        let len = pages.len() * KV_BLOCK;
        Self { pool: pool.clone(), pages, len }
    }

    /// Positions held.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no token is cached.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The precision of its keys and values.
    pub fn precision(&self) -> KvPrecision {
        self.pool.precision
    }

    /// Hash of the policy this cache belongs to.
    pub fn policy(&self) -> &Arc<str> {
        &self.pool.policy
    }

    /// The completely filled pages, in order.
    pub fn full_pages(&self) -> &[Arc<Page>] {
        &self.pages[..self.len / KV_BLOCK]
    }

    /// Makes the pages of the next `n` positions ready to write: new pages, or a copy of a shared
    /// one.
    pub(crate) fn reserve(&mut self, n: usize) {
        if n == 0 {
            return;
        }
        if !self.len.is_multiple_of(KV_BLOCK) {
            let last = &mut self.pages[self.len / KV_BLOCK];
            if Arc::get_mut(last).is_none() {
                let mut copy = self.pool.take();
                if let Some(page) = Arc::get_mut(&mut copy) {
                    page.copy_from(last);
                }
                *last = copy;
            }
        }
        while self.pages.len() * KV_BLOCK < self.len + n {
            self.pages.push(self.pool.take());
        }
    }

    /// Counts `n` positions that have been written in every layer.
    pub(crate) fn advance(&mut self, n: usize) {
        self.len += n;
    }

    /// Forgets all but the first `len` positions, which it must have.
    pub(crate) fn truncate(&mut self, len: usize) {
        assert!(len <= self.len, "{len} positions of {}", self.len);
        self.len = len;
        if len.div_ceil(KV_BLOCK) == self.pages.len() {
            return;
        }
        self.pool.give_back(self.pages.drain(len.div_ceil(KV_BLOCK)..));
    }

    /// The key and value block of `layer` that holds `position`, to write to; reserved before.
    pub(super) fn block_mut<N: Held>(&mut self, layer: usize, position: usize) -> (&mut [N], &mut [N]) {
        let block = self.pool.block;
        let page = Arc::get_mut(&mut self.pages[position / KV_BLOCK]).expect("a reserved page is not shared");
        N::of_page_mut(page)[2 * block * layer..][..2 * block].split_at_mut(block)
    }

    /// Appends the key and value blocks of `layer` for positions `0..end` to `blocks`. Blocks that
    /// end before position `first` are left empty.
    pub(super) fn blocks<'a, N: Held>(
        &'a self,
        layer: usize,
        first: usize,
        end: usize,
        blocks: &mut Vec<KvBlock<'a, N>>,
    ) {
        let block = self.pool.block;
        let skipped = first / KV_BLOCK;
        blocks.resize(blocks.len() + skipped, (&[], &[]));
        let held = &self.pages[skipped..end.div_ceil(KV_BLOCK)];
        blocks.extend(
            held.iter().map(|page| N::of_page(page)[2 * block * layer..][..2 * block].split_at(block)),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes `value` at the next position of a cache with one layer and one element per position.
    fn push(cache: &mut KvCache, value: f32) {
        cache.reserve(1);
        let position = cache.len();
        let (k, v) = cache.block_mut::<f32>(0, position);
        k[position % KV_BLOCK] = value;
        v[position % KV_BLOCK] = -value;
        cache.advance(1);
    }

    fn values(cache: &KvCache) -> Vec<f32> {
        let mut blocks: Vec<KvBlock<'_, f32>> = Vec::new();
        cache.blocks(0, 0, cache.len(), &mut blocks);
        (0..cache.len()).map(|p| blocks[p / KV_BLOCK].0[p % KV_BLOCK]).collect()
    }

    #[test]
    fn forks_are_isolated_and_share_full_pages() {
        let pool = PagePool::new("p".into(), 1, 1, KvPrecision::F32);
        let mut trunk = KvCache::new(&pool);
        (0..20).for_each(|i| push(&mut trunk, i as f32));
        let mut forks: Vec<KvCache> = (0..3).map(|_| trunk.clone()).collect();
        for (f, fork) in forks.iter_mut().enumerate() {
            (0..30).for_each(|i| push(fork, (1000 * (f + 1) + i) as f32));
        }
        push(&mut trunk, 77.0);
        let begin: Vec<f32> = (0..20).map(|i| i as f32).collect();
        assert_eq!(values(&trunk), [begin.as_slice(), &[77.0]].concat());
        for (f, fork) in forks.iter().enumerate() {
            let own: Vec<f32> = (0..30).map(|i| (1000 * (f + 1) + i) as f32).collect();
            assert_eq!(values(fork), [begin.as_slice(), &own].concat());
            assert!(Arc::ptr_eq(&fork.full_pages()[0], &trunk.full_pages()[0]));
            assert!(!Arc::ptr_eq(&fork.pages[1], &trunk.pages[1]));
        }
    }

    #[test]
    fn what_was_forgotten_is_written_again_alone() {
        let pool = PagePool::new("p".into(), 1, 1, KvPrecision::F32);
        let mut a = KvCache::new(&pool);
        (0..40).for_each(|i| push(&mut a, i as f32));
        let b = a.clone();
        a.truncate(20);
        (100..130).for_each(|i| push(&mut a, i as f32));
        let want: Vec<f32> = (0..20).chain(100..130).map(|i| i as f32).collect();
        assert_eq!(values(&a), want);
        assert_eq!(values(&b), (0..40).map(|i| i as f32).collect::<Vec<_>>());
        a.truncate(32);
        a.truncate(0);
        assert!(a.is_empty() && a.pages.is_empty());
    }

    #[test]
    fn pages_are_recycled_only_when_nobody_refers_to_them() {
        let pool = PagePool::new("p".into(), 1, 1, KvPrecision::F32);
        let mut a = KvCache::new(&pool);
        (0..32).for_each(|i| push(&mut a, i as f32));
        let b = a.clone();
        drop(a);
        assert_eq!(pool.free.lock().unwrap().len(), 0);
        assert_eq!(values(&b).len(), 32);
        drop(b);
        assert_eq!(pool.free.lock().unwrap().len(), 2);
    }
}
