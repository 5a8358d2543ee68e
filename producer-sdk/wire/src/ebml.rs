//! EBML variable-size integers, element headers and leaf values (RFC 8794 §4-7), read and written.
//!
//! Nothing here waits: a function that needs more bytes than it was given says so.

/// The longest element header: an id of 4 bytes and a size of 8 (RFC 8794 §5, §6).
pub const HEADER_BYTES_MAX: usize = 12;

/// An element's identifier with its length marker, as RFC 9559 prints it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Id(pub u32);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EbmlError {
    #[error("element id begins with 0x{first:02x}, which no id of up to 4 bytes does")]
    Id { first: u8 },
    #[error("variable-size integer begins with 0x00, which is longer than 8 bytes")]
    Vint,
    #[error("{bytes} bytes hold no {kind}")]
    Value { kind: &'static str, bytes: usize },
    #[error("{id} is cut short by the end of its parent")]
    CutShort { id: Id },
    #[error("an element header is cut short by the end of its parent")]
    HeaderCutShort,
    #[error("{id} has an unknown size")]
    UnknownSize { id: Id },
}

/// What precedes an element's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub id: Id,
    /// Bytes of the body; `None` is an unknown size (RFC 8794 §6.2).
    pub size: Option<u64>,
    /// Bytes that the header itself takes.
    pub len: usize,
}

impl Header {
    /// Reads a header from the beginning of `bytes`; `None` where they end within it.
    pub fn read(bytes: &[u8]) -> Result<Option<Self>, EbmlError> {
        let Some(&first) = bytes.first() else { return Ok(None) };
        let id_len = first.leading_zeros() as usize + 1;
        // An id whose value bits are all ones or all zeros is reserved (RFC 8794 §5).
        if id_len > 4 || first == 0xFF || first == 0x80 {
            return Err(EbmlError::Id { first });
        }
        let Some((id, rest)) = bytes.split_at_checked(id_len) else { return Ok(None) };
        let Some(size) = Vint::read(rest)? else { return Ok(None) };
        Ok(Some(Self {
            id: Id(big_endian(id) as u32),
            size: (!size.unknown).then_some(size.value),
            len: id_len + size.len,
        }))
    }
}

/// A variable-size integer (RFC 8794 §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vint {
    pub value: u64,
    /// All value bits are ones, which means an unknown size where a size is meant.
    pub unknown: bool,
    /// 1 to 8 bytes.
    pub len: usize,
}

impl Vint {
    /// Reads from the beginning of `bytes`; `None` where they end within it.
    pub fn read(bytes: &[u8]) -> Result<Option<Self>, EbmlError> {
        let Some(&first) = bytes.first() else { return Ok(None) };
        if first == 0 {
            return Err(EbmlError::Vint);
        }
        let len = first.leading_zeros() as usize + 1;
        let Some(raw) = bytes.get(..len) else { return Ok(None) };
        let ones = (1_u64 << (7 * len)) - 1;
        let value = big_endian(raw) & ones;
        Ok(Some(Self { value, unknown: value == ones, len }))
    }

    /// Appends `value` in as few bytes as hold it; a value of 56 bits or more is written as unknown.
    pub fn write(out: &mut Vec<u8>, value: u64) {
        // The value whose bits are all ones means "unknown", so each length ends one before it.
        let len = (1..=8).find(|len| value < (1_u64 << (7 * len)) - 1);
        let (len, value) = len.map_or((8, (1 << 56) - 1), |len| (len, value));
        let marked = value | (1 << (7 * len));
        out.extend(marked.to_be_bytes().iter().skip(8 - len));
    }
}

/// The elements that a whole master element holds, in order.
#[derive(Clone, Debug)]
pub struct Children<'a> {
    rest: &'a [u8],
}

impl<'a> Children<'a> {
    pub fn of(body: &'a [u8]) -> Self {
        Self { rest: body }
    }

    fn take(&mut self) -> Result<(Id, &'a [u8]), EbmlError> {
        let header = Header::read(self.rest)?.ok_or(EbmlError::HeaderCutShort)?;
        let size = header.size.ok_or(EbmlError::UnknownSize { id: header.id })?;
        let body = self.rest.get(header.len..).unwrap_or_default();
        let (body, rest) = usize::try_from(size)
            .ok()
            .and_then(|size| body.split_at_checked(size))
            .ok_or(EbmlError::CutShort { id: header.id })?;
        self.rest = rest;
        Ok((header.id, body))
    }
}

impl<'a> Iterator for Children<'a> {
    type Item = Result<(Id, &'a [u8]), EbmlError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let item = self.take();
        if item.is_err() {
            self.rest = &[];
        }
        Some(item)
    }
}

