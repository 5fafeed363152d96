//! The deploy engine: files become live together, checked, and go back together when they must.
//!
//! The order of the steps is the contract's (targets §2). Two ideas carry it:
//!
//! - What is live is only ever replaced by renames, so a service that reads at the wrong moment sees an old or a new file,
//!   never half of one.
//! - The service's own check runs against the files in place, after the renames and before the reload. Checking before
//!   the renames would check the old files.
//!
//! A deployment that is killed leaves a journal from which the next one first restores the old files.
//!
//! Dropping the future of [`Engine::apply`] counts as being killed; whoever must stop in order lets it run to its end.

mod access;
mod beside;
pub mod command;
mod error;
mod journal;
mod locks;
mod plan;
mod swap;

use std::{future::Future, path::PathBuf, sync::Arc, time::Duration};

use certctl_domain::time::Clock;
use certctl_telemetry::ErrorChain;
use tokio::{task::spawn_blocking, time::timeout};

pub(crate) use self::access::first_account;
pub use self::{
    error::{Error, Kind, Rollback},
    plan::{Access, Plan, PlannedFile, Retention},
};
use self::{
    plan::Destination,
    swap::{Stage, Swap},
};

/// How long a hook other than the verification may take (targets §2).
pub const HOOK_LIMIT: Duration = Duration::from_secs(30);

/// Why a hook says no, in words for the operator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct HookFailure(pub String);

/// What a service has to say about a deployment. Every hook may be left out.
pub trait Hooks: Sync {
    /// Looks at the new files before they are live; each pair is the destination and where its content lies now.
    fn pre_commit(
        &self,
        staged: &[(PathBuf, PathBuf)],
    ) -> impl Future<Output = Result<(), HookFailure>> + Send {
        let _ = staged;
        async { Ok(()) }
    }

    /// Has the service check the files in place, before it uses them.
    fn validate(&self) -> impl Future<Output = Result<(), HookFailure>> + Send {
        async { Ok(()) }
    }

    /// Has the service use the files in place. Also called to take the old ones up again.
    fn reload(&self) -> impl Future<Output = Result<(), HookFailure>> + Send {
        async { Ok(()) }
    }

    /// Looks at what the service presents; bounds its own time.
    fn verify(&self) -> impl Future<Output = Result<(), HookFailure>> + Send {
        async { Ok(()) }
    }
}

/// A deployment that came about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Whether every file already held its bytes, so that nothing was done.
    pub idempotent: bool,
    /// The files, free of symbolic links, in the order of the plan.
    pub paths: Vec<PathBuf>,
}

/// Carries out plans.
#[derive(Clone)]
pub struct Engine {
    clock: Arc<dyn Clock>,
    hook_limit: Duration,
}

