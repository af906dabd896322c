//! CBOR (RFC 8949), copied token by token to equivalent JSON without building a tree. [`copy`] writes one item.
//!
//! Byte strings become base64, keys become text, tags are dropped; a number that JSON lacks becomes text.

mod number;

use std::fmt::Write as _;

use base64::display::Base64Display;
use base64::engine::general_purpose::STANDARD;
use base64::write::{EncoderStringWriter, StrConsumer};
use minicbor::data::Token;
use minicbor::decode::{Decoder, Error};

use self::number::Number;
use crate::payload::DecodeError;
use crate::payload::emitter::{DEPTH_MAX, Emitter, is_plain};

/// Copies a message that is one item.
pub(super) fn copy(bytes: &[u8], to: &mut Emitter<'_>) -> Result<(), DecodeError> {
    let mut items = Decoder::new(bytes);
    copy_item(&mut items, to)?;
    match bytes.len() - items.position() {
        0 => Ok(()),
        more => Err(DecodeError::Invalid(format!(
            "trailing bytes after the item: {more}"
        ))),
    }
}

/// Copies the next item.
pub(super) fn copy_item(items: &mut Decoder<'_>, to: &mut Emitter<'_>) -> Result<(), DecodeError> {
    // Every entry of a map takes at least two bytes. A declared count reserves nothing.
    to.expect_keys((items.input().len() - items.position()) / 2 + 1);
    let mut copier = Copier {
        items,
        to,
        levels: [Level::default(); DEPTH_MAX],
        depth: 0,
    };
    loop {
        copier.next()?;
        while copier.level().as_deref().is_some_and(Level::is_full) {
            copier.close()?;
        }
        if copier.depth == 0 {
            return Ok(());
        }
    }
}

struct Copier<'c, 'b, 'w> {
    items: &'c mut Decoder<'b>,
    to: &'c mut Emitter<'w>,
    levels: [Level; DEPTH_MAX],
    depth: usize,
}

/// An array or a map that has not ended.
#[derive(Clone, Copy, Default)]
struct Level {
    /// Number of elements or entries that follow; `None` for an indefinite length.
    left: Option<u64>,
    is_map: bool,
    /// In a map: a key is next.
    wants_key: bool,
    /// It is a key itself.
    is_key: bool,
}

impl Level {
    fn is_full(&self) -> bool {
        self.left == Some(0) && self.may_end()
    }

    fn may_end(&self) -> bool {
        !self.is_map || self.wants_key
    }
}

impl<'b> Copier<'_, 'b, '_> {
    fn level(&mut self) -> Option<&mut Level> {
        self.levels.get_mut(self.depth.checked_sub(1)?)
    }

    /// Copies a scalar, or the beginning or the end of an array or a map.
    fn next(&mut self) -> Result<(), DecodeError> {
        let mut tag = None;
        let mut token = token(self.items)?;
        while let Token::Tag(next) = token {
            tag = Some(next.as_u64());
            token = self::token(self.items)?;
        }
        if token == Token::Break {
            let ends = |level: &mut Level| level.left.is_none() && level.may_end();
            if tag.is_none() && self.level().is_some_and(ends) {
                return self.close();
            }
            return Err(reason("an end mark where no array or map can end"));
        }
        let mut is_key = false;
        if let Some(level) = self.level() {
            is_key = level.wants_key;
            level.wants_key = level.is_map && !is_key;
            if let Some(left) = &mut level.left
                && (is_key || !level.is_map)
            {
                *left -= 1;
            }
        }
        if let Some(number) = number::tagged(tag, &token, self.items)? {
            return self.number(is_key, &number);
        }
        match token {
            Token::Array(len) => self.open(false, Some(len), is_key),
            Token::Map(len) => self.open(true, Some(len), is_key),
            Token::BeginArray => self.open(false, None, is_key),
            Token::BeginMap => self.open(true, None, is_key),
            Token::String(text) if is_key => {
                let plain = is_plain(text);
                self.scalar(true, plain, true, |_, to| Ok(to.inside_of_string(text)?))
            }
            Token::String(text) => {
                self.scalar(false, false, true, |_, to| Ok(to.inside_of_string(text)?))
            }
            Token::BeginString => self.scalar(is_key, false, true, text_in_parts),
            Token::Bytes(bytes) => self.scalar(is_key, false, true, |_, to| {
                Ok(write!(to, "{}", Base64Display::new(bytes, &STANDARD))?)
            }),
            Token::BeginBytes => self.scalar(is_key, false, true, bytes_in_parts),
            Token::Bool(value) => self.word(is_key, if value { "true" } else { "false" }),
            Token::Null | Token::Undefined => self.word(is_key, "null"),
            Token::Simple(value) => Err(DecodeError::Invalid(format!(
                "simple value {value} is not assigned"
            ))),
            token => {
                let number =
                    number::plain(&token).ok_or_else(|| reason("an item of an unknown kind"))?;
                self.number(is_key, &number)
            }
        }
    }

