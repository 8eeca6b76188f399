//! What becomes of a question, however it came: answered from the directory, from memory, or by others.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};

use bascule_common::abi::QuestionKey;
use hickory_proto::op::ResponseCode;

use super::{
    answer::{self, Judged, Manner},
    cache::{Cache, Key},
    directory::{Asker, Directory},
    forward::{Forwarder, Transport, Witness},
    limits::{Limit, Place},
    told::{self, Exchange},
    upstreams::Upstreams,
    wire,
};
use crate::{
    model::{Desired, NameSettings},
    telemetry::{By, DnsMetrics, Events, Metrics, Questions, Refusal},
};

/// Questions that others are asked at once, for everybody and for one container.
const UNDER_WAY: (usize, usize) = (1024, 256);

/// What the agent was asked for, now.
pub type Wishes = Arc<dyn Fn() -> Wish + Send + Sync>;

/// What names and servers follow from.
#[derive(Clone, Debug, PartialEq)]
pub struct Wish {
    /// Networks and containers.
    pub desired: Arc<Desired>,
    /// What the operator has set for everybody.
    pub names: NameSettings,
}

/// Answers questions.
pub struct Engine {
    wishes: Wishes,
    view: RwLock<Arc<View>>,
    upstreams: Upstreams,
    forwarder: Forwarder,
    cache: Cache,
    under_way: Arc<Limit>,
    metrics: Arc<Metrics>,
    events: Events,
}

/// The directory of a moment.
#[derive(Debug)]
pub(super) struct View {
    pub(super) wish: Wish,
    pub(super) directory: Directory,
}

/// A question that others are to answer.
#[derive(Debug)]
pub(super) struct Errand {
    exchange: Exchange,
    request: Vec<u8>,
    servers: Vec<SocketAddr>,
    network: u32,
    key: Option<Key>,
    _place: Place,
}

/// What becomes of a question.
#[derive(Debug)]
pub(super) enum Fate {
    /// The answer; with what counts it, if it is the same as long as the view is.
    Answer(Vec<u8>, Option<Questions>),
    /// It takes a while.
    Errand(Box<Errand>),
    /// There is none.
    None,
}

impl Engine {
    /// Makes it.
    pub fn new(wishes: Wishes, metrics: Arc<Metrics>, events: Events) -> Self {
        let view = RwLock::new(Arc::new(View::of(wishes())));
        Self {
            wishes,
            view,
            upstreams: Upstreams::default(),
            forwarder: Forwarder::default(),
            cache: Cache::default(),
            under_way: Limit::new(UNDER_WAY.0, UNDER_WAY.1),
            metrics,
            events,
        }
    }

