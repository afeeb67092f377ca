//! Warnings, for whoever looks after the program: what no event tells. With the feature `tracing` only.

use std::io;

use tofu_proto::ChannelNumber;

use crate::{Peer, Reason};

/// A listener pauses, for the process or the system is out of descriptors.
#[cfg_attr(
    not(feature = "tracing"),
    expect(unused_variables, reason = "nobody is told")
)]
pub(crate) fn out_of_descriptors(listener: ChannelNumber, error: &io::Error) {
    #[cfg(feature = "tracing")]
    tracing::warn!(channel = listener.get(), %error, "listener pauses: too many open files");
}

/// A peer broke the protocol, and its channel is closed for it: the application hears nothing if it had not
/// said hello.
#[cfg_attr(
    not(feature = "tracing"),
    expect(unused_variables, reason = "nobody is told")
)]
pub(crate) fn violation(channel: ChannelNumber, peer: Option<Peer>, reason: Reason) {
    #[cfg(feature = "tracing")]
    tracing::warn!(channel = channel.get(), ?peer, %reason, "a peer broke the protocol");
}
