//! Accounts: made, shown, changed, given up, and given another key (RFC 8555 §7.3).

use std::net::{IpAddr, Ipv6Addr};

use certctl_acme::{
    jwk::{Jwk, account_id},
    key_change::{self, Outer},
    payload::{AccountUpdate, NewAccount},
    resource::AccountBody,
};
use certctl_domain::{
    acme::{Account, AccountStatus, AcmeAccountId, EabKeyId, Problem, ProblemType},
    audit::EventCategory,
    id::ProfileId,
    time::Timestamp,
};
use certctl_repository::{
    Conn,
    acme::{
        accounts::{self, KeyRoll},
        eab_keys, orders,
    },
    sealed::SealedColumn,
};
use certctl_telemetry::metrics_names as names;
use serde_json::{Value, json};

use super::{
    AccountAnswer, Acme, Refusal, SignedRequest, actor_of,
    desk::{Batch, Done, Work},
    metrics,
    signed::{Opened, Signer, in_force},
};
use crate::{Error, services::event};

/// What is to be done with an account.
pub(super) enum AccountWork {
    /// It is to be made, unless its key has one.
    Create {
        account: Account,
        binding: Option<EabKeyId>,
    },
    /// Other contacts take the place of its.
    SetContact(Vec<String>),
    /// It is given up.
    Deactivate,
    /// It gets another key.
    Roll {
        old: String,
        thumbprint: String,
        jwk_pem: String,
    },
}

impl Acme {
    /// Makes an account, or finds that of the key (RFC 8555 §7.3).
    ///
    /// # Errors
    /// Those of every signed request, `accountDoesNotExist`, `unauthorized`, `userActionRequired`, `externalAccountRequired`,
    /// `invalidContact`, `unsupportedContact`, `rateLimited`, `malformed`.
    pub async fn new_account(&self, request: SignedRequest) -> Result<AccountAnswer, Refusal> {
        let result = match self.open(&request).await {
            Ok(opened) => {
                let made = self.make_account(&opened, &request).await;
                self.settle(&opened, made).await
            }
            Err(refusal) => Err(refusal),
        };
        metrics::count(metrics::NEW_ACCOUNT, &result);
        if let Ok(answer) = &result
            && !answer.created
        {
            metrics::add(&names::ACME_NEW_ACCOUNT_IDEMPOTENT_TOTAL, 1);
        }
        result
    }

    async fn make_account(
        &self,
        opened: &Opened,
        request: &SignedRequest,
    ) -> Result<AccountAnswer, Refusal> {
        let jwk = self.key_holder(opened)?;
        let asked = NewAccount::parse(opened.jws.payload())?;
        let now = self.services.now();
        let thumbprint = jwk.thumbprint();
        let epoch = self.state.known.epoch();
        if let Some(found) = self.account_of_key(&request.profile, &thumbprint).await? {
            in_force(found.status)?;
            // Nothing is written, but that the nonce is used is known everywhere.
            let signer = Signer {
                known: self.state.known.keep_read(&found, epoch)?,
                kid: request.urls.account(&found.id),
            };
            self.touch(opened, &signer).await?;
            return Ok(shown(&found, false, request));
        }
        if asked.only_return_existing {
            let detail = "no account has this key";
            return Err(Problem::new(ProblemType::AccountDoesNotExist, detail).into());
        }
        self.check_terms(&asked)?;
        let binding = self.check_binding(&asked, jwk, request).await?;
        if let Some(client) = request.client {
            let limits = &self.state.limits;
            limits.new_account.take(&network_of(client), now).await?;
        }
        let account = Account {
            id: account_id(&request.profile, &thumbprint),
            thumbprint,
            jwk_pem: jwk.to_pem(),
            contact: asked.contact,
            status: AccountStatus::Valid,
            profile_id: request.profile.clone(),
            owner_id: None,
            terms_agreed: asked.terms_agreed,
            created_at: now,
            updated_at: now,
        };
        let work = Work::Account(Box::new(AccountWork::Create { account, binding }));
        match self.submit(opened, None, work).await? {
            Done::Account(account, created) => Ok(shown(&account, created, request)),
            other => Err(unexpected(&other)),
        }
    }

