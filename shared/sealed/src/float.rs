//! The float lane's sessions: one replica, one run, sealed like a shard's.
//!
//! ```text
//! client ──Hello──▶ ◀──Prekey── ──Open(binding, envelope)──▶ ◀──Accept──    from here on sealed
//!        ──Run(inputs)──▶ ◀──Ran(answer)──      ──Voucher, if it agrees──▶      closes
//! ```
//!
//! Inputs and answers are opaque here: who runs the model gives them a meaning. A node commits on chain
//! to [`root`] of its answer, salted so that nobody who guesses the input can check the guess, and
//! blinded by itself; whether it is paid is the client's decision, but a client that withholds the
//! voucher gets nothing back for it (`docs/float-lane.md`).

use bytes::{BufMut, Bytes};
use commonware_codec::{Buf, Encode as _, EncodeSize, Error, RangeCfg, Read, ReadExt as _, Write};
use nesa_chain::{ShardVoucher, committee};
use nesa_crypto::{
    SecretKey, Signature,
    seal::{Binding, Envelope, Opener, Role, Sealer},
    sign::{VerifyError, verify_strict},
};
use nesa_primitives::{Address, Amount, Hash, codec_struct, decode_exact, domain};
use rand_core::CryptoRng;

use crate::{
    Terms,
    client::Misbehaviour,
    message::{Frame, FrameLimits, OVERHEAD, Refusal},
    opening::admission,
    server::{AskedOf, DoorOf, GreetingOf, Outcome},
};

/// Bytes of inputs or of an answer at most.
pub const MAX_CONTENT: usize = 15 << 20;
/// Units of work that a run is: the model's price per token is the price of a run.
pub const RUN_UNITS: u32 = 1;

const TAG: &str = "float opening";

/// Bytes of a frame at most, either way.
pub fn max_frame() -> usize {
    Sealer::frame_len(MAX_CONTENT + OVERHEAD).saturating_add(OVERHEAD)
}

/// What a node commits to: its answer under the query's secret salt.
pub fn root(salt: &Hash, answer: &[u8]) -> Hash {
    let mut hasher = domain("float root", &Hash::ZERO);
    hasher.update(&salt.0);
    hasher.update(answer);
    hasher.finalize().into()
}

/// The content of an envelope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FloatOpening {
    /// The replica whose place the client gives to this node.
    pub replica: u8,
    /// For a spare: the client's word that it takes this place, which the node shows the chain.
    pub admission: Option<Signature>,
    /// Secret, the same for all nodes of a query.
    pub salt: Hash,
    /// By the query's client key, over the binding and the fields above.
    pub signature: Signature,
}

codec_struct!(FloatOpening { replica, admission, salt, signature });

impl FloatOpening {
    /// Signs an opening for the envelope bound to `binding`, whose node takes the place of `replica`.
    pub fn sign(key: &SecretKey, binding: &Binding, replica: u8, salt: Hash) -> Self {
        let spare = binding.role.seat != replica;
        let admission = spare.then(|| admission(binding, replica).sign(key, &binding.chain));
        let mut opening = Self { replica, admission, salt, signature: Signature([0; 64]) };
        opening.signature = key.sign(TAG, &binding.chain, &opening.message(binding));
        opening
    }

    /// Checks that the query's client signed it for this binding, and admits the spare if it is one.
    ///
    /// # Errors
    /// [`VerifyError`].
    pub fn verify(&self, client: &Address, binding: &Binding) -> Result<(), VerifyError> {
        verify_strict(client, TAG, &binding.chain, &self.message(binding), &self.signature)?;
        match &self.admission {
            Some(word) => admission(binding, self.replica).verify(client, &binding.chain, word),
            None if binding.role.seat == self.replica => Ok(()),
            None => Err(VerifyError::Mismatch { signer: *client }),
        }
    }

    /// The binding and all fields but the signature.
    fn message(&self, binding: &Binding) -> Vec<u8> {
        let fields = [self.replica.encode(), self.admission.encode(), self.salt.encode()];
        [&binding.encode()[..], &fields.concat()].concat()
    }
}

