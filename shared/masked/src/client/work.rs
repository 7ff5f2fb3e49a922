//! The path that succeeds: passes, stages, shares, checks.

use std::collections::VecDeque;

use nesa_chain::Side;
use nesa_crypto::prg::Seed;
use rand_core::CryptoRng;
use zeroize::Zeroizing;

use super::{
    pass::{Computation, Part, PassRun, StageRun},
    peer::Expected,
    session::{Actions, Phase, Session},
    types::{Action, Progress, SessionError},
};
use crate::{
    freivalds,
    message::{ClientMessage, Request, SeedBytes, Slot},
    opened::{OpenedPart, SignedProduct},
    origin::Standing,
    pack,
    run::{Run, RunStep},
    share, signing,
    spec::{self, MAX_PASS_TOKENS},
    thin::{self, TEST_ROWS},
};

impl<R: Run, G: CryptoRng> Session<R, G> {
    /// Begins the next pass, or ends the query when there is none.
    pub(super) fn begin_pass(&mut self, out: &mut Actions<R>) {
        let (run, tokens) = if self.must_test() {
            (Computation::Test, TEST_ROWS)
        } else {
            let Some(pass) = self.waiting.pop_front() else {
                self.finish(out);
                return;
            };
            (Computation::Run(pass.run), pass.tokens)
        };
        let all = self.lane.stages().len();
        let stages = match &run {
            Computation::Run(run) => run.stages(all),
            Computation::Test => 0..all,
        };
        let number = self.begun;
        self.begun += 1;
        self.pass = Some(PassRun {
            number,
            tokens,
            run,
            real_rows: 0,
            x: Zeroizing::new(Vec::new()),
            y: Vec::new(),
            stages: VecDeque::new(),
            next: stages.start,
            end: stages.end.min(all),
        });
        self.begin_stage(out);
    }

    /// Whether the pass to come is the one that tests the preparation. It is the first, so that
    /// nothing private is sent under an s that was not tested.
    fn must_test(&self) -> bool {
        #[cfg(test)]
        if self.mutant == Some(super::Mutant::Untested) {
            return false;
        }
        self.tests && self.begun == 0
    }

    /// Asks the run what it needs next, and sends it out masked.
    pub(super) fn begin_stage(&mut self, out: &mut Actions<R>) {
        let Some(pass) = &mut self.pass else { return };
        let index = pass.stages.front().map_or(pass.next, |s| s.index);
        let step = match &mut pass.run {
            Computation::Run(run) => match run.step() {
                RunStep::Done(output) => RunStep::Done(Some(output)),
                RunStep::Linear { stage, x } => RunStep::Linear { stage, x },
            },
            Computation::Test => match self.lane.stages().get(index) {
                None => RunStep::Done(None),
                Some(stage) => {
                    let x = thin::test_rows(stage, &mut self.rng);
                    #[cfg(test)]
                    let x = Self::mutant_rows(self.mutant, x);
                    RunStep::Linear { stage: stage.id, x }
                }
            },
        };
        match step {
            RunStep::Done(output) => self.pass_done(output, out),
            RunStep::Linear { stage, x } => {
                let x = Zeroizing::new(x);
                let expected = self.lane.stages().get(index).filter(|s| s.id == stage);
                let rows = expected.map(|s| x.len() / s.k as usize);
                match (expected, rows) {
                    (Some(s), Some(rows))
                        if rows > 0
                            && rows <= pass.tokens as usize
                            && x.len() == rows * s.k as usize =>
                    {
                        let (k, n) = (s.k as usize, s.n as usize);
                        pass.real_rows = rows;
                        pass.x = Zeroizing::new(vec![0; pass.tokens as usize * k]);
                        pass.x[..x.len()].copy_from_slice(&x);
                        pass.y = vec![0; pass.tokens as usize * n];
                    }
                    _ => return self.fail(SessionError::Order(stage), out),
                }
                self.ask_ahead(out);
                self.send_shares(out);
                self.check_ready(out);
            }
        }
    }

