//! A call that is cancelled in the middle of a refresh, and what must be true of the key afterwards: others
//! were served its stale value, and the next call refreshes it.

#![allow(unreachable_pub, reason = "a module of one test file")]

use async_lru::Task;

use crate::common::poll;
use crate::forms::Form;
use crate::ledger::Made;
use crate::props::Ending;
use crate::scene::{Fate, Run};
use crate::stage::{Answer, BESIDE, Call, Caller, KEY, Kind, LONG, RETRY, SEED, Stage, TTL, drive};

/// What the call to be cancelled is to the refresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It refreshes, or has that done.
    Leader,
    /// The same, and in the middle of it the old value comes to its end, and others wait.
    Late,
    /// It waits for a refresh.
    Waiter,
    /// It waits for a refresh that is dropped.
    Heir,
    /// It writes to the key.
    Writer,
}

pub const ROLES: [Role; 5] = [Role::Leader, Role::Late, Role::Waiter, Role::Heir, Role::Writer];

/// Who makes values.
const SUBJECT: u32 = 1;
const HELPER: u32 = 2;
const NEXT: u32 = 3;
const ASKING: u32 = 5;
const OTHERS: u32 = 10;

/// A call that is to be cancelled.
#[derive(Clone, Copy, Debug)]
pub struct StaleScene {
    pub kind: Kind,
    pub call: Call,
    pub role: Role,
}

/// What is cancelled: a call, or what the spawner was given by it.
enum Subject<'a> {
    Call(Caller<'a>),
    Task(Task),
}

impl StaleScene {
    pub fn is_possible(&self) -> bool {
        let is_single_flight = self.kind.is_single_flight;
        let loads = self.call.load().is_some();
        match self.role {
            Role::Leader => loads,
            Role::Late => loads && is_single_flight,
            Role::Waiter | Role::Heir => self.call.is_refresh() && is_single_flight,
            Role::Writer => !loads,
        }
    }

    /// Plays the scene until the call, and then the task that it has made, was polled `polls` times, lets it
    /// meet its fate, and sees to the key.
    pub fn play(&self, polls: usize, fate: Fate) -> Run {
        let stage = Stage::stale(self.kind, self.call);
        let ledger = stage.ledger.clone();
        let run = self.play_on(&stage, polls, fate);
        drop(stage);
        let left = ledger.left();
        match (run, fate) {
            (Run::Cut, Fate::Leaked) => {
                // Who waits for a load takes the outcome along that others have got, and a sweep what it has
                // let go.
                let is_waiter = matches!(self.role, Role::Waiter | Role::Heir | Role::Late)
                    || self.call.is_detached();
                let may_be_left = |made: &Made| {
                    made.maker == SUBJECT
                        || self.call.is_sweeping()
                        || is_waiter && matches!(made.kind, "value" | "failure")
                };
                assert!(left.iter().all(may_be_left), "{left:?}");
            }
            _ => assert_eq!(left, []),
        }
        run
    }

