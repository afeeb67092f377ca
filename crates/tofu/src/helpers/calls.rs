//! Many requests at once, each with a deadline and exactly one outcome.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
    time::Instant,
};

use tofu_proto::{ChannelNumber, Header, Message, MessageId, OpType, PostError, Refusal, Role};

use super::Post;
use crate::{Event, Reason};

/// How many calls that timed out or were cancelled are remembered, so that their late answers are known as such.
const LATE_MAX: usize = 1_024;

/// Requests under way, on any number of channels: each has a deadline, a context of yours, and exactly one
/// [`Outcome`], unless you [cancel](Self::cancel) it.
///
/// Where one request at a time is enough, [`ChannelGroup::call`](crate::ChannelGroup::call) is simpler. This is for
/// who has many of them out, and other things to do meanwhile. It takes requests of any kind, as `call` does.
///
/// [`handle`](Self::handle) takes the answers to these requests out of the events, and those of the requests that
/// came back; [`poll`](Self::poll) tells what became of each. If you keep something for each channel, poll until it says
/// `None` before you act on a `Closed` that `handle` gave back: the outcomes of the channel's calls are there by then.
///
/// An answer is only ever that to its own request: a request with an id that another one on its channel has, or that
/// may still be answered, is refused. An answer that comes after a timeout or a cancellation is told as
/// [`Outcome::Late`].
///
/// It keeps an entry of some 100 bytes for each call under way, as many as you post, and the ids of the last 1,024
/// calls that ended without an answer on channels that are still open. An answer later than that is given back as an
/// event that is none of its business.
///
/// ```
/// use std::time::{Duration, Instant};
/// use tofu::{Engine, Event, Message, Options};
/// use tofu::helpers::{Calls, Outcome, until};
///
/// let engine = Engine::new(Options::default())?;
/// let (mut server, mut client) = (engine.group()?, engine.group()?);
/// server.post(Message::welcome_request(&"tcp://127.0.0.1:0".parse()?))?;
/// let Event::Listening { address, .. } = server.recv()? else { panic!() };
///
/// // Two questions, right behind the hello.
/// let mut calls = Calls::new();
/// let deadline = Instant::now() + Duration::from_secs(5);
/// let channel = client.post(Message::hello_request(&address))?.channel;
/// for question in ["first", "second"] {
///     let request = Message::request(channel).with_body(question);
///     calls.post(&client, request, deadline, question)?;
/// }
///
/// // They are answered in another order.
/// let mut requests = Vec::new();
/// while requests.len() < 3 {
///     if let Event::Message(request) = server.recv()? {
///         requests.push(request);
///     }
/// }
/// for request in requests.into_iter().rev() {
///     server.post(request.into_reply()?)?;
/// }
///
/// let mut answered = Vec::new();
/// while !calls.is_empty() {
///     let patience = until(calls.next_deadline(), Instant::now());
///     if let Some(event) = client.recv_timeout(patience)?
///         && let Some(event) = calls.handle(event)
///     {
///         println!("not an answer to one of them: {event:?}");
///     }
///     while let Some(outcome) = calls.poll(Instant::now()) {
///         match outcome {
///             Outcome::Answered { context, message } => {
///                 assert_eq!(message.body(), context.as_bytes());
///                 answered.push(context);
///             }
///             other => panic!("{other:?}"),
///         }
///     }
/// }
/// assert_eq!(answered, ["second", "first"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Calls<T> {
    under_way: BTreeMap<CallId, Call<T>>,
    /// Those of them that have a deadline, by it.
    deadlines: BTreeSet<(Instant, CallId)>,
    late: Late,
    /// What has happened and is not told yet.
    outcomes: VecDeque<Outcome<T>>,
}

struct Call<T> {
    /// What family its answer is of.
    op_type: OpType,
    deadline: Option<Instant>,
    context: T,
}

/// Names a call: the channel of its request, and its id there.
///
/// ```
/// use tofu::{ChannelNumber, MessageId, helpers::CallId};
///
/// // Made from the header of a request that was posted, or by hand.
/// let call = CallId { channel: ChannelNumber::new(3), id: MessageId::new(7) };
/// assert!(call < CallId { id: MessageId::new(8), ..call });
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId {
    /// The channel of the request; that which it opens, if it is a HelloRequest.
    pub channel: ChannelNumber,
    /// The id of the request, and of its answer.
    pub id: MessageId,
}