    /// Sends B the seeds of the current stage and of those it may be ahead by.
    fn ask_ahead(&mut self, out: &mut Actions<R>) {
        loop {
            let Some(pass) = &self.pass else { return };
            let (index, tokens) = (pass.next, pass.tokens);
            if pass.stages.len() > self.config.ahead || index >= pass.end {
                return;
            }
            let parts: Vec<Part> =
                (0..spec::parts(tokens)).map(|part| self.new_part(index, part)).collect();
            if let Some(pass) = &mut self.pass {
                pass.next += 1;
                pass.stages.push_back(StageRun { index, parts });
            }
            let place = self.pass.as_ref().map_or(0, |p| p.stages.len() - 1);
            self.send_seeds(place, out);
        }
    }

    /// A part under a mask that no message has used.
    fn new_part(&mut self, index: usize, number: u16) -> Part {
        let mask = self.next_mask;
        self.next_mask += 1;
        let tokens = self.pass.as_ref().map_or(0, |p| p.tokens);
        Part {
            number,
            rows: spec::rows(tokens, number),
            mask,
            seed: self.fresh_seed(index, number),
            share: None,
            from_a: None,
            from_b: None,
            verified: false,
        }
    }

    /// 32 bytes from the generator, and from nothing else: no position, no counter, no memory of
    /// an earlier seed enters.
    fn fresh_seed(&mut self, _index: usize, _part: u16) -> SeedBytes {
        #[cfg(test)]
        if let Some(seed) = self.mutant_seed(_index, _part) {
            return seed;
        }
        let seed = Seed::generate(&mut self.rng);
        SeedBytes(*seed.expose())
    }

    fn slot(&self, index: usize, part: u16) -> Slot {
        let (pass, tokens) = self.pass.as_ref().map_or((0, 0), |p| (p.number, p.tokens));
        let stage = self.lane.stages().get(index).map_or(0, |s| s.id);
        Slot { pass, tokens, stage, part }
    }

    /// Sends B the seed of every unverified part of the stage at `place` in the window.
    pub(super) fn send_seeds(&mut self, place: usize, out: &mut Actions<R>) {
        let Some(stage) = self.pass.as_ref().and_then(|p| p.stages.get(place)) else { return };
        let index = stage.index;
        let requests: Vec<(u16, u64, SeedBytes)> = stage
            .parts
            .iter()
            .filter(|p| !p.verified)
            .map(|p| (p.number, p.mask, p.seed.clone()))
            .collect();
        for (number, mask, seed) in requests {
            let request = Request::Seed { slot: self.slot(index, number), seed };
            self.send_work(Side::B, request, mask, out);
        }
    }

    /// Sends A its share of every unverified part of the current stage.
    pub(super) fn send_shares(&mut self, out: &mut Actions<R>) {
        let Some(pass) = &self.pass else { return };
        let Some(stage) = pass.stages.front() else { return };
        let index = stage.index;
        let Some(spec) = self.lane.stages().get(index).copied() else { return };
        let numbers: Vec<usize> =
            (0..stage.parts.len()).filter(|&i| !stage.parts[i].verified).collect();
        for i in numbers {
            let Some(part) = self.pass.as_ref().and_then(|p| p.stages.front()?.parts.get(i)) else {
                return;
            };
            let Some(pass) = &self.pass else { return };
            let start = part.number as usize * spec::ROWS_PER_PART as usize * spec.k as usize;
            let x = &pass.x[start..start + part.rows as usize * spec.k as usize];
            let (number, mask) = (part.number, part.mask);
            let words = self.conceal(x, &part.seed.seed(), spec.share_bits());
            let share = pack::pack(&words, spec.share_bits()).into();
            let request = Request::Share { slot: self.slot(index, number), share };
            if let Some(part) =
                self.pass.as_mut().and_then(|p| p.stages.front_mut()?.parts.get_mut(i))
            {
                part.share = Some(request.clone());
            }
            self.send_work(Side::A, request, mask, out);
        }
    }

