//! Import graphs of small repositories.

use super::*;
use crate::planning::tests::{all, blobs, repository};
use crate::planning::{Grouping, PlanSpec, TaskOrder, files};

/// Returns the edges of all files of a tree as text: `a.js>b.js`, and `a.js?` for a file that
/// cannot be parsed.
fn edges(files: &[(&str, &str)]) -> String {
    let (_dir, repo) = repository();
    let base = blobs(&repo, files);
    let spec = PlanSpec {
        include: &all,
        group: Grouping::File,
        order: TaskOrder::Dependency,
        max_files: 1,
        max_lines: 1,
        scope_dir: "",
        scope_files: &all,
        edges: None,
        listed: None,
        is_done: &|_| false,
        token_limit: None,
    };
    let mut cache = PlanCache::default();
    let (files, _) = files::plan_files(&repo, base, &spec, &mut cache).unwrap();
    let graph = import_graph(&repo, base, &files, &mut cache).unwrap();
    // The cached facts give the same graph.
    let mut cached = PlanCache::from_bytes(&cache.to_bytes().unwrap());
    assert_eq!(import_graph(&repo, base, &files, &mut cached).unwrap(), graph);
    assert_eq!(cached.to_bytes(), None, "no file was parsed again");
    let mut shown = Vec::new();
    for (from, needs) in graph.needs.iter().enumerate() {
        shown.extend(needs.iter().map(|to| format!("{}>{}", files[from].path, files[*to].path)));
    }
    shown.extend(graph.unparsed.iter().map(|path| format!("{path}?")));
    shown.join(" ")
}

fn check(name: &str, files: &[(&str, &str)], expected: &str) {
    assert_eq!(edges(files), expected, "{name}");
}

#[test]
fn relative_specifiers_resolve_extensions_and_index_files() {
    check(
        "CommonJS",
        &[
            ("a.js", "require('./b'); require('./c'); require('./d.json'); require('./e/')"),
            ("b.js", "require('../outside'); require('./missing'); require('./a.js')"),
            ("c/index.js", "require('..'); require('../b')"),
            ("c/package.json", "{\"main\": \"lib/main\"}"),
            ("c/lib/main.js", "require('.'); require('./')"),
            ("d.json", "{}"),
            ("e/index.js", "import './self'; import './index.js'"),
            ("e/self.mjs", ""),
            ("index.js", ""),
        ],
        "a.js>b.js a.js>c/lib/main.js a.js>d.json a.js>e/index.js b.js>a.js c/index.js>b.js c/index.js>index.js \
         e/index.js>e/self.mjs",
    );
    check(
        "a file goes before a folder, and JavaScript before TypeScript for JavaScript",
        &[
            ("a.js", "import './b'; import './c.js'; import './d.js'"),
            (
                "a.ts",
                "import './b'; import './c.js'; import './d.js'; import './f.mjs'; import './g.jsx'",
            ),
            ("b.js", ""),
            ("b.ts", ""),
            ("b/index.js", ""),
            ("c.js", ""),
            ("c.ts", ""),
            ("d.ts", ""),
            ("f.mts", ""),
            ("g.tsx", ""),
        ],
        "a.js>b.js a.js>c.js a.js>d.ts a.ts>b.ts a.ts>c.ts a.ts>d.ts a.ts>f.mts a.ts>g.tsx",
    );
    check(
        "odd names, queries and built-in modules",
        &[
            (
                "a b.js",
                "import './ü/c d.js?raw'; import './x#y.js'; import 'fs'; import 'node:path'; import 'https://x/y.js'",
            ),
            ("ü/c d.js", "import '../a b.js'; import '/a b.js'"),
            ("fs.js", ""),
            ("path.js", ""),
            ("x", ""),
        ],
        "a b.js>x a b.js>ü/c d.js ü/c d.js>a b.js",
    );
}

#[test]
fn unparsable_files_are_listed() {
    check("broken", &[("a.js", "const {"), ("b.css", "@import 'a.js'"), ("c.js", "")], "a.js?");
}

