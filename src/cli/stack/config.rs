//! `envoy/envoy.yaml` with a policy, ports and an upstream filled in.
//!
//! The file is complete as it stands, so that it can be read and copied; it is filled in by replacing exact
//! pieces of its text. A piece that is not there exactly once is an error here, not a surprise in Envoy.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::{Ports, StackError};

/// The line that stands for the policy.
const POLICY: &str = "__POLICY__";

/// The text of `envoy/envoy.yaml`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(String);

/// An upstream elsewhere: `http(s)://host[:port]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    /// A DNS name or an address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The certificate authorities to trust, for https.
    pub trust: Option<PathBuf>,
    /// Envoy's environment has the provider's key in `UPSTREAM_KEY`: clients never hold it.
    pub key: bool,
}

impl Template {
    /// A template of this text.
    pub fn new(text: String) -> Template {
        Template(text)
    }

    /// Fills in the template.
    ///
    /// # Errors
    /// When the template lacks a piece that is to be replaced.
    pub fn render(
        &self,
        policy: &str,
        ports: Ports,
        filter: &Path,
        remote: Option<&Remote>,
    ) -> Result<String, StackError> {
        let mut text = Text(self.0.clone());
        text.replace("port_value: 10000}", &format!("port_value: {}}}", ports.http))?;
        text.replace("port_value: 9901}", &format!("port_value: {}}}", ports.admin))?;
        text.replace("port_value: 8081}", &format!("port_value: {}}}", ports.collector))?;
        text.replace(
            "filename: target/wasm/farebox.wasm}",
            &format!("filename: {}}}", quoted(&filter.to_string_lossy())),
        )?;
        let upstream = "{address: 127.0.0.1, port_value: 8082}";
        match remote {
            None => text.replace(upstream, &format!("{{address: 127.0.0.1, port_value: {}}}", ports.upstream))?,
            Some(remote) => {
                let Remote { host, port, .. } = remote;
                text.replace(upstream, &format!("{{address: {}, port_value: {port}}}", quoted(host)))?;
                text.below("- name: upstream", 2, &remote.cluster_lines())?;
                text.below("cluster: upstream", 0, "auto_host_rewrite: true\n")?;
            }
        }
        // Last, so that nothing in a policy can look like a piece of the template.
        text.policy(policy)?;
        Ok(text.0)
    }
}

struct Text(String);

impl Text {
    fn replace(&mut self, piece: &str, by: &str) -> Result<(), StackError> {
        self.once(piece)?;
        self.0 = self.0.replacen(piece, by, 1);
        Ok(())
    }

    /// Inserts lines below the one that is `line`, indented by `more` than it.
    fn below(&mut self, line: &str, more: usize, lines: &str) -> Result<(), StackError> {
        let mut found = self.0.lines().filter(|one| one.trim_start() == line);
        let (Some(anchor), None) = (found.next(), found.next()) else { return Err(lost(line)) };
        let indent = " ".repeat(anchor.len().saturating_sub(line.len()).saturating_add(more));
        let inserted: String = lines.lines().map(|line| format!("{indent}{line}\n")).collect();
        let anchor = format!("{anchor}\n");
        self.0 = self.0.replacen(&anchor, &format!("{anchor}{inserted}"), 1);
        Ok(())
    }

    fn policy(&mut self, policy: &str) -> Result<(), StackError> {
        self.once(POLICY)?;
        let line = self.0.lines().find(|line| line.contains(POLICY)).unwrap_or_default().to_owned();
        let indent = line.trim_end_matches(POLICY).to_owned();
        let before = format!("value: |\n{line}");
        self.once(&before)?;
        let indented: Vec<_> = policy.lines().map(|line| format!("{indent}{line}")).collect();
        // The indicator says where the text begins, whatever its own first line is indented by.
        self.0 = self.0.replacen(&before, &format!("value: |2\n{}", indented.join("\n")), 1);
        Ok(())
    }

    fn once(&self, piece: &str) -> Result<(), StackError> {
        if self.0.matches(piece).count() == 1 { Ok(()) } else { Err(lost(piece)) }
    }
}

