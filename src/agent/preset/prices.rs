//! Prices of tokens, for programs that report tokens and no cost.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::domain::session::{Cost, Tokens};

/// US dollars per million tokens. A kind of tokens without a price costs as much as `input`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Price {
    /// Input tokens.
    pub input: f64,
    /// Output tokens.
    pub output: f64,
    /// Tokens read from the cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_read: Option<f64>,
    /// Tokens written to the cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write: Option<f64>,
}

impl Price {
    /// Returns the cost of tokens.
    #[expect(clippy::cast_precision_loss, reason = "no session has 2^53 tokens")]
    pub(crate) fn cost(&self, tokens: Tokens) -> Option<Cost> {
        let part = |count: u64, price: f64| count as f64 * price / 1e6;
        Cost::from_usd(
            part(tokens.input, self.input)
                + part(tokens.output, self.output)
                + part(tokens.cache_read, self.cache_read.unwrap_or(self.input))
                + part(tokens.cache_write, self.cache_write.unwrap_or(self.input)),
        )
    }

    /// Returns true if no price is negative or infinite.
    pub(super) fn is_valid(&self) -> bool {
        let numbers = [Some(self.input), Some(self.output), self.cache_read, self.cache_write];
        numbers.into_iter().flatten().all(|n| n.is_finite() && n >= 0.0)
    }
}

/// Finds the price of a model.
///
/// The model's name may have a provider as prefix, and a date or a variant in brackets as suffix. A
/// model whose name merely begins with the name of another model is a different model.
pub(super) fn find<'p>(prices: &'p BTreeMap<String, Price>, model: &str) -> Option<&'p Price> {
    let name = model.rsplit('/').next().unwrap_or(model);
    let is_ignored_suffix = |suffix: &str| {
        let suffix = suffix.split_once('[').map_or(suffix, |(suffix, _)| suffix);
        let date = suffix.strip_prefix(['-', '@']).unwrap_or(suffix);
        date.is_empty()
            || date == "latest"
            || (date.len() >= 8 && date.chars().all(|c| c.is_ascii_digit() || c == '-'))
    };
    prices
        .iter()
        .filter(|(key, _)| {
            *key == model || name.strip_prefix(key.as_str()).is_some_and(is_ignored_suffix)
        })
        .max_by_key(|(key, _)| key.len())
        .map(|(_, price)| price)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn price_of_a_model_is_found_by_name_with_provider_and_date() {
        let price = |input| Price { input, output: 0.0, cache_read: None, cache_write: None };
        let prices: BTreeMap<String, Price> =
            [("gpt-5", 1.0), ("gpt-5-mini", 2.0), ("claude-opus-4-8", 3.0)]
                .map(|(name, input)| (name.to_owned(), price(input)))
                .into();
        for (model, input) in [
            ("gpt-5", Some(1.0)),
            ("openai/gpt-5-2026-08-07", Some(1.0)),
            ("gpt-5-mini", Some(2.0)),
            ("gpt-5-nano", None),
            ("gpt-51", None),
            ("claude-opus-4-8[1m]", Some(3.0)),
            ("claude-opus-4-8@20260101", Some(3.0)),
        ] {
            assert_eq!(find(&prices, model).map(|price| price.input), input, "{model}");
        }
    }

    #[test]
    fn tokens_without_a_price_cost_as_much_as_input() {
        let price = Price { input: 2.0, output: 8.0, cache_read: Some(0.5), cache_write: None };
        let tokens = Tokens {
            input: 1_000_000,
            output: 500_000,
            cache_read: 2_000_000,
            cache_write: 1_000_000,
        };
        assert_eq!(price.cost(tokens), Cost::from_usd(2.0 + 4.0 + 1.0 + 2.0));
    }
}
