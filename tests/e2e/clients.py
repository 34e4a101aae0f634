"""The providers' own clients, each asking for a stream. What they make of its events, in order, as pairs of a kind and a text: `text`;
`call`, the name of a tool, and `arguments`, the next piece of them; `end`, the reason; `again`, what is told a second time; and `event`,
whatever one had in it."""

import json
import types

import anthropic
import boto3
import botocore.config
import cohere
import dashscope
import google.genai
import mistralai.client
import ollama
import openai
import requests


def said(prompt):
    return [{"role": "user", "content": prompt}]


def openai_sdk(whole, token):
    return openai.OpenAI(base_url=f"{whole.url}/v1", api_key=token, max_retries=0)


def openai_chat(whole, token, prompt):
    for chunk in openai_sdk(whole, token).chat.completions.create(model="demo", messages=said(prompt), stream=True):
        yield "event", chunk.model_dump_json()
        for choice in chunk.choices:
            yield "text", choice.delta.content or ""
            yield from functions(choice.delta.tool_calls)
            if choice.finish_reason:
                yield "end", choice.finish_reason


def functions(calls):
    """OpenAI's calls, in the clients of all who took them over."""
    for call in calls or []:
        if call.function.name:
            yield "call", call.function.name
        yield "arguments", call.function.arguments or ""


def openai_responses(whole, token, prompt):
    for event in openai_sdk(whole, token).responses.create(model="demo", input=prompt, stream=True):
        yield "event", event.model_dump_json()
        if event.type == "response.output_text.delta":
            yield "text", event.delta
        if event.type == "response.output_item.added" and event.item.type == "function_call":
            yield "call", event.item.name
        if event.type == "response.function_call_arguments.delta":
            yield "arguments", event.delta
        if event.type in ("response.completed", "response.incomplete"):
            yield "end", event.response.incomplete_details.reason if event.response.incomplete_details else event.response.status
        if event.type == "response.completed":
            yield "again", event.model_dump_json()


def openai_completions(whole, token, prompt):
    for chunk in openai_sdk(whole, token).completions.create(model="demo", prompt=prompt, stream=True):
        yield "event", chunk.model_dump_json()
        for choice in chunk.choices:
            yield "text", choice.text
            if choice.finish_reason:
                yield "end", choice.finish_reason


def anthropic_messages(whole, token, prompt):
    client = anthropic.Anthropic(base_url=whole.url, api_key=token, max_retries=0)
    for event in client.messages.create(model="demo", max_tokens=500, messages=said(prompt), stream=True):
        yield "event", event.model_dump_json()
        yield from block(event.model_dump())


def block(event):
    """Anthropic's events, also those that Amazon passes on."""
    if event["type"] == "content_block_start" and event["content_block"]["type"] == "tool_use":
        yield "call", event["content_block"]["name"]
    if event["type"] == "content_block_delta" and "text" in event["delta"]:
        yield "text", event["delta"]["text"]
    if event["type"] == "content_block_delta" and "partial_json" in event["delta"]:
        yield "arguments", event["delta"]["partial_json"]
    if event["type"] == "message_delta":
        yield "end", event["delta"]["stop_reason"]


def anthropic_complete(whole, token, prompt):
    """Anthropic's own client has forgotten these by now."""
    body = {"model": "demo", "max_tokens_to_sample": 500, "prompt": f"\n\nHuman: {prompt}\n\nAssistant:", "stream": True}
    text, error = received(f"{whole.url}/v1/complete", body, {"x-api-key": token})
    for event in (json.loads(line[5:]) for line in text.splitlines() if line.startswith("data:")):
        assert event["type"] != "error", event
        yield "event", json.dumps(event)
        yield "text", event["completion"]
        if event["stop_reason"]:
            yield "end", event["stop_reason"]
    if error:
        raise error


def mistral_chat(whole, token, prompt):
    with mistralai.client.Mistral(api_key=token, server_url=whole.url) as client:
        for event in client.chat.stream(model="mistral", messages=said(prompt)):
            yield "event", event.model_dump_json()
            (choice,) = event.data.choices
            yield "text", choice.delta.content or ""
            yield from functions(choice.delta.tool_calls)
            if choice.finish_reason:
                yield "end", choice.finish_reason


def google_sdk(whole, token):
    return google.genai.Client(api_key=token, http_options={"base_url": whole.url, "retry_options": {"attempts": 1}})


def google_generate(whole, token, prompt):
    client = google_sdk(whole, token)
    for chunk in client.models.generate_content_stream(model="demo", contents=prompt):
        yield "event", chunk.model_dump_json()
        yield from candidate(json.loads(chunk.model_dump_json(by_alias=True, exclude_none=True)))


def candidate(chunk):
    for candidate in chunk["candidates"]:
        for part in candidate["content"]["parts"]:
            yield "text", part.get("text", "")
            if "functionCall" in part:
                yield "call", part["functionCall"]["name"]
                yield "arguments", json.dumps(part["functionCall"]["args"])
        if "finishReason" in candidate:
            yield "end", candidate["finishReason"]


