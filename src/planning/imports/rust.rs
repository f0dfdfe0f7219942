//! Resolution of Rust paths to files of the tree.
//!
//! Crates come from `Cargo.toml` files. The modules of a crate are found by following `mod` from
//! the crate's root file.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use anyhow::Result;

use super::fact::{FactsByPath, ImportFact};
use crate::planning::tree_paths::{TreePaths, join, normalize, split, text};

/// Returns true if the path is that of a Rust file.
pub(super) fn is_source(path: &str) -> bool {
    path.ends_with(".rs")
}

/// A Cargo package of the repository.
#[derive(Debug, Default)]
struct CargoPackage {
    /// The names of the library in paths: the library's own name and the package's name.
    names: [String; 2],
    /// The root file of the library.
    library_root: String,
    /// The root files of all crates, the library included.
    roots: BTreeSet<String>,
    /// The packages of renamed dependencies, by the name in this package.
    renamed: HashMap<String, String>,
}

/// A crate: a tree of modules.
#[derive(Debug, Default)]
struct Crate {
    /// The index of its package.
    package: usize,
    /// The file of each module by module path. The path of the root module is empty.
    modules: BTreeMap<String, String>,
}

/// A resolver for Rust modules and paths.
pub(super) struct RustResolver {
    packages: Vec<CargoPackage>,
    crates: Vec<Crate>,
    /// The index of the library crate of each name.
    libraries: HashMap<String, usize>,
    /// The modules that each file holds: the index of the crate, and the path of the module.
    homes: HashMap<String, Vec<(usize, String)>>,
}

impl RustResolver {
    /// Creates the resolver for a tree. `facts` holds all Rust files of the tree.
    pub(super) fn new(
        repo: &gix::Repository,
        tree: &TreePaths,
        facts: &FactsByPath,
    ) -> Result<Self> {
        let mut packages = Vec::new();
        for path in tree.files_named("Cargo.toml") {
            let Some(id) = tree.blob(path) else { continue };
            packages.extend(package(tree, split(path).0, &text(repo, id)?));
        }
        let mut resolver =
            Self { packages, crates: Vec::new(), libraries: HashMap::new(), homes: HashMap::new() };
        for (number, package) in resolver.packages.iter().enumerate() {
            for root in package.roots.iter().filter(|root| tree.has_file(root)) {
                let modules = modules(tree, root, facts);
                for (module, file) in &modules {
                    let home = (resolver.crates.len(), module.clone());
                    resolver.homes.entry(file.clone()).or_default().push(home);
                }
                if *root == package.library_root {
                    for name in &package.names {
                        resolver.libraries.entry(name.clone()).or_insert(resolver.crates.len());
                    }
                }
                resolver.crates.push(Crate { package: number, modules });
            }
        }
        Ok(resolver)
    }

    /// Returns the files of the tree that the facts of the file `from` lead to.
    pub(super) fn targets(&self, from: &str, facts: &[ImportFact]) -> Vec<String> {
        let mut targets = Vec::new();
        for (number, module) in self.homes.get(from).into_iter().flatten() {
            let home = &self.crates[*number];
            for fact in facts {
                let file = match fact {
                    ImportFact::RustModule(path) | ImportFact::RustModuleFile(path, _) => {
                        home.modules.get(&below(module, path)).cloned()
                    }
                    ImportFact::RustExternCrate(name) => self
                        .library(home, name)
                        .and_then(|library| library.modules.get("").cloned()),
                    ImportFact::RustPath(inside, path) => {
                        self.file_of_path(home, &below(module, inside), path)
                    }
                    ImportFact::Import(_)
                    | ImportFact::Require(_)
                    | ImportFact::PythonModule(_)
                    | ImportFact::PythonName(..) => None,
                };
                targets.extend(file);
            }
        }
        targets
    }

    /// Returns the library crate that `home` knows under a name.
    fn library(&self, home: &Crate, name: &str) -> Option<&Crate> {
        let renamed = &self.packages[home.package].renamed;
        let name = renamed.get(name).map_or(name, String::as_str);
        self.libraries.get(name).map(|number| &self.crates[*number])
    }

    /// Returns the file with the item to which a path in a module leads.
    fn file_of_path(&self, home: &Crate, module: &str, path: &str) -> Option<String> {
        let mut parts = path.split("::").peekable();
        let mut at: Vec<&str> = module.split("::").filter(|p| !p.is_empty()).collect();
        match *parts.peek()? {
            "crate" => {
                parts.next();
                at.clear();
            }
            "self" | "super" => {
                while let Some(word @ ("self" | "super")) = parts.peek().copied() {
                    if word == "super" {
                        at.pop()?;
                    }
                    parts.next();
                }
            }
            first => {
                let child = below(&at.join("::"), first);
                if !home.modules.contains_key(&child) {
                    if let Some(other) = self.library(home, first) {
                        parts.next();
                        return deepest(other, Vec::new(), parts);
                    }
                    // The path starts at the root of the crate: an earlier `use` imported the
                    // module, or the crate has the edition 2015.
                    if !home.modules.contains_key(first) {
                        return None;
                    }
                    at.clear();
                }
            }
        }
        deepest(home, at, parts)
    }
}