    fn play_on(&self, stage: &Stage, polls: usize, fate: Fate) -> Run {
        let has_helper = !matches!(self.role, Role::Leader | Role::Late);
        let mut helper = has_helper.then(|| stage.begin(HELPER, HELPING, KEY));
        helper.iter_mut().for_each(Caller::poll);
        let mut subject = stage.begin(SUBJECT, self.call, KEY);
        let mut others = Vec::new();
        let mut polled = 0;
        while polled < polls && subject.answer().is_none() {
            subject.poll();
            polled += 1;
            if subject.answer().is_none() {
                self.go_on(stage, polled, &mut helper, &mut others);
            }
        }
        if self.role == Role::Heir {
            helper.take().into_iter().for_each(Caller::cancel);
        }
        let (answer, has_started) = (subject.answer(), subject.has_started());
        let mut subject = match answer {
            None => Some(Subject::Call(subject)),
            Some(_) => stage.take_task().map(Subject::Task),
        };
        if let Some(Subject::Task(task)) = &mut subject {
            assert_eq!(answer, Some(Answer::Value(SEED)), "nobody waits for a task");
            self.go_on(stage, 1, &mut helper, &mut others);
            let mut has_ended = false;
            while polled < polls && !has_ended {
                stage.ledger.act_as(SUBJECT);
                has_ended = poll(task).is_ready();
                polled += 1;
            }
            if has_ended {
                subject = None;
            }
        }
        let run = if subject.is_some() { Run::Cut } else { Run::Ended };
        let leads = has_started && run == Run::Cut;
        let is_task = matches!(subject, Some(Subject::Task(_)));
        let mut kept = None;
        match (fate, subject) {
            (_, None) => {}
            (Fate::Dropped, Some(subject)) => subject.drop_on(stage),
            (Fate::Leaked, Some(subject)) => subject.leak(),
            (Fate::Kept, subject) => kept = subject,
        }
        assert!(stage.take_task().is_none(), "the only caller of a load was the one");

        let others_wait = leads && fate != Fate::Dropped && !(self.call.is_detached() || is_task);
        if others_wait {
            // The documented limit: nobody can poll the load.
            for _ in 0..8 {
                others.iter_mut().for_each(Caller::poll);
            }
            assert!(others.iter().all(|other| other.answer().is_none()));
            match kept.take() {
                Some(subject) => subject.drop_on(stage),
                None => others.drain(..).for_each(Caller::cancel),
            }
        }
        drive(&mut others);
        self.check_others(&others);
        drop(others);
        if let Some(mut helper) = helper {
            helper.drive();
            assert_eq!(helper.answer(), Some(Answer::Value(HELPER)));
        }
        let is_due = match self.role {
            Role::Leader | Role::Heir => {
                self.check_value(stage, answer, has_started && run == Run::Ended);
                let is_over = fate == Fate::Dropped || others_wait && fate == Fate::Kept;
                self.is_due(stage, answer, run, !has_started || leads && is_over)
            }
            Role::Writer => {
                self.check_written(stage, answer, polls);
                false
            }
            Role::Late => false,
            Role::Waiter => {
                assert_eq!(stage.cached(KEY), Some(HELPER));
                false
            }
        };
        if leads && fate != Fate::Dropped && self.role == Role::Leader {
            self.check_that_others_move_it_on(stage, is_task, others_wait);
        }
        if leads && fate == Fate::Leaked {
            (0..self.call.keys()).for_each(|place| stage.free(KEYS[place as usize]));
        }
        kept.into_iter().for_each(|kept| kept.drop_on(stage));
        if let Call::DetachedBatch(ending) = self.call {
            let is_cut = leads && fate != Fate::Leaked;
            let has_failed = has_started && run == Run::Ended && ending == Ending::Failure;
            // Each key of it has a flight by itself, and this one only ends with its callers.
            stage.notes.refresh_failures.add(u64::from(is_cut || has_failed));
        }
        let keeps_guard = self.call == Call::Writing && run == Run::Cut && fate == Fate::Leaked;
        if !(keeps_guard && polls > 0) {
            self.check_next(stage, polls, is_due);
        }
        stage.validate();
        stage.exercise();
        stage.validate();
        run
    }

