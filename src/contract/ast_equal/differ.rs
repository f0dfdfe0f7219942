//! The smallest statements in which two programs differ.

use std::hash::{DefaultHasher, Hash, Hasher};

use similar::{Algorithm, DiffOp, capture_diff_slices};

use super::tree::{Node, Value};

/// Where the programs differ: the innermost statements around it, and in them the exact place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Site<'a, 's> {
    /// The statement.
    pub statement: &'a Node<'s>,
    /// The innermost node that differs.
    pub at: &'a Node<'s>,
}

/// A difference; one side is missing where a statement was added or taken away.
pub(super) type Pair<'a, 's> = (Option<Site<'a, 's>>, Option<Site<'a, 's>>);

/// Every difference of two nodes, in the order in which they stand.
pub(super) fn differences<'a, 's>(left: &'a Node<'s>, right: &'a Node<'s>) -> Vec<Pair<'a, 's>> {
    let mut search = Search { found: Vec::new() };
    search.nodes((left, left), (right, right));
    search.found
}

struct Search<'a, 's> {
    found: Vec<Pair<'a, 's>>,
}

/// A node with the statement around it.
type At<'a, 's> = (&'a Node<'s>, &'a Node<'s>);

impl<'a, 's> Search<'a, 's> {
    fn nodes(&mut self, (left, outer_left): At<'a, 's>, (right, outer_right): At<'a, 's>) {
        let (statement_left, statement_right) =
            if is_statement(left) && is_statement(right) || outer_left.kind == "Program" {
                (left, right)
            } else {
                (outer_left, outer_right)
            };
        let before = self.found.len();
        let mut here = left.kind != right.kind || left.fields.len() != right.fields.len();
        if !here {
            for ((name, a), (other, b)) in left.fields.iter().zip(&right.fields) {
                if name != other {
                    here = true;
                } else if a != b {
                    here |= !self.values(a, b, (left, statement_left), (right, statement_right));
                }
            }
        }
        if here {
            // What is wrong with the node as a whole explains what was found in it.
            self.found.truncate(before);
            self.found.push((
                Some(Site { statement: statement_left, at: left }),
                Some(Site { statement: statement_right, at: right }),
            ));
        }
    }

    /// Looks for the difference inside two fields. Says whether it is inside: otherwise it is the fields' nodes that differ.
    fn values(
        &mut self,
        left: &'a Value<'s>,
        right: &'a Value<'s>,
        (in_left, statement_left): At<'a, 's>,
        (in_right, statement_right): At<'a, 's>,
    ) -> bool {
        match (left, right) {
            // Parts without a place of their own are shown as what they are part of.
            (Value::Node(a), Value::Node(b)) if !a.kind.is_empty() && !b.kind.is_empty() => {
                self.nodes((a, statement_left), (b, statement_right));
                true
            }
            (Value::List(a), Value::List(b)) if holds_statements(in_left, in_right) => {
                self.statements(a, b);
                true
            }
            (Value::List(a), Value::List(b)) if a.len() == b.len() => {
                a.iter().zip(b).filter(|(a, b)| a != b).all(|(a, b)| {
                    self.values(a, b, (in_left, statement_left), (in_right, statement_right))
                })
            }
            (Value::Leaf(_) | Value::List(_) | Value::Node(_), _) => false,
        }
    }

    /// Statements are put side by side as a diff puts lines, and only those that have no equal are looked into.
    fn statements(&mut self, left: &'a [Value<'s>], right: &'a [Value<'s>]) {
        let (left_marks, right_marks) = (marks(left), marks(right));
        for op in capture_diff_slices(Algorithm::Myers, &left_marks, &right_marks) {
            let (a, b) = match op {
                DiffOp::Equal { .. } => continue,
                DiffOp::Delete { old_index, old_len, .. } => {
                    (&left[old_index..old_index + old_len], &right[..0])
                }
                DiffOp::Insert { new_index, new_len, .. } => {
                    (&left[..0], &right[new_index..new_index + new_len])
                }
                DiffOp::Replace { old_index, old_len, new_index, new_len } => {
                    (&left[old_index..old_index + old_len], &right[new_index..new_index + new_len])
                }
            };
            self.replaced(a, b);
        }
    }

    /// Statements that stand where others stood: in pairs if they are as many, else as long as they are of one kind.
    fn replaced(&mut self, left: &'a [Value<'s>], right: &'a [Value<'s>]) {
        let as_many = left.len() == right.len();
        let mut right = right.iter().filter_map(Value::node).peekable();
        for a in left.iter().filter_map(Value::node) {
            match right.next_if(|b| as_many || a.kind == b.kind) {
                Some(b) => self.nodes((a, a), (b, b)),
                None => self.found.push((Some(Site { statement: a, at: a }), None)),
            }
        }
        for b in right {
            self.found.push((None, Some(Site { statement: b, at: b })));
        }
    }
}

/// Whether the list of two nodes is one of statements or members, which may be more on one side than on the other.
fn holds_statements(left: &Node, right: &Node) -> bool {
    left.kind == right.kind
        && matches!(
            left.kind,
            "Program"
                | "BlockStatement"
                | "ClassBody"
                | "StaticBlock"
                | "SwitchStatement"
                | "SwitchCase"
        )
}

fn is_statement(node: &Node) -> bool {
    let block = node.kind == "BlockStatement";
    !block && (node.kind.ends_with("Statement") || node.kind.ends_with("Declaration"))
        || matches!(node.kind, "MethodDefinition" | "PropertyDefinition" | "SwitchCase")
}

fn marks(values: &[Value]) -> Vec<u64> {
    let mark = |value: &Value| {
        let mut hasher = DefaultHasher::new();
        hash(value, &mut hasher);
        hasher.finish()
    };
    values.iter().map(mark).collect()
}

/// As they are compared: without places.
fn hash(value: &Value, hasher: &mut impl Hasher) {
    match value {
        Value::Leaf(text) => text.hash(hasher),
        Value::List(list) => {
            list.len().hash(hasher);
            list.iter().for_each(|value| hash(value, hasher));
        }
        Value::Node(node) => {
            node.kind.hash(hasher);
            for (name, value) in &node.fields {
                name.hash(hasher);
                hash(value, hasher);
            }
        }
    }
}