    fn number(&mut self, is_key: bool, number: &Number) -> Result<(), DecodeError> {
        if !is_key && self.to.is_finite() && !number.is_finite() {
            return self.word(false, "null");
        }
        self.scalar(is_key, true, !number.is_number(), |_, to| {
            Ok(write!(to, "{number}")?)
        })
    }

    fn word(&mut self, is_key: bool, word: &str) -> Result<(), DecodeError> {
        self.scalar(is_key, true, false, |_, to| Ok(to.put(word)?))
    }

    /// As [`Emitter::scalar`], with the items that `write` may read.
    fn scalar(
        &mut self,
        is_key: bool,
        plain: bool,
        text: bool,
        write: impl FnOnce(&mut Decoder<'b>, &mut Emitter<'_>) -> Result<(), DecodeError>,
    ) -> Result<(), DecodeError> {
        let items = &mut *self.items;
        self.to.scalar(is_key, plain, text, |to| write(items, to))
    }

    fn open(&mut self, is_map: bool, left: Option<u64>, is_key: bool) -> Result<(), DecodeError> {
        self.to.open_nested(is_map, is_key)?;
        self.depth += 1;
        if let Some(level) = self.level() {
            *level = Level {
                left,
                is_map,
                wants_key: is_map,
                is_key,
            };
        }
        Ok(())
    }

    fn close(&mut self) -> Result<(), DecodeError> {
        let level = self.level().copied().unwrap_or_default();
        self.depth -= 1;
        self.to.close_nested(level.is_key)
    }
}

fn text_in_parts(items: &mut Decoder<'_>, to: &mut Emitter<'_>) -> Result<(), DecodeError> {
    loop {
        match token(items)? {
            Token::String(text) => to.inside_of_string(text)?,
            Token::Break => return Ok(()),
            _ => return Err(reason("a text in parts has a part that is not text")),
        }
    }
}

fn bytes_in_parts(items: &mut Decoder<'_>, to: &mut Emitter<'_>) -> Result<(), DecodeError> {
    let mut base64 = EncoderStringWriter::from_consumer(Base64 { to, full: false }, &STANDARD);
    loop {
        match token(items)? {
            // Writing to a consumer of text cannot fail.
            Token::Bytes(bytes) => drop(std::io::Write::write_all(&mut base64, bytes)),
            Token::Break => break,
            _ => return Err(reason("a byte string in parts has a part that is not one")),
        }
    }
    match base64.into_inner().full {
        true => Err(DecodeError::TooLong),
        false => Ok(()),
    }
}

struct Base64<'e, 'w> {
    to: &'e mut Emitter<'w>,
    full: bool,
}

impl StrConsumer for Base64<'_, '_> {
    fn consume(&mut self, text: &str) {
        self.full = self.full || self.to.put(text).is_err();
    }
}

fn token<'b>(items: &mut Decoder<'b>) -> Result<Token<'b>, DecodeError> {
    items.decode().map_err(|error: Error| {
        DecodeError::Invalid(match error {
            error if error.is_end_of_input() => "it ends within an item".to_owned(),
            error => error.to_string(),
        })
    })
}

fn reason(reason: &str) -> DecodeError {
    DecodeError::Invalid(reason.to_owned())
}

#[cfg(test)]
mod tests {
    use crate::payload::reading::{json_of, read_as, refusal_of};
    use crate::payload::{DEPTH_MAX, Decoding, Style};

    #[track_caller]
    fn json(bytes: &[u8]) -> String {
        json_of(Decoding::Cbor, bytes)
    }

    #[track_caller]
    fn refused(bytes: &[u8]) -> String {
        refusal_of(Decoding::Cbor, bytes)
    }

