//! Remembers the cache pages of prefixes that are likely to be continued, as a tree search
//! continues its paths.
//!
//! A page is found only by the exact token ids before and in it, and only for the policy that the
//! cache was made for. Its content is a function of these, so remembering can't change a result.
//! The cache is bounded in tokens; the least recently used prefixes are forgotten first.

use std::collections::HashMap;
use std::sync::Arc;

use crate::model::cache::Page;
use crate::ops::kernels::KV_BLOCK;

/// The page before the first one.
const ROOT: u64 = 0;

/// Full pages of one policy, by the token ids whose keys and values they hold.
#[derive(Debug)]
pub(super) struct PrefixCache {
    pages_max: usize,
    /// (id of the page before, the page's own token ids) → page
    pages: HashMap<(u64, [u32; KV_BLOCK]), Entry>,
    ids_given: u64,
    /// Counts look-ups and insertions.
    now: u64,
}

#[derive(Debug)]
struct Entry {
    id: u64,
    page: Arc<Page>,
    used: u64,
}

impl PrefixCache {
    /// Holds at most `tokens_max` tokens; 0 remembers nothing.
    pub(super) fn new(tokens_max: usize) -> Self {
        Self { pages_max: tokens_max / KV_BLOCK, pages: HashMap::new(), ids_given: ROOT, now: 0 }
    }

    /// The pages of the longest remembered prefix of `ids`.
    pub(super) fn find(&mut self, ids: &[u32]) -> Vec<Arc<Page>> {
        self.now += 1;
        let mut found = Vec::new();
        let mut before = ROOT;
        for block in ids.as_chunks::<KV_BLOCK>().0 {
            let Some(entry) = self.pages.get_mut(&(before, *block)) else { break };
            entry.used = self.now;
            before = entry.id;
            found.push(entry.page.clone());
        }
        found
    }

    /// Remembers `pages`, which hold the keys and values of a prefix of `ids`.
    pub(super) fn insert(&mut self, ids: impl Iterator<Item = u32>, pages: &[Arc<Page>]) {
        if self.pages_max == 0 {
            return;
        }
        self.now += 1;
        let mut ids = ids;
        let mut before = ROOT;
        for page in pages.iter().take(self.pages_max) {
            let mut block = [0; KV_BLOCK];
            for slot in &mut block {
                let Some(id) = ids.next() else { return };
                *slot = id;
            }
            let entry = self.pages.entry((before, block)).or_insert_with(|| {
                self.ids_given += 1;
                Entry { id: self.ids_given, page: page.clone(), used: 0 }
            });
            entry.used = self.now;
            before = entry.id;
        }
        if self.pages.len() > self.pages_max {
            self.forget_a_quarter();
        }
    }

    /// Forgetting many pages at once makes it cheap on average. A page is used whenever one after
    /// it is used, so no page outlives the one before it.
    fn forget_a_quarter(&mut self) {
        let mut used: Vec<u64> = self.pages.values().map(|entry| entry.used).collect();
        used.sort_unstable();
        let oldest_kept = used[self.pages.len() - self.pages_max * 3 / 4 - 1];
        self.pages.retain(|_, entry| entry.used > oldest_kept);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::cache::{KvCache, PagePool};
    use crate::ops::kernels::KvPrecision;

    fn pages(n: usize) -> Vec<Arc<Page>> {
        let pool = PagePool::new("p".into(), 1, 1, KvPrecision::F32);
        let mut cache = KvCache::new(&pool);
        cache.reserve(n * KV_BLOCK);
        cache.advance(n * KV_BLOCK);
        cache.full_pages().to_vec()
    }

    fn ids(n: usize, last: u32) -> Vec<u32> {
        (0..n * KV_BLOCK).map(|i| if i / KV_BLOCK == n - 1 { last } else { i as u32 }).collect()
    }

    #[test]
    fn finds_the_longest_exact_beginning() {
        let mut cache = PrefixCache::new(1000);
        let (a, b) = (pages(3), pages(3));
        cache.insert(ids(3, 7).into_iter(), &a);
        cache.insert(ids(3, 8).into_iter(), &b);
        let found = cache.find(&[ids(3, 8), vec![5; 40]].concat());
        assert_eq!(found.len(), 3);
        assert!(Arc::ptr_eq(&found[0], &a[0]) && Arc::ptr_eq(&found[2], &b[2]));
        assert_eq!(cache.find(&ids(3, 9)).len(), 2);
        assert_eq!(cache.find(&ids(3, 8)[..47]).len(), 2);
        assert!(cache.find(&ids(3, 8)[1..]).is_empty());
    }

    #[test]
    fn stays_within_its_bound_and_keeps_the_recent() {
        let mut cache = PrefixCache::new(10 * KV_BLOCK);
        for last in 0..100 {
            cache.insert(ids(2, last).into_iter(), &pages(2));
            assert!(cache.pages.len() <= 10);
            assert_eq!(cache.find(&ids(2, last)).len(), 2);
        }
        cache.insert(ids(50, 0).into_iter(), &pages(50));
        assert!(cache.pages.len() <= 10);
        let mut none = PrefixCache::new(15);
        none.insert(ids(2, 0).into_iter(), &pages(2));
        assert!(none.find(&ids(2, 0)).is_empty());
    }
}
