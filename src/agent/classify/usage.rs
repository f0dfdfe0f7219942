//! The tokens and the cost of a session, from the session's own reports.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::stream_content::StreamContent;
use crate::agent::preset::pattern::Pointer;
use crate::agent::preset::{Preset, PresetUsage, TokenPointers, UsageScope};
use crate::domain::session::{Cost, Tokens, Usage};

/// The usage that a session reported.
#[derive(Debug, Default)]
pub(super) struct UsageReport {
    pub(super) usage: Usage,
    /// True if the usage covers all invocations of the thread.
    pub(super) cumulative: bool,
}

/// Reads the usage. If the session reported no cost, the cost is computed with the preset's prices.
pub(super) fn read(preset: &Preset, stdout: &StreamContent) -> UsageReport {
    let Some(rule) = &preset.usage else {
        return UsageReport::default();
    };
    let mut usage = match &rule.line {
        Some(line) => usage_in_lines(rule, line.regex(), &stdout.plain),
        None => usage_in_events(rule, &stdout.events),
    };
    let used_tokens = usage.tokens.is_some_and(|tokens| tokens.total() > 0);
    // A cost of zero for used tokens means that the program knows no price for the model.
    usage.cost = usage.cost.filter(|cost| cost.0 > 0 || !used_tokens);
    if usage.cost.is_none()
        && let Some(tokens) = usage.tokens
    {
        let model_in = |event| preset.output.model.iter().find_map(|pointer| pointer.text(event));
        let reported_model = stdout.events.iter().find_map(model_in);
        let models = [preset.model.as_deref(), reported_model].into_iter().flatten();
        let mut prices = models.filter_map(|model| preset.price(model));
        usage.cost = prices.find_map(|price| price.cost(tokens));
    }
    UsageReport { usage, cumulative: rule.scope == UsageScope::ThreadCumulative }
}

fn usage_in_events(rule: &PresetUsage, events: &[Value]) -> Usage {
    let add_all = rule.scope == UsageScope::SumOfSteps;
    let mut tokens: Option<Tokens> = None;
    // The first entry with a count above zero applies. Without one, a count of zero is kept,
    // because zero differs from unknown.
    let mut counted_to = 0;
    for pointers in rule.counted.iter().filter(|pointers| pointers.each.is_none()) {
        let reports = events.iter().enumerate();
        let reports = reports.filter(|(_, event)| pointers.when.matches(event));
        let mut counts = reports
            .filter_map(|(index, event)| Some((index, tokens_of_event(rule, pointers, event)?)));
        let (index, count) = if add_all {
            let sum = counts.reduce(|(_, sum), (index, count)| (index, sum.plus(count)));
            sum.map(|(index, count)| (index + 1, count)).unzip()
        } else {
            counts.next_back().map(|(index, count)| (index + 1, count)).unzip()
        };
        if count.is_some_and(|count| count.total() > 0) {
            counted_to = index.unwrap_or(0);
            tokens = count;
            break;
        }
        tokens = tokens.or(count);
    }
    // The session may have broken off before its final report, or continued after the report.
    let messages = tokens_of_messages(rule, events, counted_to);
    tokens = match (tokens, messages) {
        (Some(tokens), Some(messages)) => Some(tokens.plus(messages)),
        (tokens, messages) => tokens.or(messages),
    };
    let mut costs = rule.cost.iter().flat_map(|pointer| {
        events.iter().filter_map(|event| Cost::from_usd(pointer.first(event)?.as_f64()?))
    });
    let cost = if add_all {
        costs.reduce(|sum, cost| Cost(sum.0.saturating_add(cost.0)))
    } else {
        costs.next_back()
    };
    Usage { tokens, cost }
}

