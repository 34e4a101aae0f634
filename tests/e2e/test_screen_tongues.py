"""Secrets and personal data in the prompts and streams of every dialect, as the providers' own clients see them."""

import json
import re

import cohere
import dashscope
import google.genai
import ollama
import openai
import pytest
import requests
from test_tongues import bedrock
from tongues import Tongues
from whole import Whole, key, policy

# Put together here, so that no scanner of repositories trips over this file.
SECRET = "AK" + "IAIOSFODNN7EXAMPLE"
SAID = ["The key ", SECRET[:6], SECRET[6:13], SECRET[13:], " is of alice", "@exam", "ple.com", "; that is", " all."]
SAFE = "The key [redacted] is of [redacted]; that is all."
PROMPT = "write to bob@example.com now"
PLANS = {
    "open": "{}",
    "redact": "{security: {input: {email: redact}, output: {secrets: redact, email: redact}}}",
    "refuse": "{security: {input: {email: deny}, output: {secrets: deny}}}",
    "names": "{security: {input: {email: pseudonym}}}",
    "phones": "{security: {input: {phone: hash}}}",
}
POLICY = policy("tongues", PLANS, {plan: ("acme", plan) for plan in PLANS}, models='"*": {count: o200k_base}')
POLICY = POLICY.replace("api-key]", "api-key, x-goog-api-key]")


# What was told in pieces and then again, whole.
AGAIN = []


def openai_responses(url, token, prompt):
    client = openai.OpenAI(base_url=f"{url}/v1", api_key=token, max_retries=0)
    for event in client.responses.create(model="demo", input=prompt, stream=True):
        if event.type == "response.output_text.delta":
            yield event.delta
        if event.type == "response.completed":
            AGAIN.append(event.model_dump_json())


def openai_completions(url, token, prompt):
    client = openai.OpenAI(base_url=f"{url}/v1", api_key=token, max_retries=0)
    for chunk in client.completions.create(model="demo", prompt=prompt, stream=True):
        yield from (choice.text for choice in chunk.choices)


def google_generate(url, token, prompt):
    client = google.genai.Client(api_key=token, http_options={"base_url": url})
    yield from (chunk.text or "" for chunk in client.models.generate_content_stream(model="demo", contents=prompt))


def google_array(url, token, prompt):
    body = {"contents": [{"role": "user", "parts": [{"text": prompt}]}]}
    answer = requests.post(f"{url}/v1beta/models/demo:streamGenerateContent", json=body, headers={"x-goog-api-key": token}, timeout=60)
    # The refusal of a prompt is no array.
    assert answer.status_code == 200, answer.text
    for chunk in answer.json():
        assert "error" not in chunk, chunk
        yield from (part["text"] for part in chunk["candidates"][0]["content"]["parts"])


def google_interactions(url, token, prompt):
    client = google.genai.Client(api_key=token, http_options={"base_url": url})
    for event in client.interactions.create(model="demo", input=prompt, stream=True):
        if event.event_type == "step.delta":
            yield event.delta.text


def cohere_v2(url, token, prompt):
    client = cohere.ClientV2(api_key=token, base_url=url)
    for event in client.chat_stream(model="demo", messages=[{"role": "user", "content": prompt}]):
        if event.type == "content-delta":
            yield event.delta.message.content.text


def cohere_v1(url, token, prompt):
    for event in cohere.Client(api_key=token, base_url=url).chat_stream(model="demo", message=prompt):
        if event.event_type == "text-generation":
            yield event.text


def ollama_chat(url, token, prompt):
    client = ollama.Client(host=url, headers={"authorization": f"Bearer {token}"})
    yield from (part.message.content for part in client.chat(model="demo", messages=[{"role": "user", "content": prompt}], stream=True))


def ollama_generate(url, token, prompt):
    client = ollama.Client(host=url, headers={"authorization": f"Bearer {token}"})
    yield from (part.response for part in client.generate(model="demo", prompt=prompt, stream=True))


