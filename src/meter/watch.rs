//! Which tools an answer may call, and the first that it called and may not.

use std::fmt;
use std::rc::Rc;

use super::called::Called;
use super::tally::Voice;

/// The most calls whose names are remembered; a name that comes in pieces comes at once.
const MOST: usize = 128;
/// The longest name of a tool, in bytes: no longer one may be called.
const LONGEST: usize = 1_024;

/// Tells of a tool whether it may be called.
#[derive(Clone)]
pub struct MayCall(pub Rc<dyn Fn(Called<'_>) -> bool>);

impl fmt::Debug for MayCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MayCall")
    }
}

/// See the module's docs. By default nothing is watched.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    may: Option<MayCall>,
    /// An event that calls another one must not leave.
    enforced: bool,
    /// Calls, and what has come of their names.
    names: Vec<(Voice, String)>,
    forbidden: Option<String>,
    /// Nothing is heard any more.
    closed: bool,
}

impl Watch {
    /// Watches the calls of an answer; `enforced`: an event that calls a tool which may not be called must not leave.
    pub fn new(may: MayCall, enforced: bool) -> Self {
        Self { may: Some(may), enforced, ..Self::default() }
    }

    /// Whether anything is watched.
    pub fn is_on(&self) -> bool {
        self.may.is_some()
    }

    /// Whether events must be held to it.
    pub fn is_enforced(&self) -> bool {
        self.enforced
    }

    /// The first tool that was called and may not be.
    pub fn forbidden(&self) -> Option<&str> {
        self.forbidden.as_deref()
    }

    /// Keeps what was found, whatever else of the answer is taken back.
    pub(super) fn take_forbidden(&mut self) -> Option<String> {
        self.forbidden.take()
    }

    /// Puts it back.
    pub(super) fn found(&mut self, forbidden: Option<String>) {
        self.forbidden = forbidden;
    }

    /// Hears nothing from now on: what comes is not delivered.
    pub(super) fn close(&mut self) {
        self.closed = true;
    }

    /// A name, or a piece of one, of a call that is told in pieces (`voice`) or whole. Some providers repeat the whole name
    /// with each piece of the arguments; clients string together what differs, and so does this: each piece and the whole
    /// so far must be a name that may be called.
    pub(super) fn hear(&mut self, voice: Option<Voice>, name: &str) {
        let Some(MayCall(may)) = self.may.clone() else { return };
        if name.is_empty() || self.closed || self.forbidden.is_some() {
            return;
        }
        let mut whole = name.to_owned();
        let room = self.names.len() < MOST;
        if let Some(voice) = voice {
            match self.names.iter_mut().find(|(of, _)| *of == voice) {
                Some((_, known)) if known == name => return,
                Some((_, known)) => {
                    known.push_str(name);
                    whole.clone_from(known);
                }
                None if room => self.names.push((voice, whole.clone())),
                None => {}
            }
        }
        // No function may be called so: Moonshot's own tools are.
        let sort = |name: &str| may(if name.starts_with('$') { Called::BuiltIn(name) } else { Called::Function(name) });
        if whole.len() > LONGEST || !sort(name) || !sort(&whole) {
            self.forbidden = Some(whole);
        }
    }

    /// A call of a tool that its provider runs, or a server.
    pub(super) fn hear_own(&mut self, called: Called<'_>) {
        let Some(MayCall(may)) = &self.may else { return };
        if self.closed || self.forbidden.is_some() {
            return;
        }
        let name = called.name();
        if name.len() > LONGEST || !may(called) {
            self.forbidden = Some(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::{Called, MayCall, Watch};
    use crate::meter::tally::{Kind, Voice};

    fn watch(deny: &'static str) -> Watch {
        Watch::new(MayCall(Rc::new(move |called| called.name() != deny)), true)
    }

    fn call(part: u64) -> Option<Voice> {
        Some(Voice { kind: Kind::Tool, answer: 0, part })
    }

    #[test]
    fn a_name_in_pieces_is_one_name_and_a_repeated_one_no_other() {
        let mut denied = watch("shell");
        for piece in ["sh", "ell"] {
            denied.hear(call(0), piece);
        }
        assert_eq!(denied.forbidden(), Some("shell"));
        let mut repeated = watch("looklook");
        for _ in 0..3 {
            repeated.hear(call(0), "look");
        }
        repeated.hear(call(1), "look");
        assert_eq!(repeated.forbidden(), None);
    }

    #[test]
    fn what_a_provider_runs_is_told_apart_from_functions() {
        let hears = |hear: &dyn Fn(&mut Watch)| {
            let functions_only = MayCall(Rc::new(|called| matches!(called, Called::Function(_))));
            let mut watch = Watch::new(functions_only, true);
            hear(&mut watch);
            watch.forbidden().map(str::to_owned)
        };
        assert_eq!(hears(&|watch| watch.hear(None, "web_search")), None);
        assert_eq!(hears(&|watch| watch.hear(None, "$web_search")).as_deref(), Some("$web_search"));
        assert_eq!(hears(&|watch| watch.hear_own(Called::BuiltIn("web_search"))).as_deref(), Some("web_search"));
        let served = Called::Server { label: "files", tool: "rm" };
        assert_eq!(hears(&|watch| watch.hear_own(served)).as_deref(), Some("mcp__files__rm"));
    }

    #[test]
    fn nothing_is_watched_unless_asked_and_names_have_an_end() {
        let mut idle = Watch::default();
        idle.hear(None, "shell");
        assert_eq!((idle.is_enforced(), idle.forbidden()), (false, None));
        let mut long = watch("shell");
        long.hear(None, &"x".repeat(1_025));
        assert!(long.forbidden().is_some());
    }
}
