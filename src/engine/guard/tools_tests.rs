//! Guards of tools, and how to get around them.

use serde_json::{Value, json};

use super::*;
use crate::engine::guard::tests::{bundle, plan};
use crate::meter::call::read_call;
use crate::meter::dialect::Dialect;
use crate::policy::bundle::Bundle;

fn judge(bundle: &Bundle, dialect: Dialect, body: &str) -> Judged {
    let call = read_call(dialect, body.as_bytes()).unwrap_or_else(|malformed| panic!("{malformed}: {body}"));
    let model = bundle.models.find(&call.model).unwrap_or(&bundle.models.rows[0]);
    tools(&Body { plan: plan(bundle), call: &call, model, bytes: body.len() as u64 })
}

fn asked(bundle: &Bundle, dialect: Dialect, body: &Value) -> Judged {
    let mut body = body.clone();
    if body.get("model").is_none() {
        body["model"] = json!("m");
    }
    judge(bundle, dialect, &body.to_string())
}

fn chat(bundle: &Bundle, more: Value) -> bool {
    let mut body = json!({"messages": [{"role": "user", "content": "hi"}]});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    asked(bundle, Dialect::OpenAiChat, &body).is_ok()
}

fn function(name: &str) -> Value {
    json!({"type": "function", "function": {"name": name, "parameters": {"type": "object"}}})
}

#[test]
fn tools_are_allowed_and_denied_by_name() {
    let allow = bundle("security: {tools: {allow: [\"get_*\", web_search]}}");
    let deny = bundle("security: {tools: {deny: [shell, \"mcp__*__delete\", \"computer*\"]}}");
    let offers = |bundle: &Bundle, tools: &[Value]| chat(bundle, json!({"tools": tools}));
    assert!(offers(&allow, &[function("get_weather"), json!({"type": "web_search_20250305"})]));
    assert!(!offers(&allow, &[function("get_weather"), function("shell")]));
    assert!(!offers(&allow, &[function("Get_weather")]), "case counts where it is allowed");
    assert!(!offers(&allow, &[json!({"type": "code_interpreter"})]));
    assert!(!offers(&allow, &[json!({"type": "mcp", "server_label": "get_x", "server_url": "https://mcp.test"})]));
    assert!(offers(&deny, &[function("get_weather"), function("mcp__files__list")]));
    for tool in [
        function("shell"),
        function("SHELL"),
        function("mcp__files__delete"),
        json!({"type": "computer_use_preview"}),
        json!({"type": "computer_20250124", "name": "x"}),
    ] {
        assert!(!offers(&deny, &[function("get_weather"), tool.clone()]), "{tool}");
    }
    assert!(chat(&allow, json!({"tools": []})) && chat(&allow, json!({})));
    assert!(!chat(&allow, json!({"functions": [{"name": "shell"}]})));
}

#[test]
fn no_spelling_offers_a_denied_tool() {
    let bundle = bundle("security: {tools: {deny: [shell]}}");
    for tools in [
        r#"[{"type":"function","function":{"name":"\u0073hell"}}]"#,
        r#"[{"type":"function","function":{"name":"ok","name":"shell"}}]"#,
        r#"[{"type":"function","function":{"name":"shell","name":"ok"}}]"#,
        r#"[{"type":"function","Function":{"NAME":"shell"}}]"#,
        r#"[{"type":"custom","custom":{"name":"shell"}}]"#,
        r#"[{"type":"function","function":{"name":["shell"]}}]"#,
        r#"[{"type":"function","function":{"n\u0061me":"shell"}}]"#,
    ] {
        let body = format!("{{\"model\":\"m\",\"messages\":[],\"tools\":{tools}}}");
        assert!(judge(&bundle, Dialect::OpenAiChat, &body).is_err(), "{tools}");
    }
}

#[test]
fn servers_of_tools_go_by_their_address() {
    let bundle =
        bundle("security: {tools: {servers: {allow: [\"https://mcp.acme.test/*\", mail], deny: [\"*/admin\"]}}}");
    let asks = |server: Value| chat(&bundle, json!({"mcp_servers": [server]}));
    assert!(asks(json!({"name": "files", "url": "https://mcp.acme.test/files"})));
    assert!(!asks(json!({"name": "mail", "url": "https://evil.test/"})), "a label is only what the caller calls it");
    assert!(!asks(json!({"name": "files", "url": "https://mcp.acme.test/admin"})));
    assert!(!asks(json!({"name": "files", "url": "https://mcp.acme.test/x", "URL": "https://evil.test/"})));
    assert!(chat(&bundle, json!({"tools": [{"type": "mcp_toolset", "mcp_server_name": "mail"}]})));
}

