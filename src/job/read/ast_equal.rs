//! The table `ast-equal = { … }` of a check.

use super::super::errors::ValueError;
use super::super::globs::PathGlobs;
use super::super::schema::AstEqualCheck;
use super::super::section::Section;
use super::checked;
use crate::contract::ast_equal::AstEqualOptions;

/// Reads `ast-equal` of a check, and refuses keys that cannot be used with it.
pub(super) fn ast_equal(check: &Section<'_>) -> Option<AstEqualCheck> {
    for (key, why) in [
        ("run", "make two checks of them"),
        ("version", "the version of the comparison is part of the verdict's key by itself"),
        ("timeout", "a built-in check has no limit"),
    ] {
        if let Some(value) = check.find(key) {
            let error = ValueError::new("cannot be used together with `ast-equal`").hint(why);
            check.add_error(value.span().start, key, error);
        }
    }
    let section = check.section("ast-equal");
    section.table()?;
    let glob = |key: &'static str| {
        if section.find(key).is_none() {
            section.missing(key, "write it like `{ from = \"**/*.js\", to = \"**/*.ts\" }`");
        }
        let pattern = section.text(key)?;
        checked(&section, key, pattern, PathGlobs::new(&[pattern.text]))
    };
    let (from, to) = (glob("from"), glob("to"));
    let defaults = AstEqualOptions::default();
    /// More occurrences of `any` than any file has.
    const MAX_ANY: u64 = 1_000_000;
    let options = AstEqualOptions {
        extensions: section.flag("extensions", defaults.extensions),
        type_imports: section.flag("type-imports", defaults.type_imports),
        define_fields: section.flag("define-fields", defaults.define_fields),
        ts_comments: section.flag("allow-ts-comments", defaults.ts_comments),
        max_any: section.whole("max-any", 0..=MAX_ANY).and_then(|(n, _)| usize::try_from(n).ok()),
    };
    Some(AstEqualCheck { from: from?, to: to?, options })
}
