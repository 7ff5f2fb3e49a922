//! The sample collection: fictional notes of a small practice, written for this page.
//!
//! Confidential in kind, so that the example is honest about why one would want a private search;
//! invented in every detail, so that nobody is in it. Each note stays under 128 tokens.

use nesa_messages::Document;

/// Questions that the collection can answer, each with the title of the note that does. None
/// repeats the words of its answer.
pub const QUESTIONS: [(&str, &str); 3] = [
    ("Who should not be given penicillin?", "Berit, allergy"),
    ("Which child might be bullied?", "Imre, school"),
    ("Whose diabetes is improving?", "Farouk, blood sugar"),
];

/// `(title, text)` of each note.
pub const NOTES: [(&str, &str); 24] = [
    (
        "Aldous, first visit",
        "Mr Aldous came with a cough of three weeks. No fever, no weight loss. He stopped smoking in spring and is proud of it. Chest clear on both sides. I asked him to return if he sees blood or wakes with night sweats.",
    ),
    (
        "Berit, allergy",
        "Berit had hives and a swollen lip one hour after the tablets for her tooth abscess. Amoxicillin is now marked in red on her card. She carries an adrenaline pen and her daughter has practised with the trainer.",
    ),
    (
        "Costa, sleep",
        "Mr Costa lies awake from two until five. He turns over the letters from his employer, who is moving the plant abroad in January. We spoke about evenings without a screen, and he agreed to keep a diary for a fortnight.",
    ),
    (
        "Dunya, knee",
        "Six weeks after the operation Dunya bends the knee to one hundred degrees and climbs the stairs with one hand on the rail. The scar is dry. She may cycle without resistance and drive again from Monday.",
    ),
    (
        "Ehrlich, home visit",
        "Mrs Ehrlich lives on the third floor with two loose carpets and no light in the corridor. Twice this month she held on to the wardrobe to stay upright. I ordered a walking frame and asked the son to remove the rugs.",
    ),
    (
        "Farouk, blood sugar",
        "Mr Farouk's long-term sugar fell from 8.9 to 7.1 since he walks to the mosque and back. We lowered the evening insulin by four units. His feet are warm, the pulses good, and he feels the monofilament everywhere.",
    ),
    (
        "Greta, pregnancy",
        "Greta is in her twenty-eighth week. The child moves much in the evening. Iron was low, so she takes one tablet with orange juice every second day. Blood pressure 112 over 70. Next appointment with the midwife on Thursday.",
    ),
    (
        "Hollis, hearing",
        "For a year Mr Hollis has turned the television up until the neighbours knocked. The left ear was blocked by wax and is better after rinsing. The right needs a hearing aid, and he has the slip for the specialist.",
    ),
    (
        "Imre, school",
        "Imre, nine years old, had stomach pain on eleven school mornings and never on a Saturday. Belly soft, growth normal. His mother mentioned a boy on the bus. With her consent I will telephone the class teacher.",
    ),
    (
        "Jansen, heart",
        "Mrs Jansen felt her heart stumble while gardening. The recording over twenty-four hours shows atrial fibrillation for nine hours. She begins with an anticoagulant tonight and will stop the aspirin. Kidney values in two weeks.",
    ),
    (
        "Kaya, back",
        "Mr Kaya lifted a washing machine and cannot straighten up. No numbness, no weakness, bladder normal. He should keep moving, use warmth, and take ibuprofen for three days at most because of his stomach.",
    ),
    (
        "Lindqvist, mood",
        "Since her husband's funeral Ms Lindqvist eats little and sees no one. She denied thoughts of ending her life and named two people she could call. She accepted the number of the bereavement group and a visit each Tuesday.",
    ),
    (
        "Moreau, travel",
        "The Moreau family flies to Ghana in March. Yellow fever vaccination was given to all four today. Malaria tablets start one day before departure; the youngest gets the syrup by weight. Mosquito nets are packed.",
    ),
    (
        "Nkemelu, skin",
        "The mole on Mr Nkemelu's shoulder has doubled in size and is two colours. I removed it with a margin of three millimetres and sent it to the laboratory. He knows that the answer takes about nine days.",
    ),
    (
        "Okafor, migraine",
        "Ms Okafor counted fourteen days with headache in October, most of them before her period. Triptans help but she takes too many. We begin with a preventive at night and a limit of eight triptans each month.",
    ),
    (
        "Petrov, kidneys",
        "Mr Petrov's kidney function dropped to thirty-four. He had been taking painkillers from the supermarket every day. He will stop them, drink two litres, and come for blood in ten days. Metformin is halved until then.",
    ),
    (
        "Quist, reflux",
        "Heartburn wakes Mr Quist at night, above all after late meals. He has lost no weight and swallows well. Raise the head of the bed, eat before seven, omeprazole for four weeks, then try without it.",
    ),
    (
        "Rossi, thyroid",
        "Mrs Rossi was tired, cold and had gained five kilograms. Her TSH is 11. She starts with fifty micrograms of thyroxine on an empty stomach, half an hour before coffee, and we measure again in eight weeks.",
    ),
    (
        "Sato, asthma",
        "Ms Sato used the blue inhaler daily since the neighbour keeps cats. The peak flow rose from 310 to 420 after the brown one. I watched her technique: she now breathes out fully before each puff.",
    ),
    (
        "Tembo, work",
        "Mr Tembo's hands go numb when he holds the drill. The nerve test shows carpal tunnel on both sides. He asked that the firm should not be told, since his contract ends in June and he fears it will not be renewed.",
    ),
    (
        "Ueda, memory",
        "Mrs Ueda forgot the stove twice and lost her way home from the bakery. She scored nineteen of thirty. Her husband hides the car keys. Vitamin B12 was low, which we treat before drawing any conclusion.",
    ),
    (
        "Vargas, vaccination",
        "Luis Vargas, fourteen months, received the second dose against measles, mumps and rubella in the left thigh. He cried briefly and was given a sticker. A slight fever in the second week would be normal.",
    ),
    (
        "Winter, dizziness",
        "When Mr Winter stands up quickly the room goes black. Lying 138, standing 104. We halve the water tablet, and he will sit on the edge of the bed for a minute before getting up at night.",
    ),
    (
        "Practice, notice",
        "The practice closes from 23 December to 2 January. Urgent cases go to the district hospital. Repeat prescriptions should be ordered by the 18th; the telephone is staffed each morning from eight until eleven.",
    ),
];

/// The collection as documents.
pub fn documents() -> Vec<Document> {
    NOTES
        .iter()
        .enumerate()
        .map(|(i, (title, text))| Document {
            id: format!("sample-{i}"),
            title: (*title).to_owned(),
            text: (*text).to_owned(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_collection_stays_within_its_promise() {
        assert!(NOTES.len() <= 30);
        for (title, text) in NOTES {
            // WordPiece splits English prose into fewer than 1.6 pieces per word, medical terms
            // included; 70 words stay below 128 tokens with room to spare.
            assert!(text.split_whitespace().count() <= 70, "{title} is too long");
            assert!(!text.contains('\n'), "{title} would be split into two passages");
        }
    }
}
