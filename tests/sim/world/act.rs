//! What the world does of itself: supervisors begin what is owed, agents work, checks judge, the target moves.

use git_harness::domain::id::{Oid, TaskId};
use git_harness::domain::machine::{Effect, Observation, evaluators, next_wake, owed};
use git_harness::domain::session::SessionReport;
use git_harness::domain::verdict::{Candidate, Verdict};

use super::{Commit, World};
use crate::page::Stage;
use crate::script::{self, Mood};

impl World {
    /// Begins what is owed and finishes one thing that is under way; else waits.
    pub(super) fn work(&mut self) -> bool {
        for effect in owed(&self.state, self.now, &self.policy) {
            match effect {
                Effect::Start(task, attempt) => self.dispatch(&task, attempt),
                Effect::Land(_) if self.flight.iter().any(|e| matches!(e, Effect::Land(_))) => {}
                Effect::Evaluate(task, attempt) => self.ask_jury(task, attempt),
                effect => {
                    self.flight.insert(effect);
                }
            }
        }
        let some: Vec<_> = self.flight.iter().cloned().collect();
        if let Some(effect) = self.tape.one(&some) {
            self.flight.remove(&effect);
            self.now = self.now.after_ms(1);
            self.finish(effect);
            return true;
        }
        let first = self.book.wakes(self.now);
        assert_eq!(next_wake(&self.state, self.now), first, "when to look again");
        match first {
            Some(wake) => {
                self.now = wake;
                true
            }
            None => false,
        }
    }

    /// As the engine does it: with the session that the task has, where it was, or afresh.
    fn dispatch(&mut self, task: &TaskId, attempt: u32) {
        let state = &self.state.tasks[task];
        let kept = state.session.clone().filter(|s| self.policy.resumable && s.owner == self.owner);
        let resumed = kept.is_some();
        let (base, worktree, session) = match kept {
            Some(kept) => (state.base.clone().unwrap(), kept.worktree, Some(kept.id)),
            None => {
                let given = self.program.takes_ids.then(|| format!("s-{task}-{attempt}"));
                let worktree = format!("p{}", self.oid().as_str().trim_start_matches('0'));
                (self.tip(), worktree, given)
            }
        };
        let owner = self.owner.clone();
        let observation = Observation::Dispatched {
            task: task.clone(),
            attempt,
            base,
            worktree,
            owner,
            session,
            resumed,
        };
        if self.tell(observation) {
            self.flight.insert(Effect::Await(task.clone(), attempt));
        } else {
            assert!(self.torn, "{task}: what is owed is not refused");
        }
    }

    /// As the engine does it: one more if there is a slot.
    fn ask_jury(&mut self, task: TaskId, attempt: u32) {
        let effect = Effect::Evaluate(task.clone(), attempt);
        let juries = self.flight.iter().filter(|e| matches!(e, Effect::Evaluate(..))).count();
        if !self.flight.contains(&effect) && juries < evaluators(&self.state, &self.policy) {
            self.check_jury(&task);
            self.juries.insert(task, self.now);
            self.flight.insert(effect);
        }
    }

    /// What a jury says of a task's work.
    fn jury(&mut self, task: TaskId, attempt: u32) {
        let Some(candidate) = self.state.tasks[&task].candidate.clone() else { return };
        let (mood, mut count) = (self.mood_now(), Default::default());
        let thread = ("jury", false);
        let report =
            script::report(&mut self.tape, mood, self.program, self.now, thread, &mut count);
        let (termination, verdict) = script::evaluation(&mut self.tape, mood, report.as_ref());
        let began = self.juries[&task];
        let report = report.map(Box::new);
        let tree = candidate.tree;
        self.tell(Observation::Evaluated {
            task,
            attempt,
            tree,
            began,
            termination,
            verdict,
            report,
        });
    }

    pub(super) fn finish(&mut self, effect: Effect) {
        match effect {
            Effect::VerifyBase => {
                let number = self.turn as u64;
                let checks = script::check_report(&mut self.tape, Mood::Kind, true, number);
                self.tell(Observation::BaseVerified(checks));
            }
            Effect::Await(task, attempt) => self.see(&task, attempt),
            Effect::Verify(task, attempt) => {
                let Some(candidate) = self.state.tasks[&task].candidate.clone() else { return };
                let mood = self.mood_now();
                let checks = script::check_report(&mut self.tape, mood, false, self.turn as u64);
                self.tell(Observation::Verified { task, attempt, tree: candidate.tree, checks });
            }
            Effect::Evaluate(task, attempt) => self.jury(task, attempt),
            Effect::Land(task) => self.land(&task),
            Effect::Start(..) => {}
            Effect::Redispatch => {
                self.tell(Observation::RedispatchDue);
            }
        }
    }

    fn mood_now(&self) -> Mood {
        match self.mood {
            Mood::Changing => script::MOODS[self.turn * 7 % 15],
            mood => mood,
        }
    }

