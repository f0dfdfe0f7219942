//! The recipes, embedded. A test compares this list with the folder of recipes.

/// Embeds files of a recipe by their names.
macro_rules! files {
    ($recipe:literal: $($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!(
            env!("CARGO_MANIFEST_DIR"), "/fixtures/recipes/", $recipe, "/", $name
        )))),*]
    };
}

/// A recipe for a job.
#[derive(Debug)]
pub(super) struct Recipe {
    /// The recipe's name.
    pub(super) name: &'static str,
    /// The job file and the files that it names: file name and text.
    pub(super) files: &'static [(&'static str, &'static str)],
    /// The first step before the job can be used.
    pub(super) first: &'static str,
}

/// All recipes.
pub(super) const RECIPES: &[Recipe] = &[
    Recipe {
        name: "blank",
        files: files!["blank": "harness.toml", "prompt.md"],
        first: "write the goal, the files and a check into the job, and what an agent must know into the prompt",
    },
    Recipe {
        name: "js-to-ts",
        files: files!["js-to-ts": "harness.toml", "prompt.md"],
        first: "look at what is marked EDIT in the job; the base needs a tsconfig.json and `typescript`",
    },
    Recipe {
        name: "review",
        files: files!["review": "evaluate.md", "example.json", "harness.toml", "page.md.j2", "prompt.md", "review.schema.json"],
        first: "look at `include`: which files are to be reviewed?",
    },
    Recipe {
        name: "review-fix",
        files: files!["review-fix": "harness.toml", "prompt.md"],
        first: "write the findings beside the prompt with `git harness collect REVIEW-RUN -o FOLDER/findings.json`, and \
                your tests into the job's check",
    },
];

#[cfg(test)]
mod tests {
    #[test]
    fn every_file_of_the_recipes_is_embedded() {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/recipes");
        let names = |folder: &std::path::Path| {
            let entries = std::fs::read_dir(folder).unwrap().flatten();
            let mut names: Vec<_> =
                entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
            names.sort();
            names
        };
        let root = std::path::Path::new(root);
        let mut embedded: Vec<_> = super::RECIPES.iter().map(|r| r.name.to_owned()).collect();
        embedded.sort();
        assert_eq!(names(root), embedded);
        for recipe in super::RECIPES {
            let files: Vec<_> = recipe.files.iter().map(|(name, _)| (*name).to_owned()).collect();
            assert_eq!(names(&root.join(recipe.name)), files, "{}", recipe.name);
        }
    }
}
