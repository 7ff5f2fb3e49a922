//! The sealed lane in plain words: what its nodes read, how far a text can be relied on, what the odds are.

use nesa_messages::{
    JobState, OddsRow, OnlineView, PreparationChoice, SealedView, ShardRow, Standing, StopReason,
};

use crate::format::{bytes, plural};

/// A chance of 0 to 1 for people: `7.3 %, about 1 in 14`; never 0 or 100 % unless it is.
pub fn chance(p: f64) -> String {
    if p.is_nan() || p >= 1.0 {
        return "100\u{a0}%".to_owned();
    }
    if p <= 0.0 {
        return "0\u{a0}%".to_owned();
    }
    if p < 1e-6 {
        return "less than one in a million".to_owned();
    }
    let percent = p * 100.0;
    let written = if percent > 99.9 {
        "over 99.9\u{a0}%".to_owned()
    } else {
        // Two figures that count.
        let places = if percent > 99.0 { 1.0 } else { 1.0 - percent.log10().floor() };
        let places = places.clamp(0.0, 6.0) as usize;
        format!("{percent:.places$}\u{a0}%")
    };
    // Larger shares are not close to one in a whole number.
    match (1.0 / p).round() as u64 {
        n @ 5.. => format!("{written}, about 1 in {}", rounded(n)),
        _ => written,
    }
}

/// A count to two figures, with thousands set apart.
fn rounded(n: u64) -> String {
    let mut unit = 1;
    while n / unit >= 100 {
        unit *= 10;
    }
    crate::format::thousands((n + unit / 2) / unit * unit)
}

/// One in so many, in words.
pub fn share(one_in: u32) -> String {
    match one_in {
        0 | 1 => "all".to_owned(),
        2 => "half".to_owned(),
        3 => "one in three".to_owned(),
        4 => "one in four".to_owned(),
        5 => "one in five".to_owned(),
        10 => "one in ten".to_owned(),
        n => format!("one in {n}"),
    }
}

/// The nodes whose lie together goes unnoticed.
fn liars(replicas: u8, shards: u8) -> String {
    let part = if shards > 1 { "at least one part of the model" } else { "the model" };
    match replicas {
        0 | 1 => format!("the only node of {part} lies"),
        2 => format!("both nodes of {part} lie together"),
        n => format!("all {n} nodes of {part} lie together"),
    }
}

/// What an assumed adversary can do, in two sentences.
pub fn odds(row: &OddsRow, replicas: u8, shards: u8) -> [String; 2] {
    [
        format!(
            "If {} of the stake is dishonest and colludes, the chance that {}, so that nobody notices, is {}.",
            share(row.one_in),
            liars(replicas, shards),
            chance(row.lies)
        ),
        format!("That one of its nodes reads your text: {}.", chance(row.reads)),
    ]
}

/// How far a text can be relied on: a word or two, and a sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// As a name in the markup; only `agreed` is green.
    pub name: &'static str,
    /// The label.
    pub label: &'static str,
    /// What it means.
    pub words: &'static str,
}

/// The mark of a text of the sealed lane.
pub fn mark(view: &SealedView, state: JobState) -> Mark {
    let of = |name, label, words| Mark { name, label, words };
    match (view.standing, state) {
        (Standing::Disputed, _) => of(
            "disputed",
            "Do not rely on this",
            "Nodes that had the same part gave different numbers, so at least one of them lied.",
        ),
        (Standing::Verified, JobState::Answered) => of(
            "agreed",
            "Agreed",
            "All nodes computed the same and published equal traces. That does not show it right, if all nodes of one part lie alike.",
        ),
        (Standing::Unrevealed, _) => of(
            "unverified",
            "Not verified",
            "The nodes agreed, but not all of them stood by it in time.",
        ),
        (_, JobState::Running) => of(
            "provisional",
            "Not yet verified",
            "From the fastest nodes. The others are compared as they answer.",
        ),
        (Standing::Agreed, JobState::Answered) => of(
            "provisional",
            "Not yet verified",
            "All nodes gave the same. Their traces are still to be published.",
        ),
        _ => of("unverified", "Not verified", "It broke off before all nodes had agreed."),
    }
}