impl CallId {
    /// The call that this message is the request or the answer of.
    fn of(message: &Message) -> Self {
        Self {
            channel: message.channel(),
            id: message.id(),
        }
    }
}

impl From<Header> for CallId {
    fn from(header: Header) -> Self {
        Self {
            channel: header.channel,
            id: header.id,
        }
    }
}

/// What became of a call.
///
/// ```
/// use tofu::helpers::Outcome;
///
/// /// Whether it does no harm to ask again.
/// fn may_ask_again<T>(outcome: &Outcome<T>) -> bool {
///     match outcome {
///         Outcome::Returned { .. } => true,
///         // The peer may have acted upon it.
///         Outcome::Closed { .. } | Outcome::TimedOut { .. } => false,
///         Outcome::Answered { .. } | Outcome::Part { .. } | Outcome::Late { .. } => false,
///     }
/// }
/// # let late = Outcome::<()>::Late { message: tofu::Message::signal(tofu::ChannelNumber::new(1)) };
/// assert!(!may_ask_again(&late));
/// ```
#[derive(Debug)]
pub enum Outcome<T> {
    /// A part of an answer that is continued with `more`. The call goes on until its last part, which is
    /// [`Answered`](Self::Answered); its [context](Calls::context_mut) can gather the parts.
    Part {
        /// The call.
        call: CallId,
        /// This part of the answer.
        message: Message,
    },
    /// The answer, or the last part of it.
    Answered {
        /// What was given when the request was posted.
        context: T,
        /// The answer.
        message: Message,
    },
    /// The request could not be sent: the peer never had it.
    Returned {
        /// What was given when the request was posted.
        context: T,
        /// The request, complete.
        message: Message,
        /// Why it came back.
        reason: Reason,
    },
    /// The request has left, and its channel is closed: nobody knows whether it was acted upon.
    Closed {
        /// The call.
        call: CallId,
        /// What was given when the request was posted.
        context: T,
        /// Why the channel is closed.
        reason: Reason,
    },
    /// No answer came in time. It may still come.
    TimedOut {
        /// The call.
        call: CallId,
        /// What was given when the request was posted.
        context: T,
    },
    /// An answer, or a part of one, to a call that has timed out or was cancelled. Its outcome was told.
    Late {
        /// The answer.
        message: Message,
    },
}

impl<T> Calls<T> {
    /// No calls yet.
    ///
    /// ```
    /// let calls = tofu::helpers::Calls::<String>::new();
    /// assert!(calls.is_empty());
    /// ```
    pub const fn new() -> Self {
        Self {
            under_way: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            late: Late::new(),
            outcomes: VecDeque::new(),
        }
    }

    /// Posts a request, and waits for its whole answer until `deadline`; without one, until its channel is closed.
    /// The request's id is the engine's, unless it has one. Of a request that is continued with `more`, post the first
    /// part here and the others yourself, with its id.
    ///
    /// # Errors
    /// The request, unchanged, and why it was not taken, as [`ChannelGroup::post`](crate::ChannelGroup::post) says it;
    /// `context` is dropped. [`Refusal::NotAllowed`]: nothing answers a message of this kind, or an answer with this id
    /// may still come.
    ///
    /// # Example
    /// ```
    /// use tofu::{ChannelNumber, Engine, Message, Options, helpers::Calls};
    ///
    /// let engine = Engine::new(Options::default())?;
    /// let group = engine.group()?;
    /// let mut calls = Calls::new();
    /// let signal = Message::signal(ChannelNumber::new(1));
    /// let error = calls.post(&group, signal, None, ()).unwrap_err();
    /// assert!(error.to_string().contains("nothing answers it"));
    /// # Ok::<(), tofu::StartError>(())
    /// ```
    pub fn post(
        &mut self,
        mut post: impl Post,
        request: Message,
        deadline: impl Into<Option<Instant>>,
        context: T,
    ) -> Result<CallId, PostError> {
        let op_type = request.op_code().op_type();
        let asked = CallId::of(&request);
        if request.op_code().role() != Role::Request {
            return Err(not_allowed(request, "nothing answers it"));
        }
        if self.under_way.contains_key(&asked) || self.late.contains(asked) {
            return Err(not_allowed(
                request,
                "an answer to a request with this id may still come",
            ));
        }
        let call = CallId::from(post.post(request)?);
        let deadline = deadline.into();
        self.deadlines.extend(deadline.map(|it| (it, call)));
        let entry = Call {
            op_type,
            deadline,
            context,
        };
        self.under_way.insert(call, entry);
        Ok(call)
    }

