//! What came of all rows, and the bars.

use std::collections::BTreeMap;

use crate::own::Own;
use crate::row::{Class, Row, Verdict};

/// Rows of one provider, api and kind of answer.
#[derive(Default)]
struct Line {
    rows: u32,
    said: u32,
    exact: u32,
    silent: u32,
    classified: u32,
    failed: u32,
    open: u32,
    bounded: u32,
    output: Vec<f64>,
    input: Vec<f64>,
}

/// The rows so far.
#[derive(Default)]
pub struct Table {
    lines: BTreeMap<(String, String, &'static str), Line>,
    own: Own,
    faults: Vec<String>,
    notes: Vec<String>,
}

impl Table {
    pub fn add(&mut self, row: &Row, verdict: &Verdict) {
        let stream = if row.streams() { "stream" } else { "whole" };
        let key = (row.text("provider").to_owned(), row.text("api").to_owned(), stream);
        let line = self.lines.entry(key.clone()).or_default();
        line.rows += 1;
        let who = format!("{} {} {} {}", row.text("id"), key.0, key.1, stream);
        if verdict.unrouted {
            let told = format!("{who}: nobody knows the path {}", row.text("path"));
            match row.has_no_dialect() {
                Some(why) => self.notes.push(format!("{told}: {why}")),
                None => self.faults.push(told),
            }
            return;
        }
        let mut fault = |what: String| self.faults.push(format!("{who}: {what}"));
        line.said += u32::from(verdict.said.is_some());
        match (verdict.said, verdict.read) {
            (said, read) if said == read => {
                line.exact += u32::from(said.is_some());
                line.silent += u32::from(said.is_none());
            }
            (said, read) => fault(format!("said {said:?}\n    read {read:?}")),
        }
        let (is, read) = verdict.class;
        line.failed += u32::from(is != Class::Fine);
        if is == read {
            line.classified += 1;
        } else {
            fault(format!("is {is:?}, read as {read:?}"));
        }
        if let Some(way) = verdict.cut {
            fault(format!("cut into {way} it reads otherwise"));
        }
        if verdict.changed {
            fault("its bytes were changed".to_owned());
        }
        if let Some(why) = verdict.unreadable.filter(|_| is == Class::Fine) {
            self.notes.push(format!("{who}: unreadable: {why}"));
        }
        if verdict.unfinished {
            self.notes.push(format!("{who}: not seen to end"));
        }
        self.estimates(row, verdict, &who, &key);
    }

    fn estimates(&mut self, row: &Row, verdict: &Verdict, who: &str, key: &(String, String, &'static str)) {
        let line = self.lines.entry(key.clone()).or_default();
        if let Some(Err(why)) = &verdict.request {
            self.notes.push(format!("{who}: its request is refused: {why}"));
        }
        let Some(said) = verdict.said else { return };
        let (output, input) = self.own.add(row, verdict, &said);
        line.output.extend(output);
        line.input.extend(input);
        let Some(Ok(request)) = &verdict.request else { return };
        if let Some(bound) = request.bound.filter(|bound| *bound > request.uncounted) {
            self.faults.push(format!("{who}: bound {bound} when counted, {} before", request.uncounted));
        }
        match request.bound {
            None => line.open += 1,
            Some(bound) if said.input <= bound => line.bounded += 1,
            Some(bound) if let Some(why) = row.is_not_whole(&said) => {
                self.notes.push(format!("{who}: input {} above {bound}: {why}", said.input));
            }
            Some(bound) => self.faults.push(format!("{who}: input {} is above its bound {bound}", said.input)),
        }
    }

    pub fn faults(&self) -> &[String] {
        &self.faults
    }

    pub fn print(&mut self) {
        println!(
            "{:46} {:6} {:>5} {:>5} {:>5} {:>6} {:>6}/{:<6} {:>5} {:>5}  {:>15}  {:>15}",
            "provider, api",
            "",
            "rows",
            "usage",
            "exact",
            "silent",
            "right",
            "failed",
            "open",
            "bound",
            "output 50% 95%",
            "input 50% 95%"
        );
        let mut sum = [0; 8];
        for ((provider, api, stream), line) in &mut self.lines {
            let counts =
                [line.rows, line.said, line.exact, line.silent, line.classified, line.failed, line.open, line.bounded];
            sum.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
            let [rows, said, exact, silent, right, failed, open, bound] = counts;
            let (output, input) = (quantiles(&mut line.output), quantiles(&mut line.input));
            println!(
                "{:46} {stream:6} {rows:5} {said:5} {exact:5} {silent:6} {right:6}/{failed:<6} {open:5} {bound:5}  {output:>15}  {input:>15}",
                format!("{provider} {api}")
            );
        }
        println!("{:53} {sum:?}", "all: rows, usage, exact, silent, right, failed, open, bound");
        self.faults.extend(self.own.print());
        println!("\nNotes:\n{}", self.notes.join("\n"));
    }
}

/// The median and the 95th percentile, in percent.
pub fn quantiles(errors: &mut [f64]) -> String {
    if errors.is_empty() {
        return "-".to_owned();
    }
    errors.sort_by(f64::total_cmp);
    let at = |share: f64| errors[((errors.len() - 1) as f64 * share).round() as usize] * 100.0;
    format!("{:.1} {:.1}", at(0.5), at(0.95))
}
