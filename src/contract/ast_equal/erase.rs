//! Takes out of a tree what a program does not have when it runs: types, and spellings without a meaning.
//!
//! This is a list of what may go. Whatever is not on it stays and is compared, so that syntax nobody has thought of is a
//! difference and never a pass. JavaScript goes through it too: it has nothing of TypeScript's that could go.

use super::AstEqualOptions;
use super::tree::{AstNode, AstValue};

/// Fields that hold types, or modifiers of which nothing is left at run time.
///
/// A parameter property keeps its node (`TSParameterProperty`) and is therefore still seen without its modifiers.
const TYPES: &[&str] = &[
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

/// Nodes that are an expression with a type beside it, or in parentheses.
const AROUND: &[&str] = &[
    "ParenthesizedExpression",
    "TSAsExpression",
    "TSInstantiationExpression",
    "TSNonNullExpression",
    "TSSatisfiesExpression",
    "TSTypeAssertion",
];

/// Erases everything in a value.
pub(super) fn erase<'s>(value: AstValue<'s>, options: &AstEqualOptions) -> AstValue<'s> {
    match value {
        AstValue::Leaf(_) => value,
        AstValue::List(list) => AstValue::List(
            list.into_iter()
                .filter(|v| v.node().is_none_or(|node| !gone(node, options)))
                .map(|v| erase(v, options))
                .collect(),
        ),
        AstValue::Node(node) => within(*node, options),
    }
}

fn within<'s>(mut node: AstNode<'s>, options: &AstEqualOptions) -> AstValue<'s> {
    if AROUND.contains(&node.kind) {
        return node.take("expression").map_or(AstValue::NULL, |inner| erase(inner, options));
    }
    if node.kind == "ExpressionStatement" && becomes_a_directive(&node) {
        return AstValue::Node(Box::new(node));
    }
    node.fields.retain(|(name, value)| stays(node.kind, name, value));
    node.fields = node.fields.into_iter().map(|(name, v)| (name, erase(v, options))).collect();
    match node.kind {
        "Literal" => literal(&mut node),
        "TemplateElement" => template(&mut node),
        "Property" | "MethodDefinition" | "PropertyDefinition" | "AccessorProperty" => {
            key(&mut node);
        }
        _ => {}
    }
    AstValue::Node(Box::new(node))
}

/// Whether a field is part of the program.
fn stays(kind: &str, name: &str, value: &AstValue) -> bool {
    match name {
        // Of a call or an access it is `?.`; anywhere else it is a type's question mark.
        "optional" => matches!(kind, "CallExpression" | "MemberExpression"),
        "decorators" => !value.list().is_empty(),
        // What is declared and still here is more than a type: see `gone`.
        "declare" => value.is_true(),
        // What a module is by its syntax is asked in `modules`.
        "sourceType" => kind != "Program",
        _ => !TYPES.contains(&name),
    }
}

/// `"use strict" as T` would be a directive, once its type is taken away as text.
fn becomes_a_directive(node: &AstNode) -> bool {
    let mut inner = node.get("expression");
    let mut typed = false;
    while let Some(wrapper) = inner.node().filter(|n| AROUND.contains(&n.kind)) {
        typed |= wrapper.kind != "ParenthesizedExpression";
        inner = wrapper.get("expression");
    }
    typed && inner.node().is_some_and(|n| n.kind == "Literal")
}

