//! The way to each partition's owner: what metadata says, and one connection per endpoint.
//!
//! Metadata names endpoints by shard, and each partition's shard. Endpoints that are equal share
//! a route, so against a broker with one port everything goes over one connection. What is lost
//! is mended in steps:
//!
//! 1. A connection breaks, or a shard says that it does not know or own a partition. Its user
//!    drops what was on its way; after a pause metadata is asked for over a new connection.
//! 2. The topics are the same: routes are made anew, since endpoints may have moved, come or gone.
//!    Live connections are kept where their address still is an endpoint's.
//! 3. A topic is gone, or has another id: its user is told, for its positions mean nothing now.
//! 4. Nothing answers, or what answers breaks again: it is tried again after a longer pause, until
//!    `reconnect_for` is over.

use std::time::{Duration, Instant};

use crate::connection::{ConnectOptions, Connection, Metadata, TopicMetadata};
use crate::error::ClientError;
use crate::limits::{RECONNECT_PAUSE_MAX, RECONNECT_PAUSE_MIN};
use crate::network::Network;
use crate::session::{Limits, SendError};
use crate::transport::Transport;
use wire::ErrorCode;

/// A connection that is up, with what its user keeps for it.
#[derive(Debug)]
pub(crate) struct Link<T: Transport, S> {
    /// Never given twice by one router.
    pub(crate) serial: u64,
    pub(crate) connection: Connection<T>,
    pub(crate) state: S,
}

/// One address that serves partitions, or that answers questions.
#[derive(Debug)]
pub(crate) struct Route<T: Transport, S> {
    pub(crate) address: String,
    pub(crate) link: Option<Link<T, S>>,
}

/// A time in which a connection that is needed is not there, or does not serve.
#[derive(Debug)]
struct Outage {
    since: Instant,
    /// When to try next; `None` while it is not known yet whether the last try helped.
    retry_at: Option<Instant>,
    pause: Duration,
    cure: Cure,
}

/// What may end an outage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cure {
    /// Time: a broker that is overloaded is not asked for metadata on top.
    Pause,
    /// New metadata and connections.
    Refresh,
}

/// Whether [`Router::mend`] changed anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mended {
    /// Nothing was to be done, or it is too early to try.
    Nothing,
    /// Routes are new: what was derived from them must be made again.
    Rerouted,
}

/// Routes to the partitions of some topics.
#[derive(Debug)]
pub(crate) struct Router<N: Network, S> {
    pub(crate) network: N,
    connect: ConnectOptions,
    topics: Vec<TopicMetadata>,
    /// The first is the address that the user gave.
    pub(crate) routes: Vec<Route<N::Transport, S>>,
    /// The route of each shard.
    by_shard: Vec<(u16, usize)>,
    limits: Limits,
    next_serial: u64,
    /// A connection was dropped and not made again yet.
    is_cut: bool,
    outage: Option<Outage>,
}

impl<N: Network, S: Default> Router<N, S> {
    /// Connects to `HOST:PORT` and looks the topics up.
    pub(crate) fn new(
        mut network: N,
        address: &str,
        topics: &[&str],
        connect: &ConnectOptions,
    ) -> Result<Self, ClientError> {
        let mut connection = dial(&mut network, address, connect)?;
        if topics.is_empty() {
            let error = SendError::Invalid("no topic is named: name at least one");
            return Err(ClientError::Request(error));
        }
        let metadata = connection.metadata(topics)?;
        let mut router = Router {
            network,
            connect: connect.clone(),
            topics: Vec::new(),
            routes: vec![Route { address: address.to_owned(), link: None }],
            by_shard: Vec::new(),
            limits: connection.limits(),
            next_serial: 0,
            is_cut: false,
            outage: None,
        };
        router.adopt(address, connection, metadata);
        Ok(router)
    }

    /// The topics, in the order in which they were named.
    pub(crate) fn topics(&self) -> &[TopicMetadata] {
        &self.topics
    }

    /// A route's connection, if it is up, and the topics.
    pub(crate) fn parts(
        &mut self,
        route: usize,
    ) -> (Option<&mut Link<N::Transport, S>>, &[TopicMetadata]) {
        (self.routes[route].link.as_mut(), &self.topics)
    }

