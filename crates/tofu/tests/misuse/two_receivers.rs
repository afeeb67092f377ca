//! A group has one receiver.

use tofu::{ChannelGroup, Event, RecvError};

fn receive_twice(group: &mut ChannelGroup) -> Result<(Event, Event), RecvError> {
    let first = &mut *group;
    let second = &mut *group;
    Ok((first.recv()?, second.recv()?))
}

fn main() {}