    async fn account_of_key(
        &self,
        profile: &ProfileId,
        thumbprint: &str,
    ) -> Result<Option<Account>, Error> {
        let mut conn = self.services.read().await?;
        Ok(accounts::find_by_key(&mut conn, profile, thumbprint).await?)
    }

    /// RFC 8555 §7.3.3.
    fn check_terms(&self, asked: &NewAccount) -> Result<(), Refusal> {
        if self.state.config.terms_url.is_none() || asked.terms_agreed {
            return Ok(());
        }
        let detail = "the terms of service must be agreed to";
        Err(Refusal {
            link_terms: true,
            ..Problem::new(ProblemType::UserActionRequired, detail).into()
        })
    }

    /// RFC 8555 §7.3.4: a binding that is given must be good, whether or not one is asked for.
    async fn check_binding(
        &self,
        asked: &NewAccount,
        jwk: &Jwk,
        request: &SignedRequest,
    ) -> Result<Option<EabKeyId>, Refusal> {
        let Some(binding) = &asked.external_account_binding else {
            if self.state.config.eab_required {
                let detail = "accounts must be bound to an external account";
                return Err(Problem::new(ProblemType::ExternalAccountRequired, detail).into());
            }
            return Ok(None);
        };
        // What is wrong with a name is not told apart from what is wrong with a code.
        let refused = || {
            let detail = "the external account binding is not accepted";
            Refusal::from(Problem::new(ProblemType::Unauthorized, detail))
        };
        let mut conn = self.services.read().await?;
        let (key, sealed) = eab_keys::find(&mut conn, binding.kid())
            .await?
            .ok_or_else(refused)?;
        drop(conn);
        let is_free = key.revoked_at.is_none() && key.bound_account_id.is_none();
        if !is_free || key.profile_id != request.profile {
            return Err(refused());
        }
        let sealer =
            self.services.sealer.as_deref().ok_or_else(|| {
                Error::internal("a sealed key needs CERTCTL_CONFIG_ENCRYPTION_KEY")
            })?;
        let place = SealedColumn::EabKeys.place(key.id.as_str());
        let mac_key = sealer.open(&place, &sealed).map_err(Error::from)?;
        binding.verify(&mac_key, &request.urls.new_account(), jwk)?;
        Ok(Some(key.id))
    }

    /// Shows an account, changes its contacts, or gives it up (RFC 8555 §7.3.2, §7.3.6).
    ///
    /// # Errors
    /// Those of every signed request, `unauthorized` for another's account, `invalidContact`, `unsupportedContact`, `malformed`.
    pub async fn account(
        &self,
        request: SignedRequest,
        id: &str,
    ) -> Result<AccountAnswer, Refusal> {
        let result = match self.open(&request).await {
            Ok(opened) => {
                let done = self.change_account(&opened, &request, id).await;
                self.settle(&opened, done).await
            }
            Err(refusal) => Err(refusal),
        };
        metrics::count(metrics::UPDATE_ACCOUNT, &result);
        result
    }