def google_array(whole, token, prompt):
    """No client of Google's asks for the array; a JSON parser takes it as it is."""
    body = {"contents": [{"role": "user", "parts": [{"text": prompt}]}]}
    headers = {"x-goog-api-key": token}
    text, error = received(f"{whole.url}/v1beta/models/demo:streamGenerateContent", body, headers)
    for chunk in json.loads(text) if error is None or text.endswith("]") else []:
        yield "event", json.dumps(chunk)
        assert "error" not in chunk, chunk
        yield from candidate(chunk)
    if error:
        raise error


def received(url, body, headers):
    """What comes of an answer, and the error that ended it, if one."""
    answer = requests.post(url, json=body, headers=headers, timeout=60, stream=True)
    # The refusal of a prompt is no stream.
    assert answer.status_code == 200, answer.text
    got = b""
    try:
        for piece in answer.iter_content(None):
            got += piece
    except requests.RequestException as error:
        return got.decode(), error
    return got.decode(), None


def google_interactions(whole, token, prompt):
    client = google_sdk(whole, token)
    for event in client.interactions.create(model="demo", input=prompt, stream=True):
        yield "event", event.model_dump_json()
        if event.event_type == "step.start" and event.step.type == "function_call":
            yield "call", event.step.name
        if event.event_type == "step.delta" and event.delta.type == "arguments_delta":
            yield "arguments", event.delta.arguments
        elif event.event_type == "step.delta":
            yield "text", event.delta.text
        if event.event_type == "interaction.completed":
            yield "end", event.interaction.status


# What fails is not tried again.
ONCE = {"max_retries": 0}


def cohere_v2(whole, token, prompt):
    for event in cohere.ClientV2(api_key=token, base_url=whole.url).chat_stream(model="demo", messages=said(prompt), request_options=ONCE):
        yield "event", event.model_dump_json()
        if event.type == "content-delta":
            yield "text", event.delta.message.content.text
        if event.type == "tool-call-start":
            yield "call", event.delta.message.tool_calls.function.name
        if event.type == "tool-call-delta":
            yield "arguments", event.delta.message.tool_calls.function.arguments
        if event.type == "message-end":
            yield "end", event.delta.finish_reason


def cohere_v1(whole, token, prompt):
    for event in cohere.Client(api_key=token, base_url=whole.url).chat_stream(model="demo", message=prompt, request_options=ONCE):
        yield "event", event.model_dump_json()
        if event.event_type == "text-generation":
            yield "text", event.text
        if event.event_type == "tool-calls-generation":
            for call in event.tool_calls:
                yield "call", call.name
                yield "arguments", json.dumps(call.parameters)
        if event.event_type == "stream-end":
            yield "end", event.finish_reason


def ollama_chat(whole, token, prompt):
    client = ollama.Client(host=whole.url, headers={"authorization": f"Bearer {token}"})
    for part in client.chat(model="demo", messages=said(prompt), stream=True):
        yield "event", part.model_dump_json()
        yield "text", part.message.content
        for call in part.message.tool_calls or []:
            yield "call", call.function.name
            yield "arguments", json.dumps(call.function.arguments)
        if part.done:
            yield "end", part.done_reason


def ollama_generate(whole, token, prompt):
    client = ollama.Client(host=whole.url, headers={"authorization": f"Bearer {token}"})
    for part in client.generate(model="demo", prompt=prompt, stream=True):
        yield "event", part.model_dump_json()
        yield "text", part.response
        if part.done:
            yield "end", part.done_reason


def dashscope_generation(whole, token, prompt):
    dashscope.base_http_api_url = f"{whole.url}/api/v1"
    settings = {"api_key": token, "result_format": "message", "incremental_output": True, "stream": True}
    for answer in dashscope.Generation.call(model="demo", messages=said(prompt), **settings):
        assert answer.status_code == 200 and not answer.code, answer.message
        yield "event", str(answer)
        choice = answer.output.choices[0]
        yield "text", choice.message.content
        for call in choice.message.get("tool_calls") or []:
            if call["function"].get("name"):
                yield "call", call["function"]["name"]
            yield "arguments", call["function"]["arguments"]
        if choice.finish_reason != "null":
            yield "end", choice.finish_reason


def dashscope_repeating(whole, token, prompt):
    """As is usual there: each event has all so far, and the last one that says something is the answer."""
    dashscope.base_http_api_url = f"{whole.url}/api/v1"
    text, calls = "", []
    for answer in dashscope.Generation.call(model="repeating", messages=said(prompt), api_key=token, result_format="message", stream=True):
        assert answer.status_code == 200 and not answer.code, answer.message
        yield "event", str(answer)
        choice = answer.output.choices[0]
        text, calls = choice.message.content, choice.message.get("tool_calls") or calls
        if choice.finish_reason != "null":
            yield "text", text
            yield from functions([types.SimpleNamespace(function=types.SimpleNamespace(**call["function"])) for call in calls])
            yield "end", choice.finish_reason


