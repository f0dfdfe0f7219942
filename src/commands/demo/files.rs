//! The demo's project, embedded. A test compares this list with the folder `fixtures/demo`.

/// Embeds files below `fixtures/demo` by their paths.
macro_rules! files {
    ($($path:literal),* $(,)?) => {
        &[$(($path, include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/demo/", $path)))),*]
    };
}

/// Every file: path and text.
pub(super) const FILES: &[(&str, &str)] = files![
    ".harness/agent.sh",
    ".harness/check-esm.sh",
    "README.md",
    "harness.toml",
    "package.json",
    "src/collections/group.js",
    "src/collections/range.js",
    "src/collections/sort.js",
    "src/dates/calendar.js",
    "src/dates/due.js",
    "src/dates/iso.js",
    "src/dates/shift.js",
    "src/index.js",
    "src/invoices/invoice.js",
    "src/invoices/ledger.js",
    "src/invoices/line.js",
    "src/invoices/render.js",
    "src/invoices/tax.js",
    "src/money/allocate.js",
    "src/money/currency.js",
    "src/money/format.js",
    "src/money/money.js",
    "src/money/rounding.js",
    "src/parse/csv.js",
    "src/parse/number.js",
    "src/parse/terms.js",
    "src/text/escape.js",
    "src/text/pad.js",
    "src/text/table.js",
    "src/vendor/fnv1a.js",
    "tests/invoices.test.mjs",
    "tests/money.test.mjs",
];

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    fn below(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { below(&path, found) } else { found.push(path) }
        }
    }

    #[test]
    fn every_file_of_the_demo_is_embedded() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/demo");
        let mut found = Vec::new();
        below(&root, &mut found);
        let mut on_disk: Vec<_> = found
            .iter()
            .map(|p| p.strip_prefix(&root).unwrap().to_string_lossy().into_owned())
            .collect();
        on_disk.sort();
        let mut embedded: Vec<_> = super::FILES.iter().map(|(p, _)| (*p).to_owned()).collect();
        embedded.sort();
        assert_eq!(on_disk, embedded);
    }
}