    async fn change_account(
        &self,
        opened: &Opened,
        request: &SignedRequest,
        id: &str,
    ) -> Result<AccountAnswer, Refusal> {
        let signer = self.signer(opened, request).await?;
        own(&signer, id)?;
        let work = match AccountUpdate::parse(opened.jws.payload())? {
            AccountUpdate::Read | AccountUpdate::Change { contact: None } => {
                self.touch(opened, &signer).await?;
                let account = self.read_known(signer.id()).await?;
                let account = account.as_ref().unwrap_or(&signer.known);
                return Ok(shown(&account.account, false, request));
            }
            AccountUpdate::Change {
                contact: Some(contact),
            } => AccountWork::SetContact(contact),
            AccountUpdate::Deactivate => AccountWork::Deactivate,
        };
        let gives_up = matches!(work, AccountWork::Deactivate);
        let work = Work::Account(Box::new(work));
        match self.submit(opened, Some(&signer), work).await? {
            Done::Account(account, _) => {
                metrics::add(&names::ACME_DEACTIVATE_ACCOUNT_TOTAL, usize::from(gives_up));
                Ok(shown(&account, false, request))
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Gives an account another key (RFC 8555 §7.3.5).
    ///
    /// # Errors
    /// Those of every signed request and of its inner one, `unauthorized` with 409 and the account that has the new key, or when the
    /// key was changed at the same moment; `rateLimited`.
    pub async fn key_change(&self, request: SignedRequest) -> Result<AccountAnswer, Refusal> {
        let result = match self.open(&request).await {
            Ok(opened) => {
                let done = self.roll_key(&opened, &request).await;
                self.settle(&opened, done).await
            }
            Err(refusal) => Err(refusal),
        };
        metrics::count(metrics::KEY_CHANGE, &result);
        result
    }

    async fn roll_key(
        &self,
        opened: &Opened,
        request: &SignedRequest,
    ) -> Result<AccountAnswer, Refusal> {
        let signer = self.signer(opened, request).await?;
        let old = signer.known.account.thumbprint.clone();
        let key = key_change::verify(Outer {
            payload: opened.jws.payload(),
            url: &request.url,
            kid: &signer.kid,
            thumbprint: &old,
        })?;
        let now = self.services.now();
        let limits = &self.state.limits;
        limits.key_change.take(signer.id().as_str(), now).await?;
        let work = Work::Account(Box::new(AccountWork::Roll {
            old,
            thumbprint: key.thumbprint(),
            jwk_pem: key.to_pem(),
        }));
        match self.submit(opened, Some(&signer), work).await {
            Ok(Done::Account(account, _)) => Ok(shown(&account, false, request)),
            Ok(other) => Err(unexpected(&other)),
            Err(mut refusal) => {
                // The desk knows ids, not who may be told which URL.
                refusal.location = refusal
                    .location
                    .and_then(|id| AcmeAccountId::parse(&id))
                    .map(|id| request.urls.account(&id));
                Err(refusal)
            }
        }
    }
}

/// Whom the limit of new accounts is for: of IPv6 a whole /64, since that is what one host has to choose its address from.
fn network_of(client: IpAddr) -> String {
    match client.to_canonical() {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).to_string(),
    }
}

/// RFC 8555 §7.3.2: the account of the URL is the one that signed.
pub(super) fn own(signer: &Signer, id: &str) -> Result<(), Refusal> {
    if signer.id().as_str() == id {
        Ok(())
    } else {
        Err(super::signed::foreign())
    }
}

fn shown(account: &Account, created: bool, request: &SignedRequest) -> AccountAnswer {
    AccountAnswer {
        created,
        id: account.id.clone(),
        account: AccountBody::new(account, &request.urls),
    }
}

/// The desk answered another question than it was asked, which no program writes.
pub(super) fn unexpected(done: &Done) -> Refusal {
    Error::internal(format!("the desk answered {done:?}")).into()
}

impl AccountWork {
    pub(super) async fn carry_out(
        &self,
        acme: &Acme,
        conn: &mut Conn,
        account: Option<Account>,
        batch: &mut Batch<'_>,
    ) -> Result<Result<Done, Refusal>, Error> {
        let now = batch.now;
        match (self, account) {
            (Self::Create { account, binding }, _) => {
                create(conn, account, binding.as_ref(), batch).await
            }
            (Self::SetContact(contact), Some(account)) => {
                accounts::set_contact(conn, &account.id, contact, now).await?;
                let account = Account {
                    contact: contact.clone(),
                    updated_at: now,
                    ..account
                };
                note(
                    batch,
                    &account,
                    "acme_account_updated",
                    json!({"contacts": contact.len()}),
                );
                Ok(Ok(changed(batch, account)))
            }
            (Self::Deactivate, Some(account)) => {
                accounts::end(conn, &account.id, AccountStatus::Deactivated, now).await?;
                let ended = give_up_orders(conn, &account.id, now).await?;
                let account = Account {
                    status: AccountStatus::Deactivated,
                    updated_at: now,
                    ..account
                };
                note(
                    batch,
                    &account,
                    "acme_account_deactivated",
                    json!({"orders": ended}),
                );
                Ok(Ok(changed(batch, account)))
            }
            (
                Self::Roll {
                    old,
                    thumbprint,
                    jwk_pem,
                },
                Some(account),
            ) => {
                let roll = KeyRoll {
                    id: &account.id,
                    old_thumbprint: old,
                    thumbprint,
                    jwk_pem,
                    now,
                };
                roll_key(acme, conn, &account, &roll, batch).await
            }
            (_, None) => Err(Error::internal("an account is changed that nobody named")),
        }
    }
}

async fn create(
    conn: &mut Conn,
    wanted: &Account,
    binding: Option<&EabKeyId>,
    batch: &mut Batch<'_>,
) -> Result<Result<Done, Refusal>, Error> {
    let mut account = wanted.clone();
    for salt in 0_u32.. {
        let found = accounts::find_by_key(conn, &account.profile_id, &account.thumbprint).await?;
        if let Some(found) = found {
            return Ok(match in_force(found.status) {
                Ok(()) => Ok(Done::Account(Box::new(found), false)),
                Err(problem) => Err(problem.into()),
            });
        }
        if accounts::insert_absent(conn, &account).await? {
            break;
        }
        // Its id is that of an account which had this key once and has another now.
        let salted = format!("{}#{salt}", account.thumbprint);
        account.id = account_id(&account.profile_id, &salted);
    }
    if let Some(key) = binding
        && !eab_keys::bind(conn, key, &account.id).await?
    {
        // The batch goes on without it, so that what was just entered has to go again.
        accounts::delete_new(conn, &account.id).await?;
        let detail = "the external account binding is not accepted";
        return Ok(Err(Problem::new(ProblemType::Unauthorized, detail).into()));
    }
    let details = json!({"profile_id": account.profile_id.as_str(), "terms_agreed": account.terms_agreed,
        "external_account": binding.map(EabKeyId::as_str)});
    note(batch, &account, "acme_account_created", details);
    batch.accounts.insert(account.id.clone(), account.clone());
    Ok(Ok(Done::Account(Box::new(account), true)))
}

async fn roll_key(
    acme: &Acme,
    conn: &mut Conn,
    account: &Account,
    roll: &KeyRoll<'_>,
    batch: &mut Batch<'_>,
) -> Result<Result<Done, Refusal>, Error> {
    let conflict = |detail: &str, location: Option<&AcmeAccountId>| Refusal {
        location: location.map(ToString::to_string),
        ..Problem::new(ProblemType::Unauthorized, detail)
            .with_status(409)
            .into()
    };
    let taken = accounts::find_by_key(conn, &account.profile_id, roll.thumbprint).await?;
    if let Some(other) = taken {
        let detail = "an account has the new key already";
        return Ok(Err(conflict(detail, Some(&other.id))));
    }
    if !accounts::roll_key(conn, roll).await? {
        return Ok(Err(conflict(
            "the key was changed at the same moment",
            None,
        )));
    }
    let account = Account {
        thumbprint: roll.thumbprint.to_owned(),
        jwk_pem: roll.jwk_pem.to_owned(),
        updated_at: roll.now,
        ..account.clone()
    };
    // Whatever stands behind this in the batch was signed with a key that is no good any more.
    acme.state.known.forget(&account.id);
    note(
        batch,
        &account,
        "acme_account_key_rolled",
        json!({"old_thumbprint": roll.old_thumbprint, "thumbprint": roll.thumbprint}),
    );
    Ok(Ok(changed(batch, account)))
}

/// Ends what an account has under way (acme-server §5).
pub(super) async fn give_up_orders(
    conn: &mut Conn,
    id: &AcmeAccountId,
    now: Timestamp,
) -> Result<usize, Error> {
    let problem = Problem::new(ProblemType::Unauthorized, "the account was given up");
    Ok(orders::invalidate_of_account(conn, id, &problem, now).await?)
}

fn changed(batch: &mut Batch<'_>, account: Account) -> Done {
    batch.accounts.insert(account.id.clone(), account.clone());
    Done::Account(Box::new(account), false)
}

fn note(batch: &mut Batch<'_>, account: &Account, action: &str, details: Value) {
    let resource = ("acme_account", account.id.as_str());
    batch.events.push(event(
        &actor_of(&account.id),
        EventCategory::CertLifecycle,
        action,
        resource,
        details,
        batch.now,
    ));
}
