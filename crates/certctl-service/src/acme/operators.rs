//! What operators do with the ACME server: keys that bind accounts, paused names, and accounts that are to end.

use certctl_acme::base64url;
use certctl_domain::{
    access::{Actor, Permission},
    acme::{Account, AccountStatus, AcmeAccountId, EabKey, EabKeyId},
    audit::EventCategory,
    id::ProfileId,
    page::{Page, PageRequest},
    secret::Secret,
    validation::InvalidField,
};
use certctl_repository::{
    acme::{
        accounts, eab_keys,
        failing_names::{self, PausedName},
    },
    sealed::SealedColumn,
    transaction,
};
use serde_json::json;

use super::{Acme, accounts::give_up_orders, new_order::random};
use crate::{
    Error,
    error::Expect as _,
    input::written,
    services::{authorise, event, record},
};

/// A key that was just made; its secret is shown this once.
#[derive(Debug)]
pub struct NewEabKey {
    /// The key.
    pub key: EabKey,
    /// What the client makes its code with: base64url without padding, 256 bits.
    pub hmac_key: Secret,
}

impl Acme {
    /// Makes a key for external account binding (RFC 8555 §7.3.4) under a profile; with a name of its own where none is given.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `profile.edit`, [`Error::Invalid`] for a bad name or a profile that does not exist,
    /// [`Error::Conflict`] when the name is taken, [`Error::BadRequest`] without an encryption key.
    pub async fn create_eab_key(
        &self,
        actor: &Actor,
        profile: &ProfileId,
        name: Option<&str>,
    ) -> Result<NewEabKey, Error> {
        authorise(actor, Permission::ProfileEdit)?;
        let id = match name.filter(|name| !name.is_empty()) {
            Some(name) => EabKeyId::parse(name),
            None => EabKeyId::parse(&format!("eab-{}", base64url::encode(random::<12>()?))),
        };
        let id =
            id.ok_or_else(|| InvalidField::new("id", "is not 1 to 128 visible ASCII characters"))?;
        let sealer = self.services.sealer.as_deref().ok_or_else(|| {
            Error::BadRequest(
                "a key can only be kept with CERTCTL_CONFIG_ENCRYPTION_KEY set".to_owned(),
            )
        })?;
        let secret: [u8; 32] = random()?;
        let sealed = sealer.seal(&SealedColumn::EabKeys.place(id.as_str()), &secret)?;
        let now = self.services.now();
        let key = EabKey {
            id,
            profile_id: profile.clone(),
            bound_account_id: None,
            created_at: now,
            revoked_at: None,
        };
        transaction!(self.services.db, "create EAB key", conn => {
            let inserted = eab_keys::insert(conn, &key, &sealed).await;
            written(inserted, "profile_id", || format!("a key named {:?} exists", key.id.as_str()))?;
            let details = json!({"profile_id": profile.as_str()});
            record(conn, event(actor, EventCategory::Config, "acme_eab_key_created", ("acme_eab_key", key.id.as_str()), details, now)).await
        })?;
        Ok(NewEabKey {
            key,
            hmac_key: Secret::new(base64url::encode(secret)),
        })
    }

    /// Lists keys for external account binding, newest first.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `profile.read`.
    pub async fn list_eab_keys(
        &self,
        actor: &Actor,
        page: PageRequest,
    ) -> Result<Page<EabKey>, Error> {
        authorise(actor, Permission::ProfileRead)?;
        Ok(eab_keys::list(&mut self.services.read().await?, page).await?)
    }

    /// Revokes a key for external account binding; the account that was made with it stays. Revoking twice changes nothing.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `profile.edit`, [`Error::NotFound`].
    pub async fn revoke_eab_key(&self, actor: &Actor, id: &str) -> Result<(), Error> {
        authorise(actor, Permission::ProfileEdit)?;
        let absent = || Error::not_found("EAB key", id);
        let key = EabKeyId::parse(id).ok_or_else(absent)?;
        let now = self.services.now();
        transaction!(self.services.db, "revoke EAB key", conn => {
            if eab_keys::revoke(conn, &key, now).await.or_not_found("EAB key", id)? {
                record(conn, event(actor, EventCategory::Config, "acme_eab_key_revoked", ("acme_eab_key", key.as_str()), json!({}), now)).await?;
            }
            Ok::<_, Error>(())
        })
    }

    /// Lists the names that are paused for an account, the latest first.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `profile.read`.
    pub async fn list_paused_names(
        &self,
        actor: &Actor,
        page: PageRequest,
    ) -> Result<Page<PausedName>, Error> {
        authorise(actor, Permission::ProfileRead)?;
        Ok(failing_names::list_paused(&mut self.services.read().await?, page).await?)
    }

    /// Lets an account order its paused names again; says how many there were.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `profile.edit`, [`Error::NotFound`] when there is no such account.
    pub async fn unpause_names(&self, actor: &Actor, account: &str) -> Result<usize, Error> {
        authorise(actor, Permission::ProfileEdit)?;
        let id = parse_account(account)?;
        let now = self.services.now();
        transaction!(self.services.db, "unpause ACME names", conn => {
            if accounts::find(conn, &id).await?.is_none() {
                return Err(Error::not_found("ACME account", account));
            }
            let count = failing_names::forget_all(conn, &id).await?;
            if count > 0 {
                let details = json!({"names": count});
                record(conn, event(actor, EventCategory::Config, "acme_names_unpaused", ("acme_account", id.as_str()), details, now)).await?;
            }
            Ok::<_, Error>(count)
        })
    }

    /// Lists accounts, newest first.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `profile.read`.
    pub async fn list_accounts(
        &self,
        actor: &Actor,
        page: PageRequest,
    ) -> Result<Page<Account>, Error> {
        authorise(actor, Permission::ProfileRead)?;
        Ok(accounts::list(&mut self.services.read().await?, page).await?)
    }

    /// Takes an account away, with what it has under way; what was issued stays.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `profile.edit`, [`Error::NotFound`], [`Error::Conflict`] when it has ended already.
    pub async fn revoke_account(&self, actor: &Actor, account: &str) -> Result<(), Error> {
        authorise(actor, Permission::ProfileEdit)?;
        let id = parse_account(account)?;
        let now = self.services.now();
        transaction!(self.services.db, "revoke ACME account", conn => {
            let found = accounts::lock_many(conn, std::slice::from_ref(&id)).await?;
            let Some(found) = found.into_iter().next() else {
                return Err(Error::not_found("ACME account", account));
            };
            if !accounts::end(conn, &id, AccountStatus::Revoked, now).await? {
                return Err(Error::Conflict(format!("the account is {} already", found.status)));
            }
            let ended = give_up_orders(conn, &id, now).await?;
            let details = json!({"orders": ended});
            record(conn, event(actor, EventCategory::Config, "acme_account_revoked", ("acme_account", id.as_str()), details, now)).await?;
            Ok::<_, Error>(())
        })?;
        self.state.known.forget(&id);
        Ok(())
    }
}

fn parse_account(text: &str) -> Result<AcmeAccountId, Error> {
    AcmeAccountId::parse(text).ok_or_else(|| Error::not_found("ACME account", text))
}