    fn conceal(&self, x: &[i32], seed: &Seed, bits: u32) -> share::Share {
        #[cfg(test)]
        if let Some(words) = self.mutant_share(x, seed, bits) {
            return words;
        }
        share::conceal(x, seed, bits)
    }

    fn send_work(&mut self, side: Side, request: Request, mask: u64, out: &mut Actions<R>) {
        let slot = request.slot();
        if self.peer(side).lost {
            return;
        }
        let (message, request) = request.work(&self.config.chain);
        let peer = self.peer(side);
        peer.enter(slot.pass, slot.tokens);
        peer.owed.push_back(Expected::Product { slot, request, mask });
        out.push(Action::Send { link: peer.link, message });
    }

    /// Files a product under its part, if its mask is still current, and checks what is complete.
    pub(super) fn product(
        &mut self,
        side: Side,
        slot: Slot,
        mask: u64,
        signed: SignedProduct,
        out: &mut Actions<R>,
    ) {
        let index = self.lane.find(slot.stage).map(|(index, _)| index);
        let part = self
            .pass
            .as_mut()
            .filter(|p| p.number == slot.pass)
            .and_then(|p| p.stages.iter_mut().find(|s| Some(s.index) == index))
            .and_then(|s| s.parts.iter_mut().find(|p| p.mask == mask));
        if let Some(part) = part {
            match side {
                Side::A => part.from_a = Some(signed),
                Side::B => part.from_b = Some(signed),
            }
            self.check_ready(out);
        }
    }

    /// Checks every part of the current stage that has both answers. While blame is being placed
    /// nothing is checked, so that at most one rejection is in the air.
    pub(super) fn check_ready(&mut self, out: &mut Actions<R>) {
        while self.blame.is_none() && matches!(self.phase, Phase::Passes) {
            let ready = self.pass.as_ref().and_then(|p| {
                p.stages.front()?.parts.iter().position(|p| {
                    !p.verified && p.from_a.is_some() && p.from_b.is_some() && p.share.is_some()
                })
            });
            let Some(i) = ready else { return };
            if !self.check(i) {
                self.begin_blame(i, out);
                return;
            }
            let all = self
                .pass
                .as_ref()
                .and_then(|p| p.stages.front())
                .is_some_and(|s| s.parts.iter().all(|p| p.verified));
            if all {
                self.stage_done(out);
                return;
            }
        }
    }

    /// Adds, range-checks and Freivalds-checks one part; on success its rows enter `y`.
    fn check(&mut self, i: usize) -> bool {
        self.checks += 1;
        let Some(pass) = &mut self.pass else { return false };
        let number = pass.number;
        let tokens = pass.tokens;
        let Some(stage) = pass.stages.front_mut() else { return false };
        let Some(secrets) = self.preparation.stage(stage.index) else { return false };
        #[cfg(feature = "dishonest")]
        if super::dishonest::complains(self.a.link, stage.index, self.lane.stages().len()) {
            return false;
        }
        let spec = secrets.stage;
        let part = &mut stage.parts[i];
        let (Some(a), Some(b)) = (&part.from_a, &part.from_b) else { return false };
        let (k, n) = (spec.k as usize, spec.n as usize);
        let rows = part.rows as usize;
        let start = part.number as usize * spec::ROWS_PER_PART as usize;
        let sum = pack::unpack_sum(&a.values, &b.values, rows * n, spec.share_bits());
        let Ok(y) = sum else { return false };
        let x = &pass.x[start * k..(start + rows) * k];
        #[cfg(test)]
        let (x, y_checked) = if self.mutant == Some(super::Mutant::PaddingUnchecked) {
            let real = pass.real_rows.saturating_sub(start).min(rows);
            (&x[..real * k], &y[..real * n])
        } else {
            (x, &y[..])
        };
        #[cfg(not(test))]
        let y_checked = &y[..];
        if !bool::from(freivalds::accepts(secrets, x, y_checked)) {
            return false;
        }
        pass.y[start * n..(start + rows) * n].copy_from_slice(&y);
        part.verified = true;
        part.share = None;
        let (a, b) = (part.from_a.take(), part.from_b.take());
        // Random rows belong to no text: an opened receipt begins behind them.
        let private = matches!(pass.run, Computation::Run(_));
        if let (true, Some(a), Some(b)) = (self.config.open_receipt && private, a, b) {
            let slot = Slot { pass: number, tokens, stage: spec.id, part: part.number };
            self.opened.push(OpenedPart { slot, seed: part.seed.clone(), a, b });
        }
        true
    }

