//! `init`: write a job from a recipe.

mod files;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use self::files::{RECIPES, Recipe};
use super::open::open_repo;
use crate::cli;
use crate::error::{self, Advice};
use crate::job;
use crate::ui::Ui;

/// The folder of named jobs and of the files that job files mention.
const FOLDER: &str = ".harness";

/// `git harness init`
pub(super) fn run(here: &Path, args: &cli::InitArgs, ui: &Ui) -> Result<u8> {
    let Some(name) = &args.recipe else {
        if args.list {
            let lines = RECIPES.iter().map(|recipe| format!("{}\n", recipe.name));
            ui.result(&lines.collect::<String>());
            return Ok(error::OK);
        }
        return write(here, args, recipe("blank")?, ui);
    };
    write(here, args, recipe(name)?, ui)
}

/// Returns the text of one file of a recipe.
pub(super) fn recipe_file(name: &str, file: &str) -> Option<&'static str> {
    let recipe = RECIPES.iter().find(|recipe| recipe.name == name)?;
    recipe.files.iter().find(|(name, _)| *name == file).map(|(_, text)| *text)
}

fn recipe(name: &str) -> Result<&'static Recipe> {
    let found = RECIPES.iter().find(|recipe| recipe.name == name);
    found.ok_or_else(|| {
        let known: Vec<_> = RECIPES.iter().map(|recipe| recipe.name).collect();
        Advice::new(
            format!("no recipe is called `{name}`"),
            format!("there are {}", known.join(", ")),
        )
        .into()
    })
}

fn write(here: &Path, args: &cli::InitArgs, recipe: &Recipe, ui: &Ui) -> Result<u8> {
    let repo = open_repo(here)?;
    let Some(top) = repo.top() else {
        bail!("this repository has no work tree to write a job into");
    };
    let name = match &args.name {
        Some(name) => {
            let slug = job::slug(name);
            if slug != *name {
                let hint = format!("a job's name holds a-z, 0-9, `-` and `_`, such as `{slug}`");
                return Err(Advice::new(format!("not the name of a job: {name}"), hint).into());
            }
            name.clone()
        }
        None if recipe.name == "blank" => job::slug(&repo.name()),
        None => recipe.name.to_owned(),
    };
    // All files of a named job lie in `.harness/NAME`. The job without a name is the repository's
    // own: its job file lies at the top, and its other files lie in `.harness`.
    let (job_folder, folder) = match &args.name {
        Some(name) => (Path::new(FOLDER).join(name), Path::new(FOLDER).join(name)),
        None => (PathBuf::new(), PathBuf::from(FOLDER)),
    };
    let texts: Vec<(PathBuf, String)> = recipe
        .files
        .iter()
        .map(|(file, text)| {
            if *file != job::FILE_NAME {
                return (folder.join(file), (*text).to_owned());
            }
            let text = text.replace("{{ name }}", &name);
            // The other files of a named job lie beside its job file, which names them without a
            // folder.
            let is_named = args.name.is_some();
            let text = if is_named { text.replace(&format!("\"{FOLDER}/"), "\"") } else { text };
            (job_folder.join(file), text)
        })
        .collect();
    let existing: Vec<_> =
        texts.iter().map(|(path, _)| path).filter(|p| top.join(p).exists()).collect();
    if let (Some(first), false) = (existing.first(), args.force) {
        let hint = "`git harness init NAME` writes a job of its own into `.harness/NAME/`; `--force` overwrites existing files";
        return Err(
            Advice::new(format!("the file exists already: {}", first.display()), hint).into()
        );
    }
    for (path, text) in &texts {
        let path = top.join(path);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)
                .with_context(|| format!("cannot make the folder {}", parent.display()))?;
        }
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        ui.result(&format!("wrote {}\n", path.strip_prefix(top).unwrap_or(&path).display()));
    }
    let argument = args.name.as_ref().map_or_else(String::new, |name| format!(" {name}"));
    let first = recipe.first.replace("FOLDER", &folder.display().to_string());
    ui.status(&format!(
        "next:\n  {first}\n  git harness validate{argument}        is the job right?\n  \
         git harness doctor{argument}          is everything there that it needs?\n  \
         git harness plan{argument}            which tasks would there be?\n  \
         git harness start{argument}           carry it out"
    ));
    Ok(error::OK)
}