impl Engine {
    /// An engine that stamps backups by this clock.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            hook_limit: HOOK_LIMIT,
        }
    }

    /// The same engine with another limit for hooks.
    #[must_use]
    pub fn with_hook_limit(self, hook_limit: Duration) -> Self {
        Self { hook_limit, ..self }
    }

    /// How long a hook other than the verification may take.
    #[must_use]
    pub fn hook_limit(&self) -> Duration {
        self.hook_limit
    }

    /// The clock it stamps by.
    #[must_use]
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// Makes the files of the plan live, or leaves everything as it was.
    ///
    /// # Errors
    /// [`Error`]; its kind says what is live now.
    pub async fn apply(&self, plan: Plan, hooks: &impl Hooks) -> Result<Outcome, Error> {
        let (retention, skip_idempotent) = (plan.retention, plan.skip_idempotent);
        let unlocked = blocking({
            let plan = plan.clone();
            move || plan.resolve()
        })
        .await?;
        let _held = locks::lock(paths(&unlocked)).await;
        // Once more under the locks: owner and mode are those of the file that is there now.
        let files = blocking(move || plan.resolve()).await?;
        let paths = paths(&files);

        let now = self.clock.now();
        let staged = blocking(move || swap::stage(&files, now, skip_idempotent)).await?;
        let idempotent = match staged {
            Stage::Idempotent => true,
            Stage::Ready(swap) => {
                let swap = self.make_live(swap, hooks).await?;
                blocking(move || {
                    log_only(swap.close_done(retention));
                    Ok(())
                })
                .await?;
                false
            }
        };
        Ok(Outcome { idempotent, paths })
    }

    async fn make_live(&self, swap: Swap, hooks: &impl Hooks) -> Result<Swap, Error> {
        if let Err(HookFailure(said)) = self.bounded(hooks.pre_commit(&swap.staged())).await {
            // Dropping the swap removes what was staged.
            blocking(move || {
                drop(swap);
                Ok(())
            })
            .await?;
            return Err(Error::ValidateFailed(said));
        }
        let (swap, committed) = blocking(move || {
            let mut swap = swap;
            let committed = swap.commit();
            Ok((swap, committed))
        })
        .await?;
        if let Err(cause) = committed {
            return Err(self.undo(swap, hooks, cause, Reload::No).await);
        }
        if let Err(HookFailure(said)) = self.bounded(hooks.validate()).await {
            let cause = Error::ValidateFailed(said);
            return Err(self.undo(swap, hooks, cause, Reload::No).await);
        }
        if let Err(HookFailure(said)) = self.bounded(hooks.reload()).await {
            let cause = Error::ReloadFailed(said);
            return Err(self.undo(swap, hooks, cause, Reload::Yes).await);
        }
        if let Err(HookFailure(said)) = hooks.verify().await {
            let cause = Error::VerifyFailed(said);
            return Err(self.undo(swap, hooks, cause, Reload::Yes).await);
        }
        Ok(swap)
    }

    /// Brings the old files back and, where the service may have read the new ones, has it read again.
    async fn undo(&self, swap: Swap, hooks: &impl Hooks, cause: Error, reload: Reload) -> Error {
        let restored = blocking(move || {
            let mut swap = swap;
            let restored = swap.restore();
            Ok((swap, restored))
        })
        .await;
        let (swap, restored) = match restored {
            Ok(pair) => pair,
            Err(interrupted) => return interrupted,
        };
        if let Err(failure) = restored {
            return Error::RollbackFailed {
                cause: Box::new(cause),
                problem: format!(
                    "the old files could not be put back: {}",
                    ErrorChain(&failure)
                ),
                backups: swap.backups(),
            };
        }
        if reload == Reload::Yes
            && let Err(HookFailure(said)) = self.bounded(hooks.reload()).await
        {
            return Error::RollbackFailed {
                cause: Box::new(cause),
                problem: format!("the old files are back but the service did not reload: {said}"),
                backups: swap.backups(),
            };
        }
        let cleared = blocking(move || {
            log_only(swap.close_undone());
            Ok(cause)
        });
        cleared.await.unwrap_or_else(|interrupted| interrupted)
    }

    async fn bounded(
        &self,
        hook: impl Future<Output = Result<(), HookFailure>> + Send,
    ) -> Result<(), HookFailure> {
        // A second more than a command is given, so that a command that hangs is stopped by its runner, which can say
        // what it printed.
        let limit = self.hook_limit + Duration::from_secs(1);
        timeout(limit, hook).await.unwrap_or_else(|_| {
            let limit = self.hook_limit;
            Err(HookFailure(format!("took longer than {limit:?}")))
        })
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Reload {
    Yes,
    No,
}

fn paths(files: &[Destination]) -> Vec<PathBuf> {
    files.iter().map(|file| file.path.clone()).collect()
}

/// What cannot be cleared away does not make a good deployment a bad one.
fn log_only(result: Result<(), Error>) {
    if let Err(problem) = result {
        tracing::warn!(problem = %ErrorChain(&problem), "a leftover of a deployment could not be removed");
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match spawn_blocking(work).await {
        Ok(result) => result,
        Err(failed) if failed.is_panic() => std::panic::resume_unwind(failed.into_panic()),
        Err(_) => Err(Error::Interrupted),
    }
}
