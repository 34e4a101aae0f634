//! The security third of a plan: what may be asked, by what, and with what.

use globset::GlobMatcher;

use super::agents::{self, Loops, Repeats};
use super::audit::{self, Audit};
use super::bundle::{OnUnknown, Screen};
use super::diagnostic::{Code, Complaint, Faults, listed, shown};
use super::document::is_header_name;
use super::fields::{Fields, choice, form, list, text, whole};
use super::guard::{self, Guard};
use super::images::{self, Images};
use super::names::{Case, Names, allow_and_deny, matches};
use super::plan::{MOST_LINES, PlanText, few, tokens_only};
use super::screen::{self, Side};
use super::tokens;
use super::tree::{Node, Spanned, Value};
use crate::meter::dialect::Endpoint;
use crate::meter::media::Media;

/// The security third of a plan.
#[derive(Clone, Debug)]
pub struct Security {
    /// Models that may be asked for; without any that is allowed every model of the catalogue that is not denied. An alias is
    /// what it stands for, unless it is itself allowed; denied is it by either.
    pub models: Names,
    /// The model that every call is sent to, whatever it asks for.
    pub force_model: Option<String>,
    /// Kinds of work that may be asked for; empty: any.
    pub endpoints: Vec<Endpoint>,
    /// What a prompt may have in it besides text. `None`: anything.
    pub modalities: Option<Vec<Media>>,
    /// What the images of a prompt may be.
    pub images: Option<Images>,
    /// Which tools may be offered and called.
    pub tools: Option<Tools>,
    /// What the instructions must be.
    pub system_prompt: Option<SystemRule>,
    /// Request headers that go no further: names and globs, in lower case.
    pub strip: Vec<GlobMatcher>,
    /// Request headers that must be there, in lower case.
    pub require: Vec<String>,
    /// What clients say that they are, by `user-agent`.
    pub clients: Names,
    /// How often the same call may come.
    pub repeats: Option<Repeats>,
    /// How often the same tool may have been called in the same way.
    pub loops: Option<Loops>,
    /// Longest input in tokens.
    pub longest_input: Option<u64>,
    /// The most output tokens that an answer may be asked to have.
    pub longest_output: Option<u64>,
    /// What the texts of prompts are screened for. `None`: nothing.
    pub input: Option<Screen>,
    /// What the texts of answers are screened for. `None`: nothing.
    pub output: Option<Screen>,
    /// What records keep of calls beside their figures.
    pub audit: Audit,
    /// What happens where a guard cannot read what it is to judge.
    pub on_error: OnUnknown,
    /// Guards that only observe. Screens say so by their actions.
    pub observe: Vec<Guard>,
}

impl Default for Security {
    fn default() -> Self {
        Self {
            models: Names::default(),
            force_model: None,
            endpoints: Vec::new(),
            modalities: None,
            images: None,
            tools: None,
            system_prompt: None,
            strip: Vec::new(),
            require: Vec::new(),
            clients: Names::default(),
            repeats: None,
            loops: None,
            longest_input: None,
            longest_output: None,
            input: None,
            output: None,
            audit: Audit::None,
            on_error: OnUnknown::Deny,
            observe: Vec::new(),
        }
    }
}

impl Security {
    /// Whether a header goes no further.
    pub fn strips(&self, header: &str) -> bool {
        matches(&self.strip, header)
    }
}

/// Which tools may be offered and called.
#[derive(Clone, Debug, Default)]
pub struct Tools {
    /// Functions by their names, and tools of the provider's by their kinds.
    pub names: Names,
    /// Servers of tools (MCP) by their addresses, or their labels where they have none.
    pub servers: Names,
    /// No call may hand its provider credentials for servers.
    pub no_credentials: bool,
    /// How many may be offered.
    pub most: Option<u64>,
}

/// What the instructions of a call must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SystemRule {
    /// Some.
    Required,
    /// Just these, once.
    Pinned(String),
}

const GUARDS: [Guard; 12] = [
    Guard::Models,
    Guard::Endpoints,
    Guard::Modalities,
    Guard::Images,
    Guard::Tools,
    Guard::SystemPrompt,
    Guard::Headers,
    Guard::Clients,
    Guard::Repeats,
    Guard::Loops,
    Guard::Longest,
    Guard::LongestOutput,
];

