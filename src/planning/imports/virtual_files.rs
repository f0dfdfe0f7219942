//! A commit's tree as the file system that the resolver looks at, with what an installation would add to it: a link
//! in `node_modules` for each package of the repository, and links from what a build would make to its sources.

use std::collections::HashMap;
use std::io::{Error, ErrorKind, Result};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gix::ThreadSafeRepository;
use oxc_resolver::{FileMetadata, FileSystem, ResolveError};

use crate::planning::snapshot::{TreePaths, join, normal, split, text};

/// Where the tree is taken to be: deep enough that no `../` climbs out of it and in again.
const TOP: &str = "/harness/base/tree";
/// The folder of installed packages.
pub(super) const MODULES: &str = "node_modules";
/// Folders that builds make. They count only where the commit does not have them.
const BUILT: [&str; 12] = [
    "dist", "build", "lib", "out", "output", "esm", "cjs", "es", "types", "typings", "dist-es",
    "dist-cjs",
];
/// Folders below those that say for whom it was built.
const FLAVOURS: [&str; 10] =
    ["esm", "cjs", "es", "module", "commonjs", "types", "node", "browser", "es6", "src"];
/// Extensions of what is built, the longest first.
const MADE: [&str; 11] =
    [".d.mts", ".d.cts", ".d.ts", ".min.js", ".mjs", ".cjs", ".jsx", ".js", ".mts", ".cts", ".ts"];
/// Extensions of sources, the likeliest first.
const SOURCES: [&str; 8] = [".ts", ".tsx", ".mts", ".cts", ".js", ".jsx", ".mjs", ".cjs"];

/// A package of the repository: its folder, by its name.
pub(super) type Packages = HashMap<String, String>;

/// The file system.
#[derive(Clone, Default)]
pub(super) struct VirtualFiles {
    /// Nothing: the tree is empty, which is what the resolver makes where nobody gives it another.
    inner: Option<Arc<TreeFiles>>,
}

struct TreeFiles {
    repo: ThreadSafeRepository,
    snapshot: Arc<TreePaths>,
    /// Folder of each package by its name.
    packages: Packages,
    /// Folders that hold a `package.json`.
    roots: std::collections::HashSet<String>,
}

/// What is at a path.
enum VirtualEntry {
    File(gix::ObjectId),
    Folder,
    /// A link to another path of the tree.
    Link(String),
}

/// The path in the resolver's world of a path of the tree.
pub(super) fn outer(path: &str) -> PathBuf {
    if path.is_empty() { PathBuf::from(TOP) } else { PathBuf::from(format!("{TOP}/{path}")) }
}

/// The path of the tree of a path in the resolver's world.
pub(super) fn inner(path: &Path) -> Option<&str> {
    let rest = path.to_str()?.strip_prefix(TOP)?;
    if rest.is_empty() { Some(rest) } else { rest.strip_prefix('/') }
}

/// The package that a specifier begins with, and what is behind it: nothing, or a path with its slash.
pub(super) fn package_of(specifier: &str) -> (&str, &str) {
    let scoped = specifier.starts_with('@');
    let slash = specifier.match_indices('/').nth(usize::from(scoped)).map(|(at, _)| at);
    specifier.split_at(slash.unwrap_or(specifier.len()))
}

/// The packages of a repository, by name. Of two with the same name the one that lies higher counts; what is installed
/// or belongs to tests of tools is not asked for by name.
pub(super) fn packages(repo: &gix::Repository, snapshot: &TreePaths) -> anyhow::Result<Packages> {
    let mut found: Vec<(usize, String, String)> = Vec::new();
    for path in snapshot.named("package.json") {
        let dir = split(path).0;
        let Some(id) = snapshot.file(path).filter(|_| !dir.split('/').any(|p| p == MODULES)) else {
            continue;
        };
        let json: serde_json::Value = serde_json::from_str(&text(repo, id)?).unwrap_or_default();
        if let Some(name) = json.get("name").and_then(|n| n.as_str()).filter(|n| !n.is_empty()) {
            found.push((dir.split('/').count(), dir.to_owned(), name.to_owned()));
        }
    }
    found.sort_unstable();
    let mut packages = Packages::new();
    for (_, dir, name) in found {
        packages.entry(name).or_insert(dir);
    }
    Ok(packages)
}

