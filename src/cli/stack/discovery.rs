//! The filter's configuration in a file of its own, which a running Envoy watches (ECDS), so that it can be given another
//! policy without a start, in which it would compile the filter again.

use std::path::Path;

use super::config::{lost, quoted};
use super::{StackError, ask, cannot};

/// The filter in the template.
const FILTER: &str = "- name: envoy.filters.http.wasm\n";
/// Its configuration, which is moved.
const CONFIG: &str = "typed_config:";

/// Envoy's configuration in two: all but the filter's, which is to be found at `path`, and that one.
///
/// # Errors
/// When there is no filter in it.
pub(super) fn apart(config: &str, path: &Path) -> Result<(String, String), StackError> {
    let parts = || {
        let (before, rest) = config.split_once(FILTER)?;
        let (first, rest) = rest.split_once('\n')?;
        let indent = first.strip_suffix(CONFIG)?;
        let deeper =
            |line: &&str| line.trim().is_empty() || line.strip_prefix(indent).is_some_and(|line| line.starts_with(' '));
        let length = rest.split_inclusive('\n').take_while(deeper).map(str::len).sum();
        let (own, after) = rest.split_at_checked(length)?;
        Some((before, indent, own, after))
    };
    let (before, indent, own, after) = parts().ok_or_else(|| lost(FILTER.trim_end()))?;
    let found: String = FOUND.lines().map(|line| format!("{indent}{line}\n")).collect();
    let found = found.replace("PATH", &quoted(&path.to_string_lossy()));
    Ok((format!("{before}{FILTER}{found}{after}"), format!("{RESOURCE}{own}")))
}

/// Where Envoy finds the filter's configuration. It looks there again when a file is moved to this path.
const FOUND: &str = "\
config_discovery:
  config_source:
    path_config_source: {path: PATH}
    resource_api_version: V3
  type_urls: [type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm]
";

/// What the configuration is wrapped in there.
const RESOURCE: &str = "\
resources:
- \"@type\": type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig
  name: envoy.filters.http.wasm
  typed_config:
";

/// Puts the filter's configuration where Envoy finds it, whole at once.
pub(super) fn publish(own: &str, path: &Path) -> Result<(), StackError> {
    let new = path.with_extension("new");
    let moved = std::fs::write(&new, own).and_then(|()| std::fs::rename(&new, path));
    moved.map_err(|error| cannot("write", path, &error))
}

/// How often Envoy has judged a configuration of the filter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Judged {
    /// Taken or not. When it is counted the workers have been handed what was taken, and they look at that before they look
    /// at what comes to their sockets.
    tried: u64,
    /// The file cannot be read, or the filter said no.
    refused: u64,
}

impl Judged {
    /// What Envoy's figures say. `None`: it does not answer.
    pub(super) fn ask(admin: u16) -> Option<Judged> {
        Some(Self::read(&ask(admin, "/stats?filter=config_discovery.http_filter").ok()?))
    }

    fn read(stats: &str) -> Judged {
        let figure = |name: &str| {
            let mut lines = stats.lines().filter_map(|line| line.rsplit_once(": "));
            lines.find(|(of, _)| of.ends_with(name)).and_then(|(_, figure)| figure.parse().ok()).unwrap_or(0)
        };
        Judged { tried: figure(".config_reload"), refused: figure(".config_fail") }
    }

    /// Whether Envoy has said no since `before`. `None`: it has not said anything.
    pub(super) fn since(self, before: Judged) -> Option<bool> {
        (self != before).then_some(self.refused > before.refused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_is_taken_out_and_found_elsewhere() {
        let config = "\
filters:
  - name: envoy.filters.http.wasm
    typed_config:
      config:
        value: |2
          farebox: 1

            # - name: envoy.filters.http.wasm
      last: 1
  # The next.
  - name: envoy.filters.http.router
    typed_config: {}
";
        let (rest, own) = apart(config, Path::new("/a \"b\"/filter.yaml")).unwrap();
        insta::assert_snapshot!(rest, @r#"
        filters:
          - name: envoy.filters.http.wasm
            config_discovery:
              config_source:
                path_config_source: {path: "/a \"b\"/filter.yaml"}
                resource_api_version: V3
              type_urls: [type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm]
          # The next.
          - name: envoy.filters.http.router
            typed_config: {}
        "#);
        insta::assert_snapshot!(own, @r#"
        resources:
        - "@type": type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig
          name: envoy.filters.http.wasm
          typed_config:
              config:
                value: |2
                  farebox: 1

                    # - name: envoy.filters.http.wasm
              last: 1
        "#);
    }

    #[test]
    fn a_filter_that_is_lost_is_an_error() {
        for config in
            ["", "- name: envoy.filters.http.wasm\n", "- name: envoy.filters.http.wasm\n  config_discovery:\n"]
        {
            let error = apart(config, Path::new("x")).unwrap_err().to_string();
            assert!(error.contains("`- name: envoy.filters.http.wasm`"), "{error}");
        }
    }

    #[test]
    fn envoys_word_is_the_one_after() {
        let before = Judged::read("a.http_filter.b.config_fail: 1\na.http_filter.b.config_reload: 2\nother: 7\n");
        assert_eq!(before, Judged { tried: 2, refused: 1 });
        assert_eq!(before.since(before), None);
        assert_eq!(Judged { tried: 3, ..before }.since(before), Some(false));
        // A text that is no configuration is not tried.
        assert_eq!(Judged { refused: 2, ..before }.since(before), Some(true));
    }
}
