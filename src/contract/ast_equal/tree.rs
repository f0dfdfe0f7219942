//! A syntax tree in ESTree form, parsed from the JSON that the parser crate prints.
//!
//! The tree has every field of every node. Fields that `erase` does not name are compared.

use thiserror::Error;

/// The value of a field. Texts and numbers keep their JSON spelling, which is unique for a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum AstValue<'s> {
    /// `null`, a flag, a number or a text, as printed.
    Leaf(&'s str),
    /// A list.
    List(Vec<Self>),
    /// A node.
    Node(Box<AstNode<'s>>),
}

/// A node, or an object within a node.
#[derive(Debug, Clone)]
pub(super) struct AstNode<'s> {
    /// The ESTree type, such as `Identifier`; empty for an object within a node.
    pub kind: &'s str,
    /// The start offset, in bytes.
    pub start: usize,
    /// The end offset, in bytes.
    pub end: usize,
    /// The other fields, in the printer's order.
    pub fields: Vec<(&'s str, AstValue<'s>)>,
}

/// Equality ignores the position.
impl PartialEq for AstNode<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind && self.fields == other.fields
    }
}

impl Eq for AstNode<'_> {}

impl<'s> AstValue<'s> {
    /// The value `null`.
    pub(super) const NULL: Self = Self::Leaf("null");

    /// Returns the node, or `None` for any other value.
    pub(super) fn node(&self) -> Option<&AstNode<'s>> {
        match self {
            Self::Node(node) => Some(node),
            Self::Leaf(_) | Self::List(_) => None,
        }
    }

    /// Returns the items of a list, or no items for any other value.
    pub(super) fn list(&self) -> &[Self] {
        match self {
            Self::List(list) => list,
            Self::Leaf(_) | Self::Node(_) => &[],
        }
    }

    /// Returns the text without quotes, with JSON's escapes.
    pub(super) fn text(&self) -> Option<&'s str> {
        match self {
            Self::Leaf(text) => text.strip_prefix('"')?.strip_suffix('"'),
            Self::List(_) | Self::Node(_) => None,
        }
    }

    /// Returns true for the flag `true`.
    pub(super) fn is_true(&self) -> bool {
        matches!(self, Self::Leaf("true"))
    }

    /// Calls `f` for every node in the value, outer nodes first.
    pub(super) fn each(&self, f: &mut impl FnMut(&AstNode<'s>)) {
        match self {
            Self::Leaf(_) => {}
            Self::List(list) => list.iter().for_each(|value| value.each(f)),
            Self::Node(node) => {
                f(node);
                node.fields.iter().for_each(|(_, value)| value.each(f));
            }
        }
    }
}

impl<'s> AstNode<'s> {
    /// Returns the field with this name, or `null`.
    pub(super) fn get(&self, name: &str) -> &AstValue<'s> {
        self.fields.iter().find(|(n, _)| *n == name).map_or(&AstValue::NULL, |(_, value)| value)
    }

    /// Returns a mutable reference to the field with this name.
    pub(super) fn get_mut(&mut self, name: &str) -> Option<&mut AstValue<'s>> {
        self.fields.iter_mut().find(|(n, _)| *n == name).map(|(_, value)| value)
    }

    /// Returns the flag with this name.
    pub(super) fn is(&self, name: &str) -> bool {
        self.get(name).is_true()
    }

    /// Returns the field with this name and drops the node.
    pub(super) fn take(mut self, name: &str) -> Option<AstValue<'s>> {
        let index = self.fields.iter().position(|(n, _)| *n == name)?;
        Some(self.fields.swap_remove(index).1)
    }
}

/// An error in the printed JSON: a bug in this module or in the parser crate.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("the syntax tree cannot be read at byte {0}")]
pub(super) struct AstReadError(usize);

/// Parses the printed JSON.
pub(super) fn parse(json: &str) -> Result<AstValue<'_>, AstReadError> {
    let mut reader = AstReader { json, at: 0 };
    let value = reader.value()?;
    if reader.at == json.len() { Ok(value) } else { Err(AstReadError(reader.at)) }
}

/// A parser of the printed JSON, which has no white space and no duplicate fields.
struct AstReader<'s> {
    json: &'s str,
    at: usize,
}

