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
        ("X-HTTP-Method-Override", Name::MethodOverride),
        ("x_http_method_OVERRIDE", Name::MethodOverride),
        ("X-HTTP-Method_Override", Name::MethodOverride),
        ("X-Http-Method", Name::MethodOverride),
        ("X-Method", Name::MethodOverride),
        ("X-Method-Override", Name::MethodOverride),
        ("X-HTTP-Override", Name::MethodOverride),
        ("X-HTTP-MethodOverride", Name::MethodOverride),
        ("X-Original-URL", Name::PathOverride),
        ("X-Original-URI", Name::PathOverride),
        ("X-Rewrite-URL", Name::PathOverride),
        ("X-Script-Name", Name::PathOverride),
        ("X-Forwarded-Prefix", Name::PathOverride),
        ("X-Forwarded-URI", Name::PathOverride),
        ("SCRIPT_NAME", Name::PathOverride),
        ("Path-Info", Name::PathOverride),
        ("X-Forwarded-For", Name::Other),
        ("X-Request-ID", Name::Other),
        ("Transfer_Encoding", Name::Other),
        ("Idempotency_Key", Name::Other),
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
    let mut heads = crate::parse::Heads::requests(crate::parse::Limits::default());
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
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        let head = RequestHead::to(method, target).expect("a target");
        let mut out = Vec::new();
        head.write_target(&mut out);
        assert_eq!((head.path(), out.as_slice()), (path, written.as_bytes()), "{target}");
    }
}

#[test]
fn a_target_that_would_end_early_makes_no_head() {
    for target in ["", "/a b", "/\r\nx: y", "/\u{e4}", "/\0"] {
        assert!(RequestHead::to(Method::GET, target).is_none(), "{target:?}");
    }
}

mod laws {
    use http::HeaderMap;
    use proptest::prelude::*;

    use super::*;

    /// Names in lower case, each with its values in order.
    fn by_name(fields: &Fields) -> Vec<(String, Vec<Vec<u8>>)> {
        let mut sorted: Vec<(String, Vec<Vec<u8>>)> = Vec::new();
        for (_, name, value) in fields.iter() {
            let name = name.escape_ascii().to_string().to_ascii_lowercase();
            match sorted.iter_mut().find(|(known, _)| *known == name) {
                Some((_, values)) => values.push(value.to_vec()),
                None => sorted.push((name, vec![value.to_vec()])),
            }
        }
        sorted.sort();
        sorted
    }

    proptest! {
        #[test]
        fn a_map_and_back_keeps_every_field_and_the_order_within_a_name(
            lines in prop::collection::vec(("[A-Ca-c!#$%&'*+.^_`|~-]{1,2}|[Hh]ost|content-length", "([!-~][\t -~\u{e4}]{0,8}[!-~])?"), 0..40)
        ) {
            let text: String = lines.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
            let mut fields = Fields::default();
            for (name, value) in &lines {
                fields.append(name, value.as_bytes());
            }
            let map = HeaderMap::try_from(&fields).expect("names are tokens");
            prop_assert_eq!(map.len(), lines.len(), "{}", text);
            prop_assert_eq!(by_name(&Fields::from(&map)), by_name(&fields), "{}", text);
        }

        #[test]
        fn whatever_the_parser_accepts_fits_into_a_map(line in "[!-~\u{e4}]{1,4}:[\t -~\u{80}-\u{ff}]{0,8}") {
            let text = format!("GET / HTTP/1.0\r\n{line}\r\n\r\n");
            let parsed = crate::parse::Heads::requests(crate::parse::Limits::default()).request(text.as_bytes());
            if let Ok(Some(parsed)) = parsed {
                prop_assert_eq!(HeaderMap::try_from(&parsed.head.fields).map(|map| map.len()), Ok(1), "{}", text);
            }
        }
    }

    #[test]
    fn a_name_that_is_no_token_does_not_fit_into_a_map() {
        let mut fields = Fields::default();
        fields.append("a b", b"1");
        assert_eq!(HeaderMap::try_from(&fields), Err(InvalidField));
    }
}
