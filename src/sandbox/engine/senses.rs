//! Clock and chance of a run, and the order in which it hears of things: as they come and written
//! down on the way, or read from a [`Tape`].

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{BuildHasher, RandomState},
    time::Instant,
};

use super::host::TimerId;
use crate::{
    domain::Millis,
    sandbox::{
        call::{Answer, CallId},
        tape::{CHANCE_BYTES_MAX, ENTRIES_MAX, Made, Readings, Tape, Turn},
    },
};

/// Which part of the tape is written or read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Load,
    Run,
}

pub(super) struct Senses {
    since: Instant,
    part: Part,
    /// State of `Math.random()`.
    random: u64,
    seeds: RandomState,
    tape: Tape,
    player: Option<Player>,
}

/// A tape that is played: what is left of it.
struct Player {
    load: Playback,
    run: Playback,
    turns: std::collections::VecDeque<Turn>,
    out_of_time: bool,
    /// Answers that came before their turn.
    early: BTreeMap<CallId, Answer>,
    /// The timer whose turn it is.
    fires: Option<TimerId>,
}

/// Readings on their way back; beyond their end the last one stays.
struct Playback {
    seed: u64,
    clock: Repeats<i64>,
    elapsed: Repeats<u64>,
    chance: Vec<u8>,
    drawn: usize,
}

struct Repeats<T> {
    left: std::vec::IntoIter<(T, u32)>,
    now: (T, u32),
}

impl<T: Copy + Default> Repeats<T> {
    fn of(entries: Vec<(T, u32)>) -> Self {
        let first = entries.first().map_or_else(T::default, |(value, _)| *value);
        Self { left: entries.into_iter(), now: (first, 0) }
    }

    fn next(&mut self) -> T {
        if self.now.1 == 0
            && let Some(next) = self.left.next()
        {
            self.now = next;
        }
        self.now.1 = self.now.1.saturating_sub(1);
        self.now.0
    }
}

impl Playback {
    fn of(readings: Readings) -> Self {
        Self {
            seed: readings.seed,
            clock: Repeats::of(readings.clock),
            elapsed: Repeats::of(readings.elapsed),
            chance: readings.chance.0,
            drawn: 0,
        }
    }
}

/// Appends to a list of values with how often they came in a row; false when it is full.
fn note<T: PartialEq>(list: &mut Vec<(T, u32)>, value: T) -> bool {
    if let Some((last, count)) = list.last_mut()
        && *last == value
    {
        *count = count.saturating_add(1);
        return true;
    }
    let has_room = list.len() < ENTRIES_MAX;
    if has_room {
        list.push((value, 1));
    }
    has_room
}

impl Senses {
    pub(super) fn live() -> Self {
        Self {
            since: Instant::now(),
            part: Part::Run,
            random: 1,
            // Seeded by the system.
            seeds: RandomState::new(),
            tape: Tape::default(),
            player: None,
        }
    }

    pub(super) fn playing(tape: Tape) -> Self {
        let player = Player {
            load: Playback::of(tape.load),
            run: Playback::of(tape.run),
            turns: tape.turns.into(),
            out_of_time: tape.out_of_time,
            early: BTreeMap::new(),
            fires: None,
        };
        Self { player: Some(player), ..Self::live() }
    }

    pub(super) fn is_playing(&self) -> bool {
        self.player.is_some()
    }

    /// The top level of a module is about to run.
    pub(super) fn begin_load(&mut self) {
        self.part = Part::Load;
        self.tape.load = Readings { seed: self.fresh_seed(), ..Readings::default() };
        self.random = self.tape.load.seed;
    }

    /// A run begins, or goes on after its module was loaded.
    pub(super) fn begin_run(&mut self, timers_before: u32) {
        self.part = Part::Run;
        let seed = self.fresh_seed();
        self.random = seed;
        let run = &mut self.tape.run;
        run.seed = seed;
        run.clock.clear();
        run.elapsed.clear();
        run.chance.0.clear();
        run.is_cut = false;
        self.tape.turns.clear();
        self.tape.made.clear();
        self.tape.timers_before = timers_before;
        self.tape.out_of_time = false;
    }

    fn fresh_seed(&mut self) -> u64 {
        match (&self.player, self.part) {
            (Some(player), Part::Load) => player.load.seed,
            (Some(player), Part::Run) => player.run.seed,
            // xorshift wants no zero.
            (None, _) => self.seeds.hash_one(self.random) | 1,
        }
    }

    /// What this run has met so far.
    pub(super) fn tape(&self) -> Tape {
        self.tape.clone()
    }

    fn readings(&mut self) -> (&mut Readings, Option<&mut Playback>) {
        let player = self.player.as_mut();
        match self.part {
            Part::Load => (&mut self.tape.load, player.map(|player| &mut player.load)),
            Part::Run => (&mut self.tape.run, player.map(|player| &mut player.run)),
        }
    }

