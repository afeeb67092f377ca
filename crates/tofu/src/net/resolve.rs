//! Host names to addresses, off the reactor: a slow name server keeps nobody waiting but the one
//! who asked.

use std::{
    collections::VecDeque,
    fmt, io,
    net::{SocketAddr, ToSocketAddrs},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};

/// Names that are looked up at the same time.
pub(crate) const THREADS_MAX: usize = 4;

pub(super) type Answer = Box<dyn FnOnce(io::Result<Vec<SocketAddr>>) + Send>;

/// Looks names up on threads of its own, which are there only while there is something to look up.
#[derive(Debug, Default)]
pub(crate) struct Resolver {
    work: Arc<Mutex<Work>>,
}

#[derive(Default)]
struct Work {
    threads: usize,
    questions: VecDeque<(String, u16, Answer)>,
}

impl Resolver {
    /// Looks up `host` and calls `answer` with what was found, on another thread.
    pub(crate) fn resolve(&self, host: &str, port: u16, answer: Answer) {
        let mut work = lock(&self.work);
        work.questions.push_back((host.to_owned(), port, answer));
        if work.threads >= THREADS_MAX {
            return;
        }
        let shared = Arc::clone(&self.work);
        let thread = thread::Builder::new().name("tofu-resolve".to_owned());
        match thread.spawn(move || answer_all(&shared)) {
            Ok(_) => work.threads += 1,
            Err(error) if work.threads == 0 => {
                let asked = work.questions.pop_back();
                drop(work);
                if let Some((_, _, answer)) = asked {
                    answer(Err(error));
                }
            }
            // The threads that run will come to it.
            Err(_) => {}
        }
    }
}

fn answer_all(work: &Mutex<Work>) {
    loop {
        let next = {
            let mut work = lock(work);
            let next = work.questions.pop_front();
            work.threads -= usize::from(next.is_none());
            next
        };
        let Some((host, port, answer)) = next else {
            return;
        };
        answer((host.as_str(), port).to_socket_addrs().map(Vec::from_iter));
    }
}

fn lock(work: &Mutex<Work>) -> MutexGuard<'_, Work> {
    work.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Work")
            .field("threads", &self.threads)
            .field("questions", &self.questions.len())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn every_question_is_answered() {
        let resolver = Resolver::default();
        let (sender, answers) = mpsc::channel();
        for port in 1..=20 {
            let sender = sender.clone();
            let answer =
                move |found: io::Result<Vec<SocketAddr>>| sender.send((port, found)).unwrap();
            resolver.resolve("127.0.0.1", port, Box::new(answer));
        }
        drop(sender);
        let mut ports: Vec<u16> = answers
            .iter()
            .map(|(port, found)| {
                assert_eq!(found.unwrap(), [SocketAddr::from(([127, 0, 0, 1], port))]);
                port
            })
            .collect();
        ports.sort_unstable();
        assert!(ports.into_iter().eq(1..=20));
    }
}