impl VirtualFiles {
    /// The file system of a tree.
    pub(super) fn of(repo: &gix::Repository, snapshot: Arc<TreePaths>, packages: Packages) -> Self {
        let roots = snapshot.named("package.json").iter().map(|p| split(p).0.to_owned()).collect();
        let repo = repo.clone().into_sync();
        Self { inner: Some(Arc::new(TreeFiles { repo, snapshot, packages, roots })) }
    }

    fn at(&self, path: &Path) -> Result<VirtualEntry> {
        let missing = || Error::new(ErrorKind::NotFound, "not in the tree");
        let Some(path) = inner(path) else {
            // The folders above the tree.
            let above = path.to_str().is_some_and(|p| TOP.starts_with(p));
            return if above { Ok(VirtualEntry::Folder) } else { Err(missing()) };
        };
        self.inner.as_ref().and_then(|tree| tree.entry(path)).ok_or_else(missing)
    }

    /// The same, with links followed.
    fn behind(&self, path: &Path) -> Result<VirtualEntry> {
        match self.at(path)? {
            VirtualEntry::Link(to) => self.behind(&outer(&to)),
            found @ (VirtualEntry::File(_) | VirtualEntry::Folder) => Ok(found),
        }
    }

    fn text(&self, path: &Path) -> Result<String> {
        let (VirtualEntry::File(id), Some(tree)) = (self.behind(path)?, &self.inner) else {
            return Err(Error::new(ErrorKind::InvalidInput, "not a file"));
        };
        let text = text(&tree.repo.to_thread_local(), id).map_err(Error::other)?;
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        // A `package.json` that is none must not spoil what lies below it.
        if name == "package.json" {
            let good =
                serde_json::from_str::<serde_json::Value>(&text).is_ok_and(|v| v.is_object());
            return Ok(if good { text } else { "{}".to_owned() });
        }
        let dir = inner(path).map_or("", |p| split(p).0);
        Ok(if name.ends_with(".json") { tree.settings(dir, text) } else { text })
    }
}

impl TreeFiles {
    fn entry(&self, path: &str) -> Option<VirtualEntry> {
        if let Some(id) = self.snapshot.file(path) {
            return Some(VirtualEntry::File(id));
        }
        if self.snapshot.has_folder(path) {
            return Some(VirtualEntry::Folder);
        }
        if let Some(name) = path.strip_prefix(MODULES) {
            return self.installed(name);
        }
        // Editors take the one for the other, and so may we.
        if let Some(dir) = path.strip_suffix("tsconfig.json")
            && let Some(id) = self.snapshot.file(&format!("{dir}jsconfig.json"))
        {
            return Some(VirtualEntry::File(id));
        }
        self.source_of(path).map(VirtualEntry::Link)
    }

    /// What is in the folder of installed packages, at the top: links to the packages of the repository.
    fn installed(&self, name: &str) -> Option<VirtualEntry> {
        let name = name.strip_prefix('/').unwrap_or(name);
        if name.is_empty() {
            return (!self.packages.is_empty()).then_some(VirtualEntry::Folder);
        }
        let (package, below) = package_of(name);
        if let Some(dir) = self.packages.get(package) {
            let to = join(dir, below.trim_start_matches('/'));
            return (below.is_empty() || self.entry(&to).is_some())
                .then_some(VirtualEntry::Link(to));
        }
        let scope = format!("{name}/");
        let is_scope = name.starts_with('@') && !name.contains('/');
        let filled = || self.packages.keys().any(|p| p.starts_with(&scope));
        (is_scope && filled()).then_some(VirtualEntry::Folder)
    }

