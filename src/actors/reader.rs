//! Reads stored events for those who are behind: the router, and subscriptions with a cursor.
//!
//! Who is only a little behind is served from memory: the newest events are kept, bounded in bytes.
//! Subscriptions that fell far behind together read the same stretch of the log, so the last chunks
//! are kept too.

use std::{cell::RefCell, collections::VecDeque, rc::Rc, sync::Arc};

use crate::{
    domain::{Event, Seq},
    store::{self, Store},
};

/// Events of one read.
const CHUNK_EVENTS: u64 = 256;
/// Payload of one read, in bytes; one event more than that is read alone.
const CHUNK_BYTES: usize = 4 << 20;
/// Chunks that are kept.
const KEPT_CHUNKS: usize = 8;
/// What the newest events may weigh, in bytes.
const RECENT_BYTES: usize = 16 << 20;

type Chunk = Rc<Vec<Arc<Event>>>;

#[derive(Clone)]
pub(crate) struct Reader {
    store: Store,
    /// Complete chunks by the seq before their first event, newest last.
    kept: Rc<RefCell<VecDeque<(Seq, Chunk)>>>,
    recent: Rc<RefCell<Recent>>,
}

/// The end of the log without gaps, oldest first.
#[derive(Default)]
struct Recent {
    events: VecDeque<Arc<Event>>,
    bytes: usize,
}

impl Recent {
    fn push(&mut self, event: &Arc<Event>) {
        if self.events.back().is_some_and(|last| last.seq.next() != event.seq) {
            *self = Self::default();
        }
        self.bytes += event.weight();
        self.events.push_back(Arc::clone(event));
        while self.bytes > RECENT_BYTES
            && let Some(oldest) = self.events.pop_front()
        {
            self.bytes -= oldest.weight();
        }
    }

    /// The events after `after`, if all of them are here.
    fn after(&self, after: Seq, upto: Seq) -> Option<Vec<Arc<Event>>> {
        let oldest = self.events.front()?.seq;
        let skip = usize::try_from(after.next().0.checked_sub(oldest.0)?).ok()?;
        let wanted = self.events.iter().skip(skip).take_while(|event| event.seq <= upto);
        let events: Vec<_> = wanted.take(CHUNK_EVENTS as usize).cloned().collect();
        (!events.is_empty()).then_some(events)
    }
}

impl Reader {
    pub(crate) fn new(store: Store) -> Self {
        Self { store, kept: Rc::default(), recent: Rc::default() }
    }

    /// Events that were just committed, in order.
    pub(crate) fn note(&self, events: &[Arc<Event>]) {
        let mut recent = self.recent.borrow_mut();
        events.iter().for_each(|event| recent.push(event));
    }

    /// Nobody is behind: gives the memory back.
    pub(crate) fn forget(&self) {
        self.recent.take();
        self.kept.take();
    }

    /// Some events after `after`, in order, up to `upto`. Empty only if there are none.
    ///
    /// Retention may have removed events: what comes is what is left, and the caller may go on
    /// from `upto` when nothing comes.
    pub(crate) async fn read(
        &self,
        after: Seq,
        upto: Seq,
    ) -> Result<Vec<Arc<Event>>, store::Error> {
        if after >= upto {
            return Ok(Vec::new());
        }
        if let Some(events) = self.recent.borrow().after(after, upto) {
            return Ok(events);
        }
        let start = Seq(after.0 - after.0 % CHUNK_EVENTS);
        let end = Seq(start.0 + CHUNK_EVENTS);
        if let Some(events) = self.kept(start, after, upto) {
            return Ok(events);
        }
        let limit = usize::try_from(CHUNK_EVENTS).unwrap_or(usize::MAX);
        let whole = end <= upto;
        let from = if whole { start } else { after };
        let chunk: Vec<Arc<Event>> = self
            .store
            .events()
            .range(from, limit, CHUNK_BYTES)
            .await?
            .into_iter()
            .map(Arc::new)
            .collect();
        // Only a chunk that reached its end may stand for the stretch; one that the byte limit cut
        // is used once.
        let reached_end = chunk.len() == limit || chunk.last().is_some_and(|e| e.seq >= end);
        let chunk = Rc::new(chunk);
        if whole && reached_end {
            let mut kept = self.kept.borrow_mut();
            if kept.len() == KEPT_CHUNKS {
                kept.pop_front();
            }
            kept.push_back((start, Rc::clone(&chunk)));
        }
        let events = within(&chunk, after, upto);
        if events.is_empty() && from < after && !chunk.is_empty() {
            // The byte limit ended the aligned read before `after`: read from there instead.
            let chunk = self.store.events().range(after, limit, CHUNK_BYTES).await?;
            return Ok(chunk.into_iter().filter(|e| e.seq <= upto).map(Arc::new).collect());
        }
        Ok(events)
    }

    fn kept(&self, start: Seq, after: Seq, upto: Seq) -> Option<Vec<Arc<Event>>> {
        let kept = self.kept.borrow();
        let (_, chunk) = kept.iter().find(|(at, _)| *at == start)?;
        let events = within(chunk, after, upto);
        (!events.is_empty()).then_some(events)
    }

    /// The events with these seqs that are still stored, ascending.
    pub(crate) async fn at(&self, seqs: &[Seq]) -> Result<Vec<Arc<Event>>, store::Error> {
        Ok(self.store.events().at(seqs).await?.into_iter().map(Arc::new).collect())
    }
}

fn within(chunk: &[Arc<Event>], after: Seq, upto: Seq) -> Vec<Arc<Event>> {
    chunk.iter().filter(|event| event.seq > after && event.seq <= upto).cloned().collect()
}
