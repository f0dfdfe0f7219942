//! A simulated repository with checks: changes, commits, trees, verdicts and one branch.

use std::collections::{HashMap, HashSet};

use git_harness::domain::id::Oid;
use git_harness::domain::queue::{Car, Conflict, EntryId};
use git_harness::domain::verdict::Verdict;

use super::random::{Random, mix};

/// The effect of a candidate on the target.
#[derive(Debug, Clone, Default)]
pub(super) struct CandidateChange {
    /// The change fails on every tree.
    pub bad: bool,
    /// The change breaks the rules of the target.
    pub refused: bool,
    /// No tree with the change can be checked out.
    pub unverifiable: bool,
    /// The change changes rule files: the verification of its tree decides with the old rules too.
    pub rules: bool,
    /// Older changes with which the change fails, in whatever order they land.
    pub breaks: Vec<usize>,
    /// Older changes with which the change conflicts.
    pub conflicts: Vec<usize>,
}

/// A commit with its set of changes.
#[derive(Debug, Clone)]
pub(super) struct Node {
    tree: Oid,
    set: Vec<u64>,
    hash: u64,
    fails: bool,
    unverifiable: bool,
    parent: Option<Oid>,
    change: Option<usize>,
}

impl Node {
    fn has(&self, change: usize) -> bool {
        self.set.get(change / 64).is_some_and(|word| word >> (change % 64) & 1 == 1)
    }
}

fn oid(kind: char, hash: u64) -> Oid {
    Oid::parse(&format!("{kind}{hash:016x}{:023x}", mix(hash))).unwrap()
}

/// Symmetric pairs of changes.
type Pairs = HashMap<usize, Vec<usize>>;

#[derive(Debug)]
pub(super) struct QueueWorld {
    pub random: Random,
    /// The probability of a flaky failure, in millionths.
    pub flakes: u64,
    changes: Vec<CandidateChange>,
    breaks: Pairs,
    conflicts: Pairs,
    numbers: HashMap<Oid, usize>,
    nodes: HashMap<Oid, Node>,
    fails: HashMap<Oid, bool>,
    /// Trees that cannot be checked out.
    unverifiable: HashSet<Oid>,
    /// Trees that were verified and passed.
    pub proven: HashSet<Oid>,
    tip: Oid,
    /// The landed changes, in order.
    pub landed: Vec<usize>,
    /// The number of verifications.
    pub runs: usize,
    /// The number of flaky failures.
    pub flaked: usize,
}

impl QueueWorld {
    pub(super) fn new(seed: u64, flakes: u64) -> Self {
        let (tip, tree) = (oid('c', mix(0)), oid('d', 0));
        let root = Node {
            tree: tree.clone(),
            set: Vec::new(),
            hash: 0,
            fails: false,
            unverifiable: false,
            parent: None,
            change: None,
        };
        Self {
            random: Random::new(seed),
            flakes,
            changes: Vec::new(),
            breaks: Pairs::new(),
            conflicts: Pairs::new(),
            numbers: HashMap::new(),
            nodes: HashMap::from([(tip.clone(), root)]),
            fails: HashMap::from([(tree, false)]),
            unverifiable: HashSet::new(),
            proven: HashSet::new(),
            tip,
            landed: Vec::new(),
            runs: 0,
            flaked: 0,
        }
    }

    /// Creates a candidate. Returns its number and commit.
    pub(super) fn change(&mut self, change: CandidateChange) -> (usize, Oid) {
        let number = self.changes.len();
        let name = oid('b', mix(u64::try_from(number).unwrap()));
        for other in &change.breaks {
            self.breaks.entry(*other).or_default().push(number);
            self.breaks.entry(number).or_default().push(*other);
        }
        for other in &change.conflicts {
            self.conflicts.entry(*other).or_default().push(number);
            self.conflicts.entry(number).or_default().push(*other);
        }
        self.changes.push(change);
        self.numbers.insert(name.clone(), number);
        (number, name)
    }

    pub(super) fn number(&self, candidate: &Oid) -> usize {
        self.numbers[candidate]
    }

    pub(super) fn tip(&self) -> (Oid, Oid) {
        (self.tip.clone(), self.nodes[&self.tip].tree.clone())
    }

    pub(super) fn tree_of(&self, commit: &Oid) -> Oid {
        self.nodes[commit].tree.clone()
    }

    /// Returns the first-parent line from the root to a commit, oldest first.
    pub(super) fn line(&self, tip: &Oid) -> Vec<Oid> {
        let mut line = vec![tip.clone()];
        while let Some(parent) = line.last().and_then(|at| self.nodes[at].parent.clone()) {
            line.push(parent);
        }
        line.reverse();
        line
    }

    /// Returns the number of the change that a commit added.
    pub(super) fn change_of(&self, commit: &Oid) -> Option<usize> {
        self.nodes[commit].change
    }

    /// Returns true if a change breaks the rules of the target.
    pub(super) fn refuses(&self, number: usize) -> bool {
        self.changes[number].refused
    }

    /// Returns true if a commit contains a change.
    pub(super) fn contains(&self, commit: &Oid, number: usize) -> bool {
        self.nodes[commit].has(number)
    }

