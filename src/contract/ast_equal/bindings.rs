//! The names at the top of a program, and the code that depends on sloppy mode.
//!
//! The analysis runs on trees without types. Names of inner scopes are resolved and left out.

use std::collections::{BTreeMap, BTreeSet};

use super::tree::{AstNode, AstValue};

/// The parameters of the function that Node.js wraps around a CommonJS module.
pub(super) const MODULE_PARAMETERS: &[&str] =
    &["exports", "require", "module", "__filename", "__dirname"];

/// The uses of a name of the outermost scope, or of a name that the file does not declare.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct NameUses {
    /// The number of declarations, with redeclarations by `var` in blocks.
    pub declarations: usize,
    /// The number of reads.
    pub reads: usize,
    /// The number of assignments and deletions without those of declarations.
    pub writes: usize,
}

/// The names at the top of a program.
#[derive(Debug, Default)]
pub(super) struct Bindings<'s> {
    names: BTreeMap<&'s str, NameUses>,
    /// True if `eval` or `with` can read, write or declare any name.
    pub is_dynamic: bool,
    /// True if the program contains code that strict mode runs in another way.
    pub depends_on_sloppy_mode: bool,
}

impl<'s> Bindings<'s> {
    /// Analyses a program without types.
    pub(super) fn of(program: &AstNode<'s>) -> Self {
        let body = program.get("body");
        let mut names = Vec::new();
        hoisted_names(body, &mut |name| names.push(name));
        lexical_names(body, &mut |name| names.push(name));
        let mut walk = ScopeWalk {
            found: Bindings::default(),
            scopes: vec![Scope { names: names.iter().copied().collect(), is_block: false }],
            functions: Vec::new(),
            is_strict: is_strict(body) || is_es_module(body),
        };
        for name in names {
            walk.found.names.entry(name).or_default().declarations += 1;
        }
        walk.visit(body);
        walk.found
    }

    /// Returns true if the file neither declares nor assigns a name.
    pub(super) fn is_foreign(&self, name: &str) -> bool {
        let uses = self.uses(name);
        (uses.declarations, uses.writes) == (0, 0)
    }

    /// Returns the uses of a name.
    pub(super) fn uses(&self, name: &str) -> NameUses {
        self.names.get(name).copied().unwrap_or_default()
    }
}

/// Returns true if statements begin with the directive `"use strict"`.
fn is_strict(body: &AstValue) -> bool {
    let directives = body.list().iter().map_while(|value| value.node()?.get("directive").text());
    directives.into_iter().any(|directive| directive == "use strict")
}

fn is_es_module(body: &AstValue) -> bool {
    body.list().iter().filter_map(AstValue::node).any(|node| {
        node.kind == "ImportDeclaration"
            || node.kind.starts_with("Export")
            || node.kind == "TSExportAssignment"
            || node.kind == "TSImportEqualsDeclaration"
    })
}

/// Calls `f` for every name that a pattern binds.
pub(super) fn pattern_names<'s>(pattern: &AstValue<'s>, f: &mut impl FnMut(&'s str)) {
    match pattern {
        AstValue::Leaf(_) => {}
        AstValue::List(list) => list.iter().for_each(|item| pattern_names(item, f)),
        AstValue::Node(node) => match node.kind {
            "Identifier" => node.get("name").text().into_iter().for_each(f),
            "ObjectPattern" => pattern_names(node.get("properties"), f),
            "Property" => pattern_names(node.get("value"), f),
            "ArrayPattern" => pattern_names(node.get("elements"), f),
            "AssignmentPattern" => pattern_names(node.get("left"), f),
            "RestElement" => pattern_names(node.get("argument"), f),
            "TSParameterProperty" => pattern_names(node.get("parameter"), f),
            _ => {}
        },
    }
}

fn is_function(kind: &str) -> bool {
    matches!(kind, "FunctionDeclaration" | "FunctionExpression" | "ArrowFunctionExpression")
}

/// Calls `f` for every name that `var` declares in a function's body, also in blocks.
fn hoisted_names<'s>(value: &AstValue<'s>, f: &mut impl FnMut(&'s str)) {
    match value {
        AstValue::Leaf(_) => {}
        AstValue::List(list) => list.iter().for_each(|item| hoisted_names(item, f)),
        AstValue::Node(node) => {
            if is_function(node.kind) || node.kind == "StaticBlock" {
                return;
            }
            if node.kind == "VariableDeclaration" && node.get("kind").text() == Some("var") {
                each_declarator(node, |id| pattern_names(id, f));
            }
            node.fields.iter().for_each(|(_, value)| hoisted_names(value, f));
        }
    }
}