    #[test]
    fn every_kind_of_item_has_its_json() {
        // {"a": 1, "b": [-2, 1.5, true, null], 3: h'ff', "t": 1(0)}
        let bytes = b"\xa4\x61a\x01\x61b\x84\x21\xf9\x3e\x00\xf5\xf6\x03\x41\xff\x61t\xc1\x00";
        assert_eq!(
            json(bytes),
            r#"{"a":1,"b":[-2,1.5,true,null],"3":"/w==","t":0}"#
        );
        assert_eq!(
            read_as(Decoding::Cbor, bytes, Style::Fields).unwrap(),
            r#"a=1 b=[-2,1.5,true,null] 3="/w==" t=0"#
        );
        assert_eq!(
            json(b"\x1b\xff\xff\xff\xff\xff\xff\xff\xff"),
            "18446744073709551615"
        );
        assert_eq!(json(b"\x80"), "[]");
        assert_eq!(json(b"\xa0"), "{}");
        assert_eq!(json(b"\xf7"), "null");
        assert_eq!(json(b"\x64\"\\\n\x1b"), r#""\"\\\n\u001b""#);
        // [_ (_ "a", "b"), (_ h'01', h'', h'0203'), {_ (_ "k", "y"): [_ ]}]
        let parts = b"\x9f\x7f\x61a\x61b\xff\x5f\x41\x01\x40\x42\x02\x03\xff\xbf\x7f\x61k\x61y\xff\x9f\xff\xff\xff";
        assert_eq!(json(parts), r#"["ab","AQID",{"ky":[]}]"#);
    }

    #[test]
    fn a_number_that_json_lacks_is_text() {
        for (bytes, want) in [
            (&b"\xf9\x7e\x00"[..], r#""NaN""#),
            (b"\xfb\x7f\xf0\0\0\0\0\0\0", r#""inf""#),
            (
                b"\x3b\xff\xff\xff\xff\xff\xff\xff\xff",
                r#""-18446744073709551616""#,
            ),
            // 2(h'010000000000000000') and 3(h'010000000000000000')
            (b"\xc2\x49\x01\0\0\0\0\0\0\0\0", r#""18446744073709551616""#),
            (
                b"\xc3\x49\x01\0\0\0\0\0\0\0\0",
                r#""-18446744073709551617""#,
            ),
            (b"\xc2\x5f\x41\x01\x41\0\xff", "256"),
            (b"\xc3\x40", "-1"),
            (
                b"\xc3\x50\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
                r#""-340282366920938463463374607431768211456""#,
            ),
            // 273.15 and 1.5
            (b"\xc4\x82\x21\x19\x6a\xb3", r#""273.15""#),
            (b"\xc4\x82\x21\x01", r#""0.01""#),
            (b"\xc4\x82\x02\x39\x01\x00", r#""-257e2""#),
            (b"\xc4\x82\x38\x63\x01", r#""1e-100""#),
            (
                b"\xc4\x82\x3b\xff\xff\xff\xff\xff\xff\xff\xff\x01",
                r#""1e-18446744073709551616""#,
            ),
            // The smallest exponent of 128 bits: 3(h'7fff...')
            (
                b"\xc4\x82\xc3\x50\x7f\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
                r#""1e-170141183460469231731687303715884105728""#,
            ),
            (b"\xc5\x9f\x20\x03\xff", r#""1.5""#),
            (b"\xc5\x82\x20\xc3\x41\x02", r#""-1.5""#),
            (b"\xc5\x82\x38\x3f\x1b\x80\0\0\0\0\0\0\0", r#""0.5""#),
            (b"\xc5\x82\x18\x40\x01", r#""18446744073709551616""#),
            (b"\xc5\x82\x39\x04\x31\x00", r#""0""#),
        ] {
            assert_eq!(json(bytes), want, "{bytes:x?}");
        }
        for wrong in [
            &b"\xc4\x01"[..],
            b"\xc4\x81\x01",
            b"\xc5\x82\x01\x61a",
            b"\xc5\x82\x39\x04\x32\x01",
            b"\xc5\x82\x19\x04\x00\x01",
        ] {
            assert!(refused(wrong).contains("fraction"), "{wrong:x?}");
        }
    }

    #[test]
    fn a_long_integer_is_exact_up_to_its_limit() {
        let bignum = |len: u16| {
            [
                &b"\xc2\x59"[..],
                &len.to_be_bytes(),
                &[0xff; 300][..len.into()],
            ]
            .concat()
        };
        let text = json(&bignum(256));
        // 2^2048 - 1
        assert!(text.starts_with(r#""3231700607131100730071487668866995196044410266971548403213"#));
        assert!(
            text.ends_with(r#"596230656""#) || text.len() == 619,
            "{text}"
        );
        assert!(refused(&bignum(257)).contains("256 bytes"));
        // Zeros at the beginning have no value.
        let zeros = [&b"\xc2\x59\x02\x00"[..], &[0; 511], &[7]].concat();
        assert_eq!(json(&zeros), "7");
        // The shortest subnormal float of 64 bits, 2^-1074.
        let text = json(b"\xc5\x82\x39\x04\x31\x01");
        assert!(
            text.starts_with(r#""4940656458412465441765687928682213723650598"#),
            "{text}"
        );
        assert!(text.ends_with(r#"e-1074""#), "{text}");
    }

    #[test]
    fn a_key_that_is_not_text_becomes_text_and_no_key_is_lost() {
        // {[1, "\"", {"a": h'00'}]: 1, {}: 2, -1: 3, null: 4, 1.5: 5}
        let bytes =
            b"\xa5\x83\x01\x61\"\xa1\x61a\x41\x00\x01\xa0\x02\x20\x03\xf6\x04\xf9\x3e\x00\x05";
        assert_eq!(
            json(bytes),
            r#"{"[1,\"\\\"\",{\"a\":\"AA==\"}]":1,"{}":2,"-1":3,"null":4,"1.5":5}"#
        );
        assert_eq!(
            read_as(Decoding::Cbor, bytes, Style::Fields).unwrap(),
            r#""[1,\"\\\"\",{\"a\":\"AA==\"}]"=1 "{}"=2 -1=3 null=4 1.5=5"#
        );
        for same in [
            &b"\xa2\x01\x61a\x61\x31\x61b"[..],
            b"\xa2\xf6\x01\x64null\x02",
            b"\xa2\x41\x61\x01\x64YQ==\x02",
            b"\xa2\x61a\x01\x61a\x02",
            b"\xbf\x61a\x01\x7f\x61a\xff\x02\xff",
            b"\xa2\x81\x61a\x01\x65[\"a\"]\x02",
            b"\x81\xa2\xa2\x01\x02\x01\x03\x04\x05\x06",
        ] {
            assert_eq!(refused(same), "two keys of an object are the same as text");
        }
        // {{1: 0}: {1: 0, 2: {1: 0}}, 1: 0}
        let apart = b"\xa2\xa1\x01\x00\xa2\x01\x00\x02\xa1\x01\x00\x01\x00";
        assert_eq!(json(apart), r#"{"{\"1\":0}":{"1":0,"2":{"1":0}},"1":0}"#);
    }

    #[test]
    fn anything_but_one_item_is_refused_with_a_readable_reason() {
        assert_eq!(refused(b"\x01\x02"), "trailing bytes after the item: 1");
        for cut in [
            &b""[..],
            b"\xa1\x61",
            b"\xa1\x61a",
            b"\x82\x01",
            b"\x9f\x01",
            b"\xbf\x01",
            b"\x7f\x61a",
            b"\x5f\x41\x00",
            b"\xc1",
            b"\x5b\x00\x00\x00\xff\xff\xff\xff\xff",
            b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff",
            b"\xbb\x00\x00\x00\xff\xff\xff\xff\xff",
            b"\xfb\x00",
        ] {
            assert_eq!(refused(cut), "it ends within an item", "{cut:x?}");
        }
        for wrong in [
            &b"\xff"[..],
            b"\x81\xff",
            b"\xa1\xff",
            b"\xbf\x01\xff",
            b"\xc1\xff",
            b"\x9f\xc1\xff",
            b"\x7f\x41a\xff",
            b"\x7f\x7f\xff\xff",
            b"\x5f\x61a\xff",
            b"\x5f\x5f\xff\xff",
            b"\x61\xff",
            b"\xe0",
            b"\xf8\x20",
            b"\xfc",
            b"\x1c",
            b"\xdf\x00",
        ] {
            let reason = refused(wrong);
            let is_words = !reason.contains(['(', '{', '\n']);
            assert!(!reason.is_empty() && is_words, "{wrong:x?}: {reason}");
        }
    }

    #[test]
    fn nesting_has_a_bound_and_a_length_takes_no_memory() {
        let nested = |depth: usize| [&vec![0x81; depth][..], &[0x80]].concat();
        assert!(json(&nested(DEPTH_MAX - 1)).starts_with("[["));
        let deep = [
            nested(DEPTH_MAX),
            vec![0x81; 100_000],
            vec![0x9f; 100_000],
            vec![0xbf; 100_000],
            b"\xa1\x01".repeat(100_000),
        ];
        for deep in deep {
            let reason = refused(&deep);
            assert!(
                reason == "nested deeper than 126 levels" || reason.contains("a key within a key"),
                "{reason}"
            );
        }
        let keys = [vec![0xa1; 40], vec![1], vec![0; 40]].concat();
        assert!(refused(&keys).contains("a key within a key"));
        let tags = [vec![0xc1; 100_000], vec![1]].concat();
        assert_eq!(json(&tags), "1");
    }
}