impl<'s> AstReader<'s> {
    fn peek(&self) -> u8 {
        self.json.as_bytes().get(self.at).copied().unwrap_or(0)
    }

    fn expect(&mut self, byte: u8) -> Result<(), AstReadError> {
        if self.peek() != byte {
            return Err(AstReadError(self.at));
        }
        self.at += 1;
        Ok(())
    }

    fn value(&mut self) -> Result<AstValue<'s>, AstReadError> {
        match self.peek() {
            b'{' => Ok(AstValue::Node(Box::new(self.node()?))),
            b'[' => {
                let mut list = Vec::new();
                self.items(b']', |reader| {
                    list.push(reader.value()?);
                    Ok(())
                })?;
                Ok(AstValue::List(list))
            }
            b'"' => Ok(AstValue::Leaf(self.quoted()?)),
            _ => {
                let rest = &self.json[self.at..];
                let length = rest.find([',', ']', '}']).unwrap_or(rest.len());
                if length == 0 {
                    return Err(AstReadError(self.at));
                }
                self.at += length;
                Ok(AstValue::Leaf(&rest[..length]))
            }
        }
    }

    /// Parses comma-separated items between an opening bracket and `end`.
    fn items(
        &mut self,
        end: u8,
        mut item: impl FnMut(&mut Self) -> Result<(), AstReadError>,
    ) -> Result<(), AstReadError> {
        self.at += 1;
        if self.peek() == end {
            self.at += 1;
            return Ok(());
        }
        loop {
            item(self)?;
            if self.peek() == end {
                self.at += 1;
                return Ok(());
            }
            self.expect(b',')?;
        }
    }

    fn node(&mut self) -> Result<AstNode<'s>, AstReadError> {
        let mut node = AstNode { kind: "", start: 0, end: 0, fields: Vec::new() };
        self.items(b'}', |reader| {
            let name = reader.quoted()?.trim_matches('"');
            reader.expect(b':')?;
            let at = reader.at;
            let value = reader.value()?;
            let number = |value: &AstValue| match value {
                AstValue::Leaf(text) => text.parse().map_err(|_| AstReadError(at)),
                AstValue::List(_) | AstValue::Node(_) => Err(AstReadError(at)),
            };
            match name {
                "type" => node.kind = value.text().ok_or(AstReadError(at))?,
                "start" => node.start = number(&value)?,
                "end" => node.end = number(&value)?,
                _ => node.fields.push((name, value)),
            }
            Ok(())
        })?;
        Ok(node)
    }

    /// Parses a text with its quotes.
    fn quoted(&mut self) -> Result<&'s str, AstReadError> {
        let start = self.at;
        self.expect(b'"')?;
        loop {
            match self.peek() {
                0 => return Err(AstReadError(self.at)),
                b'\\' => self.at += 2,
                b'"' => break,
                _ => self.at += 1,
            }
        }
        self.at += 1;
        Ok(&self.json[start..self.at])
    }
}

#[cfg(test)]
mod tests {
    use super::{AstReadError, AstValue, parse};

    #[test]
    fn syntax_tree_is_parsed_with_every_field() {
        let json = r#"{"type":"A","x":[1.5,null,{"type":"B","start":3,"end":7}],"y":"a\"b]","start":0,"end":9}"#;
        let value = parse(json).unwrap();
        let node = value.node().unwrap();
        assert_eq!((node.kind, node.start, node.end), ("A", 0, 9));
        assert_eq!(node.get("y").text(), Some(r#"a\"b]"#));
        let list = node.get("x").list();
        assert_eq!(list[0], AstValue::Leaf("1.5"));
        assert_eq!(list[1], AstValue::NULL);
        assert_eq!(list[2].node().map(|n| (n.kind, n.start)), Some(("B", 3)));
        assert_eq!(node.get("z"), &AstValue::NULL);
        assert_eq!(parse("{}").unwrap().node().map(|n| n.fields.len()), Some(0));
    }

    #[test]
    fn truncated_syntax_tree_is_an_error() {
        let json = r#"{"type":"A","x":["b"]}"#;
        for end in 0..json.len() {
            assert!(parse(&json[..end]).is_err(), "{}", &json[..end]);
        }
        assert_eq!(parse(&format!("{json}x")), Err(AstReadError(json.len())));
    }
}
