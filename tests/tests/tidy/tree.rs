//! The project's own text files, read once, and the places in them that a rule objects to.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// Folders that hold what tools produce, not what people write.
const FOLDERS_SKIPPED: [&str; 5] =
    [".git", "target", "corpus", "artifacts", "proptest-regressions"];

/// What a rule objects to, where, and in words that tell what to do.
#[derive(Debug)]
pub struct Finding {
    /// Path relative to the root.
    pub path: String,
    /// Counted from 1; 0 speaks of the whole file.
    pub line: usize,
    /// The complaint.
    pub what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.path, self.what),
            line => write!(f, "{}:{line}: {}", self.path, self.what),
        }
    }
}

/// Fails the calling test with every finding, each on a line that an editor can jump to.
#[track_caller]
pub fn assert_none(findings: &[Finding]) {
    let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
    assert!(findings.is_empty(), "{} untidy place(s):\n{}", lines.len(), lines.join("\n"));
}

/// One text file of the project.
#[derive(Debug)]
pub struct Source {
    /// Path relative to the root, with forward slashes.
    pub path: String,
    /// The whole text.
    pub text: String,
}

impl Source {
    /// Whether the file is Rust.
    pub fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Whether the file is a program: Rust or a script.
    pub fn is_code(&self) -> bool {
        !self.is_markdown() && !self.path.ends_with(".toml")
    }

    /// Whether the file is prose.
    pub fn is_markdown(&self) -> bool {
        self.path.ends_with(".md")
    }

    /// Whether the file lies in the folder.
    pub fn is_under(&self, folder: &str) -> bool {
        self.path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
    }

    /// The file's lines with their numbers, counted from 1.
    pub fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(index, line)| (index + 1, line))
    }

    /// Lines with their comments cut off, so that prose may name what code may not.
    pub fn code_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.lines().map(|(number, line)| {
            let comment_at =
                if line.trim_start().starts_with("//") { Some(0) } else { line.find(" // ") };
            (number, comment_at.map_or(line, |at| &line[..at]))
        })
    }

    /// The first line of the unit tests at the end of the file, which the style puts last.
    pub fn unit_tests_from(&self) -> Option<usize> {
        self.lines().find(|(_, line)| line.trim() == "mod tests {").map(|(number, _)| number)
    }

    /// A finding about one line of this file.
    pub fn finding(&self, line: usize, what: impl Into<String>) -> Finding {
        Finding { path: self.path.clone(), line, what: what.into() }
    }
}

/// The folder that holds the workspace.
pub fn root() -> PathBuf {
    let manifest_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest_dir.parent().expect("the tests crate lies in the workspace").to_path_buf()
}

/// Every text file that people write, sorted by path.
pub fn sources() -> Vec<Source> {
    let root = root();
    let mut files = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the folder is readable") {
            let entry = entry.expect("the entry is readable");
            let name = entry.file_name().to_string_lossy().into_owned();
            let kind = entry.file_type().expect("the entry has a type");
            if kind.is_dir() && !FOLDERS_SKIPPED.contains(&name.as_str()) {
                folders.push(entry.path());
            } else if kind.is_file() && is_written_by_people(&name) {
                files.extend(read(&root, &entry.path()));
            }
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(files.len() > 20, "the walk found {} files: it looked in the wrong place", files.len());
    files
}

/// Scripts have no extension; lock files and data are not ours to tidy.
fn is_written_by_people(name: &str) -> bool {
    match Path::new(name).extension() {
        Some(extension) => ["rs", "toml", "md", "sh"].iter().any(|known| extension == *known),
        None => !name.starts_with('.') && name != "LICENSE",
    }
}

/// None where another program removed the file meanwhile or where it is not text.
fn read(root: &Path, path: &Path) -> Option<Source> {
    let text = fs::read_to_string(path).ok()?;
    let relative = path.strip_prefix(root).expect("the walk stays below the root");
    Some(Source { path: relative.to_string_lossy().replace('\\', "/"), text })
}
