//! Every decoder: canonical, bounded, and calm about any bytes.

use crate::{traces, world::*};
use commonware_codec::{Decode, Encode};
use nesa_chain::{
    Action, Committee, Genesis, Params, QueryRecord, ShardCommittee, ShardVoucher, SignedTx, Terms,
    TrustRoot, Tx, Voucher,
    action::*,
    block::Block,
    header::Header,
    query::{DisputeRecord, Sealed, Settlement, ShardCommit, Status},
    record::*,
    rules::TxError,
};
use nesa_crypto::Signature;
use nesa_primitives::{Address, Amount, Denom, Hash, Text, decode_exact};
use nesa_trace::{Answer, Blob, Slice};
use proptest::{prelude::*, strategy::Union};

/// Decodes and encodes again; `None` if refused.
fn again<T: Decode<Cfg = ()> + Encode>(bytes: &[u8]) -> Option<Vec<u8>> {
    decode_exact::<T>(bytes, &()).ok().map(|value| value.encode().to_vec())
}

type Decoder = (&'static str, fn(&[u8]) -> Option<Vec<u8>>);

macro_rules! decoders {
    ($($name:ident),* $(,)?) => { [$( (stringify!($name), again::<$name> as _) ),*] };
}

const DECODERS: [Decoder; 42] = decoders![
    CommitShard,
    Reveal,
    ClaimShard,
    ClaimServed,
    OpenDispute,
    AnswerDispute,
    CloseDispute,
    Pair,
    Terms,
    ShardCommittee,
    ShardVoucher,
    ShardCommit,
    Sealed,
    DisputeRecord,
    SignedTx,
    Tx,
    Action,
    Voucher,
    Commit,
    Claim,
    PayForQuery,
    RegisterNode,
    RegisterModel,
    UpdateNode,
    Unbond,
    Transfer,
    Account,
    ModelRecord,
    NodeRecord,
    NodeSet,
    Snapshot,
    Supply,
    Bucket,
    BucketPage,
    Progress,
    QueryRecord,
    Settlement,
    Committee,
    Params,
    TrustRoot,
    Genesis,
    Header,
];

fn hash() -> impl Strategy<Value = Hash> {
    any::<[u8; 32]>().prop_map(Hash)
}

fn addr() -> impl Strategy<Value = Address> {
    any::<[u8; 32]>().prop_map(Address)
}

fn amount() -> impl Strategy<Value = Amount> {
    any::<u64>().prop_map(Amount)
}

fn denom() -> impl Strategy<Value = Denom> {
    any::<u32>().prop_map(Denom)
}

fn side() -> impl Strategy<Value = Side> {
    prop_oneof![Just(Side::A), Just(Side::B)]
}

fn signature() -> impl Strategy<Value = Signature> {
    any::<[u8; 64]>().prop_map(Signature)
}

fn addresses() -> impl Strategy<Value = Vec<NodeAddress>> {
    prop::collection::vec("[ -~é]{0,60}".prop_map(|s| Text::new(s).unwrap()), 0..=4)
}

fn voucher() -> impl Strategy<Value = Voucher> {
    (hash(), addr(), amount(), signature()).prop_map(|(query, node, total, signature)| Voucher {
        query,
        node,
        total,
        signature,
    })
}

fn action() -> impl Strategy<Value = Action> {
    Union::new([
        (addr(), denom(), amount())
            .prop_map(|(to, denom, amount)| Action::Transfer(Transfer { to, denom, amount }))
            .boxed(),
        (hash(), ".{0,16}", any::<u64>(), denom(), amount(), any::<u32>())
            .prop_map(|(digest, name, bytes, denom, price_per_token, lanes)| {
                let name = Text::new(name).unwrap();
                Action::RegisterModel(RegisterModel {
                    digest,
                    name,
                    bytes,
                    denom,
                    price_per_token,
                    lanes,
                })
            })
            .boxed(),
        (addr(), amount(), prop::collection::vec(hash(), 0..=16), addresses(), signature())
            .prop_map(|(node, bond, models, addresses, proof)| {
                Action::RegisterNode(RegisterNode { node, bond, models, addresses, proof })
            })
            .boxed(),
        (addr(), addresses())
            .prop_map(|(node, addresses)| Action::UpdateNode(UpdateNode { node, addresses }))
            .boxed(),
        addr().prop_map(|node| Action::Unbond(Unbond { node })).boxed(),
        (
            (hash(), amount(), denom(), hash(), addr()),
            (any::<u64>(), any::<u32>(), prop::option::of((side(), addr())), some_terms()),
        )
            .prop_map(
                |(
                    (model, max_fee, denom, commitment, client_key),
                    (deadline_ms, max_tokens, named, terms),
                )| {
                    Action::PayForQuery(PayForQuery {
                        model,
                        lane: Lane::Masked,
                        verification: Verification::Freivalds,
                        max_fee,
                        denom,
                        commitment,
                        client_key,
                        deadline_ms,
                        max_tokens,
                        named: named.map(|(side, node)| Named { side, node }),
                        terms,
                    })
                },
            )
            .boxed(),
        (
            hash(),
            side(),
            any::<u8>(),
            hash(),
            any::<u32>(),
            prop::collection::vec(any::<u8>(), 0..=64),
        )
            .prop_map(|(query, side, attempt, blinded_root, served_tokens, seed)| {
                let seed = SeedBytes(seed);
                Action::Commit(Commit { query, side, attempt, blinded_root, served_tokens, seed })
            })
            .boxed(),
        (hash(), voucher())
            .prop_map(|(query, voucher)| Action::Claim(Claim { query, voucher }))
            .boxed(),
        sealed_action().boxed(),
    ])
}

fn some_terms() -> impl Strategy<Value = Option<Terms>> {
    let terms = (prop::collection::vec(any::<u16>(), 0..=7), any::<u8>(), any::<bool>());
    prop::option::of(terms.prop_map(|(cuts, replicas, disclose)| Terms {
        cuts,
        replicas,
        disclose,
    }))
}

fn sealed_action() -> impl Strategy<Value = Action> {
    let place = (hash(), any::<u8>(), any::<u8>()).boxed();
    let pair = (hash(), any::<u8>(), any::<u8>(), any::<u8>())
        .prop_map(|(query, shard, left, right)| Pair { query, shard, left, right })
        .boxed();
    let slice = (any::<u32>(), any::<u32>(), prop::collection::vec(any::<u8>(), 0..300))
        .prop_map(|(len, first, data)| Slice { len, first, data: Blob(data), siblings: vec![] });
    let answer = prop_oneof![
        prop::collection::vec(hash(), 0..=16).prop_map(Answer::Nodes),
        prop::collection::vec(any::<i64>(), 0..=16).prop_map(Answer::Sums),
        prop::collection::vec(any::<u8>(), 0..=1024).prop_map(|data| Answer::Block(Blob(data))),
        (hash(), any::<bool>(), signature()).prop_map(|(digest, logits, signature)| {
            Answer::Receipt(nesa_trace::Receipt { digest, logits, signature })
        }),
        (any::<u32>(), signature())
            .prop_map(|(tokens, signature)| Answer::End(nesa_trace::End { tokens, signature })),
        Just(Answer::Opening(Box::default())),
    ];
    let commit = (place.clone(), any::<u8>(), hash(), any::<u32>(), prop::option::of(signature()));
    Union::new([
        commit
            .prop_map(|((query, shard, replica), seat, blinded_root, served_tokens, admission)| {
                let seed = SeedBytes(vec![1; 48]);
                Action::CommitShard(CommitShard {
                    query,
                    shard,
                    replica,
                    seat,
                    blinded_root,
                    served_tokens,
                    admission,
                    seed,
                })
            })
            .boxed(),
        (place.clone(), hash(), hash())
            .prop_map(|((query, shard, replica), root, blind)| {
                Action::Reveal(Reveal { query, shard, replica, root, blind })
            })
            .boxed(),
        (place, addr(), amount(), signature())
            .prop_map(|((query, shard, replica), node, total, signature)| {
                let voucher = ShardVoucher { query, shard, replica, node, total, signature };
                Action::ClaimShard(ClaimShard { query, voucher })
            })
            .boxed(),
        (pair.clone(), slice)
            .prop_map(|(pair, manifest)| Action::OpenDispute(OpenDispute { pair, manifest }))
            .boxed(),
        (pair.clone(), any::<u8>(), answer)
            .prop_map(|(pair, round, answer)| {
                Action::AnswerDispute(AnswerDispute { pair, round, answer })
            })
            .boxed(),
        pair.clone().prop_map(|pair| Action::CloseDispute(CloseDispute { pair })).boxed(),
        pair.prop_map(|Pair { query, shard, left: replica, .. }| {
            Action::ClaimServed(ClaimServed { query, shard, replica })
        })
        .boxed(),
    ])
}

fn signed() -> impl Strategy<Value = SignedTx> {
    (hash(), addr(), any::<u64>(), amount(), action(), signature()).prop_map(
        |(chain, sender, nonce, fee, action, signature)| SignedTx {
            tx: Tx { chain, sender, nonce, fee, action },
            signature,
        },
    )
}

/// One valid encoding of each record, taken from a chain that has seen some life.
fn samples() -> Vec<(&'static str, Vec<u8>)> {
    let mut world = World::new();
    let id = world.open(50, Some(Named { side: Side::B, node: address(21) }));
    world.commit(&id, Side::A, 0, 50).unwrap();
    world.claim(&id, Side::A, 0, 140).unwrap();
    let open = world.query(&id);
    let tx = world.tx(ALICE, Action::PayForQuery(world.payment(9, 100)));
    let register = world.register(ALICE, 60, 1_000_000);
    world.wait(12_000);
    let settled = world.query(&id);
    let settlement = *settled.status.settlement().unwrap();
    let committee = settled.committee.clone().unwrap();
    let snapshot: Snapshot =
        decode_exact(&world.state[&nesa_chain::keys::snapshot(1)], &()).unwrap();
    let mut sealed = World::sealed();
    let query = sealed.revealed(traces::terms(&[1], 3, true), &[&[0, 0, 1], &[0, 0, 0]]);
    let pair = Pair { query, shard: 0, left: 0, right: 2 };
    sealed.open_dispute(pair, 0).unwrap();
    sealed.answers(pair, 0, 0).unwrap();
    sealed.claims(&query, 1, 1, 60).unwrap();
    let manifest = sealed.party(&query, 0, 0, |party| party.manifest_slice().unwrap());
    let record = sealed.query(&query);
    vec![
        ("QueryRecord", record.encode().to_vec()),
        ("Sealed", record.sealed.unwrap().encode().to_vec()),
        ("ShardCommittee", sealed.replicas(&query).encode().to_vec()),
        ("ShardVoucher", sealed.shard_voucher(&query, 0, 1, 7).encode().to_vec()),
        ("Terms", traces::terms(&[1, 4], 3, true).encode().to_vec()),
        ("DisputeRecord", sealed.dispute(&pair).unwrap().encode().to_vec()),
        ("OpenDispute", OpenDispute { pair, manifest }.encode().to_vec()),
        ("CommitShard", sealed.commit_shard(&query, (0, 1), &query, 5).encode().to_vec()),
        ("SignedTx", tx.encode().to_vec()),
        ("SignedTx", register.encode().to_vec()),
        ("Tx", tx.tx.encode().to_vec()),
        ("Account", world.account(&address(ALICE)).encode().to_vec()),
        ("NodeRecord", world.node(20).unwrap().encode().to_vec()),
        ("NodeSet", snapshot.set.encode().to_vec()),
        ("Snapshot", snapshot.encode().to_vec()),
        ("Supply", world.supply().encode().to_vec()),
        (
            "Bucket",
            Bucket { due: vec![Due::Settle(id), Due::Release(address(1)), Due::Forget(id)] }
                .encode()
                .to_vec(),
        ),
        ("QueryRecord", open.encode().to_vec()),
        ("QueryRecord", settled.encode().to_vec()),
        ("Settlement", settlement.encode().to_vec()),
        ("Committee", committee.encode().to_vec()),
        ("Params", params().encode().to_vec()),
        ("TrustRoot", world.genesis.trust_root().encode().to_vec()),
        ("Genesis", world.genesis.encode().to_vec()),
    ]
}

fn decoder(name: &str) -> fn(&[u8]) -> Option<Vec<u8>> {
    DECODERS.iter().find(|(n, _)| *n == name).unwrap().1
}

#[test]
fn samples_are_canonical_and_every_truncation_or_tail_is_refused() {
    for (name, bytes) in samples() {
        let decode = decoder(name);
        assert_eq!(decode(&bytes).as_deref(), Some(&bytes[..]), "{name}");
        for end in 0..bytes.len() {
            assert_eq!(decode(&bytes[..end]), None, "{name} cut to {end} bytes");
        }
        let longer = [&bytes[..], &[0]].concat();
        assert_eq!(decode(&longer), None, "{name} with a tail");
    }
}

#[test]
fn mutated_records_decode_canonically_or_not_at_all() {
    for (name, bytes) in samples() {
        let decode = decoder(name);
        for at in 0..bytes.len() {
            for flip in [1u8, 0x80, 0xff] {
                let mut mutated = bytes.clone();
                mutated[at] ^= flip;
                if let Some(encoded) = decode(&mutated) {
                    assert_eq!(encoded, mutated, "{name}: two encodings of one value");
                }
            }
        }
    }
}

#[test]
fn lists_beyond_their_limit_are_refused() {
    let node = NodeEntry {
        node: address(1),
        operator: address(1),
        bond: Amount(1),
        faucet_bond: false,
        models: 1,
        renewed_epoch: u64::MAX,
    };
    let of = |n| NodeSet { models: vec![], entries: vec![node; n] }.encode();
    assert!(again::<NodeSet>(&of(512)).is_some());
    assert!(again::<NodeSet>(&of(513)).is_none());
    assert!(of(512).len() < 64 * 1024);
    let seed = |n| SeedBytes(vec![0; n]).encode();
    assert!(again::<SeedBytes>(&seed(64)).is_some());
    assert!(again::<SeedBytes>(&seed(65)).is_none());
    // A length that promises four billion items allocates nothing.
    assert!(again::<Bucket>(&[0xff, 0xff, 0xff, 0xff, 0x0f]).is_none());
    // A varint with a needless byte is no canonical length.
    assert!(again::<Bucket>(&[0x80, 0x00]).is_none());
    assert!(SignedTx::from_bytes(&vec![0; nesa_chain::MAX_TX_BYTES + 1]).is_err());
}

#[test]
fn an_account_with_unsorted_zero_or_overmarked_balances_is_refused() {
    let coin = |denom, amount| Coin { denom: Denom(denom), amount: Amount(amount) };
    let of = |balances, faucet| Account { nonce: 0, balances, faucet: Amount(faucet) }.encode();
    assert!(again::<Account>(&of(vec![coin(0, 5), coin(1, 5)], 5)).is_some());
    assert!(again::<Account>(&of(vec![coin(1, 5), coin(0, 5)], 0)).is_none());
    assert!(again::<Account>(&of(vec![coin(0, 5), coin(0, 5)], 0)).is_none());
    assert!(again::<Account>(&of(vec![coin(0, 0)], 0)).is_none());
    assert!(again::<Account>(&of(vec![coin(0, 5)], 6)).is_none());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn no_decoder_panics_on_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..700)) {
        for (name, decode) in DECODERS {
            if let Some(encoded) = decode(&bytes) {
                prop_assert_eq!(&encoded, &bytes, "{}", name);
            }
        }
        let _ = nesa_primitives::decode_exact::<Block>(&bytes, &());
    }

    #[test]
    fn every_transaction_survives_codec_and_json(tx in signed()) {
        let bytes = tx.to_bytes();
        prop_assert_eq!(&SignedTx::from_bytes(&bytes).unwrap(), &tx);
        prop_assert!(bytes.len() <= nesa_chain::MAX_TX_BYTES);
        let json = serde_json::to_string(&tx).unwrap();
        prop_assert_eq!(&serde_json::from_str::<SignedTx>(&json).unwrap(), &tx);
        prop_assert!(!tx.tx.touches().is_empty());
    }

    #[test]
    fn unsigned_and_mutated_transactions_change_nothing(tx in signed(), at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let mut world = World::new();
        let before = world.state.clone();
        let mut own = tx.tx;
        own.chain = world.chain;
        own.sender = address(ALICE);
        own.nonce = 0;
        // Properly signed, whatever it asks: applied or refused, never a panic, money conserved.
        let mut bytes = own.sign(&key(ALICE)).to_bytes().to_vec();
        let intact = SignedTx::from_bytes(&bytes).unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        if let Ok(mutated) = SignedTx::from_bytes(&bytes) {
            let result = world.one(mutated);
            prop_assert!(matches!(result, Err(TxError::Signature(_) | TxError::Chain { .. })), "{:?}", result);
            prop_assert_eq!(&world.state, &before);
        }
        let _ = world.one(intact);
    }

    #[test]
    fn statuses_and_vouchers_survive(voucher in voucher(), height in any::<u64>(), sums in any::<[u64; 3]>()) {
        prop_assert!(again::<Voucher>(&voucher.encode()).is_some());
        let settlement = Settlement {
            height,
            burned: Amount(sums[0]),
            returned: Amount(sums[1]),
            timestamp_ms: sums[2],
        };
        for status in [Status::Open, Status::Settled(settlement), Status::Expired(settlement)] {
            let bytes = status.encode();
            prop_assert_eq!(decode_exact::<Status>(&bytes, &()).unwrap(), status);
        }
    }
}
