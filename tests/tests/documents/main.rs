//! `docs/PROTOCOL.md` says what `wire` does and `docs/FORMAT.md` what `engine` writes: every
//! layout, number, limit and example is compared. `docs/ARCHITECTURE.md` maps the tree.

mod code_map;
mod document;
mod drawing;
mod format;
mod protocol_examples;
mod protocol_layouts;
mod protocol_numbers;