    /// The source from which a build would make a file that the commit does not have.
    fn source_of(&self, path: &str) -> Option<String> {
        let mut root = split(path).0;
        while !self.roots.contains(root) {
            if root.is_empty() {
                return None;
            }
            root = split(root).0;
        }
        let below = path[root.len()..].trim_start_matches('/');
        let (built, mut rest) = below.split_once('/')?;
        if !BUILT.contains(&built) || self.snapshot.has_folder(&join(root, built)) {
            return None;
        }
        loop {
            let stem = MADE.iter().find_map(|e| rest.strip_suffix(e))?;
            for folder in ["src", ""] {
                let stem = join(root, &join(folder, stem));
                for extension in SOURCES {
                    let source = format!("{stem}{extension}");
                    if self.snapshot.has(&source) {
                        return Some(source);
                    }
                }
            }
            let (flavour, inside) = rest.split_once('/')?;
            if !FLAVOURS.contains(&flavour) {
                return None;
            }
            rest = inside;
        }
    }

    /// A settings file of TypeScript without what is not in the tree: one that extends an installed package has its
    /// own settings still. It also speaks for JavaScript, which is what is going to be TypeScript.
    fn settings(&self, dir: &str, mut text: String) -> String {
        if json_strip_comments::strip(&mut text).is_err() {
            return "{}".to_owned();
        }
        let Ok(serde_json::Value::Object(mut settings)) = serde_json::from_str(&text) else {
            return "{}".to_owned();
        };
        let relative = |name: &str| {
            let path = normal(&join(dir, name)).unwrap_or_default();
            let files = [path.clone(), format!("{path}.json"), join(&path, "tsconfig.json")];
            files.iter().any(|file| self.snapshot.has(file))
        };
        let there = |value: &serde_json::Value| match value.as_str() {
            Some(name) if name.starts_with('.') => relative(name),
            Some(name) => self.packages.contains_key(package_of(name).0),
            None => false,
        };
        let gone = match settings.get_mut("extends") {
            Some(serde_json::Value::Array(list)) => {
                list.retain(there);
                false
            }
            Some(one) => !there(one),
            None => false,
        };
        if gone {
            settings.remove("extends");
        }
        if let Some(serde_json::Value::Array(list)) = settings.get_mut("references") {
            list.retain(|one| one.get("path").and_then(|p| p.as_str()).is_some_and(relative));
        }
        let options = settings.entry("compilerOptions").or_insert_with(|| serde_json::json!({}));
        if let Some(options) = options.as_object_mut() {
            options.insert("allowJs".to_owned(), true.into());
        }
        serde_json::Value::Object(settings).to_string()
    }
}

impl FileSystem for VirtualFiles {
    fn new() -> Self {
        Self::default()
    }

    fn read(&self, path: &Path) -> Result<Vec<u8>> {
        self.text(path).map(String::into_bytes)
    }

    fn read_to_string(&self, path: &Path) -> Result<String> {
        self.text(path)
    }

    fn metadata(&self, path: &Path) -> Result<FileMetadata> {
        Ok(match self.behind(path)? {
            VirtualEntry::Folder => FileMetadata::new(false, true, false),
            VirtualEntry::File(_) | VirtualEntry::Link(_) => FileMetadata::new(true, false, false),
        })
    }

    fn symlink_metadata(&self, path: &Path) -> Result<FileMetadata> {
        Ok(match self.at(path)? {
            VirtualEntry::File(_) => FileMetadata::new(true, false, false),
            VirtualEntry::Folder => FileMetadata::new(false, true, false),
            VirtualEntry::Link(_) => FileMetadata::new(false, false, true),
        })
    }

    fn read_link(&self, path: &Path) -> std::result::Result<PathBuf, ResolveError> {
        match self.at(path)? {
            VirtualEntry::Link(to) => Ok(outer(&to)),
            VirtualEntry::File(_) | VirtualEntry::Folder => {
                Err(Error::new(ErrorKind::InvalidInput, "not a link").into())
            }
        }
    }

    fn canonicalize(&self, path: &Path) -> Result<PathBuf> {
        let path = inner(path).and_then(normal).ok_or(ErrorKind::NotFound)?;
        match self.at(&outer(&path))? {
            VirtualEntry::Link(to) => Ok(outer(&to)),
            VirtualEntry::File(_) | VirtualEntry::Folder => Ok(outer(&path)),
        }
    }
}
