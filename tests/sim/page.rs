//! The oracle: what an observation must mean for a task, kept in its own words and compared with the machine.

use std::collections::BTreeSet;

use git_harness::domain::id::{Oid, TaskId, Timestamp};
use git_harness::domain::retry::Policy;
use git_harness::domain::session::{Class, SessionReport};
use git_harness::domain::state::{Phase, TaskState};
use git_harness::domain::termination::Termination;
use git_harness::domain::verdict::{Candidate, CheckReport, Objection, Verdict};

use crate::purse::Purse;

/// Where a task stands in the book.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum Stage {
    #[default]
    Waiting,
    Open,
    Offered(Candidate),
    /// With the jury.
    Shown(Candidate),
    /// With a reader.
    Read(Candidate),
    Accepted(Candidate),
    Landed,
    Failed,
    Skipped,
}

/// A conversation that can be gone on with, where it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Thread {
    pub id: String,
    pub worktree: String,
    pub owner: String,
    pub base: Oid,
}

/// One task's page.
#[derive(Debug, Clone, Default)]
pub(crate) struct Page {
    pub stage: Stage,
    pub attempt: u32,
    pub began: Timestamp,
    /// Where the attempt under way is, also when its task was taken out meanwhile: its end is still news.
    pub open: Option<Thread>,
    /// Whether the attempt under way has a thread whose id is known.
    pub named: bool,
    pub thread: Option<Thread>,
    pub rejections: u32,
    pub conflicts: u32,
    pub faults: u32,
    pub resumes: u32,
    pub redispatches: u32,
    pub purse: Purse,
    /// The work that a jury was last asked about and has not judged.
    pub asked: Option<Candidate>,
    /// How often a jury has found something since the budgets were made new, and what the last time.
    pub rounds: (u32, Option<String>),
    /// The work that a person lets land, and whether a person has made it.
    pub read: (Option<Oid>, bool),
    /// What juries used.
    pub jury: Purse,
    /// What it failed of, in the book's words.
    pub cause: String,
    /// Whether the last agent left as one leaves that is content.
    pub content: bool,
    /// How often a person had failed work taken up again since the budgets were made new.
    pub again: u32,
    /// Nothing that was asked before this moment can still be news.
    pub pause: Timestamp,
    /// What the last attempt left: a person may have it taken up again.
    pub left: Option<Candidate>,
    /// Every candidate that the checks have accepted as it is.
    pub accepted: BTreeSet<Oid>,
}

/// What the end of an attempt asks of the run as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Consequence {
    Nothing,
    /// The service has said something of itself.
    Heard,
    /// Nobody need try before a person has looked.
    Hopeless,
    /// It has to be split.
    TooLarge,
}

/// The numbers by which things are decided, and the time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules<'a> {
    pub policy: &'a Policy,
    pub now: Timestamp,
}

impl Rules<'_> {
    /// One second, doubled each time, one minute at most.
    fn after(self, nth: u32) -> Timestamp {
        let pause = [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000];
        self.now.after_ms(pause[(nth as usize - 1).min(6)])
    }
}

impl Page {
    pub(crate) fn phase(&self) -> Phase {
        match self.stage {
            Stage::Waiting => Phase::Todo,
            Stage::Open => Phase::Running,
            Stage::Offered(_) | Stage::Shown(_) => Phase::Verifying,
            Stage::Read(_) => Phase::Reviewing,
            Stage::Accepted(_) => Phase::Queued,
            Stage::Landed => Phase::Done,
            Stage::Failed => Phase::Failed,
            Stage::Skipped => Phase::Skipped,
        }
    }

    pub(crate) fn fail(&mut self, cause: &str) {
        self.stage = Stage::Failed;
        cause.clone_into(&mut self.cause);
    }

    /// Another attempt, if there is money for one. Says whether there is.
    fn try_again(&mut self, rules: Rules<'_>, at: Timestamp) -> bool {
        if self.purse.empty(rules.policy) {
            self.fail("money");
            return false;
        }
        self.stage = Stage::Waiting;
        self.pause = at;
        true
    }

    /// Something of ours broke. `judging`: not the attempt, but what judges it.
    fn fault(&mut self, rules: Rules<'_>, judging: bool) {
        if self.faults == rules.policy.infra {
            self.fail("infrastructure");
            return;
        }
        let at = rules.after(self.faults + 1);
        if judging {
            self.pause = at;
        } else if !self.try_again(rules, at) {
            return;
        }
        self.thread = None;
        self.faults += 1;
    }

    fn rejected(&mut self, rules: Rules<'_>, cause: &str) {
        self.rejections += 1;
        self.faults = 0;
        if self.rejections > rules.policy.feedback {
            self.fail(cause);
        } else {
            self.begin_anew(rules);
        }
    }

    fn begin_anew(&mut self, rules: Rules<'_>) {
        if self.try_again(rules, rules.now) {
            self.thread = None;
            self.resumes = 0;
        }
    }

