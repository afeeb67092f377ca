//! Host names to addresses, off the reactor: a slow name server keeps nobody waiting but those who asked for its
//! names, as long as fewer than [`THREADS_MAX`] names are slow at a time.
//!
//! Who asks holds a [`Lookup`]. When it is dropped, the question is withdrawn: so there are no more questions than
//! channels that wait for an answer, and no name is looked up for those that are gone. A name is looked up once at a
//! time, however many ask for it meanwhile: all of them have that answer.
//!
//! What remains: the system's lookup cannot be stopped once it has begun, even if nobody waits for it any more. While
//! [`THREADS_MAX`] different names hang, all others wait for one of these to end, in the order in which they were
//! asked for.

use std::{
    collections::BTreeMap,
    fmt, io,
    net::{SocketAddr, ToSocketAddrs},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    thread,
};

/// Names that are looked up at the same time: more than are likely to hang at once. A thread that waits for a name
/// server costs little.
pub(crate) const THREADS_MAX: usize = 16;

type Found = io::Result<Vec<SocketAddr>>;

/// It is called once at most, on a thread that has others to answer.
pub(super) type Answer = Box<dyn FnOnce(Found) + Send>;

/// Looks names up on threads of its own, which are there only while there is something to look up.
#[derive(Debug)]
pub(crate) struct Resolver {
    shared: Arc<Shared>,
}

/// A question that waits for its answer. Dropped, it is withdrawn.
#[derive(Debug, Default)]
#[must_use = "dropped, it withdraws the question"]
pub(crate) struct Lookup {
    shared: Weak<Shared>,
    id: u64,
}

struct Shared {
    /// The addresses of a name, with any port.
    look_up: Box<dyn Fn(&str) -> Found + Send + Sync>,
    work: Mutex<Work>,
}

#[derive(Debug, Default)]
struct Work {
    threads: usize,
    /// Questions so far: the id of the next one.
    asked: u64,
    /// Those that somebody waits for, the oldest first.
    questions: BTreeMap<u64, Question>,
    /// The names that are being looked up.
    under_way: Vec<Arc<str>>,
}

struct Question {
    host: Arc<str>,
    port: u16,
    answer: Answer,
}

impl Default for Resolver {
    fn default() -> Self {
        Self::new(|host| (host, 0).to_socket_addrs().map(Vec::from_iter))
    }
}

