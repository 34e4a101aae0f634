//! Which tools a call may offer and an answer may call: functions by name, those of the provider's by kind, and those of
//! servers (MCP) by where the server is and by name.

use super::{Body, Found, Judged};
use crate::engine::denial::quoted;
use crate::meter::built_in::spellings;
use crate::meter::call::Call;
use crate::meter::called::{Called, served};
use crate::meter::offer::Offer;
use crate::meter::server::Server;
use crate::policy::bundle::{Names, Plan, Tools, matches};

/// What stands for any tool of a server. No tool has such a name, nor any part of one, and no glob has so many `?`: only what
/// takes all tools takes it, or all but some: see [`may_serve_any`].
const ANY: &str = "\u{1}\u{1}\u{1}\u{1}\u{1}\u{1}\u{1}\u{1}\u{1}\u{1}\u{1}\u{1}\u{1}\u{1}\u{1}\u{1}";

/// The tools that are offered are few enough, and all of them may be; so may those that the model brings along, and those
/// of which the conversation tells that they ran elsewhere.
pub fn tools(body: &Body<'_>) -> Judged {
    let (plan, call) = (body.plan, body.call);
    let Some(rule) = &plan.security.tools else { return Ok(()) };
    let offers = call.offers();
    let (count, most) = (offers.len() as u64, rule.most.unwrap_or(u64::MAX));
    if count > most {
        let outside = format!("the call offers {count} tools, and the plan allows {most}");
        return Err(Found::forbidden(outside.clone(), outside));
    }
    offers.iter().try_for_each(|offer| offered(plan, rule, offer))?;
    implied(body, rule)?;
    told(plan, rule, call, &Servers::of(offers))?;
    if rule.no_credentials && call.hands_credentials() {
        let outside = "the plan does not allow credentials for servers of tools in a call; leave them out";
        let inside = format!("`tools.servers.credentials` of plan `{}` denies them", plan.name);
        return Err(Found::forbidden(outside, inside));
    }
    Ok(())
}

fn offered(plan: &Plan, rule: &Tools, offer: &Offer) -> Judged {
    let what = match offer {
        Offer::Function(name) if rule.names.take(name) => return Ok(()),
        Offer::Function(name) => format!("the tool {}", quoted(name)),
        Offer::BuiltIn(kind) if may_be_used(&rule.names, kind) => return Ok(()),
        Offer::BuiltIn(kind) => own(kind),
        Offer::Server(server) => return served_by(plan, rule, server),
        Offer::Unread(why) => return Err(Found::unread(format!("the tools of the call cannot be read: {why}"))),
    };
    Err(against(plan, &what))
}

fn own(kind: &str) -> String {
    format!("the provider's tool {}", quoted(kind))
}

fn against(plan: &Plan, what: &str) -> Box<Found> {
    let inside = format!("`tools` of plan `{}` do not take {what}", plan.name);
    Found::forbidden(format!("the plan does not allow {what}"), inside)
}

/// A server that is offered: it may be asked, and what the call says of its tools may be used.
fn served_by(plan: &Plan, rule: &Tools, server: &Server) -> Judged {
    let Server { label, url, tools } = server;
    if !may_be_asked(rule, label, url) {
        let name = quoted(if url.is_empty() { label } else { url });
        return Err(against(plan, &format!("the server of tools {name}")));
    }
    let Some(names) = tools else {
        if may_serve_any(rule, label) {
            return Ok(());
        }
        if is_denied(rule, label, ANY) {
            return Err(against(plan, &format!("any tool of the server {}", quoted(label))));
        }
        let outside = format!(
            "the plan allows some tools of the server {} only; list those that may be used in `allowed_tools`",
            quoted(label)
        );
        let inside = format!("no list of tools of a server, of which `tools.allow` of plan `{}` names some", plan.name);
        return Err(Found::forbidden(outside, inside));
    };
    match names.iter().find(|name| !may_serve(rule, label, name)) {
        None => Ok(()),
        Some(name) => Err(against(plan, &format!("the tool {}", quoted(&served(label, name))))),
    }
}

/// The tools that come with the model that is asked, which an alias may stand for.
fn implied(body: &Body<'_>, rule: &Tools) -> Judged {
    let asked = body.call.model.as_str();
    let kinds = body.call.implied(body.model.real(asked));
    match kinds.iter().find(|kind| !may_be_used(&rule.names, kind)) {
        None => Ok(()),
        Some(kind) => {
            let what = format!("{}, which comes with the model {}", own(kind), quoted(asked));
            Err(against(body.plan, &what))
        }
    }
}

/// What the conversation tells of tools that ran elsewhere: its provider may go on with them, but not with those of a server
/// that the call does not offer.
fn told(plan: &Plan, rule: &Tools, call: &Call, servers: &Servers) -> Judged {
    let mut forbidden = None;
    call.told_own(&mut |called| {
        let may = match called {
            Called::Server { label, tool } if servers.called(label).next().is_none() => {
                !matches(&rule.servers.deny, label) && !is_denied(rule, label, tool)
            }
            called => may_call(rule, servers, called),
        };
        if forbidden.is_none() && !may {
            forbidden = Some(called.name());
        }
    });
    match forbidden {
        None => Ok(()),
        Some(name) => {
            let name = quoted(&name);
            let outside = format!("the conversation tells of the tool {name}, which the plan does not allow");
            let inside =
                format!("a call of {name} in the conversation, which `tools` of plan `{}` do not take", plan.name);
            Err(Found::forbidden(outside, inside))
        }
    }
}

