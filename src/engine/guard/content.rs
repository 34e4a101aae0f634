//! Guards of security: what is asked for, by what, and with what. Pure functions of a call's headers and body.

use super::connection::{said, values};
use super::{Body, Found, Head, Judged};
use crate::engine::denial::{Denial, Kind, quoted};
use crate::meter::dialect::Endpoint;
use crate::meter::image::Picture;
use crate::policy::bundle::{Images, Names, Plan, SystemRule, matches};

/// What the client says that it is may call. Anybody can say anything: this keeps honest clients to their plan.
pub fn clients(head: &Head<'_>) -> Judged {
    let clients = &head.plan.security.clients;
    if head.asks_balance || clients.allow.is_empty() && clients.deny.is_empty() {
        return Ok(());
    }
    let mut agents = values(head.headers, "user-agent");
    let agent = agents.next().unwrap_or_default();
    let outside = "the plan is not for this client";
    if agents.next().is_some() {
        return Err(Found::forbidden(outside, "two `user-agent` headers, of which nobody knows which one counts"));
    }
    if clients.take(&String::from_utf8_lossy(agent)) {
        return Ok(());
    }
    Err(Found::forbidden(outside, format!("`clients` of plan `{}` do not take {}", head.plan.name, said(agent))))
}

/// The headers that the plan requires are there, each once: of two nobody knows which one counts.
pub fn headers(head: &Head<'_>) -> Judged {
    let missing = |name: &&String| {
        let mut found = values(head.headers, name);
        found.next().is_none_or(|value| value.trim_ascii().is_empty()) || found.next().is_some()
    };
    match head.plan.security.require.iter().find(missing).filter(|_| !head.asks_balance) {
        None => Ok(()),
        Some(name) => {
            let outside = format!("the plan requires the header `{name}`; send it once, with a value");
            let inside = format!("the header `{name}` is missing, empty or there twice");
            Err(Found::forbidden(outside, inside))
        }
    }
}

/// The plan allows this kind of work.
pub fn endpoints(head: &Head<'_>) -> Judged {
    let allowed = &head.plan.security.endpoints;
    let endpoint = head.asks_after.first().copied().unwrap_or_else(|| Endpoint::of(head.dialect, head.path));
    let takes = |endpoint: &Endpoint| allowed.contains(endpoint);
    // Whoever was let ask for work may ask after it.
    if head.asks_balance || allowed.is_empty() || takes(&endpoint) || head.asks_after.iter().any(takes) {
        return Ok(());
    }
    let name = endpoint.name();
    let outside = format!("the plan does not include this kind of call ({name})");
    Err(Found::forbidden(outside, format!("`endpoints` of plan `{}` leave out `{name}`", head.plan.name)))
}

/// The plan allows the model, by the name behind its aliases, or by an alias that the plan itself names; and denies it by
/// neither.
pub fn models(body: &Body<'_>) -> Judged {
    let (Names { allow, deny }, asked) = (&body.plan.security.models, body.call.model.as_str());
    if allow.is_empty() && deny.is_empty() {
        return Ok(());
    }
    one_model(body)?;
    let real = body.model.real(asked);
    let named = || allow.iter().any(|glob| glob.glob().glob() == asked);
    let allowed = allow.is_empty() || matches(allow, real) || named();
    if allowed && !matches(deny, real) && !matches(deny, asked) {
        return Ok(());
    }
    let model = quoted(asked);
    let outside = format!("the plan does not include the model {model}; ask for another model");
    Err(Found::forbidden(outside, format!("plan `{}` does not allow {model}", body.plan.name)))
}

/// It leaves no choice to its provider, which nobody could hold to a list.
pub fn one_model(body: &Body<'_>) -> Judged {
    if !body.call.choice {
        return Ok(());
    }
    let outside = "the plan takes calls to one model only; ask for it with `model`, and leave `models` out".to_owned();
    let inside = format!("the call names other models in `models`, which plan `{}` cannot judge", body.plan.name);
    Err(Found::forbidden(outside, inside))
}

/// There is nothing in the prompt but what the plan allows.
pub fn modalities(body: &Body<'_>) -> Judged {
    let Some(allowed) = &body.plan.security.modalities else { return Ok(()) };
    match body.call.media.iter().find(|media| !allowed.contains(media)) {
        None => Ok(()),
        Some(media) => {
            let name = media.name();
            let outside = format!("the plan does not allow this kind of content in a prompt ({name})");
            Err(Found::forbidden(outside, format!("`modalities` of plan `{}` leave out `{name}`", body.plan.name)))
        }
    }
}

