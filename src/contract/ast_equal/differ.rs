//! The smallest statements in which two programs differ.

use std::hash::{DefaultHasher, Hash, Hasher};

use similar::{Algorithm, DiffOp, capture_diff_slices};

use super::tree::{AstNode, AstValue};

/// Where the programs differ: the innermost statements around it, and in them the exact place.
#[derive(Debug, Clone, Copy)]
pub(super) struct DifferenceSite<'a, 's> {
    /// The statement.
    pub statement: &'a AstNode<'s>,
    /// The innermost node that differs.
    pub at: &'a AstNode<'s>,
}

/// A difference; one side is missing where a statement was added or taken away.
pub(super) type SitePair<'a, 's> = (Option<DifferenceSite<'a, 's>>, Option<DifferenceSite<'a, 's>>);

/// Every difference of two nodes, in the order in which they stand.
pub(super) fn differences<'a, 's>(
    left: &'a AstNode<'s>,
    right: &'a AstNode<'s>,
) -> Vec<SitePair<'a, 's>> {
    let mut search = DifferenceSearch { found: Vec::new() };
    search.nodes((left, left), (right, right));
    search.found
}

struct DifferenceSearch<'a, 's> {
    found: Vec<SitePair<'a, 's>>,
}

/// A node with the statement around it.
type NodeInStatement<'a, 's> = (&'a AstNode<'s>, &'a AstNode<'s>);

impl<'a, 's> DifferenceSearch<'a, 's> {
    fn nodes(
        &mut self,
        (left, outer_left): NodeInStatement<'a, 's>,
        (right, outer_right): NodeInStatement<'a, 's>,
    ) {
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
                Some(DifferenceSite { statement: statement_left, at: left }),
                Some(DifferenceSite { statement: statement_right, at: right }),
            ));
        }
    }

    /// Looks for the difference inside two fields. Says whether it is inside: otherwise it is the fields' nodes that differ.
    fn values(
        &mut self,
        left: &'a AstValue<'s>,
        right: &'a AstValue<'s>,
        (in_left, statement_left): NodeInStatement<'a, 's>,
        (in_right, statement_right): NodeInStatement<'a, 's>,
    ) -> bool {
        match (left, right) {
            // Parts without a place of their own are shown as what they are part of.
            (AstValue::Node(a), AstValue::Node(b)) if !a.kind.is_empty() && !b.kind.is_empty() => {
                self.nodes((a, statement_left), (b, statement_right));
                true
            }
            (AstValue::List(a), AstValue::List(b)) if holds_statements(in_left, in_right) => {
                self.statements(a, b);
                true
            }
            (AstValue::List(a), AstValue::List(b)) if a.len() == b.len() => {
                a.iter().zip(b).filter(|(a, b)| a != b).all(|(a, b)| {
                    self.values(a, b, (in_left, statement_left), (in_right, statement_right))
                })
            }
            (AstValue::Leaf(_) | AstValue::List(_) | AstValue::Node(_), _) => false,
        }
    }

    /// Statements are put side by side as a diff puts lines, and only those that have no equal are looked into.
    fn statements(&mut self, left: &'a [AstValue<'s>], right: &'a [AstValue<'s>]) {
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
    fn replaced(&mut self, left: &'a [AstValue<'s>], right: &'a [AstValue<'s>]) {
        let as_many = left.len() == right.len();
        let mut right = right.iter().filter_map(AstValue::node).peekable();
        for a in left.iter().filter_map(AstValue::node) {
            match right.next_if(|b| as_many || a.kind == b.kind) {
                Some(b) => self.nodes((a, a), (b, b)),
                None => self.found.push((Some(DifferenceSite { statement: a, at: a }), None)),
            }
        }
        for b in right {
            self.found.push((None, Some(DifferenceSite { statement: b, at: b })));
        }
    }
}

/// Whether the list of two nodes is one of statements or members, which may be more on one side than on the other.
fn holds_statements(left: &AstNode, right: &AstNode) -> bool {
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

fn is_statement(node: &AstNode) -> bool {
    let block = node.kind == "BlockStatement";
    !block && (node.kind.ends_with("Statement") || node.kind.ends_with("Declaration"))
        || matches!(node.kind, "MethodDefinition" | "PropertyDefinition" | "SwitchCase")
}

fn marks(values: &[AstValue]) -> Vec<u64> {
    let mark = |value: &AstValue| {
        let mut hasher = DefaultHasher::new();
        hash(value, &mut hasher);
        hasher.finish()
    };
    values.iter().map(mark).collect()
}

/// As they are compared: without places.
fn hash(value: &AstValue, hasher: &mut impl Hasher) {
    match value {
        AstValue::Leaf(text) => text.hash(hasher),
        AstValue::List(list) => {
            list.len().hash(hasher);
            list.iter().for_each(|value| hash(value, hasher));
        }
        AstValue::Node(node) => {
            node.kind.hash(hasher);
            for (name, value) in &node.fields {
                name.hash(hasher);
                hash(value, hasher);
            }
        }
    }
}
