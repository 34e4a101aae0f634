//! Tools that requests offer, in whatever spelling.

use proptest::prelude::proptest;

use super::{Offer, Server, offers};
use crate::meter::credentials::credentials;

fn told(body: &str) -> Vec<String> {
    let one = |offer: Offer| match offer {
        Offer::Function(name) => name,
        Offer::BuiltIn(kind) => format!("own {kind}"),
        Offer::Server(Server { label, url, tools: None }) => format!("server {label} {url}"),
        Offer::Server(Server { label, url, tools: Some(tools) }) => format!("server {label} {url} {}", tools.join("+")),
        Offer::Unread(why) => format!("? {why}"),
    };
    offers(body).into_iter().map(one).collect()
}

#[test]
fn functions_of_every_dialect() {
    for body in [
        r#"{"tools":[{"type":"function","function":{"name":"a","parameters":{"name":"x"}}},{"type":"custom","custom":{"name":"b"}}]}"#,
        r#"{"tools":[{"type":"function","name":"a"},{"name":"b","input_schema":{}}]}"#,
        r#"{"functions":[{"name":"a"}],"tools":[{"name":"b","type":"custom"}]}"#,
        r#"{"tools":[{"functionDeclarations":[{"name":"a"}]},{"function_declarations":[{"name":"b"}]}]}"#,
        r#"{"tools":{"functionDeclarations":[{"name":"a"},{"name":"b"}]}}"#,
        r#"{"toolConfig":{"tools":[{"toolSpec":{"name":"a"}},{"cachePoint":{"type":"default"}},{"toolSpec":{"name":"b"}}]}}"#,
        r#"{"parameters":{"tools":[{"type":"function","function":{"name":"a"}},{"type":"function","function":{"name":"b"}}]}}"#,
        r#"{"tools":[{"type":"namespace","name":"n","tools":[{"type":"function","name":"a"},{"type":"function","name":"b"}]}]}"#,
    ] {
        let mut told = told(body);
        told.sort();
        assert_eq!(told, ["a", "b"], "{body}");
    }
    assert_eq!(told(r#"{"messages":[{"tools":[{"name":"a"}]}],"tools":null}"#), [""; 0]);
}

#[test]
fn tools_of_the_providers() {
    assert_eq!(
        told(r#"{"tools":[{"type":"web_search_20250305","name":"web_search"}]}"#),
        ["own web_search_20250305", "own web_search"]
    );
    assert_eq!(
        told(r#"{"tools":[{"googleSearch":{}},{"code_execution":{}}]}"#),
        ["own google_search", "own code_execution"]
    );
    assert_eq!(
        told(r#"{"tools":[{"type":"code_interpreter","container":{"type":"auto"}}]}"#),
        ["own code_interpreter"]
    );
    assert_eq!(told(r#"{"toolConfig":{"tools":[{"systemTool":{"name":"nova_grounding"}}]}}"#), ["own nova_grounding"]);
    assert_eq!(told(r#"{"web_search_options":{},"enable_search":false}"#), ["own web_search"]);
    assert_eq!(told(r#"{"plugins":[{"id":"web"}]}"#), ["own web"]);
}

#[test]
fn what_switches_a_tool_of_the_providers_on() {
    for (body, own) in [
        (r#"{"search_parameters":{"mode":"auto"}}"#, &["own web_search"][..]),
        (r#"{"search_parameters":{"mode":"off"}}"#, &[]),
        (r#"{"web_search":{"enable":true}}"#, &["own web_search"]),
        (r#"{"web_search":{"enable":false}}"#, &[]),
        (r#"{"enable_enhancement":true}"#, &["own web_search"]),
        (
            r#"{"parameters":{"enable_search":true,"enable_code_interpreter":true}}"#,
            &["own web_search", "own code_interpreter"],
        ),
        (r#"{"parameters":{"enable_search":false}}"#, &[]),
        (
            r#"{"venice_parameters":{"enable_web_search":"auto","enable_web_scraping":true}}"#,
            &["own web_search", "own web_fetch"],
        ),
        (r#"{"venice_parameters":{"enable_web_search":"off"}}"#, &[]),
        (r#"{"plugins":["plugin_web_search",{"id":"web"}]}"#, &["own plugin_web_search", "own web"]),
        (r#"{"plugins":"web"}"#, &["own web"]),
        (r#"{"plugins":{"web_search":{"search_enable":true},"mathematic":{}}}"#, &["own web_search"]),
        (r#"{"parameters":{"plugins":{"code_interpreter":{"x":1}}}}"#, &["own code_interpreter"]),
        (r#"{"enable_deep_search":true}"#, &["own web_search"]),
        (r#"{"agent":"deep-research-pro-preview-12-2025"}"#, &["own agent", "own web_search"]),
        (r#"{"agent_id":"ag-1"}"#, &["own agent"]),
        (r#"{"tools":[{"type":"drawing_tool"},{"type":"web_browser"}]}"#, &["own drawing_tool", "own web_browser"]),
        (r#"{"connectors":[{"id":"web-search"}]}"#, &["own web-search"]),
        (r#"{"tools":[{"type":"builtin_function","function":{"name":"$web_search"}}]}"#, &["own $web_search"]),
        (r#"{"tools":[{"type":"web_search","function":{"description":"x"}}]}"#, &["own web_search"]),
        (r#"{"tools":[{"type":"web_search","web_search":{"enable":true}}]}"#, &["own web_search"]),
        (r#"{"tools":[{"functionDeclarations":[{"name":"a"}],"googleSearch":{}}]}"#, &["a", "own google_search"]),
        (r#"{"tools":{"googleSearch":{},"codeExecution":{}}}"#, &["own google_search", "own code_execution"]),
        (
            r#"{"additionalModelRequestFields":{"tools":[{"type":"web_search_20250305","name":"w"}]}}"#,
            &["own web_search_20250305", "w"],
        ),
        (r#"{"input":[{"type":"tool_search_output","tools":[{"type":"function","name":"a"}]}]}"#, &["a"]),
        (r#"{"input":[{"type":"mcp_list_tools","server_label":"s","tools":[{"name":"a"}]}]}"#, &[]),
        (r#"{"input":"tools"}"#, &[]),
    ] {
        assert_eq!(told(body), own, "{body}");
    }
}

#[test]
fn servers_by_label_and_address() {
    let told = [
        told(r#"{"tools":[{"type":"mcp","server_label":"files","server_url":"https://mcp.test/x"}]}"#),
        told(r#"{"mcp_servers":[{"type":"url","name":"files","url":"https://mcp.test/x"}]}"#),
        told(r#"{"tools":[{"type":"mcp_toolset","mcp_server_name":"files"}]}"#),
        told(r#"{"tools":[{"type":"mcp","server_label":"mail","connector_id":"connector_gmail"}]}"#),
        told(r#"{"tools":[{"type":"connector","connector_id":"gmail"}]}"#),
    ];
    assert_eq!(
        told,
        [
            ["server files https://mcp.test/x"],
            ["server files https://mcp.test/x"],
            ["server files "],
            ["server mail connector_gmail"],
            ["server  gmail"],
        ]
    );
}

#[test]
fn servers_list_those_of_their_tools_that_may_be_used() {
    for (body, server) in [
        (
            r#"{"tools":[{"type":"mcp","server_label":"f","server_url":"u","allowed_tools":["a","b"]}]}"#,
            "server f u a+b",
        ),
        (
            r#"{"mcp_servers":[{"name":"f","url":"u","tool_configuration":{"enabled":true,"allowed_tools":["a"]}}]}"#,
            "server f u a",
        ),
        (
            r#"{"mcp_servers":[{"name":"f","url":"u"}],"tools":[{"type":"mcp_toolset","mcp_server_name":"f","default_config":{"enabled":false},"configs":{"a":{"enabled":true}}}]}"#,
            "server f u a",
        ),
        (
            r#"{"mcp_servers":[{"name":"f","url":"u"}],"tools":[{"type":"mcp_toolset","mcp_server_name":"f"}]}"#,
            "server f u",
        ),
        (
            r#"{"tools":[{"type":"mcp_server","name":"f","url":"u","allowed_tools":[{"mode":"any","tools":["a"]}]}]}"#,
            "server f u a",
        ),
        (
            r#"{"tools":[{"type":"mcp","mcp":{"server_label":"f","server_url":"u","allowed_tools":["a"]}}]}"#,
            "server f u a",
        ),
        (r#"{"tools":[{"mcpServers":[{"name":"f","streamableHttpTransport":{"url":"u"}}]}]}"#, "server f u"),
    ] {
        assert_eq!(told(body), [server], "{body}");
    }
    let both = r#"{"tools":[{"type":"function","type":"mcp","name":"f","server_url":"u"}]}"#;
    assert_eq!(told(both), ["f", "server  u"]);
}

#[test]
fn credentials_are_read_wherever_servers_are() {
    let server = r#"{"type":"mcp","authorization":"S"}"#;
    for body in [
        format!(r#"{{"parameters":{{"tools":[{server}]}}}}"#),
        format!(r#"{{"toolConfig":{{"tools":{server}}}}}"#),
        format!(r#"{{"functions":[{server}]}}"#),
        format!(r#"{{"tools":[{{"type":"namespace","name":"n","tools":[{server}]}}]}}"#),
        format!(r#"{{"input":[{{"type":"tool_search_output","tools":[{server}]}}]}}"#),
        format!(r#"{{"input":{{"type":"additional_tools","t\u006fols":{server}}}}}"#),
        r#"{"tools":[{"server_label":"a","Authorization":"S"}]}"#.to_owned(),
        r#"{"tools":[{"name":"f","connector_id":"c","authorization":"S"}]}"#.to_owned(),
        r#"{"tools":[{"type":"mcp_toolset","mcp_server_name":"a","headers":"S"}]}"#.to_owned(),
    ] {
        assert_eq!(credentials(&body).fields, ["\"S\""], "{body}");
    }
    let deep = (0..9).fold(server.to_owned(), |tool, _| format!(r#"{{"tools":[{tool}]}}"#));
    assert!(credentials(&deep).fields.is_empty() && told(&deep).contains(&"? tools within tools".to_owned()));
    assert!(credentials(r#"{"tools":[{"type":"function","name":"f","authorization":"S"}]}"#).fields.is_empty());
    let told = format!(r#"{{"input":[{{"type":"mcp_list_tools","tools":[{server}]}}]}}"#);
    assert!(credentials(&told).fields.is_empty(), "nobody is asked with these");
}

#[test]
fn credentials_in_an_address_are_seen() {
    for (url, has) in [
        ("https://user:pass@a.test/x", true),
        ("https://token@a.test", true),
        ("HTTPS:\\\\\\\\u@a.test\\\\x", true),
        ("u:p@a.test", true),
        ("//u@a.test", true),
        ("https://a.test/@scope/x?to=a@b.cn#@", false),
        ("https://a.test:8443\\\\@x", false),
        ("connector_gmail", false),
    ] {
        for body in [
            format!(r#"{{"tools":[{{"type":"mcp","server_url":"{url}"}}]}}"#),
            format!(r#"{{"mcp_servers":[{{"url":"{url}"}}]}}"#),
            format!(r#"{{"tools":[{{"mcpServers":[{{"streamableHttpTransport":{{"url":"{url}"}}}}]}}]}}"#),
        ] {
            assert_eq!(credentials(&body).in_address, has, "{body}");
        }
    }
}

#[test]
fn no_spelling_hides_a_tool() {
    assert_eq!(told(r#"{"Tools":[{"TYPE":"function","Function":{"Name":"a"}}]}"#), ["a"]);
    assert_eq!(told(r#"{"t\u006fols":[{"n\u0061me":"\u0061"}]}"#), ["a"]);
    assert_eq!(told(r#"{"tools":[{"name":"a","name":"b"}]}"#), ["a", "b"]);
    assert_eq!(
        told(r#"{"tools":[{"type":"function","function":{"name":"a","name":"b"},"name":"c"}]}"#),
        ["a", "b", "c"]
    );
    assert_eq!(told(r#"{"tools":[{"type":"function","type":"web_search","name":"a"}]}"#), ["own web_search", "a"]);
    assert_eq!(told(r#"{"tools":[{"name":"a"}],"tools":[{"name":"b"}]}"#), ["a", "b"]);
    assert_eq!(
        told(r#"{"tools":[{"type":"mcp","server_label":"a","server_url":"u","server_url":"v"}]}"#),
        ["server a u", "server a v"]
    );
}

#[test]
fn what_cannot_be_told_says_so() {
    for (body, why) in [
        (r#"{"tools":"shell"}"#, "? a tool that is no object"),
        (r#"{"tools":[["shell"]]}"#, "? a tool that is no object"),
        (r#"{"tools":[{"name":7}]}"#, "? a tool whose name is no text"),
        (r#"{"tools":[{"type":"function","function":{}}]}"#, "? a tool whose name is no text"),
        (r#"{"tools":[{"type":"function"}]}"#, "? a tool without a name"),
        (r#"{"tools":[{}]}"#, "? a tool without a name"),
    ] {
        assert_eq!(told(body), [why], "{body}");
    }
}

#[test]
fn what_is_said_again_and_again_is_not_told_in_every_way_that_it_could_be_meant() {
    let many = |text: &str, times: usize| vec![text; times].join(",");
    let names = many("\"a\"", 5_000);
    let entry = format!("\"server_label\":\"a\",{},\"allowed_tools\":[{names}]", many("\"server_url\":\"u\"", 4_000));
    let offered = offers(&format!("{{\"tools\":[{{\"type\":\"mcp\",{entry}}}]}}"));
    assert_eq!(offered, [Offer::Unread("a tool that is called by more names than are read")]);
    let servers = many("{\"name\":\"a\",\"url\":\"u\"}", 1_000);
    let set = format!("{{\"type\":\"mcp_toolset\",\"mcp_server_name\":\"a\",\"allowed_tools\":[{names}]}}");
    let offered = offers(&format!("{{\"mcp_servers\":[{servers}],\"tools\":[{set}]}}"));
    assert_eq!(offered, [Offer::Unread("more tools of servers than are read")]);
}

#[test]
fn a_function_may_be_called_by_its_kind() {
    for name in ["function", "custom", "function_1"] {
        let body = format!(r#"{{"tools":[{{"type":"function","function":{{"name":"{name}"}}}}]}}"#);
        assert_eq!(offers(&body), [Offer::Function(name.to_owned())]);
    }
}

#[test]
fn a_huge_list_is_read_to_a_bound() {
    let body = format!("{{\"tools\":[{}{{\"name\":\"shell\"}}]}}", "{\"name\":\"a\"},".repeat(10_000));
    let told = told(&body);
    assert_eq!((told.len(), told.last().map(String::as_str)), (4_097, Some("? more tools than are read")));
    let deep = format!("{{\"tools\":{}{{\"name\":\"shell\"}}{}}}", "{\"tools\":".repeat(50), "}".repeat(50));
    assert_eq!(offers(&deep), [Offer::Unread("tools within tools")]);
}

proptest! {
    #[test]
    fn any_body(body in "\\{\"tools\":(\\[|\\{|\"|name|type|:|,|\\}|\\]|function|[a-z]){0,40}\\}") {
        offers(&body);
    }
}