/// What a client says under the seal.
#[derive(Clone, PartialEq, Eq)]
pub enum Ask {
    /// Run the model on these inputs.
    Run(Bytes),
    /// The payment, when replicas agree.
    Voucher(ShardVoucher),
}

/// What a node says under the seal.
#[derive(Clone, PartialEq, Eq)]
pub enum Told {
    /// The session stands.
    Accept,
    /// The answer to `Run`.
    Ran(Bytes),
    /// The stream ends here.
    Refused(Refusal),
}

fn content() -> RangeCfg<usize> {
    RangeCfg::from(..=MAX_CONTENT)
}

impl Write for Ask {
    fn write(&self, buf: &mut impl BufMut) {
        match self {
            Self::Run(inputs) => {
                buf.put_u8(0);
                inputs.write(buf);
            }
            Self::Voucher(voucher) => {
                buf.put_u8(1);
                voucher.write(buf);
            }
        }
    }
}

impl EncodeSize for Ask {
    fn encode_size(&self) -> usize {
        1 + match self {
            Self::Run(inputs) => inputs.encode_size(),
            Self::Voucher(voucher) => voucher.encode_size(),
        }
    }
}

impl Read for Ask {
    type Cfg = ();
    fn read_cfg(buf: &mut impl Buf, _: &()) -> Result<Self, Error> {
        match u8::read(buf)? {
            0 => Ok(Self::Run(Bytes::read_cfg(buf, &content())?)),
            1 => Ok(Self::Voucher(ShardVoucher::read(buf)?)),
            tag => Err(Error::InvalidEnum(tag)),
        }
    }
}

impl Write for Told {
    fn write(&self, buf: &mut impl BufMut) {
        match self {
            Self::Accept => buf.put_u8(0),
            Self::Ran(answer) => {
                buf.put_u8(1);
                answer.write(buf);
            }
            Self::Refused(refusal) => {
                buf.put_u8(2);
                refusal.write(buf);
            }
        }
    }
}

impl EncodeSize for Told {
    fn encode_size(&self) -> usize {
        1 + match self {
            Self::Accept => 0,
            Self::Ran(answer) => answer.encode_size(),
            Self::Refused(refusal) => refusal.encode_size(),
        }
    }
}

impl Read for Told {
    type Cfg = ();
    fn read_cfg(buf: &mut impl Buf, _: &()) -> Result<Self, Error> {
        match u8::read(buf)? {
            0 => Ok(Self::Accept),
            1 => Ok(Self::Ran(Bytes::read_cfg(buf, &content())?)),
            2 => Ok(Self::Refused(Refusal::read(buf)?)),
            tag => Err(Error::InvalidEnum(tag)),
        }
    }
}

/// What a session is for, fixed before the node says anything.
#[derive(Clone, Debug)]
pub struct Purpose {
    /// The chain.
    pub chain: Hash,
    /// The paid query.
    pub query: Hash,
    /// The model.
    pub model: Hash,
    /// The node.
    pub node: Address,
    /// Its number among the candidates: its replica's, or a spare's.
    pub seat: u8,
    /// The replica it is asked to be.
    pub replica: u8,
    /// The query's salt.
    pub salt: Hash,
}

/// The client's end of one stream.
pub struct Client {
    purpose: Purpose,
    state: State,
}

enum State {
    Greeting,
    Opening { sealer: Sealer, opener: Opener },
    Ready { sealer: Sealer, opener: Opener },
    Over,
}

/// What a frame from the node means.
#[derive(Debug)]
pub enum Event {
    /// To be sent to the node.
    Send(Bytes),
    /// The run may be asked for.
    Ready,
    /// The answer.
    Ran(Bytes),
}

impl Client {
    /// Begins; the frame to send.
    pub fn start(purpose: Purpose) -> (Self, Bytes) {
        let hello = Frame::Hello { chain: purpose.chain, node: purpose.node }.encode();
        (Self { purpose, state: State::Greeting }, hello)
    }