impl Resolver {
    fn new(look_up: impl Fn(&str) -> Found + Send + Sync + 'static) -> Self {
        let shared = Shared {
            look_up: Box::new(look_up),
            work: Mutex::default(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Looks up `host` and calls `answer` with what was found, on another thread, unless the question is withdrawn
    /// before.
    pub(crate) fn resolve(&self, host: &str, port: u16, answer: Answer) -> Lookup {
        let mut work = self.shared.work();
        let id = work.asked;
        work.asked += 1;
        let question = Question {
            host: host.into(),
            port,
            answer,
        };
        work.questions.insert(id, question);
        let lookup = Lookup {
            shared: Arc::downgrade(&self.shared),
            id,
        };
        if work.threads >= THREADS_MAX || work.is_under_way(host) {
            return lookup;
        }
        let shared = Arc::clone(&self.shared);
        let thread = thread::Builder::new().name("tofu-resolve".to_owned());
        match thread.spawn(move || answer_all(&shared)) {
            Ok(_) => work.threads += 1,
            Err(error) if work.threads == 0 => {
                let asked = work.questions.remove(&id);
                drop(work);
                if let Some(question) = asked {
                    question.answer(&Err(error));
                }
            }
            // The threads that run will come to it.
            Err(_) => {}
        }
        lookup
    }

    /// How many questions wait for an answer.
    #[cfg(test)]
    pub(crate) fn questions(&self) -> usize {
        self.shared.work().questions.len()
    }
}

impl Drop for Lookup {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.upgrade() {
            let withdrawn = shared.work().questions.remove(&self.id);
            // With nothing locked: who knows what an answer holds.
            drop(withdrawn);
        }
    }
}

fn answer_all(shared: &Shared) {
    loop {
        let Some(host) = shared.work().begin() else {
            return;
        };
        let found = (shared.look_up)(&host);
        let asked = shared.work().end(&host);
        for question in asked {
            question.answer(&found);
        }
    }
}

impl Shared {
    fn work(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Work {
    fn is_under_way(&self, host: &str) -> bool {
        self.under_way.iter().any(|name| **name == *host)
    }

    /// The name to look up next. Without one the thread ends.
    fn begin(&mut self) -> Option<Arc<str>> {
        let mut hosts = self.questions.values().map(|question| &question.host);
        let next = hosts.find(|host| !self.is_under_way(host)).cloned();
        match &next {
            Some(host) => self.under_way.push(Arc::clone(host)),
            None => self.threads -= 1,
        }
        next
    }

    /// A name was looked up: takes out all who asked for it, also those who did so meanwhile.
    fn end(&mut self, host: &str) -> Vec<Question> {
        self.under_way.retain(|name| **name != *host);
        let asked = self.questions.iter();
        let asked = asked.filter(|(_, question)| *question.host == *host);
        let ids: Vec<u64> = asked.map(|(id, _)| *id).collect();
        let questions = ids.iter().filter_map(|id| self.questions.remove(id));
        questions.collect()
    }
}

impl Question {
    fn answer(self, found: &Found) {
        let with_port = |mut address: SocketAddr| {
            address.set_port(self.port);
            address
        };
        (self.answer)(match found {
            Ok(found) => Ok(found.iter().copied().map(with_port).collect()),
            Err(error) => Err(copy_of(error)),
        });
    }
}

fn copy_of(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(number) => io::Error::from_raw_os_error(number),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("work", &self.work)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Question")
            .field("host", &self.host)
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, sync::mpsc, time::Duration};

    use super::*;

    const WATCHDOG: Duration = Duration::from_secs(30);

    /// Answers who asks for one name.
    type Reply = mpsc::Sender<Found>;

    /// The test is the name server, and so knows which names are looked up, and when.
    struct NameServer {
        resolver: Resolver,
        begun: mpsc::Receiver<(String, Reply)>,
        answers: mpsc::Receiver<(u16, Found)>,
        answered: mpsc::Sender<(u16, Found)>,
    }

    impl NameServer {
        fn new() -> Self {
            let (begins, begun) = mpsc::channel();
            let (answered, answers) = mpsc::channel();
            let resolver = Resolver::new(move |host| {
                let (reply, replies) = mpsc::channel();
                begins
                    .send((host.to_owned(), reply))
                    .map_err(io::Error::other)?;
                replies.recv().map_err(io::Error::other)?
            });
            Self {
                resolver,
                begun,
                answers,
                answered,
            }
        }

        fn ask(&self, host: &str, port: u16) -> Lookup {
            let answered = self.answered.clone();
            let answer = move |found| drop(answered.send((port, found)));
            self.resolver.resolve(host, port, Box::new(answer))
        }

        /// The name that is looked up next.
        fn next(&self) -> (String, Reply) {
            let begun = self.begun.recv_timeout(WATCHDOG);
            begun.expect("a name is looked up")
        }

        /// As many names as are looked up at a time, which all hang.
        fn hang(&self) -> Vec<(Lookup, Reply)> {
            let names = (0..THREADS_MAX).map(|number| format!("dead-{number}"));
            let asked = names.map(|name| {
                let lookup = self.ask(&name, 1);
                let (begun, reply) = self.next();
                assert_eq!(begun, name);
                (lookup, reply)
            });
            asked.collect()
        }

        fn answer(&self) -> (u16, Found) {
            let answer = self.answers.recv_timeout(WATCHDOG);
            answer.expect("an answer")
        }
    }

    fn localhost() -> Vec<SocketAddr> {
        vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))]
    }

    #[test]
    fn every_question_is_answered() {
        let resolver = Resolver::default();
        let (sender, answers) = mpsc::channel();
        let ask = |port| {
            let sender = sender.clone();
            let answer = move |found: Found| sender.send((port, found)).unwrap();
            resolver.resolve("127.0.0.1", port, Box::new(answer))
        };
        let _asked: Vec<_> = (1..=20).map(ask).collect();
        let mut ports = Vec::new();
        while ports.len() < 20 {
            let (port, found) = answers.recv_timeout(WATCHDOG).expect("an answer");
            assert_eq!(found.unwrap(), [SocketAddr::from(([127, 0, 0, 1], port))]);
            ports.push(port);
        }
        ports.sort_unstable();
        assert!(ports.into_iter().eq(1..=20));
    }