def dashscope_generation(url, token, prompt):
    dashscope.base_http_api_url = f"{url}/api/v1"
    settings = {"api_key": token, "result_format": "message", "incremental_output": True, "stream": True}
    for answer in dashscope.Generation.call(model="demo", messages=[{"role": "user", "content": prompt}], **settings):
        assert answer.status_code == 200 and not answer.code, answer.message
        yield answer.output.choices[0].message.content


def bedrock_converse(whole, token, prompt):
    answer = bedrock(whole, token).converse_stream(modelId="demo", messages=[{"role": "user", "content": [{"text": prompt}]}])
    yield from (event["contentBlockDelta"]["delta"]["text"] for event in answer["stream"] if "contentBlockDelta" in event)


def bedrock_invoke(whole, token, prompt):
    body = {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 500, "messages": [{"role": "user", "content": prompt}]}
    answer = bedrock(whole, token).invoke_model_with_response_stream(modelId="anthropic.demo", body=json.dumps(body))
    events = (json.loads(event["chunk"]["bytes"]) for event in answer["body"])
    yield from (event["delta"]["text"] for event in events if event["type"] == "content_block_delta")


def tgi_generate(url, token, prompt):
    headers = {"authorization": f"Bearer {token}"}
    answer = requests.post(f"{url}/generate_stream", json={"inputs": prompt, "stream": True}, headers=headers, timeout=60)
    assert answer.status_code == 200, answer.text
    for event in (json.loads(line[5:]) for line in answer.text.splitlines() if line.startswith("data:")):
        assert "error" not in event, event
        AGAIN.append(event["generated_text"] or "")
        yield event["token"]["text"]


CLIENTS = [
    openai_responses,
    openai_completions,
    google_generate,
    google_array,
    google_interactions,
    cohere_v2,
    cohere_v1,
    ollama_chat,
    ollama_generate,
    dashscope_generation,
    bedrock_converse,
    bedrock_invoke,
    tgi_generate,
]
# Cohere's clients pass over an event that they do not know, and with it the error; the stream ends all the same.
SILENT = {cohere_v2, cohere_v1}


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    upstream = Tongues(0)
    try:
        with Whole(tmp_path_factory.mktemp("tongues"), POLICY, upstream=upstream.port) as whole:
            yield whole, upstream
    finally:
        upstream.close()


def asked(stack, client, plan, said, prompt="Tell me all."):
    """The text that a client strings together of a stream, and whether it raised an error at its end."""
    whole, upstream = stack
    upstream.said, upstream.heard = said, None
    heard = []
    AGAIN.clear()
    try:
        heard.extend(iter(client(whole if client.__name__.startswith("bedrock") else whole.url, key(plan), prompt)))
    except Exception as error:
        return "".join(heard), error
    return "".join(heard), None


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.__name__)
def test_what_a_plan_allows_passes(stack, client):
    assert asked(stack, client, "open", SAID) == ("".join(SAID), None)


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.__name__)
def test_what_is_redacted_is_hidden_in_the_stream_and_in_the_prompt(stack, client):
    assert asked(stack, client, "redact", SAID, PROMPT) == (SAFE, None)
    assert not AGAIN or SAFE in "".join(AGAIN) and SECRET not in "".join(AGAIN)
    sent = json.dumps(stack[1].heard)
    assert "bob@" not in sent and "write to [redacted] now" in sent


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.__name__)
def test_what_is_denied_ends_the_stream_before_it(stack, client):
    heard, error = asked(stack, client, "refuse", SAID)
    assert heard in ("The key ", "") and (error is not None or client in SILENT), (heard, error)


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.__name__)
def test_a_prompt_that_is_denied_does_not_leave(stack, client):
    heard, error = asked(stack, client, "refuse", SAID, PROMPT)
    assert (heard, stack[1].heard) == ("", None) and "personal data" in str(error)


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.__name__)
def test_names_come_back_in_clear(stack, client):
    assert asked(stack, client, "names", ["I write", " to [EM", "AIL_1", "]."], PROMPT) == ("I write to bob@example.com.", None)
    assert "bob@" not in json.dumps(stack[1].heard)


