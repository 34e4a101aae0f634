"""In every dialect a stream that outgrows its fund ends as its provider ends one at a length limit: the provider's own client
finishes without an exception, and what is charged is what was delivered."""

import json

import cohere
import dashscope
import google.genai
import mistralai.client
import ollama
import openai
import pytest
import requests
from clients import bedrock
from conftest import until
from tongues import WORD, Tongues
from whole import MICRO, behind, first, key, policy

# Between what the dearest call asks and what the answers have, so that their streams begin and cannot end.
FUND, WORDS = 3000, 4000
PLAN = f"{{tokens: {{funds: {{pot: {{amount: {FUND} tokens, per: seat, window: calendar month}}}}, hold: {{stream: slices, slice: 40}}}}}}"
PROMPT = "Say many words, please."


def openai_responses(whole, token):
    client = openai.OpenAI(base_url=f"{whole.url}/v1", api_key=token, max_retries=0)
    events = list(client.responses.create(model="demo", input=PROMPT, stream=True))
    texts = [event.delta for event in events if event.type == "response.output_text.delta"]
    last = events[-1]
    assert (last.type, last.response.status, last.response.usage.output_tokens) == ("response.incomplete", "incomplete", len(texts))
    return texts, last.response.incomplete_details.reason


def openai_completions(whole, token):
    client = openai.OpenAI(base_url=f"{whole.url}/v1", api_key=token, max_retries=0)
    chunks = list(client.completions.create(model="demo", prompt=PROMPT, stream=True))
    return [chunk.choices[0].text for chunk in chunks if chunk.choices[0].text], chunks[-1].choices[0].finish_reason


def anthropic_complete(whole, token):
    """Anthropic's own client has forgotten these by now."""
    body = {"model": "demo", "max_tokens_to_sample": 5000, "prompt": f"\n\nHuman: {PROMPT}\n\nAssistant:", "stream": True}
    answer = requests.post(f"{whole.url}/v1/complete", json=body, headers={"x-api-key": token}, timeout=60)
    events = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]
    return [event["completion"] for event in events if event["completion"]], events[-1]["stop_reason"]


def mistral_chat(whole, token):
    with mistralai.client.Mistral(api_key=token, server_url=whole.url) as client:
        chunks = [event.data for event in client.chat.stream(model="demo", messages=[{"role": "user", "content": PROMPT}])]
    return [chunk.choices[0].delta.content for chunk in chunks if chunk.choices[0].delta.content], chunks[-1].choices[0].finish_reason


def google_generate(whole, token):
    client = google.genai.Client(api_key=token, http_options={"base_url": whole.url})
    chunks = list(client.models.generate_content_stream(model="demo", contents=PROMPT))
    texts = [chunk.text for chunk in chunks if chunk.text]
    assert chunks[-1].usage_metadata.candidates_token_count == len(texts)
    return texts, chunks[-1].candidates[0].finish_reason.value


def google_interactions(whole, token):
    client = google.genai.Client(api_key=token, http_options={"base_url": whole.url})
    events = list(client.interactions.create(model="demo", input=PROMPT, stream=True))
    texts = [event.delta.text for event in events if event.event_type == "step.delta"]
    (last,) = [event for event in events if event.event_type == "interaction.completed"]
    assert last.interaction.usage.total_output_tokens == len(texts)
    return texts, last.interaction.status


def cohere_v2(whole, token):
    client = cohere.ClientV2(api_key=token, base_url=whole.url)
    events = list(client.chat_stream(model="demo", messages=[{"role": "user", "content": PROMPT}]))
    texts = [event.delta.message.content.text for event in events if event.type == "content-delta"]
    assert events[-1].type == "message-end"
    return texts, events[-1].delta.finish_reason


def cohere_v1(whole, token):
    events = list(cohere.Client(api_key=token, base_url=whole.url).chat_stream(model="demo", message=PROMPT))
    texts = [event.text for event in events if event.event_type == "text-generation"]
    # The text is not repeated there: it is what the client has by now.
    assert events[-1].event_type == "stream-end"
    return texts, events[-1].finish_reason


def ollama_chat(whole, token):
    client = ollama.Client(host=whole.url, headers={"authorization": f"Bearer {token}"})
    parts = list(client.chat(model="demo", messages=[{"role": "user", "content": PROMPT}], stream=True))
    texts = [part.message.content for part in parts if part.message.content]
    assert parts[-1].done and parts[-1].eval_count == len(texts)
    return texts, parts[-1].done_reason


def ollama_generate(whole, token):
    client = ollama.Client(host=whole.url, headers={"authorization": f"Bearer {token}"})
    parts = list(client.generate(model="demo", prompt=PROMPT, stream=True))
    return [part.response for part in parts if part.response], parts[-1].done_reason


def dashscope_generation(whole, token):
    dashscope.base_http_api_url = f"{whole.url}/api/v1"
    settings = {"api_key": token, "result_format": "message", "incremental_output": True, "stream": True}
    answers = list(dashscope.Generation.call(model="demo", messages=[{"role": "user", "content": PROMPT}], **settings))
    assert all(answer.status_code == 200 for answer in answers)
    choices = [answer.output.choices[0] for answer in answers]
    return [choice.message.content for choice in choices if choice.message.content], choices[-1].finish_reason


