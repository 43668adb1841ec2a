//! `docs/PROTOCOL.md` says what `wire` does: every layout, number, limit and example.

mod document;
mod examples;
mod layouts;
mod numbers;
