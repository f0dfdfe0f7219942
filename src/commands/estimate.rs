//! The least cost and time of a plan, and the comparison of planned with reported tokens.
//!
//! The estimate uses no measurement of an earlier run, so it is the same on every machine. The
//! assumption is that each session reads its prompt and its sources once. A change writes as many
//! tokens as the sources have, a report a few per cent of them. An evaluator reads the sources and
//! the work. Agents explore and retry, so the real cost is higher.

use super::job_file::LoadedJob;
use crate::agent::preset::{COMMAND, Preset};
use crate::domain::plan::Plan;
use crate::domain::session::{Cost, Tokens};
use crate::domain::state::{Phase, RunState};
use crate::job::{JobKind, TokenBudget};
use crate::planning;
use crate::ui::human;

/// Tokens that a model writes in a second. An assumption, shown with the estimate.
const TOKENS_PER_SECOND: u64 = 50;

/// The time that a session takes for anything but writing (start, reading, checks), in
/// milliseconds.
const OVERHEAD_MS: u64 = 20_000;

/// The tokens that an evaluator writes. An assumption.
const EVALUATION_OUTPUT: u64 = 500;

/// Returns the number of tokens that a session writes for sources of this size.
fn written_tokens(kind: JobKind, sources: u64) -> u64 {
    match kind {
        JobKind::Change => sources,
        // A finding has about a hundred tokens, and there is one for some hundred lines.
        JobKind::Report => sources * 4 / 100,
    }
}

/// Returns the tokens that one session of each task takes, and the tokens that one evaluation of
/// each task takes.
fn session_tokens(plan: &Plan, kind: JobKind, prompt: u64) -> (Tokens, Tokens) {
    let count = plan.tasks.len() as u64;
    let sources: u64 = plan.tasks.iter().map(|task| task.tokens).sum();
    let output = written_tokens(kind, sources);
    let agents = Tokens { input: sources + prompt * count, output, ..Tokens::default() };
    let read = agents.input + output;
    (agents, Tokens { input: read, output: EVALUATION_OUTPUT * count, ..Tokens::default() })
}

/// Returns the cost of tokens at the price of a preset's model, or the reason why it is unknown.
fn cost(preset: &Preset, section: &str, model: Option<&str>, tokens: Tokens) -> PricedTokens {
    let Some(model) = model else {
        return PricedTokens::Unknown(format!("`[{section}] model` is not set"));
    };
    match preset.price(model).and_then(|price| price.cost(tokens)) {
        Some(cost) => PricedTokens::Known(cost, model.to_owned()),
        None => PricedTokens::Unknown(format!(
            "no price for {model} in `[presets.{}.prices]`",
            preset.name
        )),
    }
}

/// The cost of tokens.
enum PricedTokens {
    /// The cost, and the model whose price was used.
    Known(Cost, String),
    /// The reason why the cost is not known.
    Unknown(String),
}

/// Formats the estimate for people. `prompt` is the number of tokens of one task's prompt.
pub(super) fn text(job: &LoadedJob, plan: &Plan, prompt: u64) -> String {
    let kind = job.job.job.kind;
    let (agents, evaluators) = session_tokens(plan, kind, prompt);
    let agent_cost = cost(&job.preset, "agent", job.job.agent.model.as_deref(), agents);
    let evaluator = job.job.evaluate.as_ref().zip(job.evaluator.as_ref());
    let evaluator_cost =
        evaluator.filter(|(_, preset)| preset.name != COMMAND).map(|(section, preset)| {
            cost(preset, "evaluate", section.agent.model.as_deref(), evaluators)
        });
    let cost = match (agent_cost, evaluator_cost) {
        (PricedTokens::Unknown(why), _) | (_, Some(PricedTokens::Unknown(why))) => {
            format!("unknown cost ({why})")
        }
        (PricedTokens::Known(cost, model), None) => format!("{cost} at the price of {model}"),
        (PricedTokens::Known(cost, model), Some(PricedTokens::Known(more, evaluator_model))) => {
            let total = Cost(cost.0.saturating_add(more.0));
            format!("{total} at the prices of {model} and, for the evaluator, {evaluator_model}")
        }
    };
    let tokens = match evaluator {
        Some(_) => agents.plus(evaluators),
        None => agents,
    };
    let jobs = job.job.limits.jobs;
    let evaluation_ms =
        evaluator.map_or(0, |_| OVERHEAD_MS + EVALUATION_OUTPUT * 1_000 / TOKENS_PER_SECOND);
    let duration = planning::makespan(plan, jobs, &|task| {
        OVERHEAD_MS + written_tokens(kind, task.tokens) * 1_000 / TOKENS_PER_SECOND + evaluation_ms
    });
    let assumed = match kind {
        JobKind::Change => "as many tokens as the sources have",
        JobKind::Report => "4 % of the sources' tokens",
    };
    format!(
        "at least {} tokens read and {} written, {cost}, and {} with {} at a time (if each session reads its prompt and sources \
         once and writes {assumed}, at {TOKENS_PER_SECOND} tokens a second)",
        short(tokens.input),
        short(tokens.output),
        human::duration(duration),
        human::number(jobs, "agent"),
    )
}

