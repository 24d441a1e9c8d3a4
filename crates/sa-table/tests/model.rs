//! Random operations, compared with a reference made of standard collections.
#![cfg(not(loom))]

use std::collections::{HashMap, HashSet};

use proptest::prelude::*;
use sa_table::{Cleared, Handle, InsertError, Key, SEED_WORDS, SaTable, Seed};

const CAPACITY: usize = 24;

#[derive(Clone, Debug)]
enum Step {
    Insert(Vec<Key>),
    InsertUnless(Vec<Key>),
    /// Of the handles ever given out, live or stale.
    Remove(prop::sample::Index),
    /// The lane enters a batch, or ends it.
    Enter(bool),
    Reclaim,
    Clear,
}

/// Few of everything, so that keys collide; a destination of 0 is the wildcard.
fn key() -> impl Strategy<Value = Key> {
    (1..4_u32, 0..3_u8, any::<bool>()).prop_map(|(spi, destination, ipv6)| {
        let mut bytes = [0; 16];
        bytes[if ipv6 { 15 } else { 3 }] = destination;
        Key { spi, destination: bytes, ipv6 }
    })
}

fn step() -> impl Strategy<Value = Step> {
    let keys = || prop::collection::vec(key(), 0..3);
    prop_oneof![
        8 => keys().prop_map(Step::Insert),
        2 => keys().prop_map(Step::InsertUnless),
        6 => any::<prop::sample::Index>().prop_map(Step::Remove),
        2 => any::<bool>().prop_map(Step::Enter),
        2 => Just(Step::Reclaim),
        1 => Just(Step::Clear),
    ]
}

/// What the table must be like.
#[derive(Default)]
struct Reference {
    live: HashMap<Handle, (usize, Vec<Key>)>,
    /// Removed, and waiting for the batch that was under way.
    removing: HashSet<Handle>,
    /// Removed, not reported yet, and the batch is over.
    reclaimable: HashSet<Handle>,
    given_out: Vec<Handle>,
}

impl Reference {
    fn removed(&self) -> usize {
        self.removing.len() + self.reclaimable.len()
    }

    fn batch_ends(&mut self) {
        self.reclaimable.extend(self.removing.drain());
    }

    fn exact(&self, key: &Key) -> HashSet<(Handle, usize)> {
        let under = self.live.iter().filter(|(_, (_, keys))| keys.contains(key));
        under.map(|(handle, (value, _))| (*handle, *value)).collect()
    }

    fn inserted(&mut self, result: Result<Handle, InsertError>, value: usize, keys: Vec<Key>) {
        if self.live.len() + self.removed() == CAPACITY {
            let full = InsertError::Full { capacity: CAPACITY, removing: self.removed() };
            assert_eq!(result, Err(full));
            return;
        }
        let handle = result.expect("there is room");
        assert!(!self.given_out.contains(&handle), "{handle:?} was used before");
        self.given_out.push(handle);
        self.live.insert(handle, (value, keys));
    }
}

fn run(seed: Seed, steps: Vec<Step>) {
    let table = SaTable::new(CAPACITY, seed).expect("a capacity");
    let mut reference = Reference::default();
    let (mut worker, mut observer) = (table.register_lane(), table.register_lane());
    let mut in_batch = false;
    for (value, step) in steps.into_iter().enumerate() {
        match step {
            Step::Insert(keys) => reference.inserted(table.insert(value, &keys), value, keys),
            Step::InsertUnless(keys) => {
                let result = table.insert_unless(value, &keys, |_, existing| existing % 2 == 0);
                let excluded = keys.iter().flat_map(|key| reference.exact(key)).filter(|(_, v)| v % 2 == 0);
                let excluded: HashSet<_> = excluded.map(|(handle, _)| handle).collect();
                if let Err(InsertError::Duplicate { existing }) = result {
                    assert!(excluded.contains(&existing));
                } else {
                    assert!(excluded.is_empty());
                    reference.inserted(result, value, keys);
                }
            }
            Step::Remove(index) => {
                if reference.given_out.is_empty() {
                    continue;
                }
                let handle = *index.get(&reference.given_out);
                let live = reference.live.remove(&handle).is_some();
                let removal = table.remove(handle);
                assert_eq!(removal.is_ok(), live);
                if let Ok(removal) = removal {
                    assert_eq!(removal.completed_at_once(), !in_batch);
                    if in_batch {
                        reference.removing.insert(handle);
                    }
                }
            }
            // A forgotten guard leaves its lane in the batch; the next batch takes its place.
            Step::Enter(true) => {
                std::mem::forget(worker.enter());
                in_batch = true;
                reference.batch_ends();
            }
            Step::Enter(false) => {
                drop(worker.enter());
                in_batch = false;
                reference.batch_ends();
            }
            Step::Reclaim => {
                let mut reported = HashSet::new();
                let count = table.reclaim(|handle| assert!(reported.insert(handle)));
                assert_eq!(count, reported.len());
                assert_eq!(reported, std::mem::take(&mut reference.reclaimable));
            }
            Step::Clear => {
                let removed = reference.live.len();
                let pending = if in_batch { removed } else { 0 };
                assert_eq!(table.clear(), Cleared { removed, pending });
                let gone = reference.live.drain().map(|(handle, _)| handle);
                if in_batch {
                    reference.removing.extend(gone);
                }
            }
        }
        compare(&table, &reference, &observer.enter());
    }
}

fn compare(table: &SaTable<usize>, reference: &Reference, batch: &sa_table::Guard<'_, usize>) {
    let occupancy = table.occupancy();
    assert_eq!((occupancy.live, occupancy.removing), (reference.live.len(), reference.removed()));
    for handle in &reference.given_out {
        assert_eq!(batch.get(*handle), reference.live.get(handle).map(|(value, _)| value));
    }
    for spi in 0..4 {
        for destination in 0..4 {
            for ipv6 in [false, true] {
                let mut bytes = [0; 16];
                bytes[if ipv6 { 15 } else { 3 }] = destination;
                let key = Key { spi, destination: bytes, ipv6 };
                let mut expected = reference.exact(&key);
                let exact = expected.len();
                let hits: Vec<_> = batch.find(&key).map(|(handle, value)| (handle, *value)).collect();
                assert!(hits.iter().take(exact).all(|hit| expected.contains(hit)), "exact hits come first");
                let mut count = exact;
                if !key.is_wildcard() {
                    // A value with both keys is found under both.
                    let wild = reference.exact(&key.wildcard());
                    count += wild.len();
                    expected.extend(wild);
                }
                assert_eq!(hits.len(), count);
                assert_eq!(hits.into_iter().collect::<HashSet<_>>(), expected);
            }
        }
    }
    let mut shown = HashMap::new();
    table.for_each(|handle, value| assert_eq!(shown.insert(handle, *value), None));
    assert_eq!(shown, reference.live.iter().map(|(handle, (value, _))| (*handle, *value)).collect());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn behaves_like_the_reference(seed in any::<[u64; SEED_WORDS]>(), steps in prop::collection::vec(step(), 1..160)) {
        run(Seed::new(seed), steps);
    }

    /// Under these seeds all keys have one home, the first bucket or the last: overflow all the time.
    #[test]
    fn behaves_like_the_reference_in_one_bucket(last in any::<bool>(), steps in prop::collection::vec(step(), 1..160)) {
        let first_word = if last { u64::MAX } else { 0 };
        run(Seed::new([first_word, 0, 0, 0, 0, 0, 0]), steps);
    }
}