/// Whether an element of a list has no part in the program at all.
pub(super) fn gone(node: &AstNode, options: &AstEqualOptions) -> bool {
    // A decorator is called, whatever it stands at.
    if !node.get("decorators").list().is_empty() {
        return false;
    }
    match node.kind {
        // A lone semicolon.
        "EmptyStatement" => true,
        "TSInterfaceDeclaration"
        | "TSTypeAliasDeclaration"
        | "TSAbstractMethodDefinition"
        | "TSAbstractPropertyDefinition"
        | "TSAbstractAccessorProperty"
        | "TSIndexSignature"
        // An overload, or a function that is declared only.
        | "TSDeclareFunction" => true,
        "MethodDefinition" => {
            node.get("value").node().is_some_and(|v| v.kind == "TSEmptyBodyFunctionExpression")
        }
        "PropertyDefinition" => node.is("declare") || (!options.define_fields && only_declares(node)),
        "AccessorProperty" => node.is("declare"),
        // The parameter `this` is a type; nothing else in a list can have this name.
        "Identifier" => node.get("name").text() == Some("this"),
        "VariableDeclaration" | "ClassDeclaration" | "TSEnumDeclaration" => ambient(node),
        "TSModuleDeclaration" => ambient(node) || only_types(node),
        "ImportDeclaration" | "ImportSpecifier" | "TSImportEqualsDeclaration" => {
            kind_is(node, "importKind", "type")
        }
        "ExportAllDeclaration" | "ExportSpecifier" => kind_is(node, "exportKind", "type"),
        "ExportNamedDeclaration" => {
            let declared = node.get("declaration").node();
            declared.map_or_else(
                || kind_is(node, "exportKind", "type"),
                |declared| gone(declared, options),
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

/// A field that says only that there is one, with a plain name.
fn only_declares(node: &AstNode) -> bool {
    let named = node.get("key").node().is_some_and(|key| key.kind != "PrivateIdentifier");
    named
        && node.get("value") == &AstValue::NULL
        && !node.is("computed")
        && node.get("decorators").list().is_empty()
}

/// Declared with `declare`. A constant enum in it is written into the places that use it, which is more than a type.
fn ambient(node: &AstNode) -> bool {
    if !node.is("declare") {
        return false;
    }
    let mut constant = false;
    let mut look = |n: &AstNode| constant |= n.kind == "TSEnumDeclaration" && n.is("const");
    look(node);
    node.fields.iter().for_each(|(_, value)| value.each(&mut look));
    !constant
}

/// Whether a namespace holds nothing but types. Then it makes no object.
fn only_types(namespace: &AstNode) -> bool {
    let inert = |value: &AstValue| {
        let node = value.node();
        let node = match node {
            Some(export) if export.kind == "ExportNamedDeclaration" => {
                export.get("declaration").node()
            }
            Some(_) | None => node,
        };
        node.is_some_and(|node| match node.kind {
            "TSInterfaceDeclaration" | "TSTypeAliasDeclaration" => true,
            "TSModuleDeclaration" => only_types(node),
            _ => false,
        })
    };
    namespace.get("body").node().is_some_and(|body| body.get("body").list().iter().all(inert))
}

/// A literal is its value: quotes, escapes and the base of a number are spelling. A regular expression is its pattern
/// and flags, a `bigint` its digits; where there is no value to look at, the spelling is compared.
fn literal(node: &mut AstNode) {
    let valued = *node.get("value") != AstValue::NULL;
    let otherwise = ["regex", "bigint"].iter().any(|f| *node.get(f) != AstValue::NULL);
    if valued || otherwise {
        node.fields.retain(|(name, _)| *name != "raw");
    }
}

/// A template's raw text is visible to its tag. A line end is a line feed there, however the file ends its lines: the
/// language says so, and the parser leaves it to us.
fn template(node: &mut AstNode) {
    let Some(AstValue::Node(value)) = node.get_mut("value") else { return };
    for (_, text) in &mut value.fields {
        let AstValue::Leaf(raw) = text else { continue };
        if raw.contains('\\') {
            *text = AstValue::List(lines(raw));
        }
    }
}

/// A JSON text cut at its line ends. What is between them keeps its escapes, so that `\\r` is not one.
fn lines(text: &str) -> Vec<AstValue<'_>> {
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

/// `{ "a": a }`, `{ a: a }` and `{ a }` are one thing, except for `__proto__`.
fn key(node: &mut AstNode) {
    let computed = node.is("computed");
    let Some(AstValue::Node(key)) = node.get_mut("key") else { return };
    let name = match key.kind {
        "Identifier" => key.get("name").text(),
        "Literal" => key.get("value").text(),
        _ => None,
    };
    let Some(name) = name.filter(|_| !computed) else { return };
    let plain = !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '$');
    if key.kind == "Literal" && plain {
        key.kind = "Identifier";
        key.fields.iter_mut().for_each(|(field, _)| *field = "name");
    }
    if name != "__proto__" {
        node.fields.retain(|(field, _)| *field != "shorthand");
    }
}
