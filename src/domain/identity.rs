//! The author or committer of commits.

/// A name and an email address, as commits carry them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The name, as in `user.name`.
    pub name: String,
    /// The address, as in `user.email`.
    pub email: String,
}
