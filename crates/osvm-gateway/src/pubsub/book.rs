//! One client's subscriptions, kept by ids of the gateway's own while the instances behind them change. No I/O: events go in,
//! texts come out.
//!
//! There are at most two links. The *live* one's news goes to the client; the *next* one's is held back, so that nothing
//! is lost when it takes over:
//!
//! ```text
//!   attach ─▶ live            attach ─▶ next (held)      shift: new requests go to next
//!                                                        promote: next is live; what it had held and the client has not
//!                                                        seen follows; of what it says again nothing is passed on twice
//! ```

use std::collections::{BTreeMap, HashMap, VecDeque};

use serde_json::value::RawValue;

use super::message::{self, FromInstance, Mark, Outcome};

/// Names a connection to an instance.
pub(super) type LinkId = u64;

/// Subscriptions and unanswered requests of one client.
pub(super) const MOST: usize = 10_000;
/// News of one subscription that is held back, and marks that are remembered.
const HELD: usize = 256;
/// An instance whose slots lie so far back has another ledger; its news is news.
const ANOTHER_LEDGER: u64 = 512;
/// News that came before the answer that says whose it is.
const EARLY: usize = 256;

const INVALID_REQUEST: i32 = -32600;
const INVALID_PARAMS: i32 = -32602;
const LIMIT: i32 = -32005;

/// A text and whom it is for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Out {
    Client(String),
    Link(LinkId, String),
}

/// All of one client.
#[derive(Debug, Default)]
pub(super) struct Book {
    next_subscription: u64,
    next_request: u64,
    subscriptions: BTreeMap<u64, Subscription>,
    links: HashMap<LinkId, Link>,
    live: Option<LinkId>,
    next: Option<LinkId>,
    shifted: bool,
    /// Requests that no link could take yet, in order.
    parked: VecDeque<Ask>,
    next_batch: u64,
    /// Batches of which some calls are not answered yet.
    batches: HashMap<u64, Batch>,
    out: Vec<Out>,
}

#[derive(Debug)]
struct Subscription {
    /// `account` of `accountSubscribe`.
    kind: String,
    params: Option<Box<RawValue>>,
    /// Its ids on the links.
    on: Vec<(LinkId, u64)>,
    seen: Seen,
    held: VecDeque<(Mark, String, Box<RawValue>)>,
}

/// What the client has been told.
#[derive(Debug, Default)]
struct Seen {
    slot: Option<u64>,
    /// Marks of that slot's news, or of the latest where there are no slots.
    keys: VecDeque<u64>,
    /// Whether another instance has taken over and may say again what was said.
    guarded: bool,
}

#[derive(Debug, Default)]
struct Link {
    asked: BTreeMap<u64, Ask>,
    ids: HashMap<u64, u64>,
    early: VecDeque<(u64, String, Box<RawValue>)>,
}

/// Whom an answer is for.
#[derive(Debug)]
struct Caller {
    /// The id of the client's call, as JSON.
    id: String,
    batch: Option<u64>,
}

/// A batch is answered as one text, when its last call is.
#[derive(Debug)]
struct Batch {
    left: usize,
    answers: Vec<String>,
}

/// A request that is on its way to an instance.
#[derive(Debug)]
enum Ask {
    /// A client's new subscription.
    Subscribe { caller: Caller, method: String, params: Option<Box<RawValue>> },
    /// One of the book's, of this kind, on a further link.
    Reopen(u64, String),
    /// Something else of the client's.
    Other { caller: Caller, method: String, params: Option<Box<RawValue>> },
    /// The answer is of no interest.
    Close,
}

impl Seen {
    /// Notes what is told to the client; whether it is to be told at all.
    fn admit(&mut self, mark: Mark) -> bool {
        if self.guarded && self.is_repeated(mark) {
            return false;
        }
        if mark.slot != self.slot {
            if mark.slot > self.slot {
                self.guarded = false;
            }
            self.slot = mark.slot;
            self.keys.clear();
        }
        if self.keys.len() == HELD {
            self.keys.pop_front();
        }
        self.keys.push_back(mark.key);
        true
    }

