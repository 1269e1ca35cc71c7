//! A call that is cancelled in the middle of others, and what must be true of them and of the cache
//! afterwards.

#![allow(unreachable_pub, reason = "a module of one test file")]

use crate::forms::Form;
use crate::ledger::Made;
use crate::props::Ending;
use crate::stage::{ASIDE, Answer, Call, Caller, KEY, Kind, SEED, Stage, drive};

/// What the call to be cancelled is to the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It loads, and the others wait for it.
    Leader,
    /// It waits for a load that succeeds, beside the others.
    Waiter,
    /// It waits for a load that is dropped, and is the first to be polled after that.
    Heir,
    /// It writes to the others' key, which is being loaded.
    Writer,
    /// It works on another key of the same hash.
    Bystander,
}

pub const ROLES: [Role; 5] =
    [Role::Leader, Role::Waiter, Role::Heir, Role::Writer, Role::Bystander];

/// What becomes of the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Dropped,
    Leaked,
    /// Kept, and not polled any more.
    Kept,
}

pub const FATES: [Fate; 3] = [Fate::Dropped, Fate::Leaked, Fate::Kept];

/// Whether the call was cut short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Run {
    Cut,
    Ended,
}

/// Who makes values.
const SUBJECT: u32 = 1;
const HELPER: u32 = 2;
const OTHERS: u32 = 3;

/// A call among others, to be cancelled.
#[derive(Clone, Copy, Debug)]
pub struct Scene {
    pub kind: Kind,
    pub call: Call,
    pub role: Role,
    pub others: u32,
}

/// The calls of a scene.
struct Cast<'a> {
    /// The one to be cancelled.
    subject: Caller<'a>,
    /// The one that loads first, if it is not that.
    helper: Option<Caller<'a>>,
    /// Those that wait.
    others: Vec<Caller<'a>>,
}

impl Scene {
    pub fn is_possible(&self) -> bool {
        let load = self.call.load();
        match self.role {
            Role::Leader => load.is_some() || self.call == Call::Update,
            Role::Waiter | Role::Heir => load.is_some() && self.kind.is_single_flight,
            // An update waits for the load.
            Role::Writer => load.is_none() && self.call != Call::Update,
            Role::Bystander => !self.call.is_sweeping(),
        }
    }

    /// Whether another call than the one to be cancelled loads first.
    fn has_helper(&self) -> bool {
        match self.role {
            Role::Leader => false,
            Role::Waiter | Role::Heir | Role::Writer | Role::Bystander => true,
        }
    }

    fn key(&self) -> u32 {
        if self.role == Role::Bystander { ASIDE } else { KEY }
    }

    /// Plays the scene until the call was polled `polls` times, lets it meet its fate, and sees to
    /// the others and to what is left.
    pub fn play(&self, polls: usize, fate: Fate) -> Run {
        let stage = Stage::new(self.kind, self.call);
        let ledger = stage.ledger.clone();
        let run = self.play_on(&stage, polls, fate);
        drop(stage);
        let left = ledger.left();
        match (run, fate) {
            (Run::Cut, Fate::Leaked) => self.audit(&left),
            _ => assert_eq!(left, []),
        }
        run
    }

    fn play_on(&self, stage: &Stage, polls: usize, fate: Fate) -> Run {
        let mut cast = self.gather(stage, polls);
        self.act(&mut cast, polls);
        let Cast { subject, helper, others } = cast;
        let mut others: Vec<Caller<'_>> = helper.into_iter().chain(others).collect();

        let (answer, has_started) = (subject.answer(), subject.has_started());
        let leads = subject.leads();
        let mut kept = None;
        match fate {
            Fate::Dropped => subject.cancel(),
            Fate::Leaked => subject.leak(),
            Fate::Kept => kept = Some(subject),
        }
        if leads && fate != Fate::Dropped && self.shares_flights() {
            // The documented limit: nobody can poll the load.
            for _ in 0..8 {
                others.iter_mut().for_each(Caller::poll);
            }
            assert!(others.iter().all(|other| other.answer().is_none()));
            match kept.take() {
                Some(leader) => leader.cancel(),
                None => others.drain(..).for_each(Caller::cancel),
            }
        }
        drive(&mut others);
        let makers = self.makers(&others, answer);
        if self.kind.is_single_flight && !(self.call.is_clear() && answer.is_some()) {
            let led_by_others = makers.iter().filter(|maker| **maker >= OTHERS).count() as u64;
            let has_loaded = has_started && self.call.load().is_some();
            let led_before = u64::from(self.has_helper()) + u64::from(has_loaded);
            assert_eq!(stage.loads(), led_before + led_by_others);
        }
        if self.kind.is_single_flight && self.kind.keeps_entries() {
            self.check_entries(stage, makers.first().copied(), answer, polls);
        }
        drop(others);

        if leads {
            kept.take().into_iter().for_each(Caller::cancel);
            if fate == Fate::Leaked {
                stage.free(self.key());
            }
        }
        stage.validate();
        stage.exercise();
        stage.validate();
        kept.into_iter().for_each(Caller::cancel);
        stage.validate();
        if fate != Fate::Leaked {
            stage.check_load();
        }
        if answer.is_some() { Run::Ended } else { Run::Cut }
    }