    /// Returns what holds now: a change that was made is seen by whoever asks next.
    pub(super) fn view(&self) -> Arc<View> {
        let wish = (self.wishes)();
        let view = Arc::clone(&self.view.read().unwrap_or_else(PoisonError::into_inner));
        if Arc::ptr_eq(&view.wish.desired, &wish.desired) && view.wish.names == wish.names {
            return view;
        }
        let new = Arc::new(View::of(wish));
        *self.view.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&new);
        new
    }

    /// How a question that came by datagram, or not, is answered.
    pub(super) fn manner(view: &View, transport: Transport, turn: usize) -> Manner {
        let longest = match transport {
            Transport::Udp => None,
            Transport::Tcp => Some(usize::from(u16::MAX)),
        };
        Manner { ttl: view.wish.names.ttl, longest, turn }
    }

    /// What is counted.
    pub(super) fn metrics(&self) -> &DnsMetrics {
        &self.metrics.dns
    }

    /// Tells those who watch of an answer: by the agent, from its memory, or by another server after a while.
    pub(super) fn tell(&self, exchange: Exchange, answer: &[u8], by: By, took: Duration) {
        if self.events.are_questions_watched() {
            self.events.tell(told::seen(&self.view(), exchange, answer, by, took));
        }
    }

    /// Judges a question of a container's.
    pub(super) fn judge(
        &self,
        view: &View,
        (client, asked): (IpAddr, IpAddr),
        request: &[u8],
        manner: Manner,
    ) -> Fate {
        let asker = view.directory.asker(client, asked);
        let network = asker.as_ref().map_or(QuestionKey::NOBODY, Asker::network_index);
        match answer::judge(asker.as_ref(), request, manner) {
            Judged::Answer { bytes, code, lasts } => {
                let counter = self.metrics().counter(network, By::Local, u16::from(code));
                counter.count();
                self.tell(Exchange::of(client, asked, manner), &bytes, By::Local, Duration::ZERO);
                Fate::Answer(bytes, lasts.then_some(counter))
            }
            Judged::Ignore => Fate::None,
            Judged::Forward => match asker {
                Some(asker) => self.elsewhere(view, &asker, (client, asked), request, manner),
                None => Fate::None,
            },
        }
    }

    /// What is to be done about a name that is none of ours.
    fn elsewhere(
        &self,
        view: &View,
        asker: &Asker<'_>,
        (client, asked): (IpAddr, IpAddr),
        request: &[u8],
        manner: Manner,
    ) -> Fate {
        let network = asker.network_index();
        let exchange = Exchange::of(client, asked, manner);
        let failed = || {
            self.metrics().answered(network, By::Local, ResponseCode::ServFail.into());
            let Some(answer) = answer::without(request, ResponseCode::ServFail) else {
                return Fate::None;
            };
            self.tell(exchange, &answer, By::Local, Duration::ZERO);
            Fate::Answer(answer, None)
        };
        let mut servers = self.servers(view, asker);
        let told = servers.len();
        servers.retain(|server| !asker.has(server.ip()));
        if servers.is_empty() {
            if told > 0 {
                self.metrics().refused(Refusal::Loop);
            }
            return failed();
        }
        let own = wire::for_another(request);
        let key = Key::of(&servers, &own);
        if let Some(mut found) = key.as_ref().and_then(|key| self.cache.get(key, request)) {
            self.metrics().answered(network, By::Cache, wire::code(&found).into());
            self.tell(exchange, &found, By::Cache, Duration::ZERO);
            wire::fit(&mut found, manner.longest.unwrap_or_else(|| answer::longest(request)));
            return Fate::Answer(found, None);
        }
        let Some(place) = self.under_way.take(client) else {
            self.metrics().refused(Refusal::Busy);
            return failed();
        };
        Fate::Errand(Box::new(Errand {
            exchange,
            request: own,
            servers,
            network,
            key,
            _place: place,
        }))
    }

    /// Whom to ask for a container: where it has no way to the outside itself, its own servers on its own networks.
    fn servers(&self, view: &View, asker: &Asker<'_>) -> Vec<SocketAddr> {
        let port = |ip: &IpAddr| SocketAddr::new(*ip, 53);
        let own = asker.servers();
        if !asker.reaches_out() {
            return own.iter().filter(|ip| asker.is_near(**ip)).map(port).collect();
        }
        match (own, view.wish.names.resolver.servers.as_slice()) {
            ([], []) => self.upstreams.get(view.wish.names.resolv_conf.as_deref()),
            ([], all) => all.iter().map(port).collect(),
            (own, _) => own.iter().map(port).collect(),
        }
    }

    /// Has others answer a question.
    pub(super) async fn run(&self, errand: Errand, transport: Transport) -> Option<Vec<u8>> {
        let Errand { exchange, request, servers, network, key, _place } = errand;
        let begin = Instant::now();
        let answer = self.forwarder.ask(&request, transport, &servers, self).await;
        let Some(mut answer) = answer else {
            self.metrics().answered(network, By::Upstream, ResponseCode::ServFail.into());
            let answer = answer::without(&request, ResponseCode::ServFail)?;
            self.tell(exchange, &answer, By::Upstream, begin.elapsed());
            return Some(answer);
        };
        self.metrics().answered(network, By::Upstream, wire::code(&answer).into());
        self.tell(exchange, &answer, By::Upstream, begin.elapsed());
        if let Some(key) = key {
            self.cache.put(key, &answer);
        }
        if transport == Transport::Udp {
            wire::fit(&mut answer, answer::longest(&request));
        }
        Some(answer)
    }
}

impl Witness for Engine {
    fn asked(&self, server: SocketAddr, answered: Option<Duration>) {
        self.metrics().upstream(server.ip(), answered);
    }
}

impl View {
    fn of(wish: Wish) -> Self {
        let directory = Directory::of(&wish.desired, wish.names.default_bridge);
        Self { wish, directory }
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}
