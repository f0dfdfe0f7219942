//! TypeScript's spelling of CommonJS, and the equivalent JavaScript.
//!
//! - `import x = require("y")` is `const x = require("y")` if `x` is used. Compilers may omit an
//!   unused import. The statement is also `var x = require("y")` or `let x = require("y")` if
//!   nothing declares or assigns `x` again and nothing can see `x` before.
//! - `export = x` is `module.exports = x` as the last statement. Compilers move the statement
//!   there. Function declarations may follow: they are complete before the first statement runs.
//!   Variables with constants may follow if `x` is a function: nothing runs that could look.
//!
//! Both make a strict program. A program whose code depends on sloppy mode is another program then.

use std::collections::BTreeSet;

use super::bindings::{Bindings, MODULE_PARAMETERS, pattern_names};
use super::tree::{AstNode, AstValue};

/// Replaces TypeScript's spelling in both programs where the two spellings are equivalent.
pub(super) fn unify(left: &mut AstNode, right: &mut AstNode) {
    let bindings = (Bindings::of(left), Bindings::of(right));
    move_exports_to_end(left, &bindings.0);
    move_exports_to_end(right, &bindings.1);
    let imports = (imported_names(left, &bindings.0), imported_names(right, &bindings.1));
    replace_variables(left, &bindings.0, &imports.1);
    replace_variables(right, &bindings.1, &imports.0);
    replace_typed_spelling(left, &imports.0, &bindings.1);
    replace_typed_spelling(right, &imports.1, &bindings.0);
}

/// Returns the names of `import x = require("y")` that compilers keep.
fn imported_names<'s>(program: &AstNode<'s>, bindings: &Bindings) -> BTreeSet<&'s str> {
    let statements = program.get("body").list().iter().filter_map(AstValue::node);
    let names = statements.filter(|node| imports_module(node)).filter_map(|node| {
        let name = node.get("id").node()?.get("name").text()?;
        let uses = bindings.uses(name);
        (uses.reads > 0 && uses.declarations == 1).then_some(name)
    });
    names.collect()
}

/// Returns true for `import x = require("y")`, and false for `import x = A.b`.
fn imports_module(node: &AstNode) -> bool {
    node.kind == "TSImportEqualsDeclaration"
        && node
            .get("moduleReference")
            .node()
            .is_some_and(|reference| reference.kind == "TSExternalModuleReference")
}

/// Moves `module.exports = x` and `export = x` behind the function declarations that follow. An
/// export of a declared function also moves behind variables with constant values.
fn move_exports_to_end(program: &mut AstNode, bindings: &Bindings) {
    let Some(AstValue::List(body)) = program.get_mut("body") else { return };
    let Some(at) = body.iter().rposition(|value| exported(value).is_some()) else { return };
    let is_kind = |value: &AstValue, kind| value.node().is_some_and(|node| node.kind == kind);
    let is_function = |value: &AstValue| is_kind(value, "FunctionDeclaration");
    let exports_function = exported(&body[at]).and_then(|value| value.node()).is_some_and(|node| {
        let name = node.get("name").text().filter(|_| node.kind == "Identifier");
        let is_declared = |value: &AstValue| {
            let id = value.node().map_or(&AstValue::NULL, |node| node.get("id"));
            is_function(value) && name.is_some_and(|name| is_name(id, name))
        };
        let uses = name.map(|name| bindings.uses(name)).unwrap_or_default();
        (uses.declarations, uses.writes) == (1, 0) && body.iter().any(is_declared)
    });
    let may_pass = |value: &AstValue| {
        is_function(value) || exports_function && declares_constants(value, bindings)
    };
    if !bindings.is_dynamic && body[at + 1..].iter().all(may_pass) {
        body[at..].rotate_left(1);
    }
}

/// Returns `x` in `module.exports = x` and `export = x`.
fn exported<'a, 's>(statement: &'a AstValue<'s>) -> Option<&'a AstValue<'s>> {
    let node = statement.node()?;
    if node.kind == "TSExportAssignment" {
        return Some(node.get("expression"));
    }
    let assigned = node
        .get("expression")
        .node()
        .filter(|inner| inner.kind == "AssignmentExpression" && assigns(inner))?;
    is_module_exports(assigned.get("left")).then(|| assigned.get("right"))
}