    /// Returns true if a change alone on a commit would merge and pass.
    pub(super) fn would_pass(&self, onto: &Oid, number: usize) -> bool {
        let onto = &self.nodes[onto];
        let with =
            |pairs: &Pairs| pairs.get(&number).is_some_and(|o| o.iter().any(|o| onto.has(*o)));
        let change = &self.changes[number];
        !change.bad
            && !change.refused
            && !change.unverifiable
            && !with(&self.breaks)
            && !with(&self.conflicts)
    }

    fn put(&mut self, onto: &Oid, number: usize) -> Oid {
        let parent = &self.nodes[onto];
        let broken = self.breaks.get(&number).is_some_and(|o| o.iter().any(|o| parent.has(*o)));
        let CandidateChange { bad, unverifiable, .. } = self.changes[number];
        let unverifiable = parent.unverifiable || unverifiable;
        let fails = parent.fails || bad || broken || unverifiable;
        let mut set = parent.set.clone();
        set.resize(set.len().max(number / 64 + 1), 0);
        set[number / 64] |= 1 << (number % 64);
        let hash = parent.hash ^ mix(u64::try_from(number).unwrap() + 1);
        let tree = oid('d', hash);
        self.fails.insert(tree.clone(), fails);
        if unverifiable {
            self.unverifiable.insert(tree.clone());
        }
        let name = mix(u64::from_str_radix(&onto.as_str()[1..17], 16).unwrap());
        let commit = oid('c', mix(name ^ hash));
        let (parent, change) = (Some(onto.clone()), Some(number));
        self.nodes
            .insert(commit.clone(), Node { tree, set, hash, fails, unverifiable, parent, change });
        commit
    }

    /// Merges candidates in memory. What comes behind a change of rule files waits.
    pub(super) fn merge(
        &mut self,
        onto: &Oid,
        entries: &[(EntryId, Oid)],
    ) -> (Vec<Car>, Vec<Conflict>) {
        let (mut at, mut cars, mut conflicts) = (onto.clone(), Vec::new(), Vec::new());
        for (entry, candidate) in entries {
            let number = self.numbers[candidate];
            if self.nodes[&at].change.is_some_and(|last| at != *onto && self.changes[last].rules) {
                let (entry, paths) = (entry.clone(), Vec::new());
                conflicts.push(Conflict { entry, paths, with_base: false });
                continue;
            }
            let others = self.conflicts.get(&number).cloned().unwrap_or_default();
            let meets = |at: &Oid| others.iter().any(|other| self.nodes[at].has(*other));
            if meets(&at) {
                let (entry, paths) = (entry.clone(), vec![format!("src/{number}.rs")]);
                conflicts.push(Conflict { entry, paths, with_base: meets(onto) });
                continue;
            }
            at = self.put(&at, number);
            let (entry, tree) = (entry.clone(), self.nodes[&at].tree.clone());
            cars.push(Car { entry, commit: at.clone(), tree });
        }
        (cars, conflicts)
    }

    /// Runs the checks.
    pub(super) fn verify(&mut self, tree: &Oid) -> Verdict<String> {
        self.runs += 1;
        if self.unverifiable.contains(tree) {
            return Verdict::Errored("it cannot be checked out".into());
        }
        if self.fails[tree] {
            return Verdict::Failed("a check".into());
        }
        if self.random.chance(self.flakes) {
            self.flaked += 1;
            return Verdict::Failed("a check that does not say the same twice".into());
        }
        self.proven.insert(tree.clone());
        Verdict::Passed
    }

    pub(super) fn passes(&self, tree: &Oid) -> bool {
        !self.fails[tree]
    }

    /// Moves the target by compare-and-swap. Asserts that the landing commits were verified, pass
    /// and are new.
    pub(super) fn land(
        &mut self,
        onto: &Oid,
        commit: &Oid,
        entries: &[(EntryId, Oid)],
        verify_each: bool,
    ) -> bool {
        if self.tip != *onto {
            return false;
        }
        let (mut at, mut found) = (commit.clone(), Vec::new());
        while at != *onto {
            let node = &self.nodes[&at];
            if verify_each || at == *commit {
                assert!(self.proven.contains(&node.tree), "{at} lands and was never verified");
                assert!(!node.fails, "the target is red");
            }
            let number = node.change.unwrap();
            // The rules before decide, too: those of the target, so nothing may lie between.
            let decided = !self.changes[number].rules || at == *commit;
            assert!(decided, "{number} changes the rules and lands with another behind it");
            found.push(number);
            at = node.parent.clone().unwrap();
        }
        found.reverse();
        let told: Vec<_> = entries.iter().map(|(_, candidate)| self.numbers[candidate]).collect();
        assert_eq!(found, told, "what lands is what is said to land");
        for number in found {
            assert!(!self.nodes[onto].has(number), "{number} lands twice");
            self.landed.push(number);
        }
        self.tip = commit.clone();
        true
    }

    /// Another process puts a change on the target.
    pub(super) fn push(&mut self, number: usize) {
        self.tip = self.put(&self.tip.clone(), number);
    }

    /// Another process removes the target's last commit.
    pub(super) fn remove_last_commit(&mut self) {
        if let Some(parent) = self.nodes[&self.tip].parent.clone() {
            self.tip = parent;
        }
    }
}
