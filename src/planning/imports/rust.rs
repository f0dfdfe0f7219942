//! Which files of the tree a Rust file means: crates by their `Cargo.toml`, modules by following `mod`.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use anyhow::Result;

use crate::planning::snapshot::{TreePaths, join, normal, split, text};

/// Whether a file of this name is read here.
pub(super) fn is_source(path: &str) -> bool {
    path.ends_with(".rs")
}

/// A package of the repository.
#[derive(Debug, Default)]
struct CargoPackage {
    /// As what its library is named in paths, and as what the package is.
    names: [String; 2],
    library_root: String,
    /// The first files of its crates; the library's is one of them.
    roots: BTreeSet<String>,
    /// Names under which it uses other packages, where they are not those packages' own.
    renamed: HashMap<String, String>,
}

/// A crate: one tree of modules.
#[derive(Debug, Default)]
struct Crate {
    package: usize,
    /// The file of each module, by its path; the crate's own path is empty.
    modules: BTreeMap<String, String>,
}

/// Finds what modules mean.
pub(super) struct RustResolver {
    packages: Vec<CargoPackage>,
    crates: Vec<Crate>,
    /// The crate of the library of each name.
    libraries: HashMap<String, usize>,
    /// In which crates a file is, and as which module.
    homes: HashMap<String, Vec<(usize, String)>>,
}

/// What is said in each file.
pub(super) type Facts = HashMap<String, Vec<String>>;

impl RustResolver {
    /// For the files of a tree; `facts` are those of all its Rust files.
    pub(super) fn new(repo: &gix::Repository, snapshot: &TreePaths, facts: &Facts) -> Result<Self> {
        let mut packages = Vec::new();
        for path in snapshot.named("Cargo.toml") {
            let Some(id) = snapshot.file(path) else { continue };
            packages.extend(package(snapshot, split(path).0, &text(repo, id)?));
        }
        let mut all =
            Self { packages, crates: Vec::new(), libraries: HashMap::new(), homes: HashMap::new() };
        for (number, package) in all.packages.iter().enumerate() {
            for root in package.roots.iter().filter(|root| snapshot.has(root)) {
                let modules = modules(snapshot, root, facts);
                for (module, file) in &modules {
                    let home = (all.crates.len(), module.clone());
                    all.homes.entry(file.clone()).or_default().push(home);
                }
                if *root == package.library_root {
                    for name in &package.names {
                        all.libraries.entry(name.clone()).or_insert(all.crates.len());
                    }
                }
                all.crates.push(Crate { package: number, modules });
            }
        }
        Ok(all)
    }

    /// The files of the tree that a file means by what was found in it.
    pub(super) fn targets(&self, from: &str, facts: &[String]) -> Vec<String> {
        let mut found = Vec::new();
        for (number, module) in self.homes.get(from).into_iter().flatten() {
            let home = &self.crates[*number];
            for fact in facts {
                let Some((kind, rest)) = fact.split_once(':') else { continue };
                let file = match kind {
                    "m" => home.modules.get(&below(module, rest)).cloned(),
                    "p" => rest
                        .split_once('=')
                        .and_then(|(name, _)| home.modules.get(&below(module, name)).cloned()),
                    "e" => self.library(home, rest).and_then(|c| c.modules.get("").cloned()),
                    "u" => rest
                        .split_once('|')
                        .and_then(|(inside, path)| self.named(home, &below(module, inside), path)),
                    _ => None,
                };
                found.extend(file);
            }
        }
        found
    }

    fn library(&self, home: &Crate, name: &str) -> Option<&Crate> {
        let renamed = &self.packages[home.package].renamed;
        let name = renamed.get(name).map_or(name, String::as_str);
        self.libraries.get(name).map(|number| &self.crates[*number])
    }

