//! Tables of equal and different programs, and properties of all programs.

use super::{AstEqualOptions, CompareError, Comparison, ENGINE, SourceFile, compare};

/// A pair of programs in a table.
struct FixturePair {
    title: String,
    options: AstEqualOptions,
    from: (String, String),
    to: (String, String),
    /// The expected lines of the difference in both programs.
    at: Option<(Option<usize>, Option<usize>)>,
}

fn cases(table: &str) -> Vec<FixturePair> {
    let cases = table.split("\n== ").skip(1);
    cases.map(|text| case(text).unwrap_or_else(|| panic!("not a case: {text}"))).collect()
}

fn case(text: &str) -> Option<FixturePair> {
    let (head, body) = text.split_once('\n')?;
    let (from, to) = body.split_once("\n--\n")?;
    let mut options = AstEqualOptions::default();
    let mut extensions = vec!["js", "ts"];
    if let Some((_, rest)) = head.split_once('{') {
        let words: Vec<_> = rest.split_once('}')?.0.split_whitespace().collect();
        for word in &words {
            match *word {
                "extensions" => options.extensions = true,
                "type-imports" => options.type_imports = true,
                "assigned-fields" => options.define_fields = false,
                "ts-comments" => options.ts_comments = true,
                "max-any=1" => options.max_any = Some(1),
                _ if words.len() == 2 => extensions.clone_from(&words),
                _ => return None,
            }
        }
    }
    let at = head.split_once('@').map(|(_, rest)| {
        let (a, b) = rest.split_whitespace().next()?.split_once(':')?;
        Some((a.parse().ok(), b.parse().ok()))
    });
    Some(FixturePair {
        title: head.to_owned(),
        options,
        from: (format!("a.{}", extensions[0]), from.to_owned()),
        to: (format!("a.{}", extensions[1]), to.trim_end().to_owned()),
        at: at.flatten(),
    })
}

fn run(case: &FixturePair) -> Result<Comparison, CompareError> {
    let source =
        |(path, text): &(String, String)| -> (String, String) { (path.clone(), text.clone()) };
    let (from, to) = (source(&case.from), source(&case.to));
    between((&from.0, &from.1), (&to.0, &to.1), &case.options)
}

fn between(
    from: (&str, &str),
    to: (&str, &str),
    options: &AstEqualOptions,
) -> Result<Comparison, CompareError> {
    let source = |(path, text)| SourceFile { path, text };
    compare(&source(from), &source(to), options)
}

fn format_differences(comparison: &Comparison) -> String {
    comparison.differences.iter().map(|d| format!("{d}\n")).collect()
}

const FAITHFUL: &str = include_str!("../../../fixtures/contract/faithful.txt");
const CHANGED: &str = include_str!("../../../fixtures/contract/changed.txt");

#[test]
fn ast_equal_accepts_every_faithful_pair() {
    let cases = cases(FAITHFUL);
    assert!(cases.len() >= 40, "{}", cases.len());
    let mut mismatches = String::new();
    for case in &cases {
        match run(case) {
            Ok(comparison) if comparison.is_equal() => {}
            Ok(comparison) => {
                mismatches.push_str(&format!(
                    "== {}\n{}",
                    case.title,
                    format_differences(&comparison)
                ));
            }
            Err(e) => mismatches.push_str(&format!("== {}\n{e}\n", case.title)),
        }
    }
    assert!(mismatches.is_empty(), "\n{mismatches}");
}

#[test]
fn ast_equal_finds_every_difference_at_its_line() {
    let cases = cases(CHANGED);
    assert!(cases.len() >= 100, "{}", cases.len());
    let mut mismatches = String::new();
    for case in &cases {
        let outcome = match run(case) {
            Ok(comparison) if comparison.is_equal() => "no difference found\n".to_owned(),
            Ok(comparison) => {
                let first = &comparison.differences[0];
                let line = |e: &Option<super::Excerpt>| e.as_ref().map(|e| e.line);
                if case.at == Some((line(&first.from), line(&first.to))) {
                    continue;
                }
                format_differences(&comparison)
            }
            Err(e) => format!("{e}\n"),
        };
        mismatches.push_str(&format!("== {}\n{outcome}", case.title));
    }
    assert!(mismatches.is_empty(), "\n{mismatches}");
}

