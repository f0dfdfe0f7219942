//! Imports and exports: equal programs with different spellings, and different programs with the
//! same spelling.

use std::collections::BTreeMap;

use super::erase::is_erased;
use super::tree::{AstNode, AstValue};

/// The syntax that makes a file a module.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct ModuleSyntax {
    /// True if there is an import or export of more than types.
    pub values: bool,
    /// True if there is an import or export of types only.
    pub types: bool,
}

/// Returns the module syntax of a program with types.
pub(super) fn module_syntax(program: &AstNode, options: &super::AstEqualOptions) -> ModuleSyntax {
    let mut syntax = ModuleSyntax::default();
    for node in program.get("body").list().iter().filter_map(AstValue::node) {
        if matches!(
            node.kind,
            "ImportDeclaration"
                | "ExportAllDeclaration"
                | "ExportNamedDeclaration"
                | "ExportDefaultDeclaration"
        ) {
            let flag =
                if is_erased(node, options) { &mut syntax.types } else { &mut syntax.values };
            *flag = true;
        }
    }
    syntax
}

/// Removes `export {}`, which only marks a file as a module, and returns the byte range of the
/// first such statement. See [`module_syntax`].
pub(super) fn remove_module_marks(program: &mut AstNode) -> Option<(usize, usize)> {
    let mut mark = None;
    if let Some(AstValue::List(body)) = program.get_mut("body") {
        body.retain(|value| {
            let empty = value.node().filter(|node| {
                node.kind == "ExportNamedDeclaration"
                    && node.get("declaration") == &AstValue::NULL
                    && node.get("source") == &AstValue::NULL
                    && node.get("specifiers").list().is_empty()
            });
            mark = mark.or(empty.map(|node| (node.start, node.end)));
            empty.is_none()
        });
    }
    mark
}

/// Moves the hashbang line to the statements, where it is compared and shown like a statement.
pub(super) fn move_hashbang_to_body(program: &mut AstNode) {
    let Some(line) = program.get_mut("hashbang") else { return };
    let line = std::mem::replace(line, AstValue::NULL);
    if let (AstValue::Node(_), Some(AstValue::List(body))) = (&line, program.get_mut("body")) {
        body.insert(0, line);
    }
}

/// Replaces the extension of every relative specifier by its family: `./a.js`, `./a.ts` and `./a`
/// are the same file before and after the migration; `./a.mjs` and `./a.cjs` are different files.
pub(super) fn unify_extensions(value: &mut AstValue) {
    match value {
        AstValue::Leaf(_) => {}
        AstValue::List(list) => list.iter_mut().for_each(unify_extensions),
        AstValue::Node(node) => {
            match node.kind {
                "ImportDeclaration"
                | "ImportExpression"
                | "ExportAllDeclaration"
                | "ExportNamedDeclaration" => {
                    node.get_mut("source").into_iter().for_each(unify_extension);
                }
                "CallExpression" if calls_require(node) => {
                    if let Some(AstValue::List(arguments)) = node.get_mut("arguments") {
                        arguments.iter_mut().for_each(unify_extension);
                    }
                }
                "TSExternalModuleReference" => {
                    node.get_mut("expression").into_iter().for_each(unify_extension);
                }
                _ => {}
            }
            node.fields.iter_mut().for_each(|(_, value)| unify_extensions(value));
        }
    }
}

fn calls_require(call: &AstNode) -> bool {
    let callee = call.get("callee").node();
    callee.is_some_and(|c| c.kind == "Identifier" && c.get("name").text() == Some("require"))
        && call.get("arguments").list().len() == 1
}

