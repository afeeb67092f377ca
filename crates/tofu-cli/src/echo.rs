//! `tofucat echo`: everything that can be answered is answered with itself.

use tofu::Message;

use crate::{
    args::EchoArguments,
    error::Failure,
    interrupt::Interrupt,
    output::Output,
    server::{Limits, Service, serve},
};

pub(crate) fn run(
    arguments: &EchoArguments,
    interrupt: &Interrupt,
    output: &mut Output,
) -> Result<(), Failure> {
    let limits = Limits {
        time: arguments.max_time,
        byes: arguments.max_byes,
    };
    let options = arguments.allow.options("echo", &arguments.addresses)?;
    serve(
        "echo",
        options,
        &arguments.addresses,
        limits,
        &mut Echo,
        interrupt,
        output,
    )
}

struct Echo;

impl Service for Echo {
    fn answer(&mut self, message: Message) -> Option<Message> {
        message.into_reply().ok()
    }
}
