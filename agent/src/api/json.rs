//! JSON as Go reads it, which Docker's clients are used to: keys in any case, and Go's words for what is wrong.

use serde::{
    de::{
        DeserializeOwned, Deserializer, Error as _, IntoDeserializer, Visitor,
        value::{MapDeserializer, SeqDeserializer},
    },
    forward_to_deserialize_any,
};
use serde_json::{Error, Map, Value, error::Category};

/// Reads a value whose keys may be written in any case, where they are names of fields: `name` is as good as
/// `Name`, unless that is there, too. Keys of maps, as of labels, are what they are.
pub(super) fn from_value<T: DeserializeOwned>(value: Value) -> Result<T, Error> {
    T::deserialize(Folded(value))
}

/// A value whose keys are compared without regard to case.
struct Folded(Value);

/// Gives keys the case of the fields that they name.
fn folded(map: Map<String, Value>, fields: &[&str]) -> Map<String, Value> {
    let field = |key: &str| fields.iter().find(|field| field.eq_ignore_ascii_case(key));
    let (exact, other): (Vec<_>, Vec<_>) =
        map.into_iter().partition(|(key, _)| fields.contains(&key.as_str()));
    let mut found: Map<_, _> = exact.into_iter().collect();
    for (key, value) in other {
        let key = field(&key).map_or(key, |field| (*field).to_owned());
        found.entry(key).or_insert(value);
    }
    found
}

fn visit_map<'de, V: Visitor<'de>>(map: Map<String, Value>, visitor: V) -> Result<V::Value, Error> {
    visitor
        .visit_map(MapDeserializer::new(map.into_iter().map(|(key, value)| (key, Folded(value)))))
}

impl<'de> Deserializer<'de> for Folded {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Object(map) => visit_map(map, visitor),
            Value::Array(list) => {
                visitor.visit_seq(SeqDeserializer::new(list.into_iter().map(Folded)))
            }
            single => single.deserialize_any(visitor),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.0 {
            Value::Object(map) => visit_map(folded(map, fields), visitor),
            // The visitor would take the values in order.
            Value::Array(_) => Err(Error::custom("an object is needed, not a list")),
            single => single.deserialize_any(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.0.deserialize_enum(name, variants, visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map identifier ignored_any
    }
}

impl IntoDeserializer<'_, Error> for Folded {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

/// Words of one for words of the other, where the byte that is complained of is the same.
const WORDS: [(&str, &str); 10] = [
    ("key must be a string", "looking for beginning of object key string"),
    ("trailing comma", "looking for beginning of value"),
    ("expected value", "looking for beginning of value"),
    ("expected `,` or `}`", "after object key:value pair"),
    ("expected `,` or `]`", "after array element"),
    ("expected `:`", "after object key"),
    ("invalid escape", "in string escape code"),
    ("control character", "in string literal"),
    ("invalid number", "in numeric literal"),
    ("expected ident", "in literal"),
];

/// Says what is wrong with a body.
pub(super) fn fault(body: &[u8], error: &Error) -> String {
    let text = error.to_string();
    match error.classify() {
        Category::Eof => return "unexpected EOF".to_owned(),
        Category::Syntax => {}
        Category::Io | Category::Data => return text,
    }
    let line = body.split(|byte| *byte == b'\n').nth(error.line().saturating_sub(1));
    let byte = line.and_then(|line| line.get(error.column().saturating_sub(1)));
    let words = WORDS.iter().find(|(theirs, _)| text.starts_with(theirs));
    match (byte, words) {
        (Some(byte), Some((_, words))) => {
            format!("invalid character '{}' {words}", byte.escape_ascii())
        }
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::proto::NetworkCreate;

    fn read<T: DeserializeOwned>(text: &str) -> Result<T, String> {
        from_value(serde_json::from_str(text).expect(text)).map_err(|error| error.to_string())
    }

    #[test]
    fn keys_of_fields_are_read_in_any_case_and_those_of_maps_as_they_are() {
        let text = r#"{"name":"n","ENABLEIPV6":true,"ipam":{"config":[{"subnet":"10.0.0.0/8"}]},
            "labels":{"Team":"a","team":"b"},"unknown":{"Name":[1]}}"#;
        let create: NetworkCreate = read(text).expect("a network");
        assert_eq!((create.name.as_str(), create.enable_ipv6), ("n", Some(true)));
        assert_eq!(create.ipam.config[0].subnet, "10.0.0.0/8");
        assert_eq!(create.labels.len(), 2);
        let both: NetworkCreate = read(r#"{"name":"a","Name":"b","NAME":"c"}"#).expect("a network");
        assert_eq!(both.name, "b", "the field's own spelling");
        let twice: NetworkCreate = read(r#"{"Name":"a","Name":"b"}"#).expect("a network");
        assert_eq!(twice.name, "b", "the last one, as in Go");
        let null: NetworkCreate =
            read(r#"{"Name":"a","Labels":null,"enableIPv4":null}"#).expect("one");
        assert_eq!((null.labels.len(), null.enable_ipv4), (0, None));
    }

    #[test]
    fn what_is_no_object_is_refused_where_one_is_needed() {
        for (text, why) in [
            ("[]", "an object is needed, not a list"),
            (r#"{"IPAM":{"Config":[["10.0.0.0/8"]]}}"#, "an object is needed, not a list"),
            ("7", "invalid type: integer `7`"),
            (r#"{"Name":{}}"#, "invalid type: map"),
        ] {
            let error = read::<NetworkCreate>(text).expect_err(text);
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn moby_api_001_json_is_refused_in_gos_words() {
        for (body, wanted) in [
            ("{invalid json", "invalid character 'i' looking for beginning of object key string"),
            ("nonsense", "invalid character 'o' in literal"),
            ("<html>", "invalid character '<' looking for beginning of value"),
            ("{\"a\" 1}", "invalid character '1' after object key"),
            ("{\"a\":1 \"b\"}", "invalid character '\\\"' after object key:value pair"),
            ("{\"a\":[1 2]}", "invalid character '2' after array element"),
            ("{\n\n\"a\":}", "invalid character '}' looking for beginning of value"),
            ("{\"a\":", "unexpected EOF"),
            ("{", "unexpected EOF"),
        ] {
            let error = serde_json::from_str::<serde_json::Value>(body).expect_err(body);
            assert_eq!(fault(body.as_bytes(), &error), wanted, "{body}: {error}");
        }
    }
}