/// The servers of tools that a call offered: its answer names them by their labels.
#[derive(Clone, Debug, Default)]
pub struct Servers(Vec<Server>);

impl Servers {
    /// Those among the offers of a call.
    pub fn of(offers: Vec<Offer>) -> Self {
        let server = |offer| match offer {
            Offer::Server(server) => Some(server),
            _ => None,
        };
        Self(offers.into_iter().filter_map(server).collect())
    }

    /// Those of a call, most of which have none.
    pub fn in_call(call: &Call) -> Self {
        if call.may_offer_servers() { Self::of(call.offers()) } else { Self::default() }
    }

    /// Those of this label.
    fn called<'a>(&'a self, label: &'a str) -> impl Iterator<Item = &'a Server> {
        self.0.iter().filter(move |server| server.label == label)
    }
}

/// Whether a tool may be called; `servers` are those that the call offered.
pub fn may_call(rule: &Tools, servers: &Servers, called: Called<'_>) -> bool {
    match called {
        Called::Function(name) => rule.names.take(name),
        Called::BuiltIn(kind) => may_be_used(&rule.names, kind),
        Called::Server { label, tool } => {
            let listed = |server: &Server| {
                tool.is_empty() || server.tools.as_ref().is_none_or(|tools| tools.iter().any(|name| name == tool))
            };
            let offered = servers.called(label).next().is_some();
            let may = match offered {
                true => servers.called(label).all(|server| may_be_asked(rule, label, &server.url)),
                false => may_be_asked(rule, label, ""),
            };
            let within = !offered || servers.called(label).any(listed);
            may && within && (tool.is_empty() || may_serve(rule, label, tool))
        }
    }
}

/// A kind of the provider's, by any of its names. What is denied is denied in any case.
fn may_be_used(names: &Names, kind: &str) -> bool {
    let lower = kind.to_ascii_lowercase();
    let any = |list, kind| spellings(kind).iter().any(|name| matches(list, name));
    !any(&names.deny, &lower) && (names.allow.is_empty() || any(&names.allow, kind))
}

/// A server is allowed by its address; one without, by its label: the caller may call an address what they like. Where
/// tools are allowed by name, so must servers be: nobody knows what tools they have.
fn may_be_asked(rule: &Tools, label: &str, url: &str) -> bool {
    let Names { allow, deny } = &rule.servers;
    let denied = [label, url].iter().any(|name| !name.is_empty() && matches(deny, name));
    let open = allow.is_empty() && rule.names.allow.is_empty();
    !denied && (open || matches(allow, if url.is_empty() { label } else { url }))
}

/// Whether `tools.allow` names tools of servers: then it binds them, and else a server that may be asked may be asked for
/// all that it has.
fn names_served(rule: &Tools) -> bool {
    rule.names.allow.iter().any(|glob| glob.glob().glob().starts_with("mcp__"))
}

/// Whether this tool of a server is denied, by its own name or with that of its server.
fn is_denied(rule: &Tools, label: &str, tool: &str) -> bool {
    let deny = &rule.names.deny;
    !tool.is_empty() && (matches(deny, tool) || matches(deny, &served(label, tool)))
}

/// Whether this tool of a server may be used: it is not denied, and allowed with the name of its server, where any is.
fn may_serve(rule: &Tools, label: &str, tool: &str) -> bool {
    !is_denied(rule, label, tool) && (!names_served(rule) || matches(&rule.names.allow, &served(label, tool)))
}

/// Whether any tool of a server may be used. A class as `[!d]` takes what stands for any, but no name of `d`s alone; globs are
/// ASCII.
fn may_serve_any(rule: &Tools, label: &str) -> bool {
    let allow = &rule.names.allow;
    let may_leave_out = || allow.iter().any(|glob| glob.glob().glob().contains('['));
    let allowed = |letter: char| matches(allow, &served(label, &letter.to_string().repeat(ANY.len())));
    may_serve(rule, label, ANY) && (!may_leave_out() || ('!'..='~').all(allowed))
}

/// A tool that the answer called, and may not.
pub fn called(plan: &Plan, name: &str) -> Box<Found> {
    let name = quoted(name);
    let inside = format!("the answer calls the tool {name}, which `tools` of plan `{}` do not take", plan.name);
    Found::forbidden(format!("the answer calls the tool {name}, which the plan does not allow"), inside)
}

/// An answer whose calls of tools cannot be looked at.
pub fn unseen(why: &str) -> Box<Found> {
    Found::unread(format!("it cannot be told which tools the answer calls: {why}"))
}

#[cfg(test)]
#[path = "tools_tests.rs"]
mod tests;
