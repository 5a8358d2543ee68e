//! Threads that write and sync files beside each other. One sync at a time would be an order of
//! magnitude too slow (58 MB/s with a sync each megabyte); eight keep a disk's queue filled.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

type Job = Box<dyn FnOnce() + Send>;

/// Threads end when the pool is dropped.
#[derive(Debug)]
pub struct Pool {
    jobs: Option<Sender<Job>>,
}

impl Pool {
    /// With no threads, the caller's does all, in order.
    pub fn new(threads: usize) -> Self {
        let (jobs, queue) = channel::<Job>();
        let queue = Arc::new(parking_lot::Mutex::new(queue));
        let mut started = 0;
        for number in 0..threads {
            let queue = queue.clone();
            let thread = std::thread::Builder::new().name(format!("archive-sync-{number}"));
            match thread.spawn(move || work(&queue)) {
                Ok(_) => started += 1,
                Err(error) => tracing::warn!(%error, "a writing thread did not start"),
            }
        }
        Self { jobs: (started > 0).then_some(jobs) }
    }

    /// Does `work` to each item; answers them in order, `None` for one whose thread panicked.
    pub fn map<T: Send + 'static>(
        &self,
        items: Vec<T>,
        work: impl Fn(&mut T) + Send + Sync + 'static,
    ) -> Vec<Option<T>> {
        let jobs = match &self.jobs {
            Some(jobs) if items.len() > 1 => jobs,
            _ => {
                return items
                    .into_iter()
                    .map(|mut item| {
                        work(&mut item);
                        Some(item)
                    })
                    .collect();
            }
        };
        let work = Arc::new(work);
        let (done, results) = channel();
        let mut answers: Vec<Option<T>> = items.iter().map(|_| None).collect();
        for (position, mut item) in items.into_iter().enumerate() {
            let (work, done) = (work.clone(), done.clone());
            let job = move || {
                work(&mut item);
                // Nobody waits any more only where the caller panicked.
                let _ = done.send((position, item));
            };
            if let Err(unsent) = jobs.send(Box::new(job)) {
                (unsent.0)();
            }
        }
        drop(done);
        for (position, item) in results {
            if let Some(answer) = answers.get_mut(position) {
                *answer = Some(item);
            }
        }
        answers
    }
}

fn work(queue: &parking_lot::Mutex<Receiver<Job>>) {
    loop {
        let job = queue.lock().recv();
        match job {
            Ok(job) => job(),
            Err(_) => return,
        }
    }
}