    /// How long a reply may take.
    pub(crate) const fn request_timeout(&self) -> Duration {
        self.connect.request_timeout
    }

    /// What the broker allows.
    pub(crate) const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The route to a partition's owner.
    pub(crate) fn route_of(&self, topic: usize, partition: u32) -> usize {
        let partition = usize::try_from(partition).expect("32 bits fit usize");
        let owner = self.topics.get(topic).and_then(|topic| topic.partitions.get(partition));
        let shard = owner.map_or(0, |owner| owner.shard.get());
        // A broker that names no endpoint for the shard forwards by itself.
        let found = self.by_shard.iter().find(|(of, _)| *of == shard);
        found.map_or(0, |(_, route)| *route)
    }

    /// Connects the route if it is not.
    pub(crate) fn connect_route(&mut self, route: usize) -> Result<(), ClientError> {
        let Route { address, link } = &mut self.routes[route];
        if link.is_none() {
            let connection = dial(&mut self.network, address, &self.connect)?;
            let serial = self.next_serial;
            self.next_serial += 1;
            *link = Some(Link { serial, connection, state: S::default() });
        }
        Ok(())
    }

    /// Ends a connection that failed; gives what was kept for it.
    pub(crate) fn cut(&mut self, route: usize) -> Option<Link<N::Transport, S>> {
        self.is_cut = true;
        self.routes[route].link.take()
    }

    /// Something failed. Passing errors begin or prolong an outage; others, and those that have
    /// gone on for too long, are given back.
    pub(crate) fn failed(&mut self, error: ClientError, now: Instant) -> Result<(), ClientError> {
        if error.is_passing() { self.wait_out(error, now) } else { Err(error) }
    }

    /// The same of an error that passes here, whatever it is elsewhere.
    pub(crate) fn wait_out(&mut self, error: ClientError, now: Instant) -> Result<(), ClientError> {
        let is_overloaded = error.error_code() == Some(ErrorCode::Overloaded);
        let outage = self.outage.get_or_insert(Outage {
            since: now,
            retry_at: None,
            pause: RECONNECT_PAUSE_MIN,
            cure: Cure::Pause,
        });
        if !is_overloaded {
            outage.cure = Cure::Refresh;
        }
        if now.saturating_duration_since(outage.since) >= self.connect.reconnect_for {
            self.outage = None;
            return Err(error);
        }
        if outage.retry_at.is_none() {
            outage.retry_at = Some(now + outage.pause);
            outage.pause = (outage.pause * 2).min(RECONNECT_PAUSE_MAX);
        }
        Ok(())
    }

    /// The broker served something: the last try to mend an outage has helped.
    pub(crate) fn served(&mut self) {
        if self.outage.as_ref().is_some_and(|outage| outage.retry_at.is_none()) {
            self.outage = None;
        }
    }

    /// When to try again, during an outage.
    pub(crate) fn retry_at(&self) -> Option<Instant> {
        self.outage.as_ref().and_then(|outage| outage.retry_at)
    }

    /// During an outage whose pause is over: asks for metadata and connects the routes of the
    /// wanted partitions, given as topic and partition.
    pub(crate) fn mend(
        &mut self,
        now: Instant,
        wanted: impl Iterator<Item = (usize, u32)>,
    ) -> Result<Mended, ClientError> {
        let is_due = match &mut self.outage {
            Some(outage) => {
                let is_over = outage.retry_at.take_if(|at| now >= *at).is_some();
                is_over && std::mem::replace(&mut outage.cure, Cure::Pause) == Cure::Refresh
            }
            // It was given up before, and is wanted again.
            None => self.is_cut,
        };
        if !is_due {
            return Ok(Mended::Nothing);
        }
        let result = self.refresh().and_then(|()| self.connect_wanted(wanted));
        match result {
            Ok(()) => {
                self.is_cut = false;
                Ok(Mended::Rerouted)
            }
            // Connecting takes time, which counts.
            Err(error) => self.failed(error, Instant::now()).map(|()| Mended::Rerouted),
        }
    }