/// Returns all files of the tables, as path and text.
fn corpus() -> Vec<(String, String)> {
    let all = cases(FAITHFUL).into_iter().chain(cases(CHANGED));
    let mut files: Vec<_> = all.flat_map(|case| [case.from, case.to]).collect();
    files.sort();
    files.dedup();
    files
}

#[test]
fn ast_equal_accepts_every_file_as_equal_to_itself() {
    for (path, text) in corpus() {
        let file = (path.as_str(), text.as_str());
        let comparison = between(file, file, &AstEqualOptions::default()).unwrap();
        assert!(comparison.is_equal(), "{text}\n{}", format_differences(&comparison));
        let other = text.replace('\n', "\r\n");
        let comparison = between(file, (&path, &other), &AstEqualOptions::default()).unwrap();
        assert!(
            comparison.is_equal(),
            "with other line ends: {text}\n{}",
            format_differences(&comparison)
        );
        let comparison =
            between(file, (&path, &format!("\u{feff}{text}")), &AstEqualOptions::default());
        assert!(
            comparison.is_ok_and(|comparison| comparison.is_equal()),
            "with a byte order mark: {text}"
        );
    }
}

/// Splits a text roughly into tokens: words and operators. Comments have no tokens.
fn tokens(text: &str) -> Vec<std::ops::Range<usize>> {
    const SIGNS: &str = "+-*/%&|^<>=!?.~";
    let word = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
    let class = |c: char| if word(c) { 1 } else { 2 * u8::from(SIGNS.contains(c)) };
    let mut tokens: Vec<std::ops::Range<usize>> = Vec::new();
    let mut before = 0;
    for (at, c) in text.char_indices().filter(|(_, c)| !c.is_whitespace()) {
        match tokens.last_mut() {
            Some(last) if last.end == at && class(c) > 0 && class(c) == before => {
                last.end = at + c.len_utf8();
            }
            Some(_) | None => tokens.push(at..at + c.len_utf8()),
        }
        before = class(c);
    }
    tokens.retain(|t| !text[..t.start].ends_with('@') && !text[t.clone()].starts_with("//"));
    tokens
}

/// Returns similar tokens that change the program.
fn mutations(token: &str) -> Vec<String> {
    const SWAPS: [(&str, &str); 22] = [
        ("+", "-"),
        ("-", "+"),
        ("*", "/"),
        ("<", "<="),
        (">", ">="),
        ("===", "=="),
        ("!==", "!="),
        ("==", "==="),
        ("&&", "||"),
        ("||", "??"),
        ("??", "||"),
        ("=", "+="),
        ("?.", "."),
        (".", "?."),
        ("++", "--"),
        ("const", "let"),
        ("let", "var"),
        ("of", "in"),
        ("break", "continue"),
        ("get", "set"),
        ("true", "false"),
        ("await", "yield"),
    ];
    let mut mutations: Vec<String> =
        SWAPS.iter().filter(|(a, _)| *a == token).map(|(_, b)| (*b).to_owned()).collect();
    if token != ";" {
        mutations.push(String::new());
    }
    if token.chars().all(|c| c.is_ascii_digit()) {
        mutations.push(format!("{token}1"));
    } else if token.starts_with(char::is_alphanumeric) {
        mutations.push(format!("{token}_"));
        mutations.push(format!("_{token}"));
    }
    mutations
}

