//! What a plan costs at least, and how long it takes: what a person wants to know before spending money.
//!
//! The estimate is the same on every machine: nothing that earlier runs have measured is in it. Each session is taken to
//! read its prompt and its sources once and to write as much as the sources are. Agents look around and try again, so that
//! is the least.

use super::jobfile;
use crate::domain::plan::Plan;
use crate::domain::session::Tokens;
use crate::planning;
use crate::ui::human;

/// How many tokens a model writes in a second: an assumption, which is told with the estimate.
const SPEED: u64 = 50;

/// Milliseconds beside the writing: reading, starting, being checked.
const REST: u64 = 20_000;

/// The estimate in a sentence or two. `prompt` is how many tokens a prompt has.
#[must_use]
pub fn words(found: &jobfile::Found, plan: &Plan, prompt: u64) -> String {
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
    #[test]
    fn large_numbers_are_short() {
        let said = [812, 61_234, 4_250_000, 999_999].map(super::short);
        assert_eq!(said, ["812", "61k", "4.2M", "999k"]);
    }
}