def bedrock(whole, token):
    """With a key of Farebox's in the place of Amazon's signature, which would ask for TLS were it given as a key."""
    keys = {"aws_access_key_id": "none", "aws_secret_access_key": "none"}
    once = botocore.config.Config(retries={"total_max_attempts": 1})
    client = boto3.client("bedrock-runtime", region_name="eu-central-1", endpoint_url=whole.url, config=once, **keys)
    instead = lambda request, **_: request.headers.__setitem__("authorization", f"Bearer {token}")
    client.meta.events.register("before-send.bedrock-runtime", instead)
    return client


def bedrock_converse(whole, token, prompt):
    messages = [{"role": "user", "content": [{"text": prompt}]}]
    for event in bedrock(whole, token).converse_stream(modelId="demo", messages=messages)["stream"]:
        yield "event", json.dumps(event)
        yield from conversed(event)


def conversed(event):
    """Converse's events, also those of Nova."""
    if "contentBlockStart" in event:
        yield "call", event["contentBlockStart"]["start"]["toolUse"]["name"]
    delta = event.get("contentBlockDelta", {}).get("delta", {})
    yield "text", delta.get("text", "")
    yield "arguments", delta.get("toolUse", {}).get("input", "")
    if "messageStop" in event:
        yield "end", event["messageStop"]["stopReason"]


def bedrock_nova(whole, token, prompt):
    body = {"messages": [{"role": "user", "content": [{"text": prompt}]}], "inferenceConfig": {"maxTokens": 500}}
    return invoked(whole, token, "amazon.nova-lite-v1:0", body, conversed)


def bedrock_invoke(whole, token, prompt):
    body = {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 500, "messages": said(prompt)}
    return invoked(whole, token, "anthropic.demo", body, block)


def invoked(whole, token, model, body, read):
    answer = bedrock(whole, token).invoke_model_with_response_stream(modelId=model, body=json.dumps(body))
    for event in answer["body"]:
        event = json.loads(event["chunk"]["bytes"])
        yield "event", json.dumps(event)
        yield from read(event)


def tgi_generate(whole, token, prompt):
    """Its own client posts to the root of its server, where no gateway can tell what it is."""
    headers = {"authorization": f"Bearer {token}"}
    text, error = received(f"{whole.url}/generate_stream", {"inputs": prompt, "stream": True}, headers)
    for event in (json.loads(line[5:]) for line in text.splitlines() if line.startswith("data:")):
        yield "event", json.dumps(event)
        assert "error" not in event, event
        yield "again", event.get("generated_text") or ""
        yield "text", event["token"]["text"]
        if event.get("details"):
            yield "end", event["details"]["finish_reason"]
    if error:
        raise error


# Of each client the reason by which a stream ends at a length limit.
CLIENTS = {
    openai_chat: "length",
    openai_responses: "max_output_tokens",
    openai_completions: "length",
    anthropic_messages: "max_tokens",
    anthropic_complete: "max_tokens",
    mistral_chat: "length",
    google_generate: "MAX_TOKENS",
    google_array: "MAX_TOKENS",
    google_interactions: "incomplete",
    cohere_v2: "MAX_TOKENS",
    cohere_v1: "MAX_TOKENS",
    ollama_chat: "length",
    ollama_generate: "length",
    dashscope_generation: "length",
    dashscope_repeating: "length",
    bedrock_converse: "max_tokens",
    bedrock_invoke: "max_tokens",
    bedrock_nova: "max_tokens",
    tgi_generate: "length",
}
# Those of dialects that have no tools.
TOOLLESS = {openai_completions, anthropic_complete, ollama_generate, tgi_generate}
# Cohere's clients pass over an event that they do not know, and with it the error; the stream ends all the same.
SILENT = {cohere_v2, cohere_v1}


class Heard:
    """What a client made of one stream, and the error that it raised, if one."""

    def __init__(self, client, whole, token, prompt):
        self.pairs, self.error = [], None
        try:
            self.pairs.extend(iter(client(whole, token, prompt)))
        except Exception as error:
            self.error = error

    def all(self, kind):
        return [text for what, text in self.pairs if what == kind]

    @property
    def text(self):
        return "".join(self.all("text"))

    @property
    def events(self):
        """Whatever came."""
        return "".join(self.all("event"))

    @property
    def end(self):
        """The last reason for the end."""
        return next(iter(self.all("end")[::-1]), None)

    @property
    def calls(self):
        """The tools that it called, each with its arguments."""
        calls = []
        for kind, text in self.pairs:
            if kind == "call":
                calls.append([text, ""])
            if kind == "arguments" and text:
                calls[-1][1] += text
        return [(name, json.loads(arguments)) for name, arguments in calls]