#[test]
fn ast_equal_finds_every_changed_token() {
    let mut passed = Vec::new();
    let (mut tried, mut parsed) = (0, 0);
    let scripts = corpus().into_iter().filter(|(path, text)| {
        !path.contains("ts") && !text.contains("@ts-") && !text.contains("/*")
    });
    for (path, text) in scripts {
        for token in tokens(&text) {
            for word in mutations(&text[token.clone()]) {
                let changed = format!("{}{word}{}", &text[..token.start], &text[token.end..]);
                tried += 1;
                let (from, to) = (
                    SourceFile { path: &path, text: &text },
                    SourceFile { path: &path, text: &changed },
                );
                let comparison =
                    super::compare_on_this_stack(&from, &to, &AstEqualOptions::default());
                parsed += usize::from(comparison.is_ok());
                if comparison.is_ok_and(|comparison| comparison.is_equal()) {
                    passed.push(format!(
                        "{text}\n-- {:?} became {word:?} at {token:?}",
                        &text[token.clone()]
                    ));
                }
            }
        }
    }
    assert!(parsed > 1000, "{parsed} of {tried} are programs");
    assert!(passed.is_empty(), "{} of {tried}:\n{}", passed.len(), passed.join("\n"));
}

#[test]
fn ast_equal_compares_deep_trees() {
    let terms = "a + ".repeat(20_000);
    let (old, new) = (format!("f({terms}b);"), format!("f({terms}c);"));
    let options = AstEqualOptions::default();
    assert!(between(("a.js", &old), ("a.ts", &old), &options).unwrap().is_equal());
    let comparison = between(("a.js", &old), ("a.ts", &new), &options).unwrap();
    assert_eq!(comparison.differences.len(), 1);
    assert!(format_differences(&comparison).len() < 1000, "{}", format_differences(&comparison));
}

#[test]
fn ast_equal_shows_the_smallest_different_statements() {
    let old = "function f(a) {\n  if (a) {\n    g(a);\n    return a - 1;\n  }\n}\nh({\n  a: 1,\n  b: 2,\n  c: 3,\n});\n";
    let new = "interface A {}\nfunction f(a: any) {\n  if (a) {\n    g(a as any);\n    return a + 1;\n  }\n}\nh({\n  a: 1,\n  b: 3,\n  c: 3,\n});\nenum B { C }\n";
    let comparison = between(("a.js", old), ("a.ts", new), &AstEqualOptions::default()).unwrap();
    let want = "- 4: return a - 1;\n+ 5: return a + 1;\n- 9: b: 2,\n+ 10: b: 3,\n\
                + 13: enum B { C }\n  (an enum is code: keep the object, and derive a type from it)\n";
    assert_eq!(format_differences(&comparison), want);
    assert_eq!(comparison.any, 2);
}

#[test]
fn ast_equal_error_names_path_and_line() {
    let options = AstEqualOptions::default();
    let error = |from, to| between(from, to, &options).unwrap_err().to_string();
    assert!(error(("a.js", "f();"), ("a.ts", "f();\nlet = = 1;")).starts_with("a.ts:2: "));
    assert!(error(("b/a.js", "f(;"), ("a.ts", "f();")).starts_with("b/a.js:1: "));
    assert!(error(("a.js", "f();"), ("a.py", "f()")).starts_with("a.py: the extension is none of"));
    // The parser refuses this decorator of a parameter instead of ignoring it.
    let decorated = ("a.ts", "class A { m(@dec ...a) {} }");
    assert!(error(("a.js", "class A { m(...a) {} }"), decorated).starts_with("a.ts:1: "));
    // The extension decides whether `<A>` is a cast or JSX.
    assert!(error(("a.js", "f(a);"), ("a.tsx", "f(<A>a);")).starts_with("a.tsx:1: "));
    assert!(error(("a.js", "f(<A/>);"), ("a.ts", "f(<A/>);")).starts_with("a.ts:1: "));
}

#[test]
fn ast_equal_engine_names_the_version_of_the_parser() {
    let manifest = include_str!("../../../Cargo.toml");
    let version = ENGINE.split_once("oxc ").and_then(|(_, rest)| rest.split(',').next()).unwrap();
    assert!(manifest.contains(&format!("oxc_parser = {{ version = \"={version}\"")), "{version}");
}