/// An Unsigned Integer Element's body (RFC 8794 §7.2); no bytes are 0.
pub fn unsigned(body: &[u8]) -> Result<u64, EbmlError> {
    if body.len() > 8 {
        return Err(EbmlError::Value { kind: "unsigned integer", bytes: body.len() });
    }
    Ok(big_endian(body))
}

/// A Float Element's body (RFC 8794 §7.3); no bytes are 0.
pub fn float(body: &[u8]) -> Result<f64, EbmlError> {
    match body.len() {
        0 => Ok(0.0),
        4 => Ok(f32::from_bits(big_endian(body) as u32).into()),
        8 => Ok(f64::from_bits(big_endian(body))),
        bytes => Err(EbmlError::Value { kind: "float", bytes }),
    }
}

/// A String or UTF-8 Element's body (RFC 8794 §7.4, §7.5), without what follows a zero byte.
/// What is not UTF-8 is replaced.
pub fn string(body: &[u8]) -> String {
    let end = body.iter().position(|&byte| byte == 0).unwrap_or(body.len());
    String::from_utf8_lossy(body.get(..end).unwrap_or_default()).into_owned()
}

/// Appends an element's header; `None` is an unknown size, in one byte.
pub fn write_header(out: &mut Vec<u8>, id: Id, size: Option<u64>) {
    out.extend(id.0.to_be_bytes().iter().skip(id.0.leading_zeros() as usize / 8));
    match size {
        Some(size) => Vint::write(out, size),
        None => out.push(0xFF),
    }
}

/// Appends an element whose body is at hand.
pub fn write_element(out: &mut Vec<u8>, id: Id, body: &[u8]) {
    write_header(out, id, Some(body.len() as u64));
    out.extend_from_slice(body);
}

fn big_endian(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |value, &byte| value << 8 | u64::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_headers() {
        let check =
            |bytes: &[u8], expected: Result<Option<(u32, Option<u64>, usize)>, EbmlError>| {
                let read = Header::read(bytes).map(|h| h.map(|h| (h.id.0, h.size, h.len)));
                assert_eq!(read, expected, "{bytes:02x?}");
            };
        check(&[], Ok(None));
        check(&[0xE7], Ok(None));
        check(&[0xE7, 0x88], Ok(Some((0xE7, Some(8), 2))));
        check(&[0x42, 0x86, 0x40, 0x01], Ok(Some((0x4286, Some(1), 4))));
        check(&[0x1F, 0x43, 0xB6, 0x75, 0xFF], Ok(Some((0x1F43_B675, None, 5))));
        check(
            &[0x1F, 0x43, 0xB6, 0x75, 0x01, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF],
            Ok(Some((0x1F43_B675, None, 12))),
        );
        check(&[0x1F, 0x43, 0xB6, 0x75, 0x01, 0, 0, 0, 0, 0, 0], Ok(None));
        check(&[0xA3, 0x01, 0, 0, 0, 0, 0, 1, 2], Ok(Some((0xA3, Some(258), 9))));
        check(&[0x08, 1, 2, 3, 4, 0x81], Err(EbmlError::Id { first: 8 }));
        check(&[0xFF, 0x81], Err(EbmlError::Id { first: 0xFF }));
        check(&[0xA3, 0x00], Err(EbmlError::Vint));
    }

    #[test]
    fn integers_take_as_few_bytes_as_hold_them() {
        let ends = (1..=8).map(|len| (1_u64 << (7 * len)) - 2);
        for (len, last) in (1..=8).zip(ends) {
            for (value, len) in [(last, len), (last + 1, len + 1)] {
                let mut out = Vec::new();
                Vint::write(&mut out, value);
                let read = Vint::read(&out);
                if len > 8 {
                    assert!(read.unwrap().unwrap().unknown, "{value}");
                } else {
                    assert_eq!(read, Ok(Some(Vint { value, unknown: false, len })));
                    assert_eq!(out.len(), len);
                }
            }
        }
    }

    #[test]
    fn children_end_at_the_first_error() {
        let bytes = [0xE7, 0x81, 5, 0xA3, 0x84, 1, 2];
        let all: Vec<_> = Children::of(&bytes).collect();
        assert_eq!(all, [Ok((Id(0xE7), &[5][..])), Err(EbmlError::CutShort { id: Id(0xA3) })]);
    }

    #[test]
    fn reads_values() {
        assert_eq!(unsigned(&[1, 0]), Ok(256));
        assert!(unsigned(&[0; 9]).is_err());
        assert_eq!(float(&48_000_f64.to_be_bytes()), Ok(48_000.0));
        assert_eq!(float(&8_000_f32.to_be_bytes()), Ok(8_000.0));
        assert!(float(&[0; 3]).is_err());
        assert_eq!(string(b"A_AAC\0\0"), "A_AAC");
        assert_eq!(string(&[0xC3]), "\u{FFFD}");
    }
}
