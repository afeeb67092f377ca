//! An application that follows its script, and knows from PROTOCOL.md alone what it may say.
//!
//! It keeps its own account of what was said, apart from the connection's state machine, so that the
//! two can be held against each other.

use std::collections::VecDeque;

use tofu_proto::{ChannelNumber, Instant, Message, MessageId, OpCode, OpType, Side};

use super::{Bye, Random, Script};

/// One side's application.
#[derive(Debug)]
pub(crate) struct Application {
    side: Side,
    channel: ChannelNumber,
    script: Script,
    /// Delivered, and not looked at.
    inbox: VecDeque<Message>,
    /// To be posted before anything else: answers, and what found no room.
    outbox: VecDeque<Message>,
    posts_left: usize,
    next_id: u64,
    said: Said,
    /// The ByeRequest that it has looked at.
    bye_to_answer: Option<MessageId>,
    /// It does nothing before.
    pub(crate) busy_until: Instant,
    /// It waits until fewer bytes than these are queued.
    pub(crate) waits_below: Option<usize>,
}

/// What was said and heard on a channel, as far as the application was told.
#[expect(
    clippy::struct_excessive_bools,
    reason = "seven facts, each of which may be true on its own; that the connection's states are \
              all there is to them is what is checked"
)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Said {
    pub(crate) hello: bool,
    pub(crate) hello_answer: bool,
    pub(crate) bye: bool,
    pub(crate) bye_answer: bool,
    pub(crate) heard_bye: bool,
    pub(crate) heard_bye_answer: bool,
    pub(crate) bye_signal: bool,
}

impl Application {
    pub(crate) fn new(side: Side, channel: ChannelNumber, script: Script) -> Self {
        Self {
            side,
            channel,
            script,
            inbox: VecDeque::new(),
            outbox: VecDeque::new(),
            posts_left: script.posts,
            next_id: 0,
            said: Said {
                hello: side == Side::Client,
                ..Said::default()
            },
            bye_to_answer: None,
            busy_until: Instant::ORIGIN,
            waits_below: None,
        }
    }

    pub(crate) fn said(&self) -> Said {
        self.said
    }

    /// It closes without a word.
    pub(crate) fn abandons(&mut self) {
        self.said.bye_signal = true;
    }

    /// Whether PROTOCOL.md section 3 and the promises on posting let it post this.
    pub(crate) fn may_post(&self, op_code: OpCode) -> bool {
        let said = &self.said;
        let may_speak = said.hello && !said.bye && !said.bye_answer;
        match op_code {
            OpCode::Request | OpCode::Response | OpCode::Signal | OpCode::ByeRequest => may_speak,
            OpCode::HelloResponse => {
                may_speak && self.side == Side::Server && !self.said.hello_answer
            }
            OpCode::ByeResponse => said.heard_bye && !said.bye_answer,
            // The others are orders to the engine, which never reach a connection.
            OpCode::HelloRequest
            | OpCode::ByeSignal
            | OpCode::WelcomeRequest
            | OpCode::WelcomeResponse => false,
        }
    }

    pub(crate) fn has_mail(&self) -> bool {
        !self.inbox.is_empty()
    }

    pub(crate) fn deliver(&mut self, message: Message) {
        match message.op_code() {
            OpCode::HelloRequest => self.said.hello = true,
            OpCode::ByeRequest => self.said.heard_bye = true,
            OpCode::ByeResponse => self.said.heard_bye_answer = true,
            _ => {}
        }
        self.inbox.push_back(message);
    }

    /// Looks at the next message, and may make an answer of it.
    pub(crate) fn handle(&mut self, random: &mut Random) -> Option<OpCode> {
        let message = self.inbox.pop_front()?;
        let op_code = message.op_code();
        if op_code == OpCode::ByeRequest {
            self.bye_to_answer = Some(message.id());
        } else if op_code.echo().is_some() && random.percent(self.script.answers) {
            let answer = if random.percent(50) {
                message.into_reply()
            } else {
                message.reply()
            };
            let answer = answer.expect("its op code has an echo");
            // To answer signals with signals would never end.
            if answer.op_code() != OpCode::Signal && self.may_post(answer.op_code()) {
                self.outbox.push_back(answer);
                self.let_go_of_the_pool();
            }
        }
        Some(op_code)
    }

