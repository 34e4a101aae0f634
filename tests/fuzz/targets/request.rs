//! Any bytes as a request in any dialect: what the edits say is what is read of them again.
#![no_main]

use farebox::meter::call::{read_call, splice};
use farebox::meter::count::Encoding;
use farebox::meter::dialect::{Dialect, Route, suspicious};
use farebox::meter::form::read_form;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some(([dialect, clamp], body)) = data.split_first_chunk::<2>() else { return };
    let _ = (Route::of(b"POST", body), suspicious(body));
    let dialect = Dialect::ALL[usize::from(*dialect) % Dialect::ALL.len()];
    let _ = read_form(dialect, b"multipart/form-data; boundary=x", body);
    let Ok(call) = read_call(dialect, body) else { return };
    let _ = call.input(Encoding::O200kBase);
    let clamp = u64::from(*clamp);
    let edited = splice(body, &call.edits(Some(clamp), true));
    let again = read_call(dialect, &edited).expect("an edited call is a call");
    assert!(again.output_limit.is_none_or(|limit| limit <= clamp.max(again.floor)));
});
