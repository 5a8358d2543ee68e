//! Where pictures are computed: as many at once as there are cores, off the threads that answer
//! requests, and with a bounded number waiting.

use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Waiting behind those under way: some seconds of work, which a player waits for.
const MAX_WAITING: usize = 256;

/// Too many wait already, or the work failed in a way that it should not; later it may work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many pictures are being made")]
pub struct Busy;

#[derive(Debug)]
pub struct Pool {
    admitted: Arc<Semaphore>,
    running: Arc<Semaphore>,
}

impl Default for Pool {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self::of(cores, MAX_WAITING)
    }
}

impl Pool {
    fn of(running: usize, waiting: usize) -> Self {
        Self {
            admitted: Arc::new(Semaphore::new(running + waiting)),
            running: Arc::new(Semaphore::new(running)),
        }
    }

    /// Waits for a turn. What the work needs is to be gathered then, and not while many wait.
    pub async fn turn(&self) -> Result<Turn, Busy> {
        let admitted = self.admitted.clone().try_acquire_owned().map_err(|_| Busy)?;
        let running = self.running.clone().acquire_owned().await.map_err(|_| Busy)?;
        Ok(Turn { _permits: [running, admitted] })
    }
}

/// The right to work; the next one's turn comes when it is dropped.
#[derive(Debug)]
pub struct Turn {
    _permits: [OwnedSemaphorePermit; 2],
}

impl Turn {
    /// Does the work. It goes on, and keeps its place, when nobody waits for it any more.
    pub async fn run<T: Send + 'static>(
        self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Busy> {
        let done = tokio::task::spawn_blocking(move || {
            let done = work();
            drop(self);
            done
        });
        done.await.map_err(|error| {
            tracing::error!(%error, "a picture was not made");
            Busy
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    #[tokio::test(flavor = "multi_thread")]
    async fn bounded_at_work_and_in_the_queue() {
        let pool = Arc::new(Pool::of(2, 3));
        let (release, released) = mpsc::channel::<()>();
        let released = Arc::new(std::sync::Mutex::new(released));
        let [begun, most] = [0, 1].map(|_| Arc::new(AtomicUsize::new(0)));
        let tasks: Vec<_> = (0..5)
            .map(|_| {
                let (pool, released) = (pool.clone(), released.clone());
                let (begun, most) = (begun.clone(), most.clone());
                tokio::spawn(async move {
                    let turn = pool.turn().await?;
                    let work = move || {
                        most.fetch_max(begun.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        released.lock().unwrap().recv().unwrap();
                        begun.fetch_sub(1, Ordering::SeqCst);
                    };
                    turn.run(work).await
                })
            })
            .collect();
        while pool.admitted.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        assert!(pool.turn().await.is_err());
        for _ in 0..5 {
            release.send(()).unwrap();
        }
        for task in tasks {
            assert_eq!(task.await.unwrap(), Ok(()));
        }
        assert!(most.load(Ordering::SeqCst) <= 2);
        assert_eq!(pool.turn().await.unwrap().run(|| 7).await, Ok(7));
    }
}
