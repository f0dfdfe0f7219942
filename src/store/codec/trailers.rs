//! The trailers of a message.

use std::ops::Index;

/// The `Key: value` lines of a message's last paragraph. A message has few trailers, and a run has
/// ten thousand messages: a search in a list takes less time than building a map.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Trailers<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Trailers<'a> {
    /// Returns the trailers of a message.
    pub fn of(message: &'a str) -> Self {
        let lines = message.trim_end().rsplit('\n').take_while(|line| !line.is_empty());
        let mut trailers = Vec::with_capacity(32);
        trailers.extend(lines.filter_map(|line| {
            let (key, value) = line.strip_suffix('\r').unwrap_or(line).split_once(':')?;
            Some((key, value.strip_prefix(' ')?))
        }));
        trailers.reverse();
        Self(trailers)
    }

    /// Returns the value of a key. The last value counts if a key occurs several times.
    pub fn get(&self, key: &str) -> Option<&&'a str> {
        self.0.iter().rev().find(|(name, _)| *name == key).map(|(_, value)| value)
    }

    /// Returns true if the key occurs.
    pub fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// Adds a trailer.
    pub fn push(&mut self, key: &'a str, value: &'a str) {
        self.0.push((key, value));
    }
}

impl<'a> Index<&str> for Trailers<'a> {
    type Output = &'a str;

    /// Returns the value of a key, or an empty text.
    fn index(&self, key: &str) -> &Self::Output {
        self.get(key).unwrap_or(&"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trailers_are_read_from_the_last_paragraph_and_the_last_value_of_a_key_counts() {
        let trailers = Trailers::of("a: title\n\nb: text\n\nc: 1\nno trailer\nd:2\nc: 3: 4\r\n\n");
        assert_eq!(trailers, Trailers(vec![("c", "1"), ("c", "3: 4")]));
        assert_eq!((trailers["c"], trailers["a"]), ("3: 4", ""));
        assert!(trailers.has("c") && !trailers.has("d"));
        assert_eq!(Trailers::of("a: 1")["a"], "1");
        assert_eq!(Trailers::of(""), Trailers::default());
    }
}
