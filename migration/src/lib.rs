//! Schema steps, oldest first: one file a step, and a released step never changes.

use sea_orm_migration::prelude::*;

mod sql;

mod m20260101_000001_journal;
mod m20260101_000002_scripts;
mod m20260101_000003_deliveries;
mod m20260101_000004_dead_letters;
mod m20260101_000005_access;
mod m20260101_000006_kv;
mod m20260101_000007_secrets;
mod m20260101_000008_recordings;
mod m20260101_000009_modules;
mod m20260101_000010_discarded_by;
mod m20260101_000011_hooks;
mod m20260101_000012_token_rates;
mod m20260101_000013_care;
mod m20260101_000014_kept;

pub struct Migrator;

impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m20260101_000001_journal::Migration),
            Box::new(m20260101_000002_scripts::Migration),
            Box::new(m20260101_000003_deliveries::Migration),
            Box::new(m20260101_000004_dead_letters::Migration),
            Box::new(m20260101_000005_access::Migration),
            Box::new(m20260101_000006_kv::Migration),
            Box::new(m20260101_000007_secrets::Migration),
            Box::new(m20260101_000008_recordings::Migration),
            Box::new(m20260101_000009_modules::Migration),
            Box::new(m20260101_000010_discarded_by::Migration),
            Box::new(m20260101_000011_hooks::Migration),
            Box::new(m20260101_000012_token_rates::Migration),
            Box::new(m20260101_000013_care::Migration),
            Box::new(m20260101_000014_kept::Migration),
        ]
    }
}
