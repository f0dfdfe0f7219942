//! A fixed number of merge trials. See [`crate::merges`].
#![expect(clippy::disallowed_methods, reason = "the tests read the search path")]

use crate::merges;

#[test]
fn merge_trials_give_the_trees_and_conflicts_of_git() {
    merges::compare_all(&std::env::var("PATH").unwrap(), 8);
}
