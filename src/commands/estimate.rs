//! What a plan costs at least, and how long it takes: what a person wants to know before spending money.
//!
//! And afterwards, how far the tokens of the plan were from those that the agents have reported.
//!
//! The estimate is the same on every machine: nothing that earlier runs have measured is in it. Each session is taken to
//! read its prompt and its sources once and to write as much as the sources are. Agents look around and try again, so that
//! is the least.

use super::job_file;
use crate::domain::plan::Plan;
use crate::domain::session::Tokens;
use crate::domain::state::{Phase, RunState};
use crate::job::TokenBudget;
use crate::planning;
use crate::ui::human;

/// How many tokens a model writes in a second: an assumption, which is told with the estimate.
const SPEED: u64 = 50;

/// Milliseconds beside the writing: reading, starting, being checked.
const REST: u64 = 20_000;

/// The estimate in a sentence or two. `prompt` is how many tokens a prompt has.
pub(super) fn words(found: &job_file::LoadedJob, plan: &Plan, prompt: u64) -> String {
    let sources: u64 = plan.tasks.iter().map(|t| t.tokens).sum();
    let tokens = Tokens {
        input: sources + prompt * plan.tasks.len() as u64,
        output: sources,
        ..Tokens::default()
    };
    let model = found.job.agent.model.as_deref();
    let price = model.and_then(|model| found.preset.price(model));
    let cost = match (price.and_then(|price| price.of(tokens)), model) {
        (Some(cost), Some(model)) => format!("${:.2} at the price of {model}", cost.usd()),
        (None, Some(model)) => format!(
            "an unknown sum (no price of {model} is known: `[presets.{}.prices]`)",
            found.preset.name
        ),
        (_, None) => "an unknown sum (`[agent] model` is not said)".to_owned(),
    };
    let jobs = found.job.limits.jobs;
    let took = planning::makespan(plan, jobs, &|task| REST + task.tokens * 1_000 / SPEED);
    format!(
        "at least {} tokens read and {} written, {cost}, and {} with {} at a time (each session reads prompt and sources once \
         and writes as much as the sources are, {SPEED} tokens a second)",
        short(tokens.input),
        short(tokens.output),
        human::duration(took),
        human::number(jobs, "agent"),
    )
}

/// What a plan reckoned with, held against what sessions have reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PlannedVsReported {
    /// Tasks that were done in one session which said what it used.
    pub tasks: u64,
    /// Tokens that their contexts were planned to hold: prompt, sources, and as much again for the work.
    pub planned: u64,
    /// Tokens that these sessions have read anew: neither again nor from a cache.
    pub reported: u64,
    /// The `token-factor`, in thousandths, with which both would have been alike.
    pub factor: u64,
}

impl PlannedVsReported {
    /// Measures a run; nothing where no session has said enough. `prompt` is how many tokens a prompt has, by the model's
    /// count.
    pub(super) fn of(state: &RunState, budget: TokenBudget, prompt: u64) -> Option<Self> {
        let mut found = Self { tasks: 0, planned: 0, reported: 0, factor: 0 };
        for task in &state.plan.tasks {
            let Some(s) = state.tasks.get(&task.id) else { continue };
            if s.phase != Phase::Done || s.attempt != 1 || s.spend.sessions_with_tokens != 1 {
                continue;
            }
            found.tasks += 1;
            found.planned += prompt + 2 * task.tokens;
            found.reported += s.spend.tokens.input + s.spend.tokens.cache_write;
        }
        if found.planned == 0 || found.reported == 0 {
            return None;
        }
        found.factor = budget.factor * found.reported / found.planned;
        Some(found)
    }

    /// In a sentence.
    pub(super) fn words(self, budget: TokenBudget) -> String {
        let factor =
            |thousandths: u64| format!("{}.{:02}", thousandths / 1_000, thousandths % 1_000 / 10);
        format!(
            "{} planned, {} read in {} of one session each; `token-factor = {}` would have fitted (it was {})",
            short(self.planned),
            short(self.reported),
            human::number(usize::try_from(self.tasks).unwrap_or(usize::MAX), "task"),
            factor(self.factor),
            factor(budget.factor),
        )
    }
}

/// `812`, `61k`, `4.2M`.
fn short(count: u64) -> String {
    match count {
        0..=9_999 => count.to_string(),
        10_000..=999_999 => format!("{}k", count / 1_000),
        _ => format!("{}.{}M", count / 1_000_000, count / 100_000 % 10),
    }
}

#[cfg(test)]
mod tests {
    use super::PlannedVsReported;
    use crate::domain::id::{RunId, TaskId};
    use crate::domain::plan::{Plan, Task};
    use crate::domain::session::{Tokens, Usage};
    use crate::domain::state::{Phase, RunState};
    use crate::job::TokenBudget;

    #[test]
    fn what_was_reported_is_held_against_what_was_planned() {
        let task = |name: &str| Task {
            id: TaskId::parse(name).unwrap(),
            files: vec![name.into()],
            after: Vec::new(),
            lines: 1,
            tokens: 4_000,
            level: 0,
            vars: String::new(),
        };
        let plan = Plan { tasks: ["a", "b", "c"].map(task).to_vec() };
        let mut state = RunState::new(RunId::parse("r").unwrap(), plan);
        let budget = TokenBudget::default();
        assert_eq!(PlannedVsReported::of(&state, budget, 2_000), None);
        for (name, attempt) in [("a", 1), ("b", 1), ("c", 2)] {
            let s = state.tasks.get_mut(&TaskId::parse(name).unwrap()).unwrap();
            (s.phase, s.attempt) = (Phase::Done, attempt);
            let tokens =
                Tokens { input: 5_000, output: 900, cache_read: 90_000, cache_write: 10_000 };
            s.spend.add(Usage { tokens: Some(tokens), cost: None });
        }
        // What needed two attempts says nothing of one.
        let found = PlannedVsReported::of(&state, budget, 2_000).unwrap();
        assert_eq!((found.tasks, found.planned, found.reported), (2, 20_000, 30_000));
        assert_eq!(found.factor, 1_725);
        assert_eq!(
            found.words(budget),
            "20k planned, 30k read in 2 tasks of one session each; `token-factor = 1.72` would have fitted (it was 1.15)"
        );
    }

    #[test]
    fn large_numbers_are_short() {
        let said = [812, 61_234, 4_250_000, 999_999].map(super::short);
        assert_eq!(said, ["812", "61k", "4.2M", "999k"]);
    }
}
