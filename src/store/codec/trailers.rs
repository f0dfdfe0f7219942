//! The trailers of a message.

use std::ops::Index;

/// The `Key: value` lines of a message's last paragraph. They are few, and read by the ten thousand: looking through a list
/// takes less than making a map.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Trailers<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Trailers<'a> {
    /// Those of a message.
    pub fn of(message: &'a str) -> Self {
        let lines = message.trim_end().rsplit('\n').take_while(|line| !line.is_empty());
        let mut found = Vec::with_capacity(32);
        found.extend(lines.filter_map(|line| {
            let (key, value) = line.strip_suffix('\r').unwrap_or(line).split_once(':')?;
            Some((key, value.strip_prefix(' ')?))
        }));
        found.reverse();
        Self(found)
    }

    /// The value of a key: the last one, if there are several.
    pub fn get(&self, key: &str) -> Option<&&'a str> {
        self.0.iter().rev().find(|(known, _)| *known == key).map(|(_, value)| value)
    }

    /// Whether there is such a key.
    pub fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// Adds one.
    pub fn push(&mut self, key: &'a str, value: &'a str) {
        self.0.push((key, value));
    }
}

impl<'a> Index<&str> for Trailers<'a> {
    type Output = &'a str;

    /// The value of a key that is there.
    fn index(&self, key: &str) -> &Self::Output {
        self.get(key).unwrap_or(&"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_paragraph_counts_and_the_last_of_a_key() {
        let found = Trailers::of("a: title\n\nb: text\n\nc: 1\nno trailer\nd:2\nc: 3: 4\r\n\n");
        assert_eq!(found, Trailers(vec![("c", "1"), ("c", "3: 4")]));
        assert_eq!((found["c"], found["a"]), ("3: 4", ""));
        assert!(found.has("c") && !found.has("d"));
        assert_eq!(Trailers::of("a: 1")["a"], "1");
        assert_eq!(Trailers::of(""), Trailers::default());
    }
}
