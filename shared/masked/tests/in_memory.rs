//! Whole queries in memory, over toy models and over the compiled MiniLM when it is there: the answers must
//! equal plain execution, bit for bit.

#![allow(clippy::unwrap_used)] // a failed set-up is a failed test

mod memory;

use std::path::Path;

use nesa_chain::Side;
use nesa_kernels::sample::Sampling;
use nesa_masked::{
    Lane, Run,
    batch::{PassPlan, Plan, text_passes},
    client::{Link, Pass},
    images::{ImagePlan, ImageRun},
    opened::recheck,
    preparation::Preparation,
    transcript::Transcript,
};
use nesa_model::classifier::{self, ClassifierModel, toy::ToyClassifier};
use nesa_model::decoder::{
    self, DecoderModel, WriteError, WriteRequest, Writing, Written, toy::ToyDecoder,
};
use nesa_model::manifest::{
    Activation, ClassesConfig, Head, ImageConfig, Layer, Pooling, WeightForm,
};
use nesa_model::{
    Artifact, Embedding, EncoderRun, ExactModel, Model, ModelLimits, PlainDecoder, PlainEngine,
    TokenIds, toy,
};
use rand::{SeedableRng, rngs::StdRng};

use memory::{CHAIN, QUERY, node_key, observed};

/// What each pass gave, and the transcript.
fn query<R: Run>(
    model: &ExactModel,
    passes: Vec<Pass<R>>,
    liar: Option<Link>,
) -> (Vec<R::Output>, Transcript) {
    let (outputs, transcript, _) = observed(model, passes, liar, StdRng::seed_from_u64(7));
    (outputs, transcript)
}

/// The same, and what somebody who watches both links sees: whom each frame goes to, and its size.
fn watched<R: Run>(model: &ExactModel, passes: Vec<Pass<R>>) -> Vec<(Link, usize)> {
    let (_, _, frames) = observed(model, passes, None, StdRng::seed_from_u64(7));
    frames.iter().map(|(link, frame)| (*link, frame.len())).collect()
}

fn passes(model: &Model, texts: &[TokenIds]) -> Vec<Pass<EncoderRun>> {
    let lengths: Vec<usize> = texts.iter().map(TokenIds::len).collect();
    let plan = Plan::new(&lengths).unwrap();
    let pass = |pass: &PassPlan| {
        let batch: Vec<TokenIds> = pass.members.iter().map(|&m| texts[m].clone()).collect();
        let run = EncoderRun::start_padded(model, &batch, pass.tokens as usize).unwrap();
        Pass { run, tokens: pass.tokens }
    };
    plan.passes.iter().map(pass).collect()
}

/// Asks honest nodes and liars; the answer is `plain`, whoever lied is replaced, and a stranger with
/// the prompt, the transcript and the model finds it all right again.
fn check<R: Run<Output: PartialEq + std::fmt::Debug>>(
    model: &ExactModel,
    passes: impl Fn() -> Vec<Pass<R>>,
    plain: &[R::Output],
) {
    let liars =
        [None, Some(Link { side: Side::A, attempt: 0 }), Some(Link { side: Side::B, attempt: 0 })];
    for liar in liars {
        let (outputs, transcript) = query(model, passes(), liar);
        assert_eq!(outputs, plain);
        let rejected: Vec<Link> = transcript.rejected.iter().map(|r| r.link).collect();
        assert_eq!(rejected, liar.into_iter().collect::<Vec<_>>());
        assert!(transcript.served.iter().all(|s| s.commit.is_some()));

        let lane = Lane::of_model(model.served_stages()).unwrap();
        let mut rng = StdRng::seed_from_u64(8);
        let weights = |stage| model.weights(nesa_model::StageId(stage));
        let fresh = Preparation::from_weights(model.digest(), &lane, weights, &mut rng).unwrap();
        let key = |link| Some(node_key(link).public());
        let again =
            |parts| recheck(&CHAIN, &QUERY, &lane, &fresh, key, passes(), parts).map(|o| o.len());
        assert_eq!(again(&transcript.opened), Ok(plain.len()));
        // A pass left out, or one too many, is noticed.
        assert!(again(&transcript.opened[1..]).is_err());
        assert!(again(&transcript.opened[..transcript.opened.len() - 1]).is_err());
    }
}