fn unify_extension(specifier: &mut AstValue) {
    const FAMILIES: [(&str, &[&str]); 3] =
        [("c", &[".cjs", ".cts"]), ("m", &[".mjs", ".mts"]), ("", &[".js", ".jsx", ".ts", ".tsx"])];
    let AstValue::Node(literal) = specifier else { return };
    if literal.kind != "Literal" {
        return;
    }
    let Some(value) = literal.get_mut("value") else { return };
    let Some(text) = value.text().filter(|t| t.starts_with("./") || t.starts_with("../")) else {
        return;
    };
    let family = FAMILIES.iter().find_map(|(family, extensions)| {
        let stem = extensions.iter().find_map(|extension| text.strip_suffix(extension))?;
        Some((stem, *family))
    });
    // `./.js` is a hidden file without an extension.
    let (stem, family) = family.filter(|(stem, _)| !stem.ends_with('/')).unwrap_or((text, ""));
    *value = AstValue::List(vec![AstValue::Leaf(stem), AstValue::Leaf(family)]);
}

/// Returns true if a program without types uses a name outside of imports. A property key or a
/// member name is not a use.
fn uses_name(value: &AstValue, wanted: &str) -> bool {
    match value {
        AstValue::Leaf(_) => false,
        AstValue::List(list) => list.iter().any(|value| uses_name(value, wanted)),
        AstValue::Node(node) => {
            if matches!(node.kind, "ImportDeclaration" | "TSImportEqualsDeclaration") {
                return false;
            }
            let is_other_name = |field: &str| {
                !node.is("computed")
                    && match node.kind {
                        "MemberExpression" => field == "property",
                        "Property" | "MethodDefinition" | "PropertyDefinition" => field == "key",
                        _ => false,
                    }
            };
            (matches!(node.kind, "Identifier" | "JSXIdentifier")
                && node.get("name").text() == Some(wanted))
                || node
                    .fields
                    .iter()
                    .any(|(field, v)| !is_other_name(field) && uses_name(v, wanted))
        }
    }
}

/// The names that a program imports as types only.
#[derive(Debug, Default)]
pub(super) struct TypeNames<'s> {
    /// For each module and local name, true if the whole import is `import type`.
    names: BTreeMap<(String, &'s str), bool>,
}

impl<'s> TypeNames<'s> {
    /// Collects the names of a program with types.
    pub(super) fn of(program: &AstNode<'s>) -> Self {
        let mut names = BTreeMap::new();
        let imports = program.get("body").list().iter().filter_map(AstValue::node);
        for import in imports.filter(|n| n.kind == "ImportDeclaration") {
            let whole = import.get("importKind").text() == Some("type");
            for specifier in import.get("specifiers").list().iter().filter_map(AstValue::node) {
                if (whole || specifier.get("importKind").text() == Some("type"))
                    && let Some(local) = local(specifier)
                {
                    names.insert((module(import), local), whole);
                }
            }
        }
        Self { names }
    }

    /// Removes the names that the original program does not use from the program's imports.
    pub(super) fn remove_from(&self, program: &mut AstNode<'s>) {
        let body = program.get("body").list();
        let used = |name: &str| body.iter().any(|value| uses_name(value, name));
        let unused: Vec<_> = self.names.keys().filter(|(_, name)| !used(name)).cloned().collect();
        let Some(AstValue::List(body)) = program.get_mut("body") else { return };
        body.retain_mut(|value| {
            let AstValue::Node(import) = value else { return true };
            if import.kind != "ImportDeclaration" {
                return true;
            }
            let from = module(import);
            let Some(AstValue::List(specifiers)) = import.get_mut("specifiers") else {
                return true;
            };
            let mut whole = !specifiers.is_empty();
            specifiers.retain(|specifier| {
                let key = specifier.node().and_then(local).map(|local| (from.clone(), local));
                let key = key.filter(|key| unused.contains(key));
                whole &= key.as_ref().is_some_and(|key| self.names.get(key) == Some(&true));
                key.is_none()
            });
            !(whole && specifiers.is_empty())
        });
    }
}

fn local<'s>(specifier: &AstNode<'s>) -> Option<&'s str> {
    specifier.get("local").node()?.get("name").text()
}

/// Returns the module of an import as text.
fn module(import: &AstNode) -> String {
    let value = import.get("source").node().map_or(&AstValue::NULL, |literal| literal.get("value"));
    match value {
        AstValue::Leaf(text) => (*text).to_owned(),
        AstValue::List(_) | AstValue::Node(_) => format!("{value:?}"),
    }
}
