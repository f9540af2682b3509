//! The ways in and out that all values have which are a header, a body, and a signature where they leave a process. Said once: what
//! differs is the body.

use super::codec::{Cursor, DecodeError, Kind};

/// What stands between the header and the signature.
pub(super) trait Body: Sized {
    /// The kind that the header says.
    const KIND: Kind;

    /// Reads it, and nothing behind it.
    fn read(cursor: &mut Cursor<'_>) -> Result<Self, DecodeError>;

    /// Appends it.
    fn put(&self, out: &mut Vec<u8>);
}

/// Gives a value with a [`Body`] its ways in and out.
macro_rules! signed {
    ($value:ty) => {
        impl $value {
            /// Appends the encoding without a signature.
            pub fn encode(&self, out: &mut Vec<u8>) {
                $crate::feed::signature::put(out, <$value as Body>::KIND, None, |out| self.put(out));
            }

            /// Appends the encoding with a signature. Same value, same key: same octets.
            pub fn encode_signed(&self, key: &$crate::feed::SigningKey, out: &mut Vec<u8>) {
                $crate::feed::signature::put(out, <$value as Body>::KIND, Some(key), |out| self.put(out));
            }

            /// Reads one encoding that takes all of `bytes`. A signature is stepped over: see [`Self::verify`].
            ///
            /// # Errors
            /// [`DecodeError`](crate::feed::DecodeError) when they are anything else.
            pub fn decode(bytes: &[u8]) -> Result<Self, $crate::feed::DecodeError> {
                let (octets, _) = $crate::feed::codec::split_signature(bytes, <$value as Body>::KIND)?;
                let mut cursor = $crate::feed::codec::Cursor::new(octets);
                cursor.header(<$value as Body>::KIND)?;
                let value = <$value as Body>::read(&mut cursor)?;
                cursor.end()?;
                Ok(value)
            }

            /// Checks the signature of an encoding against any of `keys`, without decoding it.
            ///
            /// # Errors
            /// [`SignatureError`](crate::feed::SignatureError) when there is none or none of the keys made it.
            pub fn verify(
                bytes: &[u8],
                keys: &[$crate::feed::VerifyingKey],
            ) -> Result<(), $crate::feed::SignatureError> {
                $crate::feed::signature::verify(bytes, <$value as Body>::KIND, keys)
            }
        }
    };
}

pub(super) use signed;