/// The template lacks this.
pub(super) fn lost(piece: &str) -> StackError {
    StackError::Setup(format!("the Envoy template must contain `{piece}` exactly once"))
}

impl Remote {
    /// Reads `http(s)://host[:port]`; `trust` is looked up only for https.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(url: &str, key: bool, trust: impl FnOnce() -> Option<PathBuf>) -> Result<Remote, String> {
        let (scheme, rest) = url.split_once("://").ok_or("it must begin with http:// or https://")?;
        let (default, secure) = match scheme {
            "http" => (80, false),
            "https" => (443, true),
            other => return Err(format!("`{other}` is neither http nor https")),
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        if !path.is_empty() {
            return Err(format!("it has a path, `/{path}`: callers write the path, here only the host belongs"));
        }
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !host.ends_with(':') && (!host.contains(':') || host.ends_with(']')) => {
                (host, port.parse().map_err(|_| format!("`{port}` is no port"))?)
            }
            _ => (authority, default),
        };
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let name = |host: &str| host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte));
        if host.is_empty() || !(name(host) || host.parse::<IpAddr>().is_ok()) {
            return Err(format!("`{host}` is no host"));
        }
        let trust = match secure {
            true => Some(trust().ok_or("no certificate authorities were found: set SSL_CERT_FILE to a PEM bundle")?),
            false => None,
        };
        Ok(Remote { host: host.to_owned(), port, trust, key })
    }

    fn cluster_lines(&self) -> String {
        let mut lines = String::from("dns_lookup_family: V4_PREFERRED\n");
        if let Some(trust) = &self.trust {
            let host = quoted(&self.host);
            let (san, sni) = match self.host.parse::<IpAddr>() {
                Ok(_) => ("IP_ADDRESS", String::new()),
                Err(_) => ("DNS", format!("\n    sni: {host}")),
            };
            let trust = quoted(&trust.to_string_lossy());
            lines.push_str(&format!(
                r#"transport_socket:
  name: envoy.transport_sockets.tls
  typed_config:
    "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext{sni}
    common_tls_context:
      validation_context:
        trusted_ca: {{filename: {trust}}}
        match_typed_subject_alt_names: [{{san_type: {san}, matcher: {{exact: {host}}}}}]
"#
            ));
        }
        if self.key {
            lines.push_str(KEY);
        }
        lines
    }
}

/// Puts the provider's key in behind the filter, which has taken the caller's out. Envoy reads it from its
/// environment for each request, so it is written into no file.
const KEY: &str = r#"typed_extension_protocol_options:
  envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
    "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
    explicit_http_config: {http_protocol_options: {}}
    http_filters:
    - name: envoy.filters.http.header_mutation
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.filters.http.header_mutation.v3.HeaderMutation
        mutations:
          request_mutations:
          - append:
              header: {key: authorization, value: "Bearer %ENVIRONMENT(UPSTREAM_KEY)%"}
              append_action: OVERWRITE_IF_EXISTS_OR_ADD
          - append:
              header: {key: x-api-key, value: "%ENVIRONMENT(UPSTREAM_KEY)%"}
              append_action: OVERWRITE_IF_EXISTS_OR_ADD
    - name: envoy.filters.http.upstream_codec
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec
"#;

/// A YAML scalar in double quotes, whatever is in it: JSON's strings are YAML's.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEMPLATE: &str = "\
a: {address: 127.0.0.1, port_value: 10000}
b: {address: 127.0.0.1, port_value: 9901}
code: {local: {filename: target/wasm/farebox.wasm}}
    value: |
      __POLICY__
route:
  cluster: upstream
clusters:
  - name: upstream
    at: {address: 127.0.0.1, port_value: 8082}
  - name: farebox-collector
    at: {address: 127.0.0.1, port_value: 8081}
