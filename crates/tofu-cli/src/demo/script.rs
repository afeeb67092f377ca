//! The play: what is said, and what must be heard.

use tofu::{Address, ChannelNumber, Message, MessageId, OpCode, Reason, Refusal, Status};

use super::{
    WHAT, failed,
    measure::{self, Numbers},
    server::{COUNT, PLEASE, SAY_BYE, SIGNALS},
    stage::Stage,
};
use crate::{error::Failure, server_process::ServerProcess};

/// One performance.
pub(super) struct Act {
    pub(super) transport: &'static str,
    pub(super) listen_on: Address,
    /// An address on which nobody listens.
    pub(super) nobody_there: Address,
    /// What comes of connecting there.
    pub(super) refused_with: Status,
    /// The client says bye otherwise.
    pub(super) does_server_say_bye: bool,
}

/// Plays an act to its end.
pub(super) fn play(act: &Act, stage: &mut Stage<'_>) -> Result<Numbers, Failure> {
    stage.timeline().title(&format!("over {}", act.transport))?;
    let server = ServerProcess::start(WHAT, "demo-server", &act.listen_on, &[])?;
    let (address, process) = (&server.address, server.id());
    stage.timeline().aside(format_args!(
        "the server, process {process}, listens on {address}"
    ))?;
    let channel = hello(address, stage)?;
    requests(channel, stage)?;
    stream(channel, stage)?;
    let signals = signals(channel, stage)?;
    connect_in_vain(act, stage)?;
    stage
        .timeline()
        .aside("the same channel at full speed, not shown")?;
    let numbers = measure::measure(channel, signals, stage)?;
    if act.does_server_say_bye {
        bye_of_server(channel, stage)?;
    } else {
        bye_of_client(channel, stage)?;
    }
    request_in_vain(channel, stage)?;
    server.end()?;
    stage
        .timeline()
        .aside(format_args!("process {process} has ended by itself"))?;
    Ok(numbers)
}

fn hello(address: &Address, stage: &mut Stage<'_>) -> Result<ChannelNumber, Failure> {
    let hello = Message::hello_request(address).with_body("hello, is this tofu?");
    let asked = stage.say(hello)?;
    stage.answer(asked)?;
    Ok(asked.channel)
}

/// Requests need not wait for each other's answers.
fn requests(channel: ChannelNumber, stage: &mut Stage<'_>) -> Result<(), Failure> {
    let words = ["silken", "firm", "smoked"];
    let mut asked = Vec::new();
    for word in words {
        asked.push(stage.say(Message::request(channel).with_body(word))?);
    }
    for (word, asked) in words.into_iter().zip(asked) {
        let answer = stage.answer(asked)?;
        check(
            answer.body() == word.to_uppercase().as_bytes(),
            "an answer in capitals",
        )?;
    }
    Ok(())
}

/// One request in several messages, with one id.
fn stream(channel: ChannelNumber, stage: &mut Stage<'_>) -> Result<(), Failure> {
    let parts = [
        "a payload of any size ",
        "is sent in parts ",
        "that share one id",
    ];
    let mut id = MessageId::UNASSIGNED;
    let mut asked = None;
    for (position, part) in parts.into_iter().enumerate() {
        let has_more = position + 1 < parts.len();
        let message = Message::request(channel).with_id(id).with_more(has_more);
        let header = stage.say(message.with_body(part))?;
        id = header.id;
        asked = Some(header);
    }
    let asked = asked.ok_or_else(|| failed("a stream without parts"))?;
    let answer = stage.answer(asked)?;
    let bytes: usize = parts.iter().map(|part| part.len()).sum();
    let text = format!("{} parts, {bytes} bytes", parts.len());
    check(answer.body() == text.as_bytes(), &text)
}

/// Signals are not answered: a request behind them tells that they have arrived. Gives how many.
fn signals(channel: ChannelNumber, stage: &mut Stage<'_>) -> Result<u64, Failure> {
    let words = ["soak", "grind", "press"];
    for word in words {
        stage.say(Message::signal(channel).with_body(word))?;
    }
    let asked = stage.say(Message::request(channel).with_header(COUNT, SIGNALS))?;
    let answer = stage.answer(asked)?;
    let count = words.len().to_string();
    check(
        answer.header(SIGNALS) == Some(&count),
        "the number of signals",
    )?;
    Ok(words.len() as u64)
}

fn connect_in_vain(act: &Act, stage: &mut Stage<'_>) -> Result<(), Failure> {
    stage
        .timeline()
        .aside("what goes wrong comes back and says why")?;
    let asked = stage.say(Message::hello_request(&act.nobody_there))?;
    let returned = stage.returned(asked)?;
    let closed = stage.closed(asked.channel)?;
    check_reason(returned, act.refused_with)?;
    check_reason(closed, act.refused_with)
}

fn bye_of_client(channel: ChannelNumber, stage: &mut Stage<'_>) -> Result<(), Failure> {
    let asked = stage.say(Message::bye_request(channel).with_body("that was all"))?;
    stage.answer(asked)?;
    check_reason(stage.closed(channel)?, Status::CHANNEL_CLOSED)
}

fn bye_of_server(channel: ChannelNumber, stage: &mut Stage<'_>) -> Result<(), Failure> {
    stage.say(Message::signal(channel).with_header(PLEASE, SAY_BYE))?;
    let bye = stage.message(OpCode::ByeRequest)?;
    stage.say(bye.reply().map_err(failed)?.with_body("good night"))?;
    check_reason(stage.closed(channel)?, Status::CHANNEL_CLOSED)
}

/// A message that cannot be sent is refused at once, and given back.
fn request_in_vain(channel: ChannelNumber, stage: &mut Stage<'_>) -> Result<(), Failure> {
    let refused = stage.post(Message::request(channel).with_body("anybody there?"));
    let Err(error) = refused else {
        return Err(failed("a request on a closed channel was taken"));
    };
    let is_right = matches!(error.refusal(), Refusal::InvalidChannelNumber(_));
    check(is_right, "a refusal of the channel number")?;
    let (op_code, refusal) = (error.message().op_code(), error.refusal());
    stage
        .timeline()
        .aside(format_args!("{op_code} refused: {refusal}"))
}

fn check_reason(reason: Reason, status: Status) -> Result<(), Failure> {
    if reason.status() == status {
        return Ok(());
    }
    Err(failed(format_args!("expected {status}, but: {reason}")))
}

fn check(is_right: bool, wanted: &str) -> Result<(), Failure> {
    if is_right {
        return Ok(());
    }
    Err(failed(format_args!(
        "expected {wanted}, but heard something else"
    )))
}
