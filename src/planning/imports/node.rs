//! Resolution of JavaScript and TypeScript imports to files of the tree, by the rules of Node and
//! TypeScript.
//!
//! `oxc_resolver` implements these rules. The resolver reads the tree through [`VirtualFiles`].

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use oxc_resolver::{
    ResolveContext, ResolveError, ResolveOptions, ResolverGeneric, TsconfigDiscovery,
};

use super::fact::ImportFact;
use super::javascript::is_typed;
use super::virtual_files::{
    MODULES, Packages, VirtualFiles, package_of, packages, to_tree_path, to_virtual,
};
use crate::planning::tree_paths::{TreePaths, join, split};

/// Folders with the sources of a package. They are tried if the file that the `package.json` names
/// does not exist.
const SOURCE_FOLDERS: [&str; 3] = ["src", "lib", ""];

/// The kind of an import. `exports` in a `package.json` may name a file for each kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ImportKind {
    Import,
    Require,
}

/// A resolver for the imports of JavaScript and TypeScript files.
pub(super) struct NodeResolver {
    tree: Arc<TreePaths>,
    packages: Packages,
    javascript: ResolverPair,
    typescript: ResolverPair,
    /// The resolver for packages that hold only types.
    types: ResolverGeneric<VirtualFiles>,
    /// True if a bare specifier may mean more than a package of the repository: the tree has a
    /// `node_modules` folder, or a `tsconfig.json` or `jsconfig.json`, which may define names.
    has_other_names: bool,
}

/// The resolvers for one language.
struct ResolverPair {
    import: ResolverGeneric<VirtualFiles>,
    require: ResolverGeneric<VirtualFiles>,
}

fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}

/// Returns the options of a resolver for TypeScript files (`typed`) or JavaScript files. `types`
/// allows packages that hold only types.
fn options(typed: bool, kind: ImportKind, types: bool) -> ResolveOptions {
    let alias = |from: &str, to: &[&str]| (from.to_owned(), strings(to));
    // A specifier with `.js` may mean the TypeScript file that compiles to the named file. In a
    // JavaScript file, the named file goes first; in a TypeScript file, the source goes first.
    let aliases = if typed {
        vec![
            alias(".js", &[".ts", ".tsx", ".d.ts", ".js", ".jsx"]),
            alias(".jsx", &[".tsx", ".d.ts", ".jsx"]),
            alias(".mjs", &[".mts", ".d.mts", ".mjs"]),
            alias(".cjs", &[".cts", ".d.cts", ".cjs"]),
        ]
    } else {
        vec![
            alias(".js", &[".js", ".jsx", ".ts", ".tsx"]),
            alias(".jsx", &[".jsx", ".tsx"]),
            alias(".mjs", &[".mjs", ".mts"]),
            alias(".cjs", &[".cjs", ".cts"]),
        ]
    };
    let extensions: &[&str] = if typed {
        &[".ts", ".tsx", ".d.ts", ".js", ".jsx", ".mts", ".cts", ".mjs", ".cjs", ".json"]
    } else {
        &[".js", ".json", ".jsx", ".mjs", ".cjs", ".ts", ".tsx", ".mts", ".cts", ".d.ts"]
    };
    let condition = match kind {
        ImportKind::Import => "import",
        ImportKind::Require => "require",
    };
    let mut conditions = vec!["source", "development", condition, "module", "node", "default"];
    if types {
        conditions.push("types");
    }
    ResolveOptions {
        cwd: Some(to_virtual("")),
        tsconfig: Some(TsconfigDiscovery::Auto),
        condition_names: strings(&conditions),
        extension_alias: aliases,
        extensions: strings(extensions),
        main_fields: strings(&["source", "module", "main", "types"]),
        builtin_modules: true,
        node_path: false,
        ..ResolveOptions::default()
    }
}

impl NodeResolver {
    /// Creates the resolver for a tree.
    pub(super) fn new(repo: &gix::Repository, tree: &Arc<TreePaths>) -> Result<Self> {
        let packages = packages(repo, tree)?;
        let files = VirtualFiles::of(repo, Arc::clone(tree), packages.clone());
        let first =
            ResolverGeneric::new_with_file_system(files, options(false, ImportKind::Import, false));
        let resolver = |typed, kind, types| first.clone_with_options(options(typed, kind, types));
        let pair = |typed| ResolverPair {
            import: resolver(typed, ImportKind::Import, false),
            require: resolver(typed, ImportKind::Require, false),
        };
        let settings = ["tsconfig.json", "jsconfig.json"];
        let has_other_names = tree.has_folder_named(MODULES)
            || settings.iter().any(|name| !tree.files_named(name).is_empty());
        Ok(Self {
            tree: Arc::clone(tree),
            javascript: pair(false),
            typescript: pair(true),
            types: resolver(true, ImportKind::Import, true),
            packages,
            has_other_names,
        })
    }

