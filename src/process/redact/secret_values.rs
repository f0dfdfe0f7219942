//! Known secrets in files that want to land.

use std::io;

use aho_corasick::AhoCorasick;

use super::{encodings, rules};

/// The shortest value that counts as a secret in a file. Shorter values would match in honest work.
const SHORTEST_IN_FILES: usize = 8;

/// The shortest value that counts without a name that looks secret.
const SHORTEST_UNNAMED: usize = 16;

/// The values of secret variables, to be found in files.
#[derive(Debug, Default)]
pub(crate) struct KnownSecrets {
    /// `None` if there are no secrets.
    search: Option<AhoCorasick>,
    /// The name of the variable of each pattern.
    names: Vec<String>,
}

impl KnownSecrets {
    /// Creates the search for the values of variables, and for the passwords of URLs in them. Not
    /// every variable that a job passes on is secret: a value counts if the name or the value looks
    /// secret.
    pub(crate) fn new<'a>(
        variables: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    ) -> io::Result<Self> {
        let (mut patterns, mut names) = (Vec::new(), Vec::new());
        for (name, value) in variables {
            let value = value.trim_ascii();
            let password = rules::dsn_password(value).map(|(from, to)| &value[from..to]);
            let whole = is_secret(name, value).then_some(value);
            for secret in [whole, password].into_iter().flatten() {
                if secret.len() < SHORTEST_IN_FILES {
                    continue;
                }
                for form in encodings(secret) {
                    patterns.push(form);
                    names.push(name.to_owned());
                }
            }
        }
        let search = match patterns.is_empty() {
            true => None,
            false => Some(AhoCorasick::new(&patterns).map_err(io::Error::other)?),
        };
        Ok(Self { search, names })
    }

    /// Returns true if there are no secrets.
    pub(crate) fn is_empty(&self) -> bool {
        self.search.is_none()
    }

    /// Returns the line, counted from 1, of the first secret in a text, and the name of its
    /// variable.
    pub(crate) fn find(&self, text: &[u8]) -> Option<(usize, &str)> {
        let hit = self.search.as_ref()?.find(text)?;
        let line = text[..hit.start()].iter().filter(|byte| **byte == b'\n').count() + 1;
        let name = self.names.get(hit.pattern().as_usize())?;
        Some((line, name))
    }
}

/// Returns true if the name of a variable looks like that of a secret, or if the value is long and
/// looks random.
fn is_secret(name: &str, value: &[u8]) -> bool {
    let has = |test: fn(&u8) -> bool| value.iter().any(test);
    // A key in base64 may begin with a slash, but it is long.
    if value.starts_with(b"/") && (value.len() < 40 || value.contains(&b'.')) {
        return false;
    }
    let plain = value.iter().all(|byte| byte.is_ascii_graphic() && !b"/.:@\\".contains(byte));
    rules::is_secret_name(name)
        || value.len() >= SHORTEST_UNNAMED
            && plain
            && has(u8::is_ascii_digit)
            && has(u8::is_ascii_alphabetic)
}

#[cfg(test)]
mod tests {
    use super::KnownSecrets;

    fn line_of(name: &str, value: &str, text: &str) -> Option<usize> {
        let secrets = KnownSecrets::new([(name, value.as_bytes())]).unwrap();
        secrets.find(text.as_bytes()).map(|(line, variable)| {
            assert_eq!(variable, name);
            line
        })
    }

    #[test]
    fn known_secret_is_found_by_line_in_each_of_its_forms() {
        let value = "s3cret/value+17";
        assert_eq!(line_of("API_TOKEN", value, "a\nb = 's3cret/value+17'\n"), Some(2));
        assert_eq!(line_of("API_TOKEN", value, "\n\nczNjcmV0L3ZhbHVlKzE3"), Some(3), "base64");
        assert_eq!(line_of("API_TOKEN", value, "7333637265742f76616c75652b3137"), Some(1), "hex");
        assert_eq!(line_of("API_TOKEN", value, "?t=s3cret%2Fvalue%2B17"), Some(1), "url");
        assert_eq!(line_of("API_TOKEN", value, "s3cret"), None);
    }

    #[test]
    fn value_that_does_not_look_secret_is_no_known_secret() {
        assert_eq!(line_of("NODE_ENV", "production", "production"), None);
        assert_eq!(
            line_of("ENDPOINT", "https://example.com/v1/models", "https://example.com/v1/models"),
            None
        );
        assert_eq!(line_of("PLAIN", "0123456789abcdef0123", "x 0123456789abcdef0123"), Some(1));
        assert_eq!(line_of("DATABASE", "postgres://me:hunter22@db/x", "pw: hunter22"), Some(1));
        assert_eq!(line_of("API_TOKEN", "short", "short"), None);
    }
}
