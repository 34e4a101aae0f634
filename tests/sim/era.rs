//! When worlds begin: on quiet days, and on days around which calendars do odd things.

use farebox::upstream::vocabulary::Draw;

/// Some days, and the dates that a policy of these days names.
pub struct Era {
    /// When the first of them begins, in Unix milliseconds. A world begins within five days.
    pub from_ms: u64,
    /// Where it matters.
    pub zones: [&'static str; 2],
    /// A term that has begun and ends soon.
    pub term: [&'static str; 2],
    /// Since when packs are good.
    pub packs_from: &'static str,
    /// Until when: one ends at once, one soon, one later.
    pub packs_until: [&'static str; 3],
}

/// What is odd about each is the comment above it; subscriptions of [`super::plan`] began on the 26th and the 31st.
const ERAS: [Era; 6] = [
    // Nothing but the end of November.
    Era {
        from_ms: 1_795_608_000_000,
        zones: ["UTC", "Asia/Shanghai"],
        term: ["2026-11-01", "2026-12-10"],
        packs_from: "2026-11-02",
        packs_until: ["2026-11-29", "2026-12-09", "2026-12-30"],
    },
    // The year ends; where the day begins first, and nearly last.
    Era {
        from_ms: 1_798_545_600_000,
        zones: ["Pacific/Kiritimati", "America/New_York"],
        term: ["2026-12-05", "2027-01-14"],
        packs_from: "2026-12-06",
        packs_until: ["2027-01-02", "2027-01-13", "2027-02-03"],
    },
    // An hour is left out, on 14 March.
    Era {
        from_ms: 1_804_766_400_000,
        zones: ["America/New_York", "America/Havana"],
        term: ["2027-02-15", "2027-03-26"],
        packs_from: "2027-02-16",
        packs_until: ["2027-03-15", "2027-03-25", "2027-04-15"],
    },
    // Half an hour comes twice, on 4 April; and an hour.
    Era {
        from_ms: 1_806_494_400_000,
        zones: ["Australia/Lord_Howe", "Australia/Sydney"],
        term: ["2027-03-07", "2027-04-15"],
        packs_from: "2027-03-08",
        packs_until: ["2027-04-04", "2027-04-14", "2027-05-05"],
    },
    // An hour comes twice, on 7 November.
    Era {
        from_ms: 1_825_329_600_000,
        zones: ["America/New_York", "America/Los_Angeles"],
        term: ["2027-10-11", "2027-11-19"],
        packs_from: "2027-10-12",
        packs_until: ["2027-11-08", "2027-11-18", "2027-12-09"],
    },
    // A February of 29 days.
    Era {
        from_ms: 1_835_179_200_000,
        zones: ["Asia/Kathmandu", "UTC"],
        term: ["2028-02-02", "2028-03-12"],
        packs_from: "2028-02-03",
        packs_until: ["2028-03-01", "2028-03-11", "2028-04-01"],
    },
];

impl Era {
    /// That of a seed.
    pub fn of(seed: u64) -> &'static Era {
        &ERAS[Draw::new(seed, 4).below(ERAS.len() as u64) as usize]
    }
}
