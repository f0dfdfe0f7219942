//! A syntax tree in its ESTree form, read from the JSON that the parser's crate prints.
//!
//! Every field of every node comes along, known to us or not: what nobody names in `erase` is compared.

use thiserror::Error;

/// What a field holds. Texts are kept as JSON spells them, numbers too: the printer has one spelling for each value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum AstValue<'s> {
    /// Nothing, a flag, a number or a text, as it is printed.
    Leaf(&'s str),
    /// Several.
    List(Vec<Self>),
    /// A node.
    Node(Box<AstNode<'s>>),
}

/// A node, or a part of one that has fields.
#[derive(Debug, Clone)]
pub(super) struct AstNode<'s> {
    /// Its ESTree type, as `"Identifier"` without the quotes; empty for a part.
    pub kind: &'s str,
    /// Where it begins, in bytes.
    pub start: usize,
    /// Where it ends.
    pub end: usize,
    /// Its other fields, in the printer's order.
    pub fields: Vec<(&'s str, AstValue<'s>)>,
}

/// Where something stands is not part of what it is.
impl PartialEq for AstNode<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind && self.fields == other.fields
    }
}

impl Eq for AstNode<'_> {}

impl<'s> AstValue<'s> {
    /// No node, no text.
    pub(super) const NULL: Self = Self::Leaf("null");

    /// The node, if it is one.
    pub(super) fn node(&self) -> Option<&AstNode<'s>> {
        match self {
            Self::Node(node) => Some(node),
            Self::Leaf(_) | Self::List(_) => None,
        }
    }

    /// The parts of a list; none if it is none.
    pub(super) fn list(&self) -> &[Self] {
        match self {
            Self::List(list) => list,
            Self::Leaf(_) | Self::Node(_) => &[],
        }
    }

    /// The text without its quotes, with JSON's escapes.
    pub(super) fn text(&self) -> Option<&'s str> {
        match self {
            Self::Leaf(text) => text.strip_prefix('"')?.strip_suffix('"'),
            Self::List(_) | Self::Node(_) => None,
        }
    }

    /// Whether it is the flag `true`.
    pub(super) fn is_true(&self) -> bool {
        matches!(self, Self::Leaf("true"))
    }

    /// Calls `f` for every node in it, from outside to inside.
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
    /// A field; nothing if it has none of this name.
    pub(super) fn get(&self, name: &str) -> &AstValue<'s> {
        self.fields.iter().find(|(n, _)| *n == name).map_or(&AstValue::NULL, |(_, value)| value)
    }

    /// The same, to be changed.
    pub(super) fn get_mut(&mut self, name: &str) -> Option<&mut AstValue<'s>> {
        self.fields.iter_mut().find(|(n, _)| *n == name).map(|(_, value)| value)
    }

    /// A flag.
    pub(super) fn is(&self, name: &str) -> bool {
        self.get(name).is_true()
    }

    /// Takes a field out of it.
    pub(super) fn take(mut self, name: &str) -> Option<AstValue<'s>> {
        let at = self.fields.iter().position(|(n, _)| *n == name)?;
        Some(self.fields.swap_remove(at).1)
    }
}

/// What the printer printed cannot be read. A mistake of ours, or of the crate.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("the syntax tree cannot be read at byte {0}")]
pub(super) struct Unreadable(usize);

/// Reads what the printer printed.
pub(super) fn read(json: &str) -> Result<AstValue<'_>, Unreadable> {
    let mut reader = AstReader { json, at: 0 };
    let value = reader.value()?;
    if reader.at == json.len() { Ok(value) } else { Err(Unreadable(reader.at)) }
}

/// The printer writes no white space, and no field twice.
struct AstReader<'s> {
    json: &'s str,
    at: usize,
}

impl<'s> AstReader<'s> {
    fn peek(&self) -> u8 {
        self.json.as_bytes().get(self.at).copied().unwrap_or(0)
    }

    fn expect(&mut self, byte: u8) -> Result<(), Unreadable> {
        if self.peek() != byte {
            return Err(Unreadable(self.at));
        }
        self.at += 1;
        Ok(())
    }

    fn value(&mut self) -> Result<AstValue<'s>, Unreadable> {
        match self.peek() {
            b'{' => Ok(AstValue::Node(Box::new(self.node()?))),
            b'[' => {
                let mut list = Vec::new();
                self.several(b']', |reader| {
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
                    return Err(Unreadable(self.at));
                }
                self.at += length;
                Ok(AstValue::Leaf(&rest[..length]))
            }
        }
    }

    /// What stands between an opening bracket and `end`, with commas between.
    fn several(
        &mut self,
        end: u8,
        mut one: impl FnMut(&mut Self) -> Result<(), Unreadable>,
    ) -> Result<(), Unreadable> {
        self.at += 1;
        if self.peek() == end {
            self.at += 1;
            return Ok(());
        }
        loop {
            one(self)?;
            if self.peek() == end {
                self.at += 1;
                return Ok(());
            }
            self.expect(b',')?;
        }
    }

    fn node(&mut self) -> Result<AstNode<'s>, Unreadable> {
        let mut node = AstNode { kind: "", start: 0, end: 0, fields: Vec::new() };
        self.several(b'}', |reader| {
            let name = reader.quoted()?.trim_matches('"');
            reader.expect(b':')?;
            let at = reader.at;
            let value = reader.value()?;
            let number = |value: &AstValue| match value {
                AstValue::Leaf(text) => text.parse().map_err(|_| Unreadable(at)),
                AstValue::List(_) | AstValue::Node(_) => Err(Unreadable(at)),
            };
            match name {
                "type" => node.kind = value.text().ok_or(Unreadable(at))?,
                "start" => node.start = number(&value)?,
                "end" => node.end = number(&value)?,
                _ => node.fields.push((name, value)),
            }
            Ok(())
        })?;
        Ok(node)
    }

    /// A text with its quotes.
    fn quoted(&mut self) -> Result<&'s str, Unreadable> {
        let start = self.at;
        self.expect(b'"')?;
        loop {
            match self.peek() {
                0 => return Err(Unreadable(self.at)),
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
    use super::{AstValue, Unreadable, read};

    #[test]
    fn what_is_printed_is_read_with_every_field() {
        let json = r#"{"type":"A","x":[1.5,null,{"type":"B","start":3,"end":7}],"y":"a\"b]","start":0,"end":9}"#;
        let value = read(json).unwrap();
        let node = value.node().unwrap();
        assert_eq!((node.kind, node.start, node.end), ("A", 0, 9));
        assert_eq!(node.get("y").text(), Some(r#"a\"b]"#));
        let list = node.get("x").list();
        assert_eq!(list[0], AstValue::Leaf("1.5"));
        assert_eq!(list[1], AstValue::NULL);
        assert_eq!(list[2].node().map(|n| (n.kind, n.start)), Some(("B", 3)));
        assert_eq!(node.get("z"), &AstValue::NULL);
        assert_eq!(read("{}").unwrap().node().map(|n| n.fields.len()), Some(0));
    }

    #[test]
    fn what_is_cut_off_is_not_read_as_something_shorter() {
        let json = r#"{"type":"A","x":["b"]}"#;
        for end in 0..json.len() {
            assert!(read(&json[..end]).is_err(), "{}", &json[..end]);
        }
        assert_eq!(read(&format!("{json}x")), Err(Unreadable(json.len())));
    }
}
