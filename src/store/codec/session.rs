//! Trailers about a task's session and the usage of its attempts. A number has a name, as in
//! `input=12 output=3`.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};

use super::{Trailers, one_line};
use crate::domain::session::{Cost, Session, Spend, Tokens, Usage};
use crate::domain::state::TaskState;

/// A number with its name.
type Named = (&'static str, u64);

/// Returns named numbers as text.
fn numbers(numbers: &[Named]) -> String {
    let mut text = String::new();
    for (name, number) in numbers {
        let space = if text.is_empty() { "" } else { " " };
        // Writing to a String cannot fail.
        write!(text, "{space}{name}={number}").ok();
    }
    text
}

/// Reads the numbers of a trailer. The function `set` takes a name and a number.
fn read_numbers(text: &str, mut set: impl FnMut(&str, u64)) -> Result<()> {
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        let number = word
            .split_once('=')
            .and_then(|(name, number)| Some((name, number.parse::<u64>().ok()?)));
        let (name, number) = number.with_context(|| format!("no number in {text:?}: {word:?}"))?;
        set(name, number);
    }
    Ok(())
}

fn token_numbers(tokens: &Tokens) -> [Named; 4] {
    [
        ("input", tokens.input),
        ("output", tokens.output),
        ("cache_read", tokens.cache_read),
        ("cache_write", tokens.cache_write),
    ]
}

fn set_tokens(tokens: &mut Tokens, name: &str, number: u64) {
    match name {
        "input" => tokens.input = number,
        "output" => tokens.output = number,
        "cache_read" => tokens.cache_read = number,
        "cache_write" => tokens.cache_write = number,
        _ => {}
    }
}

/// The name of a cost in billionths of a US dollar.
const COST: &str = "cost_nano_usd";

fn usage_numbers(usage: &Usage) -> Option<String> {
    let mut named: Vec<Named> = Vec::new();
    named.extend(usage.tokens.as_ref().map(token_numbers).into_iter().flatten());
    named.extend(usage.cost.map(|cost| (COST, cost.0)));
    (!named.is_empty()).then(|| numbers(&named))
}

/// Returns the trailers about session and usage, without the prefix `Harness-`.
pub(super) fn write(after: &TaskState) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    if let Some(session) = &after.session {
        lines.push(("Session", one_line(&session.id)));
        lines.push(("Session-Worktree", one_line(&session.worktree)));
        lines.push(("Session-Owner", one_line(&session.owner)));
        lines.extend(usage_numbers(&session.counted).map(|text| ("Session-Counted", text)));
    }
    for (key, spend) in [("Spend", after.spend), ("Evaluation-Spend", after.evaluation.spend)] {
        if spend != Spend::default() {
            let mut named = token_numbers(&spend.tokens).to_vec();
            named.extend([
                (COST, spend.cost.0),
                ("sessions_with_tokens", spend.sessions_with_tokens.into()),
                ("sessions_without_tokens", spend.sessions_without_tokens.into()),
                ("sessions_with_cost", spend.sessions_with_cost.into()),
                ("sessions_without_cost", spend.sessions_without_cost.into()),
            ]);
            lines.push((key, numbers(&named)));
        }
    }
    lines.extend(usage_numbers(&after.written_off).map(|text| ("Written-Off", text)));
    lines
}

/// Reads the session.
pub(super) fn read(map: &Trailers<'_>) -> Result<Option<Session>> {
    let text = |key: &str| map.get(key).map(|v| (*v).to_owned());
    let (Some(id), Some(worktree), Some(owner)) =
        (text("Harness-Session"), text("Harness-Session-Worktree"), text("Harness-Session-Owner"))
    else {
        return Ok(None);
    };
    let counted = read_usage(map, "Harness-Session-Counted")?;
    Ok(Some(Session { id, worktree, owner, counted }))
}

/// Reads a usage. Tokens or a cost that the trailer does not name were not reported.
pub(super) fn read_usage(map: &Trailers<'_>, key: &str) -> Result<Usage> {
    let mut usage = Usage::default();
    let Some(text) = map.get(key) else { return Ok(usage) };
    read_numbers(text, |name, number| match name {
        COST => usage.cost = Some(Cost(number)),
        _ => set_tokens(usage.tokens.get_or_insert_default(), name, number),
    })?;
    Ok(usage)
}

/// Reads the spending of all attempts or of all evaluations.
pub(super) fn read_spend(map: &Trailers<'_>, key: &str) -> Result<Spend> {
    let mut spend = Spend::default();
    let Some(text) = map.get(key) else { return Ok(spend) };
    read_numbers(text, |name, number| {
        let count = u32::try_from(number).unwrap_or(u32::MAX);
        match name {
            COST => spend.cost = Cost(number),
            "sessions_with_tokens" => spend.sessions_with_tokens = count,
            "sessions_without_tokens" => spend.sessions_without_tokens = count,
            "sessions_with_cost" => spend.sessions_with_cost = count,
            "sessions_without_cost" => spend.sessions_without_cost = count,
            _ => set_tokens(&mut spend.tokens, name, number),
        }
    })?;
    Ok(spend)
}
