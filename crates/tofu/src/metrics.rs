//! What an engine has counted since it started.

use std::sync::atomic::{AtomicU64, Ordering};

use tofu_proto::{Status, Violation};

macro_rules! counters {
    ($($(#[$doc:meta])* $field:ident: $name:ident,)*) => {
        /// What an engine has counted since it started, and its present levels.
        ///
        /// Counters only grow. Each field is read by itself: together they are no picture of one moment.
        ///
        /// ```
        /// use std::time::Duration;
        /// use tofu::{Engine, Message, Options};
        ///
        /// let engine = Engine::new(Options::default())?;
        /// let mut group = engine.group()?;
        /// let welcome = Message::welcome_request(&"tcp://127.0.0.1:0".parse()?);
        /// group.call(welcome, Duration::from_secs(5))?;
        /// let metrics = engine.metrics();
        /// assert_eq!((metrics.channels_open, metrics.accepted), (1, 0));
        /// # Ok::<(), Box<dyn std::error::Error>>(())
        /// ```
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Metrics {
            $($(#[$doc])* pub $field: u64,)*
            /// Level: channels that are open now, listeners and half-open connections included.
            pub channels_open: usize,
            /// Level: accepted connections that have not said hello yet.
            pub half_open: usize,
            /// Level: messages of the pool that are out.
            pub pool_messages_out: usize,
            /// Level: bytes that wait to be sent.
            pub queued_bytes: usize,
        }

        impl Metrics {
            /// All of them with their names, levels last: to be exported, whatever the next version counts.
            ///
            /// ```
            /// use tofu::Metrics;
            ///
            /// let mut metrics = Metrics::default();
            /// metrics.accepted = 3;
            /// assert!(metrics.iter().any(|it| it == ("accepted", 3)));
            /// ```
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [
                    $((stringify!($field), self.$field),)*
                    ("channels_open", self.channels_open as u64),
                    ("half_open", self.half_open as u64),
                    ("pool_messages_out", self.pool_messages_out as u64),
                    ("queued_bytes", self.queued_bytes as u64),
                ]
                .into_iter()
            }
        }

        #[derive(Clone, Copy, Debug)]
        pub(crate) enum Counter { $($name,)* }

        impl Counters {
            pub(crate) fn read(&self) -> Metrics {
                Metrics {
                    $($field: self.values[Counter::$name as usize].load(Ordering::Relaxed),)*
                    ..Metrics::default()
                }
            }
        }

        const COUNTERS: usize = [$(Counter::$name),*].len();
    };
}

counters! {
    /// Connections accepted.
    accepted: Accepted,
    /// Connections closed as they were accepted, because as many channels were open as may be.
    refused_channels: RefusedChannels,
    /// Connections closed as they were accepted, because as many were half-open as may be.
    refused_half_open: RefusedHalfOpen,
    /// Connections closed as they were accepted, because their address is in none of the networks that may
    /// connect.
    refused_networks: RefusedNetworks,
    /// Connections closed as they were accepted, because their user is none of those who may connect, or
    /// the system did not say who it is.
    refused_users: RefusedUsers,
    /// Times that a listener paused because the process or the system was out of descriptors.
    out_of_descriptors: OutOfDescriptors,
    /// Connections closed because no HelloRequest came in time.
    hello_timeouts: HelloTimeouts,
    /// Connections closed because a frame was begun and not continued in time.
    frame_timeouts: FrameTimeouts,
    /// Channels closed because a bye was not answered in time.
    bye_timeouts: ByeTimeouts,
    /// Violations: op codes 10 to 15.
    unassigned_op_codes: UnassignedOpCodes,
    /// Violations: op codes that never travel.
    local_op_codes: LocalOpCodes,
    /// Violations: messages in the name of an engine.
    engine_origins: EngineOrigins,
    /// Violations: a first frame that is not HelloRequest, a second hello, a hello from the wrong side.
    misplaced_hellos: MisplacedHellos,
    /// Violations: a response with message id 0.
    responses_without_id: ResponsesWithoutId,
    /// Violations: `more` on hello or bye.
    misplaced_more: MisplacedMore,
    /// Violations: a ByeResponse that answers nothing, or a message behind a bye.
    misplaced_byes: MisplacedByes,
    /// Messages refused because a queue was full.
    queue_full: QueueFull,
    /// Times that the pool was found empty and reading stopped.
    pool_empty: PoolEmpty,
}

impl Metrics {
    /// Channels that were closed because the peer broke the protocol, in whichever way.
    ///
    /// ```
    /// use tofu::Metrics;
    ///
    /// let mut metrics = Metrics::default();
    /// metrics.misplaced_hellos = 2;
    /// metrics.misplaced_byes = 1;
    /// assert_eq!(metrics.violations(), 3);
    /// ```
    pub fn violations(&self) -> u64 {
        self.unassigned_op_codes
            + self.local_op_codes
            + self.engine_origins
            + self.misplaced_hellos
            + self.responses_without_id
            + self.misplaced_more
            + self.misplaced_byes
    }
}

#[derive(Debug)]
pub(crate) struct Counters {
    values: [AtomicU64; COUNTERS],
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            values: [const { AtomicU64::new(0) }; COUNTERS],
        }
    }
}

impl Counters {
    pub(crate) fn count(&self, counter: Counter) {
        self.values[counter as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a channel that was closed for this reason.
    pub(crate) fn count_close(&self, status: Status, violation: Option<Violation>) {
        let counter = match (status, violation) {
            (_, Some(violation)) => match violation {
                Violation::UnassignedOpCode(_) => Counter::UnassignedOpCodes,
                Violation::LocalOpCode(_) => Counter::LocalOpCodes,
                Violation::EngineOrigin(_) => Counter::EngineOrigins,
                Violation::HelloExpected(_) | Violation::UnexpectedHello(_) => {
                    Counter::MisplacedHellos
                }
                Violation::ResponseWithoutId(_) => Counter::ResponsesWithoutId,
                Violation::MoreNotAllowed(_) => Counter::MisplacedMore,
                // Also those that a later version of the protocol may name.
                _ => Counter::MisplacedByes,
            },
            (Status::HELLO_TIMEOUT, _) => Counter::HelloTimeouts,
            (Status::FRAME_TIMEOUT, _) => Counter::FrameTimeouts,
            (Status::BYE_TIMEOUT, _) => Counter::ByeTimeouts,
            _ => return,
        };
        self.count(counter);
    }
}
