use super::*;

#[test]
fn newcomers_are_rejected_before_anybody_is_closed_and_until_there_is_some_room() {
    let start = Instant::now();
    let at = |ms| start + Duration::from_millis(ms);
    let mut state = State::default();
    assert!(!state.step(800, 800, at(0)) && !state.rejecting, "at the limit is not above it");
    assert!(!state.step(800, 801, at(100)) && state.rejecting);
    assert!(!state.step(800, 900, at(300)), "it may help yet");
    assert!(state.step(800, 900, at(400)));
    assert!(!state.step(800, 750, at(500)) && state.rejecting, "too little to let anybody in");
    assert!(!state.step(800, 700, at(600)) && !state.rejecting);
    assert!(!state.step(800, 801, at(610)) && !state.step(800, 780, at(620)), "clients within the limit stay");
    assert!(!state.step(800, 780, at(3610)) && state.rejecting);
    assert!(!state.step(800, 780, at(3620)) && !state.rejecting, "but others come in again");
    assert!(!state.step(800, 700, at(3630)));
    assert!(!state.step(800, 750, at(700)) && !state.rejecting, "it does not flap");
    assert!(state.step(800, 901, at(710)) && state.step(800, 901, at(720)), "no wait above the hard limit");
    assert!(!state.step(800, 700, at(730)) && !state.rejecting);
    assert!(!state.step(800, 900, at(800)) && !state.step(0, 900, at(900)), "a reload took the limit away");
    assert!(!state.rejecting);
}

#[test]
fn the_watermark_is_the_limit_and_then_more_than_is_held() {
    assert_eq!((high_watermark(800, 0), high_watermark(800, 800)), (800, 800));
    assert_eq!(high_watermark(800, 900), 950, "what is there already is known");
    assert_eq!(high_watermark(0, 0), 0, "no limit");
}

#[test]
fn what_was_reclaimed_is_logged_once_an_interval() {
    let start = Instant::now();
    let mut state = State::default();
    assert_eq!(state.warning(Reclaimed::default(), start), None);
    let one = |peak| Reclaimed { peak, gop_caches: 1, ..Reclaimed::default() };
    assert_eq!(state.warning(one(801), start), Some(one(801)));
    assert_eq!(state.warning(one(900), start + CHECK_INTERVAL), None);
    let both = Reclaimed { peak: 900, gop_caches: 2, ..Reclaimed::default() };
    assert_eq!(state.warning(one(850), start + LOG_INTERVAL), Some(both));
    assert_eq!(state.warning(Reclaimed::default(), start + 3 * LOG_INTERVAL), None, "nothing happened since");
}