fn embeds(model: Model, texts: &[&str]) {
    let texts: Vec<TokenIds> = texts.iter().map(|t| model.tokenizer().unwrap().encode(t)).collect();
    let plain: Vec<Vec<Embedding>> = passes(&model, &texts)
        .into_iter()
        .map(|pass| pass.run.run(&PlainEngine(&model)).unwrap())
        .collect();
    check(&ExactModel::Encoder(model.clone()), || passes(&model, &texts), &plain);
}

#[test]
fn a_toy_encoder_end_to_end() {
    let artifact = toy::artifact(&toy::ToyConfig::default()).unwrap();
    let texts = ["a b c", "the quick brown fox jumps over it all", "z"];
    embeds(Model::open(&artifact).unwrap(), &texts);
}

/// The head's stages are served like any other, and the logits are plain execution's.
#[test]
fn a_toy_text_classifier_end_to_end() {
    for hidden in [Some(Activation::Tanh), Some(Activation::Relu), None] {
        let classes = ClassesConfig { classes: 3, hidden, tanh_entries: 0, label_bytes: 0 };
        let head = Head { pooling: Pooling::First, classes: Some(classes) };
        let artifact = toy::artifact_with_head(&toy::ToyConfig::default(), head).unwrap();
        let texts = ["a b c", "the quick brown fox jumps over it all", "z"];
        let model = Model::open(&artifact).unwrap();
        assert_eq!(model.labels().len(), 3);
        embeds(model, &texts);
    }
}

/// Token by token through two servers: the text a machine alone writes, in as many passes as planned.
#[test]
fn a_toy_decoder_writes_end_to_end() {
    let forms = [WeightForm::Bytes, WeightForm::Bytes, WeightForm::Nibbles];
    for (tied, form) in [true, false, false].into_iter().zip(forms) {
        let toy = ToyDecoder { tied, layers: 2, ..ToyDecoder::default() };
        let model = DecoderModel::open(&decoder::toy::artifact_of(&toy, form).unwrap()).unwrap();
        for draft in [0, 3] {
            let request = WriteRequest {
                prompt: vec![5, 6, 7, 8, 9],
                tokens: 7,
                sampling: Sampling { temperature: 1 << 16, top_k: 0, top_p: 1 << 16 },
                seed: [3; 32],
                pad_to: 4,
                piece: 3,
                draft,
            };
            let mut alone = Writing::start(&model, request.clone()).unwrap();
            let given = |w: &mut Writing| w.run(&PlainDecoder(&model)).unwrap().unwrap().to_vec();
            let mut plain = vec![given(&mut alone)];
            while alone.goes_on() {
                alone.advance().unwrap();
                plain.push(given(&mut alone));
            }
            let planned = text_passes(&request);
            assert_eq!(planned[..2], [16, 16], "pieces of the prompt are padded");
            assert!(plain.len() <= planned.len());
            let passes = || {
                let run = Writing::start(&model, request.clone()).unwrap();
                vec![Pass { run, tokens: planned[0] }]
            };
            check(&ExactModel::Decoder(model.clone()), passes, &plain);
        }
    }
}

