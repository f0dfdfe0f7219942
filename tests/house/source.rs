//! Rules for every source file.

use super::{read, rust};

/// The largest number of lines of a file.
const LONGEST: usize = 500;

fn all() -> Vec<String> {
    [rust("src"), rust("tests")].concat()
}

#[test]
fn no_file_is_longer_than_five_hundred_lines() {
    let long: Vec<_> = all().into_iter().filter(|f| read(f).lines().count() > LONGEST).collect();
    assert!(long.is_empty(), "longer than {LONGEST} lines, split by what they are about: {long:?}");
}

#[test]
fn every_file_says_first_what_it_is() {
    let mute: Vec<_> = all().into_iter().filter(|f| !read(f).starts_with("//! ")).collect();
    assert!(mute.is_empty(), "these do not open with `//!`: {mute:?}");
}

#[test]
fn nothing_is_unsafe_and_nothing_is_silenced() {
    // Assembled here, so that this file does not contain the words.
    let words = ["unsafe ", "#[allow", "#![allow"].map(|w| format!("{}{}", &w[..3], &w[3..]));
    let mut hits = Vec::new();
    for file in all().into_iter().filter(|f| f != file!()) {
        for (n, line) in read(&file).lines().enumerate() {
            let code = line.split("//").next().unwrap_or("");
            let quiet = |w: &String| {
                code.trim_start().starts_with(w)
                    || (code.contains(&format!(" {w}")) && !code.contains('"'))
            };
            if words.iter().any(quiet) {
                hits.push(format!("{file}:{}: {}", n + 1, line.trim()));
            }
        }
    }
    assert!(hits.is_empty(), "use `expect(…, reason = …)`, and no unsafe code: {hits:#?}");
}
