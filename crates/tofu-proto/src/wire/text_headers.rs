//! Text headers: lines `name:value`, each ended by CR LF (PROTOCOL.md section 2).
//!
//! Writing is strict and reading is lenient. What is written here always reads back as the one
//! header that was meant; what a peer wrote is never an error, at worst fewer headers. Names and
//! values are bytes and need not be UTF-8.

use alloc::{
    string::{String, ToString},
    vec::Vec,
};
use core::{fmt, iter::FusedIterator, str};

/// The text header of a HelloRequest that says where to connect (PROTOCOL.md section 2). It travels to the
/// server, who sees which of its addresses the client used.
///
/// ```
/// # use tofu_proto as tofu;
/// use tofu::{CONNECT_TO, Message};
///
/// let hello = Message::hello_request(&"tcp://localhost:80".parse()?);
/// assert_eq!(hello.header(CONNECT_TO), Some("tcp|localhost|80"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub const CONNECT_TO: &str = "~connect_to";
/// The text header of a WelcomeRequest that says where to listen (PROTOCOL.md section 2).
///
/// ```
/// # use tofu_proto as tofu;
/// use tofu::{LISTEN_ON, Message};
///
/// let welcome = Message::welcome_request(&"uds:///tmp/a.sock".parse()?);
/// assert_eq!(welcome.header(LISTEN_ON), Some("uds|/tmp/a.sock"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub const LISTEN_ON: &str = "~listen_on";

const LINE_END: &[u8] = b"\r\n";

/// A view of encoded text headers, in the order in which they were written.
///
/// It borrows the bytes and reads them anew each time, so that headers which nobody looks at cost
/// nothing.
///
/// ```
/// # use tofu_proto as tofu;
/// use tofu::TextHeaders;
///
/// let headers = TextHeaders::new(b"user: alice\r\nlang:en\r\nlang:de\r\n");
/// assert_eq!(headers.value("lang"), Some(&b"en"[..]));
/// let values: Vec<_> = headers.iter().filter_map(|header| header.value_str()).collect();
/// assert_eq!(values, ["alice", "en", "de"]);
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct TextHeaders<'a> {
    bytes: &'a [u8],
}

impl<'a> TextHeaders<'a> {
    /// Views these bytes as text headers.
    ///
    /// ```
    /// # use tofu_proto as tofu;
    /// assert_eq!(tofu::TextHeaders::new(b"k:v\r\n").value("k"), Some(&b"v"[..]));
    /// ```
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// The bytes, as they are.
    ///
    /// ```
    /// # use tofu_proto as tofu;
    /// assert_eq!(tofu::TextHeaders::new(b"k: v\r\n").as_bytes(), b"k: v\r\n");
    /// ```
    pub const fn as_bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// Whether there is not a single byte of text headers.
    ///
    /// ```
    /// # use tofu_proto as tofu;
    /// assert!(tofu::TextHeaders::default().is_empty());
    /// assert!(!tofu::TextHeaders::new(b"k:v\r\n").is_empty());
    /// ```
    pub const fn is_empty(self) -> bool {
        self.bytes.is_empty()
    }

    /// The headers, first to last. Reading is lenient: nothing that a peer wrote is an error, at worst fewer
    /// headers (PROTOCOL.md section 2).
    ///
    /// ```
    /// # use tofu_proto as tofu;
    /// use tofu::TextHeaders;
    ///
    /// let headers = TextHeaders::new(b"b:1\r\n\r\na: 2\r\nb:3");
    /// let pairs = headers.iter().map(|header| (header.name, header.value));
    /// let expected: [(&[u8], &[u8]); 3] = [(b"b", b"1"), (b"a", b"2"), (b"b", b"3")];
    /// assert!(pairs.eq(expected));
    /// ```
    pub const fn iter(self) -> TextHeadersIter<'a> {
        TextHeadersIter { rest: self.bytes }
    }

    /// The value of the first header with this name. Names are case-sensitive.
    ///
    /// ```
    /// # use tofu_proto as tofu;
    /// use tofu::TextHeaders;
    ///
    /// let headers = TextHeaders::new(b"lang:en\r\nlang:de\r\n");
    /// assert_eq!(headers.value("lang"), Some(&b"en"[..]));
    /// assert_eq!(headers.value("LANG"), None);
    /// ```
    pub fn value(self, name: impl AsRef<[u8]>) -> Option<&'a [u8]> {
        let name = name.as_ref();
        self.iter()
            .find(|header| header.name == name)
            .map(|header| header.value)
    }
}