    #[test]
    fn a_name_that_nobody_waits_for_any_more_is_not_looked_up() {
        let server = NameServer::new();
        let hanging = server.hang();
        for number in 0..100 {
            drop(server.ask(&format!("gone-{number}"), 2));
        }
        let _wanted = server.ask("wanted", 3);
        assert_eq!(server.resolver.questions(), THREADS_MAX + 1);
        hanging[0].1.send(Ok(localhost())).unwrap();
        assert_eq!(server.answer().0, 1);
        let (next, reply) = server.next();
        assert_eq!(next, "wanted");
        reply.send(Ok(localhost())).unwrap();
        assert_eq!(server.answer().0, 3);
    }

    #[test]
    fn who_has_withdrawn_while_a_name_was_looked_up_is_not_answered() {
        let server = NameServer::new();
        let withdrawn = server.ask("slow", 1);
        let (_, reply) = server.next();
        let _waits = server.ask("slow", 2);
        drop(withdrawn);
        reply.send(Ok(localhost())).unwrap();
        assert_eq!(server.answer().0, 2);
        assert_eq!(server.resolver.questions(), 0);
        assert!(server.answers.try_recv().is_err());
    }

    #[test]
    fn one_slow_name_keeps_no_other_waiting_however_often_it_is_asked_for() {
        let server = NameServer::new();
        let _slow = server.ask("slow", 1);
        let (slow, reply) = server.next();
        assert_eq!(slow, "slow");
        let asked = (2..100).map(|port| server.ask("slow", port));
        let _asked: Vec<_> = asked.collect();
        let _other = server.ask("other", 100);
        let (next, other) = server.next();
        assert_eq!(next, "other");
        other.send(Ok(localhost())).unwrap();
        assert_eq!(server.answer().0, 100);
        // All who have asked have the one answer, each with its port.
        reply.send(Ok(localhost())).unwrap();
        for asked in 1..100 {
            let (port, found) = server.answer();
            assert_eq!(port, asked);
            assert_eq!(found.unwrap(), [SocketAddr::from(([127, 0, 0, 1], port))]);
        }
        // And who asks then has a new one.
        let _again = server.ask("slow", 1);
        assert_eq!(server.next().0, "slow");
    }

    /// Who asks for them gives up and asks again; the lookups go on.
    #[test]
    fn ten_dead_names_that_are_tried_again_and_again_keep_no_other_waiting() {
        let server = NameServer::new();
        let names: Vec<_> = (0..10).map(|number| format!("dead-{number}")).collect();
        let ask = || -> Vec<_> { names.iter().map(|name| server.ask(name, 1)).collect() };
        let mut asked = ask();
        let hanging: Vec<_> = names.iter().map(|_| server.next()).collect();
        for _ in 0..20 {
            drop(asked);
            asked = ask();
        }
        let _other = server.ask("other", 2);
        let (next, reply) = server.next();
        assert_eq!(next, "other");
        reply.send(Ok(localhost())).unwrap();
        assert_eq!(server.answer().0, 2);
        drop(hanging);
    }

    #[test]
    fn all_who_asked_for_a_name_hear_why_it_has_no_address() {
        let server = NameServer::new();
        let _asked = [server.ask("none", 1), server.ask("none", 2)];
        let (_, reply) = server.next();
        let error = io::Error::from_raw_os_error(libc::ENETDOWN);
        reply.send(Err(error)).unwrap();
        for port in 1..=2 {
            let (asked, found) = server.answer();
            assert_eq!(asked, port);
            assert_eq!(found.unwrap_err().raw_os_error(), Some(libc::ENETDOWN));
        }
    }

    #[test]
    fn names_that_wait_are_looked_up_in_the_order_in_which_they_were_asked_for() {
        let server = NameServer::new();
        let hanging = server.hang();
        let _waiting = ["first", "second", "third"].map(|name| server.ask(name, 2));
        // One thread alone goes on: it has no other to overtake.
        hanging[0].1.send(Ok(localhost())).unwrap();
        for name in ["first", "second", "third"] {
            let (next, reply) = server.next();
            assert_eq!(next, name);
            reply.send(Ok(localhost())).unwrap();
        }
    }
}
