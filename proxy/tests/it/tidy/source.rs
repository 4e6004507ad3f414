//! The files of the workspace, and what a Rust file says about itself: which paths it names, which methods and macros it calls.
//!
//! `syn` reads them. Code that is compiled only for tests is left out, so that the rules apply to the product.

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use syn::buffer::{Cursor, TokenBuffer};
use syn::visit::{self, Visit};

/// What a rule reads.
pub(super) struct Source {
    /// The path from the workspace's folder, with `/`.
    pub(super) path: String,
    pub(super) text: String,
    /// Empty for files that are not Rust.
    pub(super) code: Code,
}

/// The product code of a Rust file.
#[derive(Default)]
pub(super) struct Code {
    /// Every path that it names, `use` trees taken apart: `["crate", "clock", "now"]`.
    pub(super) paths: Vec<Vec<String>>,
    /// Methods that it calls: `inc`.
    pub(super) methods: Vec<String>,
    /// Macros that it calls, the last segment of their path: `info`.
    pub(super) macros: Vec<String>,
    /// Lints that it expects to break: `disallowed_methods`.
    pub(super) expected_lints: Vec<String>,
    /// Modules in files of their own that are compiled only for tests.
    pub(super) test_modules: Vec<String>,
}

impl Source {
    pub(super) fn new(path: &str, text: &str) -> Source {
        let mut code = Code::default();
        if path.ends_with(".rs") {
            let file = syn::parse_file(text).unwrap_or_else(|error| panic!("{path}: {error}"));
            code.visit_file(&file);
        }
        Source { path: path.to_owned(), text: text.to_owned(), code }
    }

    pub(super) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Lines, without a test module at the end.
    pub(super) fn lines_without_tests(&self) -> usize {
        let end = self.text.find("\n#[cfg(test)]\nmod tests {").unwrap_or(self.text.len());
        self.text[..end].trim_end().lines().count()
    }

    /// The path of the module that this file is, within its crate: `["downstream", "h1"]`; empty for `lib.rs`, `["main"]` for a program's.
    pub(super) fn module(&self) -> Vec<String> {
        let (_, file) = self.path.rsplit_once("src/").unwrap_or(("", &self.path));
        let file = file.trim_end_matches(".rs");
        if file == "lib" { Vec::new() } else { file.split('/').map(str::to_owned).collect() }
    }

    /// The folder of its crate, if it stands below that crate's `src/`.
    pub(super) fn crate_folder(&self) -> Option<&str> {
        self.path.rsplit_once("src/").map(|(folder, _)| folder)
    }

    /// The line of an offset, from 1.
    pub(super) fn line(&self, offset: usize) -> usize {
        self.text[..offset].matches('\n').count() + 1
    }
}

/// Every text file of the workspace, without hidden folders, build output and logs.
pub(super) fn workspace() -> &'static [Source] {
    // Read once for all rules, because parsing takes longer than checking.
    static SOURCES: LazyLock<Vec<Source>> = LazyLock::new(read_workspace);
    &SOURCES
}

fn read_workspace() -> Vec<Source> {
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

impl Code {
    fn add_tree(&mut self, prefix: &[String], tree: &syn::UseTree) {
        let with = |name: &syn::Ident| [prefix, &[name.to_string()]].concat();
        match tree {
            syn::UseTree::Path(path) => self.add_tree(&with(&path.ident), &path.tree),
            syn::UseTree::Name(name) => self.paths.push(with(&name.ident)),
            syn::UseTree::Rename(rename) => self.paths.push(with(&rename.ident)),
            syn::UseTree::Glob(_) => self.paths.push(prefix.to_vec()),
            syn::UseTree::Group(group) => group.items.iter().for_each(|item| self.add_tree(prefix, item)),
        }
    }

    /// Tokens that need not parse: paths, methods and macros are told by their look.
    fn add_tokens(&mut self, mut cursor: Cursor<'_>) {
        let (mut path, mut colons, mut is_behind_dot) = (Vec::new(), 0, false);
        while !cursor.eof() {
            if let Some((ident, next)) = cursor.ident() {
                if colons != 2 {
                    self.add_path(&mut path);
                }
                path.push(ident.to_string());
                (cursor, colons) = (next, 0);
            } else if let Some((punct, next)) = cursor.punct() {
                match punct.as_char() {
                    ':' => colons += 1,
                    sign => {
                        let is_macro = sign == '!' && next.any_group().is_some();
                        self.macros.extend(path.last().filter(|_| is_macro).cloned());
                        self.add_path(&mut path);
                        (colons, is_behind_dot) = (0, sign == '.');
                    }
                }
                cursor = next;
            } else if let Some((inside, _, _, next)) = cursor.any_group() {
                self.methods.extend(path.last().filter(|_| is_behind_dot && path.len() == 1).cloned());
                self.add_path(&mut path);
                self.add_tokens(inside);
                (cursor, colons, is_behind_dot) = (next, 0, false);
            } else if let Some((_, next)) = cursor.token_tree() {
                self.add_path(&mut path);
                (cursor, colons, is_behind_dot) = (next, 0, false);
            }
        }
        self.add_path(&mut path);
    }

    fn add_path(&mut self, path: &mut Vec<String>) {
        let whole = std::mem::take(path);
        self.paths.extend((whole.len() > 1).then_some(whole));
    }
}

impl<'ast> Visit<'ast> for Code {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        match item {
            syn::Item::Mod(module) if is_for_tests(&module.attrs) => {
                if module.content.is_none() {
                    self.test_modules.push(module.ident.to_string());
                }
            }
            syn::Item::Fn(function) if is_for_tests(&function.attrs) => {}
            syn::Item::Impl(block) if is_for_tests(&block.attrs) => {}
            syn::Item::Use(import) if is_for_tests(&import.attrs) => {}
            _ => visit::visit_item(self, item),
        }
    }

    fn visit_item_use(&mut self, import: &'ast syn::ItemUse) {
        self.add_tree(&[], &import.tree);
    }

    /// A path in a visibility is no import.
    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.segments.len() > 1 {
            self.paths.push(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        }
        visit::visit_path(self, path);
    }

    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        self.methods.push(call.method.to_string());
        visit::visit_expr_method_call(self, call);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.macros.extend(call.path.segments.last().map(|segment| segment.ident.to_string()));
        // The arguments of a macro usually are code, though not always code that parses: those of `select!` do not.
        self.add_tokens(TokenBuffer::new2(call.tokens.clone()).begin());
        visit::visit_macro(self, call);
    }

    fn visit_meta_list(&mut self, list: &'ast syn::MetaList) {
        let arguments = TokenBuffer::new2(list.tokens.clone());
        let is_for_tests =
            list.path.is_ident("cfg_attr") && arguments.begin().ident().is_some_and(|(only, _)| only == "test");
        if list.path.is_ident("expect") || list.path.is_ident("allow") {
            let mut lints = Code::default();
            lints.add_tokens(arguments.begin());
            self.expected_lints.extend(lints.paths.into_iter().filter_map(|mut path| path.pop()));
        } else if !is_for_tests {
            self.add_tokens(arguments.begin());
        }
    }
}