#[test]
fn imports_and_exports_of_a_package_resolve_to_its_files() {
    check(
        "imports, exports of oneself, conditions and patterns",
        &[
            (
                "package.json",
                "{\"name\": \"me\", \"type\": \"module\", \"exports\": {\".\": {\"require\": \"./a.cjs\", \"import\": \"./a.mjs\"}, \
                 \"./x/*\": \"./src/*.js\", \"./hidden/*\": null}, \"imports\": {\"#in/*\": \"./src/*.js\", \"#one\": \"./a.mjs\"}}",
            ),
            ("a.cjs", ""),
            ("a.mjs", ""),
            ("src/b.js", "import 'me'; import 'me/x/c'; import '#in/d'; import 'me/src/e.js'"),
            ("src/c.cjs", "require('me'); require('#one')"),
            ("src/c.js", ""),
            ("src/d.js", ""),
            ("src/e.js", ""),
        ],
        "src/b.js>a.mjs src/b.js>src/c.js src/b.js>src/d.js src/c.cjs>a.cjs src/c.cjs>a.mjs",
    );
}

#[test]
fn workspace_packages_resolve_by_name_to_their_sources() {
    check(
        "workspaces: sources, built entries, subpaths, scopes",
        &[
            ("package.json", "{\"workspaces\": [\"packages/*\"]}"),
            (
                "packages/app/index.js",
                "import '@me/plain'; import 'built'; import 'built/deep'; import 'none'; import 'sub/x'",
            ),
            (
                "packages/app/package.json",
                "{\"name\": \"app\", \"dependencies\": {\"built\": \"*\"}}",
            ),
            (
                "packages/built/package.json",
                "{\"name\": \"built\", \"main\": \"./dist/cjs/index.js\", \"exports\": {\".\": {\"types\": \"./dist/index.d.ts\", \"import\": \"./dist/esm/index.mjs\"}, \"./deep\": \"./lib/deep.min.js\"}}",
            ),
            ("packages/built/src/deep.js", ""),
            ("packages/built/src/index.ts", "import './deep.js'"),
            ("packages/none/package.json", "{\"name\": \"none\", \"main\": \"./bundle/main.js\"}"),
            ("packages/none/src/index.ts", "import 'app'"),
            ("packages/plain/main.js", ""),
            ("packages/plain/package.json", "{\"name\": \"@me/plain\", \"main\": \"main\"}"),
            ("packages/sub/package.json", "{\"name\": \"sub\"}"),
            ("packages/sub/src/x.ts", ""),
            ("packages/broken/package.json", "{"),
        ],
        "packages/app/index.js>packages/built/src/deep.js packages/app/index.js>packages/built/src/index.ts \
         packages/app/index.js>packages/none/src/index.ts packages/app/index.js>packages/plain/main.js \
         packages/app/index.js>packages/sub/src/x.ts packages/built/src/index.ts>packages/built/src/deep.js \
         packages/none/src/index.ts>packages/app/index.js",
    );
    check(
        "what a commit holds is not taken for something else",
        &[
            ("package.json", "{\"name\": \"me\"}"),
            ("lib/a.js", "require('../lib/b'); require('dep')"),
            ("node_modules/dep/index.js", ""),
            ("node_modules/dep/package.json", "{\"name\": \"dep\"}"),
            ("src/b.js", ""),
            ("x/package.json", "{\"name\": \"dep\"}"),
            ("x/index.js", ""),
        ],
        "lib/a.js>node_modules/dep/index.js",
    );
}

