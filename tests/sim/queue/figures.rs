//! A thousand entries at once, verifications that all take one unit of time: how many there are, and how long it takes.

use std::collections::BTreeMap;

use git_harness::domain::id::Timestamp;
use git_harness::domain::queue::{
    Entry, EntryId, Owed, Queue, Seen, Settings, Standing, TrainId, Why,
};

use super::world::{Change, World};

/// What came of it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Figures {
    pub runs: usize,
    pub time: usize,
    pub landed: usize,
    /// Rejected although nothing was wrong with them.
    pub wronged: usize,
}

/// How the world is: how often, in a million, a change is bad, a pair breaks, a check fails for nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Luck {
    pub bad: u64,
    pub pairs: u64,
    pub flakes: u64,
}

/// Makes `n` entries at once.
pub fn crowd(world: &mut World, n: usize, luck: Luck) -> Vec<Entry> {
    let entry = |number: usize| {
        let bad = world.dice.chance(luck.bad);
        let older = 0..if luck.pairs > 0 { number } else { 0 };
        let breaks = older.filter(|_| world.dice.chance(luck.pairs)).collect();
        let (_, candidate) = world.change(Change { bad, breaks, ..Change::default() });
        Entry {
            id: EntryId::parse(&format!("b{number:04}")).unwrap(),
            priority: 0,
            after: Vec::new(),
            since: Timestamp(u64::try_from(number).unwrap()),
            candidate,
            held: false,
        }
    };
    (0..n).map(entry).collect()
}

/// Carries a queue out until it is empty.
pub fn carry_out(settings: Settings, n: usize, luck: Luck, seed: u64) -> Figures {
    let mut world = World::new(seed, luck.flakes);
    let (tip, tree) = world.tip();
    let mut queue = Queue::new(settings, tip, tree);
    queue.apply(Seen::Added(crowd(&mut world, n, luck)));
    let mut flight: BTreeMap<(TrainId, usize, u32), usize> = BTreeMap::new();
    let (mut now, mut figures) = (0, Figures::default());
    loop {
        let mut more = true;
        while more {
            more = false;
            for owed in queue.owed() {
                match owed {
                    Owed::Build { train, onto, entries } => {
                        let (steps, clashes) = world.merge(&onto, &entries);
                        queue.apply(Seen::Built { train, steps, clashes });
                        more = true;
                    }
                    Owed::Land { onto, commit, tree, entries, .. } => {
                        if world.land(&onto, &commit, &entries, settings.each) {
                            queue.apply(Seen::Landed { tip: commit, tree, entries });
                            more = true;
                        }
                    }
                    Owed::Eject { entry, candidate, why } => {
                        let right = !world.welcome(queue.tip(), world.number(&candidate));
                        figures.wronged +=
                            usize::from(!right && matches!(why, Why::Rejected { .. }));
                        queue.apply(Seen::Left { entry, candidate });
                        more = true;
                    }
                    Owed::Verify { train, prefix, attempt, .. } => {
                        flight.entry((train, prefix, attempt)).or_insert(now + 1);
                    }
                }
            }
        }
        let wanted: BTreeMap<_, _> =
            queue.owed().into_iter().filter_map(|o| verification(&o)).collect();
        // What was begun and is not wanted any more was paid for.
        let idle = flight.keys().filter(|key| !wanted.contains_key(key)).count();
        world.runs += idle;
        flight.retain(|key, _| wanted.contains_key(key));
        assert!(flight.len() <= settings.places, "more verifications than places");
        let Some(next) = flight.values().min().copied() else { break };
        now = next;
        let over: Vec<_> = flight.iter().filter(|(_, at)| **at == now).map(|(k, _)| *k).collect();
        for key in over {
            flight.remove(&key);
            let (train, prefix, attempt) = key;
            let ruling = world.verify(&wanted[&key]);
            queue.apply(Seen::Judged { train, prefix, attempt, ruling });
        }
    }
    assert!(queue.is_empty(), "something is left: {:?}", queue.faults());
    assert_eq!(queue.faults(), Vec::<String>::new());
    (figures.runs, figures.time) = (world.runs, now);
    figures.landed = world.landed.len();
    let landed = queue.items().filter(|i| i.standing == Standing::Landed).count();
    assert_eq!(landed, figures.landed);
    figures
}