    /// Begins the calls, and the load that is there before the one to be cancelled.
    fn gather<'a>(&self, stage: &'a Stage, polls: usize) -> Cast<'a> {
        let load = |maker, form| stage.begin(maker, Call::Load(form, Ending::Value), KEY);
        let subject = stage.begin(SUBJECT, self.call, self.key());
        let mut helper = self.has_helper().then(|| load(HELPER, Form::With));
        // The others take turns with the forms.
        let form = |other: u32| Form::ALL[(other as usize + polls) % Form::ALL.len()];
        let mut others: Vec<Caller<'_>> =
            (0..self.others).map(|other| load(OTHERS + other, form(other))).collect();
        if let Some(helper) = &mut helper {
            helper.poll();
            others.iter_mut().for_each(Caller::poll);
        }
        Cast { subject, helper, others }
    }

    /// Polls the call up to `polls` times, and the others as the role has it.
    fn act(&self, cast: &mut Cast<'_>, polls: usize) {
        let Cast { subject, helper, others } = cast;
        for poll in 0..polls {
            subject.poll();
            if subject.answer().is_some() {
                break;
            }
            match self.role {
                Role::Heir if poll == 0 => helper.take().into_iter().for_each(Caller::cancel),
                // Their load must not end before the write.
                Role::Writer => {}
                _ => helper.iter_mut().chain(others.iter_mut()).for_each(Caller::poll),
            }
        }
        if self.role == Role::Heir {
            helper.take().into_iter().for_each(Caller::cancel);
        }
    }

    /// Whether the others wait for a load that the call leads.
    fn shares_flights(&self) -> bool {
        self.role != Role::Bystander && self.kind.is_single_flight
    }

    /// Who made the values that the others have got: one for all, but where nothing is shared.
    fn makers(&self, others: &[Caller<'_>], answer: Option<Answer>) -> Vec<u32> {
        let failure = Some(Answer::Failure(SUBJECT));
        let is_shared = self.call.shares_errors() && self.shares_flights() && answer == failure;
        let mut makers = Vec::new();
        for other in others {
            if is_shared && other.call().shares_errors() {
                assert_eq!(other.answer(), failure);
                continue;
            }
            match other.answer() {
                Some(Answer::Value(maker)) => makers.push(maker),
                failed => panic!("{failed:?} of a load that does not fail"),
            }
        }
        if !self.kind.is_single_flight {
            let own: Vec<u32> = others.iter().map(Caller::maker).collect();
            assert_eq!(makers, own);
            return makers;
        }
        makers.dedup();
        assert!(makers.len() <= 1, "{makers:?} for one flight");
        let expected = match (self.role, answer) {
            (Role::Leader | Role::Heir, Some(Answer::Value(maker))) => Some(maker),
            (Role::Writer, Some(Answer::Value(maker))) => Some(maker),
            (Role::Waiter | Role::Bystander, _) => Some(HELPER),
            (Role::Writer, _) => Some(HELPER),
            _ => None,
        };
        if let (Some(maker), Some(expected)) = (makers.first(), expected) {
            assert_eq!(*maker, expected);
        }
        makers
    }

    /// What is cached is what was agreed on, unless a write has won.
    fn check_entries(
        &self,
        stage: &Stage,
        agreed: Option<u32>,
        answer: Option<Answer>,
        polls: usize,
    ) {
        let own = match (self.call, answer) {
            (Call::Insert | Call::Writing, Some(_)) | (_, Some(Answer::Value(SUBJECT))) => {
                Some(SUBJECT)
            }
            (Call::InsertMany, _) if polls > 0 => Some(SUBJECT),
            _ => None,
        };
        // These have won as soon as they were polled.
        let has_begun =
            polls > 0 && matches!(self.call, Call::InsertMany | Call::Writing | Call::LimitTtl);
        if self.role == Role::Bystander {
            assert_eq!(stage.cached(ASIDE), own);
            assert_eq!(stage.cached(KEY), agreed);
        } else if self.call.fences() && (answer.is_some() || has_begun) {
            assert_eq!(stage.cached(KEY), own);
        } else if self.call == Call::InvalidateIf && polls > 0 {
            // It is asked about what was in flight when it began, whatever becomes of it.
            assert_eq!(stage.cached(KEY), None);
        } else if self.call == Call::InvalidateKeysIf {
            // It may have come to the key before it was cut.
            assert!(stage.cached(KEY).is_none_or(|maker| Some(maker) == agreed));
        } else {
            assert_eq!(stage.cached(KEY), agreed.or(own));
        }
    }

    /// A call that is leaked takes along what it was given and what it has made, and besides at most
    /// the value that it was about to get or the entries that it was about to drop.
    fn audit(&self, left: &[Made]) {
        let mut strange = left.iter().filter(|made| made.maker != SUBJECT);
        match self.role {
            Role::Waiter => {
                assert!(strange.next().is_none_or(|made| made.kind == "value"), "{left:?}");
                assert_eq!(strange.next(), None);
            }
            _ if self.call.is_sweeping() => assert!(strange.all(|made| made.maker == SEED)),
            _ => assert_eq!(strange.next(), None),
        }
    }
}