    pub(crate) fn conflicted(&mut self, rules: Rules<'_>) {
        self.conflicts += 1;
        if self.conflicts > rules.policy.feedback.max(1) {
            self.fail("conflict");
        } else {
            self.begin_anew(rules);
        }
    }

    /// All counts are made new: by a person, or because few have failed.
    pub(crate) fn anew(&mut self, rules: Rules<'_>) {
        (self.rejections, self.conflicts, self.faults, self.again, self.resumes) = (0, 0, 0, 0, 0);
        (self.stage, self.pause, self.left) = (Stage::Waiting, rules.now, None);
        (self.thread, self.open) = (None, None);
        (self.asked, self.rounds) = (None, (0, None));
    }

    /// A person wants it done anew.
    pub(crate) fn sent_back(&mut self, rules: Rules<'_>) {
        self.read = (None, false);
        self.begin_anew(rules);
    }

    /// A person has made other work of it.
    pub(crate) fn revised(&mut self, candidate: &Candidate) {
        self.stage = Stage::Offered(candidate.clone());
        (self.left, self.asked) = (Some(candidate.clone()), None);
        self.read = (None, true);
    }

    /// The attempt under way, or that of a task that was taken out, is over: what it had is known.
    pub(crate) fn close(
        &mut self,
        termination: &Termination,
        left: Option<&Candidate>,
        told: Option<&SessionReport>,
    ) {
        self.left = left.cloned();
        (self.asked, self.read) = (None, (None, false));
        self.content = matches!(termination, Termination::Exited(0) | Termination::Lingered);
        let Some(here) = self.open.take() else { return };
        let id = told.and_then(|r| r.session.clone());
        let id = id.or_else(|| self.named.then(|| here.id.clone()));
        if told.is_some() || !matches!(termination, Termination::NotStarted(_)) {
            self.purse.pay(told, id.as_deref());
        }
        if let (Some(id), true) = (id, told.is_some()) {
            self.thread = Some(Thread { id, ..here });
        }
    }

    /// Whether there is, or was, something of its agent's to look at.
    pub(crate) fn shows_work(&self) -> bool {
        let waiting =
            matches!(self.stage, Stage::Waiting | Stage::Open | Stage::Failed | Stage::Skipped);
        !waiting || self.rejections > 0
    }

    /// What follows from that for a task that is wanted, where `fresh` says that no agent has shown any work yet.
    pub(crate) fn ended(
        &mut self,
        termination: &Termination,
        changed: bool,
        told: Option<&SessionReport>,
        fresh: bool,
        rules: Rules<'_>,
    ) -> Consequence {
        let lives = rules.policy.resumable && self.thread.is_some();
        let may_go_on = lives && self.resumes < rules.policy.resume;
        match (termination, told.map(|r| r.class)) {
            (Termination::Stopped, _) => drop(self.try_again(rules, rules.now)),
            (Termination::NotStarted(_), Some(Class::ContextExceeded)) => {
                return Consequence::TooLarge;
            }
            (Termination::NotStarted(_), Some(Class::BadInput)) if fresh => {
                self.try_again(rules, rules.now);
                return Consequence::Hopeless;
            }
            (Termination::NotStarted(_), _) => self.fault(rules, false),
            (Termination::Lost, _) | (_, Some(Class::Crashed | Class::TimedOut)) if may_go_on => {
                self.once_more(rules);
            }
            (Termination::Lost, _) => self.fault(rules, false),
            (_, Some(Class::RateLimited | Class::Overloaded)) => {
                self.try_again(rules, rules.now);
                return Consequence::Heard;
            }
            (_, Some(Class::Auth | Class::BadInput)) => {
                self.try_again(rules, rules.now);
                return Consequence::Hopeless;
            }
            (_, Some(Class::ContextExceeded)) => return Consequence::TooLarge,
            (_, Some(class @ (Class::SessionLost | Class::SessionInUse))) => {
                if self.resumes >= rules.policy.resume.max(1) + rules.policy.infra {
                    self.fail(class.as_str());
                } else if self.once_more(rules) {
                    self.thread = None;
                }
            }
            (_, class) => {
                match self.left.clone() {
                    None => self.fault(rules, false),
                    Some(_) if !changed && !rules.policy.allow_empty => {
                        self.rejected(rules, "idle");
                    }
                    Some(candidate) => self.stage = Stage::Offered(candidate),
                }
                if class.is_some() {
                    return Consequence::Heard;
                }
            }
        }
        Consequence::Nothing
    }

    fn once_more(&mut self, rules: Rules<'_>) -> bool {
        let again = self.try_again(rules, rules.after(self.resumes + 1));
        self.resumes += u32::from(again);
        again
    }

    pub(crate) fn judged(
        &mut self,
        candidate: &Candidate,
        checks: &CheckReport,
        landing: bool,
        rules: Rules<'_>,
    ) {
        match &checks.verdict {
            Verdict::Passed => {
                self.faults = 0;
                if !landing && rules.policy.evaluates {
                    self.stage = Stage::Shown(candidate.clone());
                    self.asked = Some(candidate.clone());
                } else if !landing {
                    self.good(candidate, rules);
                }
            }
            Verdict::Failed(findings) => {
                let noted = if landing || self.content { "" } else { "discontent, " };
                self.rejected(rules, &format!("{noted}{}", findings[0].check));
            }
            Verdict::Errored(_) => self.fault(rules, true),
        }
    }