    /// What happens between two polls of the call.
    fn go_on<'a>(
        &self,
        stage: &'a Stage,
        polled: usize,
        helper: &mut Option<Caller<'a>>,
        others: &mut Vec<Caller<'a>>,
    ) {
        match self.role {
            Role::Heir if polled == 1 => helper.take().into_iter().for_each(Caller::cancel),
            Role::Late if polled == 1 => {
                stage.clock.advance(LONG);
                stage.set_stale(false);
                let load = |(maker, form)| stage.begin(maker, Call::Load(form, Ending::Value), KEY);
                others.extend((OTHERS..).zip([Form::With, Form::TryWith, Form::Own]).map(load));
            }
            // Its load must not end before the write.
            Role::Writer => return,
            _ => {}
        }
        helper.iter_mut().chain(others).for_each(Caller::poll);
        let is_alone = !self.kind.is_single_flight && self.call.is_refresh();
        let is_dropped = self.role == Role::Heir && polled == 1;
        if self.role != Role::Late && !is_alone && !is_dropped {
            // It may be fresh by now.
            stage.set_stale(stage.cached(KEY) == Some(SEED));
            ask(stage, polled);
        }
    }

    /// All have the value of one load, or the error of the call if they share it.
    fn check_others(&self, others: &[Caller<'_>]) {
        let mut makers = Vec::new();
        for other in others {
            match other.answer() {
                Some(Answer::Value(maker)) => makers.push(maker),
                Some(Answer::Failure(SUBJECT)) => {
                    assert!(other.call().shares_errors() && self.call.shares_errors());
                }
                other => panic!("{other:?}"),
            }
        }
        makers.dedup();
        assert!(makers.len() <= 1, "{makers:?} for one flight");
        assert!(makers.iter().all(|maker| *maker >= OTHERS || *maker == SUBJECT), "{makers:?}");
    }

    /// The old value is there until there is another one, and is the answer of a call whose load has failed,
    /// unless that was to load anyway.
    fn check_value(&self, stage: &Stage, answer: Option<Answer>, has_ended: bool) {
        let is_renewed = has_ended && self.call.load() == Some(Ending::Value);
        let maker = if is_renewed { SUBJECT } else { SEED };
        assert_eq!(stage.cached(KEY), Some(maker));
        let goes_to_spawner = self.kind.has_spawner && self.call.is_detached();
        match answer {
            Some(answer) if self.call.is_refresh() && !is_renewed => {
                assert_eq!(answer, Answer::Failure(SUBJECT));
            }
            Some(answer) if goes_to_spawner => assert_eq!(answer, Answer::Value(SEED)),
            Some(answer) => assert_eq!(answer, Answer::Value(maker)),
            None => {}
        }
    }

    /// Whether the next call is to refresh the key at once: if nobody does, unless that has failed just now.
    fn is_due(&self, stage: &Stage, answer: Option<Answer>, run: Run, is_dropped: bool) -> bool {
        let has_failed = run == Run::Ended && self.call.load() == Some(Ending::Failure);
        if !has_failed || self.call.is_refresh() {
            return is_dropped;
        }
        assert!(answer.is_some());
        stage.set_stale(true);
        ask(stage, 0);
        stage.clock.advance(RETRY);
        true
    }

    /// A call that has left it to somebody who does not go on with it keeps the key from being refreshed, and
    /// others are served the old value; but who waits for its load moves that on.
    fn check_that_others_move_it_on(&self, stage: &Stage, is_task: bool, was_cancelled: bool) {
        let is_open = (self.call.is_detached() || is_task) && self.kind.is_single_flight;
        if was_cancelled || !is_open {
            return;
        }
        stage.set_stale(true);
        ask(stage, 1);
        let mut other = stage.begin(OTHERS, Call::TryRefresh(Ending::Value), KEY);
        other.drive();
        assert!(!other.has_started(), "the refresh can be joined");
        let expected = match self.call.load() {
            Some(Ending::Failure) => Answer::Failure(SUBJECT),
            _ => Answer::Value(SUBJECT),
        };
        assert_eq!(other.answer(), Some(expected));
    }

    /// What is cached once a write, cut short or not, and the refresh beside it have come to their ends.
    fn check_written(&self, stage: &Stage, answer: Option<Answer>, polls: usize) {
        let cached = stage.cached(KEY);
        let has_begun = polls > 0 && matches!(self.call, Call::InsertMany | Call::Writing);
        let expected = match (self.call, answer) {
            (Call::Insert | Call::Writing | Call::Update, Some(_)) => Some(SUBJECT),
            (Call::InsertMany, _) if has_begun => Some(SUBJECT),
            // It wins over the refresh from the beginning, and leaves what that was to renew.
            (Call::LimitTtl, _) if polls > 0 => Some(SEED),
            (call, Some(_)) if call.fences() => None,
            _ if has_begun => None,
            // It was chosen from the beginning, and the sweep may have come to it or not.
            (Call::InvalidateIf, None) if polls > 0 => {
                return assert!(matches!(cached, None | Some(SEED)), "{cached:?}");
            }
            (Call::InvalidateKeysIf, None) if polls > 0 => {
                return assert!(cached.is_none_or(|maker| maker == HELPER), "{cached:?}");
            }
            (Call::Clear | Call::MemoClear, None) if polls > 0 => return,
            // It wins over a refresh from the beginning, since it has not waited for that.
            (Call::Update, None) if polls > 0 => Some(SEED),
            _ => Some(HELPER),
        };
        assert_eq!(cached, expected);
    }

    /// The next call that finds the key stale refreshes it, and so does the one after that.
    fn check_next(&self, stage: &Stage, polls: usize, is_due: bool) {
        let next = |key, maker| {
            stage.set_stale(stage.cached(key).is_some());
            let form = Form::ALL[(polls + maker as usize) % Form::ALL.len()];
            let mut next = stage.begin(maker, Call::Load(form, Ending::Value), key);
            next.drive();
            assert_eq!(next.answer(), Some(Answer::Value(maker)), "nobody refreshes {key}");
            assert_eq!(stage.cached(key), Some(maker));
        };
        if !is_due {
            stage.clock.advance(TTL);
        }
        let keys = &KEYS[..self.call.keys() as usize];
        keys.iter().for_each(|key| next(*key, NEXT));
        stage.clock.advance(TTL);
        keys.iter().for_each(|key| next(*key, NEXT + 1));
        stage.set_stale(false);
    }
}

/// The refresh that a call meets.
const HELPING: Call = Call::TryRefresh(Ending::Value);

/// The keys that a batch asks for.
const KEYS: [u32; 2] = [KEY, BESIDE];

/// A call that finds a key which somebody refreshes is served what there is, and waits for nobody.
fn ask(stage: &Stage, number: usize) {
    let there = stage.cached(KEY).expect("it lives on");
    let form = Form::ALL[number % Form::ALL.len()];
    let mut asking = stage.begin(ASKING, Call::Load(form, Ending::Value), KEY);
    asking.poll();
    assert_eq!((asking.answer(), asking.has_started()), (Some(Answer::Value(there)), false));
}

impl Subject<'_> {
    fn drop_on(self, stage: &Stage) {
        match self {
            Self::Call(caller) => caller.cancel(),
            Self::Task(task) => {
                stage.ledger.act_as(SUBJECT);
                drop(task);
            }
        }
    }

    fn leak(self) {
        match self {
            Self::Call(caller) => caller.leak(),
            Self::Task(task) => std::mem::forget(task),
        }
    }
}
