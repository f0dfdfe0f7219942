//! What tokens cost, for programs that report tokens and no money.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::domain::session::{Cost, Tokens};

/// US dollars for a million tokens. A kind without a price costs what `input` does.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Price {
    /// For reading.
    pub input: f64,
    /// For writing.
    pub output: f64,
    /// For reading from the cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_read: Option<f64>,
    /// For writing to the cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write: Option<f64>,
}

impl Price {
    /// What so many tokens cost.
    #[expect(clippy::cast_precision_loss, reason = "no session has 2^53 tokens")]
    pub(crate) fn of(&self, tokens: Tokens) -> Option<Cost> {
        let part = |count: u64, price: f64| count as f64 * price / 1e6;
        Cost::from_usd(
            part(tokens.input, self.input)
                + part(tokens.output, self.output)
                + part(tokens.cache_read, self.cache_read.unwrap_or(self.input))
                + part(tokens.cache_write, self.cache_write.unwrap_or(self.input)),
        )
    }

    /// Whether every number is an amount.
    pub(super) fn is_sound(&self) -> bool {
        let numbers = [Some(self.input), Some(self.output), self.cache_read, self.cache_write];
        numbers.into_iter().flatten().all(|n| n.is_finite() && n >= 0.0)
    }
}

/// The price of a model. Its name may have a provider in front, and a date or a variant in brackets behind; another
/// model whose name merely begins the same way is another model.
pub(super) fn find<'p>(prices: &'p BTreeMap<String, Price>, model: &str) -> Option<&'p Price> {
    let name = model.rsplit('/').next().unwrap_or(model);
    let bare = |rest: &str| {
        let rest = rest.split_once('[').map_or(rest, |(rest, _)| rest);
        let date = rest.strip_prefix(['-', '@']).unwrap_or(rest);
        date.is_empty()
            || date == "latest"
            || (date.len() >= 8 && date.chars().all(|c| c.is_ascii_digit() || c == '-'))
    };
    prices
        .iter()
        .filter(|(key, _)| *key == model || name.strip_prefix(key.as_str()).is_some_and(bare))
        .max_by_key(|(key, _)| key.len())
        .map(|(_, price)| price)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_found_by_its_name_and_no_other() {
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
    fn kinds_without_a_price_are_read() {
        let price = Price { input: 2.0, output: 8.0, cache_read: Some(0.5), cache_write: None };
        let tokens = Tokens {
            input: 1_000_000,
            output: 500_000,
            cache_read: 2_000_000,
            cache_write: 1_000_000,
        };
        assert_eq!(price.of(tokens), Cost::from_usd(2.0 + 4.0 + 1.0 + 2.0));
    }
}