/// From the shortest prompt to one that leaves room for a single token, pieces of one token and of more; what
/// does not fit is named before anything is sent.
#[test]
fn prompts_of_every_length_are_continued_or_named() {
    let artifact = decoder::toy::artifact(&ToyDecoder { layers: 1, ..ToyDecoder::default() });
    let model = DecoderModel::open(&artifact.unwrap()).unwrap();
    let request = |prompt: usize, tokens, piece| WriteRequest {
        prompt: (0..prompt as u32).map(|i| 2 + (i * 7) % 40).collect(),
        tokens,
        sampling: Sampling { temperature: 1 << 16, top_k: 0, top_p: 1 << 16 },
        seed: [3; 32],
        pad_to: 1,
        piece,
        draft: 0,
    };
    let max = model.config().max_tokens as usize;
    for (prompt, tokens, piece) in
        [(1, 3, 256), (7, 2, 1), (8, 2, 8), (max - 4, 4, 16), (max - 1, 1, 256)]
    {
        let request = request(prompt, tokens, piece);
        let mut alone = Writing::start(&model, request.clone()).unwrap();
        let mut plain = vec![alone.run(&PlainDecoder(&model)).unwrap().unwrap().to_vec()];
        while alone.goes_on() {
            alone.advance().unwrap();
            plain.push(alone.run(&PlainDecoder(&model)).unwrap().unwrap().to_vec());
        }
        let tokens = text_passes(&request)[0];
        let passes = vec![Pass { run: Writing::start(&model, request).unwrap(), tokens }];
        assert_eq!(query(&ExactModel::Decoder(model.clone()), passes, None).0, plain, "{prompt}");
    }
    let start = |prompt, tokens| Writing::start(&model, request(prompt, tokens, 8)).map(|_| ());
    assert_eq!(start(0, 4), Err(WriteError::Empty));
    for (prompt, tokens) in [(max - 4, 5), (max, 1), (max + 1, 1), (1, 0), (1, usize::MAX)] {
        assert_eq!(start(prompt, tokens), Err(WriteError::Length { prompt, tokens, max }));
    }
}

/// Prompts of one bucket, texts that end in the same stretch of 16: nobody outside can tell them apart.
#[test]
fn texts_of_one_length_class_look_the_same() {
    let model = decoder::toy::artifact(&ToyDecoder { layers: 1, ..ToyDecoder::default() }).unwrap();
    let model = DecoderModel::open(&model).unwrap();
    let prompts: [&[u32]; 2] = [&[5], &[9, 8, 7, 6, 5, 4, 3, 9, 8, 7, 6, 5]];
    let request = |seed: u8, pad_to| WriteRequest {
        prompt: prompts[usize::from(seed % 2)].to_vec(),
        tokens: 32,
        sampling: Sampling { temperature: 3 << 16, top_k: 0, top_p: 1 << 16 },
        seed: [seed; 32],
        pad_to,
        piece: 256,
        draft: 0,
    };
    let ends = |seed: u8| {
        let mut alone = Writing::start(&model, request(seed, 1)).unwrap();
        let mut at = 0;
        loop {
            if let Some([Written::End(_)]) = alone.run(&PlainDecoder(&model)).unwrap() {
                return Some(at);
            }
            at += 1;
            if !alone.goes_on() {
                return None;
            }
            alone.advance().unwrap();
        }
    };
    // Two texts that end at different places of the first stretch.
    let early: Vec<(u8, usize)> =
        (0..=255).filter_map(|seed| Some((seed, ends(seed).filter(|&end| end < 16)?))).collect();
    let first = early[0];
    let other = early.iter().find(|(s, end)| s % 2 != first.0 % 2 && *end != first.1).unwrap();
    let trace = |seed: u8, pad_to| {
        let request = request(seed, pad_to);
        let tokens = text_passes(&request)[0];
        let run = Writing::start(&model, request).unwrap();
        watched(&ExactModel::Decoder(model.clone()), vec![Pass { run, tokens }])
    };
    assert!(trace(first.0, 16) == trace(other.0, 16));
    assert!(trace(first.0, 1) != trace(other.0, 1), "what padding is for");
}

/// Images of `model` that differ in every value.
fn images(model: &ClassifierModel, count: usize, seed: usize) -> Vec<Vec<u8>> {
    let most = usize::from(model.image().max_value) + 1;
    let value = |i: usize| ((i * 31 + seed * 97) % most) as u8;
    (0..count).map(|n| (0..model.image_len()).map(|i| value(i * 7 + n)).collect()).collect()
}

fn image_pass(model: &ClassifierModel, images: &[Vec<u8>]) -> Vec<Pass<ImageRun>> {
    let plan = ImagePlan::new(images.len(), &model.stage_rows()).unwrap();
    plan.start(model, images).unwrap()
}