    /// Is told of an event. Gives it back, unless it is the answer to one of the calls or their request that came
    /// back. The end of a channel is given back as well: others may want to know of it.
    ///
    /// ```
    /// use tofu::{Event, helpers::Calls};
    ///
    /// let mut calls = Calls::<()>::new();
    /// let event = calls.handle(Event::PoolEmpty);
    /// assert!(matches!(event, Some(Event::PoolEmpty)));
    /// ```
    pub fn handle(&mut self, event: Event) -> Option<Event> {
        match event {
            Event::Message(message) => self.handle_message(message).map(Event::Message),
            Event::Listening { address, response } => self
                .handle_message(response)
                .map(|response| Event::Listening { address, response }),
            Event::Returned { message, reason } => self.handle_returned(message, reason),
            Event::Closed {
                channel, reason, ..
            } => {
                self.fail_all_of(channel, reason);
                Some(event)
            }
            other => Some(other),
        }
    }

    fn handle_message(&mut self, message: Message) -> Option<Message> {
        if message.op_code().role() != Role::Response {
            return Some(message);
        }
        let call = CallId::of(&message);
        let op_type = message.op_code().op_type();
        if message.has_more() && self.is_under_way(call, op_type) {
            self.outcomes.push_back(Outcome::Part { call, message });
            return None;
        }
        if let Some(context) = self.end_of(&message, Role::Response) {
            self.outcomes
                .push_back(Outcome::Answered { context, message });
            return None;
        }
        if !self.late.is_answer(call, op_type) {
            return Some(message);
        }
        if !message.has_more() {
            self.late.forget(call);
        }
        self.outcomes.push_back(Outcome::Late { message });
        None
    }

    fn handle_returned(&mut self, message: Message, reason: Reason) -> Option<Event> {
        if let Some(context) = self.end_of(&message, Role::Request) {
            self.outcomes.push_back(Outcome::Returned {
                context,
                message,
                reason,
            });
            return None;
        }
        if message.op_code().role() == Role::Request {
            // It was cancelled, or timed out before it left: no answer to it will come.
            self.late.forget(CallId::of(&message));
        }
        Some(Event::Returned { message, reason })
    }

    fn is_under_way(&self, call: CallId, op_type: OpType) -> bool {
        let found = self.under_way.get(&call);
        found.is_some_and(|it| it.op_type == op_type)
    }

    /// Ends the call whose request or answer this is.
    fn end_of(&mut self, message: &Message, role: Role) -> Option<T> {
        let (call, op_code) = (CallId::of(message), message.op_code());
        (op_code.role() == role && self.is_under_way(call, op_code.op_type()))
            .then(|| self.take(call))
            .flatten()
            .map(|(_, context)| context)
    }

    fn take(&mut self, call: CallId) -> Option<(OpType, T)> {
        let ended = self.under_way.remove(&call)?;
        if let Some(deadline) = ended.deadline {
            self.deadlines.remove(&(deadline, call));
        }
        Some((ended.op_type, ended.context))
    }

    /// Ends all calls of a channel, in the order of their ids.
    fn fail_all_of(&mut self, channel: ChannelNumber, reason: Reason) {
        let mut first = CallId {
            channel,
            id: MessageId::UNASSIGNED,
        };
        while let Some((&call, _)) = self.under_way.range(first..).next()
            && call.channel == channel
        {
            if let Some((_, context)) = self.take(call) {
                self.outcomes.push_back(Outcome::Closed {
                    call,
                    context,
                    reason,
                });
            }
            first = call;
        }
        self.late.forget_all_of(channel);
    }

