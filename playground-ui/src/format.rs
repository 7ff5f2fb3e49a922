//! Numbers for people, and the times that need a browser's calendar.

pub(crate) use nesa_page::format::*;

/// The local time of day of a moment in milliseconds since the epoch.
pub(crate) fn clock(ms: f64) -> String {
    let date = js_sys::Date::new(&ms.into());
    String::from(date.to_locale_time_string("en-GB"))
}

/// Local day and time, for the history.
pub(crate) fn day(ms: f64) -> String {
    let date = js_sys::Date::new(&ms.into());
    let now = js_sys::Date::new_0();
    let time = format!("{:02}:{:02}", date.get_hours(), date.get_minutes());
    if date.to_date_string() == now.to_date_string() {
        format!("today {time}")
    } else {
        format!(
            "{}-{:02}-{:02} {time}",
            date.get_full_year(),
            date.get_month() + 1,
            date.get_date()
        )
    }
}
