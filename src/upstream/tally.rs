//! What was written to whom: the other side's truth, for tests that compare it with records.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use super::answer::{Answer, Usage};
use super::ask::Ask;

/// Exchanges remembered one by one; the counters go on.
pub const REMEMBERED: usize = 100_000;

/// How an exchange ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Not yet.
    Running,
    /// The last byte was handed to the connection.
    Completed,
    /// The reader went away first.
    Aborted,
    /// Cut here, because a marker said so.
    Cut,
    /// An error inside a 200, because a marker said so.
    Failed,
    /// Answered by an error status: nothing was generated.
    Refused,
}

/// One exchange as `/stats` shows it.
#[derive(Clone, Debug, Serialize)]
pub struct Exchange {
    /// The `id` that the answer carries; empty for a refused one.
    pub id: String,
    /// `openai chat` or `anthropic messages`.
    pub api: &'static str,
    /// The model asked for.
    pub model: String,
    /// Whether it was a stream.
    pub stream: bool,
    /// Status of the answer.
    pub status: u16,
    /// Prompt tokens as reported.
    pub prompt_tokens: u64,
    /// Of these, read from a cache.
    pub cached_tokens: u64,
    /// Of these, written to a cache.
    pub cache_write_tokens: u64,
    /// Output tokens of the whole answer, as reported.
    pub completion_tokens: u64,
    /// Output tokens handed to the connection.
    pub written_tokens: u64,
    /// Whether the caller was told the true usage: asked for it where that is needed, and no marker hid it.
    pub reported: bool,
    /// The output limit that arrived, per choice.
    pub limit: Option<u64>,
    /// What arrived as `max_tokens`, which is the limit where there is no newer one.
    pub max_tokens: Option<u64>,
    /// How it ended.
    pub outcome: Outcome,
    /// The request headers that arrived; credentials are shown as `(present)`.
    pub headers: BTreeMap<String, String>,
}

/// Sums over all exchanges since the start or the last `DELETE /stats`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Exchanges that arrived.
    pub requests: u64,
    /// In progress.
    pub running: u64,
    /// By outcome.
    pub completed: u64,
    /// By outcome.
    pub aborted: u64,
    /// By outcome.
    pub cut: u64,
    /// By outcome.
    pub failed: u64,
    /// By outcome.
    pub refused: u64,
    /// Prompt tokens of those that were not refused.
    pub prompt_tokens: u64,
    /// Output tokens of whole answers, of those that were not refused.
    pub completion_tokens: u64,
    /// Output tokens handed to connections.
    pub written_tokens: u64,
}

#[derive(Default)]
struct Inner {
    counters: Counters,
    started: u64,
    /// Oldest first, under the number that it was started as.
    exchanges: VecDeque<(u64, Exchange)>,
}

/// The shared tally.
#[derive(Clone, Default)]
pub struct Tally(Arc<Mutex<Inner>>);

impl Tally {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers an exchange that starts to generate; it counts as aborted when the [`Run`] is dropped early.
    pub fn start(&self, ask: &Ask, answer: &Answer, headers: BTreeMap<String, String>) -> Run {
        let Usage { prompt, cached, cache_write, completion, .. } = answer.usage;
        let honest = answer.report == super::script::Report::Honest;
        let asked = answer.include_usage || !ask.stream || ask.api == super::ask::Api::AnthropicMessages;
        let exchange = Exchange {
            id: answer.id.clone(),
            api: ask.api.name(),
            model: ask.model.clone(),
            stream: ask.stream,
            status: 200,
            prompt_tokens: prompt,
            cached_tokens: cached,
            cache_write_tokens: cache_write,
            completion_tokens: completion,
            written_tokens: 0,
            reported: honest && asked,
            limit: ask.limit,
            max_tokens: ask.max_tokens,
            outcome: Outcome::Running,
            headers,
        };
        let mut inner = self.inner();
        inner.counters.prompt_tokens = inner.counters.prompt_tokens.saturating_add(prompt);
        inner.counters.completion_tokens = inner.counters.completion_tokens.saturating_add(completion);
        let number = inner.push(exchange);
        Run { tally: self.clone(), number, over: false }
    }

    /// Remembers an exchange that was refused with `status`.
    pub fn refused(&self, api: &'static str, model: &str, status: u16, headers: BTreeMap<String, String>) {
        self.tokenless(api, model, status, Outcome::Refused, headers);
    }

    /// Remembers an exchange whose answer is not counted in tokens.
    pub fn made(&self, api: &'static str, model: &str, headers: BTreeMap<String, String>) {
        self.tokenless(api, model, 200, Outcome::Completed, headers);
    }

    fn tokenless(
        &self,
        api: &'static str,
        model: &str,
        status: u16,
        outcome: Outcome,
        headers: BTreeMap<String, String>,
    ) {
        self.inner().push(Exchange {
            id: String::new(),
            api,
            model: model.to_owned(),
            stream: false,
            status,
            prompt_tokens: 0,
            cached_tokens: 0,
            cache_write_tokens: 0,
            completion_tokens: 0,
            written_tokens: 0,
            reported: false,
            limit: None,
            max_tokens: None,
            outcome,
            headers,
        });
    }

    /// The sums.
    pub fn counters(&self) -> Counters {
        self.inner().counters
    }

