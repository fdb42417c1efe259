//! Tokens, sessions, and the audit trail.

use entity::{audit, sessions, tokens};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    sea_query::Expr,
};

use super::{Error, Store};
use crate::domain::{AuditEntry, AuditId, Millis, Role, SessionId, Token, TokenId};

/// Tokens of the API.
pub struct Tokens<'s>(pub(super) &'s Store);

/// Logins of the dashboard.
pub struct Sessions<'s>(pub(super) &'s Store);

/// What was done by whom.
pub struct Audit<'s>(pub(super) &'s Store);

impl Store {
    #[must_use]
    pub fn tokens(&self) -> Tokens<'_> {
        Tokens(self)
    }

    #[must_use]
    pub fn sessions(&self) -> Sessions<'_> {
        Sessions(self)
    }

    #[must_use]
    pub fn audit(&self) -> Audit<'_> {
        Audit(self)
    }
}

impl Tokens<'_> {
    /// All tokens, the ended ones included, oldest first.
    pub async fn all(&self) -> Result<Vec<Token>, Error> {
        let rows = tokens::Entity::find()
            .order_by_asc(tokens::Column::CreatedAt)
            .all(&self.0.connection)
            .await?;
        rows.into_iter().map(token).collect()
    }

    pub async fn insert(&self, token: &Token) -> Result<(), Error> {
        let write = self.0.gate.begin(&self.0.connection).await?;
        let row = tokens::ActiveModel {
            id: Set(token.id.0),
            name: Set(token.name.clone()),
            role: Set(token.role.as_str().into()),
            hash: Set(token.hash.clone()),
            prefix: Set(token.prefix.clone()),
            created_at: Set(token.created_at.0),
            expires_at: Set(token.expires_at.map(|at| at.0)),
            last_used_at: Set(None),
            revoked_at: Set(None),
            requests_per_s: Set(token.requests_per_s.map(i64::from)),
        };
        tokens::Entity::insert(row)
            .exec_without_returning(&*write)
            .await
            .map_err(|error| Error::or_taken(error, &token.name))?;
        write.commit().await
    }

    /// Ends a token, and the sessions it opened. False: there is no such token.
    pub async fn revoke(&self, id: TokenId, at: Millis) -> Result<bool, Error> {
        let write = self.0.gate.begin(&self.0.connection).await?;
        let revoked = tokens::Entity::update_many()
            .col_expr(tokens::Column::RevokedAt, Expr::value(at.0))
            .filter(tokens::Column::Id.eq(id.0))
            .exec(&*write)
            .await?;
        sessions::Entity::delete_many()
            .filter(sessions::Column::Token.eq(id.0))
            .exec(&*write)
            .await?;
        write.commit().await?;
        Ok(revoked.rows_affected > 0)
    }

    /// Notes when tokens were last used.
    pub async fn used(&self, uses: &[(TokenId, Millis)]) -> Result<(), Error> {
        let write = self.0.gate.begin(&self.0.connection).await?;
        for (id, at) in uses {
            tokens::Entity::update_many()
                .col_expr(tokens::Column::LastUsedAt, Expr::value(at.0))
                .filter(tokens::Column::Id.eq(id.0))
                .exec(&*write)
                .await?;
        }
        write.commit().await
    }
}

impl Sessions<'_> {
    /// Opens a session; `hash` is that of the cookie's secret.
    pub async fn open(
        &self,
        hash: &[u8],
        token: TokenId,
        now: Millis,
        until: Millis,
    ) -> Result<(), Error> {
        let write = self.0.gate.begin(&self.0.connection).await?;
        sessions::Entity::delete_many()
            .filter(sessions::Column::ExpiresAt.lt(now.0))
            .exec(&*write)
            .await?;
        let row = sessions::ActiveModel {
            id: Set(SessionId::fresh().0),
            hash: Set(hash.to_vec()),
            token: Set(token.0),
            created_at: Set(now.0),
            expires_at: Set(until.0),
        };
        sessions::Entity::insert(row).exec_without_returning(&*write).await?;
        write.commit().await
    }

    /// The token that opened the session, if it has not expired at `now`.
    pub async fn find(&self, hash: &[u8], now: Millis) -> Result<Option<TokenId>, Error> {
        let row = sessions::Entity::find()
            .filter(sessions::Column::Hash.eq(hash))
            .filter(sessions::Column::ExpiresAt.gt(now.0))
            .one(&self.0.connection)
            .await?;
        Ok(row.map(|row| TokenId(row.token)))
    }

    pub async fn close(&self, hash: &[u8]) -> Result<(), Error> {
        let write = self.0.gate.begin(&self.0.connection).await?;
        sessions::Entity::delete_many()
            .filter(sessions::Column::Hash.eq(hash))
            .exec(&*write)
            .await?;
        write.commit().await
    }
}

impl Audit<'_> {
    pub async fn note(&self, entry: &AuditEntry) -> Result<(), Error> {
        let write = self.0.gate.begin(&self.0.connection).await?;
        let row = audit::ActiveModel {
            id: Set(entry.id.0),
            at: Set(entry.at.0),
            actor: Set(entry.actor.clone()),
            action: Set(entry.action.clone()),
            target: Set(entry.target.clone()),
            detail: Set(entry.detail.clone()),
        };
        audit::Entity::insert(row).exec_without_returning(&*write).await?;
        write.commit().await
    }

    /// Newest first, at most `limit`; `before` is the last id of the previous page.
    pub async fn page(
        &self,
        before: Option<AuditId>,
        limit: u64,
    ) -> Result<Vec<AuditEntry>, Error> {
        let mut query = audit::Entity::find().order_by_desc(audit::Column::Id).limit(limit);
        if let Some(before) = before {
            query = query.filter(audit::Column::Id.lt(before.0));
        }
        let rows = query.all(&self.0.connection).await?;
        let entry = |row: audit::Model| AuditEntry {
            id: AuditId(row.id),
            at: Millis(row.at),
            actor: row.actor,
            action: row.action,
            target: row.target,
            detail: row.detail,
        };
        Ok(rows.into_iter().map(entry).collect())
    }
}

fn token(row: tokens::Model) -> Result<Token, Error> {
    let role = Role::parse(&row.role)
        .ok_or_else(|| Error::Damaged(format!("token {} has the role `{}`", row.id, row.role)))?;
    Ok(Token {
        id: TokenId(row.id),
        name: row.name,
        role,
        prefix: row.prefix,
        hash: row.hash,
        created_at: Millis(row.created_at),
        expires_at: row.expires_at.map(Millis),
        last_used_at: row.last_used_at.map(Millis),
        revoked_at: row.revoked_at.map(Millis),
        requests_per_s: row.requests_per_s.map(super::encode::small),
    })
}