    fn is_repeated(&mut self, mark: Mark) -> bool {
        if let (Some(slot), Some(seen)) = (mark.slot, self.slot) {
            if slot < seen {
                return seen - slot < ANOTHER_LEDGER;
            }
            if slot > seen {
                return false;
            }
        }
        // The same thing may truly happen twice in a slot: each telling takes one mark away.
        let found = self.keys.iter().position(|key| *key == mark.key);
        found.map(|index| self.keys.remove(index)).is_some()
    }
}

impl Book {
    pub(super) fn take_out(&mut self) -> Vec<Out> {
        std::mem::take(&mut self.out)
    }

    pub(super) fn subscriptions(&self) -> usize {
        self.subscriptions.len()
    }

    /// Subscriptions that are open on a link.
    pub(super) fn open_on(&self, link: LinkId) -> usize {
        self.links.get(&link).map_or(0, |link| link.ids.len())
    }

    /// Whether every subscription was asked for on the link, and answered.
    pub(super) fn is_settled(&self, link: LinkId) -> bool {
        let reopening = |link: &Link| link.asked.values().any(|ask| matches!(ask, Ask::Reopen(..)));
        self.links.get(&link).is_some_and(|link| !reopening(link))
    }

    pub(super) fn live(&self) -> Option<LinkId> {
        self.live
    }

    pub(super) fn next(&self) -> Option<LinkId> {
        self.next
    }

    pub(super) fn is_shifted(&self) -> bool {
        self.shifted
    }

    /// Where a client's requests go.
    fn target(&self) -> Option<LinkId> {
        if self.shifted { self.next } else { self.live }
    }

    /// A link is up while there is no live one: it is live. All subscriptions are opened on it.
    pub(super) fn attach_live(&mut self, link: LinkId) {
        self.live = Some(link);
        self.subscriptions.values_mut().for_each(|one| one.seen.guarded = true);
        self.open_all(link);
        self.send_parked();
    }

    /// A link is up that is to follow the live one. All subscriptions are opened on it, and its news is held back.
    pub(super) fn attach_next(&mut self, link: LinkId) {
        self.drop_next();
        self.next = Some(link);
        self.open_all(link);
        self.send_parked();
    }

    /// The next link is no longer wanted, or gone.
    pub(super) fn drop_next(&mut self) {
        if let Some(next) = self.next.take() {
            self.shifted = false;
            self.subscriptions.values_mut().for_each(|one| one.held.clear());
            self.remove_link(next);
        }
    }

    fn open_all(&mut self, link: LinkId) {
        self.links.insert(link, Link::default());
        let all: Vec<u64> = self.subscriptions.keys().copied().collect();
        for id in all {
            self.reopen(link, id);
        }
    }

    /// From now on the client's requests go to the next link (or back to the live one).
    pub(super) fn shift(&mut self, shifted: bool) {
        self.shifted = shifted;
        self.send_parked();
    }

    /// The next link is live from now on. The old one is forgotten; what it had not answered is asked again.
    pub(super) fn promote(&mut self) {
        let Some(next) = self.next.take() else { return };
        let old = self.live.replace(next);
        self.shifted = false;
        if let Some(old) = old {
            self.remove_link(old);
        }
        let ids: Vec<u64> = self.subscriptions.keys().copied().collect();
        for id in ids {
            let Some(subscription) = self.subscriptions.get_mut(&id) else { continue };
            subscription.seen.guarded = true;
            for (mark, method, result) in std::mem::take(&mut subscription.held) {
                self.deliver(id, mark, &method, &result);
            }
        }
        self.send_parked();
    }

    /// A link is gone. What it had not answered is asked again on the other, or on the next to come.
    pub(super) fn detach(&mut self, link: LinkId) {
        if self.next == Some(link) {
            self.drop_next();
        } else if self.live == Some(link) {
            if self.shifted && self.next.is_some() {
                self.promote();
            } else {
                self.live = None;
                self.remove_link(link);
            }
        }
        self.send_parked();
    }

    fn remove_link(&mut self, link: LinkId) {
        let Some(removed) = self.links.remove(&link) else { return };
        for subscription in self.subscriptions.values_mut() {
            subscription.on.retain(|(on, _)| *on != link);
        }
        let again = removed.asked.into_values().filter(|ask| matches!(ask, Ask::Subscribe { .. } | Ask::Other { .. }));
        // Before what came later.
        let later = std::mem::take(&mut self.parked);
        self.parked = again.chain(later).collect();
    }

    fn send_parked(&mut self) {
        let Some(target) = self.target() else { return };
        for ask in std::mem::take(&mut self.parked) {
            self.send(target, ask);
        }
    }

