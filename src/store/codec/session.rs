//! The trailers of a task's tip that are about its session and what its attempts used.

use anyhow::{Context as _, Result};

use super::{Trailers, one_line};
use crate::domain::session::{Cost, Session, Spend, Usage};
use crate::domain::state::TaskState;
use crate::store::wire::{four, tokens};

fn numbers(numbers: &[u64]) -> String {
    numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(" ")
}

fn parse<const N: usize>(text: &str) -> Result<[u64; N]> {
    let parsed: Option<Vec<u64>> = text.split(' ').map(|n| n.parse().ok()).collect();
    let parsed = parsed.and_then(|n| <[u64; N]>::try_from(n).ok());
    parsed.with_context(|| format!("these are not {N} numbers: {text:?}"))
}

/// What a tip says of session and use.
pub(super) fn write(after: &TaskState) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    if let Some(session) = &after.session {
        lines.push(("Session", one_line(&session.id)));
        lines.push(("Session-Place", one_line(&session.worktree)));
        lines.push(("Session-Owner", one_line(&session.owner)));
        lines.extend(session.counted.tokens.map(|t| ("Session-Counted", numbers(&four(t)))));
        lines.extend(session.counted.cost.map(|c| ("Session-Counted-Cost", numbers(&[c.0]))));
    }
    for (key, s) in [("Spend", after.spend), ("Evaluation-Spend", after.evaluation.spend)] {
        if s != Spend::default() {
            let told = [
                s.sessions_with_tokens,
                s.sessions_without_tokens,
                s.sessions_with_cost,
                s.sessions_without_cost,
            ]
            .map(u64::from);
            let all = [&four(s.tokens)[..], &[s.cost.0], &told].concat();
            lines.push((key, numbers(&all)));
        }
    }
    lines.extend(after.written_off.tokens.map(|t| ("Excused", numbers(&four(t)))));
    lines.extend(after.written_off.cost.map(|c| ("Excused-Cost", numbers(&[c.0]))));
    lines
}

/// The session that a tip names.
pub(super) fn read(map: &Trailers<'_>) -> Result<Option<Session>> {
    let text = |key: &str| map.get(key).map(|v| (*v).to_owned());
    let (Some(id), Some(worktree), Some(owner)) =
        (text("Harness-Session"), text("Harness-Session-Place"), text("Harness-Session-Owner"))
    else {
        return Ok(None);
    };
    let counted = usage(map, "Harness-Session-Counted", "Harness-Session-Counted-Cost")?;
    Ok(Some(Session { id, worktree, owner, counted }))
}

/// What a tip says is charged to no budget.
pub(super) fn read_excused(map: &Trailers<'_>) -> Result<Usage> {
    usage(map, "Harness-Excused", "Harness-Excused-Cost")
}

fn usage(map: &Trailers<'_>, of_tokens: &str, of_cost: &str) -> Result<Usage> {
    let told = map.get(of_tokens).map(|v| parse(v)).transpose()?.map(tokens);
    let cost = map.get(of_cost).map(|v| parse::<1>(v)).transpose()?.map(|[nano]| Cost(nano));
    Ok(Usage { tokens: told, cost })
}

/// What a tip says was used.
pub(super) fn read_spend(map: &Trailers<'_>, key: &str) -> Result<Spend> {
    let Some(text) = map.get(key) else { return Ok(Spend::default()) };
    let [input, output, cache_read, cache_write, cost, rest @ ..] = parse::<9>(text)?;
    let [sessions_with_tokens, sessions_without_tokens, sessions_with_cost, sessions_without_cost] =
        rest.map(|n| u32::try_from(n).unwrap_or(u32::MAX));
    Ok(Spend {
        tokens: tokens([input, output, cache_read, cache_write]),
        cost: Cost(cost),
        sessions_with_tokens,
        sessions_without_tokens,
        sessions_with_cost,
        sessions_without_cost,
    })
}