const KEYS: [&str; 16] = [
    "models",
    "force_model",
    "endpoints",
    "modalities",
    "images",
    "tools",
    "system_prompt",
    "headers",
    "clients",
    "repeats",
    "loops",
    "input",
    "output",
    "audit",
    "on_error",
    "observe",
];

/// Reads it.
pub(super) fn read(node: &Node, what: &str, plan: &mut PlanText, faults: &mut Faults) {
    let Some(fields) = Fields::of(node, what, &KEYS, faults) else { return };
    if let Some(node) = fields.optional("models") {
        models(node, &fields.path("models"), plan, faults);
    }
    plan.forced = fields.optional("force_model").and_then(|node| forced(node, &fields, faults));
    plan.security.force_model = plan.forced.as_ref().map(|forced| forced.value.clone());
    let side = |key: &str, side: Side, faults: &mut Faults| {
        let (texts, screen) = screen::read(fields.optional(key)?, &fields.path(key), side, faults)?;
        let node = texts.optional("longest");
        let longest = node.and_then(|node| form(node, &texts.path("longest"), faults, tokens_only));
        Some((screen, node.map(|node| node.at), longest.map(|longest| longest.value)))
    };
    let (input, longest_at, longest_input) = side("input", Side::Input, faults).unwrap_or_default();
    let (output, longest_output_at, longest_output) = side("output", Side::Output, faults).unwrap_or_default();
    (plan.input, plan.output) = (input, output);
    plan.audit = audit::read(&fields, faults);
    plan.security.longest_input = longest_input;
    plan.security.longest_output = longest_output;
    let security = &mut plan.security;
    security.endpoints = endpoints(&fields, faults);
    security.modalities = fields.optional("modalities").map(|node| modalities(node, &fields, faults));
    security.images = images::read(&fields, faults);
    security.tools = fields.optional("tools").and_then(|node| tools(node, &fields, faults));
    security.system_prompt = fields.optional("system_prompt").and_then(|node| system_rule(node, &fields, faults));
    let required = headers(&fields, security, faults);
    if let Some(node) = fields.optional("clients") {
        let clients = Fields::of(node, fields.path("clients"), &["allow", "deny"], faults);
        security.clients = clients.map(|clients| some_names(&clients, Case::Ignored, faults)).unwrap_or_default();
    }
    security.repeats = agents::repeats(&fields, faults);
    security.loops = agents::loops(&fields, faults);
    on_error(&fields, security, faults);
    let there = |guard: Guard| match guard {
        Guard::Longest => longest_at,
        Guard::LongestOutput => longest_output_at,
        Guard::Headers if !required => None,
        guard => fields.optional(guard.name()).map(|node| node.at),
    };
    plan.security.observe = guard::observed(&fields, &GUARDS, there, faults);
}

/// The models that may be asked for: a list of them, or what is allowed and what is denied.
fn models(node: &Node, what: &str, plan: &mut PlanText, faults: &mut Faults) {
    if !matches!(node.value, Value::Map(_)) {
        plan.models = tokens::model_patterns(node, what, faults);
        return;
    }
    let Some(fields) = Fields::of(node, what, &["allow", "deny"], faults) else { return };
    let mut read = |key: &str| {
        let node = fields.optional(key)?;
        Some(tokens::model_patterns(node, &fields.path(key), faults))
    };
    let (allow, deny) = (read("allow"), read("deny"));
    if allow.is_none() && deny.is_none() {
        let help = "write `{allow: [...]}`, `{deny: [...]}` or both";
        faults.add(node.at, Code::MissingKey, "this rule allows nothing and denies nothing", help);
    }
    (plan.models, plan.denied_models) = (allow.unwrap_or_default(), deny.unwrap_or_default());
}

fn forced(node: &Node, fields: &Fields<'_>, faults: &mut Faults) -> Option<Spanned<String>> {
    if fields.optional("models").is_some() {
        let message = "`models` has no effect beside `force_model`: whatever is asked for, the call goes to that one";
        faults.add(fields.key_at("models"), Code::Conflict, message, "leave one of them out");
    }
    super::document::reference(node, &fields.path("force_model"), faults)
}

