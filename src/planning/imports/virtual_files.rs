//! A virtual file system for the resolver: the tree of a commit, and the files that an installation
//! and a build would add.
//!
//! The added files are symbolic links: one in `node_modules` for each package of the repository,
//! and one from each build output to its source.

use std::collections::HashMap;
use std::io::{Error, ErrorKind, Result};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gix::ThreadSafeRepository;
use oxc_resolver::{FileMetadata, FileSystem, ResolveError};

use crate::planning::tree_paths::{TreePaths, join, normalize, split, text};

/// The path of the tree in the virtual file system. The path is not `/`, where `..` has no effect:
/// a specifier that leaves the tree with `../` must not resolve to a file of the tree.
const TOP: &str = "/harness/base/tree";
/// The folder of installed packages.
pub(super) const MODULES: &str = "node_modules";
/// Folders that builds write to, below the folder of a package. A folder that exists in the commit
/// is not a build folder.
const BUILT: [&str; 12] = [
    "dist", "build", "lib", "out", "output", "esm", "cjs", "es", "types", "typings", "dist-es",
    "dist-cjs",
];
/// Folders below the build folders, named after the platform or module system of a build.
const BUILD_VARIANTS: [&str; 10] =
    ["esm", "cjs", "es", "module", "commonjs", "types", "node", "browser", "es6", "src"];
/// Extensions of build outputs, the longest first.
const OUTPUTS: [&str; 11] =
    [".d.mts", ".d.cts", ".d.ts", ".min.js", ".mjs", ".cjs", ".jsx", ".js", ".mts", ".cts", ".ts"];
/// Extensions of sources, the likeliest first.
const SOURCES: [&str; 8] = [".ts", ".tsx", ".mts", ".cts", ".js", ".jsx", ".mjs", ".cjs"];

/// The folder of each package of the repository, by package name.
pub(super) type Packages = HashMap<String, String>;

/// A virtual file system over the tree of a commit.
#[derive(Clone, Default)]
pub(super) struct VirtualFiles {
    /// The files, or `None` for the empty file system that the resolver creates by default.
    tree: Option<Arc<TreeFiles>>,
}

/// The files of a tree and the links that are added to them.
struct TreeFiles {
    repo: ThreadSafeRepository,
    tree: Arc<TreePaths>,
    packages: Packages,
    /// Folders with a `package.json`.
    package_folders: std::collections::HashSet<String>,
}

/// An entry of the file system.
enum VirtualEntry {
    File(gix::ObjectId),
    Folder,
    /// A symbolic link to another path of the tree.
    Link(String),
}

/// Converts a path of the tree to a path in the virtual file system.
pub(super) fn to_virtual(path: &str) -> PathBuf {
    if path.is_empty() { PathBuf::from(TOP) } else { PathBuf::from(format!("{TOP}/{path}")) }
}

/// Converts a path in the virtual file system to a path of the tree.
pub(super) fn to_tree_path(path: &Path) -> Option<&str> {
    let rest = path.to_str()?.strip_prefix(TOP)?;
    if rest.is_empty() { Some(rest) } else { rest.strip_prefix('/') }
}

/// Splits a specifier into the package name and the rest, which is empty or a path with a leading
/// slash.
pub(super) fn package_of(specifier: &str) -> (&str, &str) {
    let scoped = specifier.starts_with('@');
    let slash = specifier.match_indices('/').nth(usize::from(scoped)).map(|(at, _)| at);
    specifier.split_at(slash.unwrap_or(specifier.len()))
}