/// Adds the counts of all messages after the event with the index `from`, once for each message.
/// Returns `None` if no message has counts.
fn tokens_of_messages(rule: &PresetUsage, events: &[Value], from: usize) -> Option<Tokens> {
    let mut messages: BTreeMap<&str, Tokens> = BTreeMap::new();
    let each = rule.counted.iter().filter_map(|pointers| Some((pointers, pointers.each.as_ref()?)));
    for (pointers, id) in each {
        let counted: BTreeSet<&str> =
            events[..from].iter().filter_map(|event| id.text(event)).collect();
        for event in &events[from..] {
            let Some(message) = id.text(event).filter(|id| !counted.contains(*id)) else {
                continue;
            };
            if pointers.when.matches(event)
                && let Some(tokens) = tokens_of_event(rule, pointers, event)
            {
                messages.insert(message, tokens);
            }
        }
    }
    messages.into_values().reduce(Tokens::plus)
}

/// Returns the counts of an event. Returns `None` if the event has no counts.
fn tokens_of_event(rule: &PresetUsage, pointers: &TokenPointers, event: &Value) -> Option<Tokens> {
    let sum = |pointer: &Pointer| -> u64 {
        pointer.all(event).into_iter().filter_map(token_count).fold(0, u64::saturating_add)
    };
    let all = [&pointers.cache_read, &pointers.cache_write, &pointers.total];
    let all = all.into_iter().flatten().chain([&pointers.input]).chain(&pointers.output);
    if all.flat_map(|pointer| pointer.all(event)).all(|value| token_count(value).is_none()) {
        return None;
    }
    let cache_read = pointers.cache_read.as_ref().map_or(0, sum);
    let cache_write = pointers.cache_write.as_ref().map_or(0, sum);
    let input = sum(&pointers.input);
    let mut output = pointers.output.iter().map(sum).fold(0, u64::saturating_add);
    // The total counts tokens that `output` lacks: `TokenPointers::total`.
    if let Some(total) = &pointers.total {
        output = output.max(sum(total).saturating_sub(input));
    }
    Some(without_cached_input(rule, Tokens { input, output, cache_read, cache_write }))
}

/// Reads a token count from JSON. A fraction is cut off.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the range is checked first"
)]
fn token_count(value: &Value) -> Option<u64> {
    let float = || value.as_f64().filter(|n| (0.0..1e15).contains(n)).map(|n| n as u64);
    value.as_u64().or_else(float)
}

/// Subtracts cached tokens from the input if the program counts them as input.
fn without_cached_input(rule: &PresetUsage, tokens: Tokens) -> Tokens {
    if !rule.input_has_cache {
        return tokens;
    }
    let cached = tokens.cache_read.saturating_add(tokens.cache_write);
    Tokens { input: tokens.input.saturating_sub(cached), ..tokens }
}

/// Adds the usage in all matching lines of text.
fn usage_in_lines(rule: &PresetUsage, line: &regex::Regex, plain: &str) -> Usage {
    let mut usage = Usage::default();
    for captures in line.captures_iter(plain) {
        let count =
            |name| captures.name(name).and_then(|m| abbreviated_count(m.as_str())).unwrap_or(0);
        let tokens = Tokens {
            input: count("input"),
            output: count("output"),
            cache_read: count("cache_read"),
            cache_write: count("cache_write"),
        };
        let tokens = without_cached_input(rule, tokens);
        usage.tokens = Some(usage.tokens.unwrap_or_default().plus(tokens));
        let usd = captures.name("cost").and_then(|m| m.as_str().trim_end_matches('.').parse().ok());
        if let Some(cost) = usd.and_then(Cost::from_usd) {
            usage.cost = Some(Cost(usage.cost.unwrap_or_default().0.saturating_add(cost.0)));
        }
    }
    usage
}

/// Parses `1,234`, `2.5k` and `1M`.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the range is checked first"
)]
fn abbreviated_count(text: &str) -> Option<u64> {
    let text = text.replace(',', "");
    let (digits, factor) = match text.strip_suffix(['k', 'K']) {
        Some(digits) => (digits, 1e3),
        None => text.strip_suffix(['m', 'M']).map_or((text.as_str(), 1.0), |digits| (digits, 1e6)),
    };
    let number = digits.parse::<f64>().ok()? * factor;
    (0.0..1e15).contains(&number).then(|| number.round() as u64)
}
