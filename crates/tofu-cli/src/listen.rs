//! `tofucat listen`: what arrives is printed, and nobody but a hello or a bye is answered.

use std::slice;

use tofu::{Event, Message, OpType, Peer};

use crate::{
    args::ListenArguments,
    error::Failure,
    interrupt::Interrupt,
    output::Output,
    server::{Limits, Service, serve},
};

pub(crate) fn run(
    arguments: &ListenArguments,
    interrupt: &Interrupt,
    output: &mut Output,
) -> Result<(), Failure> {
    let addresses = slice::from_ref(&arguments.address);
    let options = arguments.allow.options("listen", addresses)?;
    serve(
        "listen",
        options,
        addresses,
        Limits::default(),
        &mut Listen,
        interrupt,
        output,
    )
}

struct Listen;

impl Service for Listen {
    fn observe(
        &mut self,
        event: &Event,
        peer: Option<Peer>,
        output: &mut Output,
    ) -> Result<(), Failure> {
        output.event_of(event, peer)
    }

    fn answer(&mut self, message: Message) -> Option<Message> {
        match message.op_code().op_type() {
            OpType::Hello | OpType::Bye => message.reply().ok(),
            OpType::Regular | OpType::Welcome => None,
        }
    }
}
