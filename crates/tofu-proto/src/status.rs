//! Status codes: one byte that says why a message came back or a channel closed.
//!
//! The space is open. Numbers below 64 are the original tofu's, those from 64 on are local to this
//! library, and a number that nobody knows yet survives and prints as such. A status never crosses
//! the wire with a meaning: peers send 0 (PROTOCOL.md section 1).
//!
//! One table, at the end of this page, holds every number with its name, its sentence and its
//! nearest general code.

use core::fmt;

/// Why a message came back, or a channel closed.
///
/// ```
/// # use tofu_proto as tofu;
/// use tofu::Status;
///
/// let status = Status::from_code(64);
/// assert_eq!(status, Status::CONNECT_REFUSED);
/// assert_eq!(status.to_string(), "connect_refused");
/// assert_eq!(
///     status.describe(),
///     "connection refused: nobody listens on that address"
/// );
/// assert_eq!(status.general(), Status::CONNECT_FAILED);
///
/// // A number that nobody knows yet.
/// assert_eq!(Status::from_code(200).to_string(), "status 200");
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Status(u8);

impl Status {
    /// The first number that is local to this library.
    const FIRST_LOCAL: u8 = 64;

    /// The status with this number, known or not.
    ///
    /// ```
    /// # use tofu_proto as tofu;
    /// use tofu::Status;
    ///
    /// assert_eq!(Status::from_code(22), Status::CHANNEL_CLOSED);
    /// ```
    #[inline]
    pub const fn from_code(code: u8) -> Self {
        Self(code)
    }

    /// The plain number.
    ///
    /// ```
    /// # use tofu_proto as tofu;
    /// use tofu::Status;
    ///
    /// assert_eq!(Status::QUEUE_FULL.code(), 74);
    /// ```
    #[inline]
    pub const fn code(self) -> u8 {
        self.0
    }

    /// Whether this is [`SUCCESS`](Self::SUCCESS).
    ///
    /// ```
    /// # use tofu_proto as tofu;
    /// use tofu::Status;
    ///
    /// assert!(Status::SUCCESS.is_success());
    /// assert!(!Status::CHANNEL_CLOSED.is_success()); // graceful as it may be: see `Reason::is_graceful`
    /// ```
    pub const fn is_success(self) -> bool {
        self.0 == Self::SUCCESS.0
    }

    /// The name, as in `connect_refused`; none for a number that is not known.
    ///
    /// ```
    /// # use tofu_proto as tofu;
    /// use tofu::Status;
    ///
    /// assert_eq!(Status::QUEUE_FULL.name(), Some("queue_full"));
    /// assert_eq!(Status::from_code(200).name(), None);
    /// ```
    pub const fn name(self) -> Option<&'static str> {
        match self.row() {
            Some(row) => Some(row.name),
            None => None,
        }
    }

    /// What happened, and what to do about it where that is known, in lower case and without a full
    /// stop.
    ///
    /// ```
    /// # use tofu_proto as tofu;
    /// use tofu::Status;
    ///
    /// let told = Status::QUEUE_FULL.describe();
    /// assert_eq!(told, "the send queue is full: post again when there is room");
    /// ```
    pub const fn describe(self) -> &'static str {
        match self.row() {
            Some(row) => row.sentence,
            None => "a status that this version of tofu does not know",
        }
    }

    /// The nearest of the original's codes, for programs that know only those.
    ///
    /// | status | general |
    /// | --- | --- |
    /// | below 64 | itself |
    /// | `connect_refused`, `connect_timeout` | `connect_failed` |
    /// | `name_not_resolved` | `invalid_address` |
    /// | `address_in_use`, `address_not_available`, `permission_denied` | `listen_failed`: the nearest for a listener; who connects may take `connect_failed` |
    /// | `hello_timeout`, `frame_timeout`, `bye_timeout` | `communication_failed` |
    /// | `protocol_violation` | `invalid_message` |
    /// | `channel_closing` | `channel_closed` |
    /// | `queue_full`, `too_many_channels`, `too_many_open_files` | `allocation_failed`: a bound is reached |
    /// | from 64 on, not known | `unknown_error` |
    ///
    /// ```
    /// # use tofu_proto as tofu;
    /// use tofu::Status;
    ///
    /// assert_eq!(Status::BYE_TIMEOUT.general(), Status::COMMUNICATION_FAILED);
    /// assert_eq!(Status::CONNECT_FAILED.general(), Status::CONNECT_FAILED);
    /// ```
    #[must_use]
    pub const fn general(self) -> Self {
        match self.row() {
            Some(row) => row.general,
            None if self.0 < Self::FIRST_LOCAL => self,
            None => Self::UNKNOWN_ERROR,
        }
    }
}

