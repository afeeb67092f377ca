//! What a message means: the op codes of PROTOCOL.md section 1.

use core::fmt;

/// What a message means (PROTOCOL.md section 1).
///
/// ```
/// # use tofu_proto as tofu;
/// use tofu::{OpCode, OpType, Role};
///
/// let hello = OpCode::HelloRequest;
/// assert_eq!((hello.op_type(), hello.role()), (OpType::Hello, Role::Request));
/// assert_eq!(hello.echo(), Some(OpCode::HelloResponse));
/// assert_eq!(hello.to_string(), "HelloRequest");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum OpCode {
    /// A message that expects a [`Response`](Self::Response).
    Request = 0,
    /// The answer to a request; carries its message id.
    Response = 1,
    /// A message that expects no answer.
    Signal = 2,
    /// Opens a connection: the client's first message.
    HelloRequest = 3,
    /// The server accepts.
    HelloResponse = 4,
    /// Closes gracefully: the last message of the side that asks.
    ByeRequest = 5,
    /// Answers a [`ByeRequest`](Self::ByeRequest): the last message of the side that answers.
    ByeResponse = 6,
    /// A local order to close at once; never on the wire.
    ByeSignal = 7,
    /// A local order to listen; never on the wire.
    WelcomeRequest = 8,
    /// The engine's answer to a [`WelcomeRequest`](Self::WelcomeRequest); never on the wire.
    WelcomeResponse = 9,
}

/// The four families of op codes.
///
/// ```
/// # use tofu_proto as tofu;
/// use tofu::{OpCode, OpType};
///
/// let byes = OpCode::ALL.into_iter().filter(|op| op.op_type() == OpType::Bye);
/// assert_eq!(byes.count(), 3);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OpType {
    /// Data: Request, Response, Signal.
    Regular,
    /// Opens a connection.
    Hello,
    /// Closes a channel.
    Bye,
    /// Opens a listener.
    Welcome,
}

/// The part that a message plays in an exchange.
///
/// ```
/// # use tofu_proto as tofu;
/// use tofu::{OpCode, Role};
///
/// assert_eq!(OpCode::ByeResponse.role(), Role::Response);
/// assert_eq!(OpCode::ByeSignal.role(), Role::Signal);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Expects an answer.
    Request,
    /// Is an answer: carries the id of its request.
    Response,
    /// Neither.
    Signal,
}

impl OpCode {
    /// Every op code, in the order of its number.
    pub const ALL: [Self; 10] = [
        Self::Request,
        Self::Response,
        Self::Signal,
        Self::HelloRequest,
        Self::HelloResponse,
        Self::ByeRequest,
        Self::ByeResponse,
        Self::ByeSignal,
        Self::WelcomeRequest,
        Self::WelcomeResponse,
    ];

    /// The op code with this number, if one is assigned.
    ///
    /// ```
    /// # use tofu_proto as tofu;
    /// use tofu::OpCode;
    ///
    /// assert_eq!(OpCode::from_code(2), Some(OpCode::Signal));
    /// assert_eq!(OpCode::from_code(10), None);
    /// ```
    #[inline]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }

    /// Its number on the wire.
    ///
    /// ```
    /// # use tofu_proto as tofu;
    /// assert_eq!(tofu::OpCode::ByeRequest.code(), 5);
    /// ```
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// Its name, as PROTOCOL.md writes it.
    ///
    /// ```
    /// # use tofu_proto as tofu;
    /// assert_eq!(tofu::OpCode::ByeRequest.name(), "ByeRequest");
    /// ```
    pub const fn name(self) -> &'static str {
        match self {
            Self::Request => "Request",
            Self::Response => "Response",
            Self::Signal => "Signal",
            Self::HelloRequest => "HelloRequest",
            Self::HelloResponse => "HelloResponse",
            Self::ByeRequest => "ByeRequest",
            Self::ByeResponse => "ByeResponse",
            Self::ByeSignal => "ByeSignal",
            Self::WelcomeRequest => "WelcomeRequest",
            Self::WelcomeResponse => "WelcomeResponse",
        }
    }

    /// The family it belongs to.
    ///
    /// ```
    /// # use tofu_proto as tofu;
    /// use tofu::{OpCode, OpType};
    ///
    /// assert_eq!(OpCode::Signal.op_type(), OpType::Regular);
    /// ```
    #[inline]
    pub const fn op_type(self) -> OpType {
        match self {
            Self::Request | Self::Response | Self::Signal => OpType::Regular,
            Self::HelloRequest | Self::HelloResponse => OpType::Hello,
            Self::ByeRequest | Self::ByeResponse | Self::ByeSignal => OpType::Bye,
            Self::WelcomeRequest | Self::WelcomeResponse => OpType::Welcome,
        }
    }

    /// The part it plays.
    ///
    /// ```
    /// # use tofu_proto as tofu;
    /// use tofu::{OpCode, Role};
    ///
    /// assert_eq!(OpCode::HelloResponse.role(), Role::Response);
    /// ```
    #[inline]
    pub const fn role(self) -> Role {
        match self {
            Self::Request | Self::HelloRequest | Self::ByeRequest | Self::WelcomeRequest => {
                Role::Request
            }
            Self::Response | Self::HelloResponse | Self::ByeResponse | Self::WelcomeResponse => {
                Role::Response
            }
            Self::Signal | Self::ByeSignal => Role::Signal,
        }
    }

    /// The op code that answers it.
    ///
    /// ```
    /// # use tofu_proto as tofu;
    /// use tofu::OpCode;
    ///
    /// assert_eq!(OpCode::Request.echo(), Some(OpCode::Response));
    /// assert_eq!(OpCode::Signal.echo(), Some(OpCode::Signal));
    /// assert_eq!(OpCode::Response.echo(), None);
    /// ```
    #[inline]
    pub const fn echo(self) -> Option<Self> {
        match self {
            Self::Request => Some(Self::Response),
            Self::Signal => Some(Self::Signal),
            Self::HelloRequest => Some(Self::HelloResponse),
            Self::ByeRequest => Some(Self::ByeResponse),
            Self::WelcomeRequest => Some(Self::WelcomeResponse),
            Self::Response
            | Self::HelloResponse
            | Self::ByeResponse
            | Self::ByeSignal
            | Self::WelcomeResponse => None,
        }
    }

    /// Whether a peer may send it: the others are orders to one's own engine (PROTOCOL.md section 1).
    ///
    /// ```
    /// # use tofu_proto as tofu;
    /// use tofu::OpCode;
    ///
    /// let local: Vec<_> = OpCode::ALL.into_iter().filter(|op| !op.travels()).collect();
    /// assert_eq!(local, [OpCode::ByeSignal, OpCode::WelcomeRequest, OpCode::WelcomeResponse]);
    /// ```
    pub const fn travels(self) -> bool {
        !matches!(
            self,
            Self::ByeSignal | Self::WelcomeRequest | Self::WelcomeResponse
        )
    }
}

impl fmt::Display for OpCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_positions() {
        for (code, op) in (0u8..).zip(OpCode::ALL) {
            assert_eq!(op.code(), code);
            assert_eq!(OpCode::from_code(code), Some(op));
        }
        for code in 10..=u8::MAX {
            assert_eq!(OpCode::from_code(code), None);
        }
    }

    #[test]
    fn an_echo_stays_in_its_family_and_answers_what_asks() {
        for op in OpCode::ALL {
            match op.echo() {
                Some(echo) => {
                    assert_eq!(echo.op_type(), op.op_type());
                    assert!(op == OpCode::Signal || echo.role() == Role::Response);
                }
                None => assert!(op.role() == Role::Response || op == OpCode::ByeSignal),
            }
        }
    }
}