/// Convolutions, pools and dense layers, whose rows differ in number from stage to stage.
#[test]
fn a_toy_classifier_end_to_end() {
    let model = classifier::toy::artifact(&ToyClassifier::default()).unwrap();
    let model = ClassifierModel::open(&model).unwrap();
    assert_eq!(model.max_rows(), 63);
    let images = images(&model, 10, 3);
    let passes = || image_pass(&model, &images);
    assert_eq!(passes().len(), 2);
    let logits = |i: &Vec<u8>| classifier::interpreter::logits(&model, i).unwrap();
    let alone: Vec<Vec<i32>> = images.iter().map(logits).collect();
    let plain = [alone[..8].to_vec(), alone[8..].to_vec()];
    check(&ExactModel::Classifier(model.clone()), passes, &plain);
}

/// Layers of more windows than a pass has rows: several passes, each paid, and the same logits; with liars,
/// opened receipts and thin preparation as any other.
#[test]
fn layers_of_many_windows_end_to_end() {
    let square = classifier::toy::square;
    let toy = ToyClassifier {
        image: ImageConfig { channels: 1, height: 33, width: 31, max_value: 200 },
        layers: vec![
            Layer::Convolution { outputs: 3, window: square(3, 1, 1) },
            Layer::Relu,
            Layer::Convolution { outputs: 2, window: square(3, 1, 0) },
            Layer::MaxPool(square(2, 2, 0)),
            Layer::Convolution { outputs: 3, window: square(3, 1, 1) },
            Layer::Dense { outputs: 4 },
        ],
        ..ToyClassifier::default()
    };
    let model = ClassifierModel::open(&classifier::toy::artifact(&toy).unwrap()).unwrap();
    assert_eq!(model.stage_rows(), [33 * 31, 31 * 29, 15 * 14, 1]);
    let images = images(&model, 3, 3);
    let logits = |i: &Vec<u8>| classifier::interpreter::logits(&model, i).unwrap();
    // Three passes an image, of which the last has the logits.
    let plain: Vec<Vec<Vec<i32>>> =
        images.iter().flat_map(|i| [vec![], vec![], vec![logits(i)]]).collect();
    let plan = ImagePlan::new(3, &model.stage_rows()).unwrap();
    assert_eq!(plan.passes(), [512; 3].map(|_| [512, 512, 450]).concat());
    check(&ExactModel::Classifier(model.clone()), || image_pass(&model, &images), &plain);

    // And what is on them does not show.
    let trace = |images: &[Vec<u8>]| {
        watched(&ExactModel::Classifier(model.clone()), image_pass(&model, images))
    };
    let black = vec![vec![0; model.image_len()]];
    assert!(trace(&black) == trace(&images[..1]));
}

/// Whoever watches both links learns the model and how many images there are, not what is on them.
#[test]
fn images_of_one_model_look_the_same() {
    let model = classifier::toy::artifact(&ToyClassifier::default()).unwrap();
    let model = ClassifierModel::open(&model).unwrap();
    let trace = |images: &[Vec<u8>]| {
        watched(&ExactModel::Classifier(model.clone()), image_pass(&model, images))
    };
    let black = vec![vec![0; model.image_len()]];
    let white = vec![vec![model.image().max_value; model.image_len()]];
    let noise = images(&model, 1, 8);
    assert!(trace(&black).len() > 2 * model.stages().len());
    assert!(trace(&black) == trace(&white) && trace(&white) == trace(&noise));
    assert!(trace(&noise) != trace(&images(&model, 2, 8)));
}

#[test]
fn the_compiled_minilm_end_to_end() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/all-minilm-l6-v2.nesa");
    let artifact = Artifact::open(std::fs::read(file).unwrap(), &ModelLimits::default()).unwrap();
    let texts = ["Where is the meeting?", "The committee meets at noon in the annex."];
    embeds(Model::open(&artifact).unwrap(), &texts);
}
