//! The use cases on a test's database, with CAs that do as they are told.

use std::sync::{Arc, Mutex};

use certctl_domain::{
    access::{Actor, ActorType, EffectivePermission, Held, Permission, Scope},
    id::IssuerId,
    issuer::IssuerType,
    ports::{
        BoxFuture,
        issuer::{IssuanceRequest, IssuedCertificate, Issuer, IssuerError, IssuerFactory},
    },
    revocation::RevocationReason,
    secret::Secret,
    serial::SerialNumber,
    time::{ManualClock, Timestamp},
};
use certctl_pki::seal::Sealer;
use certctl_service::{Error, Services, acme::AcmePorts, config::Dependencies};
use certctl_testkit::{
    TestDb,
    services::{MemoryVault, config},
};
use serde_json::Value;

/// What is under test, and what it works with.
pub(crate) struct Kit {
    pub(crate) services: Services,
    pub(crate) db: TestDb,
    pub(crate) cas: Arc<ScriptedCas>,
    pub(crate) admin: Actor,
}

impl Kit {
    pub(crate) fn new(db: TestDb) -> Self {
        Self::with_sealer(db, Some(Arc::new(sealer())))
    }

    pub(crate) fn with_sealer(db: TestDb, sealer: Option<Arc<Sealer>>) -> Self {
        let cas = Arc::new(ScriptedCas::default());
        let services = Services::new(Dependencies {
            db: db.db(),
            clock: Arc::new(db.clock().clone()),
            sealer,
            issuers: cas.clone(),
            responder_keys: None,
            vault: Arc::new(MemoryVault::default()),
            acme: AcmePorts::default(),
            config: config(),
        });
        let admin = actor("ann", Permission::ALL, &Scope::Global);
        Self {
            services,
            db,
            cas,
            admin,
        }
    }

    /// Who did what to which thing, as the audit log has it, in order of the alphabet.
    pub(crate) async fn audit(&self) -> Vec<String> {
        self.db
            .texts(
                "SELECT actor || ' ' || action || ' ' || resource_type || ' ' || resource_id || ' ' || event_category AS value \
                 FROM audit_events ORDER BY 1",
            )
            .await
    }

    /// What the audit log has of one thing.
    pub(crate) async fn audit_of(&self, id: &str) -> Vec<String> {
        let mut events = self.audit().await;
        events.retain(|event| event.split(' ').any(|word| word == id));
        events
    }
}

/// The use cases of somebody who has the database and another encryption key.
pub(crate) fn forger(db: certctl_repository::Db, clock: &ManualClock, sealer: Sealer) -> Services {
    Services::new(Dependencies {
        db,
        clock: Arc::new(clock.clone()),
        sealer: Some(Arc::new(sealer)),
        issuers: Arc::new(ScriptedCas::default()),
        responder_keys: None,
        vault: Arc::new(MemoryVault::default()),
        acme: AcmePorts::default(),
        config: config(),
    })
}

/// The key that configurations are sealed with.
pub(crate) fn sealer() -> Sealer {
    Sealer::new(&Secret::new("a test's encryption key of 32 bytes and more"))
}

/// Somebody who may do this, within a scope.
pub(crate) fn actor(id: &str, permissions: &[Permission], scope: &Scope) -> Actor {
    let held = permissions.iter().map(|permission| EffectivePermission {
        permission: *permission,
        scope: scope.clone(),
    });
    Actor::new(id, ActorType::ApiKey, false, Vec::new(), held.collect())
}

/// Somebody who may do all this for everything, until then.
pub(crate) fn actor_until(id: &str, permissions: &[Permission], until: Timestamp) -> Actor {
    let held = permissions.iter().map(|permission| Held {
        what: EffectivePermission {
            permission: *permission,
            scope: Scope::Global,
        },
        until: Some(until),
    });
    Actor::holding(id, ActorType::ApiKey, false, Vec::new(), held.collect())
}

