//! Fields to and from [`http::HeaderMap`], which code that speaks another version of HTTP uses.
//!
//! A map keeps the order of the fields of one name, and not that between names; it writes names in lower case.

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::fields::Fields;

/// A field cannot be held by a [`HeaderMap`]: its name is no token, or there are more fields than a map holds. Fields that were parsed can always be held.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InvalidField;

impl From<&HeaderMap> for Fields {
    fn from(map: &HeaderMap) -> Fields {
        let mut fields = Fields::default();
        for (name, value) in map {
            fields.append(name.as_str(), value.as_bytes());
        }
        fields
    }
}

impl TryFrom<&Fields> for HeaderMap {
    type Error = InvalidField;

    fn try_from(fields: &Fields) -> Result<HeaderMap, InvalidField> {
        let mut map = HeaderMap::new();
        for (_, name, value) in fields.iter() {
            let name = HeaderName::from_bytes(name).map_err(|_| InvalidField)?;
            let value = HeaderValue::from_bytes(value).map_err(|_| InvalidField)?;
            map.try_append(name, value).map_err(|_| InvalidField)?;
        }
        Ok(map)
    }
}

impl fmt::Display for InvalidField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field's name is no token, or there are more fields than a map holds")
    }
}

impl std::error::Error for InvalidField {}