/// Lists under `allow` and `deny`, of which there is at least one.
fn some_names(fields: &Fields<'_>, case: Case, faults: &mut Faults) -> Names {
    if fields.optional("allow").is_none() && fields.optional("deny").is_none() {
        let help = "write `{allow: [...]}`, `{deny: [...]}` or both";
        faults.add(fields.key_at("allow"), Code::MissingKey, "this rule allows nothing and denies nothing", help);
    }
    allow_and_deny(fields, case, faults)
}

fn endpoints(fields: &Fields<'_>, faults: &mut Faults) -> Vec<Endpoint> {
    let Some(node) = fields.optional("endpoints") else { return Vec::new() };
    let Some(lists) = Fields::of(node, fields.path("endpoints"), &["allow", "deny"], faults) else { return Vec::new() };
    let mut sound = true;
    let mut read = |key: &str, faults: &mut Faults| -> Option<Vec<Endpoint>> {
        let items = list(lists.optional(key)?, &lists.path(key), faults).unwrap_or_default();
        let known = items.iter().filter_map(|item| choice(item, &lists.path(key), &Endpoint::ALL, faults));
        let known: Vec<Endpoint> = known.collect();
        sound &= !items.is_empty() && known.len() == items.len();
        Some(known)
    };
    let (allow, deny) = (read("allow", faults), read("deny", faults));
    if allow.is_none() && deny.is_none() {
        let help = "write for example `{allow: [chat, embeddings]}`";
        faults.add(node.at, Code::MissingKey, "this rule allows nothing and denies nothing", help);
        return Vec::new();
    }
    let all = || Endpoint::ALL.iter().map(|(_, endpoint)| *endpoint);
    let taken = |endpoint: &Endpoint| {
        allow.as_ref().is_none_or(|allow| allow.contains(endpoint))
            && !deny.as_ref().is_some_and(|deny| deny.contains(endpoint))
    };
    let left: Vec<Endpoint> = all().filter(taken).collect();
    if left.is_empty() && sound {
        let help = "leave something, or give the plan to nobody";
        faults.add(node.at, Code::Conflict, "no kind of work is left that may be asked for", help);
    }
    left
}

/// `[text, image]`: text is always allowed, and said so that the list says all.
fn modalities(node: &Node, fields: &Fields<'_>, faults: &mut Faults) -> Vec<Media> {
    let what = fields.path("modalities");
    let words: Vec<(&str, Option<Media>)> =
        std::iter::once(("text", None)).chain(Media::ALL.map(|(name, media)| (name, Some(media)))).collect();
    let items = list(node, &what, faults).unwrap_or_default();
    let found: Vec<Option<Media>> = items.iter().filter_map(|item| choice(item, &what, &words, faults)).collect();
    if !items.is_empty() && found.len() == items.len() && !found.contains(&None) {
        let message = "`text` is missing: there is no call without";
        faults.add(node.at, Code::BadValue, message, "write for example `[text, image]`");
    }
    found.into_iter().flatten().collect()
}

fn tools(node: &Node, fields: &Fields<'_>, faults: &mut Faults) -> Option<Tools> {
    let tools = Fields::of(node, fields.path("tools"), &["allow", "deny", "servers", "most"], faults)?;
    if ["allow", "deny", "servers", "most"].iter().all(|key| tools.optional(key).is_none()) {
        let help = "write for example `{allow: [get_*]}`, `{deny: [shell]}` or `{most: 64}`";
        faults.add(node.at, Code::MissingKey, "this rule says nothing of tools", help);
    }
    let (servers, no_credentials) =
        tools.optional("servers").and_then(|node| servers(node, &tools, faults)).unwrap_or_default();
    let most = tools.optional("most").and_then(|node| whole(node, &tools.path("most"), 0, 4_096, faults));
    let names = allow_and_deny(&tools, Case::Counts, faults);
    Some(Tools { names, servers, no_credentials, most })
}

/// Which servers, and whether without credentials: at least one of the two is said.
fn servers(node: &Node, tools: &Fields<'_>, faults: &mut Faults) -> Option<(Names, bool)> {
    let servers = Fields::of(node, tools.path("servers"), &["allow", "deny", "credentials"], faults)?;
    let words = [("deny", OnUnknown::Deny), ("pass", OnUnknown::Pass)];
    let said = servers.optional("credentials");
    let credentials = said.and_then(|node| choice(node, &servers.path("credentials"), &words, faults));
    let names = match said {
        None => some_names(&servers, Case::Ignored, faults),
        Some(_) => allow_and_deny(&servers, Case::Ignored, faults),
    };
    Some((names, credentials == Some(OnUnknown::Deny)))
}