#[test]
fn tsconfig_paths_and_base_url_are_followed() {
    check(
        "paths, baseUrl, extends, comments, a base that is not there",
        &[
            (
                "tsconfig.base.json",
                "// a comment\n{\"compilerOptions\": {\"baseUrl\": \".\", \"paths\": {\"@/*\": [\"src/*\"], \"one\": [\"lib/one\"],},},}",
            ),
            (
                "tsconfig.json",
                "{\"extends\": [\"@tsconfig/node18/tsconfig.json\", \"./tsconfig.base.json\"], \"include\": [\"src\"]}",
            ),
            ("src/a.ts", "import '@/b'; import 'one'; import 'lib/two'; import '@/missing'"),
            ("src/b.ts", ""),
            ("src/c.js", "import '@/b'"),
            ("lib/one.ts", ""),
            ("lib/two.ts", ""),
            ("test/t.ts", "import '@/b'; import '../src/a'"),
        ],
        "src/a.ts>lib/one.ts src/a.ts>lib/two.ts src/a.ts>src/b.ts src/c.js>src/b.ts test/t.ts>src/a.ts test/t.ts>src/b.ts",
    );
    check(
        "the nearest one, references, and the one of JavaScript",
        &[
            (
                "tsconfig.json",
                "{\"files\": [], \"references\": [{\"path\": \"./p\"}, {\"path\": \"./gone\"}]}",
            ),
            ("p/tsconfig.json", "{\"compilerOptions\": {\"paths\": {\"~/*\": [\"./x/*\"]}}}"),
            ("p/a.ts", "import '~/y'"),
            ("p/x/y.ts", ""),
            ("q/jsconfig.json", "{\"compilerOptions\": {\"baseUrl\": \"./z\"}}"),
            ("q/a.js", "import 'w'"),
            ("q/z/w.js", ""),
            ("r/tsconfig.json", "not json at all"),
            ("r/a.ts", "import './b'"),
            ("r/b.ts", ""),
        ],
        "p/a.ts>p/x/y.ts q/a.js>q/z/w.js r/a.ts>r/b.ts",
    );
}

#[test]
fn python_imports_resolve_as_in_python() {
    check(
        "packages, relative and absolute, names that are modules",
        &[
            ("pkg/__init__.py", "from .a import x\nfrom . import b"),
            ("pkg/a.py", "import pkg.b, pkg.sub.d as e\nfrom pkg import c"),
            ("pkg/b.py", "from .sub import d, nothing\nfrom .sub.d import y\nfrom . import *"),
            (
                "pkg/c.py",
                "import pkg.sub.d.attribute\nfrom .. import up\nimport os, sys, unknown.b",
            ),
            ("pkg/json.py", ""),
            ("pkg/sub/__init__.py", "import json, d"),
            (
                "pkg/sub/d.py",
                "import json\nfrom ..a import z\nfrom ... import no\nfrom .... import no",
            ),
            ("script.py", "import pkg\nimport helper"),
            ("helper.py", ""),
        ],
        "pkg/__init__.py>pkg/a.py pkg/__init__.py>pkg/b.py pkg/a.py>pkg/b.py pkg/a.py>pkg/c.py pkg/a.py>pkg/sub/d.py \
         pkg/b.py>pkg/__init__.py pkg/b.py>pkg/sub/__init__.py pkg/b.py>pkg/sub/d.py pkg/c.py>pkg/sub/d.py \
         pkg/sub/d.py>pkg/a.py script.py>helper.py script.py>pkg/__init__.py",
    );
    check(
        "a src layout, namespace packages, stubs, two projects",
        &[
            ("pyproject.toml", ""),
            ("src/one/__init__.py", "import ns.part"),
            ("src/one/typed.pyi", "from one import x"),
            ("src/ns/part.py", "from one import typed"),
            ("tests/test_one.py", "from one import typed\nfrom helpers import h"),
            ("tests/helpers.py", "import two"),
            ("other/setup.py", ""),
            ("other/two.py", ""),
        ],
        "src/ns/part.py>src/one/typed.pyi src/one/__init__.py>src/ns/part.py src/one/typed.pyi>src/one/__init__.py \
         tests/helpers.py>other/two.py tests/test_one.py>src/one/typed.pyi tests/test_one.py>tests/helpers.py",
    );
}

