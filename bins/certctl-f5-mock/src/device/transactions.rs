//! Transactions: commands that wait for their commit, for half a minute at the most.

use std::{collections::BTreeMap, time::Duration};

use certctl_domain::time::Timestamp;
use serde_json::{Value, json};

use super::objects::{Config, FullPath, Kind};
use crate::reply::{Answer, Refusal};

/// How long a transaction stays open (targets §3.13).
pub(crate) const TRANSACTION_LIFE: Duration = Duration::from_secs(30);

/// How many may be open or remembered, so that nobody fills the memory.
const MOST: usize = 1000;

/// Numbers of the real device have as many digits.
const FIRST: u64 = 1_700_000_000_000_001;

pub(crate) struct Transactions {
    next: u64,
    open: BTreeMap<u64, Transaction>,
}

struct Transaction {
    state: State,
    end: Timestamp,
    commands: Vec<Command>,
    failure: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Started,
    Completed,
    Failed,
}

/// A change of the configuration.
#[derive(Debug, Clone)]
pub(crate) enum Command {
    /// Changes a profile.
    Patch(FullPath, Value),
    /// Removes a file.
    Remove(Kind, FullPath),
}

impl Command {
    pub(crate) fn carry_out(&self, draft: &mut Config) -> Answer {
        match self {
            Self::Patch(path, changes) => draft.patch_profile(path, changes),
            Self::Remove(kind, path) => draft.remove(*kind, path),
        }
    }

    fn shown(&self, number: usize) -> Value {
        let (method, body) = match self {
            Self::Patch(_, changes) => ("PATCH", changes.clone()),
            Self::Remove(..) => ("DELETE", Value::Null),
        };
        json!({"kind": "tm:transaction:commandsstate", "method": method, "body": body, "commandId": number, "evalOrder": number})
    }
}

impl Default for Transactions {
    fn default() -> Self {
        Self {
            next: FIRST,
            open: BTreeMap::new(),
        }
    }
}

impl Transactions {
    pub(crate) fn begin(&mut self, now: Timestamp) -> Answer {
        self.forget_ended(now);
        if self.open.len() >= MOST {
            return Err(Refusal::bad("there are too many transactions"));
        }
        let id = self.next;
        self.next += 1;
        let transaction = Transaction {
            state: State::Started,
            end: now + TRANSACTION_LIFE,
            commands: Vec::new(),
            failure: String::new(),
        };
        let shown = transaction.shown(id);
        self.open.insert(id, transaction);
        Ok(shown)
    }

    pub(crate) fn show(&mut self, id: &str, now: Timestamp) -> Answer {
        let (id, transaction) = self.find(id, now)?;
        Ok(transaction.shown(id))
    }

    /// Keeps a command until the commit; nothing is looked at before.
    pub(crate) fn queue(&mut self, id: &str, command: Command, now: Timestamp) -> Answer {
        let (_, transaction) = self.find(id, now)?;
        if transaction.state != State::Started {
            return Err(Refusal::bad(format!("the transaction {id} has ended")));
        }
        transaction.commands.push(command);
        let number = transaction.commands.len();
        Ok(transaction.commands[number - 1].shown(number))
    }

    /// Carries all commands out on a draft, which is returned; or none of them, when one is refused.
    pub(crate) fn commit(
        &mut self,
        id: &str,
        config: &Config,
        now: Timestamp,
    ) -> Result<(Config, Value), Refusal> {
        let (number, transaction) = self.find(id, now)?;
        if transaction.state != State::Started {
            return Err(Refusal::bad(format!("the transaction {id} has ended")));
        }
        let mut draft = config.clone();
        for command in &transaction.commands {
            if let Err(refusal) = command.carry_out(&mut draft) {
                transaction.state = State::Failed;
                transaction.failure = refusal.message.clone();
                return Err(Refusal::new(
                    refusal.status,
                    format!("transaction failed:{}", refusal.message),
                ));
            }
        }
        transaction.state = State::Completed;
        Ok((draft, transaction.shown(number)))
    }

    pub(crate) fn discard(&mut self, id: &str, now: Timestamp) -> Answer {
        let (number, _) = self.find(id, now)?;
        self.open.remove(&number);
        Ok(Value::Null)
    }

    fn find(&mut self, id: &str, now: Timestamp) -> Result<(u64, &mut Transaction), Refusal> {
        self.forget_ended(now);
        let unknown = || Refusal::not_found(format!("there is no transaction {id}"));
        let number: u64 = id.parse().map_err(|_| unknown())?;
        let transaction = self.open.get_mut(&number).ok_or_else(unknown)?;
        Ok((number, transaction))
    }

    fn forget_ended(&mut self, now: Timestamp) {
        self.open.retain(|_, transaction| transaction.end > now);
    }
}

impl Transaction {
    fn shown(&self, id: u64) -> Value {
        let state = match self.state {
            State::Started => "STARTED",
            State::Completed => "COMPLETED",
            State::Failed => "FAILED",
        };
        json!({
            "kind": "tm:transactionstate",
            "transId": id,
            "state": state,
            "timeoutSeconds": TRANSACTION_LIFE.as_secs(),
            "asyncExecution": false,
            "validateOnly": false,
            "failureReason": self.failure,
        })
    }
}