    fn send(&mut self, link: LinkId, ask: Ask) {
        let id = self.next_request;
        let text = match &ask {
            Ask::Subscribe { method, params, .. } | Ask::Other { method, params, .. } => {
                message::request(id, method, params.as_deref())
            }
            // These two are written where they are made.
            Ask::Reopen(..) | Ask::Close => return,
        };
        self.put(link, ask, text);
    }

    fn reopen(&mut self, link: LinkId, id: u64) {
        let Some(subscription) = self.subscriptions.get(&id) else { return };
        let method = format!("{}Subscribe", subscription.kind);
        let text = message::request(self.next_request, &method, subscription.params.as_deref());
        self.put(link, Ask::Reopen(id, subscription.kind.clone()), text);
    }

    fn close(&mut self, link: LinkId, kind: &str, id: u64) {
        let text =
            format!(r#"{{"jsonrpc":"2.0","id":{},"method":"{kind}Unsubscribe","params":[{id}]}}"#, self.next_request);
        self.put(link, Ask::Close, text);
    }

    fn put(&mut self, link: LinkId, ask: Ask, text: String) {
        if let Some(state) = self.links.get_mut(&link) {
            state.asked.insert(self.next_request, ask);
            self.next_request += 1;
            self.out.push(Out::Link(link, text));
        }
    }

    /// A text of the client's: a call, or a batch of calls.
    pub(super) fn on_client(&mut self, text: &str) {
        match message::batch(text) {
            None => self.on_call(text, None),
            Some(calls) if calls.is_empty() => self.on_call("", None),
            Some(calls) => {
                let batch = self.next_batch;
                self.next_batch += 1;
                self.batches.insert(batch, Batch { left: calls.len(), answers: Vec::with_capacity(calls.len()) });
                for call in calls {
                    self.on_call(call.get(), Some(batch));
                }
            }
        }
    }

    fn on_call(&mut self, text: &str, batch: Option<u64>) {
        let Some(request) = message::from_client(text) else {
            let caller = Caller { id: "null".to_owned(), batch };
            let answer = message::error(&caller.id, INVALID_REQUEST, "not a JSON-RPC request");
            return self.answer(&caller, answer);
        };
        let caller = Caller { id: request.id.map_or("null", RawValue::get).to_owned(), batch };
        let (method, params) = (request.method.into_owned(), request.params);
        if method.strip_suffix("Unsubscribe").is_some_and(is_kind) {
            return self.unsubscribe(&caller, params);
        }
        let asked: usize = self.links.values().map(|link| link.asked.len()).sum();
        if self.subscriptions.len() + self.parked.len() + asked >= MOST {
            let answer = message::error(&caller.id, LIMIT, "too many subscriptions on one connection");
            return self.answer(&caller, answer);
        }
        let params = params.map(ToOwned::to_owned);
        let ask = if method.strip_suffix("Subscribe").is_some_and(is_kind) {
            Ask::Subscribe { caller, method, params }
        } else {
            Ask::Other { caller, method, params }
        };
        self.parked.push_back(ask);
        self.send_parked();
    }

    fn answer(&mut self, caller: &Caller, answer: String) {
        let whole = match caller.batch {
            None => answer,
            Some(number) => {
                let Some(batch) = self.batches.get_mut(&number) else { return };
                batch.left -= 1;
                batch.answers.push(answer);
                if batch.left > 0 {
                    return;
                }
                let answers = std::mem::take(&mut batch.answers);
                self.batches.remove(&number);
                format!("[{}]", answers.join(","))
            }
        };
        self.out.push(Out::Client(whole));
    }

    fn unsubscribe(&mut self, caller: &Caller, params: Option<&RawValue>) {
        let known = message::only_number(params).filter(|id| self.subscriptions.contains_key(id));
        let answer = match known {
            Some(id) => {
                self.forget(id, None);
                message::result(&caller.id, true)
            }
            None => message::error(&caller.id, INVALID_PARAMS, "Invalid subscription id."),
        };
        self.answer(caller, answer);
    }

    /// Strikes a subscription out, and closes it on every link but the one that did so by itself.
    fn forget(&mut self, id: u64, closed_on: Option<LinkId>) {
        let Some(subscription) = self.subscriptions.remove(&id) else { return };
        for (link, its_id) in subscription.on {
            if let Some(state) = self.links.get_mut(&link) {
                state.ids.remove(&its_id);
            }
            if Some(link) != closed_on {
                self.close(link, &subscription.kind, its_id);
            }
        }
    }

    /// A text of an instance's.
    pub(super) fn on_link(&mut self, link: LinkId, text: &str) {
        match message::from_instance(text) {
            Some(FromInstance::Answer { id, outcome }) => self.on_answer(link, id, outcome),
            Some(FromInstance::News { method, subscription, result }) => {
                self.on_news(link, &method, subscription, result);
            }
            None => {}
        }
    }

    fn on_answer(&mut self, link: LinkId, id: u64, outcome: Outcome<'_>) {
        let Some(state) = self.links.get_mut(&link) else { return };
        let Some(ask) = state.asked.remove(&id) else { return };
        let granted = match outcome {
            Outcome::Result(result) => result.get().parse::<u64>().ok(),
            Outcome::Error(_) => None,
        };
        match (ask, granted) {
            (Ask::Subscribe { caller, method, params }, Some(its_id)) => {
                let id = self.next_subscription;
                self.next_subscription += 1;
                let kind = method.trim_end_matches("Subscribe").to_owned();
                let (on, seen, held) = (vec![(link, its_id)], Seen::default(), VecDeque::new());
                self.subscriptions.insert(id, Subscription { kind, params, on, seen, held });
                self.answer(&caller, message::result(&caller.id, id));
                self.opened(link, its_id, id);
                if let Some(next) = self.next.filter(|next| *next != link) {
                    self.reopen(next, id);
                }
            }
            (Ask::Reopen(id, kind), Some(its_id)) => match self.subscriptions.get_mut(&id) {
                Some(subscription) => {
                    subscription.on.push((link, its_id));
                    self.opened(link, its_id, id);
                }
                // The client ended it meanwhile.
                None => self.close(link, &kind, its_id),
            },
            (Ask::Subscribe { caller, .. } | Ask::Other { caller, .. }, _) => {
                self.answer(&caller, message::answer(&caller.id, outcome));
            }
            (Ask::Reopen(id, _), None) => tracing::warn!(subscription = id, "an instance refused a subscription"),
            (Ask::Close, _) => {}
        }
    }

    /// The link's id is known now; so is whose the news was that came before.
    fn opened(&mut self, link: LinkId, its_id: u64, id: u64) {
        let Some(state) = self.links.get_mut(&link) else { return };
        state.ids.insert(its_id, id);
        let (mine, others) = std::mem::take(&mut state.early).into_iter().partition(|(early, ..)| *early == its_id);
        state.early = others;
        let mine: VecDeque<(u64, String, Box<RawValue>)> = mine;
        for (_, method, result) in mine {
            self.on_news(link, &method, its_id, &result);
        }
    }

    fn on_news(&mut self, link: LinkId, method: &str, its_id: u64, result: &RawValue) {
        let Some(state) = self.links.get_mut(&link) else { return };
        let Some(id) = state.ids.get(&its_id).copied() else {
            if !state.asked.is_empty() && state.early.len() < EARLY {
                state.early.push_back((its_id, method.to_owned(), result.to_owned()));
            }
            return;
        };
        let mark = message::mark(result);
        if self.live == Some(link) {
            self.deliver(id, mark, method, result);
        } else if let Some(subscription) = self.subscriptions.get_mut(&id) {
            if subscription.held.len() == HELD {
                subscription.held.pop_front();
            }
            subscription.held.push_back((mark, method.to_owned(), result.to_owned()));
        }
    }

    fn deliver(&mut self, id: u64, mark: Mark, method: &str, result: &RawValue) {
        let Some(subscription) = self.subscriptions.get_mut(&id) else { return };
        if !subscription.seen.admit(mark) {
            return;
        }
        // What lies before is no longer news from anybody.
        while subscription.held.front().is_some_and(|(held, ..)| held.slot.is_some() && held.slot < mark.slot) {
            subscription.held.pop_front();
        }
        let over = subscription.kind == "signature" && message::ends_signature(result);
        self.out.push(Out::Client(message::news(method, result, id)));
        if over {
            self.forget(id, self.live);
        }
    }
}

/// `account`, `slotsUpdates`, …
fn is_kind(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphabetic())
}
