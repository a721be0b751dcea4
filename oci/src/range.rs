//! Byte ranges: the `Range` a client asks for, what it means for a given length, and `Content-Range`.
//!
//! Source: RFC 9110 section 14. Only the `bytes` unit exists here.

use std::fmt;
use std::str::FromStr;

/// A parsed `Range` header.
///
/// A header with several ranges parses, and resolves to the full content: a single part sent for it would corrupt a
/// client that expects all of them (contract of containers/image), and RFC 9110 allows a server to ignore `Range`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RangeHeader(Form);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    From { start: u64, end_inclusive: Option<u64> },
    Last { count: u64 },
    Several,
}

/// A non-empty run of bytes, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteRange {
    start: u64,
    end_inclusive: u64,
}

/// What a [`RangeHeader`] asks of content of a known length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResolvedRange {
    /// Answer 200 with everything.
    Full,
    /// Answer 206 with this part.
    Partial(ByteRange),
    /// Answer 416.
    Unsatisfiable,
}

/// A parsed `Content-Range` header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentRange {
    /// `bytes 0-9/100`, or `bytes 0-9/*` where the length is not known.
    Part {
        /// The bytes that follow.
        range: ByteRange,
        /// Length of the whole in bytes.
        total: Option<u64>,
    },
    /// `bytes */100`, which goes with 416.
    Unsatisfied {
        /// Length of the whole in bytes.
        total: u64,
    },
}

/// Why a header is not a range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid byte range {0:?}")]
pub struct RangeError(String);

impl RangeHeader {
    /// Parses `bytes=0-9`, `bytes=5-`, `bytes=-5` and lists of these.
    ///
    /// # Errors
    /// [`RangeError`] for another unit, an empty list or a range that ends before it starts. RFC 9110 lets a server
    /// ignore such a header.
    pub fn parse(text: &str) -> Result<Self, RangeError> {
        let error = || RangeError(text.chars().take(80).collect());
        let set = text.trim().strip_prefix("bytes=").ok_or_else(error)?;
        let mut forms = set.split(',').map(|spec| parse_spec(spec.trim()));
        let first = forms.next().flatten().ok_or_else(error)?;
        let mut several = false;
        for form in forms {
            form.ok_or_else(error)?;
            several = true;
        }
        Ok(Self(if several { Form::Several } else { first }))
    }

    /// Everything from `start` on.
    pub fn from_offset(start: u64) -> Self {
        Self(Form::From {
            start,
            end_inclusive: None,
        })
    }

    /// The first byte asked for, where that does not depend on the length.
    pub fn start(&self) -> Option<u64> {
        match self.0 {
            Form::From { start, .. } => Some(start),
            Form::Last { .. } | Form::Several => None,
        }
    }

    /// Says what to answer for content of `size_bytes`.
    pub fn resolve(&self, size_bytes: u64) -> ResolvedRange {
        let Some(last) = size_bytes.checked_sub(1) else {
            return match self.0 {
                Form::Several => ResolvedRange::Full,
                _ => ResolvedRange::Unsatisfiable,
            };
        };
        match self.0 {
            Form::Several => ResolvedRange::Full,
            Form::From { start, .. } if start > last => ResolvedRange::Unsatisfiable,
            Form::From { start, end_inclusive } => {
                let end_inclusive = end_inclusive.map_or(last, |end| end.min(last));
                ResolvedRange::Partial(ByteRange { start, end_inclusive })
            }
            Form::Last { count: 0 } => ResolvedRange::Unsatisfiable,
            Form::Last { count } => ResolvedRange::Partial(ByteRange {
                start: size_bytes.saturating_sub(count),
                end_inclusive: last,
            }),
        }
    }
}

fn parse_spec(spec: &str) -> Option<Form> {
    let (start, end) = spec.split_once('-')?;
    if start.is_empty() {
        return Some(Form::Last {
            count: parse_number(end)?,
        });
    }
    let start = parse_number(start)?;
    if end.is_empty() {
        return Some(Form::From {
            start,
            end_inclusive: None,
        });
    }
    let end_inclusive = parse_number(end)?;
    (start <= end_inclusive).then_some(Form::From {
        start,
        end_inclusive: Some(end_inclusive),
    })
}

fn parse_number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

impl ByteRange {
    /// The bytes `start..=end_inclusive`, or nothing if that is empty.
    pub fn new(start: u64, end_inclusive: u64) -> Option<Self> {
        (start <= end_inclusive && end_inclusive < u64::MAX).then_some(Self { start, end_inclusive })
    }

    /// All of `size_bytes`, or nothing if there are none.
    pub fn whole(size_bytes: u64) -> Option<Self> {
        Self::new(0, size_bytes.checked_sub(1)?)
    }

