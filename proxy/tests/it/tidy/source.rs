//! The files of the workspace, and as much of Rust's grammar as the rules need: where code is, where functions begin and end, what a module imports.
//!
//! Not a parser: a mask over comments and literals, and matching brackets. `rustc` has already refused what would mislead it.

use std::fs;
use std::path::Path;

/// What a rule reads.
pub(super) struct Source {
    /// From the workspace's folder, with `/`.
    pub(super) path: String,
    pub(super) text: String,
    /// Comments and literals are blanks; lines and offsets are those of `text`.
    pub(super) code: String,
    /// Only literals are blanks.
    pub(super) words: String,
}

/// A function with its body, or the signature of one.
pub(super) struct Function {
    pub(super) name: String,
    /// From 1.
    pub(super) line: usize,
    pub(super) lines: usize,
    /// Besides `self`.
    pub(super) parameters: usize,
}

impl Source {
    pub(super) fn new(path: &str, text: &str) -> Source {
        let is_rust = path.ends_with(".rs");
        let masked = |comments| if is_rust { mask(text, comments) } else { text.to_owned() };
        Source { path: path.to_owned(), text: text.to_owned(), code: masked(true), words: masked(false) }
    }

    pub(super) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// The code without what is compiled only for tests.
    pub(super) fn product_code(&self) -> String {
        let mut code = self.code.clone().into_bytes();
        for (start, end) in test_items(&self.code) {
            code[start..end].iter_mut().filter(|byte| **byte != b'\n').for_each(|byte| *byte = b' ');
        }
        String::from_utf8(code).expect("only ASCII was put in")
    }

    /// Lines, without test modules at the end.
    pub(super) fn lines_without_tests(&self) -> usize {
        let at_end = |end: usize| self.code[end..].trim().is_empty();
        let end =
            test_items(&self.code).into_iter().find(|(_, end)| at_end(*end)).map_or(self.text.len(), |item| item.0);
        self.text[..end].trim_end().lines().count()
    }

    /// Files that this one declares as modules for tests only, without their ending.
    pub(super) fn test_files(&self) -> Vec<String> {
        let (folder, name) = self.path.rsplit_once('/').unwrap_or(("", &self.path));
        let stem = name.trim_end_matches(".rs");
        let folder =
            if matches!(stem, "lib" | "main" | "mod") { folder.to_owned() } else { format!("{folder}/{stem}") };
        let items = test_items(&self.code).into_iter().map(|(start, end)| &self.code[start..end]);
        let names = items.filter_map(|item| item.split_once("mod ")?.1.trim().strip_suffix(';'));
        names.map(|name| format!("{folder}/{name}")).collect()
    }

    pub(super) fn functions(&self) -> Vec<Function> {
        let starts = word_starts(&self.code, "fn ");
        starts.filter_map(|start| function(&self.code, start)).collect()
    }

    /// The line of an offset, from 1.
    pub(super) fn line(&self, offset: usize) -> usize {
        line_of(&self.text, offset)
    }

    /// Places of `needle` in `haystack`, which has the offsets of this file, as "path:line".
    pub(super) fn places_in(&self, haystack: &str, needle: &str) -> Vec<String> {
        word_starts(haystack, needle).map(|at| format!("{}:{}: {needle}", self.path, self.line(at))).collect()
    }
}

/// Every text file of the workspace; hidden folders, build output and logs are not of it.
pub(super) fn workspace() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace");
    let mut sources = Vec::new();
    collect(root, "", &mut sources);
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    sources
}

fn collect(folder: &Path, prefix: &str, sources: &mut Vec<Source>) {
    const HIDDEN_BUT_OURS: [&str; 4] = [".ci", ".github", ".gitignore", ".dockerignore"];
    for entry in fs::read_dir(folder).expect("a readable folder") {
        let entry = entry.expect("a readable entry");
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_hidden = name.starts_with('.') && !HIDDEN_BUT_OURS.contains(&name.as_str());
        let is_made = matches!(name.as_str(), "target" | "__pycache__" | "Cargo.lock") || name.ends_with(".log");
        if is_hidden || is_made {
            continue;
        }
        let path = format!("{prefix}{name}");
        if entry.file_type().expect("a known type").is_dir() {
            collect(&entry.path(), &format!("{path}/"), sources);
        } else if let Ok(text) = fs::read_to_string(entry.path()) {
            sources.push(Source::new(&path, &text));
        }
    }
}

/// Replaces literals, and comments if asked to, by blanks.
fn mask(text: &str, comments: bool) -> String {
    let mut masked = text.as_bytes().to_vec();
    let mut at = 0;
    while at < text.len() {
        let (end, is_comment) = match token_end(text, at) {
            Some(found) => found,
            None => {
                at += 1;
                continue;
            }
        };
        if comments || !is_comment {
            masked[at..end].iter_mut().filter(|byte| **byte != b'\n').for_each(|byte| *byte = b' ');
        }
        at = end;
    }
    String::from_utf8(masked).expect("whole characters were replaced")
}