    /// Whether it has anything to say now.
    pub(crate) fn wants_to_speak(&self) -> bool {
        self.next_op_code().is_some()
    }

    /// What it says next.
    fn next_op_code(&self) -> Option<OpCode> {
        if let Some(answer) = self.outbox.front()
            && self.may_post(answer.op_code())
        {
            return Some(answer.op_code());
        }
        let may_speak = self.may_post(OpCode::Signal);
        let must_answer = self.bye_to_answer.is_some() && !self.said.bye_answer;
        let has_more = may_speak && self.posts_left > 0;
        if has_more && (!must_answer || self.script.finishes) {
            return Some(OpCode::Signal);
        }
        let says_bye = match self.script.bye {
            Bye::First => !must_answer || self.script.finishes,
            Bye::WhenHeard => must_answer,
            Bye::Answers => false,
        };
        if may_speak && says_bye {
            return Some(OpCode::ByeRequest);
        }
        must_answer.then_some(OpCode::ByeResponse)
    }

    /// What it says next, or tries to.
    pub(crate) fn speak(&mut self, random: &mut Random) -> Option<Message> {
        self.busy_until = self.busy_until + random.duration(self.script.pause);
        if random.percent(self.script.mischief) {
            let op_code = random.pick(&OpCode::ALL);
            if !self.may_post(op_code) {
                return Some(Message::new(op_code, self.channel, 1).with_body("?"));
            }
        }
        let op_code = self.next_op_code()?;
        if self.outbox.front().map(Message::op_code) == Some(op_code) {
            return self.outbox.pop_front();
        }
        match op_code {
            OpCode::Signal => Some(self.compose(random)),
            OpCode::ByeResponse => {
                let id = self.bye_to_answer?;
                Some(Message::new(op_code, self.channel, id))
            }
            _ => Some(Message::new(op_code, self.channel, 0)),
        }
    }

    fn compose(&mut self, random: &mut Random) -> Message {
        self.posts_left -= 1;
        let op_code = random.pick(&[OpCode::Request, OpCode::Response, OpCode::Signal]);
        let mut message = Message::new(op_code, self.channel, 0).with_more(random.percent(20));
        if op_code == OpCode::Response || random.percent(50) {
            self.next_id += 1;
            message = message.with_id((1 << 32) + self.next_id);
        }
        if random.percent(30) {
            message = message.with_header("n", random.next_u64().to_string());
        }
        let len = match random.below(4) {
            0 => 0,
            1 => self.script.body_max,
            _ => random.between(0, self.script.body_max),
        };
        let salt = random.next_u64().to_be_bytes();
        let body: Vec<u8> = salt.into_iter().cycle().take(len).collect();
        message.with_body(body)
    }

    /// There was no room: it comes first when there is.
    pub(crate) fn wait_with(&mut self, message: Message, queued_bytes: usize) {
        self.outbox.push_front(message);
        self.waits_below = Some(queued_bytes);
        self.let_go_of_the_pool();
    }

    /// What waits for room must not starve the receiver that it came from: two applications that both
    /// do so would wait for each other for ever, and no protocol can help them.
    fn let_go_of_the_pool(&mut self) {
        if self.waits_below.is_some() {
            for message in &mut self.outbox {
                *message = message.clone();
            }
        }
    }

    pub(crate) fn posted(&mut self, op_code: OpCode) {
        match op_code {
            OpCode::HelloResponse => self.said.hello_answer = true,
            OpCode::ByeRequest => self.said.bye = true,
            OpCode::ByeResponse => self.said.bye_answer = true,
            _ => {}
        }
        if op_code.op_type() == OpType::Bye {
            // What it still had to answer is not said any more.
            self.outbox.clear();
        }
    }

    /// It lets go of everything that it holds.
    pub(crate) fn leave(&mut self) {
        self.inbox.clear();
        self.outbox.clear();
        self.posts_left = 0;
    }
}
