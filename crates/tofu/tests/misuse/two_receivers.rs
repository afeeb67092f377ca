//! A group has one receiver.

use std::thread;

use tofu::ChannelGroup;

fn receive_twice(mut group: ChannelGroup) {
    thread::scope(|scope| {
        scope.spawn(|| group.recv());
        scope.spawn(|| group.recv());
    });
}

fn main() {}
