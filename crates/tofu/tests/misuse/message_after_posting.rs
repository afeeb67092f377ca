//! A message that was posted is the engine's.

use tofu::{ChannelGroup, ChannelNumber, Message};

fn post_twice(group: &ChannelGroup, channel: ChannelNumber) {
    let message = Message::signal(channel);
    let _ = group.post(message);
    let _ = group.post(message);
}

fn main() {}
