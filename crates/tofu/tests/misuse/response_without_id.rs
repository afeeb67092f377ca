//! A response says which request it answers: make it with `Message::reply`.

use tofu::{ChannelGroup, ChannelNumber, Message, OpCode};

fn answer(group: &ChannelGroup, channel: ChannelNumber) {
    let _ = group.post(Message::new(OpCode::Response, channel));
}

fn main() {}
