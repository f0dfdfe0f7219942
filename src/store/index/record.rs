//! A task's state in the compact form of the index.

use serde::{Deserialize, Serialize};

use crate::domain::evaluation::Evaluation;
use crate::domain::id::{Oid, Timestamp};
use crate::domain::review::{Approval, Review};
use crate::domain::session::{Class, Cost, Session, Spend, Usage};
use crate::domain::state::{Phase, TaskState};
use crate::domain::verdict::Candidate;
use crate::store::wire::{four, tokens};

/// A tip as a record has it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Record {
    tree: String,
    phase: String,
    seq: u64,
    attempt: u32,
    place: Option<String>,
    owner: Option<String>,
    base: Option<String>,
    ending: Option<String>,
    class: Option<String>,
    session: Option<Thread>,
    /// Resumes, redispatches, rejections, conflicts, faults.
    counts: [u32; 5],
    spend: Option<Used>,
    excused: Told,
    candidate: Option<[String; 3]>,
    not_before: u64,
    waiting: bool,
    rounds: u32,
    objection: Option<String>,
    judging: Option<Used>,
    /// By whom, when, which commit, which tree.
    approval: Option<(String, u64, String, String)>,
    revised: bool,
    landed: Option<String>,
    reason: Option<String>,
    cause: Option<String>,
    at: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Thread {
    id: String,
    place: String,
    owner: String,
    counted: Told,
}

/// Tokens and billionths of a US dollar, as far as they are known.
type Told = (Option<[u64; 4]>, Option<u64>);

/// Tokens, billionths of a US dollar, and how many sessions said so and did not.
type Used = ([u64; 4], u64, [u32; 4]);

fn told(usage: Usage) -> Told {
    (usage.tokens.map(four), usage.cost.map(|c| c.0))
}

fn usage((of_tokens, cost): Told) -> Usage {
    Usage { tokens: of_tokens.map(tokens), cost: cost.map(Cost) }
}

fn used(s: Spend) -> Option<Used> {
    let Spend { tokens, cost, told_tokens, untold_tokens, told_cost, untold_cost } = s;
    let counts = [told_tokens, untold_tokens, told_cost, untold_cost];
    (s != Spend::default()).then(|| (four(tokens), cost.0, counts))
}

fn spend(used: Option<Used>) -> Spend {
    let Some((of_tokens, cost, counts)) = used else { return Spend::default() };
    let [told_tokens, untold_tokens, told_cost, untold_cost] = counts;
    let (tokens, cost) = (tokens(of_tokens), Cost(cost));
    Spend { tokens, cost, told_tokens, untold_tokens, told_cost, untold_cost }
}

impl Record {
    pub(super) fn of(tree: &Oid, state: &TaskState) -> Self {
        // Without a rest: a field that is new must be thought of here.
        let TaskState {
            phase,
            seq,
            attempt,
            place,
            owner,
            base,
            ending,
            class,
            session,
            resumes,
            redispatches,
            spend,
            excused,
            candidate,
            rejections,
            conflicts,
            faults,
            not_before,
            evaluation,
            review,
            landed,
            reason,
            cause,
            at,
        } = state.clone();
        let Evaluation { waiting, rounds, objection, spend: judging } = evaluation;
        let Review { approval, revised } = review;
        let text = |id: Oid| id.to_string();
        Self {
            tree: tree.to_string(),
            phase: phase.as_str().to_owned(),
            seq,
            attempt,
            place,
            owner,
            base: base.map(text),
            ending,
            class: class.map(|c| c.to_string()),
            session: session.map(|Session { id, place, owner, counted }| {
                let counted = told(counted);
                Thread { id, place, owner, counted }
            }),
            counts: [resumes, redispatches, rejections, conflicts, faults],
            spend: used(spend),
            excused: told(excused),
            candidate: candidate
                .map(|Candidate { commit, tree, base }| [commit, tree, base].map(text)),
            not_before: not_before.0,
            waiting,
            rounds,
            objection,
            judging: used(judging),
            approval: approval.map(|Approval { by, at, commit, tree }| {
                (by, at.0, commit.to_string(), tree.to_string())
            }),
            revised,
            landed: landed.map(text),
            reason,
            cause,
            at: at.0,
        }
    }

    /// Nothing if it is not what this version writes.
    pub(super) fn state(self) -> Option<(Oid, TaskState)> {
        let id = |text: String| Oid::parse(&text).ok();
        // An id that is there must be one.
        let maybe = |text: Option<String>| -> Option<Option<Oid>> {
            text.map_or(Some(None), |text| id(text).map(Some))
        };
        let [resumes, redispatches, rejections, conflicts, faults] = self.counts;
        let candidate = match self.candidate {
            None => None,
            Some([commit, tree, base]) => {
                Some(Candidate { commit: id(commit)?, tree: id(tree)?, base: id(base)? })
            }
        };
        let approval = match self.approval {
            None => None,
            Some((by, at, commit, tree)) => {
                Some(Approval { by, at: Timestamp(at), commit: id(commit)?, tree: id(tree)? })
            }
        };
        let class = match self.class {
            None => None,
            Some(word) => Some(Class::parse(&word)?),
        };
        let state = TaskState {
            phase: Phase::parse(&self.phase)?,
            seq: self.seq,
            attempt: self.attempt,
            place: self.place,
            owner: self.owner,
            base: maybe(self.base)?,
            ending: self.ending,
            class,
            session: self.session.map(|t| {
                let counted = usage(t.counted);
                Session { id: t.id, place: t.place, owner: t.owner, counted }
            }),
            resumes,
            redispatches,
            spend: spend(self.spend),
            excused: usage(self.excused),
            candidate,
            rejections,
            conflicts,
            faults,
            not_before: Timestamp(self.not_before),
            evaluation: Evaluation {
                waiting: self.waiting,
                rounds: self.rounds,
                objection: self.objection,
                spend: spend(self.judging),
            },
            review: Review { approval, revised: self.revised },
            landed: maybe(self.landed)?,
            reason: self.reason,
            cause: self.cause,
            at: Timestamp(self.at),
        };
        Some((id(self.tree)?, state))
    }
}