/// Returns true for variables whose values run no code: nothing can fail or read the exports.
fn declares_constants(statement: &AstValue, bindings: &Bindings) -> bool {
    let Some(node) = statement.node().filter(|node| node.kind == "VariableDeclaration") else {
        return false;
    };
    let is_plain = |declarator: &AstValue| {
        declarator.node().is_some_and(|declarator| {
            declarator.get("id").node().is_some_and(|id| id.kind == "Identifier")
                && is_constant(declarator.get("init"), bindings)
        })
    };
    matches!(node.get("kind").text(), Some("var" | "let" | "const"))
        && node.get("declarations").list().iter().all(is_plain)
}

/// Returns true for `Object.create(null)`, `new Map()` and the like.
fn makes_empty(node: &AstNode, bindings: &Bindings) -> bool {
    let (callee, arguments) = (node.get("callee"), node.get("arguments").list());
    if node.kind == "NewExpression" {
        let is_class = |name: &&str| is_name(callee, name) && bindings.is_foreign(name);
        return arguments.is_empty() && ["Map", "Set", "WeakMap", "WeakSet"].iter().any(is_class);
    }
    let is_create = callee.node().is_some_and(|member| {
        member.kind == "MemberExpression"
            && !member.is("computed")
            && is_name(member.get("object"), "Object")
            && is_name(member.get("property"), "create")
    });
    let is_null = |value: &AstValue| {
        value.node().is_some_and(|literal| {
            literal.kind == "Literal" && literal.get("raw").text() == Some("null")
        })
    };
    is_create && bindings.is_foreign("Object") && matches!(arguments, [only] if is_null(only))
}

/// Returns true for literals, functions, and lists and objects of these, for empty objects, and for
/// members of the language's own objects, such as `Object.prototype.toString`.
fn is_constant(value: &AstValue, bindings: &Bindings) -> bool {
    const OBJECTS: &[&str] = &["Array", "Math", "Number", "Object", "String"];
    let Some(node) = value.node() else { return *value == AstValue::NULL };
    match node.kind {
        "Literal" | "FunctionExpression" | "ArrowFunctionExpression" => true,
        "TemplateLiteral" => node.get("expressions").list().is_empty(),
        "UnaryExpression" => {
            node.get("operator").text() == Some("-")
                && node.get("argument").node().is_some_and(|inner| inner.kind == "Literal")
        }
        "CallExpression" | "NewExpression" => makes_empty(node, bindings),
        "ArrayExpression" => {
            node.get("elements").list().iter().all(|item| is_constant(item, bindings))
        }
        "ObjectExpression" => node.get("properties").list().iter().all(|property| {
            property.node().is_some_and(|property| {
                property.kind == "Property"
                    && !property.is("computed")
                    && is_constant(property.get("value"), bindings)
            })
        }),
        "MemberExpression" if !node.is("computed") => {
            let object = node.get("object").node().filter(|object| {
                object.kind == "MemberExpression"
                    && !object.is("computed")
                    && is_name(object.get("property"), "prototype")
            });
            let object = object.map_or_else(|| node.get("object"), |inner| inner.get("object"));
            OBJECTS.iter().any(|name| is_name(object, name) && bindings.is_foreign(name))
        }
        _ => false,
    }
}

/// Returns true for an assignment with `=`.
fn assigns(node: &AstNode) -> bool {
    node.get("operator").text() == Some("=")
}

fn is_name(value: &AstValue, wanted: &str) -> bool {
    value
        .node()
        .is_some_and(|node| node.kind == "Identifier" && node.get("name").text() == Some(wanted))
}

fn is_module_exports(value: &AstValue) -> bool {
    value.node().is_some_and(|node| {
        node.kind == "MemberExpression"
            && !node.is("computed")
            && is_name(node.get("object"), "module")
            && is_name(node.get("property"), "exports")
    })
}

