//! Dead letters, as the API handles them: replay, discard, restore, one by one or in bulk.

use super::Runtime;
use crate::{
    actors::{
        dead_letter::Nudge,
        scheduler::{Admit, Unsure},
    },
    domain::{BulkId, LetterId, Millis},
    store::{self, BulkAction, BulkOperation, BulkState, LetterFilter},
};

/// The way to dead letters.
#[derive(Clone)]
pub struct DeadLetters(pub(super) Runtime);

/// Why a letter was not replayed, discarded or restored.
pub type ReplayError = store::Error;

/// Why a bulk operation was not begun or aborted.
pub type BulkError = store::Error;

impl DeadLetters {
    /// Sends a letter back to its subscription with fresh attempts; `data` replaces the payload,
    /// `version` pins the script's version.
    pub async fn replay(
        &self,
        id: LetterId,
        data: Option<&str>,
        version: Option<u32>,
    ) -> Result<(), ReplayError> {
        let scheduler = &self.0.0.addresses.scheduler;
        // One message per replay.
        match self.0.store().letters().start_replay(id, data, version).await {
            Ok(row) => scheduler.do_send(Admit(vec![row])),
            Err(error) => {
                if error.is_outage() {
                    scheduler.do_send(Unsure);
                }
                return Err(error);
            }
        }
        Ok(())
    }

    /// Ends a letter without a run.
    pub async fn discard(&self, id: LetterId) -> Result<(), ReplayError> {
        self.0.store().letters().discard(id).await
    }

    /// Undoes a discard.
    pub async fn restore(&self, id: LetterId) -> Result<(), ReplayError> {
        self.0.store().letters().restore(id).await
    }

    /// Begins to replay, discard or restore all letters that match and came to be so before now. It goes on in the
    /// background, in slices, across restarts.
    pub async fn bulk(
        &self,
        action: BulkAction,
        filter: LetterFilter,
        rate: Option<u32>,
    ) -> Result<BulkOperation, BulkError> {
        let now = Millis::steady();
        let total = self.0.store().letters().count_matching(action, &filter).await?.count;
        let operation = BulkOperation {
            id: BulkId::fresh(),
            action,
            filter,
            rate,
            total,
            done: 0,
            state: BulkState::Running,
            created_at: now,
            finished_at: None,
        };
        self.0.store().bulk().create(&operation).await?;
        self.0.0.addresses.dead_letters.do_send(Nudge);
        Ok(operation)
    }

    /// How far a bulk operation is.
    pub async fn bulk_progress(&self, id: BulkId) -> Result<Option<BulkOperation>, BulkError> {
        self.0.store().bulk().get(id).await
    }

    /// Stops a bulk operation after the slice in hand.
    pub async fn abort(&self, id: BulkId) -> Result<Option<BulkOperation>, BulkError> {
        if let Some(operation) = self.0.store().bulk().get(id).await?
            && operation.state == BulkState::Running
        {
            self.0.store().bulk().finish(id, BulkState::Aborted, Millis::now(), None).await?;
        }
        self.0.store().bulk().get(id).await
    }
}