    /// The next outcome: what was [handled](Self::handle), then calls whose deadline is not later than `now`, the
    /// earliest first.
    ///
    /// Who was long away from `recv` had better handle all that is at hand before it polls: else calls are told to
    /// have timed out whose answers have only not been read.
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// use tofu::{Engine, Event, Message, Options, helpers::{Calls, Outcome}};
    ///
    /// # let engine = Engine::new(Options::default())?;
    /// # let (mut server, client) = (engine.group()?, engine.group()?);
    /// # server.post(Message::welcome_request(&"tcp://127.0.0.1:0".parse()?))?;
    /// # let Event::Listening { address, .. } = server.recv()? else { panic!() };
    /// # let channel = client.post(Message::hello_request(&address))?.channel;
    /// let mut calls = Calls::new();
    /// let now = Instant::now();
    /// for (context, seconds) in [("slow", 9), ("fast", 3)] {
    ///     let deadline = now + Duration::from_secs(seconds);
    ///     calls.post(&client, Message::request(channel), deadline, context)?;
    /// }
    /// assert!(calls.poll(now).is_none());
    /// let mut told = Vec::new();
    /// while let Some(outcome) = calls.poll(now + Duration::from_secs(9)) {
    ///     if let Outcome::TimedOut { context, .. } = outcome {
    ///         told.push(context);
    ///     }
    /// }
    /// assert_eq!(told, ["fast", "slow"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn poll(&mut self, now: Instant) -> Option<Outcome<T>> {
        if let Some(outcome) = self.outcomes.pop_front() {
            return Some(outcome);
        }
        let &(deadline, call) = self.deadlines.first()?;
        if deadline > now {
            return None;
        }
        let context = self.cancel(call)?;
        Some(Outcome::TimedOut { call, context })
    }

    /// When to poll again, if nothing happens before: the earliest deadline.
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// use tofu::{Engine, Event, Message, Options, helpers::Calls};
    ///
    /// # let engine = Engine::new(Options::default())?;
    /// # let (mut server, client) = (engine.group()?, engine.group()?);
    /// # server.post(Message::welcome_request(&"tcp://127.0.0.1:0".parse()?))?;
    /// # let Event::Listening { address, .. } = server.recv()? else { panic!() };
    /// # let channel = client.post(Message::hello_request(&address))?.channel;
    /// let mut calls = Calls::new();
    /// let deadline = Instant::now() + Duration::from_secs(5);
    /// assert_eq!(calls.next_deadline(), None);
    /// calls.post(&client, Message::request(channel), deadline, ())?;
    /// assert_eq!(calls.next_deadline(), Some(deadline));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// Waits no longer for an answer. The request is not called back: the peer may act upon it all the same. `None`: no
    /// such call is under way, so that its outcome was told or is about to be.
    ///
    /// ```
    /// use tofu::{Engine, Event, Message, Options, helpers::Calls};
    ///
    /// # let engine = Engine::new(Options::default())?;
    /// # let (mut server, client) = (engine.group()?, engine.group()?);
    /// # server.post(Message::welcome_request(&"tcp://127.0.0.1:0".parse()?))?;
    /// # let Event::Listening { address, .. } = server.recv()? else { panic!() };
    /// # let channel = client.post(Message::hello_request(&address))?.channel;
    /// let mut calls = Calls::new();
    /// let call = calls.post(&client, Message::request(channel), None, "context")?;
    /// assert_eq!(calls.cancel(call), Some("context"));
    /// assert_eq!(calls.cancel(call), None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn cancel(&mut self, call: CallId) -> Option<T> {
        let (op_type, context) = self.take(call)?;
        self.late.add(call, op_type);
        Some(context)
    }

    /// Takes all calls that are under way, as when the engine shuts down and nothing more will be heard of them.
    ///
    /// ```
    /// use tofu::{Engine, Event, Message, Options, helpers::Calls};
    ///
    /// # let engine = Engine::new(Options::default())?;
    /// # let (mut server, client) = (engine.group()?, engine.group()?);
    /// # server.post(Message::welcome_request(&"tcp://127.0.0.1:0".parse()?))?;
    /// # let Event::Listening { address, .. } = server.recv()? else { panic!() };
    /// # let channel = client.post(Message::hello_request(&address))?.channel;
    /// let mut calls = Calls::new();
    /// for context in ["one", "other"] {
    ///     calls.post(&client, Message::request(channel), None, context)?;
    /// }
    /// let contexts: Vec<_> = calls.drain().map(|(_, context)| context).collect();
    /// assert_eq!(contexts, ["one", "other"]);
    /// assert!(calls.is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn drain(&mut self) -> impl Iterator<Item = (CallId, T)> + use<T> {
        self.deadlines.clear();
        let calls = std::mem::take(&mut self.under_way);
        for (&call, entry) in &calls {
            self.late.add(call, entry.op_type);
        }
        calls.into_iter().map(|(call, it)| (call, it.context))
    }

    /// The context of a call that is under way.
    ///
    /// ```
    /// use tofu::{Engine, Event, Message, Options, helpers::Calls};
    ///
    /// # let engine = Engine::new(Options::default())?;
    /// # let (mut server, client) = (engine.group()?, engine.group()?);
    /// # server.post(Message::welcome_request(&"tcp://127.0.0.1:0".parse()?))?;
    /// # let Event::Listening { address, .. } = server.recv()? else { panic!() };
    /// # let channel = client.post(Message::hello_request(&address))?.channel;
    /// let mut calls = Calls::new();
    /// let call = calls.post(&client, Message::request(channel), None, Vec::new())?;
    /// if let Some(parts) = calls.context_mut(call) {
    ///     parts.push("a part of the answer");
    /// }
    /// assert_eq!(calls.cancel(call), Some(vec!["a part of the answer"]));
    /// assert_eq!(calls.context_mut(call), None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn context_mut(&mut self, call: CallId) -> Option<&mut T> {
        self.under_way.get_mut(&call).map(|it| &mut it.context)
    }

    /// How many calls are under way.
    ///
    /// ```
    /// use tofu::{Engine, Event, Message, Options, helpers::Calls};
    ///
    /// # let engine = Engine::new(Options::default())?;
    /// # let (mut server, client) = (engine.group()?, engine.group()?);
    /// # server.post(Message::welcome_request(&"tcp://127.0.0.1:0".parse()?))?;
    /// # let Event::Listening { address, .. } = server.recv()? else { panic!() };
    /// # let channel = client.post(Message::hello_request(&address))?.channel;
    /// let mut calls = Calls::new();
    /// while calls.len() < 10 {
    ///     calls.post(&client, Message::request(channel), None, ())?;
    /// }
    /// assert_eq!(calls.len(), 10);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn len(&self) -> usize {
        self.under_way.len()
    }

    /// Whether no call is under way. There may be outcomes to [poll](Self::poll).
    ///
    /// ```
    /// let calls = tofu::helpers::Calls::<()>::default();
    /// assert!(calls.is_empty());
    /// ```
    pub fn is_empty(&self) -> bool {
        self.under_way.is_empty()
    }
}