/// Replaces `var` and `let` by `const` in the declarations that the other program imports.
fn replace_variables<'s>(
    program: &mut AstNode<'s>,
    bindings: &Bindings,
    imported: &BTreeSet<&str>,
) {
    if bindings.is_dynamic || imported.is_empty() {
        return;
    }
    let Some(AstValue::List(body)) = program.get_mut("body") else { return };
    let mut quiet = Some(QuietNames { names: BTreeSet::new(), bindings });
    for value in std::mem::take(body) {
        let AstValue::Node(node) = value else {
            body.push(value);
            continue;
        };
        if node.kind != "VariableDeclaration" {
            quiet = quiet.filter(|quiet| quiet.keeps_functions(&node));
            body.push(AstValue::Node(node));
            continue;
        }
        let is_let = node.get("kind").text() == Some("let");
        // Runs of declarators with the flag "becomes a constant".
        let mut runs: Vec<(bool, Vec<AstValue<'s>>)> = Vec::new();
        for declarator in node.get("declarations").list() {
            let constant = required_name(declarator).is_some_and(|name| {
                let uses = bindings.uses(name);
                imported.contains(name)
                    && !MODULE_PARAMETERS.contains(&name)
                    && (uses.declarations, uses.writes) == (1, 0)
                    && (is_let || quiet.is_some())
            });
            quiet = quiet.and_then(|quiet| quiet.after(declarator));
            match runs.last_mut().filter(|(is_constant, _)| !*is_constant && !constant) {
                Some((_, run)) => run.push(declarator.clone()),
                None => runs.push((constant, vec![declarator.clone()])),
            }
        }
        if !runs.iter().any(|(constant, _)| *constant) {
            body.push(AstValue::Node(node));
            continue;
        }
        for (constant, run) in runs {
            let mut part = node.clone();
            if let (Some(first), Some(last)) = (run.first(), run.last()) {
                part.start = first.node().map_or(node.start, |declarator| declarator.start);
                part.end = last.node().map_or(node.end, |declarator| declarator.end);
            }
            if let Some(declarations) = part.get_mut("declarations") {
                *declarations = AstValue::List(run);
            }
            if let Some(kind) = part.get_mut("kind").filter(|_| constant) {
                *kind = AstValue::Leaf("\"const\"");
            }
            body.push(AstValue::Node(part));
        }
    }
}

/// Returns the name in `x = require("y")`.
fn required_name<'s>(declarator: &AstValue<'s>) -> Option<&'s str> {
    let declarator = declarator.node()?;
    let call = declarator.get("init").node().filter(|init| init.kind == "CallExpression")?;
    let argument = match call.get("arguments").list() {
        [argument] => argument.node()?,
        [] | [_, _, ..] => return None,
    };
    let is_module = is_name(call.get("callee"), "require") && argument.kind == "Literal";
    let id = declarator.get("id").node().filter(|id| id.kind == "Identifier" && is_module)?;
    id.get("name").text()
}

/// The statements up to a point cannot have called a function of this file.
///
/// A function that runs before `var x = require("y")` sees `undefined` in `x`, and an error in a
/// constant `x`. No function runs if the statements before call none and hand none out, neither as
/// an argument nor in the exports, which other modules of a cycle read.
struct QuietNames<'s, 'b> {
    /// The names of values that are no functions of this file.
    names: BTreeSet<&'s str>,
    bindings: &'b Bindings<'b>,
}

impl<'s> QuietNames<'s, '_> {
    /// Returns the names after a declarator, or `None` if a function of this file may run.
    fn after(mut self, declarator: &AstValue<'s>) -> Option<Self> {
        let declarator = declarator.node()?;
        let (id, init) = (declarator.get("id"), declarator.get("init"));
        let is_function = init.node().is_some_and(|node| {
            matches!(node.kind, "FunctionExpression" | "ArrowFunctionExpression")
        });
        if is_function && id.node().is_some_and(|id| id.kind == "Identifier") {
            // A function under a name. Mentioning the name ends the quiet.
            return Some(self);
        }
        let mut has_code = false;
        id.each(&mut |node| has_code |= node.kind == "AssignmentPattern" || node.is("computed"));
        if has_code || !self.is_quiet(init) {
            return None;
        }
        pattern_names(id, &mut |name| {
            if self.bindings.uses(name).declarations == 1 && self.bindings.uses(name).writes == 0 {
                self.names.insert(name);
            }
        });
        Some(self)
    }

    /// Returns true if a statement calls and hands out no function of this file.
    fn keeps_functions(&self, statement: &AstNode<'s>) -> bool {
        match statement.kind {
            "FunctionDeclaration" => true,
            "ExpressionStatement" => {
                let mut value = statement.get("expression");
                while let Some(inner) = value.node().filter(|inner| {
                    inner.kind == "AssignmentExpression"
                        && assigns(inner)
                        && is_exports(inner.get("left"))
                }) {
                    value = inner.get("right");
                }
                self.is_quiet(value)
            }
            _ => false,
        }
    }

    /// Returns true if an expression holds no function of this file.
    fn is_quiet(&self, value: &AstValue<'s>) -> bool {
        match value {
            AstValue::Leaf(_) => true,
            AstValue::List(list) => list.iter().all(|item| self.is_quiet(item)),
            AstValue::Node(node) => match node.kind {
                "Identifier" => node.get("name").text().is_some_and(|name| {
                    let is_foreign = self.bindings.uses(name).declarations == 0
                        && !matches!(name, "module" | "exports" | "arguments");
                    is_foreign || self.names.contains(name)
                }),
                "FunctionExpression"
                | "ArrowFunctionExpression"
                | "ClassExpression"
                | "ThisExpression" => false,
                "MemberExpression" => {
                    self.is_quiet(node.get("object"))
                        && (!node.is("computed") || self.is_quiet(node.get("property")))
                }
                "Property" => {
                    self.is_quiet(node.get("value"))
                        && (!node.is("computed") || self.is_quiet(node.get("key")))
                }
                _ => {
                    !node.kind.starts_with("JSX")
                        && node.fields.iter().all(|(_, value)| self.is_quiet(value))
                }
            },
        }
    }
}