/// What became of a use case, in a word or two.
pub(crate) fn outcome<T>(result: Result<T, Error>) -> String {
    match result {
        Ok(_) => "ok".to_owned(),
        Err(Error::Invalid(field)) => format!("invalid {}", field.field),
        Err(Error::BadRequest(_)) => "bad request".to_owned(),
        Err(Error::NotFound { what, .. }) => format!("no {what}"),
        Err(Error::Conflict(_)) => "conflict".to_owned(),
        Err(Error::Forbidden(permission)) => format!("needs {permission}"),
        Err(Error::BadGateway(_)) => "bad gateway".to_owned(),
        Err(other) => panic!("{other:?}"),
    }
}

/// CAs of two kinds: `GenericCA`, whose `validity_days` must be a number, and `DigiCert`, which needs an `api_key`.
#[derive(Default)]
pub(crate) struct ScriptedCas {
    /// What the next connection fails with.
    pub(crate) failure: Mutex<Option<IssuerError>>,
    /// The configuration of the last connection.
    pub(crate) connected: Mutex<Value>,
    /// What happens elsewhere while a configuration is looked at.
    pub(crate) meanwhile: Mutex<Option<Meanwhile>>,
}

type Meanwhile = Box<dyn FnMut() + Send>;

impl IssuerFactory for ScriptedCas {
    fn validate(&self, kind: IssuerType, config: &Value) -> Result<(), IssuerError> {
        if let Some(meanwhile) = &mut *self.meanwhile.lock().unwrap() {
            meanwhile();
        }
        let wrong = match kind {
            IssuerType::GenericCa => (!config["validity_days"].is_null()
                && !config["validity_days"].is_u64())
            .then_some("validity_days: must be a number"),
            IssuerType::DigiCert => config["api_key"]
                .as_str()
                .is_none_or(str::is_empty)
                .then_some("api_key: is required"),
            _ => return Err(IssuerError::NotSupported),
        };
        wrong.map_or(Ok(()), |problem| {
            Err(IssuerError::Validation(problem.to_owned()))
        })
    }

    fn connect<'a>(
        &'a self,
        _: &'a IssuerId,
        _: IssuerType,
        config: &'a Value,
    ) -> BoxFuture<'a, Result<Arc<dyn Issuer>, IssuerError>> {
        *self.connected.lock().unwrap() = config.clone();
        let answer: Result<Arc<dyn Issuer>, _> = match self.failure.lock().unwrap().take() {
            Some(failure) => Err(failure),
            None => Ok(Arc::new(Idle)),
        };
        Box::pin(std::future::ready(answer))
    }

    fn destroy<'a>(&'a self, _: &'a IssuerId) -> BoxFuture<'a, Result<(), IssuerError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn secret_fields(&self, kind: IssuerType) -> &'static [&'static str] {
        match kind {
            IssuerType::DigiCert => &["api_key"],
            _ => &[],
        }
    }
}

/// A CA that is there, and issues nothing.
struct Idle;

impl Issuer for Idle {
    fn issue(
        &self,
        requests: Vec<IssuanceRequest>,
    ) -> BoxFuture<'_, Vec<Result<IssuedCertificate, IssuerError>>> {
        let refused = requests.iter().map(|_| Err(IssuerError::NotSupported));
        Box::pin(std::future::ready(refused.collect()))
    }

    fn revoke<'a>(
        &'a self,
        _: &'a SerialNumber,
        _: RevocationReason,
    ) -> BoxFuture<'a, Result<(), IssuerError>> {
        Box::pin(std::future::ready(Err(IssuerError::NotSupported)))
    }

    fn ca_pem(&self) -> BoxFuture<'_, Result<String, IssuerError>> {
        Box::pin(std::future::ready(Err(IssuerError::NotSupported)))
    }
}

/// An object with further fields put over it; null takes one away.
pub(crate) fn with(base: &Value, over: Value) -> Value {
    let (Value::Object(mut fields), Value::Object(over)) = (base.clone(), over) else {
        panic!("both are objects");
    };
    for (name, value) in over {
        if value.is_null() {
            fields.remove(&name);
        } else {
            fields.insert(name, value);
        }
    }
    Value::Object(fields)
}
