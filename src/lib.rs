//! `git harness`: carry out large AI-coding jobs reliably. Start reading at ARCHITECTURE.md.
//!
//! The modules stand in the order of their layers, lowest first, but for those at the end that name none; a module names only what the table in ARCHITECTURE.md
//! grants it, which a test reads.

pub mod domain;

pub mod ambient;
pub mod contract;
pub mod failpoint;
pub mod process;
pub mod repo;

pub mod job;
pub mod planning;
pub mod store;

pub mod agent;
pub mod keeper;
pub mod landing;
pub mod verify;

pub mod engine;

pub mod ui;

pub mod cli;
pub mod commands;
pub mod error;
