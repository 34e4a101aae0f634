//! The trie of all tokens, as a double array.

use std::collections::{BTreeMap, HashSet, VecDeque};

use crate::layout::{NO_BYTE, Node};

#[derive(Default)]
struct Branch {
    /// By byte; [`NO_BYTE`] leads to nothing but a token's number.
    children: BTreeMap<u8, usize>,
    token: Option<u32>,
}

/// All nodes, the root first.
pub fn table(tokens: &[Vec<u8>]) -> Vec<Node> {
    let mut branches = vec![Branch::default()];
    for (bytes, rank) in tokens.iter().zip(0..) {
        // The one token that no text has: see `NO_BYTE`.
        if bytes.as_slice() != [NO_BYTE] {
            insert(&mut branches, bytes, rank);
        }
    }
    Placed::of(&branches).nodes
}

fn insert(branches: &mut Vec<Branch>, bytes: &[u8], rank: u32) {
    let mut at = 0;
    for byte in bytes {
        assert_ne!(*byte, NO_BYTE, "UTF-8 has no such byte");
        let next = branches.len();
        at = *branches[at].children.entry(*byte).or_insert(next);
        if at == next {
            branches.push(Branch::default());
        }
    }
    branches[at].token = Some(rank);
}

/// Nodes that have found their place.
struct Placed {
    nodes: Vec<Node>,
    used: Vec<bool>,
    bases: HashSet<usize>,
    /// Nothing below is free.
    low: usize,
}

impl Placed {
    /// Breadth first: what is walked most lies together.
    fn of(branches: &[Branch]) -> Self {
        let mut placed = Self { nodes: vec![Node::FREE], used: vec![true], bases: HashSet::new(), low: 1 };
        let mut queue = VecDeque::from([(0, 0, 0)]);
        while let Some((at, label, branch)) = queue.pop_front() {
            let branch: &Branch = &branches[branch];
            placed.nodes[at] = match branch.token {
                Some(token) if branch.children.is_empty() => Node::leaf(label, token),
                token => {
                    let mut labels: Vec<u8> = branch.children.keys().copied().collect();
                    labels.extend(token.map(|_| NO_BYTE));
                    let base = placed.base(&labels);
                    if let Some(token) = token {
                        placed.nodes[base ^ usize::from(NO_BYTE)] = Node::leaf(NO_BYTE, token);
                    }
                    let children = branch.children.iter();
                    queue.extend(children.map(|(label, child)| (base ^ usize::from(*label), *label, *child)));
                    Node::branch(label, u32::try_from(base).expect("a small table"), token.is_some())
                }
            };
        }
        let last = placed.used.iter().rposition(|used| *used).unwrap_or(0);
        placed.nodes.truncate(last + 1);
        placed
    }

    /// Finds and takes room for children with these labels.
    fn base(&mut self, labels: &[u8]) -> usize {
        while self.used.get(self.low) == Some(&true) {
            self.low += 1;
        }
        let (mut at, mut tries) = (self.low, 0);
        loop {
            self.grow(at);
            if !self.used[at] {
                let base = at ^ usize::from(labels[0]);
                self.grow(base | 255);
                let fits = labels.iter().all(|label| !self.used[base ^ usize::from(*label)]);
                if base != 0 && fits && self.bases.insert(base) {
                    labels.iter().for_each(|label| self.used[base ^ usize::from(*label)] = true);
                    return base;
                }
                tries += 1;
                // Crowded here: what is left free for good is little.
                if tries > 3_000 {
                    self.low = self.low.max(self.used.len().saturating_sub(40_000));
                    (at, tries) = (self.used.len(), 0);
                }
            }
            at += 1;
        }
    }

    fn grow(&mut self, to: usize) {
        if self.used.len() <= to {
            self.used.resize(to | 255, false);
            self.used.push(false);
            self.nodes.resize(self.used.len(), Node::FREE);
        }
    }
}
