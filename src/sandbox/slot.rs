//! A slot: one lane's place in the pool. Lanes die and are replaced, slots stay.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    LaneKind, LaneState,
    context::{ContextKey, Waiting},
    page::{Page, SLOTS, Ticket},
    protocol::{self, ToLane},
};

/// Unwritten bytes beyond which a lane is not fed further: what its socket takes in one go.
const OUT_BYTES: usize = 256 << 10;

/// Unwritten bytes beyond which a lane gets no more answers: it does not read, and must not fill the
/// parent's memory.
const OUT_ANSWERS_BYTES: usize = 32 << 20;

/// What an emptied buffer may keep.
const OUT_KEPT_BYTES: usize = 1 << 20;

/// Deaths in a row, without one run ended in between, that are made good at once; then the next
/// start waits, twice as long each time, up to a cap.
const AT_ONCE_MAX: u32 = 3;
const RESTART_WAIT: Duration = Duration::from_millis(50);
const RESTART_WAIT_MAX: Duration = Duration::from_secs(5);

/// A run in a lane.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) ticket: Ticket,
    pub(super) context: ContextKey,
    pub(super) waiting: Waiting,
    pub(super) at: Instant,
    /// What it has asked, how much of that is open, and the bytes it was answered.
    pub(super) asked: u32,
    pub(super) fetches: u32,
    pub(super) open: usize,
    pub(super) answered_bytes: usize,
}

pub(super) struct Slot {
    pub(super) name: Arc<str>,
    pub(super) kind: LaneKind,
    pub(super) state: LaneState,
    /// The living lane's page.
    pub(super) page: Option<Page>,
    pub(super) pid: Option<u32>,
    /// CPU time of the lanes that died here, and of the living one when last looked at.
    pub(super) cpu_before: Duration,
    pub(super) cpu: Duration,
    /// Contexts with runs to be sent, each at most once, served in turn.
    pub(super) ready: VecDeque<ContextKey>,
    /// Runs in flight beyond the first of each context: these fill the window.
    pub(super) ahead: usize,
    /// Contexts whose runtime is here.
    pub(super) open: usize,
    pub(super) restarts: u32,
    pub(super) last_crash: Option<String>,
    /// Deaths since the last run that ended here: how long the next start is put off.
    pub(super) fruitless: u32,
    /// Looks in a row at which this lane had work for several contexts while another had none.
    pub(super) crowded: u32,
    in_flight: Vec<Option<Sent>>,
    free: Vec<usize>,
    tickets: u64,
    out: Vec<u8>,
    written: usize,
    wake: Box<dyn Fn()>,
    woken: bool,
}

impl Slot {
    pub(super) fn new(name: &str, kind: LaneKind, wake: Box<dyn Fn()>) -> Self {
        Self {
            name: name.into(),
            kind,
            state: LaneState::Cold,
            page: None,
            pid: None,
            cpu_before: Duration::ZERO,
            cpu: Duration::ZERO,
            ready: VecDeque::new(),
            ahead: 0,
            open: 0,
            restarts: 0,
            last_crash: None,
            fruitless: 0,
            crowded: 0,
            in_flight: Vec::new(),
            free: Vec::new(),
            tickets: 0,
            out: Vec::new(),
            written: 0,
            wake,
            woken: false,
        }
    }

    /// Has the lane's actor come by once, however often this is called before it does.
    pub(super) fn wake(&mut self) {
        if !self.woken {
            self.woken = true;
            (self.wake)();
        }
    }

    pub(super) fn awake(&mut self) {
        self.woken = false;
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.len() - self.free.len()
    }

    /// What is asked of it already; the measure by which new contexts are placed.
    pub(super) fn load(&self) -> usize {
        self.open + self.ready.len()
    }

    /// How long the next start is put off; `None` starts at once. The first replacements do: one
    /// hostile script must not slow its neighbours. A lane that only ever dies waits longer and
    /// longer.
    pub(super) fn restart_wait(&self) -> Option<Duration> {
        let doublings = self.fruitless.checked_sub(AT_ONCE_MAX + 1)?;
        Some((RESTART_WAIT * 2_u32.pow(doublings.min(16))).min(RESTART_WAIT_MAX))
    }

    /// A ticket for the next run; `None` when every claim word is in use.
    pub(super) fn ticket(&mut self) -> Option<Ticket> {
        let number = match self.free.pop() {
            Some(number) => number,
            None if self.in_flight.len() < SLOTS => {
                self.in_flight.push(None);
                self.in_flight.len() - 1
            }
            None => return None,
        };
        self.tickets += 1;
        Some(Ticket::new(self.tickets, number))
    }

    pub(super) fn launch(&mut self, sent: Sent) {
        if let Some(page) = &self.page {
            page.offer(sent.ticket);
        }
        let number = sent.ticket.slot();
        self.in_flight[number] = Some(sent);
    }

    pub(super) fn get(&self, ticket: Ticket) -> Option<&Sent> {
        self.in_flight.get(ticket.slot())?.as_ref().filter(|sent| sent.ticket == ticket)
    }

    pub(super) fn get_mut(&mut self, ticket: Ticket) -> Option<&mut Sent> {
        self.in_flight.get_mut(ticket.slot())?.as_mut().filter(|sent| sent.ticket == ticket)
    }

    /// Takes a run off the books; `None` for one that is not in flight (any more).
    pub(super) fn land(&mut self, ticket: Ticket) -> Option<Sent> {
        self.get(ticket)?;
        self.free.push(ticket.slot());
        self.in_flight[ticket.slot()].take()
    }

    /// Gives back a ticket that was never launched.
    pub(super) fn cancel(&mut self, ticket: Ticket) {
        self.free.push(ticket.slot());
    }

    /// Everything in flight, oldest first; the books are empty afterwards.
    pub(super) fn land_all(&mut self) -> Vec<Sent> {
        let mut all: Vec<Sent> = self.in_flight.drain(..).flatten().collect();
        // A ticket's upper part counts the sending.
        all.sort_unstable_by_key(|sent| sent.ticket.key());
        self.free.clear();
        self.ahead = 0;
        all
    }

    pub(super) fn all_in_flight(&self) -> impl Iterator<Item = &Sent> {
        self.in_flight.iter().flatten()
    }

    pub(super) fn push(&mut self, frame: &ToLane<'_>) -> Result<(), protocol::Error> {
        protocol::encode(frame, &mut self.out)
    }

    /// True while more may be encoded before something is written.
    pub(super) fn has_room(&self) -> bool {
        self.out.len() - self.written < OUT_BYTES
    }

    /// True while an answer of so many bytes may be encoded.
    pub(super) fn takes_answer(&self, bytes: usize) -> bool {
        self.out.len() - self.written + bytes <= OUT_ANSWERS_BYTES
    }

    pub(super) fn unwritten(&self) -> &[u8] {
        &self.out[self.written..]
    }

    pub(super) fn wrote(&mut self, count: usize) {
        self.written += count;
        if self.written == self.out.len() {
            self.discard_output();
        }
    }

    pub(super) fn discard_output(&mut self) {
        self.written = 0;
        if self.out.capacity() > OUT_KEPT_BYTES {
            self.out = Vec::new();
        } else {
            self.out.clear();
        }
    }
}