    /// Every part of the stage is verified: the run goes on.
    fn stage_done(&mut self, out: &mut Actions<R>) {
        let stages = self.lane.stages().len() as u32;
        let passes = self.begun + self.waiting.len() as u32;
        let Some(pass) = &mut self.pass else { return };
        let Some(stage) = pass.stages.pop_front() else { return };
        let n = self.lane.stages()[stage.index].n as usize;
        let mut y = core::mem::take(&mut pass.y);
        y.truncate(pass.real_rows * n);
        let goes_on = match &mut pass.run {
            Computation::Test => true,
            Computation::Run(run) => run.resume(y),
        };
        if !goes_on {
            let id = self.lane.stages()[stage.index].id;
            return self.fail(SessionError::Order(id), out);
        }
        let verified = stage.index as u32 + 1;
        out.push(Action::Progress(Progress { pass: pass.number, passes, verified, stages }));
        self.begin_stage(out);
    }

    /// Pays both servers one more increment, and goes on. Without an output it was the test.
    fn pass_done(&mut self, output: Option<R::Output>, out: &mut Actions<R>) {
        let Some(pass) = self.pass.take() else { return };
        self.verified_tokens += pass.tokens;
        for side in [Side::A, Side::B] {
            let peer = self.peer(side);
            peer.paid_tokens += pass.tokens;
            let (node, tokens) = (peer.candidate.node, peer.paid_tokens);
            let total = self.total(tokens);
            let c = &self.config;
            let voucher = signing::sign_voucher(&c.chain, c.query, node, total, &c.client_key);
            self.send(side, &ClientMessage::Voucher(voucher), out);
        }
        if let Some(output) = output {
            let number = pass.number - u32::from(self.tests && pass.number > 0);
            out.push(Action::PassDone { pass: number, output });
        }
        let next = match pass.run {
            Computation::Test => {
                self.preparation.note(Standing::Trusted);
                None
            }
            Computation::Run(run) => run.follow(),
        };
        if let Some(next) = next {
            let waiting = self.waiting.iter().map(|p| u64::from(p.tokens)).sum::<u64>();
            let all = u64::from(self.verified_tokens) + waiting + u64::from(next.tokens);
            let priced = self.config.price_per_token.checked_mul(all).is_some();
            let fits = (1..=MAX_PASS_TOKENS).contains(&next.tokens);
            if !fits || !priced || u32::try_from(all).is_err() {
                return self
                    .fail(SessionError::Pass { number: self.begun, tokens: next.tokens }, out);
            }
            self.waiting.push_back(next);
        }
        self.begin_pass(out);
    }

    /// Gives every unverified part of the stages at or after `place` a new mask.
    pub(super) fn renew_masks(&mut self, place: usize) {
        let Some(pass) = &self.pass else { return };
        let renew: Vec<(usize, usize, usize, u16)> = pass
            .stages
            .iter()
            .enumerate()
            .skip(place)
            .flat_map(|(s, stage)| {
                let unverified = stage.parts.iter().enumerate().filter(|(_, p)| !p.verified);
                unverified.map(move |(i, p)| (s, i, stage.index, p.number))
            })
            .collect();
        for (s, i, index, number) in renew {
            let part = self.new_part(index, number);
            if let Some(pass) = &mut self.pass {
                pass.stages[s].parts[i] = part;
            }
        }
    }
}
