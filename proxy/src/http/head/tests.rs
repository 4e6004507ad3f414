//! Names, targets, and lines as they are written.

use super::*;

#[test]
fn a_length_is_written_in_digits() {
    for length in [0, 9, 10, 123_456_789, u64::MAX] {
        let mut out = Vec::new();
        write_length(&mut out, length);
        assert_eq!(out, format!("content-length: {length}\r\n").as_bytes());
    }
}

#[test]
fn names_are_known_in_any_case_and_nothing_else_is() {
    for (text, name) in [
        ("HOST", Name::Host),
        ("content-Length", Name::ContentLength),
        ("te", Name::Te),
        ("Outrigger-Attempts", Name::Attempts),
        ("tE1", Name::Other),
        ("hosts", Name::Other),
        ("hast", Name::Other),
        ("", Name::Other),
    ] {
        assert_eq!(Name::of(text.as_bytes()), name, "{text}");
    }
}

#[test]
fn what_is_removed_is_gone_and_what_is_appended_comes_last() {
    let mut fields = Fields::default();
    for (name, value) in [("Host", "a"), ("x", "1"), ("te", "trailers"), ("x", "2"), ("y", "split\r\nz: 1")] {
        fields.append(name, value.as_bytes());
    }
    assert_eq!(fields.iter().count(), 4, "a value with a line end would be two fields");
    fields.remove(Names::new(&[Name::Te]));
    fields.retain(|_, name| name != b"X");
    let left: Vec<_> = fields.iter().map(|(_, name, value)| (name, value)).collect();
    assert_eq!(left, [(&b"Host"[..], &b"a"[..]), (b"x", b"1"), (b"x", b"2")]);
    assert!(!fields.has(Name::Te) && fields.get(Name::Host) == Some(b"a"));
}

#[test]
fn lines_are_written_as_they_came_but_for_blanks_that_mean_nothing() {
    let text = b"a: 1\r\nHost: h\r\nb:2\r\nC: \t3 \r\nd: 4\r\ne:\t5\r\nf: \r\n";
    let mut heads = super::super::strict::Heads::requests(super::super::strict::Limits::default());
    let taken = heads.request(&[b"GET / HTTP/1.1\r\n", &text[..], b"\r\n"].concat());
    let mut fields = taken.expect("it is fine").expect("it is whole").head.fields;
    fields.append("via", b"x");
    let mut out = Vec::new();
    fields.write_to(&mut out, Names::new(&[Name::Host]));
    assert_eq!(out.escape_ascii().to_string(), r"a: 1\r\nb: 2\r\nC: 3\r\nd: 4\r\ne: 5\r\nf: \r\nvia: x\r\n");
}

#[test]
fn a_target_is_written_as_an_origin_expects_it() {
    for (method, target, path, written) in [
        ("GET", "/a?b", "/a", "/a?b"),
        ("GET", "http://h", "/", "/"),
        ("GET", "http://h?b=/c", "/", "/?b=/c"),
        ("GET", "HTTP://h:80/a?b", "/a", "/a?b"),
        ("OPTIONS", "*", "*", "*"),
        ("OPTIONS", "http://h", "/", "*"),
        ("OPTIONS", "http://h/", "/", "/"),
        ("CONNECT", "h:80", "/", "h:80"),
    ] {
        let fields = Fields::new(target.as_bytes(), Vec::new());
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        let head = RequestHead::new(method, false, 0..target.len(), fields);
        let mut out = Vec::new();
        head.write_target(&mut out);
        assert_eq!((head.path(), out.as_slice()), (path, written.as_bytes()), "{target}");
    }
}