impl<T> Default for Calls<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> fmt::Debug for Calls<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Calls")
            .field("under_way", &self.under_way.len())
            .field("outcomes", &self.outcomes.len())
            .finish_non_exhaustive()
    }
}

fn not_allowed(request: Message, why: &'static str) -> PostError {
    let refusal = Refusal::NotAllowed {
        op_code: request.op_code(),
        channel: request.channel(),
        why,
    };
    PostError::new(request, refusal)
}

/// Calls that ended without an answer, which may still come. The oldest is forgotten for a new one.
struct Late {
    calls: BTreeMap<CallId, (u64, OpType)>,
    /// The same, by age.
    ages: BTreeMap<u64, CallId>,
    added: u64,
}

impl Late {
    const fn new() -> Self {
        Self {
            calls: BTreeMap::new(),
            ages: BTreeMap::new(),
            added: 0,
        }
    }

    fn add(&mut self, call: CallId, op_type: OpType) {
        if self.calls.len() == LATE_MAX
            && let Some((_, oldest)) = self.ages.pop_first()
        {
            self.calls.remove(&oldest);
        }
        self.added += 1;
        self.calls.insert(call, (self.added, op_type));
        self.ages.insert(self.added, call);
    }

    fn contains(&self, call: CallId) -> bool {
        self.calls.contains_key(&call)
    }

    fn is_answer(&self, call: CallId, op_type: OpType) -> bool {
        self.calls.get(&call).is_some_and(|it| it.1 == op_type)
    }

    fn forget(&mut self, call: CallId) {
        if let Some((age, _)) = self.calls.remove(&call) {
            self.ages.remove(&age);
        }
    }

    fn forget_all_of(&mut self, channel: ChannelNumber) {
        self.calls.retain(|call, _| call.channel != channel);
        self.ages.retain(|_, call| call.channel != channel);
    }
}

#[cfg(test)]
mod tests;
