//! Train sizes by evidence: cost of entries that arrive at once, at a queue without and with a
//! history.

use git_harness::domain::queue::QueueSettings;

use super::figures::{Luck, Site, crowd_from};
use super::world::QueueWorld;

/// The shares of failing entries, in millionths.
const BAD: [u64; 4] = [0, 10_000, 50_000, 100_000];
/// The number of entries that ended before the measured ones arrive.
const HISTORY: usize = 200;

/// The failing entries of a history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum History {
    /// There is no history.
    None,
    /// As many fail as of the measured entries.
    Same,
    /// None fails.
    Good,
}

/// Mean verifications and makespan for each share of failing entries.
type Row = [[f64; 2]; 4];

/// A measurement.
struct Measurement {
    history: History,
    entries: usize,
    concurrency: usize,
    seeds: u64,
    /// The figures when a train had at most eight entries and a lane kept its entries until its
    /// culprit was known. Measured with this file, the same seeds and `batch: 8`.
    before: Row,
    /// The largest allowed ratio of a figure to the figure before.
    most: f64,
}

// A failed group of 64 takes longer to bisect than the failed ones of eight groups side by side,
// and a good history is a wrong one for entries that fail: these rows have a wider margin.
const CASES: [Measurement; 6] = [
    Measurement {
        history: History::None,
        entries: 1_000,
        concurrency: 1,
        seeds: 8,
        before: [[125.0, 125.0], [170.8, 170.8], [340.8, 340.8], [574.2, 574.2]],
        most: 1.01,
    },
    Measurement {
        history: History::None,
        entries: 1_000,
        concurrency: 8,
        seeds: 8,
        before: [[143.0, 19.0], [197.9, 27.8], [389.0, 52.8], [652.6, 85.5]],
        most: 1.01,
    },
    Measurement {
        history: History::Same,
        entries: 64,
        concurrency: 1,
        seeds: 50,
        before: [[8.0, 8.0], [10.7, 10.7], [21.0, 21.0], [37.3, 37.3]],
        most: 1.01,
    },
    Measurement {
        history: History::Same,
        entries: 64,
        concurrency: 8,
        seeds: 50,
        before: [[10.0, 3.0], [13.2, 4.2], [26.9, 7.0], [45.4, 9.9]],
        most: 1.13,
    },
    Measurement {
        history: History::Good,
        entries: 64,
        concurrency: 1,
        seeds: 50,
        before: [[8.0, 8.0], [10.8, 10.8], [21.5, 21.5], [37.1, 37.1]],
        most: 1.2,
    },
    Measurement {
        history: History::Good,
        entries: 64,
        concurrency: 8,
        seeds: 50,
        before: [[10.0, 3.0], [13.6, 4.4], [26.5, 7.1], [44.6, 10.5]],
        most: 1.4,
    },
];

/// Runs a queue, with a restart between its history and the measured entries. Returns the
/// verifications and the makespan.
fn run(case: &Measurement, bad: u64, seed: u64) -> [usize; 2] {
    let settings = QueueSettings { concurrency: case.concurrency, ..QueueSettings::default() };
    let mut site = Site::new(settings, QueueWorld::new(seed, 0));
    let mut first = 0;
    if case.history != History::None {
        let bad = if case.history == History::Good { 0 } else { bad };
        while first < HISTORY {
            let entries = crowd_from(&mut site.world, first, 8, Luck { bad, ..Luck::default() });
            site.run(&entries);
            first += entries.len();
        }
        site.restart();
    }
    let (runs, time) = (site.world.runs, site.now);
    let luck = Luck { bad, ..Luck::default() };
    let entries = crowd_from(&mut site.world, first, case.entries, luck);
    site.run(&entries);
    [site.world.runs - runs, site.now - time]
}

fn mean(case: &Measurement, bad: u64) -> [f64; 2] {
    let all: Vec<_> = (0..case.seeds).map(|seed| run(case, bad, seed)).collect();
    [0, 1].map(|figure| {
        let sum = all.iter().map(|figures| figures[figure]).sum::<usize>();
        f64::from(u32::try_from(sum).unwrap()) / all.len() as f64
    })
}

#[test]
fn train_size_by_evidence_costs_no_more_than_trains_of_eight() {
    println!("verifications / makespan before, and now, by the share of failing entries");
    for case in &CASES {
        let (entries, concurrency) = (case.entries, case.concurrency);
        print!("{entries:4} entries, history {:5?}, {concurrency} at a time:", case.history);
        for (bad, before) in BAD.into_iter().zip(case.before) {
            let now = mean(case, bad);
            let percent = bad as f64 / 10_000.0;
            print!(
                "  {percent:2} %: {:6.1} / {:6.1}, {:6.1} / {:6.1}",
                before[0], before[1], now[0], now[1]
            );
            for (figure, before) in now.into_iter().zip(before) {
                assert!(
                    figure <= before * case.most,
                    "{entries} entries, {:?}, {concurrency} at a time, {percent} % fail: {now:?} \
                     against {before}",
                    case.history
                );
            }
        }
        println!();
    }
}

#[test]
fn sixty_four_good_entries_after_two_hundred_good_ones_take_one_verification() {
    for concurrency in [1, 2, 4, 8] {
        let (history, entries) = (History::Good, 64);
        let case = Measurement {
            history,
            entries,
            concurrency,
            seeds: 1,
            most: 1.0,
            before: Row::default(),
        };
        assert_eq!(run(&case, 0, 0), [1, 1], "{concurrency} at a time");
    }
}
