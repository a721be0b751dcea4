//! CBOR with numbered fields: the bytes of commands, outcomes and records.
//!
//! Types of `oci` travel as their text and are parsed again on the way in, so what decodes is valid. The rules for
//! changing an encoded type are in `docs/adr/0003-metadata-encoding.md`.

use minicbor::{Decode, Encode};

/// Bytes that are not what they should be: damage, or a newer format.
#[derive(Debug, thiserror::Error)]
#[error("decode {what}")]
pub struct DecodeError {
    what: &'static str,
    source: minicbor::decode::Error,
}

impl DecodeError {
    pub(crate) fn new(what: &'static str, reason: &'static str) -> Self {
        Self {
            what,
            source: minicbor::decode::Error::message(reason),
        }
    }
}

/// Encodes `value`; the same value always gives the same bytes.
pub(crate) fn to_vec<T: Encode<()>>(value: &T) -> Vec<u8> {
    minicbor::to_vec(value).expect("a Vec takes every byte and no encoder here reports an error of its own")
}

/// Decodes all of `bytes`; bytes left over are an error.
pub(crate) fn from_slice<'b, T: Decode<'b, ()>>(what: &'static str, bytes: &'b [u8]) -> Result<T, DecodeError> {
    let mut decoder = minicbor::Decoder::new(bytes);
    let value = decoder.decode().map_err(|source| DecodeError { what, source })?;
    if decoder.position() != bytes.len() {
        return Err(DecodeError::new(what, "bytes left over"));
    }
    Ok(value)
}

/// For `#[cbor(with = "crate::codec::text")]`: validated names as their text, alone, in a list, or optional (then with
/// `default`, so that a field which older software did not write is `None`).
pub(crate) mod text {
    use std::fmt::Display;
    use std::str::FromStr;

    use minicbor::data::Type;
    use minicbor::decode::Error as DecodeError;
    use minicbor::encode::{Error as EncodeError, Write};
    use minicbor::{Decoder, Encoder};

    /// A type whose `Display` and `FromStr` are inverse to each other.
    pub(crate) trait Text: Display + FromStr<Err: Display> {}

    impl Text for oci::Digest {}
    impl Text for oci::ImageReference {}
    impl Text for oci::MediaType {}
    impl Text for oci::RepositoryName {}
    impl Text for oci::SourceHost {}
    impl Text for oci::Tag {}
    impl Text for crate::Gen {}

    /// What may stand in a field of text.
    pub(crate) trait Field: Sized {
        fn write<W: Write>(&self, encoder: &mut Encoder<W>) -> Result<(), EncodeError<W::Error>>;
        fn read(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError>;
    }

    impl<T: Text> Field for T {
        fn write<W: Write>(&self, encoder: &mut Encoder<W>) -> Result<(), EncodeError<W::Error>> {
            encoder.str(&self.to_string())?.ok()
        }

        fn read(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
            let position = decoder.position();
            let text = decoder.str()?;
            text.parse()
                .map_err(|error: T::Err| DecodeError::message(error.to_string()).at(position))
        }
    }

    impl<T: Text> Field for Option<T> {
        fn write<W: Write>(&self, encoder: &mut Encoder<W>) -> Result<(), EncodeError<W::Error>> {
            match self {
                Some(value) => value.write(encoder),
                None => encoder.null()?.ok(),
            }
        }

        fn read(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
            if decoder.datatype()? == Type::Null {
                decoder.null()?;
                return Ok(None);
            }
            T::read(decoder).map(Some)
        }
    }

    impl<T: Text> Field for Vec<T> {
        fn write<W: Write>(&self, encoder: &mut Encoder<W>) -> Result<(), EncodeError<W::Error>> {
            encoder.array(self.len() as u64)?;
            self.iter().try_for_each(|value| value.write(encoder))
        }

        fn read(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
            let length = decoder
                .array()?
                .ok_or_else(|| DecodeError::message("a list of unknown length"))?;
            (0..length).map(|_| T::read(decoder)).collect()
        }
    }

    pub(crate) fn encode<C, T: Field, W: Write>(
        value: &T,
        encoder: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), EncodeError<W::Error>> {
        value.write(encoder)
    }

    pub(crate) fn decode<C, T: Field>(decoder: &mut Decoder<'_>, _: &mut C) -> Result<T, DecodeError> {
        T::read(decoder)
    }
}

/// For `#[cbor(with = "crate::codec::repository")]`: host and name, each as its text.
pub(crate) mod repository {
    use minicbor::decode::Error as DecodeError;
    use minicbor::encode::{Error as EncodeError, Write};
    use minicbor::{Decoder, Encoder};
    use oci::Repository;

    use super::text::Field;

    pub(crate) fn encode<C, W: Write>(
        value: &Repository,
        encoder: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), EncodeError<W::Error>> {
        encoder.array(2)?;
        value.host.write(encoder)?;
        value.name.write(encoder)
    }

    pub(crate) fn decode<C>(decoder: &mut Decoder<'_>, _: &mut C) -> Result<Repository, DecodeError> {
        if decoder.array()? != Some(2) {
            return Err(DecodeError::message("a repository is a host and a name"));
        }
        Ok(Repository {
            host: Field::read(decoder)?,
            name: Field::read(decoder)?,
        })
    }
}