    /// Takes the node's next frame. After an error the session is over.
    ///
    /// # Errors
    /// [`Misbehaviour`].
    pub fn receive(
        &mut self,
        frame: &[u8],
        key: &SecretKey,
        now_ms: u64,
        rng: &mut impl CryptoRng,
    ) -> Result<Event, Misbehaviour> {
        let wrong = |what| Misbehaviour::Protocol { what };
        let limits = FrameLimits { sealed: max_frame() };
        let state = std::mem::replace(&mut self.state, State::Over);
        let frame = decode_exact::<Frame>(frame, &limits).map_err(|_| wrong("malformed"))?;
        match (state, frame) {
            (State::Greeting | State::Opening { .. }, Frame::Refused(refusal)) => {
                Err(refusal.into())
            }
            (State::Greeting, Frame::Prekey(prekey)) => {
                let p = &self.purpose;
                prekey.verify(&p.chain, &p.node, now_ms)?;
                let role = Role { shard: 0, seat: p.seat };
                let (chain, query, model) = (p.chain, p.query, p.model);
                let binding =
                    Binding { chain, query, model, node: p.node, role, epoch: prekey.epoch };
                let opening = FloatOpening::sign(key, &binding, p.replica, p.salt);
                let sealed = Envelope::seal(&prekey, &binding, &opening.encode(), rng)
                    .map_err(|_| wrong("a prekey that cannot be sealed to"))?;
                self.state = State::Opening { sealer: sealed.sealer, opener: sealed.opener };
                Ok(Event::Send(Frame::Open { binding, envelope: sealed.envelope }.encode()))
            }
            (State::Opening { sealer, mut opener }, Frame::Sealed(sealed)) => {
                match told(&mut opener, &sealed)? {
                    Told::Accept => {
                        self.state = State::Ready { sealer, opener };
                        Ok(Event::Ready)
                    }
                    Told::Refused(refusal) => Err(refusal.into()),
                    Told::Ran(_) => Err(wrong("an answer before the question")),
                }
            }
            (State::Ready { sealer, mut opener }, Frame::Sealed(sealed)) => {
                match told(&mut opener, &sealed)? {
                    Told::Ran(answer) => {
                        self.state = State::Ready { sealer, opener };
                        Ok(Event::Ran(answer))
                    }
                    Told::Refused(refusal) => Err(refusal.into()),
                    Told::Accept => Err(wrong("a second acceptance")),
                }
            }
            _ => Err(wrong("a frame out of turn")),
        }
    }

    /// The frame of a message; `None` unless the session stands, or for inputs that are too long.
    pub fn say(&mut self, ask: &Ask) -> Option<Bytes> {
        let State::Ready { sealer, .. } = &mut self.state else { return None };
        if matches!(ask, Ask::Run(inputs) if inputs.len() > MAX_CONTENT) {
            return None;
        }
        Some(Frame::Sealed(sealer.seal(&ask.encode()).ok()?).encode())
    }
}

fn told(opener: &mut Opener, sealed: &[u8]) -> Result<Told, Misbehaviour> {
    let wrong = |what| Misbehaviour::Protocol { what };
    let content = opener.open(sealed).map_err(|_| wrong("it does not open"))?;
    decode_exact(&content, &()).map_err(|_| wrong("malformed under the seal"))
}

/// A node's door in this lane.
pub type Door = DoorOf<FloatOpening>;
/// What a frame at the door leads to.
pub type Greeting = GreetingOf<FloatOpening>;
/// Who asks for a session.
pub type Asked = AskedOf<FloatOpening>;

/// The node's end of a stream whose query was proven.
pub struct Session {
    terms: Terms,
    replica: u8,
    admission: Option<Signature>,
    salt: Hash,
    sealer: Sealer,
    opener: Opener,
    asked: bool,
    root: Option<Hash>,
    voucher: Option<ShardVoucher>,
}

/// What a session does with a message.
#[derive(Debug)]
pub enum Received {
    /// Run the model on these inputs, then [`Session::complete`].
    Run(Bytes),
    /// A voucher was taken.
    Paid,
}

