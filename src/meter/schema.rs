//! Which numbers in the schemas of tools and answers are data, and which bounds, that must stay numbers.

/// Names under which a schema has values, and not what it says of them.
const VALUES: [&str; 4] = ["const", "default", "enum", "examples"];

/// Names of objects whose members are called as somebody likes.
const NAMED: [&str; 6] =
    ["$defs", "definitions", "dependentRequired", "dependentSchemas", "patternProperties", "properties"];

/// A schema, or several and what is around them, leaf by leaf.
#[derive(Clone, Debug, Default)]
pub(super) struct Schema {
    /// How deep the name of the values stands that are under way.
    values: Option<usize>,
    /// How deep members stand that are called as somebody likes; each lies in the one before.
    named: Vec<usize>,
}

impl Schema {
    /// Takes in the next leaf, which lies in so many objects and lists; `name`: it is that of a member. Whether it is part
    /// of a value.
    pub fn follow(&mut self, depth: usize, name: Option<&str>) -> bool {
        while self.named.last().is_some_and(|named| depth < *named) {
            self.named.pop();
        }
        if self.values.is_some_and(|values| depth < values || (depth == values && name.is_some())) {
            self.values = None;
        }
        if let Some(name) = name
            && self.values.is_none()
            && self.named.last() != Some(&depth)
        {
            if VALUES.contains(&name) {
                self.values = Some(depth);
            } else if NAMED.contains(&name) {
                self.named.push(depth.saturating_add(1));
            }
        }
        self.values.is_some()
    }
}
