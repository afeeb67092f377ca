//! Closing a group takes it.

use std::time::Duration;

use tofu::ChannelGroup;

fn receive_after_close(mut group: ChannelGroup) {
    let _report = group.close(Duration::from_secs(1));
    let _ = group.recv();
}

fn main() {}