/// `required`, or `{pinned: "..."}`.
fn system_rule(node: &Node, fields: &Fields<'_>, faults: &mut Faults) -> Option<SystemRule> {
    let what = fields.path("system_prompt");
    if !matches!(node.value, Value::Map(_)) {
        return choice(node, &what, &[("required", ())], faults).map(|()| SystemRule::Required);
    }
    let pinned = Fields::of(node, what, &["pinned"], faults)?;
    let node = pinned.required("pinned", "write the instructions, `{pinned: \"…\"}`", faults)?;
    let written = text(node, &pinned.path("pinned"), faults)?;
    if written.trim().is_empty() {
        faults.add(node.at, Code::BadValue, "the pinned instructions are empty", "write them, or leave the rule out");
        return None;
    }
    Some(SystemRule::Pinned(written.to_owned()))
}

/// Reads `headers`; whether it requires any.
fn headers(fields: &Fields<'_>, security: &mut Security, faults: &mut Faults) -> bool {
    let Some(node) = fields.optional("headers") else { return false };
    let Some(headers) = Fields::of(node, fields.path("headers"), &["strip", "require"], faults) else { return false };
    let read = |key: &str, faults: &mut Faults| {
        let items = list(headers.optional(key)?, &headers.path(key), faults).unwrap_or_default();
        few(items.get(MOST_LINES).map(|item| item.at), &headers.path(key), faults);
        Some(items.iter().take(MOST_LINES))
    };
    let (strip, require) = (read("strip", faults), read("require", faults));
    if strip.is_none() && require.is_none() {
        let help = "write `{strip: [...]}`, `{require: [...]}` or both";
        faults.add(node.at, Code::MissingKey, "this rule strips no header and requires none", help);
    }
    let required = require.is_some();
    let names =
        require.into_iter().flatten().filter_map(|item| form(item, &headers.path("require"), faults, required_header));
    security.require = names.map(|name| name.value).collect();
    let globs = strip.into_iter().flatten().filter_map(|item| form(item, &headers.path("strip"), faults, stripped));
    security.strip = globs.map(|glob| glob.value).collect();
    required
}

fn required_header(written: &str) -> Result<String, Complaint> {
    let lower = written.to_ascii_lowercase();
    if is_header_name(&lower) {
        return Ok(lower);
    }
    Err(Complaint::new(Code::BadValue, format!("{} is no header name", shown(written)), "write for example `x-team`"))
}

/// What a request cannot be without.
const NEEDED: [&str; 9] = [
    "host",
    "content-type",
    "content-length",
    "transfer-encoding",
    "connection",
    "te",
    "upgrade",
    "accept-encoding",
    "content-encoding",
];

fn stripped(written: &str) -> Result<GlobMatcher, Complaint> {
    let glob = super::names::pattern(written, Case::Ignored)?;
    if !is_header_name(&written.to_ascii_lowercase()) && !written.contains(['?', '[', '{']) {
        let help = "write for example `x-internal-*`";
        return Err(Complaint::new(Code::BadValue, format!("{} is no header name", shown(written)), help));
    }
    if let Some(needed) = NEEDED.iter().find(|needed| glob.is_match(needed)) {
        let message = format!("{} would strip `{needed}`, which no request can do without", shown(written));
        let help = format!("name others than {}", listed(&NEEDED));
        return Err(Complaint::new(Code::Conflict, message, help));
    }
    Ok(glob)
}

fn on_error(fields: &Fields<'_>, security: &mut Security, faults: &mut Faults) {
    let Some(node) = fields.optional("on_error") else { return };
    let words = [("deny", OnUnknown::Deny), ("pass", OnUnknown::Pass)];
    security.on_error = choice(node, &fields.path("on_error"), &words, faults).unwrap_or(OnUnknown::Deny);
    if ["tools", "system_prompt", "images"].iter().all(|key| fields.optional(key).is_none()) {
        let message =
            "`on_error` says what happens when a rule cannot read what it judges, but there is none that may fail";
        faults.add(
            node.at,
            Code::Conflict,
            message,
            "it is for `tools`, `system_prompt` and `images`; write one, or leave it out",
        );
    }
}
