//! The API that a call is made to, and what policies call it.

use super::{Dialect, Endpoint};

/// A wire format, and what is asked for in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Api {
    /// The wire format.
    pub dialect: Dialect,
    /// What is asked for.
    pub endpoint: Endpoint,
}

impl Api {
    /// That of a request to `path` which speaks `dialect`.
    pub fn of(dialect: Dialect, path: &[u8]) -> Self {
        Self { dialect, endpoint: Endpoint::of(Some(dialect), path) }
    }

    /// All that there are.
    pub fn all() -> impl Iterator<Item = Self> {
        // One wire format has several, which paths tell apart.
        let paths: [&[u8]; 4] = [b"", b"/embeddings/", b"/rerank/", b"/image-synthesis"];
        Dialect::ALL.into_iter().flat_map(move |dialect| {
            let several = if dialect == Dialect::DashScope { paths.len() } else { 1 };
            paths.into_iter().take(several).map(move |path| Self::of(dialect, path))
        })
    }
}

/// What policies call an API: the name of what is asked for, in whatever wire format, as `endpoints` has it, or that of a
/// wire format, as records have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// What is asked for.
    Endpoint(Endpoint),
    /// A wire format.
    Dialect(Dialect),
}

impl Named {
    /// All names. Where a wire format is called as what is asked for in it (`rerank`), the name is the wider one. Calls
    /// that no dialect knows have no name here: they are not metered.
    pub fn all() -> impl Iterator<Item = Self> {
        let endpoints = Endpoint::ALL.into_iter().map(|(_, endpoint)| endpoint);
        let endpoints = endpoints.filter(|endpoint| *endpoint != Endpoint::Other).map(Self::Endpoint);
        let wider = |dialect: &Dialect| Endpoint::ALL.iter().any(|(name, _)| *name == dialect.name());
        endpoints.chain(Dialect::ALL.into_iter().filter(move |dialect| !wider(dialect)).map(Self::Dialect))
    }

    /// The one of this name, which may have blanks for hyphens: `openai chat`.
    pub fn from_name(written: &str) -> Option<Self> {
        let hyphened = written.replace(' ', "-");
        Self::all().find(|named| named.name() == hyphened)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Endpoint(endpoint) => endpoint.name(),
            Self::Dialect(dialect) => dialect.name(),
        }
    }

    /// Whether it means this one.
    pub fn means(self, api: Api) -> bool {
        match self {
            Self::Endpoint(endpoint) => endpoint == api.endpoint,
            Self::Dialect(dialect) => dialect == api.dialect,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_api_has_a_name_and_every_name_an_api() {
        for api in Api::all() {
            assert!(Named::all().any(|named| named.means(api)), "{api:?}");
        }
        let mut names: Vec<&str> = Named::all().map(Named::name).collect();
        for named in Named::all() {
            assert!(Api::all().any(|api| named.means(api)), "{named:?}");
            assert_eq!(Named::from_name(named.name()), Some(named));
            assert_eq!(Named::from_name(&named.name().replace('-', " ")), Some(named));
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Named::all().count());
        assert_eq!((Named::from_name("other"), Named::from_name("smoke signals")), (None, None));
    }

    #[test]
    fn a_purpose_means_all_wire_formats_that_serve_it() {
        let embeddings = Named::from_name("embeddings").unwrap();
        let meant = |dialect, path: &str| embeddings.means(Api::of(dialect, path.as_bytes()));
        assert!(meant(Dialect::OpenAiEmbeddings, "/v1/embeddings") && meant(Dialect::OllamaEmbed, "/api/embed"));
        assert!(meant(Dialect::DashScope, "/api/v1/services/embeddings/text-embedding/text-embedding"));
        assert!(!meant(Dialect::DashScope, "/api/v1/services/aigc/text-generation/generation"));
        assert!(!meant(Dialect::OpenAiChat, "/v1/chat/completions"));
    }
}