/// Returns true for `exports`, `module.exports`, and a plain property of these.
fn is_exports(value: &AstValue) -> bool {
    let object = value
        .node()
        .filter(|node| node.kind == "MemberExpression" && !node.is("computed"))
        .map(|node| node.get("object"));
    let is_object = |value: &AstValue| is_name(value, "exports") || is_module_exports(value);
    is_object(value) || object.is_some_and(is_object)
}

/// Replaces the imports with these names, and `export =` as the last statement.
///
/// `other` describes the program in the other spelling.
fn replace_typed_spelling(program: &mut AstNode, imported: &BTreeSet<&str>, other: &Bindings) {
    if other.is_dynamic || other.depends_on_sloppy_mode {
        return;
    }
    let Some(AstValue::List(body)) = program.get_mut("body") else { return };
    let last = body.len();
    for (at, value) in body.iter_mut().enumerate() {
        let AstValue::Node(node) = value else { continue };
        let name = node.get("id").node().and_then(|id| id.get("name").text());
        if imports_module(node)
            && name.is_some_and(|name| imported.contains(name))
            && other.is_foreign("require")
        {
            replace_by_require(node);
        } else if node.kind == "TSExportAssignment" && at + 1 == last && other.is_foreign("module")
        {
            replace_by_module_exports(node);
        }
    }
}

/// Creates a node at the position of another node.
fn new_node<'s>(
    like: &AstNode<'s>,
    kind: &'static str,
    fields: Vec<(&'s str, AstValue<'s>)>,
) -> AstValue<'s> {
    AstValue::Node(Box::new(AstNode { kind, start: like.start, end: like.end, fields }))
}

/// Creates an identifier at the position of another node.
fn identifier<'s>(like: &AstNode<'s>, name: &'static str) -> AstValue<'s> {
    new_node(like, "Identifier", vec![("name", AstValue::Leaf(name))])
}

fn replace_by_require(node: &mut AstNode) {
    let reference = match node.get_mut("moduleReference") {
        Some(AstValue::Node(reference)) => reference.get_mut("expression").cloned(),
        Some(_) | None => None,
    };
    let specifier = reference.unwrap_or(AstValue::NULL);
    let id = node.get("id").clone();
    let call = new_node(
        node,
        "CallExpression",
        vec![
            ("callee", identifier(node, "\"require\"")),
            ("arguments", AstValue::List(vec![specifier])),
            ("optional", AstValue::Leaf("false")),
        ],
    );
    let declarator = new_node(node, "VariableDeclarator", vec![("id", id), ("init", call)]);
    node.kind = "VariableDeclaration";
    node.fields = vec![
        ("kind", AstValue::Leaf("\"const\"")),
        ("declarations", AstValue::List(vec![declarator])),
    ];
}

fn replace_by_module_exports(node: &mut AstNode) {
    let right = node.get("expression").clone();
    let left = new_node(
        node,
        "MemberExpression",
        vec![
            ("object", identifier(node, "\"module\"")),
            ("property", identifier(node, "\"exports\"")),
            ("optional", AstValue::Leaf("false")),
            ("computed", AstValue::Leaf("false")),
        ],
    );
    let assigned = new_node(
        node,
        "AssignmentExpression",
        vec![("operator", AstValue::Leaf("\"=\"")), ("left", left), ("right", right)],
    );
    node.kind = "ExpressionStatement";
    node.fields = vec![("expression", assigned), ("directive", AstValue::NULL)];
}
