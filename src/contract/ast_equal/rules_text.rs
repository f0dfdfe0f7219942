//! The rules of the comparison as text for prompts.

use super::AstEqualOptions;

/// Describes the rules of the comparison for an agent. `from` and `to` are globs.
pub fn rules_text(from: &str, to: &str, options: &AstEqualOptions) -> String {
    let mut rules = vec![
        format!(
            "Each file that matches `{to}` must be the same program as the file of the same name that matched `{from}` before, \
             once the types are taken away from it; each of your files that matched `{from}` must have such a successor and be \
             gone itself. New files may hold types only. A parser compares them; no command is run."
        ),
        "- What may be added: annotations, interfaces, type aliases, generics, overloads, `declare`, `as`, `satisfies`, `!`, \
         `import type` and `export type`, and modifiers of class members. Comments, parentheses, quotes, semicolons and \
         trailing commas do not count."
            .to_owned(),
        "- What must stay as it is: everything else. No operator, argument, default, `await`, directive, literal or order \
         changes, and `var`, `let` and `const` stay what they are. No enums, no namespaces with values, no parameter \
         properties, no new decorators. `require` stays `require`; `import x = require(…)` may replace `const x = \
         require(…)` where code uses `x`, and `var` or `let` where nothing assigns `x` again or can run before; `export =` \
         may replace a last `module.exports =`, also one that only functions follow, or a function's that only functions and constants follow. `import x from` and \
         `export default` never replace `require` and `module.exports`."
            .to_owned(),
    ];
    rules.push(if options.define_fields {
        "- A class field without a value is code: declare it as `declare name: T`.".to_owned()
    } else {
        "- A class field without a value may be declared as `name: T`.".to_owned()
    });
    rules.push(if options.type_imports {
        "- An import without `type` stays an import, unless no code uses its names: then it may become `import type`. What \
         you import for its types alone is `import type`."
            .to_owned()
    } else {
        "- An import without `type` stays as it is, even if no code uses its names; what you import for its types alone is \
         `import type`."
            .to_owned()
    });
    rules.push(if options.extensions {
        "- The extension of a relative import may change: `./a.js` to `./a.ts` or `./a`.".to_owned()
    } else {
        "- Import specifiers stay as they are, with their extensions.".to_owned()
    });
    if !options.ts_comments {
        rules.push(
            "- `@ts-nocheck`, `@ts-ignore` and `@ts-expect-error` may not be added.".to_owned(),
        );
    }
    if let Some(most) = options.max_any {
        rules.push(match most {
            0 => "- The type `any` may not be used.".to_owned(),
            1 => "- A file may say `any` once at most.".to_owned(),
            _ => format!("- A file may say `any` {most} times at most."),
        });
    }
    rules.join("\n")
}

#[cfg(test)]
mod tests {
    use super::super::AstEqualOptions;
    use super::rules_text;

    #[test]
    fn ast_equal_terms_differ_for_every_option() {
        let plain = AstEqualOptions::default();
        let all = [
            plain,
            AstEqualOptions { extensions: true, ..plain },
            AstEqualOptions { type_imports: true, ..plain },
            AstEqualOptions { define_fields: false, ..plain },
            AstEqualOptions { ts_comments: true, ..plain },
            AstEqualOptions { max_any: Some(0), ..plain },
            AstEqualOptions { max_any: Some(1), ..plain },
            AstEqualOptions { max_any: Some(7), ..plain },
        ];
        let texts: std::collections::BTreeSet<_> =
            all.iter().map(|options| rules_text("**/*.js", "**/*.ts", options)).collect();
        assert_eq!(texts.len(), all.len());
        assert!(texts.iter().all(|text| text.contains("`**/*.js`") && text.contains("`**/*.ts`")));
    }
}
