//! Descriptions of files by name, for prompts.

/// Describes a file by its path: `JavaScript source` for `src/a.js`.
pub(crate) fn describe(path: &str) -> &'static str {
    let name = path.rsplit('/').next().unwrap_or(path);
    let by_name = match name {
        "Makefile" | "makefile" | "GNUmakefile" => Some("Makefile"),
        "Dockerfile" | "Containerfile" => Some("container build file"),
        "CMakeLists.txt" => Some("CMake script"),
        "package.json" => Some("npm package manifest"),
        "Cargo.toml" => Some("Cargo package manifest"),
        "go.mod" => Some("Go module file"),
        "pyproject.toml" => Some("Python project file"),
        _ => None,
    };
    if let Some(description) = by_name {
        return description;
    }
    // A leading dot makes a hidden file, not an extension.
    let extension = name.rsplit_once('.').filter(|(stem, _)| !stem.is_empty()).map(|(_, end)| end);
    let Some(extension) = extension else {
        return "file";
    };
    match extension.to_ascii_lowercase().as_str() {
        "js" | "mjs" | "cjs" => "JavaScript source",
        "jsx" => "JavaScript source with JSX",
        "ts" | "mts" | "cts" if name.contains(".d.") => "TypeScript declarations",
        "ts" | "mts" | "cts" => "TypeScript source",
        "tsx" => "TypeScript source with JSX",
        "vue" => "Vue component",
        "svelte" => "Svelte component",
        "py" | "pyi" => "Python source",
        "rs" => "Rust source",
        "go" => "Go source",
        "java" => "Java source",
        "kt" | "kts" => "Kotlin source",
        "scala" => "Scala source",
        "swift" => "Swift source",
        "c" => "C source",
        "h" => "C or C++ header",
        "cc" | "cpp" | "cxx" => "C++ source",
        "hh" | "hpp" | "hxx" => "C++ header",
        "cs" => "C# source",
        "fs" => "F# source",
        "rb" => "Ruby source",
        "php" => "PHP source",
        "pl" | "pm" => "Perl source",
        "lua" => "Lua source",
        "ex" | "exs" => "Elixir source",
        "erl" => "Erlang source",
        "hs" => "Haskell source",
        "ml" | "mli" => "OCaml source",
        "clj" | "cljs" | "cljc" => "Clojure source",
        "dart" => "Dart source",
        "zig" => "Zig source",
        "r" => "R source",
        "jl" => "Julia source",
        "sh" | "bash" | "zsh" => "shell script",
        "ps1" => "PowerShell script",
        "sql" => "SQL",
        "html" | "htm" => "HTML",
        "css" => "CSS",
        "scss" | "sass" | "less" => "style sheet source",
        "json" | "jsonc" | "json5" => "JSON",
        "jsonl" | "ndjson" => "JSON, one value a line",
        "yaml" | "yml" => "YAML",
        "toml" => "TOML",
        "ini" | "cfg" | "conf" => "configuration",
        "xml" | "xsd" | "xsl" => "XML",
        "csv" | "tsv" => "table",
        "proto" => "Protocol Buffers schema",
        "graphql" | "gql" => "GraphQL",
        "tf" => "Terraform configuration",
        "nix" => "Nix expression",
        "md" | "markdown" | "mdx" => "Markdown text",
        "rst" => "reStructuredText",
        "adoc" => "AsciiDoc text",
        "tex" => "TeX source",
        "txt" => "text",
        "svg" => "SVG image",
        _ => "file",
    }
}

#[cfg(test)]
mod tests {
    use super::describe;

    #[test]
    fn file_is_described_by_name_or_extension() {
        for (path, description) in [
            ("src/a.js", "JavaScript source"),
            ("src/A.MJS", "JavaScript source"),
            ("src/a.d.ts", "TypeScript declarations"),
            ("src/a.ts", "TypeScript source"),
            ("tools/Makefile", "Makefile"),
            ("x.js/README", "file"),
            (".js", "file"),
            ("a.", "file"),
            ("data.xyz", "file"),
        ] {
            assert_eq!(describe(path), description, "{path}");
        }
    }
}