/// How far the comparison is, while it goes on.
pub fn compared(view: &SealedView, tokens: u32, agreed: u32) -> Option<String> {
    match view.standing {
        Standing::Provisional if tokens > 0 => {
            Some(format!("All nodes agree on {agreed} of {}.", plural(u64::from(tokens), "token")))
        }
        Standing::Agreed if view.expected > 0 => {
            Some(format!("{} of {} traces published.", view.revealed, view.expected))
        }
        _ => None,
    }
}

/// Why a text is no longer. In the masked lane what stands was checked; in the sealed lane it was not.
pub fn ended(stop: Option<StopReason>, state: JobState, sealed: bool) -> Option<&'static str> {
    let text = match (stop, state, sealed) {
        (Some(StopReason::Length), ..) => {
            "It reached the most tokens you allowed. Ask it to go on, or allow more in the settings."
        }
        (Some(StopReason::Stopped), _, false) | (None, JobState::Cancelled, false) => {
            "You stopped it. What is shown was checked."
        }
        (Some(StopReason::Stopped), _, true) | (None, JobState::Cancelled, true) => {
            "You stopped it. What is shown was not verified."
        }
        (Some(StopReason::Interrupted), _, false) | (None, JobState::Interrupted, false) => {
            "The page closed in the middle. What is shown was checked."
        }
        (Some(StopReason::Interrupted), _, true) | (None, JobState::Interrupted, true) => {
            "The page closed in the middle. What is shown was not verified."
        }
        (Some(StopReason::Failed), _, false) => "It broke off here. What is shown was checked.",
        (Some(StopReason::Failed), _, true) => "It broke off here. What is shown was not verified.",
        _ => return None,
    };
    Some(text)
}

/// The layers of a shard, counted from 1 as people do.
pub fn layers(first: u32, end: u32) -> String {
    if end == first + 1 { format!("layer {end}") } else { format!("layers {} to {end}", first + 1) }
}

/// A shard of a plan in a line. Where people read, a shard is a part.
pub fn shard(index: usize, row: &ShardRow) -> String {
    let what = format!("Part {}: {}, {}", index + 1, layers(row.first, row.end), bytes(row.bytes));
    match (row.nodes, row.operators) {
        (Some(nodes), Some(operators)) => format!(
            "{what}; {} of {} online",
            plural(u64::from(nodes), "node"),
            plural(u64::from(operators), "operator")
        ),
        _ => what,
    }
}

/// Whether a committee of so many nodes per shard could be drawn from who is online.
pub fn enough(online: &OnlineView, replicas: u8) -> Result<String, String> {
    let there =
        format!("{} of {} registered nodes answered just now.", online.online, online.registered);
    if online.most_replicas >= replicas {
        return Ok(format!(
            "{there} Each serves any part: enough for {replicas} of different operators."
        ));
    }
    Err(match online.most_replicas {
        0 => format!("{there} That is not enough for a committee."),
        most => format!("{there} That is enough for {most} on each part, not for {replicas}."),
    })
}

