//! Tidy: the rules of `docs/STYLE.md` that a program can hold.
//!
//! Each test prints every place it objects to as `path:line: complaint`.

mod documents;
mod length;
mod manifests;
mod names;
mod purity;
mod ratchet;
mod tree;
mod words;
