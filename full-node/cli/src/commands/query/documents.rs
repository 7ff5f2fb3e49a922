//! The documents of a search: text and markdown files, within limits.

use std::path::Path;

use anyhow::{Context, Result};
use nesa_light::search::Document;

use crate::failure::{Code, Failure};

/// Most files read.
const MAX_FILES: usize = 256;
/// Largest file read, in bytes.
const MAX_BYTES: u64 = 1 << 20;
/// Deepest folder read.
const MAX_DEPTH: usize = 8;

/// Reads `path`, a file or a folder, in order of names.
pub(super) fn read(path: &Path) -> Result<Vec<Document>> {
    let mut documents = Vec::new();
    if path.is_file() {
        documents.push(document(path, path)?);
    } else {
        walk(path, path, 0, &mut documents)?;
    }
    if documents.is_empty() {
        return Err(Failure::new(
            Code::Usage,
            format!("{} holds no .txt or .md file", path.display()),
            "name a folder with documents, or one file, with --docs",
        )
        .into());
    }
    Ok(documents)
}

fn walk(root: &Path, folder: &Path, depth: usize, documents: &mut Vec<Document>) -> Result<()> {
    let named = || format!("cannot read the folder {}", folder.display());
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(named)? {
        paths.push(entry.with_context(named)?.path());
    }
    paths.sort();
    for path in paths {
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if path.is_dir() && !hidden && depth < MAX_DEPTH {
            walk(root, &path, depth + 1, documents)?;
        } else if path.extension().is_some_and(|e| e == "txt" || e == "md") {
            if documents.len() == MAX_FILES {
                return Err(Failure::new(
                    Code::Usage,
                    format!("{} holds more than {MAX_FILES} documents", root.display()),
                    "search a smaller folder",
                )
                .into());
            }
            documents.push(document(root, &path)?);
        }
    }
    Ok(())
}

fn document(root: &Path, path: &Path) -> Result<Document> {
    let named = || format!("cannot read {}", path.display());
    let size = std::fs::metadata(path).with_context(named)?.len();
    if size > MAX_BYTES {
        return Err(Failure::new(
            Code::Usage,
            format!("{} has {size} bytes, at most {MAX_BYTES} are read", path.display()),
            "split it, or leave it out",
        )
        .into());
    }
    let text = std::fs::read_to_string(path).with_context(named)?;
    let title = path.strip_prefix(root).ok().filter(|rest| !rest.as_os_str().is_empty());
    Ok(Document { title: title.unwrap_or(path).display().to_string(), text })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_documents_are_read_in_order() {
        let dir = tempfile::tempdir().expect("temporary folder");
        for (name, text) in [("b.md", "B"), ("a.txt", "A"), ("c.png", "C"), (".git/d.md", "D")] {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().expect("has one")).expect("made");
            std::fs::write(path, text).expect("written");
        }
        let found: Vec<_> =
            read(dir.path()).expect("readable").into_iter().map(|d| (d.title, d.text)).collect();
        let expected = [("a.txt", "A"), ("b.md", "B")].map(|(t, x)| (t.to_owned(), x.to_owned()));
        assert_eq!(found, expected);
        assert!(read(&dir.path().join("c.png").join("none")).is_err());
    }
}