impl From<u8> for Status {
    fn from(code: u8) -> Self {
        Self::from_code(code)
    }
}

impl From<Status> for u8 {
    fn from(status: Status) -> Self {
        status.code()
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.pad(name),
            None => write!(f, "status {}", self.0),
        }
    }
}

/// As [`Display`](fmt::Display): the name says all there is.
impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What the table says of one number.
struct Row {
    name: &'static str,
    sentence: &'static str,
    general: Status,
}

/// Makes the constants and the look-up from the table.
macro_rules! statuses {
    ($($code:literal $constant:ident $name:literal -> $general:ident, $sentence:literal;)+) => {
        impl Status {
            $(
                #[doc = concat!("`", $name, "`: ", $sentence, ".")]
                pub const $constant: Self = Self($code);
            )+

            const fn row(self) -> Option<Row> {
                match self.0 {
                    $(
                        $code => Some(Row {
                            name: $name,
                            sentence: $sentence,
                            general: Self::$general,
                        }),
                    )+
                    _ => None,
                }
            }
        }

        #[cfg(test)]
        const CONSTANTS: &[(&str, Status)] = &[$((stringify!($constant), Status::$constant)),+];
    };
}

statuses! {
    0 SUCCESS "success" -> SUCCESS,
        "all went well";
    1 NOT_IMPLEMENTED_YET "not_implemented_yet" -> NOT_IMPLEMENTED_YET,
        "this is not implemented yet";
    2 WRONG_ADDRESS "wrong_address" -> WRONG_ADDRESS,
        "the message does not say where: give a hello ~connect_to, a welcome ~listen_on";
    3 NOT_ALLOWED "not_allowed" -> NOT_ALLOWED,
        "the message is not allowed on this channel";
    4 NULL_MESSAGE "null_message" -> NULL_MESSAGE,
        "there is no message";
    5 INVALID_MESSAGE "invalid_message" -> INVALID_MESSAGE,
        "the message breaks a rule of the protocol";
    6 INVALID_OP_CODE "invalid_op_code" -> INVALID_OP_CODE,
        "the op code cannot be posted";
    7 INVALID_HEADERS_LEN "invalid_headers_len" -> INVALID_HEADERS_LEN,
        "the text headers are too long: a message has at most 65535 bytes of them";
    8 INVALID_BODY_LEN "invalid_body_len" -> INVALID_BODY_LEN,
        "the body is too long: split it over messages of at most 65535 bytes with the more flag";
    9 INVALID_MORE_USAGE "invalid_more_usage" -> INVALID_MORE_USAGE,
        "the more flag is only for requests, responses and signals";
    10 INVALID_CHANNEL_NUMBER "invalid_channel_number" -> INVALID_CHANNEL_NUMBER,
        "no channel has this number, or none any more";
    11 INVALID_CHANNEL_GROUP "invalid_channel_group" -> INVALID_CHANNEL_GROUP,
        "the channel belongs to another group";
    12 INVALID_MESSAGE_ID "invalid_message_id" -> INVALID_MESSAGE_ID,
        "a response carries the id of its request, which is not 0";
    13 INVALID_ADDRESS "invalid_address" -> INVALID_ADDRESS,
        "the address is not valid: write tcp|host|port or uds|path";
    14 UDS_PATH_NOT_FOUND "uds_path_not_found" -> UDS_PATH_NOT_FOUND,
        "the uds path does not exist: nobody listens there, or its directory is missing";
    15 NOTIFICATION_DISABLED "notification_disabled" -> NOTIFICATION_DISABLED,
        "notifications are disabled";
    16 NOTIFICATION_FAILED "notification_failed" -> NOTIFICATION_FAILED,
        "the notification could not be delivered";
    17 PEER_DISCONNECTED "peer_disconnected" -> PEER_DISCONNECTED,
        "the peer went away without a bye";
    18 COMMUNICATION_FAILED "communication_failed" -> COMMUNICATION_FAILED,
        "the communication with the peer failed";
    19 POOL_EMPTY "pool_empty" -> POOL_EMPTY,
        "the pool has no message left: drop messages that are done with, or enlarge the pool";
    20 ALLOCATION_FAILED "allocation_failed" -> ALLOCATION_FAILED,
        "there is no memory left, or a bound is reached";
    21 RECEIVER_UPDATE "receiver_update" -> RECEIVER_UPDATE,
        "another thread notified the receiver";
    22 CHANNEL_CLOSED "channel_closed" -> CHANNEL_CLOSED,
        "the channel is closed";
    23 SHUTDOWN_STARTED "shutdown_started" -> SHUTDOWN_STARTED,
        "the engine or this channel group is shutting down";
    24 CONNECT_FAILED "connect_failed" -> CONNECT_FAILED,
        "the connection could not be made";
    25 LISTEN_FAILED "listen_failed" -> LISTEN_FAILED,
        "the listener could not be started";
    26 ACCEPT_FAILED "accept_failed" -> ACCEPT_FAILED,
        "a connection could not be accepted";
    27 SEND_FAILED "send_failed" -> SEND_FAILED,
        "sending failed";
    28 RECV_FAILED "recv_failed" -> RECV_FAILED,
        "receiving failed";
    29 SETSOCKOPT_FAILED "setsockopt_failed" -> SETSOCKOPT_FAILED,
        "a socket option could not be set";
    30 PROCESSING_FAILED "processing_failed" -> PROCESSING_FAILED,
        "the engine could not process the message";
    31 UNKNOWN_ERROR "unknown_error" -> UNKNOWN_ERROR,
        "something failed that has no status of its own";

    64 CONNECT_REFUSED "connect_refused" -> CONNECT_FAILED,
        "connection refused: nobody listens on that address";
    65 CONNECT_TIMEOUT "connect_timeout" -> CONNECT_FAILED,
        "the connection was not made in time: the host may be down, or a firewall is in the way";
    66 NAME_NOT_RESOLVED "name_not_resolved" -> INVALID_ADDRESS,
        "the host name has no address: check its spelling and the name service";
    67 ADDRESS_IN_USE "address_in_use" -> LISTEN_FAILED,
        "the address is in use: stop whoever listens there, or choose another";
    68 ADDRESS_NOT_AVAILABLE "address_not_available" -> LISTEN_FAILED,
        "the address is not available: it belongs to no interface of this machine";
    69 PERMISSION_DENIED "permission_denied" -> LISTEN_FAILED,
        "permission denied: this user may not use that address";
    70 HELLO_TIMEOUT "hello_timeout" -> COMMUNICATION_FAILED,
        "the peer did not say hello in time";
    71 FRAME_TIMEOUT "frame_timeout" -> COMMUNICATION_FAILED,
        "the peer began a message and did not finish it in time";
    72 BYE_TIMEOUT "bye_timeout" -> COMMUNICATION_FAILED,
        "the peer did not answer the bye in time";
    73 PROTOCOL_VIOLATION "protocol_violation" -> INVALID_MESSAGE,
        "the peer broke the protocol";
    74 QUEUE_FULL "queue_full" -> ALLOCATION_FAILED,
        "the send queue is full: post again when there is room";
    75 CHANNEL_CLOSING "channel_closing" -> CHANNEL_CLOSED,
        "bye was said on this channel: it takes nothing more";
    76 TOO_MANY_CHANNELS "too_many_channels" -> ALLOCATION_FAILED,
        "as many channels are open as the options allow: close some, or raise the option";
    77 TOO_MANY_OPEN_FILES "too_many_open_files" -> ALLOCATION_FAILED,
        "too many open files: close some, or raise the limit of the process";
}

