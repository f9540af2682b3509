//! How a control plane ends: in phases, each with a time that it may take. What is not over by then is cut, and the log says what.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;

/// How long what goes on beside requests may take to end: jobs that run get five seconds of these.
pub(super) const TASKS: Duration = Duration::from_secs(10);
/// How long the writer may take over what it has begun, and what still waits for it.
pub(super) const WRITER: Duration = Duration::from_secs(20);
/// How long the relay may take over what was committed last, and then the data plane of the process.
pub(super) const LEVEL: Duration = Duration::from_secs(5);
/// How long a database may take to close.
pub(super) const DATABASE: Duration = Duration::from_secs(10);

/// What a phase comes to; `None`: it was cut.
pub(super) async fn phase<T>(
    phase: &'static str,
    limit: Duration,
    work: impl Future<Output = T>,
) -> Option<T> {
    let began = Instant::now();
    let done = tokio::time::timeout(limit, work).await;
    let elapsed_ms = began.elapsed().as_millis();
    if done.is_ok() {
        tracing::debug!(phase, elapsed_ms, "a phase of the stop is over");
    } else {
        tracing::warn!(phase, elapsed_ms, "a phase of the stop took too long and was cut");
    }
    done.ok()
}

/// The same of a task, which ends with its phase.
pub(super) async fn task<T>(name: &'static str, limit: Duration, mut task: JoinHandle<T>) -> Option<T> {
    match phase(name, limit, &mut task).await {
        Some(Ok(done)) => Some(done),
        Some(Err(error)) => {
            tracing::error!(phase = name, %error, "what a phase of the stop waits for ended in a panic");
            None
        }
        None => {
            task.abort();
            None
        }
    }
}

/// The same of many tasks that end at the same time: none has to wait for another.
pub(super) async fn tasks(
    limit: Duration,
    tasks: impl IntoIterator<Item = (&'static str, Option<JoinHandle<()>>)>,
) {
    let until = Instant::now() + limit;
    for (name, one) in tasks {
        let Some(one) = one else { continue };
        task(name, until.saturating_duration_since(Instant::now()), one).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(400);

    /// A task that never ends holds up neither those behind it nor the stop, and is gone afterwards.
    #[tokio::test]
    async fn what_does_not_end_is_cut_when_the_time_of_its_phase_is_over() {
        let held = std::sync::Arc::new(());
        let (at_first, at_last) = (held.clone(), held.clone());
        let never = tokio::spawn(async move {
            std::future::pending::<()>().await;
            drop(at_first);
        });
        let soon = tokio::spawn(async move {
            tokio::time::sleep(SHORT / 2).await;
            drop(at_last);
        });
        let began = Instant::now();
        tasks(SHORT, [("never", Some(never)), ("absent", None), ("soon", Some(soon))]).await;
        let elapsed = began.elapsed();
        assert!(elapsed >= SHORT && elapsed < SHORT * 10, "all of them together: {elapsed:?}");
        // What was aborted is dropped by the thread that runs it.
        tokio::time::sleep(SHORT / 4).await;
        assert_eq!(std::sync::Arc::strong_count(&held), 1, "both are gone");
        assert_eq!(phase("over", SHORT, async { 7 }).await, Some(7));
        assert_eq!(phase("never", SHORT, std::future::pending::<()>()).await, None);
        let panics =
            tokio::spawn(async move { assert!(std::sync::Arc::strong_count(&held) > 1, "on purpose") });
        assert_eq!(task("panics", SHORT, panics).await, None);
    }
}