fn is_for_tests(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("test")
            || (attribute.path().is_ident("cfg")
                && attribute.parse_args::<syn::Ident>().is_ok_and(|only| only == "test"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_of_a_file_is_what_is_compiled_without_tests() {
        let text = "
            use crate::{a, b::{C, d::E as F}, g::*};
            fn one() -> self::h::I { other::crate_::x(); c.inc(); info!(\"text\", n = d.len()); super::j::k::<crate::L>() }
            #[cfg(test)] use crate::far;
            #[cfg(test)] mod away;
            #[cfg(test)] mod tests { use crate::near; fn two() { e.observe(); } }
        ";
        let code = Source::new("src/x.rs", text).code;
        let paths: Vec<_> = code.paths.iter().map(|path| path.join("/")).collect();
        assert_eq!(
            paths,
            ["crate/a", "crate/b/C", "crate/b/d/E", "crate/g", "self/h/I", "other/crate_/x", "super/j/k", "crate/L"]
        );
        assert_eq!((code.methods, code.macros), (vec!["inc".to_owned(), "len".to_owned()], vec!["info".to_owned()]));
        assert_eq!(code.test_modules, ["away"]);
    }

    /// What a file says, and the paths that it names, as the rules see them.
    #[test]
    fn a_path_is_seen_wherever_it_stands() {
        let rows: &[(&str, &[&str])] = &[
            ("fn f() { use crate::a::B; }", &["crate/a/B"]),
            ("fn f() { crate::a!(); }", &["crate/a"]),
            ("fn f() { select! { x = b() => crate::a::c(x), () = d, if e => {} } }", &["crate/a/c"]),
            ("fn f() { matches!(a, crate::b::C { .. } | super::D(_)) }", &["crate/b/C", "super/D"]),
            ("macro_rules! m { ($a:expr) => { $crate::a::b($a) }; }", &["crate/a/b"]),
            ("#[derive(crate::A)] struct B;", &["crate/A"]),
            ("struct A { #[arg(value_parser = crate::b::c)] d: u8 }", &["crate/b/c"]),
            ("static A: [u8; crate::b::C] = [0; super::D::E];", &["super/D/E", "crate/b/C"]),
            ("impl<A: crate::B> super::C for A where A: self::d::E {}", &["crate/B", "super/C", "self/d/E"]),
            ("pub use crate::a::b as c;", &["crate/a/b"]),
            ("pub(in crate::a) fn b() {}", &[]),
            ("#[cfg_attr(test, derive(crate::A))] struct B;", &[]),
        ];
        for (text, expected) in rows {
            let mut paths: Vec<_> =
                Source::new("src/x.rs", text).code.paths.iter().map(|path| path.join("/")).collect();
            let mut expected: Vec<_> = expected.iter().map(|path| (*path).to_owned()).collect();
            paths.sort();
            expected.sort();
            assert_eq!(paths, expected, "{text}");
        }
    }

    #[test]
    fn what_is_called_is_seen_in_code_that_only_a_macro_parses() {
        let code = Source::new("src/x.rs", "fn f() { select! { a = b => { c.inc(); d.e; warn!(\"f\") } } }").code;
        assert_eq!((code.methods, code.macros), (vec!["inc".to_owned()], vec!["select".to_owned(), "warn".to_owned()]));
    }

    #[test]
    fn a_test_module_at_the_end_does_not_count() {
        let source = Source::new("src/a.rs", "fn one() {}\n\n#[cfg(test)]\nmod tests {\n    fn b() {}\n}\n");
        assert_eq!(source.lines_without_tests(), 1);
    }
}