";
    const PORTS: Ports = Ports { http: 1, admin: 2, collector: 3, upstream: 4 };

    fn render(template: &str, policy: &str, remote: Option<&Remote>) -> Result<String, StackError> {
        Template::new(template.to_owned()).render(policy, PORTS, Path::new("/x/farebox.wasm"), remote)
    }

    #[test]
    fn everything_is_filled_in() {
        insta::assert_snapshot!(render(TEMPLATE, "farebox: 1\n\n  # port_value: 8081}\n", None).unwrap(), @r#"
        a: {address: 127.0.0.1, port_value: 1}
        b: {address: 127.0.0.1, port_value: 2}
        code: {local: {filename: "/x/farebox.wasm"}}
            value: |2
              farebox: 1
              
                # port_value: 8081}
        route:
          cluster: upstream
        clusters:
          - name: upstream
            at: {address: 127.0.0.1, port_value: 4}
          - name: farebox-collector
            at: {address: 127.0.0.1, port_value: 3}
        "#);
    }

    #[test]
    fn a_remote_upstream_gets_its_name_and_tls() {
        let remote = Remote::parse("https://api.example.com", false, || Some(PathBuf::from("/ca.pem"))).unwrap();
        let text = render(TEMPLATE, "farebox: 1", Some(&remote)).unwrap();
        insta::assert_snapshot!(text.split_once("route:").unwrap().1, @r#"

          cluster: upstream
          auto_host_rewrite: true
        clusters:
          - name: upstream
            dns_lookup_family: V4_PREFERRED
            transport_socket:
              name: envoy.transport_sockets.tls
              typed_config:
                "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
                sni: "api.example.com"
                common_tls_context:
                  validation_context:
                    trusted_ca: {filename: "/ca.pem"}
                    match_typed_subject_alt_names: [{san_type: DNS, matcher: {exact: "api.example.com"}}]
            at: {address: "api.example.com", port_value: 443}
          - name: farebox-collector
            at: {address: 127.0.0.1, port_value: 3}
        "#);
    }

    #[test]
    fn a_piece_that_is_lost_is_an_error() {
        for piece in ["10000", "__POLICY__", "8082", "target/wasm/farebox.wasm"] {
            let error = render(&TEMPLATE.replace(piece, "x"), "", None).unwrap_err().to_string();
            assert!(error.contains("exactly once"), "{piece}: {error}");
        }
        let twice = format!("{TEMPLATE}{TEMPLATE}");
        assert!(render(&twice, "", None).is_err());
    }

    #[test]
    fn the_shipped_template_can_be_filled_in() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("envoy");
        if !folder.exists() {
            return eprintln!("skipped: this copy of the source has no envoy/ folder");
        }
        let text = std::fs::read_to_string(folder.join("envoy.yaml")).unwrap();
        let remote = Remote::parse("https://api.example.com", true, || Some(PathBuf::from("/ca.pem"))).unwrap();
        let filled = render(&text, "farebox: 1", None).unwrap();
        render(&text, "farebox: 1", Some(&remote)).unwrap();
        let (rest, own) = super::super::discovery::apart(&filled, Path::new("/x/filter.yaml")).unwrap();
        assert!(own.contains("farebox: 1") && own.contains("vm_id: farebox") && !own.contains("rbac"), "{own}");
        assert!(!rest.contains("vm_id: farebox") && rest.contains("envoy.filters.http.rbac"), "{rest}");
    }

    #[test]
    fn upstreams_are_read() {
        let parse = |url: &str| Remote::parse(url, false, || Some(PathBuf::new())).map(|one| (one.host, one.port));
        assert_eq!(parse("http://127.0.0.1:8000"), Ok(("127.0.0.1".to_owned(), 8000)));
        assert_eq!(parse("https://api.openai.com/"), Ok(("api.openai.com".to_owned(), 443)));
        assert_eq!(parse("http://[::1]:80"), Ok(("::1".to_owned(), 80)));
        assert_eq!(parse("http://[::1]"), Ok(("::1".to_owned(), 80)));
        for (url, says) in [
            ("api.openai.com", "must begin with"),
            ("ftp://x", "neither"),
            ("http://x/v1", "path"),
            ("http://x:port", "no port"),
            ("http://a b", "no host"),
            ("http://", "no host"),
        ] {
            let error = parse(url).unwrap_err();
            assert!(error.contains(says), "{url}: {error}");
        }
        assert!(Remote::parse("https://x", false, || None).unwrap_err().contains("SSL_CERT_FILE"));
    }
}
