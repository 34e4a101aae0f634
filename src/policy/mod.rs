//! The policy file: YAML or JSON in, a compiled [`Bundle`](bundle::Bundle) out. Every configuration error is raised here.

pub mod bundle;