fn each_declarator<'a, 's: 'a>(declaration: &'a AstNode<'s>, mut f: impl FnMut(&'a AstValue<'s>)) {
    let declarators = declaration.get("declarations").list().iter().filter_map(AstValue::node);
    declarators.for_each(|declarator| f(declarator.get("id")));
}

/// Calls `f` for every name that statements declare in their own scope: functions, classes,
/// imports, `let` and `const`.
fn lexical_names<'s>(body: &AstValue<'s>, f: &mut impl FnMut(&'s str)) {
    for statement in body.list().iter().filter_map(AstValue::node) {
        let is_export =
            matches!(statement.kind, "ExportNamedDeclaration" | "ExportDefaultDeclaration");
        let declared = statement.get("declaration").node().filter(|_| is_export);
        let node = declared.unwrap_or(statement);
        match node.kind {
            "VariableDeclaration" if node.get("kind").text() != Some("var") => {
                each_declarator(node, |id| pattern_names(id, f));
            }
            "FunctionDeclaration"
            | "ClassDeclaration"
            | "TSImportEqualsDeclaration"
            | "TSEnumDeclaration"
            | "TSModuleDeclaration" => pattern_names(node.get("id"), f),
            "ImportDeclaration" => {
                let specifiers = node.get("specifiers").list().iter().filter_map(AstValue::node);
                specifiers.for_each(|specifier| pattern_names(specifier.get("local"), f));
            }
            _ => {}
        }
    }
}

/// A scope around the visited node.
struct Scope<'s> {
    names: BTreeSet<&'s str>,
    /// True for a block, in which sloppy mode declares functions in another way.
    is_block: bool,
}

/// A function around the visited node. Arrow functions have no frame: `this` and `arguments` are
/// those of the function around them.
#[derive(Default)]
struct FunctionFrame<'s> {
    parameters: BTreeSet<&'s str>,
    /// True for a function expression that is called where it stands, without an object.
    is_called: bool,
    uses_arguments: bool,
    writes_parameter: bool,
}

struct ScopeWalk<'s> {
    found: Bindings<'s>,
    /// The scopes, the outermost first.
    scopes: Vec<Scope<'s>>,
    functions: Vec<FunctionFrame<'s>>,
    is_strict: bool,
}

impl<'s> ScopeWalk<'s> {
    /// Records that the code behaves differently in strict mode.
    fn depends_on_mode(&mut self) {
        self.found.depends_on_sloppy_mode |= !self.is_strict;
    }

    /// Returns the uses of a name, or `None` if an inner scope declares the name.
    fn outermost(&mut self, name: &'s str) -> Option<&mut NameUses> {
        let is_inner = self.scopes[1..].iter().any(|scope| scope.names.contains(name));
        (!is_inner).then(|| self.found.names.entry(name).or_default())
    }

    fn read(&mut self, name: &'s str) {
        if name == "arguments"
            && let Some(function) = self.functions.last_mut()
        {
            function.uses_arguments = true;
            return;
        }
        if name == "eval" {
            self.found.is_dynamic = true;
        }
        if let Some(uses) = self.outermost(name) {
            uses.reads += 1;
        }
    }

    fn write(&mut self, name: &'s str) {
        if let Some(function) = self.functions.last_mut() {
            function.writes_parameter |= function.parameters.contains(name);
        }
        if let Some(uses) = self.outermost(name) {
            uses.writes += 1;
            if uses.declarations == 0 && !MODULE_PARAMETERS.contains(&name) {
                // Sloppy mode makes a global variable.
                self.depends_on_mode();
            }
        }
    }

    fn within(&mut self, names: BTreeSet<&'s str>, is_block: bool, f: impl FnOnce(&mut Self)) {
        self.scopes.push(Scope { names, is_block });
        f(self);
        self.scopes.pop();
    }

    fn visit(&mut self, value: &AstValue<'s>) {
        match value {
            AstValue::Leaf(_) => {}
            AstValue::List(list) => list.iter().for_each(|item| self.visit(item)),
            AstValue::Node(node) => self.visit_node(node),
        }
    }

    fn visit_fields(&mut self, node: &AstNode<'s>) {
        node.fields.iter().for_each(|(_, value)| self.visit(value));
    }

