//! Erasure of the parts of a tree that have no effect at run time: types and mere spelling.
//!
//! The erased parts are listed here. Everything else is compared, so that a difference in unknown
//! syntax never passes. The same erasure is applied to JavaScript, which has no types to lose.

use super::AstEqualOptions;
use super::tree::{AstNode, AstValue};

/// Fields with types, or with modifiers that have no effect at run time.
///
/// A parameter property keeps its node (`TSParameterProperty`) and stays visible without modifiers.
const TYPE_FIELDS: &[&str] = &[
    "abstract",
    "accessibility",
    "definite",
    "exportKind",
    "implements",
    "importKind",
    "override",
    "readonly",
    "returnType",
    "superTypeArguments",
    "typeAnnotation",
    "typeArguments",
    "typeParameters",
];

/// Nodes that wrap an expression with a type or in parentheses.
const WRAPPERS: &[&str] = &[
    "ParenthesizedExpression",
    "TSAsExpression",
    "TSInstantiationExpression",
    "TSNonNullExpression",
    "TSSatisfiesExpression",
    "TSTypeAssertion",
];

/// Erases types and mere spelling in a value.
pub(super) fn erase<'s>(value: AstValue<'s>, options: &AstEqualOptions) -> AstValue<'s> {
    match value {
        AstValue::Leaf(_) => value,
        AstValue::List(list) => AstValue::List(
            list.into_iter()
                .filter(|item| item.node().is_none_or(|node| !is_erased(node, options)))
                .map(|item| erase(item, options))
                .collect(),
        ),
        AstValue::Node(node) => erase_in_node(*node, options),
    }
}

fn erase_in_node<'s>(mut node: AstNode<'s>, options: &AstEqualOptions) -> AstValue<'s> {
    if WRAPPERS.contains(&node.kind) {
        return node.take("expression").map_or(AstValue::NULL, |inner| erase(inner, options));
    }
    if node.kind == "ExpressionStatement" && becomes_a_directive(&node) {
        return AstValue::Node(Box::new(node));
    }
    node.fields.retain(|(name, value)| is_kept(node.kind, name, value));
    node.fields = node.fields.into_iter().map(|(name, v)| (name, erase(v, options))).collect();
    match node.kind {
        "Literal" => normalize_literal(&mut node),
        "TemplateElement" => normalize_template(&mut node),
        "Property" | "MethodDefinition" | "PropertyDefinition" | "AccessorProperty" => {
            normalize_key(&mut node);
        }
        _ => {}
    }
    AstValue::Node(Box::new(node))
}

/// Returns true if a field is part of the program.
fn is_kept(kind: &str, name: &str, value: &AstValue) -> bool {
    match name {
        // In a call or an access, this is `?.`. Anywhere else, this is the question mark of a type.
        "optional" => matches!(kind, "CallExpression" | "MemberExpression"),
        "decorators" => !value.list().is_empty(),
        // `is_erased` has removed declarations that are only types.
        "declare" => value.is_true(),
        // `modules` compares the source types.
        "sourceType" => kind != "Program",
        _ => !TYPE_FIELDS.contains(&name),
    }
}

/// Returns true for `"use strict" as T`, which would become a directive if the type were removed.
fn becomes_a_directive(node: &AstNode) -> bool {
    let mut inner = node.get("expression");
    let mut has_type = false;
    while let Some(wrapper) = inner.node().filter(|n| WRAPPERS.contains(&n.kind)) {
        has_type |= wrapper.kind != "ParenthesizedExpression";
        inner = wrapper.get("expression");
    }
    has_type && inner.node().is_some_and(|n| n.kind == "Literal")
}

/// Returns true if an element of a list is not part of the program.
pub(super) fn is_erased(node: &AstNode, options: &AstEqualOptions) -> bool {
    // A decorator is called even if the rest of the declaration is erased.
    if !node.get("decorators").list().is_empty() {
        return false;
    }
    match node.kind {
        // A single semicolon.
        "EmptyStatement" => true,
        "TSInterfaceDeclaration"
        | "TSTypeAliasDeclaration"
        | "TSAbstractMethodDefinition"
        | "TSAbstractPropertyDefinition"
        | "TSAbstractAccessorProperty"
        | "TSIndexSignature"
        // An overload, or a declared function.
        | "TSDeclareFunction" => true,
        "MethodDefinition" => {
            node.get("value").node().is_some_and(|v| v.kind == "TSEmptyBodyFunctionExpression")
        }
        "PropertyDefinition" => node.is("declare") || (!options.define_fields && only_declares_field(node)),
        "AccessorProperty" => node.is("declare"),
        // The parameter `this` is a type. Nothing else in a list can have this name.
        "Identifier" => node.get("name").text() == Some("this"),
        "VariableDeclaration" | "ClassDeclaration" | "TSEnumDeclaration" => is_ambient(node),
        "TSModuleDeclaration" => is_ambient(node) || has_only_types(node),
        "ImportDeclaration" | "ImportSpecifier" | "TSImportEqualsDeclaration" => {
            kind_is(node, "importKind", "type")
        }
        "ExportAllDeclaration" | "ExportSpecifier" => kind_is(node, "exportKind", "type"),
        "ExportNamedDeclaration" => {
            let declared = node.get("declaration").node();
            declared.map_or_else(
                || kind_is(node, "exportKind", "type"),
                |declared| is_erased(declared, options),
            )
        }
        "ExportDefaultDeclaration" => {
            let declared = node.get("declaration").node();
            declared.is_some_and(|d| {
                matches!(d.kind, "TSInterfaceDeclaration" | "TSDeclareFunction")
            })
        }
        _ => false,
    }
}