/// Returns the packages of a repository. Of two packages with the same name, the package nearer to
/// the top counts. Installed packages do not count.
pub(super) fn packages(repo: &gix::Repository, tree: &TreePaths) -> anyhow::Result<Packages> {
    let mut by_depth: Vec<(usize, String, String)> = Vec::new();
    for path in tree.files_named("package.json") {
        let dir = split(path).0;
        let Some(id) = tree.blob(path).filter(|_| !dir.split('/').any(|p| p == MODULES)) else {
            continue;
        };
        let json: serde_json::Value = serde_json::from_str(&text(repo, id)?).unwrap_or_default();
        if let Some(name) = json.get("name").and_then(|n| n.as_str()).filter(|n| !n.is_empty()) {
            by_depth.push((dir.split('/').count(), dir.to_owned(), name.to_owned()));
        }
    }
    by_depth.sort_unstable();
    let mut packages = Packages::new();
    for (_, dir, name) in by_depth {
        packages.entry(name).or_insert(dir);
    }
    Ok(packages)
}

impl VirtualFiles {
    /// Creates the file system of a tree.
    pub(super) fn of(repo: &gix::Repository, tree: Arc<TreePaths>, packages: Packages) -> Self {
        let folders = tree.files_named("package.json").into_iter().map(|p| split(p).0.to_owned());
        let package_folders = folders.collect();
        let repo = repo.clone().into_sync();
        Self { tree: Some(Arc::new(TreeFiles { repo, tree, packages, package_folders })) }
    }

    /// Returns the entry at a path.
    fn entry(&self, path: &Path) -> Result<VirtualEntry> {
        let missing = || Error::new(ErrorKind::NotFound, "not in the tree");
        let Some(path) = to_tree_path(path) else {
            let above = path.to_str().is_some_and(|p| TOP.starts_with(p));
            return if above { Ok(VirtualEntry::Folder) } else { Err(missing()) };
        };
        self.tree.as_ref().and_then(|tree| tree.entry(path)).ok_or_else(missing)
    }

    /// Returns the entry at a path and follows links.
    fn target_entry(&self, path: &Path) -> Result<VirtualEntry> {
        match self.entry(path)? {
            VirtualEntry::Link(to) => self.target_entry(&to_virtual(&to)),
            entry @ (VirtualEntry::File(_) | VirtualEntry::Folder) => Ok(entry),
        }
    }

    fn text(&self, path: &Path) -> Result<String> {
        let (VirtualEntry::File(id), Some(tree)) = (self.target_entry(path)?, &self.tree) else {
            return Err(Error::new(ErrorKind::InvalidInput, "not a file"));
        };
        let text = text(&tree.repo.to_thread_local(), id).map_err(Error::other)?;
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        // An invalid `package.json` must not stop the resolution of files below it.
        if name == "package.json" {
            let valid =
                serde_json::from_str::<serde_json::Value>(&text).is_ok_and(|v| v.is_object());
            return Ok(if valid { text } else { "{}".to_owned() });
        }
        let dir = to_tree_path(path).map_or("", |p| split(p).0);
        Ok(if name.ends_with(".json") { tree.typescript_settings(dir, text) } else { text })
    }
}

impl TreeFiles {
    fn entry(&self, path: &str) -> Option<VirtualEntry> {
        if let Some(id) = self.tree.blob(path) {
            return Some(VirtualEntry::File(id));
        }
        if self.tree.has_folder(path) {
            return Some(VirtualEntry::Folder);
        }
        if let Some(name) = path.strip_prefix(MODULES) {
            return self.installed(name);
        }
        // A `jsconfig.json` stands in for a missing `tsconfig.json`, as in editors.
        if let Some(dir) = path.strip_suffix("tsconfig.json")
            && let Some(id) = self.tree.blob(&format!("{dir}jsconfig.json"))
        {
            return Some(VirtualEntry::File(id));
        }
        self.source_of(path).map(VirtualEntry::Link)
    }