    fn visit_node(&mut self, node: &AstNode<'s>) {
        match node.kind {
            "Identifier" => node.get("name").text().into_iter().for_each(|name| self.read(name)),
            "MemberExpression" | "JSXMemberExpression" => self.visit_member(node),
            "TSQualifiedName" => self.visit(node.get("left")),
            "Property" | "MethodDefinition" | "PropertyDefinition" | "AccessorProperty" => {
                if node.is("computed") {
                    self.visit(node.get("key"));
                }
                self.visit(node.get("decorators"));
                self.visit(node.get("value"));
            }
            "LabeledStatement" => self.visit(node.get("body")),
            "BreakStatement"
            | "ContinueStatement"
            | "MetaProperty"
            | "ImportDeclaration"
            | "ExportAllDeclaration" => {}
            "TSImportEqualsDeclaration" => self.visit(node.get("moduleReference")),
            "ExportNamedDeclaration" if node.get("source") != &AstValue::NULL => {}
            "ExportSpecifier" => self.visit(node.get("local")),
            "JSXAttribute" => self.visit(node.get("value")),
            "JSXOpeningElement" | "JSXClosingElement" => {
                self.visit_element_name(node.get("name"));
                self.visit(node.get("attributes"));
            }
            "VariableDeclarator" => {
                self.visit_pattern(node.get("id"), false);
                self.visit(node.get("init"));
            }
            "AssignmentExpression" => {
                self.visit_pattern(node.get("left"), true);
                self.visit(node.get("right"));
            }
            "UpdateExpression" => self.visit_pattern(node.get("argument"), true),
            "UnaryExpression" => self.visit_unary(node),
            "CallExpression" => self.visit_call(node),
            "ThisExpression" => {
                if self.functions.last().is_some_and(|function| function.is_called) {
                    self.depends_on_mode();
                }
            }
            "WithStatement" => {
                self.found.is_dynamic = true;
                self.depends_on_mode();
                self.visit_fields(node);
            }
            "ForStatement" | "ForInStatement" | "ForOfStatement" => self.visit_loop(node),
            "SwitchStatement" => {
                self.visit(node.get("discriminant"));
                let mut names = BTreeSet::new();
                for case in node.get("cases").list().iter().filter_map(AstValue::node) {
                    lexical_names(case.get("consequent"), &mut |name| {
                        names.insert(name);
                    });
                }
                self.within(names, true, |walk| walk.visit(node.get("cases")));
            }
            "CatchClause" => {
                let mut names = BTreeSet::new();
                pattern_names(node.get("param"), &mut |name| {
                    names.insert(name);
                });
                self.within(names, true, |walk| {
                    walk.visit_pattern(node.get("param"), false);
                    walk.visit(node.get("body"));
                });
            }
            "BlockStatement" | "StaticBlock" => {
                let (body, mut names) = (node.get("body"), BTreeSet::new());
                lexical_names(body, &mut |name| {
                    names.insert(name);
                });
                if node.kind == "StaticBlock" {
                    hoisted_names(body, &mut |name| {
                        names.insert(name);
                    });
                }
                self.within(names, true, |walk| walk.visit(body));
            }
            "IfStatement" => {
                let branches = [node.get("consequent"), node.get("alternate")];
                let is_function = |v: &&AstValue| v.node().is_some_and(|n| is_function(n.kind));
                if branches.iter().any(is_function) {
                    self.depends_on_mode();
                }
                self.visit_fields(node);
            }
            "FunctionDeclaration" | "FunctionExpression" | "ArrowFunctionExpression" => {
                self.visit_function(node, false);
            }
            "ClassDeclaration" | "ClassExpression" => self.visit_class(node),
            _ => self.visit_fields(node),
        }
    }

    fn visit_member(&mut self, node: &AstNode<'s>) {
        let object = node.get("object");
        let name_of = |value: &AstValue<'s>| value.node().and_then(|n| n.get("name").text());
        if name_of(object) == Some("arguments")
            && matches!(name_of(node.get("property")), Some("callee" | "caller"))
        {
            self.depends_on_mode();
        }
        match object.node() {
            Some(inner) if inner.kind == "JSXIdentifier" => {
                name_of(object).into_iter().for_each(|name| self.read(name));
            }
            Some(_) | None => self.visit(object),
        }
        if node.is("computed") {
            self.visit(node.get("property"));
        }
    }

    /// Visits the name of a JSX element. A name in lower case is no variable.
    fn visit_element_name(&mut self, name: &AstValue<'s>) {
        let Some(node) = name.node() else { return };
        let text = node.get("name").text().filter(|_| node.kind == "JSXIdentifier");
        match text {
            Some(text) if text.starts_with(|c: char| c.is_ascii_lowercase()) => {}
            Some(text) => self.read(text),
            None => self.visit_node(node),
        }
    }