#[test]
fn rust_modules_resolve_as_in_rustc() {
    check(
        "mod, paths, inline modules",
        &[
            ("Cargo.toml", "[package]\nname = \"my-lib\""),
            (
                "src/lib.rs",
                "mod a;\npub mod b;\n#[path = \"odd/name.rs\"] mod c;\nmod inline { mod deep; use super::a::X; }",
            ),
            ("src/a.rs", "mod inner;\nuse crate::b::{self, Thing};\nuse self::inner::I;"),
            ("src/a/inner.rs", "use super::super::c;\nfn f() -> crate::b::sub::T { super::g() }"),
            ("src/b/mod.rs", "pub mod sub;\nuse std::fmt;"),
            ("src/b/sub.rs", "use super::*;"),
            ("src/odd/name.rs", "use crate::Root;"),
            ("src/inline/deep.rs", "use crate::inline::other;"),
            ("src/main.rs", "use my_lib::b::sub::T;\nfn main() { my_lib::run() }"),
            ("src/orphan.rs", "use crate::a;"),
            ("tests/t.rs", "extern crate my_lib; mod common;"),
            ("tests/common/mod.rs", "use my_lib::a;"),
        ],
        "src/a.rs>src/a/inner.rs src/a.rs>src/b/mod.rs src/a/inner.rs>src/a.rs src/a/inner.rs>src/b/sub.rs \
         src/a/inner.rs>src/odd/name.rs src/b/mod.rs>src/b/sub.rs src/b/sub.rs>src/b/mod.rs src/inline/deep.rs>src/lib.rs \
         src/lib.rs>src/a.rs src/lib.rs>src/b/mod.rs src/lib.rs>src/inline/deep.rs src/lib.rs>src/odd/name.rs \
         src/main.rs>src/b/sub.rs src/main.rs>src/lib.rs src/odd/name.rs>src/lib.rs tests/common/mod.rs>src/a.rs \
         tests/t.rs>src/lib.rs tests/t.rs>tests/common/mod.rs",
    );
    check(
        "workspaces, renamed libraries and dependencies",
        &[
            ("Cargo.toml", "[workspace]\nmembers = [\"one\", \"two\"]"),
            (
                "one/Cargo.toml",
                "[package]\nname = \"one\"\n[dependencies]\nalias = {package = \"two-x\", path = \"../two\"}\n[[bin]]\nname = \"b\"\npath = \"b.rs\"",
            ),
            ("one/b.rs", "mod extra;"),
            ("one/extra.rs", "use alias::m::T;"),
            ("one/src/lib.rs", "use alias; use two_lib::m; use unknown::x;"),
            (
                "two/Cargo.toml",
                "[package]\nname = \"two-x\"\n[lib]\nname = \"two_lib\"\npath = \"lib.rs\"",
            ),
            ("two/lib.rs", "pub mod m;"),
            ("two/m.rs", ""),
        ],
        "one/b.rs>one/extra.rs one/extra.rs>two/m.rs one/src/lib.rs>two/lib.rs one/src/lib.rs>two/m.rs two/lib.rs>two/m.rs",
    );
}

#[test]
fn external_graph_resolves_paths_from_the_folder_with_most_of_them() {
    let (_dir, repo) = repository();
    let base =
        blobs(&repo, &[("src/a.js", ""), ("src/b.js", ""), ("src/in/c.x", ""), ("d.js", "")]);
    let id = base;
    let file = |path: &str| PlanFile { path: path.into(), lines: 1, bytes: 1, tokens: 1, id };
    let files = ["d.js", "src/a.js", "src/b.js", "src/in/c.x"].map(file);
    let read = |text: &str, folders: &[&str]| {
        let folders = folders.iter().map(ToString::to_string).collect();
        external_graph(&repo, base, &ExternalGraph { edges: parse_edges(text)?, folders }, &files)
    };
    let needs = |text, folders| read(text, folders).unwrap().0.needs;
    let expected = vec![vec![], vec![2, 3], vec![0], vec![]];
    let whole =
        r#"{"src/a.js": ["./src/b.js", "src/in/../in/c.x", "src/a.js"], "src/b.js": ["d.js"]}"#;
    assert_eq!(needs(whole, &["madge", "--json", "src"]), expected);
    let from_folder = r#"{"a.js": ["b.js", "in/c.x"], "b.js": ["../d.js", "gone.js"]}"#;
    assert_eq!(needs(from_folder, &["madge", "--json", "./src/"]), expected);
    assert_eq!(needs(from_folder, &["madge", "src/a.js"]), expected);
    assert!(read(whole, &[]).unwrap().1.is_empty());
    let (_, notes) = read(r#"{"src/a.js": [], "x.js": []}"#, &[]).unwrap();
    assert_eq!(notes, ["1 path that `[plan] edges` printed is not in the base commit"]);
    let err = read(r#"{"x.js": []}"#, &[]).unwrap_err().to_string();
    assert!(err.contains("x.js"), "{err}");
    assert!(parse_edges("[]").is_err() && parse_edges(r#"{"a": "b"}"#).is_err());
}
