//! What a task costs beside its agent, against a plain shell loop that does the same.

fn main() {}