    /// Connects the routes of these partitions.
    pub(crate) fn connect_wanted(
        &mut self,
        wanted: impl Iterator<Item = (usize, u32)>,
    ) -> Result<(), ClientError> {
        let mut is_wanted = vec![false; self.routes.len()];
        for (topic, partition) in wanted {
            is_wanted[self.route_of(topic, partition)] = true;
        }
        let mut wanted = (0..self.routes.len()).filter(|route| is_wanted[*route]);
        wanted.try_for_each(|route| self.connect_route(route))
    }

    /// Waits until a connection has something, or until the deadline or the time to try again.
    pub(crate) fn wait(&mut self, deadline: Instant) -> Result<(), ClientError> {
        let deadline = self.retry_at().map_or(deadline, |at| at.min(deadline));
        let links = self.routes.iter().filter_map(|route| route.link.as_ref());
        let waits: Vec<_> =
            links.map(|link| (link.connection.transport(), link.connection.interest())).collect();
        let result = self.network.wait(&waits, deadline);
        result.map_err(|source| ClientError::Lost { source: Some(source) })
    }

    /// Asks for metadata at the address the user gave, or at any other that is known.
    fn refresh(&mut self) -> Result<(), ClientError> {
        let names: Vec<&str> = self.topics.iter().map(|topic| topic.name.as_str()).collect();
        let mut first_error = None;
        for route in &self.routes {
            let address = route.address.clone();
            let asked =
                dial(&mut self.network, &address, &self.connect).and_then(|mut connection| {
                    let metadata = connection.metadata(&names)?;
                    Ok((connection, metadata))
                });
            match asked {
                Ok((connection, metadata)) => {
                    self.recreated(&metadata)?;
                    self.adopt(&address, connection, metadata);
                    return Ok(());
                }
                // It is the broker that says so, wherever it was asked.
                Err(error @ ClientError::Refused { .. }) => return Err(error),
                Err(error) => {
                    first_error.get_or_insert(error);
                }
            }
        }
        Err(first_error.expect("the first route always exists"))
    }

    /// Whether a topic of ours has another id than before.
    fn recreated(&self, metadata: &Metadata) -> Result<(), ClientError> {
        let known = self.topics.iter().zip(&metadata.topics);
        let mut changed = known.filter(|(before, now)| before.topic_id != now.topic_id);
        match changed.next() {
            None => Ok(()),
            Some((topic, _)) => Err(ClientError::TopicRecreated { topic: topic.name.clone() }),
        }
    }

    /// Makes the routes anew; `connection`, to `address`, is kept if it serves one.
    fn adopt(&mut self, address: &str, connection: Connection<N::Transport>, metadata: Metadata) {
        let first = self.routes[0].address.clone();
        let mut before = std::mem::take(&mut self.routes);
        self.limits = connection.limits();
        let mut take = |address: &str| {
            let found = before.iter_mut().find(|route| route.address == address);
            found.and_then(|route| route.link.take())
        };
        self.routes.push(Route { link: take(&first), address: first.clone() });
        self.by_shard.clear();
        for endpoint in &metadata.endpoints {
            let address = endpoint.address(&first);
            let known = self.routes.iter().position(|route| route.address == address);
            let route = known.unwrap_or_else(|| {
                self.routes.push(Route { link: take(&address), address });
                self.routes.len() - 1
            });
            self.by_shard.push((endpoint.shard, route));
        }
        self.topics = metadata.topics;
        let serial = self.next_serial;
        self.next_serial += 1;
        if let Some(route) = self.routes.iter_mut().find(|route| route.address == address)
            && route.link.is_none()
        {
            route.link = Some(Link { serial, connection, state: S::default() });
        }
        let mut owners = self.topics.iter().enumerate().flat_map(|(index, topic)| {
            let count = u32::try_from(topic.partitions.len()).expect("partitions are 32 bits");
            (0..count).map(move |partition| (index, partition))
        });
        // The address that the user gave may be nobody's own: it is asked, and then let go.
        if !owners.any(|(topic, partition)| self.route_of(topic, partition) == 0) {
            self.routes[0].link = None;
        }
    }
}

fn dial<N: Network>(
    network: &mut N,
    address: &str,
    options: &ConnectOptions,
) -> Result<Connection<N::Transport>, ClientError> {
    let transport = network
        .connect(address)
        .map_err(|source| ClientError::Connect { address: address.to_owned(), source })?;
    Connection::with_transport(transport, options)
}