impl<'a> IntoIterator for TextHeaders<'a> {
    type Item = TextHeader<'a>;
    type IntoIter = TextHeadersIter<'a>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// The pairs, with what is not UTF-8 replaced.
impl fmt::Debug for TextHeaders<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pairs = self
            .iter()
            .map(|header| (lossy(header.name), lossy(header.value)));
        f.debug_map().entries(pairs).finish()
    }
}

/// One text header.
///
/// ```
/// # use tofu_proto as tofu;
/// use tofu::TextHeaders;
///
/// let header = TextHeaders::new(b"lang: en\r\n").iter().next().expect("one");
/// assert_eq!((header.name, header.value), (&b"lang"[..], &b"en"[..]));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TextHeader<'a> {
    /// The name, as it was written; never empty.
    pub name: &'a [u8],
    /// The value, without spaces and tabs around it; may be empty.
    pub value: &'a [u8],
}

impl<'a> TextHeader<'a> {
    /// The name, if it is UTF-8.
    ///
    /// ```
    /// # use tofu_proto as tofu;
    /// use tofu::TextHeader;
    ///
    /// let header = TextHeader { name: b"lang", value: b"\xff" };
    /// assert_eq!((header.name_str(), header.value_str()), (Some("lang"), None));
    /// ```
    pub fn name_str(&self) -> Option<&'a str> {
        str::from_utf8(self.name).ok()
    }

    /// The value, if it is UTF-8.
    ///
    /// ```
    /// # use tofu_proto as tofu;
    /// use tofu::TextHeader;
    ///
    /// assert_eq!(TextHeader { name: b"lang", value: b"en" }.value_str(), Some("en"));
    /// ```
    pub fn value_str(&self) -> Option<&'a str> {
        str::from_utf8(self.value).ok()
    }
}

/// The pair, with what is not UTF-8 replaced.
impl fmt::Debug for TextHeader<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {:?}", lossy(self.name), lossy(self.value))
    }
}

/// The headers of a [`TextHeaders`], first to last.
///
/// ```
/// # use tofu_proto as tofu;
/// let mut headers = tofu::TextHeaders::new(b"a:1\r\nb:2\r\n").into_iter();
/// assert_eq!(headers.next().and_then(|header| header.name_str()), Some("a"));
/// assert_eq!(headers.count(), 1);
/// ```
#[derive(Clone, Debug)]
pub struct TextHeadersIter<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for TextHeadersIter<'a> {
    type Item = TextHeader<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.rest.is_empty() {
            let (line, rest) = split_line(self.rest);
            self.rest = rest;
            if line.is_empty() {
                continue;
            }
            let (name, value) = match line.iter().position(|&byte| byte == b':') {
                Some(colon) => (&line[..colon], &line[colon + 1..]),
                None => (line, &b""[..]),
            };
            if name.is_empty() {
                self.rest = b"";
                return None;
            }
            let value = trimmed(value, |byte| matches!(byte, b' ' | b'\t'));
            return Some(TextHeader { name, value });
        }
        None
    }
}

impl FusedIterator for TextHeadersIter<'_> {}

/// A text header that cannot be written (PROTOCOL.md section 2). It names the header.
///
/// ```
/// # use tofu_proto as tofu;
/// use tofu::{ChannelNumber, Message};
///
/// let mut message = Message::signal(ChannelNumber::new(3));
/// let error = message.push_header("a:b", "c").unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     r#"invalid text header "a:b": a name cannot have a colon in it"#
/// );
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HeaderError {
    /// The name is empty, or nothing but white space.
    EmptyName,
    /// The value is empty.
    EmptyValue {
        /// The header's name.
        name: String,
    },
    /// The name has a `:`, which would end it.
    NameHasColon {
        /// The header's name.
        name: String,
    },
    /// The name has CR or LF in it, which would forge another header.
    NameHasLineBreak {
        /// The header's name.
        name: String,
    },
    /// The value has CR or LF in it, which would forge another header.
    ValueHasLineBreak {
        /// The header's name.
        name: String,
        /// The header's value.
        value: String,
    },
}

impl fmt::Display for HeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EmptyName => f.write_str("invalid text header: its name is empty"),
            Self::EmptyValue { name } => {
                write!(f, "invalid text header {name:?}: its value is empty")
            }
            Self::NameHasColon { name } => {
                write!(
                    f,
                    "invalid text header {name:?}: a name cannot have a colon in it"
                )
            }
            Self::NameHasLineBreak { name } => {
                write!(
                    f,
                    "invalid text header {name:?}: a name cannot have CR or LF in it"
                )
            }
            Self::ValueHasLineBreak { name, value } => write!(
                f,
                "invalid text header {name:?}: its value {value:?} cannot have CR or LF in it"
            ),
        }
    }
}

impl core::error::Error for HeaderError {}