    fn good(&mut self, candidate: &Candidate, rules: Rules<'_>) {
        self.accepted.insert(candidate.commit.clone());
        // What is handed in does not land.
        self.stage = match (rules.policy.report, rules.policy.review) {
            (true, _) => Stage::Landed,
            (false, true) => Stage::Read(candidate.clone()),
            (false, false) => Stage::Accepted(candidate.clone()),
        };
    }

    /// What a jury has to say, of work that is wanted still or not.
    pub(crate) fn heard(
        &mut self,
        verdict: &Verdict<Objection>,
        termination: &Termination,
        told: Option<&SessionReport>,
        rules: Rules<'_>,
    ) -> Consequence {
        self.jury.pay(told, None);
        let wanted = matches!(self.stage, Stage::Shown(_));
        let Some(candidate) = self.asked.clone() else { return Consequence::Nothing };
        if !matches!(verdict, Verdict::Errored(_)) {
            self.asked = None;
            self.faults = if wanted { 0 } else { self.faults };
        }
        let before = self.rounds.1.clone();
        if let Verdict::Failed(Objection { digest, .. }) = verdict {
            self.rounds = (self.rounds.0 + 1, Some(digest.clone()));
        }
        match (verdict, termination, told.map(|r| r.class)) {
            _ if !wanted => return Consequence::Nothing,
            (Verdict::Passed, _, _) => {
                self.good(&candidate, rules);
                return Consequence::Heard;
            }
            (Verdict::Failed(_), _, _) => {
                if before == self.rounds.1 || self.rounds.0 >= rules.policy.rounds {
                    self.fail("jury");
                } else {
                    self.begin_anew(rules);
                }
                return Consequence::Heard;
            }
            (_, Termination::Stopped, _) => self.pause = rules.now,
            (_, _, Some(Class::RateLimited | Class::Overloaded)) => {
                self.pause = rules.now;
                return Consequence::Heard;
            }
            (_, _, Some(Class::Auth | Class::BadInput)) => {
                self.pause = rules.now;
                return Consequence::Hopeless;
            }
            (_, _, Some(Class::ContextExceeded)) => self.fail("jury: too large"),
            (_, _, _) => self.fault(rules, true),
        }
        Consequence::Nothing
    }

    /// Compares with what the machine says of the task.
    pub(crate) fn compare(&self, task: &TaskId, state: &TaskState, policy: &Policy) {
        assert_eq!(self.phase(), state.phase, "{task}: {self:?}\n{state:?}");
        assert_eq!(self.attempt, state.attempt, "{task}: number of the last attempt");
        let here = (self.rejections, self.conflicts, self.faults);
        let there = (state.rejections, state.conflicts, state.faults);
        assert_eq!(here, there, "{task}: rejections, conflicts, faults");
        let here = (self.resumes, self.redispatches);
        assert_eq!(here, (state.resumes, state.redispatches), "{task}: resumes, redispatches");
        assert!(self.rejections <= policy.feedback + 1 + self.again, "{task}: {self:?}");
        assert!(self.conflicts <= policy.feedback.max(1) + 1 + self.again, "{task}: {self:?}");
        assert!(self.faults <= policy.infra, "{task}: {self:?}");
        assert!(self.resumes <= policy.resume.max(1) + policy.infra, "{task}: {self:?}");
        assert!(self.redispatches <= policy.redispatch, "{task}: {self:?}");
        // An attempt whose task was taken out works on in its place until it ends.
        let worktree = self.open.as_ref().map(|t| &t.worktree);
        assert_eq!(state.worktree.as_ref(), worktree, "{task}: the place of a running attempt");
        assert_eq!(state.owner.is_some(), self.open.is_some(), "{task}: its owner");
        assert_eq!(
            state.candidate, self.left,
            "{task}: the candidate is what the last attempt left"
        );
        let judged = matches!(state.phase, Phase::Verifying | Phase::Reviewing | Phase::Queued);
        assert!(!judged || state.candidate.is_some(), "{task}: there is something to judge");
        let thread = self.thread.as_ref().map(|t| (&t.id, &t.worktree, &t.owner));
        let session = state.session.as_ref().map(|s| (&s.id, &s.worktree, &s.owner));
        assert_eq!(session, thread, "{task}: the session to go on with");
        self.purse.compare(state.spend);
        let approved = state.review.approval.as_ref().map(|a| a.commit.clone());
        assert_eq!((approved, state.review.revised), self.read, "{task}: approved, revised");
        let jury = &state.evaluation;
        assert_eq!(jury.waiting, self.asked.is_some(), "{task}: with the jury");
        assert_eq!((jury.rounds, jury.objection.clone()), self.rounds, "{task}: of the jury");
        assert!(self.rounds.0 <= policy.rounds + self.again, "{task}: {self:?}");
        self.jury.compare(jury.spend);
    }
}
