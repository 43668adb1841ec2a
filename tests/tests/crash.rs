//! Kills of a real broker; `scripts/crash` does many more, fills file systems and flips bits.

use pelton_tests::crash::kill::survive;
use tempfile::tempdir;

const CYCLES: u64 = 20;
const CYCLES_GLOMMIO: u64 = 3;

#[test]
fn acknowledged_records_survive_every_kill() {
    survive(tempdir().expect("a folder").path(), 0, CYCLES, &[]);
}

#[test]
fn they_survive_on_glommio_too() {
    survive(tempdir().expect("a folder").path(), 0, CYCLES_GLOMMIO, &["--io=glommio"]);
}