/// The end of the comment or literal that begins at `at`, and whether it is a comment.
fn token_end(text: &str, at: usize) -> Option<(usize, bool)> {
    let bytes = text.as_bytes();
    let is_word_before = at > 0 && is_word(bytes[at - 1]);
    let rest = &bytes[at..];
    match rest[0] {
        b'/' if rest.starts_with(b"//") => Some((find(bytes, at, b"\n"), true)),
        b'/' if rest.starts_with(b"/*") => Some((block_comment_end(bytes, at), true)),
        b'"' => Some((string_end(bytes, at + 1), false)),
        b'b' | b'c' | b'r' if !is_word_before => {
            let prefix = rest.iter().take_while(|byte| matches!(byte, b'b' | b'c' | b'r')).count();
            let hashes = rest[prefix..].iter().take_while(|byte| **byte == b'#').count();
            let opens = rest.get(prefix + hashes) == Some(&b'"');
            let is_raw = rest[..prefix].contains(&b'r');
            match (opens, is_raw) {
                (true, true) => {
                    let close = format!("\"{}", "#".repeat(hashes));
                    let end = find(bytes, at + prefix + hashes + 1, close.as_bytes());
                    Some(((end + close.len()).min(bytes.len()), false))
                }
                (true, false) if hashes == 0 => Some((string_end(bytes, at + prefix + 1), false)),
                _ => None,
            }
        }
        b'\'' => {
            let mut next = text[at + 1..].chars();
            let first = next.next()?;
            if first == '\\' {
                return Some((find(bytes, at + 3, b"'") + 1, false));
            }
            // A quote two characters on closes a character; else it was a lifetime.
            (next.next() == Some('\'')).then(|| (at + 2 + first.len_utf8(), false))
        }
        _ => None,
    }
}

fn string_end(bytes: &[u8], mut at: usize) -> usize {
    while at < bytes.len() && bytes[at] != b'"' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(bytes.len())
}

