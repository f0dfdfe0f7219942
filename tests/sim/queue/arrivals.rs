//! Starvation: entries of higher priority arrive all the time, and every entry still lands.

use std::collections::BTreeMap;

use git_harness::domain::id::Timestamp;
use git_harness::domain::queue::{
    EjectReason, Entry, EntryId, EntryStatus, QueueInput, QueueSettings,
};

use super::figures::Site;
use super::world::{CandidateChange, QueueWorld};

/// The time during which entries arrive.
const ARRIVAL_TIME: usize = 200;

fn entry(site: &mut Site, bad: u64, priority: i64) -> Entry {
    let bad = site.world.random.chance(bad);
    let (number, candidate) =
        site.world.change(CandidateChange { bad, ..CandidateChange::default() });
    let since = Timestamp(u64::try_from(site.now).unwrap());
    let id = EntryId::parse(&format!("b{number}")).unwrap();
    Entry { id, priority, after: Vec::new(), since, candidate, held: false }
}

/// Returns the waiting times of the least urgent entry and of the slowest one.
fn waits(settings: QueueSettings, per_unit: usize, bad: u64, seed: u64) -> (usize, usize) {
    let mut site = Site::new(settings, QueueWorld::new(seed, 0));
    let least = entry(&mut site, 0, -1_000);
    let humble = least.id.clone();
    let mut since: BTreeMap<EntryId, usize> = BTreeMap::from([(humble.clone(), 0)]);
    let mut over: BTreeMap<EntryId, usize> = BTreeMap::new();
    site.queue.apply(QueueInput::Added(vec![least]));
    let mut fed = None;
    loop {
        if site.now < ARRIVAL_TIME && fed != Some(site.now) {
            fed = Some(site.now);
            let new: Vec<_> = (0..per_unit).map(|_| entry(&mut site, bad, 5)).collect();
            since.extend(new.iter().map(|e| (e.id.clone(), site.now)));
            site.queue.apply(QueueInput::Added(new));
        }
        let more = site.pass();
        for item in site.queue.items().filter(|i| i.status.ended()) {
            over.entry(item.entry.id.clone()).or_insert(site.now);
        }
        if !more {
            break;
        }
    }
    assert!(site.queue.is_empty());
    for item in site.queue.items() {
        let rejected = matches!(item.status, EntryStatus::Ejected(EjectReason::Rejected { .. }));
        assert!(rejected || item.status == EntryStatus::Landed, "{item:?}");
    }
    let wait = |id: &EntryId| over[id] - since[id];
    (wait(&humble), since.keys().map(wait).max().unwrap())
}

#[test]
fn low_priority_entry_does_not_starve() {
    for seed in 0..5 {
        for (concurrency, per_unit, bad) in
            [(1, 2, 50_000), (1, 12, 50_000), (8, 20, 50_000), (8, 60, 0)]
        {
            // Ageing has nearly no effect here, so only the place reserved for the oldest entry
            // helps.
            let settings =
                QueueSettings { batch: 8, concurrency, ageing: 1, ..QueueSettings::default() };
            let (humble, _) = waits(settings, per_unit, bad, seed);
            assert!(humble <= 8, "{concurrency} at a time, {per_unit} a time: {humble}");
        }
        // If capacity exceeds arrivals, every entry lands soon.
        let settings =
            QueueSettings { batch: 8, concurrency: 8, ageing: 1, ..QueueSettings::default() };
        let (_, slowest) = waits(settings, 8, 50_000, seed);
        assert!(slowest <= 25, "{slowest}");
    }
}
