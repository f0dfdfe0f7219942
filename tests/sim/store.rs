//! The store under several handles, compared with a model.