/// Returns the file of the innermost module on a path.
fn deepest<'p>(
    home: &Crate,
    mut at: Vec<&'p str>,
    parts: impl Iterator<Item = &'p str>,
) -> Option<String> {
    for part in parts {
        at.push(part);
        if !home.modules.contains_key(&at.join("::")) {
            at.pop();
            break;
        }
    }
    // Inline modules have no file. The module around them may have one.
    loop {
        if let Some(file) = home.modules.get(&at.join("::")) {
            return Some(file.clone());
        }
        at.pop()?;
    }
}

/// Returns the path of a module below another module.
fn below(module: &str, name: &str) -> String {
    match (module, name) {
        ("", name) => name.to_owned(),
        (module, "") => module.to_owned(),
        (module, name) => format!("{module}::{name}"),
    }
}

/// Returns the modules of a crate with their files, by following `mod` from the root file.
fn modules(tree: &TreePaths, root: &str, facts: &FactsByPath) -> BTreeMap<String, String> {
    /// The largest number of names in a module path. The limit ends the loop if a file includes
    /// itself.
    const MAX_DEPTH: usize = 64;
    let mut modules = BTreeMap::from([(String::new(), root.to_owned())]);
    let mut pending = vec![(String::new(), root.to_owned())];
    while let Some((module, file)) = pending.pop() {
        let (dir, name) = split(&file);
        let stem = name.strip_suffix(".rs").unwrap_or(name);
        let owns_folder = file == root || stem == "mod";
        let children = if owns_folder { dir.to_owned() } else { join(dir, stem) };
        for fact in facts.get(&file).into_iter().flatten() {
            let declared = match fact {
                ImportFact::RustModule(path) => {
                    let stem = join(&children, &path.replace("::", "/"));
                    let files = [format!("{stem}.rs"), format!("{stem}/mod.rs")];
                    files.into_iter().find(|file| tree.has_file(file)).map(|file| (path, file))
                }
                ImportFact::RustModuleFile(path, file) => {
                    let inline = path.rsplit_once("::").map(|(outer, _)| outer.replace("::", "/"));
                    let from = inline.map_or_else(|| dir.to_owned(), |i| join(&children, &i));
                    let file = normalize(&join(&from, file)).filter(|file| tree.has_file(file));
                    file.map(|file| (path, file))
                }
                ImportFact::RustPath(..)
                | ImportFact::RustExternCrate(_)
                | ImportFact::Import(_)
                | ImportFact::Require(_)
                | ImportFact::PythonModule(_)
                | ImportFact::PythonName(..) => None,
            };
            if let Some((path, file)) = declared {
                let path = below(&module, path);
                let too_deep = path.split("::").count() > MAX_DEPTH;
                if !too_deep && !modules.contains_key(&path) {
                    modules.insert(path.clone(), file.clone());
                    pending.push((path, file));
                }
            }
        }
    }
    modules
}

/// Reads a package and its crates from a `Cargo.toml`. Returns `None` for a workspace without a
/// package.
fn package(tree: &TreePaths, dir: &str, text: &str) -> Option<CargoPackage> {
    let manifest: toml::Table = toml::from_str(text).ok()?;
    let word = |table: Option<&toml::Value>, key: &str| {
        table.and_then(|t| t.get(key)).and_then(|v| v.as_str()).map(str::to_owned)
    };
    let name = word(manifest.get("package"), "name")?;
    let library = manifest.get("lib");
    let ident = |name: &str| name.replace('-', "_");
    let path = |relative: &str| normalize(&join(dir, relative)).unwrap_or_default();
    let library_root = path(&word(library, "path").unwrap_or_else(|| "src/lib.rs".to_owned()));
    let mut roots = BTreeSet::from([library_root.clone(), path("src/main.rs"), path("build.rs")]);
    roots.extend(word(manifest.get("package"), "build").map(|build| path(&build)));
    for kind in ["bin", "example", "test", "bench"] {
        let list = manifest.get(kind).and_then(|v| v.as_array()).into_iter().flatten();
        roots.extend(list.filter_map(|target| word(Some(target), "path")).map(|p| path(&p)));
    }
    let folders = ["src/bin", "examples", "tests", "benches"].map(path);
    for file in tree.files_ending_in(".rs") {
        let (parent, name) = split(file);
        let direct = folders.iter().any(|f| f == parent);
        let nested = name == "main.rs" && folders.iter().any(|f| f == split(parent).0);
        if direct || nested {
            roots.insert(file.to_owned());
        }
    }
    Some(CargoPackage {
        names: [ident(&word(library, "name").unwrap_or_else(|| name.clone())), ident(&name)],
        library_root,
        roots,
        renamed: renamed(&manifest),
    })
}

/// Returns the packages of renamed dependencies, by the name in this package.
fn renamed(manifest: &toml::Table) -> HashMap<String, String> {
    let mut renamed = HashMap::new();
    let kinds = ["dependencies", "dev-dependencies", "build-dependencies"];
    let mut tables: Vec<&toml::Value> = kinds.iter().filter_map(|k| manifest.get(*k)).collect();
    let targets = manifest.get("target").and_then(|v| v.as_table()).into_iter().flatten();
    for (_, target) in targets {
        tables.extend(kinds.iter().filter_map(|k| target.get(*k)));
    }
    for (name, dependency) in tables.into_iter().filter_map(|t| t.as_table()).flatten() {
        if let Some(package) = dependency.get("package").and_then(|v| v.as_str()) {
            renamed.insert(name.replace('-', "_"), package.replace('-', "_"));
        }
    }
    renamed
}
