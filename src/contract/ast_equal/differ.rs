//! The search for the smallest statements in which two programs differ.

use std::hash::{DefaultHasher, Hash, Hasher};

use similar::{Algorithm, DiffOp, capture_diff_slices};

use super::tree::{AstNode, AstValue};

/// A place where the programs differ.
#[derive(Debug, Clone, Copy)]
pub(super) struct DifferenceSite<'a, 's> {
    /// The innermost statement around the difference.
    pub statement: &'a AstNode<'s>,
    /// The innermost node that differs.
    pub node: &'a AstNode<'s>,
}

/// A difference. One side is missing if a statement was added or removed.
pub(super) type SitePair<'a, 's> = (Option<DifferenceSite<'a, 's>>, Option<DifferenceSite<'a, 's>>);

/// Returns all differences of two nodes, in the order of the text.
pub(super) fn differences<'a, 's>(
    left: &'a AstNode<'s>,
    right: &'a AstNode<'s>,
) -> Vec<SitePair<'a, 's>> {
    let mut search = DifferenceSearch { differences: Vec::new() };
    search.compare_nodes((left, left), (right, right));
    search.differences
}

struct DifferenceSearch<'a, 's> {
    differences: Vec<SitePair<'a, 's>>,
}

/// A node with the statement around it.
type NodeInStatement<'a, 's> = (&'a AstNode<'s>, &'a AstNode<'s>);

impl<'a, 's> DifferenceSearch<'a, 's> {
    /// Adds the differences of two nodes.
    fn compare_nodes(
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
        let before = self.differences.len();
        let mut differs_itself = left.kind != right.kind || left.fields.len() != right.fields.len();
        if !differs_itself {
            for ((name, a), (other, b)) in left.fields.iter().zip(&right.fields) {
                if name != other {
                    differs_itself = true;
                } else if a != b {
                    differs_itself |= !self.compare_values(
                        a,
                        b,
                        (left, statement_left),
                        (right, statement_right),
                    );
                }
            }
        }
        if differs_itself {
            // The node differs as a whole, which explains all differences inside the node.
            self.differences.truncate(before);
            self.differences.push((
                Some(DifferenceSite { statement: statement_left, node: left }),
                Some(DifferenceSite { statement: statement_right, node: right }),
            ));
        }
    }

    /// Adds the differences within two fields. Returns false if the nodes that own the fields
    /// differ as a whole.
    fn compare_values(
        &mut self,
        left: &'a AstValue<'s>,
        right: &'a AstValue<'s>,
        (in_left, statement_left): NodeInStatement<'a, 's>,
        (in_right, statement_right): NodeInStatement<'a, 's>,
    ) -> bool {
        match (left, right) {
            // An object without an ESTree type has no position, so the node around the object
            // counts as the difference.
            (AstValue::Node(a), AstValue::Node(b)) if !a.kind.is_empty() && !b.kind.is_empty() => {
                self.compare_nodes((a, statement_left), (b, statement_right));
                true
            }
            (AstValue::List(a), AstValue::List(b)) if holds_statements(in_left, in_right) => {
                self.compare_statements(a, b);
                true
            }
            (AstValue::List(a), AstValue::List(b)) if a.len() == b.len() => {
                a.iter().zip(b).filter(|(a, b)| a != b).all(|(a, b)| {
                    self.compare_values(
                        a,
                        b,
                        (in_left, statement_left),
                        (in_right, statement_right),
                    )
                })
            }
            (
                AstValue::Leaf(_) | AstValue::List(_) | AstValue::Node(_),
                AstValue::Leaf(_) | AstValue::List(_) | AstValue::Node(_),
            ) => false,
        }
    }

    /// Aligns statements like the lines of a diff, and compares the statements without an equal
    /// counterpart.
    fn compare_statements(&mut self, left: &'a [AstValue<'s>], right: &'a [AstValue<'s>]) {
        let (left_hashes, right_hashes) = (hashes(left), hashes(right));
        for op in capture_diff_slices(Algorithm::Myers, &left_hashes, &right_hashes) {
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
            self.compare_replaced(a, b);
        }
    }

    /// Compares statements that replace other statements: in pairs if both sides have the same
    /// count, otherwise in pairs of the same kind.
    fn compare_replaced(&mut self, left: &'a [AstValue<'s>], right: &'a [AstValue<'s>]) {
        let same_count = left.len() == right.len();
        let mut right = right.iter().filter_map(AstValue::node).peekable();
        for a in left.iter().filter_map(AstValue::node) {
            match right.next_if(|b| same_count || a.kind == b.kind) {
                Some(b) => self.compare_nodes((a, a), (b, b)),
                None => {
                    self.differences.push((Some(DifferenceSite { statement: a, node: a }), None));
                }
            }
        }
        for b in right {
            self.differences.push((None, Some(DifferenceSite { statement: b, node: b })));
        }
    }
}

/// Returns true if the lists in two nodes hold statements or members. Such lists may differ in
/// length.
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

fn hashes(values: &[AstValue]) -> Vec<u64> {
    let hash_of = |value: &AstValue| {
        let mut hasher = DefaultHasher::new();
        hash(value, &mut hasher);
        hasher.finish()
    };
    values.iter().map(hash_of).collect()
}

/// Hashes a value without its positions.
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