impl Session {
    /// Begins a session whose terms the node has proven. Returns the accepting frame too.
    ///
    /// # Errors
    /// [`Refusal`] when the client asks for something else than the terms.
    pub fn start(asked: Asked, terms: Terms) -> Result<(Self, Bytes), Refusal> {
        let Asked { binding, opening, sealer, opener } = asked;
        let bound = (binding.chain, binding.query, binding.model, binding.role);
        if bound != (terms.chain, terms.query, terms.model, terms.role)
            || terms.role.shard != 0
            || opening.replica >= terms.replicas
            || (terms.role.seat < terms.replicas && terms.role.seat != opening.replica)
        {
            return Err(Refusal::NotDrawn);
        }
        opening.verify(&terms.client_key, &binding).map_err(|_| Refusal::NotDrawn)?;
        if terms.max_tokens < RUN_UNITS || price(&terms)? > terms.budget {
            return Err(Refusal::Unpaid);
        }
        let (root, voucher) = (None, None);
        let FloatOpening { replica, admission, salt, .. } = opening;
        let asked = false;
        let mut session =
            Self { terms, replica, admission, salt, sealer, opener, asked, root, voucher };
        let accept = session.seal(&Told::Accept).ok_or(Refusal::Protocol)?;
        Ok((session, accept))
    }

    /// Takes the client's next frame.
    ///
    /// # Errors
    /// The [`Refusal`] to send; the session is over then.
    pub fn receive(&mut self, frame: &[u8]) -> Result<Received, Refusal> {
        let limits = FrameLimits { sealed: max_frame() };
        let Ok(Frame::Sealed(sealed)) = decode_exact::<Frame>(frame, &limits) else {
            return Err(Refusal::Protocol);
        };
        let content = self.opener.open(&sealed).map_err(|_| Refusal::Protocol)?;
        match decode_exact::<Ask>(&content, &()).map_err(|_| Refusal::Protocol)? {
            // A session is one run: the next one is another query.
            Ask::Run(_) if self.asked => Err(Refusal::Protocol),
            Ask::Run(inputs) => {
                self.asked = true;
                Ok(Received::Run(inputs))
            }
            Ask::Voucher(voucher) => {
                let Terms { query, role, .. } = self.terms;
                let mine = voucher.query == query
                    && voucher.shard == role.shard
                    && voucher.replica == self.replica
                    && voucher.total == price(&self.terms)?;
                let signed = voucher.verify(&self.terms.client_key, &self.terms.chain);
                if !mine || signed.is_err() || self.root.is_none() {
                    return Err(Refusal::Protocol);
                }
                self.voucher = Some(voucher);
                Ok(Received::Paid)
            }
        }
    }

    /// The frame that answers a run; `None` for an answer that is too long.
    pub fn complete(&mut self, answer: Bytes) -> Option<Bytes> {
        if answer.len() > MAX_CONTENT {
            return None;
        }
        self.root = Some(root(&self.salt, &answer));
        self.seal(&Told::Ran(answer))
    }

    /// The frame that ends the session.
    pub fn refuse(&mut self, refusal: Refusal) -> Option<Bytes> {
        self.seal(&Told::Refused(refusal))
    }

    /// What goes on chain, blinded with 32 random bytes; `None` before an answer was given.
    pub fn outcome(&self, blind: Hash) -> Option<Outcome> {
        let root = self.root?;
        let Terms { chain, query, role, .. } = &self.terms;
        let place = (role.shard, self.replica);
        let blinded_root = committee::blind(chain, query, place, &root, &blind);
        Some(Outcome {
            replica: self.replica,
            admission: self.admission,
            root,
            blind,
            blinded_root,
            served_tokens: RUN_UNITS,
            voucher: self.voucher.clone(),
        })
    }

    fn seal(&mut self, told: &Told) -> Option<Bytes> {
        Some(Frame::Sealed(self.sealer.seal(&told.encode()).ok()?).encode())
    }
}

/// What a run costs.
fn price(terms: &Terms) -> Result<Amount, Refusal> {
    terms.price_per_token.checked_mul(RUN_UNITS.into()).ok_or(Refusal::Unpaid)
}