    /// The file of what a path names in a module.
    fn named(&self, home: &Crate, module: &str, path: &str) -> Option<String> {
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
                    // A module that was named before, or a path of the edition of 2015.
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

/// The file of the innermost module on a path.
fn deepest<'p>(
    of: &Crate,
    mut at: Vec<&'p str>,
    parts: impl Iterator<Item = &'p str>,
) -> Option<String> {
    for part in parts {
        at.push(part);
        if !of.modules.contains_key(&at.join("::")) {
            at.pop();
            break;
        }
    }
    // Modules in braces have no file; the one around them does.
    loop {
        if let Some(file) = of.modules.get(&at.join("::")) {
            return Some(file.clone());
        }
        at.pop()?;
    }
}

/// The path of a module in another.
fn below(module: &str, name: &str) -> String {
    match (module, name) {
        ("", name) => name.to_owned(),
        (module, "") => module.to_owned(),
        (module, name) => format!("{module}::{name}"),
    }
}

/// The modules of a crate, by following `mod` from its first file.
fn modules(snapshot: &TreePaths, root: &str, facts: &Facts) -> BTreeMap<String, String> {
    let mut found = BTreeMap::from([(String::new(), root.to_owned())]);
    let mut pending = vec![(String::new(), root.to_owned())];
    while let Some((module, file)) = pending.pop() {
        let (dir, name) = split(&file);
        let stem = name.strip_suffix(".rs").unwrap_or(name);
        let owner = file == root || stem == "mod";
        let children = if owner { dir.to_owned() } else { join(dir, stem) };
        for fact in facts.get(&file).into_iter().flatten() {
            let declared = match fact.split_once(':') {
                Some(("m", path)) => {
                    let stem = join(&children, &path.replace("::", "/"));
                    let files = [format!("{stem}.rs"), format!("{stem}/mod.rs")];
                    files.into_iter().find(|f| snapshot.has(f)).map(|f| (path, f))
                }
                Some(("p", rest)) => rest.split_once('=').and_then(|(path, file)| {
                    let inline = path.rsplit_once("::").map(|(outer, _)| outer.replace("::", "/"));
                    let from = inline.map_or_else(|| dir.to_owned(), |i| join(&children, &i));
                    let file = normal(&join(&from, file)).filter(|f| snapshot.has(f))?;
                    Some((path, file))
                }),
                Some(_) | None => None,
            };
            if let Some((path, file)) = declared {
                let path = below(&module, path);
                // A file that includes itself would never end.
                let nested = path.split("::").count() > 64;
                if !nested && !found.contains_key(&path) {
                    found.insert(path.clone(), file.clone());
                    pending.push((path, file));
                }
            }
        }
    }
    found
}

/// A package and its crates, from its `Cargo.toml`; nothing for a mere workspace.
fn package(snapshot: &TreePaths, dir: &str, text: &str) -> Option<CargoPackage> {
    let manifest: toml::Table = toml::from_str(text).ok()?;
    let word = |table: Option<&toml::Value>, key: &str| {
        table.and_then(|t| t.get(key)).and_then(|v| v.as_str()).map(str::to_owned)
    };
    let name = word(manifest.get("package"), "name")?;
    let library = manifest.get("lib");
    let ident = |name: &str| name.replace('-', "_");
    let path = |relative: &str| normal(&join(dir, relative)).unwrap_or_default();
    let library_root = path(&word(library, "path").unwrap_or_else(|| "src/lib.rs".to_owned()));
    let mut roots = BTreeSet::from([library_root.clone(), path("src/main.rs"), path("build.rs")]);
    roots.extend(word(manifest.get("package"), "build").map(|build| path(&build)));
    for kind in ["bin", "example", "test", "bench"] {
        let list = manifest.get(kind).and_then(|v| v.as_array()).into_iter().flatten();
        roots.extend(list.filter_map(|one| word(Some(one), "path")).map(|p| path(&p)));
    }
    let folders = ["src/bin", "examples", "tests", "benches"].map(path);
    for file in snapshot.ending(".rs") {
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

/// Dependencies that go by another name than their package's.
fn renamed(manifest: &toml::Table) -> HashMap<String, String> {
    let mut found = HashMap::new();
    let kinds = ["dependencies", "dev-dependencies", "build-dependencies"];
    let mut tables: Vec<&toml::Value> = kinds.iter().filter_map(|k| manifest.get(*k)).collect();
    let targets = manifest.get("target").and_then(|v| v.as_table()).into_iter().flatten();
    for (_, target) in targets {
        tables.extend(kinds.iter().filter_map(|k| target.get(*k)));
    }
    for (name, dependency) in tables.into_iter().filter_map(|t| t.as_table()).flatten() {
        if let Some(package) = dependency.get("package").and_then(|v| v.as_str()) {
            found.insert(name.replace('-', "_"), package.replace('-', "_"));
        }
    }
    found
}