    /// Returns the entry at a path below the top `node_modules` folder, which links to the packages
    /// of the repository.
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
        let has_packages = || self.packages.keys().any(|p| p.starts_with(&scope));
        (is_scope && has_packages()).then_some(VirtualEntry::Folder)
    }

    /// Returns the source of a build output that the commit does not have.
    fn source_of(&self, path: &str) -> Option<String> {
        let mut root = split(path).0;
        while !self.package_folders.contains(root) {
            if root.is_empty() {
                return None;
            }
            root = split(root).0;
        }
        let below = path[root.len()..].trim_start_matches('/');
        let (build_folder, mut rest) = below.split_once('/')?;
        if !BUILT.contains(&build_folder) || self.tree.has_folder(&join(root, build_folder)) {
            return None;
        }
        loop {
            let stem = OUTPUTS.iter().find_map(|e| rest.strip_suffix(e))?;
            for folder in ["src", ""] {
                let stem = join(root, &join(folder, stem));
                for extension in SOURCES {
                    let source = format!("{stem}{extension}");
                    if self.tree.has_file(&source) {
                        return Some(source);
                    }
                }
            }
            let (variant, inside) = rest.split_once('/')?;
            if !BUILD_VARIANTS.contains(&variant) {
                return None;
            }
            rest = inside;
        }
    }

    /// Returns a TypeScript settings file with two changes. References to files that are not in the
    /// tree are removed, since the resolver refuses settings that extend a missing file. `allowJs`
    /// is set, so that the settings also apply to JavaScript files.
    fn typescript_settings(&self, dir: &str, mut text: String) -> String {
        if json_strip_comments::strip(&mut text).is_err() {
            return "{}".to_owned();
        }
        let Ok(serde_json::Value::Object(mut settings)) = serde_json::from_str(&text) else {
            return "{}".to_owned();
        };
        let is_file = |name: &str| {
            let path = normalize(&join(dir, name)).unwrap_or_default();
            let files = [path.clone(), format!("{path}.json"), join(&path, "tsconfig.json")];
            files.iter().any(|file| self.tree.has_file(file))
        };
        let exists = |value: &serde_json::Value| match value.as_str() {
            Some(name) if name.starts_with('.') => is_file(name),
            Some(name) => self.packages.contains_key(package_of(name).0),
            None => false,
        };
        let base_is_missing = match settings.get_mut("extends") {
            Some(serde_json::Value::Array(list)) => {
                list.retain(exists);
                false
            }
            Some(name) => !exists(name),
            None => false,
        };
        if base_is_missing {
            settings.remove("extends");
        }
        if let Some(serde_json::Value::Array(list)) = settings.get_mut("references") {
            list.retain(|reference| {
                reference.get("path").and_then(|p| p.as_str()).is_some_and(is_file)
            });
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
        Ok(match self.target_entry(path)? {
            VirtualEntry::Folder => FileMetadata::new(false, true, false),
            VirtualEntry::File(_) | VirtualEntry::Link(_) => FileMetadata::new(true, false, false),
        })
    }

    fn symlink_metadata(&self, path: &Path) -> Result<FileMetadata> {
        Ok(match self.entry(path)? {
            VirtualEntry::File(_) => FileMetadata::new(true, false, false),
            VirtualEntry::Folder => FileMetadata::new(false, true, false),
            VirtualEntry::Link(_) => FileMetadata::new(false, false, true),
        })
    }

    fn read_link(&self, path: &Path) -> std::result::Result<PathBuf, ResolveError> {
        match self.entry(path)? {
            VirtualEntry::Link(to) => Ok(to_virtual(&to)),
            VirtualEntry::File(_) | VirtualEntry::Folder => {
                Err(Error::new(ErrorKind::InvalidInput, "not a link").into())
            }
        }
    }

    fn canonicalize(&self, path: &Path) -> Result<PathBuf> {
        let path = to_tree_path(path).and_then(normalize).ok_or(ErrorKind::NotFound)?;
        match self.entry(&to_virtual(&path))? {
            VirtualEntry::Link(to) => Ok(to_virtual(&to)),
            VirtualEntry::File(_) | VirtualEntry::Folder => Ok(to_virtual(&path)),
        }
    }
}