/// The images are few enough, and each is small enough.
pub fn images(body: &Body<'_>) -> Judged {
    let (plan, call) = (body.plan, body.call);
    let Some(Images { most, largest, pixels }) = plan.security.images else { return Ok(()) };
    let count = (call.images().count() as u64).saturating_add(call.elsewhere);
    if let Some(most) = most.filter(|most| count > *most) {
        let outside = format!("the call has {count} images, and the plan allows {most}; send fewer");
        return Err(Found::forbidden(outside.clone(), outside));
    }
    let sized = largest.is_some() || pixels.is_some();
    if sized && call.elsewhere > 0 {
        let why = "it is not in the body, or in a form";
        return Err(Found::unread(format!("it cannot be told how large an image of the call is: {why}")));
    }
    for picture in call.images().filter(|_| sized).map(Picture::of) {
        if let Some(largest) = largest.filter(|largest| picture.bytes > *largest) {
            return Err(too_large(plan, picture.bytes, largest, "bytes"));
        }
        match (pixels, picture.pixels) {
            (Some(most), Some(pixels)) if pixels > most => return Err(too_large(plan, pixels, most, "pixels")),
            (Some(_), None) => {
                let why = "its head says nothing of its pixels";
                return Err(Found::unread(format!("it cannot be told how large an image of the call is: {why}")));
            }
            _ => {}
        }
    }
    Ok(())
}

fn too_large(plan: &Plan, has: u64, most: u64, unit: &str) -> Box<Found> {
    let outside = format!("an image of the call has {has} {unit}, and the plan allows {most}; send a smaller one");
    Found::forbidden(outside, format!("an image of {has} {unit}, `images` of plan `{}` take {most}", plan.name))
}

/// No more output is asked for than the plan gives. A call that states no limit is given one.
pub fn longest_output(body: &Body<'_>) -> Judged {
    let asked = body.call.output_limit.filter(|_| body.call.dialect.writes_text());
    let (Some(asked), Some(longest)) = (asked, body.plan.security.longest_output) else { return Ok(()) };
    if asked <= longest {
        return Ok(());
    }
    let outside = format!("the call asks for {asked} output tokens, and the plan allows {longest}; lower its limit");
    let inside = format!("{asked} output tokens asked for, plan `{}` takes {longest}", body.plan.name);
    Err(Found::forbidden(outside, inside))
}

/// The instructions are there, or are those of the plan and no others.
pub fn system_prompt(body: &Body<'_>) -> Judged {
    let plan = body.plan;
    let Some(rule) = plan.security.system_prompt.as_ref().filter(|_| body.call.dialect.writes_text()) else {
        return Ok(());
    };
    let system = body.call.system();
    if let Some(why) = system.unread {
        return Err(Found::unread(format!("the system prompt cannot be read: {why}")));
    }
    let (outside, inside) = match rule {
        SystemRule::Required if system.texts.iter().any(|text| !text.trim().is_empty()) => return Ok(()),
        SystemRule::Required => ("the plan requires a system prompt; send one", "there is no system prompt"),
        SystemRule::Pinned(pinned) => match system.texts.as_slice() {
            [text] if text == pinned => return Ok(()),
            [] => ("the plan requires its own system prompt; send it", "there is no system prompt"),
            [_] => ("the plan requires its own system prompt; send it unchanged", "the system prompt is another one"),
            _ => ("the plan requires its own system prompt; send it once, and no other", "several system prompts"),
        },
    };
    Err(Found::forbidden(outside, format!("{inside}, against `system_prompt` of plan `{}`", plan.name)))
}

/// The call cannot be sent to the model that the plan has for all of them.
pub fn not_forced(plan: &Plan, model: &str) -> Denial {
    let outside = "the plan has one model for all calls, and this call names another in its path or in a format that it \
                   does not speak";
    let inside = format!("plan `{}` forces {}, which the body cannot name", plan.name, quoted(model));
    Denial::guard(Kind::Forbidden, "force_model", outside, inside)
}

#[cfg(test)]
#[path = "content_tests.rs"]
mod tests;