/// Planned tokens compared with the tokens that sessions have reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PlannedVsReported {
    /// The number of tasks that are done after a single session, where the session reported its
    /// tokens.
    pub tasks: u64,
    /// Tokens planned for these sessions: the prompt, the sources, and the written tokens.
    pub planned: u64,
    /// Input tokens that these sessions reported, with tokens written to a cache but without tokens
    /// read from a cache.
    pub reported: u64,
    /// The `token-factor` at which both numbers would be equal, in thousandths.
    pub factor: u64,
}

impl PlannedVsReported {
    /// Compares the sums of a run. Returns `None` if one of the sums is zero. `prompt` is the
    /// number of tokens of one task's prompt, by the model's count.
    pub(super) fn of(
        state: &RunState,
        kind: JobKind,
        budget: TokenBudget,
        prompt: u64,
    ) -> Option<Self> {
        let mut sums = Self { tasks: 0, planned: 0, reported: 0, factor: 0 };
        for task in state.tasks.planned() {
            let Some(task_state) = state.tasks.get(&task.id) else { continue };
            if task_state.phase != Phase::Done
                || task_state.attempt != 1
                || task_state.spend.sessions_with_tokens != 1
            {
                continue;
            }
            sums.tasks += 1;
            sums.planned += prompt + task.tokens + written_tokens(kind, task.tokens);
            sums.reported += task_state.spend.tokens.input + task_state.spend.tokens.cache_write;
        }
        if sums.planned == 0 || sums.reported == 0 {
            return None;
        }
        sums.factor = budget.factor * sums.reported / sums.planned;
        Some(sums)
    }

    /// Formats the comparison for people.
    pub(super) fn text(self, budget: TokenBudget) -> String {
        let factor =
            |thousandths: u64| format!("{}.{:02}", thousandths / 1_000, thousandths % 1_000 / 10);
        format!(
            "{} planned, {} read in {} of one session each; `token-factor = {}` would have matched (it was {})",
            short(self.planned),
            short(self.reported),
            human::number(usize::try_from(self.tasks).unwrap_or(usize::MAX), "task"),
            factor(self.factor),
            factor(budget.factor),
        )
    }
}

/// Abbreviates a count, such as `812`, `61k` or `4.2M`.
fn short(count: u64) -> String {
    match count {
        0..=9_999 => count.to_string(),
        10_000..=999_999 => format!("{}k", count / 1_000),
        _ => format!("{}.{}M", count / 1_000_000, count / 100_000 % 10),
    }
}

#[cfg(test)]
mod tests {
    use super::{PlannedVsReported, session_tokens};
    use crate::domain::id::{RunId, TaskId};
    use crate::domain::plan::{Plan, Task};
    use crate::domain::session::{Tokens, Usage};
    use crate::domain::state::{Phase, RunState, TaskState};
    use crate::job::{JobKind, TokenBudget};

    #[test]
    fn comparison_counts_tasks_of_one_session_only() {
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
        assert_eq!(PlannedVsReported::of(&state, JobKind::Change, budget, 2_000), None);
        for (name, attempt) in [("a", 1), ("b", 1), ("c", 2)] {
            let mut s = TaskState { phase: Phase::Done, attempt, ..TaskState::default() };
            let tokens =
                Tokens { input: 5_000, output: 900, cache_read: 90_000, cache_write: 10_000 };
            s.spend.add(Usage { tokens: Some(tokens), cost: None });
            state.tasks.set(&TaskId::parse(name).unwrap(), s);
        }
        // Task c needed two attempts and is left out.
        let compared = PlannedVsReported::of(&state, JobKind::Change, budget, 2_000).unwrap();
        assert_eq!((compared.tasks, compared.planned, compared.reported), (2, 20_000, 30_000));
        assert_eq!(compared.factor, 1_725);
        assert_eq!(
            compared.text(budget),
            "20k planned, 30k read in 2 tasks of one session each; `token-factor = 1.72` would have matched (it was 1.15)"
        );
    }

    #[test]
    fn report_writes_a_few_per_cent_of_its_sources_and_its_evaluator_reads_them_again() {
        let task = Task {
            id: TaskId::parse("a").unwrap(),
            files: vec!["a".into()],
            after: Vec::new(),
            lines: 1,
            tokens: 10_000,
            level: 0,
            vars: String::new(),
        };
        let plan = Plan { tasks: vec![task] };
        let (change, _) = session_tokens(&plan, JobKind::Change, 1_000);
        assert_eq!((change.input, change.output), (11_000, 10_000));
        let (report, evaluator) = session_tokens(&plan, JobKind::Report, 1_000);
        assert_eq!((report.input, report.output), (11_000, 400));
        assert_eq!((evaluator.input, evaluator.output), (11_400, 500));
    }

    #[test]
    fn large_token_counts_are_abbreviated() {
        let texts = [812, 61_234, 4_250_000, 999_999].map(super::short);
        assert_eq!(texts, ["812", "61k", "4.2M", "999k"]);
    }
}