    pub(super) fn clock(&mut self) -> Millis {
        let (readings, playback) = self.readings();
        let now = playback.map_or_else(|| Millis::now().0, |playback| playback.clock.next());
        readings.is_cut |= !note(&mut readings.clock, now);
        Millis(now)
    }

    /// Tenths of a millisecond.
    pub(super) fn elapsed(&mut self) -> u64 {
        let since = self.since;
        let (readings, playback) = self.readings();
        let real = || u64::try_from(since.elapsed().as_micros() / 100).unwrap_or(u64::MAX);
        let now = playback.map_or_else(real, |playback| playback.elapsed.next());
        readings.is_cut |= !note(&mut readings.elapsed, now);
        now
    }

    pub(super) fn random(&mut self) -> f64 {
        // xorshift64*: chance for scripts, not for secrets.
        let mut x = self.random;
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        self.random = x;
        (x.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11) as f64 / (1_u64 << 53) as f64
    }

    pub(super) fn fill_random(&mut self, bytes: &mut [u8]) {
        let (readings, playback) = self.readings();
        rand::fill(bytes);
        if let Some(playback) = playback {
            let left = playback.chance.get(playback.drawn..).unwrap_or_default();
            let count = left.len().min(bytes.len());
            bytes[..count].copy_from_slice(&left[..count]);
            playback.drawn += count;
        }
        if readings.chance.0.len() + bytes.len() > CHANCE_BYTES_MAX {
            readings.is_cut = true;
        } else {
            readings.chance.0.extend_from_slice(bytes);
        }
    }

    pub(super) fn made(&mut self, made: Made) {
        // One more than there may be says that it is too much.
        if self.tape.made.len() <= ENTRIES_MAX {
            self.tape.made.push(made);
        }
    }

    /// The run goes on with this.
    pub(super) fn turned(&mut self, turn: Turn) {
        if self.tape.turns.len() <= ENTRIES_MAX {
            self.tape.turns.push(turn);
        }
    }

    // ── playing ──────────────────────────────────────────────────────────────────────────────

    /// Keeps an answer for its turn. `None`: it is passed on at once, for nothing is played.
    pub(super) fn hold(&mut self, call: CallId, answer: Answer) -> Option<Answer> {
        match &mut self.player {
            Some(player) => {
                player.early.insert(call, answer);
                None
            }
            None => Some(answer),
        }
    }

    /// What a played run goes on with next; `None` while that has not come, or when nothing is left.
    ///
    /// An edited source may not have asked or slept as the recorded one did: those turns are passed
    /// over. Beyond the recorded turns come the answers in the order of the questions, then the timers
    /// in the order of their time.
    pub(super) fn next_turn(
        &mut self,
        first_call: u32,
        open: impl Fn(CallId) -> bool,
        timers: &BTreeSet<(Instant, TimerId)>,
    ) -> Option<PlayedTurn> {
        let first_timer = self.tape.timers_before;
        let player = self.player.as_mut()?;
        loop {
            match player.turns.front().copied() {
                Some(Turn::Answer(number)) => {
                    let call = CallId(first_call.wrapping_add(number));
                    if open(call) {
                        return player
                            .early
                            .contains_key(&call)
                            .then_some(PlayedTurn::Answer(call));
                    }
                }
                Some(Turn::Timer(number) | Turn::AlsoTimer(number)) => {
                    let timer = first_timer.wrapping_add(number);
                    if timers.iter().any(|(_, id)| *id == timer) {
                        return Some(PlayedTurn::Timer(timer));
                    }
                }
                None if player.out_of_time => return Some(PlayedTurn::OutOfTime),
                None => {
                    let answered = player.early.keys().copied().find(|call| open(*call));
                    return answered
                        .map(PlayedTurn::Answer)
                        .or_else(|| timers.first().map(|(_, id)| PlayedTurn::Timer(*id)));
                }
            }
            player.turns.pop_front();
        }
    }

    /// Takes the turn that was shown.
    pub(super) fn take_turn(&mut self, turn: &PlayedTurn) -> Option<Answer> {
        let player = self.player.as_mut()?;
        player.turns.pop_front();
        match turn {
            PlayedTurn::Answer(call) => player.early.remove(call),
            PlayedTurn::Timer(timer) => {
                player.fires = Some(*timer);
                None
            }
            PlayedTurn::OutOfTime => None,
        }
    }

    /// The timer whose turn it is, once, and then those that fired together with it.
    pub(super) fn fires(&mut self, is_set: impl Fn(TimerId) -> bool) -> Option<TimerId> {
        let first_timer = self.tape.timers_before;
        let player = self.player.as_mut()?;
        if let Some(timer) = player.fires.take() {
            return Some(timer);
        }
        while let Some(Turn::AlsoTimer(number)) = player.turns.front() {
            let timer = first_timer.wrapping_add(*number);
            player.turns.pop_front();
            if is_set(timer) {
                return Some(timer);
            }
        }
        None
    }
}

/// What a played run goes on with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PlayedTurn {
    Answer(CallId),
    Timer(TimerId),
    OutOfTime,
}
