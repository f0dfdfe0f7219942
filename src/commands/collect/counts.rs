//! Counts of collected items by severity, rule and folder.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::wire::cli::CollectCounts;

/// Counts the items by their `severity`, their `rule` and the folder of their `file`.
pub(super) fn count(items: &[Value]) -> CollectCounts {
    let mut counts = CollectCounts { items: items.len(), ..CollectCounts::default() };
    let text = |item: &Value, key: &str| item.get(key).and_then(Value::as_str).map(str::to_owned);
    let add = |counts: &mut BTreeMap<String, usize>, key: Option<String>| {
        if let Some(key) = key {
            *counts.entry(key).or_default() += 1;
        }
    };
    for item in items {
        add(&mut counts.severity, text(item, "severity"));
        add(&mut counts.rule, text(item, "rule"));
        let folder =
            |file: String| file.rsplit_once('/').map_or(".", |(folder, _)| folder).to_owned();
        add(&mut counts.folder, text(item, "file").map(folder));
    }
    counts
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn items_are_counted_by_severity_rule_and_folder() {
        let items = [
            json!({"file": "src/a/x.js", "severity": "high", "rule": "race"}),
            json!({"file": "src/a/y.js", "severity": "low"}),
            json!({"file": "top.js", "severity": "high"}),
            json!(7),
        ];
        let counts = count(&items);
        assert_eq!(counts.items, 4);
        assert_eq!(json!(counts.severity), json!({"high": 2, "low": 1}));
        assert_eq!(json!(counts.rule), json!({"race": 1}));
        assert_eq!(json!(counts.folder), json!({"src/a": 2, ".": 1}));
    }
}