/// Appends the line of one header to `out`. The name is trimmed, the value is written as it is.
///
/// # Errors
/// A name or a value that cannot be written; nothing is appended then.
pub(crate) fn encode(out: &mut Vec<u8>, name: &[u8], value: &[u8]) -> Result<(), HeaderError> {
    let name = trimmed(name, |byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n'));
    if name.is_empty() {
        return Err(HeaderError::EmptyName);
    }
    if has_line_break(name) {
        return Err(HeaderError::NameHasLineBreak { name: lossy(name) });
    }
    if name.contains(&b':') {
        return Err(HeaderError::NameHasColon { name: lossy(name) });
    }
    if value.is_empty() {
        return Err(HeaderError::EmptyValue { name: lossy(name) });
    }
    if has_line_break(value) {
        return Err(HeaderError::ValueHasLineBreak {
            name: lossy(name),
            value: lossy(value),
        });
    }
    out.reserve(name.len() + 1 + value.len() + LINE_END.len());
    out.extend_from_slice(name);
    out.push(b':');
    out.extend_from_slice(value);
    out.extend_from_slice(LINE_END);
    Ok(())
}

/// The first line without its end, and what follows it.
fn split_line(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = bytes
        .windows(LINE_END.len())
        .position(|window| window == LINE_END);
    match end {
        Some(end) => (&bytes[..end], &bytes[end + LINE_END.len()..]),
        None => (bytes, b""),
    }
}

fn trimmed(mut bytes: &[u8], is_space: impl Fn(u8) -> bool) -> &[u8] {
    while let [first, rest @ ..] = bytes
        && is_space(*first)
    {
        bytes = rest;
    }
    while let [rest @ .., last] = bytes
        && is_space(*last)
    {
        bytes = rest;
    }
    bytes
}

fn has_line_break(bytes: &[u8]) -> bool {
    bytes.iter().any(|byte| matches!(byte, b'\r' | b'\n'))
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).to_string()
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use super::*;

    fn read(bytes: &[u8]) -> Vec<(&[u8], &[u8])> {
        TextHeaders::new(bytes)
            .iter()
            .map(|header| (header.name, header.value))
            .collect()
    }

    fn read_str(text: &str) -> Vec<(&str, &str)> {
        TextHeaders::new(text.as_bytes())
            .into_iter()
            .map(|header| (header.name_str().unwrap(), header.value_str().unwrap()))
            .collect()
    }

    fn written(name: &str, value: &str) -> Result<String, HeaderError> {
        let mut out = b"a:1\r\n".to_vec();
        let result = encode(&mut out, name.as_bytes(), value.as_bytes());
        let text = String::from_utf8(out).unwrap();
        if result.is_err() {
            assert_eq!(text, "a:1\r\n", "nothing is appended on an error");
        }
        result.map(|()| text)
    }

    #[test]
    fn a_header_is_a_line() {
        assert_eq!(written("k", "v"), Ok("a:1\r\nk:v\r\n".into()));
    }

    #[test]
    fn a_written_name_is_trimmed() {
        assert_eq!(
            written(" \t\r\nk k\r\n\t ", "v"),
            Ok("a:1\r\nk k:v\r\n".into())
        );
    }

    #[test]
    fn a_written_value_is_kept_as_it_is() {
        assert_eq!(written("k", " v:\t"), Ok("a:1\r\nk: v:\t\r\n".into()));
    }

    #[test]
    fn a_name_must_not_be_empty() {
        for name in ["", " ", "\t\r\n "] {
            assert_eq!(written(name, "v"), Err(HeaderError::EmptyName));
        }
    }

    #[test]
    fn a_value_must_not_be_empty() {
        let name = "k".into();
        assert_eq!(written("k", ""), Err(HeaderError::EmptyValue { name }));
    }

    #[test]
    fn a_name_with_a_colon_is_refused() {
        for name in ["k:", ":k", "a:b", ":"] {
            let error = HeaderError::NameHasColon { name: name.into() };
            assert_eq!(written(name, "v"), Err(error));
        }
    }

    #[test]
    fn a_name_with_a_line_break_is_refused() {
        for name in ["a\rb", "a\nb", "a\r\nb", "a\r\nb:c"] {
            let error = HeaderError::NameHasLineBreak { name: name.into() };
            assert_eq!(written(name, "v"), Err(error));
        }
    }

    #[test]
    fn a_value_with_a_line_break_is_refused() {
        for value in ["\r", "\n", "v\r\n", "v\r\nforged:1"] {
            let error = HeaderError::ValueHasLineBreak {
                name: "k".into(),
                value: value.into(),
            };
            assert_eq!(written("k", value), Err(error));
        }
    }

    #[test]
    fn an_error_names_the_header() {
        let error = written("k", "v\r\nforged:1").unwrap_err();
        assert_eq!(
            error.to_string(),
            r#"invalid text header "k": its value "v\r\nforged:1" cannot have CR or LF in it"#
        );
        let error = encode(&mut Vec::new(), b"\xff:", b"v").unwrap_err();
        assert!(error.to_string().contains('\u{fffd}'), "{error}");
    }

    #[test]
    fn order_and_duplicates_are_kept() {
        let headers = read_str("b:1\r\na:2\r\nb:3\r\n");
        assert_eq!(headers, [("b", "1"), ("a", "2"), ("b", "3")]);
    }

    #[test]
    fn the_first_of_a_name_counts() {
        let headers = TextHeaders::new(b"b:1\r\na:2\r\nb:3\r\n");
        assert_eq!(headers.value("b"), Some(&b"1"[..]));
        assert_eq!(headers.value("c"), None);
    }

    #[test]
    fn a_line_is_split_at_its_first_colon() {
        assert_eq!(read_str("a:b:c\r\n"), [("a", "b:c")]);
    }

    #[test]
    fn a_read_value_is_trimmed_of_spaces_and_tabs() {
        assert_eq!(read_str("a: \tb c\t \r\n"), [("a", "b c")]);
    }

    #[test]
    fn a_read_value_may_be_empty() {
        assert_eq!(read_str("a:\r\nb: \t\r\n"), [("a", ""), ("b", "")]);
        assert_eq!(TextHeaders::new(b"a:\r\n").value("a"), Some(&b""[..]));
    }

    #[test]
    fn a_line_without_a_colon_is_a_name() {
        assert_eq!(read_str("a\r\nb:1\r\n"), [("a", ""), ("b", "1")]);
    }

    #[test]
    fn empty_lines_are_skipped() {
        assert_eq!(
            read_str("\r\n\r\na:1\r\n\r\nb:2\r\n\r\n"),
            [("a", "1"), ("b", "2")]
        );
    }

    #[test]
    fn an_empty_name_ends_the_iteration() {
        let mut headers = TextHeaders::new(b"a:1\r\n:2\r\nb:3\r\n").iter();
        assert!(headers.next().is_some());
        assert_eq!(headers.next(), None);
        assert_eq!(headers.next(), None, "and it stays ended");
    }

    #[test]
    fn a_last_line_without_its_end_counts() {
        assert_eq!(read_str("a:1\r\nb:2"), [("a", "1"), ("b", "2")]);
        assert_eq!(read_str("a"), [("a", "")]);
    }

    #[test]
    fn only_cr_and_lf_together_end_a_line() {
        assert_eq!(read_str("a:1\nb:2\rc:3\r\n"), [("a", "1\nb:2\rc:3")]);
        assert_eq!(read_str("a:1\r"), [("a", "1\r")]);
    }

    #[test]
    fn names_are_case_sensitive() {
        let headers = TextHeaders::new(b"Name:1\r\nname:2\r\n");
        assert_eq!(headers.value("name"), Some(&b"2"[..]));
        assert_eq!(headers.value("NAME"), None);
    }

    #[test]
    fn bytes_need_not_be_utf_8() {
        let bytes = b"\xff:\xfe\r\n";
        assert_eq!(read(bytes), [(&b"\xff"[..], &b"\xfe"[..])]);
        let headers = TextHeaders::new(bytes);
        assert_eq!(headers.value(b"\xff"), Some(&b"\xfe"[..]));
        let header = headers.iter().next().unwrap();
        assert_eq!((header.name_str(), header.value_str()), (None, None));
        assert_eq!(format!("{headers:?}"), "{\"\u{fffd}\": \"\u{fffd}\"}");
    }

    #[test]
    fn no_bytes_are_no_headers() {
        assert!(TextHeaders::new(b"").is_empty());
        assert_eq!(read(b""), []);
        assert!(
            !TextHeaders::new(b"\r\n").is_empty(),
            "bytes, though no header"
        );
    }

    #[test]
    fn what_is_written_reads_back() {
        let mut out = Vec::new();
        for (name, value) in [
            ("~connect_to", "tcp|127.0.0.1|7099"),
            ("k", "a:b"),
            ("k", "2"),
        ] {
            encode(&mut out, name.as_bytes(), value.as_bytes()).unwrap();
        }
        let headers = TextHeaders::new(&out);
        assert_eq!(headers.as_bytes(), out);
        assert_eq!(headers.value(CONNECT_TO), Some(&b"tcp|127.0.0.1|7099"[..]));
        assert_eq!(
            format!("{headers:?}"),
            r#"{"~connect_to": "tcp|127.0.0.1|7099", "k": "a:b", "k": "2"}"#
        );
    }
}