type Verification = ((TrainId, usize, u32), git_harness::domain::id::Oid);

fn verification(owed: &Owed) -> Option<Verification> {
    match owed {
        Owed::Verify { train, prefix, attempt, tree, .. } => {
            Some(((*train, *prefix, *attempt), tree.clone()))
        }
        _ => None,
    }
}

/// The mean of several worlds.
fn mean(settings: Settings, luck: Luck, seeds: u64) -> (f64, f64, f64, f64) {
    let all: Vec<Figures> = (0..seeds).map(|seed| carry_out(settings, 1_000, luck, seed)).collect();
    let mean = |of: fn(&Figures) -> usize| {
        f64::from(u32::try_from(all.iter().map(of).sum::<usize>()).unwrap()) / all.len() as f64
    };
    (mean(|f| f.runs), mean(|f| f.time), mean(|f| f.landed), mean(|f| f.wronged))
}

/// What the design was simulated with: failures in a million, then verifications and time with one place, then with
/// eight.
const DESIGN: [(u64, [f64; 2], [f64; 2]); 4] = [
    (0, [125.0, 125.0], [144.0, 20.0]),
    (10_000, [180.0, 180.0], [208.0, 29.0]),
    (50_000, [374.0, 374.0], [430.0, 57.0]),
    (100_000, [602.0, 602.0], [689.0, 89.0]),
];

#[test]
fn as_few_verifications_and_as_short_as_designed() {
    println!("a thousand entries, groups of eight: verifications / time, beside the design's");
    for (bad, one, eight) in DESIGN {
        for (places, design) in [(1, one), (8, eight)] {
            let luck = Luck { bad, ..Luck::default() };
            let settings = Settings { batch: 8, places, ..Settings::default() };
            let (runs, time, landed, wronged) = mean(settings, luck, 20);
            let [most, longest] = design;
            let share = bad / 10_000;
            println!(
                "{places} places, {share:2} % bad: {runs:5.0} / {time:5.1}   {most} / {longest}"
            );
            assert!(
                runs <= most * 1.1 && time <= longest * 1.1,
                "{runs} / {time} against {design:?}"
            );
            assert_eq!(wronged, 0.0);
            assert!(landed > 850.0);
        }
    }
}

/// The same with conflicts in meaning, in one of ten thousand pairs, and checks of which one in a hundred fails for
/// nothing.
const HARDER: [(u64, [f64; 2], [f64; 2]); 4] = [
    (0, [373.0, 373.0], [475.0, 63.0]),
    (10_000, [418.0, 418.0], [503.0, 66.0]),
    (50_000, [579.0, 579.0], [670.0, 87.0]),
    (100_000, [772.0, 772.0], [889.0, 114.0]),
];

#[test]
fn conflicts_in_meaning_and_flakes_cost_no_more_than_designed() {
    println!("the same with conflicts in pairs and flakes: verifications / time, wrongly rejected");
    for (bad, one, eight) in HARDER {
        for (places, design) in [(1, one), (8, eight)] {
            let luck = Luck { bad, pairs: 100, flakes: 10_000 };
            let settings = Settings { batch: 8, places, ..Settings::default() };
            let (runs, time, landed, wronged) = mean(settings, luck, 6);
            let [most, longest] = design;
            let share = bad / 10_000;
            println!(
                "{places} places, {share:2} % bad: {runs:5.0} / {time:5.1}   {most} / {longest}; {wronged} of {landed}"
            );
        }
    }
}
