//! The one binary, `pelton`.
fn main() {}
