//! What a session used, from its own report.

use serde_json::Value;

use super::stream_content::StreamContent;
use crate::agent::preset::pattern::Pointer;
use crate::agent::preset::{Preset, PresetUsage, TokenPointers, UsageScope};
use crate::domain::session::{Cost, Tokens, Usage};

/// What was used, and since when that counts.
#[derive(Debug, Default)]
pub(super) struct UsageReport {
    pub(super) usage: Usage,
    pub(super) cumulative: bool,
}

/// Reads what was used. Money that is not told is what the preset's prices make of the tokens.
pub(super) fn read(preset: &Preset, out: &StreamContent) -> UsageReport {
    let Some(rule) = &preset.usage else {
        return UsageReport::default();
    };
    let mut usage = match &rule.line {
        Some(line) => in_lines(rule, line.regex(), &out.plain),
        None => in_events(rule, &out.events),
    };
    let used = usage.tokens.is_some_and(|tokens| tokens.total() > 0);
    // A program that does not know a price says that it was nothing.
    usage.cost = usage.cost.filter(|cost| cost.0 > 0 || !used);
    if usage.cost.is_none()
        && let Some(tokens) = usage.tokens
    {
        let told = out
            .events
            .iter()
            .find_map(|event| preset.output.model.iter().find_map(|pointer| pointer.text(event)));
        let model = [preset.model.as_deref(), told].into_iter().flatten();
        usage.cost =
            model.filter_map(|model| preset.price(model)).find_map(|price| price.of(tokens));
    }
    UsageReport { usage, cumulative: rule.scope == UsageScope::ThreadCumulative }
}

fn in_events(rule: &PresetUsage, events: &[Value]) -> Usage {
    let sum = rule.scope == UsageScope::SumOfSteps;
    let mut tokens: Option<Tokens> = None;
    for counted in &rule.counted {
        let mut found = events
            .iter()
            .filter(|event| counted.when.matches(event))
            .map(|e| count(rule, counted, e));
        let here = if sum { found.reduce(Tokens::plus) } else { found.next_back() };
        if here.is_some_and(|here| here.total() > 0) {
            tokens = here;
            break;
        }
        tokens = tokens.or(here);
    }
    let mut costs = rule.cost.iter().flat_map(|pointer| {
        events.iter().filter_map(|event| Cost::from_usd(pointer.first(event)?.as_f64()?))
    });
    let cost = if sum {
        costs.reduce(|all, one| Cost(all.0.saturating_add(one.0)))
    } else {
        costs.next_back()
    };
    Usage { tokens, cost }
}

fn count(rule: &PresetUsage, counted: &TokenPointers, event: &Value) -> Tokens {
    let sum = |pointer: &Pointer| -> u64 {
        pointer.all(event).into_iter().filter_map(whole).fold(0, u64::saturating_add)
    };
    let cache_read = counted.cache_read.as_ref().map_or(0, sum);
    let cache_write = counted.cache_write.as_ref().map_or(0, sum);
    let input = sum(&counted.input);
    let mut output = counted.output.iter().map(sum).fold(0, u64::saturating_add);
    if let Some(total) = &counted.total {
        output = output.max(sum(total).saturating_sub(input));
    }
    fresh(rule, Tokens { input, output, cache_read, cache_write })
}

/// A number that may be written with a fraction.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the range is looked at first"
)]
fn whole(value: &Value) -> Option<u64> {
    let float = || value.as_f64().filter(|n| (0.0..1e15).contains(n)).map(|n| n as u64);
    value.as_u64().or_else(float)
}

/// With the cache taken out of the input, where it is in it.
fn fresh(rule: &PresetUsage, tokens: Tokens) -> Tokens {
    if !rule.input_has_cache {
        return tokens;
    }
    let cached = tokens.cache_read.saturating_add(tokens.cache_write);
    Tokens { input: tokens.input.saturating_sub(cached), ..tokens }
}

/// Numbers in lines of text; all lines are added.
fn in_lines(rule: &PresetUsage, line: &regex::Regex, plain: &str) -> Usage {
    let mut usage = Usage::default();
    for captures in line.captures_iter(plain) {
        let count = |name| captures.name(name).and_then(|m| rounded(m.as_str())).unwrap_or(0);
        let tokens = Tokens {
            input: count("input"),
            output: count("output"),
            cache_read: count("cache_read"),
            cache_write: count("cache_write"),
        };
        usage.tokens = Some(usage.tokens.unwrap_or_default().plus(fresh(rule, tokens)));
        let usd = captures.name("cost").and_then(|m| m.as_str().trim_end_matches('.').parse().ok());
        if let Some(cost) = usd.and_then(Cost::from_usd) {
            usage.cost = Some(Cost(usage.cost.unwrap_or_default().0.saturating_add(cost.0)));
        }
    }
    usage
}

/// `1,234`, `2.5k` and `1M`.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the range is looked at first"
)]
fn rounded(text: &str) -> Option<u64> {
    let text = text.replace(',', "");
    let (digits, factor) = match text.strip_suffix(['k', 'K']) {
        Some(digits) => (digits, 1e3),
        None => text.strip_suffix(['m', 'M']).map_or((text.as_str(), 1.0), |digits| (digits, 1e6)),
    };
    let number = digits.parse::<f64>().ok()? * factor;
    (0.0..1e15).contains(&number).then(|| number.round() as u64)
}