    /// Offset of the first byte.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// Offset of the last byte.
    pub fn end_inclusive(&self) -> u64 {
        self.end_inclusive
    }

    /// Offset after the last byte.
    pub fn end_exclusive(&self) -> u64 {
        self.end_inclusive.saturating_add(1)
    }

    /// Number of bytes, at least one.
    pub fn len_bytes(&self) -> u64 {
        self.end_exclusive() - self.start
    }
}

impl FromStr for ContentRange {
    type Err = RangeError;

    fn from_str(text: &str) -> Result<Self, RangeError> {
        parse_content_range(text.trim()).ok_or_else(|| RangeError(text.chars().take(80).collect()))
    }
}

fn parse_content_range(text: &str) -> Option<ContentRange> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    if range == "*" {
        return Some(ContentRange::Unsatisfied {
            total: parse_number(total)?,
        });
    }
    let (start, end) = range.split_once('-')?;
    let range = ByteRange::new(parse_number(start)?, parse_number(end)?)?;
    let total = if total == "*" { None } else { Some(parse_number(total)?) };
    if total.is_some_and(|total| range.end_inclusive >= total) {
        return None;
    }
    Some(ContentRange::Part { range, total })
}

impl fmt::Display for ContentRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Part {
                range,
                total: Some(total),
            } => write!(f, "bytes {}-{}/{total}", range.start, range.end_inclusive),
            Self::Part { range, total: None } => write!(f, "bytes {}-{}/*", range.start, range.end_inclusive),
            Self::Unsatisfied { total } => write!(f, "bytes */{total}"),
        }
    }
}

impl fmt::Display for RangeHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Form::From {
                start,
                end_inclusive: None,
            } => write!(f, "bytes={start}-"),
            Form::From {
                start,
                end_inclusive: Some(end),
            } => write!(f, "bytes={start}-{end}"),
            Form::Last { count } => write!(f, "bytes=-{count}"),
            Form::Several => f.write_str("bytes=0-"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn resolve(header: &str, size_bytes: u64) -> ResolvedRange {
        RangeHeader::parse(header).unwrap().resolve(size_bytes)
    }

    fn partial(start: u64, end_inclusive: u64) -> ResolvedRange {
        ResolvedRange::Partial(ByteRange::new(start, end_inclusive).unwrap())
    }

    #[test]
    fn ranges_resolve_as_the_specification_says() {
        let table = [
            ("bytes=0-9", 100, partial(0, 9)),
            ("bytes=90-", 100, partial(90, 99)),
            ("bytes=-10", 100, partial(90, 99)),
            ("bytes=-500", 100, partial(0, 99)),
            ("bytes=0-500", 100, partial(0, 99)),
            ("bytes=100-", 100, ResolvedRange::Unsatisfiable),
            ("bytes=500-", 100, ResolvedRange::Unsatisfiable),
            ("bytes=-0", 100, ResolvedRange::Unsatisfiable),
            ("bytes=0-", 0, ResolvedRange::Unsatisfiable),
            ("bytes=0-1,5-6", 100, ResolvedRange::Full),
        ];
        for (header, size_bytes, expected) in table {
            assert_eq!(resolve(header, size_bytes), expected, "{header} of {size_bytes}");
        }
    }

    #[test]
    fn malformed_ranges_are_refused() {
        for bad in [
            "",
            "bytes",
            "bytes=",
            "items=0-1",
            "bytes=-",
            "bytes=5-4",
            "bytes=a-b",
            "bytes=+1-2",
            "bytes=1-2,",
            "bytes=99999999999999999999-",
        ] {
            assert!(RangeHeader::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn content_ranges_round_trip() {
        for text in ["bytes 0-9/100", "bytes 0-9/*", "bytes */100"] {
            assert_eq!(text.parse::<ContentRange>().unwrap().to_string(), text);
        }
        for bad in [
            "",
            "bytes 9-0/100",
            "bytes 0-100/100",
            "bytes */*",
            "bytes 0-9",
            "0-9/100",
        ] {
            assert!(bad.parse::<ContentRange>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_resolved_part_lies_within_the_content(text in "bytes=[0-9]{0,3}-[0-9]{0,3}", size_bytes in 0u64..500) {
            if let Ok(header) = RangeHeader::parse(&text) {
                if let ResolvedRange::Partial(range) = header.resolve(size_bytes) {
                    prop_assert!(range.start() <= range.end_inclusive() && range.end_exclusive() <= size_bytes);
                    prop_assert!(range.len_bytes() >= 1);
                }
                prop_assert_eq!(RangeHeader::parse(&header.to_string()).unwrap(), header);
            }
        }

        #[test]
        fn arbitrary_text_never_panics(text in "\\PC{0,60}") {
            let _ = RangeHeader::parse(&text);
            let _ = text.parse::<ContentRange>();
        }
    }
}
