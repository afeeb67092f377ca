//! The workloads for whoever sends and receives message by message, in one thread.

use super::{Client, Fallible, Laps};

/// What a message asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nothing.
    Signal,
    /// An answer with the same body.
    Request,
}

/// Bytes of the largest body.
const BODY_MAX: usize = u16::MAX as usize;

static SIGNAL_BODY: [u8; BODY_MAX] = [b's'; BODY_MAX];
static REQUEST_BODY: [u8; BODY_MAX] = [b'r'; BODY_MAX];

/// A body of this length whose first byte tells the kind, for libraries that have no header for it.
pub(super) fn body(kind: Kind, len: usize) -> &'static [u8] {
    match kind {
        Kind::Signal => &SIGNAL_BODY[..len],
        Kind::Request => &REQUEST_BODY[..len],
    }
}

/// The kind that the first byte of a body tells.
pub(super) fn kind_of(body: &[u8]) -> Fallible<Kind> {
    match body.first() {
        Some(b's') => Ok(Kind::Signal),
        Some(b'r') => Ok(Kind::Request),
        other => Err(format!("a body begins with {other:?}, expected s or r").into()),
    }
}

/// One end of a connection.
pub(super) trait Messenger {
    /// Sends, or gathers what [`flush`](Self::flush) sends.
    fn post(&mut self, kind: Kind, len: usize) -> Fallible;

    /// Sends what has been gathered.
    fn flush(&mut self) -> Fallible;

    /// Waits for one answer.
    fn answer(&mut self) -> Fallible;
}

impl<T: Messenger> Client for T {
    fn round_trips(&mut self, count: u64, len: usize, laps: &mut Laps) -> Fallible {
        laps.resume();
        for _ in 0..count {
            self.post(Kind::Request, len)?;
            self.flush()?;
            self.answer()?;
            laps.lap();
        }
        Ok(())
    }

    fn one_way(&mut self, count: u64, len: usize) -> Fallible {
        for _ in 0..count {
            self.post(Kind::Signal, len)?;
        }
        self.post(Kind::Request, len)?;
        self.flush()?;
        self.answer()
    }

    fn window(&mut self, count: u64, len: usize, width: u64) -> Fallible {
        let mut posted = width.min(count);
        for _ in 0..posted {
            self.post(Kind::Request, len)?;
        }
        for _ in 0..count {
            // Whoever gathers sends before it waits, in `answer`.
            self.answer()?;
            if posted < count {
                posted += 1;
                self.post(Kind::Request, len)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers at once what was asked, and counts.
    #[derive(Default)]
    struct Echo {
        waiting: u64,
        waiting_max: u64,
        signals: u64,
        answers: u64,
    }

    impl Messenger for Echo {
        fn post(&mut self, kind: Kind, _len: usize) -> Fallible {
            match kind {
                Kind::Signal => self.signals += 1,
                Kind::Request => self.waiting += 1,
            }
            self.waiting_max = self.waiting_max.max(self.waiting);
            Ok(())
        }

        fn flush(&mut self) -> Fallible {
            Ok(())
        }

        fn answer(&mut self) -> Fallible {
            self.waiting = self.waiting.checked_sub(1).ok_or("nothing was asked")?;
            self.answers += 1;
            Ok(())
        }
    }

    #[test]
    fn a_window_keeps_its_width_and_ends_with_nothing_under_way() {
        for (count, width) in [(100, 64), (64, 64), (3, 64), (1, 1), (0, 64)] {
            let mut echo = Echo::default();
            echo.window(count, 64, width).unwrap();
            assert_eq!((echo.answers, echo.waiting), (count, 0));
            assert_eq!(echo.waiting_max, width.min(count));
        }
    }

    #[test]
    fn one_way_ends_with_the_answer_to_one_request() {
        let mut echo = Echo::default();
        echo.one_way(1000, 64).unwrap();
        assert_eq!((echo.signals, echo.answers), (1000, 1));
    }

    #[test]
    fn every_round_trip_is_a_lap() {
        let mut laps = Laps::start(7);
        Echo::default().round_trips(7, 64, &mut laps).unwrap();
        assert!(laps.percentile_us(99).is_some());
    }

    #[test]
    fn the_first_byte_tells_the_kind() {
        for kind in [Kind::Signal, Kind::Request] {
            assert_eq!(kind_of(body(kind, 64)).unwrap(), kind);
        }
        assert!(kind_of(b"").is_err());
        assert!(kind_of(b"x").is_err());
    }
}