def test_what_stands_beside_a_prompt_is_hidden_too(stack):
    """Fields that no model reads, and where labels may have few letters."""
    whole, upstream = stack
    upstream.said = SAID[:1]
    asked = {
        "/v1/responses": {"input": "hi", "metadata": {"of": "bob@example.com"}, "user": "bob@example.com", "prompt_cache_key": "x", "stream": True},
        "/v1/completions": {"prompt": "hi", "stop": ["x", "to bob@example.com"], "stream": True},
        "/v1beta/models/demo:streamGenerateContent?alt=sse": {"contents": [{"parts": [{"text": "hi"}]}], "labels": {"of": "bob@example.com"}},
        "/api/chat": {"messages": [{"role": "user", "content": "hi"}], "options": {"stop": ["bob@example.com"], "num_predict": 500}},
    }
    for path, body in asked.items():
        upstream.heard = None
        headers = {"authorization": f"Bearer {key('redact')}"}
        answer = requests.post(f"{whole.url}{path}", json={"model": "demo", **body}, headers=headers, timeout=60)
        told = json.dumps(body).replace('{"of": "bob@example.com"}', '{"of": "-redacted-"}') if "labels" in body else json.dumps(body)
        expected = json.loads(told.replace("bob@example.com", "[redacted]"))
        assert answer.status_code == 200, answer.text
        assert {name: upstream.heard[name] for name in expected} == expected, path
        refused = requests.post(f"{whole.url}{path}", json={"model": "demo", **body}, headers={"authorization": f"Bearer {key('refuse')}"}, timeout=60)
        assert refused.status_code == 403 and "beside its prompt" in refused.text, refused.text


def test_what_stands_beside_a_prompt_stays_legal(stack):
    """Numbers give way to strings, names of members stay apart, and nothing is cut off a field without room for more."""
    whole, upstream = stack
    upstream.said, upstream.heard = SAID[:1], None
    long = "138-1234-5678 " + "x" * 498
    metadata = {"138-1234-5678": "a", "139-1234-5678": "b", "n": 13812345678, "long": long, "+86 138 1234 5678 " + "y" * 45: "c"}
    call = {"type": "function_call", "call_id": "t", "name": "f", "arguments": '{"to": 13812345678, "of": "138-1234-5678"}'}
    body = {"model": "demo", "input": [call, {"role": "user", "content": "hi"}], "metadata": metadata, "stream": True}
    answer = requests.post(f"{whole.url}/v1/responses", json=body, headers={"authorization": f"Bearer {key('phones')}"}, timeout=60)
    assert answer.status_code == 200, answer.text
    told = upstream.heard["metadata"]
    hashed = re.compile(r"\[phone:[0-9a-f]{12}\]")
    names = list(told)
    assert len(set(names)) == 5 and hashed.fullmatch(names[0]) and hashed.fullmatch(names[1]), told
    assert names[4] == "[phone] " + "y" * 45 and [told[names[0]], told[names[1]], told[names[4]]] == ["a", "b", "c"]
    assert hashed.fullmatch(told["n"]) and told["long"] == "[phone] " + "x" * 498
    arguments = json.loads(upstream.heard["input"][0]["arguments"])
    assert hashed.fullmatch(arguments["to"]) and hashed.fullmatch(arguments["of"])


def test_what_was_found_is_counted_and_nothing_passed_unread(stack):
    whole, _ = stack
    stats = requests.get(f"{whole.envoy.admin}/stats/prometheus", timeout=10).text
    found = re.findall(r"farebox_findings_total\{([^}]*)\} (\d+)", stats)
    assert any('direction="output"' in labels and 'action="redact"' in labels and int(count) >= len(CLIENTS) for labels, count in found), found
    assert any('direction="output"' in labels and 'action="deny"' in labels for labels, count in found), found
    assert "farebox_unscreened_total{" not in stats
    whole.unharmed()
