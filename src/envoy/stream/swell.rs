//! Bodies that the filter writes, and what becomes of those that may be more than the host buffers.
//!
//! Of a message that is held the host buffers what is written; one that becomes too large it answers by itself, 413 or 500,
//! within the very call that wrote it and by way of our own callbacks. Neither the stream nor the SDK's table of streams may
//! be borrowed then, or the VM dies of it, and Envoy with the VM. That is so in a tick alone, and so what is not known to
//! have room is written there.

use std::cell::RefCell;
use std::rc::{Rc, Weak};

use super::super::host::{self, Buffer, Map};
use super::super::station::{Station, complain};
use super::{Passage, Stage};
use crate::engine::effect::{Flow, Severity};
use crate::policy::bundle::HostMode;

impl Passage {
    /// Writes a request body that may be more than the host buffers.
    pub(super) fn swell(this: &Rc<RefCell<Self>>, station: &Station) {
        let Ok(mut passage) = this.try_borrow_mut() else { return };
        if !station.is_ticking() {
            return station.hold(passage.own, passage.root, Weak::clone(&passage.me), Some(0));
        }
        let Some(body) = passage.swollen.take() else { return };
        drop(passage);
        let replaced = host::set_buffer(Buffer::Request, &body);
        let Ok(mut passage) = this.try_borrow_mut() else { return };
        if passage.stage != Stage::Swelling {
            return;
        }
        complain("replace the request body", replaced);
        if replaced.is_ok() {
            passage.announce_body(body.len());
        }
        passage.let_through(station, Stage::Open);
        complain("resume", host::resume_request());
    }

    /// Writes what leaves of an answer that was held.
    pub(super) fn swell_answer(this: &Rc<RefCell<Self>>, station: &Station) {
        let Ok(mut passage) = this.try_borrow_mut() else { return };
        if !station.is_ticking() {
            return station.hold(passage.own, passage.root, Weak::clone(&passage.me), Some(0));
        }
        passage.waits_for_tick = false;
        let Some(bytes) = passage.swollen_answer.take() else { return };
        drop(passage);
        let replaced = host::set_buffer(Buffer::Response, &bytes);
        let Ok(mut passage) = this.try_borrow_mut() else { return };
        if passage.exchange.is_none() || passage.stage != Stage::Open {
            return;
        }
        complain("replace a piece of the response", replaced);
        station.fits(bytes.len());
        passage.answer_flows(station, &Flow::Continue);
        complain("resume the answer", host::resume_response());
    }

    pub(super) fn replace_request_body(&mut self, station: &Station, body: Vec<u8>) {
        if body.len() > self.body_bytes && !station.has_room_for(body.len()) {
            self.swollen = Some(body);
            return;
        }
        let replaced = host::set_buffer(Buffer::Request, &body);
        complain("replace the request body", replaced);
        if replaced.is_ok() {
            self.announce_body(body.len());
        }
    }

    fn announce_body(&mut self, bytes: usize) {
        self.body_bytes = bytes;
        // With headers first the length was removed before they left.
        if self.bundle.headers == HostMode::Held {
            let length = bytes.to_string();
            complain("set content-length", host::set_header(Map::Request, "content-length", &length));
        }
    }

    pub(super) fn replace_chunk(&mut self, station: &Station, mut bytes: Vec<u8>) {
        self.replaced = true;
        // Of an answer that is held the host buffers what is written.
        if self.answer_held && (self.swollen_answer.is_some() || !station.has_room_for(bytes.len())) {
            self.swollen_answer.get_or_insert_default().append(&mut bytes);
        }
        if self.content_length && bytes.len() != self.chunk {
            // The client would take the surplus for the next answer, or wait for what is missing.
            host::log(Severity::Error, "farebox: a response with a content-length was not changed");
            return;
        }
        complain("replace a piece of the response", host::set_buffer(Buffer::Response, &bytes));
    }
}
