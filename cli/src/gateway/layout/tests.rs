//! The bytes of a register, and writers of one block in every mixture that chance makes of them.

use super::*;

fn parse(bytes: &[u8; BLOCK]) -> Register {
    Block::parse(bytes).expect("a head").register().expect("a text")
}

/// Makes an exchange as a server does; whether it found what it expected.
fn exchange(bytes: &mut [u8; BLOCK], exchange: &Exchange) -> bool {
    let is_there = word_at(bytes, exchange.at) == exchange.expected;
    if is_there {
        bytes[exchange.at * WORD..][..WORD].copy_from_slice(&exchange.new.to_le_bytes());
    }
    is_there
}

fn write(bytes: &mut [u8; BLOCK], text: &str) -> u64 {
    let plan = Block::parse(bytes).expect("a head").plan(text).expect("room");
    for step in [&plan.claim].into_iter().chain(&plan.stage).chain([&plan.publish]) {
        assert!(exchange(bytes, step), "nobody else writes");
    }
    plan.tag
}

#[test]
fn the_bytes_are_as_documented() {
    let mut bytes = [0; BLOCK];
    assert_eq!(parse(&bytes), Register { tag: 0, text: None });
    assert_eq!(write(&mut bytes, "hello, world"), 1);
    assert_eq!(bytes[..16], *b"\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0RG");
    assert_eq!(bytes[2048..2080], *b"\x01\0\0\0\0\0\x0c\0hello, w\x01\0\0\0\0\0orld\0\0\0\0\0\0");
    assert_eq!(write(&mut bytes, ""), 2);
    assert_eq!(bytes[..32], *b"\x02\0\0\0\0\0\0\0\x04\0\0\0\0\0RG\x03\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
    assert_eq!(parse(&bytes), Register { tag: 2, text: Some(String::new()) });
}

#[test]
fn every_length_that_fits_comes_back() {
    let mut bytes = [0; BLOCK];
    for len in (0..=TEXT_LEN_MAX).rev() {
        let text: String = "aeiou".chars().cycle().take(len).collect();
        let tag = write(&mut bytes, &text);
        assert_eq!(parse(&bytes), Register { tag, text: Some(text) });
    }
    assert_eq!(TEXT_LEN_MAX, 1268);
    assert_eq!(&bytes[4080..], [0; 16]);
}

#[test]
fn what_is_no_register_is_refused() {
    let refused = |change: &dyn Fn(&mut [u8; BLOCK])| {
        let mut bytes = [0; BLOCK];
        write(&mut bytes, "a text of some words");
        change(&mut bytes);
        Block::parse(&bytes).and_then(|block| block.register()).is_none()
    };
    assert!(!refused(&|_| ()));
    assert!(refused(&|bytes| bytes[15] = b'X'));
    assert!(refused(&|bytes| bytes[2048] = 3), "its words are of two turns");
    assert!(refused(&|bytes| bytes[2048 + 7] = 5), "longer than a slot");
    assert!(refused(&|bytes| bytes[2048 + 8] = 0xff), "no UTF-8");
    assert!(refused(&|bytes| bytes[..8].copy_from_slice(&2u64.to_le_bytes())), "no text of that tag");
}

#[test]
fn numbers_do_not_go_round() {
    let mut bytes = [0; BLOCK];
    for (tag, turn, fits) in [
        (u64::MAX - 1, 2, true),
        (u64::MAX, 2, false),
        (5, TURN_MASK - 3, true),
        (5, TURN_MASK - 2, false),
        (5, TURN_MASK - 1, false),
        (5, TURN_MASK, false),
    ] {
        bytes[..WORD].copy_from_slice(&Head { tag, turn }.word().to_le_bytes());
        assert_eq!(Block::parse(&bytes).expect("a head").plan("x").is_some(), fits, "{tag} {turn}");
    }
}

/// What one of many is doing.
#[derive(Debug)]
enum Doing {
    /// It reads next.
    Reading,
    /// It has these exchanges left, the publication last, and `true` while all of them succeed.
    Writing { plan: Plan, left: Vec<Exchange>, good: bool },
}

/// A writer's plan as exchanges: those between the first and the last in any order.
fn steps(plan: &Plan, random: &mut fastrand::Rng) -> Vec<Exchange> {
    let mut stage = plan.stage.clone();
    random.shuffle(&mut stage);
    [&[plan.claim], &stage[..], &[plan.publish]].concat()
}

/// Any number of writers that read, claim past each other, stall, die with exchanges under way that land later.
#[test]
fn a_value_is_that_of_its_tag_whoever_else_writes() {
    let chosen = std::env::var("MCOMP_TEST_SEED").ok().map(|text| text.parse().expect("a number"));
    let seed = chosen.unwrap_or_else(|| fastrand::u64(..));
    eprintln!("repeat with MCOMP_TEST_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut total = 0;
    for _ in 0..300 {
        total += one_history(&mut random);
    }
    assert!(total > 3000, "only {total} writes were published: the histories show nothing");
}

/// Runs a history; how many writes were published.
fn one_history(random: &mut fastrand::Rng) -> usize {
    let mut bytes = [0; BLOCK];
    let mut writers: Vec<Doing> = (0..random.usize(2..6)).map(|_| Doing::Reading).collect();
    let (mut late, mut published, mut next) = (Vec::new(), vec![None], 0);
    for _ in 0..1500 {
        let one = random.usize(..writers.len());
        match &mut writers[one] {
            Doing::Reading => {
                next += 1;
                let text = format!("{next} {}", "x".repeat(random.usize(..60)));
                let plan = Block::parse(&bytes).expect("a head").plan(&text).expect("room");
                let left = steps(&plan, random);
                writers[one] = Doing::Writing { plan, left, good: true };
            }
            // It dies, and what it has sent may land at any time: its claim, or after that its words, or after those its
            // publication.
            Doing::Writing { plan, left, good } if random.u32(..60) == 0 => {
                match left.len() {
                    1 if *good => late.push((plan.publish, Some(text_of(plan)))),
                    len if len == plan.stage.len() + 2 => late.push((plan.claim, None)),
                    len => late.extend(left[..len - 1].iter().map(|step| (*step, None))),
                }
                writers[one] = Doing::Reading;
            }
            Doing::Writing { plan, left, good } => {
                let step = left.remove(0);
                *good &= exchange(&mut bytes, &step);
                if left.is_empty() && *good {
                    assert_eq!(plan.tag, published.len() as u64, "tags rise by one, and none is given twice");
                    published.push(Some(text_of(plan)));
                }
                let is_over = left.is_empty() || (!*good && (step == plan.claim || left.len() == 1));
                if is_over {
                    writers[one] = Doing::Reading;
                }
            }
        }
        if !late.is_empty() && random.u32(..8) == 0 {
            let (step, text) = late.swap_remove(random.usize(..late.len()));
            if exchange(&mut bytes, &step) && text.is_some() {
                published.push(text);
            }
        }
        let found = parse(&bytes);
        assert_eq!(found.tag, published.len() as u64 - 1, "what is seen is what was published last");
        assert_eq!(found.text, published[published.len() - 1]);
    }
    published.len() - 1
}

/// What a plan stages.
fn text_of(plan: &Plan) -> String {
    let content: Vec<u8> = plan.stage.iter().flat_map(|step| step.new.to_le_bytes().into_iter().skip(6)).collect();
    let len = usize::from(content[0]) + 256 * usize::from(content[1]);
    String::from_utf8(content[2..2 + len].to_vec()).expect("text")
}