    fn visit_unary(&mut self, node: &AstNode<'s>) {
        let argument = node.get("argument");
        let name = argument.node().filter(|inner| inner.kind == "Identifier");
        match name.and_then(|inner| inner.get("name").text()) {
            Some(name) if node.get("operator").text() == Some("delete") => {
                self.write(name);
                self.depends_on_mode();
            }
            Some(_) | None => self.visit(argument),
        }
    }

    fn visit_call(&mut self, node: &AstNode<'s>) {
        match node.get("callee").node() {
            Some(callee) if callee.kind == "FunctionExpression" => {
                self.visit_function(callee, true);
            }
            Some(_) | None => self.visit(node.get("callee")),
        }
        self.visit(node.get("arguments"));
    }

    fn visit_loop(&mut self, node: &AstNode<'s>) {
        let head = if node.kind == "ForStatement" { "init" } else { "left" };
        let (head, mut names) = (node.get(head), BTreeSet::new());
        lexical_names(&AstValue::List(vec![head.clone()]), &mut |name| {
            names.insert(name);
        });
        self.within(names, true, |walk| {
            match head.node() {
                Some(declaration) if declaration.kind == "VariableDeclaration" => walk.visit(head),
                Some(_) if node.kind != "ForStatement" => walk.visit_pattern(head, true),
                Some(_) | None => walk.visit(head),
            }
            for field in ["test", "update", "right", "body"] {
                walk.visit(node.get(field));
            }
        });
    }

    /// Visits a pattern: the names if the pattern `assigns`, and the expressions in it.
    fn visit_pattern(&mut self, pattern: &AstValue<'s>, assigns: bool) {
        match pattern {
            AstValue::Leaf(_) => {}
            AstValue::List(list) => list.iter().for_each(|item| self.visit_pattern(item, assigns)),
            AstValue::Node(node) => match node.kind {
                "Identifier" => {
                    let name = node.get("name").text().filter(|_| assigns);
                    name.into_iter().for_each(|name| self.write(name));
                }
                "ObjectPattern" => self.visit_pattern(node.get("properties"), assigns),
                "ArrayPattern" => self.visit_pattern(node.get("elements"), assigns),
                "RestElement" => self.visit_pattern(node.get("argument"), assigns),
                "TSParameterProperty" => self.visit_pattern(node.get("parameter"), assigns),
                "Property" => {
                    if node.is("computed") {
                        self.visit(node.get("key"));
                    }
                    self.visit_pattern(node.get("value"), assigns);
                }
                "AssignmentPattern" => {
                    self.visit_pattern(node.get("left"), assigns);
                    self.visit(node.get("right"));
                }
                _ => self.visit_node(node),
            },
        }
    }

    fn visit_function(&mut self, node: &AstNode<'s>, is_called: bool) {
        let is_arrow = node.kind == "ArrowFunctionExpression";
        if node.kind == "FunctionDeclaration" && self.scopes.last().is_some_and(|s| s.is_block) {
            self.depends_on_mode();
        }
        let mut parameters = BTreeSet::new();
        pattern_names(node.get("params"), &mut |name| {
            parameters.insert(name);
        });
        let body = node.get("body");
        let statements = body.node().filter(|n| n.kind == "BlockStatement").map(|n| n.get("body"));
        let mut names = parameters.clone();
        let mut insert = |name| {
            names.insert(name);
        };
        if node.kind == "FunctionExpression" {
            pattern_names(node.get("id"), &mut insert);
        }
        statements.into_iter().for_each(|list| hoisted_names(list, &mut insert));
        statements.into_iter().for_each(|list| lexical_names(list, &mut insert));

        let was_strict = self.is_strict;
        self.is_strict |= statements.is_some_and(is_strict);
        if !is_arrow {
            self.functions.push(FunctionFrame { parameters, is_called, ..Default::default() });
        }
        self.within(names, false, |walk| {
            walk.visit_pattern(node.get("params"), false);
            walk.visit(statements.unwrap_or(body));
        });
        if !is_arrow && self.functions.pop().is_some_and(|f| f.uses_arguments && f.writes_parameter)
        {
            // Sloppy mode binds the parameters to the elements of `arguments`.
            self.depends_on_mode();
        }
        self.is_strict = was_strict;
    }

    fn visit_class(&mut self, node: &AstNode<'s>) {
        let mut names = BTreeSet::new();
        pattern_names(node.get("id"), &mut |name| {
            names.insert(name);
        });
        self.visit(node.get("decorators"));
        let was_strict = std::mem::replace(&mut self.is_strict, true);
        self.functions.push(FunctionFrame::default());
        self.within(names, false, |walk| {
            walk.visit(node.get("superClass"));
            walk.visit(node.get("body"));
        });
        self.functions.pop();
        self.is_strict = was_strict;
    }
}