#[test]
fn too_many_tools_are_refused_however_many_there_are() {
    let bundle = bundle("security: {tools: {most: 2}}");
    let offers = |many: usize| chat(&bundle, json!({"tools": vec![function("a"); many]}));
    assert!(offers(2) && !offers(3) && !offers(20_000));
}

#[test]
fn what_cannot_be_read_is_refused_unless_the_plan_says_otherwise() {
    let found = judge(
        &bundle("security: {tools: {deny: [shell]}}"),
        Dialect::OpenAiChat,
        r#"{"model":"m","messages":[],"tools":[{"type":"function"}]}"#,
    );
    assert!(found.expect_err("it has no name").unread);
}

/// What asks for a search in each dialect and of each provider, and what tells that there was one.
fn searches() -> Vec<(Dialect, Value)> {
    use Dialect::*;
    let tool = |tool: Value| json!({"messages": [], "tools": [tool]});
    let item = |item: Value| json!({"input": [item]});
    let block = |block: Value| json!({"max_tokens": 1, "messages": [{"role": "assistant", "content": [block]}]});
    let model = |model: &str| json!({"model": model, "messages": []});
    vec![
        (OpenAiChat, json!({"messages": [], "web_search_options": {}})),
        (OpenAiChat, json!({"messages": [], "search_parameters": {"mode": "auto"}})),
        (OpenAiChat, json!({"messages": [], "enable_search": true})),
        (OpenAiChat, json!({"messages": [], "plugins": [{"id": "web"}]})),
        (OpenAiChat, json!({"messages": [], "venice_parameters": {"enable_web_search": "on"}})),
        (OpenAiChat, tool(json!({"type": "web_search", "web_search": {"enable": true}}))),
        (OpenAiChat, tool(json!({"type": "builtin_function", "function": {"name": "$web_search"}}))),
        (OpenAiChat, tool(json!({"type": "function", "function": {"name": "$web_search"}}))),
        (OpenAiChat, tool(json!({"type": "browser_search"}))),
        (OpenAiChat, tool(json!({"type": "openrouter:web_search"}))),
        (OpenAiChat, model("sonar-pro")),
        (OpenAiChat, model("openai/gpt-4o:online")),
        (OpenAiChat, model("gpt-4o-search-preview")),
        (OpenAiChat, model("groq/compound")),
        (OpenAiChat, json!({"messages": [{"role": "assistant", "tool_calls": [{"type": "web_search", "id": "t"}]}]})),
        (OpenAiResponses, json!({"input": "x", "tools": [{"type": "web_search_preview_2025_03_11"}]})),
        (OpenAiResponses, item(json!({"type": "web_search_call", "id": "w", "status": "completed"}))),
        (OpenAiResponses, item(json!({"type": "additional_tools", "tools": [{"type": "web_search"}]}))),
        (
            AnthropicMessages,
            json!({"max_tokens": 1, "messages": [], "tools": [{"type": "web_search_20250305", "name": "web_search"}]}),
        ),
        (AnthropicMessages, block(json!({"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}))),
        (AnthropicMessages, block(json!({"type": "web_search_tool_result", "tool_use_id": "s", "content": []}))),
        (GeminiGenerate, json!({"contents": [], "tools": [{"google_search": {}}]})),
        (
            GeminiGenerate,
            json!({"contents": [], "tools": [{"functionDeclarations": [{"name": "a"}], "googleSearch": {}}]}),
        ),
        (GeminiGenerate, json!({"contents": [], "tools": {"enterpriseWebSearch": {}}})),
        (GeminiGenerate, json!({"contents": [{"parts": [{"toolCall": {"toolType": "GOOGLE_SEARCH_WEB"}}]}]})),
        (GeminiInteractions, json!({"input": "x", "tools": [{"type": "google_search"}]})),
        (GeminiInteractions, item(json!({"type": "google_search_call", "arguments": {}}))),
        (
            BedrockConverse,
            json!({"messages": [], "toolConfig": {"tools": [{"systemTool": {"name": "nova_grounding"}}]}}),
        ),
        (
            BedrockConverse,
            json!({"messages": [{"content": [{"toolUse": {"type": "server_tool_use", "name": "nova_grounding"}}]}]}),
        ),
        (
            BedrockConverse,
            json!({"messages": [], "additionalModelRequestFields": {"tools": [{"type": "web_search_20250305", "name": "web_search"}]}}),
        ),
        (CohereChat, json!({"message": "x", "connectors": [{"id": "web-search"}]})),
        (DashScope, json!({"input": {"messages": []}, "parameters": {"enable_search": true}})),
    ]
}

#[test]
fn one_name_is_for_the_searches_of_all_providers() {
    let deny = bundle("security: {tools: {deny: [web_search]}}");
    let other = bundle("security: {tools: {deny: [shell, file_search]}}");
    let few = bundle("security: {tools: {allow: [\"get_*\"]}}");
    let many = bundle("security: {tools: {allow: [web_search, web_fetch, code_execution, a]}}");
    for (dialect, body) in searches() {
        assert!(asked(&deny, dialect, &body).is_err_and(|found| !found.unread), "{body}");
        assert!(asked(&few, dialect, &body).is_err(), "{body}");
        assert_eq!(asked(&other, dialect, &body), Ok(()), "{body}");
        assert_eq!(asked(&many, dialect, &body), Ok(()), "{body}");
    }
}

#[test]
fn what_is_no_search_is_none() {
    let deny = bundle("security: {tools: {deny: [web_search]}}");
    for (dialect, body) in [
        (Dialect::OpenAiChat, json!({"messages": [], "enable_search": false})),
        (Dialect::OpenAiChat, json!({"messages": [], "search_parameters": {"mode": "off"}})),
        (Dialect::OpenAiChat, json!({"messages": [], "web_search": {"enable": false}})),
        (Dialect::OpenAiChat, json!({"model": "sonar", "messages": [], "disable_search": true})),
        (Dialect::OpenAiChat, json!({"messages": [{"role": "user", "content": "web_search_call"}]})),
        (
            Dialect::OpenAiResponses,
            json!({"input": [{"type": "function_call", "name": "web_search", "arguments": "{}"}]}),
        ),
    ] {
        assert_eq!(asked(&deny, dialect, &body), Ok(()), "{body}");
    }
}

#[test]
fn other_tools_of_the_providers_go_by_one_name_too() {
    let tool = |tool: Value| (Dialect::OpenAiResponses, json!({"input": "x", "tools": [tool]}));
    let item = |item: Value| (Dialect::OpenAiResponses, json!({"input": [item]}));
    let google = |tool: Value| (Dialect::GeminiGenerate, json!({"contents": [], "tools": [tool]}));
    let part = |part: Value| (Dialect::GeminiGenerate, json!({"contents": [{"parts": [part]}]}));
    for (name, forms) in [
        (
            "code_execution",
            vec![
                tool(json!({"type": "code_interpreter", "container": {"type": "auto"}})),
                item(json!({"type": "code_interpreter_call", "code": "1"})),
                google(json!({"codeExecution": {}})),
                part(json!({"executableCode": {"code": "1"}})),
                part(json!({"codeExecutionResult": {"outcome": "OUTCOME_OK"}})),
            ],
        ),
        ("web_fetch", vec![google(json!({"urlContext": {}})), tool(json!({"type": "web_extractor"}))]),
        (
            "file_search",
            vec![
                tool(json!({"type": "file_search"})),
                item(json!({"type": "file_search_call"})),
                google(json!({"retrieval": {}})),
            ],
        ),
        ("maps", vec![google(json!({"googleMaps": {}}))]),
        (
            "image_generation",
            vec![
                tool(json!({"type": "image_generation"})),
                item(json!({"type": "image_generation_call", "result": "AA"})),
            ],
        ),
        (
            "computer",
            vec![
                tool(json!({"type": "computer_use_preview"})),
                item(json!({"type": "computer_call"})),
                item(json!({"type": "computer_call_output"})),
            ],
        ),
        (
            "shell",
            vec![
                tool(json!({"type": "local_shell"})),
                item(json!({"type": "local_shell_call"})),
                item(json!({"type": "shell_call"})),
            ],
        ),
        ("apply_patch", vec![tool(json!({"type": "apply_patch"})), item(json!({"type": "apply_patch_call"}))]),
        (
            "x_search",
            vec![
                tool(json!({"type": "x_search"})),
                item(json!({"type": "custom_tool_call", "name": "x_user_search", "input": ""})),
            ],
        ),
        ("tool_search", vec![tool(json!({"type": "tool_search"})), item(json!({"type": "tool_search_call"}))]),
    ] {
        let deny = bundle(&format!("security: {{tools: {{deny: [{name}]}}}}"));
        let only = bundle(&format!("security: {{tools: {{allow: [{name}]}}}}"));
        let other = bundle("security: {tools: {allow: [look], deny: [nothing]}}");
        for (dialect, body) in forms {
            assert!(asked(&deny, dialect, &body).is_err(), "{name}: {body}");
            assert_eq!(asked(&only, dialect, &body), Ok(()), "{name}: {body}");
            assert!(asked(&other, dialect, &body).is_err(), "{name}: {body}");
        }
    }
}

fn server(tools: Option<Value>) -> Value {
    let mut server = json!({"type": "mcp", "server_label": "files", "server_url": "https://mcp.acme.test/files"});
    if let Some(tools) = tools {
        server["allowed_tools"] = tools;
    }
    json!({"input": "x", "tools": [server]})
}

#[test]
fn a_server_that_is_allowed_is_allowed_with_its_tools() {
    let whole = bundle("security: {tools: {allow: [look], servers: {allow: [\"https://mcp.acme.test/*\"]}}}");
    let some = bundle(
        "security: {tools: {allow: [look, \"mcp__*__read\", \"mcp__files__l*\"], servers: {allow: [\"https://mcp.acme.test/*\"]}}}",
    );
    let all =
        bundle("security: {tools: {allow: [\"mcp__files__*\"], servers: {allow: [\"https://mcp.acme.test/*\"]}}}");
    let deny = bundle("security: {tools: {deny: [rm, \"mcp__*__drop\"]}}");
    let none = bundle("security: {tools: {deny: [\"mcp__*\"]}}");
    let asks = |bundle: &Bundle, tools: Option<Value>| asked(bundle, Dialect::OpenAiResponses, &server(tools)).is_ok();
    let (read, rm, drop) = (json!(["read", "list"]), json!(["read", "rm"]), json!({"tool_names": ["drop"]}));
    let table = [None, Some(read), Some(rm), Some(drop)];
    for (bundle, expected) in [
        (&whole, [true, true, true, true]),
        (&some, [false, true, false, false]),
        (&all, [true, true, true, true]),
        (&deny, [true, true, false, false]),
        (&none, [false, false, false, false]),
    ] {
        assert_eq!(table.clone().map(|tools| asks(bundle, tools)), expected);
    }
    // A glob takes all tools of a server only where it takes whatever they are called.
    for (rule, unlisted) in [
        ("deny: [\"*a*\"]", true),
        ("deny: [\"*any*\", \"?\", \"mcp__*__?????\"]", true),
        ("deny: [\"*i*\"]", false),
        ("deny: [\"*\"]", false),
        ("allow: [\"mcp__files__*a*\"], servers: {allow: [\"*\"]}", false),
        ("allow: [\"mcp__files__?*\"], servers: {allow: [\"*\"]}", true),
        ("allow: [\"mcp__files__[!d]*\"], servers: {allow: [\"*\"]}", false),
        ("allow: [\"mcp__files__[!d]*\", \"mcp__files__d*\"], servers: {allow: [\"*\"]}", true),
        ("allow: [\"mcp__files__{read,*}\"], servers: {allow: [\"*\"]}", true),
    ] {
        let bundle = bundle(&format!("security: {{tools: {{{rule}}}}}"));
        assert_eq!(asks(&bundle, None), unlisted, "{rule}");
    }
    let told = asked(&some, Dialect::OpenAiResponses, &server(None)).expect_err("all that it has").outside;
    assert!(told.ends_with("list those that may be used in `allowed_tools`"), "{told}");
}

#[test]
fn anthropics_servers_have_their_tools_apart() {
    let some =
        bundle("security: {tools: {allow: [\"mcp__*__read\"], servers: {allow: [\"https://mcp.acme.test/*\"]}}}");
    let asks = |toolset: Value| {
        let body = json!({"max_tokens": 1, "messages": [], "mcp_servers": [{"type": "url", "name": "files", "url": "https://mcp.acme.test/x"}], "tools": [toolset]});
        asked(&some, Dialect::AnthropicMessages, &body).is_ok()
    };
    let set = |more: Value| {
        let mut set = json!({"type": "mcp_toolset", "mcp_server_name": "files", "default_config": {"enabled": false}});
        set["configs"] = more;
        set
    };
    assert!(asks(set(json!({"read": {"enabled": true}, "rm": {"enabled": false}}))));
    assert!(!asks(set(json!({"read": {"enabled": true}, "rm": {"enabled": true}}))));
    assert!(!asks(json!({"type": "mcp_toolset", "mcp_server_name": "files"})));
    assert!(!asks(json!({"type": "mcp_toolset", "mcp_server_name": "mail"})), "a server that has no address");
}

#[test]
fn an_answer_calls_the_tools_of_a_server_as_the_request_may() {
    let rule = |yaml: &str| plan(&bundle(yaml)).security.tools.clone().expect("a rule");
    let servers = |tools: Option<Value>| {
        let body = json!({"model": "m", "input": "x", "tools": server(tools)["tools"]}).to_string();
        Servers::in_call(&read_call(Dialect::OpenAiResponses, body.as_bytes()).expect("a call"))
    };
    let call = |label: &'static str, tool: &'static str| Called::Server { label, tool };
    let whole = rule("security: {tools: {allow: [look], servers: {allow: [\"https://mcp.acme.test/*\"]}}}");
    let offered = servers(None);
    assert!(may_call(&whole, &offered, call("files", "read")) && may_call(&whole, &offered, call("files", "")));
    assert!(!may_call(&whole, &offered, call("mail", "read")), "a server that nobody offered");
    assert!(!may_call(&whole, &Servers::default(), call("files", "read")), "whose address nobody knows");
    let listed = servers(Some(json!(["read"])));
    assert!(may_call(&whole, &listed, call("files", "read")) && !may_call(&whole, &listed, call("files", "rm")));
    let some = rule("security: {tools: {allow: [\"mcp__*__read\"], servers: {allow: [\"https://mcp.acme.test/*\"]}}}");
    assert!(may_call(&some, &offered, call("files", "read")) && !may_call(&some, &offered, call("files", "rm")));
    let deny = rule("security: {tools: {deny: [rm, \"mcp__*__drop\"], servers: {deny: [\"*/files\", mail]}}}");
    assert!(!may_call(&deny, &offered, call("files", "read")) && !may_call(&deny, &offered, call("mail", "")));
    assert!(may_call(&deny, &offered, call("other", "read")));
    assert!(!may_call(&deny, &offered, call("other", "rm")) && !may_call(&deny, &offered, call("other", "drop")));
}

#[test]
fn what_a_conversation_tells_of_servers_is_judged_too() {
    let plan = bundle(
        "security: {tools: {allow: [look], deny: [rm], servers: {allow: [\"https://mcp.acme.test/*\"], deny: [mail]}}}",
    );
    let told = |label: &str, name: &str, more: Value| {
        let mut body = json!({"input": [{"type": "mcp_approval_request", "server_label": label, "name": name, "arguments": "{}"}]});
        body["tools"] = more;
        asked(&plan, Dialect::OpenAiResponses, &body).is_ok()
    };
    assert!(told("files", "read", server(None)["tools"].clone()));
    assert!(!told("files", "rm", server(None)["tools"].clone()));
    assert!(!told("files", "write", server(Some(json!(["read"])))["tools"].clone()));
    assert!(told("gone", "read", json!([])), "nobody can go on with it");
    assert!(!told("gone", "rm", json!([])) && !told("mail", "read", json!([])));
}

#[test]
fn credentials_for_servers_are_for_the_policy_to_allow() {
    let with =
        json!({"tools": [{"type": "mcp", "server_label": "a", "server_url": "https://a.test", "authorization": "x"}]});
    let without =
        json!({"tools": [{"type": "mcp", "server_label": "a", "server_url": "https://a.test", "authorization": ""}]});
    for (servers, allowed) in
        [("{credentials: deny}", false), ("{credentials: pass}", true), ("{allow: [\"https://a.test\"]}", true)]
    {
        let bundle = bundle(&format!("security: {{tools: {{servers: {servers}}}}}"));
        assert_eq!(chat(&bundle, with.clone()), allowed, "{servers}");
        assert!(chat(&bundle, without.clone()), "{servers}");
        let address = json!({"tools": [{"type": "mcp", "server_label": "a", "server_url": "https://user:x@a.test"}]});
        let allowed = allowed && !servers.contains("allow");
        assert_eq!(chat(&bundle, address), allowed, "{servers}");
    }
}