#[cfg(test)]
mod tests {
    use alloc::{
        format,
        string::{String, ToString},
        vec::Vec,
    };

    use super::*;

    const ORIGINAL: &str = "success not_implemented_yet wrong_address not_allowed null_message \
        invalid_message invalid_op_code invalid_headers_len invalid_body_len invalid_more_usage \
        invalid_channel_number invalid_channel_group invalid_message_id invalid_address \
        uds_path_not_found notification_disabled notification_failed peer_disconnected \
        communication_failed pool_empty allocation_failed receiver_update channel_closed \
        shutdown_started connect_failed listen_failed accept_failed send_failed recv_failed \
        setsockopt_failed processing_failed unknown_error";
    const LOCAL: &str = "connect_refused connect_timeout name_not_resolved address_in_use \
        address_not_available permission_denied hello_timeout frame_timeout bye_timeout \
        protocol_violation queue_full channel_closing too_many_channels too_many_open_files";

    fn promised() -> Vec<(u8, &'static str)> {
        let original = (0..).zip(ORIGINAL.split_whitespace());
        original
            .chain((64..).zip(LOCAL.split_whitespace()))
            .collect()
    }

    #[test]
    fn every_number_has_its_name_and_its_constant() {
        let promised = promised();
        assert_eq!(promised.len(), CONSTANTS.len());
        for ((code, name), (constant, status)) in promised.into_iter().zip(CONSTANTS) {
            assert_eq!((status.code(), status.name()), (code, Some(name)));
            assert_eq!(*constant, name.to_uppercase());
            assert_eq!(format!("{status} {status:?}"), format!("{name} {name}"));
        }
    }

