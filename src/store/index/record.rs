//! A task's state in the compact form of the index.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::domain::evaluation::Evaluation;
use crate::domain::id::{Oid, Timestamp};
use crate::domain::review::{Approval, Review};
use crate::domain::session::{Class, Cost, Session, Spend, Tokens, Usage};
use crate::domain::state::{Phase, TaskState};
use crate::domain::termination::Termination;
use crate::domain::verdict::Candidate;

/// A tip in compact form. The record borrows its texts, so that reading copies them only once, into
/// the state.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Record<'a> {
    tree: &'a str,
    phase: &'a str,
    seq: u64,
    attempt: u32,
    worktree: Option<&'a str>,
    owner: Option<&'a str>,
    base: Option<&'a str>,
    #[serde(borrow)]
    termination: Option<Cow<'a, str>>,
    class: Option<&'a str>,
    /// True if the service has answered an agent, and an evaluator.
    answered: [bool; 2],
    silent_ending: Option<&'a str>,
    #[serde(borrow)]
    session: Option<SessionRecord<'a>>,
    /// The numbers of resumes, redispatches, rejections, conflicts and faults.
    counts: [u32; 5],
    spend: Option<SpendRecord>,
    written_off: UsageRecord,
    #[serde(borrow)]
    candidate: Option<[&'a str; 3]>,
    not_before: u64,
    waiting: bool,
    rounds: u32,
    objection: Option<&'a str>,
    judging: Option<SpendRecord>,
    /// The approval: reviewer, time, commit and tree.
    #[serde(borrow)]
    approval: Option<(&'a str, u64, &'a str, &'a str)>,
    revised: bool,
    landed: Option<&'a str>,
    reason: Option<&'a str>,
    cause: Option<&'a str>,
    at: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct SessionRecord<'a> {
    id: &'a str,
    worktree: &'a str,
    owner: &'a str,
    counted: UsageRecord,
}

/// Reported tokens, and the cost in billionths of a US dollar.
type UsageRecord = (Option<[u64; 4]>, Option<u64>);

/// Tokens, the cost in billionths of a US dollar, and the numbers of sessions with and without a
/// report of tokens and of cost.
type SpendRecord = ([u64; 4], u64, [u32; 4]);

fn four(tokens: Tokens) -> [u64; 4] {
    let Tokens { input, output, cache_read, cache_write } = tokens;
    [input, output, cache_read, cache_write]
}

pub(super) fn tokens([input, output, cache_read, cache_write]: [u64; 4]) -> Tokens {
    Tokens { input, output, cache_read, cache_write }
}

fn usage_record(usage: Usage) -> UsageRecord {
    (usage.tokens.map(four), usage.cost.map(|c| c.0))
}

fn usage((of_tokens, cost): UsageRecord) -> Usage {
    Usage { tokens: of_tokens.map(tokens), cost: cost.map(Cost) }
}

fn spend_record(spend: Spend) -> Option<SpendRecord> {
    let Spend {
        tokens,
        cost,
        sessions_with_tokens,
        sessions_without_tokens,
        sessions_with_cost,
        sessions_without_cost,
    } = spend;
    let counts =
        [sessions_with_tokens, sessions_without_tokens, sessions_with_cost, sessions_without_cost];
    (spend != Spend::default()).then(|| (four(tokens), cost.0, counts))
}

fn spend(used: Option<SpendRecord>) -> Spend {
    let Some((of_tokens, cost, counts)) = used else { return Spend::default() };
    let [sessions_with_tokens, sessions_without_tokens, sessions_with_cost, sessions_without_cost] =
        counts;
    let (tokens, cost) = (tokens(of_tokens), Cost(cost));
    Spend {
        tokens,
        cost,
        sessions_with_tokens,
        sessions_without_tokens,
        sessions_with_cost,
        sessions_without_cost,
    }
}

impl<'a> Record<'a> {
    pub(super) fn of(tree: &'a Oid, state: &'a TaskState) -> Self {
        // No `..`: a new field must be added here.
        let TaskState {
            phase,
            seq,
            attempt,
            worktree,
            owner,
            base,
            termination,
            class,
            answered,
            silent_ending,
            session,
            resumes,
            redispatches,
            spend,
            written_off,
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
        } = state;
        let Evaluation { waiting, answered: evaluator_answered, rounds, objection, spend: judging } =
            evaluation;
        let Review { approval, revised } = review;
        Self {
            tree: tree.as_str(),
            phase: phase.as_str(),
            seq: *seq,
            attempt: *attempt,
            worktree: worktree.as_deref(),
            owner: owner.as_deref(),
            base: base.as_ref().map(Oid::as_str),
            termination: termination.as_ref().map(|t| t.to_string().into()),
            class: class.map(Class::as_str),
            answered: [*answered, *evaluator_answered],
            silent_ending: silent_ending.as_deref(),
            session: session.as_ref().map(|Session { id, worktree, owner, counted }| {
                let counted = usage_record(*counted);
                SessionRecord { id, worktree, owner, counted }
            }),
            counts: [*resumes, *redispatches, *rejections, *conflicts, *faults],
            spend: spend_record(*spend),
            written_off: usage_record(*written_off),
            candidate: candidate.as_ref().map(|Candidate { commit, tree, base }| {
                [commit.as_str(), tree.as_str(), base.as_str()]
            }),
            not_before: not_before.0,
            waiting: *waiting,
            rounds: *rounds,
            objection: objection.as_deref(),
            judging: spend_record(*judging),
            approval: approval.as_ref().map(|Approval { by, at, commit, tree }| {
                (by.as_str(), at.0, commit.as_str(), tree.as_str())
            }),
            revised: *revised,
            landed: landed.as_ref().map(Oid::as_str),
            reason: reason.as_deref(),
            cause: cause.as_deref(),
            at: at.0,
        }
    }

    /// Returns the tree and the state. Returns `None` if a value is not one that this version
    /// writes.
    pub(super) fn state(self) -> Option<(Oid, TaskState)> {
        let id = |text: &str| Oid::parse(text).ok();
        // A present id must be valid.
        let optional_id = |text: Option<&str>| -> Option<Option<Oid>> {
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
            Some((by, at, commit, tree)) => Some(Approval {
                by: by.to_owned(),
                at: Timestamp(at),
                commit: id(commit)?,
                tree: id(tree)?,
            }),
        };
        let class = match self.class {
            None => None,
            Some(text) => Some(Class::parse(text)?),
        };
        let termination = match self.termination {
            None => None,
            Some(text) => Some(Termination::parse(&text)?),
        };
        let owned = |text: Option<&str>| text.map(str::to_owned);
        let state = TaskState {
            phase: Phase::parse(self.phase)?,
            seq: self.seq,
            attempt: self.attempt,
            worktree: owned(self.worktree),
            owner: owned(self.owner),
            base: optional_id(self.base)?,
            termination,
            class,
            answered: self.answered[0],
            silent_ending: owned(self.silent_ending),
            session: self.session.map(|session| {
                let SessionRecord { id, worktree, owner, counted } = session;
                let counted = usage(counted);
                let (id, worktree, owner) = (id.to_owned(), worktree.to_owned(), owner.to_owned());
                Session { id, worktree, owner, counted }
            }),
            resumes,
            redispatches,
            spend: spend(self.spend),
            written_off: usage(self.written_off),
            candidate,
            rejections,
            conflicts,
            faults,
            not_before: Timestamp(self.not_before),
            evaluation: Evaluation {
                waiting: self.waiting,
                answered: self.answered[1],
                rounds: self.rounds,
                objection: owned(self.objection),
                spend: spend(self.judging),
            },
            review: Review { approval, revised: self.revised },
            landed: optional_id(self.landed)?,
            reason: owned(self.reason),
            cause: owned(self.cause),
            at: Timestamp(self.at),
        };
        Some((id(self.tree)?, state))
    }
}