fn block_comment_end(bytes: &[u8], mut at: usize) -> usize {
    let mut depth = 0;
    while at < bytes.len() {
        let step = &bytes[at..];
        if step.starts_with(b"/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if step.starts_with(b"*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    at
}

/// The first place of `needle` from `at` on, else the end.
fn find(bytes: &[u8], at: usize, needle: &[u8]) -> usize {
    let from = at.min(bytes.len());
    bytes[from..].windows(needle.len()).position(|window| window == needle).map_or(bytes.len(), |found| from + found)
}

pub(super) fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn line_of(text: &str, offset: usize) -> usize {
    text[..offset].bytes().filter(|byte| *byte == b'\n').count() + 1
}

/// Places of `needle` where a word begins, or anywhere if it begins with a sign.
pub(super) fn word_starts<'t>(text: &'t str, needle: &'t str) -> impl Iterator<Item = usize> + 't {
    let needs_edge = is_word(needle.as_bytes()[0]);
    text.match_indices(needle)
        .map(|(at, _)| at)
        .filter(move |at| !needs_edge || *at == 0 || !is_word(text.as_bytes()[at - 1]))
}

/// Items behind `#[cfg(test)]`, from the attribute to the end.
fn test_items(code: &str) -> Vec<(usize, usize)> {
    let starts = code.match_indices("#[cfg(test)]").map(|(at, _)| at);
    starts.map(|start| (start, item_end(code.as_bytes(), start + "#[cfg(test)]".len()))).collect()
}

/// The end of the item whose signature begins at `at`: its semicolon or its closing brace.
fn item_end(code: &[u8], mut at: usize) -> usize {
    let mut depth = 0;
    while at < code.len() {
        match code[at] {
            b';' if depth == 0 => return at + 1,
            b'{' | b'(' | b'[' => depth += 1,
            b'}' | b')' | b']' => {
                depth -= 1;
                if depth == 0 && code[at] == b'}' {
                    return at + 1;
                }
            }
            _ => {}
        }
        at += 1;
    }
    at
}

/// The function whose keyword stands at `start`; `None` if it is a type.
fn function(code: &str, start: usize) -> Option<Function> {
    let rest = &code[start + "fn ".len()..];
    let name: String = rest.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    let (open, parts) = parameters(code.as_bytes(), start)?;
    let is_self = |part: &String| {
        let before_type = part.split(':').next().unwrap_or("").trim();
        before_type.rsplit([' ', '&']).next() == Some("self")
    };
    let parameters = parts.iter().filter(|part| !part.trim().is_empty() && !is_self(part)).count();
    let (first, last) = (line_of(code, start), line_of(code, item_end(code.as_bytes(), open) - 1));
    (!name.is_empty()).then_some(Function { name, line: first, lines: last - first + 1, parameters })
}

/// Where the parameters of the function at `start` open, and each of them.
fn parameters(code: &[u8], start: usize) -> Option<(usize, Vec<String>)> {
    let mut angles = 0i32;
    let open = (start..code.len()).find(|at| {
        angles += angle(code, *at);
        code[*at] == b'(' && angles == 0
    })?;
    let (mut depth, mut angles, mut parts) = (0, 0i32, vec![String::new()]);
    for at in open..code.len() {
        angles += angle(code, at);
        match code[at] {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth -= 1,
            b',' if depth == 1 && angles == 0 => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        if depth == 0 {
            return Some((open, parts));
        }
        if at > open {
            parts.last_mut().expect("one at least").push(char::from(code[at]));
        }
    }
    None
}

/// How the byte at `at` changes the depth of angle brackets.
fn angle(code: &[u8], at: usize) -> i32 {
    match code[at] {
        b'<' => 1,
        b'>' if !matches!(code[at - 1], b'-' | b'=') => -1,
        _ => 0,
    }
}

/// The paths that begin with `root` (as in `root::a::{b, c::D}`), each as its segments behind it.
pub(super) fn paths(code: &str, root: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let start = format!("{root}::");
    for at in word_starts(code, &start) {
        // `x::root::` begins elsewhere.
        if !code[..at].ends_with("::") {
            tree(code.as_bytes(), at + start.len(), &mut Vec::new(), &mut found);
        }
    }
    found
}

/// Reads one tree of a path and returns where it ends.
fn tree(code: &[u8], at: usize, prefix: &mut Vec<String>, found: &mut Vec<Vec<String>>) -> usize {
    if code.get(at) != Some(&b'{') {
        let end = (at..code.len()).find(|at| !is_word(code[*at])).unwrap_or(code.len());
        prefix.push(String::from_utf8_lossy(&code[at..end]).into_owned());
        let end = if code[end..].starts_with(b"::") && !code[end..].starts_with(b"::<") {
            tree(code, end + 2, prefix, found)
        } else {
            found.push(prefix.clone());
            end
        };
        prefix.pop();
        return end;
    }
    let mut at = at + 1;
    while at < code.len() && code[at] != b'}' {
        at = if is_word(code[at]) { tree(code, at, prefix, found) } else { at + 1 };
        // What follows ("as other") up to the next comma belongs to the tree just read.
        at = (at..code.len()).find(|at| matches!(code[*at], b',' | b'}')).unwrap_or(code.len());
        at += usize::from(code.get(at) == Some(&b','));
        at = (at..code.len()).find(|at| !code[*at].is_ascii_whitespace()).unwrap_or(code.len());
    }
    at + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_no_code() {
        let text = "a /* b /* c */ d */ \"e\\\"f\" r#\"g\"h\"# b'i' '\\'' '{' <'j> // k\nl";
        assert_eq!(mask(text, true).split_whitespace().collect::<Vec<_>>(), ["a", "b", "<'j>", "l"]);
        assert!(mask(text, false).contains("// k") && !mask(text, false).contains('e'));
        assert_eq!(mask(text, true).len(), text.len());
    }

    #[test]
    fn functions_are_measured_with_their_generics_and_without_self() {
        let text = "fn a<T: Fn(u8, u8) -> bool>(&self, b: Map<K, V>, (c, d): (u8, u8)) -> [u8; 2] {\n{}\n}\nfn e();\ntype F = fn(u8);";
        let functions = Source::new("x.rs", text).functions();
        let found: Vec<_> = functions.iter().map(|f| (f.name.as_str(), f.line, f.lines, f.parameters)).collect();
        assert_eq!(found, [("a", 1, 3, 2), ("e", 4, 1, 0)]);
    }

    #[test]
    fn a_path_is_followed_into_its_braces() {
        let code = "use crate::{a, b::{C, d::E as F}, g::*}; other::crate::x; crate::h::i::<J>()";
        let found: Vec<_> = paths(code, "crate").iter().map(|path| path.join("/")).collect();
        assert_eq!(found, ["a", "b/C", "b/d/E", "g/", "h/i"]);
    }

    #[test]
    fn test_modules_do_not_count() {
        let source =
            Source::new("src/a.rs", "one\n\n#[cfg(test)]\nmod far;\n#[cfg(test)]\nmod tests {\nfn b() {}\n}\n");
        assert_eq!(source.lines_without_tests(), 4);
        assert_eq!(source.test_files(), ["src/a/far"]);
        assert!(!source.product_code().contains("fn b"));
    }
}
