//! Pages of results, opened in a real browser: plots are there, nothing complains, and it prints.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use pelton_tests::program::{self, Finished, PATIENCE};
use tempfile::{TempDir, tempdir};

/// The names that distributions give it.
const BROWSERS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// It runs as anybody, in any container, asks nothing of any network and remembers nothing.
const FLAGS: [&str; 9] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
];

/// What begins the lines of a page's own messages: errors of scripts and styles, what could not
/// be loaded, what is deprecated.
const MESSAGE: &str = ":CONSOLE";

/// A browser takes all of a small machine for seconds, in which a short run of another test would
/// not get a single answer: one test after the other.
static TURN: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn browser() -> PathBuf {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let named = |folder: PathBuf| BROWSERS.map(|name| folder.join(name));
    std::env::split_paths(&folders)
        .flat_map(named)
        .find(|path| path.exists())
        .expect("a browser: scripts/browser installs Debian's Chromium")
}

/// Opens a page, and does what the last flag says.
fn open(dir: &TempDir, page: &Path, flag: &str) -> Finished {
    let mut command = Command::new(browser());
    let seconds = PATIENCE.as_secs();
    command
        .args(FLAGS)
        .arg(format!("--user-data-dir={}", dir.path().join("profile").display()))
        .arg(format!("--timeout={}", seconds * 500))
        .arg(flag)
        .arg(format!("file://{}", page.display()));
    program::finish(command, b"")
}

fn messages(finished: &Finished) -> Vec<&str> {
    finished.stderr.lines().filter(|line| line.contains(MESSAGE)).collect()
}

/// The page of a result.
fn page(dir: &TempDir, command: &str) -> PathBuf {
    let (json, html) = (dir.path().join("result.json"), dir.path().join("result.html"));
    let line = format!("{command} --data-dir {} --json {}", dir.path().display(), json.display());
    program::run(&line.split_whitespace().collect::<Vec<_>>(), b"").expect_success();
    let line = format!("bench report {} --html {}", json.display(), html.display());
    program::run(&line.split_whitespace().collect::<Vec<_>>(), b"").expect_success();
    html
}

/// What the browser made of a page: all its plots have shapes, and finite numbers.
fn tree(dir: &TempDir, html: &Path) -> String {
    let finished = open(dir, html, "--dump-dom");
    assert_eq!(messages(&finished), Vec::<&str>::new());
    let tree = finished.expect_success();
    assert!(tree.contains("</html>"), "{tree}");
    for plot in tree.split("<svg").skip(1) {
        let plot = plot.split("</svg>").next().unwrap_or_default();
        assert!(plot.contains("<path") || plot.contains("<rect") || plot.contains("<circle"));
        // Whole words: a knob is called `inflight`.
        let mut words = plot.split(|character: char| !character.is_alphanumeric());
        assert!(!words.any(|word| ["NaN", "inf"].contains(&word)), "{plot}");
    }
    tree
}

#[test]
fn a_run_has_its_plots_and_prints() {
    let _turn = turn();
    let dir = tempdir().expect("a folder");
    let html = page(
        &dir,
        "bench run --rate 2000 --batch 10rec --consumers 1 --duration 1s --warmup 50ms \
         --broker journal-bytes=8MiB --broker memory-bytes=64MiB",
    );
    // Percentiles, heat map, rate, latency, and what the machine did.
    let tree = tree(&dir, &html);
    assert!(tree.matches("<svg").count() >= 5, "{tree}");

    let pdf = dir.path().join("page.pdf");
    let finished = open(&dir, &html, &format!("--print-to-pdf={}", pdf.display()));
    finished.expect_success();
    assert!(fs::read(&pdf).expect("printed").starts_with(b"%PDF"));
}

#[test]
fn a_sweep_has_its_heat_maps() {
    let _turn = turn();
    let dir = tempdir().expect("a folder");
    let html = page(
        &dir,
        "bench sweep --vary inflight=1,4 --vary batch=1rec,10rec --repeat 2 --duration 60ms \
         --warmup 10ms --without-floor --broker journal-bytes=8MiB --broker memory-bytes=64MiB",
    );
    let tree = tree(&dir, &html);
    // Rates and processor time, of four cells each.
    assert!(tree.matches("background: color-mix").count() >= 8, "{tree}");
}

#[test]
fn a_page_with_an_error_would_be_noticed() {
    let _turn = turn();
    let dir = tempdir().expect("a folder");
    let html = dir.path().join("bad.html");
    let text = "<!doctype html><html><body><script>nobody.knows()</script></body></html>";
    fs::write(&html, text).expect("written");
    let finished = open(&dir, &html, "--dump-dom");
    assert_eq!(messages(&finished).len(), 1, "{}", finished.stderr);
}
