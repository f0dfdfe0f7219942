//! Import facts: the statements of a source file that name modules or other files.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

/// A statement of a source file that names a module or another file.
///
/// A fact depends on the content of the file alone, so facts are cached by blob id. The file that a
/// fact leads to depends on the whole tree and is resolved for each plan. The serialized form is
/// part of the plan cache: a change of this type needs a new cache version.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ImportFact {
    /// The specifier of a JavaScript `import`, `export … from` or `import()`, or of a TypeScript
    /// import type.
    Import(String),
    /// The specifier of a JavaScript `require()`.
    Require(String),
    /// The dotted name of a Python `import a.b`.
    PythonModule(String),
    /// The module, with its leading dots, and the name of a Python `from ..a import b`.
    PythonName(String, String),
    /// The path of a Rust `mod b;` inside `mod a { … }`: `a::b`.
    RustModule(String),
    /// The path of a Rust module, and the file that its `#[path]` attribute names.
    RustModuleFile(String, String),
    /// The inline module around a Rust path (`a::b`, or empty), and the path: `crate::x::y`.
    RustPath(String, String),
    /// The name of a Rust `extern crate`.
    RustExternCrate(String),
}

/// The facts of files by path. A file that could not be parsed is absent.
pub(super) type FactsByPath = HashMap<String, Vec<ImportFact>>;

/// Facts in a short notation for the tables of tests: `i:./x`, `a.b:c`, `m:a::b`, `u:a|crate::x`.
#[cfg(test)]
pub(super) fn short(facts: &[ImportFact]) -> String {
    let text = |fact: &ImportFact| match fact {
        ImportFact::Import(specifier) => format!("i:{specifier}"),
        ImportFact::Require(specifier) => format!("r:{specifier}"),
        ImportFact::PythonModule(module) => module.clone(),
        ImportFact::PythonName(module, name) => format!("{module}:{name}"),
        ImportFact::RustModule(path) => format!("m:{path}"),
        ImportFact::RustModuleFile(path, file) => format!("p:{path}={file}"),
        ImportFact::RustPath(inside, path) => format!("u:{inside}|{path}"),
        ImportFact::RustExternCrate(name) => format!("e:{name}"),
    };
    facts.iter().map(text).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serialized_form_is_stable() {
        let facts = [
            ImportFact::Import("./x".into()),
            ImportFact::PythonName("..a".into(), "b".into()),
            ImportFact::RustModuleFile("a::b".into(), "x.rs".into()),
        ];
        let json = r#"[{"import":"./x"},{"python-name":["..a","b"]},{"rust-module-file":["a::b","x.rs"]}]"#;
        assert_eq!(serde_json::to_string(&facts).unwrap(), json);
        assert_eq!(serde_json::from_str::<Vec<ImportFact>>(json).unwrap(), facts);
    }
}