    /// Returns the files of the tree that the facts of the file `from` lead to.
    pub(super) fn targets(&self, from: &str, facts: &[ImportFact]) -> Vec<String> {
        let target = |fact: &ImportFact| match fact {
            ImportFact::Import(specifier) => self.target(from, ImportKind::Import, specifier),
            ImportFact::Require(specifier) => self.target(from, ImportKind::Require, specifier),
            ImportFact::PythonModule(_)
            | ImportFact::PythonName(..)
            | ImportFact::RustModule(_)
            | ImportFact::RustModuleFile(..)
            | ImportFact::RustPath(..)
            | ImportFact::RustExternCrate(_) => None,
        };
        facts.iter().filter_map(target).collect()
    }

    fn target(&self, from: &str, kind: ImportKind, specifier: &str) -> Option<String> {
        // Most bare specifiers name installed packages, which are not in the tree.
        let bare = !specifier.starts_with(['.', '/', '#']);
        if bare && !self.has_other_names && !self.packages.contains_key(package_of(specifier).0) {
            return None;
        }
        let file = to_virtual(from);
        let resolvers = if is_typed(from) { &self.typescript } else { &self.javascript };
        let resolver = match kind {
            ImportKind::Import => &resolvers.import,
            ImportKind::Require => &resolvers.require,
        };
        let in_tree = |path: PathBuf| {
            let path = to_tree_path(&path)?.to_owned();
            self.tree.has_file(&path).then_some(path)
        };
        let not_exported = match resolver.resolve_file(&file, specifier) {
            Ok(resolution) => return in_tree(resolution.path().to_path_buf()),
            Err(error) => matches!(error, ResolveError::PackagePathNotExported { .. }),
        };
        // `resolve_file` fails if a `tsconfig.json` cannot be read. `resolve` reads no
        // `tsconfig.json`, and relative specifiers do not need one.
        if specifier.starts_with('.') {
            return in_tree(resolver.resolve(file.parent()?, specifier).ok()?.path().to_path_buf());
        }
        if let Ok(resolution) = self.types.resolve_file(&file, specifier) {
            return in_tree(resolution.path().to_path_buf());
        }
        self.by_nearest_settings(from, resolver, specifier).and_then(in_tree).or_else(|| {
            (!not_exported)
                .then(|| self.in_package(resolver, specifier))
                .flatten()
                .and_then(in_tree)
        })
    }

    /// Resolves a specifier by the nearest `tsconfig.json`, even if the settings do not include the
    /// file `from`. Bundlers do the same.
    fn by_nearest_settings(
        &self,
        from: &str,
        resolver: &ResolverGeneric<VirtualFiles>,
        specifier: &str,
    ) -> Option<PathBuf> {
        let mut dir = split(from).0;
        let settings = loop {
            let settings_files = ["tsconfig.json", "jsconfig.json"].map(|name| join(dir, name));
            if settings_files.iter().any(|path| self.tree.has_file(path)) {
                break to_virtual(&join(dir, "tsconfig.json"));
            }
            if dir.is_empty() {
                return None;
            }
            dir = split(dir).0;
        };
        let settings = resolver.resolve_tsconfig(settings).ok()?;
        let folder = to_virtual(split(from).0);
        let mut context = ResolveContext::default();
        resolver
            .resolve_with_context(folder, specifier, Some(&settings), &mut context)
            .ok()
            .map(|resolution| resolution.path().to_path_buf())
    }

    /// Resolves a specifier to the source of a package of the repository whose `package.json` names
    /// only build outputs.
    fn in_package(
        &self,
        resolver: &ResolverGeneric<VirtualFiles>,
        specifier: &str,
    ) -> Option<PathBuf> {
        let (name, rest) = package_of(specifier);
        let dir = self.packages.get(name)?;
        let rest = if rest.is_empty() { "/index" } else { rest };
        SOURCE_FOLDERS.iter().find_map(|folder| {
            let resolution = resolver.resolve(to_virtual(&join(dir, folder)), &format!(".{rest}"));
            resolution.ok().map(|resolution| resolution.path().to_path_buf())
        })
    }
}