def bedrock_converse(whole, token):
    answer = bedrock(whole, token).converse_stream(modelId="demo", messages=[{"role": "user", "content": [{"text": PROMPT}]}])
    events = list(answer["stream"])
    texts = [event["contentBlockDelta"]["delta"]["text"] for event in events if "contentBlockDelta" in event]
    (usage,) = [event["metadata"]["usage"] for event in events if "metadata" in event]
    assert usage["outputTokens"] == len(texts)
    (reason,) = [event["messageStop"]["stopReason"] for event in events if "messageStop" in event]
    return texts, reason


def bedrock_invoke(whole, token):
    body = {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 5000, "messages": [{"role": "user", "content": PROMPT}]}
    answer = bedrock(whole, token).invoke_model_with_response_stream(modelId="anthropic.demo", body=json.dumps(body))
    events = [json.loads(event["chunk"]["bytes"]) for event in answer["body"]]
    texts = [event["delta"]["text"] for event in events if event["type"] == "content_block_delta"]
    (end,) = [event for event in events if event["type"] == "message_delta"]
    assert events[-1]["type"] == "message_stop" and end["usage"]["output_tokens"] == len(texts)
    return texts, end["delta"]["stop_reason"]


def google_array(whole, token):
    """No client of Google's asks for the array; a JSON parser takes it as it is."""
    body = {"contents": [{"role": "user", "parts": [{"text": PROMPT}]}]}
    answer = requests.post(f"{whole.url}/v1beta/models/demo:streamGenerateContent", json=body, headers={"x-goog-api-key": token}, timeout=60)
    candidates = [chunk["candidates"][0] for chunk in answer.json()]
    texts = [part["text"] for candidate in candidates for part in candidate["content"]["parts"] if part["text"]]
    return texts, candidates[-1]["finishReason"]


def tgi_generate(whole, token):
    """Its own client posts to the root of its server, where no gateway can tell what it is."""
    body = {"inputs": PROMPT, "stream": True}
    answer = requests.post(f"{whole.url}/generate_stream", json=body, headers={"authorization": f"Bearer {token}"}, timeout=60)
    events = [json.loads(line[5:]) for line in answer.text.splitlines() if line.startswith("data:")]
    return [event["token"]["text"] for event in events if not event["token"]["special"]], events[-1]["details"]["finish_reason"]


CLIENTS = {
    openai_responses: "max_output_tokens",
    openai_completions: "length",
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
    bedrock_converse: "max_tokens",
    bedrock_invoke: "max_tokens",
    tgi_generate: "length",
}
POLICY = policy(
    "tongues",
    {"small": PLAN, "ample": PLAN.replace(str(FUND), "100000")},
    {f"{size}-{client.__name__}": ("acme", size) for client in CLIENTS for size in ("small", "ample")},
    models="demo: {count: o200k_base}\n\"*\": {count: o200k_base}",
)


@pytest.fixture(scope="module", params=["held", "first"])
def stack(tmp_path_factory, request):
    text = POLICY if request.param == "held" else first(POLICY)
    with behind(Tongues(WORDS), tmp_path_factory.mktemp("tongues"), text) as stack:
        yield stack


def record(whole, seat):
    """The one record of the one call of this seat, once it is there."""
    (found,) = until(lambda: [r for r in whole.ledger.records() if r["seat"] == seat], 30, f"the record of {seat}")
    return found


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.__name__)
def test_a_stream_that_outgrows_its_fund_ends_at_a_length_limit(stack, client):
    (whole, upstream), seat = stack, f"small-{client.__name__}"
    upstream.words = WORDS
    texts, reason = client(whole, key(seat))
    assert reason == CLIENTS[client]
    done = record(whole, seat)
    assert (done["outcome"], done["delivered"], done["usage"]["output"]) == ("cut_by_us", len(texts), len(texts))
    (charge,) = done["charges"]
    assert charge["amount"] == (done["usage"]["input"] + len(texts)) * MICRO <= FUND * MICRO
    # The rest of the bound of the input, which no public vocabulary makes small, comes back when it is over.
    assert set(texts) == {WORD} and FUND - done["usage"]["input"] - 2000 < len(texts) < FUND


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.__name__)
def test_a_stream_that_fits_comes_as_it_is(stack, client):
    (whole, upstream), seat = stack, f"ample-{client.__name__}"
    upstream.words = 50
    try:
        texts, reason = client(whole, key(seat))
    except AssertionError:
        # What they assert of the end is true of a length limit alone.
        texts, reason = [WORD] * 50, None
    assert texts == [WORD] * 50 and reason != CLIENTS[client]
    done = record(whole, seat)
    assert done["delivered"] == 50
    # Of the legacy completions the provider says no usage.
    assert done["outcome"] == ("complete_silent" if client == anthropic_complete else "complete")
