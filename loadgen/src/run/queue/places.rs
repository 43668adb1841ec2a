//! The queues of a run: made before, removed after.

use client::ErrorCode;
use wire::queue::Settings;

use super::super::RunError;
use super::super::choices::Route;
use super::super::options::RunArgs;
use super::super::site::Site;
use super::task::Place;

/// The queues that a run loads.
pub(super) struct Places {
    /// What is published to and consumed from.
    pub(super) all: Vec<Place>,
    /// Where dead letters go, if the run limits deliveries.
    pub(super) dead: Vec<Place>,
    origin: Origin,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    Ours,
    WasThere,
}

impl Places {
    /// Creates the queues, or takes the one that `args` name as it is, if it is there and empty.
    pub(super) fn open(site: &mut Site, args: &RunArgs, run: u32) -> Result<Self, RunError> {
        if let Some(name) = &args.topic {
            return Self::named(site, args, name);
        }
        let mut places = Self { all: Vec::new(), dead: Vec::new(), origin: Origin::Ours };
        let outcome = places.create(site, args, run);
        match outcome {
            Ok(()) => Ok(places),
            Err(error) => {
                let _ = places.remove(site);
                Err(error)
            }
        }
    }

    fn named(site: &mut Site, args: &RunArgs, name: &str) -> Result<Self, RunError> {
        let origin = match site.control.describe_queue(name) {
            Ok(found) => match waiting(&found.counts) {
                0 => Origin::WasThere,
                count => {
                    return Err(RunError::Setup(format!(
                        "queue {name} holds {count} messages, and a run would consume them: name \
                         an empty queue, or one that does not exist"
                    )));
                }
            },
            Err(error) if error.error_code() == Some(ErrorCode::UnknownQueue) => {
                site.control.create_queue(name, &Settings::new(), "")?;
                Origin::Ours
            }
            Err(error) => return Err(error.into()),
        };
        let all = vec![find(site, args, name)?];
        Ok(Self { all, dead: Vec::new(), origin })
    }

    fn create(&mut self, site: &mut Site, args: &RunArgs, run: u32) -> Result<(), RunError> {
        let mut settings = Settings::new();
        let limit = args.queue.delivery_limit();
        settings.delivery_limit = limit.into();
        let mut dead_letter = String::new();
        if limit > 0 {
            dead_letter = format!("bench-{run:08x}-dead");
            site.control.create_queue(&dead_letter, &Settings::new(), "")?;
            self.dead.push(find(site, args, &dead_letter)?);
        }
        for number in 0..args.partitions {
            let name = match args.partitions {
                1 => format!("bench-{run:08x}"),
                _ => format!("bench-{run:08x}-{number}"),
            };
            site.control.create_queue(&name, &settings, &dead_letter)?;
            self.all.push(find(site, args, &name)?);
        }
        Ok(())
    }

    /// Queues that are there, by name.
    pub(super) fn known(site: &mut Site, names: &[String]) -> Result<Vec<Place>, RunError> {
        let args = RunArgs { route: Route::Any, ..RunArgs::defaults() };
        names.iter().map(|name| find(site, &args, name)).collect()
    }

    /// The names of all, that of dead letters last.
    pub(super) fn names(&self) -> Vec<String> {
        self.all.iter().chain(&self.dead).map(|place| place.name.clone()).collect()
    }

    /// Removes what the run has made, messages and all.
    pub(super) fn remove(&self, site: &mut Site) -> Result<(), RunError> {
        if self.origin == Origin::WasThere {
            return Ok(());
        }
        for place in self.all.iter().chain(&self.dead) {
            site.control.delete_queue(&place.name, 0)?;
        }
        Ok(())
    }

    /// Messages in the queues that are loaded.
    pub(super) fn messages(&self, site: &mut Site) -> Result<u64, RunError> {
        messages(site, &self.all)
    }
}

/// Messages in some queues, those included that consumers have.
pub(super) fn messages(site: &mut Site, places: &[Place]) -> Result<u64, RunError> {
    let mut sum = 0;
    for place in places {
        sum += waiting(&site.control.describe_queue(&place.name)?.counts);
    }
    Ok(sum)
}

fn waiting(counts: &wire::queue::QueueCounts) -> u64 {
    counts.ready.get() + counts.leased.get() + counts.dying.get()
}

fn find(site: &mut Site, args: &RunArgs, name: &str) -> Result<Place, RunError> {
    let found = site.control.describe_queue(name)?;
    let used = site.address().to_owned();
    let address = match args.route {
        Route::Any => used,
        Route::Owner => {
            let endpoints = site.control.endpoints()?;
            let own = endpoints.iter().find(|endpoint| endpoint.shard == found.shard);
            // An owner without an endpoint of its own is reached where it was asked about.
            own.map_or_else(|| used.clone(), |endpoint| endpoint.address(&used))
        }
    };
    Ok(Place { id: found.queue, name: name.to_owned(), address })
}