    #[test]
    fn unknown_numbers_survive_and_print_as_such() {
        let known: Vec<u8> = promised().into_iter().map(|(code, _)| code).collect();
        for code in 0..=u8::MAX {
            let status = Status::from(code);
            assert_eq!((status.code(), u8::from(status)), (code, code));
            if !known.contains(&code) {
                assert_eq!(status.name(), None);
                assert_eq!(status.to_string(), format!("status {code}"));
                assert_eq!(format!("{status:?}"), format!("status {code}"));
                assert!(!status.describe().is_empty());
            }
        }
    }

    #[test]
    fn only_0_is_success() {
        assert_eq!(Status::default(), Status::SUCCESS);
        for code in 0..=u8::MAX {
            assert_eq!(Status::from_code(code).is_success(), code == 0);
        }
    }

    #[test]
    fn the_originals_codes_are_general_and_nothing_else_is() {
        for code in 0..=u8::MAX {
            let status = Status::from_code(code);
            let general = status.general();
            if code < 64 {
                assert_eq!(general, status);
            } else {
                assert!(general.code() < 32 && !general.is_success(), "{status}");
            }
        }
    }

    #[test]
    fn local_codes_have_their_nearest() {
        let nearest: Vec<String> = LOCAL
            .split_whitespace()
            .zip(64..)
            .map(|(name, code)| format!("{name}={}", Status::from_code(code).general()))
            .collect();
        assert_eq!(
            nearest,
            [
                "connect_refused=connect_failed",
                "connect_timeout=connect_failed",
                "name_not_resolved=invalid_address",
                "address_in_use=listen_failed",
                "address_not_available=listen_failed",
                "permission_denied=listen_failed",
                "hello_timeout=communication_failed",
                "frame_timeout=communication_failed",
                "bye_timeout=communication_failed",
                "protocol_violation=invalid_message",
                "queue_full=allocation_failed",
                "channel_closing=channel_closed",
                "too_many_channels=allocation_failed",
                "too_many_open_files=allocation_failed",
            ]
        );
        assert_eq!(Status::from_code(78).general(), Status::UNKNOWN_ERROR);
    }

    #[test]
    fn sentences_are_lower_case_without_full_stop() {
        for (_, status) in CONSTANTS {
            let sentence = status.describe();
            assert!(!sentence.ends_with('.'), "{status}: {sentence}");
            assert!(
                sentence.starts_with(|first: char| first.is_ascii_lowercase()),
                "{sentence}"
            );
        }
    }
}
