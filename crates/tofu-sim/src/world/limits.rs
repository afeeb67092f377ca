//! What a simulated engine may hold, and how patient it is.

use std::time::Duration;

use tofu::Options;

/// The options of a simulated engine, and what the ledger holds it to.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Messages of the pool at first.
    pub pool_messages_initial: usize,
    /// And at most.
    pub pool_messages: usize,
    /// Bytes that may be queued on a channel.
    pub channel_queue_bytes: usize,
    /// And on all channels of the engine.
    pub engine_queue_bytes: usize,
    /// Channels that may be open.
    pub channels: usize,
    /// Connections that may be without their hello.
    pub half_open: usize,
    /// See [`Options::hello_timeout`].
    pub hello_timeout: Duration,
    /// See [`Options::connect_timeout`].
    pub connect_timeout: Duration,
    /// See [`Options::frame_timeout`].
    pub frame_timeout: Duration,
    /// See [`Options::bye_timeout`].
    pub bye_timeout: Duration,
    /// See [`Options::drain_timeout`].
    pub drain_timeout: Duration,
}

impl Default for Limits {
    /// The sizes are those of [`Options::default`]. Each timeout is 60 s, longer than by default: time costs nothing
    /// here, and what a conversation must survive should not end it.
    fn default() -> Self {
        Self {
            pool_messages_initial: 64,
            pool_messages: 1_024,
            channel_queue_bytes: 8 << 20,
            engine_queue_bytes: 256 << 20,
            channels: 65_534,
            half_open: 1_024,
            hello_timeout: Duration::from_secs(60),
            connect_timeout: Duration::from_secs(60),
            frame_timeout: Duration::from_secs(60),
            bye_timeout: Duration::from_secs(60),
            drain_timeout: Duration::from_secs(60),
        }
    }
}

impl Limits {
    pub(super) fn options(&self) -> Options {
        Options::default()
            .pool_messages(self.pool_messages_initial, self.pool_messages)
            .queue_bytes(self.channel_queue_bytes, self.engine_queue_bytes)
            .channels_max(self.channels)
            .half_open_max(self.half_open)
            .hello_timeout(self.hello_timeout)
            .connect_timeout(self.connect_timeout)
            .frame_timeout(self.frame_timeout)
            .bye_timeout(self.bye_timeout)
            .drain_timeout(self.drain_timeout)
    }
}
