//! Classified images.

use nesa_model::classifier::{self, ClassifierModel, best, toy::ToyClassifier};

use super::*;
use crate::query::classify::{Classes, committed};

/// Ten images, in two passes.
fn images(model: &ClassifierModel) -> Vec<Vec<u8>> {
    (0..10)
        .map(|n| (0..model.image_len()).map(|i| (i * 7 + n * 13) as u8 % 200).collect())
        .collect()
}

fn classified() -> (Fixture, ClassifierModel) {
    let artifact = classifier::toy::artifact(&ToyClassifier::default()).unwrap();
    let model = ClassifierModel::open(&artifact).unwrap();
    let work = Work::classify(&model, &images(&model)).unwrap();
    let Work::Classify { images, plan } = &work else { panic!("images") };
    let gather = Classes::new(&model, images, plan);
    (run(ExactModel::Classifier(model.clone()), committed(images), gather), model)
}

#[tokio::test]
async fn classes_verify_and_the_images_are_part_of_them() {
    let (fixture, model) = classified();
    let report = fixture.receipt.verify(&fixture.chain, &fixture.model).await.unwrap();
    assert_eq!(report.summary.classes.len(), 10);
    for (classified, image) in report.summary.classes.iter().zip(images(&model)) {
        let alone = classifier::interpreter::logits(&model, &image).unwrap();
        assert_eq!(classified.logits, alone);
        assert_eq!(Some(classified.class), best(&alone));
    }
    let changes: [fn(&mut OpenedReceipt); 7] = [
        |r| r.texts[3].replace_range(0..1, "f"),
        |r| r.texts[3] = r.texts[3].to_uppercase(),
        |r| r.texts[3].push('0'),
        |r| r.texts.swap(1, 2),
        |r| r.texts.truncate(9),
        |r| r.answer.0[0] ^= 1,
        |r| r.messages.truncate(r.messages.len() - 1),
    ];
    for (i, change) in changes.into_iter().enumerate() {
        let mut changed = fixture.receipt.clone();
        change(&mut changed);
        assert!(verdict(&fixture, &changed).await.is_err(), "change {i}");
    }
}

/// The same receipt beside a model of another family is no answer of that model.
#[tokio::test]
async fn another_family_does_not_fit() {
    let failure = classified().0;
    let other = fixture();
    let failure = failure.receipt.verify(&other.chain, &other.model).await.unwrap_err();
    assert_eq!(failure.what, "model");
}

#[test]
fn what_does_not_fit_is_refused_before_anything_is_paid() {
    let artifact = classifier::toy::artifact(&ToyClassifier::default()).unwrap();
    let model = ClassifierModel::open(&artifact).unwrap();
    let refused = |images: &[Vec<u8>]| match Work::classify(&model, images) {
        Ok(_) => panic!("taken"),
        Err(error) => error.to_string(),
    };
    let good = images(&model);
    assert_eq!(refused(&[]), "0 images; one query takes 1 to 256");
    let with = |bad| [&good[..3], &[bad]].concat();
    assert_eq!(refused(&with(vec![0; 5])), "image 3 has 5 values, expected 126");
    assert_eq!(refused(&with(vec![201; 126])), "image 3 holds 201, at most 200 allowed");
    let mut wide = ToyClassifier { input_bits: 8, ..ToyClassifier::default() };
    (wide.image.height, wide.image.width) = (129, 129);
    let wide = ClassifierModel::open(&classifier::toy::artifact(&wide).unwrap()).unwrap();
    let error = Work::classify(&wide, &[vec![0; wide.image_len()]]).err().unwrap();
    assert_eq!(
        error.to_string(),
        "a layer of the model has 16641 windows; 16384 can be sent masked"
    );
}
