//! Tests that need the whole project; each suite is a file in `tests/`.