fn kind_is(node: &AstNode, field: &str, word: &str) -> bool {
    node.get(field).text() == Some(word)
}

/// Returns true for a field without a value and with a plain name.
fn only_declares_field(node: &AstNode) -> bool {
    let named = node.get("key").node().is_some_and(|key| key.kind != "PrivateIdentifier");
    named
        && node.get("value") == &AstValue::NULL
        && !node.is("computed")
        && node.get("decorators").list().is_empty()
}

/// Returns true for a declaration with `declare` that contains no constant enum. A declared
/// constant enum is not only a type: compilers insert its values where the enum is used.
fn is_ambient(node: &AstNode) -> bool {
    if !node.is("declare") {
        return false;
    }
    let mut has_const_enum = false;
    let mut visit = |inner: &AstNode| {
        has_const_enum |= inner.kind == "TSEnumDeclaration" && inner.is("const");
    };
    visit(node);
    node.fields.iter().for_each(|(_, value)| value.each(&mut visit));
    !has_const_enum
}

/// Returns true if a namespace has only types and creates no object.
fn has_only_types(namespace: &AstNode) -> bool {
    let is_type = |value: &AstValue| {
        let node = value.node();
        let node = match node {
            Some(export) if export.kind == "ExportNamedDeclaration" => {
                export.get("declaration").node()
            }
            Some(_) | None => node,
        };
        node.is_some_and(|node| match node.kind {
            "TSInterfaceDeclaration" | "TSTypeAliasDeclaration" => true,
            "TSModuleDeclaration" => has_only_types(node),
            _ => false,
        })
    };
    namespace.get("body").node().is_some_and(|body| body.get("body").list().iter().all(is_type))
}

/// Removes the spelling of a literal: quotes, escapes, and the base of a number. The value is still
/// compared. The value of a regular expression is its pattern and flags, and the value of a
/// `bigint` is its digits. A literal whose `value` is null keeps its spelling.
fn normalize_literal(node: &mut AstNode) {
    let has_value = *node.get("value") != AstValue::NULL;
    let has_other_value = ["regex", "bigint"].iter().any(|f| *node.get(f) != AstValue::NULL);
    if has_value || has_other_value {
        node.fields.retain(|(name, _)| *name != "raw");
    }
}

/// Splits the text of a template at line ends, so that the kind of line end is not compared. The
/// template's tag sees the raw text, in which the language defines every line end as a line feed.
/// The parser does not convert line ends.
fn normalize_template(node: &mut AstNode) {
    let Some(AstValue::Node(value)) = node.get_mut("value") else { return };
    for (_, text) in &mut value.fields {
        let AstValue::Leaf(raw) = text else { continue };
        if raw.contains('\\') {
            *text = AstValue::List(split_lines(raw));
        }
    }
}

/// Splits a JSON text at its escaped line ends. `\\r` is an escaped backslash and not a line end.
fn split_lines(text: &str) -> Vec<AstValue<'_>> {
    let mut parts = Vec::new();
    let (mut from, mut at) = (0, 0);
    let bytes = text.as_bytes();
    while at < bytes.len() {
        match (bytes[at], bytes.get(at + 1)) {
            (b'\\', Some(b'r' | b'n')) => {
                parts.push(AstValue::Leaf(&text[from..at]));
                at += if text[at..].starts_with("\\r\\n") { 4 } else { 2 };
                from = at;
            }
            (b'\\', Some(_)) => at += 2,
            _ => at += 1,
        }
    }
    parts.push(AstValue::Leaf(&text[from..]));
    parts
}

/// Unifies the keys of `{ "a": a }`, `{ a: a }` and `{ a }`, which are equal except for
/// `__proto__`.
fn normalize_key(node: &mut AstNode) {
    let is_computed = node.is("computed");
    let Some(AstValue::Node(key)) = node.get_mut("key") else { return };
    let name = match key.kind {
        "Identifier" => key.get("name").text(),
        "Literal" => key.get("value").text(),
        _ => None,
    };
    let Some(name) = name.filter(|_| !is_computed) else { return };
    let is_plain = !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '$');
    if key.kind == "Literal" && is_plain {
        key.kind = "Identifier";
        key.fields.iter_mut().for_each(|(field, _)| *field = "name");
    }
    if name != "__proto__" {
        node.fields.retain(|(field, _)| *field != "shorthand");
    }
}