/// Which preparation saves a download worth saving: not of a model that is small, or here already, and
/// only where two more operators are left to prepare.
pub fn preparation(
    chosen: Option<PreparationChoice>,
    (whole, small): (u64, u64),
    here: bool,
    operators: u32,
) -> PreparationChoice {
    match chosen {
        Some(choice) => choice,
        None if !here && whole > small && operators >= 4 => PreparationChoice::Thin,
        None => PreparationChoice::Local,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn chances_read_as_people_say_them() {
        for (p, words) in [
            (0.0, "0\u{a0}%"),
            (1.0, "100\u{a0}%"),
            (f64::NAN, "100\u{a0}%"),
            (0.072_702, "7.3\u{a0}%, about 1 in 14"),
            (0.008, "0.80\u{a0}%, about 1 in 130"),
            (0.5, "50\u{a0}%"),
            (0.912, "91\u{a0}%"),
            (0.999_99, "over 99.9\u{a0}%"),
            (1e-4, "0.010\u{a0}%, about 1 in 10\u{202f}000"),
            (1e-9, "less than one in a million"),
        ] {
            assert_eq!(chance(p), words, "{p}");
        }
    }

    proptest! {
        #[test]
        fn only_certainty_reads_as_certain(p in 1e-12f64..0.999_999) {
            let words = chance(p);
            prop_assert!(!words.starts_with("0\u{a0}%") && !words.starts_with("100"), "{words}");
            prop_assert!(!words.starts_with("0.0\u{a0}%"), "{words}");
        }

        #[test]
        fn a_small_model_is_never_prepared_by_others_unasked(
            bytes in 0u64..1 << 40, small in 0u64..1 << 30, here: bool, operators in 0u32..9,
        ) {
            let thin = preparation(None, (bytes, small), here, operators) == PreparationChoice::Thin;
            prop_assert_eq!(thin, !here && bytes > small && operators >= 4);
            for choice in [PreparationChoice::Local, PreparationChoice::Thin] {
                prop_assert_eq!(preparation(Some(choice), (bytes, small), here, operators), choice);
            }
        }
    }

    #[test]
    fn the_odds_say_who_would_have_to_lie_and_who_reads() {
        let row = OddsRow { one_in: 3, lies: 0.072_702, withholds: 0.4, reads: 0.912 };
        let [lie, read] = odds(&row, 3, 2);
        assert_eq!(
            lie,
            "If one in three of the stake is dishonest and colludes, the chance that all 3 nodes of at \
             least one part of the model lie together, so that nobody notices, is 7.3\u{a0}%, about 1 in 14."
        );
        assert!(read.contains("reads your text: 91\u{a0}%"), "{read}");
        assert!(odds(&row, 1, 1)[0].contains("the only node of the model lies"));
        assert!(odds(&row, 2, 4)[0].contains("both nodes of at least one part"));
    }

    #[test]
    fn only_equal_traces_of_an_answer_are_green() {
        let states = [
            JobState::Running,
            JobState::Answered,
            JobState::Failed,
            JobState::Cancelled,
            JobState::Interrupted,
        ];
        let standings = [
            Standing::Provisional,
            Standing::Agreed,
            Standing::Verified,
            Standing::Disputed,
            Standing::Unrevealed,
        ];
        for state in states {
            for standing in standings {
                let said = mark(&SealedView { standing, ..SealedView::default() }, state);
                let green = standing == Standing::Verified && state == JobState::Answered;
                assert_eq!(said.name == "agreed", green, "{standing:?} {state:?}");
                if standing == Standing::Disputed {
                    assert_eq!(said.name, "disputed", "{state:?}");
                }
                if !green && standing != Standing::Disputed {
                    assert!(said.label.starts_with("Not "), "{standing:?} {state:?}");
                }
            }
        }
    }

    #[test]
    fn a_sealed_text_that_broke_off_is_never_called_checked() {
        let stops = [StopReason::Stopped, StopReason::Interrupted, StopReason::Failed];
        for stop in stops {
            let sealed = ended(Some(stop), JobState::Failed, true).unwrap_or_default();
            assert!(sealed.contains("not verified") && !sealed.contains("checked"), "{sealed}");
            let masked = ended(Some(stop), JobState::Failed, false).unwrap_or_default();
            assert!(masked.contains("was checked"), "{masked}");
        }
        assert_eq!(ended(Some(StopReason::End), JobState::Answered, true), None);
    }

    #[test]
    fn who_is_online_is_told_against_what_is_wanted() {
        let online = OnlineView {
            registered: 6,
            online: 4,
            operators: 4,
            most_replicas: 4,
            ..OnlineView::default()
        };
        assert!(enough(&online, 4).is_ok_and(|w| w.starts_with("4 of 6 registered nodes")));
        assert!(
            enough(&online, 5).is_err_and(|w| w.contains("enough for 4 on each part, not for 5"))
        );
        let none = OnlineView { most_replicas: 0, ..online };
        assert!(enough(&none, 1).is_err());
        let row =
            ShardRow { first: 0, end: 3, bytes: 2_000_000, nodes: Some(4), operators: Some(1) };
        assert_eq!(shard(1, &row), "Part 2: layers 1 to 3, 2.0 MB; 4 nodes of 1 operator online");
        assert_eq!(layers(4, 5), "layer 5");
    }

    #[test]
    fn the_comparison_is_counted_while_it_lasts() {
        let view =
            |standing| SealedView { standing, revealed: 2, expected: 6, ..Default::default() };
        let running = compared(&view(Standing::Provisional), 12, 7);
        assert_eq!(running.as_deref(), Some("All nodes agree on 7 of 12 tokens."));
        assert_eq!(compared(&view(Standing::Provisional), 0, 0), None);
        let agreed = compared(&view(Standing::Agreed), 12, 12);
        assert_eq!(agreed.as_deref(), Some("2 of 6 traces published."));
        assert_eq!(compared(&view(Standing::Verified), 12, 12), None);
    }
}