    /// The newest `last` exchanges, oldest first; with `id`, only that one.
    pub fn exchanges(&self, last: usize, id: Option<&str>) -> Vec<Exchange> {
        let inner = self.inner();
        let chosen = inner.exchanges.iter().rev().filter(|(_, one)| id.is_none_or(|id| one.id == id)).take(last);
        let mut chosen: Vec<_> = chosen.map(|(_, one)| one.clone()).collect();
        chosen.reverse();
        chosen
    }

    /// Forgets everything but what is still running, which then counts from zero.
    pub fn clear(&self) {
        let mut inner = self.inner();
        inner.exchanges.retain(|(_, one)| one.outcome == Outcome::Running);
        let running = u64::try_from(inner.exchanges.len()).unwrap_or(u64::MAX);
        inner.counters = Counters { requests: running, running, ..Counters::default() };
    }
}

impl Inner {
    fn push(&mut self, exchange: Exchange) -> u64 {
        let number = self.started;
        self.started = self.started.saturating_add(1);
        self.counters.requests = self.counters.requests.saturating_add(1);
        let counter = self.counter(exchange.outcome);
        *counter = counter.saturating_add(1);
        if self.exchanges.len() >= REMEMBERED {
            self.exchanges.pop_front();
        }
        self.exchanges.push_back((number, exchange));
        number
    }

    fn counter(&mut self, outcome: Outcome) -> &mut u64 {
        match outcome {
            Outcome::Running => &mut self.counters.running,
            Outcome::Completed => &mut self.counters.completed,
            Outcome::Aborted => &mut self.counters.aborted,
            Outcome::Cut => &mut self.counters.cut,
            Outcome::Failed => &mut self.counters.failed,
            Outcome::Refused => &mut self.counters.refused,
        }
    }

    fn exchange(&mut self, number: u64) -> Option<&mut Exchange> {
        let at = self.exchanges.binary_search_by_key(&number, |(number, _)| *number).ok()?;
        self.exchanges.get_mut(at).map(|(_, exchange)| exchange)
    }
}

/// One exchange in progress.
pub struct Run {
    tally: Tally,
    number: u64,
    over: bool,
}

impl Run {
    /// `tokens` more were handed to the connection.
    pub fn wrote(&self, tokens: u64) {
        if tokens == 0 {
            return;
        }
        let mut inner = self.tally.inner();
        inner.counters.written_tokens = inner.counters.written_tokens.saturating_add(tokens);
        if let Some(exchange) = inner.exchange(self.number) {
            exchange.written_tokens = exchange.written_tokens.saturating_add(tokens);
        }
    }

    /// It is over; only the first call counts.
    pub fn over(&mut self, outcome: Outcome) {
        if std::mem::replace(&mut self.over, true) {
            return;
        }
        let mut inner = self.tally.inner();
        inner.counters.running = inner.counters.running.saturating_sub(1);
        let counter = inner.counter(outcome);
        *counter = counter.saturating_add(1);
        if let Some(exchange) = inner.exchange(self.number) {
            exchange.outcome = outcome;
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.over(Outcome::Aborted);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::ask::{Api, read};
    use crate::upstream::script::Script;

    fn start(tally: &Tally, serial: u64) -> Run {
        let ask = read(Api::OpenAiChat, br#"{"model":"m","messages":[{"role":"user","content":"x"}]}"#).unwrap();
        let answer = Answer::choose(&ask, &Script::default(), 1, serial, 0);
        tally.start(&ask, &answer, BTreeMap::new())
    }

    #[test]
    fn a_dropped_run_was_aborted_with_what_it_wrote() {
        let tally = Tally::default();
        let run = start(&tally, 1);
        run.wrote(3);
        assert_eq!(tally.counters().running, 1);
        drop(run);
        let counters = tally.counters();
        assert_eq!((counters.running, counters.aborted, counters.written_tokens), (0, 1, 3));
        let exchanges = tally.exchanges(9, None);
        assert_eq!(
            exchanges.iter().map(|one| (one.outcome, one.written_tokens)).collect::<Vec<_>>(),
            [(Outcome::Aborted, 3)]
        );
    }

    #[test]
    fn the_first_end_counts() {
        let tally = Tally::default();
        let mut run = start(&tally, 1);
        run.over(Outcome::Completed);
        run.over(Outcome::Cut);
        drop(run);
        assert_eq!((tally.counters().completed, tally.counters().cut, tally.counters().aborted), (1, 0, 0));
    }

    #[test]
    fn memory_is_bounded_and_the_newest_stay() {
        let tally = Tally::default();
        for _ in 0..REMEMBERED + 5 {
            tally.refused("openai chat", "m", 429, BTreeMap::new());
        }
        drop(start(&tally, 7));
        assert_eq!(tally.exchanges(usize::MAX, None).len(), REMEMBERED);
        assert_eq!(tally.exchanges(1, None).first().map(|one| one.outcome), Some(Outcome::Aborted));
        assert_eq!(tally.counters().requests, REMEMBERED as u64 + 6);
    }

    #[test]
    fn clearing_keeps_what_runs() {
        let tally = Tally::default();
        let mut run = start(&tally, 1);
        tally.refused("openai chat", "m", 429, BTreeMap::new());
        tally.clear();
        run.over(Outcome::Completed);
        assert_eq!(tally.counters(), Counters { requests: 1, completed: 1, ..Counters::default() });
    }
}