    /// What became of an attempt: published once, seen as often as somebody looks.
    fn see(&mut self, task: &TaskId, attempt: u32) {
        let key = (task.clone(), attempt);
        if self.keepers.get(&key).is_some_and(Option::is_none) {
            if !self.tape.over() && self.tape.pick(12) == 11 {
                let news = Observation::NeverStarted { task: task.clone(), attempt };
                self.keepers.insert(key, Some(news.clone()));
                self.tell(news);
                return;
            }
            if self.answers(task, attempt) {
                return;
            }
            let mood = self.mood_now();
            let left = script::attempt(&mut self.tape, mood);
            let report = self.report(task, attempt, mood);
            let (commit, mut tree, base) = (self.oid(), self.oid(), self.tip());
            let before = self.candidates.iter().rfind(|c| c.0 == *task);
            if let (Some((_, _, old, _)), 1) = (before, self.tape.pick(3)) {
                // It did the same once more.
                tree = old.tree.clone();
            }
            let candidate = left.saved.then_some(Candidate { commit, tree, base });
            if let Some(candidate) = &candidate {
                self.candidates.push((task.clone(), attempt, candidate.clone(), left.changed));
            }
            let ended = Observation::AttemptEnded {
                task: task.clone(),
                attempt,
                termination: left.termination,
                changed: left.changed && candidate.is_some(),
                candidate,
                report: report.map(Box::new),
            };
            self.keepers.insert(key.clone(), Some(ended));
        }
        if let Some(Some(ended)) = self.keepers.get(&key).cloned() {
            self.tell(ended);
        }
    }

    /// Now and then an agent gets an answer before it ends; then it is still under way.
    fn answers(&mut self, task: &TaskId, attempt: u32) -> bool {
        let refused = matches!(self.mood, Mood::Limited | Mood::Overloaded | Mood::Unknown);
        let says = if self.tape.over() { !refused } else { self.tape.pick(3) == 2 };
        let key = (task.clone(), attempt);
        if !says || !self.program.talks || !self.answered.insert(key) {
            return false;
        }
        self.tell(Observation::ServiceAnswered { task: task.clone(), attempt });
        if !self.torn {
            self.flight.insert(Effect::Await(task.clone(), attempt));
        }
        true
    }

    /// What the session of an attempt says. Sometimes it is another one than was meant.
    fn report(&mut self, task: &TaskId, attempt: u32, mood: Mood) -> Option<SessionReport> {
        let known = self.threads.get(&(task.clone(), attempt)).cloned().flatten();
        let own = || format!("own-{task}-{attempt}");
        let strays = !self.tape.over() && self.tape.pick(8) == 7;
        let thread = known.filter(|_| !strays).unwrap_or_else(own);
        let count = self.counts.entry(thread.clone()).or_default();
        script::report(&mut self.tape, mood, self.program, self.now, (&thread, strays), count)
    }

    fn land(&mut self, task: &TaskId) {
        let contained = self.target.iter().find(|c| c.task.as_ref() == Some(task)).cloned();
        if let Some(commit) = contained {
            let (task, commit) = (task.clone(), commit.id);
            self.tell(Observation::Landed { task, commit, results: Vec::new() });
            return;
        }
        let Stage::Accepted(candidate) = self.book.pages[task].stage.clone() else { return };
        let mood = self.mood_now();
        let (task, onto) = (task.clone(), self.tip());
        let commit = candidate.commit.clone();
        if script::conflicts(&mut self.tape, mood) {
            let paths = vec![script::text(&mut self.tape)];
            self.tell(Observation::LandingConflict {
                task,
                candidate: commit,
                onto,
                paths,
                told: String::new(),
            });
            return;
        }
        // The merged tree: the same candidate on the same tip is the same tree.
        let merged = |a: &Oid, b: &Oid| {
            Oid::parse(&format!("{}{}", &a.as_str()[20..], &b.as_str()[20..])).unwrap()
        };
        let tree = merged(&onto, &commit);
        if !self.known.contains(&tree) {
            let checks = script::check_report(&mut self.tape, mood, true, self.turn as u64);
            if checks.verdict == Verdict::Passed {
                self.known.insert(tree.clone());
            }
            self.tell(Observation::LandingVerified { task, candidate: commit, tree, checks });
            return;
        }
        if !self.tape.over() && self.tape.pick(6) == 5 {
            // Somebody else was faster.
            let id = self.oid();
            self.target.push(Commit { id, task: None });
            return;
        }
        self.check_landing(&task, &candidate);
        let id = self.oid();
        self.target.push(Commit { id: id.clone(), task: Some(task.clone()) });
        if !self.tape.over() && self.tape.pick(4) == 3 {
            self.crash();
            return;
        }
        self.tell(Observation::Landed { task, commit: id, results: Vec::new() });
    }

    fn check_landing(&self, task: &TaskId, candidate: &Candidate) {
        let page = &self.book.pages[task];
        assert!(
            page.accepted.contains(&candidate.commit),
            "{task}: landed without having been accepted"
        );
        let made = self.candidates.iter().find(|(_, _, c, _)| c == candidate).unwrap();
        assert_eq!(
            (&made.0, made.1),
            (task, page.attempt),
            "what lands is the last attempt's work"
        );
        assert!(self.target.iter().all(|c| c.task.as_ref() != Some(task)), "{task} lands twice");
    }
}
