//! Which files of the tree a JavaScript or TypeScript file means: Node's and TypeScript's rules, by `oxc_resolver`.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use oxc_resolver::{
    ResolveContext, ResolveError, ResolveOptions, ResolverGeneric, TsconfigDiscovery,
};

use super::javascript::{ImportKind, is_typed, meaning};
use super::virtual_files::{MODULES, Packages, VirtualFiles, inner, outer, package_of, packages};
use crate::planning::snapshot::{TreePaths, join, split};

/// Folders in which the source of a package lies, where what its `package.json` names does not exist.
const SOURCE_FOLDERS: [&str; 3] = ["src", "lib", ""];

/// Finds what modules mean.
pub(super) struct NodeResolver {
    snapshot: Arc<TreePaths>,
    packages: Packages,
    /// By whether the file that asks may hold types, and by how it asks.
    resolvers: [[ResolverGeneric<VirtualFiles>; 2]; 2],
    /// For packages that hold nothing but types.
    types: ResolverGeneric<VirtualFiles>,
    /// Whether anything in the tree gives names a meaning that are no package's of the repository.
    named: bool,
}

fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}

fn options(typed: bool, how: ImportKind, types: bool) -> ResolveOptions {
    let alias = |from: &str, to: &[&str]| (from.to_owned(), strings(to));
    // A specifier with `.js` may mean a file that will be compiled to it. JavaScript looks for what it names first,
    // TypeScript for what it is made from.
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
    let kind = match how {
        ImportKind::Import => "import",
        ImportKind::Require => "require",
    };
    let mut conditions = vec!["source", "development", kind, "module", "node", "default"];
    if types {
        conditions.push("types");
    }
    ResolveOptions {
        cwd: Some(outer("")),
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
    /// For the files of a tree.
    pub(super) fn new(repo: &gix::Repository, snapshot: &Arc<TreePaths>) -> Result<Self> {
        let packages = packages(repo, snapshot)?;
        let files = VirtualFiles::of(repo, Arc::clone(snapshot), packages.clone());
        let first =
            ResolverGeneric::new_with_file_system(files, options(false, ImportKind::Import, false));
        let like = |typed, how, types| first.clone_with_options(options(typed, how, types));
        let resolvers = [
            [like(false, ImportKind::Import, false), like(false, ImportKind::Require, false)],
            [like(true, ImportKind::Import, false), like(true, ImportKind::Require, false)],
        ];
        let types = like(true, ImportKind::Import, true);
        let settings = ["tsconfig.json", "jsconfig.json"];
        let named = snapshot.has_folder_named(MODULES)
            || settings.iter().any(|name| !snapshot.named(name).is_empty());
        Ok(Self { snapshot: Arc::clone(snapshot), packages, resolvers, types, named })
    }

    /// The files of the tree that a file means by what was found in it.
    pub(super) fn targets(&self, from: &str, facts: &[String]) -> Vec<String> {
        let found = facts.iter().filter_map(|fact| meaning(fact));
        found.filter_map(|(how, specifier)| self.target(from, how, specifier)).collect()
    }

    fn target(&self, from: &str, how: ImportKind, specifier: &str) -> Option<String> {
        // Most that is not relative is installed, and no business of ours.
        let bare = !specifier.starts_with(['.', '/', '#']);
        if bare && !self.named && !self.packages.contains_key(package_of(specifier).0) {
            return None;
        }
        let file = outer(from);
        let by_kind = &self.resolvers[usize::from(is_typed(from))];
        let resolver = match how {
            ImportKind::Import => &by_kind[0],
            ImportKind::Require => &by_kind[1],
        };
        let known = |path: PathBuf| {
            let path = inner(&path)?.to_owned();
            self.snapshot.has(&path).then_some(path)
        };
        let refused = match resolver.resolve_file(&file, specifier) {
            Ok(found) => return known(found.path().to_path_buf()),
            // What a package does not export cannot be asked for.
            Err(error) => matches!(error, ResolveError::PackagePathNotExported { .. }),
        };
        // A resolver that cannot read a `tsconfig.json` finds nothing at all; without it, it finds what is relative.
        if specifier.starts_with('.') {
            return known(resolver.resolve(file.parent()?, specifier).ok()?.path().to_path_buf());
        }
        if let Ok(found) = self.types.resolve_file(&file, specifier) {
            return known(found.path().to_path_buf());
        }
        self.by_nearest_settings(from, resolver, specifier).and_then(known).or_else(|| {
            (!refused).then(|| self.in_package(resolver, specifier)).flatten().and_then(known)
        })
    }

    /// By the nearest `tsconfig.json`, although that does not count the file as its own: bundlers do not ask.
    fn by_nearest_settings(
        &self,
        from: &str,
        resolver: &ResolverGeneric<VirtualFiles>,
        specifier: &str,
    ) -> Option<PathBuf> {
        let mut dir = split(from).0;
        let settings = loop {
            let there = ["tsconfig.json", "jsconfig.json"].map(|name| join(dir, name));
            if there.iter().any(|path| self.snapshot.has(path)) {
                break outer(&join(dir, "tsconfig.json"));
            }
            if dir.is_empty() {
                return None;
            }
            dir = split(dir).0;
        };
        let settings = resolver.resolve_tsconfig(settings).ok()?;
        let folder = outer(split(from).0);
        let mut context = ResolveContext::default();
        let found = resolver.resolve_with_context(folder, specifier, Some(&settings), &mut context);
        found.ok().map(|found| found.path().to_path_buf())
    }

    /// The source of a package of the repository, where its `package.json` names only what a build would make.
    fn in_package(
        &self,
        resolver: &ResolverGeneric<VirtualFiles>,
        specifier: &str,
    ) -> Option<PathBuf> {
        let (name, rest) = package_of(specifier);
        let dir = self.packages.get(name)?;
        let rest = if rest.is_empty() { "/index" } else { rest };
        SOURCE_FOLDERS.iter().find_map(|folder| {
            let found = resolver.resolve(outer(&join(dir, folder)), &format!(".{rest}"));
            found.ok().map(|found| found.path().to_path_buf())
        })
    }
}
