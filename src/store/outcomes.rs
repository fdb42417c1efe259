//! Outcomes: what the packed blocks say about settled attempts.

use std::collections::BTreeSet;

use entity::{
    outcome_blocks::{Column, Entity, Model},
    outcome_late,
};
use rustc_hash::FxHashMap;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use super::{Error, Store, encode};
use crate::domain::{
    Millis, Seq, SubscriptionId,
    block::{self, BlockEntry, Outcome},
};

/// Blocks read at once: some thousand outcomes each at the most.
const SLICE: u64 = 256;

/// Events further apart than this hardly share a block.
const STRETCH_GAP: u64 = 256;

/// See [`Store::outcomes`].
pub struct Outcomes<'a>(pub(super) &'a Store);

impl Outcomes<'_> {
    /// When the last of them was committed, by the steady clock of whoever did.
    pub async fn last_at(&self) -> Result<Option<Millis>, Error> {
        let last = Entity::find().order_by_desc(Column::Batch).one(&self.0.connection).await?;
        Ok(last.map(|block| Millis(block.at)))
    }

    /// All outcomes of events above the watermark, in the order of their commits.
    pub async fn fresh_after(&self, watermark: Seq) -> Result<Vec<BlockEntry>, Error> {
        let mut found = Vec::new();
        let wanted = |entry: &BlockEntry| entry.seq > watermark;
        self.scan(watermark.next(), |entry| found.extend(Some(entry).filter(wanted))).await?;
        Ok(found)
    }

    /// Late outcomes of a subscription, of events at `from` or later.
    pub async fn late_of(
        &self,
        subscription: SubscriptionId,
        from: Seq,
    ) -> Result<Vec<BlockEntry>, Error> {
        let batches = outcome_late::Entity::find()
            .filter(outcome_late::Column::Subscription.eq(subscription.0))
            .filter(outcome_late::Column::MaxSeq.gte(encode::int(from.0)));
        let batches = self.batches(batches).await?;
        let wanted = |entry: &BlockEntry| entry.subscription == subscription && entry.seq >= from;
        self.entries(batches, wanted).await
    }

    /// See [`Outcomes::of_events`].
    pub async fn of_event(&self, seq: Seq) -> Result<Vec<BlockEntry>, Error> {
        Ok(self.of_events(&[seq]).await?.remove(&seq).unwrap_or_default())
    }

    /// All outcomes of these events, in the order of their commits, without those merely noted again.
    pub async fn of_events(&self, seqs: &[Seq]) -> Result<FxHashMap<Seq, Vec<BlockEntry>>, Error> {
        let mut found: FxHashMap<Seq, Vec<BlockEntry>> =
            seqs.iter().map(|&seq| (seq, Vec::new())).collect();
        let mut batches = BTreeSet::new();
        for (first, last) in stretches(seqs) {
            batches.extend(self.batches_of(first, last).await?);
        }
        let wanted =
            |entry: &BlockEntry| found.contains_key(&entry.seq) && entry.outcome != Outcome::Noted;
        for entry in self.entries(batches, wanted).await? {
            found.entry(entry.seq).or_default().push(entry);
        }
        Ok(found)
    }

    /// Blocks that can hold outcomes of the events from `first` to `last`.
    async fn batches_of(&self, first: Seq, last: Seq) -> Result<BTreeSet<i64>, Error> {
        let (first, last) = (encode::int(first.0), encode::int(last.0));
        // Fresh ones: committed with the event or later, and no later than the watermark passed it.
        let from = Entity::find()
            .select_only()
            .column(Column::Batch)
            .filter(Column::TopSeq.gte(first))
            .order_by_asc(Column::TopSeq)
            .order_by_asc(Column::Batch)
            .into_tuple::<i64>()
            .one(&self.0.connection)
            .await?;
        let upto = Entity::find()
            .select_only()
            .column(Column::Batch)
            .filter(Column::Watermark.gte(last))
            .order_by_asc(Column::Watermark)
            .order_by_asc(Column::Batch)
            .into_tuple::<i64>()
            .one(&self.0.connection)
            .await?;
        let mut batches = BTreeSet::new();
        if let Some(from) = from {
            let fresh = Entity::find()
                .select_only()
                .column(Column::Batch)
                .filter(Column::Batch.between(from, upto.unwrap_or(i64::MAX)));
            batches.extend(fresh.into_tuple::<i64>().all(&self.0.connection).await?);
        }
        let late = outcome_late::Entity::find()
            .filter(outcome_late::Column::MaxSeq.gte(first))
            .filter(outcome_late::Column::MinSeq.lte(last));
        batches.extend(self.batches(late).await?);
        Ok(batches)
    }

    /// Seqs at `from` or later of which this subscription has any outcome, ascending.
    ///
    /// Reads every block since: for backfills, which read every event since.
    pub async fn settled_of(
        &self,
        subscription: SubscriptionId,
        from: Seq,
    ) -> Result<Vec<Seq>, Error> {
        let mut seqs = BTreeSet::new();
        self.scan(from, |entry| {
            if entry.subscription == subscription && entry.seq >= from {
                seqs.insert(entry.seq);
            }
        })
        .await?;
        Ok(seqs.into_iter().collect())
    }

    /// Outcomes of the commits since `since`, and when each commit was; for counts and rates.
    pub async fn since(
        &self,
        since: Millis,
        limit: u64,
    ) -> Result<Vec<(Millis, Vec<BlockEntry>)>, Error> {
        let blocks = Entity::find()
            .filter(Column::At.gte(since.0))
            .order_by_desc(Column::Batch)
            .limit(limit)
            .all(&self.0.connection)
            .await?;
        blocks.into_iter().map(|model| Ok((Millis(model.at), decode(&model)?))).collect()
    }

    /// Every entry of every block that can hold an outcome of `from` or a later event.
    async fn scan(&self, from: Seq, mut each: impl FnMut(BlockEntry)) -> Result<(), Error> {
        let mut after = 0;
        loop {
            let blocks = Entity::find()
                .filter(Column::TopSeq.gte(encode::int(from.0)))
                .filter(Column::Batch.gt(after))
                .order_by_asc(Column::Batch)
                .limit(SLICE)
                .all(&self.0.connection)
                .await?;
            let Some(last) = blocks.last() else { return Ok(()) };
            after = last.batch;
            for model in &blocks {
                decode(model)?.into_iter().for_each(&mut each);
            }
        }
    }

    async fn batches(
        &self,
        late: sea_orm::Select<outcome_late::Entity>,
    ) -> Result<BTreeSet<i64>, Error> {
        let batches = late
            .select_only()
            .column(outcome_late::Column::Batch)
            .into_tuple::<i64>()
            .all(&self.0.connection)
            .await?;
        Ok(batches.into_iter().collect())
    }

    async fn entries(
        &self,
        batches: BTreeSet<i64>,
        wanted: impl Fn(&BlockEntry) -> bool,
    ) -> Result<Vec<BlockEntry>, Error> {
        let batches: Vec<i64> = batches.into_iter().collect();
        let mut found = Vec::new();
        for part in batches.chunks(usize::try_from(SLICE).unwrap_or(usize::MAX)) {
            let blocks = Entity::find()
                .filter(Column::Batch.is_in(part.iter().copied()))
                .order_by_asc(Column::Batch)
                .all(&self.0.connection)
                .await?;
            for model in &blocks {
                found.extend(decode(model)?.into_iter().filter(&wanted));
            }
        }
        Ok(found)
    }
}

/// First and last of each stretch of events that lie close together: one look serves them all.
fn stretches(seqs: &[Seq]) -> Vec<(Seq, Seq)> {
    let mut sorted = seqs.to_vec();
    sorted.sort_unstable();
    let mut stretches: Vec<(Seq, Seq)> = Vec::new();
    for seq in sorted {
        match stretches.last_mut() {
            Some((_, last)) if seq.0 - last.0 <= STRETCH_GAP => *last = seq,
            _ => stretches.push((seq, seq)),
        }
    }
    stretches
}

fn decode(model: &Model) -> Result<Vec<BlockEntry>, Error> {
    block::decode(&model.bytes)
        .map_err(|error| Error::Damaged(format!("outcome block {}: {error}", model.batch)))
}
